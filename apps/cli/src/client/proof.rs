//! `peerwatt proof`: entries of the ledger that anybody can check who trusts a root, a header, a set
//! of validators or a genesis document.

use std::{fs, io::Read, path::Path};

use anyhow::{Context, bail};
use keys::Ed25519;
use light::{LightError, Rules, TrustedState};
use serde::Serialize;
use types::{
    ChainId, Hash32, Height, Nusd, TimeMs,
    audit::{Beacon, ModelStanding, Round, Standing},
    limits,
    state::{Account, AuditorEntry, Channel, Gateway, Operator, Provider, StateKey},
};
use wire::chain::StateProof;

use super::actor::connect;
use crate::{
    args::{Common, ProofArgs, ProofCommand, ProofEntry, TrustPoint},
    home::Home,
    output::{Output, utc},
    trust::{TrustFile, now},
};

/// Bytes of a file that is read as a proof: a path of 256 nodes, an entry, and the signatures and
/// keys of 256 validators are below.
const PROOF_BYTES_MAX: u64 = 512 * 1024;
/// Bytes of one entry; the largest are 16 pieces of evidence about 64 responses each.
const ENTRY_BYTES_MAX: usize = 64 * 1024;

/// A proof that holds.
#[derive(Serialize)]
struct Verified {
    valid: bool,
    chain_id: ChainId,
    height: Height,
    time: TimeMs,
    root: Hash32,
    /// Why the root is trusted.
    trusted: Ground,
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
    Gateway(Gateway),
    Beacon(Beacon),
    Round(Box<Round>),
    Standing(Standing),
    ModelStanding(Box<ModelStanding>),
    Auditor(AuditorEntry),
}

pub(crate) async fn run(common: Common, args: ProofArgs, output: Output) -> anyhow::Result<()> {
    match args.command {
        ProofCommand::Get { entry, at } => {
            let proof = connect(&Home::open(&common)?, &at)?.prove(key(entry)).await?;
            // A file for `verify`, so it is JSON for people too.
            let text = serde_json::to_string_pretty(&proof).context("printing the proof")?;
            output.result(&proof, text)
        }
        ProofCommand::Verify { file, root, trust, validators } => {
            let proof = read(&file)?;
            let trusted = match (root, trust, validators) {
                (Some(root), _, _) => check_root(&proof, root)?,
                (None, Some(point), _) => check_header(&proof, point)?,
                (None, None, Some(digest)) => check_set(&proof, digest)?,
                (None, None, None) => follow(&Home::open(&common)?, &proof)?,
            };
            let verified = verify(&proof, trusted)?;
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
        ProofEntry::Beacon => StateKey::Beacon,
        ProofEntry::Round { commitment } => StateKey::Round { commitment },
        ProofEntry::Standing { provider, model: None } => StateKey::Standing { provider },
        ProofEntry::Standing { provider, model: Some(model) } => {
            StateKey::ModelStanding { provider, model }
        }
        ProofEntry::Gateway { address } => StateKey::Gateway { operator: address },
        ProofEntry::Auditor { address } => StateKey::Auditor { operator: address },
    }
}

/// Why the root of a proof is trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Ground {
    /// The user gave it.
    Root,
    /// The user gave the header's height and digest.
    Header,
    /// The validators that the user named decided it.
    Validators { digest: Hash32 },
    /// It follows from the header of this height; 0 is the genesis document.
    Chain { from: Height },
}

fn check_root(proof: &StateProof, expected: Hash32) -> anyhow::Result<Ground> {
    let root = proof.header.app_hash;
    if root != expected {
        bail!("the proof is of the root {root}, not of {expected}");
    }
    Ok(Ground::Root)
}

fn check_header(
    proof: &StateProof,
    TrustPoint { height, hash }: TrustPoint,
) -> anyhow::Result<Ground> {
    let chain_id = proof.chain_id.clone();
    TrustedState::from_header(chain_id, (height, hash), proof.block(), &Ed25519)
        .context(INVALID)?;
    Ok(Ground::Header)
}

fn check_set(proof: &StateProof, digest: Hash32) -> anyhow::Result<Ground> {
    let given = proof.header.validators;
    if given != digest {
        bail!("the proof's block was decided by the validators {given}, not by {digest}");
    }
    proof.block().verify(&proof.chain_id, &Ed25519).context(INVALID)?;
    Ok(Ground::Validators { digest })
}

/// From what the folder trusts, or from its genesis document if the proof is older than that.
fn follow(home: &Home, proof: &StateProof) -> anyhow::Result<Ground> {
    let genesis = home.genesis()?.context(
        "this data folder belongs to no network; say what to trust with --trust, --validators or --root",
    )?;
    if genesis.chain_id != proof.chain_id {
        bail!("the proof is of {}, this data folder of {}", proof.chain_id, genesis.chain_id);
    }
    let kept = TrustFile::of(home).load(&genesis)?;
    let kept = kept.filter(|kept| kept.height() <= proof.header.height);
    let state = kept.unwrap_or_else(|| TrustedState::from_genesis(&genesis));
    match state.advance(&proof.block(), now(), &Rules::of(&genesis.params), &Ed25519) {
        Ok(_) => Ok(Ground::Chain { from: state.height() }),
        Err(error @ LightError::TooFar { .. }) => {
            Err(error).context("run `peerwatt light sync` first, then try again")
        }
        Err(error @ LightError::Expired { .. }) => Err(error)
            .context("say what to trust with --trust or --root, or get a proof of a newer block"),
        Err(error) => Err(error).context(INVALID),
    }
}

fn verify(proof: &StateProof, trusted: Ground) -> anyhow::Result<Verified> {
    let value = proof.entry().context(INVALID)?;
    let entry = value.map(|bytes| decode(&proof.key, &bytes)).transpose()?;
    Ok(Verified {
        valid: true,
        chain_id: proof.chain_id.clone(),
        height: proof.header.height,
        time: proof.header.time,
        root: proof.header.app_hash,
        trusted,
        key: proof.key,
        entry,
    })
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
        StateKey::Gateway { .. } => limits::decode(bytes, ENTRY_BYTES_MAX).map(Entry::Gateway),
        StateKey::Beacon => limits::decode(bytes, ENTRY_BYTES_MAX).map(Entry::Beacon),
        StateKey::Round { .. } => {
            limits::decode(bytes, ENTRY_BYTES_MAX).map(|it| Entry::Round(Box::new(it)))
        }
        StateKey::Standing { .. } => limits::decode(bytes, ENTRY_BYTES_MAX).map(Entry::Standing),
        StateKey::ModelStanding { .. } => {
            limits::decode(bytes, ENTRY_BYTES_MAX).map(|it| Entry::ModelStanding(Box::new(it)))
        }
        StateKey::Auditor { .. } => limits::decode(bytes, ENTRY_BYTES_MAX).map(Entry::Auditor),
    };
    entry.context("the proven value cannot be read; this program may be older than the ledger")
}

fn describe(verified: &Verified) -> anyhow::Result<String> {
    let Verified { chain_id, height, time, root, trusted, entry, .. } = verified;
    let why = match trusted {
        Ground::Root => "as the root that was given".to_owned(),
        Ground::Header => "as the header that was given".to_owned(),
        Ground::Validators { .. } => "decided by the validators that were given".to_owned(),
        Ground::Chain { from: Height(0) } => "which follows from the genesis document".to_owned(),
        Ground::Chain { from } => format!("which follows from block {from}"),
    };
    let what = match entry {
        Some(entry) => serde_json::to_string_pretty(entry).context("printing the entry")?,
        None => "there is no such entry".to_owned(),
    };
    Ok(format!(
        "valid: in block {height} of {chain_id}, {}, {why}\nroot {root}\n{what}",
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
