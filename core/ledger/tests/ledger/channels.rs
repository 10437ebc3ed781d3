//! Opening, topping up, withdrawing and closing channels.

use expect_test::expect;
use types::{ChannelId, Nusd, Watt, channel::ChannelTerms, tx::Action};

use crate::world::{World, address, claim, pay, redeem, register};

#[test]
fn a_channel_opens_once_from_the_signers_free_credits() {
    let mut world = World::new();
    world.apply("paul", register("paul", Watt::ZERO));
    world.apply("gina", pay(Watt::whole(10)));
    let terms = world.terms("gina", "paul", 1);
    let id = terms.id(&world.genesis.chain_id);
    world.name(id.to_string(), "the channel");
    let deposit = world.credits("gina");
    let open =
        |terms: &ChannelTerms, deposit| Action::OpenChannel { terms: terms.clone(), deposit };
    let more = deposit.checked_add(Nusd(1)).unwrap();
    world.check("gina", open(&terms, more), expect!["failed account.insufficient_credits: gina has 19.95 USD of free credits and needs 19.950000001 USD; buy credits or use less"]);
    world.check(
        "gina",
        open(&terms, Nusd::ZERO),
        expect!["failed amount.zero: the deposit is zero; give an amount above zero"],
    );
    world.check(
        "gina",
        open(&terms, deposit),
        expect!["channel.opened: channel=the channel payer=gina receiver=paul deposit=19950000000"],
    );
    world.check(
        "gina",
        open(&terms, Nusd(1)),
        expect![
            "failed channel.exists: channel the channel exists; open another one with a new salt"
        ],
    );
    assert_eq!(world.credits("gina"), Nusd::ZERO);
    for party in ["gina", "paul"] {
        let channels: Vec<ChannelId> =
            world.state.channels_of(address(party)).map(|(id, _)| id).collect();
        assert_eq!(channels, [id]);
    }
    assert_eq!(world.state.channels_of(address("pia")).count(), 0);
}

#[test]
fn a_channel_is_refused_for_foreign_terms() {
    let mut world = World::new();
    world.apply("paul", register("paul", Watt::ZERO));
    world.apply("gina", pay(Watt::whole(10)));
    let terms = |change: &dyn Fn(&mut ChannelTerms)| {
        let mut terms = world.terms("gina", "paul", 1);
        change(&mut terms);
        Action::OpenChannel { terms, deposit: Nusd(1) }
    };
    let (min, max) = (
        world.genesis.params.channels.withdraw_delay_ms_min,
        world.genesis.params.channels.withdraw_delay_ms_max,
    );
    let actions = [
        terms(&|terms| terms.payer = address("alice")),
        terms(&|terms| terms.receiver = address("alice")),
        terms(&|terms| terms.withdraw_delay_ms = min - 1),
        terms(&|terms| terms.withdraw_delay_ms = max + 1),
    ];
    let expected = [
        expect![
            "failed channel.terms_payer: the terms name alice as payer and gina signed; sign with the payer's key"
        ],
        expect!["failed provider.unknown: alice is not a registered provider; register it first"],
        expect![
            "failed channel.withdraw_delay: a withdraw delay of 899999 ms; use 900000 to 2592000000"
        ],
        expect![
            "failed channel.withdraw_delay: a withdraw delay of 2592000001 ms; use 900000 to 2592000000"
        ],
    ];
    let longest = terms(&|terms| terms.withdraw_delay_ms = max);
    for (action, expected) in actions.into_iter().zip(expected) {
        world.check("gina", action, expected);
    }
    world.apply("gina", longest);
}

#[test]
fn a_top_up_is_the_payers() {
    let (mut world, channel) = World::with_channel(Nusd::whole(10));
    world.name(ChannelId([7; 32]).to_string(), "no channel");
    let top_up = |channel, amount| Action::TopUpChannel { channel, amount };
    world.check("gina", top_up(channel, Nusd(1)), expect!["failed account.insufficient_credits: gina has 0 USD of free credits and needs 0.000000001 USD; buy credits or use less"]);
    world.apply("gina", pay(Watt::whole(10)));
    world.apply("alice", pay(Watt::whole(10)));
    world.check(
        "gina",
        top_up(channel, Nusd(5)),
        expect!["channel.topped_up: channel=gina>paul/1 payer=gina amount=5 deposit=10000000005"],
    );
    world.check(
        "gina",
        top_up(channel, Nusd::ZERO),
        expect!["failed amount.zero: the amount is zero; give an amount above zero"],
    );
    world.check(
        "alice",
        top_up(channel, Nusd(5)),
        expect![
            "failed channel.not_payer: only gina, who pays into channel gina>paul/1, may do this"
        ],
    );
    world.check(
        "gina",
        top_up(ChannelId([7; 32]), Nusd(5)),
        expect!["failed channel.unknown: channel no channel does not exist; check its id"],
    );
}

#[test]
fn the_payer_takes_the_rest_after_the_delay_and_not_before() {
    let (mut world, channel) = World::with_channel(Nusd::whole(10));
    let delay_ms = world.genesis.params.channels.withdraw_delay_ms_min;
    world.check("gina", Action::FinalizeWithdraw { channel }, expect!["failed channel.withdraw_not_requested: nobody asked for a withdrawal of channel gina>paul/1; request it first"]);
    world.check(
        "paul",
        Action::RequestWithdraw { channel },
        expect![
            "failed channel.not_payer: only gina, who pays into channel gina>paul/1, may do this"
        ],
    );
    world.check(
        "gina",
        Action::RequestWithdraw { channel },
        expect!["channel.withdraw_requested: channel=gina>paul/1 withdraw_at=1900000"],
    );
    world.check("gina", Action::RequestWithdraw { channel }, expect!["failed channel.withdraw_pending: a withdrawal of channel gina>paul/1 is under way; finish it at 1900000 ms"]);
    world.apply("gina", pay(Watt::whole(1)));
    world.check("gina", Action::TopUpChannel { channel, amount: Nusd(1) }, expect!["failed channel.withdraw_pending: a withdrawal of channel gina>paul/1 is under way; finish it at 1900000 ms"]);
    let free = world.credits("gina");
    world.wait(delay_ms - 1);
    world.check("gina", Action::FinalizeWithdraw { channel }, expect!["failed channel.withdraw_early: the withdrawal of channel gina>paul/1 is due at 1900000 ms and the block is of 1899999 ms; try again then"]);
    // The receiver may redeem until the payer has taken the rest.
    world.wait(1);
    let usd = Nusd::whole(3);
    world.apply("paul", redeem(vec![claim("gina", channel, 0, Nusd::whole(10), usd)]));
    world.check(
        "mallory",
        Action::FinalizeWithdraw { channel },
        expect![
            "failed channel.not_payer: only gina, who pays into channel gina>paul/1, may do this"
        ],
    );
    world.check(
        "gina",
        Action::FinalizeWithdraw { channel },
        expect!["channel.closed: channel=gina>paul/1 payer=gina receiver=paul returned=7000000000"],
    );
    assert_eq!(world.credits("gina"), free.checked_add(Nusd::whole(7)).unwrap());
}

#[test]
fn a_closed_channel_keeps_its_totals_and_takes_nothing_more() {
    let (mut world, channel) = World::with_channel(Nusd::whole(10));
    let usd = Nusd::whole(4);
    world.apply("paul", redeem(vec![claim("gina", channel, 3, usd, usd)]));
    world.check("gina", Action::CloseChannel { channel }, expect!["failed channel.not_receiver: only paul, who is paid by channel gina>paul/1, may do this"]);
    world.check(
        "paul",
        Action::CloseChannel { channel },
        expect!["channel.closed: channel=gina>paul/1 payer=gina receiver=paul returned=6000000000"],
    );
    let closed = world.state.channel(&channel).unwrap();
    assert_eq!((closed.claimed, closed.balance()), (usd, Nusd::ZERO));
    assert_eq!(world.state.lanes_of(channel).collect::<Vec<_>>(), [(types::Lane(3), usd)]);
    let terms = world.terms("gina", "paul", 1);
    let more = claim("gina", channel, 3, Nusd::whole(9), Nusd::whole(9));
    for (name, action, expected) in [
        (
            "gina",
            Action::OpenChannel { terms, deposit: Nusd(1) },
            expect![
                "failed channel.exists: channel gina>paul/1 exists; open another one with a new salt"
            ],
        ),
        (
            "gina",
            Action::TopUpChannel { channel, amount: Nusd(1) },
            expect![
                "failed channel.closed: channel gina>paul/1 is closed; open another one with a new salt"
            ],
        ),
        (
            "gina",
            Action::RequestWithdraw { channel },
            expect![
                "failed channel.closed: channel gina>paul/1 is closed; open another one with a new salt"
            ],
        ),
        (
            "gina",
            Action::FinalizeWithdraw { channel },
            expect![
                "failed channel.closed: channel gina>paul/1 is closed; open another one with a new salt"
            ],
        ),
        (
            "paul",
            Action::CloseChannel { channel },
            expect![
                "failed channel.closed: channel gina>paul/1 is closed; open another one with a new salt"
            ],
        ),
        (
            "paul",
            redeem(vec![more]),
            expect![
                "failed channel.closed: channel gina>paul/1 is closed; open another one with a new salt"
            ],
        ),
    ] {
        world.check(name, action, expected);
    }
}
