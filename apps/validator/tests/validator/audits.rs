//! Audits over the real API: what is kept of a provider, from its commitment to the round and what came of it.

use std::sync::Arc;

use types::{
    Hash32, ModelId, PublicKey, Watt,
    audit::{
        AuditOutcome, Backend, Calibration, CommitmentId, ReceiptsCommitment, Round, Sanction,
        Verdict, VerifierRecord, verdict_commitment,
    },
    stake::{CommissionTerms, price_commitment},
    state::{ProviderProfile, StateKey},
    tx::Action,
};
use wire::chain::{AuditorView, Chain, HttpChain};

use crate::network::{CONSENSUS, Home, genesis, key, sender};

const MODEL: ModelId = ModelId([1; 32]);

/// The only validator has stake and no WATT to pay fees with; it receives some.
async fn fund(chain: &Arc<HttpChain>) {
    let pay = Action::Transfer { to: key(CONSENSUS).address(), amount: Watt::whole(10) };
    sender(chain, 11).send(pay).await.unwrap();
}

#[tokio::test]
async fn an_audit_is_read_from_its_commitment_to_its_end() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    fund(&chain).await;
    let (provider, auditor) = (sender(&chain, 10), sender(&chain, CONSENSUS));
    let profile = ProviderProfile {
        moniker: "desk".to_owned(),
        models: vec![MODEL],
        ..ProviderProfile::default()
    };
    let register = Action::RegisterProvider {
        node_key: PublicKey([9; 32]),
        profile,
        commission: Some(CommissionTerms::ALL),
        bond: Watt::ZERO,
    };
    provider.send(register).await.unwrap();
    let means = Calibration {
        l1: types::Ppm::ONE_PERCENT,
        l2: types::Ppm::ONE_PERCENT,
        projections: None,
        tokens: 7,
    };
    for backend in [Backend::Rocm, Backend::CpuX86] {
        let publish = Action::PublishCalibration { model: MODEL, backend, calibration: means };
        auditor.send(publish).await.unwrap();
    }
    let (operator, node_key) = (key(CONSENSUS).address(), PublicKey([8; 32]));
    let addrs = vec!["127.0.0.1:4434".to_owned()];
    assert_eq!(chain.auditor(operator).await.unwrap(), None);
    let register = Action::RegisterAuditor { node_key, addrs: addrs.clone() };
    auditor.send(register).await.unwrap();
    let view = AuditorView { operator, node_key, addrs, record: Some(VerifierRecord::default()) };
    assert_eq!(chain.auditor(operator).await.unwrap(), Some(view.clone()));
    assert_eq!(chain.auditors().await.unwrap(), [view]);
    let proof = chain.prove(StateKey::Auditor { operator }).await.unwrap();
    assert!(proof.entry().unwrap().is_some());
    let published = chain.calibrations().await.unwrap();
    let backends: Vec<Backend> = published.iter().map(|it| it.backend).collect();
    assert_eq!(backends, [Backend::CpuX86, Backend::Rocm]);

    let address = key(10).address();
    let stranger = chain.audits_of(address).await.unwrap();
    assert_eq!((stranger.share.get(), stranger.reputation.get()), (200_000, 500_000));
    let receipts = ReceiptsCommitment::of(MODEL, &[Hash32([1; 32])]).unwrap();
    provider.send(Action::CommitReceipts { receipts, seal: Hash32([6; 32]) }).await.unwrap();
    let waiting = chain.audits_of(address).await.unwrap().waiting;
    let commitment = CommitmentId { provider: address, sequence: 1 };
    assert_eq!(waiting.iter().map(|it| it.commitment).collect::<Vec<_>>(), [commitment]);
    assert_eq!(chain.open_rounds().await.unwrap(), []);
    assert_eq!(chain.round(commitment).await.unwrap(), None);
    assert_eq!(chain.beacon().await.unwrap().reveals, 0);

    // A vote makes the beacon.
    let (salt, price) = (Hash32([5; 32]), chain.status().await.unwrap().nusd_per_watt);
    let vote = price_commitment(&genesis().chain_id, &operator, &salt.0, price);
    let period_ms = genesis().params.oracle.period_ms;
    home.clock.advance(period_ms);
    auditor.send(Action::CommitPrice { commitment: vote }).await.unwrap();
    home.clock.advance(period_ms);
    auditor.send(Action::RevealPrice { nusd_per_watt: price, salt }).await.unwrap();
    home.clock.advance(period_ms);
    let verdict = Verdict { outcome: AuditOutcome::Abstained, evidence: None };
    let hash = verdict_commitment(&genesis().chain_id, &operator, &commitment, &salt.0, &verdict);
    auditor.send(Action::CommitVerdict { commitment, hash }).await.unwrap();
    let beacon = chain.beacon().await.unwrap();
    assert!(beacon.is_weak() && beacon.reveals == 1);
    let [round] = &chain.open_rounds().await.unwrap()[..] else { panic!("one round") };
    assert_eq!((round.commitment, round.beacon), (commitment, beacon));
    assert_eq!(round.verifiers[0].committed, Some(hash));
    assert!(round.is_revealing(round.opened_at));
    assert_eq!(chain.round(commitment).await.unwrap().as_ref(), Some(round));
    let proof = chain.prove(StateKey::Round { commitment }).await.unwrap();
    let bytes = proof.entry().unwrap().unwrap();
    let proven: Round = borsh::from_slice(&bytes).unwrap();
    assert_eq!(proven.seats[0].verifier, operator);

    let verdict = Box::new(verdict);
    auditor.send(Action::RevealVerdict { commitment, verdict, salt }).await.unwrap();
    // It stays open for as long as a seal may be broken.
    assert_eq!(chain.open_rounds().await.unwrap().len(), 1);
    home.clock.advance(genesis().params.audits.seal_ms);
    provider.send(Action::Heartbeat).await.unwrap();
    let audits = chain.audits(None, 10).await.unwrap();
    assert_eq!((audits.open.len(), audits.closed.len()), (0, 1));
    assert_eq!(audits.closed, chain.audits_of(address).await.unwrap().closed);
    let said = [(operator, Some(AuditOutcome::Abstained))];
    assert_eq!(audits.closed[0].verdicts, said);
    assert_eq!(audits.closed[0].sanction, Sanction::None);
    assert_eq!(chain.exclusions().await.unwrap(), []);
    validator.shutdown().await.unwrap();
}
