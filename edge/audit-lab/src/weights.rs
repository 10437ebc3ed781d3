//! A random model of the Llama architecture as a GGUF file, and its quantizations.
//!
//! It has learned nothing: texts are noise, and a real model is surer of most tokens. What matters for audits is how far
//! quantizations are from each other, and that is as in practice: with these scales the divergences from F16 are those that
//! llama.cpp publishes of Llama-3-8B, within a factor of three (a test prints and checks them). What it cannot show is text
//! that a model is sure of, where a provider has nothing to cheat with and an audit nothing to see: in real chats
//! every figure in tokens grows by the share of such tokens.

use std::io::Cursor;

use candle_core::{
    Device, Result, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Content, Value},
    },
};

use crate::Random;

pub const VOCABULARY: usize = 512;
pub const CONTEXT_TOKENS: u32 = 1_024;
/// `<s>` and `</s>`.
pub const BEGIN: u32 = 1;
pub const END: u32 = 2;
/// Before these stand special tokens and single bytes.
pub const WORDS_FROM: u32 = 259;
pub(crate) const WIDTH: usize = 256;
pub(crate) const FEED_FORWARD: usize = 512;
pub(crate) const HEADS: u32 = 4;
pub(crate) const KEY_HEADS: u32 = 2;
pub(crate) const LAYERS: u32 = 2;
pub(crate) const NORM_EPSILON: f32 = 1e-5;
pub(crate) const ROPE_BASE: f32 = 10_000.0;

/// Deviation of logits: entropy of about 1.6 nats after the filters of the profile.
const LOGIT_SCALE: f64 = 2.9;
/// What a layer's parts add to what they read, as a share of it.
const LAYER_SCALE: f64 = 0.6;
/// The first number of every token's vector: what is the same in every state, so that bytes and ends can be made seldom.
const CONSTANT: f64 = 3.0;
const BYTE_BIAS: f64 = -9.0;
const END_BIAS: f64 = -0.3;

/// How large a model is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub width: usize,
    pub feed_forward: usize,
    pub layers: u32,
}

impl Size {
    /// 1.4 million weights: of this size are all models whose audits are measured.
    pub const LAB: Size = Size { width: WIDTH, feed_forward: FEED_FORWARD, layers: LAYERS };
}

/// What a provider may serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quantization {
    F16,
    Q8_0,
    Q6K,
    Q4K,
    Q4_0,
}

impl Quantization {
    pub const ALL: [Quantization; 5] = {
        use Quantization::{F16, Q4_0, Q4K, Q6K, Q8_0};
        [F16, Q8_0, Q6K, Q4K, Q4_0]
    };

    pub fn name(self) -> &'static str {
        match self {
            Quantization::F16 => "F16",
            Quantization::Q8_0 => "Q8_0",
            Quantization::Q6K => "Q6_K",
            Quantization::Q4K => "Q4_K",
            Quantization::Q4_0 => "Q4_0",
        }
    }

    fn dtype(self) -> GgmlDType {
        match self {
            Quantization::F16 => GgmlDType::F16,
            Quantization::Q8_0 => GgmlDType::Q8_0,
            Quantization::Q6K => GgmlDType::Q6K,
            Quantization::Q4K => GgmlDType::Q4K,
            Quantization::Q4_0 => GgmlDType::Q4_0,
        }
    }
}

/// The model of a seed in F16.
pub fn generate(seed: u32) -> Result<Vec<u8>> {
    generate_sized(seed, Size::LAB)
}

/// The same in another size, to see what computing it costs.
pub fn generate_sized(seed: u32, size: Size) -> Result<Vec<u8>> {
    let Size { width, feed_forward, layers } = size;
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), embedding(seed, width)?),
        ("output.weight".to_owned(), output(seed, width)?),
        ("output_norm.weight".to_owned(), norm(width)?),
    ];
    let parts = [
        ("attn_q", width, width, 1.0),
        ("attn_k", width / 2, width, 1.0),
        ("attn_v", width / 2, width, 1.0),
        ("attn_output", width, width, LAYER_SCALE),
        ("ffn_gate", feed_forward, width, 1.0),
        ("ffn_up", feed_forward, width, 1.0),
        ("ffn_down", width, feed_forward, LAYER_SCALE),
    ];
    let mut stream = 10;
    for layer in 0..layers {
        for name in ["attn_norm", "ffn_norm"] {
            tensors.push((format!("blk.{layer}.{name}.weight"), norm(width)?));
        }
        for (name, rows, columns, scale) in parts {
            stream += 1;
            let mut random = Random::new(seed, stream);
            let deviation = scale / (columns as f64).sqrt();
            let matrix = matrix(rows, columns, |_, _| deviation * random.heavy())?;
            tensors.push((format!("blk.{layer}.{name}.weight"), matrix));
        }
    }
    write(&metadata(size), &tensors)
}

/// The same model with all its matrices quantized.
pub fn quantized(file: &[u8], to: Quantization) -> Result<Vec<u8>> {
    converted(file, to.dtype())
}

/// What a quantized model computes on a machine that does not quantize what it multiplies its weights with: the kernels of
/// another backend.
pub fn dequantized(file: &[u8]) -> Result<Vec<u8>> {
    converted(file, GgmlDType::F32)
}

fn converted(file: &[u8], to: GgmlDType) -> Result<Vec<u8>> {
    let mut reader = Cursor::new(file);
    let content = Content::read(&mut reader)?;
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort();
    let mut tensors = Vec::new();
    for name in names {
        let tensor = content.tensor(&mut reader, name, &Device::Cpu)?;
        let plain = tensor.dequantize(&Device::Cpu)?;
        let is_matrix = plain.dims().len() > 1;
        let kept = if is_matrix { to } else { GgmlDType::F32 };
        tensors.push((name.clone(), QTensor::quantize(&plain, kept)?));
    }
    let mut metadata: Vec<(String, Value)> = content.metadata.into_iter().collect();
    metadata.sort_by(|a, b| a.0.cmp(&b.0));
    write(&metadata, &tensors)
}

fn write(metadata: &[(String, Value)], tensors: &[(String, QTensor)]) -> Result<Vec<u8>> {
    let metadata: Vec<(&str, &Value)> =
        metadata.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = Cursor::new(Vec::new());
    gguf_file::write(&mut file, &metadata, &tensors)?;
    Ok(file.into_inner())
}

fn matrix(
    rows: usize,
    columns: usize,
    mut value: impl FnMut(usize, usize) -> f64,
) -> Result<QTensor> {
    let values: Vec<f32> =
        (0..rows * columns).map(|at| value(at / columns, at % columns) as f32).collect();
    let tensor = Tensor::from_vec(values, (rows, columns), &Device::Cpu)?;
    QTensor::quantize(&tensor, GgmlDType::F16)
}

fn norm(width: usize) -> Result<QTensor> {
    QTensor::quantize(&Tensor::ones(width, candle_core::DType::F32, &Device::Cpu)?, GgmlDType::F32)
}

fn embedding(seed: u32, width: usize) -> Result<QTensor> {
    let mut random = Random::new(seed, 1);
    matrix(VOCABULARY, width, |_, column| match column {
        0 => CONSTANT,
        _ => random.heavy(),
    })
}

fn output(seed: u32, width: usize) -> Result<QTensor> {
    let mut random = Random::new(seed, 2);
    let deviation = LOGIT_SCALE / (width as f64).sqrt();
    matrix(VOCABULARY, width, |row, column| match (column, row as u32) {
        (0, END) => END_BIAS,
        (0, id) if id < WORDS_FROM => BYTE_BIAS,
        (0, _) => 0.0,
        _ => deviation * random.heavy(),
    })
}

/// As llama.cpp's own converter writes it; the vocabulary has made-up words of three letters.
fn metadata(size: Size) -> Vec<(String, Value)> {
    let text = |text: &str| Value::String(text.to_owned());
    let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
    let word = |n: usize| format!("▁{}{}{}", letter(n), letter(n / 26 + 3), letter(n * 7 + 1));
    let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let names: Vec<String> =
        special.into_iter().chain(bytes).chain((0..).map(word)).take(VOCABULARY).collect();
    let kind = |at: usize| match at {
        0 => 2,
        1 | 2 => 3,
        _ if at < WORDS_FROM as usize => 6,
        _ => 1,
    };
    let kinds = (0..VOCABULARY).map(|at| Value::I32(kind(at))).collect();
    let scores = (0..VOCABULARY).map(|at| Value::F32(-(at as f32))).collect();
    let number = |name: &str, number: u32| (format!("llama.{name}"), Value::U32(number));
    let mut metadata = vec![
        ("general.architecture".to_owned(), text("llama")),
        ("general.name".to_owned(), text("lab")),
        number("block_count", size.layers),
        number("context_length", CONTEXT_TOKENS),
        number("embedding_length", size.width as u32),
        number("feed_forward_length", size.feed_forward as u32),
        number("attention.head_count", HEADS),
        number("attention.head_count_kv", KEY_HEADS),
        number("rope.dimension_count", size.width as u32 / HEADS),
        number("vocab_size", VOCABULARY as u32),
    ];
    let rest = [
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(NORM_EPSILON)),
        ("llama.rope.freq_base", Value::F32(ROPE_BASE)),
        // The embedded engine's for a file without one; llama.cpp has another.
        (
            "tokenizer.chat_template",
            text(
                "{% for message in messages %}{{ message.role | capitalize }}: \
                 {{ message.content }}\n{% endfor %}Assistant:",
            ),
        ),
        ("tokenizer.ggml.model", text("llama")),
        ("tokenizer.ggml.tokens", Value::Array(names.iter().map(|name| text(name)).collect())),
        ("tokenizer.ggml.scores", Value::Array(scores)),
        ("tokenizer.ggml.token_type", Value::Array(kinds)),
        ("tokenizer.ggml.bos_token_id", Value::U32(BEGIN)),
        ("tokenizer.ggml.eos_token_id", Value::U32(END)),
        ("tokenizer.ggml.unknown_token_id", Value::U32(0)),
    ];
    metadata.extend(rest.map(|(name, value)| (name.to_owned(), value)));
    metadata
}
