//! Those who run the right model and do not draw as they were asked, or say that they did.

use audit_lab::provider::{Answer, Provider};
use verify::{
    draw::Sampler,
    l0::{Finding, Outcome, Replay},
};

use crate::{Audited, LLAMA, SAMPLERS, alone, alone_at, audited, say};

#[test]
fn what_was_not_drawn_as_asked_fails_the_replay() {
    alone("drawn::what_was_not_drawn_as_asked_fails_the_replay", || {
        for sampler in SAMPLERS {
            for provider in [700_000, 900_000].map(Provider::Temperature) {
                let Audited { findings, reports, .. } = audited(provider, sampler, 80, 4);
                assert!(findings.replay.unexplained > 2, "{provider:?}");
                let audited = reports.iter().filter(|finding| **finding >= Finding::Audit).count();
                assert!(audited >= 3, "{provider:?} {reports:?}");
            }
            for provider in [Provider::Temperature(0), Provider::Caches, Provider::Confuses] {
                let Audited { findings, reports, .. } = audited(provider, sampler, 80, 4);
                assert!(findings.replay.failed(), "{provider:?}");
                assert!(reports.iter().all(|it| *it == Finding::Suspend), "{provider:?}");
                assert!(alone_at(&findings)[1].is_some_and(|at| at <= 32), "{provider:?}");
            }
        }
    });
}

#[test]
fn a_spoof_fails_the_replay_at_once() {
    alone("drawn::a_spoof_fails_the_replay_at_once", || {
        for sampler in SAMPLERS {
            let Audited { answers, findings, .. } = audited(Provider::Spoofs, sampler, 81, 12);
            assert!(findings.replay.failed());
            assert!(alone_at(&findings)[0].is_none(), "what it reports is genuine");
            assert!(alone_at(&findings)[1].is_some_and(|at| at <= 150));
            let mut first: Vec<usize> =
                answers.iter().map(|answer| first_mismatch(sampler, answer)).collect();
            first.sort_unstable();
            say(&format!("  prefill spoof, {sampler:?}: first mismatches at {first:?}"));
            let bounded = if sampler == LLAMA { first.len() } else { first.len() * 3 / 4 };
            assert!(first[..bounded].iter().all(|at| *at <= 8), "{first:?}");
        }
    });
}

/// The token of an answer that is the first that L0 does not explain.
fn first_mismatch(sampler: Sampler, answer: &Answer) -> usize {
    let profile = answer.request.profile;
    let mut replay = Replay::of_leaves(&[sampler], profile.settings(), profile.seed);
    let mut outcomes = answer.tokens.iter().map(|it| replay.push(it.id(), &it.reported()));
    outcomes.position(|it| it == Outcome::Mismatch).map_or(usize::MAX, |at| at + 1)
}

#[test]
fn forgers_and_editors_are_found_by_who_has_the_model() {
    alone("drawn::forgers_and_editors_are_found_by_who_has_the_model", || {
        for sampler in SAMPLERS {
            let Audited { findings, .. } = audited(Provider::Forges, sampler, 90, 4);
            // A forger of our own sampler now and then cannot raise a token far enough.
            assert!(findings.replay.unexplained <= 4, "{findings:?}");
            assert!(alone_at(&findings)[1].is_some_and(|at| at <= 150), "{findings:?}");
            let Audited { findings, .. } = audited(Provider::EditsPrompt, sampler, 90, 4);
            assert_eq!(findings.replay.unexplained, 0);
            let [l1, l2] = alone_at(&findings);
            assert!(
                l1.is_some_and(|at| at <= 32) && l2.is_some_and(|at| at <= 300),
                "{findings:?}"
            );
        }
    });
}
