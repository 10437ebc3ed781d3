//! Writes the laboratory's model in Q8_0 to the file that the argument names, for servers that tests ask (`tests/vllm`).

use audit_lab::weights::{self, Quantization};

fn main() {
    let path = std::env::args_os().nth(1).expect("name the file to write");
    let model = weights::generate(1).expect("the model is made from a seed");
    let model = weights::quantized(&model, Quantization::Q8_0).expect("it is quantized");
    std::fs::write(path, model).expect("the file can be written");
}
