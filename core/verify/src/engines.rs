//! What is known of the engines that providers run, by the version that an offer or a report names.

use crate::draw::{OneCandidate, Sampler};

/// Ollama reports candidates from the first on, and runs llama.cpp's server from the second.
const OLLAMA_REPORTS: [u32; 3] = [0, 12, 11];
const OLLAMA_RUNS_LLAMA: [u32; 3] = [0, 30, 0];
/// Ends the version where a provider finds the ids of Ollama's tokens by their bytes.
const IDS_FOUND: &str = " ids";

/// How an engine draws, and what it tells of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drawing {
    /// Any of these.
    pub samplers: &'static [Sampler],
    /// Answers of real ones were drawn again. If not, what is found has no consequence.
    pub is_proven: bool,
    /// Every token comes with its id, and so do the candidates.
    pub tells_ids: bool,
    /// It never draws a token that is no text and ends nothing.
    pub draws_text_only: bool,
    /// Every token of a replayable answer comes with a projection of its logits.
    pub projects: bool,
}

impl Drawing {
    /// `None`: it is not known how this engine draws.
    pub fn of(version: &str) -> Option<Drawing> {
        const LLAMA: &[Sampler] =
            &[Sampler::Llama(OneCandidate::Draws), Sampler::Llama(OneCandidate::Skips)];
        const OLLAMA: &[Sampler] = &[
            Sampler::Ollama,
            Sampler::Llama(OneCandidate::Draws),
            Sampler::Llama(OneCandidate::Skips),
        ];
        let (name, rest) = version.split_once(' ').unwrap_or((version, ""));
        match name {
            "embedded" => Some(Drawing {
                samplers: &[Sampler::Gumbel],
                is_proven: true,
                tells_ids: true,
                draws_text_only: true,
                projects: true,
            }),
            "llama.cpp" => Some(Drawing {
                samplers: LLAMA,
                is_proven: true,
                tells_ids: true,
                draws_text_only: false,
                projects: false,
            }),
            "ollama" => {
                let version = numbers(rest);
                let samplers = if version >= OLLAMA_RUNS_LLAMA { LLAMA } else { OLLAMA };
                let drawing = Drawing {
                    samplers,
                    is_proven: false,
                    tells_ids: rest.ends_with(IDS_FOUND),
                    draws_text_only: false,
                    projects: false,
                };
                (version >= OLLAMA_REPORTS).then_some(drawing)
            }
            _ => None,
        }
    }
}

/// The first three numbers of a version.
fn numbers(version: &str) -> [u32; 3] {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
    std::array::from_fn(|_| numbers.next().flatten().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_known_by_their_versions() {
        let known = |version| Drawing::of(version).map_or(0, |drawing| drawing.samplers.len());
        assert_eq!(known("embedded candle 0.11.1"), 1);
        assert_eq!(known("embedded llama.cpp (llama-cpp-sys-2 0.1.161)"), 1);
        assert_eq!(known("llama.cpp b6730"), 2);
        assert_eq!(known("vllm 0.11"), 0);
        assert_eq!(known("dummy 1"), 0);
        assert_eq!(known("ollama 0.12.10"), 0);
        assert_eq!(known("ollama 0.12.11-rc1"), 3);
        assert_eq!(known("ollama 0.30.0"), 2);
        assert_eq!(known("ollama 0.30.0 ids"), 2);
        let tells_ids = |version| Drawing::of(version).is_some_and(|drawing| drawing.tells_ids);
        assert!(tells_ids("ollama 0.30.0 ids") && !tells_ids("ollama 0.30.0"));
        assert_eq!(known("ollama nonsense"), 0);
        assert_eq!(known(""), 0);
    }
}
