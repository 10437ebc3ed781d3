//! What outlives a process: an append-only journal for the hot path of gateway and provider, and
//! (redb) the block store of a validator.

pub mod journal;

pub use journal::{Journal, JournalConfig, JournalError, RecordId};
