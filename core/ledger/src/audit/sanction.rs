//! The sanction that evidence justifies.
//!
//! An error of ours or an accident of an engine must never cost a stake: plumbing has caused more false alarms
//! than sampling (Gonka's parsers). So much evidence alone only delists; to slash, another, cheaper model
//! must explain the answers, or what was reported must contradict the draws on its face.

use types::{
    ModelId,
    audit::{ALONE, Evidence, PAIRED, Sanction},
};

/// Pieces of evidence that a sanction looks at.
const EVIDENCE_MAX: usize = 64;

/// Slash if a replay failed; or if one set of responses reaches [`ALONE`], or two that share none reach
/// [`PAIRED`] on two kinds of machine, and a cheaper model is identified by each, the same. Refund and delist
/// at [`ALONE`] without it. What is about no responses, or beyond `EVIDENCE_MAX`, is not looked at.
pub fn sanction<'a>(evidence: impl IntoIterator<Item = &'a Evidence>) -> Sanction {
    let about_some = evidence.into_iter().filter(|it| !it.responses.is_empty());
    let evidence: Vec<&Evidence> = about_some.take(EVIDENCE_MAX).collect();
    let alone = |it: &Evidence| it.reaches(ALONE) && it.cheaper().is_some();
    let paired = |it: &Evidence| {
        it.reaches(PAIRED) && evidence.iter().any(|other| other.reaches(PAIRED) && agree(it, other))
    };
    if evidence.iter().any(|it| it.replay.failed() || alone(it) || paired(it)) {
        Sanction::Slash
    } else if evidence.iter().any(|it| it.reaches(ALONE)) {
        Sanction::RefundAndDelist
    } else if evidence.iter().any(|it| it.is_suspicious()) {
        Sanction::Escalate
    } else {
        Sanction::None
    }
}

/// Whether two verifiers of different kinds name the same cheaper model, from responses they do not share.
fn agree(one: &Evidence, other: &Evidence) -> bool {
    let (named, other_named): (Option<ModelId>, _) = (one.cheaper(), other.cheaper());
    named.is_some()
        && named == other_named
        && one.backend != other.backend
        && one.responses.is_disjoint(&other.responses)
}

#[cfg(test)]
mod tests {
    use types::{
        Hash32,
        audit::{Backend, Identified, MilliNats, ReplayCounts as Counts, Responses, Worth},
    };

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
            model: ModelId([8; 32]),
            responses: Responses::of(responses.iter().map(|n| Hash32([*n; 32]))).unwrap(),
            backend,
            tokens: 50,
            replay: Counts { matched: 50, ..Counts::default() },
            l1: Some(MilliNats(l1)),
            l2: None,
            projections: None,
            identified: identified(4, Worth::Cheaper),
        }
    }

    const CPU: Backend = Backend::CpuX86;
    const CUDA: Backend = Backend::CudaMmq;

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
            (
                "one set at 10⁹, nobody named",
                RefundAndDelist,
                vec![nobody(evidence(&[1], CPU, E9))],
            ),
            ("an upgrade", RefundAndDelist, vec![upgrade(evidence(&[1], CPU, E9))]),
            ("two sets", Slash, vec![a(), b()]),
            ("one of them too low", Escalate, vec![a(), evidence(&[3], CUDA, E6 - 1)]),
            ("they share a response", Escalate, vec![a(), evidence(&[2, 3], CUDA, E6)]),
            ("one kind of machine", Escalate, vec![a(), evidence(&[3], CPU, E6)]),
            ("one names nobody", Escalate, vec![a(), nobody(b())]),
            (
                "two different models",
                Escalate,
                vec![a(), named(identified(5, Worth::Cheaper), b())],
            ),
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
            assert_eq!(sanction(evidence.iter()), expected, "{name}");
        }
    }
}
