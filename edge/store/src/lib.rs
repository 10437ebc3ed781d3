//! What outlives a process: an append-only journal for the hot path of gateway and provider, and
//! (redb) the block store of a validator.

mod blocks;
pub mod journal;
mod round_log;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use blocks::{Anchor, Append, BlockStore, StoreError, StoredBlock, TxPlace};
pub use journal::{Journal, JournalConfig, JournalError, RecordId};
pub use round_log::{Record, RoundLog};
