//! Transfers.

use expect_test::{Expect, expect};
use ledger::Module;
use types::{Address, Watt, tx::Action};

use crate::world::{World, address};

fn check(from: &str, to: Address, amount: Watt, expected: Expect) {
    let mut world = World::new();
    world.name(Module::Vault.address().to_string(), "the vault");
    world.check(from, Action::Transfer { to, amount }, expected);
}

#[test]
fn a_transfer_moves_watt() {
    check(
        "alice",
        address("gina"),
        Watt::whole(5),
        expect!["bank.transferred: from=alice to=gina amount=5000000000"],
    );
    check(
        "alice",
        address("poor"),
        Watt(1),
        expect!["bank.transferred: from=alice to=poor amount=1"],
    );
    check(
        "alice",
        address("alice"),
        Watt::whole(5),
        expect!["bank.transferred: from=alice to=alice amount=5000000000"],
    );
}

#[test]
fn a_transfer_is_bounded_by_what_is_left_after_the_fee() {
    check(
        "alice",
        address("gina"),
        Watt::whole(1_000),
        expect![
            "failed account.insufficient_watt: alice has 999.998809 WATT and needs 1000 WATT; send it WATT or use less"
        ],
    );
    check(
        "alice",
        address("gina"),
        Watt(u128::MAX),
        expect![
            "failed account.insufficient_watt: alice has 999.998809 WATT and needs 340282366920938463463374607431.768211455 WATT; send it WATT or use less"
        ],
    );
}

#[test]
fn a_transfer_of_nothing_or_to_the_ledger_itself_is_refused() {
    check(
        "alice",
        address("gina"),
        Watt::ZERO,
        expect!["failed amount.zero: the amount is zero; give an amount above zero"],
    );
    check(
        "alice",
        Module::Vault.address(),
        Watt(1),
        expect![
            "failed transfer.to_module: the vault is an account of the ledger itself, what is sent there is lost; check the address"
        ],
    );
}

#[test]
fn all_that_is_left_after_the_fee_can_be_sent() {
    let mut world = World::new();
    let to = address("gina");
    let fee =
        world.state.fee(world.tx("alice", Action::Transfer { to, amount: Watt(1) }).bytes_len());
    let amount = world.watt("alice").checked_sub(fee).unwrap();
    world.apply("alice", Action::Transfer { to, amount });
    assert_eq!(world.watt("alice"), Watt::ZERO);
    assert_eq!(world.watt("gina"), Watt::whole(1_000).checked_add(amount).unwrap());
}
