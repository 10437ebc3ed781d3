//! Every fuzz target, on any toolchain: random bytes, and well-formed bytes that were damaged. A
//! bounded number of cases; `cargo xtask fuzz` goes on for as long as it is told.

use std::path::Path;

use fuzz_targets::{TARGETS, Target};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

/// Cases of each target. All of them together take seconds.
const CASES: u32 = 10_000;

/// One damage: where, how, and with what.
type Damage = (prop::sample::Index, u8, u8);

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap()
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for (place, kind, byte) in damages {
        if bytes.is_empty() {
            return bytes;
        }
        let at = place.index(bytes.len());
        match kind % 6 {
            0 => bytes[at] ^= 1 << (byte & 7),
            1 => bytes[at] = *byte,
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, *byte),
            4 => bytes.truncate(at),
            // A large number where one may stand.
            _ => bytes[at..].iter_mut().take(16).for_each(|it| *it = 0xff),
        }
    }
    bytes
}

fn inputs(target: &Target) -> impl Strategy<Value = Vec<u8>> {
    let seeds = (target.seeds)();
    let damages = prop::collection::vec(any::<Damage>(), 1..4);
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..400),
        4 => (any::<prop::sample::Index>(), damages)
            .prop_map(move |(seed, damages)| damaged(seed.get(&seeds).clone(), &damages)),
    ]
}

/// Its seeds are well-formed, so that the damaged ones reach far; nothing makes it panic.
fn check(name: &str) {
    let target = target(name);
    for (number, seed) in (target.seeds)().iter().enumerate() {
        assert!((target.run)(seed), "seed {number} of {name} is not well-formed");
    }
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let run = |bytes: Vec<u8>| {
        (target.run)(&bytes);
        Ok::<(), TestCaseError>(())
    };
    TestRunner::new(config).run(&inputs(target), run).unwrap();
}

#[test]
fn transactions() {
    check("transaction");
}

#[test]
fn snapshots() {
    check("snapshot");
}

#[test]
fn genesis_documents() {
    check("genesis");
}

#[test]
fn receipts() {
    check("receipt");
}

#[test]
fn openings() {
    check("opening");
}

#[test]
fn leaves() {
    check("leaf");
}

#[test]
fn proofs() {
    check("proof");
}

#[test]
fn headers_with_certificates() {
    check("light_block");
}

#[test]
fn messages_between_nodes() {
    check("between_nodes");
}

#[test]
fn messages_between_engines() {
    check("between_engines");
}

#[test]
fn frames_to_a_gateway() {
    check("to_gateway");
}

#[test]
fn frames_to_a_provider() {
    check("to_provider");
}

#[test]
fn requests_of_clients() {
    check("api");
}

#[test]
fn answers_of_ollama_servers() {
    check("ollama");
}

#[test]
fn every_target_has_a_program_under_fuzz() {
    // Cargo runs tests in the folder of their package.
    let folder = Path::new("../../fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let named = manifest.lines().filter_map(|line| line.strip_prefix("name = \""));
    let mut named: Vec<&str> = named.filter_map(|line| line.strip_suffix('"')).skip(1).collect();
    let mut targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    named.sort_unstable();
    targets.sort_unstable();
    assert_eq!(named, targets);
    for name in targets {
        let program = folder.join("fuzz_targets").join(format!("{name}.rs"));
        let text = std::fs::read_to_string(&program).unwrap();
        assert!(text.contains(&format!("run(\"{name}\"")), "{}", program.display());
    }
}
