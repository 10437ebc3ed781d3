//! Who is told what, and who is dropped.

use super::*;

const LIMITS: GossipLimits = GossipLimits {
    peers_max: 3,
    batch_txs_max: 2,
    batch_bytes_max: 100,
    known_max: 4,
    txs: Rate { burst: 10, per_s: 2 },
    bytes: Rate { burst: 500, per_s: 100 },
    signed_bytes_min: 40,
    refused_txs: 4,
};

fn tx(n: u8, bytes: usize) -> Tx {
    Tx { id: TxId([n; 32]), bytes: vec![n; bytes].into() }
}

/// Feeds inputs, each at its time, and shows what comes out: `to 2: 7,8`, `check 1: 3`,
/// `drop 1: Flood`.
fn check(inputs: &[(u64, Input<u8>)], expected: &[&str]) {
    let mut gossip = Gossip::new(LIMITS);
    let mut shown = Vec::new();
    for (now, input) in inputs {
        shown.extend(gossip.step(TimeMs(*now), input.clone()).iter().map(show));
    }
    assert_eq!(shown, expected);
}

fn show(effect: &Effect<u8>) -> String {
    let list = |txs: &[Arc<[u8]>]| {
        let names: Vec<String> = txs.iter().map(|tx| tx[0].to_string()).collect();
        names.join(",")
    };
    match effect {
        Effect::Send { peer, txs } => format!("to {peer}: {}", list(txs)),
        Effect::Check { peer, txs } => format!("check {peer}: {}", list(txs)),
        Effect::Drop { peer, why } => format!("drop {peer}: {why:?}"),
    }
}

fn connected(peer: u8) -> Input<u8> {
    Input::PeerConnected { peer, waiting: Vec::new() }
}

fn accepted(n: u8, from: Option<u8>) -> Input<u8> {
    Input::Accepted { tx: tx(n, 10), from }
}

fn received(peer: u8, txs: usize, bytes: usize) -> Input<u8> {
    Input::Received { peer, txs: vec![vec![0; bytes].into(); txs] }
}

fn refused(peer: u8) -> Input<u8> {
    Input::Judged { peer, verdict: Verdict::Refused { id: TxId([9; 32]) } }
}

#[test]
fn everybody_is_told_once_but_not_who_told() {
    check(
        &[
            (0, connected(1)),
            (0, connected(2)),
            (0, accepted(7, Some(1))),
            (0, accepted(8, None)),
            (0, accepted(8, Some(2))),
            (0, Input::Flush),
            (0, accepted(7, Some(2))),
            (0, Input::Flush),
        ],
        &["to 1: 8", "to 2: 7"],
    );
}

#[test]
fn a_full_batch_goes_at_once_and_a_new_peer_is_told_everything() {
    let waiting = vec![tx(1, 60), tx(2, 60), tx(3, 10), tx(4, 200)];
    check(
        &[(0, Input::PeerConnected { peer: 1, waiting }), (0, Input::Flush)],
        &["to 1: 1", "to 1: 2,3", "to 1: 4"],
    );
}

#[test]
fn what_a_peer_has_is_forgotten_after_a_while() {
    let mut inputs = vec![(0, connected(1))];
    inputs.extend((0..5).map(|n| (0, accepted(n, Some(1)))));
    inputs.extend([(0, accepted(4, None)), (0, accepted(0, None)), (0, Input::Flush)]);
    check(&inputs, &["to 1: 0"]);
}

#[test]
fn a_peer_that_sends_more_than_its_budget_is_dropped() {
    let mut inputs = vec![(0, connected(1))];
    inputs.extend((0..6).map(|_| (0, received(1, 2, 1))));
    let passed = ["check 1: 0,0"; 5];
    check(&inputs, &[&passed[..], &["drop 1: Flood"]].concat());
    // With a pause in between it is not.
    inputs[6].0 = 1_000;
    check(&inputs, &["check 1: 0,0"; 6]);
    let bytes = vec![(0, connected(1)), (0, received(1, 1, 300)), (0, received(1, 1, 300))];
    check(&bytes, &["check 1: 0", "drop 1: Flood"]);
}

#[test]
fn what_may_carry_many_signatures_costs_as_much_as_they_do() {
    let long = (0, received(1, 1, 200));
    check(
        &[(0, connected(1)), long.clone(), long, (0, received(1, 1, 1))],
        &["check 1: 0", "check 1: 0", "drop 1: Flood"],
    );
    let heard = |txs| (0, Input::Heard { peer: 1, txs });
    check(&[(0, connected(1)), heard(9), heard(1), heard(1)], &["drop 1: Flood"]);
}

#[test]
fn all_of_a_full_mempool_may_be_told_at_once_and_refused() {
    let (limits, mempool) = (GossipLimits::STANDARD, crate::mempool::MempoolLimits::STANDARD);
    let told = limits.cost(mempool.bytes_max) + mempool.txs_max as u64;
    assert!(told + mempool.txs_max as u64 * limits.refused_txs <= limits.txs.burst);
}

#[test]
fn what_the_mempool_refuses_costs_more_and_what_is_invalid_everything() {
    check(
        &[(0, connected(1)), (0, refused(1)), (0, refused(1)), (0, refused(1)), (0, refused(1))],
        &["drop 1: Flood"],
    );
    let invalid = Input::Judged { peer: 1, verdict: Verdict::Invalid };
    check(&[(0, connected(1)), (0, invalid)], &["drop 1: InvalidTx"]);
}

#[test]
fn a_batch_has_limits_but_one_large_transaction_may_go_alone() {
    check(&[(0, connected(1)), (0, received(1, 3, 1))], &["drop 1: BatchTooLarge"]);
    check(&[(0, connected(1)), (0, received(1, 2, 60))], &["drop 1: BatchTooLarge"]);
    check(&[(0, connected(1)), (0, received(1, 1, 200))], &["check 1: 0"]);
}

#[test]
fn to_leave_and_come_back_wins_nothing() {
    let invalid = Input::Judged { peer: 1, verdict: Verdict::Invalid };
    check(
        &[
            (0, connected(1)),
            (0, invalid),
            (1, connected(1)),
            (1, received(1, 1, 1)),
            (9_000, connected(1)),
            (9_000, received(1, 1, 1)),
        ],
        &["drop 1: InvalidTx", "drop 1: Flood", "check 1: 0"],
    );
    check(
        &[
            (0, connected(1)),
            (0, received(1, 1, 400)),
            (0, Input::PeerGone { peer: 1 }),
            (0, connected(1)),
            (0, received(1, 1, 400)),
        ],
        &["check 1: 0", "drop 1: Flood"],
    );
}

#[test]
fn strangers_are_not_listened_to_and_there_are_only_so_many_peers() {
    check(&[(0, received(1, 1, 1)), (0, refused(1)), (0, accepted(1, Some(5)))], &[]);
    let inputs: Vec<_> = (1..5).map(|peer| (0, connected(peer))).collect();
    check(&inputs, &["drop 4: TooManyPeers"]);
}
