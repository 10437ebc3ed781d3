//! Arguments of `peerwatt audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{GatewayClientArgs, ledger::AtArgs};

#[derive(Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Run the model over the answer of a request, and compare it with what its provider reported and signed
    ///
    /// The provider is asked for what it keeps: the request, the text, and all log-probabilities. Needs the model's GGUF file.
    Check(AuditCheckArgs),
    /// Measure how far an honest engine is from your own run of the same model
    ///
    /// What an audit bets against: 1.5 times the worst of such means.
    Calibrate(AuditCalibrateArgs),
    /// Show what validators have audited, and what came of it
    List {
        #[command(flatten)]
        at: AtArgs,
    },
}

#[derive(Args)]
pub(crate) struct AuditCheckArgs {
    /// The request's id (header `x-request-id`)
    pub(crate) request: String,
    /// The GGUF file of the model that was paid for [default: the built-in model]
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// A cheaper model that might have been served instead; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) cheaper: Vec<PathBuf>,
    /// The honest mean of scores by log-probabilities, in millionths, from `audit calibrate` or the ledger
    #[arg(long, value_name = "PPM", default_value_t = 70_000, value_parser = clap::value_parser!(u32).range(1..1_000_000))]
    pub(crate) l1_mean: u32,
    /// The honest mean of scores by draws, in millionths
    #[arg(long, value_name = "PPM", default_value_t = 21_000, value_parser = clap::value_parser!(u32).range(1..1_000_000))]
    pub(crate) l2_mean: u32,
    /// Write the evidence over the tokens as a picture
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) gateway: GatewayClientArgs,
}

#[derive(Args)]
pub(crate) struct AuditCalibrateArgs {
    /// The GGUF file of the model [default: the built-in model]
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// A server with OpenAI's API that is known to run just this model [default: the embedded engine itself]
    #[arg(long, value_name = "URL")]
    pub(crate) engine_url: Option<String>,
    /// Answers that are measured
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) responses: u32,
    /// The most tokens of each
    #[arg(long, value_name = "COUNT", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) tokens: u32,
}
