//! The rows of the table: what stands between client and tokens, and how each is started.

mod peerwatt;
mod proxies;
pub(crate) mod relay;
mod routers;
pub(crate) mod upstream;

use std::{
    net::{SocketAddr, TcpListener},
    process::Command,
};

use anyhow::Context;

use self::peerwatt::Peerwatt;
use super::{
    load::{Load, Models},
    process::{Children, Scratch},
    scenarios::CONNECTIONS,
};

/// In the order of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Row {
    Direct,
    Nginx,
    Haproxy,
    Relay,
    SglangRouter,
    Litellm,
    GatewayHttp,
    Gateway,
    Up,
}

impl Row {
    pub(super) const ALL: [Row; 9] = [
        Row::Direct,
        Row::Nginx,
        Row::Haproxy,
        Row::Relay,
        Row::SglangRouter,
        Row::Litellm,
        Row::GatewayHttp,
        Row::Gateway,
        Row::Up,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Row::Direct => "direct",
            Row::Nginx => "nginx",
            Row::Haproxy => "haproxy",
            Row::Relay => "hyper-relay",
            Row::SglangRouter => "sglang-router",
            Row::Litellm => "litellm",
            Row::GatewayHttp => "gateway-http",
            Row::Gateway => "gateway",
            Row::Up => "up",
        }
    }

    pub(super) fn named(name: &str) -> Option<Row> {
        Row::ALL.into_iter().find(|row| row.name() == name)
    }

    /// Streams at once that it can be asked for: `up` has one provider, of 256 lanes, and LiteLLM takes
    /// longer for 256 than a measurement lasts.
    pub(super) fn streams_max(self) -> usize {
        match self {
            Row::Litellm => 0,
            Row::Up => 128,
            Row::Direct
            | Row::Nginx
            | Row::Haproxy
            | Row::Relay
            | Row::SglangRouter
            | Row::GatewayHttp
            | Row::Gateway => 1_000,
        }
    }

    /// Requests in flight, where a measurement does not say otherwise: LiteLLM answers some 60 plain requests a second,
    /// and streams of more connections would take longer than all other rows together.
    pub(super) fn connections(self) -> usize {
        if self == Row::Litellm { 4 } else { CONNECTIONS }
    }

    /// Whether it answers 200 requests in a second.
    pub(super) fn keeps_up(self) -> bool {
        self != Row::Litellm
    }
}

/// A row that runs.
pub(super) struct Started {
    pub(super) row: Row,
    pub(super) load: Load,
    /// The processes whose time is charged to it, each with all its descendants. Empty: nothing stands in between.
    pub(super) pids: Vec<u32>,
    /// Where more providers for it can join.
    chain: Option<String>,
}

impl Started {
    fn upstream(row: Row, addr: SocketAddr, pid: u32) -> Started {
        let load = Load::new(addr, Models::Upstream, Vec::new());
        Started { row, load, pids: vec![pid], chain: None }
    }
}

/// What was started, and why the rest was not.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) started: Vec<Started>,
    pub(super) left_out: Vec<(Row, String)>,
}

/// Starts `rows`. What is not there is left out, which is no failure unless it is ours.
pub(super) fn start(
    rows: &[Row],
    scratch: &Scratch,
    children: &mut Children,
) -> anyhow::Result<Rows> {
    let own = std::env::current_exe().context("find this program")?;
    let upstream = children.start(Command::new(&own).arg("bench-upstream"), "upstream")?;
    let upstream = upstream.ready_addr("addr")?;
    let peerwatt = Peerwatt::new(scratch)?;
    let mut all = Rows::default();
    for &row in rows {
        eprintln!("starting {}", row.name());
        let started = match row {
            Row::Direct => Ok(Started {
                row,
                load: Load::new(upstream, Models::Upstream, Vec::new()),
                pids: Vec::new(),
                chain: None,
            }),
            Row::Nginx => proxies::nginx(scratch, children, upstream),
            Row::Haproxy => proxies::haproxy(scratch, children, upstream),
            Row::Relay => {
                let mut command = Command::new(&own);
                command.arg("bench-relay").arg(upstream.to_string());
                let relay = children.start(&mut command, "relay")?;
                Ok(Started::upstream(row, relay.ready_addr("addr")?, relay.pid))
            }
            Row::SglangRouter => routers::sglang_router(children, upstream),
            Row::Litellm => routers::litellm(scratch, children, upstream),
            Row::GatewayHttp => peerwatt.gateway_http(children, upstream),
            Row::Gateway => Ok(peerwatt.gateway(children)?),
            Row::Up => Ok(peerwatt.up(children)?),
        };
        match started {
            Ok(started) => all.started.push(started),
            Err(error) => {
                eprintln!("{} is left out: {error:#}", row.name());
                all.left_out.push((row, format!("{error:#}")));
            }
        }
    }
    Ok(all)
}

/// Gets gateways ready for 1 000 streams.
pub(super) fn widen(
    started: &[Started],
    scratch: &Scratch,
    children: &mut Children,
) -> anyhow::Result<()> {
    let peerwatt = Peerwatt::new(scratch)?;
    started.iter().try_for_each(|started| peerwatt.more_providers(started, children))
}

/// For programs that cannot be given port 0 and asked for their choice. The port is free now, and taken a moment
/// later; if another process is quicker, the program says so and is left out.
fn free_addr() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
