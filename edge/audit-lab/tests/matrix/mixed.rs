//! Those who cheat in few of the answers. They hide in the mean of all, and not from a process that never falls below 1, nor
//! in an answer in which they do it.

use audit_lab::{provider::Provider, scored};
use verify::{
    audit::{Audit, Findings},
    draw::Sampler,
    eprocess::{ESCALATE, FLOORED},
};

use crate::{SAMPLERS, alone, answers, findings, means, say, shelf};

const ANSWERS: u32 = 40;

#[test]
fn who_cheats_now_and_then_is_found_in_the_answers_in_which_he_does() {
    alone("mixed::who_cheats_now_and_then_is_found_in_the_answers_in_which_he_does", || {
        for sampler in SAMPLERS {
            for percent in [5, 20] {
                check(sampler, Provider::Mixes(percent));
            }
        }
    });
}

fn check(sampler: Sampler, provider: Provider) {
    let answers = answers(provider, sampler, 110, ANSWERS);
    let together = findings(sampler, shelf().claimed(), &answers).0;
    let (mut cheated, mut at_most) = (0, [0; 2]);
    for (n, answer) in (0..).zip(&answers) {
        let mut audit = Audit::new(&[sampler], means(sampler));
        let positions = scored::positions(shelf().claimed(), answer).unwrap();
        scored::audit(&mut audit, answer, &positions);
        let found: Findings = audit.findings();
        let levels = [found.l1.unwrap(), found.l2.unwrap()];
        if provider.cheats_in(n) {
            cheated += 1;
            for (most, level) in at_most.iter_mut().zip(levels) {
                *most = level.alone_at.unwrap_or(u32::MAX).max(*most);
            }
        } else {
            assert!(levels.iter().all(|level| level.most < ESCALATE), "{n}: {found:?}");
        }
    }
    let at = |tokens: u32| if tokens == u32::MAX { "never".to_owned() } else { tokens.to_string() };
    let floored = [together.l1, together.l2].map(|level| level.unwrap().floored_most);
    say(&format!(
        "{}, {sampler:?}: {cheated} of {ANSWERS}, by L1 each enough alone after at most {} tokens, by L2 {}; \
         the process per provider reached {floored:?}",
        provider.name(),
        at(at_most[0]),
        at(at_most[1])
    ));
    assert!(cheated > 0 && at_most[0] <= 32, "{at_most:?}");
    assert!(floored.iter().all(|ln_e| *ln_e >= FLOORED), "{floored:?}");
}
