//! `peerwatt receipt`: what a request cost and why, recomputed from the receipt alone.

use std::{fs, io::Read, path::Path};

use anyhow::{Context, bail};
use gateway::Bought;
use serde::{Deserialize, Serialize};
use types::{Nusd, receipt::Receipt};

use super::api::Api;
use crate::{
    args::{Common, GatewayClientArgs, ReceiptArgs, ReceiptCommand},
    home::Home,
    output::Output,
};

/// A receipt as a gateway hands it out, with the salt of its digests.
#[derive(Serialize, Deserialize)]
struct ReceiptFile {
    receipt: Receipt,
    /// Of the parts that other providers made before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<Receipt>,
    #[serde(default)]
    salt: Option<String>,
    /// Of an answer of a service outside the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bought: Option<Bought>,
}

/// What recomputing a receipt showed.
#[derive(Serialize)]
struct Verified {
    valid: bool,
    /// The prompt once, and every token.
    cost_nusd: Nusd,
    /// Providers that made the answer, one after the other.
    parts: usize,
    prompt_tokens: u32,
    delivered_tokens: u32,
    /// The service outside the network that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    /// Both sides signed the same answer, counts and total.
    both_agree: bool,
    /// Whether the given answer is the one; absent if none was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_matches: Option<bool>,
}

pub(crate) async fn run(common: Common, args: ReceiptArgs, output: Output) -> anyhow::Result<()> {
    match args.command {
        ReceiptCommand::Show { receipt, gateway } => {
            let file = read(&common, &receipt, &gateway).await?;
            output.line(serde_json::to_string_pretty(&file).context("printing the receipt")?)
        }
        ReceiptCommand::Verify { receipt, response, gateway } => {
            let file = read(&common, &receipt, &gateway).await?;
            verify(&file, response.as_deref(), output)
        }
    }
}

fn verify(file: &ReceiptFile, response: Option<&Path>, output: Output) -> anyhow::Result<()> {
    let ReceiptFile { receipt, earlier, bought, .. } = file;
    let parts: Vec<&Receipt> = earlier.iter().chain([receipt]).collect();
    for part in &parts {
        part.verify(&keys::Ed25519).context("the receipt does not add up")?;
        if part.acknowledgement.value.request_id != receipt.acknowledgement.value.request_id {
            bail!("the receipt has a part of another request");
        }
    }
    if response.is_some() && parts.len() > 1 {
        bail!(
            "{} providers made this answer, and each receipt has the digest of its part; a file with the whole \
             cannot be compared with them",
            parts.len()
        );
    }
    let response_matches = match response {
        Some(path) => {
            let text = read_response(path)?;
            receipt.verify_response(&text).context("the answer is not the one on the receipt")?;
            Some(true)
        }
        None => None,
    };
    let statements = || parts.iter().map(|part| &part.acknowledgement.value);
    let first_cost = parts.first().map_or(Nusd::ZERO, |first| first.cost());
    let later = statements().skip(1).map(|ack| ack.price.completion(ack.delivered_tokens));
    let verified = Verified {
        valid: true,
        cost_nusd: later.fold(first_cost, Nusd::saturating_add),
        parts: parts.len(),
        prompt_tokens: statements().next().map_or(0, |ack| ack.prompt_tokens),
        delivered_tokens: statements().map(|ack| ack.delivered_tokens).fold(0, u32::saturating_add),
        upstream: bought.as_ref().map(|bought| bought.upstream.clone()),
        both_agree: receipt.agrees(),
        response_matches,
    };
    let mut text = format!(
        "valid: {} prompt and {} completion tokens at the signed price are {} USD",
        verified.prompt_tokens,
        verified.delivered_tokens,
        verified.cost_nusd.to_decimal()
    );
    if parts.len() > 1 {
        text.push_str(&format!(
            "\n{} providers made it, each going on where the one before failed; the prompt is billed once",
            parts.len()
        ));
    }
    if let Some(Bought { upstream, model }) = bought {
        text.push_str(&format!(
            "\n`{upstream}`, a service outside the network, answered with its model `{model}`; only the gateway signs for it, and nobody verifies the answer"
        ));
    }
    text.push_str(match (&receipt.report, verified.both_agree) {
        (None, _) if bought.is_some() => "",
        (None, _) => "\nthe provider did not finish; it is paid for what was delivered",
        (Some(_), true) => "\nprovider and gateway signed the same answer, counts and total",
        (Some(_), false) => "\nprovider and gateway differ: compare `report` with `acknowledgement` in `receipt show`",
    });
    if response_matches.is_some() {
        text.push_str("\nthe given answer is the one on the receipt");
    }
    output.result(&verified, text)
}

/// Fetches a receipt by its request's id, or reads it from a file.
async fn read(
    common: &Common,
    receipt: &str,
    gateway: &GatewayClientArgs,
) -> anyhow::Result<ReceiptFile> {
    let Some(id) = ReceiptCommand::request_id(receipt) else {
        let text = fs::read(receipt).with_context(|| {
            format!(
                "`{receipt}` is neither a request id (32 hexadecimal digits) nor a readable file"
            )
        })?;
        return serde_json::from_slice(&text)
            .with_context(|| format!("{receipt} holds no receipt"));
    };
    let api = Api::new(&Home::open(common)?, gateway)?;
    api.get(&format!("receipts/{id}")).await?.json().await.context("reading the receipt")
}

/// The receipt of the last provider of a request, which is given by its id or a file.
pub(crate) async fn of(
    common: &Common,
    receipt: &str,
    gateway: &GatewayClientArgs,
) -> anyhow::Result<Receipt> {
    Ok(read(common, receipt, gateway).await?.receipt)
}

fn read_response(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut text).context("reading the answer from stdin")?;
        return Ok(text);
    }
    fs::read(path).with_context(|| format!("reading the answer from {}", path.display()))
}
