//! The whole state: its entries, the tree over them, the indexes that follow from them, snapshots
//! and how a block is kept or taken back.

use std::cmp::Reverse;

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Address, ChainId, ChannelId, Hash32, Height, Lane, ModelId, Nusd, PublicKey, TimeMs, Watt,
    audit::{
        Backend, Beacon, Calibration, ClosedRound, Commitment, CommitmentId, ModelStanding, Round,
        Standing, VerifierRecord,
    },
    genesis::{Bucket, Params},
    stake::OperatorId,
    state::{Account, AuditorEntry, Channel, Operator, Provider, StateKey, TableId},
    tree::TreeProof,
};

use crate::{
    bank::Supply,
    credits::{Credit, Refund},
    emission::{Emission, Payout, Work},
    error::SnapshotError,
    evidence::Punished,
    gateway::Gateway,
    invariants,
    oracle::{Oracle, Vote},
    provider::NodeRole,
    settlement::Pending,
    signing::Signing,
    stake::{Delegation, RedelegationEntry, UnbondingEntry},
    table::{Cell, Entries, Journal, Table},
    tree::{LeafChange, Tree},
    validator::{ActiveValidator, ValidatorEntry},
    vesting::Vesting,
};

/// The ledger after some block, and the open block on top of it, if there is one.
///
/// Reading accessors show the open block. Its canonical bytes ([`State::snapshot`]) and proofs
/// ([`State::prove`]) exist for a committed state only.
#[derive(Clone, Debug)]
pub struct State {
    /// The last committed block.
    pub(crate) tip: Tip,
    /// The tree over the entries, those of the open block included; its root is the app hash.
    tree: Tree,
    /// The block that was executed and is neither kept nor taken back, and what takes it back out
    /// of the tree.
    pub(crate) open: Option<(Tip, Vec<LeafChange>)>,

    /// Height and time of the block, so that the root stands for them too.
    pub(crate) clock: Cell<(Height, TimeMs)>,
    pub(crate) rules: Cell<Rules>,
    pub(crate) supply: Cell<Supply>,
    pub(crate) credit: Cell<Credit>,
    pub(crate) oracle: Cell<Oracle>,
    pub(crate) emission: Cell<Emission>,
    pub(crate) accounts: Table<Address, Account>,
    pub(crate) providers: Table<Address, Provider>,
    pub(crate) gateways: Table<Address, Gateway>,
    pub(crate) channels: Table<ChannelId, Channel>,
    /// What each used lane has claimed.
    pub(crate) lanes: Table<(ChannelId, Lane), Nusd>,
    /// Claims that wait for their settlement.
    pub(crate) pending: Table<(TimeMs, ChannelId), Pending>,
    /// By due time and a running number.
    pub(crate) refunds: Table<(TimeMs, u64), Refund>,
    /// What the vault was too short to pay of refunds that fell due, by their numbers.
    pub(crate) arrears: Table<u64, Refund>,
    pub(crate) vesting: Table<Bucket, Vesting>,
    pub(crate) validators: Table<Address, ValidatorEntry>,
    /// The validator set of the next block, by consensus key.
    pub(crate) active: Table<PublicKey, ActiveValidator>,
    pub(crate) operators: Table<OperatorId, Operator>,
    pub(crate) delegations: Table<(OperatorId, Address), Delegation>,
    pub(crate) unbondings: Table<(OperatorId, Address), Vec<UnbondingEntry>>,
    /// By where the stake came from, whose it is, and where it went.
    pub(crate) redelegations: Table<(OperatorId, Address, OperatorId), Vec<RedelegationEntry>>,
    /// What an operator had staked behind it after which blocks.
    pub(crate) histories: Table<OperatorId, Vec<(Height, Watt)>>,
    /// The time of a block, about once an hour.
    pub(crate) marks: Table<Height, TimeMs>,
    pub(crate) signings: Table<PublicKey, Signing>,
    pub(crate) punished: Table<Punished, TimeMs>,
    /// By period and voter.
    pub(crate) price_commits: Table<(u64, Address), Hash32>,
    pub(crate) price_votes: Table<(u64, Address), Vote>,
    pub(crate) good_votes: Table<Address, u32>,
    /// What a provider worked in an epoch of the emission policy.
    pub(crate) epoch_work: Table<(u64, Address), Work>,
    /// Epochs that are over and not paid completely.
    pub(crate) payouts: Table<u64, Payout>,
    /// The newest one.
    pub(crate) beacon: Cell<Beacon>,
    /// Those that wait for their beacon.
    pub(crate) commitments: Table<CommitmentId, Commitment>,
    /// Those that are being audited.
    pub(crate) rounds: Table<CommitmentId, Round>,
    /// Those that are over and kept, by a running number.
    pub(crate) closed_rounds: Table<u64, ClosedRound>,
    pub(crate) standings: Table<Address, Standing>,
    pub(crate) model_standings: Table<(Address, ModelId), ModelStanding>,
    pub(crate) calibrations: Table<(Address, ModelId, Backend), Calibration>,
    pub(crate) verifiers: Table<Address, VerifierRecord>,
    pub(crate) auditors: Table<Address, AuditorEntry>,

    // Indexes. They follow from the entries, are not in the tree and not in a snapshot.
    pub(crate) node_keys: Table<(NodeRole, PublicKey), Address>,
    pub(crate) consensus_keys: Table<PublicKey, Address>,
    /// Channels by payer and by receiver.
    pub(crate) parties: Table<(Address, ChannelId), ()>,
    /// Providers by the time at which the end of a block must look at them.
    pub(crate) due: Table<(TimeMs, Address), ()>,
    /// Validators that may have a seat, the largest stake first.
    pub(crate) candidates: Table<(Reverse<Watt>, Address), ()>,
    pub(crate) maturing: Table<(TimeMs, OperatorId, Address), ()>,
    pub(crate) returning: Table<(TimeMs, OperatorId, Address, OperatorId), ()>,
    /// Operators by who delegates to them.
    pub(crate) stakes: Table<(Address, OperatorId), ()>,
    /// Operators by who has stake on its way back from them.
    pub(crate) departures: Table<(Address, OperatorId), ()>,
    /// Redelegations by whose they are and where they went.
    pub(crate) arrivals: Table<(Address, OperatorId, OperatorId), ()>,
    /// Commitments by the period in which they were made.
    pub(crate) ripening: Table<(u64, CommitmentId), ()>,
    /// Rounds by when they are closed.
    pub(crate) closing: Table<(TimeMs, CommitmentId), ()>,
    /// Closed rounds by what was audited.
    pub(crate) closed_ids: Table<(CommitmentId, u64), ()>,
    /// Closed rounds that failed and were not appealed against, by provider.
    pub(crate) failures: Table<(Address, u64), ()>,
    /// Of those the newest of each provider, which are kept while it can appeal.
    pub(crate) appealable: Table<u64, ()>,
    /// Pending claims by who is paid.
    pub(crate) claims: Table<(Address, TimeMs, ChannelId), ()>,
}

/// Where the chain stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Tip {
    pub(crate) height: Height,
    pub(crate) time: TimeMs,
    pub(crate) app_hash: Hash32,
}

/// What is set at genesis and not changed by any transaction of today.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Rules {
    pub(crate) chain_id: ChainId,
    pub(crate) genesis_hash: Hash32,
    pub(crate) params: Params,
}

/// The first bytes of a snapshot: what it is, and the version of its form.
const SNAPSHOT_MAGIC: [u8; 8] = *b"pwstate4";

/// Every entry table with its number, in the order of the numbers, which is that of a snapshot.
macro_rules! with_entries {
    ($state:expr, $visit:ident) => {{
        let state = $state;
        $visit!(state, Rules, rules);
        $visit!(state, Supply, supply);
        $visit!(state, Credit, credit);
        $visit!(state, Oracle, oracle);
        $visit!(state, Emission, emission);
        $visit!(state, Accounts, accounts);
        $visit!(state, Providers, providers);
        $visit!(state, Gateways, gateways);
        $visit!(state, Channels, channels);
        $visit!(state, Lanes, lanes);
        $visit!(state, Pending, pending);
        $visit!(state, Refunds, refunds);
        $visit!(state, Vesting, vesting);
        $visit!(state, Validators, validators);
        $visit!(state, Active, active);
        $visit!(state, Operators, operators);
        $visit!(state, Delegations, delegations);
        $visit!(state, Unbondings, unbondings);
        $visit!(state, Redelegations, redelegations);
        $visit!(state, Histories, histories);
        $visit!(state, Marks, marks);
        $visit!(state, Signings, signings);
        $visit!(state, Punished, punished);
        $visit!(state, PriceCommits, price_commits);
        $visit!(state, PriceVotes, price_votes);
        $visit!(state, GoodVotes, good_votes);
        $visit!(state, EpochWork, epoch_work);
        $visit!(state, Payouts, payouts);
        $visit!(state, Clock, clock);
        $visit!(state, Arrears, arrears);
        $visit!(state, Beacon, beacon);
        $visit!(state, Commitments, commitments);
        $visit!(state, Rounds, rounds);
        $visit!(state, ClosedRounds, closed_rounds);
        $visit!(state, Standings, standings);
        $visit!(state, ModelStandings, model_standings);
        $visit!(state, Calibrations, calibrations);
        $visit!(state, Verifiers, verifiers);
        $visit!(state, Auditors, auditors);
    }};
}

macro_rules! with_indexes {
    ($state:expr, $visit:ident) => {{
        let state = $state;
        $visit!(state, node_keys);
        $visit!(state, consensus_keys);
        $visit!(state, parties);
        $visit!(state, due);
        $visit!(state, candidates);
        $visit!(state, maturing);
        $visit!(state, returning);
        $visit!(state, stakes);
        $visit!(state, departures);
        $visit!(state, arrivals);
        $visit!(state, ripening);
        $visit!(state, closing);
        $visit!(state, closed_ids);
        $visit!(state, failures);
        $visit!(state, appealable);
        $visit!(state, claims);
    }};
}

/// Entry and index tables together.
const TABLES: usize = 55;

/// A point inside an open block, to which a failed transaction returns.
#[derive(Clone, Copy)]
pub(crate) struct Mark([usize; TABLES]);

impl State {
    /// A state without entries but these, before the first block.
    pub(crate) fn empty(rules: Rules, oracle: Oracle, time: TimeMs) -> State {
        State {
            tip: Tip { height: Height(0), time, app_hash: Hash32::default() },
            tree: Tree::default(),
            open: None,
            clock: Cell::new((Height(0), time)),
            rules: Cell::new(rules),
            supply: Cell::new(Supply::default()),
            credit: Cell::new(Credit::default()),
            oracle: Cell::new(oracle),
            emission: Cell::new(Emission::starting(time)),
            accounts: Table::default(),
            providers: Table::default(),
            gateways: Table::default(),
            channels: Table::default(),
            lanes: Table::default(),
            pending: Table::default(),
            refunds: Table::default(),
            arrears: Table::default(),
            vesting: Table::default(),
            validators: Table::default(),
            active: Table::default(),
            operators: Table::default(),
            delegations: Table::default(),
            unbondings: Table::default(),
            redelegations: Table::default(),
            histories: Table::default(),
            marks: Table::default(),
            signings: Table::default(),
            punished: Table::default(),
            price_commits: Table::default(),
            price_votes: Table::default(),
            good_votes: Table::default(),
            epoch_work: Table::default(),
            payouts: Table::default(),
            beacon: Cell::new(Beacon::default()),
            commitments: Table::default(),
            rounds: Table::default(),
            closed_rounds: Table::default(),
            standings: Table::default(),
            model_standings: Table::default(),
            calibrations: Table::default(),
            verifiers: Table::default(),
            auditors: Table::default(),
            node_keys: Table::default(),
            consensus_keys: Table::default(),
            parties: Table::default(),
            due: Table::default(),
            candidates: Table::default(),
            maturing: Table::default(),
            returning: Table::default(),
            stakes: Table::default(),
            departures: Table::default(),
            arrivals: Table::default(),
            ripening: Table::default(),
            closing: Table::default(),
            closed_ids: Table::default(),
            failures: Table::default(),
            appealable: Table::default(),
            claims: Table::default(),
        }
    }

    /// Keeps the open block. Without one nothing happens.
    pub fn commit(&mut self) {
        if let Some((tip, _)) = self.open.take() {
            self.tip = tip;
        }
        self.forget_undo();
    }

    fn forget_undo(&mut self) {
        macro_rules! entry {
            ($state:ident, $_id:ident, $table:ident) => {
                Journal::commit(&mut $state.$table)
            };
        }
        macro_rules! index {
            ($state:ident, $table:ident) => {
                Journal::commit(&mut $state.$table)
            };
        }
        with_entries!(&mut *self, entry);
        with_indexes!(&mut *self, index);
    }

    /// Takes the open block back. Without one nothing happens.
    pub fn rollback(&mut self) {
        if let Some((_, undo)) = self.open.take() {
            self.tree.apply(undo);
        }
        self.rollback_to(&Mark([0; TABLES]));
    }

    pub(crate) fn mark(&self) -> Mark {
        let mut marks = [0; TABLES];
        let mut places = marks.iter_mut();
        macro_rules! entry {
            ($state:ident, $_id:ident, $table:ident) => {
                if let Some(place) = places.next() {
                    *place = $state.$table.mark();
                }
            };
        }
        macro_rules! index {
            ($state:ident, $table:ident) => {
                entry!($state, Index, $table)
            };
        }
        with_entries!(self, entry);
        with_indexes!(self, index);
        Mark(marks)
    }

    pub(crate) fn rollback_to(&mut self, mark: &Mark) {
        let mut marks = mark.0.iter();
        macro_rules! entry {
            ($state:ident, $_id:ident, $table:ident) => {
                if let Some(mark) = marks.next() {
                    $state.$table.rollback_to(*mark);
                }
            };
        }
        macro_rules! index {
            ($state:ident, $table:ident) => {
                entry!($state, Index, $table)
            };
        }
        with_entries!(&mut *self, entry);
        with_indexes!(&mut *self, index);
    }

    /// Closes the execution of a block: the tree over what it changed. Returns the app hash.
    pub(crate) fn seal(&mut self, height: Height, time: TimeMs) -> Hash32 {
        self.clock.set((height, time));
        let mut changes = Vec::new();
        macro_rules! entry {
            ($state:ident, $id:ident, $table:ident) => {
                $state.$table.changes(TableId::$id, &mut changes)
            };
        }
        with_entries!(&*self, entry);
        let undo = self.tree.apply(changes);
        let app_hash = self.tree.root();
        self.open = Some((Tip { height, time, app_hash }, undo));
        app_hash
    }

    /// The tree over all entries, from nothing.
    fn whole_tree(&self) -> Tree {
        let mut leaves = Vec::new();
        macro_rules! entry {
            ($state:ident, $id:ident, $table:ident) => {
                $state.$table.leaves(TableId::$id, &mut leaves)
            };
        }
        with_entries!(self, entry);
        let mut tree = Tree::default();
        tree.apply(leaves);
        tree
    }

    /// Makes the state before the first block out of the entries that were put in.
    pub(crate) fn begin(&mut self) {
        self.tree = self.whole_tree();
        self.tip.app_hash = self.tree.root();
        self.forget_undo();
    }

    /// What the committed tree says about an entry, and the entry's canonical bytes if there is one.
    /// While a block is open the bytes may be newer than the tree, so there is no proof.
    pub fn prove(&self, key: &StateKey) -> Result<(Option<Vec<u8>>, TreeProof), SnapshotError> {
        if let Some((open, _)) = &self.open {
            return Err(SnapshotError::Open { open: open.height });
        }
        let value = match key {
            StateKey::Account { address } => self.accounts.get(address).map(crate::table::bytes),
            StateKey::Channel { id } => self.channels.get(id).map(crate::table::bytes),
            StateKey::Lane { channel, lane } => {
                self.lanes.get(&(*channel, *lane)).map(crate::table::bytes)
            }
            StateKey::Provider { operator } => {
                self.providers.get(operator).map(crate::table::bytes)
            }
            StateKey::Operator { id } => self.operators.get(id).map(crate::table::bytes),
            StateKey::Gateway { operator } => self.gateways.get(operator).map(crate::table::bytes),
            StateKey::Beacon => Some(crate::table::bytes(self.beacon.get())),
            StateKey::Round { commitment } => self.rounds.get(commitment).map(crate::table::bytes),
            StateKey::Standing { provider } => {
                self.standings.get(provider).map(crate::table::bytes)
            }
            StateKey::ModelStanding { provider, model } => {
                self.model_standings.get(&(*provider, *model)).map(crate::table::bytes)
            }
            StateKey::Auditor { operator } => self.auditors.get(operator).map(crate::table::bytes),
        };
        Ok((value, self.tree.prove(&key.path())))
    }

    /// Canonical bytes of the committed state, for [`State::from_snapshot`].
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        if let Some((open, _)) = &self.open {
            return Err(SnapshotError::Open { open: open.height });
        }
        let mut bytes = Vec::new();
        let written = self.write_snapshot(&mut bytes);
        // Writing to memory cannot fail.
        written.map_err(|error| SnapshotError::Malformed { reason: error.to_string() })?;
        Ok(bytes)
    }

    fn write_snapshot(&self, bytes: &mut Vec<u8>) -> borsh::io::Result<()> {
        SNAPSHOT_MAGIC.serialize(bytes)?;
        self.tip.serialize(bytes)?;
        macro_rules! entry {
            ($state:ident, $_id:ident, $table:ident) => {
                $state.$table.serialize(bytes)?
            };
        }
        with_entries!(self, entry);
        Ok(())
    }

    /// The state that [`State::snapshot`] wrote, if it is of the network whose genesis document has
    /// the digest `genesis_hash`, has the root that it names, and every invariant holds. Whether that
    /// root is the right one is for a certified block to say: compare [`State::app_hash`] with it.
    pub fn from_snapshot(bytes: &[u8], genesis_hash: Hash32) -> Result<State, SnapshotError> {
        let mut state = State::read_snapshot(bytes)
            .map_err(|error| SnapshotError::Malformed { reason: error.to_string() })?;
        let found = state.genesis_hash();
        if found != genesis_hash {
            return Err(SnapshotError::OtherGenesis { found, expected: genesis_hash });
        }
        state.tree = state.whole_tree();
        let (stated, actual) = (state.tip.app_hash, state.tree.root());
        if stated != actual {
            return Err(SnapshotError::Root { stated, actual });
        }
        state.rebuild_indexes();
        state.forget_undo();
        invariants::check_all(&state).map_err(|violation| SnapshotError::Violation {
            number: violation.number,
            detail: violation.detail,
        })?;
        Ok(state)
    }

    fn read_snapshot(mut bytes: &[u8]) -> borsh::io::Result<State> {
        let bad = |message| borsh::io::Error::new(borsh::io::ErrorKind::InvalidData, message);
        let reader = &mut bytes;
        if <[u8; 8]>::deserialize_reader(reader)? != SNAPSHOT_MAGIC {
            return Err(bad("it is not of this version"));
        }
        let tip = Tip::deserialize_reader(reader)?;
        let rules = Rules::deserialize_reader(reader)?;
        let oracle = Oracle::starting(Nusd::ZERO, tip.time);
        let mut state = State::empty(rules, oracle, tip.time);
        state.tip = tip;
        macro_rules! entry {
            ($state:ident, Rules, $table:ident) => {};
            ($state:ident, $_id:ident, $table:ident) => {
                $state.$table = BorshDeserialize::deserialize_reader(reader)?
            };
        }
        with_entries!(&mut state, entry);
        if !reader.is_empty() {
            return Err(bad("bytes are left over"));
        }
        if *state.clock.get() != (tip.height, tip.time) {
            return Err(bad("height or time is not that of its entries"));
        }
        Ok(state)
    }

    /// The first index that does not follow from the entries.
    pub(crate) fn wrong_index(&self) -> Option<&'static str> {
        let mut expected = self.clone();
        expected.rebuild_indexes();
        macro_rules! compare {
            ($state:ident, $table:ident) => {
                if !$state.$table.equals(&expected.$table) {
                    return Some(stringify!($table));
                }
            };
        }
        with_indexes!(self, compare);
        None
    }

    /// The root that the entries have, by building the whole tree. Slow.
    pub(crate) fn recomputed_root(&self) -> Hash32 {
        self.whole_tree().root()
    }

    /// Makes every index from the entries.
    pub(crate) fn rebuild_indexes(&mut self) {
        macro_rules! reset {
            ($state:ident, $table:ident) => {
                $state.$table.reset()
            };
        }
        with_indexes!(&mut *self, reset);
        let state = self;
        let idle_ms = state.params().providers.idle_ms;
        for (operator, provider) in state.providers.iter() {
            state.node_keys.insert((NodeRole::Provider, provider.node_key), *operator);
            if let Some(time) = crate::provider::due(provider, idle_ms) {
                state.due.insert((time, *operator), ());
            }
        }
        for (operator, gateway) in state.gateways.iter() {
            state.node_keys.insert((NodeRole::Gateway, gateway.node_key), *operator);
        }
        for (operator, auditor) in state.auditors.iter() {
            state.node_keys.insert((NodeRole::Auditor, auditor.node_key), *operator);
        }
        for (id, channel) in state.channels.iter() {
            state.parties.insert((channel.terms.payer, *id), ());
            state.parties.insert((channel.terms.receiver, *id), ());
        }
        for ((time, id), _) in state.pending.iter() {
            if let Some(channel) = state.channels.get(id) {
                state.claims.insert((channel.terms.receiver, *time, *id), ());
            }
        }
        for (id, commitment) in state.commitments.iter() {
            state.ripening.insert((commitment.period, *id), ());
        }
        for (id, round) in state.rounds.iter() {
            state.closing.insert((round.closes_at, *id), ());
        }
        state.rebuild_closed_indexes();
        for (operator, entry) in state.validators.iter() {
            state.consensus_keys.insert(entry.consensus_key, *operator);
        }
        let bond_min = state.rules.get().params.stake.validator_bond_min;
        for (id, operator) in state.operators.iter() {
            if let Some(key) = crate::stake::candidate(id, operator, bond_min) {
                state.candidates.insert(key, ());
            }
        }
        for ((id, delegator), _) in state.delegations.iter() {
            state.stakes.insert((*delegator, *id), ());
        }
        for ((id, delegator), entries) in state.unbondings.iter() {
            state.departures.insert((*delegator, *id), ());
            for entry in entries {
                state.maturing.insert((entry.matures_at, *id, *delegator), ());
            }
        }
        for ((from, delegator, to), entries) in state.redelegations.iter() {
            state.arrivals.insert((*delegator, *to, *from), ());
            for entry in entries {
                state.returning.insert((entry.matures_at, *from, *delegator, *to), ());
            }
        }
    }
}

/// What the chain API shows. All but the first three include the open block.
impl State {
    /// Of the last committed block; 0 before the first.
    pub fn height(&self) -> Height {
        self.tip.height
    }

    /// Of the last committed block; that of genesis before the first.
    pub fn time(&self) -> TimeMs {
        self.tip.time
    }

    /// Root of the state tree after the last committed block.
    pub fn app_hash(&self) -> Hash32 {
        self.tip.app_hash
    }

    /// Of the open block, or of the last committed one.
    pub(crate) fn now(&self) -> TimeMs {
        self.open.as_ref().map_or(self.tip.time, |(tip, _)| tip.time)
    }

    /// Root of the tree over the open block, or over the last committed one.
    pub(crate) fn sealed_root(&self) -> Hash32 {
        self.open.as_ref().map_or(self.tip.app_hash, |(tip, _)| tip.app_hash)
    }

    pub fn chain_id(&self) -> &ChainId {
        &self.rules.get().chain_id
    }

    pub fn genesis_hash(&self) -> Hash32 {
        self.rules.get().genesis_hash
    }

    pub fn params(&self) -> &Params {
        &self.rules.get().params
    }

    pub fn channel(&self, id: &ChannelId) -> Option<&Channel> {
        self.channels.get(id)
    }

    /// What each used lane of a channel has claimed, by lane.
    pub fn lanes_of(&self, id: ChannelId) -> impl Iterator<Item = (Lane, Nusd)> {
        self.lanes
            .iter_from((id, Lane(0)))
            .take_while(move |((channel, _), _)| *channel == id)
            .map(|((_, lane), claimed)| (*lane, *claimed))
    }

    /// Every channel, closed ones included.
    pub fn channels(&self) -> impl Iterator<Item = (&ChannelId, &Channel)> {
        self.channels.iter()
    }

    /// Channels that `party` pays into or receives from, closed ones included.
    pub fn channels_of(&self, party: Address) -> impl Iterator<Item = (ChannelId, &Channel)> {
        self.parties
            .iter_from((party, ChannelId([0; 32])))
            .take_while(move |((address, _), ())| *address == party)
            .filter_map(|((_, id), ())| Some((*id, self.channels.get(id)?)))
    }

    pub fn provider(&self, operator: &Address) -> Option<&Provider> {
        self.providers.get(operator)
    }

    pub fn providers(&self) -> impl Iterator<Item = (&Address, &Provider)> {
        self.providers.iter()
    }

    pub fn gateway(&self, operator: &Address) -> Option<&Gateway> {
        self.gateways.get(operator)
    }

    pub fn gateways(&self) -> impl Iterator<Item = (&Address, &Gateway)> {
        self.gateways.iter()
    }
}
