//! The whole state: its tables, their places in the app hash, snapshots and how a block is kept
//! or taken back.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Address, ChainId, ChannelId, Hash32, Height, Lane, Nusd, PublicKey, TimeMs, genesis::Params,
    sha256,
};

use crate::{
    bank::{Account, Supply},
    channel::Channel,
    error::SnapshotError,
    gateway::Gateway,
    invariants,
    provider::{NodeRole, Provider},
    rewards::Validator,
    table::{self, Cell, Change, Journal, Table},
};

/// The ledger after some block, and the open block on top of it, if there is one.
///
/// Reading accessors show the open block. Its canonical bytes ([`State::snapshot`]) exist for a
/// committed state only.
#[derive(Clone, Debug)]
pub struct State {
    /// The last committed block.
    pub(crate) tip: Tip,
    /// The block that was executed and is neither kept nor taken back.
    pub(crate) open: Option<Tip>,
    pub(crate) rules: Cell<Rules>,
    pub(crate) market: Cell<Market>,
    pub(crate) supply: Cell<Supply>,
    pub(crate) accounts: Table<Address, Account>,
    pub(crate) providers: Table<Address, Provider>,
    pub(crate) gateways: Table<Address, Gateway>,
    pub(crate) node_keys: Table<(NodeRole, PublicKey), Address>,
    pub(crate) channels: Table<ChannelId, Channel>,
    /// What each used lane has claimed.
    pub(crate) lanes: Table<(ChannelId, Lane), Nusd>,
    /// Channels by payer and by receiver.
    pub(crate) parties: Table<(Address, ChannelId), ()>,
    /// Providers by the time at which the end of a block must look at them.
    pub(crate) due: Table<(TimeMs, Address), ()>,
    /// By consensus key.
    pub(crate) validators: Table<PublicKey, Validator>,
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
    pub(crate) governor: Address,
    pub(crate) params: Params,
}

/// Single values that change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Market {
    pub(crate) nusd_per_watt: Nusd,
    /// The block that set it, 0 if genesis did.
    pub(crate) price_set_at: Height,
    /// Active providers whose bond was never full.
    pub(crate) unbonded_providers: u32,
}

/// How many tables [`State::tables`] lists.
const TABLES: usize = 12;

/// A point inside an open block, to which a failed transaction returns.
#[derive(Clone, Copy)]
pub(crate) struct Mark([usize; TABLES]);

/// The form of a snapshot.
#[derive(BorshDeserialize)]
struct Snapshot {
    tip: Tip,
    rules: Cell<Rules>,
    market: Cell<Market>,
    supply: Cell<Supply>,
    accounts: Table<Address, Account>,
    providers: Table<Address, Provider>,
    gateways: Table<Address, Gateway>,
    node_keys: Table<(NodeRole, PublicKey), Address>,
    channels: Table<ChannelId, Channel>,
    lanes: Table<(ChannelId, Lane), Nusd>,
    parties: Table<(Address, ChannelId), ()>,
    due: Table<(TimeMs, Address), ()>,
    validators: Table<PublicKey, Validator>,
}

impl State {
    /// Keeps the open block. Without one nothing happens.
    pub fn commit(&mut self) {
        if let Some(tip) = self.open.take() {
            self.tip = tip;
        }
        self.tables_mut().into_iter().for_each(|table| table.commit());
    }

    /// Takes the open block back. Without one nothing happens.
    pub fn rollback(&mut self) {
        self.open = None;
        self.rollback_to(&Mark([0; TABLES]));
    }

    /// Canonical bytes of the committed state, for [`State::from_snapshot`].
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        if let Some(open) = self.open {
            return Err(SnapshotError::Open { open: open.height });
        }
        let mut bytes = Vec::new();
        let written = self.write_snapshot(&mut bytes);
        // Writing to memory cannot fail.
        written.map_err(|error| SnapshotError::Malformed { reason: error.to_string() })?;
        Ok(bytes)
    }

    fn write_snapshot(&self, bytes: &mut Vec<u8>) -> borsh::io::Result<()> {
        self.tip.serialize(bytes)?;
        self.rules.serialize(bytes)?;
        self.market.serialize(bytes)?;
        self.supply.serialize(bytes)?;
        self.accounts.serialize(bytes)?;
        self.providers.serialize(bytes)?;
        self.gateways.serialize(bytes)?;
        self.node_keys.serialize(bytes)?;
        self.channels.serialize(bytes)?;
        self.lanes.serialize(bytes)?;
        self.parties.serialize(bytes)?;
        self.due.serialize(bytes)?;
        self.validators.serialize(bytes)
    }

    /// The state that [`State::snapshot`] wrote, if it is of the network whose genesis document has
    /// the digest `genesis_hash` and every invariant holds. The app hash does not vouch for a
    /// snapshot: take it from a disk of your own.
    pub fn from_snapshot(bytes: &[u8], genesis_hash: Hash32) -> Result<State, SnapshotError> {
        let snapshot: Snapshot = borsh::from_slice(bytes)
            .map_err(|error| SnapshotError::Malformed { reason: error.to_string() })?;
        let state = State {
            tip: snapshot.tip,
            open: None,
            rules: snapshot.rules,
            market: snapshot.market,
            supply: snapshot.supply,
            accounts: snapshot.accounts,
            providers: snapshot.providers,
            gateways: snapshot.gateways,
            node_keys: snapshot.node_keys,
            channels: snapshot.channels,
            lanes: snapshot.lanes,
            parties: snapshot.parties,
            due: snapshot.due,
            validators: snapshot.validators,
        };
        let found = state.genesis_hash();
        if found != genesis_hash {
            return Err(SnapshotError::OtherGenesis { found, expected: genesis_hash });
        }
        invariants::check_all(&state).map_err(|violation| SnapshotError::Violation {
            number: violation.number,
            detail: violation.detail,
        })?;
        Ok(state)
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark(self.tables().map(|table| table.mark()))
    }

    pub(crate) fn rollback_to(&mut self, mark: &Mark) {
        for (table, mark) in self.tables_mut().into_iter().zip(mark.0) {
            table.rollback_to(mark);
        }
    }

    /// The digest after a block: it commits to the history of changes, not to a tree over the state,
    /// so it proves that two nodes agree and does not prove a single entry to a third party.
    pub(crate) fn next_app_hash(&self, height: Height, time: TimeMs) -> Hash32 {
        let mut changes: Vec<Change> = Vec::new();
        for (place, table) in (0u8..).zip(self.tables()) {
            table.changes(place, &mut changes);
        }
        let bytes = table::bytes(&(height, time, changes));
        sha256(&[b"peerwatt/app\0", &self.tip.app_hash.0, &bytes])
    }

    /// Every table in the order that is part of the protocol: a table's place stands in the app hash.
    fn tables(&self) -> [&dyn Journal; TABLES] {
        [
            &self.rules,
            &self.market,
            &self.supply,
            &self.accounts,
            &self.providers,
            &self.gateways,
            &self.node_keys,
            &self.channels,
            &self.lanes,
            &self.parties,
            &self.due,
            &self.validators,
        ]
    }

    fn tables_mut(&mut self) -> [&mut dyn Journal; TABLES] {
        [
            &mut self.rules,
            &mut self.market,
            &mut self.supply,
            &mut self.accounts,
            &mut self.providers,
            &mut self.gateways,
            &mut self.node_keys,
            &mut self.channels,
            &mut self.lanes,
            &mut self.parties,
            &mut self.due,
            &mut self.validators,
        ]
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

    /// After the last committed block.
    pub fn app_hash(&self) -> Hash32 {
        self.tip.app_hash
    }

    pub fn chain_id(&self) -> &ChainId {
        &self.rules.get().chain_id
    }

    pub fn genesis_hash(&self) -> Hash32 {
        self.rules.get().genesis_hash
    }

    pub fn governor(&self) -> Address {
        self.rules.get().governor
    }

    pub fn params(&self) -> &Params {
        &self.rules.get().params
    }

    /// The price of one WATT in nano-USD.
    pub fn price(&self) -> Nusd {
        self.market.get().nusd_per_watt
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

    /// By consensus key.
    pub fn validators(&self) -> impl Iterator<Item = (&PublicKey, &Validator)> {
        self.validators.iter()
    }
}
