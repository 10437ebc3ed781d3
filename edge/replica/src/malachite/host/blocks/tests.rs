//! A host without an engine, and what proposers send it.

#[path = "../../../../tests/replica/app.rs"]
mod app;

use std::{net::SocketAddr, path::Path};

use app::{Counter, ManualClock, Tx, genesis, validator_key};
use arc_malachitebft_app_channel::app::events::TxEvent;
use store::{BlockStore, RoundLog, testing::Disk};
use tokio::{
    runtime::{Handle, Runtime},
    sync::{mpsc, watch},
};
use types::{Height, sign::Sign};

use super::*;
use crate::{
    EngineConfig, ReplicaConfig, Status, Timeouts,
    chain::Parent,
    handle::Stop,
    malachite::{
        host::{Ends, HostParts},
        log::HeightLog,
    },
    peers,
    worker::Worker,
};

/// Of each validator; there are four.
const POWER: u8 = 1;
const NOW: u64 = 10_000;

fn parts() -> HostParts<Counter> {
    let engine = EngineConfig {
        moniker: "test".to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        peers: Vec::new(),
        peers_only: false,
        node_seed: zeroize::Zeroizing::new([9; 32]),
        wal: "log".into(),
        timeouts: Timeouts::STANDARD,
    };
    let genesis = genesis(POWER);
    let app = Counter::new(&[(1, POWER), (2, POWER), (3, POWER), (4, POWER)]);
    let store = BlockStore::open_on(Disk::new(), Path::new("blocks"), &genesis).unwrap();
    let status = Status {
        tip: app.tip(),
        block: genesis.hash(),
        mempool_txs: 0,
        round: 0,
        peers: 0,
        decided: 0,
        caught_up: 0,
        decision_time: std::time::Duration::ZERO,
        halted: false,
    };
    HostParts {
        worker: Worker {
            app,
            chain_id: genesis.chain_id.clone(),
            store: Arc::new(store),
            parent: Parent::of_genesis(&genesis),
            snapshot_interval: 2,
            blocks_kept: None,
        },
        log: HeightLog::new(RoundLog::open_on(Disk::new(), Path::new("log")).unwrap()),
        key: None,
        follow_until: None,
        connected: BTreeSet::new(),
        clock: ManualClock::at(NOW),
        config: ReplicaConfig::standard(engine),
        status: watch::Sender::new(status),
        arriving: mpsc::channel(1).1,
        stop: watch::channel(Stop::Run).1,
        evidence: None,
        punished: mpsc::channel(1).1,
        peers: peers::channels().0,
    }
}

fn host(parts: HostParts<Counter>, runtime: &Handle) -> Host<Counter> {
    let ends = Ends {
        consensus: mpsc::channel(1).1,
        network: mpsc::channel(1).0,
        events: TxEvent::new().subscribe(),
    };
    Host::new(parts, ends, runtime.clone())
}

/// A host at height 1, without an engine.
struct Lone {
    host: Host<Counter>,
    runtime: Runtime,
}

impl Lone {
    fn new() -> Lone {
        let runtime = Runtime::new().unwrap();
        let host = host(parts(), runtime.handle());
        Lone { host, runtime }
    }

    fn restart(self) -> Lone {
        let host = host(self.host.parts, self.runtime.handle());
        Lone { host, runtime: self.runtime }
    }

    /// The number of who proposes in a round.
    fn proposer(&self, round: u32) -> u8 {
        let proposer = self.host.members.proposer(Height(1), round).unwrap().address().0;
        (1..=4).find(|number| validator_key(*number).public_key() == proposer).unwrap()
    }

    /// An empty block of this time.
    fn block(&mut self, proposer: u8, time: u64) -> Block {
        let proposer = validator_key(proposer).public_key();
        let built = self.host.parts.worker.build(TimeMs(time), proposer, Vec::new()).unwrap();
        built.candidate.block
    }

    fn announce(&self, signer: u8, round: u32, block: Block) -> BlockPart {
        let (height, hash) = (block.header.height, block.header.hash());
        let announcement = Announcement { height, round, valid_round: None, block: hash };
        let chain_id = &self.host.parts.worker.chain_id;
        BlockPart {
            announcement: Signed::new(announcement, chain_id, &validator_key(signer)),
            block,
        }
    }

    /// What the engine hears of the one block that the proposer of a round announces.
    fn honest(&mut self, round: u32) -> Option<Validity> {
        let proposer = self.proposer(round);
        let block = self.block(proposer, 1_000 + u64::from(round));
        let part = self.announce(proposer, round, block);
        self.host.receive(part).map(|value| value.validity)
    }
}

/// Sends 64 blocks for a round that is ahead. `spoil` makes them what they are.
fn floods(spoil: impl Fn(&mut Block)) -> (Lone, u32, Vec<Option<Validity>>) {
    let mut lone = Lone::new();
    let (round, liar) = (7, lone.proposer(7));
    let mut heard = Vec::new();
    for time in 1..=64 {
        let mut block = lone.block(liar, time);
        spoil(&mut block);
        let part = lone.announce(liar, round, block);
        heard.push(lone.host.receive(part).map(|value| value.validity));
    }
    (lone, round, heard)
}

#[test]
fn who_announces_many_blocks_takes_no_place_of_other_rounds() {
    let (mut lone, round, heard) = floods(|_| {});
    assert_eq!(heard[..3], [Some(Validity::Valid), Some(Validity::Valid), None]);
    assert!(heard[2..].iter().all(Option::is_none));
    for other in (0..=20).filter(|other| *other != round) {
        assert_eq!(lone.honest(other), Some(Validity::Valid), "{other}");
    }
    assert_eq!(lone.honest(21), None);
    lone.host.counts.round = 5;
    assert_eq!(lone.honest(25), Some(Validity::Valid));
    // A round that is over: two thirds may have wanted its block.
    assert_eq!(lone.host.proposals.len(), 23);
}

#[test]
fn blocks_that_are_not_valid_are_executed_twice_a_round_at_most() {
    let (mut lone, round, heard) = floods(|block| block.header.app_hash = Hash32([7; 32]));
    assert_eq!(heard[..3], [Some(Validity::Invalid), Some(Validity::Invalid), None]);
    assert!(heard[2..].iter().all(Option::is_none));
    assert_eq!(lone.honest(round + 1), Some(Validity::Valid));
}

#[test]
fn a_restart_leaves_room_for_the_blocks_of_other_rounds() {
    let (mut lone, round, _) = floods(|_| {});
    // As a version of this program did that kept all of them.
    for time in 100..200 {
        let block = lone.block(1, time);
        let kept = Undecided { round, valid_round: None, block };
        lone.host.parts.log.keep(&kept).unwrap();
    }
    let mut lone = lone.restart();
    assert_eq!(lone.host.proposals.len(), 102);
    for other in (0..=20).filter(|other| *other != round) {
        assert_eq!(lone.honest(other), Some(Validity::Valid), "{other}");
    }
}

#[test]
fn a_block_of_an_earlier_round_comes_again_in_a_later_one() {
    let (mut lone, first) = (Lone::new(), 0);
    let proposer = lone.proposer(first);
    let block = lone.block(proposer, 1);
    let part = lone.announce(proposer, first, block.clone());
    lone.host.receive(part.clone()).unwrap();
    // Twice, and then by the proposer of a later round.
    assert_eq!(lone.host.receive(part).unwrap().round, Round::new(first));
    let (later, mut part) = (3, lone.announce(lone.proposer(3), 3, block));
    part.announcement.value.valid_round = Some(first);
    let Signed { value, .. } = part.announcement;
    let key = validator_key(lone.proposer(later));
    part.announcement = Signed::new(value, &lone.host.parts.worker.chain_id, &key);
    let value = lone.host.receive(part).unwrap();
    assert_eq!((value.round, value.valid_round), (Round::new(later), Round::new(first)));
}

#[test]
fn who_passes_on_a_changed_block_does_not_shut_out_the_right_one() {
    let mut lone = Lone::new();
    let proposer = lone.proposer(0);
    let block = lone.block(proposer, 1);
    for sender in 0..3 {
        let mut changed = block.clone();
        changed.txs.push(Tx { sender, nonce: 0, kind: app::Kind::Counts, arg: 0 }.bytes());
        let part = lone.announce(proposer, 0, changed);
        assert_eq!(lone.host.receive(part), None);
    }
    let part = lone.announce(proposer, 0, block);
    assert_eq!(lone.host.receive(part).map(|value| value.validity), Some(Validity::Valid));
}

#[test]
fn a_block_of_the_next_height_has_a_place_for_each_validator() {
    let mut lone = Lone::new();
    let mut next = lone.block(1, 1);
    next.header.height = Height(2);
    let rounds = [(1, 0), (2, 0), (2, 3), (2, 1), (2, 2), (3, 0), (4, 0), (9, 0)];
    for (time, (signer, round)) in (0..).zip(rounds) {
        next.header.time = TimeMs(time);
        let part = lone.announce(signer, round, next.clone());
        assert_eq!(lone.host.receive(part), None);
    }
    let parked = lone.host.parked.iter();
    let mut parked: Vec<_> = parked
        .map(|(signer, part)| {
            let number = (1u8..=9).find(|it| validator_key(*it).public_key() == *signer).unwrap();
            (number, part.announcement.value.round)
        })
        .collect();
    parked.sort_unstable();
    assert_eq!(parked, [(1, 0), (2, 3), (3, 0), (4, 0)]);
}
