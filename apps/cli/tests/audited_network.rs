//! Four validators that audit, a gateway and three providers, of which one begins to serve a smaller model: it is caught by the
//! rounds of the ledger alone, and loses what the mode of the network says. Validators and gateway are processes; the
//! providers run here, so that one of them can have an engine that lies.

mod support;

use std::{
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use audit_lab::weights::{self, Quantization};
use engine::{EmbeddedEngine, EmbeddedOptions, Engine, EngineError, EngineModel, Generation, Load};
use keys::SecretKey;
use net::IrohConfig;
use provider::{Endpoints, Pricing, Provider, ProviderConfig, ProviderHandle};
use serde_json::{Value, json};
use support::{
    process::{Process, json as run_json, peerwatt, string},
    stream::Consumer,
    testnet::{Network, Node},
    until,
};
use tokio_util::sync::CancellationToken;
use types::{
    Address, Height, ModelId, Nusd, Ppm, Watt,
    audit::{AuditOutcome, Backend, Calibration, ClosedRound, Sanction},
    inference::InferenceRequest,
    offer::EngineKind,
    price::Price,
    tx::Action,
};
use wire::chain::{Chain, Event, EventView, HttpChain, TxSender};

const SEED: u32 = 7;
const PROVIDERS: usize = 3;
/// The provider that will cheat.
const CHEAT: usize = 2;
const TOKENS: u32 = 120;
const COMMIT_EVERY: Duration = Duration::from_secs(3);
/// Of a provider that commits to nothing.
const NEVER: Duration = Duration::from_secs(12 * 60 * 60);
/// The ones that are started last.
const HIDER: usize = PROVIDERS;
const PLANTER: usize = PROVIDERS + 1;
const BOND: Watt = Watt::whole(100);
/// The model's honest means, as measured across kernels (docs/benchmarks.md).
const HONEST: [u32; 3] = [70_000, 21_000, 20_000];
/// How long rounds may take, from the answers to the verdict: half a minute on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(300);
/// A computation of these small models is not worth sharing among threads.
const THREADS: [&str; 2] = ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"];

/// Serves one model under the name of another, from a chosen moment on.
#[derive(Debug)]
struct Swapping {
    claimed: Arc<EmbeddedEngine>,
    smaller: Arc<EmbeddedEngine>,
    cheats: Arc<AtomicBool>,
    /// Answers of the smaller model.
    cheated: Arc<AtomicU64>,
}

#[async_trait]
impl Engine for Swapping {
    fn kind(&self) -> EngineKind {
        self.claimed.kind()
    }

    fn version(&self) -> String {
        self.claimed.version()
    }

    async fn models(&self) -> Result<Vec<EngineModel>, EngineError> {
        self.claimed.models().await
    }

    async fn generate(
        &self,
        model: ModelId,
        request: InferenceRequest,
        cancel: CancellationToken,
    ) -> Result<Generation, EngineError> {
        if self.cheats.load(Ordering::SeqCst) {
            self.cheated.fetch_add(1, Ordering::SeqCst);
            let served = self.smaller.model().id;
            return self.smaller.generate(served, request, cancel).await;
        }
        self.claimed.generate(model, request, cancel).await
    }

    fn load(&self) -> Load {
        self.claimed.load()
    }
}

/// The claimed model and a smaller one, as files of the auditors.
struct Models {
    folder: tempfile::TempDir,
    claimed: Arc<EmbeddedEngine>,
    smaller: Arc<EmbeddedEngine>,
}

impl Models {
    fn make() -> Models {
        let folder = tempfile::tempdir().unwrap();
        let file = weights::generate(SEED).unwrap();
        let four = weights::quantized(&file, Quantization::Q4_0).unwrap();
        // What four bits left of it, computed as quickly as the whole.
        let smaller = weights::quantized(&four, Quantization::F16).unwrap();
        let claimed = weights::dequantized(&file).unwrap();
        let keep = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            Arc::new(EmbeddedEngine::load(&path, EmbeddedOptions::standard()).unwrap())
        };
        let (claimed, smaller) = (keep("whole.gguf", &claimed), keep("smaller.gguf", &smaller));
        Models { folder, claimed, smaller }
    }

    fn id(&self) -> ModelId {
        self.claimed.model().id
    }
}

/// How a provider commits to its answers.
struct Commits {
    every: Duration,
    /// As to faults that it planted.
    plants: bool,
}

/// Everything that runs.
struct World {
    models: Models,
    network: Network,
    gateway: Gateway,
    consumer: Consumer,
    providers: Vec<ProviderHandle>,
    homes: Vec<tempfile::TempDir>,
    accounts: Vec<Address>,
    cheats: Arc<AtomicBool>,
    cheated: Arc<AtomicU64>,
}

impl World {
    async fn start(mode: &str) -> World {
        let models = Models::make();
        let mut network = Network::prepare("1,1,1,1").await;
        let claimed = models.id();
        network.change_genesis(|genesis| {
            let params = &mut genesis["params"];
            // Long enough for all to vote in one period, on a busy machine too.
            params["oracle"]["period_ms"] = json!(4_000);
            // Claims wait long enough for a verdict.
            params["channels"]["holdback_ms"] = json!(600_000);
            let audits = &mut params["audits"];
            audits["mode"] = json!(mode);
            audits["enforced"] = json!([claimed]);
            audits["share_max"] = json!(1_000_000);
            audits["share_min"] = json!(1_000_000);
            audits["commit_ms"] = json!(60_000);
            audits["reveal_ms"] = json!(60_000);
            audits["seal_ms"] = json!(3_000);
        });
        for node in &mut network.nodes {
            validate(node, &models, &[]).await;
        }
        let gateway = Gateway::start(&network).await;
        let consumer = Consumer::new(&gateway.base_url, &gateway.api_key);
        let mut world = World {
            models,
            network,
            gateway,
            consumer,
            providers: Vec::new(),
            homes: Vec::new(),
            accounts: Vec::new(),
            cheats: Arc::default(),
            cheated: Arc::default(),
        };
        world.auditors().await;
        world.calibrate().await;
        for number in 0..PROVIDERS {
            let cheats = if number == CHEAT { Arc::clone(&world.cheats) } else { Arc::default() };
            world.provide(number, cheats, Commits { every: COMMIT_EVERY, plants: false }).await;
        }
        world
    }

    fn chain(&self, number: usize) -> Arc<HttpChain> {
        Arc::new(HttpChain::new(self.network.nodes[number].chain.url()).unwrap())
    }

    /// A validator says what honest providers score.
    async fn calibrate(&self) {
        let [l1, l2, projections] = HONEST.map(|ppm| Ppm::new(ppm).unwrap());
        let projections = Some(projections);
        let calibration = Calibration { l1, l2, projections, tokens: 20_000 };
        let backend = if cfg!(target_arch = "aarch64") { Backend::CpuArm } else { Backend::CpuX86 };
        let key = self.network.nodes[0].home.join("keys/validator.json");
        let key = keys::load(&key, None).unwrap();
        let sender = TxSender::new(self.chain(0), Arc::new(key));
        let model = self.models.id();
        sender.send(Action::PublishCalibration { model, backend, calibration }).await.unwrap();
    }

    async fn provide(&mut self, number: usize, cheats: Arc<AtomicBool>, commits: Commits) {
        let seed = [u8::try_from(100 + number).unwrap(); 32];
        let operator = Arc::new(SecretKey::from_seed(seed));
        let account = operator.address();
        let wallet = self.network.nodes[0].home.to_str().unwrap();
        let (to, url) = (account.to_string(), self.network.nodes[0].chain.url());
        let pay = ["--data-dir", wallet, "wallet", "send", &to, "200", "--chain", url];
        run_json(&pay).await;
        let home = tempfile::tempdir().unwrap();
        let bind = |alpn: &[u8]| {
            let alpn = alpn.to_vec();
            async move { net::bind(IrohConfig { alpn, ..IrohConfig::new(seed) }).await.unwrap() }
        };
        let endpoints = Endpoints {
            gateways: bind(wire::serve::ALPN).await,
            auditors: bind(wire::audit::ALPN).await,
        };
        let engine = Swapping {
            claimed: Arc::clone(&self.models.claimed),
            smaller: Arc::clone(&self.models.smaller),
            cheats,
            cheated: Arc::clone(&self.cheated),
        };
        let chain = self.chain(number % self.network.nodes.len());
        let chain_id = chain.status().await.unwrap().chain_id;
        let mut config = ProviderConfig::new(
            home.path().join("provider"),
            chain_id,
            operator,
            endpoints,
            chain,
            vec![Arc::new(engine)],
        );
        config.moniker = format!("provider-{number}");
        config.bond = BOND;
        config.pricing = Pricing {
            default: Price {
                request_nusd: Nusd::ZERO,
                prompt_nusd_per_mtok: Nusd(1_000_000_000),
                completion_nusd_per_mtok: Nusd(1_000_000_000),
            },
            ..Pricing::default()
        };
        config.redeem.threshold_nusd = Nusd(100_000);
        config.redeem.interval_ms = 2_000;
        config.commit_interval = commits.every;
        config.plants = commits.plants;
        self.providers.push(Provider::start(config).await.unwrap());
        self.homes.push(home);
        self.accounts.push(account);
    }

    /// Waits until every validator can be drawn.
    async fn auditors(&self) {
        until("four auditors", async || {
            for validator in self.network.nodes[0].chain.validators().await.ok()? {
                self.network.nodes[0].chain.auditor(validator.operator).await.ok()??;
            }
            Some(())
        })
        .await;
    }

    /// Asks one provider. Returns how many tokens it made. `None`: it was not asked.
    async fn ask(&self, provider: usize, n: u32) -> Option<u64> {
        self.ask_as(provider, n).await.map(|(_, tokens)| tokens)
    }

    /// The same with the request's id.
    async fn ask_as(&self, provider: usize, n: u32) -> Option<(String, u64)> {
        let account = self.accounts[provider].to_string();
        let alias = &self.models.claimed.model().alias;
        let body = json!({
            "model": alias,
            "messages": [{ "role": "user", "content": format!("dhb xtq {n}") }],
            "max_tokens": TOKENS,
            "temperature": 0.8,
        });
        let response =
            self.consumer.ask_with(&body, &[("x-peerwatt-pin-provider", &account)]).await;
        if !response.status().is_success() {
            return None;
        }
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let answer: Value = response.json().await.unwrap();
        Some((id, answer["usage"]["completion_tokens"].as_u64()?))
    }

    /// Two providers that always cheat join: one commits to none of its answers, one does it on purpose and will say so.
    async fn join_cheats(&mut self) {
        let cheats = || Arc::new(AtomicBool::new(true));
        self.provide(HIDER, cheats(), Commits { every: NEVER, plants: false }).await;
        self.provide(PLANTER, cheats(), Commits { every: COMMIT_EVERY, plants: true }).await;
    }

    /// Asks the one that plants faults until two verifiers of a round were right about them: nobody is graded under a beacon that one
    /// validator chose, or where one of the two was late.
    async fn until_planted(&self) -> ClosedRound {
        let mut n = 0;
        self.patiently(async || {
            n += 1;
            self.ask(PLANTER, n).await;
            let right = ("right".to_owned(), "true".to_owned());
            let graded = self.events("audit.graded").await;
            if graded.iter().filter(|event| event.fields.contains(&right)).count() < 2 {
                return None;
            }
            let closed = self.closed_of(PLANTER).await.into_iter();
            let mut found = closed.filter(|it| it.planted && it.outcome == AuditOutcome::Fail);
            Some(found.next().expect("the round of the verifiers that were graded"))
        })
        .await
    }

    /// Has an answer of it audited, as its payer.
    async fn demand(&self) -> ClosedRound {
        let home = self.network.nodes[0].home.to_str().unwrap();
        let Gateway { base_url, api_key, .. } = &self.gateway;
        let n = AtomicU32::new(0);
        let (id, _) = until("a long answer of the one that hides", async || {
            let asked = self.ask_as(HIDER, n.fetch_add(1, Ordering::SeqCst)).await;
            asked.filter(|(_, tokens)| *tokens >= 60)
        })
        .await;
        let chain = self.network.nodes[0].chain.url();
        let line = ["--data-dir", home, "audit", "demand", &id, "--chain", chain];
        let at = ["--base-url", base_url, "--api-key", api_key];
        run_json(&[&line[..], &at].concat()).await;
        self.patiently(async || {
            let mut closed = self.closed_of(HIDER).await.into_iter();
            closed.find(|round| round.commitment.is_demanded())
        })
        .await
    }

    async fn closed_of(&self, provider: usize) -> Vec<ClosedRound> {
        let audits = self.network.nodes[3].chain.audits_of(self.accounts[provider]).await;
        audits.map(|audits| audits.closed).unwrap_or_default()
    }

    /// Asks all until each has passed a round.
    async fn until_all_pass(&self) {
        let mut n = 0;
        self.patiently(async || {
            let mut passed = 0;
            for provider in 0..PROVIDERS {
                n += 1;
                self.ask(provider, n).await;
                let closed = self.closed_of(provider).await;
                let bad = closed.iter().find(|it| it.outcome == AuditOutcome::Fail);
                assert_eq!(bad, None, "an honest provider");
                passed += usize::from(closed.iter().any(|it| it.outcome == AuditOutcome::Pass));
            }
            (passed == PROVIDERS).then_some(())
        })
        .await;
    }

    /// For as long as rounds may take; if it takes longer, says where they stand.
    async fn patiently<T>(&self, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let mut tick = tokio::time::interval(Duration::from_millis(25));
        let wait = async {
            loop {
                tick.tick().await;
                if let Some(found) = look().await {
                    return found;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!("{}", self.explain().await),
        }
    }

    async fn explain(&self) -> String {
        let mut told = String::new();
        for provider in 0..PROVIDERS {
            let audits = self.network.nodes[3].chain.audits_of(self.accounts[provider]).await;
            let errors = self.providers[provider].status().errors;
            told += &format!("\nprovider {provider}: {audits:?}\n{errors:?}");
        }
        for node in &self.network.nodes {
            told += &node.process.as_ref().map_or_else(String::new, Process::explain);
            for file in std::fs::read_dir(node.home.join("auditor/reports")).into_iter().flatten() {
                let text = std::fs::read_to_string(file.unwrap().path()).unwrap_or_default();
                let report: Value = serde_json::from_str(&text).unwrap_or_default();
                told += &format!("\n{} {}", report["commitment"], report["verdict"]);
            }
        }
        told
    }

    async fn bond(&self, provider: usize) -> Watt {
        let chain = &self.network.nodes[1].chain;
        chain.provider(self.accounts[provider]).await.unwrap().unwrap().bond
    }

    async fn refunded(&self, provider: usize) -> Nusd {
        let channels = self.network.nodes[1].chain.channels_of(self.accounts[provider]).await;
        channels.unwrap().iter().map(|channel| channel.refunded).sum()
    }

    /// The last validator is started again as one that sends canaries through the gateway.
    async fn send_canaries(&mut self) {
        let node = &mut self.network.nodes[3];
        assert!(node.process.take().unwrap().stop().await.success());
        let Gateway { base_url, api_key, .. } = &self.gateway;
        let canary = ["--canary-gateway", base_url, "--canary-key", api_key, "--canary-every", "1"];
        validate(node, &self.models, &canary).await;
    }

    /// All events of a kind.
    async fn events(&self, kind: &str) -> Vec<Event> {
        let (mut from, mut found) = (Height(1), Vec::new());
        loop {
            let page = self.network.nodes[0].chain.events(from, 1_000).await.unwrap();
            found.extend(page.events.into_iter().map(|it| it.event).filter(|it| it.kind == kind));
            if page.next_height == from {
                return found;
            }
            from = page.next_height;
        }
    }

    /// Waits until a canary found this of a provider.
    async fn until_canary(&self, provider: usize, outcome: &str) {
        let account = self.accounts[provider].to_string();
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let wanted = [field("provider", &account), field("outcome", outcome)];
        let mut from = Height(1);
        self.patiently(async || {
            let page = self.network.nodes[0].chain.events(from, 100).await.unwrap();
            let is_it = |it: &EventView| {
                let Event { kind, fields } = &it.event;
                kind == "audit.canary" && wanted.iter().all(|wanted| fields.contains(wanted))
            };
            from = page.next_height;
            page.events.iter().any(is_it).then_some(())
        })
        .await;
    }

    /// What a provider finds in a round of its own.
    async fn recompute(&self, provider: usize, closed: &ClosedRound) -> Value {
        let home = self.homes[provider].path().to_str().unwrap();
        let round = closed.commitment.to_string();
        let [model, cheaper] =
            ["whole.gguf", "smaller.gguf"].map(|name| self.models.folder.path().join(name));
        let line = ["--data-dir", home, "audit", "recompute", &round];
        let with = ["--model", model.to_str().unwrap(), "--cheaper", cheaper.to_str().unwrap()];
        let at = ["--chain", self.network.nodes[1].chain.url()];
        run_json(&[&line[..], &with, &at].concat()).await
    }

    /// Everything stops, and the books of every validator close on the same state.
    async fn stop(self) {
        for provider in &self.providers {
            provider.shutdown().await;
        }
        assert!(self.gateway.process.stop().await.success());
        self.network.stop_each_and_check().await;
    }
}

/// Starts a validator that audits.
async fn validate(node: &mut Node, models: &Models, options: &[&str]) {
    let line = ["--json", "--data-dir", node.home.to_str().unwrap(), "validator"];
    let mut command = peerwatt(line);
    command.args(["--audit-models", models.folder.path().to_str().unwrap()]).args(options);
    command.envs(THREADS.map(|name| (name, "1")));
    let mut process = Process::start("validator", &mut command);
    process.ready().await;
    node.process = Some(process);
}

/// A gateway at the first validator, whose genesis document funds it.
struct Gateway {
    process: Process,
    base_url: String,
    api_key: String,
}

impl Gateway {
    async fn start(network: &Network) -> Gateway {
        let node = &network.nodes[0];
        let mut command =
            peerwatt(["--json", "--data-dir", node.home.to_str().unwrap(), "gateway"]);
        let any = "127.0.0.1:0";
        command.args(["--chain", node.chain.url(), "--listen", any, "--peer-listen", any]);
        let mut process = Process::start("gateway", &mut command);
        let ready = process.ready().await;
        Gateway {
            process,
            base_url: string(&ready, "base_url"),
            api_key: string(&ready, "api_key"),
        }
    }
}

/// What became of the cheat.
struct Caught {
    closed: ClosedRound,
    tokens: u64,
    answers: u64,
    took: Duration,
}

/// Asks the cheat until a round says that it is one, as `is_caught` knows it.
async fn catch(world: &World, is_caught: impl Fn(&ClosedRound) -> bool) -> Caught {
    world.cheats.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let (mut tokens, mut n) = (0, 1_000);
    let closed = world
        .patiently(async || {
            n += 1;
            tokens += world.ask(CHEAT, n).await.unwrap_or(0);
            world.closed_of(CHEAT).await.into_iter().find(&is_caught)
        })
        .await;
    let answers = world.cheated.load(Ordering::SeqCst);
    Caught { closed, tokens, answers, took: started.elapsed() }
}

fn print(what: &str, caught: &Caught) {
    let Caught { tokens, answers, took, closed } = caught;
    let line = format!(
        "{what}: caught after {tokens} tokens in {answers} answers, {took:.1?}, by {} receipts: {}, {}\n",
        closed.receipts.count,
        closed.would_be.name(),
        closed.sanction.name()
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_begins_to_cheat_is_delisted_and_slashed_and_its_consumers_refunded() {
    let world = World::start("enforced").await;
    world.until_all_pass().await;
    let stakes: Vec<Watt> =
        [world.bond(0).await, world.bond(1).await, world.bond(CHEAT).await].into();
    // A round under a beacon that one validator alone chose has no consequence.
    let caught = catch(&world, |round| round.sanction >= Sanction::RefundAndDelist).await;
    print("enforced", &caught);
    assert_eq!(caught.closed.outcome, AuditOutcome::Fail);
    assert_eq!(caught.closed.sanction, Sanction::Slash, "{}", world.explain().await);

    // It is slashed, its claims went back, and nobody is sent to it.
    assert!(world.bond(CHEAT).await < stakes[CHEAT]);
    assert!(!world.refunded(CHEAT).await.is_zero());
    let excluded = world.network.nodes[2].chain.exclusions().await.unwrap();
    let excluded: Vec<Address> = excluded.iter().map(|it| it.provider).collect();
    assert_eq!(excluded, [world.accounts[CHEAT]]);
    until("the gateway to leave it alone", async || {
        world.ask(CHEAT, 5_000).await.is_none().then_some(())
    })
    .await;

    // The others are what they were, and serve.
    for honest in [0, 1] {
        assert_eq!(world.bond(honest).await, stakes[honest]);
        assert_eq!(world.refunded(honest).await, Nusd::ZERO);
        assert!(world.ask(honest, 6_000).await.is_some());
        let closed = world.closed_of(honest).await;
        assert!(closed.iter().all(|it| it.would_be == Sanction::None), "{closed:?}");
    }
    shown(&world, &caught.closed).await;
    world.stop().await;
}

/// An auditor that judged the round shows why.
async fn shown(world: &World, closed: &ClosedRound) {
    let round = closed.commitment.to_string();
    let mut reports = 0;
    for node in &world.network.nodes {
        let path = node.home.join("auditor/reports");
        let picture = node.home.join("evidence.svg");
        let name = format!("{}-{}.json", closed.commitment.provider, closed.commitment.sequence);
        if !Path::new(&path).join(name).exists() {
            continue;
        }
        let home = node.home.to_str().unwrap();
        let svg = picture.to_str().unwrap();
        let report = run_json(&["--data-dir", home, "audit", "show", &round, "--svg", svg]).await;
        assert_eq!(report["verdict"]["outcome"], "fail", "{report}");
        let evidence = &report["verdict"]["evidence"];
        assert_eq!(evidence["identified"]["worth"], "cheaper", "{report}");
        // Milli-nats; from here on it is enough alone.
        assert!(evidence["projections"].as_i64().unwrap() > 20_724, "{report}");
        assert!(std::fs::read_to_string(picture).unwrap().contains("</svg>"));
        reports += 1;
    }
    assert_eq!(reports, closed.verdicts.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_shadow_the_same_is_seen_and_nobody_loses_anything() {
    let mut world = World::start("shadow").await;
    world.until_all_pass().await;
    world.send_canaries().await;
    world.until_canary(0, "pass").await;
    let stake = world.bond(CHEAT).await;
    let caught = catch(&world, |round| round.would_be == Sanction::Slash).await;
    print("shadow", &caught);
    let ClosedRound { would_be, sanction, .. } = caught.closed;
    assert_eq!((would_be, sanction), (Sanction::Slash, Sanction::None));
    assert_eq!(world.bond(CHEAT).await, stake);
    assert_eq!(world.refunded(CHEAT).await, Nusd::ZERO);
    assert!(world.network.nodes[2].chain.exclusions().await.unwrap().is_empty());
    assert!(world.ask(CHEAT, 5_000).await.is_some());
    // Where nothing may be disclosed no round sees it, and a canary does.
    world.until_canary(CHEAT, "fail").await;
    // One that commits to nothing has no rounds, unless its payer wants one.
    world.join_cheats().await;
    let closed = world.demand().await;
    assert_eq!(closed.outcome, AuditOutcome::Fail, "{}", world.explain().await);
    assert_eq!(closed.receipts.count, 1);
    assert_eq!(world.closed_of(HIDER).await.len(), 1);
    // It can see for itself what verifiers saw, while it runs.
    let recomputed = world.recompute(HIDER, &closed).await;
    assert_eq!(recomputed["outcome"], "fail", "{recomputed}");
    assert_eq!(recomputed["identified"]["worth"], "cheaper", "{recomputed}");
    // Faults that were planted say something of the verifiers alone: both looked.
    let planted = world.until_planted().await;
    assert_eq!((planted.would_be, planted.sanction), (Sanction::None, Sanction::None));
    let standing = world.network.nodes[2].chain.audits_of(world.accounts[PLANTER]).await.unwrap();
    assert_eq!((standing.standing.bad, standing.models.len()), (0, 0), "{standing:?}");
    world.stop().await;
}
