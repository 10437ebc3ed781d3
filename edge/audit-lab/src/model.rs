//! A model that runs: logits after each token, as the embedded engine computes them.
//!
//! candle shares every quantized product among threads that wait for each other by spinning, also on other threads' cores: on busy ones that is
//! 200 times slower than one thread. Their number is read from the environment, once; whoever uses this sets
//! [`THREADS`] to 1.

use std::io::Cursor;

use candle_core::{Device, Result, Tensor, quantized::gguf_file::Content};
use candle_transformers::models::quantized_llama::ModelWeights;

use crate::{
    rounding::{Cache, Rounding, Text},
    weights::{self, Quantization},
};

/// Variables by which candle and its loops learn how many threads to use.
pub const THREADS: [&str; 2] = ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"];

/// The logits of one position.
pub type Position = Vec<f32>;

/// A loaded model.
#[derive(Clone, Debug)]
pub enum Model {
    Candle(Box<ModelWeights>),
    Rounding(Rounding),
}

/// A text that it reads.
#[derive(Debug)]
pub enum Sequence {
    Candle { weights: Box<ModelWeights>, read: usize },
    Rounding(Text),
}

impl Model {
    pub fn load(file: &[u8]) -> Result<Model> {
        let mut reader = Cursor::new(file);
        let content = Content::read(&mut reader)?;
        let weights = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
        Ok(Model::Candle(Box::new(weights)))
    }

    /// Reads a prompt; the logits after it.
    pub fn begin(&self, prompt: &[u32]) -> Result<(Sequence, Position)> {
        let mut sequence = match self {
            Model::Candle(weights) => Sequence::Candle { weights: weights.clone(), read: 0 },
            Model::Rounding(model) => Sequence::Rounding(model.text()),
        };
        let logits = sequence.read(prompt)?;
        Ok((sequence, logits))
    }
}

impl Sequence {
    /// The logits after the last of `tokens`, of which there is one at least.
    pub fn read(&mut self, tokens: &[u32]) -> Result<Position> {
        match self {
            Sequence::Candle { weights, read } => {
                let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
                let logits = weights.forward(&input, *read)?;
                *read += tokens.len();
                logits.squeeze(0)?.to_vec1()
            }
            Sequence::Rounding(text) => text.read(tokens),
        }
    }
}

/// A model in all its quantizations, each also with the kernels of another machine, and another one.
#[derive(Debug)]
pub struct Shelf {
    /// Computed here, and elsewhere.
    quantizations: Vec<(Quantization, [Model; 2])>,
    /// Q8_0 with each kind of cache.
    caches: Vec<(Cache, Model)>,
    /// Q8_0 of another seed.
    pub other: Model,
}

impl Shelf {
    /// The model of a seed. Blocks for about a second.
    pub fn new(seed: u32) -> Result<Shelf> {
        let file = weights::generate(seed)?;
        let both = |to| {
            let quantized = weights::quantized(&file, to)?;
            let elsewhere = weights::dequantized(&quantized)?;
            Ok((to, [Model::load(&quantized)?, Model::load(&elsewhere)?]))
        };
        let eight = weights::quantized(&file, Quantization::Q8_0)?;
        let cached = |cache| Ok((cache, Model::Rounding(Rounding::load(&eight, cache)?)));
        let other = weights::generate(seed.wrapping_add(1))?;
        Ok(Shelf {
            quantizations: Quantization::ALL.into_iter().map(both).collect::<Result<_>>()?,
            caches: Cache::ALL.into_iter().map(cached).collect::<Result<_>>()?,
            other: Model::load(&weights::quantized(&other, Quantization::Q8_0)?)?,
        })
    }

    fn both(&self, quantization: Quantization) -> &[Model; 2] {
        let found = self.quantizations.iter().find(|(it, _)| *it == quantization);
        &found.expect("all are on the shelf").1
    }

    pub fn of(&self, quantization: Quantization) -> &Model {
        &self.both(quantization)[0]
    }

    /// The same file with other kernels.
    pub fn elsewhere(&self, quantization: Quantization) -> &Model {
        &self.both(quantization)[1]
    }

    pub fn cached(&self, cache: Cache) -> &Model {
        let found = self.caches.iter().find(|(it, _)| *it == cache);
        &found.expect("all are on the shelf").1
    }

    /// What is claimed.
    pub fn claimed(&self) -> &Model {
        self.of(Quantization::Q8_0)
    }
}
