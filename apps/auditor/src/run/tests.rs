//! What an auditor says of rounds that it cannot judge, and has said of others.

use std::path::Path;

use engine::dummy::{DummyEngine, DummyOptions};
use types::{
    Height, Ppm, PublicKey,
    audit::{Beacon, ReceiptsCommitment},
    inference::{FinishReason, Prompt},
};
use verify::{engines::Drawing, leaf::LeafToken};
use wire::chain::VerifierView;

use super::*;
use crate::{answer::Answer, desk::Opened, judge::backend, shelf::Held};

impl Shared {
    /// Of an auditor without models, whose ledger does not answer. The node key is that of a provider of a round.
    pub(crate) fn alone(home: &Path, caller: PublicKey) -> Shared {
        let chain = Arc::new(HttpChain::new("http://127.0.0.1:1").unwrap());
        let operator: Arc<dyn Sign> = Arc::new(keys::SecretKey::from_seed([1; 32]));
        Shared {
            chain_id: "test.1".parse().unwrap(),
            operator: Address::of_key(&operator.public_key()),
            sender: TxSender::new(Arc::clone(&chain) as Arc<dyn Chain>, operator),
            chain,
            shelf: Arc::new(Shelf::new(Vec::new(), None)),
            desk: Mutex::default(),
            arriving: Semaphore::new(ARRIVING_KIB_MAX),
            decoding: Semaphore::new(DECODING_MAX),
            callers: Mutex::new(Callers::of(Address([7; 20]), caller)),
            docket: Docket::open(home).unwrap(),
            fetching: Mutex::new(Fetching { mirror: None, tried: BTreeMap::new(), now: None }),
            tokens_max: 1,
        }
    }
}

const COMMITMENT: CommitmentId = CommitmentId { provider: Address([7; 20]), sequence: 3 };

pub(crate) fn round(us: Address, committed: Option<Hash32>) -> RoundView {
    RoundView {
        commitment: COMMITMENT,
        receipts: ReceiptsCommitment { model: ModelId([1; 32]), root: Hash32([2; 32]), count: 4 },
        height: Height(1),
        beacon: Beacon::default(),
        share: Ppm::ONE,
        opened_at: TimeMs(1_000),
        commit_by: TimeMs(10_000),
        reveal_by: TimeMs(20_000),
        planted: false,
        is_appeal: false,
        demand: None,
        verifiers: vec![VerifierView { verifier: us, committed, outcome: None }],
    }
}

#[test]
fn what_was_said_of_an_earlier_round_of_the_same_commitment_is_not_said_of_this_one() {
    let home = tempfile::tempdir().unwrap();
    let shared = Shared::alone(home.path(), PublicKey([2; 32]));
    let us = shared.operator;
    let report = |at| {
        let verdict = Verdict { outcome: AuditOutcome::Missing, evidence: None };
        let report = blank(&shared, COMMITMENT, verdict).unwrap();
        Report { at: TimeMs(at), ..report }
    };
    let check = |report: &Report, committed, expected| {
        let said = said(&shared, &round(us, committed), report.clone());
        assert_eq!(said.is_some(), expected, "{} {committed:?}", report.at);
    };
    let (old, new) = (report(999), report(1_000));
    check(&old, None, false);
    check(&new, None, true);
    // What was committed to is known by its digest, whatever the clocks say.
    let Report { verdict, salt, .. } = &old;
    let hash = verdict_commitment(&shared.chain_id, &us, &COMMITMENT, &salt.0, verdict);
    check(&old, Some(hash), true);
    check(&new, Some(hash), false);
}

fn opened(tokens: usize) -> Opened {
    let version = "llama.cpp b6730";
    let answer = Answer {
        model: ModelId([1; 32]),
        engine_version: version.to_owned(),
        drawing: Drawing::of(version).unwrap(),
        profile: None,
        prompt: Prompt::Text(String::new()),
        text: Vec::new(),
        tokens: vec![LeafToken::new(1, &[]).unwrap(); tokens],
        stated_tokens: 1,
        finish: FinishReason::Stop,
        tokens_max: None,
        stop: Vec::new(),
    };
    Opened { receipt: Hash32([3; 32]), answer }
}

#[tokio::test]
async fn what_takes_too_long_is_judged_by_nobody() {
    let home = tempfile::tempdir().unwrap();
    // It can score one token.
    let mut shared = Shared::alone(home.path(), PublicKey([2; 32]));
    let engine = Arc::new(DummyEngine::new(DummyOptions::all()).unwrap());
    let held = Held { id: ModelId([1; 32]), bytes: None, engine, backend: backend() };
    shared.shelf = Arc::new(Shelf::new(vec![held], None));
    let (us, later) = (shared.operator, shared.now().plus_ms(600_000));
    let judge = async |tokens, wanted: Vec<u32>, until| {
        *shared.desk() = Desk::default();
        shared.desk().update(&us, TimeMs(1_000), vec![round(us, None)], |_| None);
        shared.desk().told(&COMMITMENT, &us, TimeMs(1_000), wanted);
        shared.desk().take(&COMMITMENT, 0, opened(tokens), 1);
        let judged = judged(&shared, COMMITMENT, until).await;
        judged.map(|report| report.verdict.outcome).ok()
    };
    // An answer that is longer than what is scored, if that is all.
    assert_eq!(judge(2, vec![0], later).await, Some(AuditOutcome::Abstained));
    assert_eq!(judge(2, vec![0, 1], later).await, Some(AuditOutcome::Missing));
    // One that is not: its ledger does not answer, and the time is over before that is known.
    assert_eq!(judge(1, vec![0], later).await, None);
    assert_eq!(judge(1, vec![0], TimeMs(10_000)).await, Some(AuditOutcome::Abstained));
}
