//! `peerwatt chat`: one question, or a conversation, streamed as it is made.

use std::{
    borrow::Cow,
    io::{self, BufRead, IsTerminal},
};

use anyhow::{Context, bail};
use futures::StreamExt;
use serde_json::{Value, json};

use super::{
    api::{Api, Model},
    x402::Purse,
};
use crate::{
    args::{ChatArgs, Common},
    home::Home,
    output::Output,
};

/// Bytes of one event of the stream.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// What an answer came to.
#[derive(Default)]
struct Answer {
    text: String,
    finish_reason: Option<String>,
    peerwatt: Option<Value>,
}

pub(crate) async fn run(common: Common, args: ChatArgs, output: Output) -> anyhow::Result<()> {
    let home = Home::open(&common)?;
    let api = Api::new(&home, &args.gateway)?;
    let purse = Purse::open(&home, &args.pay, output)?;
    let payer = (&api, purse.as_ref());
    let model = match &args.model {
        Some(model) => model.clone(),
        None => {
            let models = api.models().await?;
            let mut models = models.into_iter().filter(Model::completes);
            models.next().context("the gateway lists no model to talk to yet")?.id
        }
    };
    let mut messages = Vec::new();
    if let Some(system) = &args.system {
        messages.push(json!({ "role": "system", "content": system }));
    }
    if let Some(message) = &args.message {
        return turn(payer, &model, &args, &mut messages, message, output).await;
    }
    output.progress(format_args!("talking to {model}; an empty line ends the chat"));
    loop {
        if io::stdin().is_terminal() {
            output.write("> ")?;
        }
        let line = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line).map(|_| line)
        });
        let line = line.await.context("reading stdin")?.context("reading stdin")?;
        if line.trim().is_empty() {
            return Ok(());
        }
        turn(payer, &model, &args, &mut messages, line.trim(), output).await?;
    }
}

/// Asks, prints the answer, and keeps both for the next turn.
async fn turn(
    payer: (&Api, Option<&Purse>),
    model: &str,
    args: &ChatArgs,
    messages: &mut Vec<Value>,
    message: &str,
    output: Output,
) -> anyhow::Result<()> {
    messages.push(json!({ "role": "user", "content": message }));
    let mut body = json!({
        "model": model,
        "messages": messages,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    let optional = [
        ("temperature", args.temperature.map(|value| json!(value))),
        ("max_tokens", args.max_tokens.map(|value| json!(value))),
        ("seed", args.seed.map(|value| json!(value))),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    let answer = stream(payer, &body, output).await?;
    if answer.finish_reason.is_none() {
        bail!("the answer ended without a reason; it may be incomplete");
    }
    let peerwatt = answer.peerwatt.unwrap_or_default();
    if output.is_json() {
        output.result(&json!({ "content": answer.text, "peerwatt": peerwatt }), "")?;
    } else {
        output.line("")?;
        if let (Some(cost), Some(id)) =
            (usd(&peerwatt["cost_nusd"]), peerwatt["request_id"].as_str())
        {
            output.progress(format_args!("[{cost} USD, receipt {id}]"));
        }
    }
    messages.push(json!({ "role": "assistant", "content": answer.text }));
    Ok(())
}

/// Reads the events of a streamed answer; text is printed as it comes.
async fn stream(
    (api, purse): (&Api, Option<&Purse>),
    body: &Value,
    output: Output,
) -> anyhow::Result<Answer> {
    let path = "chat/completions";
    let response = match purse {
        Some(purse) => api.post_paying(path, body, purse).await?,
        None => api.post(path, body).await?,
    };
    let mut chunks = response.bytes_stream();
    let mut pending = Vec::new();
    let mut answer = Answer::default();
    while let Some(chunk) = chunks.next().await {
        pending.extend_from_slice(&chunk.context("reading the answer")?);
        while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data: ") else { continue };
            if data.trim_ascii() == b"[DONE]" {
                return Ok(answer);
            }
            let event: Value = serde_json::from_slice(data).context("reading the answer")?;
            take(&event, &mut answer, output)?;
        }
        if pending.len() > EVENT_BYTES_MAX {
            bail!("the gateway sent an event of more than {EVENT_BYTES_MAX} bytes");
        }
    }
    Ok(answer)
}

/// Text as a terminal may have it: what a model or its provider writes could move the cursor, or fill the clipboard.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |it: char| it.is_control() && !matches!(it, '\n' | '\t');
    match std::io::stdout().is_terminal() && text.contains(is_harmful) {
        true => Cow::Owned(text.replace(is_harmful, "")),
        false => Cow::Borrowed(text),
    }
}

fn take(event: &Value, answer: &mut Answer, output: Output) -> anyhow::Result<()> {
    if let Some(message) = event["error"]["message"].as_str() {
        bail!("the answer broke off: {message}");
    }
    if let Some(text) = event["choices"][0]["delta"]["content"].as_str() {
        // Many models begin an answer with the space that follows the turn's marker.
        let shown = if answer.text.trim().is_empty() { text.trim_start() } else { text };
        answer.text.push_str(text);
        if !output.is_json() {
            output.write(harmless(shown))?;
        }
    }
    if let Some(reason) = event["choices"][0]["finish_reason"].as_str() {
        answer.finish_reason = Some(reason.to_owned());
    }
    if let Some(peerwatt) = event.get("peerwatt") {
        answer.peerwatt = Some(peerwatt.clone());
    }
    Ok(())
}

/// Nano-USD, which JSON carries as text, as USD for people.
fn usd(nusd: &Value) -> Option<String> {
    nusd.as_str()?.parse::<types::Nusd>().ok().map(types::Nusd::to_decimal)
}
