//! The web page at the gateway: what runs, which models there are, what the last requests cost and
//! who gets it, the ledger, audits, and a chat box that streams.
//!
//! Rendered here, on each request, from a [`Source`]; the script only refreshes parts of a page and
//! runs the chat box. It is not an API: programs use the gateway's and the validator's.
//!
//! Invariants: no page holds a key. Every route answers only under a host of the [`HostPolicy`].
//! The one route that spends, `POST /ui/chat`, answers only to the page itself. Text of providers
//! and users reaches the page through maud's escaping or the script's `textContent`, nothing else.

mod source;

mod guard;
mod routes;

mod assets;
mod chat;
mod page;
mod show;

mod live;
mod picture;

pub use guard::{BadHostName, HostPolicy};
pub use live::LiveSource;
pub use routes::router;
pub use show::utc;
pub use source::{Audits, Balance, LedgerView, Site, Source, SourceError};
