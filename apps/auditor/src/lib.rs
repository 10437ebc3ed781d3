//! Audits: what a provider answered and committed to, beside a verifier's own run of the model.
//!
//! [`answer`] takes a receipt and its opening apart and checks that they are about one thing; [`judge`] runs the model over
//! the answer and says what it found; [`calibrate`] does the same to an engine that is known to be honest. The
//! arithmetic is `verify`'s, the rules by which evidence costs somebody something are the ledger's: nothing here decides.

pub mod answer;
pub mod calibrate;
pub mod judge;
pub mod picture;
