//! Doubles that draw their tokens as the embedded engine does: a model whose name begins with `draws`, with the cheat that
//! follows.

use types::inference::Alternative;
use verify::{
    draw::{Sampler, Settings, Stream},
    logits::Candidates,
};

use super::*;

pub(super) const DRAWS: &str = "draws";
const TOKENS: u32 = 64;

pub(super) fn engine(alias: &str) -> EngineKind {
    if alias.starts_with(DRAWS) { EngineKind::Embedded } else { EngineKind::Dummy }
}

pub(super) fn engine_version(alias: &str) -> &'static str {
    if alias.starts_with(DRAWS) { "embedded candle 0.11.1" } else { "dummy 1" }
}

/// What a made-up model says of a step: 20 candidates, each less likely than the one before.
fn candidates(step: u32) -> Vec<(u32, i32)> {
    let wave = |rank: u32| i32::try_from((step * 37 + rank * 101) % 90).unwrap() * 1_000;
    let micros = |rank: u32| -1_500_000 - i32::try_from(rank).unwrap() * 180_000 - wave(rank);
    (0..20).map(|rank| (step * 32 + rank, micros(rank))).collect()
}

impl Request {
    pub(super) async fn draw(&mut self, fault: &str) {
        self.accept().await;
        let sampling = self.open.request.sampling.clone();
        let unit = |micros: Option<u32>| (f64::from(micros.unwrap_or(0)) / 1e6) as f32;
        let top_k = usize::try_from(sampling.top_k.unwrap_or(20)).unwrap();
        let settings = Settings {
            temperature: unit(sampling.temperature_micros),
            top_k,
            top_p: unit(sampling.top_p_micros),
        };
        let seed = u32::try_from(sampling.seed.unwrap_or(1)).unwrap_or(1);
        let mut stream = Stream::new(Sampler::Gumbel, settings, seed);
        let most = self.open.request.tokens_max.unwrap_or(TOKENS).min(TOKENS);
        let asked = usize::from(self.open.request.logprobs.unwrap_or(0));
        for step in 0..most {
            let reported = candidates(step);
            let kept = Candidates::reported(reported.iter().copied()).first(top_k);
            let drawn = stream.draw(&kept).id().unwrap();
            let id = match fault {
                // The least likely is never drawn: `top_p` leaves it out.
                "-otherwise" => reported[19].0,
                "-slips" if step % 10 == 9 => reported[19].0,
                _ => drawn,
            };
            let shown = if fault == "-silent" { asked.min(5) } else { asked };
            let of = |(id, micros): &(u32, i32)| Alternative {
                id: Some(*id),
                bytes: format!(" {id}").into_bytes(),
                logprob_micros: *micros,
            };
            let piece = TokenPiece {
                id: Some(id),
                bytes: format!(" {id}").into_bytes(),
                logprob_micros: reported.iter().find(|(it, _)| *it == id).map(|(_, it)| *it),
                alternatives: reported.iter().take(shown).map(of).collect(),
                ..TokenPiece::default()
            };
            self.pieces(vec![piece]).await;
        }
        let finish = match self.open.request.tokens_max {
            Some(max) if max == most => FinishReason::Length,
            _ => FinishReason::Stop,
        };
        self.finish(finish).await;
    }
}
