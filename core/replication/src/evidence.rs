//! Faults of validators that this node saw, until the ledger knows them.
//!
//! Who sees one tries to get it into a block, again and again with a pause: the transaction may be
//! lost with the node that holds it. Invariant: of one key and height there is one proof.

use std::collections::BTreeMap;

use types::{Height, PublicKey, TimeMs, consensus::ConsensusVote, stake::Evidence};

#[cfg(test)]
mod tests;

/// How much is kept and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EvidenceLimits {
    pub count_max: usize,
    /// Of one key: the first that is punished ends its career.
    pub signer_max: usize,
    /// Pause between two attempts.
    pub retry_ms: u64,
    /// The ledger does not take older evidence.
    pub age_ms_max: u64,
}

impl EvidenceLimits {
    /// Every possible validator, and a few of each. `age_ms_max` is what the ledger's parameters
    /// say.
    pub const fn standard(age_ms_max: u64) -> EvidenceLimits {
        EvidenceLimits { count_max: 512, signer_max: 4, retry_ms: 30_000, age_ms_max }
    }
}

/// What happened.
#[expect(clippy::large_enum_variant, reason = "short-lived, and never kept in numbers")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Consensus saw a validator contradict itself. Signatures are checked.
    Seen(Evidence),
    /// The ledger has punished this key for what it did at this height.
    Included { signer: PublicKey, height: Height },
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Get it into a block.
    Report(Evidence),
}

/// The faults that the ledger does not know.
#[derive(Debug)]
pub struct EvidencePool {
    limits: EvidenceLimits,
    faults: BTreeMap<(PublicKey, Height), Fault>,
}

#[derive(Debug)]
struct Fault {
    evidence: Evidence,
    seen: TimeMs,
    due: TimeMs,
}

impl EvidencePool {
    pub fn new(limits: EvidenceLimits) -> EvidencePool {
        EvidencePool { limits, faults: BTreeMap::new() }
    }

    pub fn len(&self) -> usize {
        self.faults.len()
    }

    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    pub fn step(&mut self, now: TimeMs, input: Input) -> Vec<Effect> {
        match input {
            Input::Seen(evidence) => {
                self.add(evidence, now);
            }
            Input::Included { signer, height } => self.included(&signer, height),
            Input::Tick => {}
        }
        self.due(now).into_iter().map(Effect::Report).collect()
    }

    /// False if it proves nothing about a validator, is here already, or there is no room.
    pub fn add(&mut self, evidence: Evidence, now: TimeMs) -> bool {
        let Some(subject) = subject(&evidence) else { return false };
        let of_signer = (subject.0, Height(0))..=(subject.0, Height(u64::MAX));
        if self.faults.contains_key(&subject)
            || self.faults.len() >= self.limits.count_max
            || self.faults.range(of_signer).count() >= self.limits.signer_max
        {
            return false;
        }
        self.faults.insert(subject, Fault { evidence, seen: now, due: now });
        true
    }

    /// What should be reported now; each comes again after the pause. Forgets what is too old.
    pub fn due(&mut self, now: TimeMs) -> Vec<Evidence> {
        let EvidenceLimits { retry_ms, age_ms_max, .. } = self.limits;
        self.faults.retain(|_, fault| now.ms_since(fault.seen) <= age_ms_max);
        let due = self.faults.values_mut().filter(|fault| fault.due <= now);
        due.map(|fault| {
            fault.due = now.plus_ms(retry_ms.max(1));
            fault.evidence.clone()
        })
        .collect()
    }

    /// The ledger knows it.
    pub fn included(&mut self, signer: &PublicKey, height: Height) {
        self.faults.remove(&(*signer, height));
    }

    /// When [`EvidencePool::due`] has something to give or to forget.
    pub fn next_due(&self) -> Option<TimeMs> {
        let age_ms = self.limits.age_ms_max.saturating_add(1);
        self.faults.values().map(|fault| fault.due.min(fault.seen.plus_ms(age_ms))).min()
    }
}

/// Who did what where, if it is the fault of a validator.
pub fn subject(evidence: &Evidence) -> Option<(PublicKey, Height)> {
    let [signer, other] = evidence.signers();
    let height = match evidence {
        Evidence::DoubleVote { first, second } => {
            let (a, b): (ConsensusVote, ConsensusVote) = (first.value, second.value);
            let same = (a.kind, a.height, a.round) == (b.kind, b.height, b.round);
            (same && a.block != b.block).then_some(a.height)
        }
        Evidence::DoubleProposal { first, second } => {
            let (a, b) = (first.value, second.value);
            ((a.height, a.round) == (b.height, b.round) && a.block != b.block).then_some(a.height)
        }
        // Of a provider; consensus does not see those.
        Evidence::DoubleClaim { .. } => None,
    };
    height.filter(|_| signer == other).map(|height| (signer, height))
}
