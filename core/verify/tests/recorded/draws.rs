//! Draws of other implementations, from the log-probabilities of recorded answers: Ollama's own sampler, and a
//! second one of ours.

use verify::{
    draw::{Sampler, Stream},
    logits::Candidates,
    profile::Profile,
};

use crate::answers::answers;

/// Each line: the answer whose candidates are drawn from, settings and seed, and the tokens drawn.
fn check(file: &str, sampler: Sampler) {
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        let (given, drawn) = line.split_once(": ").unwrap();
        let (name, numbers) = given.split_once(' ').unwrap();
        let numbers: Vec<u32> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
        let [temperature_micros, top_k, top_p_micros, seed] = numbers[..] else { panic!("{line}") };
        let top_k = top_k.try_into().unwrap();
        let profile = Profile { temperature_micros, top_k, top_p_micros, seed };
        let (_, answer) = answers().into_iter().find(|(file, _)| *file == name).unwrap();
        let mut stream = Stream::new(sampler, profile.settings(), seed);
        let tokens = answer.steps.iter().map(|step| {
            let candidates = Candidates::reported(step.reported.iter().copied());
            stream.draw(&candidates).id().unwrap().to_string()
        });
        assert_eq!(tokens.collect::<Vec<_>>().join(" "), drawn, "{given}");
    }
}

#[test]
fn ollama_draws_the_same() {
    check(include_str!("../golden/ollama-0.12.11-draws.txt"), Sampler::Ollama);
}

#[test]
fn a_second_implementation_of_gumbel_draws_the_same() {
    check(include_str!("../golden/gumbel-draws.txt"), Sampler::Gumbel);
}
