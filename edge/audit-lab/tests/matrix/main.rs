//! Every provider against every sampler: what an audit finds, and how soon. Figures go to the output of the test
//! (`cargo test -p audit-lab -- --nocapture`).
//!
//! Of the plan, providers with flash attention and with other batch sizes are missing: candle has neither. What llama.cpp adds is in
//! `tests/llama.rs`.

mod counted;
mod drawn;
mod found;
mod honest;
mod mixed;
mod model;
mod named;

use std::{io::Write as _, process::Command, sync::OnceLock};

use audit_lab::{
    calibration::calibrate,
    model::{Model, Shelf, THREADS},
    provider::{Answer, Provider, request},
    scored,
};
use verify::{
    audit::{Audit, Findings, LevelFindings, Means},
    draw::{OneCandidate, Sampler},
    eprocess::HonestMean,
    l0::Finding,
};

const SEED: u32 = 1;
const TOKENS_MAX: u32 = 100;
const LLAMA: Sampler = Sampler::Llama(OneCandidate::Draws);
const SAMPLERS: [Sampler; 2] = [LLAMA, Sampler::Gumbel];
/// By which a test hands the honest means to those that it starts.
const MEANS: &str = "AUDIT_LAB_MEANS";

/// Shared by all that one process runs: it takes a second to make.
fn shelf() -> &'static Shelf {
    static SHELF: OnceLock<Shelf> = OnceLock::new();
    SHELF.get_or_init(|| Shelf::new(SEED).unwrap())
}

fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}

/// Runs a test in a process of its own, in which candle has one thread: its threads are told apart by the environment alone,
/// and no test may change that of others. The honest means are measured once for all.
fn alone(name: &str, test: impl FnOnce()) {
    if is_alone() {
        return test();
    }
    let told = run(name, &[(MEANS, measured())]);
    told.lines().filter(|line| line.contains(": ")).for_each(say);
}

fn is_alone() -> bool {
    THREADS.iter().all(|variable| std::env::var_os(variable).is_some())
}

fn run(name: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture"]).envs(THREADS.map(|variable| (variable, "1")));
    command.envs(variables.iter().copied());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The honest means of both samplers as [`honest::the_honest_are_measured`] prints them.
fn measured() -> &'static str {
    static MEASURED: OnceLock<String> = OnceLock::new();
    MEASURED.get_or_init(|| {
        let told = run("honest::the_honest_are_measured", &[]);
        let means = told.lines().find_map(|line| line.strip_prefix("honest means: "));
        means.unwrap().to_owned()
    })
}

/// The honest means of a sampler, in millionths: given, or measured here.
fn means(sampler: Sampler) -> Means {
    static GIVEN: OnceLock<[Means; 2]> = OnceLock::new();
    let given = GIVEN.get_or_init(|| match std::env::var_os(MEANS) {
        Some(given) => {
            let numbers: Vec<u32> =
                given.to_str().unwrap().split(' ').map(|it| it.parse().unwrap()).collect();
            let mean = |ppm| HonestMean::of_ppm(ppm).unwrap();
            let means = |n: usize| Means {
                l1: mean(numbers[n]),
                l2: mean(numbers[n + 1]),
                projections: HonestMean::of_ppm(numbers[n + 2]),
            };
            [means(0), means(3)]
        }
        None => std::thread::scope(|scope| {
            let measuring =
                SAMPLERS.map(|sampler| scope.spawn(move || calibrate(shelf(), sampler).unwrap()));
            measuring.map(|thread| thread.join().unwrap())
        }),
    });
    given[usize::from(sampler == Sampler::Gumbel)]
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
    let mut audit = Audit::new(&[sampler], means(sampler));
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
    let level = |level: Option<LevelFindings>| {
        let Some(level) = level else { return "none".to_owned() };
        let at = level.alone_at.map_or("never".to_owned(), |tokens| tokens.to_string());
        let (mean, ln_e) = (f64::from(level.mean_ppm) / 1e6, level.ln_e.0 as f64 / 1e3);
        format!("{mean:.4} {at} (ln E {ln_e:.1})")
    };
    say(&format!(
        "{:24} {sampler:?}: L0 {} of {}, L1 {}, L2 {}, P {}, ends {:?}",
        provider.name(),
        findings.replay.unexplained,
        findings.replay.replayed(),
        level(findings.l1),
        level(findings.l2),
        level(findings.projections),
        findings.ends,
    ));
    Audited { answers, findings, reports }
}

/// Tokens after which each level had evidence that is enough alone.
fn alone_at(findings: &Findings) -> [Option<u32>; 2] {
    [findings.l1, findings.l2].map(|level| level.unwrap().alone_at)
}

/// The same by projections, if there are any.
fn alone_by_projections(findings: &Findings) -> Option<u32> {
    findings.projections?.alone_at
}
