//! Audits: what evidence costs a provider (`docs/spec/audits.md`).

mod sanction;

pub use sanction::sanction;
