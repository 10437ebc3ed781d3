//! Where auditors are reached, and that only those are drawn who are.

use expect_test::expect;
use types::{
    Hash32, ModelId,
    audit::{CommitmentId, ReceiptsCommitment},
    state::ProviderProfile,
    tx::Action,
};

use crate::world::{MINUTE_MS, World, address, auditor, key, profile};

fn register(node: &str, addrs: &[&str]) -> Action {
    let addrs = addrs.iter().map(|addr| (*addr).to_owned()).collect();
    Action::RegisterAuditor { node_key: key(node), addrs }
}

#[test]
fn a_validator_says_where_its_auditor_is_reached() {
    let mut world = World::new();
    world.check(
        "vera",
        register("vera/node", &["203.0.113.7:4434"]),
        expect!["auditor.registered: operator=vera node_key=vera/node"],
    );
    world.apply("vera", register("vera/vouchers", &["a.example:1", "b.example:2"]));
    let entry = world.state.auditor(&address("vera")).unwrap();
    assert_eq!((entry.node_key, entry.addrs.len()), (key("vera/vouchers"), 2));
    // The key it gave up is free again, and others may have one like it in another role.
    world.apply("vito", register("vera/node", &["[::1]:1"]));
    assert_eq!(world.state.auditors().count(), 2);
    world.check(
        "vera",
        register("vera/vouchers", &[]),
        expect!["auditor.withdrawn: operator=vera"],
    );
    assert_eq!(world.state.auditor(&address("vera")), None);
    world.apply("vito", register("vera/vouchers", &["[::1]:1"]));
}

#[test]
fn an_auditor_is_of_a_validator_and_reached_properly() {
    let mut world = World::new();
    world.apply("vito", auditor("vito"));
    for (name, action, expected) in [
        (
            "gina",
            auditor("gina"),
            expect![
                "failed validator.unknown: gina is not a registered validator; register it first"
            ],
        ),
        (
            "vera",
            register("vera/node", &["a.example:1"; 9]),
            expect![
                "failed gateway.too_many_addrs: 9 addresses are more than the 8 of one entry; give fewer"
            ],
        ),
        (
            "vera",
            register("vera/node", &["a.example:1", "a.example"]),
            expect![
                "failed gateway.bad_addr: address 1 is not `host:port`; write it like `203.0.113.7:4433`"
            ],
        ),
        (
            "vera",
            register("vito/node", &["a.example:1"]),
            expect![
                "failed registry.node_key_taken: node key vito/node belongs to vito; make a new node key"
            ],
        ),
    ] {
        world.check(name, action, expected);
    }
}

/// Both validators have a seat. As many verifiers are drawn as are reached.
#[test]
fn only_who_is_reached_is_drawn() {
    let mut world = World::new();
    let model = ModelId([1; 32]);
    let profile = ProviderProfile { models: vec![model], ..profile("paul") };
    let (node_key, bond) = (key("paul/node"), types::Watt::whole(10));
    world.apply("paul", Action::RegisterProvider { node_key, profile, commission: None, bond });
    let receipts = ReceiptsCommitment { model, root: Hash32([1; 32]), count: 10 };
    let drawn = |world: &mut World| {
        let sequence = world.state.account(&address("paul")).nonce.0;
        world.apply("paul", Action::CommitReceipts { receipts, seal: Hash32::default() });
        let id = CommitmentId { provider: address("paul"), sequence };
        world.wait(MINUTE_MS);
        let outcome = world.vote(&["vera", "vito"], world.state.price());
        let dropped = outcome.events.iter().any(|event| event.kind() == "audit.dropped");
        let seats = world.state.round(&id).map(|round| round.seats.len());
        (seats, dropped)
    };
    assert_eq!(drawn(&mut world), (None, true));
    world.apply("vito", auditor("vito"));
    assert_eq!(drawn(&mut world), (Some(1), false));
    world.apply("vera", auditor("vera"));
    assert_eq!(drawn(&mut world), (Some(2), false));
    world.apply("vito", register("vito/node", &[]));
    assert_eq!(drawn(&mut world), (Some(1), false));
}
