//! Request profile NP-1: what is the same for every request that can be replayed, the seed that nobody
//! chooses, and why a request cannot be replayed.
//!
//! What a client asks for is honoured and never dropped. Where that takes a response out of the profile,
//! it is flagged with the reasons, and only its log-probabilities are audited.

use types::{
    Address, Hash32, RequestId,
    inference::{InferenceRequest, Sampling},
    sha256,
};

use crate::{draw::Settings, logits::CANDIDATES_MAX};

/// The name of the profile on a service report.
pub const NAME: &str = "np1";
/// Its name where only log-probabilities are audited ([`crate::l1`]): something else than the profile decides what is drawn,
/// or no answer of such an engine was drawn again yet.
pub const L1_NAME: &str = "np1-l1";
/// The name of no profile: tokens are drawn as the client or the engine likes.
pub const NO_NAME: &str = types::receipt::FREE_PROFILE;
/// What it sets where a client says nothing: Ollama's defaults, in millionths.
pub const TEMPERATURE_MICROS_DEFAULT: u32 = 800_000;
pub const TOP_P_MICROS_DEFAULT: u32 = 900_000;
/// `top_k` is at most this: then all that is drawn from can be reported.
pub const TOP_K_MAX: u8 = CANDIDATES_MAX as u8;

/// What is asked for beyond these is in no profile. An honest machine is further from another one in texts that its model would
/// not write, and what an audit bets against is 1.5 times the distance in texts of the profile's own settings. With a small trained
/// model and llama.cpp's server it was 1.1 times that at temperature 1, 1.3 at 1.2, 1.75 at 2; 1.15 with penalties of 1.5, .5 and
/// 1.3, 1.6 with a repeat penalty of 2.
pub const TEMPERATURE_MICROS_AUDITED_MAX: u32 = 1_000_000;
const PENALTY_MICROS_AUDITED_MAX: u32 = 1_500_000;
const REPEAT_PENALTY_MICROS_AUDITED_MAX: u32 = 1_300_000;

/// Whether what is reported of an answer can be compared: a verifier reads its prompt as the engine does, the rest of an answer
/// that was begun elsewhere and calls of tools aside, and its text is one that the model may have written by itself.
pub fn is_comparable(request: &InferenceRequest) -> bool {
    let sampling = &request.sampling;
    let temperature = sampling.temperature_micros.unwrap_or(TEMPERATURE_MICROS_DEFAULT);
    let penalties = [sampling.presence_penalty_micros, sampling.frequency_penalty_micros];
    let is_mild = |it: &i32| it.unsigned_abs() <= PENALTY_MICROS_AUDITED_MAX;
    request.begun.is_none()
        && !request.prompt.has_calls()
        && temperature <= TEMPERATURE_MICROS_AUDITED_MAX
        && penalties.iter().flatten().all(is_mild)
        && sampling.repeat_penalty_micros.unwrap_or(MILLION) <= REPEAT_PENALTY_MICROS_AUDITED_MAX
}

/// Whether answers whose report names this profile have leaves, are kept, committed to and audited.
pub fn is_audited(name: &str) -> bool {
    matches!(name, NAME | L1_NAME)
}

/// Servers read a seed as a signed or an unsigned number of 32 bits, and the highest as "a random one": these bits mean
/// the same to all.
const SEED_BITS: u32 = u32::MAX >> 1;
const MILLION: u32 = 1_000_000;

/// How the tokens of a replayable response are drawn. What is not here is as it decides nothing:
/// `min_p` 0, `typical_p` 1, `repeat_penalty` 1, other penalties 0, no grammar, no draft model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Profile {
    /// 0 to 2 000 000; 0 takes the likeliest.
    pub temperature_micros: u32,
    /// 1 to [`TOP_K_MAX`].
    pub top_k: u8,
    /// 0 to 1 000 000.
    pub top_p_micros: u32,
    pub seed: u32,
}

impl Profile {
    /// What the sampler is told: the nearest single-precision numbers, as an engine reads them from JSON.
    pub fn settings(&self) -> Settings {
        let unit = |micros: u32| (f64::from(micros) / f64::from(MILLION)) as f32;
        Settings {
            temperature: unit(self.temperature_micros),
            top_k: usize::from(self.top_k),
            top_p: unit(self.top_p_micros),
        }
    }

    /// What a request says: all that decides, so that no default of an engine does.
    pub fn sampling(&self) -> Sampling {
        let Profile { temperature_micros, top_k, top_p_micros, seed } = *self;
        Sampling {
            temperature_micros: Some(temperature_micros),
            top_p_micros: Some(top_p_micros),
            seed: Some(seed.into()),
            presence_penalty_micros: Some(0),
            frequency_penalty_micros: Some(0),
            top_k: Some(top_k.into()),
            min_p_micros: Some(0),
            repeat_penalty_micros: Some(MILLION),
        }
    }
}

/// What can be checked of the response to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Everything.
    Replayable(Profile),
    /// The log-probabilities of its tokens ([`crate::l1`]), not how they were drawn. At least one reason,
    /// in the order of [`Reason`].
    Unreplayable(Vec<Reason>),
    /// Nothing: it has no tokens, but vectors.
    Unscorable,
}

/// Why a response cannot be replayed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// The client chose the seed, so that whoever answers could have known it beforehand.
    ClientSeed,
    /// A presence, frequency or repetition penalty: the engine's window and its order of steps differ.
    Penalty,
    /// It is drawn from more candidates than are reported.
    TopK,
    MinP,
    /// A grammar holds the answer to a form, and draws again where it refuses.
    Form,
    /// Tools bring a grammar of their own.
    Tools,
    /// The engine drafts with a smaller model, or samples on the device.
    Draft,
}

impl Reason {
    /// Whether it keeps the log-probabilities from being compared too.
    pub fn hides_logprobs(self) -> bool {
        match self {
            // They are in the prompt as the engine's template writes them, which a verifier's does not; calls have no ids.
            Reason::Tools => true,
            // Of tokens that a draft proposed nothing is reported.
            Reason::Draft => true,
            // What is reported is from before all of these.
            Reason::ClientSeed | Reason::Penalty | Reason::TopK | Reason::MinP | Reason::Form => {
                false
            }
        }
    }
}

/// What is known of the engine beside its sampler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drafting {
    None,
    /// A draft model, or sampling on the device.
    Some,
}

/// How a request stands to the profile; `seed` is what [`seed`] gives. A request that names it is of one who chose none.
pub fn standing(request: &InferenceRequest, seed: u32, drafting: Drafting) -> Standing {
    if request.prompt.vectors().is_some() {
        return Standing::Unscorable;
    }
    let Sampling {
        temperature_micros,
        top_p_micros,
        seed: client_seed,
        presence_penalty_micros,
        frequency_penalty_micros,
        top_k,
        min_p_micros,
        repeat_penalty_micros,
    } = request.sampling;
    let temperature_micros = temperature_micros.unwrap_or(TEMPERATURE_MICROS_DEFAULT);
    let top_k = top_k.map_or(Some(TOP_K_MAX), |count| {
        u8::try_from(count).ok().filter(|count| (1..=TOP_K_MAX).contains(count))
    });
    let penalised = presence_penalty_micros.unwrap_or(0) != 0
        || frequency_penalty_micros.unwrap_or(0) != 0
        || repeat_penalty_micros.unwrap_or(MILLION) != MILLION;
    let reasons = [
        // At temperature 0 a seed decides nothing.
        (
            client_seed.is_some_and(|it| it != seed.into()) && temperature_micros != 0,
            Reason::ClientSeed,
        ),
        (penalised, Reason::Penalty),
        (top_k.is_none(), Reason::TopK),
        (min_p_micros.unwrap_or(0) != 0, Reason::MinP),
        (request.form.is_some(), Reason::Form),
        (request.tools.is_some(), Reason::Tools),
        (drafting == Drafting::Some, Reason::Draft),
    ];
    let reasons: Vec<Reason> =
        reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect();
    match top_k {
        Some(top_k) if reasons.is_empty() => Standing::Replayable(Profile {
            temperature_micros,
            top_k,
            top_p_micros: top_p_micros.unwrap_or(TOP_P_MICROS_DEFAULT),
            seed,
        }),
        _ => Standing::Unreplayable(reasons),
    }
}

/// Stands for the beacon while a network has none. The consumer's nonce keeps providers from knowing a seed beforehand.
pub const NO_BEACON: Hash32 = Hash32([0; 32]);

/// The seed of a replayable request: the first 32 bits, big-endian, without the highest, of the SHA-256 of
/// `peerwatt/np1\0`, the beacon before the request, the consumer's nonce, the provider's address and the
/// request's id. So the gateway cannot choose it alone, and no
/// answer can be kept for a second request.
pub fn seed(
    beacon: &Hash32,
    consumer_nonce: &[u8; 16],
    provider: &Address,
    request_id: &RequestId,
) -> u32 {
    let digest =
        sha256(&[b"peerwatt/np1\0", &beacon.0, consumer_nonce, &provider.0, &request_id.0]);
    digest.0.first_chunk().copied().map_or(0, u32::from_be_bytes) & SEED_BITS
}

/// The same for a request of which its client wants nothing disclosed: another seed that nobody chose. Its provider does
/// not know it for the profile's, and keeps nothing.
pub fn undisclosed_seed(
    consumer_nonce: &[u8; 16],
    provider: &Address,
    request_id: &RequestId,
) -> u32 {
    let parts = [&b"peerwatt/undisclosed\0"[..], consumer_nonce, &provider.0, &request_id.0];
    sha256(&parts).0.first_chunk().copied().map_or(0, u32::from_be_bytes) & SEED_BITS
}

#[cfg(test)]
mod tests;
