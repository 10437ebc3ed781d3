//! Validators in one process, each with the real engine, over loopback: one that computes another
//! state, one that gives away blocks with forged certificates, old copies, and a set that changes.

use std::net::SocketAddr;

use replica::{
    Peer, PeerCommand, PeerEvent, PeerLinks, PeerMessage, PeerMessage::HeaderWanted, PeerSaid,
};
use store::{Append, StoredBlock};
use types::{
    Hash32, Signature,
    consensus::{Certificate, CommitSignature},
};

use super::*;

/// A running validator of a network, and what must live as long.
struct Member {
    replica: Replica<Counter>,
    task: ReplicaTask,
    _home: Home,
    links: PeerLinks,
}

/// Ports that were free a moment ago.
fn addrs(count: usize) -> Vec<SocketAddr> {
    let held: Vec<_> =
        (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

fn node_key(number: u8) -> keys::SecretKey {
    keys::SecretKey::from_seed([100 + number; 32])
}

impl Member {
    /// Starts the validator with this number of a network at these addresses.
    async fn start(number: u8, home: Home, addrs: &[SocketAddr], lies: bool) -> Member {
        let store = home.store().unwrap();
        Member::start_from(number, (home, Arc::clone(&store)), store, addrs, lies).await
    }

    /// The same with the state of one store, and the blocks of another for whoever asks.
    async fn start_from(
        number: u8,
        (home, own): (Home, Arc<BlockStore>),
        store: Arc<BlockStore>,
        addrs: &[SocketAddr],
        lies: bool,
    ) -> Member {
        let peer = |(other, addr): (u8, &SocketAddr)| Peer {
            node_key: node_key(other).public_key(),
            addr: *addr,
        };
        let others = (1u8..).zip(addrs).filter(|(other, _)| *other != number);
        let mut config = home.config();
        config.engine.listen = addrs[usize::from(number) - 1];
        config.engine.peers = others.map(peer).collect();
        config.engine.node_seed = node_key(number).seed();
        config.engine.timeouts.propose = Duration::from_secs(1);
        let mut app = Counter::new(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
        app.lies = lies;
        let recovered = recover(&mut app, &own).unwrap();
        let mark = Mark::open(&home.folder.path().join("consensus.mark")).unwrap();
        let key: Arc<dyn Sign> = Arc::new(validator_key(number));
        let (signing, clock) = (Some((key, Arc::new(mark))), ManualClock::at(1_000));
        let parts = ReplicaParts { app, recovered, store, signing, clock, config, evidence: None };
        let (replica, links, task) = start(parts).await.unwrap();
        Member { replica, task, _home: home, links }
    }

    async fn stop(self) -> Home {
        self.task.shutdown().await.unwrap();
        self._home
    }
}

/// Starts validators 1 to 4 with equal powers; `liar` computes another state than the others.
async fn network(liar: Option<u8>) -> (Vec<Member>, Vec<SocketAddr>) {
    let addrs = addrs(4);
    let mut members = Vec::new();
    for number in 1u8..=4 {
        let lies = liar == Some(number);
        members.push(Member::start(number, Home::new(), &addrs, lies).await);
    }
    (members, addrs)
}

async fn reach(member: &Member, height: u64) -> Tip {
    let mut status = member.replica.watch();
    status.wait_for(|status| status.tip.height.0 >= height).await.unwrap().tip
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_with_another_state_is_outvoted() {
    let (members, _) = network(Some(4)).await;
    for nonce in 0..6 {
        count(&members[0].replica, 1, nonce).await;
    }
    let height = members[0].replica.status().tip.height.0;
    let tips = [reach(&members[1], height).await, reach(&members[2], height).await];
    assert!(tips.iter().all(|tip| tip.app_hash == tips[0].app_hash));
    // It accepts none of their blocks, and they none of its.
    assert_eq!(members[3].replica.status().tip.height, Height(0));
    for member in members {
        member.task.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_a_block_changes_decides_the_very_next_one() {
    let (members, _) = network(None).await;
    // Validator 4 loses its power, 1 gets most of it.
    let lose = Tx { sender: 4, nonce: 0, kind: Kind::SetsPower, arg: 0 }.bytes();
    members[1].replica.submit(lose).await.unwrap();
    let gain = Tx { sender: 1, nonce: 0, kind: Kind::SetsPower, arg: 10 }.bytes();
    let height = members[1].replica.submit(gain).await.unwrap().height.0;
    let next = count(&members[0].replica, 9, 0).await.height;
    let store = members[0]._home.disk.clone();
    for member in &members {
        // Validator 4 follows.
        reach(member, next.0).await;
    }
    for member in members {
        member.task.shutdown().await.unwrap();
    }
    let store = BlockStore::open_on(store, Path::new("disk"), &genesis(GENESIS_POWER)).unwrap();
    let header = |at: u64| store.block(Height(at)).unwrap().unwrap().header;
    let powers = |at: u64| store.validators(header(at).validators).unwrap().unwrap().total();
    assert_eq!(header(height).next_validators, header(height + 1).validators);
    assert_eq!((powers(1), powers(next.0)), (4, 12));
}

/// How many signatures the certificate has that the newest block of a home carries.
fn carried(home: &Home) -> usize {
    let block = home.store().unwrap().tip().unwrap().unwrap();
    block.last_certificate.unwrap().signatures.len()
}

/// Blocks and log of a validator are restored from a backup, its mark is not; perhaps the log is lost.
async fn restores_an_old_copy(with_log: bool) {
    let (mut members, addrs) = network(None).await;
    for nonce in 0..3 {
        count(&members[0].replica, 1, nonce).await;
    }
    let fourth = members.pop().unwrap();
    reach(&fourth, 3).await;
    let home = fourth.stop().await;
    let old = home.after(Crash::KeepsUnsynced);
    members.push(Member::start(4, home, &addrs, false).await);
    for nonce in 3..8 {
        count(&members[0].replica, 1, nonce).await;
    }
    let fourth = members.pop().unwrap();
    reach(&fourth, 8).await;
    let home = fourth.stop().await;
    // Blocks and log are those of a backup, the mark is not.
    let file = |home: &Home, name: &str| home.folder.path().join(name);
    std::fs::copy(file(&home, "consensus.mark"), file(&old, "consensus.mark")).unwrap();
    if !with_log {
        std::fs::remove_file(file(&old, "consensus.wal")).unwrap();
    }
    drop(home);
    members.push(Member::start(4, old, &addrs, false).await);
    let mut status = members[3].replica.watch();
    let caught_up = status.wait_for(|status| status.tip.height.0 >= 8).await.unwrap().tip;
    assert!(caught_up.height.0 >= 8);
    drop(status);
    // Without another one its vote is needed.
    let first = members.remove(0).stop().await;
    for nonce in 8..11 {
        count(&members[0].replica, 1, nonce).await;
    }
    reach(&members[2], 11).await;
    for member in members {
        let home = member.stop().await;
        assert!(carried(&home) >= 3);
    }
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_beside_a_current_mark_follows_until_it_may_sign_again() {
    restores_an_old_copy(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_without_its_log_does_so_too() {
    restores_an_old_copy(false).await;
}

/// Carries what validators 1 and 4 tell each other.
async fn carry(mut one: PeerLinks, mut other: PeerLinks) {
    let (first, fourth) = (node_key(1).public_key(), node_key(4).public_key());
    for (links, peer) in [(&one, fourth), (&other, first)] {
        links.events.send(PeerEvent { peer, said: PeerSaid::Connected }).await.unwrap();
    }
    loop {
        let (to, peer, command) = tokio::select! {
            Some(command) = one.commands.recv() => (&other, first, command),
            Some(command) = other.commands.recv() => (&one, fourth, command),
            else => return,
        };
        if let PeerCommand::Send { message, .. } = command {
            // It may have stopped.
            let _ = to.events.send(PeerEvent { peer, said: PeerSaid::Message(message) }).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_network_wakes_a_validator_that_missed_a_change_of_the_set() {
    let addrs = addrs(5);
    let mut members = Vec::new();
    for number in [1, 2, 3, 5] {
        members.push(Member::start(number, Home::new(), &addrs, false).await);
    }
    // Nothing is decided without validator 5 any more.
    let join = Tx { sender: 5, nonce: 0, kind: Kind::SetsPower, arg: 100 }.bytes();
    members[0].replica.submit(join).await.unwrap();
    let height = count(&members[0].replica, 1, 0).await.height.0;
    // Validator 4 knows only those of the genesis document, and nobody votes while it looks.
    let fourth = Member::start(4, Home::new(), &addrs, false).await;
    let first = members.remove(0);
    let Member { replica, links, task, _home: home } = first;
    let carrier = tokio::spawn(carry(links, fourth.links));
    let mut status = fourth.replica.watch();
    let tip = status.wait_for(|status| status.tip.height.0 >= height).await.unwrap().tip;
    let theirs = replica.status().tip;
    if tip.height == theirs.height {
        assert_eq!(tip, theirs);
    }
    for task in [task, fourth.task].into_iter().chain(members.into_iter().map(|it| it.task)) {
        task.shutdown().await.unwrap();
    }
    carrier.await.unwrap();
    drop((home, fourth._home));
}

/// What a validator at the first height does about a peer that says this.
async fn reaction(said: PeerMessage) -> PeerCommand {
    let addrs = addrs(4);
    let Member { links: PeerLinks { events, mut commands }, task, _home: home, .. } =
        Member::start(1, Home::new(), &addrs, false).await;
    let peer = node_key(2).public_key();
    for said in [PeerSaid::Connected, PeerSaid::Message(said)] {
        events.send(PeerEvent { peer, said }).await.unwrap();
    }
    let command = commands.recv().await.unwrap();
    task.shutdown().await.unwrap();
    drop(home);
    command
}

/// By three of the four validators, none of whom signed it.
fn nobody_signed(height: u64) -> Certificate {
    named(height, [1, 2, 3])
}

/// By these, none of whom signed it.
fn named(height: u64, signers: [u8; 3]) -> Certificate {
    let signature = |number| CommitSignature {
        signer: validator_key(number).public_key(),
        signature: Signature([7; 64]),
    };
    let mut signatures = signers.map(signature).to_vec();
    signatures.sort_by_key(|it| it.signer);
    Certificate { height: Height(height), round: 0, block: Hash32([9; 32]), signatures }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_a_forged_certificate_is_dropped() {
    // Later validators may be others: of the next block it is known that they are not.
    for forged in [nobody_signed(1), named(1, [7, 8, 9]), nobody_signed(9)] {
        let dropped = reaction(PeerMessage::Decided(forged)).await;
        assert!(matches!(dropped, PeerCommand::Drop { .. }), "{dropped:?}");
    }
    // Whether those decided a later one is not known yet: the peer has to prove the next one first.
    let wanted = HeaderWanted { height: Height(1) };
    match reaction(PeerMessage::Decided(named(9, [7, 8, 9]))).await {
        PeerCommand::Send { message, .. } => assert_eq!(message, wanted),
        command => panic!("{command:?}"),
    }
}

/// The blocks of a store up to a height, the last with a certificate that nobody signed.
fn forged(from: &BlockStore, height: Height) -> BlockStore {
    let to =
        BlockStore::open_on(Disk::new(), Path::new("forged"), &genesis(GENESIS_POWER)).unwrap();
    let mut at = Height(1);
    while at <= height {
        let mut block: StoredBlock = from.block(at).unwrap().unwrap();
        if at == height {
            for signature in &mut block.certificate.signatures {
                signature.signature = Signature([7; 64]);
            }
        }
        let validators = from.validators(block.header.validators).unwrap().unwrap();
        let tx_ids = vec![types::TxId([0; 32]); block.txs.len()];
        let append =
            Append { block: &block, validators: &validators, tx_ids: &tx_ids, snapshot: None };
        to.append(append).unwrap();
        at = at.next();
    }
    to
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_with_a_forged_certificate_is_not_taken() {
    let addrs = addrs(5);
    let mut members = Vec::new();
    for number in 1..=3 {
        members.push(Member::start(number, Home::new(), &addrs, false).await);
    }
    let mut tip = count(&members[0].replica, 1, 0).await.height;
    tip = tip.max(count(&members[0].replica, 1, 1).await.height);
    for member in &members {
        reach(member, tip.0).await;
    }
    let mut homes = Vec::new();
    for member in members {
        homes.push(member.stop().await);
    }
    let (lies, honest) = (homes.remove(0), homes.remove(0));
    let own = lies.store().unwrap();
    let blocks = Arc::new(forged(&own, tip));
    let liar = Member::start_from(1, (lies, own), blocks, &addrs, false).await;
    // It follows, and asks whoever says to be further.
    let newcomer = Member::start(5, Home::new(), &addrs, false).await;
    reach(&newcomer, tip.0 - 1).await;
    // The liar offers the forged one with every status, which comes twice in this time.
    let taken = tokio::time::timeout(Duration::from_secs(5), reach(&newcomer, tip.0)).await;
    assert!(taken.is_err(), "{taken:?}");
    let honest = Member::start(2, honest, &addrs, false).await;
    reach(&newcomer, tip.0).await;
    for member in [liar, newcomer, honest] {
        member.task.shutdown().await.unwrap();
    }
}
