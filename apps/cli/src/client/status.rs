//! `peerwatt status`: what runs and where the ledger stands.

use serde::Serialize;
use wire::chain::{Chain, ChainStatus, GatewayView, HttpChain, ProviderView, SupplyView};

use super::api::Api;
use crate::{
    args::{Common, StatusArgs},
    home::Home,
    output::Output,
};

#[derive(Serialize)]
struct Status {
    chain: ChainStatus,
    supply: SupplyView,
    providers: Vec<ProviderView>,
    gateways: Vec<GatewayView>,
    /// Models that the gateway lists; absent where no gateway answers.
    models: Option<Vec<String>>,
    base_url: Option<String>,
}

pub(crate) async fn run(common: Common, args: StatusArgs, output: Output) -> anyhow::Result<()> {
    let home = Home::open(&common)?;
    let chain = HttpChain::new(&home.chain_url(args.chain.as_deref())?)?;
    let api = Api::new(&home, &args.gateway).ok();
    let models = match &api {
        Some(api) => api.models().await.ok(),
        None => None,
    };
    let status = Status {
        chain: chain.status().await?,
        supply: chain.supply().await?,
        providers: chain.providers().await?,
        gateways: chain.gateways().await?,
        models: models.map(|models| models.into_iter().map(|model| model.id).collect()),
        base_url: api.map(|api| api.base_url),
    };
    output.result(&status, describe(&status))
}

fn describe(status: &Status) -> String {
    let Status { chain, supply, providers, gateways, models, base_url } = status;
    let mut lines = vec![
        format!("network    {} at height {}", chain.chain_id, chain.height),
        format!(
            "price      1 WATT = {} USD{}",
            chain.nusd_per_watt.to_decimal(),
            if chain.breaker == "paused" { ", purchases of credits are paused" } else { "" }
        ),
        format!(
            "supply     {} WATT, {} burned, {} minted since genesis",
            supply.watt_total.to_decimal(),
            supply.watt_burned.to_decimal(),
            supply.watt_minted.to_decimal()
        ),
        format!(
            "credits    {} USD outstanding, {} of them claimed and held back",
            supply.credits_outstanding.to_decimal(),
            supply.credits_pending.to_decimal()
        ),
        format!(
            "stake      {} WATT staked, {} in the insurance fund",
            supply.watt_bonded.to_decimal(),
            supply.watt_insurance.to_decimal()
        ),
    ];
    for provider in providers {
        lines.push(format!(
            "provider   {} {}: earned {} WATT, bond {} of {} WATT{}",
            provider.operator,
            provider.moniker,
            provider.earned.to_decimal(),
            provider.bond.to_decimal(),
            provider.bond_required.to_decimal(),
            if provider.leaving { ", leaving" } else { "" }
        ));
    }
    for gateway in gateways {
        let GatewayView { operator, moniker, addrs, .. } = gateway;
        lines.push(format!("gateway    {operator} {moniker} at {}", addrs.join(", ")));
    }
    match (base_url, models) {
        (Some(url), Some(models)) => {
            lines.push(format!("serving    {url}"));
            lines.extend(models.iter().map(|model| format!("model      {model}")));
        }
        (Some(url), None) => {
            lines.push(format!("serving    nothing: the gateway at {url} does not answer"))
        }
        (None, _) => lines.push("serving    no gateway runs from this data folder".to_owned()),
    }
    lines.join("\n")
}
