//! What outlives a process: an append-only journal for the hot path of gateway and provider, and
//! (redb) the block store of a validator.

mod blocks;
pub mod journal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use blocks::{Append, BlockStore, StoreError, StoredBlock, TxPlace, Undecided};
pub use journal::{Journal, JournalConfig, JournalError, RecordId};
