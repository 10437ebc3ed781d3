//! Starting and stopping the engine, and what of its many settings we decide.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_malachitebft_app_channel::{
    Channels, ConsensusContext, EngineBuilder, EngineHandle, NetworkContext, NetworkIdentity,
    RequestContext, SyncContext,
    app::{config::NodeConfig, types::Keypair},
};
use arc_malachitebft_codec::Codec;
use arc_malachitebft_config::{
    BootstrapProtocol, ConsensusConfig, DiscoveryConfig, P2pConfig, ProtocolNames, PubSubProtocol,
    ValuePayload, ValueSyncConfig,
};
use arc_malachitebft_core_consensus::Multiaddr;
use arc_malachitebft_core_types::LinearTimeouts;
use arc_malachitebft_engine::wal::Msg;
use bytesize::ByteSize;
use ractor::ActorRef;
use tokio::task::JoinSet;
use types::{ChainId, PublicKey, sign::Sign};
use zeroize::Zeroizing;

use super::{
    codec::{Borsh, MESSAGE_BYTES_MAX, SYNC_BYTES_MAX},
    context::{Consensus, Member},
    host::Ends,
    log::{self, HeightLog},
    signing::{ChainVerifier, Mark, MarkedSigner, validator_proof},
};
use crate::ReplicaError;

/// How often peers tell each other where they stand: how long a node that missed something may not
/// know it.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);
/// Decided blocks that are asked for at once.
const SYNC_BATCH: usize = 16;
/// How long the engine may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Questions to the engine that may wait.
const REQUESTS_MAX: usize = 16;

/// Another node of the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its transport key, which is not its consensus key.
    pub node_key: PublicKey,
    pub addr: SocketAddr,
}

/// How long each step of a round may take; each further round takes `step` longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    pub propose: Duration,
    pub prevote: Duration,
    pub precommit: Duration,
    pub step: Duration,
    /// From the beginning of a height, how long late precommits are still collected.
    pub gather: Duration,
}

impl Timeouts {
    /// For validators on different continents, whose clocks and disks are ordinary.
    pub const STANDARD: Timeouts = Timeouts {
        propose: Duration::from_secs(3),
        prevote: Duration::from_secs(1),
        precommit: Duration::from_secs(1),
        step: Duration::from_millis(500),
        gather: Duration::from_millis(150),
    };
}

impl From<Timeouts> for LinearTimeouts {
    fn from(of: Timeouts) -> LinearTimeouts {
        LinearTimeouts {
            propose: of.propose,
            propose_delta: of.step,
            prevote: of.prevote,
            prevote_delta: of.step,
            precommit: of.precommit,
            precommit_delta: of.step,
            rebroadcast: of.propose + of.prevote + of.precommit,
            max_timeout: Duration::from_secs(60),
        }
    }
}

/// What the engine needs.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Name in logs.
    pub moniker: String,
    /// Where other nodes connect. Port 0: any, for a network of one.
    pub listen: SocketAddr,
    /// Nodes that are dialled, and dialled again.
    pub peers: Vec<Peer>,
    /// Talks to `peers` only: for a validator that hides behind full nodes of its own (sentries).
    pub peers_only: bool,
    /// The secret half of the transport key.
    pub node_seed: Zeroizing<[u8; 32]>,
    /// The log of the height that is being decided: votes, proposals, blocks.
    pub wal: PathBuf,
    pub timeouts: Timeouts,
}

/// The engine's own form of the settings.
struct Settings {
    moniker: String,
    consensus: ConsensusConfig,
    sync: ValueSyncConfig,
}

impl NodeConfig for Settings {
    fn moniker(&self) -> &str {
        &self.moniker
    }

    fn consensus(&self) -> &ConsensusConfig {
        &self.consensus
    }

    fn consensus_mut(&mut self) -> &mut ConsensusConfig {
        &mut self.consensus
    }

    fn value_sync(&self) -> &ValueSyncConfig {
        &self.sync
    }

    fn value_sync_mut(&mut self) -> &mut ValueSyncConfig {
        &mut self.sync
    }
}

fn settings(config: &EngineConfig, chain_id: &ChainId) -> Result<Settings, ReplicaError> {
    let peers = config.peers.iter().map(peer_addr).collect::<Result<Vec<_>, _>>()?;
    let many = peers.len().max(8);
    let bytes = |count: usize| ByteSize::b(u64::try_from(count).unwrap_or(u64::MAX));
    // Nodes of another network do not even understand each other.
    let name = |of: &str| format!("/{chain_id}/{of}/1");
    let p2p = P2pConfig {
        listen_addr: tcp(config.listen)?,
        persistent_peers: peers,
        persistent_peers_only: config.peers_only,
        discovery: DiscoveryConfig {
            enabled: false,
            bootstrap_protocol: BootstrapProtocol::Full,
            num_outbound_peers: 4 * many,
            num_inbound_peers: 4 * many,
            // Validators of one owner, and test networks, share an address.
            max_connections_per_ip: 4 * many,
            ip_throttle_duration: Duration::from_secs(1),
            ..DiscoveryConfig::default()
        },
        protocol: PubSubProtocol::Broadcast,
        pubsub_max_size: bytes(MESSAGE_BYTES_MAX),
        rpc_max_size: bytes(SYNC_BYTES_MAX),
        protocol_names: ProtocolNames {
            consensus: name("consensus"),
            discovery_kad: name("discovery-kad"),
            discovery_regres: name("discovery"),
            sync: name("sync"),
            validator_proof: name("validator-proof"),
        },
        ..P2pConfig::default()
    };
    let consensus = ConsensusConfig {
        enabled: true,
        p2p,
        value_payload: ValuePayload::ProposalAndParts,
        ..ConsensusConfig::default()
    };
    let sync = ValueSyncConfig {
        enabled: true,
        status_update_interval: STATUS_INTERVAL,
        max_response_size: bytes(SYNC_BYTES_MAX),
        batch_size: SYNC_BATCH,
        ..ValueSyncConfig::default()
    };
    Ok(Settings { moniker: config.moniker.clone(), consensus, sync })
}

fn failed(reason: impl std::fmt::Display) -> ReplicaError {
    ReplicaError::Engine { reason: reason.to_string() }
}

fn tcp(addr: SocketAddr) -> Result<Multiaddr, ReplicaError> {
    let family = if addr.is_ipv4() { "ip4" } else { "ip6" };
    format!("/{family}/{}/tcp/{}", addr.ip(), addr.port()).parse().map_err(failed)
}

fn peer_addr(peer: &Peer) -> Result<Multiaddr, ReplicaError> {
    let key = libp2p_identity::ed25519::PublicKey::try_from_bytes(&peer.node_key.0)
        .map_err(|error| failed(format!("{} is no transport key: {error}", peer.node_key)))?;
    let id = libp2p_identity::PublicKey::from(key).to_peer_id();
    format!("{}/p2p/{id}", tcp(peer.addr)?).parse().map_err(failed)
}

/// The running engine.
pub(crate) struct Engine {
    handle: EngineHandle,
    log: ActorRef<Msg<Consensus>>,
}

impl Engine {
    /// Starts it; `signing` makes it take part, otherwise it follows.
    pub(crate) async fn start(
        config: &EngineConfig,
        chain_id: &ChainId,
        signing: Option<(Arc<dyn Sign>, Arc<Mark>)>,
        log: HeightLog,
    ) -> Result<(Engine, Ends), ReplicaError> {
        let settings = settings(config, chain_id)?;
        let keypair = Keypair::ed25519_from_bytes(*config.node_seed).map_err(failed)?;
        let moniker = config.moniker.clone();
        let verifier = Box::new(ChainVerifier { chain_id: chain_id.clone() });
        let (identity, consensus) = match signing {
            Some((key, mark)) => {
                let public = key.public_key();
                let peer_id = keypair.public().to_peer_id().to_bytes();
                let proof = validator_proof(chain_id, &*key, public.0.to_vec(), peer_id);
                let proof = Borsh.encode(&proof).map_err(failed)?;
                let identity =
                    NetworkIdentity::new_validator(moniker, keypair, public.to_string(), proof);
                let signer = Box::new(MarkedSigner { chain_id: chain_id.clone(), key, mark });
                let address = Member(public);
                (identity, ConsensusContext::new_validator(address, verifier, signer))
            }
            None => {
                let address = Member(PublicKey([0; 32]));
                let identity = NetworkIdentity::new(moniker, keypair, None);
                (identity, ConsensusContext::new_full_node(address, verifier))
            }
        };
        let log = log::spawn(log).await.map_err(failed)?;
        let (channels, handle) = EngineBuilder::new(Consensus, settings)
            .with_custom_wal(log.clone())
            .with_default_network(NetworkContext::new(identity, Borsh))
            .with_default_sync(SyncContext::new(Borsh))
            .with_default_consensus(consensus)
            .with_default_request(RequestContext::new(REQUESTS_MAX))
            .build()
            .await
            .map_err(|error| failed(format!("{error:#}")))?;
        let Channels { consensus, network, events, .. } = channels;
        Ok((Engine { handle, log }, Ends { consensus, network, events: events.subscribe() }))
    }

    /// Stops it and waits until its port is free and it holds its log no more.
    pub(crate) async fn stop(self) {
        let EngineHandle { actor, handle } = self.handle;
        let node = actor.get_cell();
        let mut stopping = JoinSet::new();
        for part in node.get_children() {
            // Whoever supervises a part takes its end for a failure.
            part.unlink(node.clone());
            stopping.spawn(async move { part.stop_and_wait(None, Some(STOP_TIMEOUT)).await });
        }
        // One that has ended by itself is as good.
        stopping.join_all().await;
        actor.stop(None);
        // It says nothing when it ends; that it has ended is the sign.
        if tokio::time::timeout(STOP_TIMEOUT, handle).await.is_err() {
            tracing::warn!("the consensus engine does not stop; it is ended");
            actor.kill();
        }
        self.log.stop(None);
        if self.log.wait(Some(STOP_TIMEOUT)).await.is_err() {
            tracing::warn!("the consensus engine's log does not close");
        }
    }
}
