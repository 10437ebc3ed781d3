//! A chain in memory with a real state tree and real signatures, and a node that tells it, or not.

use std::sync::atomic::AtomicUsize;

use borsh::BorshSerialize;
use nomt_core::{
    hasher::NodeHasher,
    trie::{InternalData, LeafData},
};
use types::{
    Hash32, ModelId, Ppm, PublicKey,
    audit::{
        AuditOutcome, Backend, Beacon, Evidence, MilliNats, ReceiptsCommitment, ReplayCounts,
        Responses, Round, Said, Seat, Verdict,
    },
    block::BlockHeader,
    channel::ChannelTerms,
    consensus::{Certificate, CommitSignature, ConsensusVote, ValidatorSet, VoteKind},
    genesis::{GenesisAccount, GenesisValidator},
    hash::to_hex,
    sha256,
    sign::signing_bytes,
    stake::CommissionTerms,
    state::{Heartbeats, Provider, ProviderProfile, Stage},
    tree::{StateHasher, TreeLeaf, TreeProof},
};

use super::*;
use crate::chain::{ErrorBody, ProvenEntry, StateProof, StateProofs, TxResult, openapi};

const GENESIS_MS: u64 = 1_700_000_000_000;

/// The names are behaviours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Behaviour {
    Honest,
    IsDown,
    IsBusy,
    /// Answers as before the newest block.
    IsBehind,
    HasNoBlocks,
    OtherValue,
    HidesTheEntry,
    NoHexadecimal,
    OtherEntry,
    OtherNetwork,
    /// Puts a state of its own into the header.
    OtherRoot,
    /// Signs that header too, as the only validator.
    SignsItself,
    FromTheFuture,
    HidesALane,
    HidesAProvider,
    ListsWhatIsNotThere,
}

pub(super) fn secret(name: u8) -> SecretKey {
    SecretKey::from_seed([name; 32])
}

pub(super) fn operator(name: u8) -> Address {
    secret(name).address()
}

pub(super) fn channel_terms() -> ChannelTerms {
    ChannelTerms {
        payer: operator(1),
        payer_key: secret(1).public_key(),
        receiver: operator(3),
        salt: 0,
        withdraw_delay_ms: 1,
    }
}

pub(super) fn provider_entry() -> Provider {
    Provider {
        node_key: secret(33).public_key(),
        profile: ProviderProfile { models: vec![ModelId([1; 32])], ..ProviderProfile::default() },
        bonded: false,
        earned: Watt(12),
        pending: Nusd(0),
        registered_at: TimeMs(1),
        active_at: TimeMs(1),
        stage: Stage::Active,
        channels_open: 1,
        heartbeats: Heartbeats::default(),
    }
}

/// As large as one may be: each of its verifiers has revealed all the evidence that it may.
pub(super) fn round(verifier: Address) -> Round {
    let (model, time) = (ModelId([1; 32]), TimeMs(GENESIS_MS));
    let responses = (0..64).map(|n| Hash32([n; 32]));
    let evidence = Evidence {
        model,
        backend: Backend::Metal,
        responses: Responses::of(responses).unwrap(),
        tokens: 64,
        replay: ReplayCounts::default(),
        l1: Some(MilliNats(1)),
        l2: None,
        projections: None,
        identified: None,
    };
    let verdict = Verdict { outcome: AuditOutcome::Pass, evidence: Some(evidence) };
    let said = Said::Revealed { verdict };
    let other = |n| Seat { verifier: operator(n), said: said.clone() };
    let mut seats = vec![Seat { verifier, said: said.clone() }];
    seats.extend((10..25).map(other));
    Round {
        receipts: ReceiptsCommitment { model, root: Hash32([1; 32]), count: 64 },
        seal: Hash32([2; 32]),
        planted: false,
        height: Height(1),
        beacon: Beacon::default(),
        share: Ppm::ONE,
        opened_at: time,
        commit_by: time,
        reveal_by: time,
        closes_at: time,
        seats,
        appeal: None,
        demand: None,
    }
}

type Entries = Vec<(StateKey, Vec<u8>)>;

/// A chain of four validators that all sign.
#[derive(Debug, Clone)]
pub(super) struct Truth(Arc<Mutex<History>>);

#[derive(Debug)]
struct History {
    genesis: Genesis,
    entries: Entries,
    blocks: Vec<(LightBlock, Entries)>,
}

fn validators() -> Vec<SecretKey> {
    (101..=104).map(secret).collect()
}

impl Truth {
    pub(super) fn new() -> Truth {
        let mut genesis = openapi::genesis();
        genesis.time = TimeMs(GENESIS_MS);
        genesis.accounts = vec![GenesisAccount { address: operator(50), balance: Watt(77) }];
        let seat = |key: &SecretKey| GenesisValidator {
            consensus_key: key.public_key(),
            operator: key.address(),
            moniker: "seat".to_owned(),
            stake: Watt::whole(10),
            commission: CommissionTerms::ALL,
        };
        genesis.validators = validators().iter().map(seat).collect();
        let history = History { genesis, entries: Vec::new(), blocks: Vec::new() };
        Truth(Arc::new(Mutex::new(history)))
    }

    pub(super) fn genesis(&self) -> Genesis {
        self.0.lock().unwrap().genesis.clone()
    }

    pub(super) fn chain_id(&self) -> ChainId {
        self.genesis().chain_id
    }

    /// For the next block.
    pub(super) fn put(&self, key: StateKey, value: &impl BorshSerialize) {
        let mut history = self.0.lock().unwrap();
        history.entries.retain(|(known, _)| *known != key);
        history.entries.push((key, borsh::to_vec(value).unwrap()));
    }

    pub(super) fn block(&self) {
        let mut history = self.0.lock().unwrap();
        let set = light::genesis_validators(&history.genesis);
        let last = history.blocks.last().map(|(block, _)| block);
        let height = Height(history.blocks.len() as u64 + 1);
        let header = BlockHeader {
            height,
            time: TimeMs(GENESIS_MS + height.0 * 1_000),
            parent: last.map_or_else(|| history.genesis.hash(), |it| it.header.hash()),
            txs_root: Hash32([0; 32]),
            last_certificate: last.map(|it| it.certificate.hash()).unwrap_or_default(),
            validators: set.hash(),
            next_validators: set.hash(),
            app_hash: subtree(&leaves(&history.entries), 0),
            proposer: validators()[0].public_key(),
        };
        let block = certified(&history.genesis.chain_id, header, &validators(), &set);
        let entries = history.entries.clone();
        history.blocks.push((block, entries));
    }

    pub(super) fn newest(&self) -> LightBlock {
        self.0.lock().unwrap().blocks.last().unwrap().0.clone()
    }

    pub(super) fn newest_time(&self) -> TimeMs {
        let history = self.0.lock().unwrap();
        history.blocks.last().map_or(history.genesis.time, |(block, _)| block.header.time)
    }
}

fn certified(
    chain_id: &ChainId,
    header: BlockHeader,
    signers: &[SecretKey],
    set: &ValidatorSet,
) -> LightBlock {
    let (height, block, round) = (header.height, header.hash(), 0);
    let vote = ConsensusVote { kind: VoteKind::Precommit, height, round, block: Some(block) };
    let message = signing_bytes(chain_id, &vote);
    let sign = |key: &SecretKey| CommitSignature {
        signer: key.public_key(),
        signature: key.sign(&message),
    };
    let mut signatures: Vec<CommitSignature> = signers.iter().map(sign).collect();
    signatures.sort_unstable_by_key(|it| it.signer);
    let certificate = Certificate { height, round, block, signatures };
    LightBlock { header, certificate, validators: set.clone() }
}

fn leaves(entries: &Entries) -> Vec<TreeLeaf> {
    let leaf =
        |(key, value): &(StateKey, Vec<u8>)| TreeLeaf { path: key.path(), value: sha256(&[value]) };
    entries.iter().map(leaf).collect()
}

fn split(leaves: &[TreeLeaf], depth: usize) -> (Vec<TreeLeaf>, Vec<TreeLeaf>) {
    leaves.iter().partition(|leaf| leaf.path.0[depth / 8] >> (7 - depth % 8) & 1 == 0)
}

fn subtree(leaves: &[TreeLeaf], depth: usize) -> Hash32 {
    match leaves {
        [] => Hash32([0; 32]),
        [leaf] => Hash32(StateHasher::hash_leaf(&LeafData {
            key_path: leaf.path.0,
            value_hash: leaf.value.0,
        })),
        _ => {
            let (left, right) = split(leaves, depth);
            let (left, right) = (subtree(&left, depth + 1).0, subtree(&right, depth + 1).0);
            Hash32(StateHasher::hash_internal(&InternalData { left, right }))
        }
    }
}

fn tree_proof(leaves: &[TreeLeaf], path: Hash32) -> TreeProof {
    let (mut at, mut siblings) = (leaves.to_vec(), Vec::new());
    while at.len() > 1 {
        let depth = siblings.len();
        let (left, right) = split(&at, depth);
        let goes_right = path.0[depth / 8] >> (7 - depth % 8) & 1 == 1;
        let (next, other) = if goes_right { (right, left) } else { (left, right) };
        siblings.push(subtree(&other, depth + 1));
        at = next;
    }
    TreeProof { leaf: at.first().copied(), siblings }
}

/// A node.
#[derive(Debug)]
pub(super) struct Double {
    name: String,
    truth: Truth,
    behaviour: Mutex<Behaviour>,
    questions: AtomicUsize,
}

impl Double {
    pub(super) fn new(name: &str, truth: &Truth, behaviour: Behaviour) -> Arc<Double> {
        Arc::new(Double {
            name: name.to_owned(),
            truth: truth.clone(),
            behaviour: Mutex::new(behaviour),
            questions: AtomicUsize::new(0),
        })
    }

    pub(super) fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    pub(super) fn questions(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }

    fn is(&self, behaviour: Behaviour) -> bool {
        *self.behaviour.lock().unwrap() == behaviour
    }

    /// Counts a question, and answers none if it does not.
    fn begin(&self) -> Result<(), ChainError> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        let url = self.name.clone();
        if self.is(Behaviour::IsDown) {
            return Err(ChainError::Unreachable { url, source: "down".into() });
        }
        if self.is(Behaviour::IsBusy) {
            return Err(refused(503, code::BUSY));
        }
        Ok(())
    }

    /// The block of a height, or the newest, with its state, as this node tells it.
    fn told(&self, height: Option<Height>) -> Option<(LightBlock, Entries)> {
        let history = self.truth.0.lock().unwrap();
        let known = match *self.behaviour.lock().unwrap() {
            Behaviour::HasNoBlocks => 0,
            Behaviour::IsBehind => history.blocks.len() - 1,
            _ => history.blocks.len(),
        };
        let place = height.map_or(known, |height| height.0 as usize);
        if place > known {
            return None;
        }
        let (block, entries) = history.blocks.get(place.checked_sub(1)?)?.clone();
        let mut header = block.header.clone();
        let chain_id = &history.genesis.chain_id;
        let told = match *self.behaviour.lock().unwrap() {
            Behaviour::OtherRoot => {
                header.app_hash = Hash32([1; 32]);
                LightBlock {
                    certificate: Certificate { block: header.hash(), ..block.certificate },
                    header,
                    ..block
                }
            }
            Behaviour::SignsItself => {
                let own = secret(66);
                let power = types::consensus::ValidatorPower { key: own.public_key(), power: 1 };
                let set = ValidatorSet::new([power]);
                header.app_hash = Hash32([1; 32]);
                header.validators = set.hash();
                certified(chain_id, header, &[own], &set)
            }
            Behaviour::FromTheFuture => {
                header.time = TimeMs(GENESIS_MS * 2);
                certified(chain_id, header, &validators(), &block.validators)
            }
            _ => block,
        };
        Some((told, entries))
    }

    fn proven(&self, entries: &Entries, key: StateKey) -> ProvenEntry {
        let value = entries.iter().find(|(known, _)| *known == key).map(|(_, value)| to_hex(value));
        let value = match *self.behaviour.lock().unwrap() {
            Behaviour::OtherValue => Some(to_hex(&borsh::to_vec(&Account::default()).unwrap())),
            Behaviour::HidesTheEntry => None,
            Behaviour::NoHexadecimal => Some("watt".to_owned()),
            _ => value,
        };
        ProvenEntry { key, value, proof: tree_proof(&leaves(entries), key.path()) }
    }
}

fn refused(status: u16, code: &str) -> ChainError {
    let body = ErrorBody { code: code.to_owned(), message: code.to_owned() };
    ChainError::Refused { status, body }
}

fn view_of_channel(id: ChannelId) -> ChannelView {
    ChannelView {
        id,
        terms: channel_terms(),
        deposit: Nusd(0),
        claimed: Nusd(0),
        settled: Nusd(0),
        refunded: Nusd::ZERO,
        returned: Nusd(0),
        lanes: Vec::new(),
        opened_at: Height(0),
        withdraw_at: None,
        open: true,
    }
}

#[async_trait]
impl ProvingChain for Double {
    fn url(&self) -> &str {
        &self.name
    }

    async fn light_block(&self, height: Option<Height>) -> Result<Option<LightBlock>, ChainError> {
        self.begin()?;
        Ok(self.told(height).map(|(block, _)| block))
    }

    async fn prove(&self, key: StateKey) -> Result<StateProof, ChainError> {
        self.begin()?;
        let (block, entries) = self.told(None).ok_or_else(|| refused(404, code::NOT_FOUND))?;
        let key = match self.is(Behaviour::OtherEntry) {
            true => StateKey::Account { address: operator(99) },
            false => key,
        };
        let ProvenEntry { key, value, proof } = self.proven(&entries, key);
        let LightBlock { header, certificate, validators } = block;
        let chain_id = match self.is(Behaviour::OtherNetwork) {
            true => "elsewhere".parse().unwrap(),
            false => self.truth.chain_id(),
        };
        Ok(StateProof { chain_id, key, value, proof, header, certificate, validators })
    }

    async fn prove_channel(&self, id: ChannelId) -> Result<StateProofs, ChainError> {
        self.begin()?;
        let (block, entries) = self.told(None).ok_or_else(|| refused(404, code::NOT_FOUND))?;
        let lanes = entries.iter().map(|(key, _)| *key);
        let lanes =
            lanes.filter(|it| matches!(it, StateKey::Lane { channel, .. } if *channel == id));
        let mut keys: Vec<StateKey> = [StateKey::Channel { id }].into_iter().chain(lanes).collect();
        if self.is(Behaviour::HidesALane) {
            keys.pop();
        }
        let entries = keys.into_iter().map(|key| self.proven(&entries, key)).collect();
        let LightBlock { header, certificate, validators } = block;
        let chain_id = self.truth.chain_id();
        Ok(StateProofs { chain_id, entries, header, certificate, validators })
    }
}

/// What it says without proof is mostly nonsense: nobody is to rely on it.
#[async_trait]
impl Chain for Double {
    async fn genesis(&self) -> Result<Genesis, ChainError> {
        Ok(self.truth.genesis())
    }

    async fn status(&self) -> Result<ChainStatus, ChainError> {
        self.begin()?;
        let genesis = self.truth.genesis();
        let (chain_id, genesis_hash) = (genesis.chain_id.clone(), genesis.hash());
        Ok(ChainStatus { chain_id, genesis_hash, height: Height(999), ..openapi::status() })
    }

    async fn account(&self, _: Address) -> Result<AccountView, ChainError> {
        Err(refused(404, code::NOT_FOUND))
    }

    async fn channel(&self, _: ChannelId) -> Result<Option<ChannelView>, ChainError> {
        Ok(None)
    }

    async fn channels_of(&self, _: Address) -> Result<Vec<ChannelView>, ChainError> {
        self.begin()?;
        if self.is(Behaviour::ListsWhatIsNotThere) {
            return Ok(vec![view_of_channel(ChannelId([8; 32]))]);
        }
        Ok(vec![view_of_channel(channel_terms().id(&self.truth.chain_id()))])
    }

    async fn provider(&self, operator: Address) -> Result<Option<ProviderView>, ChainError> {
        self.begin()?;
        let known = self.providers().await?.into_iter().find(|it| it.operator == operator);
        Ok(known.filter(|_| !self.is(Behaviour::HidesAProvider)))
    }

    async fn providers(&self) -> Result<Vec<ProviderView>, ChainError> {
        self.begin()?;
        let node_key = PublicKey([66; 32]);
        Ok(vec![ProviderView { operator: operator(3), node_key, ..openapi::provider() }])
    }

    async fn gateways(&self) -> Result<Vec<GatewayView>, ChainError> {
        self.begin()?;
        let name = if self.is(Behaviour::ListsWhatIsNotThere) { 8 } else { 7 };
        Ok(vec![GatewayView {
            operator: operator(name),
            node_key: PublicKey([66; 32]),
            moniker: String::new(),
            addrs: vec!["198.51.100.1:1".to_owned()],
        }])
    }

    async fn exclusions(&self) -> Result<Vec<ExclusionView>, ChainError> {
        Ok(Vec::new())
    }

    async fn auditor(&self, operator: Address) -> Result<Option<AuditorView>, ChainError> {
        let node_key = PublicKey([66; 32]);
        Ok(Some(AuditorView {
            operator,
            node_key,
            addrs: vec!["198.51.100.1:1".to_owned()],
            record: None,
        }))
    }

    async fn rounds_of(&self, _: Address) -> Result<Vec<RoundView>, ChainError> {
        Ok(Vec::new())
    }

    async fn round(&self, _: CommitmentId) -> Result<Option<RoundView>, ChainError> {
        Ok(None)
    }

    async fn supply(&self) -> Result<SupplyView, ChainError> {
        Err(refused(500, code::INTERNAL))
    }

    async fn submit(&self, tx: &SignedTx) -> Result<TxOutcome, ChainError> {
        self.begin()?;
        let result = TxResult::Applied { events: Vec::new() };
        Ok(TxOutcome { id: tx.id(), height: Height(1), fee: Watt(0), result })
    }

    async fn tx(&self, _: TxId) -> Result<Option<TxOutcome>, ChainError> {
        Ok(None)
    }
}
