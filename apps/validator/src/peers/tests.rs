//! Nodes that talk, and nodes that break the rules, over connections in memory.

use net::{Limits, memory::MemoryNet};
use tokio::{io::AsyncReadExt, time::timeout};
use types::{Hash32, Height, consensus::Certificate};

use super::*;

/// Anything that happens at all happens well within it.
const SOON: Duration = Duration::from_secs(10);

fn key(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

/// A node of ours whose replica is this test.
struct Node {
    events: mpsc::Receiver<PeerEvent>,
    commands: mpsc::Sender<PeerCommand>,
    _task: tokio::task::JoinHandle<()>,
}

impl Node {
    fn start(net: &MemoryNet, number: u8, peers: &[u8], peers_only: bool) -> Node {
        let (events_in, events) = mpsc::channel(64);
        let (commands, commands_out) = mpsc::channel(64);
        let links = PeerLinks { events: events_in, commands: commands_out };
        let endpoint = net.endpoint(key(number), Limits::default());
        let peer =
            |other: &u8| Peer { node_key: key(*other), addr: "127.0.0.1:1".parse().unwrap() };
        let peers = peers.iter().map(peer).collect();
        let task = tokio::spawn(run(endpoint, peers, peers_only, links));
        Node { events, commands, _task: task }
    }

    async fn next(&mut self) -> (PublicKey, PeerSaid) {
        let event = timeout(SOON, self.events.recv()).await.expect("something happens");
        let PeerEvent { peer, said } = event.expect("the node runs");
        (peer, said)
    }

    async fn send(&self, peer: u8, message: PeerMessage) {
        self.commands.send(PeerCommand::Send { peer: key(peer), message }).await.unwrap();
    }
}

fn txs(bytes: &[u8]) -> PeerMessage {
    PeerMessage::Txs(vec![bytes.into()])
}

fn decided() -> PeerMessage {
    let block = Hash32([3; 32]);
    PeerMessage::Decided(Certificate { height: Height(3), round: 0, block, signatures: vec![] })
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_dial_each_other_talk_over_one_connection() {
    let net = MemoryNet::new();
    let (mut one, mut two) = (Node::start(&net, 1, &[2], false), Node::start(&net, 2, &[1], false));
    assert_eq!(one.next().await, (key(2), PeerSaid::Connected));
    one.send(2, txs(b"a")).await;
    assert_eq!(two.next().await, (key(1), PeerSaid::Connected));
    assert_eq!(two.next().await, (key(1), PeerSaid::Message(txs(b"a"))));
    two.send(1, decided()).await;
    assert_eq!(one.next().await, (key(2), PeerSaid::Message(decided())));
    // A cut is noticed by both, and they find each other again.
    net.cut(key(1), key(2));
    assert_eq!(one.next().await, (key(2), PeerSaid::Gone));
    assert_eq!(one.next().await, (key(2), PeerSaid::Connected));
}

/// Connects a stranger to a node, lets it send `bytes`, and tells whether the node hung up and
/// takes it back.
async fn stranger(bytes: &[u8]) -> (Node, bool, bool) {
    let net = MemoryNet::new();
    let mut node = Node::start(&net, 1, &[], false);
    let attacker = net.endpoint(key(9), Limits::default());
    let connection = attacker.dial(key(1), &[]).await.unwrap();
    let (mut send, _receive) = connection.open().await.unwrap();
    send.write_all(bytes).await.unwrap();
    send.flush().await.unwrap();
    assert_eq!(node.next().await, (key(9), PeerSaid::Connected));
    let hung_up = timeout(SOON, connection.closed()).await.is_ok();
    let again = attacker.dial(key(1), &[]).await.unwrap();
    let taken_back = match again.open().await {
        Ok((mut send, mut receive)) => {
            let greeted = send.write_all(&frame::encode(&decided()).unwrap()).await.is_ok();
            let closed = timeout(SOON, async {
                let mut nothing = [0];
                receive.read(&mut nothing).await.map_or(true, |bytes| bytes == 0)
            });
            greeted && closed.await.is_err()
        }
        Err(_) => false,
    };
    (node, hung_up, taken_back)
}

#[tokio::test(start_paused = true)]
async fn who_keeps_to_the_protocol_is_kept() {
    let (_node, hung_up, _) = stranger(&frame::encode(&decided()).unwrap()).await;
    assert!(!hung_up);
}

#[tokio::test(start_paused = true)]
async fn who_claims_too_long_a_message_or_sends_nonsense_is_dropped_and_banned() {
    let too_long = u32::try_from(PEER_MESSAGE_BYTES_MAX + 1).unwrap().to_le_bytes().to_vec();
    let unknown = [&1u32.to_le_bytes()[..], &[7]].concat();
    let cut_short = [&9u32.to_le_bytes()[..], &[0, 1, 0, 0, 0, 255, 255, 255, 255]].concat();
    for bytes in [too_long, unknown, cut_short] {
        let (mut node, hung_up, taken_back) = stranger(&bytes).await;
        assert!(hung_up && !taken_back, "{bytes:?}");
        assert_eq!(node.next().await, (key(9), PeerSaid::Gone));
    }
}

#[tokio::test(start_paused = true)]
async fn whom_the_replica_drops_is_gone_and_comes_back_after_a_minute() {
    let net = MemoryNet::new();
    let (mut one, mut two) = (Node::start(&net, 1, &[], false), Node::start(&net, 2, &[1], false));
    assert_eq!(two.next().await, (key(1), PeerSaid::Connected));
    two.send(1, txs(b"flood")).await;
    assert_eq!(one.next().await, (key(2), PeerSaid::Connected));
    assert_eq!(one.next().await, (key(2), PeerSaid::Message(txs(b"flood"))));
    let why = "it sent more than its budget".to_owned();
    let dropped_at = Instant::now();
    one.commands.send(PeerCommand::Drop { peer: key(2), why }).await.unwrap();
    assert_eq!(one.next().await, (key(2), PeerSaid::Gone));
    // It dials again and again, and greets as soon as it is connected.
    let back = async {
        loop {
            match two.next().await {
                (_, PeerSaid::Connected) => two.send(1, decided()).await,
                (_, PeerSaid::Gone | PeerSaid::Message(_)) => {}
            }
        }
    };
    let returned = async {
        let event = one.events.recv().await.map(|event| event.said);
        (event, dropped_at.elapsed())
    };
    tokio::select! {
        () = back => {}
        (said, after) = returned => {
            assert_eq!(said, Some(PeerSaid::Connected));
            assert!(after >= BAN, "{after:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn behind_its_sentries_a_node_knows_only_its_peers() {
    let net = MemoryNet::new();
    let mut node = Node::start(&net, 1, &[2], true);
    let stranger = net.endpoint(key(9), Limits::default());
    let connection = stranger.dial(key(1), &[]).await.unwrap();
    timeout(SOON, connection.closed()).await.expect("a stranger is not welcome");
    let friend = Node::start(&net, 2, &[1], false);
    friend.send(1, decided()).await;
    assert_eq!(node.next().await, (key(2), PeerSaid::Connected));
}

#[tokio::test(start_paused = true)]
async fn strangers_take_no_place_of_a_configured_peer() {
    let net = MemoryNet::new();
    let mut node = Node::start(&net, 1, &[2], false);
    let mut connected = Vec::new();
    for number in (3..).take(STRANGERS_MAX + 1) {
        let stranger = net.endpoint(key(number), Limits::default());
        let connection = stranger.dial(key(1), &[]).await.unwrap();
        let opened = connection.open().await;
        if connected.len() < STRANGERS_MAX {
            let (mut send, receive) = opened.unwrap();
            send.write_all(&frame::encode(&decided()).unwrap()).await.unwrap();
            send.flush().await.unwrap();
            assert_eq!(node.next().await, (key(number), PeerSaid::Connected));
            assert_eq!(node.next().await, (key(number), PeerSaid::Message(decided())));
            connected.push((stranger, connection, send, receive));
        } else {
            timeout(SOON, connection.closed()).await.expect("there is no place for one more");
        }
    }
    let _friend = Node::start(&net, 2, &[], false);
    assert_eq!(node.next().await, (key(2), PeerSaid::Connected));
}

#[tokio::test(start_paused = true)]
async fn for_whom_there_is_no_place_may_come_back_at_once() {
    let net = MemoryNet::new();
    let (mut one, _two) = (Node::start(&net, 1, &[2], false), Node::start(&net, 2, &[], false));
    assert_eq!(one.next().await, (key(2), PeerSaid::Connected));
    let why = "there are as many peers as there may be".to_owned();
    one.commands.send(PeerCommand::Close { peer: key(2), why }).await.unwrap();
    assert_eq!(one.next().await, (key(2), PeerSaid::Gone));
    assert_eq!(one.next().await, (key(2), PeerSaid::Connected));
}
