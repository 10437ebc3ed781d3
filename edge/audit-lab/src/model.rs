//! A model that runs: logits after each token, as the embedded engine computes them.
//!
//! candle shares every quantized product among threads that wait for each other by spinning, also on other threads' cores: on busy ones that is
//! 200 times slower than one thread. Their number is read from the environment, once; whoever uses this sets
//! [`THREADS`] to 1.

use std::io::Cursor;

use candle_core::{Device, Result, Tensor, quantized::gguf_file::Content};
use candle_transformers::models::quantized_llama::ModelWeights;

use crate::weights::{self, Quantization};

/// Variables by which candle and its loops learn how many threads to use.
pub const THREADS: [&str; 2] = ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"];

/// The logits of one position.
pub type Position = Vec<f32>;

/// A loaded model.
#[derive(Clone, Debug)]
pub struct Model {
    weights: ModelWeights,
}

/// A text that it reads.
#[derive(Debug)]
pub struct Sequence {
    weights: ModelWeights,
    read: usize,
}

impl Model {
    pub fn load(file: &[u8]) -> Result<Model> {
        let mut reader = Cursor::new(file);
        let content = Content::read(&mut reader)?;
        Ok(Model { weights: ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)? })
    }

    /// Reads a prompt at once; the logits after it.
    pub fn begin(&self, prompt: &[u32]) -> Result<(Sequence, Position)> {
        let mut sequence = Sequence { weights: self.weights.clone(), read: 0 };
        let logits = sequence.read(prompt)?;
        Ok((sequence, logits))
    }
}

impl Sequence {
    /// The logits after the last of `tokens`, of which there is one at least.
    pub fn read(&mut self, tokens: &[u32]) -> Result<Position> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = self.weights.forward(&input, self.read)?;
        self.read += tokens.len();
        logits.squeeze(0)?.to_vec1()
    }
}

/// A model in all its quantizations, another one, and the kernels of another machine.
#[derive(Debug)]
pub struct Shelf {
    quantizations: Vec<(Quantization, Model)>,
    /// Q8_0 of another seed.
    pub other: Model,
    /// Q8_0, computed with other kernels.
    pub elsewhere: Model,
}

impl Shelf {
    /// The model of a seed. Blocks for a fraction of a second.
    pub fn new(seed: u32) -> Result<Shelf> {
        let file = weights::generate(seed)?;
        let model = |to| Ok((to, Model::load(&weights::quantized(&file, to)?)?));
        let eight = weights::quantized(&file, Quantization::Q8_0)?;
        let other = weights::generate(seed.wrapping_add(1))?;
        Ok(Shelf {
            quantizations: Quantization::ALL.into_iter().map(model).collect::<Result<_>>()?,
            other: Model::load(&weights::quantized(&other, Quantization::Q8_0)?)?,
            elsewhere: Model::load(&weights::dequantized(&eight)?)?,
        })
    }

    pub fn of(&self, quantization: Quantization) -> &Model {
        let found = self.quantizations.iter().find(|(it, _)| *it == quantization);
        &found.expect("all are on the shelf").1
    }

    /// What is claimed.
    pub fn claimed(&self) -> &Model {
        self.of(Quantization::Q8_0)
    }
}
