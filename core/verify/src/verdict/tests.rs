//! The rules of verdicts and sanctions, a line for each.

use super::*;

const E4: i64 = 9_211;
const E6: i64 = 13_816;
const E9: i64 = 20_724;

fn identified(model: u8, worth: Worth) -> Option<Identified> {
    Some(Identified { model: ModelId([model; 32]), worth, ratio: MilliNats(20_000) })
}

/// Of responses that are numbers, scored by L1 alone.
fn evidence(responses: &[u8], backend: Backend, l1: i64) -> Evidence {
    Evidence {
        responses: responses.iter().map(|n| Hash32([*n; 32])).collect(),
        backend,
        tokens: 50,
        replay: Counts { matched: 50, ..Counts::default() },
        l1: Some(MilliNats(l1)),
        l2: None,
        identified: identified(4, Worth::Cheaper),
    }
}

const CPU: Backend = Backend::CpuX86;
const CUDA: Backend = Backend::CudaMmq;

#[test]
fn an_audit_passes_fails_or_cannot_tell() {
    use Verdict::{Fail, Inconclusive, Pass};
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
        assert_eq!(evidence.verdict(), expected, "{name}");
    }
}

#[test]
fn a_slash_needs_identification_and_independence() {
    use Sanction::{Escalate, None, RefundAndDelist, Slash};
    let a = || evidence(&[1, 2], CPU, E6);
    let b = || evidence(&[3, 4], CUDA, E6);
    let named = |identified, evidence| Evidence { identified, ..evidence };
    let nobody = |evidence| named(Option::None, evidence);
    let upgrade = |evidence| named(identified(16, Worth::NotCheaper), evidence);
    let failed = Counts { matched: 25, unexplained: 7, ..Counts::default() };
    for (name, expected, evidence) in [
        ("nothing", None, vec![]),
        ("honest", None, vec![evidence(&[1], CPU, 0), evidence(&[2], CUDA, -50_000)]),
        ("one set at 10⁴", Escalate, vec![evidence(&[1], CPU, E4)]),
        ("one set at 10⁶", Escalate, vec![a()]),
        ("one set below 10⁹", Escalate, vec![evidence(&[1], CPU, E9 - 1)]),
        ("one set at 10⁹", Slash, vec![evidence(&[1], CPU, E9)]),
        ("one set at 10⁹, nobody named", RefundAndDelist, vec![nobody(evidence(&[1], CPU, E9))]),
        ("an upgrade", RefundAndDelist, vec![upgrade(evidence(&[1], CPU, E9))]),
        ("two sets", Slash, vec![a(), b()]),
        ("one of them too low", Escalate, vec![a(), evidence(&[3], CUDA, E6 - 1)]),
        ("they share a response", Escalate, vec![a(), evidence(&[2, 3], CUDA, E6)]),
        ("one kind of machine", Escalate, vec![a(), evidence(&[3], CPU, E6)]),
        ("one names nobody", Escalate, vec![a(), nobody(b())]),
        ("two different models", Escalate, vec![a(), named(identified(5, Worth::Cheaper), b())]),
        ("upgrades", Escalate, vec![upgrade(a()), upgrade(b())]),
        ("a third joins them", Slash, vec![a(), nobody(b()), evidence(&[9], CUDA, E6)]),
        ("about nothing", None, vec![evidence(&[], CPU, E9)]),
        (
            "a failed replay",
            Slash,
            vec![nobody(Evidence { replay: failed, ..evidence(&[1], CPU, 0) })],
        ),
        (
            "beyond what is looked at",
            None,
            [vec![evidence(&[1], CPU, 0); 64], vec![evidence(&[2], CPU, E9)]].concat(),
        ),
    ] {
        assert_eq!(sanction(&evidence), expected, "{name}");
    }
}
