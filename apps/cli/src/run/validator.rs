//! `peerwatt validator`: the ledger and its chain API.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, bail};
use types::{
    Address, Nusd, Watt,
    genesis::{Genesis, GenesisAccount},
    sign::Sign,
};
use validator::{PriceVote, Validator, ValidatorConfig, ValidatorHandle, genesis::LocalNetwork};

use crate::{
    args::{Common, ValidatorArgs},
    client,
    home::{Home, read_genesis},
    output::Output,
    run::stop,
};

/// What the wallet of the folder owns in a network that is made in it.
const WALLET_GRANT: Watt = Watt::whole(1_000_000);

/// How the chain ids of networks that [`prepare_genesis`] makes begin.
const LOCAL_CHAIN: &str = "peerwatt-local-";

/// A running validator and where its chain API is.
pub(crate) struct ValidatorPart {
    handle: ValidatorHandle,
    pub(crate) chain_url: String,
    pub(crate) genesis: Genesis,
}

/// Starts the validator of `home`, whose genesis document must be there. It votes for `vote_price`,
/// or for what [`price_vote`] says.
pub(crate) async fn start(
    home: &Home,
    listen: SocketAddr,
    vote_price: Option<Nusd>,
) -> anyhow::Result<ValidatorPart> {
    let genesis = home.genesis()?.context("the data folder has no genesis document")?;
    let config = ValidatorConfig {
        home: home.part("validator"),
        genesis: genesis.clone(),
        consensus_key: home.key("consensus")?,
        listen,
        heartbeat: None,
        price_vote: price_vote(home, &genesis, vote_price)?,
    };
    let handle = Validator::start(config).await?;
    let chain_url = handle.chain_api_url();
    home.note_running(|running| running.chain_url = Some(chain_url.clone()))?;
    Ok(ValidatorPart { handle, chain_url, genesis })
}

/// A network of one's own must find a price by itself, or nobody could buy credits after a day: its
/// only validator votes for the price that it began with. In any other network the price is a matter
/// of what people pay, so nothing is voted for unless it is named.
fn price_vote(
    home: &Home,
    genesis: &Genesis,
    given: Option<Nusd>,
) -> anyhow::Result<Option<PriceVote>> {
    let is_local = genesis.chain_id.as_str().starts_with(LOCAL_CHAIN);
    if given.is_none() && !is_local {
        // Without a vote the operator's key need not lie here, nor be readable.
        return Ok(None);
    }
    let operator = home.key("validator")?;
    let is_ours = genesis.validators.iter().any(|it| it.operator == operator.address());
    let price = given.or(is_ours.then_some(genesis.nusd_per_watt));
    Ok(price.map(|nusd_per_watt| PriceVote { operator, nusd_per_watt }))
}

impl ValidatorPart {
    /// Finishes the block in work and closes the store.
    pub(crate) async fn stop(self, home: &Home) -> anyhow::Result<()> {
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
        consensus_key: home.key("consensus")?.public_key(),
        validator_operator: home.key("validator")?.address(),
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
    let part = start(&home, args.listen, args.vote_price).await?;
    let ready =
        serde_json::json!({ "chain_url": part.chain_url, "chain_id": part.genesis.chain_id });
    let network = &part.genesis.chain_id;
    output.result(&ready, format_args!("keeping the ledger of {network} at {}", part.chain_url))?;
    stop.cancelled().await;
    part.stop(&home).await
}
