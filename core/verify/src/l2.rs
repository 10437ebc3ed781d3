//! L2: how far the claimed token is from what the verifier itself draws, from its own logits, with the
//! provider's seed. It needs nothing that the provider reported, so nothing reported can deceive it.

use crate::{
    draw::{Draw, Miss},
    score::Score,
};

/// The distance from a token's interval, as a share of the whole, that is scored 1.
pub const SHARE_WHOLE: f64 = 0.25;
/// The margin of the Gumbel sampler, in nats, that is scored 1.
pub const NATS_WHOLE: f64 = 0.5;

/// 0 if the verifier draws the same, 1 if it could not have drawn it. `draw` is what
/// [`Stream::draw_with`](crate::draw::Stream::draw_with) gives for the verifier's candidates and the chance that
/// the provider had. `None` if nothing is drawn: then nothing is known.
pub fn score(draw: &Draw, id: u32) -> Option<Score> {
    match draw.miss(id)? {
        Miss::No => Some(Score::default()),
        Miss::Share(far) => Score::of(far, SHARE_WHOLE),
        Miss::Nats(far) => Score::of(far, NATS_WHOLE),
        Miss::FilteredOut => Some(Score::MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        draw::{Chance, Sampler, Settings, Stream},
        logits::Logits,
    };

    const SETTINGS: Settings = Settings { temperature: 1.0, top_k: 3, top_p: 1.0 };

    #[test]
    fn scores_grow_with_the_distance() {
        // Probabilities .5, .3, .2, and one that is filtered out.
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln(), -20.0];
        let candidates = Logits::new(&logits).unwrap().candidates(3);
        let stream = Stream::new(Sampler::Gumbel, SETTINGS, 0);
        let draw = stream.draw_with(Chance::Uniform(0.6), &candidates);
        let check = |id, expected: f64| {
            assert!((score(&draw, id).unwrap().get() - expected).abs() < 1e-6, "{id}");
        };
        check(1, 0.0);
        check(0, 0.1 / 0.25);
        check(2, 0.2 / 0.25);
        check(3, 1.0);
        assert_eq!(score(&Draw::Nothing, 0), None);
    }

    #[test]
    fn the_margin_of_gumbel_is_scored_in_nats() {
        let logits = [0.0f32, -0.01, -0.02];
        let candidates = Logits::new(&logits).unwrap().candidates(3);
        let mut stream = Stream::new(Sampler::Gumbel, SETTINGS, 3);
        for _ in 0..100 {
            let draw = stream.draw(&candidates);
            for id in 0..3 {
                let score = score(&draw, id).unwrap().get();
                match draw.miss(id).unwrap() {
                    Miss::No => assert_eq!(score, 0.0),
                    Miss::Nats(far) => assert_eq!(score, (far / 0.5).min(1.0)),
                    miss => panic!("{miss:?}"),
                }
            }
        }
    }
}
