//! Answers of a real llama.cpp server, as `golden/` holds them.

use verify::profile::Profile;

/// A recorded answer.
pub(crate) struct Answer {
    pub(crate) profile: Profile,
    pub(crate) tokens_max: u32,
    pub(crate) ended: bool,
    pub(crate) text: Vec<u8>,
    pub(crate) steps: Vec<Step>,
}

pub(crate) struct Step {
    pub(crate) id: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) reported: Vec<(u32, i32)>,
}

fn hex(text: &str) -> Vec<u8> {
    let text = text.trim_start_matches('-');
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn parse(file: &str) -> Answer {
    let (head, steps) = file.split_once("\nsteps\n").unwrap();
    let field = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}"))
    };
    let number = |name: &str| field(name).parse::<u32>().unwrap();
    let step = |line: &str| {
        let mut words = line.split(' ');
        let id = words.next().unwrap().parse().unwrap();
        let bytes = hex(words.next().unwrap());
        let pair = |word: &str| {
            let (id, micros) = word.split_once(':').unwrap();
            (id.parse().unwrap(), micros.parse().unwrap())
        };
        Step { id, bytes, reported: words.map(pair).collect() }
    };
    Answer {
        profile: Profile {
            temperature_micros: number("temperature_micros"),
            top_k: number("top_k").try_into().unwrap(),
            top_p_micros: number("top_p_micros"),
            seed: number("seed"),
        },
        tokens_max: number("tokens_max"),
        ended: field("finish") == "eog",
        text: hex(field("text")),
        steps: steps.lines().map(step).collect(),
    }
}

pub(crate) fn answers() -> [(&'static str, Answer); 4] {
    [
        ("stories260k-q8_0-1000.txt", include_str!("../golden/stories260k-q8_0-1000.txt")),
        ("stories260k-q8_0-1001.txt", include_str!("../golden/stories260k-q8_0-1001.txt")),
        ("stories260k-q8_0-hot.txt", include_str!("../golden/stories260k-q8_0-hot.txt")),
        ("ember230k-q8_0-eog.txt", include_str!("../golden/ember230k-q8_0-eog.txt")),
    ]
    .map(|(name, file)| (name, parse(file)))
}
