//! The binary, `peerwatt`: arguments, configuration, tracing, tokio. It decides nothing about
//! money or requests; it builds the shells, hands them what they need, and prints what they say.
//! `peerwatt-gateway` is what of it a machine needs that runs a gateway alone; the linker leaves out the rest.
//!
//! stdout carries results only; progress, hints and logs go to stderr.

mod args;
mod home;
mod output;
mod trust;

mod run {
    //! Commands that run a part of the network until they are stopped.
    pub(crate) mod auditor;
    pub(crate) mod engines;
    pub(crate) mod gateway;
    pub(crate) mod provide;
    pub(crate) mod stop;
    pub(crate) mod testnet;
    pub(crate) mod up;
    pub(crate) mod upstreams;
    pub(crate) mod validator;
}

mod client {
    //! Commands that talk to a running part, or look at what one left on disk.
    pub(crate) mod actor;
    pub(crate) mod api;
    pub(crate) mod audit;
    pub(crate) mod channel;
    pub(crate) mod chat;
    pub(crate) mod events;
    pub(crate) mod key;
    pub(crate) mod ledger;
    pub(crate) mod light;
    pub(crate) mod models;
    pub(crate) mod oracle;
    pub(crate) mod params;
    pub(crate) mod proof;
    pub(crate) mod provider;
    pub(crate) mod receipt;
    pub(crate) mod route;
    pub(crate) mod stake;
    pub(crate) mod status;
    pub(crate) mod usage;
    pub(crate) mod validator;
    pub(crate) mod wallet;
    pub(crate) mod why;
    pub(crate) mod x402;
}

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command, Common, GatewayCli, GatewayCommand};
use output::Output;

/// `peerwatt`.
pub fn whole() -> ExitCode {
    let cli = Cli::parse();
    let common = cli.common.clone();
    start(&common, |output| dispatch(cli, output))
}

/// `peerwatt-gateway`.
pub fn gateway_alone() -> ExitCode {
    let cli = GatewayCli::parse();
    let common = cli.common.clone();
    start(&common, |output| dispatch_gateway(cli.common, cli.command, output))
}

fn start<Ran: Future<Output = anyhow::Result<ExitCode>>>(
    common: &Common,
    run: impl FnOnce(Output) -> Ran,
) -> ExitCode {
    let output = Output::new(common.json);
    output::start_tracing(common.verbose, common.json);
    #[cfg(unix)]
    {
        // Journals and reports too are nobody else's business, whatever folder they lie in.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        raise_files_max();
    }
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let result = runtime.block_on(run(output));
            // Whatever still runs after a command ended has nothing left to say.
            runtime.shutdown_timeout(std::time::Duration::from_secs(2));
            result
        });
    match result {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Connections are files, and many systems let a process have 1 024 unless it asks for more.
#[cfg(unix)]
fn raise_files_max() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const WANTED: u64 = 65_536;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
    if current.is_some_and(|current| current < wanted) {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
        if let Err(error) = raised {
            tracing::debug!(%error, "files.limit");
        }
    }
}

async fn dispatch(cli: Cli, output: Output) -> anyhow::Result<ExitCode> {
    let common = cli.common;
    match cli.command {
        Command::Up(args) => run::up::run(common, args, output).await?,
        Command::Validator(args) => run::validator::run(common, args, output).await?,
        Command::Testnet(args) => run::testnet::run(common, args, output).await?,
        Command::OfGateway(command) => return dispatch_gateway(common, command, output).await,
        Command::Provide(args) => run::provide::run(common, args, output).await?,
        Command::Chat(args) => client::chat::run(common, args, output).await?,
        Command::Audit(args) => client::audit::run(common, args, output).await?,
        Command::Stake(args) => client::stake::run(common, args, output).await?,
        Command::Provider(args) => client::provider::run(common, args, output).await?,
        Command::Channel(args) => client::channel::run(common, args, output).await?,
        Command::Oracle(args) => client::oracle::run(common, args, output).await?,
        Command::Params(args) => client::params::run(common, args, output).await?,
        Command::Events(args) => client::events::run(common, args, output).await?,
        Command::Proof(args) => client::proof::run(common, args, output).await?,
        Command::Light(args) => client::light::run(common, args, output).await?,
        Command::Ledger(args) => return client::ledger::run(common, args, output),
    }
    Ok(ExitCode::SUCCESS)
}

async fn dispatch_gateway(
    common: Common,
    command: GatewayCommand,
    output: Output,
) -> anyhow::Result<ExitCode> {
    match command {
        GatewayCommand::Gateway(args) => run::gateway::run(common, *args, output).await?,
        GatewayCommand::Models(args) => client::models::run(common, args, output).await?,
        GatewayCommand::Route(args) => client::route::run(common, args, output).await?,
        GatewayCommand::Key(args) => client::key::run(common, args, output).await?,
        GatewayCommand::Usage(args) => client::usage::run(common, args, output).await?,
        GatewayCommand::Status(args) => client::status::run(common, args, output).await?,
        GatewayCommand::Wallet(args) => client::wallet::run(common, args, output).await?,
        GatewayCommand::Receipt(args) => client::receipt::run(common, args, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}
