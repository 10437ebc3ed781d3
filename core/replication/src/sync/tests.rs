//! Who is asked for what, and what becomes of those who lie or are silent.

use super::*;

const LIMITS: SyncLimits = SyncLimits {
    behind_min: 10,
    gather_ms: 100,
    offers_max: 4,
    chunk_bytes_max: 4,
    chunks_max: 8,
    in_flight_max: 2,
    chunk_ms_max: 50,
    asks_max: 2,
    certify_ms_max: 1_000,
    attempts_max: 2,
};
const TRUTH: &[u8] = b"the state!";
const APP_HASH: Hash32 = Hash32([5; 32]);

fn offer(peer: u8, height: u64, state: &[u8]) -> Input<u8> {
    Input::Offer { peer, manifest: Manifest::of(Height(height), state, LIMITS.chunk_bytes_max) }
}

fn certified(height: u64) -> Input<u8> {
    Input::Certified { height: Height(height), app_hash: APP_HASH }
}

fn chunk(peer: u8, height: u64, state: &[u8], index: u32) -> Input<u8> {
    let bytes = state.chunks(4).nth(index as usize).unwrap_or(b"?").to_vec();
    Input::Chunk { peer, height: Height(height), index, bytes }
}

/// Feeds inputs, each at its time, to a node at the beginning, and shows what comes out.
fn check(inputs: &[(u64, Input<u8>)], expected: &[&str]) {
    let mut sync = Sync::new(LIMITS, Height(0), None, TimeMs(0));
    let mut shown = Vec::new();
    for (now, input) in inputs {
        shown.extend(sync.step(TimeMs(*now), input.clone()).iter().map(show));
    }
    assert_eq!(shown, expected);
}

fn show(effect: &Effect<u8>) -> String {
    match effect {
        Effect::Certify { height, .. } => format!("certify {height}"),
        Effect::Request { peer, height, index } => format!("{peer}: {height}/{index}"),
        Effect::Restore { height, app_hash, bytes } => {
            assert_eq!(*app_hash, APP_HASH);
            format!("restore {height} {}", String::from_utf8_lossy(bytes))
        }
        Effect::Drop { peer } => format!("drop {peer}"),
        Effect::GiveUp => "give up".to_owned(),
        Effect::Done { height } => format!("done {height}"),
    }
}

#[test]
fn the_newest_snapshot_is_fetched_and_restored() {
    check(
        &[
            (0, offer(1, 20, b"older")),
            (1, offer(2, 30, TRUTH)),
            (99, Input::Tick),
            (100, Input::Tick),
            (101, certified(30)),
            (102, chunk(2, 30, TRUTH, 1)),
            (103, chunk(2, 30, TRUTH, 1)),
            (104, chunk(2, 30, TRUTH, 0)),
            (105, chunk(2, 30, TRUTH, 2)),
            (106, Input::Restored),
            (107, chunk(2, 30, TRUTH, 2)),
        ],
        &["certify 30", "2: 30/0", "2: 30/1", "2: 30/2", "restore 30 the state!", "done 30"],
    );
}

#[test]
fn without_a_snapshot_worth_it_blocks_are_replayed() {
    check(&[(100, Input::Tick)], &["give up"]);
    check(&[(0, offer(1, 9, TRUTH)), (100, Input::Tick)], &["give up"]);
}

#[test]
fn a_bad_chunk_drops_the_peer_and_the_next_one_continues() {
    check(
        &[
            (0, offer(1, 30, TRUTH)),
            (0, offer(2, 30, TRUTH)),
            (100, Input::Tick),
            (100, certified(30)),
            (101, chunk(1, 30, TRUTH, 0)),
            (102, chunk(1, 30, b"a lie of 10", 1)),
            (103, chunk(2, 30, TRUTH, 1)),
            (104, chunk(2, 30, TRUTH, 2)),
        ],
        &[
            "certify 30",
            "1: 30/0",
            "1: 30/1",
            "1: 30/2",
            "drop 1",
            "2: 30/1",
            "2: 30/2",
            "restore 30 the state!",
        ],
    );
}

#[test]
fn a_wrong_whole_drops_everybody_who_offered_it() {
    let lie = b"a lie";
    check(
        &[
            (0, offer(1, 30, lie)),
            (0, offer(2, 30, lie)),
            (0, offer(3, 20, TRUTH)),
            (100, Input::Tick),
            (100, certified(30)),
            (101, chunk(1, 30, lie, 0)),
            (101, chunk(1, 30, lie, 1)),
            (102, Input::NotRestored),
            (103, offer(1, 40, lie)),
            (104, certified(20)),
        ],
        &[
            "certify 30",
            "1: 30/0",
            "1: 30/1",
            "restore 30 a lie",
            "drop 1",
            "drop 2",
            "certify 20",
            "3: 20/0",
            "3: 20/1",
        ],
    );
}

#[test]
fn who_is_silent_or_gone_or_has_it_no_longer_is_left_but_not_dropped() {
    let offers =
        [(0, offer(1, 30, b"abcd")), (0, offer(2, 30, b"abcd")), (0, offer(3, 30, b"abcd"))];
    let begun = [(100, Input::Tick), (100, certified(30))];
    let silent = [(150, Input::Tick), (200, Input::Tick)];
    let gone = [(210, Input::PeerGone { peer: 2 })];
    let none = [(220, Input::NoChunk { peer: 3, height: Height(30) })];
    check(
        &[&offers[..], &begun, &silent, &gone, &none].concat(),
        &["certify 30", "1: 30/0", "1: 30/0", "2: 30/0", "3: 30/0", "give up"],
    );
}

#[test]
fn impossible_offers_drop_whoever_makes_them() {
    let offer = |bytes, chunks| Input::Offer {
        peer: 1,
        manifest: Manifest { height: Height(30), bytes, chunks: vec![Hash32([0; 32]); chunks] },
    };
    for impossible in [offer(0, 0), offer(5, 1), offer(4, 2), offer(36, 9), offer(u64::MAX, 1)] {
        check(&[(0, impossible)], &["drop 1"]);
    }
}

#[test]
fn what_cannot_be_certified_is_not_fetched() {
    check(
        &[
            (0, offer(1, 90, TRUTH)),
            (0, offer(2, 30, TRUTH)),
            (100, Input::Tick),
            (150, Input::NotCertified { height: Height(90) }),
            (1_150, Input::Tick),
        ],
        &["certify 90", "certify 30", "give up"],
    );
}

#[test]
fn nothing_below_what_is_trusted_is_of_interest() {
    let trusted = Trusted { height: Height(40), header: Hash32([1; 32]) };
    let mut sync = Sync::new(LIMITS, Height(0), Some(trusted), TimeMs(0));
    sync.step(TimeMs(0), offer(1, 39, TRUTH));
    sync.step(TimeMs(0), offer(2, 40, TRUTH));
    let effects = sync.step(TimeMs(100), Input::Tick);
    assert_eq!(effects, [Effect::Certify { height: Height(40), from: Some(trusted) }]);
}

#[test]
fn a_peer_makes_one_offer_and_none_after_one_that_cannot_be_certified() {
    check(
        &[
            (0, offer(1, 90, TRUTH)),
            (0, offer(2, 30, TRUTH)),
            (100, Input::Tick),
            // It goes on with another height, the second time under the same name again.
            (110, offer(1, 91, TRUTH)),
            (120, Input::PeerGone { peer: 1 }),
            (130, offer(1, 92, TRUTH)),
            (150, Input::NotCertified { height: Height(90) }),
            (160, offer(1, 93, TRUTH)),
            (170, certified(30)),
        ],
        &["certify 90", "certify 30", "2: 30/0", "2: 30/1"],
    );
}

#[test]
fn offers_of_strangers_are_tried_last() {
    let mut sync = Sync::new(LIMITS, Height(0), None, TimeMs(0)).preferring([7].into());
    for stranger in 0..6 {
        sync.step(TimeMs(0), offer(stranger, 90 + u64::from(stranger), TRUTH));
    }
    sync.step(TimeMs(0), offer(7, 30, TRUTH));
    let effects = sync.step(TimeMs(100), Input::Tick);
    assert_eq!(effects, [Effect::Certify { height: Height(30), from: None }]);
    let effects = sync.step(TimeMs(110), Input::NotCertified { height: Height(30) });
    assert_eq!(effects, [Effect::Certify { height: Height(93), from: None }]);
}
