//! What a person or a script sees: results on stdout, everything else on stderr.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use anyhow::Context;
use serde::Serialize;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Writes results in the form that was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        Output { json }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// The result: `text` for people, or `value` as one line of JSON.
    pub(crate) fn result(self, value: &impl Serialize, text: impl Display) -> anyhow::Result<()> {
        if self.json {
            let line = serde_json::to_string(value).context("writing the result as JSON")?;
            self.line(line)
        } else {
            self.line(text)
        }
    }

    /// One line on stdout.
    pub(crate) fn line(self, line: impl Display) -> anyhow::Result<()> {
        self.write(format_args!("{line}\n"))
    }

    /// Text on stdout as it comes, seen at once.
    pub(crate) fn write(self, text: impl Display) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        match write!(out, "{text}").and_then(|()| out.flush()) {
            // The reader, `head` for example, has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.context("writing to stdout"),
        }
    }

    /// What is happening, on stderr.
    pub(crate) fn progress(self, text: impl Display) {
        // Nobody is there to be told that stderr is closed.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Why the command failed, with all causes.
    pub(crate) fn error(self, error: &anyhow::Error) {
        let mut err = io::stderr().lock();
        if self.json {
            let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
            let line = serde_json::json!({ "error": error.to_string(), "causes": causes });
            let _ = writeln!(err, "{line}");
            return;
        }
        let bold = if io::stderr().is_terminal() { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        let _ = writeln!(err, "{}error:{} {error}", bold.0, bold.1);
        for cause in error.chain().skip(1) {
            let _ = writeln!(err, "  because: {cause}");
        }
    }
}

pub(crate) use web::utc;

/// A share as per cent, with up to four decimal places.
pub(crate) fn percent(share: types::Ppm) -> String {
    let (whole, rest) = (share.get() / 10_000, share.get() % 10_000);
    let places = format!("{rest:04}");
    match places.trim_end_matches('0') {
        "" => format!("{whole} %"),
        places => format!("{whole}.{places} %"),
    }
}

/// Sends logs to stderr: warnings by default, more with each `-v`.
pub(crate) fn start_tracing(verbose: u8, json: bool) {
    let ours = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    // What the transport and llama.cpp say to themselves is of interest to its developers only.
    let quiet = "iroh=error,noq=error,noq_proto=error,noq_udp=error,netwatch=error,portmapper=error,\
         llama-cpp-2=error";
    let filter = if verbose > 2 { "trace".to_owned() } else { format!("{ours},{quiet}") };
    let registry = tracing_subscriber::registry().with(EnvFilter::new(filter));
    let layer = fmt::layer().with_writer(io::stderr).with_target(false);
    if json {
        registry.with(layer.json()).init();
    } else {
        registry.with(layer.with_ansi(io::stderr().is_terminal()).compact()).init();
    }
}
