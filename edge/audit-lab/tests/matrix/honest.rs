//! Those who do what they say, and those who do better: nothing of it costs them anything.

use audit_lab::{
    lifetime,
    provider::Provider,
    rounding::Cache,
    scored::{self, Scores},
    weights::Quantization,
};
use verify::{
    audit::Means,
    draw::Sampler,
    eprocess::{ALONE, ESCALATE, FLOORED, HonestMean, MilliNats},
    identify::Worth,
    l0::{Check, Finding},
    score::Score,
};

use crate::{
    Audited, LLAMA, SAMPLERS, TOKENS_MAX, alone, alone_at, answers, audited, means, named::name,
    say, shelf,
};

const ELSEWHERE: Provider = Provider::Elsewhere(Quantization::Q8_0);

/// What all tests bet against. Started by [`crate::measured`], it says it in the form that it reads.
#[test]
fn the_honest_are_measured() {
    if !crate::is_alone() {
        crate::measured();
        return;
    }
    let ppm: Vec<String> = SAMPLERS
        .into_iter()
        .flat_map(|sampler| {
            let Means { l1, l2, projections } = means(sampler);
            [Some(l1), Some(l2), projections].map(|it| it.map_or(0, HonestMean::ppm).to_string())
        })
        .collect();
    say(&format!("honest means: {}", ppm.join(" ")));
}

#[test]
fn the_honest_are_clear() {
    alone("honest::the_honest_are_clear", || {
        for sampler in SAMPLERS {
            for provider in [Provider::Honest, ELSEWHERE] {
                let Audited { answers, findings, reports } = audited(provider, sampler, 60, 12);
                assert_eq!(findings.replay.unexplained, 0);
                assert_eq!(findings.projections.is_some(), sampler == Sampler::Gumbel);
                let levels = [findings.l1, findings.l2, findings.projections];
                for level in levels.into_iter().flatten() {
                    assert!(level.most < MilliNats(5_000), "{provider:?} {level:?}");
                    assert!(level.floored_most < ESCALATE, "{provider:?} {level:?}");
                }
                assert_eq!(findings.ends.broken, 0, "{findings:?}");
                assert!(reports.iter().all(|finding| *finding == Finding::Clean));
                assert_eq!(name(sampler, &findings, &answers), None);
            }
        }
    });
}

/// Whatever the evidence, nobody cheaper explains what they gave.
#[test]
fn who_serves_better_or_keeps_in_eight_bits_is_not_slashed() {
    alone("honest::who_serves_better_or_keeps_in_eight_bits_is_not_slashed", || {
        for sampler in SAMPLERS {
            for provider in [
                Provider::Serves(Quantization::F16),
                Provider::Keeps(Cache::F32),
                Provider::Keeps(Cache::Q8_0),
            ] {
                let Audited { answers, findings, .. } = audited(provider, sampler, 62, 10);
                assert_eq!(findings.replay.unexplained, 0, "{provider:?}");
                assert_eq!(alone_at(&findings), [None, None], "{provider:?}");
                let named = name(sampler, &findings, &answers);
                assert!(named.is_none_or(|(_, worth)| worth == Worth::NotCheaper), "{named:?}");
            }
        }
    });
}

#[test]
fn honest_lives_end_without_suspicion() {
    alone("honest::honest_lives_end_without_suspicion", || {
        for sampler in SAMPLERS {
            let requests = scored::requests(63, 30, TOKENS_MAX);
            let cell = scored::collect(shelf(), ELSEWHERE, sampler, requests).unwrap();
            let level = |of: fn(&Scores) -> &Vec<Score>| -> Vec<Vec<Score>> {
                cell.iter().map(|it| of(it).clone()).collect()
            };
            let means = means(sampler);
            let projected = means.projections.map(|it| ("P", it, level(|it| &it.projections)));
            let levels = [
                Some(("L1", means.l1, level(|it| &it.l1))),
                Some(("L2", means.l2, level(|it| &it.l2))),
                projected,
            ];
            for (name, mean, scores) in levels.into_iter().flatten() {
                let lives = lifetime::live(mean, &scores, 40, 5_000);
                say(&format!("{sampler:?} {name}: {lives:?}, threshold {ALONE:?}"));
                assert!(lives.process < ESCALATE, "{lives:?}");
                assert!(lives.floored < FLOORED, "{lives:?}");
            }
        }
    });
}

#[test]
fn an_end_is_checked_with_the_model() {
    alone("honest::an_end_is_checked_with_the_model", || {
        let ended = answers(Provider::Honest, LLAMA, 120, 12);
        let ended: Vec<_> = ended.iter().filter(|answer| answer.ended).collect();
        assert!(!ended.is_empty(), "no answer of this model ends by itself");
        for answer in ended {
            let mut audit = verify::audit::Audit::new(&[LLAMA], means(LLAMA));
            let positions = scored::positions(shelf().claimed(), answer).unwrap();
            assert_eq!(scored::audit(&mut audit, answer, &positions), Check::Holds);
        }
    });
}
