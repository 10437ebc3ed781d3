//! `peerwatt models`: what the gateway can reach.

use super::api::Api;
use crate::{
    args::{Common, GatewayClientArgs},
    home::Home,
    output::Output,
};

pub(crate) async fn run(
    common: Common,
    args: GatewayClientArgs,
    output: Output,
) -> anyhow::Result<()> {
    let api = Api::new(&Home::open(&common)?, &args)?;
    let models = api.models().await?;
    if models.is_empty() {
        output.progress("no provider is connected yet; start one with `peerwatt provide`");
    }
    for model in models {
        let detail = model.peerwatt.clone().unwrap_or_default();
        let price = |name: &str| {
            let nusd = detail["price"][name].as_str().and_then(|text| text.parse().ok());
            nusd.map_or("?".to_owned(), types::Nusd::to_decimal)
        };
        let out = match model.completes() {
            true => format!("{:>8} USD out", price("completion_nusd_per_mtok")),
            false => "embeddings".to_owned(),
        };
        let text = format!(
            "{:<32} {:>8} USD in, {out} per million tokens",
            model.id,
            price("prompt_nusd_per_mtok"),
        );
        output.result(&model, text)?;
    }
    Ok(())
}
