//! The mempool against a list that does the same by looking at everything.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    tests::{Tx, address, entry},
    *,
};

const LIMITS: MempoolLimits = MempoolLimits {
    txs_max: 8,
    bytes_max: 160,
    sender_txs_max: 4,
    sender_bytes_max: 90,
    waiters_max: 2,
    age_ms_max: 60,
};

/// Something done to both.
#[derive(Clone, Debug)]
enum Step {
    Insert {
        sender: u8,
        ahead: u64,
        tip: u64,
        bytes: usize,
        valid_for: Option<u64>,
    },
    /// A block with the first so many candidates of one that holds `bytes`.
    Decide {
        count: usize,
        bytes: usize,
    },
    /// One of those that wait had no place in a block.
    Refuse {
        which: usize,
    },
    /// A block with somebody else's transactions of this sender.
    Advance {
        sender: u8,
        by: u64,
    },
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..5, 0u64..5, 0u64..30, 1usize..60, proptest::option::of(0u64..60)).prop_map(
            |(sender, ahead, tip, bytes, valid_for)| Step::Insert {
                sender, ahead, tip, bytes, valid_for
            }
        ),
        1 => (0usize..5, 1usize..200).prop_map(|(count, bytes)| Step::Decide { count, bytes }),
        1 => (0usize..8).prop_map(|which| Step::Refuse { which }),
        1 => (0u8..5, 1u64..3).prop_map(|(sender, by)| Step::Advance { sender, by }),
        1 => (0u64..40).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// What waits, in order of arrival.
#[derive(Default)]
struct Naive {
    items: Vec<Item>,
    arrivals: u64,
}

#[derive(Clone, Debug)]
struct Item {
    tx: Tx,
    bytes: usize,
    arrived: u64,
    arrival: u64,
}

impl Item {
    fn rate(&self) -> u128 {
        u128::from(self.tx.tip) * 1_024 / self.bytes as u128
    }
}

impl Naive {
    fn queue(&self, sender: u8) -> Vec<&Item> {
        let mut queue: Vec<&Item> =
            self.items.iter().filter(|item| item.tx.sender == sender).collect();
        queue.sort_by_key(|item| item.tx.nonce);
        queue
    }

    fn senders(&self) -> Vec<u8> {
        let mut senders: Vec<u8> = self.items.iter().map(|item| item.tx.sender).collect();
        senders.sort_unstable();
        senders.dedup();
        senders
    }

    fn insert(&mut self, tx: Tx, bytes: usize, now: u64, ahead: u64) -> Result<Vec<TxId>, Full> {
        self.arrivals += 1;
        let new = Item { tx, bytes, arrived: now, arrival: self.arrivals };
        let queue: Vec<Item> = self.queue(new.tx.sender).into_iter().cloned().collect();
        if ahead as usize > queue.len() {
            return self.refuse(Full::Gap);
        }
        let same = queue.get(ahead as usize);
        if let Some(same) = same {
            let tip_min = same.tx.tip + same.tx.tip / 10 + 1;
            if new.tx.tip < tip_min || new.rate() < same.rate() {
                return self.refuse(Full::NonceTaken { tip_min: Watt(u128::from(tip_min)) });
            }
        }
        let mut after = self.items.clone();
        after.retain(|item| Some(item.tx.id()) != same.map(|same| same.tx.id()));
        after.push(new.clone());
        let own: Vec<&Item> = after.iter().filter(|item| item.tx.sender == new.tx.sender).collect();
        if own.len() > LIMITS.sender_txs_max
            || own.iter().map(|item| item.bytes).sum::<usize>() > LIMITS.sender_bytes_max
        {
            return self.refuse(Full::Sender);
        }
        let before = queue.iter().take(ahead as usize).map(Item::rate);
        let worth = before.chain([new.rate()]).min().unwrap();
        let after = Naive { items: after, arrivals: self.arrivals };
        match after.make_room(new.tx.sender, worth) {
            Some(after) => {
                let left = self.items.iter().filter(|item| !after.has(&item.tx.id()));
                let left = left.map(|item| item.tx.id()).collect();
                *self = after;
                Ok(left)
            }
            None => self.refuse(Full::Pool),
        }
    }

    fn refuse(&mut self, why: Full) -> Result<Vec<TxId>, Full> {
        self.arrivals -= 1;
        Err(why)
    }

    fn has(&self, id: &TxId) -> bool {
        self.items.iter().any(|item| item.tx.id() == *id)
    }

    fn make_room(mut self, sender: u8, rate: u128) -> Option<Naive> {
        while self.items.len() > LIMITS.txs_max
            || self.items.iter().map(|item| item.bytes).sum::<usize>() > LIMITS.bytes_max
        {
            let others = self.senders().into_iter().filter(|other| *other != sender);
            let tails = others.map(|other| {
                let queue = self.queue(other);
                let worth = queue.iter().map(|item| item.rate()).min().unwrap();
                (worth, Reverse(queue.last().unwrap().arrival))
            });
            let (worth, Reverse(arrival)) = tails.min()?;
            if worth >= rate {
                return None;
            }
            self.items.retain(|item| item.arrival != arrival);
        }
        Some(self)
    }

    fn candidates(&self, bytes_max: usize) -> Vec<TxId> {
        let mut waiting: BTreeMap<u8, Vec<&Item>> =
            self.senders().into_iter().map(|sender| (sender, self.queue(sender))).collect();
        let worth = |head: &Item| {
            let queue = self.queue(head.tx.sender).into_iter();
            queue.take_while(|it| it.tx.nonce <= head.tx.nonce).map(Item::rate).min()
        };
        let (mut taken, mut bytes) = (Vec::new(), 0);
        loop {
            let heads = waiting.iter().filter_map(|(sender, queue)| Some((sender, queue.first()?)));
            let best = heads.min_by_key(|(_, head)| (Reverse(worth(head)), head.arrival));
            let Some((sender, head)) = best else { return taken };
            let (sender, fits) = (*sender, bytes + head.bytes <= bytes_max);
            if fits {
                bytes += head.bytes;
                taken.push(head.tx.id());
                waiting.get_mut(&sender).unwrap().remove(0);
            } else {
                waiting.remove(&sender);
            }
        }
    }

    /// Keeps of every sender what begins at its next nonce and has no gap.
    fn rebase(&mut self, next: &BTreeMap<u8, u64>) -> Vec<TxId> {
        let mut kept = Vec::new();
        for sender in self.senders() {
            let mut expected = next.get(&sender).copied().unwrap_or(0);
            for item in self.queue(sender) {
                if item.tx.nonce == expected {
                    kept.push(item.tx.id());
                    expected += 1;
                }
            }
        }
        self.keep(|item| kept.contains(&item.tx.id()))
    }

    fn expire(&mut self, now: u64, next: &BTreeMap<u8, u64>) -> Vec<TxId> {
        let mut gone = self.keep(|item| {
            let valid = item.tx.valid_until.is_none_or(|until| now <= until);
            valid && now < item.arrived + LIMITS.age_ms_max
        });
        gone.extend(self.rebase(next));
        gone
    }

    fn keep(&mut self, keep: impl Fn(&Item) -> bool) -> Vec<TxId> {
        let gone = self.items.iter().filter(|item| !keep(item)).map(|item| item.tx.id()).collect();
        self.items.retain(keep);
        gone
    }
}

/// Both, the accounts, and the time.
struct Pair {
    mempool: Mempool<Tx, u8>,
    naive: Naive,
    next: BTreeMap<u8, u64>,
    now: u64,
    salt: u64,
}

fn sorted(mut ids: Vec<TxId>) -> Vec<TxId> {
    ids.sort_unstable();
    ids
}

fn ids(entries: &[Entry<Tx, u8>]) -> Vec<TxId> {
    entries.iter().map(|entry| entry.tx.id()).collect()
}

impl Pair {
    fn next_nonce(&self) -> impl Fn(&Address) -> Nonce + use<> {
        let next: BTreeMap<Address, u64> =
            self.next.iter().map(|(sender, nonce)| (address(*sender), *nonce)).collect();
        move |sender| Nonce(next.get(sender).copied().unwrap_or(0))
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Insert { sender, ahead, tip, bytes, valid_for } => {
                self.salt += 1;
                let nonce = self.next.get(&sender).copied().unwrap_or(0) + ahead;
                let valid_until = valid_for.map(|ms| self.now + ms);
                let tx = Tx { sender, nonce, tip, valid_until, salt: self.salt };
                let expected = self.naive.insert(tx.clone(), bytes, self.now, ahead);
                let given = self.mempool.insert(entry(tx, bytes, self.now), ahead);
                let given = given.map(|out| sorted(ids(&out))).map_err(|refused| refused.why);
                assert_eq!(given, expected.map(sorted));
            }
            Step::Decide { count, bytes } => {
                let given = self.mempool.candidates(count, bytes);
                let expected = self.naive.candidates(bytes);
                let decided: Vec<TxId> = given.iter().map(|given| given.tx.id()).collect();
                assert_eq!(decided, expected[..count.min(expected.len())]);
                for candidate in &given {
                    let next = self.next.entry(candidate.tx.sender).or_default();
                    assert_eq!(candidate.tx.nonce, *next, "in the order of nonces");
                    *next += 1;
                }
                let mut gone = ids(&self.mempool.remove(&decided));
                let senders: Vec<Address> = given.iter().map(|it| it.tx.sender()).collect();
                gone.extend(ids(&self.mempool.rebase_senders(&senders, self.next_nonce())));
                assert_eq!(sorted(gone), sorted(self.naive.rebase(&self.next)));
            }
            Step::Refuse { which } => {
                let Some(item) = self.naive.items.get(which).cloned() else { return };
                let mut expected = self.naive.keep(|other| other.arrival != item.arrival);
                expected.extend(self.naive.rebase(&self.next));
                let mut gone = ids(&self.mempool.remove(&[item.tx.id()]));
                let next = self.next_nonce();
                gone.extend(ids(&self.mempool.rebase_senders(&[item.tx.sender()], next)));
                assert_eq!(sorted(gone), sorted(expected));
            }
            Step::Advance { sender, by } => {
                *self.next.entry(sender).or_default() += by;
                let gone = ids(&self.mempool.rebase(self.next_nonce()));
                assert_eq!(sorted(gone), sorted(self.naive.rebase(&self.next)));
            }
            Step::Wait { ms } => {
                self.now += ms;
                let gone = ids(&self.mempool.expire(TimeMs(self.now)));
                assert_eq!(sorted(gone), sorted(self.naive.expire(self.now, &self.next)));
            }
        }
    }

    fn compare(&self) {
        let held: Vec<TxId> = self.mempool.iter().map(|(id, _)| id).collect();
        let expected = self.naive.items.iter().map(|item| item.tx.id()).collect();
        assert_eq!(sorted(held), sorted(expected));
        let bytes: usize = self.naive.items.iter().map(|item| item.bytes).sum();
        assert_eq!((self.mempool.len(), self.mempool.bytes()), (self.naive.items.len(), bytes));
        assert!(self.mempool.len() <= LIMITS.txs_max && bytes <= LIMITS.bytes_max);
        self.check_indexes();
    }

    /// What is derived from the queues says what they say.
    fn check_indexes(&self) {
        let pool = &self.mempool;
        assert_eq!(pool.heads.len(), pool.queues.len());
        assert_eq!(pool.tails.len(), pool.queues.len());
        assert_eq!((pool.deadlines.len(), pool.ids.len()), (pool.len(), pool.len()));
        for (sender, queue) in &pool.queues {
            let (head, tail) = (queue.slots.front().unwrap(), queue.slots.back().unwrap());
            assert!(pool.heads.contains(&(Reverse(head.rate), head.arrival, *sender)));
            assert!(pool.tails.contains(&(tail.worth, Reverse(tail.arrival), *sender)));
            for (nonce, slot) in (queue.first.0..).zip(&queue.slots) {
                assert_eq!(slot.entry.tx.nonce, nonce, "no gap");
                let id = slot.entry.tx.id();
                assert_eq!(pool.ids.get(&id), Some(&(*sender, Nonce(nonce))));
                assert!(pool.deadlines.contains(&(slot.deadline, id)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_mempool_does_what_a_list_does(steps in proptest::collection::vec(step(), 1..80)) {
        let mut pair = Pair {
            mempool: Mempool::new(LIMITS),
            naive: Naive::default(),
            next: BTreeMap::new(),
            now: 0,
            salt: 0,
        };
        for step in &steps {
            pair.take(step);
            pair.compare();
        }
    }
}
