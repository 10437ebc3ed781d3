//! `peerwatt up`: the whole network in one process. Nothing here is special to it: it starts the same
//! parts as `validator`, `gateway` and `provide`, which talk over loopback as they would over a network.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ::gateway::DemandPolicy;
use anyhow::{Context, bail};
use types::{Address, Watt};
use wire::chain::HttpChain;

use crate::{
    args::{Common, UpArgs},
    home::Home,
    output::Output,
    run::{
        engines,
        gateway::{self, GatewayPart, GatewayPlan},
        provide::{self, ProviderPlan},
        stop,
        validator::{self, ValidatorPlan},
    },
};

/// How long the provider may take to be found and its channel to be opened: a few blocks.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Whoever tries the network wants to see an audit.
const COMMIT_EVERY: Duration = Duration::from_secs(60);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const GATEWAY_PORT: u16 = 8400;
const CHAIN_PORT: u16 = 8401;
const PEER_PORT: u16 = 8402;

pub(crate) async fn run(common: Common, args: UpArgs, output: Output) -> anyhow::Result<()> {
    let stop = stop::on_signal(output)?;
    // Removed when it goes out of scope, after everything in it was closed.
    let throwaway;
    let home = if args.ephemeral {
        if common.data_dir.is_some() {
            bail!("--ephemeral keeps nothing, so it takes no --data-dir");
        }
        throwaway = tempfile::tempdir().context("making a folder to throw away")?;
        Home::at(throwaway.path().to_owned())?
    } else {
        Home::open(&common)?
    };

    let listen = |given: Option<SocketAddr>, port: u16| {
        let port = if args.ephemeral { 0 } else { port };
        given.unwrap_or(SocketAddr::new(LOOPBACK, port))
    };
    validator::prepare_genesis(&home, None, &[], output)?;
    let engines =
        if args.no_provider { Vec::new() } else { engines::open(&args.engines, output).await? };

    output.progress("starting the ledger …");
    let chain_listen = listen(args.chain_listen, CHAIN_PORT);
    let ledger =
        validator::start(&home, ValidatorPlan::alone(chain_listen, args.auditor.clone())).await?;
    let chain = Arc::new(HttpChain::new(&ledger.chain_url)?);
    output.progress("starting the gateway …");
    let plan = GatewayPlan {
        listen: listen(args.listen, GATEWAY_PORT),
        peer_listen: listen(args.peer_listen, PEER_PORT),
        advertise: args.advertise.clone(),
        moniker: "gateway".to_owned(),
        key_budget: args.key_budget,
        keyless: args.keyless,
        x402: args.x402,
        metrics_listen: args.metrics_listen,
        database: None,
        demands: DemandPolicy::standard(),
        upstreams: Vec::new(),
        collector: args.otlp.collector(output)?,
        public_hosts: args.public_host.clone(),
        accounts: accounts(&home)?,
    };
    let gateway = gateway::start(&home, chain.clone(), &ledger.genesis, plan).await?;
    let provider = if args.no_provider {
        None
    } else {
        output.progress("starting the provider and opening a channel to it …");
        let plan = ProviderPlan {
            engines,
            price: engines::price(&args.engines),
            bond: Watt::ZERO,
            moniker: "provider".to_owned(),
            region: String::new(),
            class: String::new(),
            peer_listen: SocketAddr::new(LOOPBACK, 0),
            redeem_at: types::Nusd(10_000_000),
            commit_every: COMMIT_EVERY,
            plants: false,
        };
        let provider = provide::start(&home, chain, &ledger.genesis, plan).await?;
        let ready = tokio::time::timeout(READY_TIMEOUT, gateway.handle.ready());
        tokio::select! {
            ready = ready => ready.context("the provider was not reached; run with -v to see why")?,
            () = stop.cancelled() => {}
        }
        Some(provider)
    };

    if !stop.is_cancelled() {
        announce(&gateway, output)?;
        stop.cancelled().await;
    }
    if let Some(provider) = provider {
        provider.shutdown().await;
    }
    gateway.stop(&home).await?;
    ledger.stop(&home).await?;
    output.progress("the books are closed");
    Ok(())
}

/// Accounts of this folder that the page shows besides those it knows.
fn accounts(home: &Home) -> anyhow::Result<Vec<(String, Address)>> {
    let account = |name: &str| Ok((name.to_owned(), home.key(name)?.address()));
    ["validator", "wallet"].into_iter().map(account).collect()
}

fn announce(gateway: &GatewayPart, output: Output) -> anyhow::Result<()> {
    let GatewayPart { handle, base_url, dashboard_url, api_key, .. } = gateway;
    if output.is_json() {
        let ready = serde_json::json!({
            "base_url": base_url, "api_key": api_key, "dashboard_url": dashboard_url,
        });
        return output.line(ready);
    }
    let models = handle.models();
    let model = models.iter().find(|model| model.abilities.completions);
    let model = model.map_or("MODEL", |model| model.alias.as_str());
    output.line(format_args!(
        "
  base URL   {base_url}
  API key    {api_key}
  page       {dashboard_url}
  models     {}

  curl {base_url}/chat/completions \\
    -H 'Authorization: Bearer {api_key}' -H 'Content-Type: application/json' \\
    -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Tell me a story.\"}}]}}'

  Ctrl-C redeems what was earned and closes the books.",
        models.iter().map(|model| model.alias.as_str()).collect::<Vec<_>>().join(", "),
    ))
}
