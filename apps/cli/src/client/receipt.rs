//! `peerwatt receipt`: what a request cost and why, recomputed from the receipt alone.

use std::{fs, io::Read, path::Path};

use anyhow::Context;
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
    #[serde(default)]
    salt: Option<String>,
}

/// What recomputing a receipt showed.
#[derive(Serialize)]
struct Verified {
    valid: bool,
    cost_nusd: Nusd,
    prompt_tokens: u32,
    delivered_tokens: u32,
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
            verify(&file.receipt, response.as_deref(), output)
        }
    }
}

fn verify(receipt: &Receipt, response: Option<&Path>, output: Output) -> anyhow::Result<()> {
    receipt.verify(&keys::Ed25519).context("the receipt does not add up")?;
    let response_matches = match response {
        Some(path) => {
            let text = read_response(path)?;
            receipt.verify_response(&text).context("the answer is not the one on the receipt")?;
            Some(true)
        }
        None => None,
    };
    let ack = &receipt.acknowledgement.value;
    let verified = Verified {
        valid: true,
        cost_nusd: receipt.cost(),
        prompt_tokens: ack.prompt_tokens,
        delivered_tokens: ack.delivered_tokens,
        both_agree: receipt.agrees(),
        response_matches,
    };
    let mut text = format!(
        "valid: {} prompt and {} completion tokens at the signed price are {} USD",
        ack.prompt_tokens,
        ack.delivered_tokens,
        receipt.cost().to_decimal()
    );
    text.push_str(match (&receipt.report, verified.both_agree) {
        (None, _) => "\nthe provider did not finish; it is paid for what was delivered",
        (Some(_), true) => "\nprovider and gateway signed the same answer, counts and total",
        (Some(_), false) => "\nprovider and gateway differ: compare `report` with `acknowledgement` in `receipt show`",
    });
    if response_matches.is_some() {
        text.push_str("\nthe given answer is the one on the receipt");
    }
    output.result(&verified, text)
}

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

fn read_response(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut text).context("reading the answer from stdin")?;
        return Ok(text);
    }
    fs::read(path).with_context(|| format!("reading the answer from {}", path.display()))
}
