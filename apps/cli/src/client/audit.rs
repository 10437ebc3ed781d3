//! `peerwatt audit`: whether an answer is of the model that was paid for.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use auditor::{
    answer::Answer,
    calibrate::{Calibrating, Measured},
    judge::{JudgeError, Judged, Level, Reference, judge},
    picture,
};
use engine::{EmbeddedEngine, OpenAiEngine, OpenAiOptions, SharedEngine};
use types::{
    RequestId,
    audit::{AuditOutcome, ClosedRound, MilliNats},
    receipt::report_hash,
};
use verify::{audit::Means, eprocess::HonestMean};
use wire::serve::Opening;

use super::{actor::connect, api::Api};
use crate::{
    args::{AtArgs, AuditArgs, AuditCalibrateArgs, AuditCheckArgs, AuditCommand, Common},
    home::Home,
    output::Output,
    run::engines,
};

/// Rounds of each kind that are shown.
const ROUNDS_SHOWN: usize = 100;

pub(crate) async fn run(common: Common, args: AuditArgs, output: Output) -> anyhow::Result<()> {
    match args.command {
        AuditCommand::Check(args) => check(&common, args, output).await,
        AuditCommand::Calibrate(args) => calibrate(args, output).await,
        AuditCommand::List { at } => list(&common, &at, output).await,
    }
}

async fn check(common: &Common, args: AuditCheckArgs, output: Output) -> anyhow::Result<()> {
    let id: RequestId = args.request.parse().context(
        "an audit is of a request: give its id, 32 hexadecimal digits (header `x-request-id`)",
    )?;
    let api = Api::new(&Home::open(common)?, &args.gateway)?;
    let stored = api.get(&format!("receipts/{id}")).await?;
    let stored: gateway::StoredReceipt = stored.json().await.context("reading the receipt")?;
    let bytes = api.get(&format!("receipts/{id}/opening")).await?.bytes().await;
    let opening = Opening::decode(&bytes.context("reading the opening")?)?;
    let report = stored.receipt.report.as_ref().map(report_hash);
    let report = report.context("the receipt has no report of its provider")?;
    let answer = Answer::open(&stored.receipt, opening, &keys::Ed25519)?;
    let claimed = open(args.model).await?;
    if claimed.model().id != answer.model {
        bail!(
            "the answer was sold as the model {}, and this file is {}; give the model's GGUF file with --model",
            answer.model,
            claimed.model().id
        );
    }
    let mut others = Vec::new();
    for path in args.cheaper {
        others.push(open(Some(path)).await?);
    }
    let others: Vec<Reference<'_>> = others.iter().map(reference).collect();
    let mean = |ppm| HonestMean::of_ppm(ppm).context("a mean is 1 to 999 999 millionths");
    let means = Means { l1: mean(args.l1_mean)?, l2: mean(args.l2_mean)? };
    output.progress(format_args!("running the model over {} tokens …", answer.tokens.len()));
    let judged = match judge(&answer, report, reference(&claimed), &others, means).await {
        Ok(judged) => judged,
        Err(error @ JudgeError::ForeignToken { .. }) => {
            bail!("{error}: whatever was served, it is not that model")
        }
        Err(error) => return Err(error).context("running the model over the answer"),
    };
    if let Some(path) = &args.svg {
        let written = fs::write(path, picture::svg(&judged.trace));
        written.with_context(|| format!("writing the picture to {}", path.display()))?;
    }
    output.result(&judged, describe(&answer, &judged))
}

fn reference(engine: &EmbeddedEngine) -> Reference<'_> {
    Reference { engine, model: engine.model().id }
}

async fn open(path: Option<PathBuf>) -> anyhow::Result<EmbeddedEngine> {
    match path {
        Some(path) => engines::load(path).await,
        None => engines::built_in().await,
    }
}

fn describe(answer: &Answer, judged: &Judged) -> String {
    let verdict = match judged.outcome {
        AuditOutcome::Pass => "pass: this is what the model says",
        AuditOutcome::Fail => "fail: this is not what the model says",
        AuditOutcome::Inconclusive => {
            "inconclusive: too little was scored, or something does not fit"
        }
        AuditOutcome::Abstained | AuditOutcome::Missing => judged.outcome.name(),
    };
    let replay = &judged.replay;
    let mut lines = vec![
        verdict.to_owned(),
        format!("{} tokens of {} by {}", judged.tokens, answer.model, answer.engine_version),
        format!(
            "drawn again from what was reported: {} match, {} within rounding, {} do not, {} unreported ({})",
            replay.matched, replay.excused, replay.unexplained, replay.unreported, judged.finding
        ),
    ];
    let level = |name: &str, level: &Level| {
        let at = level.alone_at.map(|at| format!(", enough alone after {at} tokens"));
        format!(
            "{name}: ln E {} (closer from 9.2, enough alone from 20.7), mean score {:.4}{}",
            nats(level.ln_e),
            f64::from(level.mean_ppm) / 1e6,
            at.unwrap_or_default()
        )
    };
    lines.extend(judged.l1.as_ref().map(|it| level("log-probabilities beside ours", it)));
    lines.extend(judged.l2.as_ref().map(|it| level("draws from our own logits", it)));
    lines.extend(judged.identified.map(|it| {
        format!("the model {} explains the answer by {} nats more", it.model, nats(it.ratio))
    }));
    lines.join("\n")
}

fn nats(milli: MilliNats) -> String {
    format!("{:.3}", milli.0 as f64 / 1e3)
}

async fn calibrate(args: AuditCalibrateArgs, output: Output) -> anyhow::Result<()> {
    let reference_engine = open(args.model).await?;
    let served: Option<SharedEngine> = match &args.engine_url {
        None => None,
        Some(url) => {
            Some(Arc::new(OpenAiEngine::connect(OpenAiOptions::at(url)).await?) as SharedEngine)
        }
    };
    let (engine, model): (&dyn engine::Engine, _) = match &served {
        None => (&reference_engine, reference_engine.model().id),
        Some(engine) => {
            let models = engine.models().await?;
            let [model] = models.as_slice() else {
                bail!("the server lists {} models; run one that has this model alone", models.len())
            };
            (&**engine, model.id)
        }
    };
    let mut calibrating = Calibrating::default();
    for number in 1..=args.responses {
        let reference = reference(&reference_engine);
        calibrating.measure((engine, model), reference, args.tokens).await?;
        if number.is_multiple_of(20) || number == args.responses {
            let tokens = calibrating.tokens();
            output
                .progress(format_args!("{number} of {} answers, {tokens} tokens", args.responses));
        }
    }
    let cell = calibrating.cell();
    let level = |name: &str, it: &Measured| {
        let honest =
            it.honest_ppm.map_or("nothing: too few answers".to_owned(), |ppm| ppm.to_string());
        format!(
            "{name}: mean {} ppm, below {} ppm with 99.9 %; bet against {honest}",
            it.mean_ppm, it.upper_ppm
        )
    };
    let text = format!(
        "{} answers, {} tokens of {}, of which {} were not drawn from what was reported\n{}\n{}",
        cell.responses,
        cell.tokens,
        engine.version(),
        cell.unexplained,
        level("log-probabilities (--l1-mean)", &cell.l1),
        level("draws (--l2-mean)", &cell.l2),
    );
    output.result(&cell, text)
}

async fn list(common: &Common, at: &AtArgs, output: Output) -> anyhow::Result<()> {
    let audits = connect(&Home::open(common)?, at)?.audits(None, ROUNDS_SHOWN).await?;
    let closed = |it: &ClosedRound| {
        let said = it.verdicts.iter().map(|(_, said)| said.map_or("nothing", AuditOutcome::name));
        format!(
            "{}  {} receipts of {}: {} (verifiers said {}), which would be {}, and was {}",
            it.commitment.provider,
            it.receipts.count,
            it.receipts.model,
            it.outcome.name(),
            said.collect::<Vec<_>>().join(", "),
            it.would_be.name(),
            it.sanction.name()
        )
    };
    let (open, last) = (audits.open.len(), audits.closed.len());
    let mut lines = vec![format!("{open} rounds open, the last {last} closed:")];
    lines.extend(audits.closed.iter().map(closed));
    output.result(&audits, lines.join("\n"))
}
