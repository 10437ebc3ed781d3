//! Snapshots of the state: given to peers that begin, and taken from peers when this node begins. Which
//! one, from whom and whether it is right, the machine in `replication::sync` decides; here are the store,
//! the messages and the way to a certified header.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use keys::Ed25519;
use light::{Bisection, LightBlock, LightError, Next, Rules, TrustedState};
use replication::{
    node::Input,
    sync::{self, Manifest, SyncLimits, Trusted},
};
use store::{Anchor, BlockStore, StoreError};
use tokio::sync::mpsc;
use types::{Hash32, Height, PublicKey, genesis::Genesis};

use super::{Host, Members, node_tip};
use crate::{Application, ReplicaError, chain::Parent, peers::PeerMessage};

/// How long a peer may take for a header before another is asked.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Questions about snapshots that a peer gets answered in a second; the chunks in it are at most 16 MiB.
const ANSWERS_PER_SECOND: u32 = 32;
/// A snapshot that nobody asks for goes out of memory after this long.
const OFFER_KEPT: Duration = Duration::from_secs(60);

/// What this node gives to others, and how it begins itself.
pub(super) struct Snapshots {
    offer: Option<Offer>,
    /// Peers that wait for the offer that is being read.
    askers: Option<Vec<PublicKey>>,
    read: mpsc::Sender<Read>,
    pub(super) ready: mpsc::Receiver<Read>,
    served: BTreeMap<PublicKey, (Instant, u32)>,
    certifying: Option<Certifying>,
    /// The header that the snapshot being fetched will be held against.
    certified: Option<LightBlock>,
}

/// A snapshot as it came from the disk, if there is one.
pub(super) struct Read(Result<Option<Offer>, StoreError>);

/// A snapshot that is being given away.
struct Offer {
    manifest: Manifest,
    bytes: Arc<Vec<u8>>,
    used: Instant,
}

/// The way from what is trusted to the header of one height.
struct Certifying {
    target: Height,
    stage: Stage,
    asked: Option<(PublicKey, Instant)>,
    /// Peers that did not have the header that is wanted, or gave a wrong one.
    tried: BTreeSet<PublicKey>,
}

enum Stage {
    /// The header that the operator trusts is fetched first.
    Anchor(Trusted),
    Bisection(Box<Bisection>),
}

impl Certifying {
    fn wanted(&self) -> Height {
        match &self.stage {
            Stage::Anchor(trusted) => trusted.height,
            Stage::Bisection(bisection) => bisection.wanted(),
        }
    }
}

impl Snapshots {
    pub(super) fn new() -> Snapshots {
        let (read, ready) = mpsc::channel(1);
        Snapshots {
            offer: None,
            askers: None,
            read,
            ready,
            served: BTreeMap::new(),
            certifying: None,
            certified: None,
        }
    }

    pub(super) fn gone(&mut self, peer: &PublicKey) {
        self.served.remove(peer);
    }

    /// Whether `peer` may ask once more.
    fn may_serve(&mut self, peer: PublicKey) -> bool {
        let now = Instant::now();
        let (since, count) = self.served.entry(peer).or_insert((now, 0));
        if since.elapsed() >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= ANSWERS_PER_SECOND
    }

    /// When a header is overdue.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (_, until) = self.certifying.as_ref()?.asked?;
        Some(until)
    }
}

fn read_offer(store: &BlockStore) -> Result<Option<Offer>, StoreError> {
    let Some((height, bytes)) = store.snapshot()? else { return Ok(None) };
    let manifest = Manifest::of(height, &bytes, SyncLimits::STANDARD.chunk_bytes_max);
    Ok(Some(Offer { manifest, bytes: Arc::new(bytes), used: Instant::now() }))
}

/// The header of a height with what proves it, if the block is here.
fn header_of(store: &BlockStore, height: Height) -> Result<Option<LightBlock>, StoreError> {
    let Some(block) = store.block(height)? else { return Ok(None) };
    let Some(validators) = store.validators(block.header.validators)? else { return Ok(None) };
    Ok(Some(LightBlock { header: block.header, certificate: block.certificate, validators }))
}

// Giving.

impl<A: Application> Host<A> {
    pub(super) fn snapshot_wanted(&mut self, peer: PublicKey) {
        if !self.snapshots.may_serve(peer) {
            return;
        }
        let tip = self.parts.worker.parent.height.0;
        let newest = tip.saturating_sub(self.parts.worker.snapshot_interval);
        if let Some(offer) = &self.snapshots.offer
            && offer.manifest.height.0 >= newest
        {
            let manifest = offer.manifest.clone();
            return self.tell(peer, PeerMessage::Snapshot(manifest));
        }
        if let Some(askers) = &mut self.snapshots.askers {
            return askers.push(peer);
        }
        self.snapshots.askers = Some(vec![peer]);
        let (store, read) = (Arc::clone(&self.parts.worker.store), self.snapshots.read.clone());
        self.runtime.spawn_blocking(move || {
            // A replica that has stopped gives nothing away.
            let _ = read.blocking_send(Read(read_offer(&store)));
        });
    }

    pub(super) fn snapshot_read(&mut self, Read(offer): Read) {
        let askers = self.snapshots.askers.take().unwrap_or_default();
        match offer {
            Ok(None) => {}
            Ok(Some(offer)) => {
                for peer in askers {
                    self.tell(peer, PeerMessage::Snapshot(offer.manifest.clone()));
                }
                self.snapshots.offer = Some(offer);
            }
            Err(error) => tracing::error!(%error, "the snapshot cannot be given to peers"),
        }
    }

    pub(super) fn chunk_wanted(&mut self, peer: PublicKey, height: Height, index: u32) {
        if !self.snapshots.may_serve(peer) {
            return;
        }
        let offer = self.snapshots.offer.as_mut();
        let bytes = offer.filter(|offer| offer.manifest.height == height).and_then(|offer| {
            offer.used = Instant::now();
            let mut chunks = offer.bytes.chunks(SyncLimits::STANDARD.chunk_bytes_max);
            chunks.nth(usize::try_from(index).ok()?).map(<[u8]>::to_vec)
        });
        self.tell(peer, PeerMessage::Chunk { height, index, bytes });
    }

    pub(super) fn header_wanted(&mut self, peer: PublicKey, height: Height) {
        if !self.snapshots.may_serve(peer) {
            return;
        }
        let block = header_of(&self.parts.worker.store, height).unwrap_or_else(|error| {
            tracing::error!(%error, %height, "a header cannot be given to a peer");
            None
        });
        self.tell(peer, PeerMessage::Header { height, block: block.map(Box::new) });
    }
}

// Taking.

impl<A: Application> Host<A> {
    /// Begins with a snapshot if the operator wants that and nothing is here yet.
    pub(super) fn begin_state_sync(&mut self) {
        let Some(wanted) = &self.parts.config.state_sync else { return };
        let (trusted, height) = (wanted.trusted, self.parts.worker.parent.height);
        if height > Height(0) {
            tracing::info!(%height, "blocks are here already; no snapshot is needed");
            return;
        }
        tracing::info!("looking for a snapshot of the state");
        let preferred = self.parts.config.engine.peers.iter().map(|peer| peer.node_key).collect();
        self.step(Input::Behind { trusted, preferred });
    }

    pub(super) fn is_syncing(&self) -> bool {
        self.node.sync().is_some()
    }

    /// What is overdue, and what nobody needs any more.
    pub(super) fn tend_snapshots(&mut self) {
        if self.snapshots.offer.as_ref().is_some_and(|offer| offer.used.elapsed() > OFFER_KEPT) {
            self.snapshots.offer = None;
        }
        if self.snapshots.deadline().is_some_and(|until| until <= Instant::now()) {
            self.ask_another();
        }
    }

    /// Finds the header of `height`, certified.
    pub(super) fn certify(&mut self, height: Height, from: Option<Trusted>) {
        let stage = match from {
            Some(trusted) => Stage::Anchor(trusted),
            None => {
                let trusted = TrustedState::from_genesis(self.parts.worker.store.genesis());
                Stage::Bisection(Box::new(self.bisection(trusted, height)))
            }
        };
        let tried = BTreeSet::new();
        self.snapshots.certifying = Some(Certifying { target: height, stage, asked: None, tried });
        self.ask();
    }

    fn bisection(&self, trusted: TrustedState, target: Height) -> Bisection {
        let genesis: &Genesis = self.parts.worker.store.genesis();
        Bisection::new(trusted, target, self.now(), Rules::of(&genesis.params))
    }

    /// Asks a peer for the header that is wanted next.
    fn ask(&mut self) {
        let Some(certifying) = &mut self.snapshots.certifying else { return };
        let tried = &certifying.tried;
        let Some(peer) = self.parts.connected.iter().find(|peer| !tried.contains(peer)).copied()
        else {
            return self.not_certified("no peer has the headers that it takes");
        };
        certifying.asked = Some((peer, Instant::now() + HEADER_TIMEOUT));
        let height = certifying.wanted();
        self.tell(peer, PeerMessage::HeaderWanted { height });
    }

    fn ask_another(&mut self) {
        if let Some(certifying) = &mut self.snapshots.certifying {
            certifying.tried.extend(certifying.asked.take().map(|(peer, _)| peer));
        }
        self.ask();
    }

    fn not_certified(&mut self, why: &str) {
        if let Some(Certifying { target: height, .. }) = self.snapshots.certifying.take() {
            tracing::warn!(%height, why, "the header of a snapshot is not certified");
            self.step(Input::Sync(sync::Input::NotCertified { height }));
        }
    }

    /// A header that came, perhaps the one that was asked for.
    pub(super) fn header(&mut self, peer: PublicKey, height: Height, block: Option<LightBlock>) {
        let Some(certifying) = &self.snapshots.certifying else {
            // Asked for to see that it is decided. If it has been decided here meanwhile, that is old news.
            if let Some(block) = block.filter(|_| height == self.parts.worker.height()) {
                self.hear_decided(peer, &block.certificate);
            }
            return;
        };
        let is_asked = certifying.asked.is_some_and(|(asked, _)| asked == peer);
        if !is_asked || certifying.wanted() != height {
            // Late, or somebody else's answer.
            return;
        }
        let Some(block) = block else { return self.ask_another() };
        match self.take_header(block) {
            Ok(None) => self.ask(),
            Ok(Some(block)) => {
                self.snapshots.certifying = None;
                let app_hash = block.header.app_hash;
                self.snapshots.certified = Some(block);
                let height = self.snapshots.certified.as_ref().map_or(height, LightBlock::height);
                self.step(Input::Sync(sync::Input::Certified { height, app_hash }));
            }
            Err(error @ (LightError::Expired { .. } | LightError::TooMany { .. })) => {
                self.not_certified(&error.to_string());
            }
            // The operator may have mistaken the digest.
            Err(LightError::OtherBlock { .. }) => self.ask_another(),
            Err(error) => {
                self.drop_peer(peer, format!("it gave a header that proves nothing: {error}"));
                self.ask_another();
            }
        }
    }

    /// Goes on with a header. Gives the target when it is reached.
    fn take_header(&mut self, block: LightBlock) -> Result<Option<LightBlock>, LightError> {
        let Some(certifying) = &mut self.snapshots.certifying else { return Ok(None) };
        let target = certifying.target;
        let bisection = match &mut certifying.stage {
            Stage::Bisection(bisection) => bisection,
            Stage::Anchor(Trusted { height, header }) => {
                let chain_id = self.parts.worker.chain_id.clone();
                let named = (*height, *header);
                let trusted = TrustedState::from_header(chain_id, named, block, &Ed25519)?;
                if trusted.height() == target {
                    return Ok(trusted.block().cloned());
                }
                let bisection = self.bisection(trusted, target);
                if let Some(certifying) = &mut self.snapshots.certifying {
                    certifying.stage = Stage::Bisection(Box::new(bisection));
                }
                return Ok(None);
            }
        };
        let next = bisection.supply(block, &Ed25519);
        // What proved nothing must not stand in the way of what somebody else gives.
        let reached = next.is_err().then(|| bisection.trusted().clone());
        if let Some(trusted) = reached {
            let again = self.bisection(trusted, target);
            if let Some(certifying) = &mut self.snapshots.certifying {
                certifying.stage = Stage::Bisection(Box::new(again));
            }
        }
        match next? {
            Next::Fetch(_) => Ok(None),
            Next::Reached(trusted) => Ok(trusted.block().cloned()),
        }
    }

    /// Becomes a snapshot whose chunks are all here, if it is what the certified header says.
    pub(super) fn restore(&mut self, height: Height, app_hash: Hash32, bytes: &[u8]) {
        let block = self.snapshots.certified.take();
        let block = block.filter(|it| it.height() == height && it.header.app_hash == app_hash);
        let Some(LightBlock { header, certificate, validators }) = block else {
            return self.not_restored("its header is not certified");
        };
        let worker = &mut self.parts.worker;
        let before = worker.app.snapshot();
        if let Err(error) = worker.app.restore(bytes) {
            return self.not_restored(&error.source.to_string());
        }
        let found = worker.app.tip();
        let anchor = Anchor { header, certificate, validators };
        let is_right = (found.height, found.app_hash) == (height, app_hash);
        let kept = if is_right { worker.store.adopt(&anchor, bytes) } else { Ok(()) };
        if !is_right || kept.is_err() {
            // Never an open question: it was made a moment ago.
            let back = before.and_then(|before| worker.app.restore(&before));
            if let Err(source) = back {
                self.failure = Some(ReplicaError::App { height, source });
            }
        }
        match kept {
            Err(source) => self.failure = Some(ReplicaError::Store { height, source }),
            Ok(()) if !is_right => self.not_restored("it is another state than its header says"),
            Ok(()) => {
                worker.parent = Parent::of_anchor(anchor);
                self.forget_proposals();
                self.validators = self.parts.worker.validators();
                self.members = Members::of(&self.validators);
                tracing::info!(%height, "the state is that of a snapshot; blocks after it follow");
                self.show();
                let senders: Vec<_> = self.node.mempool().senders().copied().collect();
                let (tip, nonces) = (node_tip(&self.parts.worker), self.nonces(senders));
                self.step(Input::Restored { tip, nonces });
            }
        }
    }

    /// There is no snapshot to be had. Somebody who trusts a certain block would not want what does not
    /// follow from it.
    pub(super) fn no_snapshot(&mut self) {
        match self.parts.config.state_sync.and_then(|wanted| wanted.trusted) {
            Some(Trusted { height, .. }) => {
                self.failure = Some(ReplicaError::NoSnapshot { height })
            }
            None => tracing::warn!("no peer has a snapshot that can be used; blocks are replayed"),
        }
    }

    fn not_restored(&mut self, why: &str) {
        tracing::warn!(why, "a snapshot is not used");
        self.step(Input::Sync(sync::Input::NotRestored));
    }
}
