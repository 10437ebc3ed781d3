//! Rounds that are over: the last ones are kept for people to look at, and those that their providers can appeal
//! against for as long as they can. Anybody can have rounds closed, as many as it pays fees for, so the last ones alone
//! would be gone before a provider has seen that it failed.
//!
//! What is kept follows from the entries and the time at which rounds are closed. It is found by indexes: a block closes
//! many rounds.

use types::{
    Address, TimeMs,
    audit::{AuditOutcome, ClosedRound, CommitmentId},
};

use crate::state::State;

/// Rounds that are kept because they are the last ones, whatever became of them.
const RECENT_MAX: u64 = 256;
/// Rounds of one provider that are kept longer because it can appeal against them, so that its own garbage crowds out
/// nobody else's.
const APPEALABLE_MAX: usize = 8;
/// All of them, about 2 MiB: those of 480 providers that each have as many as they may.
pub(crate) const CLOSED_MAX: usize = 4_096;
/// Rounds that one that is closed may end the keeping of, because they have become too old. More than one, so that those
/// that were many at once grow fewer.
const OUTDATED_AT_ONCE: usize = 2;

/// Whether its provider could appeal against it, if it is not too old.
fn is_failure(round: &ClosedRound) -> bool {
    let failed = match round.outcome {
        AuditOutcome::Fail | AuditOutcome::Missing => true,
        AuditOutcome::Pass | AuditOutcome::Inconclusive | AuditOutcome::Abstained => false,
    };
    failed && !round.planted && !round.appealed && !round.is_appeal
}

impl State {
    /// Rounds that are over and kept, the newest first.
    pub fn closed_rounds(&self) -> impl Iterator<Item = &ClosedRound> {
        self.closed_rounds.range(..).rev().map(|(_, round)| round)
    }

    /// Rounds of a commitment that are kept, the newest first, with their numbers.
    pub(super) fn closed_of(
        &self,
        commitment: CommitmentId,
    ) -> impl Iterator<Item = (u64, &ClosedRound)> {
        let numbers = self.closed_ids.range((commitment, 0)..=(commitment, u64::MAX)).rev();
        numbers.filter_map(|((_, number), ())| Some((*number, self.closed_rounds.get(number)?)))
    }

    /// The first round of a commitment, if it is kept, with its number.
    pub(super) fn first_closed(&self, commitment: CommitmentId) -> Option<(u64, ClosedRound)> {
        let found = self.closed_of(commitment).find(|(_, round)| !round.is_appeal);
        found.map(|(number, round)| (number, round.clone()))
    }

    /// Keeps a round that is over now, and forgets those that are kept no longer.
    pub(crate) fn push_closed(&mut self, round: ClosedRound) {
        let (provider, time) = (round.commitment.provider, round.closed_at);
        let number = self.last_closed().map_or(0, |last| last.saturating_add(1));
        self.put_closed(number, Some(round));
        let outdated = self.appealable.iter().take(OUTDATED_AT_ONCE).map(|(number, ())| *number);
        let beyond = self.failures_of(provider).nth(APPEALABLE_MAX);
        let leaving = number.checked_sub(RECENT_MAX).into_iter().chain(beyond).chain(outdated);
        for number in leaving.collect::<Vec<u64>>() {
            self.forget_closed(number, time);
        }
        if self.closed_rounds.len() > CLOSED_MAX
            && let Some((&oldest, _)) = self.closed_rounds.first()
        {
            self.put_closed(oldest, None);
        }
    }

    /// Its provider appeals against it.
    pub(super) fn appeal_closed(&mut self, number: u64, round: ClosedRound, time: TimeMs) {
        self.put_closed(number, Some(ClosedRound { appealed: true, ..round }));
        self.forget_closed(number, time);
    }

    /// Forgets a round that is neither one of the last ones nor can be appealed against any more.
    fn forget_closed(&mut self, number: u64, time: TimeMs) {
        let oldest = self.oldest_evidence(time);
        let is_fresh = self.closed_rounds.get(&number).is_some_and(|it| it.closed_at >= oldest);
        if !(self.is_recent(number) || is_fresh && self.appealable.contains(&number)) {
            self.put_closed(number, None);
        }
    }

    /// Whether there is a reason to keep it, but for its age.
    pub(crate) fn is_closed_kept(&self, number: u64) -> bool {
        self.is_recent(number) || self.appealable.contains(&number)
    }

    fn is_recent(&self, number: u64) -> bool {
        self.last_closed().is_none_or(|last| number.saturating_add(RECENT_MAX) > last)
    }

    fn last_closed(&self) -> Option<u64> {
        self.closed_rounds.range(..).next_back().map(|(number, _)| *number)
    }

    /// Numbers of the rounds that a provider could appeal against, the newest first.
    fn failures_of(&self, provider: Address) -> impl Iterator<Item = u64> {
        let numbers = self.failures.range((provider, 0)..=(provider, u64::MAX)).rev();
        numbers.map(|((_, number), ())| *number)
    }

    pub(crate) fn put_closed(&mut self, number: u64, after: Option<ClosedRound>) {
        if let Some(before) = self.closed_rounds.get(&number) {
            let commitment = before.commitment;
            self.closed_ids.remove(&(commitment, number));
            self.failures.remove(&(commitment.provider, number));
            self.appealable.remove(&number);
            self.choose_appealable(commitment.provider);
        }
        match after {
            Some(after) => {
                self.index_closed(number, after.commitment, is_failure(&after));
                self.closed_rounds.insert(number, after);
            }
            None => self.closed_rounds.remove(&number),
        }
    }

    fn index_closed(&mut self, number: u64, commitment: CommitmentId, is_failure: bool) {
        self.closed_ids.insert((commitment, number), ());
        if is_failure {
            self.failures.insert((commitment.provider, number), ());
            self.choose_appealable(commitment.provider);
        }
    }

    /// Of the failures of a provider the newest are appealable. One came or went since they were chosen, so at most the
    /// one before them changes places.
    fn choose_appealable(&mut self, provider: Address) {
        let newest = self.failures_of(provider).take(APPEALABLE_MAX.saturating_add(1));
        for (place, number) in newest.collect::<Vec<u64>>().into_iter().enumerate() {
            if place >= APPEALABLE_MAX {
                self.appealable.remove(&number);
            } else if !self.appealable.contains(&number) {
                self.appealable.insert(number, ());
            }
        }
    }

    pub(crate) fn rebuild_closed_indexes(&mut self) {
        let closed = self.closed_rounds.iter();
        let closed = closed.map(|(number, round)| (*number, round.commitment, is_failure(round)));
        for (number, commitment, is_failure) in closed.collect::<Vec<_>>() {
            self.index_closed(number, commitment, is_failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use types::{
        Hash32, Height, ModelId, Nusd, Ppm,
        audit::{Beacon, Effect, ReceiptsCommitment, Sanction},
        genesis::Params,
    };

    use super::*;
    use crate::{oracle::Oracle, state::Rules};

    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

    fn state() -> State {
        let (chain_id, params) = ("test".parse().unwrap(), Params::standard());
        let rules = Rules { chain_id, genesis_hash: Hash32::default(), params };
        State::empty(rules, Oracle::starting(Nusd::whole(1), TimeMs(0)), TimeMs(0))
    }

    /// Of the commitment of a provider that has this sequence.
    fn closed(provider: u16, sequence: u64, outcome: AuditOutcome, day: u64) -> ClosedRound {
        let mut address = Address([0; 20]);
        address.0[..2].copy_from_slice(&provider.to_be_bytes());
        let model = ModelId([7; 32]);
        ClosedRound {
            commitment: CommitmentId { provider: address, sequence },
            receipts: ReceiptsCommitment { model, root: Hash32([1; 32]), count: 3 },
            height: Height(1),
            beacon: Beacon::default(),
            share: Ppm::ONE,
            closed_at: TimeMs(day * DAY_MS),
            verdicts: Vec::new(),
            outcome,
            would_be: Sanction::None,
            sanction: Sanction::None,
            planted: false,
            effect: Effect::default(),
            is_appeal: false,
            appealed: false,
        }
    }

    fn kept(state: &State, provider: u16, sequence: u64) -> Option<(u64, ClosedRound)> {
        let commitment = closed(provider, sequence, AuditOutcome::Fail, 0).commitment;
        state.first_closed(commitment)
    }

    #[test]
    fn rounds_of_others_flush_none_that_can_be_appealed_against() {
        let mut state = state();
        let garbage = |state: &mut State, count: u64, outcome, day| {
            (0..count).for_each(|n| state.push_closed(closed(1, n, outcome, day)));
        };
        state.push_closed(closed(0, 0, AuditOutcome::Pass, 0));
        state.push_closed(closed(0, 1, AuditOutcome::Fail, 0));
        state.push_closed(closed(0, 2, AuditOutcome::Missing, 0));
        garbage(&mut state, 300, AuditOutcome::Pass, 1);
        assert_eq!(state.closed_rounds().count(), 258);
        let found = |state: &State| [0, 1, 2].map(|n| kept(state, 0, n).is_some());
        assert_eq!(found(&state), [false, true, true]);
        // Garbage that fails has eight places beside the last ones.
        garbage(&mut state, 600, AuditOutcome::Missing, 13);
        garbage(&mut state, 256, AuditOutcome::Pass, 14);
        assert_eq!(state.closed_rounds().count(), 256 + 8 + 2);
        assert_eq!(found(&state), [false, true, true]);
        // One that was appealed against is kept no longer than others.
        let (number, round) = kept(&state, 0, 2).unwrap();
        state.appeal_closed(number, round, TimeMs(14 * DAY_MS));
        assert_eq!(found(&state), [false, true, false]);
        garbage(&mut state, 1, AuditOutcome::Pass, 15);
        assert_eq!(found(&state), [false, false, false], "too old");
        assert_eq!(state.wrong_index(), None);
    }

    #[test]
    fn all_that_is_kept_is_bounded() {
        let mut state = state();
        for n in 0..5_000u64 {
            let provider = u16::try_from(n / 8).unwrap();
            state.push_closed(closed(provider, n, AuditOutcome::Fail, 0));
            assert!(state.closed_rounds().count() <= CLOSED_MAX);
        }
        assert_eq!(state.closed_rounds().count(), CLOSED_MAX);
        // Those that are too old leave two at a time, and what takes their places leaves the last ones.
        for n in 0..1_000 {
            state.push_closed(closed(9_999, n, AuditOutcome::Pass, 15));
        }
        assert_eq!(state.closed_rounds().count(), CLOSED_MAX - 2_000);
        for n in 0..3_000 {
            state.push_closed(closed(9_999, n, AuditOutcome::Pass, 15));
        }
        assert_eq!(state.closed_rounds().count(), 256);
        assert_eq!(state.wrong_index(), None);
    }

    /// Over a history of everything: what must be kept is, nothing else, and indexes are those of the entries.
    #[test]
    fn what_is_kept_is_what_an_archive_says() {
        let mut state = state();
        let mut archive: Vec<ClosedRound> = Vec::new();
        let mut gone: BTreeSet<usize> = BTreeSet::new();
        let outcomes = [AuditOutcome::Fail, AuditOutcome::Pass, AuditOutcome::Missing];
        for n in 0..3_000u64 {
            let digest = types::sha256(&[&n.to_be_bytes()]).0.map(usize::from);
            let provider = u16::try_from(digest[0] % 30).unwrap();
            let mut round = closed(provider, n, outcomes[digest[1] % 3], n / 50);
            (round.planted, round.is_appeal) = (digest[2] < 20, digest[3] < 20);
            let any = archive.get(archive.len() * digest[4] / 256).map(|it| it.commitment);
            if let Some((number, found)) = any.and_then(|id| state.first_closed(id))
                && is_failure(&found)
            {
                archive[usize::try_from(number).unwrap()].appealed = true;
                state.appeal_closed(number, found, round.closed_at);
            }
            archive.push(round.clone());
            state.push_closed(round.clone());
            let oldest = state.oldest_evidence(round.closed_at);
            for (number, round) in archive.iter().enumerate() {
                let kept = state.closed_rounds.get(&u64::try_from(number).unwrap());
                let same = |it: &ClosedRound| it.commitment.provider == round.commitment.provider;
                let newer = archive[number + 1..].iter().filter(|it| same(it) && is_failure(it));
                let is_last = number + 256 >= archive.len();
                let is_young = || round.closed_at >= oldest && newer.count() < 8;
                let expected = is_last || is_failure(round) && is_young();
                if !expected {
                    gone.insert(number);
                } else if !gone.contains(&number) {
                    assert_eq!(kept, Some(round), "{n}: {number}");
                }
                assert!(kept.is_none() || is_last || is_failure(round), "{n}: {number}");
            }
            if n % 100 == 0 {
                assert_eq!(state.wrong_index(), None, "{n}");
            }
        }
    }
}
