//! What is true after every block, each as a numbered pure function.
//!
//! Tests, the simulator and the check command run [`check_all`]; nothing in the ledger relies on
//! them at run time. What a single state cannot show, because it is about change, is in
//! [`check_transition`]. `docs/spec/invariants.md` lists all numbers.

use std::collections::{BTreeMap, BTreeSet};

use types::{Address, Lane, Nusd, PublicKey, TimeMs, Watt, limits::LANES_MAX};

use crate::{
    bank::{Account, Module},
    channel::Channel,
    provider::{NodeRole, Provider, Stage},
    state::State,
};

/// One property of every state.
#[derive(Clone, Copy, Debug)]
pub struct Invariant {
    /// As in `docs/spec/invariants.md`.
    pub number: &'static str,
    pub statement: &'static str,
    check: fn(&State) -> Result<(), String>,
}

/// A state, or a step from one to the next, that should not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invariant {number} is broken: {detail}")]
pub struct Violation {
    pub number: &'static str,
    pub detail: String,
}

impl Invariant {
    pub fn check(&self, state: &State) -> Result<(), Violation> {
        (self.check)(state).map_err(|detail| Violation { number: self.number, detail })
    }
}

/// Every property of a single state.
pub fn all() -> &'static [Invariant] {
    &[
        Invariant {
            number: "L1",
            statement: "the WATT of all accounts sum to the total supply",
            check: supply_is_the_sum_of_accounts,
        },
        Invariant {
            number: "L2",
            statement: "total = genesis + minted − burned, by reasons",
            check: supply_follows_from_counters,
        },
        Invariant {
            number: "L3",
            statement: "no balance is below zero, which would show as one above the supply",
            check: balances_are_within_the_supply,
        },
        Invariant {
            number: "L4",
            statement: "total ≤ supply_max, and settlements minted ≤ settlement_reserve",
            check: supply_is_within_the_cap,
        },
        Invariant {
            number: "L5",
            statement: "bonds and rewards accounts hold exactly the claims recorded on them",
            check: modules_are_solvent,
        },
        Invariant {
            number: "L6",
            statement: "accounts of the ledger sign nothing, owe nothing and hold no credits",
            check: modules_are_not_users,
        },
        Invariant {
            number: "BME1",
            statement: "credits outstanding = free + held by channels",
            check: credits_are_somewhere,
        },
        Invariant {
            number: "BME2",
            statement: "vault = paid in by purchases − taken by settlements",
            check: vault_follows_from_counters,
        },
        Invariant {
            number: "BME5",
            statement: "credits outstanding = issued − settled",
            check: credits_follow_from_counters,
        },
        Invariant {
            number: "CH1",
            statement: "claimed + returned + balance = deposit, claimed = sum of lanes, closed holds 0",
            check: channels_add_up,
        },
        Invariant {
            number: "CH3",
            statement: "all channels' claims together are the credits that were settled",
            check: claims_are_settled,
        },
        Invariant {
            number: "PR1",
            statement: "the receiver of every open channel is registered and counts it",
            check: providers_count_their_channels,
        },
        Invariant {
            number: "PR2",
            statement: "a provider that left has no bond and an open channel",
            check: those_who_left_hold_nothing,
        },
        Invariant {
            number: "PR3",
            statement: "providers without a bond are counted and within their places",
            check: unbonded_providers_are_bounded,
        },
        Invariant {
            number: "IX1",
            statement: "indexes hold exactly what follows from the entries",
            check: indexes_follow_from_entries,
        },
        Invariant {
            number: "V1",
            statement: "there are validators and each has power",
            check: validators_have_power,
        },
    ]
}

/// The first broken property, in order of [`all`].
pub fn check_all(state: &State) -> Result<(), Violation> {
    all().iter().try_for_each(|invariant| invariant.check(state))
}

/// What must hold between a state and a later one when `signers` made the transactions in between:
/// L2, L6, BME5, CH2 and N1.
pub fn check_transition(
    before: &State,
    after: &State,
    signers: &BTreeSet<Address>,
) -> Result<(), Violation> {
    let broken = |number| move |detail| Violation { number, detail };
    counters_only_grow(before, after).map_err(broken("L2"))?;
    only_signers_pay(before, after, signers).map_err(broken("L6"))?;
    credits_stay_with_their_owner(before, after, signers).map_err(broken("BME5"))?;
    claims_only_grow(before, after).map_err(broken("CH2"))?;
    nonces_only_grow(before, after).map_err(broken("N1"))
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, left: T, right: T) -> Result<(), String> {
    if left == right { Ok(()) } else { Err(format!("{what}: {left:?} is not {right:?}")) }
}

fn ensure(holds: bool, detail: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(detail()) }
}

fn supply_is_the_sum_of_accounts(state: &State) -> Result<(), String> {
    let sum: Watt = state.accounts().map(|(_, account)| account.watt).sum();
    equal("sum of accounts and supply", sum, state.supply().total)
}

fn supply_follows_from_counters(state: &State) -> Result<(), String> {
    let supply = state.supply();
    let total = supply
        .genesis
        .checked_add(supply.minted.total())
        .and_then(|sum| sum.checked_sub(supply.burned.total()));
    equal("genesis + minted − burned and supply", total, Some(supply.total))
}

fn balances_are_within_the_supply(state: &State) -> Result<(), String> {
    let supply = state.supply();
    state.accounts().try_for_each(|(address, account)| {
        ensure(
            account.watt <= supply.total && account.credits <= supply.credits_outstanding,
            || format!("{address} holds {:?} and {:?}", account.watt, account.credits),
        )?;
        ensure(*account != Account::default(), || format!("{address} is an empty entry"))
    })
}

fn supply_is_within_the_cap(state: &State) -> Result<(), String> {
    let (supply, params) = (state.supply(), state.params());
    ensure(supply.total <= params.supply_max, || {
        format!("{:?} exceed the cap {:?}", supply.total, params.supply_max)
    })?;
    ensure(supply.minted.settlement <= params.settlement_reserve, || {
        format!("{:?} were minted for settlements", supply.minted.settlement)
    })
}

fn modules_are_solvent(state: &State) -> Result<(), String> {
    let bonds: Watt = state.providers().map(|(_, provider)| provider.bond).sum();
    equal("bonds account and sum of bonds", state.module_balance(Module::Bonds), bonds)?;
    let rewards: Watt = state.validators().map(|(_, validator)| validator.rewards).sum();
    equal("rewards account and sum of rewards", state.module_balance(Module::Rewards), rewards)
}

fn modules_are_not_users(state: &State) -> Result<(), String> {
    Module::ALL.iter().try_for_each(|module| {
        let account = state.account(&module.address());
        let plain = Account { watt: account.watt, ..Account::default() };
        equal(module.name(), account, plain)
    })
}

fn credits_are_somewhere(state: &State) -> Result<(), String> {
    let free: Nusd = state.accounts().map(|(_, account)| account.credits).sum();
    let held: Nusd = state.channels().map(|(_, channel)| channel.balance()).sum();
    let outstanding = state.supply().credits_outstanding;
    equal("free and held credits, and outstanding", free.saturating_add(held), outstanding)
}

fn vault_follows_from_counters(state: &State) -> Result<(), String> {
    let supply = state.supply();
    let left = supply.vault_in.checked_sub(supply.vault_out);
    equal("vault in − out and vault", left, Some(state.module_balance(Module::Vault)))
}

fn credits_follow_from_counters(state: &State) -> Result<(), String> {
    let supply = state.supply();
    let left = supply.credits_issued.checked_sub(supply.credits_settled);
    equal("issued − settled and outstanding", left, Some(supply.credits_outstanding))
}

fn channels_add_up(state: &State) -> Result<(), String> {
    let mut lanes: BTreeMap<_, Nusd> = BTreeMap::new();
    for (&(channel, lane), claimed) in state.lanes.iter() {
        ensure(lane < Lane(LANES_MAX), || format!("channel {channel} has a lane {lane}"))?;
        let sum = lanes.entry(channel).or_default();
        *sum = sum.saturating_add(*claimed);
    }
    for (id, channel) in state.channels() {
        let what = format!("channel {id}");
        let spent = channel.claimed.checked_add(channel.returned);
        let sum = spent.and_then(|spent| spent.checked_add(channel.balance()));
        equal(&what, sum, Some(channel.deposit))?;
        equal(&what, lanes.remove(id).unwrap_or_default(), channel.claimed)?;
        equal(&what, channel.terms.id(state.chain_id()), *id)?;
        let settled = channel.balance().is_zero() && channel.withdraw_at.is_none();
        ensure(channel.open || settled, || format!("{what} is closed and not settled"))?;
        ensure(!channel.open || channel.returned.is_zero(), || format!("{what} paid back early"))?;
    }
    ensure(lanes.is_empty(), || format!("lanes without a channel: {:?}", lanes.keys()))
}

fn claims_are_settled(state: &State) -> Result<(), String> {
    let claimed: Nusd = state.channels().map(|(_, channel)| channel.claimed).sum();
    equal("sum of claims and settled credits", claimed, state.supply().credits_settled)
}

fn providers_count_their_channels(state: &State) -> Result<(), String> {
    let mut open: BTreeMap<Address, u64> = BTreeMap::new();
    for (_, channel) in state.channels().filter(|(_, channel)| channel.open) {
        let count = open.entry(channel.terms.receiver).or_default();
        *count = count.saturating_add(1);
    }
    for (operator, provider) in state.providers() {
        let counted = open.remove(operator).unwrap_or_default();
        equal(&format!("open channels of {operator}"), provider.channels_open, counted)?;
    }
    ensure(open.is_empty(), || format!("receivers without an entry: {:?}", open.keys()))
}

fn those_who_left_hold_nothing(state: &State) -> Result<(), String> {
    let left = state.providers().filter(|(_, provider)| provider.stage == Stage::Left);
    left.into_iter().try_for_each(|(operator, provider)| {
        ensure(provider.bond.is_zero() && provider.channels_open > 0, || {
            format!("{operator} left with {provider:?}")
        })
    })
}

fn unbonded_providers_are_bounded(state: &State) -> Result<(), String> {
    let count = state.providers().filter(|(_, provider)| provider.is_unbonded()).count();
    let counted = state.market.get().unbonded_providers;
    equal("unbonded providers and their count", u32::try_from(count), Ok(counted))?;
    let max = state.params().unbonded_providers_max;
    ensure(counted <= max, || format!("{counted} unbonded providers, at most {max}"))
}

fn indexes_follow_from_entries(state: &State) -> Result<(), String> {
    let idle_ms = state.params().provider_idle_ms;
    let of_provider = |(operator, provider): (&Address, &Provider)| {
        ((NodeRole::Provider, provider.node_key), *operator)
    };
    let of_gateways = state
        .gateways()
        .map(|(operator, gateway)| ((NodeRole::Gateway, gateway.node_key), *operator));
    let node_keys: BTreeMap<(NodeRole, PublicKey), Address> =
        state.providers().map(of_provider).chain(of_gateways).collect();
    let entries = state.providers.len().saturating_add(state.gateways.len());
    equal("number of node keys and entries", node_keys.len(), entries)?;
    let found = state.node_keys.iter().map(|(key, operator)| (*key, *operator)).collect();
    equal("node keys", found, node_keys)?;

    let due: BTreeSet<(TimeMs, Address)> = state
        .providers()
        .filter_map(|(operator, provider)| Some((provider.due(idle_ms)?, *operator)))
        .collect();
    equal("due times", state.due.iter().map(|(key, ())| *key).collect(), due)?;

    let parties: BTreeSet<_> = state
        .channels()
        .flat_map(|(id, channel)| [(channel.terms.payer, *id), (channel.terms.receiver, *id)])
        .collect();
    equal("parties", state.parties.iter().map(|(key, ())| *key).collect(), parties)
}

fn validators_have_power(state: &State) -> Result<(), String> {
    ensure(state.validators().next().is_some(), || "there are no validators".to_owned())?;
    state.validators().try_for_each(|(key, validator)| {
        ensure(validator.power > 0, || format!("validator {key} has no power"))
    })
}

fn counters_only_grow(before: &State, after: &State) -> Result<(), String> {
    let (old, new) = (before.supply(), after.supply());
    let watt = [
        ("minted by settlement", old.minted.settlement, new.minted.settlement),
        ("burned by split", old.burned.split, new.burned.split),
        ("vault in", old.vault_in, new.vault_in),
        ("vault out", old.vault_out, new.vault_out),
    ];
    for (what, old, new) in watt {
        ensure(old <= new, || format!("{what} fell from {old:?} to {new:?}"))?;
    }
    let credits = [
        ("credits issued", old.credits_issued, new.credits_issued),
        ("credits settled", old.credits_settled, new.credits_settled),
    ];
    for (what, old, new) in credits {
        ensure(old <= new, || format!("{what} fell from {old:?} to {new:?}"))?;
    }
    equal("genesis supply", new.genesis, old.genesis)
}

/// Balances of users who signed nothing do not fall.
fn only_signers_pay(
    before: &State,
    after: &State,
    signers: &BTreeSet<Address>,
) -> Result<(), String> {
    let others = before
        .accounts()
        .filter(|(address, _)| !signers.contains(address) && !Module::is_one(address));
    others.into_iter().try_for_each(|(address, old)| {
        let new = after.account(address);
        ensure(new.watt >= old.watt && new.credits >= old.credits, || {
            format!("{address} signed nothing and went from {old:?} to {new:?}")
        })
    })
}

/// What somebody owns, free and in channels it pays into, grows by its own purchases only.
fn credits_stay_with_their_owner(
    before: &State,
    after: &State,
    signers: &BTreeSet<Address>,
) -> Result<(), String> {
    let (old, new) = (credits_by_owner(before), credits_by_owner(after));
    let others = new.iter().filter(|(address, _)| !signers.contains(address));
    others.into_iter().try_for_each(|(address, new)| {
        let old = old.get(address).copied().unwrap_or_default();
        ensure(*new <= old, || format!("{address} bought nothing and has {new:?} after {old:?}"))
    })
}

fn credits_by_owner(state: &State) -> BTreeMap<Address, Nusd> {
    let free = state.accounts().map(|(address, account)| (*address, account.credits));
    let held = state.channels().map(|(_, channel)| (channel.terms.payer, channel.balance()));
    let mut owned: BTreeMap<Address, Nusd> = BTreeMap::new();
    for (address, credits) in free.chain(held) {
        let sum = owned.entry(address).or_default();
        *sum = sum.saturating_add(credits);
    }
    owned
}

fn claims_only_grow(before: &State, after: &State) -> Result<(), String> {
    for (key, old) in before.lanes.iter() {
        let new = after.lanes.get(key);
        ensure(new.is_some_and(|new| new >= old), || {
            format!("lane {} of channel {} went from {old:?} to {new:?}", key.1, key.0)
        })?;
    }
    before.channels().try_for_each(|(id, old)| {
        let new = after.channel(id);
        ensure(new.is_some_and(|new| channel_follows(old, new)), || {
            format!("channel {id} went from {old:?} to {new:?}")
        })
    })
}

fn channel_follows(old: &Channel, new: &Channel) -> bool {
    let grows = old.deposit <= new.deposit && old.claimed <= new.claimed;
    let stays_closed = old.open || new == old;
    old.terms == new.terms && grows && stays_closed
}

fn nonces_only_grow(before: &State, after: &State) -> Result<(), String> {
    before.accounts().try_for_each(|(address, old)| {
        let new = after.account(address).nonce;
        ensure(old.nonce <= new, || format!("nonce of {address} fell from {} to {new}", old.nonce))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{channel, credits, execute::Context, gateway, provider, settlement};
    use types::{
        ChannelId, Height, Nonce, Signature,
        channel::{ChannelTerms, Voucher},
        genesis::{Genesis, GenesisAccount, GenesisValidator, Params},
        sign::Signed,
        tx::{CreditPurchase, VoucherClaim},
    };

    const PAYER: Address = Address([1; 20]);
    const OPERATOR: Address = Address([2; 20]);
    const KEY: PublicKey = PublicKey([3; 32]);

    fn context(sender: Address) -> Context {
        Context { height: Height(1), time: TimeMs(1), sender, events: Vec::new() }
    }

    /// Two providers, a gateway, an open channel with a claim and a closed one.
    fn state() -> (State, ChannelId) {
        let balance = |address| GenesisAccount { address, balance: Watt::whole(1_000) };
        let genesis = Genesis {
            chain_id: "test".parse().unwrap(),
            time: TimeMs(0),
            params: Params::standard(),
            governor: PAYER,
            nusd_per_watt: Nusd::whole(1),
            accounts: vec![balance(PAYER), balance(OPERATOR)],
            validators: vec![GenesisValidator { consensus_key: KEY, operator: PAYER, power: 1 }],
        };
        let mut state = State::from_genesis(&genesis).unwrap();
        let (payer, operator) = (&mut context(PAYER), &mut context(OPERATOR));
        let purchase = CreditPurchase::Pay { watt: Watt::whole(100) };
        credits::buy(&mut state, payer, purchase).unwrap();
        provider::register(&mut state, operator, KEY, "o", Watt::whole(50)).unwrap();
        provider::register(&mut state, payer, PublicKey([4; 32]), "p", Watt::ZERO).unwrap();
        gateway::register(&mut state, payer, KEY, "g", &[]).unwrap();
        let terms = |salt| ChannelTerms {
            payer: PAYER,
            payer_key: KEY,
            receiver: OPERATOR,
            salt,
            withdraw_delay_ms: 900_000,
        };
        for salt in [1, 2] {
            channel::open(&mut state, payer, &terms(salt), Nusd::whole(10)).unwrap();
        }
        let [open, closed] = [1, 2].map(|salt| terms(salt).id(state.chain_id()));
        let value = Voucher { channel: open, lane: Lane(0), sequence: 1, total: Nusd::whole(5) };
        let voucher = Signed { value, signer: KEY, signature: Signature([0; 64]) };
        let claims = [VoucherClaim { voucher, total: Nusd::whole(4) }];
        settlement::redeem(&mut state, operator, &claims).unwrap();
        channel::close_by_receiver(&mut state, operator, closed).unwrap();
        state.commit();
        (state, open)
    }

    fn change_account(state: &mut State, address: Address, change: fn(&mut Account)) {
        let mut account = state.account(&address);
        change(&mut account);
        state.accounts.insert(address, account);
    }

    fn change_channel(state: &mut State, change: impl Fn(&mut Channel)) {
        let (_, id) = self::state();
        let mut channel = state.channels.get(&id).unwrap().clone();
        change(&mut channel);
        state.channels.insert(id, channel);
    }

    fn change_provider(state: &mut State, change: fn(&mut Provider)) {
        let mut provider = state.providers.get(&OPERATOR).unwrap().clone();
        change(&mut provider);
        state.providers.insert(OPERATOR, provider);
    }

    fn change_supply(state: &mut State, change: fn(&mut crate::Supply)) {
        let mut supply = *state.supply();
        change(&mut supply);
        state.supply.set(supply);
    }

    type Damage = fn(&mut State);

    /// What breaks each property of a single state.
    const DAMAGES: &[(&str, Damage)] = &[
        ("L1", |state| change_account(state, PAYER, |account| account.watt.0 += 1)),
        ("L2", |state| change_supply(state, |supply| supply.burned.split.0 += 1)),
        ("L3", |state| change_account(state, PAYER, |account| account.watt = Watt(u128::MAX))),
        ("L3", |state| change_account(state, Address([9; 20]), |_| {})),
        ("L4", |state| change_supply(state, |supply| supply.total = Watt::whole(1_000_000_001))),
        ("L4", |state| {
            change_supply(state, |supply| supply.minted.settlement = Watt::whole(100_000_001));
        }),
        ("L5", |state| change_provider(state, |provider| provider.bond.0 += 1)),
        ("L6", |state| {
            change_account(state, Module::Vault.address(), |vault| vault.nonce = Nonce(1));
        }),
        ("BME1", |state| change_account(state, PAYER, |account| account.credits.0 += 1)),
        ("BME2", |state| {
            change_account(state, Module::Vault.address(), |vault| vault.watt.0 -= 1);
        }),
        ("BME5", |state| change_supply(state, |supply| supply.credits_settled.0 += 1)),
        ("CH1", |state| change_channel(state, |channel| channel.claimed.0 += 1)),
        ("CH1", |state| change_channel(state, |channel| channel.open = false)),
        ("CH1", |state| change_channel(state, |channel| channel.terms.salt = 9)),
        ("CH1", |state| state.lanes.insert((ChannelId([9; 32]), Lane(0)), Nusd(1))),
        ("CH1", |state| state.lanes.insert((self::state().1, Lane(256)), Nusd(0))),
        ("CH3", |state| change_channel(state, |channel| channel.claimed.0 -= 1)),
        ("PR1", |state| change_provider(state, |provider| provider.channels_open = 2)),
        ("PR1", |state| state.providers.remove(&OPERATOR)),
        ("PR2", |state| change_provider(state, |provider| provider.stage = Stage::Left)),
        ("PR3", |state| state.providers.remove(&PAYER)),
        ("IX1", |state| state.node_keys.remove(&(NodeRole::Gateway, KEY))),
        ("IX1", |state| state.due.insert((TimeMs(5), OPERATOR), ())),
        ("IX1", |state| state.parties.insert((OPERATOR, ChannelId([9; 32])), ())),
        ("V1", |state| state.validators.remove(&KEY)),
    ];

    #[test]
    fn every_property_sees_its_damage() {
        let (sound, _) = state();
        check_all(&sound).unwrap();
        for (number, damage) in DAMAGES {
            let mut state = sound.clone();
            damage(&mut state);
            let invariant = all().iter().find(|invariant| invariant.number == *number).unwrap();
            let violation = invariant.check(&state).expect_err(number);
            assert_eq!(violation.number, *number);
            assert!(check_all(&state).is_err());
        }
        for invariant in all() {
            let is_damaged = DAMAGES.iter().any(|(number, _)| *number == invariant.number);
            assert!(is_damaged, "nothing damages {}", invariant.number);
        }
    }

    #[test]
    fn every_step_that_must_not_happen_is_seen() {
        let damages: &[(&str, Damage)] = &[
            ("L2", |state| change_supply(state, |supply| supply.vault_in.0 -= 1)),
            ("L2", |state| change_supply(state, |supply| supply.credits_issued.0 -= 1)),
            ("L6", |state| change_account(state, PAYER, |account| account.watt.0 -= 1)),
            ("L6", |state| change_account(state, PAYER, |account| account.credits.0 -= 1)),
            ("BME5", |state| change_account(state, OPERATOR, |account| account.credits.0 += 1)),
            ("CH2", |state| state.lanes.remove(&(self::state().1, Lane(0)))),
            ("CH2", |state| state.lanes.insert((self::state().1, Lane(0)), Nusd(1))),
            ("CH2", |state| state.channels.remove(&self::state().1)),
            ("CH2", |state| change_channel(state, |channel| channel.claimed.0 -= 1)),
            ("CH2", |state| change_channel(state, |channel| channel.terms.salt = 9)),
            ("N1", |state| change_account(state, PAYER, |account| account.nonce = Nonce(0))),
        ];
        let (mut before, _) = state();
        change_account(&mut before, PAYER, |account| account.nonce = Nonce(1));
        let nobody = BTreeSet::new();
        check_transition(&before, &before, &nobody).unwrap();
        for (number, damage) in damages {
            let mut after = before.clone();
            damage(&mut after);
            let violation = check_transition(&before, &after, &nobody).expect_err(number);
            // A smaller claim leaves more to its owner, which is seen first.
            let seen_first = violation.number == "BME5" && *number == "CH2";
            assert!(seen_first || violation.number == *number, "{number}: {violation}");
        }
        // Who signed may pay.
        let mut after = before.clone();
        change_account(&mut after, PAYER, |account| account.watt.0 -= 1);
        check_transition(&before, &after, &[PAYER].into()).unwrap();
    }
}
