//! The rounds that drew us, and what to do next about each: a machine without I/O.
//!
//! A verdict is about all that the beacon chose. Whoever opens less than that may hide what is left, so it is *missing*,
//! unless what was opened is enough to fail; or unless it may be our fault, and then we abstain.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use types::{
    Address, Hash32, TimeMs,
    audit::{AuditOutcome, CommitmentId, Verdict},
};
use verify::audit::Means;
use wire::chain::{RoundView, VerifierView};

use crate::answer::Answer;

/// Bytes of answers that are held of one round, as they are in memory; a provider whose answers are longer is judged by those before.
const ROUND_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of answers that are held of all rounds together.
const DESK_BYTES_MAX: usize = 512 * 1024 * 1024;
/// What there is room for of every round nevertheless, so that a provider cannot fill the desk with one round to keep another from
/// being judged: thousands of tokens.
const ROUND_BYTES_MIN: usize = 2 * 1024 * 1024;
/// Rounds that are looked after at once, until there is a verdict. More wait, those of providers that have the most of them longest.
pub const ROUNDS_MAX: usize = 64;
/// The part of the time until verdicts are committed to after which a round is first seen too late: what its provider did not open
/// to us since may be what it tried to open before. We look sixty times in that time.
const LATE_PERCENT: u64 = 10;
/// The part of the time until verdicts are committed to in which openings are waited for; the rest is for the model.
const COLLECT_PERCENT: u64 = 50;
/// Clocks may differ by this much: what is due is sent this much later than the round says.
const SKEW_MS: u64 = 500;

/// A receipt that was opened.
#[derive(Clone, Debug)]
pub struct Opened {
    pub receipt: Hash32,
    pub answer: Answer,
}

/// What a verifier will say, and the salt under which it has committed to it.
#[derive(Clone, PartialEq, Debug)]
pub struct Sealed {
    pub verdict: Verdict,
    pub salt: Hash32,
}

/// What to do about a round now.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    Wait,
    /// We do not have its model.
    Abstain,
    /// Run the model over what was opened; or over nothing, if the provider opened nothing.
    Judge,
    Commit(Sealed),
    Reveal(Sealed),
    /// There is nothing left to do.
    Rest,
}

/// One round.
#[derive(Debug)]
pub struct Case {
    pub round: RoundView,
    /// When it came on the desk.
    seen_at: TimeMs,
    /// The receipts that are to be opened, by number, once the provider has told which ones it committed to.
    wanted: Option<Vec<u32>>,
    opened: BTreeMap<u32, Arc<Opened>>,
    bytes: usize,
    /// There was no room for something of it, or we were not ready.
    excused: bool,
    /// The model is running.
    judging: bool,
    sealed: Option<Sealed>,
}

impl Case {
    fn new(round: RoundView, seen_at: TimeMs) -> Case {
        Case {
            round,
            seen_at,
            wanted: None,
            opened: BTreeMap::new(),
            bytes: 0,
            excused: false,
            judging: false,
            sealed: None,
        }
    }

    /// Openings that come later are not waited for.
    pub fn collects_until(&self) -> TimeMs {
        self.after(COLLECT_PERCENT)
    }

    /// When this part of the time until verdicts are committed to is over.
    fn after(&self, percent: u64) -> TimeMs {
        let RoundView { opened_at, commit_by, .. } = self.round;
        let part = commit_by.ms_since(opened_at).saturating_mul(percent) / 100;
        opened_at.plus_ms(part)
    }

    /// Whether there is a verdict to find yet.
    fn is_open(&self, us: &Address, now: TimeMs) -> bool {
        self.sealed.is_none() && is_silent(&self.round, us, now)
    }

    /// Whether an opening is still of use.
    fn is_collecting(&self, us: &Address, now: TimeMs) -> bool {
        self.is_open(us, now) && !self.judging
    }

    /// Forgets what was opened.
    fn clear(&mut self) {
        self.opened.clear();
        self.bytes = 0;
    }

    /// How much of what was chosen is here.
    pub fn extent(&self) -> Extent {
        let is_late = self.seen_at > self.after(LATE_PERCENT);
        // Where there was no room for the first one, nothing more was wanted, and nothing is here.
        let is_whole = self.is_whole() && !(self.excused && self.opened.is_empty());
        match is_whole {
            true => Extent::Whole,
            false if is_late || self.excused => Extent::Excused,
            false => Extent::Partial,
        }
    }

    /// Whether all that was chosen is here.
    pub fn is_whole(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.len() == self.opened.len())
    }

    /// Receipts that are to be opened; none, if the provider has not told which ones there are.
    pub fn chosen(&self) -> u32 {
        u32::try_from(self.wanted.as_ref().map_or(0, Vec::len)).unwrap_or(u32::MAX)
    }

    /// What was opened, in the order in which it is wanted.
    pub fn opened(&self) -> impl Iterator<Item = &Arc<Opened>> {
        let wanted = self.wanted.iter().flatten();
        wanted.filter_map(|number| self.opened.get(number))
    }

    /// What to do next. `us`: the operator that was drawn; `has_model`: whether we can run the round's model.
    pub fn step(&self, us: &Address, now: TimeMs, has_model: bool) -> Step {
        let Some(VerifierView { committed, outcome, .. }) =
            self.round.verifiers.iter().find(|it| it.verifier == *us)
        else {
            return Step::Rest;
        };
        let RoundView { commit_by, reveal_by, .. } = self.round;
        match (committed, outcome, &self.sealed) {
            (_, Some(_), _) => Step::Rest,
            (Some(_), None, Some(sealed)) => {
                let seen = TimeMs(now.0.saturating_sub(SKEW_MS));
                match self.round.is_revealing(seen) && now <= reveal_by {
                    true => Step::Reveal(sealed.clone()),
                    false => Step::Wait,
                }
            }
            // We do not know any more what we committed to.
            (Some(_), None, None) => Step::Rest,
            (None, None, _) if now > commit_by => Step::Rest,
            (None, None, Some(sealed)) => Step::Commit(sealed.clone()),
            (None, None, None) if !has_model => Step::Abstain,
            (None, None, None) if self.judging => Step::Wait,
            (None, None, None) => match self.is_whole() || now >= self.collects_until() {
                true => Step::Judge,
                false => Step::Wait,
            },
        }
    }
}

/// How much a provider has opened of what was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    Whole,
    Partial,
    /// Less than all, and it may have been us who did not take it.
    Excused,
}

/// Whether we are drawn for a round, and may still commit to a verdict.
fn is_silent(round: &RoundView, us: &Address, now: TimeMs) -> bool {
    let is_silent =
        |it: &VerifierView| it.verifier == *us && it.committed.is_none() && it.outcome.is_none();
    round.verifiers.iter().any(is_silent) && now <= round.commit_by
}

/// What is still to be opened of a round.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// We know of no such round, or were not drawn; perhaps not yet.
    Unknown,
    /// It is judged already, or too late.
    Over,
    Numbers(Vec<u32>),
}

/// What became of an opening.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    Kept,
    /// There is no room for it. What came before it will do.
    Full,
    /// It was not asked for, or comes too late.
    Unwanted,
}

/// All rounds that drew us.
#[derive(Debug, Default)]
pub struct Desk {
    cases: BTreeMap<CommitmentId, Case>,
}

impl Desk {
    /// The rounds that are open now and drew us. `sealed`: what we have said of a round before, from the disk.
    pub fn update(
        &mut self,
        us: &Address,
        now: TimeMs,
        rounds: Vec<RoundView>,
        sealed: impl Fn(&RoundView) -> Option<Sealed>,
    ) {
        let is_listed = |id: &CommitmentId| rounds.iter().any(|round| round.commitment == *id);
        self.cases.retain(|id, _| is_listed(id));
        let mut new = Vec::new();
        for round in rounds {
            match self.cases.get_mut(&round.commitment) {
                Some(case) => {
                    case.round = round;
                    if !case.is_open(us, now) {
                        case.clear();
                    }
                }
                None => new.push(round),
            }
        }
        let open = self.cases.values().filter(|case| case.is_open(us, now));
        let mut by_provider: BTreeMap<Address, usize> = BTreeMap::new();
        for case in open {
            *by_provider.entry(case.round.commitment.provider).or_default() += 1;
        }
        let mut places = ROUNDS_MAX.saturating_sub(by_provider.values().sum());
        // The first round of every provider before the second of one, of each those first that are due first.
        new.sort_unstable_by_key(|round| (round.commit_by, round.commitment));
        let mut ranked: Vec<(usize, RoundView)> = Vec::new();
        for round in new {
            let rank = by_provider.entry(round.commitment.provider).or_default();
            ranked.push((*rank, round));
            *rank += 1;
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        for (_, round) in ranked {
            // What was said, or can be said no more, takes no place.
            let case = Case { sealed: sealed(&round), ..Case::new(round, now) };
            if case.is_open(us, now) {
                let Some(left) = places.checked_sub(1) else { continue };
                places = left;
            }
            self.cases.insert(case.round.commitment, case);
        }
    }

    pub fn case(&self, id: &CommitmentId) -> Option<&Case> {
        self.cases.get(id)
    }

    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.cases.values()
    }

    /// A provider has told which receipts it committed to; `wanted` of them are to be opened. Returns which still are.
    pub fn told(
        &mut self,
        id: &CommitmentId,
        us: &Address,
        now: TimeMs,
        wanted: Vec<u32>,
    ) -> Asked {
        let Some(case) = self.cases.get_mut(id) else { return Asked::Unknown };
        if !case.is_collecting(us, now) {
            return if case.is_whole() { Asked::Numbers(Vec::new()) } else { Asked::Over };
        }
        let wanted = case.wanted.get_or_insert(wanted);
        let left = wanted.iter().filter(|number| !case.opened.contains_key(number));
        Asked::Numbers(left.copied().collect())
    }

    /// An opening that was checked, and takes as many bytes in memory.
    pub fn take(&mut self, id: &CommitmentId, number: u32, opened: Opened, bytes: usize) -> Taken {
        let of_all = self.cases.values().map(|case| case.bytes);
        let of_all = of_all.fold(bytes, usize::saturating_add);
        let Some(case) = self.cases.get_mut(id).filter(|case| !case.judging) else {
            return Taken::Unwanted;
        };
        let Some(wanted) = &mut case.wanted else { return Taken::Unwanted };
        if !wanted.contains(&number) || case.opened.contains_key(&number) {
            return Taken::Unwanted;
        }
        let after = case.bytes.saturating_add(bytes);
        let is_full = of_all > DESK_BYTES_MAX && after > ROUND_BYTES_MIN;
        if is_full || after > ROUND_BYTES_MAX {
            // That is enough; nobody is to be blamed for what we have no room for.
            wanted.retain(|number| case.opened.contains_key(number));
            case.excused = true;
            return Taken::Full;
        }
        case.bytes = after;
        case.opened.insert(number, Arc::new(opened));
        Taken::Kept
    }

    /// The providers that may have something to open to us.
    pub fn providers(&self, us: &Address, now: TimeMs) -> BTreeSet<Address> {
        let open = self.cases.values().filter(|case| is_silent(&case.round, us, now));
        open.map(|case| case.round.commitment.provider).collect()
    }

    /// What is missing of a round may be our fault.
    pub fn excuse(&mut self, id: &CommitmentId) {
        if let Some(case) = self.cases.get_mut(id) {
            case.excused = true;
        }
    }

    /// The same of all rounds of a provider.
    pub fn excuse_provider(&mut self, provider: &Address) {
        for (id, case) in &mut self.cases {
            case.excused |= id.provider == *provider;
        }
    }

    /// The model begins to run over what was opened until now.
    pub fn judging(&mut self, id: &CommitmentId) {
        if let Some(case) = self.cases.get_mut(id) {
            case.judging = true;
        }
    }

    /// What we will say.
    pub fn seal(&mut self, id: &CommitmentId, sealed: Sealed) {
        if let Some(case) = self.cases.get_mut(id) {
            case.judging = false;
            case.clear();
            case.sealed = Some(sealed);
        }
    }
}

/// What to say of a round of which `judged` was found, in as much as was opened.
pub fn verdict(judged: Option<crate::judge::Judged>, extent: Extent) -> Verdict {
    let nothing = |outcome| Verdict { outcome, evidence: None };
    let judged = judged
        .filter(|it| extent == Extent::Whole || it.outcome == AuditOutcome::Fail)
        .map(|it| Verdict { outcome: it.outcome, evidence: Some(it.evidence) });
    judged.unwrap_or_else(|| match extent {
        Extent::Whole | Extent::Partial => nothing(AuditOutcome::Missing),
        Extent::Excused => nothing(AuditOutcome::Abstained),
    })
}

/// The honest means that are bet against where the ledger has none for a model; evidence by them has no consequence.
pub fn default_means() -> Option<Means> {
    use verify::eprocess::HonestMean;
    let mean = HonestMean::of_ppm;
    Some(Means { l1: mean(70_000)?, l2: mean(21_000)?, projections: Some(mean(20_000)?) })
}

#[cfg(test)]
mod tests;
