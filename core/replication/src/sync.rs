//! Catching up from a snapshot of the state instead of from every block.
//!
//! One peer at a time is asked for chunks, each checked against the digest that its offer names;
//! the whole is checked by whoever restores it, against the application hash of a certified header.
//! So a liar costs time and nothing else: a bad chunk or a wrong whole drops it, silence makes the
//! next one be asked. Chunks that another peer offers under the same digests are kept. When there
//! is nobody left to ask, the node replays blocks.

use std::collections::{BTreeMap, BTreeSet};

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Hash32, Height, TimeMs,
    hash::{merkle_leaf, merkle_root},
};

#[cfg(test)]
mod tests;

/// How much is asked for at once, believed and waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncLimits {
    /// Below this many blocks behind, replaying them is quicker.
    pub behind_min: u64,
    /// So long offers are gathered before one is chosen.
    pub gather_ms: u64,
    pub offers_max: usize,
    pub chunk_bytes_max: usize,
    pub chunks_max: usize,
    /// Chunks asked for and not yet here.
    pub in_flight_max: usize,
    pub chunk_ms_max: u64,
    /// How often one chunk is asked of one peer.
    pub asks_max: u32,
    /// For a certified header.
    pub certify_ms_max: u64,
    /// Snapshots begun before the node replays blocks.
    pub attempts_max: u32,
}

impl SyncLimits {
    /// A snapshot of up to 1 GiB, for a node whose operator wants one: whatever it is behind.
    pub const STANDARD: SyncLimits = SyncLimits {
        behind_min: 1,
        gather_ms: 5_000,
        offers_max: 64,
        chunk_bytes_max: 512 * 1024,
        chunks_max: 2_048,
        in_flight_max: 4,
        chunk_ms_max: 10_000,
        asks_max: 3,
        certify_ms_max: 60_000,
        attempts_max: 8,
    };
}

/// A block that the operator trusts; nothing before it is of interest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trusted {
    pub height: Height,
    pub header: Hash32,
}

/// What a snapshot consists of.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, BorshSerialize, BorshDeserialize,
)]
pub struct Manifest {
    /// Of the last block in it.
    pub height: Height,
    pub bytes: u64,
    /// Digests ([`chunk_hash`]) of its parts of [`SyncLimits::chunk_bytes_max`] bytes, the last one
    /// as long as the rest.
    pub chunks: Vec<Hash32>,
}

/// The digest of a chunk.
pub fn chunk_hash(chunk: &[u8]) -> Hash32 {
    merkle_leaf(chunk)
}

impl Manifest {
    /// Of a whole snapshot.
    pub fn of(height: Height, snapshot: &[u8], chunk_bytes: usize) -> Manifest {
        let chunks = snapshot.chunks(chunk_bytes.max(1)).map(chunk_hash).collect();
        Manifest { height, bytes: snapshot.len() as u64, chunks }
    }

    /// Names it.
    pub fn hash(&self) -> Hash32 {
        merkle_root(&self.chunks)
    }

    fn is_possible(&self, limits: &SyncLimits) -> bool {
        let chunk_bytes = (limits.chunk_bytes_max as u64).max(1);
        let count = self.chunks.len() as u64;
        self.chunks.len() <= limits.chunks_max
            && self.bytes > 0
            && count == self.bytes.div_ceil(chunk_bytes)
    }

    fn chunk_len(&self, index: u32, limits: &SyncLimits) -> u64 {
        let chunk_bytes = limits.chunk_bytes_max as u64;
        let before = u64::from(index).saturating_mul(chunk_bytes);
        self.bytes.saturating_sub(before).min(chunk_bytes)
    }
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input<P> {
    /// A peer has a snapshot.
    Offer {
        peer: P,
        manifest: Manifest,
    },
    PeerGone {
        peer: P,
    },
    /// The header of this height has a valid certificate, and this application hash.
    Certified {
        height: Height,
        app_hash: Hash32,
    },
    /// No certificate of that height is to be had.
    NotCertified {
        height: Height,
    },
    Chunk {
        peer: P,
        height: Height,
        index: u32,
        bytes: Vec<u8>,
    },
    /// The peer does not have that snapshot any more.
    NoChunk {
        peer: P,
        height: Height,
    },
    /// The application has become the snapshot.
    Restored,
    /// The snapshot does not have the certified application hash, or is none.
    NotRestored,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect<P> {
    /// Find the header of this height, certified by a chain of validator sets that begins at
    /// `from`, or at genesis.
    Certify {
        height: Height,
        from: Option<Trusted>,
    },
    Request {
        peer: P,
        height: Height,
        index: u32,
    },
    /// Become the state in `bytes` if its hash is `app_hash`, and say [`Input::Restored`] or
    /// [`Input::NotRestored`].
    Restore {
        height: Height,
        app_hash: Hash32,
        bytes: Vec<u8>,
    },
    /// Close the connection: it lied.
    Drop {
        peer: P,
    },
    /// Replay blocks, from the tip or from genesis.
    GiveUp,
    /// Blocks after this height are to be replayed; nothing is left to do here.
    Done {
        height: Height,
    },
}

/// A node that catches up.
#[derive(Debug)]
pub struct Sync<P> {
    limits: SyncLimits,
    tip: Height,
    trusted: Option<Trusted>,
    started: TimeMs,
    /// The first of each peer.
    offers: BTreeMap<P, Manifest>,
    /// Peers whose offers are tried first.
    preferred: BTreeSet<P>,
    /// Peers that are not asked again.
    avoided: BTreeSet<P>,
    attempts: u32,
    stage: Stage<P>,
}

#[derive(Debug)]
enum Stage<P> {
    Gathering,
    /// `from`: who offered it when it was chosen.
    Certifying {
        manifest: Manifest,
        from: BTreeSet<P>,
        until: TimeMs,
    },
    Fetching(Fetch<P>),
    Restoring {
        manifest: Manifest,
        from: BTreeSet<P>,
    },
    Over,
}

/// A snapshot of which chunks arrive.
#[derive(Debug)]
struct Fetch<P> {
    manifest: Manifest,
    app_hash: Hash32,
    peer: P,
    /// Everybody who gave a chunk.
    from: BTreeSet<P>,
    chunks: BTreeMap<u32, Vec<u8>>,
    in_flight: BTreeMap<u32, Ask>,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    until: TimeMs,
    times: u32,
}

impl<P: Ord + Copy> Sync<P> {
    /// `tip` is where the node stands.
    pub fn new(limits: SyncLimits, tip: Height, trusted: Option<Trusted>, now: TimeMs) -> Sync<P> {
        Sync {
            limits,
            tip,
            trusted,
            started: now,
            offers: BTreeMap::new(),
            preferred: BTreeSet::new(),
            avoided: BTreeSet::new(),
            attempts: 0,
            stage: Stage::Gathering,
        }
    }

    /// Tries the offers of these peers before those of others: strangers can be any number.
    #[must_use]
    pub fn preferring(self, preferred: BTreeSet<P>) -> Sync<P> {
        Sync { preferred, ..self }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Chunks that are here and how many there are to be.
    pub fn progress(&self) -> Option<(usize, usize)> {
        match &self.stage {
            Stage::Fetching(fetch) => Some((fetch.chunks.len(), fetch.manifest.chunks.len())),
            Stage::Restoring { manifest, .. } => {
                Some((manifest.chunks.len(), manifest.chunks.len()))
            }
            Stage::Gathering | Stage::Certifying { .. } | Stage::Over => None,
        }
    }

    /// When a [`Input::Tick`] has something to do.
    pub fn next_tick(&self) -> Option<TimeMs> {
        match &self.stage {
            Stage::Gathering => Some(self.started.plus_ms(self.limits.gather_ms)),
            Stage::Certifying { until, .. } => Some(*until),
            Stage::Fetching(fetch) => fetch.in_flight.values().map(|ask| ask.until).min(),
            Stage::Restoring { .. } | Stage::Over => None,
        }
    }

    pub fn step(&mut self, now: TimeMs, input: Input<P>) -> Vec<Effect<P>> {
        match input {
            Input::Offer { peer, manifest } => self.offer(peer, manifest),
            Input::PeerGone { peer } => self.gone(now, peer),
            Input::Certified { height, app_hash } => self.certified(now, height, app_hash),
            Input::NotCertified { height } => self.not_certified(now, height),
            Input::Chunk { peer, height, index, bytes } => {
                self.chunk(now, peer, height, index, bytes)
            }
            Input::NoChunk { peer, height } => self.no_chunk(now, peer, height),
            Input::Restored => self.restored(),
            Input::NotRestored => self.not_restored(now),
            Input::Tick => self.tick(now),
        }
    }

    fn offer(&mut self, peer: P, manifest: Manifest) -> Vec<Effect<P>> {
        if self.is_over() || self.avoided.contains(&peer) {
            return Vec::new();
        }
        if !manifest.is_possible(&self.limits) {
            self.avoid(peer);
            return vec![Effect::Drop { peer }];
        }
        if self.offers.len() < self.limits.offers_max || self.preferred.contains(&peer) {
            self.offers.entry(peer).or_insert(manifest);
        }
        Vec::new()
    }

    fn gone(&mut self, now: TimeMs, peer: P) -> Vec<Effect<P>> {
        self.offers.remove(&peer);
        match &self.stage {
            Stage::Fetching(fetch) if fetch.peer == peer => self.change_peer(now),
            Stage::Fetching(_)
            | Stage::Gathering
            | Stage::Certifying { .. }
            | Stage::Restoring { .. }
            | Stage::Over => Vec::new(),
        }
    }

    fn tick(&mut self, now: TimeMs) -> Vec<Effect<P>> {
        match &mut self.stage {
            Stage::Gathering if now.ms_since(self.started) >= self.limits.gather_ms => {
                self.choose(now)
            }
            Stage::Certifying { manifest, until, .. } if *until <= now => {
                let height = manifest.height;
                self.not_certified(now, height)
            }
            Stage::Fetching(fetch) => {
                let asks_max = self.limits.asks_max;
                let silent = |ask: &Ask| ask.until <= now && ask.times >= asks_max;
                if fetch.in_flight.values().any(silent) {
                    self.avoid_current();
                    return self.change_peer(now);
                }
                fetch.ask(&self.limits, now)
            }
            Stage::Gathering | Stage::Certifying { .. } | Stage::Restoring { .. } | Stage::Over => {
                Vec::new()
            }
        }
    }

    /// Of those that preferred peers offer, or of all if they offer none, the newest snapshot, of equal
    /// ones that which most peers offer, is tried.
    fn choose(&mut self, now: TimeMs) -> Vec<Effect<P>> {
        let tip = self.tip.0.saturating_add(self.limits.behind_min);
        let least = Height(self.trusted.map_or(tip, |trusted| trusted.height.0.max(tip)));
        let mut counts: BTreeMap<&Manifest, (bool, usize)> = BTreeMap::new();
        for (peer, manifest) in self.offers.iter().filter(|(_, it)| it.height >= least) {
            let (is_preferred, count) = counts.entry(manifest).or_default();
            *is_preferred |= self.preferred.contains(peer);
            *count = count.saturating_add(1);
        }
        let best = counts.into_iter().max_by_key(|(manifest, (is_preferred, count))| {
            (*is_preferred, manifest.height, *count)
        });
        match best.map(|(manifest, _)| manifest.clone()) {
            Some(manifest) if self.attempts < self.limits.attempts_max => {
                self.attempts = self.attempts.saturating_add(1);
                let height = manifest.height;
                let until = now.plus_ms(self.limits.certify_ms_max);
                let from = self.offers.iter().filter(|(_, offered)| **offered == manifest);
                let from = from.map(|(peer, _)| *peer).collect();
                self.stage = Stage::Certifying { manifest, from, until };
                vec![Effect::Certify { height, from: self.trusted }]
            }
            Some(_) | None => {
                self.stage = Stage::Over;
                vec![Effect::GiveUp]
            }
        }
    }

    fn certified(&mut self, now: TimeMs, height: Height, app_hash: Hash32) -> Vec<Effect<P>> {
        let manifest = match &self.stage {
            Stage::Certifying { manifest, .. } if manifest.height == height => manifest.clone(),
            Stage::Certifying { .. }
            | Stage::Gathering
            | Stage::Fetching(_)
            | Stage::Restoring { .. }
            | Stage::Over => return Vec::new(),
        };
        let Some(peer) = self.peer_with(&manifest) else { return self.choose(now) };
        let mut fetch = Fetch {
            manifest,
            app_hash,
            peer,
            from: BTreeSet::new(),
            chunks: BTreeMap::new(),
            in_flight: BTreeMap::new(),
        };
        let asked = fetch.ask(&self.limits, now);
        self.stage = Stage::Fetching(fetch);
        asked
    }

    /// Whoever offered a height that nobody can certify need not have lied, but is not listened to any
    /// more: it could go on with another height for ever.
    fn not_certified(&mut self, now: TimeMs, height: Height) -> Vec<Effect<P>> {
        let mut from = match &mut self.stage {
            Stage::Certifying { manifest, from, .. } if manifest.height == height => {
                std::mem::take(from)
            }
            Stage::Certifying { .. }
            | Stage::Gathering
            | Stage::Fetching(_)
            | Stage::Restoring { .. }
            | Stage::Over => return Vec::new(),
        };
        let offered = self.offers.iter().filter(|(_, manifest)| manifest.height == height);
        from.extend(offered.map(|(peer, _)| *peer));
        from.into_iter().for_each(|peer| self.avoid(peer));
        self.choose(now)
    }

    fn peer_with(&self, manifest: &Manifest) -> Option<P> {
        self.offers.iter().find(|(_, offered)| *offered == manifest).map(|(peer, _)| *peer)
    }

    /// Asks another peer that offers the same, or tries another snapshot.
    fn change_peer(&mut self, now: TimeMs) -> Vec<Effect<P>> {
        let Stage::Fetching(fetch) = &self.stage else { return Vec::new() };
        let next = self.peer_with(&fetch.manifest);
        let Stage::Fetching(fetch) = &mut self.stage else { return Vec::new() };
        match next {
            Some(peer) => {
                fetch.peer = peer;
                fetch.in_flight.clear();
                fetch.ask(&self.limits, now)
            }
            None => self.choose(now),
        }
    }

    fn chunk(
        &mut self,
        now: TimeMs,
        peer: P,
        height: Height,
        index: u32,
        bytes: Vec<u8>,
    ) -> Vec<Effect<P>> {
        let Stage::Fetching(fetch) = &mut self.stage else { return Vec::new() };
        // An answer that comes late, or twice, or to somebody else's question is nobody's fault.
        let asked = fetch.peer == peer && fetch.manifest.height == height;
        if !asked || fetch.in_flight.remove(&index).is_none() {
            return Vec::new();
        }
        let expected = usize::try_from(index).ok().and_then(|at| fetch.manifest.chunks.get(at));
        let right = bytes.len() as u64 == fetch.manifest.chunk_len(index, &self.limits)
            && expected == Some(&chunk_hash(&bytes));
        if !right {
            self.avoid(peer);
            let mut effects = vec![Effect::Drop { peer }];
            effects.extend(self.change_peer(now));
            return effects;
        }
        fetch.from.insert(peer);
        fetch.chunks.insert(index, bytes);
        if fetch.chunks.len() < fetch.manifest.chunks.len() {
            return fetch.ask(&self.limits, now);
        }
        let mut bytes = Vec::new();
        for chunk in std::mem::take(&mut fetch.chunks).into_values() {
            bytes.extend_from_slice(&chunk);
        }
        let (height, app_hash) = (fetch.manifest.height, fetch.app_hash);
        let (manifest, from) = (fetch.manifest.clone(), std::mem::take(&mut fetch.from));
        self.stage = Stage::Restoring { manifest, from };
        vec![Effect::Restore { height, app_hash, bytes }]
    }

    fn no_chunk(&mut self, now: TimeMs, peer: P, height: Height) -> Vec<Effect<P>> {
        match &self.stage {
            Stage::Fetching(fetch) if fetch.peer == peer && fetch.manifest.height == height => {
                self.avoid(peer);
                self.change_peer(now)
            }
            Stage::Fetching(_)
            | Stage::Gathering
            | Stage::Certifying { .. }
            | Stage::Restoring { .. }
            | Stage::Over => Vec::new(),
        }
    }

    fn restored(&mut self) -> Vec<Effect<P>> {
        let Stage::Restoring { manifest, .. } = &self.stage else { return Vec::new() };
        let height = manifest.height;
        self.stage = Stage::Over;
        vec![Effect::Done { height }]
    }

    /// Every chunk was as offered, so the offer itself was a lie, and all who made it lied.
    fn not_restored(&mut self, now: TimeMs) -> Vec<Effect<P>> {
        let Stage::Restoring { manifest, from } = &mut self.stage else { return Vec::new() };
        let mut liars = std::mem::take(from);
        let offered = self.offers.iter().filter(|(_, offered)| *offered == manifest);
        liars.extend(offered.map(|(peer, _)| *peer));
        liars.iter().for_each(|peer| self.avoid(*peer));
        let mut effects: Vec<_> = liars.into_iter().map(|peer| Effect::Drop { peer }).collect();
        effects.extend(self.choose(now));
        effects
    }

    fn avoid_current(&mut self) {
        if let Stage::Fetching(fetch) = &self.stage {
            let peer = fetch.peer;
            self.avoid(peer);
        }
    }

    fn avoid(&mut self, peer: P) {
        self.offers.remove(&peer);
        self.avoided.insert(peer);
        if self.avoided.len() > self.limits.offers_max {
            self.avoided.pop_first();
        }
    }
}

impl<P: Copy> Fetch<P> {
    /// Asks for what is missing, as much at once as may be, and again for what does not come.
    fn ask(&mut self, limits: &SyncLimits, now: TimeMs) -> Vec<Effect<P>> {
        let until = now.plus_ms(limits.chunk_ms_max.max(1));
        let count = u32::try_from(self.manifest.chunks.len()).unwrap_or(u32::MAX);
        let mut asked = Vec::new();
        for (index, ask) in &mut self.in_flight {
            if ask.until <= now {
                *ask = Ask { until, times: ask.times.saturating_add(1) };
                asked.push(*index);
            }
        }
        for index in 0..count {
            if self.in_flight.len() >= limits.in_flight_max.max(1) {
                break;
            }
            if !self.chunks.contains_key(&index) && !self.in_flight.contains_key(&index) {
                self.in_flight.insert(index, Ask { until, times: 1 });
                asked.push(index);
            }
        }
        let (peer, height) = (self.peer, self.manifest.height);
        asked.into_iter().map(|index| Effect::Request { peer, height, index }).collect()
    }
}
