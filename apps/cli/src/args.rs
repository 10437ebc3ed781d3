//! Arguments as they are given. What they mean for a part of the network is worked out where that
//! part is started.

mod amount;
mod audit;
mod gateway;
mod ledger;

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf};

use ::gateway::DatabaseUrl;
use clap::{ArgAction, Args, Parser, Subcommand};
use types::{Address, Nusd, RequestId, Watt};
use validator::Peer;

use crate::home::parse_peer;
use amount::{parse_tag, parse_usd, parse_watt};
pub(crate) use audit::{
    AuditArgs, AuditCalibrateArgs, AuditCheckArgs, AuditCommand, AuditRecomputeArgs, AuditShowArgs,
    AuditorArgs, JudgeArgs, ScoringServer,
};
pub(crate) use gateway::{
    KeyArgs, KeyCommand, LimitArgs, OperatorArgs, OtlpArgs, UsageArgs, UsageFormat,
};
pub(crate) use ledger::{
    AtArgs, ChannelArgs, ChannelCommand, EventsArgs, LedgerArgs, LedgerCommand, LightArgs,
    LightCommand, LightSyncArgs, OracleArgs, OracleCommand, ProofArgs, ProofCommand, ProofEntry,
    ProviderArgs, ProviderCommand, StakeArgs, StakeCommand, TrustPoint, TxArgs, ValidatorCommand,
    WhoseArgs, WhyArgs,
};

/// Turns idle machines into one inference service that is paid by the token.
///
/// `peerwatt up` starts a whole network on this machine and serves the OpenAI API.
#[derive(Parser)]
#[command(name = "peerwatt", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Runs a gateway and manages it: the commands of `peerwatt` that this takes, and no others.
#[derive(Parser)]
#[command(name = "peerwatt-gateway", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct GatewayCli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: GatewayCommand,
}

/// Options of every command.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// Where keys, the ledger, receipts and journals are kept [default: the platform's data folder]
    #[arg(long, global = true, env = "PEERWATT_DATA_DIR", value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print results as JSON, one document a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more to stderr; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start a validator, a gateway and a provider in one process and serve the OpenAI API
    Up(UpArgs),
    /// Run a provider: share this machine's models and earn
    Provide(ProvideArgs),
    #[command(flatten)]
    OfGateway(GatewayCommand),
    /// Run a validator: keep the ledger. With a command, manage its entry there
    ///
    /// `peerwatt validator` runs one. `peerwatt validator register`, `commission`, `unjail` and
    /// `list` look at the ledger or change it, signed by the key `validator` unless --key names
    /// another.
    Validator(ValidatorArgs),
    /// Run a network of several validators on this machine, each a process of its own
    Testnet(TestnetArgs),
    /// Talk to a model through the gateway
    Chat(ChatArgs),
    /// Run the model of an answer again, and say whether its provider served it
    Audit(AuditArgs),
    /// Stake WATT behind validators and providers
    ///
    /// An operator is written validator/watt1… or provider/watt1…. Signed by the key `wallet` unless
    /// --key names another.
    Stake(StakeArgs),
    /// Manage a provider's entry on the ledger; `provide` runs one
    ///
    /// Signed by the key `provider` unless --key names another: the one that `peerwatt provide`
    /// earns with.
    Provider(ProviderArgs),
    /// List, close and empty payment channels
    Channel(ChannelArgs),
    /// Show the price of WATT, and vote on it as a validator
    Oracle(OracleArgs),
    /// List the parameters of the ledger with their bounds
    Params(AtArgs),
    /// Show what happened on the ledger, event by event
    Events(EventsArgs),
    /// Take entries of the ledger with proofs, and check such proofs offline
    Proof(ProofArgs),
    /// Follow the chain by what its validators signed, believing no node
    Light(LightArgs),
    /// Check, export and import the books of a stopped validator
    Ledger(LedgerArgs),
}

// Not a comment of documentation: those become a description of the whole program.
#[derive(Subcommand)]
pub(crate) enum GatewayCommand {
    /// Run a gateway: serve consumers and pay providers
    Gateway(Box<GatewayArgs>),
    /// List the models that the gateway can reach, with prices
    Models(GatewayClientArgs),
    /// Explain which provider would get a request
    Route(RouteArgs),
    /// Make, list, limit and revoke API keys of a gateway
    Key(KeyArgs),
    /// Export what was used, request by request
    Usage(UsageArgs),
    /// Show what runs and where the ledger stands
    Status(StatusArgs),
    /// Make, show and use an account
    Wallet(WalletArgs),
    /// Show and recompute receipts
    Receipt(ReceiptArgs),
}

/// Libraries of the embedded engine.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EmbeddedWith {
    Candle,
    /// llama.cpp, in programs that were built with `--features llama`
    Llama,
}

/// Which engines a provider uses, and what it asks for.
#[derive(Args, Clone)]
pub(crate) struct EngineArgs {
    /// Serve this GGUF file with the embedded engine (llama architecture; any that llama.cpp knows, where it is built in)
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// What the embedded engine computes with [default: candle, or llama.cpp for a file that candle cannot load]
    #[arg(long, value_enum, value_name = "LIBRARY")]
    pub(crate) embedded_with: Option<EmbeddedWith>,
    /// Use the Ollama at this address instead of looking for one at http://127.0.0.1:11434
    #[arg(long, value_name = "URL")]
    pub(crate) ollama_url: Option<String>,
    /// The folder of models of --ollama-url, so that its answers can be audited
    #[arg(long, value_name = "FOLDER", requires = "ollama_url")]
    pub(crate) ollama_models: Option<PathBuf>,
    /// Use the OpenAI-compatible server at this address: llama-server, vLLM, LM Studio …
    #[arg(long, value_name = "URL")]
    pub(crate) engine_url: Option<String>,
    /// API key for --engine-url
    #[arg(long, env = "PEERWATT_ENGINE_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) engine_key: Option<String>,
    /// Sell answers of the OpenAI-compatible service at this address on, marked as resold
    #[arg(long, value_name = "URL", requires = "resell_model")]
    pub(crate) resell: Option<String>,
    /// A model of --resell, as the service calls it; may be given several times
    #[arg(long, value_name = "NAME", requires = "resell")]
    pub(crate) resell_model: Vec<String>,
    /// Tokens of context of the models of --resell, where the service does not tell
    #[arg(long, value_name = "TOKENS", default_value_t = 32_768, requires = "resell")]
    pub(crate) resell_context: u32,
    /// API key for --resell
    #[arg(long, env = "PEERWATT_RESELL_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) resell_key: Option<String>,
    /// Use the built-in model and look for no other engine
    #[arg(long, conflicts_with_all = ["model", "ollama_url", "engine_url", "resell"])]
    pub(crate) embedded: bool,
    /// Serve test models whose names are behaviours; for benchmarks and tests of clients
    #[arg(long, hide = true)]
    pub(crate) dummy_engine: bool,
    /// Another of its models, such as dummy/every-625; may be given several times
    #[arg(long, hide = true, value_name = "NAME", requires = "dummy_engine")]
    pub(crate) dummy_model: Vec<String>,
    /// Price of a million prompt tokens, in USD
    #[arg(long, value_name = "USD", default_value = "0.05", value_parser = parse_usd)]
    pub(crate) prompt_price: Nusd,
    /// Price of a million completion tokens, in USD
    #[arg(long, value_name = "USD", default_value = "0.10", value_parser = parse_usd)]
    pub(crate) completion_price: Nusd,
    /// Price of a request before its first token, in USD
    #[arg(long, value_name = "USD", default_value = "0", value_parser = parse_usd)]
    pub(crate) request_price: Nusd,
}

#[derive(Args)]
pub(crate) struct UpArgs {
    /// Where the OpenAI API and the web page are served [default: 127.0.0.1:8400]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where the chain API is served [default: 127.0.0.1:8401]
    #[arg(long, value_name = "ADDR")]
    pub(crate) chain_listen: Option<SocketAddr>,
    /// Where providers of other machines reach this gateway, UDP [default: 127.0.0.1:8402]
    #[arg(long, value_name = "ADDR")]
    pub(crate) peer_listen: Option<SocketAddr>,
    /// Address under which other machines reach --peer-listen, if it is another [default: that one]
    #[arg(long, value_name = "ADDR")]
    pub(crate) advertise: Vec<SocketAddr>,
    /// Another name under which the page may be opened, such as gateway.example.org
    #[arg(long, value_name = "HOST")]
    pub(crate) public_host: Vec<String>,
    /// Keep nothing: use a new folder and, unless told otherwise, any free ports
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Start no provider here: others join with `peerwatt provide --chain …`
    #[arg(long)]
    pub(crate) no_provider: bool,
    /// What the first API key, and the page's chat box, may spend in all, in USD [default: 5 when they are
    /// made; `peerwatt key limit` changes it too]
    #[arg(long, value_name = "USD", value_parser = parse_usd)]
    pub(crate) key_budget: Option<Nusd>,
    /// Charge requests of this machine that carry no key, such as those of Ollama's clients, to the first
    /// API key; pages of other sites in a browser stay out
    #[arg(long)]
    pub(crate) keyless: bool,
    /// Answer callers without an API key too, if they pay by request from channels of their own (x402)
    #[arg(long)]
    pub(crate) x402: bool,
    /// Where figures for Prometheus are served, as /metrics [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) otlp: OtlpArgs,
    #[command(flatten)]
    pub(crate) engines: EngineArgs,
    #[command(flatten)]
    pub(crate) auditor: AuditorArgs,
}

/// Which chain a part joins.
#[derive(Args, Clone)]
pub(crate) struct ChainArgs {
    /// Chain APIs of validators, believed only as far as they prove what they say: a later one is asked
    /// while those before it do not answer, and compared with them
    #[arg(
        long,
        env = "PEERWATT_CHAIN",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8401"
    )]
    pub(crate) chain: Vec<String>,
    /// The genesis document; joining another network than this one's is refused
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
    /// Begin with this header instead of what was trusted before, as `peerwatt light status` shows it
    #[arg(long, value_name = "HEIGHT:HASH")]
    pub(crate) trust: Option<TrustPoint>,
    /// Believe the first --chain without proof; for a validator of your own
    #[arg(long, conflicts_with = "trust")]
    pub(crate) trust_node: bool,
}

#[derive(Args)]
pub(crate) struct ProvideArgs {
    #[command(flatten)]
    pub(crate) chain: ChainArgs,
    #[command(flatten)]
    pub(crate) engines: EngineArgs,
    /// WATT to stake as its bond at once [default: none; a share of the income is withheld instead]
    #[arg(long, value_name = "WATT", default_value = "0", value_parser = parse_watt)]
    pub(crate) bond: Watt,
    /// A name that others see
    #[arg(long, value_name = "NAME", default_value = "provider")]
    pub(crate) moniker: String,
    /// Where it stands, such as eu-west
    #[arg(long, value_name = "TAG", default_value = "", value_parser = parse_tag)]
    pub(crate) region: String,
    /// What it runs on, such as rtx-4090
    #[arg(long, value_name = "TAG", default_value = "", value_parser = parse_tag)]
    pub(crate) class: String,
    /// Local address that connections to gateways leave from, UDP [default: loopback if the chain
    /// is on loopback, else any]
    #[arg(long, value_name = "ADDR")]
    pub(crate) peer_listen: Option<SocketAddr>,
    /// Earnings that are redeemed as soon as they add up to this, in USD
    #[arg(long, value_name = "USD", default_value = "0.01", value_parser = parse_usd)]
    pub(crate) redeem_at: Nusd,
    /// Commit to what can be audited this often, if there is something
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..=43_200))]
    pub(crate) commit_every: u64,
    /// Plant faults, to see which verifiers look: this GGUF file answers instead of the model that is offered, on purpose,
    /// and the provider says so once verifiers have committed to their verdicts. For an account that lives from
    /// nothing else, asked by a payer who knows: docs/how-to/audit.md
    #[arg(long, value_name = "FILE")]
    pub(crate) plant: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    pub(crate) chain: ChainArgs,
    /// Where the OpenAI API and the web page are served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8400")]
    pub(crate) listen: SocketAddr,
    /// Where providers reach this gateway (UDP)
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8402")]
    pub(crate) peer_listen: SocketAddr,
    /// Address under which other machines reach --peer-listen, if it is another [default: that one]
    #[arg(long, value_name = "ADDR")]
    pub(crate) advertise: Vec<SocketAddr>,
    /// Another name under which the page may be opened, such as gateway.example.org
    #[arg(long, value_name = "HOST")]
    pub(crate) public_host: Vec<String>,
    /// A name that others see
    #[arg(long, value_name = "NAME", default_value = "gateway")]
    pub(crate) moniker: String,
    /// What the first API key, and the page's chat box, may spend in all, in USD [default: 5 when they are
    /// made; `peerwatt key limit` changes it too]
    #[arg(long, value_name = "USD", value_parser = parse_usd)]
    pub(crate) key_budget: Option<Nusd>,
    /// Charge requests of this machine that carry no key, such as those of Ollama's clients, to the first
    /// API key; pages of other sites in a browser stay out
    #[arg(long)]
    pub(crate) keyless: bool,
    /// Answer callers without an API key too, if they pay by request from channels of their own (x402)
    #[arg(long)]
    pub(crate) x402: bool,
    /// Where figures for Prometheus are served, as /metrics [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Share API keys, budgets and receipts with other gateways through this PostgreSQL database, such as
    /// postgres://user:password@host/name [default: they are this gateway's own]
    #[arg(long, env = "PEERWATT_DATABASE", hide_env_values = true, value_name = "URL")]
    pub(crate) database: Option<DatabaseUrl>,
    /// Demand no audit of answers whose tokens came out otherwise when they were drawn again
    #[arg(long)]
    pub(crate) no_audit_demands: bool,
    /// Demand an audit of one in so many other answers, at random, once an hour per provider at most: one that
    /// passes costs the network's deposit, 0.05 WATT by default [default: none]
    #[arg(long, value_name = "COUNT")]
    pub(crate) audit_one_in: Option<NonZeroU32>,
    /// Services outside the network that answer too, in TOML; docs/how-to/upstreams.md says what it holds [default:
    /// none]
    #[arg(long, value_name = "FILE")]
    pub(crate) upstreams: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) otlp: OtlpArgs,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ValidatorArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ValidatorCommand>,
    /// Where the chain API is served [default: as in validator.json, else 127.0.0.1:8401]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where other nodes connect [default: as in validator.json, else 127.0.0.1:8403]
    #[arg(long, value_name = "ADDR")]
    pub(crate) peer_listen: Option<SocketAddr>,
    /// Another node, by the key that it prints and its address; may be repeated [default: those in
    /// validator.json]
    #[arg(long, value_name = "KEY@ADDR", value_parser = parse_peer)]
    pub(crate) peer: Vec<Peer>,
    /// Talk to the given peers only: for a validator behind full nodes of its own (sentries)
    #[arg(long)]
    pub(crate) peers_only: bool,
    /// Follow and answer, but decide nothing: needs no key
    #[arg(long)]
    pub(crate) full_node: bool,
    /// Make a block after this many seconds without one [default: only when there is something to do]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) heartbeat: Option<u64>,
    /// Begin no block after this height: for an upgrade that all agreed on
    #[arg(long, value_name = "HEIGHT")]
    pub(crate) halt_at: Option<u64>,
    /// Keep only this many of the newest blocks, and at least 1000 [default: all]
    #[arg(long, value_name = "BLOCKS")]
    pub(crate) blocks_kept: Option<u64>,
    /// Blocks between two snapshots of the state, which a restart and nodes that begin are given
    #[arg(long, value_name = "BLOCKS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) snapshot_interval: u64,
    /// Begin with a snapshot of the peers instead of replaying every block, if there is no block yet
    #[arg(long)]
    pub(crate) state_sync: bool,
    /// A block that the snapshot must follow from, as `peerwatt light status` shows it: needed when the
    /// network is older than two thirds of its unbonding time
    #[arg(long, value_name = "HEIGHT:HASH", requires = "state_sync")]
    pub(crate) trust: Option<TrustPoint>,
    /// The genesis document [default: the one in the data folder; made there if there is none]
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
    /// Give an account WATT in the genesis document that is made now; may be repeated
    #[arg(long, value_name = "ADDRESS=WATT", value_parser = amount::parse_grant)]
    pub(crate) fund: Vec<(Address, Watt)>,
    /// Vote for this price of one WATT, in USD, as the operator whose key is `validator` [default:
    /// in a local network the price that it began with, else it does not vote]
    #[arg(long, value_name = "USD", value_parser = parse_usd)]
    pub(crate) vote_price: Option<Nusd>,
    #[command(flatten)]
    pub(crate) auditor: AuditorArgs,
}

#[derive(Args)]
pub(crate) struct TestnetArgs {
    /// How many validators
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) validators: u16,
    /// Their weights, separated by commas, such as 5,1,1,1 [default: all equal]
    #[arg(long, value_name = "WEIGHTS", value_delimiter = ',', conflicts_with = "validators", value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) weights: Vec<u64>,
    /// Folder of the validators' data folders, made if there is none [default: testnet in the data
    /// folder]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,
    /// First of the ports that are used, two for each validator
    #[arg(long, value_name = "PORT", default_value_t = 8500)]
    pub(crate) first_port: u16,
    /// Write the folders and start nothing
    #[arg(long)]
    pub(crate) init_only: bool,
}

/// Which gateway a client command talks to.
#[derive(Args, Clone)]
pub(crate) struct GatewayClientArgs {
    /// Base URL of the gateway [default: the one that runs from this data folder]
    #[arg(long, env = "PEERWATT_BASE_URL", value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// API key [default: the first key of the gateway that runs from this data folder]
    #[arg(long, env = "PEERWATT_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) api_key: Option<String>,
}

#[derive(Args)]
pub(crate) struct ChatArgs {
    /// What to say; without it, an interactive chat starts
    pub(crate) message: Option<String>,
    #[command(flatten)]
    pub(crate) gateway: GatewayClientArgs,
    /// Model by name or id [default: the first that the gateway lists]
    #[arg(short, long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Instructions that stand before the chat
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// 0 (always the likeliest token) to 2
    #[arg(long, value_name = "NUMBER")]
    pub(crate) temperature: Option<f64>,
    /// The most tokens of an answer
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_tokens: Option<u32>,
    /// Makes answers repeatable where the engine can
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) pay: PayArgs,
}

/// Paying by request, without an API key.
#[derive(Args, Clone)]
pub(crate) struct PayArgs {
    /// Use no API key and pay for each answer from a channel of the wallet's own, which is opened if there is none
    #[arg(long)]
    pub(crate) x402: bool,
    /// What --x402 puts into a channel at once, in USD: no answer may cost more
    #[arg(long, value_name = "USD", default_value = "0.10", value_parser = parse_usd)]
    pub(crate) deposit: Nusd,
    /// The key file that --x402 pays with, or its name in the data folder's `keys` [default: wallet]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Passphrase of an encrypted key file
    #[arg(long, env = "PEERWATT_PASSPHRASE", hide_env_values = true, value_name = "TEXT")]
    pub(crate) passphrase: Option<String>,
    #[command(flatten)]
    pub(crate) at: AtArgs,
}

#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayClientArgs,
    /// The chain API of a validator [default: the one that runs from this data folder]
    #[arg(long, env = "PEERWATT_CHAIN", value_name = "URL")]
    pub(crate) chain: Option<String>,
}

#[derive(Args)]
pub(crate) struct WalletArgs {
    #[command(subcommand)]
    pub(crate) command: WalletCommand,
}

/// Which account, and where it is looked up.
#[derive(Args, Clone)]
pub(crate) struct WalletFileArgs {
    /// The key file, or its name in the data folder's `keys`
    #[arg(long, value_name = "FILE", default_value = "wallet")]
    pub(crate) key: PathBuf,
    /// Passphrase of an encrypted key file
    #[arg(long, env = "PEERWATT_PASSPHRASE", hide_env_values = true, value_name = "TEXT")]
    pub(crate) passphrase: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum WalletCommand {
    /// Make a new key; encrypted if a passphrase is given
    New(WalletFileArgs),
    /// Show an account's address, balances and channels
    Show {
        #[command(flatten)]
        file: WalletFileArgs,
        /// Show this account instead of the key file's
        #[arg(long, value_name = "ADDRESS")]
        address: Option<Address>,
        #[command(flatten)]
        at: AtArgs,
    },
    /// Send WATT to another account
    Send {
        /// The receiving account
        to: Address,
        /// How many WATT
        #[arg(value_parser = parse_watt)]
        amount: Watt,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Pay WATT into the vault for credits in USD
    BuyCredits {
        /// How many USD of credits
        #[arg(value_parser = parse_usd)]
        usd: Nusd,
        /// The most WATT to pay [default: the price in force and 5 % more]
        #[arg(long, value_name = "WATT", value_parser = parse_watt)]
        max: Option<Watt>,
        #[command(flatten)]
        tx: TxArgs,
    },
}

#[derive(Args)]
pub(crate) struct RouteArgs {
    #[command(subcommand)]
    pub(crate) command: RouteCommand,
}

#[derive(Subcommand)]
pub(crate) enum RouteCommand {
    /// Where a request would go now, and why nowhere else
    Explain(RouteExplainArgs),
}

#[derive(Args)]
pub(crate) struct RouteExplainArgs {
    /// Name or id of the model
    pub(crate) model: String,
    /// What price and time are worth: balanced, cheapest or fastest
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Option<String>,
    /// Only this provider
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) pin_provider: Option<Address>,
    /// Only providers of this region or of a part of it: `eu` is also `eu-west`
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Only providers that ask at most this, in USD per million tokens, and for a request beside its tokens, such as 0.05/0.10/0.0001
    #[arg(long, value_name = "PROMPT/COMPLETION[/REQUEST]")]
    pub(crate) max_price: Option<String>,
    /// How long the prompt is
    #[arg(long, value_name = "TOKENS", default_value_t = 256)]
    pub(crate) prompt_tokens: u32,
    /// The longest answer that is asked for
    #[arg(long, value_name = "TOKENS")]
    pub(crate) max_tokens: Option<u32>,
    /// With log-probabilities
    #[arg(long)]
    pub(crate) logprobs: bool,
    #[command(flatten)]
    pub(crate) gateway: GatewayClientArgs,
}

#[derive(Args)]
pub(crate) struct ReceiptArgs {
    #[command(subcommand)]
    pub(crate) command: ReceiptCommand,
}

#[derive(Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Print a receipt
    Show {
        /// The request's id (header `x-request-id`), or a file that holds the receipt
        receipt: String,
        #[command(flatten)]
        gateway: GatewayClientArgs,
    },
    /// Recompute a receipt: both signatures, the bill, and the answer if it is given. A file needs
    /// no network; an id is fetched first
    Verify {
        /// The request's id (header `x-request-id`), or a file that holds the receipt
        receipt: String,
        /// A file with the answer's text; `-` reads stdin
        #[arg(long, value_name = "FILE")]
        response: Option<PathBuf>,
        #[command(flatten)]
        gateway: GatewayClientArgs,
    },
}

impl ReceiptCommand {
    /// Whether `text` names a request rather than a file.
    pub(crate) fn request_id(text: &str) -> Option<RequestId> {
        text.parse().ok()
    }
}

#[cfg(test)]
mod tests;
