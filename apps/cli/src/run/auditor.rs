//! The auditor of a validator, in its process: it reads the ledger through the chain API, as it would from elsewhere.

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use auditor::{
    canary::CanaryConfig,
    judge::backend,
    mirror::Mirror,
    run::{AuditorConfig, AuditorHandle},
    shelf::{Held, Shelf},
};
use engine::{EmbeddedOptions, Engine, OpenAiEngine, OpenAiOptions, ServedFile, SharedEngine};
use net::IrohConfig;
use types::genesis::Genesis;
use wire::chain::HttpChain;

use crate::{
    args::{AuditorArgs, ScoringServer},
    home::Home,
    run::engines,
};

const GB: u64 = 1_000_000_000;

/// Starts the auditor of `home`, whose validator serves the chain API at `chain_url`; on `usual`, unless it is told where.
/// `None`: nobody could reach it, so it must not be drawn.
pub(crate) async fn start(
    home: &Home,
    chain_url: &str,
    usual: SocketAddr,
    genesis: &Genesis,
    args: &AuditorArgs,
) -> anyhow::Result<Option<AuditorHandle>> {
    let mut transport = IrohConfig::new(*home.key("auditor-node")?.seed());
    transport.bind = args.audit_listen.unwrap_or(usual);
    transport.alpn = wire::audit::ALPN.to_vec();
    if transport.bind.ip().is_unspecified() && args.audit_advertise.is_empty() {
        let bind = transport.bind;
        if args.audit_listen.is_some() {
            bail!(
                "providers cannot reach {bind}; say where they do with --audit-advertise HOST:PORT"
            );
        }
        tracing::warn!(
            "this validator audits nothing, for providers cannot reach {bind}; say where they do with --audit-advertise HOST:PORT"
        );
        return Ok(None);
    }
    let held = held(&args.audit_engine).await?;
    let endpoint = net::bind(transport).await.context("listening for what providers open")?;
    let addrs = match args.audit_advertise.is_empty() {
        true => endpoint.addrs().iter().map(ToString::to_string).collect(),
        false => args.audit_advertise.clone(),
    };
    let fetched = || home.part("auditor").join("models");
    let folder = match (&args.audit_models, &args.audit_mirror) {
        (None, Some(_)) => Some(fetched()),
        (folder, _) => folder.clone(),
    };
    let mirror = match &args.audit_mirror {
        None => None,
        Some(url) => {
            let folder = folder.clone().unwrap_or_else(fetched);
            fs::create_dir_all(&folder)
                .with_context(|| format!("making the folder {}", folder.display()))?;
            Some(Mirror::new(url, folder, args.audit_download_max.saturating_mul(GB))?)
        }
    };
    let config = AuditorConfig {
        home: home.part("auditor"),
        mirror,
        canary: canary(args),
        chain_id: genesis.chain_id.clone(),
        chain: Arc::new(HttpChain::new(chain_url)?),
        operator: Arc::new(home.key("validator")?),
        endpoint,
        addrs,
        shelf: Arc::new(Shelf::new(held, folder)),
        tokens_max: args.audit_tokens,
    };
    Ok(Some(auditor::run::start(config).await?))
}

fn canary(args: &AuditorArgs) -> Option<CanaryConfig> {
    let (base_url, api_key) = args.canary_gateway.clone().zip(args.canary_key.clone())?;
    Some(CanaryConfig { base_url, api_key, every: Duration::from_secs(args.canary_every) })
}

/// The built-in model, and those of servers.
async fn held(servers: &[ScoringServer]) -> anyhow::Result<Vec<Held>> {
    let built_in = engines::built_in(EmbeddedOptions::scoring()).await?;
    let bytes = Some(engines::BUILT_IN_MODEL.len() as u64);
    let id = built_in.model().id;
    let engine: SharedEngine = Arc::new(built_in);
    let mut held = vec![Held { id, bytes, engine, backend: backend() }];
    for ScoringServer { url, model, backend: named } in servers {
        let options = OpenAiOptions::at(url);
        let backend = named.unwrap_or_else(backend);
        match model {
            Some(file) => {
                let bytes = fs::metadata(file).ok().map(|metadata| metadata.len());
                let served = ServedFile::connect(options, file).await;
                let served = served.with_context(|| format!("asking {url} to score"))?;
                held.push(Held { id: served.model().id, bytes, engine: Arc::new(served), backend });
            }
            None => {
                let engine = OpenAiEngine::connect(options).await?;
                let models = engine.models().await?;
                let engine: SharedEngine = Arc::new(engine);
                let each = models.into_iter().map(|model| Held {
                    id: model.id,
                    bytes: None,
                    engine: Arc::clone(&engine),
                    backend,
                });
                held.extend(each);
            }
        }
    }
    Ok(held)
}
