//! What can go wrong, each with what the sender can do about it, and a code for programs.

use types::{
    Address, ChainId, ChannelId, Hash32, Height, Lane, ModelId, Nonce, Nusd, Ppm, PublicKey,
    TimeMs, Watt,
    audit::CommitmentId,
    params::ParamError,
    stake::{CommissionTerms, OperatorId},
};

/// Why a transaction is refused or failed. [`TxError::code`] is stable, the message is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxError {
    #[error(
        "the transaction is for the network `{given}`, this is `{expected}`; sign it again for this one"
    )]
    ChainId { given: ChainId, expected: ChainId },
    #[error(
        "{bytes} bytes are more than the {bytes_max} of a transaction; send fewer vouchers at once"
    )]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("nonce {given} is used, the next one of {account} is {expected}; sign again with that")]
    NonceTooLow { account: Address, given: Nonce, expected: Nonce },
    #[error(
        "nonce {given} comes later, the next one of {account} is {expected}; send the ones before it first"
    )]
    NonceTooHigh { account: Address, given: Nonce, expected: Nonce },
    #[error(
        "the transaction was valid until {valid_until} ms and the block is of {time} ms; sign again with a later end"
    )]
    Expired { valid_until: TimeMs, time: TimeMs },

    #[error("the fee with the tip is {fee:?} and `fee_max` is {fee_max:?}; raise `fee_max`")]
    FeeMax { fee: Watt, fee_max: Watt },
    #[error(
        "{account} has {balance:?} and the fee is {fee:?}; send it WATT, or redeem more at once so that the payment covers the fee"
    )]
    FeeUnpaid { account: Address, fee: Watt, balance: Watt },
    #[error(
        "{account} has {balance:?}, and with this one its waiting transactions need {needed:?}; wait until they are in a block, or send it WATT"
    )]
    QueueUnpaid { account: Address, balance: Watt, needed: Watt },
    #[error(
        "{account} owes {debt:?} in fees, the most for a transaction like this is {debt_max:?}; earn or send it WATT first"
    )]
    FeeDebt { account: Address, debt: Watt, debt_max: Watt },

    #[error("{what} is zero; give an amount above zero")]
    Zero { what: &'static str },
    #[error("{what} is more than the ledger can count; give a smaller amount")]
    Overflow { what: &'static str },
    #[error("{account} has {balance:?} and needs {needed:?}; send it WATT or use less")]
    InsufficientWatt { account: Address, balance: Watt, needed: Watt },
    #[error(
        "{account} has {balance:?} of free credits and needs {needed:?}; buy credits or use less"
    )]
    InsufficientCredits { account: Address, balance: Nusd, needed: Nusd },
    #[error(
        "{to} is an account of the ledger itself, what is sent there is lost; check the address"
    )]
    ToModule { to: Address },

    #[error("{watt:?} buy no credits at {nusd_per_watt:?} for one WATT; pay more")]
    NoCredits { watt: Watt, nusd_per_watt: Nusd },
    #[error(
        "the credits cost {needed:?} and `watt_max` is {watt_max:?}; raise `watt_max` or buy fewer"
    )]
    WattMax { needed: Watt, watt_max: Watt },

    #[error("a moniker of {bytes} bytes; use 1 to {bytes_max} without control characters")]
    Moniker { bytes: usize, bytes_max: usize },
    #[error("node key {node_key} belongs to {owner}; make a new node key")]
    NodeKeyTaken { node_key: PublicKey, owner: Address },
    #[error("{operator} is not a registered provider; register it first")]
    ProviderUnknown { operator: Address },
    #[error(
        "provider {operator} is leaving; wait until its bond is paid back and its channels are closed"
    )]
    ProviderLeaving { operator: Address },
    #[error(
        "{max} providers without a full bond are registered, which is the most; register with a bond of {bond_required:?}"
    )]
    UnbondedFull { max: u32, bond_required: Watt },
    #[error("{count} addresses are more than the {max} of one entry; give fewer")]
    GatewayAddrs { count: usize, max: usize },
    #[error("address {index} is not `host:port`; write it like `203.0.113.7:4433`")]
    GatewayAddr { index: usize },

    #[error("channel {channel} does not exist; check its id")]
    ChannelUnknown { channel: ChannelId },
    #[error("channel {channel} exists; open another one with a new salt")]
    ChannelExists { channel: ChannelId },
    #[error("channel {channel} is closed; open another one with a new salt")]
    ChannelClosed { channel: ChannelId },
    #[error("the terms name {payer} as payer and {sender} signed; sign with the payer's key")]
    TermsPayer { payer: Address, sender: Address },
    #[error("only {payer}, who pays into channel {channel}, may do this")]
    NotPayer { channel: ChannelId, payer: Address },
    #[error("only {receiver}, who is paid by channel {channel}, may do this")]
    NotReceiver { channel: ChannelId, receiver: Address },
    #[error("a withdraw delay of {delay_ms} ms; use {min_ms} to {max_ms}")]
    WithdrawDelay { delay_ms: u64, min_ms: u64, max_ms: u64 },
    #[error("a withdrawal of channel {channel} is under way; finish it at {withdraw_at} ms")]
    WithdrawPending { channel: ChannelId, withdraw_at: TimeMs },
    #[error("nobody asked for a withdrawal of channel {channel}; request it first")]
    WithdrawNotRequested { channel: ChannelId },
    #[error(
        "the withdrawal of channel {channel} is due at {withdraw_at} ms and the block is of {time} ms; try again then"
    )]
    WithdrawEarly { channel: ChannelId, withdraw_at: TimeMs, time: TimeMs },

    #[error("{count} claims in one redemption; send 1 to {max}")]
    ClaimsCount { count: usize, max: usize },
    #[error(
        "a voucher of channel {channel} is signed by {signer}, not by the channel's {payer_key}; leave it out"
    )]
    VoucherSigner { channel: ChannelId, signer: PublicKey, payer_key: PublicKey },
    #[error(
        "lane {lane} of channel {channel} does not exist, the last one is {last}; leave it out"
    )]
    LaneTooHigh { channel: ChannelId, lane: Lane, last: Lane },
    #[error(
        "{claimed:?} claimed on lane {lane} of channel {channel}, its voucher is for {total:?}; claim no more than that"
    )]
    ClaimAboveVoucher { channel: ChannelId, lane: Lane, claimed: Nusd, total: Nusd },
    #[error("the claims on channel {channel} add {needed:?} and it holds {balance:?}; claim less")]
    ChannelShort { channel: ChannelId, needed: Nusd, balance: Nusd },
    /// Cannot happen: what is minted is bounded before.
    #[error("{amount:?} may not be minted, {room:?} are left; report this")]
    MintRoom { amount: Watt, room: Watt },

    #[error(
        "purchases of credits are paused until {until} ms at least: the vault covers too little; use what is outstanding or wait"
    )]
    PurchasesPaused { until: TimeMs },
    #[error(
        "this block can issue {left:?} of credits more; buy fewer or try again in the next block"
    )]
    IssueBlockMax { left: Nusd },
    #[error("credits of this network cannot be refunded; spend them")]
    NoRefunds,
    #[error(
        "the price is {age_ms} ms old and counts for {max_ms} ms; wait until the validators have voted again"
    )]
    PriceStale { age_ms: u64, max_ms: u64 },

    #[error("`{field}` is up to {bytes_max} characters of a-z, 0-9 and `-`")]
    ProfileTag { field: &'static str, bytes_max: usize },
    #[error("{count} models in a registration; give up to {max}, each once, in ascending order")]
    ProfileModels { count: usize, max: usize },

    #[error("{operator} does not exist; check its role and address")]
    OperatorUnknown { operator: OperatorId },
    #[error("{operator} was buried for a grave fault and never comes back; use another account")]
    Tombstoned { operator: OperatorId },
    #[error("{delegator} has no stake behind {operator}; delegate first")]
    NotDelegated { delegator: Address, operator: OperatorId },
    #[error("{delegator} has {held:?} behind {operator} and {needed:?} are needed; use less")]
    StakeShort { delegator: Address, operator: OperatorId, held: Watt, needed: Watt },
    #[error(
        "the amount buys no share of {operator}; stake more, or elsewhere if its stake was slashed to nothing"
    )]
    ExchangeRate { operator: OperatorId },
    #[error(
        "{max} unbondings or redelegations at {operator} are under way, which is the most; wait for one to end"
    )]
    TooManyUnbondings { operator: OperatorId, max: u32 },
    #[error("stake moves between two different operators of one role, not from {from} to {to}")]
    RedelegationPair { from: OperatorId, to: OperatorId },
    #[error(
        "stake that moved to {operator} may not move on yet; undelegate, or wait until it has been there for the unbonding time"
    )]
    RedelegationHop { operator: OperatorId },
    #[error(
        "a provider that serves keeps its bond of {required:?}, {free:?} are free; leave first to take it all"
    )]
    BondNeeded { required: Watt, free: Watt },
    #[error("a validator's own stake is {min:?} at least, this is {given:?}; stake more")]
    ValidatorBond { min: Watt, given: Watt },
    #[error(
        "consensus key {consensus_key} belongs to the validator of {owner}; make a new consensus key"
    )]
    ConsensusKeyTaken { consensus_key: PublicKey, owner: Address },
    #[error(
        "{operator} has another consensus key, which does not change; register from another account"
    )]
    ConsensusKeyFixed { operator: Address },
    #[error(
        "a commission of {} ppm after {} with at most {}, changed by at most {}; stay within these terms",
        rate.get(), before.get(), rate_max.get(), change_max.get()
    )]
    CommissionTerms { rate: Ppm, before: Ppm, rate_max: Ppm, change_max: Ppm },
    #[error(
        "{operator} declared a commission of {} ppm, at most {}, changed by at most {}, and other terms do not replace it; repeat these, and change the rate with `peerwatt {} commission`",
        terms.rate.get(), terms.rate_max.get(), terms.change_max.get(), operator.role
    )]
    CommissionDiffers { operator: OperatorId, terms: CommissionTerms },
    #[error("the commission was changed lately; try again at {until} ms")]
    CommissionEarly { until: TimeMs },
    #[error("{operator} is not jailed")]
    NotJailed { operator: OperatorId },
    #[error("{operator} is jailed until {until} ms; try again then")]
    JailedUntil { operator: OperatorId, until: TimeMs },

    #[error("this proves no fault: {why}")]
    NotEvidence { why: &'static str },
    #[error("evidence about block {height} is older than {max_ms} ms and has no effect")]
    EvidenceOld { height: Height, max_ms: u64 },
    #[error("{operator} was punished for this already")]
    AlreadyPunished { operator: OperatorId },

    #[error("{operator} operates no validator that has a seat; only those vote")]
    NotValidator { operator: Address },
    #[error("there are no rewards at {operator} yet; try again after the next block with fees")]
    NoRewards { operator: OperatorId },

    #[error("you committed to a vote in period {period} already; reveal it in the next one")]
    VoteRepeated { period: u64 },
    #[error(
        "there is no commitment of yours from period {period}; commit now and reveal in the next period"
    )]
    VoteUncommitted { period: u64 },
    #[error("price and salt are not those that you committed to; reveal the same ones")]
    VoteMismatch,
    #[error("a price of {given:?} is out of reach; vote for {min:?} to {max:?}")]
    VotePrice { given: Nusd, min: Nusd, max: Nusd },

    #[error("this network audits nothing; there is nothing to commit to")]
    AuditsOff,
    #[error("a commitment to {count} receipts; use 1 to {max}")]
    ReceiptsCount { count: u32, max: u32 },
    #[error("{model} is not among the models of the provider's profile; register it first")]
    ModelNotOffered { model: ModelId },
    #[error(
        "{max} commitments of this provider wait or are being audited, which is the most; try again when one is over"
    )]
    TooManyCommitments { max: u32 },
    #[error(
        "{max} demands {whose} wait or are being audited, which is the most; try again when one is over"
    )]
    TooManyDemands { max: usize, whose: &'static str },
    #[error(
        "{max} models of this provider were audited lately, which is the most; try again when evidence about one is too old"
    )]
    TooManyModels { max: usize },
    #[error("commitment {commitment} is not being audited; look at `GET /v1/audits`")]
    RoundUnknown { commitment: CommitmentId },
    #[error("{sender} is no verifier of commitment {commitment}")]
    NotVerifier { commitment: CommitmentId, sender: Address },
    #[error("verdicts on {commitment} were due at {due} ms")]
    VerdictLate { commitment: CommitmentId, due: TimeMs },
    #[error("you committed to a verdict on {commitment} already; reveal that one")]
    VerdictRepeated { commitment: CommitmentId },
    #[error("you did not commit to a verdict on {commitment}, or revealed it already")]
    VerdictUncommitted { commitment: CommitmentId },
    #[error(
        "other verifiers of {commitment} can still commit, until {commit_by} ms; reveal after that"
    )]
    RevealEarly { commitment: CommitmentId, commit_by: TimeMs },
    #[error("verdict and salt are not those that you committed to; reveal the same ones")]
    VerdictMismatch,
    #[error("the verdict contradicts itself or its round: {why}")]
    VerdictInconsistent { why: &'static str },
    #[error("commitment {commitment} is not of {sender}; only who made it may")]
    NotCommitter { commitment: CommitmentId, sender: Address },
    #[error("{commitment} is not sealed as planted with this salt; use the one that sealed it")]
    NotPlanted { commitment: CommitmentId },
    #[error("the seal of {commitment} is broken already; wait until its round is closed")]
    PlantedRepeated { commitment: CommitmentId },
    #[error(
        "no closed round of {commitment} is kept; the last 256 of all are, and of a provider the last 8 that it can appeal against"
    )]
    ClosedUnknown { commitment: CommitmentId },
    #[error(
        "{sender} does not audit, or is the provider itself; canaries are reported by validators with a seat and an auditor"
    )]
    NotAuditor { sender: Address },
    #[error("the round of {commitment} cannot be appealed against: {why}")]
    NotAppealable { commitment: CommitmentId, why: &'static str },
    #[error(
        "no auditor is registered that did not take part in the round of {commitment}; try again when there is one"
    )]
    NoOtherVerifiers { commitment: CommitmentId },
    #[error("an audit of this answer cannot be demanded: {why}")]
    NotDemandable { why: &'static str },
    #[error("an audit of this answer was demanded already, as {commitment}")]
    DemandRepeated { commitment: CommitmentId },
    #[error("{operator} is not a registered validator; register it first")]
    ValidatorUnknown { operator: Address },
    #[error(
        "an honest mean of {given} ppm; publish {min} to 999999 ppm, measured across kinds of machine on at least one token"
    )]
    CalibrationMean { given: u32, min: u32 },
    #[error("{max} calibrations of one validator are the most; replace one")]
    TooManyCalibrations { max: usize },

    #[error("this network has no budget `{bucket}`")]
    NoBucket { bucket: &'static str },
    #[error("nothing more of `{bucket}` has vested yet; try again later")]
    NothingVested { bucket: &'static str },
}

impl TxError {
    /// For programs. A code never changes its meaning; `docs/spec/transactions.md` lists them.
    pub fn code(&self) -> &'static str {
        match self {
            TxError::ChainId { .. } => "tx.chain_id",
            TxError::TooLong { .. } => "tx.too_long",
            TxError::Expired { .. } => "tx.expired",
            TxError::NonceTooLow { .. } => "nonce.too_low",
            TxError::NonceTooHigh { .. } => "nonce.too_high",
            TxError::FeeMax { .. } => "fee.max_too_low",
            TxError::FeeUnpaid { .. } => "fee.cannot_pay",
            TxError::FeeDebt { .. } => "fee.debt_too_high",
            TxError::Zero { .. } => "amount.zero",
            TxError::Overflow { .. } => "amount.overflow",
            TxError::InsufficientWatt { .. } | TxError::QueueUnpaid { .. } => {
                "account.insufficient_watt"
            }
            TxError::InsufficientCredits { .. } => "account.insufficient_credits",
            TxError::ToModule { .. } => "transfer.to_module",
            TxError::NoCredits { .. } => "credits.nothing",
            TxError::WattMax { .. } => "credits.watt_max",
            TxError::Moniker { .. } => "registry.moniker",
            TxError::NodeKeyTaken { .. } => "registry.node_key_taken",
            TxError::ProviderUnknown { .. } => "provider.unknown",
            TxError::ProviderLeaving { .. } => "provider.leaving",
            TxError::UnbondedFull { .. } => "provider.unbonded_full",
            TxError::GatewayAddrs { .. } => "gateway.too_many_addrs",
            TxError::GatewayAddr { .. } => "gateway.bad_addr",
            TxError::ChannelUnknown { .. } => "channel.unknown",
            TxError::ChannelExists { .. } => "channel.exists",
            TxError::ChannelClosed { .. } => "channel.closed",
            TxError::TermsPayer { .. } => "channel.terms_payer",
            TxError::NotPayer { .. } => "channel.not_payer",
            TxError::NotReceiver { .. } => "channel.not_receiver",
            TxError::WithdrawDelay { .. } => "channel.withdraw_delay",
            TxError::WithdrawPending { .. } => "channel.withdraw_pending",
            TxError::WithdrawNotRequested { .. } => "channel.withdraw_not_requested",
            TxError::WithdrawEarly { .. } => "channel.withdraw_early",
            TxError::ClaimsCount { .. } => "redeem.claims_count",
            TxError::VoucherSigner { .. } => "redeem.voucher_signer",
            TxError::LaneTooHigh { .. } => "redeem.lane_too_high",
            TxError::ClaimAboveVoucher { .. } => "redeem.above_voucher",
            TxError::ChannelShort { .. } => "redeem.channel_short",
            TxError::MintRoom { .. } => "supply.mint_room",
            TxError::PurchasesPaused { .. } => "credits.paused",
            TxError::IssueBlockMax { .. } => "credits.block_full",
            TxError::NoRefunds => "credits.no_refunds",
            TxError::PriceStale { .. } => "oracle.stale",
            TxError::ProfileTag { .. } => "registry.profile_tag",
            TxError::ProfileModels { .. } => "registry.profile_models",
            TxError::OperatorUnknown { .. } => "stake.operator_unknown",
            TxError::Tombstoned { .. } => "stake.tombstoned",
            TxError::NotDelegated { .. } => "stake.not_delegated",
            TxError::StakeShort { .. } => "stake.short",
            TxError::ExchangeRate { .. } => "stake.exchange_rate",
            TxError::TooManyUnbondings { .. } => "stake.too_many_entries",
            TxError::RedelegationPair { .. } => "stake.redelegation_pair",
            TxError::RedelegationHop { .. } => "stake.redelegation_hop",
            TxError::BondNeeded { .. } => "stake.bond_needed",
            TxError::ValidatorBond { .. } => "validator.bond",
            TxError::ConsensusKeyTaken { .. } => "validator.consensus_key_taken",
            TxError::ConsensusKeyFixed { .. } => "validator.consensus_key",
            TxError::CommissionTerms { .. } => "stake.commission_terms",
            TxError::CommissionDiffers { .. } => "stake.commission_differs",
            TxError::CommissionEarly { .. } => "stake.commission_early",
            TxError::NotJailed { .. } => "stake.not_jailed",
            TxError::JailedUntil { .. } => "stake.jailed_until",
            TxError::NotEvidence { .. } => "evidence.none",
            TxError::EvidenceOld { .. } => "evidence.old",
            TxError::AlreadyPunished { .. } => "evidence.repeated",
            TxError::NotValidator { .. } => "validator.no_seat",
            TxError::NoRewards { .. } => "rewards.nothing",
            TxError::VoteRepeated { .. } => "oracle.repeated",
            TxError::VoteUncommitted { .. } => "oracle.uncommitted",
            TxError::VoteMismatch => "oracle.mismatch",
            TxError::VotePrice { .. } => "oracle.price",
            TxError::AuditsOff => "audit.off",
            TxError::ReceiptsCount { .. } => "audit.receipts_count",
            TxError::ModelNotOffered { .. } => "audit.model_not_offered",
            TxError::TooManyCommitments { .. } => "audit.too_many_commitments",
            TxError::TooManyDemands { .. } => "audit.too_many_demands",
            TxError::TooManyModels { .. } => "audit.too_many_models",
            TxError::RoundUnknown { .. } => "audit.no_round",
            TxError::NotVerifier { .. } => "audit.not_verifier",
            TxError::VerdictLate { .. } => "audit.late",
            TxError::VerdictRepeated { .. } => "audit.repeated",
            TxError::VerdictUncommitted { .. } => "audit.uncommitted",
            TxError::RevealEarly { .. } => "audit.early",
            TxError::VerdictMismatch => "audit.mismatch",
            TxError::VerdictInconsistent { .. } => "audit.inconsistent",
            TxError::NotCommitter { .. } => "audit.not_committer",
            TxError::NotPlanted { .. } => "audit.not_planted",
            TxError::PlantedRepeated { .. } => "audit.planted_repeated",
            TxError::ClosedUnknown { .. } => "audit.not_kept",
            TxError::NotAuditor { .. } => "audit.not_auditor",
            TxError::NotAppealable { .. } => "audit.not_appealable",
            TxError::NoOtherVerifiers { .. } => "audit.no_other_verifiers",
            TxError::NotDemandable { .. } => "audit.not_demandable",
            TxError::DemandRepeated { .. } => "audit.demand_repeated",
            TxError::ValidatorUnknown { .. } => "validator.unknown",
            TxError::CalibrationMean { .. } => "audit.calibration_mean",
            TxError::TooManyCalibrations { .. } => "audit.too_many_calibrations",
            TxError::NoBucket { .. } => "vesting.no_bucket",
            TxError::NothingVested { .. } => "vesting.nothing",
        }
    }
}

/// Why a block cannot be applied at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("block {open} is open; commit it or roll it back first")]
    Open { open: Height },
    #[error("block {given} cannot follow block {tip}")]
    Height { given: Height, tip: Height },
    #[error("a block of {given} ms cannot follow one of {tip} ms")]
    Time { given: TimeMs, tip: TimeMs },
    #[error("{count} transactions are more than the {max} of a block")]
    TooManyTxs { count: usize, max: usize },
    #[error("{bytes} bytes of transactions are more than the {bytes_max} of a block")]
    TooLong { bytes: usize, bytes_max: usize },
    /// Cannot happen while the invariants hold.
    #[error(
        "the work at the end of block {height} failed: this is a defect of the ledger, stop and report it"
    )]
    Defect { height: Height, source: TxError },
}

/// Why a genesis document starts no ledger. Each names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    #[error(transparent)]
    Param { source: ParamError },
    #[error("`nusd_per_watt` is {given:?}; use {min:?} to {max:?}")]
    Price { given: Nusd, min: Nusd, max: Nusd },
    #[error("`accounts`: {address} stands there twice; add its balances up")]
    DuplicateAccount { address: Address },
    #[error("`accounts`: {address} belongs to the ledger itself; remove it")]
    ModuleAccount { address: Address },
    #[error(
        "balances and stakes are more than {max:?}, which is `params.supply.max` less all that may be minted later; lower one of them"
    )]
    Supply { max: Watt },
    #[error("`vesting`: `{bucket}` stands there twice; add its totals up")]
    DuplicateBucket { bucket: &'static str },
    #[error("`vesting`: `{bucket}` must start before it ends, with the cliff not after the end")]
    VestingTimes { bucket: &'static str },
    #[error("`vesting`: the beneficiary of `{bucket}` belongs to the ledger itself; leave it out")]
    VestingBeneficiary { bucket: &'static str },
    #[error("`validators` has {count} entries; use 1 to {max}")]
    ValidatorsCount { count: usize, max: usize },
    #[error("`validators`: {consensus_key} or its operator stands there twice; remove one")]
    DuplicateValidator { consensus_key: PublicKey },
    #[error("`validators`: the stake of {consensus_key} is below {min:?} or one WATT; raise it")]
    Stake { consensus_key: PublicKey, min: Watt },
    #[error("`validators`: the commission of {consensus_key} exceeds its own maximum; change it")]
    Commission { consensus_key: PublicKey },
    #[error("`validators`: {consensus_key} needs a moniker without control characters")]
    Moniker { consensus_key: PublicKey },
    #[error("`validators`: the first set cannot be seated")]
    Seats { source: TxError },
}

/// Why bytes are not a snapshot, or none can be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("block {open} is open; commit it or roll it back before a snapshot is taken")]
    Open { open: Height },
    #[error("the snapshot is damaged: {reason}; restore another one or replay the blocks")]
    Malformed { reason: String },
    #[error(
        "the snapshot breaks invariant {number}: {detail}; restore another one or replay the blocks"
    )]
    Violation { number: &'static str, detail: String },
    #[error(
        "the snapshot names the root {stated} and its entries have {actual}; restore another one or replay the blocks"
    )]
    Root { stated: Hash32, actual: Hash32 },
    #[error("the snapshot is of a network with genesis {found}, this one has {expected}")]
    OtherGenesis { found: Hash32, expected: Hash32 },
}
