//! An application small enough to see through: accounts that count and a digest of everything.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use replica::{
    AppError, Application, BlockContext, Clock, Executed, Proposal, Refusal, Tip, Transaction,
};
use types::{
    Address, Hash32, Height, Nonce, Nusd, PublicKey, TimeMs, TxId, Watt,
    consensus::{ValidatorPower, ValidatorSet},
    genesis::{Genesis, GenesisValidator, Params},
    sha256,
    sign::Sign,
    stake::CommissionTerms,
};

/// What a transaction does; the names are behaviours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Counts = 0,
    /// Passes `check` and has no place in a block.
    HasNoPlace = 1,
    FailsCheck = 2,
    /// Counts, and asks for a block one second later.
    AsksForABlock = 3,
    /// Counts, and gives the validator with the number of the sender the power `arg`.
    SetsPower = 4,
    /// Counts, and is not paid for behind another.
    CannotWait = 5,
}

#[derive(Clone, Debug)]
pub(crate) struct Tx {
    pub(crate) sender: u8,
    pub(crate) nonce: u64,
    pub(crate) kind: Kind,
    pub(crate) arg: u8,
}

impl Tx {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.sender, self.kind as u8, self.arg];
        bytes.extend(self.nonce.to_le_bytes());
        bytes
    }
}

impl Transaction for Tx {
    fn id(&self) -> TxId {
        TxId(sha256(&[&self.bytes()]).0)
    }
    fn sender(&self) -> Address {
        Address::of_key(&PublicKey([self.sender; 32]))
    }
    fn nonce(&self) -> Nonce {
        Nonce(self.nonce)
    }
    fn tip(&self) -> Watt {
        Watt::ZERO
    }
    fn valid_until(&self) -> Option<TimeMs> {
        None
    }
}

/// The network of one validator, the first, which has so much power.
pub(crate) fn genesis(power: u8) -> Genesis {
    let key = validator_key(1);
    Genesis {
        chain_id: "test".parse().unwrap(),
        time: TimeMs(0),
        params: Params::standard(),
        nusd_per_watt: Nusd::whole(1),
        accounts: vec![],
        vesting: vec![],
        validators: vec![GenesisValidator {
            consensus_key: key.public_key(),
            operator: key.address(),
            moniker: "test".to_owned(),
            stake: Watt::whole(power.into()),
            commission: CommissionTerms::ALL,
        }],
    }
}

/// Consensus key of the validator with this number.
pub(crate) fn validator_key(number: u8) -> keys::SecretKey {
    keys::SecretKey::from_seed([number; 32])
}

/// How far every sender has counted, and the digest of how it came to that.
#[derive(Clone, PartialEq, Eq, Debug)]
struct State {
    tip: (u64, u64, Hash32),
    counts: BTreeMap<u8, u64>,
    due: Option<u64>,
    powers: BTreeMap<u8, u8>,
}

#[derive(Debug)]
pub(crate) struct Counter {
    committed: State,
    open: Option<State>,
    /// Comes to other digests than everybody else.
    pub(crate) lies: bool,
    /// Called with every proposal.
    pub(crate) on_proposal: Option<OnProposal>,
}

/// Receives the height, the number of candidates and how many of them had no place.
pub(crate) struct OnProposal(pub(crate) Box<dyn FnMut(u64, usize, usize) + Send>);

impl std::fmt::Debug for OnProposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnProposal")
    }
}

/// Transactions of senders from 200 on that were verified.
pub(crate) static VERIFIED: AtomicUsize = AtomicUsize::new(0);

impl Counter {
    /// Validators by number, with their powers.
    pub(crate) fn new(powers: &[(u8, u8)]) -> Counter {
        let tip = (0, 0, Hash32::default());
        let powers = powers.iter().copied().collect();
        let committed = State { tip, counts: BTreeMap::new(), due: None, powers };
        Counter { committed, open: None, lies: false, on_proposal: None }
    }

    pub(crate) fn count(&self, sender: u8) -> u64 {
        self.committed.counts.get(&sender).copied().unwrap_or(0)
    }

    /// Of the open block.
    fn executed(&self, outcomes: Vec<u64>, app_hash: Hash32) -> Executed<u64> {
        let stored = outcomes.iter().flat_map(|count| count.to_le_bytes()).collect();
        let next_validators = self.open.as_ref().expect("a block is open").validators();
        Executed { app_hash, next_validators, outcomes, stored }
    }

    /// Runs a block and says which transactions had a place in it.
    fn run(&mut self, context: &BlockContext, txs: &[Arc<Tx>]) -> (Vec<Option<u64>>, Hash32) {
        assert!(self.open.is_none(), "a block is open");
        assert_eq!(context.height.0, self.committed.tip.0 + 1);
        let mut state = self.committed.clone();
        if state.due.is_some_and(|due| due <= context.time.0) {
            state.due = None;
        }
        let mut digest = state.tip.2;
        let results = txs
            .iter()
            .map(|tx| {
                let count = state.counts.entry(tx.sender).or_default();
                if tx.kind == Kind::HasNoPlace || *count != tx.nonce {
                    return None;
                }
                *count += 1;
                digest = sha256(&[&digest.0, &tx.bytes()]);
                if tx.kind == Kind::AsksForABlock {
                    state.due = Some(context.time.0 + 1_000);
                }
                if tx.kind == Kind::SetsPower {
                    state.powers.insert(tx.sender, tx.arg);
                }
                Some(*count)
            })
            .collect();
        digest = sha256(&[&digest.0, &context.time.0.to_le_bytes(), &[u8::from(self.lies)]]);
        state.tip = (context.height.0, context.time.0, digest);
        self.open = Some(state);
        (results, digest)
    }
}

fn refusal(code: &'static str) -> Refusal {
    Refusal { code, message: code.to_owned() }
}

impl State {
    fn validators(&self) -> ValidatorSet {
        ValidatorSet::new(self.powers.iter().map(|(number, power)| ValidatorPower {
            key: types::sign::Sign::public_key(&validator_key(*number)),
            power: u64::from(*power),
        }))
    }
}

impl Application for Counter {
    type Tx = Tx;
    type Outcome = u64;

    fn verify(bytes: &[u8]) -> Result<Tx, Refusal> {
        let [sender, kind, arg, nonce @ ..] = bytes else { return Err(refusal("malformed")) };
        let kind = match kind {
            0 => Kind::Counts,
            1 => Kind::HasNoPlace,
            2 => Kind::FailsCheck,
            3 => Kind::AsksForABlock,
            4 => Kind::SetsPower,
            5 => Kind::CannotWait,
            _ => return Err(refusal("malformed")),
        };
        let nonce = u64::from_le_bytes(nonce.try_into().map_err(|_| refusal("malformed"))?);
        if *sender >= 200 {
            VERIFIED.fetch_add(1, Ordering::SeqCst);
        }
        Ok(Tx { sender: *sender, nonce, kind, arg: *arg })
    }

    fn tx_id(bytes: &[u8]) -> TxId {
        TxId(sha256(&[bytes]).0)
    }

    fn check(&self, tx: &Tx) -> Result<u64, Refusal> {
        if tx.kind == Kind::FailsCheck {
            return Err(refusal("fails"));
        }
        tx.nonce.checked_sub(self.count(tx.sender)).ok_or(refusal("nonce.too_low"))
    }

    fn check_queue(&self, queue: &[Arc<Tx>]) -> Result<(), (usize, Refusal)> {
        let place = queue.iter().position(|tx| tx.kind == Kind::CannotWait);
        place.filter(|place| *place > 0).map_or(Ok(()), |place| Err((place, refusal("unpaid"))))
    }

    fn propose(
        &mut self,
        context: &BlockContext,
        candidates: &[Arc<Tx>],
    ) -> Result<Proposal<u64>, AppError> {
        let (results, app_hash) = self.run(context, candidates);
        let left_out = results.iter().enumerate().filter(|(_, result)| result.is_none());
        let skipped: Vec<_> = left_out.map(|(place, _)| (place, refusal("no_place"))).collect();
        if let Some(OnProposal(told)) = &mut self.on_proposal {
            told(context.height.0, candidates.len(), skipped.len());
        }
        Ok(Proposal {
            executed: self.executed(results.into_iter().flatten().collect(), app_hash),
            skipped,
        })
    }

    fn execute(
        &mut self,
        context: &BlockContext,
        txs: &[Arc<Tx>],
    ) -> Result<Executed<u64>, AppError> {
        let (results, app_hash) = self.run(context, txs);
        let outcomes: Option<Vec<u64>> = results.into_iter().collect();
        match outcomes {
            Some(outcomes) => Ok(self.executed(outcomes, app_hash)),
            None => {
                self.rollback();
                Err(AppError { action: "execute", source: "no place".into() })
            }
        }
    }

    fn commit(&mut self) {
        self.committed = self.open.take().expect("no block is open");
    }

    fn rollback(&mut self) {
        self.open = None;
    }

    fn tip(&self) -> Tip {
        let (height, time, app_hash) = self.committed.tip;
        Tip { height: Height(height), time: TimeMs(time), app_hash }
    }

    fn validators(&self) -> ValidatorSet {
        self.committed.validators()
    }

    fn next_nonce(&self, account: &Address) -> Nonce {
        let counts = self.committed.counts.iter();
        let of = |sender: &u8| Address::of_key(&PublicKey([*sender; 32]));
        Nonce(counts.filter(|(sender, _)| of(sender) == *account).map(|(_, count)| *count).sum())
    }

    fn next_due(&self) -> Option<TimeMs> {
        self.committed.due.map(TimeMs)
    }

    fn snapshot(&self) -> Result<Vec<u8>, AppError> {
        let State { tip: (height, time, digest), counts, due, powers } = &self.committed;
        let counts: Vec<(u8, u64)> =
            counts.iter().map(|(sender, count)| (*sender, *count)).collect();
        let powers: Vec<(u8, u8)> = powers.iter().map(|(of, power)| (*of, *power)).collect();
        borsh::to_vec(&(height, time, digest, counts, due, powers))
            .map_err(|error| AppError { action: "snapshot", source: error.into() })
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), AppError> {
        type Form = (u64, u64, Hash32, Vec<(u8, u64)>, Option<u64>, Vec<(u8, u8)>);
        let (height, time, digest, counts, due, powers): Form = borsh::from_slice(snapshot)
            .map_err(|error| AppError { action: "restore", source: error.into() })?;
        let counts = counts.into_iter().collect();
        let powers = powers.into_iter().collect();
        self.committed = State { tip: (height, time, digest), counts, due, powers };
        Ok(())
    }

    fn outcome(stored: &[u8], index: u32) -> Option<u64> {
        let at = index as usize * 8;
        Some(u64::from_le_bytes(stored.get(at..at + 8)?.try_into().ok()?))
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub(crate) struct ManualClock(pub(crate) AtomicU64);

impl ManualClock {
    pub(crate) fn at(ms: u64) -> Arc<ManualClock> {
        Arc::new(ManualClock(AtomicU64::new(ms)))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> TimeMs {
        TimeMs(self.0.load(Ordering::SeqCst))
    }
}
