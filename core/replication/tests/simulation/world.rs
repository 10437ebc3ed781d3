//! Nodes, their disks, the wires between them and a clock, all on one thread.
//!
//! Consensus is an ideal: once live, connected validators with more than two thirds of the weight
//! have started a height, the candidates of one of them are decided, and whoever took part may
//! hear of it. That nobody decides something else is given; that everybody comes to know it, and
//! all around it, is what is tested.

use std::collections::{BTreeMap, BTreeSet};

use replication::{
    evidence::EvidenceLimits,
    gossip::{GossipLimits, Rate},
    mempool::MempoolLimits,
    node::{Config, Input, Node, Tip},
    pace::Pace,
    sync::{Manifest, SyncLimits},
};
use std::sync::Arc;
use types::{Height, TimeMs, TxId};

use crate::{
    auditor::Auditor,
    random::Random,
    toy::{App, Block, tx_id},
};

pub(crate) const CHUNK_BYTES: usize = 64;
/// Blocks between two snapshots.
pub(crate) const SNAPSHOT_INTERVAL: u64 = 10;
pub(crate) const STATUS_MS: u64 = 400;

pub(crate) const CONFIG: Config = Config {
    mempool: MempoolLimits {
        txs_max: 20,
        bytes_max: 1_600,
        sender_txs_max: 8,
        sender_bytes_max: 800,
        waiters_max: 3,
        age_ms_max: 15_000,
    },
    gossip: GossipLimits {
        peers_max: 16,
        batch_txs_max: 10,
        batch_bytes_max: 512,
        known_max: 4_096,
        txs: Rate { burst: 800, per_s: 400 },
        bytes: Rate { burst: 200_000, per_s: 50_000 },
        signed_bytes_min: 160,
        refused_txs: 4,
    },
    evidence: EvidenceLimits { count_max: 8, signer_max: 2, retry_ms: 2_000, age_ms_max: 60_000 },
    sync: SyncLimits {
        behind_min: 3,
        gather_ms: 500,
        offers_max: 16,
        chunk_bytes_max: CHUNK_BYTES,
        chunks_max: 64,
        in_flight_max: 3,
        chunk_ms_max: 300,
        asks_max: 3,
        certify_ms_max: 1_000,
        attempts_max: 6,
    },
    pace: Pace { heartbeat_ms: None, interval_ms_min: 20 },
};

/// What travels.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Txs(Vec<Arc<[u8]>>),
    /// The sender has decided, or votes at, this height.
    At(u64),
    AskBlock(u64),
    Block(Block),
    Offer(Manifest),
    AskChunk {
        height: u64,
        index: u32,
    },
    Chunk {
        height: u64,
        index: u32,
        bytes: Vec<u8>,
    },
    NoChunk {
        height: u64,
    },
}

/// What happens next.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Deliver {
        from: u8,
        to: u8,
        session: u64,
        message: Message,
    },
    Connect {
        a: u8,
        b: u8,
    },
    Tick {
        node: u8,
        at: u64,
    },
    Status {
        node: u8,
        life: u64,
    },
    Restart {
        node: u8,
    },
    Submit,
    Chaos,
    Lie,
    /// Consensus tries to decide.
    Decide {
        height: u64,
    },
    /// A node hears of it.
    Decided {
        node: u8,
        life: u64,
        height: u64,
    },
    Certified {
        node: u8,
        life: u64,
        height: u64,
    },
}

/// What a crash leaves.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// The state from which blocks are replayed. `None`: genesis.
    pub(crate) base: Option<App>,
    pub(crate) blocks: Vec<Block>,
    /// What is served to others: the last few, the newest at the end.
    pub(crate) snapshots: Vec<(u64, Vec<u8>)>,
}

impl Disk {
    pub(crate) fn block(&self, height: u64) -> Option<&Block> {
        self.blocks.iter().find(|block| block.height == height)
    }
}

#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) node: Node<crate::toy::Checked, u8, u64>,
    pub(crate) app: App,
    /// What is in the chain, as far as this node knows.
    pub(crate) included: BTreeSet<TxId>,
    pub(crate) tick_at: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) disk: Disk,
    pub(crate) up: Option<Up>,
    pub(crate) life: u64,
}

/// What may go wrong, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) twice: u64,
    pub(crate) crash: u64,
    pub(crate) delay_ms_max: u64,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) random: Random,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    pub(crate) hosts: BTreeMap<u8, Host>,
    pub(crate) liar: u8,
    pub(crate) links: BTreeMap<(u8, u8), u64>,
    sessions: u64,
    pub(crate) weather: Weather,
    /// Decided blocks with what proves them.
    pub(crate) chain: Vec<Block>,
    /// The state after the last of them.
    pub(crate) state: App,
    pub(crate) genesis: App,
    /// Who has started the height after it.
    pub(crate) started: BTreeSet<u8>,
    pub(crate) auditor: Auditor,
    pub(crate) submitting: bool,
    /// Whether honest nodes have snapshots to offer.
    pub(crate) serving: bool,
    pub(crate) lying: bool,
    /// How often any node has started a height.
    pub(crate) starts: u64,
    pub(crate) trace: u64,
}

impl World {
    /// `honest` nodes, of which the last has no weight, and after them a liar with some.
    pub(crate) fn new(seed: u64, honest: u8) -> World {
        let mut random = Random::new(seed);
        let mut powers: BTreeMap<u8, u64> =
            (0..honest - 1).map(|node| (node, 2 + random.below(4))).collect();
        let total: u64 = powers.values().sum();
        // Below a third of all with it.
        powers.insert(honest, (total - 1) / 2);
        let genesis = App::genesis(powers);
        let weather = Weather {
            loss: random.below(120),
            twice: random.below(80),
            crash: random.below(4),
            delay_ms_max: 5 + random.below(120),
        };
        let mut world = World {
            now: 0,
            random,
            events: BTreeMap::new(),
            count: 0,
            hosts: (0..honest).map(|node| (node, Host::default())).collect(),
            liar: honest,
            links: BTreeMap::new(),
            sessions: 0,
            weather,
            chain: Vec::new(),
            state: genesis.clone(),
            genesis,
            started: BTreeSet::new(),
            auditor: Auditor::default(),
            submitting: true,
            serving: !seed.is_multiple_of(5),
            lying: true,
            starts: 0,
            trace: 0xcbf2_9ce4_8422_2325,
        };
        for node in 0..honest {
            world.boot(node);
        }
        for event in [Event::Submit, Event::Chaos, Event::Lie] {
            world.after(5, event);
        }
        world
    }

    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.count += 1;
        self.events.insert((self.now + ms, self.count), event);
    }

    /// Lets everything happen until then.
    pub(crate) fn run(&mut self, until: u64) {
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= until
        {
            let ((now, _), event) = entry.remove_entry();
            self.now = now;
            self.happen(event);
        }
        self.now = until;
    }

    /// Mixes what happened into the digest of the run.
    pub(crate) fn note(&mut self, facts: &[u64]) {
        for fact in [&[self.now], facts].concat() {
            self.trace = (self.trace ^ fact).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, session, message } => {
                if self.links.get(&pair(from, to)) == Some(&session) {
                    self.deliver(session, from, to, message);
                }
            }
            Event::Connect { a, b } => self.connect(a, b),
            Event::Tick { node, at } => {
                let up = self.hosts.get_mut(&node).and_then(|host| host.up.as_mut());
                if let Some(up) = up.filter(|up| up.tick_at == Some(at)) {
                    up.tick_at = None;
                    self.feed(node, Input::Tick);
                }
            }
            Event::Status { node, life } => {
                if self.is_up(node, life) {
                    self.status(node);
                    self.after(STATUS_MS, Event::Status { node, life });
                }
            }
            Event::Restart { node } => {
                if self.hosts.get(&node).is_some_and(|host| host.up.is_none()) {
                    self.boot(node);
                }
            }
            Event::Submit => self.submit_something(),
            Event::Chaos => self.chaos(),
            Event::Lie => self.lie(),
            Event::Decide { height } => self.decide(height),
            Event::Decided { node, life, height } => {
                if self.is_up(node, life) {
                    let block = self.chain[height as usize - 1].clone();
                    self.follow(node, &block);
                }
            }
            Event::Certified { node, life, height } => {
                if self.is_up(node, life) {
                    self.certify(node, height);
                }
            }
        }
    }

    pub(crate) fn is_up(&self, node: u8, life: u64) -> bool {
        self.hosts.get(&node).is_some_and(|host| host.up.is_some() && host.life == life)
    }

    pub(crate) fn app(&self, node: u8) -> Option<&App> {
        Some(&self.hosts.get(&node)?.up.as_ref()?.app)
    }

    pub(crate) fn is_honest(&self, node: u8) -> bool {
        node != self.liar
    }

    /// Everybody who could be reached.
    pub(crate) fn everybody(&self) -> Vec<u8> {
        let up = self.hosts.iter().filter(|(_, host)| host.up.is_some());
        up.map(|(node, _)| *node).chain([self.liar]).collect()
    }

    pub(crate) fn peers(&self, node: u8) -> Vec<u8> {
        let others = self.everybody();
        others.into_iter().filter(|other| self.links.contains_key(&pair(node, *other))).collect()
    }

    /// A node comes up with what its disk has.
    pub(crate) fn boot(&mut self, node: u8) {
        let genesis = self.genesis.clone();
        let now = self.now;
        let host = self.hosts.get_mut(&node).unwrap();
        let mut app = host.disk.base.clone().unwrap_or(genesis);
        let mut included = BTreeSet::new();
        for block in &host.disk.blocks {
            app.execute(block);
            included.extend(block.txs.iter().map(|tx| tx_id(tx)));
        }
        host.life += 1;
        let life = host.life;
        let machine = Node::new(CONFIG, tip(&app));
        host.up = Some(Up { node: machine, app, included, tick_at: None });
        self.note(&[1, u64::from(node), now]);
        let executed = self.hosts[&node].disk.blocks.last().cloned();
        if let Some(block) = executed {
            let app = self.app(node).unwrap().clone();
            self.auditor.executed(&block, &app);
        }
        for other in self.everybody() {
            let ms = 1 + self.random.below(30);
            if other != node {
                self.after(ms, Event::Connect { a: node, b: other });
            }
        }
        let ms = 1 + self.random.below(STATUS_MS);
        self.after(ms, Event::Status { node, life });
        self.feed(node, Input::Tick);
    }

    /// All that is not on the disk is gone.
    pub(crate) fn crash(&mut self, node: u8) {
        self.hosts.get_mut(&node).unwrap().up = None;
        self.started.remove(&node);
        self.auditor.crashed(node);
        self.note(&[2, u64::from(node)]);
        for other in self.everybody() {
            self.disconnect(node, other);
        }
        let ms = 50 + self.random.below(800);
        self.after(ms, Event::Restart { node });
    }

    fn connect(&mut self, a: u8, b: u8) {
        let up = self.everybody();
        if self.links.contains_key(&pair(a, b)) || !up.contains(&a) || !up.contains(&b) {
            return;
        }
        self.sessions += 1;
        self.links.insert(pair(a, b), self.sessions);
        self.note(&[3, u64::from(a), u64::from(b)]);
        for (node, peer) in [(a, b), (b, a)] {
            // The first may have crashed over it.
            if !self.links.contains_key(&pair(a, b)) {
                return;
            }
            if self.is_honest(node) {
                self.feed(node, Input::PeerConnected { peer });
                self.greet(node, peer);
            } else if self.lying {
                self.flatter(peer);
            }
        }
    }

    pub(crate) fn disconnect(&mut self, a: u8, b: u8) {
        if self.links.remove(&pair(a, b)).is_none() {
            return;
        }
        self.note(&[4, u64::from(a), u64::from(b)]);
        for (node, peer) in [(a, b), (b, a)] {
            if self.is_honest(node) {
                self.feed(node, Input::PeerGone { peer });
            }
        }
    }

    pub(crate) fn send(&mut self, from: u8, to: u8, message: Message) {
        let Some(session) = self.links.get(&pair(from, to)).copied() else { return };
        if self.random.permille(self.weather.loss) {
            self.auditor.seen.lost += 1;
            return;
        }
        let copies = if self.random.permille(self.weather.twice) { 2 } else { 1 };
        for _ in 0..copies {
            let ms = 1 + self.random.below(self.weather.delay_ms_max);
            let message = message.clone();
            self.after(ms, Event::Deliver { from, to, session, message });
        }
    }

    /// Connections break and nodes die.
    fn chaos(&mut self) {
        if self.weather.crash == 0 && self.weather.loss == 0 {
            return;
        }
        let up = self.everybody();
        let (a, b) = (self.random.pick(&up).unwrap(), self.random.pick(&up).unwrap());
        if a != b && self.random.permille(400) {
            self.disconnect(a, b);
            let ms = self.random.below(600);
            self.after(ms, Event::Connect { a, b });
        }
        if self.is_honest(a) && self.hosts[&a].up.is_some() && self.random.permille(60) {
            self.crash(a);
        }
        let ms = 50 + self.random.below(200);
        self.after(ms, Event::Chaos);
    }
}

pub(crate) fn pair(a: u8, b: u8) -> (u8, u8) {
    (a.min(b), a.max(b))
}

pub(crate) fn tip(app: &App) -> Tip {
    Tip { height: Height(app.height), time: TimeMs(app.time), next_due: None }
}
