//! The stateless phase, signatures above all, for as many transactions at once as there are: a batch costs
//! less than its parts, and it uses all cores.

use std::{num::NonZero, sync::Arc, thread};

use replication::mempool::Full;
use tokio::sync::mpsc;

use crate::{
    Application, Refusal, SubmitError,
    handle::{Submission, Unverified},
};

/// Fewer transactions than this are checked on one thread.
const PARALLEL_FROM: usize = 16;
/// Submissions that are checked at once. Those that come meanwhile wait for them.
const BATCH_MAX: usize = 512;

/// The stateless phase of all of a block. The first that fails is named by its place.
pub fn verify_all<A: Application>(txs: &[Vec<u8>]) -> Result<Vec<A::Tx>, (usize, Refusal)> {
    let verified = verify_each::<A, _>(txs).into_iter().enumerate();
    verified.map(|(index, tx)| tx.map_err(|refusal| (index, refusal))).collect()
}

/// The stateless phase of many transactions, in their order.
pub(crate) fn verify_each<A, B>(txs: &[B]) -> Vec<Result<A::Tx, Refusal>>
where
    A: Application,
    B: AsRef<[u8]> + Sync,
{
    let check = |share: &[B]| {
        let share: Vec<&[u8]> = share.iter().map(AsRef::as_ref).collect();
        A::verify_many(&share)
    };
    if txs.len() < PARALLEL_FROM {
        return check(txs);
    }
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let shares = txs.chunks(txs.len().div_ceil(threads));
    thread::scope(|scope| {
        let workers: Vec<_> = shares.map(|share| scope.spawn(move || check(share))).collect();
        let mut verified = Vec::with_capacity(txs.len());
        for worker in workers {
            match worker.join() {
                Ok(share) => verified.extend(share),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        verified
    })
}

/// Checks what is submitted and passes it on, in the order in which it came. Runs until nobody can
/// submit any more.
pub(crate) async fn verify_submissions<A: Application>(
    mut unverified: mpsc::Receiver<Unverified<A>>,
    verified: mpsc::Sender<Submission<A>>,
) {
    let mut batch = Vec::new();
    while unverified.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let batch = std::mem::take(&mut batch);
        let verified = verified.clone();
        let checked = tokio::task::spawn_blocking(move || pass_on(batch, &verified));
        // One that panicked drops its waiters, and they are told.
        drop(checked.await);
    }
}

fn pass_on<A: Application>(batch: Vec<Unverified<A>>, verified: &mpsc::Sender<Submission<A>>) {
    let (bytes, waiters): (Vec<Arc<[u8]>>, Vec<_>) =
        batch.into_iter().map(|Unverified { bytes, waiter }| (bytes, waiter)).unzip();
    let txs = verify_each::<A, _>(&bytes);
    for ((tx, bytes), waiter) in txs.into_iter().zip(bytes).zip(waiters) {
        let tx = match tx {
            Ok(tx) => Arc::new(tx),
            Err(source) => {
                // Whoever submitted may have gone.
                let _ = waiter.send(Err(SubmitError::Malformed { source }));
                continue;
            }
        };
        let (waiter, error) = match verified.try_send(Submission { tx, bytes, waiter }) {
            Ok(()) => continue,
            Err(mpsc::error::TrySendError::Full(of)) => {
                (of.waiter, SubmitError::NotTaken { reason: Full::Pool })
            }
            Err(mpsc::error::TrySendError::Closed(of)) => (of.waiter, SubmitError::Halted),
        };
        let _ = waiter.send(Err(error));
    }
}
