//! The blocks of a node in one redb file: blocks by height with their certificates, where each
//! transaction is, validator sets by digest, and snapshots of the state. One durable transaction per
//! decided block.
//!
//! What is in a block means nothing here: transactions, outcomes and snapshots are bytes. Every
//! value carries a digest that is checked when it is read, so that a flipped bit on the disk is an
//! error and never an answer.
//!
//! Invariants: heights have no gaps, and begin at 1, after a snapshot that was adopted, or where older
//! ones were pruned; the set of validators that decided a block is there as long as the block; what
//! [`BlockStore::append`] has returned from survives a power cut.

mod overlay;

use std::{
    fs::{self, File},
    io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use borsh::{BorshDeserialize, BorshSerialize};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, TableError,
};
use types::{
    Hash32, Height, TxId,
    block::BlockHeader,
    consensus::{Certificate, ValidatorSet},
    genesis::Genesis,
    sha256,
};

const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
/// From transaction to height and place in the block.
const TXS: TableDefinition<'_, &[u8; 32], (u64, u32)> = TableDefinition::new("txs");
const SNAPSHOTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("snapshots");
/// From the digest that headers name.
const VALIDATORS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("validators");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

const FORMAT: &str = "format";
const GENESIS: &str = "genesis";
const ANCHOR: &str = "anchor";

/// The layout of the tables and of the values in them.
const FORMAT_VERSION: u32 = 3;
/// Snapshots kept: the newest, and the one before it in case the newest cannot be read.
const SNAPSHOTS_KEPT: usize = 2;
/// Memory for pages of the file. Blocks are read again rarely.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// A block as it is kept.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct StoredBlock {
    pub header: BlockHeader,
    /// Canonical bytes of the transactions, in order.
    pub txs: Vec<Vec<u8>>,
    /// The parent's, as the proposer knew it.
    pub last_certificate: Option<Certificate>,
    /// This block's, as this node knows it.
    pub certificate: Certificate,
    /// What the application said about the block, in its own form.
    pub outcomes: Vec<u8>,
}

/// Where a chain begins here whose older blocks were never here: a decided block, without what is in it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Anchor {
    pub header: BlockHeader,
    pub certificate: Certificate,
    /// Who decided it.
    pub validators: ValidatorSet,
}

/// What one durable transaction adds.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    pub block: &'a StoredBlock,
    /// Who decided it.
    pub validators: &'a ValidatorSet,
    /// The ids of the block's transactions, in order.
    pub tx_ids: &'a [TxId],
    /// A state to start from later: that after the block of the given height, which is this one or
    /// an earlier one.
    pub snapshot: Option<(Height, &'a [u8])>,
}

/// Where a transaction is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxPlace {
    pub height: Height,
    pub index: u32,
}

/// Why blocks cannot be kept or read. The path is that of the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "{path} is open in another process; stop the validator that uses it first",
        path = path.display()
    )]
    Locked { path: PathBuf },
    #[error("cannot {action} {path}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot {action} the blocks in {path}", path = path.display())]
    Database { action: &'static str, path: PathBuf, source: Box<redb::Error> },
    #[error(
        "{path} is damaged: {what}; keep a copy and restore the file from a backup or another validator",
        path = path.display()
    )]
    Damaged { path: PathBuf, what: String },
    #[error(
        "{path} has format {found}, this program reads format {FORMAT_VERSION}; use the program that wrote it",
        path = path.display()
    )]
    Format { path: PathBuf, found: u32 },
    #[error(
        "{path} holds the chain of genesis {found}, not of {expected}; give that genesis file or another home",
        path = path.display()
    )]
    OtherGenesis { path: PathBuf, found: Hash32, expected: Hash32 },
    #[error("{path} holds no chain", path = path.display())]
    Empty { path: PathBuf },
    #[error("block {given} does not follow block {tip} in {path}", path = path.display())]
    NotNext { path: PathBuf, given: Height, tip: Height },
    #[error("block {height} comes with the certificate or the validators of another block; it is not written to {path}", path = path.display())]
    OtherCertificate { path: PathBuf, height: Height },
    #[error("{path} has blocks already; a snapshot can only be adopted by an empty store", path = path.display())]
    NotEmpty { path: PathBuf },
}

/// An open file of blocks. Cheap reads from many threads, one writer.
#[derive(Debug)]
pub struct BlockStore {
    database: Database,
    path: PathBuf,
    genesis: Genesis,
}

impl BlockStore {
    /// Opens the file, or makes one for the chain of `genesis`. No other process can open it then.
    pub fn open(path: &Path, genesis: &Genesis) -> Result<BlockStore, StoreError> {
        let exists = path.try_exists().map_err(|source| io_failed(path, "find", source))?;
        if !exists {
            return BlockStore::create(path, genesis);
        }
        let database = guarded(|| Ok(builder().open(path)?)).map_err(|e| opening(path, e))?;
        BlockStore::begin(database, path, genesis)
    }

    /// Makes the file under another name first: one that a kill left half made is made again.
    fn create(path: &Path, genesis: &Genesis) -> Result<BlockStore, StoreError> {
        let draft = path.with_extension("draft");
        let make = || guarded(|| Ok(builder().create(&draft)?)).map_err(|e| opening(&draft, e));
        let database = match make() {
            Err(StoreError::Locked { path }) => return Err(StoreError::Locked { path }),
            Err(_) => {
                fs::remove_file(&draft).map_err(|source| io_failed(&draft, "remove", source))?;
                make()?
            }
            Ok(database) => database,
        };
        let store = BlockStore::begin(database, path, genesis)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::rename(&draft, path)
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(|source| io_failed(path, "make", source))?;
        Ok(store)
    }

    /// The same over any backend, for tests that make the disk fail. `name` stands for the path.
    pub fn open_on(
        backend: impl StorageBackend,
        name: &Path,
        genesis: &Genesis,
    ) -> Result<BlockStore, StoreError> {
        let database = guarded(|| Ok(builder().create_with_backend(backend)?));
        BlockStore::begin(database.map_err(|error| opening(name, error))?, name, genesis)
    }

    /// Opens an existing file without changing a byte of it. What a killed process left unfinished
    /// is repaired in memory only. Reads the whole file. Other readers may open it too, a validator
    /// may not.
    pub fn open_read_only(path: &Path) -> Result<BlockStore, StoreError> {
        let file = File::open(path).map_err(|source| io_failed(path, "open", source))?;
        let overlay = overlay::Overlay::new(file).map_err(|error| opening(path, error.into()))?;
        if overlay.is_empty() {
            return Err(StoreError::Empty { path: path.to_owned() });
        }
        let database = guarded(|| {
            let mut database = builder().create_with_backend(overlay)?;
            // A file that was closed well is trusted by the open; here every page is looked at.
            match database.check_integrity()? {
                true => Ok(database),
                false => Err(redb::Error::Corrupted("a page does not fit its checksum".into())),
            }
        });
        let database = database.map_err(|error| opening(path, error))?;
        let genesis = stored_genesis(&database, path)?;
        let genesis = genesis.ok_or_else(|| StoreError::Empty { path: path.to_owned() })?;
        Ok(BlockStore { database, path: path.to_owned(), genesis })
    }

    fn begin(database: Database, path: &Path, genesis: &Genesis) -> Result<BlockStore, StoreError> {
        let store = BlockStore { database, path: path.to_owned(), genesis: genesis.clone() };
        match stored_genesis(&store.database, path)? {
            Some(found) if found != *genesis => Err(StoreError::OtherGenesis {
                path: path.to_owned(),
                found: found.hash(),
                expected: genesis.hash(),
            }),
            Some(_) => Ok(store),
            None => {
                store.initialise().map_err(|error| store.failed("make the tables for", error))?;
                Ok(store)
            }
        }
    }

    fn initialise(&self) -> Result<(), redb::Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        {
            write.open_table(BLOCKS)?;
            write.open_table(TXS)?;
            write.open_table(SNAPSHOTS)?;
            write.open_table(VALIDATORS)?;
            let mut meta = write.open_table(META)?;
            meta.insert(FORMAT, FORMAT_VERSION.to_le_bytes().as_slice())?;
            meta.insert(GENESIS, seal(&self.genesis).as_slice())?;
        }
        Ok(write.commit()?)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The document that the chain began with.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Adds the next block; durable when this returns. After an error it is open whether the block
    /// is there: close the store and open it again to see.
    pub fn append(&self, append: Append<'_>) -> Result<(), StoreError> {
        let given = append.block.header.height;
        let tip = self.height()?;
        if given != tip.next() {
            return Err(StoreError::NotNext { path: self.path.clone(), given, tip });
        }
        let StoredBlock { header, certificate, .. } = append.block;
        self.check_belongs(header, certificate, append.validators)?;
        guarded(|| self.write(append)).map_err(|error| self.failed("write", error))
    }

    /// Begins an empty store after a block whose state is known; durable when this returns. The block
    /// itself is not here.
    pub fn adopt(&self, anchor: &Anchor, snapshot: &[u8]) -> Result<(), StoreError> {
        let Anchor { header, certificate, validators } = anchor;
        if self.height()? != Height(0) {
            return Err(StoreError::NotEmpty { path: self.path.clone() });
        }
        self.check_belongs(header, certificate, validators)?;
        let write = || -> Result<(), redb::Error> {
            let mut write = self.database.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            write.open_table(META)?.insert(ANCHOR, seal(anchor).as_slice())?;
            let mut snapshots = write.open_table(SNAPSHOTS)?;
            snapshots.insert(header.height.0, seal_bytes(snapshot).as_slice())?;
            drop(snapshots);
            Ok(write.commit()?)
        };
        guarded(write).map_err(|error| self.failed("write", error))
    }

    /// What the chain here begins after, if that is not the genesis document.
    pub fn anchor(&self) -> Result<Option<Anchor>, StoreError> {
        let value = self.read("read", |read| {
            Ok(read.open_table(META)?.get(ANCHOR)?.map(|value| value.value().to_vec()))
        })?;
        let Some(value) = value else { return Ok(None) };
        let unreadable = || self.damaged("where its chain begins cannot be read");
        unseal(&value).map(Some).ok_or_else(unreadable)
    }

    fn check_belongs(
        &self,
        header: &BlockHeader,
        certificate: &Certificate,
        validators: &ValidatorSet,
    ) -> Result<(), StoreError> {
        let height = header.height;
        let named = (certificate.height, certificate.block) == (height, header.hash());
        if !named || validators.hash() != header.validators {
            return Err(StoreError::OtherCertificate { path: self.path.clone(), height });
        }
        Ok(())
    }

    fn write(&self, append: Append<'_>) -> Result<(), redb::Error> {
        let Append { block, validators, tx_ids, snapshot } = append;
        let height = block.header.height.0;
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        {
            write.open_table(BLOCKS)?.insert(height, seal(block).as_slice())?;
            let mut sets = write.open_table(VALIDATORS)?;
            let digest = &block.header.validators.0;
            // Of most blocks it is the set of the one before.
            if sets.get(digest)?.is_none() {
                sets.insert(digest, seal(validators).as_slice())?;
            }
            let mut txs = write.open_table(TXS)?;
            for (index, id) in (0u32..).zip(tx_ids) {
                txs.insert(&id.0, (height, index))?;
            }
            if let Some((height, snapshot)) = snapshot {
                let mut snapshots = write.open_table(SNAPSHOTS)?;
                snapshots.insert(height.0, seal_bytes(snapshot).as_slice())?;
                while snapshots.range::<u64>(..)?.count() > SNAPSHOTS_KEPT {
                    snapshots.pop_first()?;
                }
            }
        }
        Ok(write.commit()?)
    }

    /// Forgets the oldest blocks below `height`, the newest excepted and at most `count_max`, with the places
    /// of their transactions; `tx_ids` tells those of a block. It waits for no sync: a crash may bring back
    /// what was forgotten since the last append. Validator sets stay: they are small, and prove old headers.
    pub fn prune(
        &self,
        height: Height,
        count_max: u64,
        tx_ids: impl Fn(&StoredBlock) -> Vec<TxId>,
    ) -> Result<u64, StoreError> {
        let last = height.min(self.height()?);
        let mut old = Vec::new();
        let mut at = self.first_height()?;
        while at < last && (old.len() as u64) < count_max {
            let Some(block) = self.block(at)? else { break };
            old.push((at, tx_ids(&block)));
            at = at.next();
        }
        if !old.is_empty() {
            guarded(|| self.forget(&old)).map_err(|error| self.failed("prune", error))?;
        }
        Ok(old.len() as u64)
    }

    fn forget(&self, old: &[(Height, Vec<TxId>)]) -> Result<(), redb::Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::None)?;
        {
            let mut blocks = write.open_table(BLOCKS)?;
            let mut txs = write.open_table(TXS)?;
            for (height, tx_ids) in old {
                blocks.remove(height.0)?;
                for id in tx_ids {
                    txs.remove(&id.0)?;
                }
            }
        }
        Ok(write.commit()?)
    }

    /// The set that headers name by this digest, if one of the blocks here was decided by it.
    pub fn validators(&self, digest: Hash32) -> Result<Option<ValidatorSet>, StoreError> {
        let value = self.read("read", |read| {
            Ok(read.open_table(VALIDATORS)?.get(&digest.0)?.map(|value| value.value().to_vec()))
        })?;
        let Some(value) = value else { return Ok(None) };
        let unreadable = || self.damaged(&format!("the validators {digest} cannot be read"));
        unseal(&value).map(Some).ok_or_else(unreadable)
    }

    /// Of the oldest block here, or of the first that will be.
    pub fn first_height(&self) -> Result<Height, StoreError> {
        let height = self.read("read", |read| {
            Ok(read.open_table(BLOCKS)?.first()?.map(|(height, _)| Height(height.value())))
        })?;
        match height {
            Some(height) => Ok(height),
            None => Ok(self.base()?.next()),
        }
    }

    /// Of the newest block. Without one, of the block that the chain here begins after: 0 for genesis.
    pub fn height(&self) -> Result<Height, StoreError> {
        let height = self.read("read", |read| {
            Ok(read.open_table(BLOCKS)?.last()?.map(|(height, _)| Height(height.value())))
        })?;
        height.map_or_else(|| self.base(), Ok)
    }

    fn base(&self) -> Result<Height, StoreError> {
        Ok(self.anchor()?.map(|anchor| anchor.header.height).unwrap_or_default())
    }

    /// The newest block.
    pub fn tip(&self) -> Result<Option<StoredBlock>, StoreError> {
        self.block(self.height()?)
    }

    pub fn block(&self, height: Height) -> Result<Option<StoredBlock>, StoreError> {
        let value = self.read("read", |read| {
            Ok(read.open_table(BLOCKS)?.get(height.0)?.map(|value| value.value().to_vec()))
        })?;
        let Some(value) = value else { return Ok(None) };
        let block: StoredBlock = unseal(&value)
            .ok_or_else(|| self.damaged(&format!("block {height} cannot be read")))?;
        if block.header.height != height {
            return Err(self.damaged(&format!("block {} stands at {height}", block.header.height)));
        }
        Ok(Some(block))
    }

    /// Where a transaction is, if it is in a block.
    pub fn tx_place(&self, id: TxId) -> Result<Option<TxPlace>, StoreError> {
        self.read("read", |read| {
            let place = read.open_table(TXS)?.get(&id.0)?.map(|place| place.value());
            Ok(place.map(|(height, index)| TxPlace { height: Height(height), index }))
        })
    }

    /// How many transactions the index knows.
    pub fn txs_len(&self) -> Result<u64, StoreError> {
        self.read("read", |read| Ok(redb::ReadableTableMetadata::len(&read.open_table(TXS)?)?))
    }

    /// The newest readable snapshot and the height it was made at. One that is damaged is passed
    /// over: the state also follows from the blocks.
    pub fn snapshot(&self) -> Result<Option<(Height, Vec<u8>)>, StoreError> {
        let values = self.read("read", |read| {
            let table = read.open_table(SNAPSHOTS)?;
            let mut values = Vec::new();
            for entry in table.range::<u64>(..)?.rev().take(SNAPSHOTS_KEPT) {
                let (height, value) = entry?;
                values.push((Height(height.value()), value.value().to_vec()));
            }
            Ok(values)
        })?;
        for (height, value) in values {
            match unseal_bytes(&value) {
                Some(snapshot) => return Ok(Some((height, snapshot.to_vec()))),
                None => tracing::warn!(%height, "a damaged snapshot is passed over"),
            }
        }
        Ok(None)
    }

    fn read<T>(
        &self,
        action: &'static str,
        body: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        guarded(|| body(&self.database.begin_read()?)).map_err(|error| self.failed(action, error))
    }

    fn failed(&self, action: &'static str, error: redb::Error) -> StoreError {
        failed(&self.path, action, error)
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: what.to_owned() }
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn stored_genesis(database: &Database, path: &Path) -> Result<Option<Genesis>, StoreError> {
    let values = guarded(|| read_meta(database)).map_err(|error| failed(path, "read", error))?;
    let Some([format, genesis]) = values else { return Ok(None) };
    let damaged = |what: &str| StoreError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let format: [u8; 4] =
        format.try_into().map_err(|_| damaged("the format mark cannot be read"))?;
    match u32::from_le_bytes(format) {
        FORMAT_VERSION => {}
        found => return Err(StoreError::Format { path: path.to_owned(), found }),
    }
    unseal(&genesis).map(Some).ok_or_else(|| damaged("the genesis document cannot be read"))
}

/// The format mark and the genesis document. `None`: the file was not initialised.
fn read_meta(database: &Database) -> Result<Option<[Vec<u8>; 2]>, redb::Error> {
    let read = database.begin_read()?;
    let meta = match read.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    let value = |name| -> Result<Vec<u8>, redb::Error> {
        Ok(meta.get(name)?.map(|value| value.value().to_vec()).unwrap_or_default())
    };
    Ok(Some([value(FORMAT)?, value(GENESIS)?]))
}

/// Runs `body` and takes a panic in it for damage: redb follows the lengths and places that it reads
/// from the file, and a damaged file can lead it out of bounds.
fn guarded<T>(body: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        Err(redb::Error::Corrupted("its structure does not hang together".to_owned()))
    })
}

fn opening(path: &Path, error: redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::Locked { path: path.to_owned() },
        error => failed(path, "open", error),
    }
}

fn io_failed(path: &Path, action: &'static str, source: io::Error) -> StoreError {
    StoreError::Io { action, path: path.to_owned(), source }
}

fn failed(path: &Path, action: &'static str, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Corrupted(what) => StoreError::Damaged { path: path.to_owned(), what },
        redb::Error::Io(source) => io_failed(path, action, source),
        error => StoreError::Database { action, path: path.to_owned(), source: error.into() },
    }
}

/// Canonical bytes behind their digest.
fn seal<T: BorshSerialize>(value: &T) -> Vec<u8> {
    seal_bytes(&borsh::to_vec(value).unwrap_or_default())
}

fn seal_bytes(bytes: &[u8]) -> Vec<u8> {
    [sha256(&[bytes]).0.as_slice(), bytes].concat()
}

/// `None` if the digest does not fit.
fn unseal<T: BorshDeserialize>(value: &[u8]) -> Option<T> {
    borsh::from_slice(unseal_bytes(value)?).ok()
}

fn unseal_bytes(value: &[u8]) -> Option<&[u8]> {
    let (digest, bytes) = value.split_at_checked(32)?;
    (sha256(&[bytes]).0 == digest).then_some(bytes)
}

#[cfg(test)]
mod tests;
