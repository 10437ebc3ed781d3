//! What happened, for people and indexes. Events carry no authority: the state does.

use types::{
    Address, ChannelId, Hash32, Height, ModelId, Nusd, Ppm, PublicKey, TimeMs, Watt,
    audit::{AuditOutcome, Backend, CommitmentId, Sanction},
    genesis::Bucket,
    split::Parts,
    stake::OperatorId,
    state::Shares,
};

use crate::{credits::Breaker, slashing::Fault};

/// Declares the events with their names and their fields as text, in the order in which they stand.
macro_rules! events {
    ($(
        $(#[$doc:meta])*
        $name:ident = $kind:literal { $($field:ident: $type:ty),* $(,)? }
    )*) => {
        /// One fact about a block or a transaction.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Event {
            $($(#[$doc])* $name { $($field: $type),* },)*
            /// Claims of one channel were paid for.
            ChannelSettled(Settled),
            /// An operator lost stake.
            Slashed(Slashed),
        }

        impl Event {
            /// Every kind there is, sorted as declared.
            pub const KINDS: &'static [&'static str] =
                &[$($kind,)* "channel.settled", "stake.slashed"];

            /// Dotted name, stable: `channel.settled`.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Event::$name { .. } => $kind,)*
                    Event::ChannelSettled(_) => "channel.settled",
                    Event::Slashed(_) => "stake.slashed",
                }
            }

            /// Names and values as text, in a fixed order per kind. Amounts are base units.
            pub fn fields(&self) -> Vec<(&'static str, String)> {
                match self {
                    $(Event::$name { $($field),* } => {
                        vec![$((stringify!($field), Text::text($field))),*]
                    })*
                    Event::ChannelSettled(settled) => settled.fields(),
                    Event::Slashed(slashed) => slashed.fields(),
                }
            }
        }
    };
}

events! {
    Transferred = "bank.transferred" { from: Address, to: Address, amount: Watt }
    /// The fee could not be paid and is owed.
    FeeOwed = "fee.owed" { account: Address, fee: Watt, debt: Watt }
    /// Owed fees were taken from an income.
    FeeDebtPaid = "fee.debt_paid" { account: Address, amount: Watt, debt: Watt }

    CreditsBought = "credits.bought" {
        buyer: Address, watt: Watt, credits: Nusd, nusd_per_watt: Nusd
    }
    RefundRequested = "credits.refund_requested" { owner: Address, credits: Nusd, due_at: TimeMs }
    /// The vault was short: this much is in arrears.
    RefundDeferred = "credits.refund_deferred" { owner: Address, credits: Nusd }
    CreditsRefunded = "credits.refunded" { owner: Address, credits: Nusd, watt: Watt }
    /// Purchases of credits were paused, or go on.
    BreakerMoved = "credits.breaker" { before: Breaker, after: Breaker }

    ProviderRegistered = "provider.registered" {
        operator: Address, node_key: PublicKey, moniker: String, bond: Watt
    }
    ProviderUpdated = "provider.updated" {
        operator: Address, node_key: PublicKey, moniker: String, bond: Watt
    }
    ProviderSeen = "provider.seen" { operator: Address, period: u64 }
    /// It asked to leave, or had no income for too long.
    ProviderLeaving = "provider.leaving" { operator: Address, matures_at: TimeMs, idle: bool }
    /// The unbonding time is over.
    ProviderUnbonded = "provider.unbonded" { operator: Address }
    ProviderRemoved = "provider.removed" { operator: Address }
    GatewayRegistered = "gateway.registered" {
        operator: Address, node_key: PublicKey, moniker: String
    }

    ChannelOpened = "channel.opened" {
        channel: ChannelId, payer: Address, receiver: Address, deposit: Nusd
    }
    ChannelToppedUp = "channel.topped_up" {
        channel: ChannelId, payer: Address, amount: Nusd, deposit: Nusd
    }
    ChannelClaimed = "channel.claimed" {
        channel: ChannelId, payer: Address, receiver: Address, credits: Nusd, settles_at: TimeMs
    }
    /// Under the emission policy: burned, and counted as work of the epoch.
    ChannelWorked = "channel.worked" { channel: ChannelId, receiver: Address, credits: Nusd }
    DepositReturned = "channel.deposit_returned" {
        channel: ChannelId, payer: Address, amount: Nusd
    }
    WithdrawRequested = "channel.withdraw_requested" { channel: ChannelId, withdraw_at: TimeMs }
    ChannelClosed = "channel.closed" {
        channel: ChannelId, payer: Address, receiver: Address, returned: Nusd
    }

    EpochEnded = "emission.epoch_ended" { epoch: u64, work: Nusd, budget: Watt }
    EpochPaid = "emission.paid" {
        epoch: u64, operator: Address, work: Nusd, watt: Watt, parts: Parts, withheld: Watt
    }
    Vested = "vesting.claimed" { bucket: Bucket, beneficiary: Address, amount: Watt }

    ValidatorRegistered = "validator.registered" {
        operator: Address, consensus_key: PublicKey, moniker: String
    }
    /// A seat of the next block and its power.
    ValidatorPower = "validator.power" {
        operator: Address, consensus_key: PublicKey, power: u64
    }
    ValidatorUnseated = "validator.unseated" { operator: Address, consensus_key: PublicKey }
    CommissionSet = "stake.commission" { operator: OperatorId, before: Ppm, after: Ppm }
    Delegated = "stake.delegated" {
        delegator: Address, operator: OperatorId, amount: Watt, shares: Shares
    }
    Undelegated = "stake.undelegated" {
        delegator: Address, operator: OperatorId, amount: Watt, matures_at: TimeMs
    }
    /// What was undelegated was paid back, less owed fees.
    Unbonded = "stake.unbonded" { delegator: Address, operator: OperatorId, amount: Watt }
    Redelegated = "stake.redelegated" {
        delegator: Address, from: OperatorId, to: OperatorId, amount: Watt, matures_at: TimeMs
    }
    EvidenceAccepted = "evidence.accepted" {
        operator: OperatorId, fault: Fault, reporter: Address
    }
    Jailed = "stake.jailed" { operator: OperatorId, until: TimeMs, tombstoned: bool }
    Unjailed = "stake.unjailed" { operator: OperatorId }

    RewardsDistributed = "rewards.distributed" { amount: Watt, carried: Watt }
    /// The delegators of a provider received their share of its income.
    IncomeShared = "rewards.shared" { operator: OperatorId, amount: Watt }
    /// Rewards that belong to no delegator went to the treasury.
    RewardsSwept = "rewards.swept" { operator: OperatorId, amount: Watt }
    RewardsWithdrawn = "rewards.withdrawn" {
        delegator: Address, operator: OperatorId, amount: Watt
    }
    CommissionWithdrawn = "rewards.commission" { operator: OperatorId, amount: Watt }

    PriceCommitted = "oracle.committed" { voter: Address, period: u64 }
    PriceRevealed = "oracle.revealed" { voter: Address, period: u64, nusd_per_watt: Nusd }
    PriceCounted = "oracle.counted" {
        period: u64, before: Nusd, after: Nusd, median: Nusd, revealed: u128
    }
    /// Too little power revealed a vote.
    PriceNotCounted = "oracle.not_counted" { period: u64, revealed: u128, total: u128 }

    /// What was revealed in a period was hashed together.
    BeaconDrawn = "audit.beacon" { period: u64, value: Hash32, reveals: u32 }
    ReceiptsCommitted = "audit.committed" {
        commitment: CommitmentId, model: ModelId, root: Hash32, count: u32, period: u64
    }
    /// The beacon came: these verifiers look at this share of the receipts.
    AuditOpened = "audit.opened" {
        commitment: CommitmentId, model: ModelId, period: u64, share: Ppm,
        verifiers: Vec<Address>, commit_by: TimeMs, reveal_by: TimeMs
    }
    /// There is nobody but the provider itself to audit it.
    AuditDropped = "audit.dropped" { commitment: CommitmentId }
    VerdictCommitted = "audit.verdict_committed" { commitment: CommitmentId, verifier: Address }
    VerdictRevealed = "audit.verdict_revealed" {
        commitment: CommitmentId, verifier: Address, outcome: AuditOutcome
    }
    /// What the verifiers said together, what all evidence would justify were it enforced, and what was done.
    AuditClosed = "audit.closed" {
        commitment: CommitmentId, model: ModelId, outcome: AuditOutcome, would_be: Sanction,
        sanction: Sanction, reputation: Ppm
    }
    /// Everything of a provider is audited. If it is held, its claims wait too.
    Escalated = "audit.escalated" { provider: Address, until: TimeMs, held: bool }
    ModelDelisted = "audit.delisted" { provider: Address, model: ModelId, until: TimeMs }
    /// The quality of a provider's answers of a model fell too low, or is high enough again.
    QualityMoved = "audit.quality" {
        provider: Address, model: ModelId, quality: Ppm, suspended: bool
    }
    /// The receipts are of planted faults. If it refunds, what the provider claims goes back to its payers for a while.
    PlantedRevealed = "audit.planted" { commitment: CommitmentId, refunds: bool }
    /// Whether a verifier saw a planted fault.
    VerifierGraded = "audit.graded" { commitment: CommitmentId, verifier: Address, right: bool }
    /// A round is done again by others. The deposit waits with the insurance.
    AppealMade = "audit.appealed" { commitment: CommitmentId, deposit: Watt, period: u64 }
    /// That is over. What is not returned goes to the treasury.
    AppealEnded = "audit.appeal_ended" { commitment: CommitmentId, deposit: Watt, returned: bool }
    /// A payer has an answer audited. The deposit waits with the insurance.
    AuditDemanded = "audit.demanded" {
        commitment: CommitmentId, payer: Address, model: ModelId, deposit: Watt, period: u64
    }
    /// That is over. What is not returned goes to the treasury.
    DemandEnded = "audit.demand_ended" {
        commitment: CommitmentId, payer: Address, deposit: Watt, returned: bool
    }
    /// What an auditor's own request found.
    CanaryReported = "audit.canary" { validator: Address, provider: Address, model: ModelId, outcome: AuditOutcome }
    CanaryPaid = "audit.canary_paid" { validator: Address, provider: Address, amount: Watt }
    VerifierPaid = "audit.paid" { commitment: CommitmentId, verifier: Address, amount: Watt }
    AuditorRegistered = "auditor.registered" {
        operator: Address, node_key: PublicKey
    }
    AuditorWithdrawn = "auditor.withdrawn" { operator: Address }
    CalibrationPublished = "audit.calibrated" {
        validator: Address, model: ModelId, backend: Backend, l1: Ppm, l2: Ppm, projections: Option<Ppm>,
        tokens: u64
    }
    /// Claims of a provider that is escalated or opens no receipts wait on.
    ClaimHeld = "channel.held" {
        channel: ChannelId, receiver: Address, credits: Nusd, settles_at: TimeMs
    }
    /// Claims went back to their payer.
    ClaimRefunded = "channel.refunded" {
        channel: ChannelId, payer: Address, receiver: Address, credits: Nusd
    }
}

/// What one channel's claims brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settled {
    pub channel: ChannelId,
    pub payer: Address,
    pub receiver: Address,
    /// Credits that were burned.
    pub credits: Nusd,
    /// WATT that were paid for them; the parts below sum to it.
    pub watt: Watt,
    pub parts: Parts,
    /// Of the provider's part, what went into its bond.
    pub withheld: Watt,
    /// Of `watt`, what the vault lacked and was minted.
    pub minted: Watt,
}

/// What one fault cost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slashed {
    pub operator: OperatorId,
    pub fault: Fault,
    /// The block at which it happened.
    pub height: Height,
    /// All that was taken; the four below sum to it.
    pub amount: Watt,
    pub burned: Watt,
    pub bounty: Watt,
    pub refunded: Watt,
    pub insured: Watt,
    pub reporter: Option<Address>,
    /// Who was harmed, with what of `refunded` each receives.
    pub harmed: Vec<(Address, Watt)>,
}

impl Settled {
    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("channel", self.channel.text()),
            ("payer", self.payer.text()),
            ("receiver", self.receiver.text()),
            ("credits", self.credits.text()),
            ("watt", self.watt.text()),
        ];
        fields.extend(parts(&self.parts));
        fields.extend([("withheld", self.withheld.text()), ("minted", self.minted.text())]);
        fields
    }
}

impl Slashed {
    fn fields(&self) -> Vec<(&'static str, String)> {
        let reporter = self.reporter.map(|it| it.text()).unwrap_or_default();
        // Who is alone receives all that is refunded.
        let harmed = match &self.harmed[..] {
            [(alone, _)] => alone.text(),
            all => {
                all.iter().map(|(it, part)| format!("{it} {part}")).collect::<Vec<_>>().join(", ")
            }
        };
        vec![
            ("operator", self.operator.text()),
            ("fault", self.fault.text()),
            ("height", self.height.text()),
            ("amount", self.amount.text()),
            ("burned", self.burned.text()),
            ("bounty", self.bounty.text()),
            ("refunded", self.refunded.text()),
            ("insured", self.insured.text()),
            ("reporter", reporter),
            ("harmed", harmed),
        ]
    }
}

fn parts(parts: &Parts) -> [(&'static str, String); 4] {
    [
        ("provider", parts.provider.text()),
        ("stakers", parts.stakers.text()),
        ("burned", parts.burn.text()),
        ("treasury", parts.treasury.text()),
    ]
}

/// A value as an event shows it.
trait Text {
    fn text(&self) -> String;
}

macro_rules! text_by_display {
    ($($type:ty),*) => {
        $(impl Text for $type {
            fn text(&self) -> String { self.to_string() }
        })*
    };
}

text_by_display!(
    Address,
    ChannelId,
    CommitmentId,
    Hash32,
    ModelId,
    OperatorId,
    PublicKey,
    Height,
    TimeMs,
    Nusd,
    Watt,
    Shares,
    String,
    bool,
    u32,
    u64,
    u128
);

macro_rules! text_by_name {
    ($($type:ty),*) => {
        $(impl Text for $type {
            fn text(&self) -> String { self.name().to_owned() }
        })*
    };
}

text_by_name!(AuditOutcome, Backend, Breaker, Bucket, Fault, Sanction);

impl Text for Vec<Address> {
    fn text(&self) -> String {
        self.iter().map(Address::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl Text for Ppm {
    fn text(&self) -> String {
        self.get().to_string()
    }
}

impl Text for Option<Ppm> {
    fn text(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Text::text)
    }
}

impl Text for Parts {
    fn text(&self) -> String {
        parts(self).map(|(name, value)| format!("{name} {value}")).join(", ")
    }
}
