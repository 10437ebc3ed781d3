//! What a gateway tells a provider about requests that it did or did not give it: counts and nothing else.
//! Not whom it gave them to, and not at which price: a gateway that named a price to undercut could name any,
//! and providers that are told each other's prices can hold them up together.

use borsh::{BorshDeserialize, BorshSerialize};
use types::ModelId;

/// Looks at a provider for requests of one model, since the last message that said so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Tally {
    /// The one that the provider offers.
    pub model: ModelId,
    /// It was asked.
    pub chosen: u32,
    /// Of these, as the second one, because the first was late.
    pub second: u32,
    /// It was not asked, by [`PassedFor::index`].
    pub passed: [u32; PassedFor::COUNT],
}

impl Tally {
    pub fn new(model: ModelId) -> Tally {
        Tally { model, chosen: 0, second: 0, passed: [0; PassedFor::COUNT] }
    }

    /// Counts one look that passed the provider over.
    pub fn pass(&mut self, reason: PassedFor) {
        if let Some(count) = self.passed.get_mut(reason.index()) {
            *count = count.saturating_add(1);
        }
    }
}

/// Why a provider was not asked: first what would have kept it from any such request, then what was better
/// about another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PassedFor {
    /// The client's name for a model meant another one, which more providers offer under it.
    OtherModel,
    /// It was asked for this request before.
    Tried,
    /// It makes nothing but embeddings.
    Completions,
    /// None, or not of any dimension.
    Embeddings,
    Logprobs,
    Json,
    /// None, or it cannot be made to call them.
    Tools,
    /// `top_k`, `min_p` or a repeat penalty.
    Samplers,
    Context,
    /// The client wanted another provider.
    Pinned,
    Region,
    /// Above what the client pays.
    PriceMax,
    /// The channel to it is not ready.
    Unfunded,
    /// As many requests of this gateway as it has slots.
    Full,
    /// It said so.
    Busy,
    Quarantined,
    Probation,
    /// Another one scored better, most of all for its price.
    Price,
    /// The same for what was measured of its speed.
    Speed,
    /// The same for the requests that it runs already.
    Load,
    /// Another one was about as good, and less busy or drawn.
    Drawn,
    /// Another one was asked to measure it.
    Explored,
}

impl PassedFor {
    pub const COUNT: usize = 22;

    pub const ALL: [PassedFor; PassedFor::COUNT] = [
        PassedFor::OtherModel,
        PassedFor::Tried,
        PassedFor::Completions,
        PassedFor::Embeddings,
        PassedFor::Logprobs,
        PassedFor::Json,
        PassedFor::Tools,
        PassedFor::Samplers,
        PassedFor::Context,
        PassedFor::Pinned,
        PassedFor::Region,
        PassedFor::PriceMax,
        PassedFor::Unfunded,
        PassedFor::Full,
        PassedFor::Busy,
        PassedFor::Quarantined,
        PassedFor::Probation,
        PassedFor::Price,
        PassedFor::Speed,
        PassedFor::Load,
        PassedFor::Drawn,
        PassedFor::Explored,
    ];

    /// Its place in [`Tally::passed`].
    pub fn index(self) -> usize {
        self as usize
    }

    pub fn name(self) -> &'static str {
        match self {
            PassedFor::OtherModel => "other_model",
            PassedFor::Tried => "tried",
            PassedFor::Completions => "completions",
            PassedFor::Embeddings => "embeddings",
            PassedFor::Logprobs => "logprobs",
            PassedFor::Json => "json",
            PassedFor::Tools => "tools",
            PassedFor::Samplers => "samplers",
            PassedFor::Context => "context",
            PassedFor::Pinned => "pinned",
            PassedFor::Region => "region",
            PassedFor::PriceMax => "price_max",
            PassedFor::Unfunded => "unfunded",
            PassedFor::Full => "full",
            PassedFor::Busy => "busy",
            PassedFor::Quarantined => "quarantined",
            PassedFor::Probation => "probation",
            PassedFor::Price => "price",
            PassedFor::Speed => "speed",
            PassedFor::Load => "load",
            PassedFor::Drawn => "drawn",
            PassedFor::Explored => "explored",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place() {
        for (index, reason) in PassedFor::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index, "{}", reason.name());
        }
    }

    #[test]
    fn tallies_of_all_models_fit_into_a_control_frame() {
        let models = types::limits::OFFER_MODELS_MAX;
        let tallies = vec![Tally::new(ModelId([1; 32])); models];
        let frame = crate::frame::encode(&super::super::ToProviderControl::Tallies(tallies));
        assert!(frame.unwrap().len() <= super::super::CONTROL_FRAME_BYTES_MAX / 4);
    }
}
