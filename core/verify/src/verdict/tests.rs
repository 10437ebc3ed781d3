//! The rules of verdicts, a line for each.

use types::{
    Hash32, ModelId,
    audit::{MilliNats, ReplayCounts as Counts, Responses},
};

use super::*;

const E4: i64 = 9_211;
const E6: i64 = 13_816;

/// Of responses that are numbers, scored by L1 alone.
fn evidence(responses: &[u8], backend: Backend, l1: i64) -> Evidence {
    Evidence {
        model: ModelId([1; 32]),
        responses: Responses::of(responses.iter().map(|n| Hash32([*n; 32]))).unwrap(),
        backend,
        tokens: 50,
        replay: Counts { matched: 50, ..Counts::default() },
        l1: Some(MilliNats(l1)),
        l2: None,
        projections: None,
        identified: None,
    }
}

const CPU: Backend = Backend::CpuX86;

#[test]
fn an_audit_passes_fails_or_cannot_tell() {
    use AuditOutcome::{Fail, Inconclusive, Pass};
    let base = evidence(&[1], CPU, 0);
    let failed = Counts { matched: 25, unexplained: 7, ..Counts::default() };
    let doubtful = Counts { matched: 56, unexplained: 3, ..Counts::default() };
    let none = Counts::default();
    let partly = Counts { matched: 47, unreported: 3, ..Counts::default() };
    let l2 = |milli| Some(MilliNats(milli));
    for (name, expected, evidence) in [
        ("clean", Pass, base.clone()),
        ("below 10⁴", Pass, evidence(&[1], CPU, E4 - 1)),
        ("10⁴", Inconclusive, evidence(&[1], CPU, E4)),
        ("below 10⁶", Inconclusive, evidence(&[1], CPU, E6 - 1)),
        ("10⁶", Fail, evidence(&[1], CPU, E6)),
        (
            "both levels share the bet",
            Inconclusive,
            Evidence { l2: l2(0), ..evidence(&[1], CPU, E6) },
        ),
        ("the other level", Fail, Evidence { l2: l2(E6 + 694), ..base.clone() }),
        ("too few tokens", Inconclusive, Evidence { tokens: 49, ..base.clone() }),
        ("a few tokens suffice to fail", Fail, Evidence { tokens: 13, ..evidence(&[1], CPU, E6) }),
        ("nothing scored", Inconclusive, Evidence { l1: None, ..base.clone() }),
        ("reported, not replayed", Inconclusive, Evidence { replay: none, ..base.clone() }),
        ("replayed in part", Inconclusive, Evidence { replay: partly, ..base.clone() }),
        ("replayed by the verifier", Pass, Evidence { replay: none, l2: l2(0), ..base.clone() }),
        ("only that", Inconclusive, Evidence { l1: None, l2: l2(0), tokens: 999, ..base.clone() }),
        ("much of that", Pass, Evidence { l1: None, l2: l2(0), tokens: 1_000, ..base.clone() }),
        ("some unexplained", Inconclusive, Evidence { replay: doubtful, ..base.clone() }),
        ("a fifth unexplained", Fail, Evidence { replay: failed, ..base }),
    ] {
        assert_eq!(outcome(&evidence), expected, "{name}");
    }
}
