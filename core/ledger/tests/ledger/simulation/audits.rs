//! What providers and validators of a simulation try with audits. Verifiers of a round mostly agree on what
//! they saw, so that everything that can follow from it does.

use types::{
    Hash32, ModelId, TimeMs,
    audit::{
        AuditOutcome, Backend, Calibration, CommitmentId, Evidence, Identified, MilliNats,
        ReceiptsCommitment, ReplayCounts, Responses, Round, Said, Verdict, Worth, seal,
        verdict_commitment,
    },
    tx::Action,
};

use super::{Sim, operations::VALIDATORS};
use crate::{
    demands::Statements,
    world::{DAY_MS, NAMES, address, key, ppm},
};

/// The first one is enforced where audits are, the second stays in the shadow.
pub(super) const MODELS: [ModelId; 2] = [ModelId([1; 32]), ModelId([2; 32])];
const SALT: Hash32 = Hash32([7; 32]);

impl Sim {
    pub(super) fn receipts(&mut self) -> (&'static str, Action) {
        let name = self.receiver();
        let model = if self.below(20) == 0 { ModelId([9; 32]) } else { self.pick(&MODELS) };
        let count = match self.below(40) {
            0 => 0,
            1 => 4_097,
            2 => 4_096,
            _ => 10,
        };
        let receipts = ReceiptsCommitment { model, root: Hash32([1; 32]), count };
        let planted = self.below(3) == 0;
        (name, Action::CommitReceipts { receipts, seal: seal(&SALT, planted) })
    }

    pub(super) fn calibration(&mut self) -> (&'static str, Action) {
        let name = if self.below(10) == 0 { self.name() } else { self.pick(&VALIDATORS) };
        let model = self.pick(&MODELS);
        let backend = self.pick(&[Backend::CpuX86, Backend::Metal]);
        let mean = if self.below(20) == 0 { 3_999 } else { 10_000 + self.below(90_000) as u32 };
        let calibration =
            Calibration { l1: ppm(mean), l2: ppm(50_000), projections: None, tokens: 9 };
        (name, Action::PublishCalibration { model, backend, calibration })
    }

    pub(super) fn auditor(&mut self) -> (&'static str, Action) {
        let name = if self.below(10) == 0 { self.name() } else { self.pick(&VALIDATORS) };
        let owner = if self.below(12) == 0 { self.name() } else { name };
        let addr = if self.below(10) == 0 { "nowhere" } else { "127.0.0.1:1" };
        let count = match self.below(12) {
            0 => 0,
            1 => 9,
            count => 1 + count % 3,
        };
        let node_key = key(&format!("{owner}/node"));
        let addrs = vec![addr.to_owned(); count as usize];
        (name, Action::RegisterAuditor { node_key, addrs })
    }

    /// Mostly of a round whose seal may be broken.
    pub(super) fn planted(&mut self) -> (&'static str, Action) {
        let (now, anyhow) = (self.world.now, self.below(4) == 0);
        let may = |round: &Round| round.seal == seal(&SALT, true) && round.is_revealing(now);
        let rounds = self.world.state.rounds_after(None).filter(|(_, round)| anyhow || may(round));
        let rounds: Vec<CommitmentId> = rounds.map(|(id, _)| *id).collect();
        if rounds.is_empty() {
            return self.revelation();
        }
        let commitment = self.pick(&rounds);
        let name = NAMES.into_iter().find(|name| address(name) == commitment.provider);
        let name = name.unwrap_or("poor");
        let salt = if self.below(20) == 0 { Hash32([8; 32]) } else { SALT };
        (self.mostly(name), Action::RevealPlanted { commitment, salt })
    }

    /// Mostly against a round that failed.
    pub(super) fn appeal(&mut self) -> (&'static str, Action) {
        let anyhow = self.below(8) == 0;
        let failed = |outcome| matches!(outcome, AuditOutcome::Fail | AuditOutcome::Missing);
        let rounds = self.world.state.closed_rounds();
        let rounds = rounds.filter(|it| anyhow || failed(it.outcome)).take(6);
        let rounds: Vec<CommitmentId> = rounds.map(|round| round.commitment).collect();
        if rounds.is_empty() || self.below(20) == 0 {
            let name = self.name();
            let commitment = CommitmentId { provider: address(name), sequence: 9_999 };
            return (name, Action::Appeal { commitment });
        }
        let commitment = self.pick(&rounds);
        let name = NAMES.into_iter().find(|name| address(name) == commitment.provider);
        (self.mostly(name.unwrap_or("poor")), Action::Appeal { commitment })
    }

    /// Mostly of who pays on a channel, of an answer of its provider.
    pub(super) fn demand(&mut self) -> (&'static str, Action) {
        let (channel, payer, provider) = self.known_channel();
        let now = self.world.now.0;
        // Few enough that some are demanded twice.
        let ended_at = TimeMs(if self.below(10) == 0 { 0 } else { now - now % DAY_MS });
        let mut statements =
            Statements::of((payer, provider), channel, self.below(3) as u8, ended_at);
        match self.below(20) {
            0 => statements.signer = self.name(),
            1 => statements.report.profile = "free".to_owned(),
            _ => statements.report.model = self.pick(&MODELS),
        }
        (self.mostly(payer), statements.demand())
    }

    /// Mostly of an auditor, about a provider.
    pub(super) fn canary(&mut self) -> (&'static str, Action) {
        let name = if self.below(4) == 0 { self.name() } else { self.pick(&VALIDATORS) };
        let provider = address(self.receiver());
        let ln_e = if self.below(3) == 0 { 30_000 } else { -500 };
        let evidence = Evidence {
            model: self.pick(&MODELS),
            backend: Backend::Metal,
            responses: Responses::of([Hash32([6; 32])]).unwrap(),
            tokens: 64,
            replay: ReplayCounts::default(),
            l1: Some(MilliNats(ln_e)),
            l2: None,
            projections: None,
            identified: None,
        };
        let outcome = if ln_e > 0 { AuditOutcome::Fail } else { AuditOutcome::Pass };
        let verdict = Verdict { outcome, evidence: Some(evidence) };
        (name, Action::ReportCanary { provider, verdict: Box::new(verdict) })
    }

    pub(super) fn verdict(&mut self) -> (&'static str, Action) {
        let is_open = |said: &Said| *said == Said::Nothing;
        let Some((commitment, round, name)) = self.seat(is_open) else {
            let commitment = CommitmentId { provider: address("poor"), sequence: 0 };
            return (self.name(), Action::CommitVerdict { commitment, hash: SALT });
        };
        let name = self.mostly(name);
        let verdict = self.seen(&commitment, &round, name);
        let chain_id = &self.world.genesis.chain_id;
        let hash = verdict_commitment(chain_id, &address(name), &commitment, &SALT.0, &verdict);
        self.verdicts.entry((commitment, name)).or_insert(verdict);
        (name, Action::CommitVerdict { commitment, hash })
    }

    pub(super) fn revelation(&mut self) -> (&'static str, Action) {
        let is_committed = |said: &Said| matches!(said, Said::Committed { .. });
        let Some((commitment, round, name)) = self.seat(is_committed) else {
            return self.verdict();
        };
        let name = self.mostly(name);
        let seen = self.verdicts.get(&(commitment, name)).cloned();
        let mut verdict = match seen {
            Some(seen) if self.below(30) > 0 => seen,
            _ => self.seen(&commitment, &round, name),
        };
        match self.below(40) {
            0 => verdict.outcome = AuditOutcome::Abstained,
            1 => verdict.outcome = AuditOutcome::Fail,
            _ => {}
        }
        (name, Action::RevealVerdict { commitment, verdict: Box::new(verdict), salt: SALT })
    }

    /// A verifier of an open round of whom this holds, mostly one in whose round something can be done.
    fn seat(
        &mut self,
        holds: impl Fn(&Said) -> bool,
    ) -> Option<(CommitmentId, Round, &'static str)> {
        let (now, anyhow) = (self.world.now, self.below(10) == 0);
        let in_time = |round: &Round| anyhow || now <= round.reveal_by;
        let rounds = self.world.state.rounds_after(None).filter(|(_, round)| in_time(round));
        let seats: Vec<(CommitmentId, &'static str)> = rounds
            .flat_map(|(id, round)| round.seats.iter().map(move |seat| (*id, seat)))
            .filter(|(_, seat)| holds(&seat.said))
            .filter_map(|(id, seat)| {
                Some((id, NAMES.into_iter().find(|name| address(name) == seat.verifier)?))
            })
            .collect();
        if seats.is_empty() {
            return None;
        }
        let (id, name) = self.pick(&seats);
        Some((id, self.world.state.round(&id)?.clone(), name))
    }

    /// What there is to see in a round, which nearly everybody sees.
    fn seen(&mut self, id: &CommitmentId, round: &Round, name: &str) -> Verdict {
        let kind =
            if self.below(12) == 0 { self.below(10) } else { id.sequence.wrapping_mul(7) % 10 };
        let backend = if name.len() > 4 { Backend::CpuX86 } else { Backend::Metal };
        let base = Evidence {
            model: round.receipts.model,
            backend,
            responses: Responses::of([Hash32([id.sequence as u8; 32])]).unwrap(),
            tokens: 64,
            replay: ReplayCounts { matched: 64, ..ReplayCounts::default() },
            l1: Some(MilliNats(-500)),
            l2: None,
            projections: None,
            identified: None,
        };
        let cheaper =
            Identified { model: ModelId([4; 32]), worth: Worth::Cheaper, ratio: MilliNats(20_000) };
        let against =
            |ln_e, identified| Evidence { l1: Some(MilliNats(ln_e)), identified, ..base.clone() };
        let (outcome, evidence) = match kind {
            0 => (AuditOutcome::Abstained, None),
            1 => (AuditOutcome::Missing, None),
            2 => (AuditOutcome::Inconclusive, Some(against(9_500, None))),
            3 => (AuditOutcome::Fail, Some(against(14_000, Some(cheaper)))),
            4 | 7 => (AuditOutcome::Fail, Some(against(30_000, None))),
            5 if self.below(2) == 0 => (AuditOutcome::Fail, Some(against(30_000, Some(cheaper)))),
            // About another model.
            6 if self.below(8) == 0 => {
                (AuditOutcome::Pass, Some(Evidence { model: ModelId([9; 32]), ..base }))
            }
            _ => (AuditOutcome::Pass, Some(base)),
        };
        Verdict { outcome, evidence }
    }
}
