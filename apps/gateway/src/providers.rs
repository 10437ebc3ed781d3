//! Providers: who is connected, what they offer, how they have behaved.

mod connection;
mod directory;
mod disclosure;
mod tallies;

pub(crate) use connection::{accept_providers, lane_claim};
pub(crate) use directory::{Chosen, Directory, Prefix, Slot};
pub use disclosure::DisclosureError;
pub(crate) use disclosure::disclose;
