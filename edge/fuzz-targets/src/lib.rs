//! What is fuzzed: every decoder that a peer can reach, each as one function over bytes, with what
//! must hold of whatever it lets through.
//!
//! The functions stand here once and run twice: on any toolchain with random and damaged bytes in
//! this crate's tests, and under `cargo fuzz`, whose programs in `fuzz/` call them by name. Nothing
//! else links this crate. A property that does not hold is a failed assertion: here that is the point.

mod audits;
mod ledger;
mod network;
mod nodes;
mod statements;
mod wire;

/// One decoder under test.
pub struct Target {
    /// As in `fuzz/Cargo.toml`.
    pub name: &'static str,
    /// Feeds it bytes. Whether they were well-formed; what they say may still be refused.
    pub run: fn(&[u8]) -> bool,
    /// Well-formed bytes to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "transaction", run: ledger::transaction, seeds: ledger::transaction_seeds },
    Target { name: "snapshot", run: ledger::snapshot, seeds: ledger::snapshot_seeds },
    Target { name: "genesis", run: ledger::genesis, seeds: ledger::genesis_seeds },
    Target { name: "receipt", run: statements::receipt, seeds: statements::receipt_seeds },
    Target { name: "opening", run: audits::opening, seeds: audits::opening_seeds },
    Target { name: "leaf", run: audits::leaf, seeds: audits::leaf_seeds },
    Target { name: "proof", run: statements::proof, seeds: statements::proof_seeds },
    Target {
        name: "light_block",
        run: statements::light_block,
        seeds: statements::light_block_seeds,
    },
    Target { name: "between_nodes", run: nodes::peer_message, seeds: nodes::peer_message_seeds },
    Target {
        name: "between_engines",
        run: nodes::engine_message,
        seeds: nodes::engine_message_seeds,
    },
    Target { name: "to_gateway", run: wire::to_gateway, seeds: wire::to_gateway_seeds },
    Target { name: "to_provider", run: wire::to_provider, seeds: wire::to_provider_seeds },
    Target { name: "api", run: wire::api, seeds: wire::api_seeds },
    Target { name: "ollama", run: wire::ollama, seeds: wire::ollama_seeds },
];

/// Runs the target of this name.
///
/// # Panics
/// If there is none, and if a property does not hold.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    assert!(target.is_some(), "no fuzz target is called `{name}`");
    target.map(|target| (target.run)(bytes));
}
