//! Whether the laboratory's model stands for real ones, and the cache that is ours for candle's.

use audit_lab::{
    model::Model,
    provider::Provider,
    rounding::{Cache, Rounding},
    scored, weights,
};
use verify::logits::Logits;
use weights::Quantization;

use crate::{LLAMA, SEED, alone, answers, say, shelf};

/// Mean divergence from F16 of what a model says, in nats, over texts that F16 wrote.
fn divergence(model: &Model) -> f64 {
    let reference = shelf().of(Quantization::F16);
    let (mut sum, mut count) = (0.0, 0u32);
    for answer in answers(Provider::Serves(Quantization::F16), LLAMA, 130, 5) {
        let both = [reference, model].map(|it| scored::positions(it, &answer).unwrap());
        for (of, to) in both[0].iter().zip(&both[1]) {
            let [of, to] = [of, to].map(|it| Logits::new(it).unwrap());
            let part = |id| of.logprob(id).exp() * (of.logprob(id) - to.logprob(id));
            sum += (0..weights::VOCABULARY as u32).map(part).sum::<f64>();
            count += 1;
        }
    }
    sum / f64::from(count)
}

/// llama.cpp's `tools/perplexity/README.md`, Llama-3-8B.
#[test]
fn quantizations_are_as_far_apart_as_published() {
    alone("model::quantizations_are_as_far_apart_as_published", || {
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

/// Compared on weights in F32: with others candle rounds what it multiplies them with, and makes a step of a difference in the
/// order of sums.
#[test]
fn a_cache_that_is_not_rounded_changes_nothing() {
    alone("model::a_cache_that_is_not_rounded_changes_nothing", || {
        let (mut sum, mut most, mut count) = (0.0, 0.0f64, 0);
        let file = weights::quantized(&weights::generate(SEED).unwrap(), Quantization::Q8_0);
        let file = weights::dequantized(&file.unwrap()).unwrap();
        let ours = Model::Rounding(Rounding::load(&file, Cache::F32).unwrap());
        for answer in answers(Provider::Honest, LLAMA, 131, 3) {
            let models = [shelf().elsewhere(Quantization::Q8_0), &ours];
            let [theirs, ours] = models.map(|it| scored::positions(it, &answer).unwrap());
            for (one, other) in theirs.iter().flatten().zip(ours.iter().flatten()) {
                let far = f64::from((one - other).abs());
                (sum, most, count) = (sum + far, most.max(far), count + 1);
            }
        }
        let mean = sum / f64::from(count);
        say(&format!("logits with a cache of ours: {mean:.7} off, at most {most:.6}"));
        assert!(mean < 1e-4 && most < 1e-3, "{mean} {most}");
    });
}
