//! How far an honest engine is from a verifier's own run of the same model.

use engine::{Engine, EngineError, EngineEvent};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use types::{
    ModelId,
    inference::{FinishReason, InferenceRequest, Prompt},
    limits,
};
use verify::{
    audit::Means,
    calibration::{Calibration, honest_mean},
    engines::Drawing,
    leaf::LeafToken,
    profile::{Drafting, Standing, standing},
};

use crate::{
    answer::Answer,
    judge::{JudgeError, Reference, audited},
};

/// What the texts begin with. Their number is part of the seed, so each round of them gives others.
pub(crate) const BEGINNINGS: [&str; 8] = [
    "Once upon a time",
    "The best way to learn a language is",
    "In the morning the fox",
    "To bake bread you need",
    "The history of the town begins",
    "My neighbour asked me whether",
    "There are three kinds of",
    "When the rain stopped,",
];

/// What was measured of one engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Cell {
    pub responses: u32,
    pub tokens: u64,
    /// Tokens that were not those that their seed draws, of what the engine itself reported.
    pub unexplained: u32,
    pub l1: Measured,
    pub l2: Measured,
    /// If the engine tells projections.
    pub projections: Option<Measured>,
}

/// One level of it, in millionths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Measured {
    pub mean_ppm: u32,
    /// What the true mean is below, with a confidence of 99.9 %.
    pub upper_ppm: u32,
    /// What an audit bets against: 1.5 times the mean, at least the bound. `None`: too few responses.
    pub honest_ppm: Option<u32>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    #[error("nobody knows how the engine `{version}` draws, or it tells no ids")]
    Engine { version: String },
    #[error("the engine failed")]
    Generate(#[from] EngineError),
    #[error("the engine broke off: {reason}")]
    Broken { reason: String },
    #[error(transparent)]
    Judge(#[from] JudgeError),
}

/// A measurement in progress.
#[derive(Debug, Default)]
pub struct Calibrating {
    l1: Calibration,
    l2: Calibration,
    projections: Calibration,
    responses: u32,
    tokens: u64,
    unexplained: u32,
}

impl Calibrating {
    /// Asks `engine` for one more text of up to `tokens_max` tokens, and measures it against `reference`.
    pub async fn measure(
        &mut self,
        (engine, model): (&dyn Engine, ModelId),
        reference: Reference<'_>,
        tokens_max: u32,
    ) -> Result<(), CalibrateError> {
        let answer = answer(engine, model, self.responses, tokens_max).await?;
        let bet = verify::eprocess::HonestMean::of_ppm(500_000);
        let Some(mean) = bet else { return Ok(()) };
        let means = Means { l1: mean, l2: mean, projections: Some(mean) };
        let audit = audited(&answer, reference, means).await?;
        let findings = audit.findings();
        for (level, cell) in [
            (findings.l1, &mut self.l1),
            (findings.l2, &mut self.l2),
            (findings.projections, &mut self.projections),
        ] {
            if let Some(level) = level {
                cell.push(level.tokens, level.mean_ppm);
            }
        }
        self.responses = self.responses.saturating_add(1);
        self.tokens = self.tokens.saturating_add(findings.tokens.into());
        self.unexplained = self.unexplained.saturating_add(findings.replay.unexplained);
        Ok(())
    }

    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    pub fn cell(&self) -> Cell {
        let measured = |cell: &Calibration| Measured {
            mean_ppm: cell.mean_ppm().unwrap_or(0),
            upper_ppm: cell.upper_ppm(),
            honest_ppm: honest_mean(std::slice::from_ref(cell)).map(|mean| mean.ppm()),
        };
        let Calibrating { responses, tokens, unexplained, .. } = *self;
        let (l1, l2) = (measured(&self.l1), measured(&self.l2));
        let projected = Some(&self.projections).filter(|cell| cell.responses() > 0);
        Cell { responses, tokens, unexplained, l1, l2, projections: projected.map(measured) }
    }
}

/// One answer of an engine that we ask ourselves, in profile NP-1.
pub(crate) async fn answer(
    engine: &dyn Engine,
    model: ModelId,
    number: u32,
    tokens_max: u32,
) -> Result<Answer, CalibrateError> {
    let version = engine.version();
    let drawing = Drawing::of(&version).filter(|drawing| drawing.tells_ids);
    let drawing = drawing.ok_or_else(|| CalibrateError::Engine { version: version.clone() })?;
    let beginning = BEGINNINGS.get(number as usize % BEGINNINGS.len()).copied().unwrap_or("A");
    let prompt = Prompt::Text(beginning.to_owned());
    let mut request =
        InferenceRequest { tokens_max: Some(tokens_max), ..InferenceRequest::of(prompt.clone()) };
    let seed = 1_000_u32.wrapping_add(number) & (u32::MAX >> 1);
    let Standing::Replayable(profile) = standing(&request, seed, Drafting::None) else {
        return Err(CalibrateError::Engine { version });
    };
    request.logprobs = Some(limits::TOP_LOGPROBS_MAX);
    request.sampling = profile.sampling();
    let generation = engine.generate(model, request, CancellationToken::new()).await?;
    let (mut tokens, mut text, mut events) = (Vec::new(), Vec::new(), generation.events);
    let finish = loop {
        match events.recv().await {
            Some(EngineEvent::Token(piece)) => {
                text.extend_from_slice(&piece.bytes);
                tokens.push(LeafToken::of_piece(&piece));
            }
            Some(EngineEvent::Done { finish, .. }) => break finish,
            Some(EngineEvent::Failed { reason }) => return Err(CalibrateError::Broken { reason }),
            None => break FinishReason::Failed,
        }
    };
    let stated_tokens = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
    Ok(Answer {
        model,
        engine_version: version,
        drawing,
        profile: Some(profile),
        prompt,
        text,
        tokens,
        stated_tokens,
        finish,
        tokens_max: Some(tokens_max),
        stop: Vec::new(),
    })
}
