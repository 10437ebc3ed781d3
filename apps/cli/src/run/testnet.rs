//! `peerwatt testnet`: the data folders of several validators of one network, and the processes that run
//! them on loopback. The folders are what four machines would have, but for their addresses.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::process::{Child, Command};
use types::{Address, PublicKey, Watt, genesis::GenesisAccount, sign::Sign};
use validator::genesis::{LOCAL_STAKE, LocalNetwork, LocalValidator};

use crate::{
    args::{Common, TestnetArgs},
    home::{Home, ValidatorSettings},
    output::Output,
    run::stop,
};

/// What the wallet of the first folder owns.
const WALLET_GRANT: Watt = Watt::whole(1_000_000);

/// One validator, as it is announced.
#[derive(Serialize)]
struct Member {
    data_dir: PathBuf,
    chain_url: String,
    consensus_key: PublicKey,
    operator: Address,
    weight: u64,
}

pub(crate) async fn run(common: Common, args: TestnetArgs, output: Output) -> anyhow::Result<()> {
    let folder = match &args.dir {
        Some(folder) => folder.clone(),
        None => Home::open(&common)?.part("testnet"),
    };
    let weights = match args.weights.is_empty() {
        true => vec![1; usize::from(args.validators)],
        false => args.weights,
    };
    let members = prepare(&folder, &weights, args.first_port, output)?;
    if args.init_only {
        return announce(&members, output);
    }
    let stop = stop::on_signal(output)?;
    let mut children = Vec::with_capacity(members.len());
    for member in &members {
        children.push(start(&member.data_dir, common.verbose)?);
    }
    announce(&members, output)?;
    output.progress("the validators run; Ctrl-C stops them");
    stop.cancelled().await;
    for child in children {
        end(child).await?;
    }
    Ok(())
}

/// Writes what is missing of the folders and says who is who.
fn prepare(
    folder: &Path,
    weights: &[u64],
    first_port: u16,
    output: Output,
) -> anyhow::Result<Vec<Member>> {
    let homes = (0..weights.len())
        .map(|number| Home::at(folder.join(format!("validator-{number}"))))
        .collect::<anyhow::Result<Vec<Home>>>()?;
    let [first, ..] = homes.as_slice() else { bail!("a network needs a validator") };
    let genesis = match first.genesis()? {
        Some(genesis) if genesis.validators.len() == weights.len() => genesis,
        Some(genesis) => bail!(
            "{} holds a network of {} validators; give another --dir, or as many",
            folder.display(),
            genesis.validators.len()
        ),
        None => {
            let validators =
                homes.iter().zip(weights).enumerate().map(|(number, (home, weight))| {
                    Ok(LocalValidator {
                        moniker: format!("validator-{number}"),
                        consensus_key: home.key("consensus")?.public_key(),
                        operator: home.key("validator")?.address(),
                        stake: Watt(LOCAL_STAKE.0.saturating_mul(u128::from(*weight))),
                    })
                });
            let wallet = first.key("wallet")?.address();
            let genesis = validator::genesis::local(LocalNetwork {
                time: gateway::system_clock()(),
                validators: validators.collect::<anyhow::Result<_>>()?,
                holder: first.key("holder")?.address(),
                gateway: first.key("gateway")?.address(),
                accounts: vec![GenesisAccount { address: wallet, balance: WALLET_GRANT }],
            })?;
            output.progress(format_args!("made the network {}", genesis.chain_id));
            genesis
        }
    };
    let count = u16::try_from(weights.len()).unwrap_or(u16::MAX);
    let last = first_port.checked_add(count.saturating_mul(2));
    last.with_context(|| format!("there are no {} ports from {first_port} on", 2 * count))?;
    let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let places: Vec<(SocketAddr, SocketAddr)> = (0..count)
        .map(|number| (at(first_port + 2 * number), at(first_port + 2 * number + 1)))
        .collect();
    let node_keys = homes
        .iter()
        .map(|home| Ok(home.key("validator-node")?.public_key()))
        .collect::<anyhow::Result<Vec<PublicKey>>>()?;
    let mut members = Vec::with_capacity(homes.len());
    for (number, (home, (listen, peer_listen))) in homes.iter().zip(&places).enumerate() {
        home.keep_genesis(&genesis)?;
        let others = node_keys.iter().zip(&places).enumerate();
        let others = others.filter(|(other, _)| *other != number);
        home.keep_validator_settings(&ValidatorSettings {
            listen: Some(*listen),
            peer_listen: Some(*peer_listen),
            peers: others.map(|(_, (key, (_, addr)))| format!("{key}@{addr}")).collect(),
            ..ValidatorSettings::default()
        })?;
        members.push(Member {
            data_dir: home.part(""),
            chain_url: format!("http://{listen}"),
            consensus_key: home.key("consensus")?.public_key(),
            operator: home.key("validator")?.address(),
            weight: weights[number],
        });
    }
    Ok(members)
}

/// Starts a validator as a process of its own, which ends with this one.
fn start(data_dir: &Path, verbose: u8) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new(program);
    command.args(["validator", "--data-dir"]).arg(data_dir);
    command.args((0..verbose).map(|_| "-v"));
    // A terminal's Ctrl-C reaches the group; they are stopped one after the other here instead.
    command.process_group(0).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().with_context(|| format!("starting the validator of {}", data_dir.display()))
}

/// Asks a validator to stop and waits for it.
async fn end(mut child: Child) -> anyhow::Result<()> {
    if let Some(id) = child.id() {
        let asked = Command::new("kill").args(["-TERM", &id.to_string()]).status().await;
        asked.context("asking a validator to stop")?;
    }
    child.wait().await.context("waiting for a validator")?;
    Ok(())
}

fn announce(members: &[Member], output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.line(serde_json::to_value(members).context("printing the validators")?);
    }
    for member in members {
        let Member { data_dir, chain_url, weight, .. } = member;
        output.line(format_args!("{chain_url}  weight {weight}  {}", data_dir.display()))?;
    }
    Ok(())
}
