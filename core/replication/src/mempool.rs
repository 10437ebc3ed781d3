//! Transactions that wait for a block, bounded in every direction.
//!
//! Invariants: the transactions of one sender are in the order of their nonces, without gaps,
//! beginning at the nonce of its account; so whatever is taken in the order of
//! [`Mempool::candidates`] can be executed in that order. Between senders the tip per byte decides,
//! then who came first: of each sender only the next transaction competes, and what stands behind
//! one that pays little counts for no more than that one.
//!
//! Every operation costs O(log n) for each transaction that it adds, takes or names; what touches a
//! sender also walks that sender's queue, which [`MempoolLimits::sender_txs_max`] bounds.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    sync::Arc,
};

use types::{
    Address, Nonce, TimeMs, TxId, Watt,
    amount::{Rounding, mul_div},
    tx::VerifiedTx,
};

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

/// Senders whose next transaction did not fit, after which a block counts as full.
const MISFITS_MAX: usize = 32;

/// A transaction that has come to the front of its queue: its worth, arrival, sender and place.
type Next = (Reverse<u128>, u64, Address, usize);

/// What ordering needs to know about a transaction.
pub trait Transaction: Send + Sync + 'static {
    fn id(&self) -> TxId;
    fn sender(&self) -> Address;
    fn nonce(&self) -> Nonce;
    /// Paid for an earlier place.
    fn tip(&self) -> Watt;
    /// The last moment at which it may be in a block.
    fn valid_until(&self) -> Option<TimeMs>;
}

impl Transaction for VerifiedTx {
    fn id(&self) -> TxId {
        VerifiedTx::id(self)
    }

    fn sender(&self) -> Address {
        VerifiedTx::sender(self)
    }

    fn nonce(&self) -> Nonce {
        self.tx().nonce
    }

    fn tip(&self) -> Watt {
        self.tx().tip
    }

    fn valid_until(&self) -> Option<TimeMs> {
        self.tx().valid_until
    }
}

/// How much may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MempoolLimits {
    pub txs_max: usize,
    pub bytes_max: usize,
    /// Of one sender, so that nobody fills the pool alone.
    pub sender_txs_max: usize,
    pub sender_bytes_max: usize,
    /// Submitters that wait for one and the same transaction.
    pub waiters_max: usize,
    /// After this long nobody waits any more, and a transaction that no proposer wanted goes.
    pub age_ms_max: u64,
}

impl MempoolLimits {
    /// Twice what fits into the largest block, of one sender as many as the ledger lets wait; an
    /// hour.
    pub const STANDARD: MempoolLimits = MempoolLimits {
        txs_max: 4_000,
        bytes_max: 8 * 1024 * 1024,
        sender_txs_max: 64,
        sender_bytes_max: 1024 * 1024,
        waiters_max: 8,
        age_ms_max: 60 * 60 * 1_000,
    };
}

/// A transaction with its bytes and those who wait for it.
#[derive(Debug)]
pub struct Entry<T, W> {
    pub tx: Arc<T>,
    pub bytes: Arc<[u8]>,
    pub waiters: Vec<W>,
    pub arrived: TimeMs,
}

/// A transaction to be proposed. It goes on waiting until its block is decided.
#[derive(Debug)]
pub struct Candidate<T> {
    pub tx: Arc<T>,
    pub bytes: Arc<[u8]>,
}

/// Why a transaction may not wait, or does not wait any longer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Full {
    /// Of everybody's transactions, and none of those that would have to go pays less.
    Pool,
    /// Of this sender's.
    Sender,
    /// Of those who wait for this one.
    Waiters,
    /// Transactions of the sender that come before it are missing.
    Gap,
    /// Another transaction of the sender with the same nonce waits, and would have to be outbid.
    NonceTaken { tip_min: Watt },
    /// Another transaction of the sender took its nonce while it waited.
    Replaced,
    /// It had to make room for one that pays more.
    Evicted,
    /// A block used its nonce, or a transaction that it stood behind has gone.
    OutOfTurn,
    /// It was too old, or valid until a moment that has passed.
    Expired,
}

/// An entry that was not taken.
#[derive(Debug)]
pub struct Refused<T, W> {
    pub why: Full,
    pub entry: Entry<T, W>,
}

/// The waiting transactions.
#[derive(Debug)]
pub struct Mempool<T, W> {
    limits: MempoolLimits,
    /// None of the queues is empty.
    queues: BTreeMap<Address, Queue<T, W>>,
    ids: BTreeMap<TxId, (Address, Nonce)>,
    /// The next transaction of every sender, best first.
    heads: BTreeSet<(Reverse<u128>, u64, Address)>,
    /// The last transaction of every sender, the first to be evicted first.
    tails: BTreeSet<(u128, Reverse<u64>, Address)>,
    /// When each has waited long enough.
    deadlines: BTreeSet<(TimeMs, TxId)>,
    bytes: usize,
    /// Counts arrivals.
    arrivals: u64,
}

/// The transactions of one sender: the `n`th has the nonce `first + n`.
#[derive(Debug)]
struct Queue<T, W> {
    first: Nonce,
    bytes: usize,
    slots: VecDeque<Slot<T, W>>,
}

#[derive(Debug)]
struct Slot<T, W> {
    entry: Entry<T, W>,
    arrival: u64,
    /// Tip for 1 024 bytes.
    rate: u128,
    /// The lowest rate up to here in the queue: what keeping it is worth.
    worth: u128,
    deadline: TimeMs,
}

impl<T: Transaction, W> Entry<T, W> {
    /// Tip for 1 024 bytes, rounded down.
    fn rate(&self) -> u128 {
        let bytes = u128::try_from(self.bytes.len()).unwrap_or(u128::MAX).max(1);
        mul_div(self.tx.tip().0, 1_024, bytes, Rounding::Down).unwrap_or(u128::MAX)
    }

    fn deadline(&self, limits: &MempoolLimits) -> TimeMs {
        let age = self.arrived.plus_ms(limits.age_ms_max);
        self.tx.valid_until().map_or(age, |until| age.min(until.plus_ms(1)))
    }
}

impl<T: Transaction, W> Mempool<T, W> {
    pub fn new(limits: MempoolLimits) -> Mempool<T, W> {
        Mempool {
            limits,
            queues: BTreeMap::new(),
            ids: BTreeMap::new(),
            heads: BTreeSet::new(),
            tails: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            bytes: 0,
            arrivals: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub fn contains(&self, id: &TxId) -> bool {
        self.ids.contains_key(id)
    }

    /// The bytes of a transaction that waits.
    pub fn get(&self, id: &TxId) -> Option<&Arc<[u8]>> {
        let (sender, nonce) = self.ids.get(id)?;
        let queue = self.queues.get(sender)?;
        Some(&queue.slots.get(queue.place(*nonce)?)?.entry.bytes)
    }

    /// A transaction that waits, so that nobody checks its signatures again.
    pub fn tx(&self, id: &TxId) -> Option<Arc<T>> {
        let (sender, nonce) = self.ids.get(id)?;
        let queue = self.queues.get(sender)?;
        Some(Arc::clone(&queue.slots.get(queue.place(*nonce)?)?.entry.tx))
    }

    /// Every transaction, those of one sender in their order: what a new peer is told.
    pub fn iter(&self) -> impl Iterator<Item = (TxId, &Arc<[u8]>)> {
        let slots = self.queues.values().flat_map(|queue| queue.slots.iter());
        slots.map(|slot| (slot.entry.tx.id(), &slot.entry.bytes))
    }

    /// What waits of one sender, in order.
    pub fn of_sender(&self, sender: &Address) -> impl Iterator<Item = &Arc<T>> + use<'_, T, W> {
        let slots = self.queues.get(sender).into_iter().flat_map(|queue| queue.slots.iter());
        slots.map(|slot| &slot.entry.tx)
    }

    /// Whoever has a transaction here.
    pub fn senders(&self) -> impl Iterator<Item = &Address> {
        self.queues.keys()
    }

    /// Adds somebody who waits for a transaction that is here already. Gives `waiter` back if there
    /// is no room for it, or no such transaction.
    pub fn join(&mut self, id: &TxId, waiter: W) -> Result<(), W> {
        let waiters_max = self.limits.waiters_max;
        match self.slot_mut(id) {
            Some(slot) if slot.entry.waiters.len() < waiters_max => {
                slot.entry.waiters.push(waiter);
                Ok(())
            }
            Some(_) | None => Err(waiter),
        }
    }

    fn slot_mut(&mut self, id: &TxId) -> Option<&mut Slot<T, W>> {
        let (sender, nonce) = self.ids.get(id)?;
        let queue = self.queues.get_mut(sender)?;
        let place = queue.place(*nonce)?;
        queue.slots.get_mut(place)
    }

    /// Adds a transaction whose sender has to make `ahead` others first. What had to go for it
    /// comes back: the one of the same sender was [`Full::Replaced`], others [`Full::Evicted`]. If it
    /// is refused nothing has changed.
    pub fn insert(
        &mut self,
        entry: Entry<T, W>,
        ahead: u64,
    ) -> Result<Vec<Entry<T, W>>, Refused<T, W>> {
        match self.room(&entry, ahead) {
            Ok(victims) => {
                let evicted = self.evict(&victims);
                let replaced = self.put(entry);
                Ok(replaced.into_iter().chain(evicted).collect())
            }
            Err(why) => Err(Refused { why, entry }),
        }
    }

    /// How many transactions of which senders have to go, from the end of their queues, for `entry`
    /// to wait.
    fn room(&self, entry: &Entry<T, W>, ahead: u64) -> Result<BTreeMap<Address, usize>, Full> {
        let (sender, nonce) = (entry.tx.sender(), entry.tx.nonce());
        let (mut rate, mut bytes_freed, mut txs_freed) = (entry.rate(), 0, 0);
        let ahead = usize::try_from(ahead).map_err(|_| Full::Gap)?;
        match self.queues.get(&sender) {
            None if ahead > 0 => return Err(Full::Gap),
            None => self.sender_room(0, 0, entry)?,
            Some(queue) => {
                // Where the caller says that it stands is where it stands, or somebody forgot to
                // rebase.
                let place = queue.place(nonce).filter(|place| *place == ahead);
                let place = place.filter(|place| *place <= queue.slots.len()).ok_or(Full::Gap)?;
                let same = queue.slots.get(place);
                if let Some(same) = same {
                    same.check_outbid(entry)?;
                    (bytes_freed, txs_freed) = (same.entry.bytes.len(), 1);
                }
                let (txs, bytes) = (queue.slots.len(), queue.bytes);
                let bytes = bytes.saturating_sub(bytes_freed);
                self.sender_room(txs.saturating_sub(txs_freed), bytes, entry)?;
                let before = place.checked_sub(1).and_then(|before| queue.slots.get(before));
                rate = before.map_or(rate, |before| before.worth.min(rate));
            }
        }
        let txs = self.len().saturating_sub(txs_freed).saturating_add(1);
        let bytes = self.bytes.saturating_sub(bytes_freed).saturating_add(entry.bytes.len());
        let txs_over = txs.saturating_sub(self.limits.txs_max);
        let bytes_over = bytes.saturating_sub(self.limits.bytes_max);
        self.victims(sender, rate, txs_over, bytes_over).ok_or(Full::Pool)
    }

    fn sender_room(&self, txs: usize, bytes: usize, entry: &Entry<T, W>) -> Result<(), Full> {
        let bytes = bytes.saturating_add(entry.bytes.len());
        let over = txs >= self.limits.sender_txs_max || bytes > self.limits.sender_bytes_max;
        if over { Err(Full::Sender) } else { Ok(()) }
    }

    /// The ends of the queues of others that are worth less than `rate` and make up for what is
    /// over, the least valuable first. `None` if that is not enough.
    fn victims(
        &self,
        sender: Address,
        rate: u128,
        mut txs_over: usize,
        mut bytes_over: usize,
    ) -> Option<BTreeMap<Address, usize>> {
        let mut victims: BTreeMap<Address, usize> = BTreeMap::new();
        let mut tails = self.tails.iter().filter(|(_, _, other)| *other != sender).peekable();
        // What comes to stand at the end when the one behind it has gone.
        let mut next: BinaryHeap<Reverse<(u128, Reverse<u64>, Address)>> = BinaryHeap::new();
        while txs_over > 0 || bytes_over > 0 {
            let from_next = match (tails.peek(), next.peek()) {
                (Some(tail), Some(Reverse(next))) => next < *tail,
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (None, None) => return None,
            };
            let (worth, _, other) = match from_next {
                true => next.pop()?.0,
                false => *tails.next()?,
            };
            if worth >= rate {
                return None;
            }
            let queue = self.queues.get(&other)?;
            let gone = victims.entry(other).or_default();
            let place = queue.slots.len().checked_sub(*gone)?.checked_sub(1)?;
            *gone = gone.saturating_add(1);
            txs_over = txs_over.saturating_sub(1);
            bytes_over = bytes_over.saturating_sub(queue.slots.get(place)?.entry.bytes.len());
            if let Some(before) = place.checked_sub(1).and_then(|place| queue.slots.get(place)) {
                next.push(Reverse((before.worth, Reverse(before.arrival), other)));
            }
        }
        Some(victims)
    }

    fn evict(&mut self, victims: &BTreeMap<Address, usize>) -> Vec<Entry<T, W>> {
        let mut evicted = Vec::new();
        for (sender, count) in victims {
            self.edit(*sender, |queue| {
                let kept = queue.slots.len().saturating_sub(*count);
                evicted.extend(queue.slots.split_off(kept));
            });
        }
        self.forget(evicted)
    }

    /// Adds a transaction for which there is room, in the place of another if there is one.
    fn put(&mut self, entry: Entry<T, W>) -> Option<Entry<T, W>> {
        let (id, sender, nonce) = (entry.tx.id(), entry.tx.sender(), entry.tx.nonce());
        self.arrivals = self.arrivals.saturating_add(1);
        let (rate, deadline) = (entry.rate(), entry.deadline(&self.limits));
        let bytes = entry.bytes.len();
        let slot = Slot { entry, arrival: self.arrivals, rate, worth: rate, deadline };
        self.queues.entry(sender).or_insert_with(|| Queue {
            first: nonce,
            bytes: 0,
            slots: VecDeque::new(),
        });
        let mut replaced = None;
        self.edit(sender, |queue| {
            let place = queue.place(nonce).unwrap_or(usize::MAX);
            match queue.slots.get_mut(place) {
                Some(same) => replaced = Some(std::mem::replace(same, slot)),
                None => queue.slots.push_back(slot),
            }
        });
        let replaced = self.forget(replaced).pop();
        self.ids.insert(id, (sender, nonce));
        self.deadlines.insert((deadline, id));
        self.bytes = self.bytes.saturating_add(bytes);
        replaced
    }

    /// What a block of this size should hold, in order. Never more than that: a sender whose next
    /// transaction does not fit has to wait for another block.
    pub fn candidates(&self, txs_max: usize, bytes_max: usize) -> Vec<Candidate<T>> {
        let mut candidates = Vec::new();
        let (mut bytes_left, mut misfits) = (bytes_max, 0usize);
        let mut heads = self.heads.iter().peekable();
        // What comes to stand at the front when the one before it was taken, and its place.
        let mut next: BinaryHeap<Reverse<Next>> = BinaryHeap::new();
        while candidates.len() < txs_max && misfits < MISFITS_MAX {
            let from_next = match (heads.peek(), next.peek()) {
                (Some(head), Some(Reverse((rate, arrival, ..)))) => {
                    (*rate, *arrival) < (head.0, head.1)
                }
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (None, None) => break,
            };
            let first = match from_next {
                true => next.pop().map(|Reverse((_, _, sender, place))| (sender, place)),
                false => heads.next().map(|(_, _, sender)| (*sender, 0)),
            };
            let Some((sender, place)) = first else { break };
            let Some(queue) = self.queues.get(&sender) else { continue };
            let Some(slot) = queue.slots.get(place) else { continue };
            let Some(left) = bytes_left.checked_sub(slot.entry.bytes.len()) else {
                misfits = misfits.saturating_add(1);
                continue;
            };
            bytes_left = left;
            let Entry { tx, bytes, .. } = &slot.entry;
            candidates.push(Candidate { tx: Arc::clone(tx), bytes: Arc::clone(bytes) });
            let place = place.saturating_add(1);
            if let Some(slot) = queue.slots.get(place) {
                next.push(Reverse((Reverse(slot.worth), slot.arrival, sender, place)));
            }
        }
        candidates
    }

    /// Takes out what was decided or refused at execution. What comes back holds also those of the
    /// same senders that stand behind a gap now. Before anything else is added, the senders have to
    /// be rebased.
    pub fn remove(&mut self, ids: &[TxId]) -> Vec<Entry<T, W>> {
        let mut named: BTreeMap<Address, BTreeSet<Nonce>> = BTreeMap::new();
        for id in ids {
            if let Some((sender, nonce)) = self.ids.get(id) {
                named.entry(*sender).or_default().insert(*nonce);
            }
        }
        let mut gone = Vec::new();
        for (sender, nonces) in named {
            self.edit(sender, |queue| {
                while nonces.contains(&queue.first) && queue.take_first(&mut gone) {}
                let kept = nonces.iter().find_map(|nonce| queue.place(*nonce));
                gone.extend(kept.into_iter().flat_map(|kept| queue.cut(kept)));
            });
        }
        self.forget(gone)
    }

    /// After a block: takes out whatever has a used nonce, or a gap before it, by what `next_nonce`
    /// says of every sender.
    pub fn rebase(&mut self, next_nonce: impl Fn(&Address) -> Nonce) -> Vec<Entry<T, W>> {
        let senders: Vec<Address> = self.queues.keys().copied().collect();
        self.rebase_senders(&senders, next_nonce)
    }

    /// As [`Mempool::rebase`], of these senders only: those that have a transaction in the block.
    pub fn rebase_senders(
        &mut self,
        senders: &[Address],
        next_nonce: impl Fn(&Address) -> Nonce,
    ) -> Vec<Entry<T, W>> {
        let mut gone = Vec::new();
        for sender in senders
            .iter()
            .filter(|sender| self.queues.contains_key(sender))
            .copied()
            .collect::<BTreeSet<_>>()
        {
            let next = next_nonce(&sender);
            if self.queues.get(&sender).is_some_and(|queue| queue.first == next) {
                continue;
            }
            self.edit(sender, |queue| {
                while queue.first < next && queue.take_first(&mut gone) {}
                if queue.first > next {
                    gone.extend(queue.cut(0));
                }
            });
        }
        self.forget(gone)
    }

    /// Takes out what is too old, and what stands behind it in its sender's queue.
    pub fn expire(&mut self, now: TimeMs) -> Vec<Entry<T, W>> {
        let mut gone = Vec::new();
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let Some((sender, nonce)) = self.ids.get(&id).copied() else { continue };
            let mut cut = Vec::new();
            self.edit(sender, |queue| {
                cut.extend(queue.place(nonce).into_iter().flat_map(|place| queue.cut(place)));
            });
            gone.extend(self.forget(cut));
        }
        gone
    }

    /// When [`Mempool::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<TimeMs> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Changes a queue and what is derived from it. What the change takes out must be forgotten.
    fn edit(&mut self, sender: Address, change: impl FnOnce(&mut Queue<T, W>)) {
        let Some(queue) = self.queues.get_mut(&sender) else { return };
        if let (Some(head), Some(tail)) = (queue.slots.front(), queue.slots.back()) {
            self.heads.remove(&(Reverse(head.rate), head.arrival, sender));
            self.tails.remove(&(tail.worth, Reverse(tail.arrival), sender));
        }
        change(queue);
        queue.recount();
        if let (Some(head), Some(tail)) = (queue.slots.front(), queue.slots.back()) {
            self.heads.insert((Reverse(head.rate), head.arrival, sender));
            self.tails.insert((tail.worth, Reverse(tail.arrival), sender));
        } else {
            self.queues.remove(&sender);
        }
    }

    fn forget(&mut self, slots: impl IntoIterator<Item = Slot<T, W>>) -> Vec<Entry<T, W>> {
        let forget = |slot: Slot<T, W>| {
            let id = slot.entry.tx.id();
            self.ids.remove(&id);
            self.deadlines.remove(&(slot.deadline, id));
            self.bytes = self.bytes.saturating_sub(slot.entry.bytes.len());
            slot.entry
        };
        slots.into_iter().map(forget).collect()
    }
}

impl<T: Transaction, W> Queue<T, W> {
    /// Where `nonce` stands or would stand. `None`: before the first.
    fn place(&self, nonce: Nonce) -> Option<usize> {
        usize::try_from(nonce.0.checked_sub(self.first.0)?).ok()
    }

    /// Moves the first one out. False if there is none.
    fn take_first(&mut self, to: &mut Vec<Slot<T, W>>) -> bool {
        let first = self.slots.pop_front();
        let taken = first.is_some();
        if taken {
            self.first = Nonce(self.first.0.saturating_add(1));
        }
        to.extend(first);
        taken
    }

    /// Takes what stands at `place` and behind it.
    fn cut(&mut self, place: usize) -> VecDeque<Slot<T, W>> {
        self.slots.split_off(place.min(self.slots.len()))
    }

    fn recount(&mut self) {
        let (mut worth, mut bytes) = (u128::MAX, 0usize);
        for slot in &mut self.slots {
            worth = worth.min(slot.rate);
            slot.worth = worth;
            bytes = bytes.saturating_add(slot.entry.bytes.len());
        }
        self.bytes = bytes;
    }
}

impl<T: Transaction, W> Slot<T, W> {
    /// Whether `entry` may take the place of this one: its tip is a tenth and one unit higher, so
    /// that sending ever new ones costs, and it pays no less for each byte, so that the pool never
    /// loses.
    fn check_outbid(&self, entry: &Entry<T, W>) -> Result<(), Full> {
        let tip = self.entry.tx.tip().0;
        let tenth = tip.checked_div(10).unwrap_or(0);
        let tip_min = Watt(tip.saturating_add(tenth).saturating_add(1));
        if entry.tx.tip() < tip_min || entry.rate() < self.rate {
            return Err(Full::NonceTaken { tip_min });
        }
        Ok(())
    }
}
