//! Strangers at the door, in a network in memory.

use net::{Limits, memory::MemoryNet};
use types::audit::CommitmentId;
use wire::{
    audit::{TO_PROVIDER_FRAME_BYTES_MAX, ToAuditor, ToProvider},
    frame,
};

use super::*;
use crate::{desk::Extent, run::tests::round};

const AUDITOR: PublicKey = PublicKey([1; 32]);
const PROVIDER: PublicKey = PublicKey([2; 32]);

/// What is answered to a first message, and whether the connection stays.
async fn asked(connection: &SharedConnection, chain_id: &str) -> Option<ToProvider> {
    let (mut send, mut receive) = connection.open().await.unwrap();
    let commitment = CommitmentId { provider: Address([7; 20]), sequence: 1 };
    let chain_id = chain_id.parse().unwrap();
    let first = ToAuditor::Committed { chain_id, commitment, digests: Vec::new() };
    frame::write(&mut send, &first).await.unwrap();
    frame::read(&mut receive, TO_PROVIDER_FRAME_BYTES_MAX).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn strangers_are_sent_away_and_a_provider_is_heard() {
    let home = tempfile::tempdir().unwrap();
    let net = MemoryNet::new();
    let endpoint = net.endpoint(AUDITOR, Limits::default());
    let shared = Arc::new(Shared::alone(home.path(), PROVIDER));
    let door = tokio::spawn(run(shared, Arc::clone(&endpoint)));
    let mut idle = Vec::new();
    for stranger in 0..2 * PROVIDERS_MAX {
        let key = PublicKey([u8::try_from(stranger + 10).unwrap(); 32]);
        let stranger = net.endpoint(key, Limits::default());
        let connection = stranger.dial(AUDITOR, &[]).await.unwrap();
        // It says nothing.
        tokio::time::timeout(Duration::from_secs(1), connection.closed()).await.unwrap();
        idle.push((stranger, connection));
    }
    let provider = net.endpoint(PROVIDER, Limits::default());
    let first = provider.dial(AUDITOR, &[]).await.unwrap();
    let refused = asked(&first, "test.1").await;
    assert!(matches!(refused, Some(ToProvider::Refused { .. })), "{refused:?}");
    // The round may become known, so it is not sent away at once. A new connection takes the place of an old one.
    let second = provider.dial(AUDITOR, &[]).await.unwrap();
    assert!(asked(&second, "test.1").await.is_some());
    first.closed().await;
    // Who is wrong here goes.
    assert!(asked(&second, "another.1").await.is_some());
    second.closed().await;
    endpoint.close().await;
    door.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_has_to_wait_is_not_blamed_for_it() {
    let home = tempfile::tempdir().unwrap();
    let net = MemoryNet::new();
    let endpoint = net.endpoint(AUDITOR, Limits::default());
    let shared = Shared::alone(home.path(), PROVIDER);
    let (us, provider) = (shared.operator, Address([7; 20]));
    let round = round(us, None);
    let (id, now) = (round.commitment, round.opened_at);
    shared.desk().update(&us, now, vec![round], |_| None);
    let dialling = net.endpoint(PROVIDER, Limits::default());
    let dialled = dialling.dial(AUDITOR, &[]).await.unwrap();
    let connection = endpoint.accept().await.unwrap();
    let extent = || shared.desk().case(&id).unwrap().extent();
    let turns = Arc::new(Semaphore::new(1));
    let first = turn(&shared, &[provider], Arc::clone(&turns), &connection).await;
    assert_eq!((first.is_some(), extent()), (true, Extent::Partial));
    // It is gone before there is one.
    dialled.close("gone");
    assert!(turn(&shared, &[provider], turns, &connection).await.is_none());
    assert_eq!(extent(), Extent::Excused);
}
