//! Which model was served instead: the one that explains an answer, each time.

use audit_lab::{
    provider::{Answer, Provider},
    weights::Quantization::{self, Q4_0, Q4K, Q6K},
};
use types::ModelId;
use verify::{
    audit::{Findings, identified},
    draw::Sampler,
    identify::Worth,
};

use crate::{SAMPLERS, alone, answers, findings, say, shelf};

/// Stands for the other model among the numbers of quantizations.
const OTHER_MODEL: u8 = 99;

fn number(quantization: Quantization) -> u8 {
    Quantization::ALL.iter().position(|it| *it == quantization).unwrap() as u8
}

/// Who explains the answers, of all quantizations but the claimed one and another model.
pub(crate) fn name(
    sampler: Sampler,
    claimed: &Findings,
    answers: &[Answer],
) -> Option<(u8, Worth)> {
    let others = Quantization::ALL.into_iter().filter(|it| *it != Quantization::Q8_0);
    let others = others.map(|it| (number(it), shelf().of(it)));
    let others = others.chain([(OTHER_MODEL, &shelf().other)]);
    let references: Vec<(ModelId, Worth, Findings)> = others
        .map(|(number, model)| {
            let dearer = number == self::number(Quantization::F16);
            let worth = if dearer { Worth::NotCheaper } else { Worth::Cheaper };
            (ModelId([number; 32]), worth, findings(sampler, model, answers).0)
        })
        .collect();
    identified(claimed, &references).map(|found| (found.model.0[0], found.worth))
}

/// One answer suffices, whatever kernels it was computed with.
#[test]
fn the_model_of_each_answer_is_named() {
    alone("named::the_model_of_each_answer_is_named", || {
        for sampler in SAMPLERS {
            let quantizations = [Q6K, Q4K, Q4_0].into_iter().flat_map(|it| {
                [(Provider::Serves(it), number(it)), (Provider::Elsewhere(it), number(it))]
            });
            let all = quantizations.chain([(Provider::OtherModel, OTHER_MODEL)]);
            for (served, expected) in all {
                // Those of 50 tokens or more: an audit says nothing of fewer.
                let answers = answers(served, sampler, 75, 6);
                let long = answers.iter().filter(|it| it.tokens.len() >= 50);
                let mut count = 0;
                for answer in long {
                    let one = std::slice::from_ref(answer);
                    let claimed = findings(sampler, shelf().claimed(), one).0;
                    let named = name(sampler, &claimed, one);
                    assert_eq!(named, Some((expected, Worth::Cheaper)), "{served:?} {count}");
                    count += 1;
                }
                assert!(count >= 3, "{served:?}");
                say(&format!("{} {sampler:?}: named {count} of {count} times", served.name()));
            }
        }
    });
}
