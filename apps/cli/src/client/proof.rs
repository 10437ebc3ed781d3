//! `peerwatt proof`: entries of the ledger that anybody can check who trusts one root or one key.

use std::{fs, io::Read, path::Path};

use anyhow::{Context, bail};
use keys::Ed25519;
use light::{ProofError, verify_entry, verify_header};
use serde::Serialize;
use types::{
    ChainId, Hash32, Height, Nusd, PublicKey, TimeMs,
    hash::from_hex,
    limits,
    state::{Account, Channel, Operator, Provider, StateKey},
};
use wire::chain::StateProof;

use super::actor::connect;
use crate::{
    args::{Common, ProofArgs, ProofCommand, ProofEntry},
    home::Home,
    output::{Output, utc},
};

/// Bytes of a file that is read as a proof: a path of 256 nodes and an entry are far below.
const PROOF_BYTES_MAX: u64 = 256 * 1024;
/// Bytes of one entry; the largest is a provider with 64 models.
const ENTRY_BYTES_MAX: usize = 16 * 1024;

/// A proof that holds.
#[derive(Serialize)]
struct Verified {
    valid: bool,
    chain_id: ChainId,
    height: Height,
    time: TimeMs,
    root: Hash32,
    /// What was trusted: the root itself, or this key's signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_by: Option<PublicKey>,
    key: StateKey,
    /// `null`: it is proven that there is none.
    entry: Option<Entry>,
}

/// An entry, read.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Account(Account),
    Channel(Channel),
    Lane(Nusd),
    Provider(Box<Provider>),
    Operator(Operator),
}

pub(crate) async fn run(common: Common, args: ProofArgs, output: Output) -> anyhow::Result<()> {
    match args.command {
        ProofCommand::Get { entry, at } => {
            let proof = connect(&Home::open(&common)?, &at)?.prove(key(entry)).await?;
            // A file for `verify`, so it is JSON for people too.
            let text = serde_json::to_string_pretty(&proof).context("printing the proof")?;
            output.result(&proof, text)
        }
        ProofCommand::Verify { file, root, validator } => {
            let proof = read(&file)?;
            let trusted = match (root, validator) {
                (Some(root), _) => Trusted::Root(root),
                (None, Some(key)) => Trusted::Key(key),
                (None, None) => Trusted::of_genesis(&Home::open(&common)?, &proof)?,
            };
            let verified = verify(proof, trusted)?;
            let text = describe(&verified)?;
            output.result(&verified, text)
        }
    }
}

fn key(entry: ProofEntry) -> StateKey {
    match entry {
        ProofEntry::Account { address } => StateKey::Account { address },
        ProofEntry::Channel { id } => StateKey::Channel { id },
        ProofEntry::Provider { address } => StateKey::Provider { operator: address },
        ProofEntry::Operator { operator } => StateKey::Operator { id: operator },
    }
}

/// What a proof is held against.
enum Trusted {
    Root(Hash32),
    Key(PublicKey),
}

impl Trusted {
    /// The validator of the folder's genesis document that signed the proof's block.
    fn of_genesis(home: &Home, proof: &StateProof) -> anyhow::Result<Trusted> {
        let genesis = home.genesis()?.context(
            "this data folder belongs to no network; say whom to trust with --validator or --root",
        )?;
        if genesis.chain_id != proof.chain_id {
            bail!("the proof is of {}, this data folder of {}", proof.chain_id, genesis.chain_id);
        }
        let signer = proof.commit.signer;
        if !genesis.validators.iter().any(|it| it.consensus_key == signer) {
            bail!(
                "the block is signed by {signer}, which is no validator of the genesis document; \
                 if you trust it, name it with --validator"
            );
        }
        Ok(Trusted::Key(signer))
    }
}

fn verify(proof: StateProof, trusted: Trusted) -> anyhow::Result<Verified> {
    let StateProof { chain_id, key, value, proof, header, commit } = proof;
    let root = header.app_hash;
    let signed_by = match trusted {
        Trusted::Root(expected) if expected != root => {
            bail!("the proof is of the root {root}, not of {expected}")
        }
        Trusted::Root(_) => None,
        Trusted::Key(trusted) => {
            verify_header(&chain_id, &header, &commit, &trusted, &Ed25519).context(INVALID)?;
            Some(trusted)
        }
    };
    let value = match value {
        Some(hex) => Some(unhex(&hex).context("the value is not hexadecimal")?),
        None => None,
    };
    let checked: Result<(), ProofError> = verify_entry(root, &key, value.as_deref(), &proof);
    checked.context(INVALID)?;
    let entry = value.map(|bytes| decode(&key, &bytes)).transpose()?;
    let (height, time) = (header.height, header.time);
    Ok(Verified { valid: true, chain_id, height, time, root, signed_by, key, entry })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| {
        let [byte] = from_hex::<1>(std::str::from_utf8(pair).ok()?)?;
        Some(byte)
    };
    text.as_bytes().chunks(2).map(byte).collect()
}

const INVALID: &str = "the proof does not hold";

fn decode(key: &StateKey, bytes: &[u8]) -> anyhow::Result<Entry> {
    let entry = match key {
        StateKey::Account { .. } => limits::decode(bytes, ENTRY_BYTES_MAX).map(Entry::Account),
        StateKey::Channel { .. } => limits::decode(bytes, ENTRY_BYTES_MAX).map(Entry::Channel),
        StateKey::Lane { .. } => limits::decode(bytes, ENTRY_BYTES_MAX).map(Entry::Lane),
        StateKey::Provider { .. } => {
            limits::decode(bytes, ENTRY_BYTES_MAX).map(|it| Entry::Provider(Box::new(it)))
        }
        StateKey::Operator { .. } => limits::decode(bytes, ENTRY_BYTES_MAX).map(Entry::Operator),
    };
    entry.context("the proven value cannot be read; this program may be older than the ledger")
}

fn describe(verified: &Verified) -> anyhow::Result<String> {
    let Verified { chain_id, height, time, root, signed_by, entry, .. } = verified;
    let who = match signed_by {
        Some(key) => format!("signed by {key}"),
        None => "as the root that was given".to_owned(),
    };
    let what = match entry {
        Some(entry) => serde_json::to_string_pretty(entry).context("printing the entry")?,
        None => "there is no such entry".to_owned(),
    };
    Ok(format!(
        "valid: in block {height} of {chain_id}, {}, {who}\nroot {root}\n{what}",
        utc(*time)
    ))
}

fn read(file: &Path) -> anyhow::Result<StateProof> {
    let reading = || format!("reading the proof {}", file.display());
    let source: Box<dyn Read> = match file == Path::new("-") {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(fs::File::open(file).with_context(reading)?),
    };
    let mut text = Vec::new();
    source.take(PROOF_BYTES_MAX + 1).read_to_end(&mut text).with_context(reading)?;
    if text.len() as u64 > PROOF_BYTES_MAX {
        bail!("{} is longer than a proof can be", file.display());
    }
    serde_json::from_slice(&text).with_context(|| format!("{} holds no proof", file.display()))
}
