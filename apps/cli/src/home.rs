//! The data folder: where each part keeps its things, and what runs from it now.
//!
//! ```text
//! genesis.json     the network this folder belongs to
//! keys/            wallet, consensus, validator, validator-node, holder, gateway, payer, gateway-node, provider,
//!                  provider-node (0600); consensus.mark: what the consensus key signed last
//! validator/       block store, consensus log      gateway/, provider/  journals
//! validator.json   addresses and peers of the validator, written by `peerwatt testnet` or by hand
//! api-key          the first API key, for the owner of this machine (0600)
//! admin-key        opens the gateway's API for its operator (0600)
//! light.json       the newest header that was verified
//! running.json     addresses of what runs from here now
//! ```

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use keys::SecretKey;
use serde::{Deserialize, Serialize};
use types::genesis::Genesis;
use validator::Peer;

use crate::args::Common;

/// Bytes of the largest genesis document that is read.
const GENESIS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A data folder.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    folder: PathBuf,
}

/// Where the parts that run from a folder can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) base_url: Option<String>,
    pub(crate) chain_url: Option<String>,
}

/// How a validator is set up when its command line says nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ValidatorSettings {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) peer_listen: Option<SocketAddr>,
    /// Each as KEY@ADDR.
    pub(crate) peers: Vec<String>,
    pub(crate) peers_only: bool,
    pub(crate) full_node: bool,
}

impl ValidatorSettings {
    pub(crate) fn peers(&self) -> anyhow::Result<Vec<Peer>> {
        let parse = |text: &String| parse_peer(text).map_err(|why| anyhow!("{text}: {why}"));
        self.peers.iter().map(parse).collect()
    }
}

/// A node as KEY@ADDR.
pub(crate) fn parse_peer(text: &str) -> Result<Peer, String> {
    let usage = "write a node as KEY@ADDRESS:PORT, with the key that it prints when it starts";
    let (key, addr) = text.split_once('@').ok_or(usage)?;
    let node_key = key.parse().map_err(|error| format!("{usage}: {error}"))?;
    let addr = addr.parse().map_err(|error| format!("{usage}: {error}"))?;
    Ok(Peer { node_key, addr })
}

impl Home {
    /// The folder that the arguments name, made if there is none.
    pub(crate) fn open(common: &Common) -> anyhow::Result<Home> {
        let folder = match &common.data_dir {
            Some(folder) => folder.clone(),
            None => directories::ProjectDirs::from("", "", "peerwatt")
                .context("this system names no data folder; give --data-dir")?
                .data_dir()
                .to_owned(),
        };
        Home::at(folder)
    }

    /// `folder`, made if there is none, closed to others.
    pub(crate) fn at(folder: PathBuf) -> anyhow::Result<Home> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("making the data folder {}", folder.display()))?;
        Ok(Home { folder })
    }

    /// Where a part keeps its things.
    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The file of a key: a bare name lies in `keys`, anything else is a path.
    pub(crate) fn key_path(&self, name: &Path) -> PathBuf {
        let is_bare = name.components().count() == 1 && name.extension().is_none();
        if is_bare {
            self.folder.join("keys").join(name).with_extension("json")
        } else {
            name.into()
        }
    }

    /// A key of this folder, made on first use.
    pub(crate) fn key(&self, name: &str) -> anyhow::Result<SecretKey> {
        Ok(keys::load_or_create(&self.key_path(Path::new(name)), None)?)
    }

    pub(crate) fn has_key(&self, name: &str) -> bool {
        self.key_path(Path::new(name)).exists()
    }

    /// How the validator of this folder is set up, if a file says so.
    pub(crate) fn validator_settings(&self) -> anyhow::Result<ValidatorSettings> {
        let path = self.folder.join("validator.json");
        if !path.exists() {
            return Ok(ValidatorSettings::default());
        }
        let reading = || format!("reading {}", path.display());
        let text = fs::read(&path).with_context(reading)?;
        serde_json::from_slice(&text).with_context(reading)
    }

    pub(crate) fn keep_validator_settings(
        &self,
        settings: &ValidatorSettings,
    ) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(settings).context("writing validator.json")?;
        replace(&self.folder.join("validator.json"), &text, 0o644)
    }

    /// The genesis document of this folder, if it has one.
    pub(crate) fn genesis(&self) -> anyhow::Result<Option<Genesis>> {
        let path = self.folder.join("genesis.json");
        if path.exists() { read_genesis(&path).map(Some) } else { Ok(None) }
    }

    /// Binds this folder to a network, once.
    pub(crate) fn keep_genesis(&self, genesis: &Genesis) -> anyhow::Result<()> {
        match self.genesis()? {
            Some(kept) if kept.hash() == genesis.hash() => Ok(()),
            Some(kept) => bail!(
                "{} belongs to the network {}, not to {}; give another --data-dir",
                self.folder.display(),
                kept.chain_id,
                genesis.chain_id
            ),
            None => {
                let text =
                    serde_json::to_vec_pretty(genesis).context("writing the genesis document")?;
                replace(&self.folder.join("genesis.json"), &text, 0o644)
            }
        }
    }

    /// The API key that is kept for the owner of this folder.
    pub(crate) fn api_key(&self) -> anyhow::Result<Option<String>> {
        self.secret("api-key")
    }

    pub(crate) fn keep_api_key(&self, key: &str) -> anyhow::Result<()> {
        self.keep_secret("api-key", key)
    }

    /// The key that opens the gateway's API for its operator.
    pub(crate) fn admin_key(&self) -> anyhow::Result<Option<String>> {
        self.secret("admin-key")
    }

    pub(crate) fn keep_admin_key(&self, key: &str) -> anyhow::Result<()> {
        self.keep_secret("admin-key", key)
    }

    fn secret(&self, name: &str) -> anyhow::Result<Option<String>> {
        let path = self.folder.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Some(text.trim().to_owned()))
    }

    fn keep_secret(&self, name: &str, text: &str) -> anyhow::Result<()> {
        replace(&self.folder.join(name), text.as_bytes(), 0o600)
    }

    /// What runs from this folder. A part that was killed is still named: whoever asks it finds out.
    pub(crate) fn running(&self) -> Running {
        let text = fs::read(self.folder.join("running.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Notes where a part can be reached.
    pub(crate) fn note_running(&self, change: impl FnOnce(&mut Running)) -> anyhow::Result<()> {
        let mut running = self.running();
        change(&mut running);
        let text = serde_json::to_vec(&running).context("writing running.json")?;
        replace(&self.folder.join("running.json"), &text, 0o600)
    }

    /// The base URL of the gateway that a client command should use.
    pub(crate) fn base_url(&self, given: Option<&str>) -> anyhow::Result<String> {
        let url = given.map(str::to_owned).or_else(|| self.running().base_url);
        let url = url.context(
            "no gateway runs from this data folder; start `peerwatt up` or give --base-url",
        )?;
        Ok(url.trim_end_matches('/').to_owned())
    }

    /// The chain API that a client command should use.
    pub(crate) fn chain_url(&self, given: Option<&str>) -> anyhow::Result<String> {
        let url = given.map(str::to_owned).or_else(|| self.running().chain_url);
        url.context("no validator runs from this data folder; start `peerwatt up` or give --chain")
    }
}

/// Reads a genesis document.
pub(crate) fn read_genesis(path: &Path) -> anyhow::Result<Genesis> {
    let reading = || format!("reading the genesis document {}", path.display());
    let text = read_text(path, GENESIS_BYTES_MAX).with_context(reading)?;
    serde_json::from_str(&text).with_context(reading)
}

/// A file of text that is no longer than `bytes_max`.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> anyhow::Result<String> {
    let reading = || format!("reading {}", path.display());
    if fs::metadata(path).with_context(reading)?.len() > bytes_max {
        bail!("{} is larger than {bytes_max} bytes", path.display());
    }
    fs::read_to_string(path).with_context(reading)
}

/// Writes a file whole or not at all.
fn replace(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let draft = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
