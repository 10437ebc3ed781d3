//! What of our work can be audited, and what of that we have committed to on the ledger. Part of the books: every change
//! is a record of the journal.
//!
//! An answer can be audited if its report names a profile that is, its payer has acknowledged it, and its opening is kept.
//! It is in one batch at most, and a batch is one commitment.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Hash32, ModelId, TimeMs,
    audit::ReceiptsCommitment,
    hash::merkle_root,
    limits,
    receipt::{ServiceReport, report_hash},
    sign::Signed,
};
use verify::profile;

use crate::books::Attempt;

/// Answers in one commitment.
const BATCH_MAX: usize = limits::AUDIT_RECEIPTS_MAX as usize;
/// Answers in one record of the journal, whose length is bounded.
const PART_MAX: usize = 256;

/// An answer in a batch: which, and the digest of its report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Audited {
    pub(crate) attempt: Attempt,
    pub(crate) digest: Hash32,
    pub(crate) ended_at: TimeMs,
}

/// Answers that were committed to together, in the order of the commitment.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct AuditBatch {
    pub(crate) model: ModelId,
    pub(crate) answers: Vec<Audited>,
}

impl AuditBatch {
    pub(crate) fn digests(&self) -> Vec<Hash32> {
        self.answers.iter().map(|answer| answer.digest).collect()
    }

    pub(crate) fn root(&self) -> Hash32 {
        merkle_root(&self.digests())
    }

    /// In pieces that a record of the journal holds.
    pub(crate) fn parts(&self) -> impl Iterator<Item = AuditBatch> {
        let part =
            |answers: &[Audited]| AuditBatch { model: self.model, answers: answers.to_vec() };
        self.answers.chunks(PART_MAX).map(part)
    }

    /// As the ledger is told. `None` if it holds nothing.
    pub(crate) fn commitment(&self) -> Option<ReceiptsCommitment> {
        ReceiptsCommitment::of(self.model, &self.digests())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Open {
    model: ModelId,
    answer: Audited,
    acknowledged: bool,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Audits {
    /// In no batch yet.
    open: BTreeMap<Attempt, Open>,
    /// By the root that the ledger knows them by.
    batches: BTreeMap<Hash32, AuditBatch>,
}

impl Audits {
    pub(crate) fn ended(&mut self, report: &Signed<ServiceReport>) {
        let ServiceReport { request_id, attempt: number, model, ended_at, .. } = report.value;
        if !profile::is_audited(&report.value.profile) {
            return;
        }
        let attempt = Attempt { request_id, number };
        let answer = Audited { attempt, digest: report_hash(report), ended_at };
        self.open.insert(attempt, Open { model, answer, acknowledged: false });
    }

    pub(crate) fn acknowledged(&mut self, attempt: Attempt) {
        if let Some(open) = self.open.get_mut(&attempt) {
            open.acknowledged = true;
        }
    }

    /// The next answers of the batch with this root.
    pub(crate) fn commit(&mut self, root: Hash32, part: AuditBatch) {
        for answer in &part.answers {
            self.open.remove(&answer.attempt);
        }
        let AuditBatch { model, answers } = part;
        let batch = self.batches.entry(root);
        batch.or_insert(AuditBatch { model, answers: Vec::new() }).answers.extend(answers);
    }

    pub(crate) fn uncommit(&mut self, root: Hash32) {
        let Some(AuditBatch { model, answers }) = self.batches.remove(&root) else { return };
        for answer in answers {
            self.open.insert(answer.attempt, Open { model, answer, acknowledged: true });
        }
    }

    /// What to commit to next: of each model the oldest answers that are in no batch, of those that can be opened.
    pub(crate) fn due(&self, can_open: impl Fn(&Audited) -> bool) -> Vec<AuditBatch> {
        let mut by_model: BTreeMap<ModelId, Vec<Audited>> = BTreeMap::new();
        let open = self.open.values();
        for open in open.filter(|open| open.acknowledged && can_open(&open.answer)) {
            by_model.entry(open.model).or_default().push(open.answer);
        }
        let batch = |(model, mut answers): (ModelId, Vec<Audited>)| {
            answers.sort_unstable_by_key(|answer| (answer.ended_at, answer.attempt));
            answers.truncate(BATCH_MAX);
            AuditBatch { model, answers }
        };
        by_model.into_iter().map(batch).collect()
    }

    pub(crate) fn batch(&self, root: &Hash32) -> Option<&AuditBatch> {
        self.batches.get(root)
    }

    /// The one answer that a payer demands to have audited, as a batch of its own: of all that ended, in a batch or not.
    pub(crate) fn demanded(&self, root: &Hash32) -> Option<AuditBatch> {
        let open = self.open.values().map(|open| (open.model, open.answer));
        let batches = self.batches.values();
        let batched =
            batches.flat_map(|batch| batch.answers.iter().map(|answer| (batch.model, *answer)));
        let alone = |(model, answer)| AuditBatch { model, answers: vec![answer] };
        open.chain(batched).map(alone).find(|batch| batch.root() == *root)
    }

    /// Whether there is anything that a round may ask for.
    pub(crate) fn has_any(&self) -> bool {
        !self.batches.is_empty() || !self.open.is_empty()
    }

    /// Forgets answers whose openings are not kept any more, and batches of nothing else.
    pub(crate) fn forget_before(&mut self, since: TimeMs) {
        self.open.retain(|_, open| open.answer.ended_at >= since);
        self.batches.retain(|_, batch| batch.answers.iter().any(|answer| answer.ended_at >= since));
    }
}

#[cfg(test)]
mod tests {
    use keys::SecretKey;
    use types::{
        Address, ChainId, ChannelId, Lane, Nusd, RequestId,
        inference::{CountMethod, FinishReason},
        price::Price,
    };

    use super::*;
    use crate::record::Record;

    fn attempt(number: u16) -> Attempt {
        Attempt { request_id: RequestId([3; 16]), number }
    }

    fn report(number: u16, model: u8, profile: &str) -> Signed<ServiceReport> {
        let chain_id: ChainId = "test.1".parse().unwrap();
        let nothing = Nusd::ZERO;
        let report = ServiceReport {
            request_id: attempt(number).request_id,
            attempt: number,
            provider: Address([0; 20]),
            model: ModelId([model; 32]),
            engine_version: "dummy 1".to_owned(),
            profile: profile.to_owned(),
            seed: None,
            prompt_hash: Hash32::default(),
            response_hash: Hash32::default(),
            transcript_root: Hash32::default(),
            prompt_tokens: 1,
            completion_tokens: 1,
            counted: CountMethod::TokenIds,
            price: Price {
                request_nusd: nothing,
                prompt_nusd_per_mtok: nothing,
                completion_nusd_per_mtok: nothing,
            },
            channel: ChannelId([1; 32]),
            lane: Lane(0),
            lane_total_before: nothing,
            lane_total: nothing,
            finish: FinishReason::Stop,
            started_at: TimeMs(0),
            ended_at: TimeMs(1_000 - u64::from(number)),
        };
        Signed::new(report, &chain_id, &SecretKey::from_seed([5; 32]))
    }

    fn numbers(batch: &AuditBatch) -> Vec<u16> {
        batch.answers.iter().map(|answer| answer.attempt.number).collect()
    }

    #[test]
    fn what_can_be_audited_is_committed_to_once_by_model_and_oldest_first() {
        let mut audits = Audits::default();
        for (number, model, profile) in
            [(1, 7, "np1"), (2, 7, "np1-l1"), (3, 8, "np1"), (4, 7, "free"), (5, 7, "np1")]
        {
            audits.ended(&report(number, model, profile));
        }
        // The fifth is not acknowledged.
        for number in 1..=4 {
            audits.acknowledged(attempt(number));
        }
        let due = audits.due(|_| true);
        let [first, second] = due.as_slice() else { panic!("{due:?}") };
        assert_eq!((first.model, numbers(first)), (ModelId([7; 32]), vec![2, 1]));
        assert_eq!((second.model, numbers(second)), (ModelId([8; 32]), vec![3]));
        let root = first.root();
        assert_eq!(first.commitment().unwrap().root, root);
        audits.commit(root, first.clone());
        audits.commit(second.root(), second.clone());
        assert!(audits.due(|_| true).is_empty());
        assert_eq!(audits.batch(&root), Some(first));
        audits.uncommit(root);
        assert_eq!(
            audits.due(|_| true),
            std::slice::from_ref(first),
            "a commitment that failed is made again"
        );
    }

    #[test]
    fn whatever_ended_can_be_demanded() {
        let mut audits = Audits::default();
        for number in [1, 2, 3] {
            audits.ended(&report(number, 7, "np1"));
        }
        // Its payer need not have told us that it acknowledges it.
        audits.acknowledged(attempt(2));
        let alone = |number| merkle_root(&[report_hash(&report(number, 7, "np1"))]);
        let batch = audits.due(|_| true)[0].clone();
        audits.commit(batch.root(), batch);
        for number in [1, 2] {
            let batch = audits.demanded(&alone(number)).unwrap();
            assert_eq!((batch.model, numbers(&batch)), (ModelId([7; 32]), vec![number]));
            assert_eq!(batch.root(), alone(number));
        }
        assert_eq!(audits.demanded(&alone(4)), None);
    }

    #[test]
    fn a_batch_of_several_records_is_one() {
        let mut audits = Audits::default();
        for number in 0..600 {
            audits.ended(&report(number, 7, "np1"));
            audits.acknowledged(attempt(number));
        }
        let batch = audits.due(|_| true)[0].clone();
        let root = batch.root();
        for part in batch.parts() {
            assert!(Record::Committing { root, part: part.clone() }.encode().len() < 16 * 1024);
            audits.commit(root, part);
        }
        assert_eq!(audits.batch(&root), Some(&batch));
        assert!(audits.due(|_| true).is_empty());
    }

    #[test]
    fn what_is_not_kept_any_more_is_not_committed_to() {
        let mut audits = Audits::default();
        for number in [1, 2] {
            audits.ended(&report(number, 7, "np1"));
            audits.acknowledged(attempt(number));
        }
        audits.forget_before(TimeMs(999));
        assert_eq!(numbers(&audits.due(|_| true)[0]), [1]);
        // Nor is what was never kept, such as an answer without a token.
        assert!(audits.due(|_| false).is_empty());
        let batch = audits.due(|_| true)[0].clone();
        audits.commit(batch.root(), batch);
        assert!(audits.has_any());
        audits.forget_before(TimeMs(1_000));
        assert!(!audits.has_any());
    }
}
