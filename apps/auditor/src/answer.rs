//! An answer that can be audited, from its receipt and its opening. Both come from strangers.

use types::{
    ModelId,
    inference::{ChatMessage, FinishReason, InferenceRequest, Prompt, RequestError},
    limits::COMPLETION_TOKENS_MAX,
    receipt::{Receipt, ReceiptError},
    sign::VerifySignature,
};
use verify::{
    delivered::profile_of,
    engines::Drawing,
    leaf::{self, LEAF_TOKENS_MAX, LeafCandidate, LeafError, LeafToken},
    profile::{self, Drafting, Profile, Reason, Standing, standing},
};
use wire::serve::{Opening, OpeningError};

/// See the module.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    pub model: ModelId,
    pub engine_version: String,
    pub drawing: Drawing,
    /// How its tokens are drawn; `None`: what it reported is compared, and nothing else.
    pub profile: Option<Profile>,
    pub prompt: Prompt,
    /// The delivered bytes.
    pub text: Vec<u8>,
    /// What the provider reported of each token.
    pub tokens: Vec<LeafToken>,
    /// Tokens that it bills.
    pub stated_tokens: u32,
    pub finish: FinishReason,
    pub tokens_max: Option<u32>,
    pub stop: Vec<String>,
}

/// Why an answer cannot be audited.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error("the receipt does not add up")]
    Receipt(#[from] ReceiptError),
    #[error("the opening is not that of the receipt")]
    Opening(#[from] OpeningError),
    #[error(
        "the answer is in the profile `{profile}`; only answers in `np1` and `np1-l1` can be audited"
    )]
    Profile { profile: String },
    #[error("nobody knows how the engine `{version}` draws")]
    Engine { version: String },
    #[error("its request cannot be replayed: {reasons:?}")]
    Request { reasons: Vec<Reason> },
    #[error("its request is beyond the limits")]
    Limits(#[from] RequestError),
    #[error("what it reported is not readable")]
    Leaf(#[from] LeafError),
    #[error("what it reported is of more than {COMPLETION_TOKENS_MAX} tokens")]
    TooLong,
    #[error("its leaf number {number} is not full, and not the last")]
    NotFull { number: usize },
}

impl Answer {
    /// How long its prompt is, about.
    pub fn prompt_bytes(&self) -> usize {
        match &self.prompt {
            Prompt::Text(text) => text.len(),
            Prompt::Chat(messages) => messages.iter().map(|it| it.content.len()).sum(),
            // Vectors have no tokens.
            Prompt::Inputs(_) => 0,
        }
    }

    /// What it takes in memory, about.
    pub fn bytes(&self) -> usize {
        let candidates = self.tokens.iter().map(|it| it.candidates().len());
        let candidates = candidates.fold(0, usize::saturating_add);
        let tokens = self.tokens.len().saturating_mul(size_of::<LeafToken>());
        let candidates = candidates.saturating_mul(size_of::<LeafCandidate>());
        // One with calls is in no profile.
        let messages = match &self.prompt {
            Prompt::Chat(messages) => messages.len(),
            Prompt::Text(_) | Prompt::Inputs(_) => 0,
        };
        let messages = messages.saturating_mul(size_of::<ChatMessage>());
        let (answer, prompt) = (size_of::<Answer>(), self.prompt.text_bytes());
        [answer, prompt, messages, self.text.len(), tokens, candidates]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    /// Checks everything that can be checked without a model, and takes it apart.
    pub fn open(
        receipt: &Receipt,
        opening: Opening,
        check: &dyn VerifySignature,
    ) -> Result<Answer, AnswerError> {
        check_leaves(&opening.leaves)?;
        opening.request.check()?;
        receipt.verify(check)?;
        let report = opening.check(receipt, check)?;
        let seed =
            profile::seed(&profile::NO_BEACON, &opening.salt, &report.provider, &report.request_id);
        // Whether its client let it be disclosed, who opens it must know.
        let derived = profile_of(&opening.request, seed, true, &report.engine_version);
        if !profile::is_audited(derived) || report.profile != derived {
            return Err(AnswerError::Profile { profile: report.profile.clone() });
        }
        let version = &report.engine_version;
        let engine = || AnswerError::Engine { version: version.clone() };
        let drawing = Drawing::of(version).ok_or_else(engine)?;
        let profile = match derived {
            profile::NAME => Some(profile_settings(&opening.request, seed)?),
            _ => None,
        };
        let mut tokens = Vec::new();
        for bytes in &opening.leaves {
            tokens.extend(leaf::decode(bytes)?);
        }
        let InferenceRequest { prompt, tokens_max, stop, .. } = opening.request;
        Ok(Answer {
            model: report.model,
            engine_version: version.clone(),
            drawing,
            profile,
            prompt,
            text: opening.text,
            tokens,
            stated_tokens: report.completion_tokens,
            finish: report.finish,
            tokens_max,
            stop,
        })
    }
}

/// Whether leaves are as many, and as full, as a transcript has them: read, they take several times their bytes.
fn check_leaves(leaves: &[Vec<u8>]) -> Result<(), AnswerError> {
    let tokens_max = usize::try_from(COMPLETION_TOKENS_MAX).unwrap_or(usize::MAX);
    if leaves.len() > tokens_max.div_ceil(LEAF_TOKENS_MAX) {
        return Err(AnswerError::TooLong);
    }
    let Some((_, but_the_last)) = leaves.split_last() else { return Ok(()) };
    let is_full =
        |leaf: &Vec<u8>| leaf.first().is_some_and(|it| usize::from(*it) == LEAF_TOKENS_MAX);
    match but_the_last.iter().position(|leaf| !is_full(leaf)) {
        Some(number) => Err(AnswerError::NotFull { number }),
        None => Ok(()),
    }
}

/// The settings of a request whose seed is the derived one.
fn profile_settings(request: &InferenceRequest, seed: u32) -> Result<Profile, AnswerError> {
    match standing(request, seed, Drafting::None) {
        Standing::Replayable(profile) => Ok(profile),
        Standing::Unreplayable(reasons) => Err(AnswerError::Request { reasons }),
        Standing::Unscorable => Err(AnswerError::Request { reasons: Vec::new() }),
    }
}
