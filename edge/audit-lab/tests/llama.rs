//! Audits of providers that run llama.cpp in process, with the model of the laboratory, and audits that score with it: by one
//! pass over an answer that was made token by token. Needs the feature `llama`.

mod alone;
#[expect(unreachable_pub, reason = "it is shared with the tests of a llama.cpp server")]
mod support;

use alone::is_alone;
use engine::{CacheType, EmbeddedEngine, EmbeddedOptions, Library, LlamaOptions};
use support::{Answered, Files, calibrate, several};
use verify::{
    audit::{Findings, Means, identified},
    draw::Sampler,
    eprocess::MilliNats,
    identify::Worth,
};

const SAMPLERS: [Sampler; 1] = [Sampler::Gumbel];
/// Answers of an honest provider: 2 400 tokens, those that end early aside.
const HONEST_ANSWERS: u32 = 24;

fn candle() -> EmbeddedOptions {
    EmbeddedOptions { library: Some(Library::Candle), slots: 1, ..EmbeddedOptions::standard() }
}

fn llama(cache: CacheType) -> EmbeddedOptions {
    let library = Some(Library::Llama(LlamaOptions { cache }));
    EmbeddedOptions { library, slots: 1, ..EmbeddedOptions::standard() }
}

/// A verifier, and the honest means that it was given.
struct Verifier {
    name: &'static str,
    engine: EmbeddedEngine,
    means: Means,
}

impl Verifier {
    /// Calibrated with answers of honest providers.
    async fn new(name: &'static str, engine: EmbeddedEngine, honest: &[&[Answered]]) -> Verifier {
        let means = calibrate(&SAMPLERS, &engine, honest).await;
        Verifier { name, engine, means }
    }

    async fn audits(&self, provider: &str, answers: &[Answered]) -> Findings {
        let found = support::audits(&SAMPLERS, self.means, &self.engine, answers).await;
        support::say(&format!("{provider}, scored by {}", self.name), &found);
        found
    }
}

/// Tokens after which each level had evidence that is enough alone.
fn alone_at(found: &Findings) -> [u32; 3] {
    [found.l1, found.l2, found.projections].map(|level| level.unwrap().alone_at.unwrap_or(u32::MAX))
}

fn check_honest(found: &Findings) {
    assert_eq!((found.replay.unexplained, found.replay.unreported), (0, 0));
    assert_eq!(found.ends.broken, 0, "{:?}", found.ends);
    for level in [found.l1.unwrap(), found.l2.unwrap(), found.projections.unwrap()] {
        assert!(level.most < MilliNats(5_000), "{level:?}");
    }
}

#[tokio::test]
async fn llama_judges_and_is_judged_like_candle() {
    if !is_alone("llama_judges_and_is_judged_like_candle") {
        return;
    }
    let files = Files::new();
    let eight = files.engine("Q8_0", llama(CacheType::F16));
    let eight_by_candle = files.engine("Q8_0", candle());
    let calibration = [
        several(&eight, 1_000..1_016, |_| {}).await,
        several(&eight_by_candle, 1_000..1_016, |_| {}).await,
    ];
    let calibration = calibration.each_ref().map(Vec::as_slice);
    let elsewhere = files.engine("elsewhere", candle());
    let verifiers = [
        Verifier::new("candle", elsewhere, &calibration).await,
        Verifier::new("llama", files.engine("Q8_0", llama(CacheType::F16)), &calibration).await,
    ];
    let [_, by_llama] = &verifiers;

    let honest = several(&eight, 0..HONEST_ANSWERS, |_| {}).await;
    for verifier in &verifiers {
        let found = verifier.audits("honest llama", &honest).await;
        assert!(found.tokens >= 1_500, "{}", found.tokens);
        check_honest(&found);
    }
    let honest = several(&eight_by_candle, 0..HONEST_ANSWERS, |_| {}).await;
    check_honest(&by_llama.audits("honest candle", &honest).await);

    let reference = files.engine("Q4_0", llama(CacheType::F16));
    let cheap = several(&reference, 0..2, |_| {}).await;
    for verifier in &verifiers {
        let found = verifier.audits("Q4_0 as Q8_0", &cheap).await;
        let [l1, l2, projections] = alone_at(&found);
        assert!(l1 <= 32 && l2 <= 150 && projections <= 32, "{l1} {l2} {projections}");
        assert_eq!(found.replay.unexplained, 0, "it draws from what it reports");
    }
    let found = by_llama.audits("Q4_0 as Q8_0", &cheap).await;
    let of_reference = support::audits(&SAMPLERS, by_llama.means, &reference, &cheap).await;
    let id = reference.model().id;
    let named = identified(&found, &[(id, Worth::Cheaper, of_reference)]);
    assert_eq!(named.map(|found| found.model), Some(id), "{of_reference:?}");

    caches_of_fewer_bits(&files, by_llama, &reference).await;
}

/// Four bits are seen; eight cost as much as they save, so nobody who keeps them is slashed. It takes some hundred tokens here, for
/// candle is nearly as far from llama.cpp, and as honest.
async fn caches_of_fewer_bits(files: &Files, verifier: &Verifier, cheaper: &EmbeddedEngine) {
    let served = files.engine("Q8_0", llama(CacheType::Q4_0));
    let found = verifier.audits("cache q4_0", &several(&served, 0..10, |_| {}).await).await;
    assert!(found.l1.unwrap().alone_at.is_some_and(|at| at <= 800), "{found:?}");

    let served = files.engine("Q8_0", llama(CacheType::Q8_0));
    let answers = several(&served, 0..10, |_| {}).await;
    let found = verifier.audits("cache q8_0", &answers).await;
    assert!(found.l1.unwrap().alone_at.is_none_or(|at| at > 400), "{found:?}");
    assert_eq!(found.l2.unwrap().alone_at, None);
    let of_cheaper = support::audits(&SAMPLERS, verifier.means, cheaper, &answers).await;
    let named = identified(&found, &[(cheaper.model().id, Worth::Cheaper, of_cheaper)]);
    assert_eq!(named.map(|found| found.model), None);
}
