//! What is kept of audits: reading it, and writing it together with its indexes.

use std::collections::BTreeMap;

use types::{
    Address, ModelId, Ppm, TimeMs,
    audit::{
        Backend, Beacon, Calibration, Commitment, CommitmentId, ModelStanding, Round, Standing,
        VerifierRecord,
    },
};

use crate::{error::TxError, state::State};

/// Commitments of a provider that wait, the oldest first.
pub(crate) fn own_commitments(
    state: &State,
    provider: Address,
) -> impl Iterator<Item = (&CommitmentId, &Commitment)> {
    state
        .commitments
        .iter_from(CommitmentId { provider, sequence: 0 })
        .take_while(move |(id, _)| id.provider == provider)
}

/// The higher mean of two validators each: nobody is suspected for what another kind of machine measured.
fn highest(one: Calibration, other: Calibration) -> Calibration {
    Calibration {
        l1: one.l1.max(other.l1),
        l2: one.l2.max(other.l2),
        projections: one.projections.max(other.projections),
        tokens: one.tokens.saturating_add(other.tokens),
    }
}

impl State {
    /// The newest one.
    pub fn beacon(&self) -> &Beacon {
        self.beacon.get()
    }

    /// Commitments that wait for their beacon.
    pub fn commitments(&self) -> impl Iterator<Item = (&CommitmentId, &Commitment)> {
        self.commitments.iter()
    }

    /// Those of one provider.
    pub fn commitments_of(
        &self,
        provider: Address,
    ) -> impl Iterator<Item = (&CommitmentId, &Commitment)> {
        own_commitments(self, provider)
    }

    /// Commitments that are being audited, after `after`, in the order of their ids.
    pub fn rounds_after(
        &self,
        after: Option<CommitmentId>,
    ) -> impl Iterator<Item = (&CommitmentId, &Round)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.rounds.range((after.map_or(Unbounded, Excluded), Unbounded))
    }

    pub fn round(&self, id: &CommitmentId) -> Option<&Round> {
        self.rounds.get(id)
    }

    /// Commitments of one provider that are being audited, the oldest first.
    pub fn own_rounds(&self, provider: Address) -> impl Iterator<Item = (&CommitmentId, &Round)> {
        self.rounds
            .iter_from(CommitmentId { provider, sequence: 0 })
            .take_while(move |(id, _)| id.provider == provider)
    }

    /// How a provider stands; as a stranger does if it was never audited.
    pub fn standing(&self, provider: &Address) -> Standing {
        self.standings.get(provider).copied().unwrap_or_default()
    }

    /// How a provider stands with its models, by model.
    pub fn model_standings_of(
        &self,
        provider: Address,
    ) -> impl Iterator<Item = (ModelId, &ModelStanding)> {
        self.model_standings
            .iter_from((provider, ModelId([0; 32])))
            .take_while(move |((whose, _), _)| *whose == provider)
            .map(|((_, model), standing)| (*model, standing))
    }

    /// What one validator published.
    pub fn calibrations_of(
        &self,
        validator: Address,
    ) -> impl Iterator<Item = (ModelId, Backend, &Calibration)> {
        self.calibrations
            .iter_from((validator, ModelId([0; 32]), Backend::CpuX86))
            .take_while(move |((whose, ..), _)| *whose == validator)
            .map(|((_, model, backend), calibration)| (*model, *backend, calibration))
    }

    /// The honest means in force: the highest ones that validators with a seat published.
    pub fn calibration(&self, model: &ModelId, backend: Backend) -> Option<Calibration> {
        let published = self.active.iter().filter_map(|(_, seat)| {
            self.calibrations.get(&(seat.operator, *model, backend)).copied()
        });
        published.reduce(highest)
    }

    /// All honest means in force, by model and kind of machine.
    pub fn calibrations_in_force(&self) -> BTreeMap<(ModelId, Backend), Calibration> {
        let mut means: BTreeMap<(ModelId, Backend), Calibration> = BTreeMap::new();
        for (_, seat) in self.active.iter() {
            for (model, backend, published) in self.calibrations_of(seat.operator) {
                let all = means.get(&(model, backend)).map(|known| highest(*known, *published));
                means.insert((model, backend), all.unwrap_or(*published));
            }
        }
        means
    }

    /// Providers and models that gateways do not choose at `time`: whether quality is why, and until when it is
    /// delisted.
    pub fn exclusions(
        &self,
        time: TimeMs,
    ) -> impl Iterator<Item = ((Address, ModelId), (bool, Option<TimeMs>))> {
        self.model_standings.iter().filter_map(move |(key, standing)| {
            let delisted_until = standing.delisted_until.filter(|until| *until > time);
            let excluded = standing.suspended || delisted_until.is_some();
            excluded.then_some((*key, (standing.suspended, delisted_until)))
        })
    }

    /// What a validator did as a verifier.
    pub fn verifier_record(&self, validator: &Address) -> VerifierRecord {
        self.verifiers.get(validator).copied().unwrap_or_default()
    }

    /// Evidence from before this is too old to have consequences.
    pub(crate) fn oldest_evidence(&self, time: TimeMs) -> TimeMs {
        TimeMs(time.0.saturating_sub(self.params().slashing.evidence_age_ms))
    }

    /// The share of a provider's receipts that is audited now.
    pub fn audit_share(&self, provider: &Address, time: TimeMs) -> Ppm {
        let (standing, params) = (self.standing(provider), &self.params().audits);
        if standing.escalated_until.is_some_and(|until| until > time) {
            return Ppm::ONE;
        }
        let halvings = standing.passes.checked_div(params.halving_passes).unwrap_or(0);
        let share = params.share_max.get().checked_shr(halvings).unwrap_or(0);
        Ppm::new(share).unwrap_or_default().max(params.share_min)
    }

    /// When there is a round to open or to close.
    pub(crate) fn next_audit_at(&self) -> Option<TimeMs> {
        let closes = self.closing.first().map(|((time, _), ())| *time);
        if self.next_ripe().is_some() { Some(TimeMs(0)) } else { closes }
    }

    /// The oldest commitment whose beacon is there.
    pub(crate) fn next_ripe(&self) -> Option<CommitmentId> {
        let (&(period, id), ()) = self.ripening.first()?;
        let beacon = self.beacon.get();
        (beacon.reveals > 0 && period < beacon.period).then_some(id)
    }

    pub(crate) fn known_round(&self, commitment: CommitmentId) -> Result<Round, TxError> {
        self.rounds.get(&commitment).cloned().ok_or(TxError::RoundUnknown { commitment })
    }

    pub(crate) fn put_commitment(&mut self, id: CommitmentId, after: Option<Commitment>) {
        if let Some(before) = self.commitments.get(&id) {
            self.ripening.remove(&(before.period, id));
        }
        match after {
            Some(after) => {
                self.ripening.insert((after.period, id), ());
                self.commitments.insert(id, after);
            }
            None => self.commitments.remove(&id),
        }
    }

    pub(crate) fn put_round(&mut self, id: CommitmentId, after: Option<Round>) {
        if let Some(before) = self.rounds.get(&id) {
            self.closing.remove(&(before.closes_at, id));
        }
        match after {
            Some(after) => {
                self.closing.insert((after.closes_at, id), ());
                self.rounds.insert(id, after);
            }
            None => self.rounds.remove(&id),
        }
    }
}
