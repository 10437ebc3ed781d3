//! What auditors report of their own requests: it has everything of a provider audited, and takes nothing.

use expect_test::expect;
use types::{
    audit::{AuditOutcome, Verdict},
    params::AuditMode,
    tx::Action,
};

use crate::{
    rounds::{fail, network, offer, pass, without},
    world::{World, address, ppm},
};

fn canary(verdict: Verdict) -> Action {
    Action::ReportCanary { provider: address("paul"), verdict: Box::new(verdict) }
}

fn share(world: &World) -> u32 {
    world.state.audit_share(&address("paul"), world.state.time()).get()
}

#[test]
fn a_canary_that_fails_has_everything_audited_and_takes_nothing() {
    let mut world = network(|_| {});
    world.apply("paul", offer("paul"));
    let before = world.state.standing(&address("paul"));
    world.check("vera", canary(pass(0)), expect!["audit.canary: validator=vera provider=paul model=0101010101010101010101010101010101010101010101010101010101010101 outcome=pass"]);
    assert_eq!(share(&world), 200_000);
    world.check("vera", canary(fail(1, 30_000, true)(0)), expect![[r#"
        audit.canary: validator=vera provider=paul model=0101010101010101010101010101010101010101010101010101010101010101 outcome=fail
        audit.escalated: provider=paul until=87400000 held=false"#]]);
    assert_eq!(share(&world), ppm(1_000_000).get());
    let after = world.state.standing(&address("paul"));
    assert_eq!((after.held_until, after.bad), (None, before.bad));
}

#[test]
fn a_canary_is_reported_by_auditors_and_says_something() {
    let mut world = network(|_| {});
    world.apply("paul", offer("paul"));
    world.check("gina", canary(pass(0)), expect!["failed audit.not_auditor: gina does not audit, or is the provider itself; canaries are reported by validators with a seat and an auditor"]);
    world.check("vera", canary(without(AuditOutcome::Missing)(0)), expect!["failed audit.inconsistent: the verdict contradicts itself or its round: a canary passes or fails by evidence that says so"]);
    let stranger = Action::ReportCanary { provider: address("gina"), verdict: Box::new(pass(0)) };
    world.check(
        "vera",
        stranger,
        expect!["failed provider.unknown: gina is not a registered provider; register it first"],
    );
    let mut other = pass(0);
    if let Some(evidence) = &mut other.evidence {
        evidence.model = types::ModelId([9; 32]);
    }
    world.check("vera", canary(other), expect!["failed audit.model_not_offered: 0909090909090909090909090909090909090909090909090909090909090909 is not among the models of the provider's profile; register it first"]);
    let mut world = network(|genesis| {
        genesis.params.audits.mode = AuditMode::Off;
        genesis.params.audits.enforced = Vec::new();
    });
    world.apply("paul", offer("paul"));
    world.check(
        "vera",
        canary(pass(0)),
        expect!["failed audit.off: this network audits nothing; there is nothing to commit to"],
    );
}
