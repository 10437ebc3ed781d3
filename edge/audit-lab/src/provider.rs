//! Providers: what each serves, and what it says it served. All claim Q8_0 of the model on the shelf.

use candle_core::Result;
use verify::{
    draw::{Chance, Draw, Sampler, Stream},
    leaf::LeafToken,
    logits::{CANDIDATES_MAX, Candidates, Logits},
    profile::Profile,
    projection::Signs,
};

use crate::{
    Random,
    model::{Model, Position, Shelf},
    rounding::Cache,
    weights::{BEGIN, END, Quantization, VOCABULARY, WORDS_FROM},
};

/// What a provider does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Provider {
    Honest,
    /// A quantization, F16 included, in everything.
    Serves(Quantization),
    /// The same on another kind of machine: with Q8_0 it is honest.
    Elsewhere(Quantization),
    /// Q8_0, with keys and values in fewer bits.
    Keeps(Cache),
    OtherModel,
    /// Another temperature than was asked for, in millionths; 0 is greedy.
    Temperature(u32),
    /// Ends answers early.
    Truncates,
    /// Leaves out the first half of the prompt.
    EditsPrompt,
    /// Says again what it drew for the same prompt before.
    Caches,
    /// Says what it drew for another request.
    Confuses,
    /// Decodes with Q4_0, and has one pass of Q8_0 say how likely that was.
    Spoofs,
    /// The same, and makes what it reports fit the draw.
    Forges,
    /// Serves Q4_0 in so many percent of the answers.
    Mixes(u32),
    /// Bills a tenth more tokens than came.
    Inflates,
}

/// A request as the gateway sends it.
#[derive(Clone, Debug)]
pub struct Request {
    pub prompt: Vec<u32>,
    pub profile: Profile,
    pub tokens_max: u32,
}

/// What a provider gave for it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub request: Request,
    pub tokens: Vec<LeafToken>,
    /// It says that the model ended it.
    pub ended: bool,
    pub stated_tokens: u32,
}

/// Request `n` of a provider's life.
pub fn request(seed: u32, n: u32, tokens_max: u32) -> Request {
    let mut random = Random::new(seed, n.wrapping_add(1_000));
    let words = VOCABULARY - WORDS_FROM as usize;
    let length = 8 + random.below(17);
    let word = |random: &mut Random| WORDS_FROM + random.below(words) as u32;
    let text: Vec<u32> = (0..length).map(|_| word(&mut random)).collect();
    let profile = Profile {
        temperature_micros: 800_000,
        top_k: 20,
        top_p_micros: 950_000,
        seed: (random.unit() * f64::from(1 << 30)) as u32,
    };
    Request { prompt: [vec![BEGIN], text].concat(), profile, tokens_max }
}

/// One that somebody else made.
fn other_request(seed: u32, n: u32) -> Request {
    request(seed ^ 0x0dd, n, 0)
}

impl Provider {
    pub fn name(self) -> String {
        match self {
            Provider::Honest => "honest".to_owned(),
            Provider::Elsewhere(Quantization::Q8_0) => "honest, other kernels".to_owned(),
            Provider::Elsewhere(quantization) => format!("{}, other kernels", quantization.name()),
            Provider::Keeps(cache) => cache.name().to_owned(),
            Provider::Serves(Quantization::F16) => "F16 (dearer)".to_owned(),
            Provider::Serves(quantization) => quantization.name().to_owned(),
            Provider::OtherModel => "other model".to_owned(),
            Provider::Temperature(0) => "greedy".to_owned(),
            Provider::Temperature(micros) => format!("temperature .{}", micros / 100_000),
            Provider::Truncates => "truncation".to_owned(),
            Provider::EditsPrompt => "edited prompt".to_owned(),
            Provider::Caches => "cached answer".to_owned(),
            Provider::Confuses => "another request's answer".to_owned(),
            Provider::Spoofs => "prefill spoof".to_owned(),
            Provider::Forges => "forged log-probabilities".to_owned(),
            Provider::Mixes(percent) => format!("Q4_0 in {percent} % of answers"),
            Provider::Inflates => "inflated count".to_owned(),
        }
    }

    /// What decodes and what scores.
    fn models(self, shelf: &Shelf, n: u32) -> (&Model, &Model) {
        let (claimed, cheap) = (shelf.claimed(), shelf.of(Quantization::Q4_0));
        match self {
            Provider::Elsewhere(quantization) => {
                (shelf.elsewhere(quantization), shelf.elsewhere(quantization))
            }
            Provider::Keeps(cache) => (shelf.cached(cache), shelf.cached(cache)),
            Provider::Serves(quantization) => (shelf.of(quantization), shelf.of(quantization)),
            Provider::OtherModel => (&shelf.other, &shelf.other),
            Provider::Spoofs | Provider::Forges => (cheap, claimed),
            Provider::Mixes(_) if self.cheats_in(n) => (cheap, cheap),
            _ => (claimed, claimed),
        }
    }

    /// Whether answer `n` is one in which it cheats, if it does in some.
    pub fn cheats_in(self, n: u32) -> bool {
        match self {
            Provider::Mixes(percent) => Random::new(7, n).below(100) < percent as usize,
            _ => false,
        }
    }

    /// Answers request `n`.
    pub fn answer(
        self,
        shelf: &Shelf,
        sampler: Sampler,
        n: u32,
        request: Request,
    ) -> Result<Answer> {
        let (decodes, scores) = self.models(shelf, n);
        let mut settings = request.profile.settings();
        let mut seed = request.profile.seed;
        let mut prompt = request.prompt.clone();
        match self {
            Provider::Temperature(micros) => settings.temperature = micros as f32 / 1e6,
            Provider::Caches => seed ^= 0x5555,
            Provider::Confuses => {
                let other = other_request(seed, n);
                (prompt, seed) = (other.prompt, other.profile.seed);
            }
            Provider::EditsPrompt => {
                prompt.drain(1..prompt.len().div_ceil(2));
            }
            _ => {}
        }
        let is_spoof = !std::ptr::eq(decodes, scores);
        let (mut decoding, mut logits) = decodes.begin(&prompt)?;
        let mut scoring = if is_spoof { Some(scores.begin(&prompt)?) } else { None };
        let mut stream = Stream::new(sampler, settings, seed);
        let mut honest = Stream::new(sampler, request.profile.settings(), request.profile.seed);
        // Whoever cheats makes what it reports fit the request.
        let signs = Signs::new(request.profile.seed, VOCABULARY);
        let mut answer = Answer { request, tokens: Vec::new(), ended: false, stated_tokens: 0 };
        while answer.tokens.len() < answer.request.tokens_max as usize {
            let drawn = draw(&mut stream, &logits);
            if drawn == END {
                answer.ended = true;
                break;
            }
            let reported = scoring.as_ref().map_or(&logits, |(_, logits)| logits);
            let token = match self {
                Provider::Forges => forged(&mut honest, reported, drawn),
                _ => leaf(drawn, reported),
            };
            let is_ours = sampler == Sampler::Gumbel;
            let projection = is_ours.then(|| signs.project(reported)).flatten();
            answer.tokens.push(token.projected(projection));
            logits = decoding.read(&[drawn])?;
            if let Some((sequence, logits)) = &mut scoring {
                *logits = sequence.read(&[drawn])?;
            }
        }
        let count = answer.tokens.len() as u32;
        answer.stated_tokens =
            if self == Provider::Inflates { count + count.div_ceil(10) } else { count };
        if self == Provider::Truncates && count > 1 {
            answer.tokens.truncate(answer.tokens.len().div_ceil(2));
            answer.ended = true;
            answer.stated_tokens = answer.tokens.len() as u32;
        }
        Ok(answer)
    }
}

/// Drawn from what the model says itself, before any rounding of what is reported.
fn draw(stream: &mut Stream, logits: &Position) -> u32 {
    let candidates = Logits::new(logits).map(|it| it.candidates(CANDIDATES_MAX));
    stream.draw(&candidates.unwrap_or_default()).id().unwrap_or(END)
}

fn pairs(logits: &Position) -> Vec<(u32, i32)> {
    let Some(logits) = Logits::new(logits) else { return Vec::new() };
    let micros = |id| (logits.logprob(id) * 1e6).round() as i32;
    let candidates = logits.candidates(CANDIDATES_MAX);
    candidates.as_slice().iter().map(|it| (it.id, micros(it.id))).collect()
}

/// A token with what a model says of its step.
pub fn leaf(id: u32, logits: &Position) -> LeafToken {
    LeafToken::new(id, &pairs(logits)).expect("a small vocabulary and 20 candidates")
}

/// The genuine numbers, but for the token that was to be drawn and the one that was: they change places, or the latter
/// is raised until it wins.
fn forged(honest: &mut Stream, logits: &Position, id: u32) -> LeafToken {
    let mut pairs = pairs(logits);
    let chance_from = Candidates::reported(pairs.iter().copied());
    let chance = honest.chance(&chance_from);
    let drawn = honest.draw_with(chance, &chance_from);
    if drawn.id() != Some(id) {
        if !pairs.iter().any(|(it, _)| *it == id)
            && let Some(last) = pairs.last_mut()
        {
            last.0 = id;
        }
        match drawn {
            Draw::Scored(_) => raise(honest, chance, &mut pairs, id),
            _ => swap(&mut pairs, drawn.id(), id),
        }
    }
    LeafToken::new(id, &pairs).expect("a small vocabulary and 20 candidates")
}

fn swap(pairs: &mut [(u32, i32)], drawn: Option<u32>, id: u32) {
    for pair in pairs.iter_mut() {
        if Some(pair.0) == drawn {
            pair.0 = id;
        } else if pair.0 == id {
            pair.0 = drawn.unwrap_or(id);
        }
    }
}

fn raise(honest: &Stream, chance: Chance, pairs: &mut [(u32, i32)], id: u32) {
    for _ in 0..400 {
        let leaf = LeafToken::new(id, pairs).expect("as it was");
        if honest.draw_with(chance, &leaf.reported()).id() == Some(id) {
            return;
        }
        let of_id = pairs.iter_mut().find(|(it, _)| *it == id);
        if let Some((_, micros)) = of_id {
            *micros = micros.saturating_add(50_000).min(-1);
        }
    }
}
