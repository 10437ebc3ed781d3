//! Audits: what a provider answered and committed to, beside a verifier's own run of the model.
//!
//! [`answer`] takes a receipt and its opening apart and checks that they are about one thing; [`judge`] runs the model over
//! answers and says what it found; [`calibrate`] does the same to an engine that is known to be honest. The
//! arithmetic is `verify`'s, the rules by which evidence costs somebody something are the ledger's: nothing here decides.
//!
//! [`run`] is the auditor of a validator: it takes openings (`intake`), judges them when they are due ([`desk`]) by the models
//! that it has ([`shelf`]) or fetches ([`mirror`]), writes down what it will say ([`docket`]), and says it on the ledger, which it reads like any
//! third party. [`canary`] asks gateways for answers that no round can be about.

pub mod answer;
pub mod calibrate;
pub mod judge;
pub mod picture;

pub mod canary;
pub mod desk;
pub mod docket;
mod intake;
pub mod mirror;
pub mod run;
pub mod shelf;
