//! PCG-DXSM with 128 bits of state, the generator `PCG` of Go's `math/rand/v2`.

/// The default multiplier and increment of the PCG family (O'Neill, 2014).
const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
const INCREMENT: u128 = 0x5851_f42d_4c95_7f2d_1405_7b7e_f767_814f;
/// The multiplier of the output permutation DXSM.
const OUTPUT_MULTIPLIER: u64 = 0xda94_2042_e4dd_58b5;
/// With what Ollama makes the second half of the seed from the first.
const OLLAMA_STREAM: u64 = 0x9e37_79b9;

/// The state of the generator.
#[derive(Clone, Copy, Debug)]
pub struct Pcg(u128);

impl Pcg {
    /// As Go's `NewPCG(high, low)`.
    pub fn new(high: u64, low: u64) -> Pcg {
        Pcg(u128::from(high) << 64 | u128::from(low))
    }

    /// As Ollama's sampler seeds it.
    pub fn of_ollama(seed: u32) -> Pcg {
        let seed = u64::from(seed);
        Pcg::new(seed, seed ^ OLLAMA_STREAM)
    }

    /// Go's `Uint64`.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        let (high, low) = ((self.0 >> 64) as u64, self.0 as u64);
        let high = (high ^ (high >> 32)).wrapping_mul(OUTPUT_MULTIPLIER);
        (high ^ (high >> 48)).wrapping_mul(low | 1)
    }

    /// Go's `Float32`: bits 32 to 55 of a word, divided by 2²⁴.
    pub fn uniform24(&mut self) -> f32 {
        let bits = (self.word() >> 32) & 0x00ff_ffff;
        bits as f32 / 16_777_216.0
    }
}
