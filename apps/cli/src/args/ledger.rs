//! Arguments of the commands that look at the ledger or change it: one noun, some verbs.
//!
//! A command that changes the ledger is signed by the key of whoever may do it. Each says which key
//! that is when `--key` names no other.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};
use types::{
    Address, ChannelId, Hash32, Height, ModelId, Nusd, Ppm, PublicKey, Watt,
    audit::CommitmentId,
    stake::{CommissionTerms, OperatorId},
};

use super::amount::{parse_percent, parse_tag, parse_usd, parse_watt};

fn parse_height(text: &str) -> Result<Height, String> {
    text.parse().map(Height).map_err(|_| "the number of a block".to_owned())
}

/// Who signs a transaction, and where it goes.
#[derive(Args, Clone)]
pub(crate) struct TxArgs {
    /// Sign with this key file, or with the one of this name in the data folder's `keys`
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Passphrase of an encrypted key file
    #[arg(long, env = "PEERWATT_PASSPHRASE", hide_env_values = true, value_name = "TEXT")]
    pub(crate) passphrase: Option<String>,
    #[command(flatten)]
    pub(crate) at: AtArgs,
    /// Show the fee and the events, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Which ledger is asked.
#[derive(Args, Clone)]
pub(crate) struct AtArgs {
    /// The chain API of a validator [default: the one that runs from this data folder]
    #[arg(long, env = "PEERWATT_CHAIN", value_name = "URL")]
    pub(crate) chain: Option<String>,
}

/// Whose things are shown.
#[derive(Args, Clone)]
pub(crate) struct WhoseArgs {
    /// Of this account [default: that of the key file]
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: Option<Address>,
    /// The key file, or its name in the data folder's `keys`
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Passphrase of an encrypted key file
    #[arg(long, env = "PEERWATT_PASSPHRASE", hide_env_values = true, value_name = "TEXT")]
    pub(crate) passphrase: Option<String>,
    #[command(flatten)]
    pub(crate) at: AtArgs,
}

#[derive(Args)]
pub(crate) struct StakeArgs {
    #[command(subcommand)]
    pub(crate) command: StakeCommand,
}

#[derive(Subcommand)]
pub(crate) enum StakeCommand {
    /// Stake WATT behind an operator: earn a share of its rewards, lose a share of what it is
    /// slashed
    Delegate {
        operator: OperatorId,
        /// How many WATT
        #[arg(value_parser = parse_watt)]
        amount: Watt,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Take stake back; it is paid after the unbonding time and can be slashed until then
    Undelegate {
        operator: OperatorId,
        /// How many WATT
        #[arg(value_parser = parse_watt)]
        amount: Watt,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Move stake to another operator of the same role, without waiting
    Redelegate {
        from: OperatorId,
        to: OperatorId,
        /// How many WATT
        #[arg(value_parser = parse_watt)]
        amount: Watt,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Show what the account's stake has earned, or take it
    Rewards {
        /// Take what was earned behind this operator; behind all, if none is named
        #[arg(long, value_name = "OPERATOR", num_args = 0..=1)]
        withdraw: Option<Option<OperatorId>>,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Show what an account has staked, what that earned, and what is on its way back
    Show(WhoseArgs),
}

#[derive(Args)]
pub(crate) struct ProviderArgs {
    #[command(subcommand)]
    pub(crate) command: ProviderCommand,
}

#[derive(Subcommand)]
pub(crate) enum ProviderCommand {
    /// Register this data folder's provider, or change what its entry says; `provide` does it by
    /// itself
    Register {
        /// A name that others see
        #[arg(long, value_name = "NAME", default_value = "provider")]
        moniker: String,
        /// Where it stands, such as eu-west
        #[arg(long, value_name = "TAG", default_value = "", value_parser = parse_tag)]
        region: String,
        /// What it runs on, such as rtx-4090
        #[arg(long, value_name = "TAG", default_value = "", value_parser = parse_tag)]
        class: String,
        /// Its own stake afterwards, at least; a bond that is higher stays
        #[arg(long, value_name = "WATT", default_value = "0", value_parser = parse_watt)]
        bond: Watt,
        #[command(flatten)]
        commission: ProviderCommissionArgs,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Add WATT to its bond, which is its own stake
    Bond {
        /// How many WATT
        #[arg(value_parser = parse_watt)]
        amount: Watt,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Leave: no new channels from now on, and the bond is paid back after the unbonding time
    Unbond(TxArgs),
    /// Come back from jail when its time is over
    Unjail(TxArgs),
    /// Set the share of its income that it keeps before its delegators receive theirs
    Commission {
        /// Per cent
        #[arg(value_name = "PERCENT", value_parser = parse_percent)]
        rate: Ppm,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Show one provider as the ledger has it
    Show(WhoseArgs),
    /// Show what audits say of one provider: its name, its rounds, what waits and what follows
    Audits(WhoseArgs),
    /// Have a round that failed audited again, all its receipts and by other verifiers
    ///
    /// Costs a deposit, which comes back if they pass it.
    Appeal {
        /// The round, as `peerwatt provider audits` shows it, watt1…/NUMBER
        round: CommitmentId,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// List all providers
    List(AtArgs),
    /// Show why gateways passed over the provider of this data folder, and what would change it
    Why(WhyArgs),
}

/// Which part of the report.
#[derive(Args)]
pub(crate) struct WhyArgs {
    /// The latest hours
    #[arg(long, value_name = "N", default_value = "24", value_parser = clap::value_parser!(u16).range(1..=48))]
    pub(crate) hours: u16,
    /// Only this model
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
}

/// What a provider declares with its first registration, for good but for the rate.
#[derive(Args)]
pub(crate) struct ProviderCommissionArgs {
    /// Share of its income that it keeps before its delegators receive theirs, in per cent [default:
    /// 100, or what it has]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    commission: Option<Ppm>,
    /// It will never keep more, in per cent [default: 100]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, requires = "commission")]
    commission_max: Option<Ppm>,
    /// The most that one change may move the commission by, in per cent [default: 1]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, requires = "commission")]
    commission_change_max: Option<Ppm>,
}

impl ProviderCommissionArgs {
    /// `None`: the registration says nothing about it.
    pub(crate) fn terms(&self) -> Option<CommissionTerms> {
        let CommissionTerms { rate: _, rate_max, change_max } = CommissionTerms::ALL;
        Some(CommissionTerms {
            rate: self.commission?,
            rate_max: self.commission_max.unwrap_or(rate_max),
            change_max: self.commission_change_max.unwrap_or(change_max),
        })
    }
}

#[derive(Subcommand)]
pub(crate) enum ValidatorCommand {
    /// Make an account a candidate for the validator set, or change its entry
    Register {
        /// Signs its blocks [default: the data folder's `consensus` key]
        #[arg(long, value_name = "KEY")]
        consensus_key: Option<PublicKey>,
        /// A name that others see
        #[arg(long, value_name = "NAME", default_value = "validator")]
        moniker: String,
        /// Its own stake afterwards, at least
        #[arg(long, value_name = "WATT", value_parser = parse_watt)]
        stake: Watt,
        /// Share of its delegators' rewards that it keeps, in per cent
        #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = parse_percent)]
        commission: Ppm,
        /// It will never keep more, in per cent
        #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = parse_percent)]
        commission_max: Ppm,
        /// The most that one change may move the commission by, in per cent
        #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = parse_percent)]
        commission_change_max: Ppm,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Set the share of its delegators' rewards that it keeps, or take what it has kept so far
    Commission {
        /// Per cent, within the terms that it registered with
        #[arg(
            value_name = "PERCENT",
            value_parser = parse_percent,
            required_unless_present = "withdraw",
            conflicts_with = "withdraw"
        )]
        rate: Option<Ppm>,
        /// Take what it has kept so far
        #[arg(long)]
        withdraw: bool,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Come back from jail when its time is over
    Unjail(TxArgs),
    /// List all validators, with and without a seat
    List(AtArgs),
}

#[derive(Args)]
pub(crate) struct ChannelArgs {
    #[command(subcommand)]
    pub(crate) command: ChannelCommand,
}

#[derive(Subcommand)]
pub(crate) enum ChannelCommand {
    /// List the channels that an account pays into or receives from
    List {
        /// The account [default: that of the data folder's `gateway` key]
        #[arg(long, value_name = "ADDRESS")]
        party: Option<Address>,
        #[command(flatten)]
        at: AtArgs,
    },
    /// Open a channel from an account of yours to a provider, for requests that are paid one by one without an API
    /// key: a gateway signs for it. Buys the credits that are missing. Signed by `wallet`
    Open {
        /// Who is paid
        provider: Address,
        /// The gateway's payer key, as its answer to a request without a key tells it
        #[arg(long, value_name = "KEY")]
        payer_key: PublicKey,
        /// What is put into it, in USD
        #[arg(long, value_name = "USD", default_value = "0.10", value_parser = parse_usd)]
        deposit: Nusd,
        /// From the wish to withdraw to the withdrawal, in minutes [default: four times the shortest that the ledger
        /// allows]
        #[arg(long, value_name = "MINUTES")]
        withdraw_delay: Option<u64>,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Add to a channel's deposit as its payer. Buys the credits that are missing. Signed by `wallet`
    Add {
        id: ChannelId,
        /// How many USD
        #[arg(value_parser = parse_usd)]
        amount: Nusd,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Close a channel as its receiver: the unused rest goes back to the payer at once. Redeem
    /// first: vouchers of a closed channel are worth nothing. Signed by `provider`
    Close {
        id: ChannelId,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Give a part of the unused rest back to the payer; the channel stays open. Signed by
    /// `provider`
    Return {
        id: ChannelId,
        /// How many USD
        #[arg(value_parser = parse_usd)]
        amount: Nusd,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Take the unused rest back as its payer: asks for it first, takes it when this is called again
    /// after the withdraw delay. Signed by `gateway`
    Withdraw {
        id: ChannelId,
        #[command(flatten)]
        tx: TxArgs,
    },
}

#[derive(Args)]
pub(crate) struct OracleArgs {
    #[command(subcommand)]
    pub(crate) command: OracleCommand,
}

#[derive(Subcommand)]
pub(crate) enum OracleCommand {
    /// Show the price of WATT, its average and its age
    Show(AtArgs),
    /// Vote on the price as a validator: commits now, waits for the next period and reveals then.
    /// Signed by `validator`, the operator's key; a dry run looks at the commitment only
    Vote {
        /// USD for one WATT
        #[arg(value_name = "USD", value_parser = parse_usd)]
        price: Nusd,
        #[command(flatten)]
        tx: TxArgs,
    },
}

#[derive(Args)]
pub(crate) struct EventsArgs {
    /// Begin with this block [default: the first; with --follow, the next]
    #[arg(long, value_name = "HEIGHT", value_parser = parse_height)]
    pub(crate) from: Option<Height>,
    /// Go on with new events as they come, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only events whose kind begins with this, such as `channel.`
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub(crate) kind: String,
    #[command(flatten)]
    pub(crate) at: AtArgs,
}

#[derive(Args)]
pub(crate) struct ProofArgs {
    #[command(subcommand)]
    pub(crate) command: ProofCommand,
}

#[derive(Subcommand)]
pub(crate) enum ProofCommand {
    /// Print an entry of the ledger with its proof
    Get {
        #[command(subcommand)]
        entry: ProofEntry,
        #[command(flatten)]
        at: AtArgs,
    },
    /// Check a proof without asking anybody, and print the entry. Trusts what is given, else what
    /// `peerwatt light sync` verified, else the validators of the data folder's genesis document
    Verify {
        /// What `proof get` printed; `-` reads stdin
        file: PathBuf,
        /// The root of the state that is trusted, 64 hexadecimal digits
        #[arg(long, value_name = "HEX", group = "trusted")]
        root: Option<Hash32>,
        /// The height and the digest of the proof's header, which is trusted
        #[arg(long, value_name = "HEIGHT:HASH", group = "trusted")]
        trust: Option<TrustPoint>,
        /// The digest of the validator set that is trusted to decide the proof's block
        #[arg(long, value_name = "HEX", group = "trusted")]
        validators: Option<Hash32>,
    },
}

/// A header that the user trusts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TrustPoint {
    pub(crate) height: Height,
    pub(crate) hash: Hash32,
}

impl FromStr for TrustPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<TrustPoint, String> {
        let bad = || "a height and a digest, such as 1200:5fd9…".to_owned();
        let (height, hash) = text.split_once(':').ok_or_else(bad)?;
        let height = Height(height.parse().map_err(|_| bad())?);
        Ok(TrustPoint { height, hash: hash.parse().map_err(|_| bad())? })
    }
}

#[derive(Args)]
pub(crate) struct LightArgs {
    #[command(subcommand)]
    pub(crate) command: LightCommand,
}

#[derive(Subcommand)]
pub(crate) enum LightCommand {
    /// Follow the chain to its newest block by what validators signed
    Sync(LightSyncArgs),
    /// Show what is trusted, asking nobody
    Status,
}

#[derive(Args)]
pub(crate) struct LightSyncArgs {
    /// Chain APIs; the first that answers is followed, the others are compared with it [default: the
    /// one that runs from this data folder]
    #[arg(long, env = "PEERWATT_CHAIN", value_name = "URL", value_delimiter = ',')]
    pub(crate) at: Vec<String>,
    /// Begin with this header instead of what was trusted before
    #[arg(long, value_name = "HEIGHT:HASH")]
    pub(crate) trust: Option<TrustPoint>,
    /// The genesis document, if the data folder has none [default: that of the nodes]
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
}

#[derive(Subcommand, Clone, Copy)]
pub(crate) enum ProofEntry {
    /// What an account holds
    Account { address: Address },
    /// A channel
    Channel { id: ChannelId },
    /// A provider's entry
    Provider { address: Address },
    /// The stake behind an operator, `validator/watt1…` or `provider/watt1…`
    Operator { operator: OperatorId },
    /// A gateway's entry
    Gateway { address: Address },
    /// Where the auditor of a validator is reached
    Auditor { address: Address },
    /// The newest beacon of audits
    Beacon,
    /// An open round of audits, `watt1…/NUMBER`
    Round { commitment: CommitmentId },
    /// How a provider stands with the auditors, with all its models or with one
    Standing { provider: Address, model: Option<ModelId> },
}

#[derive(Args)]
pub(crate) struct LedgerArgs {
    #[command(subcommand)]
    pub(crate) command: LedgerCommand,
}

#[derive(Subcommand)]
pub(crate) enum LedgerCommand {
    /// Replay every block from genesis and check signatures, digests and every invariant
    Check,
    /// Write the whole state of the data folder's validator to a new file
    Export { file: PathBuf },
    /// Read a file that `export` wrote: rebuild the state, recompute its root and check every
    /// invariant. Compare the root with that of a block that you trust
    Import {
        file: PathBuf,
        /// The genesis document of its network [default: the data folder's]
        #[arg(long, value_name = "FILE")]
        genesis: Option<PathBuf>,
        /// Fail unless the state has this root, 64 hexadecimal digits
        #[arg(long, value_name = "HEX")]
        root: Option<Hash32>,
    },
}
