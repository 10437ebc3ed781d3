//! A node that begins with a snapshot of a validator, over a carrier that can lie.

use std::{collections::BTreeMap, time::Instant};

use replica::{
    PeerCommand, PeerEvent, PeerLinks, PeerMessage, PeerSaid, ReplicaError, StateSync, Trusted,
};
use types::{Hash32, PublicKey};

use super::*;

/// Before the honest one in the order of keys, so that it is asked first.
const LIAR: PublicKey = PublicKey([1; 32]);
const HONEST: PublicKey = PublicKey([2; 32]);

/// A clock that goes five times as fast as ours.
#[derive(Debug)]
struct QuickClock(Instant);

impl Clock for QuickClock {
    fn now(&self) -> TimeMs {
        TimeMs(10_000 + 5 * u64::try_from(self.0.elapsed().as_millis()).unwrap())
    }
}

/// What a liar makes of an answer.
type Lie = fn(&mut PeerMessage);

/// A validator with some blocks and the links to it.
async fn validator(blocks: u64) -> (Running, PeerLinks, Home) {
    let home = Home::new();
    let (replica, links, task) = home.start(Some(1), home.config()).await;
    for nonce in 0..blocks {
        count(&replica, 1, nonce).await;
    }
    ((replica, task), links, home)
}

impl Home {
    /// Starts with this validator's key, or as a node that follows.
    async fn start(
        &self,
        validator: Option<u8>,
        config: ReplicaConfig,
    ) -> (Replica<Counter>, PeerLinks, ReplicaTask) {
        let store = self.store().unwrap();
        let mut app = Counter::new(&[(1, GENESIS_POWER)]);
        let recovered = recover(&mut app, &store).unwrap();
        let signing = validator.map(|number| -> (Arc<dyn Sign>, Arc<Mark>) {
            let mark = Mark::open(&self.folder.path().join("consensus.mark")).unwrap();
            (Arc::new(validator_key(number)), Arc::new(mark))
        });
        // Its time is not what these tests are about.
        let clock = Arc::new(QuickClock(Instant::now()));
        let parts = ReplicaParts { app, recovered, store, signing, clock, config, evidence: None };
        start(parts).await.unwrap()
    }
}

/// Carries messages between a validator and a node that sees it twice: as it is, and with what `lie`
/// makes of its answers. Gives back whom the node dropped.
async fn carry(
    mut validator: PeerLinks,
    mut node: PeerLinks,
    lie: Lie,
) -> BTreeMap<PublicKey, String> {
    let mut dropped = BTreeMap::new();
    for peer in [LIAR, HONEST] {
        for links in [&validator, &node] {
            links.events.send(PeerEvent { peer, said: PeerSaid::Connected }).await.unwrap();
        }
    }
    loop {
        let (to, command, lies) = tokio::select! {
            Some(command) = validator.commands.recv() => (&node, command, true),
            Some(command) = node.commands.recv() => (&validator, command, false),
            else => return dropped,
        };
        match command {
            PeerCommand::Send { peer, mut message } => {
                if lies && peer == LIAR {
                    lie(&mut message);
                }
                let said = PeerSaid::Message(message);
                if to.events.send(PeerEvent { peer, said }).await.is_err() {
                    return dropped;
                }
            }
            PeerCommand::Drop { peer, why } | PeerCommand::Close { peer, why } => {
                dropped.insert(peer, why);
            }
        }
    }
}

/// A node that begins beside an honest validator and a liar has the validator's state, no block of
/// before, and dropped whom it should.
async fn begins_beside(lie: Lie) -> Option<String> {
    let ((validator, validator_task), links, _validator_home) = validator(9).await;
    let home = Home::new();
    let config = ReplicaConfig { state_sync: Some(StateSync { trusted: None }), ..home.config() };
    let (node, node_links, node_task) = home.start(None, config).await;
    // In time for the moment at which a snapshot is chosen.
    let carried = tokio::spawn(carry(links, node_links, lie));
    let mut status = node.watch();
    let tip = status.wait_for(|status| status.tip.height.0 > 0).await.unwrap().tip;
    assert_eq!(tip.height, Height(8));
    node_task.shutdown().await.unwrap();
    validator_task.shutdown().await.unwrap();
    drop((node, validator, status));
    let mut dropped = carried.await.unwrap();
    assert_eq!(dropped.get(&HONEST), None);

    // A restart begins where it came to.
    let store = home.store().unwrap();
    let mut app = Counter::new(&[(1, GENESIS_POWER)]);
    let recovered = recover(&mut app, &store).unwrap();
    assert_eq!((app.tip(), recovered.snapshot, recovered.blocks_replayed), (tip, Height(8), 0));
    assert_eq!(recovered.parent.app_hash, Some(tip.app_hash));
    assert_eq!((store.first_height().unwrap(), store.block(Height(8)).unwrap()), (Height(9), None));
    dropped.remove(&LIAR)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_begins_with_the_snapshot_of_a_validator() {
    assert_eq!(begins_beside(|_| {}).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_a_forged_header_is_dropped() {
    let dropped = begins_beside(|message| {
        if let PeerMessage::Header { block: Some(block), .. } = message {
            block.header.app_hash = Hash32([7; 32]);
        }
    });
    assert!(dropped.await.unwrap().contains("proves nothing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_header_or_chunk_is_passed_over() {
    let dropped = begins_beside(|message| match message {
        PeerMessage::Header { block, .. } => *block = None,
        PeerMessage::Chunk { bytes, .. } => *bytes = None,
        _ => {}
    });
    assert_eq!(dropped.await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_another_chunk_than_it_offered_is_dropped() {
    let dropped = begins_beside(|message| {
        if let PeerMessage::Chunk { bytes: Some(bytes), .. } = message {
            bytes[0] ^= 1;
        }
    });
    assert!(dropped.await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_offers_another_state_than_the_validators_signed_is_dropped() {
    let dropped = begins_beside(|message| match message {
        PeerMessage::Snapshot(manifest) => {
            let (bytes, height) = (other_state(), manifest.height);
            // Offered by one, as the other is: of two at one height either may be tried.
            *manifest = replication::sync::Manifest::of(height, &bytes, 512 * 1024);
        }
        PeerMessage::Chunk { bytes, .. } => *bytes = Some(other_state()),
        _ => {}
    });
    // Whichever was tried first, the state is the right one; a liar that was asked is dropped.
    drop(dropped.await);
}

/// A state that nobody agreed on.
fn other_state() -> Vec<u8> {
    let mut app = Counter::new(&[(1, GENESIS_POWER)]);
    app.lies = true;
    app.snapshot().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_block_that_no_peer_has_ends_the_search_with_an_error() {
    let ((_validator, _validator_task), links, _validator_home) = validator(5).await;
    let home = Home::new();
    let trusted = Some(Trusted { height: Height(2), header: Hash32([9; 32]) });
    let config = ReplicaConfig { state_sync: Some(StateSync { trusted }), ..home.config() };
    let (node, node_links, mut task) = home.start(None, config).await;
    let carried = tokio::spawn(carry(links, node_links, |_| {}));
    let stopped = task.stopped().await;
    assert!(matches!(stopped, Err(ReplicaError::NoSnapshot { height: Height(2) })), "{stopped:?}");
    assert_eq!(node.status().tip.height, Height(0));
    carried.abort();
}
