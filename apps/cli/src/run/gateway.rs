//! `peerwatt gateway`: the OpenAI API and the web page, paid out of one account.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use gateway::{
    ChannelPolicy, CreditPolicy, DatabaseUrl, DemandPolicy, Gateway, GatewayConfig, GatewayHandle,
    KeyError, KeyLimits, Limits, RECEIPT_RETENTION_MS, Timeouts, UpstreamConfig, system_clock,
};
use keys::SecretKey;
use net::IrohConfig;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use types::{Address, Nusd, genesis::Genesis, params::ChannelParams};
use wire::{
    chain::{Chain, HttpChain},
    otlp::CollectorClient,
};

use crate::{
    args::{ChainArgs, Common, GatewayArgs},
    home::{Home, read_genesis},
    output::Output,
    run::{stop, upstreams},
    trust,
};

/// The name of the key that is made at the first start.
const FIRST_KEY: &str = "first";
/// What it may spend unless told otherwise.
const KEY_BUDGET: Nusd = gateway::PLAYGROUND_BUDGET;
/// How often the account is looked at while it has no money.
const FUNDS_INTERVAL: Duration = Duration::from_secs(2);

/// Where a gateway listens and under which names.
pub(crate) struct GatewayPlan {
    pub(crate) listen: SocketAddr,
    pub(crate) peer_listen: SocketAddr,
    pub(crate) advertise: Vec<SocketAddr>,
    pub(crate) moniker: String,
    /// What the first key and the page's chat box may spend, if it is to change.
    pub(crate) key_budget: Option<Nusd>,
    /// Whether the first key pays for programs of this machine that send none.
    pub(crate) keyless: bool,
    /// Whether callers without a key may pay by request.
    pub(crate) x402: bool,
    /// Where figures for Prometheus are served.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Where API keys are shared with other gateways.
    pub(crate) database: Option<DatabaseUrl>,
    /// Which answers are audited because this gateway wants it.
    pub(crate) demands: DemandPolicy,
    /// Services outside the network that answer too.
    pub(crate) upstreams: Vec<UpstreamConfig>,
    /// Who is told of requests.
    pub(crate) collector: Option<CollectorClient>,
    /// Names besides its address under which the page may be asked for.
    pub(crate) public_hosts: Vec<String>,
    /// Accounts whose balances the page shows besides its own and its providers', by name.
    pub(crate) accounts: Vec<(String, Address)>,
}

/// A running gateway with its HTTP server.
pub(crate) struct GatewayPart {
    pub(crate) handle: GatewayHandle,
    pub(crate) base_url: String,
    pub(crate) dashboard_url: String,
    pub(crate) api_key: String,
    stop_serving: CancellationToken,
    server: AbortOnDropHandle<std::io::Result<()>>,
    metrics: Option<AbortOnDropHandle<std::io::Result<()>>>,
}

/// A network that was joined.
pub(crate) struct Joined {
    /// Believed only as far as it is proven, unless the user trusts the node.
    pub(crate) chain: Arc<dyn Chain>,
    /// The first node: the page shows what it says.
    pub(crate) node: Arc<HttpChain>,
}

impl From<Arc<HttpChain>> for Joined {
    /// A node that is believed, such as one in this very process.
    fn from(node: Arc<HttpChain>) -> Joined {
        Joined { chain: node.clone(), node }
    }
}

/// Connects to the chain and makes sure that it is the network of this folder.
pub(crate) async fn join(
    home: &Home,
    args: &ChainArgs,
    output: Output,
) -> anyhow::Result<(Joined, Genesis)> {
    let nodes = trust::nodes(&args.chain)?;
    let node = Arc::clone(nodes.first().context("give a --chain")?);
    let given = args.genesis.as_deref().map(read_genesis).transpose()?;
    let (genesis, contact) = trust::network(home, given, &nodes, output).await?;
    if args.trust_node {
        let runs = node.genesis().await?;
        if runs.hash() != genesis.hash() {
            anyhow::bail!("{} runs {}, not {}", node.url(), runs.chain_id, genesis.chain_id);
        }
        return Ok((node.into(), genesis));
    }
    let trusted = trust::begin(home, &genesis, &nodes, args.trust, contact, output).await?;
    let chain = Arc::new(trust::verified(home, &genesis, &nodes, trusted));
    // Now rather than with the first request: whether its nodes are up, of this network, and proven.
    chain.status().await?;
    Ok((Joined { chain, node }, genesis))
}

/// Starts the gateway of `home` and serves it.
pub(crate) async fn start(
    home: &Home,
    joined: impl Into<Joined>,
    genesis: &Genesis,
    plan: GatewayPlan,
) -> anyhow::Result<GatewayPart> {
    let Joined { chain, node: page_node } = joined.into();
    if plan.keyless && !plan.listen.ip().is_loopback() {
        anyhow::bail!(
            "--keyless is for programs of this machine; listen on 127.0.0.1 instead of {}, or hand out keys",
            plan.listen.ip()
        );
    }
    let listener = TcpListener::bind(plan.listen).await.with_context(|| {
        format!(
            "binding {}; is another gateway running? --listen 127.0.0.1:0 takes a free port",
            plan.listen
        )
    })?;
    let addr = listener.local_addr().context("reading the bound address")?;
    let node = home.key("gateway-node")?;
    let mut transport = IrohConfig::new(*node.seed());
    transport.bind = plan.peer_listen;
    let endpoint = net::bind(transport).await?;

    let moniker = plan.moniker;
    let config = GatewayConfig {
        home: home.part("gateway"),
        chain_id: genesis.chain_id.clone(),
        operator: Arc::new(home.key("gateway")?),
        payer: Arc::new(home.key("payer")?),
        endpoint,
        advertise: plan.advertise.iter().map(SocketAddr::to_string).collect(),
        chain,
        moniker: moniker.clone(),
        limits: Limits::standard(),
        timeouts: Timeouts::standard(),
        credits: CreditPolicy { below: Nusd::whole(20), amount: Nusd::whole(50) },
        channels: ChannelPolicy {
            deposit: Nusd::whole(5),
            withdraw_delay_ms: withdraw_delay_ms(&genesis.params.channels),
        },
        demands: plan.demands,
        playground_budget: plan.key_budget,
        x402: plan.x402,
        keyless: plan.keyless.then(|| FIRST_KEY.to_owned()),
        admin_key: Some(admin_key(home)?),
        database: plan.database,
        upstreams: plan.upstreams,
        collector: plan.collector,
        receipt_retention_ms: RECEIPT_RETENTION_MS,
        clock: system_clock(),
    };
    let handle = Gateway::start(config).await?;
    let api_key = first_key(home, &handle, plan.key_budget).await?;

    let base_url = format!("http://{addr}/v1");
    let site = web::Site {
        moniker,
        base_url: base_url.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let pictures = home.part("auditor").join("reports");
    let mut source =
        web::LiveSource::new(handle.clone(), page_node, site).with_pictures(Some(pictures));
    for (name, address) in plan.accounts {
        source = source.with_account(&name, address);
    }
    let mut hosts = web::HostPolicy::of_listener(addr);
    for name in &plan.public_hosts {
        hosts = hosts.allow(name)?;
    }
    let page = web::router(Arc::new(source), hosts);
    let router = handle.router().merge(page);
    let stop_serving = CancellationToken::new();
    let server = tokio::spawn({
        let (handle, stop) = (handle.clone(), stop_serving.clone());
        async move { handle.serve(listener, router, stop.cancelled_owned()).await }
    });
    let metrics = match plan.metrics_listen {
        None => None,
        Some(addr) => {
            let listener = TcpListener::bind(addr);
            let listener = listener.await.with_context(|| format!("binding {addr} for metrics"))?;
            let (handle, stop) = (handle.clone(), stop_serving.clone());
            Some(AbortOnDropHandle::new(tokio::spawn(async move {
                handle.serve(listener, handle.metrics_router(), stop.cancelled_owned()).await
            })))
        }
    };
    home.note_running(|running| running.base_url = Some(base_url.clone()))?;
    Ok(GatewayPart {
        handle,
        dashboard_url: format!("http://{addr}/"),
        base_url,
        api_key,
        stop_serving,
        server: AbortOnDropHandle::new(server),
        metrics,
    })
}

/// Four times the shortest: whoever provides has time to redeem, also after an outage.
pub(crate) fn withdraw_delay_ms(params: &ChannelParams) -> u64 {
    params.withdraw_delay_ms_min.saturating_mul(4).min(params.withdraw_delay_ms_max)
}

/// The first API key: made once, and kept for the owner of this folder.
async fn first_key(
    home: &Home,
    handle: &GatewayHandle,
    budget: Option<Nusd>,
) -> anyhow::Result<String> {
    let limits = KeyLimits::budget(budget.unwrap_or(KEY_BUDGET));
    if let Some(key) = home.api_key()? {
        if let Some(known) = handle.key(&key).await? {
            if budget.is_some() {
                handle.set_budget(&known.name, budget).await?;
            }
            return Ok(key);
        }
        // The gateway's journal is gone, or the key was revoked and stays so.
        match handle.import_api_key(FIRST_KEY, &key, limits.clone()).await {
            Ok(()) => return Ok(key),
            Err(KeyError::Revoked | KeyError::NameTaken { .. }) => {}
            Err(error) => return Err(error).context("taking over the key in `api-key`"),
        }
    }
    let names = std::iter::once(FIRST_KEY.to_owned())
        .chain((2_u32..).map(|number| format!("{FIRST_KEY}-{number}")));
    for name in names {
        match handle.create_api_key(&name, limits.clone()).await {
            Ok(key) => {
                home.keep_api_key(&key)?;
                return Ok(key);
            }
            // By an earlier first key, or by that of another gateway of the fleet.
            Err(KeyError::NameTaken { .. }) => {}
            Err(error) => return Err(error).context("making the first key"),
        }
    }
    anyhow::bail!("there is no name left for the first key")
}

/// The key that opens the gateway's API for its operator: made once.
fn admin_key(home: &Home) -> anyhow::Result<String> {
    if let Some(key) = home.admin_key()? {
        return Ok(key);
    }
    let key = gateway::new_admin_key()?;
    home.keep_admin_key(&key)?;
    Ok(key)
}

impl GatewayPart {
    /// Lets running requests finish and closes the books.
    pub(crate) async fn stop(self, home: &Home) -> anyhow::Result<()> {
        self.stop_serving.cancel();
        let served = self.server.await.context("serving HTTP")?;
        drop(self.metrics);
        self.handle.shutdown().await;
        home.note_running(|running| running.base_url = None)?;
        served.context("serving HTTP")
    }
}

pub(crate) async fn run(common: Common, args: GatewayArgs, output: Output) -> anyhow::Result<()> {
    let home = Home::open(&common)?;
    let stop = stop::on_signal(output)?;
    let (joined, genesis) = join(&home, &args.chain, output).await?;
    let account = home.key("gateway")?;
    let funded = tokio::select! {
        funded = wait_for_funds(&account, &*joined.chain, output) => funded,
        () = stop.cancelled() => return Ok(()),
    };
    funded?;
    let plan = GatewayPlan {
        listen: args.listen,
        peer_listen: args.peer_listen,
        advertise: args.advertise,
        moniker: args.moniker,
        key_budget: args.key_budget,
        keyless: args.keyless,
        x402: args.x402,
        metrics_listen: args.metrics_listen,
        database: args.database,
        demands: DemandPolicy { suspects: !args.no_audit_demands, one_in: args.audit_one_in },
        upstreams: upstreams::read(args.upstreams.as_deref())?,
        collector: args.otlp.collector(output)?,
        public_hosts: args.public_host,
        accounts: Vec::new(),
    };
    let part = start(&home, joined, &genesis, plan).await?;
    let ready = serde_json::json!({
        "base_url": part.base_url, "api_key": part.api_key, "dashboard_url": part.dashboard_url,
    });
    output.result(
        &ready,
        format_args!(
            "serving {}\nAPI key {}\npage    {}",
            part.base_url, part.api_key, part.dashboard_url
        ),
    )?;
    stop.cancelled().await;
    part.stop(&home).await
}

/// A gateway pays providers, so it cannot begin without money.
async fn wait_for_funds(key: &SecretKey, chain: &dyn Chain, output: Output) -> anyhow::Result<()> {
    let mut told = false;
    loop {
        let account = chain.account(key.address()).await?;
        if !account.watt.is_zero() || !account.credits.is_zero() {
            return Ok(());
        }
        if !told {
            output.progress(format_args!(
                "waiting for WATT in the gateway's account; from a funded one run\n  \
                 peerwatt wallet send {} 10000",
                key.address()
            ));
            told = true;
        }
        tokio::time::sleep(FUNDS_INTERVAL).await;
    }
}
