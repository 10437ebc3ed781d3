//! MT19937 (Matsumoto and Nishimura, 1998), the generator of llama.cpp's `dist` sampler, and the number
//! from 0 to 1 that the C++ libraries make of two of its words.

const WORDS: usize = 624;
const MIDDLE: usize = 397;
/// The largest number below 1.
const BELOW_ONE: f64 = 1.0 - f64::EPSILON / 2.0;

/// The state of the generator. Invariant: `next` is at most 624.
#[derive(Clone, Debug)]
pub struct Mersenne {
    state: [u32; WORDS],
    next: usize,
}

impl Mersenne {
    /// Seeded as `std::mt19937` is.
    pub fn new(seed: u32) -> Mersenne {
        let mut state = [0; WORDS];
        let mut word = seed;
        for (place, index) in state.iter_mut().zip(1..) {
            *place = word;
            word = (word ^ (word >> 30)).wrapping_mul(1_812_433_253).wrapping_add(index);
        }
        Mersenne { state, next: WORDS }
    }

    fn word(&mut self) -> u32 {
        if self.next >= WORDS {
            self.turn();
        }
        let word = self.state.get(self.next).copied().unwrap_or(0);
        self.next = self.next.saturating_add(1);
        let word = word ^ (word >> 11);
        let word = word ^ ((word << 7) & 0x9d2c_5680);
        let word = word ^ ((word << 15) & 0xefc6_0000);
        word ^ (word >> 18)
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "every index is below WORDS: it is one of 0..WORDS, or that plus an offset modulo WORDS"
    )]
    fn turn(&mut self) {
        for at in 0..WORDS {
            let high = self.state[at] & 0x8000_0000;
            let low = self.state[(at + 1) % WORDS] & 0x7fff_ffff;
            let word = high | low;
            let twist = if word & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[at] = self.state[(at + MIDDLE) % WORDS] ^ (word >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// `std::uniform_real_distribution<double>(0, 1)`: `(a + b · 2³²) / 2⁶⁴` of two words, the sum rounded
    /// to a double; what rounds to 1 is the largest number below it.
    pub fn uniform(&mut self) -> f64 {
        let (a, b) = (f64::from(self.word()), f64::from(self.word()));
        let sum = a + b * 4_294_967_296.0;
        (sum / 18_446_744_073_709_551_616.0).min(BELOW_ONE)
    }
}
