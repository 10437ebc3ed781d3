//! `peerwatt provide`: this machine's models, offered to the gateways of a network.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use engine::SharedEngine;
use net::IrohConfig;
use provider::{Endpoints, Provider, ProviderConfig, ProviderHandle};
use types::{Nusd, Watt, genesis::Genesis, price::Price};
use wire::chain::Chain;

use crate::{
    args::{Common, ProvideArgs},
    home::Home,
    output::Output,
    run::{engines, gateway, stop},
};

/// What a provider offers and under which conditions.
pub(crate) struct ProviderPlan {
    pub(crate) engines: Vec<SharedEngine>,
    pub(crate) price: Price,
    pub(crate) bond: Watt,
    pub(crate) moniker: String,
    pub(crate) region: String,
    pub(crate) class: String,
    pub(crate) peer_listen: SocketAddr,
    pub(crate) redeem_at: Nusd,
    pub(crate) commit_every: Duration,
    /// Whether its answers are wrong on purpose, as planted faults.
    pub(crate) plants: bool,
}

/// Starts the provider of `home`.
pub(crate) async fn start(
    home: &Home,
    chain: Arc<dyn Chain>,
    genesis: &Genesis,
    plan: ProviderPlan,
) -> anyhow::Result<ProviderHandle> {
    let node = home.key("provider-node")?;
    let mut transport = IrohConfig::new(*node.seed());
    transport.bind = plan.peer_listen;
    let mut auditing = transport.clone();
    // A port of its own, on the same interface.
    auditing.bind.set_port(0);
    auditing.alpn = wire::audit::ALPN.to_vec();
    let endpoints =
        Endpoints { gateways: net::bind(transport).await?, auditors: net::bind(auditing).await? };
    let slots = engines::slots(&plan.engines);
    let mut config = ProviderConfig::new(
        home.part("provider"),
        genesis.chain_id.clone(),
        Arc::new(home.key("provider")?),
        endpoints,
        chain,
        plan.engines,
    );
    config.slots = slots;
    config.pricing.default = plan.price;
    config.moniker = plan.moniker;
    config.region = plan.region;
    config.class = plan.class;
    config.bond = plan.bond;
    config.redeem.threshold_nusd = plan.redeem_at;
    config.commit_interval = plan.commit_every;
    config.plants = plan.plants;
    Ok(Provider::start(config).await?)
}

pub(crate) async fn run(common: Common, args: ProvideArgs, output: Output) -> anyhow::Result<()> {
    let home = Home::open(&common)?;
    let stop = stop::on_signal(output)?;
    let (joined, genesis) = gateway::join(&home, &args.chain, output).await?;
    let mut engines = engines::open(&args.engines, output).await?;
    if let Some(path) = &args.plant {
        engines = vec![engines::planted(engines, path.clone()).await?];
        output.progress(
            "answers are wrong on purpose and will be said to be; what they earn is given back where audits are enforced",
        );
    }
    let plan = ProviderPlan {
        engines,
        price: engines::price(&args.engines),
        bond: args.bond,
        moniker: args.moniker,
        region: args.region,
        class: args.class,
        peer_listen: args.peer_listen.unwrap_or_else(|| leave_from(joined.node.url())),
        redeem_at: args.redeem_at,
        commit_every: Duration::from_secs(args.commit_every),
        plants: args.plant.is_some(),
    };
    let handle = start(&home, joined.chain, &genesis, plan).await?;
    let operator = home.key("provider")?.address();
    let ready = serde_json::json!({ "operator": operator, "chain_id": genesis.chain_id });
    output.result(&ready, format_args!("providing to {} as {operator}", genesis.chain_id))?;
    stop.cancelled().await;
    handle.shutdown().await;
    Ok(())
}

/// A network on loopback needs no other interface.
fn leave_from(chain_url: &str) -> SocketAddr {
    let local = ["http://127.", "http://localhost", "http://[::1]"];
    let is_local = local.iter().any(|start| chain_url.starts_with(start));
    let ip = if is_local { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    SocketAddr::new(IpAddr::V4(ip), 0)
}
