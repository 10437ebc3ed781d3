//! Lanes: tables, and properties over any history.

use proptest::prelude::*;

use super::*;

const PRICE: Price = Price {
    request_nusd: Nusd(10),
    prompt_nusd_per_mtok: Nusd(50_000_000),
    completion_nusd_per_mtok: Nusd(100_000_000),
};
const CHANNEL: ChannelId = ChannelId([1; 32]);
const PROVIDER: Address = Address([2; 20]);

fn ask(tokens_max: Option<u32>, budget_left: u128) -> Ask {
    Ask {
        price: PRICE,
        prompt_tokens_max: 10,
        tokens_max,
        context_tokens: 1_000,
        budget_left: Nusd(budget_left),
    }
}

fn channels(deposit: u128) -> Channels {
    let mut channels = Channels::default();
    channels.set(CHANNEL, PROVIDER, Nusd(deposit));
    channels
}

#[test]
fn a_grant_is_what_was_asked_for_or_what_money_allows() {
    let cost = |tokens| PRICE.charge(10, tokens);
    let grant = |tokens_max, budget: u128, room: u128| {
        ask(tokens_max, budget).grant(Nusd(room)).map(|grant| {
            assert_eq!(grant.cost_max, cost(grant.tokens_max));
            grant.tokens_max
        })
    };
    let plenty = 1_000_000_000;
    assert_eq!(grant(Some(100), plenty, plenty), Ok(100));
    assert_eq!(grant(None, plenty, plenty), Ok(1_000), "the context");
    assert_eq!(grant(Some(5_000), plenty, plenty), Ok(1_000), "never beyond the context");
    assert_eq!(grant(None, cost(200).0, plenty), Ok(200));
    assert_eq!(grant(None, plenty, cost(200).0 + 99), Ok(200));
    let short = cost(100).0 - 1;
    assert_eq!(grant(Some(100), short, plenty), Err(Short::Budget { needed: cost(100) }));
    assert_eq!(grant(Some(100), plenty, short), Err(Short::Room { needed: cost(100) }));
    let window = cost(WINDOW_TOKENS);
    assert_eq!(grant(None, window.0 - 1, plenty), Err(Short::Budget { needed: window }));
    assert_eq!(grant(None, window.0, plenty), Ok(WINDOW_TOKENS));
}

#[test]
fn lanes_are_used_again_and_their_leases_are_rare() {
    let mut channels = channels(100_000_000);
    let mut leases = 0;
    for round in 0..100 {
        let (grant, held) = channels.hold(CHANNEL, &ask(Some(50), u128::MAX)).unwrap();
        assert_eq!(held.lane, Lane(0));
        leases += usize::from(held.lease.is_some());
        let total = Nusd(held.total_before.0 + grant.cost_max.0);
        let voucher = channels.voucher(CHANNEL, held.lane, total).unwrap();
        assert_eq!((voucher.sequence, voucher.total), (round + 1, total));
        channels.release(CHANNEL, held.lane, total);
    }
    assert_eq!(leases, 6, "one for every 17 requests");
    let (_, first) = channels.hold(CHANNEL, &ask(Some(1), u128::MAX)).unwrap();
    let (_, second) = channels.hold(CHANNEL, &ask(Some(1), u128::MAX)).unwrap();
    assert_eq!((first.lane, second.lane), (Lane(0), Lane(1)));
    assert_eq!(channels.hold(ChannelId([9; 32]), &ask(None, 1)), Err(Short::NoChannel));
}

#[test]
fn nothing_is_signed_above_the_lease_even_if_asked() {
    let mut channels = channels(100_000_000);
    let (_, held) = channels.hold(CHANNEL, &ask(Some(1), u128::MAX)).unwrap();
    let lease = held.lease.unwrap();
    assert_eq!(channels.voucher(CHANNEL, held.lane, Nusd(lease.lease_total.0 + 1)), None);
    assert!(channels.voucher(CHANNEL, held.lane, lease.lease_total).is_some());
}

#[test]
fn a_restored_lane_counts_its_lease_as_promised_until_the_provider_has_spoken() {
    let mut before = channels(100_000_000);
    let (_, held) = before.hold(CHANNEL, &ask(Some(50), u128::MAX)).unwrap();
    let voucher = before.voucher(CHANNEL, held.lane, Nusd(3_000)).unwrap();
    let lease = held.lease.unwrap();

    let mut after = channels(100_000_000);
    after.restore(&lease);
    assert_eq!(after.room(CHANNEL), Nusd(100_000_000 - lease.lease_total.0));
    let claim = LaneClaim { lane: held.lane, charged: Nusd(2_500), voucher: Some(voucher) };
    let record = after.adopt(CHANNEL, &claim).record.unwrap();
    assert_eq!((record.charged, record.retired), (Nusd(2_500), false));
    after.synced(CHANNEL);
    assert_eq!(after.room(CHANNEL), Nusd(100_000_000 - 3_000));
    let (_, held) = after.hold(CHANNEL, &ask(Some(50), u128::MAX)).unwrap();
    assert_eq!((held.total_before, held.signed), (Nusd(2_500), Nusd(3_000)));
    let next = after.voucher(CHANNEL, held.lane, Nusd(2_600)).unwrap();
    assert!(
        next.sequence > voucher.sequence && next.total == Nusd(3_000),
        "never below, never again"
    );
}

#[test]
fn a_count_that_no_voucher_backs_retires_the_lane() {
    let mut channels = channels(100_000_000);
    let claim = LaneClaim { lane: Lane(0), charged: Nusd(1), voucher: None };
    let adopted = channels.adopt(CHANNEL, &claim);
    assert!(adopted.is_untrue && adopted.record.unwrap().retired);
    let (_, held) = channels.hold(CHANNEL, &ask(Some(1), u128::MAX)).unwrap();
    assert_eq!(held.lane, Lane(1));
    let busy = LaneClaim { lane: Lane(1), ..claim };
    let nothing = Adopted { record: None, is_untrue: false };
    assert_eq!(channels.adopt(CHANNEL, &busy), nothing, "a lane in work is left alone");
    let wild = LaneClaim { lane: Lane(limits::LANES_MAX), ..claim };
    assert_eq!(channels.adopt(CHANNEL, &wild), nothing);
}

#[test]
fn a_provider_is_believed_once_and_not_against_its_own_signature() {
    let mut channels = channels(100_000_000);
    let mut lanes = Vec::new();
    for (was_agreed, is_believed) in
        [(None, true), (Some(false), false), (Some(true), false), (None, false)]
    {
        let (grant, held) = channels.hold(CHANNEL, &ask(Some(50), u128::MAX)).unwrap();
        lanes.push(held.lane.0);
        let total = Nusd(held.total_before.0 + grant.cost_max.0);
        let voucher = channels.voucher(CHANNEL, held.lane, total);
        channels.release(CHANNEL, held.lane, held.total_before);
        if let Some(is_agreed) = was_agreed {
            channels.ended(CHANNEL, held.lane, is_agreed);
        }
        let claim = LaneClaim { lane: held.lane, charged: total, voucher };
        assert_eq!(channels.adopt(CHANNEL, &claim).is_untrue, !is_believed, "{was_agreed:?}");
        // Then both sides agree on an order of the next lane.
        if !is_believed {
            let (_, next) = channels.hold(CHANNEL, &ask(Some(1), u128::MAX)).unwrap();
            channels.release(CHANNEL, next.lane, Nusd(next.total_before.0 + 1));
            channels.ended(CHANNEL, next.lane, true);
        }
    }
    assert_eq!(lanes, [0, 0, 1, 2]);
}

#[test]
fn a_lease_of_before_a_restart_gives_no_more_than_the_deposit() {
    let mut before = channels(10_000);
    let (_, held) = before.hold(CHANNEL, &ask(Some(50), u128::MAX)).unwrap();
    let lease = held.lease.unwrap();
    assert!(lease.lease_total > Nusd(10_000));
    let mut after = channels(10_000);
    after.restore(&lease);
    assert_eq!(after.room(CHANNEL), Nusd::ZERO);
    let (grant, _) = after.hold(CHANNEL, &ask(None, u128::MAX)).unwrap();
    assert!(grant.cost_max <= Nusd(10_000), "{grant:?}");
    // Nobody syncs a caller's own channel.
    let mut own = Channels::default();
    own.restore(&lease);
    own.set_own(CHANNEL, PROVIDER, Nusd(10_000));
    assert_eq!(own.room(CHANNEL), Nusd(10_000));
}

#[test]
fn what_the_ledger_has_paid_is_charged() {
    let mut channels = channels(100_000_000);
    channels.claimed(CHANNEL, Lane(0), Nusd(700));
    let (_, held) = channels.hold(CHANNEL, &ask(Some(1), u128::MAX)).unwrap();
    assert_eq!(held.total_before, Nusd(700));
}

#[derive(Clone, Debug)]
enum Action {
    Hold(Option<u32>),
    Sign(usize, u128),
    Release(usize, u128),
    TopUp(u128),
    Rest(u32),
    Restart { synced: bool },
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => proptest::option::of(1..200_u32).prop_map(Action::Hold),
        4 => (0..8_usize, 0..100_u128).prop_map(|(n, share)| Action::Sign(n, share)),
        4 => (0..8_usize, 0..100_u128).prop_map(|(n, share)| Action::Release(n, share)),
        1 => (0..50_000_u128).prop_map(Action::TopUp),
        1 => (0..8_u32).prop_map(Action::Rest),
        1 => proptest::bool::ANY.prop_map(|synced| Action::Restart { synced }),
    ]
}

proptest! {
    #[test]
    fn promises_never_exceed_the_deposit_and_never_fall(
        mut deposit in 0..200_000_u128,
        actions in prop::collection::vec(any_action(), 0..80),
    ) {
        let mut channels = channels(deposit);
        let mut running: Vec<(Lane, Nusd, Nusd)> = Vec::new();
        let mut best: BTreeMap<u32, (u64, Nusd)> = BTreeMap::new();
        // After a restart it is not known what was signed, until the provider has said so.
        let mut knows = true;
        for action in actions {
            match action {
                Action::Hold(tokens_max) => {
                    if let Ok((grant, held)) = channels.hold(CHANNEL, &ask(tokens_max, u128::MAX)) {
                        prop_assert!(running.iter().all(|(lane, ..)| *lane != held.lane));
                        running.push((held.lane, held.total_before, grant.cost_max));
                    }
                }
                Action::Sign(n, share) if n < running.len() => {
                    let (lane, before, cost_max) = running[n];
                    let total = Nusd(before.0 + cost_max.0 * share / 100);
                    let voucher = channels.voucher(CHANNEL, lane, total);
                    let voucher = voucher.expect("a held lane is leased for all it can cost");
                    let (sequence, signed) = best.get(&lane.0).copied().unwrap_or_default();
                    prop_assert!(voucher.sequence > sequence && voucher.total >= total);
                    prop_assert!(voucher.total >= signed || !knows);
                    best.insert(lane.0, (voucher.sequence, voucher.total.max(signed)));
                }
                Action::Release(n, share) if n < running.len() => {
                    let (lane, before, _) = running.remove(n);
                    let signed = best.get(&lane.0).map_or(before, |(_, signed)| *signed);
                    let owed = signed.0.saturating_sub(before.0) * share / 100;
                    channels.release(CHANNEL, lane, Nusd(before.0 + owed));
                }
                Action::TopUp(amount) => {
                    deposit += amount;
                    channels.set(CHANNEL, PROVIDER, Nusd(deposit));
                }
                Action::Rest(lane) => channels.rest(CHANNEL, Lane(lane)),
                Action::Restart { synced } => {
                    let records = channels.records();
                    channels = Channels::default();
                    records.iter().for_each(|record| channels.restore(record));
                    channels.set(CHANNEL, PROVIDER, Nusd(deposit));
                    running.clear();
                    knows = synced;
                    if synced {
                        for (&lane, &(sequence, total)) in &best {
                            let (channel, lane) = (CHANNEL, Lane(lane));
                            let voucher = Some(Voucher { channel, lane, sequence, total });
                            channels.adopt(CHANNEL, &LaneClaim { lane, charged: Nusd(0), voucher });
                        }
                        channels.synced(CHANNEL);
                    }
                }
                Action::Sign(..) | Action::Release(..) => {}
            }
            let signed: u128 = best.values().map(|(_, total)| total.0).sum();
            prop_assert!(signed <= deposit, "signed {signed} of {deposit}");
            let totals = channels.totals()[0];
            prop_assert!(totals.charged <= totals.promised);
            prop_assert!(totals.promised.0 <= deposit || !knows);
        }
    }
}
