//! Arguments of `peerwatt audit`.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};
use types::audit::{Backend, CommitmentId};

use super::{
    GatewayClientArgs,
    ledger::{AtArgs, TxArgs},
};

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
    /// Show what this data folder's auditor found in a round: verdict, evidence, picture
    Show(AuditShowArgs),
    /// Have an answer audited on the ledger, as the payer of its channel
    ///
    /// Whatever its provider commits to by itself. The deposit comes back unless the answer passes.
    Demand {
        /// The receipt's file, or the id of its request (header `x-request-id`)
        receipt: String,
        #[command(flatten)]
        gateway: GatewayClientArgs,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Run the model over what this data folder's provider opened, or has to open, in a round of its own
    ///
    /// The provider may be running. Says what a verifier finds that computes as this machine does.
    Recompute(AuditRecomputeArgs),
    /// List the auditors of validators: where they are reached, and what they did
    Auditors {
        #[command(flatten)]
        at: AtArgs,
    },
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
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    #[command(flatten)]
    pub(crate) gateway: GatewayClientArgs,
}

#[derive(Args)]
pub(crate) struct AuditRecomputeArgs {
    /// The round, as `peerwatt provider audits` shows it, watt1…/NUMBER
    pub(crate) round: CommitmentId,
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    #[command(flatten)]
    pub(crate) at: AtArgs,
}

/// What answers are compared with.
#[derive(Args)]
pub(crate) struct JudgeArgs {
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
    /// The honest mean of scores by projections, which the embedded engine tells, in millionths
    #[arg(long, value_name = "PPM", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..1_000_000))]
    pub(crate) projections_mean: u32,
    /// Write the evidence over the tokens as a picture
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct AuditCalibrateArgs {
    /// The GGUF file of the model [default: the built-in model]
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// A server with OpenAI's API that is known to run just this model [default: the embedded engine, with candle]
    #[arg(long, value_name = "URL")]
    pub(crate) engine_url: Option<String>,
    /// A server that scores, llama-server or vLLM with this --model, as URL,backend=NAME [default: the embedded engine]
    #[arg(long, value_name = "SERVER", requires = "model")]
    pub(crate) score_with: Option<ScoringServer>,
    /// Answers that are measured
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) responses: u32,
    /// Publish the means on the ledger, as the validator whose key is `validator`
    #[arg(long)]
    pub(crate) publish: bool,
    #[command(flatten)]
    pub(crate) at: AtArgs,
    /// The most tokens of each
    #[arg(long, value_name = "COUNT", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) tokens: u32,
}

#[derive(Args)]
pub(crate) struct AuditShowArgs {
    /// The round, as `peerwatt audit list` shows it, `watt1…/NUMBER`
    pub(crate) round: CommitmentId,
    /// Write the evidence over the tokens as a picture
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// A server that runs a model over answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ScoringServer {
    pub(crate) url: String,
    pub(crate) model: Option<PathBuf>,
    pub(crate) backend: Option<Backend>,
}

impl FromStr for ScoringServer {
    type Err = String;

    fn from_str(text: &str) -> Result<ScoringServer, String> {
        let mut parts = text.split(',');
        let url = parts.next().unwrap_or_default().to_owned();
        let mut server = ScoringServer { url, model: None, backend: None };
        for part in parts {
            match part.split_once('=') {
                Some(("model", file)) if !file.is_empty() => server.model = Some(file.into()),
                Some(("backend", name)) => {
                    let known = Backend::ALL.map(Backend::name).join(", ");
                    let backend = name.parse();
                    server.backend = Some(
                        backend.map_err(|_| format!("no backend is called `{name}`: {known}"))?,
                    );
                }
                _ => return Err(format!("`{part}` is neither model=FILE nor backend=NAME")),
            }
        }
        Ok(server)
    }
}

/// How a validator audits providers.
#[derive(Args, Clone)]
pub(crate) struct AuditorArgs {
    /// Do not audit: no round draws this validator
    #[arg(long)]
    pub(crate) no_audits: bool,
    /// Folder of GGUF files that audits may run, besides the built-in model; who lacks a model abstains
    #[arg(long, value_name = "FOLDER", conflicts_with = "no_audits")]
    pub(crate) audit_models: Option<PathBuf>,
    /// Where models that a round asks for are fetched, as URL/ID.gguf, into --audit-models, else into the data folder; they are
    /// checked by their bytes
    #[arg(long, value_name = "URL", conflicts_with = "no_audits")]
    pub(crate) audit_mirror: Option<String>,
    /// The largest file that is fetched from --audit-mirror, in GB
    #[arg(long, value_name = "GB", default_value_t = 20, requires = "audit_mirror", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) audit_download_max: u64,
    /// A server that runs a model for audits, llama-server or vLLM, as URL,model=FILE,backend=NAME; may be repeated
    ///
    /// All but the URL may be left out. FILE is the GGUF file that it runs, or whose weights it runs in another form; without one
    /// the server's own description is the model's name. NAME is what it computes on: cpu_x86, cpu_arm, cuda_mmq, cuda_cublas, metal, vulkan or rocm.
    #[arg(long, value_name = "SERVER", conflicts_with = "no_audits")]
    pub(crate) audit_engine: Vec<ScoringServer>,
    /// A gateway's OpenAI API that canaries are sent through: requests of this auditor's own, for answers that nobody may disclose
    #[arg(long, value_name = "URL", requires = "canary_key", conflicts_with = "no_audits")]
    pub(crate) canary_gateway: Option<String>,
    /// API key for --canary-gateway, which pays for them
    #[arg(long, env = "PEERWATT_CANARY_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) canary_key: Option<String>,
    /// Send a canary this often, on average
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) canary_every: u64,
    /// Where providers open what is audited, UDP [default: the address of --peer-listen, with the port number of the chain API]
    #[arg(long, value_name = "ADDR", conflicts_with = "no_audits")]
    pub(crate) audit_listen: Option<SocketAddr>,
    /// Address under which providers reach --audit-listen, HOST:PORT, if it is another; may be repeated
    #[arg(long, value_name = "ADDR", conflicts_with = "no_audits")]
    pub(crate) audit_advertise: Vec<String>,
    /// Tokens that are scored for one verdict; a model takes about as long for one as when it makes one
    #[arg(long, value_name = "TOKENS", default_value_t = 16_384, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) audit_tokens: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_url_with_what_it_runs() {
        let parsed = |text: &str| text.parse::<ScoringServer>();
        let plain = parsed("http://127.0.0.1:8080").unwrap();
        assert_eq!(
            (plain.url.as_str(), plain.model, plain.backend),
            ("http://127.0.0.1:8080", None, None)
        );
        let whole = parsed("http://gpu:8000,model=/srv/m.gguf,backend=cuda_cublas").unwrap();
        assert_eq!(whole.model, Some("/srv/m.gguf".into()));
        assert_eq!(whole.backend, Some(Backend::CudaCublas));
        for bad in ["http://gpu,model=", "http://gpu,backend=gpu", "http://gpu,x"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
