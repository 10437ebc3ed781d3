//! What an auditor has said of rounds.

use std::path::Path;

use types::{
    Height, Ppm, PublicKey,
    audit::{Beacon, ReceiptsCommitment},
};
use wire::chain::VerifierView;

use super::*;

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

fn round(us: Address, committed: Option<Hash32>) -> RoundView {
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
