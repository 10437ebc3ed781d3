//! `peerwatt usage`: what was used, request by request, as a table or a document.

use std::io::Write;

use anyhow::{Context, bail};
use futures::StreamExt;

use super::api::Api;
use crate::{
    args::{Common, OperatorArgs, UsageArgs, UsageFormat},
    home::Home,
    output::Output,
};

pub(crate) async fn run(common: Common, args: UsageArgs, output: Output) -> anyhow::Result<()> {
    let home = Home::open(&common)?;
    let UsageArgs { from, to, key, format, admin_key, gateway } = args;
    let operator = OperatorArgs { base_url: gateway.base_url.clone(), admin_key };
    let is_named = operator.admin_key.is_some() || key.is_some();
    let is_operator =
        (is_named || gateway.api_key.is_none()) && Api::knows_operator(&home, &operator)?;
    let api = if is_operator {
        Api::operator(&home, &operator)?
    } else if key.is_some() {
        bail!("--key is for whoever runs the gateway; an API key sees its own requests");
    } else {
        Api::new(&home, &gateway)?
    };
    let format = if output.is_json() { UsageFormat::Json } else { format };
    let format = match format {
        UsageFormat::Csv => "csv",
        UsageFormat::Json => "json",
    };
    let mut question = vec![("format", format.to_owned())];
    question.extend(from.map(|at| ("from", at.to_string())));
    question.extend(to.map(|at| ("to", at.to_string())));
    question.extend(key.map(|name| ("key", name)));
    let mut chunks = api.query("usage", &question).await?.bytes_stream();
    let mut out = std::io::stdout().lock();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.context("the gateway ended the list early; ask again")?;
        match out.write_all(&chunk) {
            // The reader, `head` for example, has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("writing to stdout")?,
        }
    }
    out.flush().context("writing to stdout")
}
