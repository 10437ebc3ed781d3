//! Those who give less than they say: answers that were cut, and counts that are too high.

use audit_lab::provider::Provider;
use verify::{
    eprocess::{ALONE, MilliNats},
    l0::Finding,
};

use crate::{Audited, SAMPLERS, alone, audited};

#[test]
fn short_answers_and_long_bills_are_found() {
    alone("counted::short_answers_and_long_bills_are_found", || {
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
