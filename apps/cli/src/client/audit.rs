//! `peerwatt audit`: whether an answer is of the model that was paid for.

mod recompute;

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use auditor::{
    answer::Answer,
    calibrate::{Calibrating, Cell, Measured},
    docket::Docket,
    judge::{JudgeError, Judged, Level, Reference, Sample, backend, judge},
    picture,
};
use engine::{
    EmbeddedEngine, EmbeddedOptions, Library, OpenAiEngine, OpenAiOptions, ServedFile, SharedEngine,
};
use types::{
    ModelId, Ppm, RequestId, TimeMs,
    audit::{
        AuditOutcome, Backend, Calibration, ClosedRound, CommitmentId, HONEST_MEAN_PPM_MIN,
        MilliNats, ReceiptsCommitment, VerifierRecord,
    },
    receipt::{Receipt, report_hash},
    tx::Action,
};
use verify::{audit::Means, eprocess::HonestMean};
use wire::{
    chain::{AuditorView, ProviderAuditsView, RoundView, TxSender},
    serve::Opening,
};

use super::{
    actor::{Actor, connect},
    api::Api,
    receipt,
};
use crate::{
    args::{
        AtArgs, AuditArgs, AuditCalibrateArgs, AuditCheckArgs, AuditCommand, AuditShowArgs, Common,
        JudgeArgs, ScoringServer, TxArgs,
    },
    home::Home,
    output::{Output, percent, utc},
    run::engines,
};

/// The account that pays providers.
const PAYER_KEY: &str = "gateway";
/// Rounds of each kind that are shown.
const ROUNDS_SHOWN: usize = 100;

pub(crate) async fn run(common: Common, args: AuditArgs, output: Output) -> anyhow::Result<()> {
    match args.command {
        AuditCommand::Check(args) => check(&common, args, output).await,
        AuditCommand::Calibrate(args) => calibrate(&common, args, output).await,
        AuditCommand::Show(args) => show(&common, &args, output),
        AuditCommand::Demand { receipt, gateway, tx } => {
            let receipt = receipt::of(&common, &receipt, &gateway).await?;
            demand(&common, receipt, &tx, output).await
        }
        AuditCommand::Recompute(args) => recompute::run(&common, args, output).await,
        AuditCommand::Auditors { at } => auditors(&common, &at, output).await,
        AuditCommand::List { at } => list(&common, &at, output).await,
    }
}

async fn demand(
    common: &Common,
    receipt: Receipt,
    tx: &TxArgs,
    output: Output,
) -> anyhow::Result<()> {
    receipt.verify(&keys::Ed25519).context("the receipt does not add up")?;
    let report = receipt.report.context(
        "its provider did not finish and signed no report, so there is nothing to audit it by",
    )?;
    let provider = report.value.provider;
    let round = CommitmentId::demanded(provider, &report_hash(&report));
    let done = format!("{round} waits for the next beacon; `peerwatt audit list` shows its round");
    let (report, acknowledgement) = (Box::new(report), Box::new(receipt.acknowledgement));
    let action = Action::DemandAudit { report, acknowledgement };
    Actor::open(&Home::open(common)?, tx, PAYER_KEY)?.act(action, &done, output).await
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
    let sample = Sample { answer: &answer, receipt: report };
    Judging::open(args.judge).await?.report(&[sample], output).await
}

/// Models, and what is bet against.
struct Judging {
    claimed: EmbeddedEngine,
    cheaper: Vec<EmbeddedEngine>,
    means: Means,
    svg: Option<PathBuf>,
}

impl Judging {
    async fn open(args: JudgeArgs) -> anyhow::Result<Judging> {
        let claimed = open(args.model, EmbeddedOptions::scoring()).await?;
        let mut cheaper = Vec::new();
        for path in args.cheaper {
            cheaper.push(open(Some(path), EmbeddedOptions::scoring()).await?);
        }
        let mean = |ppm| HonestMean::of_ppm(ppm).context("a mean is 1 to 999 999 millionths");
        let means = Means {
            l1: mean(args.l1_mean)?,
            l2: mean(args.l2_mean)?,
            projections: Some(mean(args.projections_mean)?),
        };
        Ok(Judging { claimed, cheaper, means, svg: args.svg })
    }

    /// Runs the models over answers, and says what was found.
    async fn report(&self, samples: &[Sample<'_>], output: Output) -> anyhow::Result<()> {
        let Judging { claimed, means, .. } = self;
        let answers = || samples.iter().map(|sample| sample.answer);
        let other = answers().find(|answer| answer.model != claimed.model().id);
        if let Some(answer) = other {
            bail!(
                "the answer was sold as the model {}, and this file is {}; give the model's GGUF file with --model",
                answer.model,
                claimed.model().id
            );
        }
        let tokens: usize = answers().map(|answer| answer.tokens.len()).sum();
        output.progress(format_args!("running the model over {tokens} tokens …"));
        let cheaper: Vec<Reference<'_>> = self.cheaper.iter().map(reference).collect();
        let judged = match judge(samples, reference(claimed), &cheaper, *means).await {
            Ok(judged) => judged.context("there is nothing to judge")?,
            Err(error @ JudgeError::ForeignToken { .. }) => {
                bail!("{error}: whatever was served, it is not that model")
            }
            Err(error) => return Err(error).context("running the model over the answer"),
        };
        if let Some(path) = &self.svg {
            let written = fs::write(path, picture::svg(&judged.trace, judged.l1_only));
            written.with_context(|| format!("writing the picture to {}", path.display()))?;
        }
        let first = answers().next().context("there is nothing to judge")?;
        output.result(&judged, describe(first, &judged))
    }
}

fn reference(engine: &EmbeddedEngine) -> Reference<'_> {
    Reference { engine, model: engine.model().id, backend: backend() }
}

async fn open(path: Option<PathBuf>, options: EmbeddedOptions) -> anyhow::Result<EmbeddedEngine> {
    match path {
        Some(path) => engines::load(path, options).await,
        None => engines::built_in(options).await,
    }
}

fn describe(answer: &Answer, judged: &Judged) -> String {
    let (compared, answers) = (judged.l1_only, judged.each.len());
    let verdict = match judged.outcome {
        AuditOutcome::Inconclusive if compared > 0 && judged.finding == "clean" => {
            "inconclusive: nothing speaks against it; where draws cannot be repeated that is no pass"
        }
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
    if compared > 0 {
        lines.push(format!(
            "of {compared} of {answers} answers only log-probabilities are compared: they cannot be drawn again"
        ));
    }
    lines.extend(judged.l1.as_ref().map(|it| level("log-probabilities beside ours", it)));
    lines.extend(judged.l2.as_ref().map(|it| level("draws from our own logits", it)));
    lines.extend(judged.projections.as_ref().map(|it| level(PROJECTIONS, it)));
    lines.extend(judged.identified.map(|it| {
        format!("the model {} explains the answer by {} nats more", it.model, nats(it.ratio))
    }));
    lines.join("\n")
}

/// What the level says in both reports.
const PROJECTIONS: &str = "projections of all logits beside ours";

fn level(name: &str, level: &Level) -> String {
    let at = level.alone_at.map(|at| format!(", enough alone after {at} tokens"));
    format!(
        "{name}: ln E {} (closer from 9.2, enough alone from 20.7), mean score {:.4}{}",
        nats(level.ln_e),
        f64::from(level.mean_ppm) / 1e6,
        at.unwrap_or_default()
    )
}

fn nats(milli: MilliNats) -> String {
    format!("{:.3}", milli.0 as f64 / 1e3)
}

/// What answers are scored with when noise is measured.
struct Scoring {
    engine: SharedEngine,
    model: ModelId,
    backend: Backend,
}

impl Scoring {
    async fn open(
        model: Option<PathBuf>,
        server: Option<ScoringServer>,
    ) -> anyhow::Result<Scoring> {
        let (Some(ScoringServer { url, model: named, backend: named_backend }), Some(file)) =
            (server, &model)
        else {
            let engine = open(model, EmbeddedOptions::scoring()).await?;
            let id = engine.model().id;
            return Ok(Scoring { engine: Arc::new(engine), model: id, backend: backend() });
        };
        let file = named.as_ref().unwrap_or(file);
        let served = ServedFile::connect(OpenAiOptions::at(&url), file).await;
        let served = served.with_context(|| format!("asking {url} to score"))?;
        let id = served.model().id;
        let backend = named_backend.unwrap_or_else(backend);
        Ok(Scoring { engine: Arc::new(served), model: id, backend })
    }

    fn reference(&self) -> Reference<'_> {
        Reference { engine: &*self.engine, model: self.model, backend: self.backend }
    }
}

async fn calibrate(
    common: &Common,
    args: AuditCalibrateArgs,
    output: Output,
) -> anyhow::Result<()> {
    let elsewhere = args.score_with.is_some();
    let scoring = Scoring::open(args.model.clone(), args.score_with).await?;
    let served: Option<SharedEngine> = match &args.engine_url {
        // The farthest of what is honest: candle answers, and llama.cpp scores.
        None if Library::HAS_LLAMA || elsewhere => {
            let library = Some(Library::Candle);
            let options = EmbeddedOptions { library, ..EmbeddedOptions::standard() };
            let mut answers = open(args.model.clone(), options).await;
            if elsewhere && answers.is_err() {
                answers = open(args.model, EmbeddedOptions::standard()).await;
            }
            answers.ok().map(|engine| Arc::new(engine) as SharedEngine)
        }
        None => None,
        Some(url) => {
            Some(Arc::new(OpenAiEngine::connect(OpenAiOptions::at(url)).await?) as SharedEngine)
        }
    };
    let (engine, model): (&dyn engine::Engine, _) = match &served {
        None => (&*scoring.engine, scoring.model),
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
        calibrating.measure((engine, model), scoring.reference(), args.tokens).await?;
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
    let mut text = format!(
        "{} answers, {} tokens of {}, of which {} were not drawn from what was reported\n{}\n{}",
        cell.responses,
        cell.tokens,
        engine.version(),
        cell.unexplained,
        level("log-probabilities (--l1-mean)", &cell.l1),
        level("draws (--l2-mean)", &cell.l2),
    );
    if let Some(projections) = &cell.projections {
        text = format!("{text}\n{}", level("projections (--projections-mean)", projections));
    }
    if args.publish {
        publish(common, &args.at, (model, scoring.backend), &cell, output).await?;
    }
    output.result(&cell, text)
}

/// Tells the ledger what was measured, so that evidence by it counts.
async fn publish(
    common: &Common,
    at: &AtArgs,
    (model, backend): (ModelId, Backend),
    cell: &Cell,
    output: Output,
) -> anyhow::Result<()> {
    let mean = |level: &Measured| {
        let honest = level.honest_ppm.map(|ppm| ppm.max(HONEST_MEAN_PPM_MIN));
        honest
            .and_then(Ppm::new)
            .context("too few answers to publish a mean; measure more with --responses")
    };
    let projections = cell.projections.as_ref().map(mean).transpose()?;
    let (l1, l2) = (mean(&cell.l1)?, mean(&cell.l2)?);
    let calibration = Calibration { l1, l2, projections, tokens: cell.tokens };
    let home = Home::open(common)?;
    let key = home.key("validator")?;
    let sender = TxSender::new(Arc::new(connect(&home, at)?), Arc::new(key));
    let action = Action::PublishCalibration { model, backend, calibration };
    let sent = sender.send(action).await.context("publishing the means")?;
    output.progress(format_args!("published in {}, block {}", sent.id, sent.height));
    Ok(())
}

fn show(common: &Common, args: &AuditShowArgs, output: Output) -> anyhow::Result<()> {
    let reports = Home::open(common)?.part("auditor").join("reports");
    let report = Docket::open(&reports)?.read(&args.round)?;
    let report = report.with_context(|| {
        format!(
            "no auditor of this data folder has judged {}; `peerwatt audit list` shows the rounds",
            args.round
        )
    })?;
    if let Some(path) = &args.svg {
        let written = fs::write(path, picture::svg(&report.trace, report.l1_only));
        written.with_context(|| format!("writing the picture to {}", path.display()))?;
    }
    let evidence = report.verdict.evidence.as_ref();
    let mut lines = vec![
        format!("{}: {}", args.round, report.verdict.outcome.name()),
        format!(
            "{} of {} receipts of {} chosen, {} opened, {} scored, {} tokens",
            report.chosen,
            report.receipts.count,
            report.receipts.model,
            report.opened,
            report.scored,
            evidence.map_or(0, |it| it.tokens)
        ),
    ];
    if report.l1_only > 0 {
        lines.push(format!("{} answers by log-probabilities alone", report.l1_only));
    }
    lines.extend(report.l1.as_ref().map(|it| level("log-probabilities beside ours", it)));
    lines.extend(report.l2.as_ref().map(|it| level("draws from our own logits", it)));
    lines.extend(report.projections.as_ref().map(|it| level(PROJECTIONS, it)));
    lines.extend(evidence.and_then(|it| it.identified).map(|it| {
        format!("the model {} explains the answers by {} nats more", it.model, nats(it.ratio))
    }));
    output.result(&report, lines.join("\n"))
}

async fn auditors(common: &Common, at: &AtArgs, output: Output) -> anyhow::Result<()> {
    let auditors = connect(&Home::open(common)?, at)?.auditors().await?;
    let line = |auditor: &AuditorView| {
        let VerifierRecord { rounds, missed, planted_right, planted_wrong, canaries, .. } =
            auditor.record.unwrap_or_default();
        format!(
            "{} at {}: {rounds} rounds, {missed} without its verdict; of planted faults {planted_right} found, \
             {planted_wrong} not; paid for {canaries} canaries",
            auditor.operator,
            auditor.addrs.join(", ")
        )
    };
    let lines: Vec<String> = auditors.iter().map(line).collect();
    output.result(&auditors, lines.join("\n"))
}

async fn list(common: &Common, at: &AtArgs, output: Output) -> anyhow::Result<()> {
    let audits = connect(&Home::open(common)?, at)?.audits(None, ROUNDS_SHOWN).await?;
    let (open, last) = (audits.open.len(), audits.closed.len());
    let mut lines = vec![format!("{open} rounds open, the last {last} closed:")];
    lines.extend(audits.open.iter().map(describe_open));
    lines.extend(audits.closed.iter().map(describe_closed));
    output.result(&audits, lines.join("\n"))
}

fn describe_open(round: &RoundView) -> String {
    let done = round.verifiers.iter().filter(|it| it.committed.is_some() || it.outcome.is_some());
    let (done, all) = (done.count(), round.verifiers.len());
    let ReceiptsCommitment { model, count, .. } = round.receipts;
    let what = match (round.is_appeal, &round.demand) {
        (true, _) => "an appeal, ",
        (false, Some(_)) => "demanded, ",
        (false, None) => "",
    };
    format!(
        "{}  {what}open: {count} receipts of {model}, {done} of {all} verdicts, due {}",
        round.commitment,
        utc(round.commit_by)
    )
}

fn describe_closed(round: &ClosedRound) -> String {
    let said = round.verdicts.iter().map(|(_, said)| said.map_or("nothing", AuditOutcome::name));
    let said = said.collect::<Vec<_>>().join(", ");
    let ReceiptsCommitment { model, count, .. } = round.receipts;
    let notes = [
        (round.planted, "; planted, so it was about its verifiers"),
        (round.commitment.is_demanded(), "; demanded by a payer"),
        (round.is_appeal, "; an appeal"),
        (round.appealed, "; appealed against"),
    ];
    let notes: String = notes.iter().filter(|(holds, _)| *holds).map(|(_, note)| *note).collect();
    let (outcome, would_be, done) =
        (round.outcome.name(), round.would_be.name(), round.sanction.name());
    format!(
        "{}  {count} receipts of {model}: {outcome} (verifiers said {said}), which would be {would_be}, and was {done}{notes}",
        round.commitment
    )
}

/// What is kept of the audits of one provider.
pub(super) fn describe_provider(audits: &ProviderAuditsView) -> String {
    let ProviderAuditsView { provider, standing, reputation, share, waiting, open, closed, models } =
        audits;
    let mut lines = vec![format!(
        "{provider}: reputation {}, {} of its receipts are audited, {} commitments wait",
        percent(*reputation),
        percent(*share),
        waiting.len()
    )];
    let until = |what: &str, at: Option<TimeMs>| at.map(|at| format!("  {what} {}", utc(at)));
    lines.extend(until("all of its receipts are audited until", standing.escalated_until));
    lines.extend(until("its claims wait until", standing.held_until));
    lines.extend(until("it has opened nothing since", standing.missing_since));
    for model in models {
        let state = [(model.suspended, ", suspended"), (!model.enforced, ", not enforced")];
        let state: String = state.iter().filter(|(holds, _)| *holds).map(|(_, it)| *it).collect();
        lines.push(format!("  {}: quality {}{state}", model.model, percent(model.quality)));
        lines.extend(until("  delisted until", model.delisted_until));
    }
    lines.extend(open.iter().map(describe_open));
    lines.extend(closed.iter().map(describe_closed));
    lines.join("\n")
}
