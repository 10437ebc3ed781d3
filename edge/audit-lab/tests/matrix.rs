//! Every provider against every sampler: what an audit finds, and how soon. Figures go to the output of the test
//! (`cargo test -p audit-lab -- --nocapture`).

use std::{io::Write as _, process::Command, sync::OnceLock};

use audit_lab::{
    lifetime,
    model::{Model, Shelf, THREADS},
    provider::{Answer, Provider, request},
    scored::{self, Scores},
    statistics,
    weights::{Quantization, VOCABULARY},
};
use types::ModelId;
use verify::{
    audit::{Audit, Findings, Means, identified},
    draw::{OneCandidate, Sampler},
    eprocess::{ALONE, ESCALATE, FLOORED, MilliNats},
    identify::Worth,
    l0::{Check, Finding},
    score::Score,
};

const SEED: u32 = 1;
const TOKENS_MAX: u32 = 100;
const LLAMA: Sampler = Sampler::Llama(OneCandidate::Draws);
const SAMPLERS: [Sampler; 2] = [LLAMA, Sampler::Gumbel];

/// Shared by all tests of this file: it takes a second to make.
fn shelf() -> &'static Shelf {
    static SHELF: OnceLock<Shelf> = OnceLock::new();
    SHELF.get_or_init(|| Shelf::new(SEED).unwrap())
}

fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}

/// Runs a test in a process of its own, in which candle has one thread: its threads are told apart by the environment alone,
/// and no test may change that of others.
fn alone(name: &str, test: impl FnOnce()) {
    if THREADS.iter().all(|variable| std::env::var_os(variable).is_some()) {
        return test();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture"]).envs(THREADS.map(|variable| (variable, "1")));
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    told.lines().filter(|line| line.contains(": ")).for_each(say);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What two honest cells give: the same kernels and others.
struct Calibrated {
    means: Means,
    l1: Vec<Vec<Score>>,
    l2: Vec<Vec<Score>>,
}

fn calibrated(sampler: Sampler) -> &'static Calibrated {
    static CALIBRATED: [OnceLock<Calibrated>; 2] = [OnceLock::new(), OnceLock::new()];
    CALIBRATED[usize::from(sampler == Sampler::Gumbel)].get_or_init(|| {
        let cell = |provider| {
            let requests = scored::requests(50, 30, TOKENS_MAX);
            scored::collect(shelf(), provider, sampler, requests).unwrap()
        };
        let cells = [Provider::Honest, Provider::Elsewhere].map(cell);
        let level = |of: fn(&Scores) -> &Vec<Score>| {
            let [same, other]: [Vec<Vec<Score>>; 2] =
                std::array::from_fn(|n| cells[n].iter().map(|it| of(it).clone()).collect());
            (statistics::honest_mean(&[&same, &other]), other)
        };
        let (l1, l2) = (level(|it| &it.l1), level(|it| &it.l2));
        say(&format!("{sampler:?}: honest means L1 {:?}, L2 {:?}", l1.0, l2.0));
        Calibrated { means: Means { l1: l1.0, l2: l2.0 }, l1: l1.1, l2: l2.1 }
    })
}

/// What an audit of some answers found, and what L0 said of each.
struct Audited {
    answers: Vec<Answer>,
    findings: Findings,
    reports: Vec<Finding>,
}

fn answers(provider: Provider, sampler: Sampler, seed: u32, count: u32) -> Vec<Answer> {
    let answer = |n| provider.answer(shelf(), sampler, n, request(seed, n, TOKENS_MAX)).unwrap();
    (0..count).map(answer).collect()
}

fn findings(sampler: Sampler, model: &Model, answers: &[Answer]) -> (Findings, Vec<Finding>) {
    let mut audit = Audit::new(&[sampler], calibrated(sampler).means);
    let mut reports = Vec::new();
    for answer in answers {
        let before = audit.findings().replay;
        let end = scored::audit(&mut audit, answer, &scored::positions(model, answer).unwrap());
        let mut counts = audit.findings().replay;
        counts.unexplained -= before.unexplained;
        counts.matched -= before.matched;
        counts.excused -= before.excused;
        counts.unreported -= before.unreported;
        reports.push(scored::report(answer, counts, end).finding());
    }
    (audit.findings(), reports)
}

fn audited(provider: Provider, sampler: Sampler, seed: u32, count: u32) -> Audited {
    let answers = answers(provider, sampler, seed, count);
    let (findings, reports) = findings(sampler, shelf().claimed(), &answers);
    let level = |level: Option<verify::audit::LevelFindings>| {
        let level = level.unwrap();
        let at = level.alone_at.map_or("never".to_owned(), |tokens| tokens.to_string());
        format!(
            "{:.4} {at} (ln E {:.1})",
            f64::from(level.mean_ppm) / 1e6,
            level.ln_e.0 as f64 / 1e3
        )
    };
    say(&format!(
        "{:24} {sampler:?}: L0 {} of {}, L1 {}, L2 {}, ends {:?}",
        provider.name(),
        findings.replay.unexplained,
        findings.replay.replayed(),
        level(findings.l1),
        level(findings.l2),
        findings.ends,
    ));
    Audited { answers, findings, reports }
}

#[test]
fn the_honest_are_clear() {
    alone("the_honest_are_clear", || {
        for sampler in SAMPLERS {
            for provider in [Provider::Honest, Provider::Elsewhere] {
                let Audited { findings, reports, .. } = audited(provider, sampler, 60, 12);
                assert_eq!(findings.replay.unexplained, 0);
                for level in [findings.l1.unwrap(), findings.l2.unwrap()] {
                    assert!(level.most < MilliNats(5_000), "{provider:?} {level:?}");
                    assert!(level.floored_most < ESCALATE, "{provider:?} {level:?}");
                }
                assert_eq!(findings.ends.broken, 0, "{findings:?}");
                assert!(reports.iter().all(|finding| *finding == Finding::Clean));
            }
        }
    });
}

#[test]
fn other_models_and_quantizations_are_found_in_time_and_named() {
    use Quantization::{F16, Q4_0, Q4K, Q6K};
    alone("other_models_and_quantizations_are_found_in_time_and_named", || {
        for sampler in SAMPLERS {
            for (served, l1_max, l2_max) in [
                (Provider::Serves(Q4_0), 32, 150),
                (Provider::Serves(Q4K), 32, 150),
                // L2 takes thousands of tokens here, whose honest mean other kernels decide.
                (Provider::Serves(Q6K), 100, u32::MAX),
                (Provider::OtherModel, 32, 32),
            ] {
                let count = if served == Provider::Serves(Q6K) { 16 } else { 3 };
                let Audited { answers, findings, .. } = audited(served, sampler, 70, count);
                assert_eq!(findings.replay.unexplained, 0, "it draws from what it reports");
                let alone_at =
                    [findings.l1, findings.l2].map(|it| it.unwrap().alone_at.unwrap_or(u32::MAX));
                assert!(alone_at[0] <= l1_max && alone_at[1] <= l2_max, "{served:?} {alone_at:?}");
                let named = name(sampler, &findings, &answers).unwrap();
                assert_eq!(named, (number(served), Worth::Cheaper), "{served:?}");
            }
            // An upgrade: whatever the evidence, nobody cheaper explains it.
            let Audited { answers, findings, .. } = audited(Provider::Serves(F16), sampler, 70, 6);
            let named = name(sampler, &findings, &answers);
            assert!(named.is_none_or(|(_, worth)| worth == Worth::NotCheaper), "{named:?}");
            let Audited { answers, findings, .. } = audited(Provider::Honest, sampler, 70, 2);
            assert_eq!(name(sampler, &findings, &answers), None);
        }
    });
}

fn number(served: Provider) -> u8 {
    let quantization = Quantization::ALL.iter().position(|it| served == Provider::Serves(*it));
    quantization.map_or(99, |at| at as u8)
}

/// Who explains the answers, of all quantizations but the claimed one and another model.
fn name(sampler: Sampler, claimed: &Findings, answers: &[Answer]) -> Option<(u8, Worth)> {
    let others = Quantization::ALL.into_iter().filter(|it| *it != Quantization::Q8_0);
    let others = others.map(|it| (Provider::Serves(it), shelf().of(it)));
    let others = others.chain([(Provider::OtherModel, &shelf().other)]);
    let references: Vec<(ModelId, Worth, Findings)> = others
        .map(|(served, model)| {
            let dearer = served == Provider::Serves(Quantization::F16);
            let worth = if dearer { Worth::NotCheaper } else { Worth::Cheaper };
            (ModelId([number(served); 32]), worth, findings(sampler, model, answers).0)
        })
        .collect();
    identified(claimed, &references).map(|found| (found.model.0[0], found.worth))
}

#[test]
fn what_was_not_drawn_as_asked_fails_the_replay() {
    alone("what_was_not_drawn_as_asked_fails_the_replay", || {
        for sampler in SAMPLERS {
            for provider in [
                Provider::Temperature(700_000),
                Provider::Temperature(900_000),
                Provider::Temperature(0),
                Provider::Caches,
                Provider::Spoofs,
            ] {
                let Audited { answers, findings, reports } = audited(provider, sampler, 80, 4);
                assert!(findings.replay.unexplained > 2, "{provider:?}");
                assert!(reports.iter().any(|finding| *finding >= Finding::Audit), "{provider:?}");
                if !matches!(provider, Provider::Temperature(_)) {
                    assert!(findings.replay.failed(), "{provider:?}");
                    assert!(findings.l2.unwrap().alone_at.is_some(), "{provider:?}");
                }
                if provider == Provider::Spoofs {
                    let first = first_mismatch(sampler, &answers);
                    say(&format!("  prefill spoof: first mismatch at token {first}"));
                    assert!(first <= 8, "{first}");
                    assert_eq!(findings.l1.unwrap().alone_at, None, "what it reports is genuine");
                }
            }
        }
    });
}

/// In the worst of the answers.
fn first_mismatch(sampler: Sampler, answers: &[Answer]) -> usize {
    let first = |answer: &Answer| {
        let profile = answer.request.profile;
        let mut replay = verify::l0::Replay::new(&[sampler], profile.settings(), profile.seed);
        let mut outcomes = answer.tokens.iter().map(|it| replay.push(it.id(), &it.reported()));
        outcomes.position(|it| it == verify::l0::Outcome::Mismatch).map_or(usize::MAX, |at| at + 1)
    };
    answers.iter().map(first).min().unwrap()
}

#[test]
fn forgers_and_editors_are_found_by_the_verifiers_own_draw() {
    alone("forgers_and_editors_are_found_by_the_verifiers_own_draw", || {
        for sampler in SAMPLERS {
            for provider in [Provider::Forges, Provider::EditsPrompt] {
                let Audited { findings, .. } = audited(provider, sampler, 90, 4);
                // A forger of our own sampler now and then cannot raise a token far enough.
                assert!(findings.replay.unexplained <= 4, "{provider:?}");
                assert!(findings.l2.unwrap().alone_at.is_some_and(|it| it <= 200), "{provider:?}");
            }
        }
    });
}

#[test]
fn short_answers_and_long_bills_are_found() {
    alone("short_answers_and_long_bills_are_found", || {
        for sampler in SAMPLERS {
            let Audited { findings, reports, .. } = audited(Provider::Truncates, sampler, 100, 16);
            assert!(findings.ends.broken >= 12, "{findings:?}");
            assert!(reports.iter().filter(|it| **it == Finding::Audit).count() >= 12);
            assert!(findings.l2.unwrap().ln_e >= ALONE, "{findings:?}");
            let Audited { findings, reports, .. } = audited(Provider::Inflates, sampler, 100, 2);
            assert!(reports.iter().all(|it| *it == Finding::Audit));
            assert!(findings.ln_e().unwrap() < MilliNats(5_000));
        }
    });
}

/// Whoever cheats in few of the answers hides in the mean of all, and not from a process that never falls below 1.
#[test]
fn who_cheats_now_and_then_is_found_in_the_answers_in_which_he_does() {
    alone("who_cheats_now_and_then_is_found_in_the_answers_in_which_he_does", || {
        for percent in [5, 20] {
            let audited = audited(Provider::Mixes(percent), LLAMA, 110, 40);
            let l1 = audited.findings.l1.unwrap();
            say(&format!("  {percent} %: floored ln E {:?}", l1.floored_most));
            assert!(l1.floored_most >= FLOORED, "{percent} %: {l1:?}");
        }
    });
}

#[test]
fn honest_lives_end_without_suspicion() {
    alone("honest_lives_end_without_suspicion", || {
        for sampler in SAMPLERS {
            let Calibrated { means, l1, l2 } = calibrated(sampler);
            for (name, mean, scores) in [("L1", means.l1, l1), ("L2", means.l2, l2)] {
                let lives = lifetime::live(mean, scores, 40, 5_000);
                say(&format!("{sampler:?} {name}: {lives:?}, threshold {ALONE:?}"));
                assert!(lives.process < MilliNats(9_211), "{lives:?}");
                assert!(lives.floored < FLOORED, "{lives:?}");
            }
        }
    });
}

#[test]
fn an_end_is_checked_with_the_model() {
    alone("an_end_is_checked_with_the_model", || {
        let ended = answers(Provider::Honest, LLAMA, 120, 12);
        let ended: Vec<&Answer> = ended.iter().filter(|answer| answer.ended).collect();
        assert!(!ended.is_empty(), "no answer of this model ends by itself");
        for answer in ended {
            let mut audit = Audit::new(&[LLAMA], calibrated(LLAMA).means);
            let positions = scored::positions(shelf().claimed(), answer).unwrap();
            assert_eq!(scored::audit(&mut audit, answer, &positions), Check::Holds);
        }
    });
}

/// Mean divergence from F16 of what a model says, in nats, over texts that F16 wrote.
fn divergence(model: &Model) -> f64 {
    let reference = shelf().of(Quantization::F16);
    let (mut sum, mut count) = (0.0, 0u32);
    for answer in answers(Provider::Serves(Quantization::F16), LLAMA, 130, 5) {
        let both = [reference, model].map(|it| scored::positions(it, &answer).unwrap());
        for (of, to) in both[0].iter().zip(&both[1]) {
            let [of, to] = [of, to].map(|it| verify::logits::Logits::new(it).unwrap());
            let part = |id| of.logprob(id).exp() * (of.logprob(id) - to.logprob(id));
            sum += (0..VOCABULARY as u32).map(part).sum::<f64>();
            count += 1;
        }
    }
    sum / f64::from(count)
}

/// llama.cpp's `tools/perplexity/README.md`, Llama-3-8B.
#[test]
fn quantizations_are_as_far_apart_as_published() {
    alone("quantizations_are_as_far_apart_as_published", || {
        use Quantization::{Q4_0, Q4K, Q6K, Q8_0};
        for (quantization, published) in
            [(Q8_0, 0.0014), (Q6K, 0.0055), (Q4K, 0.031), (Q4_0, 0.072)]
        {
            let found = divergence(shelf().of(quantization));
            say(&format!(
                "divergence of {}: {found:.4}, published {published}",
                quantization.name()
            ));
            assert!(
                (published / 3.0..published * 3.0).contains(&found),
                "{quantization:?} {found}"
            );
        }
    });
}
