//! A network of nodes on one thread, from a seed: loss, reordering, duplicates and delay on the
//! wires, crashes between any two effects, a validator that lies, a node without weight, a set of
//! validators that transactions change.
//!
//! Three phases. Safety: anything may go wrong, and nothing false happens. Heal: everybody comes
//! back, the wires hold, a fresh node joins; the liar goes on. Liveness: all come to the same tip,
//! every transaction that an honest node held is in the chain or was given up with a reason, every
//! fault is punished, and then there are no more blocks.

mod auditor;
mod liar;
mod nodes;
mod random;
mod toy;
mod world;

use std::collections::BTreeMap;

use replication::node::Input;
use types::{Height, TxId};

use crate::{
    auditor::Seen,
    toy::{Checked, Tx},
    world::{Event, Host, Weather, World},
};

const SAFETY_MS: u64 = 4_000;
const HEAL_MS: u64 = 1_500;
const LIVENESS_MS: u64 = 4_000;
/// Longer than a transaction may wait, without the liar's.
const SETTLE_MS: u64 = 16_000;
const IDLE_MS: u64 = 20_000;

/// What a run has shown: its digest, and how often what happened.
fn run(seed: u64) -> (u64, Seen) {
    let mut world = World::new(seed, 4 + (seed % 4) as u8);
    world.run(SAFETY_MS);
    heal(&mut world);
    world.run(SAFETY_MS + HEAL_MS);
    world.submitting = false;
    let held = held(&world);
    world.run(SAFETY_MS + HEAL_MS + LIVENESS_MS);
    world.lying = false;
    world.run(SAFETY_MS + HEAL_MS + LIVENESS_MS + SETTLE_MS);
    check_liveness(&world, &held);
    check_idle(&mut world);
    world.auditor.nobody_waits();
    let mut seen = world.auditor.seen.clone();
    seen.punished = world.state.punished.len() as u64;
    (world.trace, seen)
}

/// The wires hold, the dead come back, and somebody joins who knows nothing.
fn heal(world: &mut World) {
    world.weather = Weather { delay_ms_max: world.weather.delay_ms_max, ..Weather::default() };
    let honest: Vec<u8> = world.hosts.keys().copied().collect();
    for node in &honest {
        world.after(1, Event::Restart { node: *node });
    }
    // What was lost on a connection stays lost; so all begin anew.
    for (a, b) in world.links.keys().copied().collect::<Vec<_>>() {
        world.disconnect(a, b);
    }
    for a in &honest {
        for b in honest.iter().filter(|b| *b > a) {
            world.after(50, Event::Connect { a: *a, b: *b });
        }
    }
    let fresh = world.liar + 1;
    world.hosts.insert(fresh, Host::default());
    world.boot(fresh);
    world.feed(fresh, Input::Behind { trusted: None, preferred: [].into() });
}

/// Transactions that wait somewhere, and faults that are known.
fn held(world: &World) -> BTreeMap<TxId, Checked> {
    let up = world.hosts.values().filter_map(|host| host.up.as_ref());
    let held = up.flat_map(|up| up.node.mempool().iter());
    held.filter_map(|(id, bytes)| Some((id, Checked::of(bytes)?))).collect()
}

/// Each is in the chain, or another took its nonce, or it was not valid any more, or it stood
/// behind such a one, or it made room.
fn check_held(world: &World, held: &BTreeMap<TxId, Checked>) {
    let mut invalid_from: BTreeMap<u8, u64> = BTreeMap::new();
    let ended = |tx: &Tx| !world.state.fits(tx, world.now);
    let gone = |id: &TxId, tx: &Tx| ended(tx) || world.auditor.gave_up(id);
    for (id, Checked { tx, .. }) in held {
        if gone(id, tx) {
            let from = invalid_from.entry(tx.sender).or_insert(tx.nonce);
            *from = tx.nonce.min(*from);
        }
    }
    for (id, Checked { tx, .. }) in held {
        let used = tx.nonce < world.state.next_nonce(tx.sender);
        let behind = invalid_from.get(&tx.sender).is_some_and(|from| *from <= tx.nonce);
        assert!(world.auditor.has(id) || used || behind, "{tx:?} was valid and was forgotten");
    }
}

fn check_liveness(world: &World, held: &BTreeMap<TxId, Checked>) {
    for (node, host) in &world.hosts {
        let up = host.up.as_ref().expect("everybody is up");
        assert_eq!(up.app.height, world.chain.len() as u64, "node {node} is at the tip");
        assert_eq!(up.app.hash(), world.state.hash());
        assert_eq!(up.node.tip().height, Height(up.app.height));
        assert!(up.node.mempool().is_empty(), "nothing waits at node {node}");
        assert!(up.node.evidence().is_empty(), "every fault is punished");
        assert!(up.node.sync().is_none());
    }
    check_held(world, held);
}

/// With nothing to do there are no blocks, and nobody begins one.
fn check_idle(world: &mut World) {
    let now = world.now;
    let (height, starts) = (world.chain.len(), world.starts);
    world.run(now + IDLE_MS);
    assert_eq!((world.chain.len(), world.starts), (height, starts), "an idle network is quiet");
}

#[test]
fn many_seeds() {
    let mut seen = Seen::default();
    for seed in 0..300 {
        let run = std::panic::catch_unwind(|| run(seed));
        let Ok((_, more)) = run else { panic!("seed {seed} fails") };
        seen.add(&more);
    }
    assert!(seen.all().iter().all(|count| *count > 0), "everything happens: {seen:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 2, 77] {
        assert_eq!(run(seed), run(seed));
    }
    assert_ne!(run(1).0, run(2).0);
}
