//! How often a provider was looked at, and why it was not asked, until it is told.

use std::collections::BTreeMap;

use market::{Reason, Term};
use types::{ModelId, ability::Lacking, limits::OFFER_MODELS_MAX};
use wire::serve::{PassedFor, Tally};

/// Of one provider, by model.
#[derive(Debug, Default)]
pub(super) struct Tallies(BTreeMap<ModelId, Tally>);

impl Tallies {
    pub(super) fn chosen(&mut self, model: ModelId, is_second: bool) {
        self.count(model, |tally| {
            tally.chosen = tally.chosen.saturating_add(1);
            tally.second = tally.second.saturating_add(is_second.into());
        });
    }

    pub(super) fn passed(&mut self, model: ModelId, reason: PassedFor) {
        self.count(model, |tally| tally.pass(reason));
    }

    /// What was counted, and from now on nothing is.
    pub(super) fn take(&mut self) -> Vec<Tally> {
        std::mem::take(&mut self.0).into_values().collect()
    }

    fn count(&mut self, model: ModelId, change: impl FnOnce(&mut Tally)) {
        // An offer that changes all the time makes no more of them than one message holds.
        if self.0.len() < OFFER_MODELS_MAX || self.0.contains_key(&model) {
            change(self.0.entry(model).or_insert_with(|| Tally::new(model)));
        }
    }
}

pub(super) fn passed_for(reason: Reason) -> PassedFor {
    match reason {
        Reason::Model => PassedFor::OtherModel,
        Reason::Tried => PassedFor::Tried,
        Reason::Lacking(Lacking::Completions) => PassedFor::Completions,
        Reason::Lacking(Lacking::Embeddings | Lacking::Dimensions) => PassedFor::Embeddings,
        Reason::Lacking(Lacking::Logprobs) => PassedFor::Logprobs,
        Reason::Lacking(Lacking::Json) => PassedFor::Json,
        Reason::Lacking(Lacking::Tools | Lacking::ForcedTools) => PassedFor::Tools,
        Reason::Lacking(Lacking::Samplers) => PassedFor::Samplers,
        Reason::Context { .. } => PassedFor::Context,
        Reason::Provider => PassedFor::Pinned,
        Reason::Region => PassedFor::Region,
        Reason::Price => PassedFor::PriceMax,
        Reason::Unfunded => PassedFor::Unfunded,
        Reason::Full => PassedFor::Full,
        Reason::Busy { .. } => PassedFor::Busy,
        Reason::Quarantined { .. } => PassedFor::Quarantined,
        Reason::Probation => PassedFor::Probation,
        Reason::Score { by: Term::Price, .. } => PassedFor::Price,
        Reason::Score { by: Term::Speed, .. } => PassedFor::Speed,
        Reason::Score { by: Term::Load, .. } => PassedFor::Load,
        Reason::Drawn => PassedFor::Drawn,
        Reason::Explored => PassedFor::Explored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_that_keeps_changing_fills_one_message() {
        let mut tallies = Tallies::default();
        for number in 0..=u8::MAX {
            tallies.passed(ModelId([number; 32]), PassedFor::Full);
            tallies.chosen(ModelId([0; 32]), number % 2 == 0);
        }
        let taken = tallies.take();
        assert_eq!(taken.len(), OFFER_MODELS_MAX);
        assert_eq!((taken[0].chosen, taken[0].second), (256, 128));
        assert!(tallies.take().is_empty());
    }
}
