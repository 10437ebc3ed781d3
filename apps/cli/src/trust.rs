//! What this folder trusts of its chain, and chains that are believed only as far as that proves them.
//!
//! `light.json` in the data folder holds the newest header that was verified. Every part that runs
//! from the folder begins there, and whoever gets further writes it anew, whole or not at all.

use std::{
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use keys::Ed25519;
use light::{LightBlock, LightError, Rules, TrustedState, find_fork};
use types::{TimeMs, genesis::Genesis};
use wire::chain::{Chain, HttpChain, KeepTrust, ProvingChain, VerifiedChain, VerifiedConfig};

use crate::{args::TrustPoint, home::Home, output::Output};

/// Bytes of the largest file that is read: a header, and a certificate of every possible validator.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What to do when nothing that is trusted is young enough.
pub(crate) const HINT: &str =
    "give --trust HEIGHT:HASH, as somebody whom you trust shows it with `peerwatt light status`";

/// The newest header that was verified from this folder.
#[derive(Clone, Debug)]
pub(crate) struct TrustFile {
    folder: PathBuf,
}

impl TrustFile {
    pub(crate) fn of(home: &Home) -> TrustFile {
        TrustFile { folder: home.part("") }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("light.json")
    }

    /// What was kept, if it is of the network of `genesis` and whole.
    pub(crate) fn load(&self, genesis: &Genesis) -> anyhow::Result<Option<TrustedState>> {
        let path = self.path();
        let reading = || format!("reading what is trusted from {}", path.display());
        let bytes = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.with_context(reading)?.len(),
        };
        if bytes > FILE_BYTES_MAX {
            bail!("{} is longer than it can be; remove it", path.display());
        }
        let text = fs::read(&path).with_context(reading)?;
        let state: TrustedState = serde_json::from_slice(&text).with_context(reading)?;
        state.check_kept(genesis, &Ed25519).with_context(|| {
            format!("{} is of another network or damaged; remove it", path.display())
        })?;
        Ok(Some(state))
    }

    pub(crate) fn save(&self, state: &TrustedState) -> anyhow::Result<()> {
        let path = self.path();
        let text = serde_json::to_vec(state).context("writing what is trusted")?;
        let write = || -> io::Result<()> {
            // Of a name of its own: several parts may run from one folder.
            let mut draft = tempfile::NamedTempFile::new_in(&self.folder)?;
            io::Write::write_all(&mut draft, &text)?;
            draft.as_file().sync_all()?;
            draft.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}

/// Keeps the file of a folder up to date while a part runs.
#[derive(Debug)]
struct Keeper {
    file: TrustFile,
    genesis: Genesis,
}

impl KeepTrust for Keeper {
    fn keep(&self, state: &TrustedState) {
        // Another part of this folder may be further.
        let kept = self.file.load(&self.genesis).ok().flatten();
        if kept.is_some_and(|kept| kept.height() >= state.height()) {
            return;
        }
        if let Err(error) = self.file.save(state) {
            tracing::warn!(%error, height = %state.height(), "light.keep");
        }
    }
}

/// Whether the network of a folder was known before its nodes were asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contact {
    /// Its genesis document is that of the nodes, taken on their word this once.
    First,
    Known,
}

/// Where to begin: the header that the user names, else what was kept, else the genesis document.
pub(crate) async fn begin(
    home: &Home,
    genesis: &Genesis,
    nodes: &[Arc<HttpChain>],
    trust: Option<TrustPoint>,
    contact: Contact,
    output: Output,
) -> anyhow::Result<TrustedState> {
    let file = TrustFile::of(home);
    if let Some(point) = trust {
        let state = trust_header(genesis, nodes, point).await?;
        file.save(&state)?;
        return Ok(state);
    }
    let kept = file.load(genesis)?;
    let state = kept.unwrap_or_else(|| TrustedState::from_genesis(genesis));
    match state.check_age(now(), &Rules::of(&genesis.params)) {
        Ok(()) => Ok(state),
        Err(LightError::Expired { .. }) if contact == Contact::First => {
            let state = trust_newest(genesis, nodes).await?;
            output.progress(format_args!(
                "trusting the newest block of {} for a start, {}:{}; compare it with somebody else's",
                genesis.chain_id,
                state.height(),
                state.hash()
            ));
            file.save(&state)?;
            Ok(state)
        }
        Err(error) => Err(error).context(HINT),
    }
}

/// The header that the user named, from the first node that has it.
async fn trust_header(
    genesis: &Genesis,
    nodes: &[Arc<HttpChain>],
    TrustPoint { height, hash }: TrustPoint,
) -> anyhow::Result<TrustedState> {
    let mut failure = anyhow::anyhow!("no chain API was given");
    for node in nodes {
        match node.light_block(Some(height)).await {
            Ok(Some(block)) => {
                let chain_id = genesis.chain_id.clone();
                return TrustedState::from_header(chain_id, (height, hash), block, &Ed25519)
                    .with_context(|| format!("{} has another block {height}", node.url()));
            }
            Ok(None) => failure = anyhow::anyhow!("{} has no block {height}", node.url()),
            Err(error) => failure = error.into(),
        }
    }
    Err(failure.context(format!("fetching the header of block {height}")))
}

/// The newest header of the first node, if no other node contradicts it.
async fn trust_newest(genesis: &Genesis, nodes: &[Arc<HttpChain>]) -> anyhow::Result<TrustedState> {
    let (first, others) = nodes.split_first().context("no chain API was given")?;
    let newest = first.light_block(None).await?;
    let Some(block) = newest else { return Ok(TrustedState::from_genesis(genesis)) };
    for other in others {
        let theirs: Option<LightBlock> = other.light_block(Some(block.height())).await?;
        if theirs.is_some_and(|theirs| find_fork(&block, &theirs).is_some()) {
            bail!(
                "{} and {} do not have the same block {}; {HINT}",
                first.url(),
                other.url(),
                block.height()
            );
        }
    }
    let id = (block.height(), block.header.hash());
    Ok(TrustedState::from_header(genesis.chain_id.clone(), id, block, &Ed25519)?)
}

/// A chain that is believed as far as it is proven from what this folder trusts.
pub(crate) fn verified(
    home: &Home,
    genesis: &Genesis,
    nodes: &[Arc<HttpChain>],
    trusted: TrustedState,
) -> VerifiedChain {
    let proving = |node: &Arc<HttpChain>| Arc::clone(node) as Arc<dyn ProvingChain>;
    VerifiedChain::new(VerifiedConfig {
        nodes: nodes.iter().map(proving).collect(),
        genesis: genesis.clone(),
        trusted,
        clock: Arc::new(now),
        keeper: Arc::new(Keeper { file: TrustFile::of(home), genesis: genesis.clone() }),
    })
}

/// The genesis document of this folder, else the one given, else that of the nodes, which then all
/// have to agree. The folder is bound to it.
pub(crate) async fn network(
    home: &Home,
    given: Option<Genesis>,
    nodes: &[Arc<HttpChain>],
    output: Output,
) -> anyhow::Result<(Genesis, Contact)> {
    let known = home.genesis()?;
    let contact = match (&known, &given) {
        (None, None) => Contact::First,
        (Some(_), _) | (None, Some(_)) => Contact::Known,
    };
    if let Some(genesis) = given.or(known) {
        home.keep_genesis(&genesis)?;
        return Ok((genesis, contact));
    }
    let mut agreed: Option<Genesis> = None;
    for node in nodes {
        let genesis = node.genesis().await?;
        if agreed.as_ref().is_some_and(|agreed| *agreed != genesis) {
            bail!("{} is of another network than the first --chain", node.url());
        }
        agreed = Some(genesis);
    }
    let genesis = agreed.context("no chain API was given")?;
    output.progress(format_args!(
        "joining {} with the genesis document {} as its node gives it; --genesis FILE takes nobody's word",
        genesis.chain_id,
        genesis.hash()
    ));
    home.keep_genesis(&genesis)?;
    Ok((genesis, contact))
}

/// Clients of all chain APIs that were given.
pub(crate) fn nodes(urls: &[String]) -> anyhow::Result<Vec<Arc<HttpChain>>> {
    urls.iter().map(|url| Ok(Arc::new(HttpChain::new(url)?))).collect()
}

pub(crate) fn now() -> TimeMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimeMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use types::{Address, PublicKey};
    use validator::genesis::{LOCAL_STAKE, LocalNetwork, LocalValidator, local};

    use super::*;

    fn genesis(time: TimeMs) -> Genesis {
        let address = |name| Address([name; 20]);
        local(LocalNetwork {
            time,
            validators: vec![LocalValidator {
                moniker: "local".to_owned(),
                consensus_key: PublicKey([1; 32]),
                operator: address(1),
                stake: LOCAL_STAKE,
            }],
            holder: address(2),
            gateway: address(3),
            accounts: Vec::new(),
        })
        .unwrap()
    }

    #[test]
    fn what_was_kept_is_read_again_by_the_same_network_only() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().to_owned()).unwrap();
        let (file, ours) = (TrustFile::of(&home), genesis(TimeMs(1)));
        assert_eq!(file.load(&ours).unwrap(), None);
        let state = TrustedState::from_genesis(&ours);
        file.save(&state).unwrap();
        file.save(&state).unwrap();
        assert_eq!(file.load(&ours).unwrap(), Some(state));
        assert!(file.load(&genesis(TimeMs(2))).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left behind");
        fs::write(file.path(), b"{}").unwrap();
        assert!(file.load(&ours).is_err());
    }

    #[tokio::test]
    async fn an_old_genesis_document_is_where_nothing_begins() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().to_owned()).unwrap();
        let output = Output::new(true);
        let young = genesis(now());
        let begun = begin(&home, &young, &[], None, Contact::Known, output).await.unwrap();
        assert_eq!(begun, TrustedState::from_genesis(&young));
        let old = genesis(TimeMs(1));
        let refused = begin(&home, &old, &[], None, Contact::Known, output).await.unwrap_err();
        assert_eq!(refused.to_string(), HINT);
    }
}
