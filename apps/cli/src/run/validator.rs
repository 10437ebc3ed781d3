//! `peerwatt validator`: the ledger and its chain API.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use ::auditor::run::AuditorHandle;
use anyhow::{Context, bail};
use types::{
    Address, Height, Nusd, Watt,
    genesis::{Genesis, GenesisAccount},
    sign::Sign,
};
use validator::{
    ConsensusKey, Peer, SNAPSHOT_INTERVAL, StateSync, Timeouts, Trusted, Validator,
    ValidatorConfig, ValidatorHandle,
    genesis::{LOCAL_STAKE, LocalNetwork, LocalValidator},
};

use crate::{
    args::{AuditorArgs, Common, TrustPoint, ValidatorArgs},
    client,
    home::{Home, read_genesis},
    output::Output,
    run::{auditor, stop},
};

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8401);
const PEER_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8403);

/// What the wallet of the folder owns in a network that is made in it.
const WALLET_GRANT: Watt = Watt::whole(1_000_000);

/// How the chain ids of networks that [`prepare_genesis`] makes begin.
const LOCAL_CHAIN: &str = "peerwatt-local-";

/// A running validator and where its chain API is.
pub(crate) struct ValidatorPart {
    handle: ValidatorHandle,
    auditor: Option<AuditorHandle>,
    pub(crate) chain_url: String,
    pub(crate) genesis: Genesis,
}

/// How a validator is started.
pub(crate) struct ValidatorPlan {
    /// Of the chain API.
    pub(crate) listen: SocketAddr,
    /// Of the connections to other nodes.
    pub(crate) peer_listen: SocketAddr,
    pub(crate) peers: Vec<Peer>,
    pub(crate) peers_only: bool,
    /// Decides nothing.
    pub(crate) full_node: bool,
    pub(crate) vote_price: Option<Nusd>,
    pub(crate) heartbeat: Option<Duration>,
    /// Begins no height after this one.
    pub(crate) halt_at: Option<Height>,
    pub(crate) blocks_kept: Option<u64>,
    pub(crate) snapshot_interval: u64,
    /// Begins with a snapshot of its peers.
    pub(crate) state_sync: Option<StateSync>,
    pub(crate) auditor: AuditorArgs,
}

impl ValidatorPlan {
    /// A validator without others, which listens for them on any port.
    pub(crate) fn alone(listen: SocketAddr, auditor: AuditorArgs) -> ValidatorPlan {
        ValidatorPlan {
            listen,
            peer_listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
            peers: Vec::new(),
            peers_only: false,
            full_node: false,
            vote_price: None,
            heartbeat: None,
            halt_at: None,
            blocks_kept: None,
            snapshot_interval: SNAPSHOT_INTERVAL,
            state_sync: None,
            auditor,
        }
    }
}

/// Starts the validator of `home`, whose genesis document must be there. It votes for the plan's
/// price, or for what [`price_vote`] says.
pub(crate) async fn start(home: &Home, plan: ValidatorPlan) -> anyhow::Result<ValidatorPart> {
    let genesis = home.genesis()?.context("the data folder has no genesis document")?;
    let vote_price = price_vote(home, &genesis, &plan)?;
    let consensus = match plan.full_node {
        true => None,
        false => {
            let mark = home.key_path(Path::new("consensus")).with_extension("mark");
            Some(ConsensusKey { key: home.key("consensus")?, mark })
        }
    };
    let mut audits = consensus.is_some() && !plan.auditor.no_audits;
    let config = ValidatorConfig {
        home: home.part("validator"),
        genesis: genesis.clone(),
        // Without anything to do for it the operator's key need not lie here, nor be readable.
        operator: match &consensus {
            Some(_) if home.has_key("validator") || vote_price.is_some() => {
                Some(home.key("validator")?)
            }
            Some(_) | None => None,
        },
        consensus,
        node_key: home.key("validator-node")?,
        listen: plan.listen,
        peer_listen: plan.peer_listen,
        peers: plan.peers,
        peers_only: plan.peers_only,
        timeouts: Timeouts::STANDARD,
        heartbeat: plan.heartbeat,
        halt_at: plan.halt_at,
        blocks_kept: plan.blocks_kept,
        snapshot_interval: plan.snapshot_interval,
        state_sync: plan.state_sync,
        vote_price,
    };
    audits &= config.operator.is_some();
    let handle = Validator::start(config).await?;
    let chain_url = handle.chain_api_url();
    let auditor = match audits {
        true => {
            // Reached by others if its node is; the chain API may be private, and leaves UDP free.
            let usual = SocketAddr::new(plan.peer_listen.ip(), handle.chain_api_addr().port());
            let started = auditor::start(home, &chain_url, usual, &genesis, &plan.auditor).await;
            started.context("starting the auditor")?
        }
        false => None,
    };
    home.note_running(|running| running.chain_url = Some(chain_url.clone()))?;
    Ok(ValidatorPart { handle, auditor, chain_url, genesis })
}

/// A network of one's own must find a price by itself, or nobody could buy credits after a day: its
/// only validator votes for the price that it began with. In any other network the price is a matter
/// of what people pay, so nothing is voted for unless it is named.
fn price_vote(
    home: &Home,
    genesis: &Genesis,
    plan: &ValidatorPlan,
) -> anyhow::Result<Option<Nusd>> {
    let is_local = genesis.chain_id.as_str().starts_with(LOCAL_CHAIN);
    if plan.full_node || plan.vote_price.is_some() || !is_local {
        return Ok(plan.vote_price.filter(|_| !plan.full_node));
    }
    let operator = home.key("validator")?.address();
    let is_ours = genesis.validators.iter().any(|it| it.operator == operator);
    Ok(is_ours.then_some(genesis.nusd_per_watt))
}

impl ValidatorPart {
    /// Finishes the block in work and closes the store.
    pub(crate) async fn stop(self, home: &Home) -> anyhow::Result<()> {
        if let Some(auditor) = self.auditor {
            auditor.shutdown().await;
        }
        self.handle.shutdown().await?;
        home.note_running(|running| running.chain_url = None)
    }
}

/// Takes the genesis document from `given`, or makes one if the folder has none: its wallet, and
/// whoever is in `fund`, own WATT from the start.
pub(crate) fn prepare_genesis(
    home: &Home,
    given: Option<&Path>,
    fund: &[(Address, Watt)],
    output: Output,
) -> anyhow::Result<()> {
    if let Some(path) = given {
        return home.keep_genesis(&read_genesis(path)?);
    }
    if home.genesis()?.is_some() {
        if !fund.is_empty() {
            bail!(
                "the network exists already; --fund applies when it is made. Use `peerwatt wallet send`"
            );
        }
        return Ok(());
    }
    let mut accounts = vec![(home.key("wallet")?.address(), WALLET_GRANT)];
    accounts.extend_from_slice(fund);
    let account = |(address, balance)| GenesisAccount { address, balance };
    let genesis = validator::genesis::local(LocalNetwork {
        time: gateway::system_clock()(),
        validators: vec![LocalValidator {
            moniker: "local".to_owned(),
            consensus_key: home.key("consensus")?.public_key(),
            operator: home.key("validator")?.address(),
            stake: LOCAL_STAKE,
        }],
        holder: home.key("holder")?.address(),
        gateway: home.key("gateway")?.address(),
        accounts: accounts.into_iter().map(account).collect(),
    })?;
    output.progress(format_args!("made the network {}", genesis.chain_id));
    home.keep_genesis(&genesis)
}

pub(crate) async fn run(common: Common, args: ValidatorArgs, output: Output) -> anyhow::Result<()> {
    if let Some(command) = args.command {
        return client::validator::run(&common, command, output).await;
    }
    let home = Home::open(&common)?;
    prepare_genesis(&home, args.genesis.as_deref(), &args.fund, output)?;
    let stop = stop::on_signal(output)?;
    let settings = home.validator_settings()?;
    let plan = ValidatorPlan {
        listen: args.listen.or(settings.listen).unwrap_or(LISTEN),
        peer_listen: args.peer_listen.or(settings.peer_listen).unwrap_or(PEER_LISTEN),
        peers: if args.peer.is_empty() { settings.peers()? } else { args.peer },
        peers_only: args.peers_only || settings.peers_only,
        full_node: args.full_node || settings.full_node,
        vote_price: args.vote_price,
        heartbeat: args.heartbeat.map(Duration::from_secs),
        halt_at: args.halt_at.map(Height),
        blocks_kept: args.blocks_kept,
        snapshot_interval: args.snapshot_interval,
        auditor: args.auditor,
        state_sync: args.state_sync.then(|| StateSync {
            trusted: args.trust.map(|TrustPoint { height, hash }| Trusted { height, header: hash }),
        }),
    };
    let peer = format!("{}@{}", home.key("validator-node")?.public_key(), plan.peer_listen);
    let mut part = start(&home, plan).await?;
    let (chain_url, network) = (&part.chain_url, &part.genesis.chain_id);
    let ready = serde_json::json!({ "chain_url": chain_url, "chain_id": network, "peer": peer });
    output.progress(format_args!("other nodes reach it as --peer {peer}"));
    output.result(&ready, format_args!("keeping the ledger of {network} at {chain_url}"))?;
    tokio::select! {
        () = stop.cancelled() => part.stop(&home).await,
        // Whoever supervises the process must see it end.
        error = part.handle.stopped() => {
            home.note_running(|running| running.chain_url = None)?;
            Err(error.into())
        }
    }
}
