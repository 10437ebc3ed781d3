//! One suite for both transports: what the rest of the project relies on.

use std::{net::SocketAddr, time::Duration};

use net::{IrohConfig, Limits, SharedConnection, SharedEndpoint, memory::MemoryNet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use types::PublicKey;

const STREAMS_MAX: u32 = 4;

fn limits() -> Limits {
    let dial_timeout = Duration::from_secs(1);
    Limits { connections_max: 2, streams_max: STREAMS_MAX, dial_timeout, ..Limits::default() }
}

/// Endpoints of one network.
enum Network {
    Iroh,
    Memory(MemoryNet),
}

impl Network {
    async fn endpoint(&self, seed: u8) -> SharedEndpoint {
        match self {
            Network::Iroh => {
                let config = IrohConfig { limits: limits(), ..IrohConfig::new([seed; 32]) };
                net::bind(config).await.unwrap()
            }
            Network::Memory(net) => net.endpoint(PublicKey([seed; 32]), limits()),
        }
    }

    /// A key that nobody on the network has.
    fn stranger(&self) -> PublicKey {
        match self {
            // The public half of the seed of nines: a valid key.
            Network::Iroh => keys_of_seed(9),
            Network::Memory(_) => PublicKey([9; 32]),
        }
    }
}

fn keys_of_seed(seed: u8) -> PublicKey {
    PublicKey(*iroh::SecretKey::from_bytes(&[seed; 32]).public().as_bytes())
}

/// Two endpoints and a connection between them.
struct Pair {
    dialler: SharedEndpoint,
    acceptor: SharedEndpoint,
    near: SharedConnection,
    far: SharedConnection,
}

impl Pair {
    async fn connect(network: &Network) -> Pair {
        let dialler = network.endpoint(1).await;
        let acceptor = network.endpoint(2).await;
        let (near, far) = meet(&dialler, &acceptor).await;
        Pair { dialler, acceptor, near, far }
    }

    async fn close(self) {
        self.dialler.close().await;
        self.acceptor.close().await;
    }
}

async fn meet(
    dialler: &SharedEndpoint,
    acceptor: &SharedEndpoint,
) -> (SharedConnection, SharedConnection) {
    let addrs = acceptor.addrs();
    let (near, far) = tokio::join!(dialler.dial(acceptor.node_key(), &addrs), acceptor.accept());
    (near.unwrap(), far.unwrap())
}

/// Sends `bytes` on a new stream, has the peer send them back, and reads them.
async fn echo(near: &SharedConnection, far: &SharedConnection, bytes: Vec<u8>) -> Vec<u8> {
    let near_side = async {
        let (mut send, mut receive) = near.open().await.unwrap();
        let writing = async {
            send.write_all(&bytes).await.unwrap();
            send.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let reading = receive.read_to_end(&mut back);
        let ((), read) = tokio::join!(writing, reading);
        read.unwrap();
        back
    };
    let far_side = async {
        let (mut send, mut receive) = far.accept().await.unwrap();
        tokio::io::copy(&mut receive, &mut send).await.unwrap();
        send.shutdown().await.unwrap();
    };
    tokio::join!(near_side, far_side).0
}

async fn both_sides_know_each_other(network: Network) {
    let pair = Pair::connect(&network).await;
    assert_eq!(pair.near.peer(), pair.acceptor.node_key());
    assert_eq!(pair.far.peer(), pair.dialler.node_key());
    pair.close().await;
}

async fn either_side_opens_streams(network: Network) {
    let pair = Pair::connect(&network).await;
    assert_eq!(echo(&pair.near, &pair.far, b"there".to_vec()).await, b"there");
    assert_eq!(echo(&pair.far, &pair.near, b"back".to_vec()).await, b"back");
    pair.close().await;
}

async fn streams_run_side_by_side_and_one_after_another(network: Network) {
    let pair = Pair::connect(&network).await;
    for _ in 0..20 {
        let (a, b) = tokio::join!(
            echo(&pair.near, &pair.far, vec![1; 100]),
            echo(&pair.far, &pair.near, vec![2; 100])
        );
        assert_eq!((a, b), (vec![1; 100], vec![2; 100]));
    }
    pair.close().await;
}

async fn a_big_frame_arrives_whole(network: Network) {
    let pair = Pair::connect(&network).await;
    let bytes: Vec<u8> = (0..4_200_000u32).map(|n| (n % 251) as u8).collect();
    assert!(echo(&pair.near, &pair.far, bytes.clone()).await == bytes);
    pair.close().await;
}

async fn a_stream_appears_with_its_first_byte(network: Network) {
    let pair = Pair::connect(&network).await;
    let _silent = pair.near.open().await.unwrap();
    let (mut spoken, _receive) = pair.near.open().await.unwrap();
    spoken.write_all(b"x").await.unwrap();
    let (_send, mut receive) = pair.far.accept().await.unwrap();
    // QUIC shows the lower-numbered silent stream first; memory shows the one that spoke.
    if let Network::Memory(_) = network {
        assert_eq!(receive.read_u8().await.unwrap(), b'x');
    }
    pair.close().await;
}

async fn a_dropped_send_half_is_a_reset_and_not_an_end(network: Network) {
    let pair = Pair::connect(&network).await;
    let (mut send, _receive) = pair.near.open().await.unwrap();
    send.write_all(b"half of it").await.unwrap();
    let (_answer, mut receive) = pair.far.accept().await.unwrap();
    let mut start = [0; 4];
    receive.read_exact(&mut start).await.unwrap();
    drop(send);
    let mut rest = Vec::new();
    let error = receive.read_to_end(&mut rest).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    pair.close().await;
}

async fn a_dropped_receive_half_stops_the_sender(network: Network) {
    let pair = Pair::connect(&network).await;
    let (mut send, _receive) = pair.near.open().await.unwrap();
    send.write_all(b"x").await.unwrap();
    drop(pair.far.accept().await.unwrap());
    let chunk = vec![0; 100_000];
    // Buffers fill at the latest; nobody takes them.
    while send.write_all(&chunk).await.is_ok() {}
    pair.close().await;
}

async fn closing_ends_both_sides_and_their_streams(network: Network) {
    let pair = Pair::connect(&network).await;
    let (mut send, _receive) = pair.near.open().await.unwrap();
    send.write_all(b"x").await.unwrap();
    let (_answer, mut receive) = pair.far.accept().await.unwrap();
    assert_eq!(receive.read_u8().await.unwrap(), b'x');
    pair.near.close("enough");
    pair.near.closed().await;
    pair.far.closed().await;
    assert!(receive.read_u8().await.is_err());
    assert!(pair.far.open().await.is_err());
    assert!(pair.far.accept().await.is_err());
    assert!(pair.near.open().await.is_err());
    pair.close().await;
}

async fn a_connection_ends_with_its_last_handle(network: Network) {
    let Pair { dialler, acceptor, near, far } = Pair::connect(&network).await;
    drop(near);
    far.closed().await;
    dialler.close().await;
    acceptor.close().await;
}

async fn nobody_answers_for_an_unknown_key(network: Network) {
    let pair = Pair::connect(&network).await;
    let addrs: Vec<SocketAddr> = pair.acceptor.addrs();
    let error = pair.dialler.dial(network.stranger(), &addrs).await.unwrap_err();
    assert!(matches!(error, net::NetError::Dial { .. }), "{error:?}");
    let error = pair.dialler.dial(pair.dialler.node_key(), &addrs).await.unwrap_err();
    assert!(matches!(error, net::NetError::Dial { .. }), "{error:?}");
    pair.close().await;
}

async fn a_flood_of_streams_waits_at_its_sender(network: Network) {
    let pair = Pair::connect(&network).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS_MAX {
        let mut halves = pair.near.open().await.unwrap();
        halves.0.write_all(b"x").await.unwrap();
        streams.push((halves, pair.far.accept().await.unwrap()));
    }
    let near = pair.near.clone();
    let one_more = tokio::spawn(async move { near.open().await.map(drop) });
    // A round trip the other way gives it every chance.
    assert_eq!(echo(&pair.far, &pair.near, b"y".to_vec()).await, b"y");
    assert!(!one_more.is_finished());
    drop(streams.pop());
    one_more.await.unwrap().unwrap();
    pair.close().await;
}

async fn more_connections_than_allowed_are_refused(network: Network) {
    let pair = Pair::connect(&network).await;
    let second = network.endpoint(3).await;
    let (near, _far) = meet(&second, &pair.acceptor).await;
    let third = network.endpoint(4).await;
    let addrs = pair.acceptor.addrs();
    assert!(third.dial(pair.acceptor.node_key(), &addrs).await.is_err());
    near.close("make room");
    for endpoint in [second, third] {
        endpoint.close().await;
    }
    pair.close().await;
}

async fn a_closed_endpoint_accepts_nobody(network: Network) {
    let Pair { dialler, acceptor, near, far: _far } = Pair::connect(&network).await;
    acceptor.close().await;
    near.closed().await;
    assert!(acceptor.accept().await.is_none());
    let addrs = acceptor.addrs();
    assert!(dialler.dial(acceptor.node_key(), &addrs).await.is_err());
    dialler.close().await;
}

/// Runs every check over both transports.
macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        mod iroh_endpoint {
            $(#[tokio::test] async fn $name() { super::$name(super::Network::Iroh).await; })*
        }
        mod memory_network {
            use net::memory::MemoryNet;
            $(#[tokio::test(start_paused = true)]
            async fn $name() { super::$name(super::Network::Memory(MemoryNet::new())).await; })*
        }
    };
}

conformance! {
    both_sides_know_each_other,
    either_side_opens_streams,
    streams_run_side_by_side_and_one_after_another,
    a_big_frame_arrives_whole,
    a_stream_appears_with_its_first_byte,
    a_dropped_send_half_is_a_reset_and_not_an_end,
    a_dropped_receive_half_stops_the_sender,
    closing_ends_both_sides_and_their_streams,
    a_connection_ends_with_its_last_handle,
    nobody_answers_for_an_unknown_key,
    a_flood_of_streams_waits_at_its_sender,
    more_connections_than_allowed_are_refused,
    a_closed_endpoint_accepts_nobody,
}

#[tokio::test(start_paused = true)]
async fn a_cut_connection_can_be_dialled_again() {
    let memory = MemoryNet::new();
    let pair = Pair::connect(&Network::Memory(memory.clone())).await;
    let (dialler, acceptor) = (pair.dialler.node_key(), pair.acceptor.node_key());
    assert_eq!(memory.cut(acceptor, dialler), 1);
    pair.near.closed().await;
    pair.far.closed().await;
    assert_eq!(memory.cut(dialler, acceptor), 0);
    let (near, far) = meet(&pair.dialler, &pair.acceptor).await;
    assert_eq!(echo(&near, &far, b"again".to_vec()).await, b"again");
}

#[tokio::test(start_paused = true)]
async fn a_refusing_peer_refuses_until_it_does_not() {
    let memory = MemoryNet::new();
    let network = Network::Memory(memory.clone());
    let (dialler, acceptor) = (network.endpoint(1).await, network.endpoint(2).await);
    memory.set_refusing(acceptor.node_key(), true);
    assert!(dialler.dial(acceptor.node_key(), &[]).await.is_err());
    memory.set_refusing(acceptor.node_key(), false);
    meet(&dialler, &acceptor).await;
}

#[tokio::test(start_paused = true)]
async fn a_delay_holds_for_dialling_and_for_bytes() {
    let memory = MemoryNet::new();
    memory.set_delay(Duration::from_millis(30));
    let start = tokio::time::Instant::now();
    let pair = Pair::connect(&Network::Memory(memory)).await;
    assert_eq!(start.elapsed().as_millis(), 30);
    assert_eq!(echo(&pair.near, &pair.far, b"slow".to_vec()).await, b"slow");
    assert_eq!(start.elapsed().as_millis(), 90);
}
