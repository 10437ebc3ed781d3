//! Those who serve something else than they say: how soon each level has evidence that is enough alone.

use audit_lab::{
    provider::Provider,
    rounding::Cache,
    weights::Quantization::{Q4_0, Q4K, Q6K},
};
use verify::draw::Sampler;

use crate::{Audited, SAMPLERS, alone, alone_at, alone_by_projections, audited};

/// At most so many tokens by L1 and by L2.
fn check(sampler: Sampler, served: Provider, count: u32, tokens_max: [u32; 2]) {
    let Audited { findings, .. } = audited(served, sampler, 70, count);
    assert_eq!(findings.replay.unexplained, 0, "it draws from what it reports");
    let found = alone_at(&findings).map(|at| at.unwrap_or(u32::MAX));
    assert!(found[0] <= tokens_max[0] && found[1] <= tokens_max[1], "{served:?} {found:?}");
    if sampler == Sampler::Gumbel {
        // As soon as by log-probabilities.
        let at = alone_by_projections(&findings).unwrap_or(u32::MAX);
        assert!(at <= tokens_max[0], "{served:?} {at}");
    }
}

#[test]
fn other_models_and_quantizations_are_found_in_time() {
    alone("found::other_models_and_quantizations_are_found_in_time", || {
        for sampler in SAMPLERS {
            check(sampler, Provider::OtherModel, 2, [32, 32]);
            for served in [Q4_0, Q4K].map(Provider::Serves) {
                check(sampler, served, 3, [32, 150]);
            }
            for served in [Q4_0, Q4K].map(Provider::Elsewhere) {
                check(sampler, served, 3, [32, 150]);
            }
            // L2 takes thousands of tokens here, whose honest mean other kernels decide.
            check(sampler, Provider::Serves(Q6K), 3, [100, u32::MAX]);
        }
    });
}

#[test]
fn a_cache_of_four_bits_is_found() {
    alone("found::a_cache_of_four_bits_is_found", || {
        for sampler in SAMPLERS {
            check(sampler, Provider::Keeps(Cache::Q4_0), 10, [200, u32::MAX]);
        }
    });
}
