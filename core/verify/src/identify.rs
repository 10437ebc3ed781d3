//! Which model an answer is of, if it is not of the claimed one: the reference that explains it while the
//! claimed one does not.
//!
//! Each reference has its own process on the same tokens, with the scores against its logits and its own
//! honest mean. What was served by a reference is little evidence against it, and much against the others.

use types::ModelId;
pub use types::audit::{Identified, Worth};

use crate::eprocess::{ESCALATE, MilliNats};

/// The claimed model must have this much more evidence against it, in milli-nats: 20 nats, 5 · 10⁸ to one.
pub const RATIO_MIN: MilliNats = MilliNats(20_000);
/// References of one identification: the published quantizations of a model and its siblings.
pub const REFERENCES_MAX: usize = 64;

/// A model that might have been served instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reference {
    pub model: ModelId,
    pub worth: Worth,
    /// The evidence against it, on the same tokens as that against the claimed model.
    pub ln_e: MilliNats,
}

/// The reference with the least evidence against it, if that is below what escalates and at least
/// [`RATIO_MIN`] less than that against the claimed model; of equal ones the first. An answer that no reference explains
/// names nobody: it may be of a model that nobody thought of. References beyond [`REFERENCES_MAX`] are
/// not looked at.
pub fn identify(claimed: MilliNats, references: &[Reference]) -> Option<Identified> {
    let references = references.iter().take(REFERENCES_MAX);
    let best = references.min_by_key(|reference| reference.ln_e)?;
    let ratio = MilliNats(claimed.0.saturating_sub(best.ln_e.0));
    let Reference { model, worth, ln_e } = *best;
    (ln_e < ESCALATE && ratio >= RATIO_MIN).then_some(Identified { model, worth, ratio })
}

#[cfg(test)]
mod tests {

    use super::*;

    fn reference(n: u8, worth: Worth, ln_e: i64) -> Reference {
        Reference { model: ModelId([n; 32]), worth, ln_e: MilliNats(ln_e) }
    }

    fn check(claimed: i64, references: &[Reference], expected: Option<(u8, i64)>) {
        let found = identify(MilliNats(claimed), references);
        let found = found.map(|found| (found.model.0[0], found.ratio.0));
        assert_eq!(found, expected, "{claimed}");
    }

    #[test]
    fn the_reference_that_explains_is_named() {
        use Worth::{Cheaper, NotCheaper};
        let quants = [
            reference(6, Cheaper, 9_000),
            reference(4, Cheaper, -1_200),
            reference(16, NotCheaper, 40_000),
        ];
        check(20_800, &quants, Some((4, 22_000)));
        check(18_799, &quants, None);
        check(18_800, &quants, Some((4, 20_000)));
        check(1_000_000, &quants[2..], None);
        check(1_000_000, &[], None);
        check(i64::MAX, &[reference(1, Cheaper, i64::MIN)], Some((1, i64::MAX)));
        // Below what escalates, so it explains; at it, no longer.
        check(40_000, &[reference(1, Cheaper, 9_210)], Some((1, 30_790)));
        check(40_000, &[reference(1, Cheaper, 9_211)], None);
    }
}
