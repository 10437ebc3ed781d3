//! Registration of gateways.

use expect_test::expect;
use types::tx::Action;

use crate::world::{World, address, key};

fn register(node: &str, moniker: &str, addrs: &[&str]) -> Action {
    Action::RegisterGateway {
        node_key: key(node),
        moniker: moniker.to_owned(),
        addrs: addrs.iter().map(|addr| (*addr).to_owned()).collect(),
    }
}

#[test]
fn a_gateway_registers_and_replaces_its_entry() {
    let mut world = World::new();
    world.check(
        "gina",
        register("gina/node", "Gina's gate", &["203.0.113.7:4433"]),
        expect!["gateway.registered: operator=gina node_key=gina/node moniker=Gina's gate"],
    );
    let since = world.state.gateway(&address("gina")).unwrap().registered_at;
    world.wait(1_000);
    world.apply("gina", register("gina/vouchers", "gina", &[]));
    let entry = world.state.gateway(&address("gina")).unwrap();
    assert_eq!((entry.node_key, entry.registered_at), (key("gina/vouchers"), since));
    // The key it gave up is free again.
    world.apply("alice", register("gina/node", "alice", &["[::1]:1"]));
    assert_eq!(world.state.gateways().count(), 2);
}

#[test]
fn a_gateway_is_named_and_dialled_properly() {
    let mut world = World::new();
    let nine = ["a.example:1"; 9];
    let long = "m".repeat(97);
    world.apply("alice", register("alice/node", "alice", &nine[..8]));
    for (action, expected) in [
        (
            register("gina/node", "gina", &nine),
            expect![
                "failed gateway.too_many_addrs: 9 addresses are more than the 8 of one entry; give fewer"
            ],
        ),
        (
            register("gina/node", "gina", &["a.example:1", "a.example"]),
            expect![
                "failed gateway.bad_addr: address 1 is not `host:port`; write it like `203.0.113.7:4433`"
            ],
        ),
        (
            register("gina/node", "", &[]),
            expect![
                "failed registry.moniker: a moniker of 0 bytes; use 1 to 96 without control characters"
            ],
        ),
        (
            register("gina/node", &long, &[]),
            expect![
                "failed registry.moniker: a moniker of 97 bytes; use 1 to 96 without control characters"
            ],
        ),
        (
            register("gina/node", "red\u{1b}[31m", &[]),
            expect![
                "failed registry.moniker: a moniker of 8 bytes; use 1 to 96 without control characters"
            ],
        ),
        (
            register("alice/node", "gina", &[]),
            expect![
                "failed registry.node_key_taken: node key alice/node belongs to alice; make a new node key"
            ],
        ),
    ] {
        world.check("gina", action, expected);
    }
}
