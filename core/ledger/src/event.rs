//! What happened, for people and indexes. Events carry no authority: the state does.

use types::{Address, ChannelId, Nusd, PublicKey, TimeMs, Watt, split::Parts};

/// One fact about a block or a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Transferred {
        from: Address,
        to: Address,
        amount: Watt,
    },
    /// The fee could not be paid and is owed.
    FeeOwed {
        account: Address,
        fee: Watt,
        debt: Watt,
    },
    /// Owed fees were taken from an income.
    FeeDebtPaid {
        account: Address,
        amount: Watt,
        debt: Watt,
    },
    CreditsBought {
        buyer: Address,
        watt: Watt,
        credits: Nusd,
        nusd_per_watt: Nusd,
    },
    ProviderRegistered {
        operator: Address,
        node_key: PublicKey,
        moniker: String,
        bond: Watt,
    },
    ProviderUpdated {
        operator: Address,
        node_key: PublicKey,
        moniker: String,
        bond: Watt,
    },
    ProviderBonded {
        operator: Address,
        amount: Watt,
        bond: Watt,
    },
    /// It asked to leave, or had no income for too long.
    ProviderLeaving {
        operator: Address,
        matures_at: TimeMs,
        idle: bool,
    },
    /// The unbonding time is over.
    ProviderUnbonded {
        operator: Address,
        bond: Watt,
    },
    ProviderRemoved {
        operator: Address,
    },
    GatewayRegistered {
        operator: Address,
        node_key: PublicKey,
        moniker: String,
    },
    ChannelOpened {
        channel: ChannelId,
        payer: Address,
        receiver: Address,
        deposit: Nusd,
    },
    ChannelToppedUp {
        channel: ChannelId,
        payer: Address,
        amount: Nusd,
        deposit: Nusd,
    },
    ChannelRedeemed(Redeemed),
    WithdrawRequested {
        channel: ChannelId,
        withdraw_at: TimeMs,
    },
    ChannelClosed {
        channel: ChannelId,
        payer: Address,
        receiver: Address,
        returned: Nusd,
    },
    RewardsDistributed {
        amount: Watt,
        carried: Watt,
    },
    RewardsWithdrawn {
        operator: Address,
        amount: Watt,
    },
    PriceSet {
        before: Nusd,
        after: Nusd,
    },
}

/// One channel's part of a redemption.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Redeemed {
    pub channel: ChannelId,
    pub payer: Address,
    pub receiver: Address,
    /// Credits that were burned.
    pub credits: Nusd,
    /// WATT they were worth; the parts below sum to it.
    pub watt: Watt,
    pub parts: Parts,
    /// Of the provider's part, what went into its bond.
    pub withheld: Watt,
    /// Of `watt`, what the vault lacked and was minted.
    pub minted: Watt,
    pub nusd_per_watt: Nusd,
}

impl Event {
    /// Dotted name, stable.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Transferred { .. } => "bank.transferred",
            Event::FeeOwed { .. } => "fee.owed",
            Event::FeeDebtPaid { .. } => "fee.debt_paid",
            Event::CreditsBought { .. } => "credits.bought",
            Event::ProviderRegistered { .. } => "provider.registered",
            Event::ProviderUpdated { .. } => "provider.updated",
            Event::ProviderBonded { .. } => "provider.bonded",
            Event::ProviderLeaving { .. } => "provider.leaving",
            Event::ProviderUnbonded { .. } => "provider.unbonded",
            Event::ProviderRemoved { .. } => "provider.removed",
            Event::GatewayRegistered { .. } => "gateway.registered",
            Event::ChannelOpened { .. } => "channel.opened",
            Event::ChannelToppedUp { .. } => "channel.topped_up",
            Event::ChannelRedeemed(_) => "channel.redeemed",
            Event::WithdrawRequested { .. } => "channel.withdraw_requested",
            Event::ChannelClosed { .. } => "channel.closed",
            Event::RewardsDistributed { .. } => "rewards.distributed",
            Event::RewardsWithdrawn { .. } => "rewards.withdrawn",
            Event::PriceSet { .. } => "price.set",
        }
    }

    /// Names and values as text, in a fixed order per kind; amounts in base units.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = Fields(Vec::new());
        match self {
            Event::Transferred { from, to, amount } => {
                fields.add("from", from).add("to", to).add("amount", amount)
            }
            Event::FeeOwed { account, fee, debt } => {
                fields.add("account", account).add("fee", fee).add("debt", debt)
            }
            Event::FeeDebtPaid { account, amount, debt } => {
                fields.add("account", account).add("amount", amount).add("debt", debt)
            }
            Event::CreditsBought { buyer, watt, credits, nusd_per_watt } => fields
                .add("buyer", buyer)
                .add("watt", watt)
                .add("credits", credits)
                .add("nusd_per_watt", nusd_per_watt),
            Event::ProviderRegistered { operator, node_key, moniker, bond }
            | Event::ProviderUpdated { operator, node_key, moniker, bond } => fields
                .add("operator", operator)
                .add("node_key", node_key)
                .add("moniker", moniker)
                .add("bond", bond),
            Event::ProviderBonded { operator, amount, bond } => {
                fields.add("operator", operator).add("amount", amount).add("bond", bond)
            }
            Event::ProviderLeaving { operator, matures_at, idle } => {
                fields.add("operator", operator).add("matures_at", matures_at).add("idle", idle)
            }
            Event::ProviderUnbonded { operator, bond } => {
                fields.add("operator", operator).add("bond", bond)
            }
            Event::ProviderRemoved { operator } => fields.add("operator", operator),
            Event::GatewayRegistered { operator, node_key, moniker } => {
                fields.add("operator", operator).add("node_key", node_key).add("moniker", moniker)
            }
            Event::ChannelOpened { channel, payer, receiver, deposit } => fields
                .add("channel", channel)
                .add("payer", payer)
                .add("receiver", receiver)
                .add("deposit", deposit),
            Event::ChannelToppedUp { channel, payer, amount, deposit } => fields
                .add("channel", channel)
                .add("payer", payer)
                .add("amount", amount)
                .add("deposit", deposit),
            Event::ChannelRedeemed(redeemed) => redeemed.fields(&mut fields),
            Event::WithdrawRequested { channel, withdraw_at } => {
                fields.add("channel", channel).add("withdraw_at", withdraw_at)
            }
            Event::ChannelClosed { channel, payer, receiver, returned } => fields
                .add("channel", channel)
                .add("payer", payer)
                .add("receiver", receiver)
                .add("returned", returned),
            Event::RewardsDistributed { amount, carried } => {
                fields.add("amount", amount).add("carried", carried)
            }
            Event::RewardsWithdrawn { operator, amount } => {
                fields.add("operator", operator).add("amount", amount)
            }
            Event::PriceSet { before, after } => fields.add("before", before).add("after", after),
        };
        fields.0
    }
}

impl Redeemed {
    fn fields<'a>(&self, fields: &'a mut Fields) -> &'a mut Fields {
        fields
            .add("channel", &self.channel)
            .add("payer", &self.payer)
            .add("receiver", &self.receiver)
            .add("credits", &self.credits)
            .add("watt", &self.watt)
            .add("provider", &self.parts.provider)
            .add("stakers", &self.parts.stakers)
            .add("burned", &self.parts.burn)
            .add("treasury", &self.parts.treasury)
            .add("withheld", &self.withheld)
            .add("minted", &self.minted)
            .add("nusd_per_watt", &self.nusd_per_watt)
    }
}

/// Collects fields in order.
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn add(&mut self, name: &'static str, value: &dyn ToString) -> &mut Fields {
        self.0.push((name, value.to_string()));
        self
    }
}
