//! The same model with its cache of keys and values in fewer bits, as llama.cpp's `--cache-type-k` and `-v` keep it.
//!
//! candle's model has no such cache and shows nobody its own, so this reads one token after another in plain numbers; the
//! products with quantized weights are candle's. With a cache that is not rounded it says what candle's says, up to the
//! order of sums (a test compares them). llama.cpp's newer versions turn keys and values before they round them,
//! which loses less: what is found of these providers is an upper bound of what can be.

use std::{io::Cursor, sync::Arc};

use candle_core::{
    Device, Module as _, Result, Tensor,
    quantized::{GgmlDType, QMatMul, QTensor, gguf_file::Content},
};

use crate::{
    model::Position,
    weights::{HEADS, KEY_HEADS, LAYERS, NORM_EPSILON, ROPE_BASE, WIDTH},
};

const HEAD_WIDTH: usize = WIDTH / HEADS as usize;
const KEY_WIDTH: usize = HEAD_WIDTH * KEY_HEADS as usize;

/// How keys and values are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cache {
    /// As they are.
    F32,
    Q8_0,
    Q4_0,
}

/// A loaded model.
#[derive(Clone, Debug)]
pub struct Rounding(Arc<Weights>);

#[derive(Debug)]
struct Weights {
    embedding: Vec<Vec<f32>>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    output: QMatMul,
    cache: Cache,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Vec<f32>,
    query: QMatMul,
    key: QMatMul,
    value: QMatMul,
    attended: QMatMul,
    forward_norm: Vec<f32>,
    gate: QMatMul,
    up: QMatMul,
    down: QMatMul,
}

/// A text that it reads: keys and values of each layer, one after another.
#[derive(Debug)]
pub struct Text {
    weights: Arc<Weights>,
    kept: Vec<(Vec<f32>, Vec<f32>)>,
    read: usize,
}

impl Cache {
    pub const ALL: [Cache; 3] = [Cache::F32, Cache::Q8_0, Cache::Q4_0];

    pub fn name(self) -> &'static str {
        match self {
            Cache::F32 => "cache F32",
            Cache::Q8_0 => "cache Q8_0",
            Cache::Q4_0 => "cache Q4_0",
        }
    }

    fn rounded(self, numbers: Vec<f32>) -> Result<Vec<f32>> {
        let to = match self {
            Cache::F32 => return Ok(numbers),
            Cache::Q8_0 => GgmlDType::Q8_0,
            Cache::Q4_0 => GgmlDType::Q4_0,
        };
        let count = numbers.len();
        let plain = Tensor::from_vec(numbers, count, &Device::Cpu)?;
        QTensor::quantize(&plain, to)?.dequantize(&Device::Cpu)?.to_vec1()
    }
}

impl Rounding {
    pub fn load(file: &[u8], cache: Cache) -> Result<Rounding> {
        let mut reader = Cursor::new(file);
        let content = Content::read(&mut reader)?;
        let mut tensor =
            |name: &str| content.tensor(&mut reader, &format!("{name}.weight"), &Device::Cpu);
        let embedding = tensor("token_embd")?.dequantize(&Device::Cpu)?.to_vec2()?;
        let norm = tensor("output_norm")?.dequantize(&Device::Cpu)?.to_vec1()?;
        let output = QMatMul::from_qtensor(tensor("output")?)?;
        let layer = |n: u32| {
            let mut of = |part: &str| tensor(&format!("blk.{n}.{part}"));
            Ok(Layer {
                attention_norm: of("attn_norm")?.dequantize(&Device::Cpu)?.to_vec1()?,
                query: QMatMul::from_qtensor(of("attn_q")?)?,
                key: QMatMul::from_qtensor(of("attn_k")?)?,
                value: QMatMul::from_qtensor(of("attn_v")?)?,
                attended: QMatMul::from_qtensor(of("attn_output")?)?,
                forward_norm: of("ffn_norm")?.dequantize(&Device::Cpu)?.to_vec1()?,
                gate: QMatMul::from_qtensor(of("ffn_gate")?)?,
                up: QMatMul::from_qtensor(of("ffn_up")?)?,
                down: QMatMul::from_qtensor(of("ffn_down")?)?,
            })
        };
        let layers = (0..LAYERS).map(layer).collect::<Result<_>>()?;
        Ok(Rounding(Arc::new(Weights { embedding, layers, norm, output, cache })))
    }

    pub(crate) fn text(&self) -> Text {
        let kept = vec![(Vec::new(), Vec::new()); self.0.layers.len()];
        Text { weights: self.0.clone(), kept, read: 0 }
    }
}

impl Text {
    pub(crate) fn read(&mut self, tokens: &[u32]) -> Result<Position> {
        let mut state = Vec::new();
        for token in tokens {
            state = self.step(*token)?;
        }
        product(&self.weights.output, &normed(&state, &self.weights.norm))
    }

    fn step(&mut self, token: u32) -> Result<Vec<f32>> {
        let Text { weights, kept, read } = self;
        let mut state = weights.embedding[token as usize].clone();
        for (layer, (keys, values)) in weights.layers.iter().zip(kept) {
            let input = normed(&state, &layer.attention_norm);
            let mut query = product(&layer.query, &input)?;
            let mut key = product(&layer.key, &input)?;
            turn(&mut query, *read);
            turn(&mut key, *read);
            keys.extend(weights.cache.rounded(key)?);
            values.extend(weights.cache.rounded(product(&layer.value, &input)?)?);
            add(&mut state, &product(&layer.attended, &attended(&query, keys, values))?);
            let input = normed(&state, &layer.forward_norm);
            let (gate, up) = (product(&layer.gate, &input)?, product(&layer.up, &input)?);
            let hidden: Vec<f32> =
                gate.iter().zip(&up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
            add(&mut state, &product(&layer.down, &hidden)?);
        }
        *read += 1;
        Ok(state)
    }
}

fn product(matrix: &QMatMul, numbers: &[f32]) -> Result<Vec<f32>> {
    let input = Tensor::from_slice(numbers, (1, numbers.len()), &Device::Cpu)?;
    matrix.forward(&input)?.squeeze(0)?.to_vec1()
}

fn add(state: &mut [f32], more: &[f32]) {
    state.iter_mut().zip(more).for_each(|(to, from)| *to += from);
}

fn normed(state: &[f32], weights: &[f32]) -> Vec<f32> {
    let mean = state.iter().map(|it| it * it).sum::<f32>() / state.len() as f32;
    let by = (mean + NORM_EPSILON).sqrt();
    state.iter().zip(weights).map(|(it, weight)| it / by * weight).collect()
}

/// Rotary embeddings, of neighbouring pairs, as files of this architecture have them.
fn turn(heads: &mut [f32], position: usize) {
    for head in heads.chunks_exact_mut(HEAD_WIDTH) {
        for (n, pair) in head.chunks_exact_mut(2).enumerate() {
            let angle = position as f32 / ROPE_BASE.powf((2 * n) as f32 / HEAD_WIDTH as f32);
            let (sin, cos) = angle.sin_cos();
            let (one, other) = (pair[0], pair[1]);
            (pair[0], pair[1]) = (one * cos - other * sin, one * sin + other * cos);
        }
    }
}

fn attended(query: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
    let shared = (HEADS / KEY_HEADS) as usize;
    let mut result = vec![0.0; query.len()];
    let heads = query.chunks_exact(HEAD_WIDTH).zip(result.chunks_exact_mut(HEAD_WIDTH));
    for (n, (query, result)) in heads.enumerate() {
        let at = n / shared * HEAD_WIDTH;
        let likeness = |kept: &[f32]| {
            let sum: f32 = query.iter().zip(&kept[at..at + HEAD_WIDTH]).map(|(a, b)| a * b).sum();
            sum / (HEAD_WIDTH as f32).sqrt()
        };
        let likeness: Vec<f32> = keys.chunks_exact(KEY_WIDTH).map(likeness).collect();
        let most = likeness.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shares: Vec<f32> = likeness.iter().map(|it| (it - most).exp()).collect();
        let total: f32 = shares.iter().sum();
        for (share, kept) in shares.iter().zip(values.chunks_exact(KEY_WIDTH)) {
            for (to, from) in result.iter_mut().zip(&kept[at..at + HEAD_WIDTH]) {
                *to += share / total * from;
            }
        }
    }
    result
}
