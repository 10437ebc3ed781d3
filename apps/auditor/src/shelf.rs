//! The models that an auditor has: those that it was given, the files of a folder, and what a mirror gives it by id.
//!
//! A file is known by what it holds, never by its name. Whoever lacks a model abstains, so nothing here is an error of
//! an audit.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use engine::{EmbeddedEngine, EmbeddedOptions, EngineError, SharedEngine};
use types::{ModelId, audit::Backend};

use crate::judge::backend;

/// Files of a folder that are looked at.
const FILES_MAX: usize = 1_024;

/// A model, and the engine that runs it.
#[derive(Clone, Debug)]
pub struct Held {
    pub id: ModelId,
    /// Of its weights: of two models with one vocabulary the smaller is the cheaper. Unknown of a model that somebody
    /// else's server runs.
    pub bytes: Option<u64>,
    pub engine: SharedEngine,
    /// The kind of machine that it computes on.
    pub backend: Backend,
}

#[derive(Clone, Debug)]
enum Source {
    Held(SharedEngine, Backend),
    File(PathBuf),
}

#[derive(Clone, Debug)]
struct Entry {
    bytes: Option<u64>,
    source: Source,
}

/// What a file was when it was last read.
type Stamp = (PathBuf, u64, Option<SystemTime>);

#[derive(Debug, Default)]
struct Known {
    entries: BTreeMap<ModelId, Entry>,
    /// Files that were read, and what they hold; `None`: no model.
    read: BTreeMap<Stamp, Option<ModelId>>,
    /// The file that was opened last, as audits of one model come together.
    last: Option<(ModelId, SharedEngine)>,
}

/// See the module.
#[derive(Debug)]
pub struct Shelf {
    folder: Option<PathBuf>,
    known: Mutex<Known>,
}

/// Why a model that is there cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("cannot read the folder of models {path}", path = path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Shelf {
    /// With models that are running already, and a folder of GGUF files, if there is one.
    pub fn new(held: Vec<Held>, folder: Option<PathBuf>) -> Shelf {
        let entry = |Held { id, bytes, engine, backend }| {
            (id, Entry { bytes, source: Source::Held(engine, backend) })
        };
        let entries = held.into_iter().map(entry).collect();
        Shelf { folder, known: Mutex::new(Known { entries, ..Known::default() }) }
    }

    /// Reads the files of the folder that are new, gone or changed. Blocks: a file is read whole once.
    pub fn refresh(&self) -> Result<(), ShelfError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let stamps = stamps(folder);
        let stamps =
            stamps.map_err(|source| ShelfError::Folder { path: folder.clone(), source })?;
        let before = self.lock().read.clone();
        let mut read = BTreeMap::new();
        for stamp in stamps {
            let known = before.get(&stamp).copied();
            let id = known.unwrap_or_else(|| model_in(&stamp.0));
            read.insert(stamp, id);
        }
        let mut known = self.lock();
        known.entries.retain(|_, entry| matches!(entry.source, Source::Held(..)));
        for ((path, bytes, _), id) in &read {
            let Some(id) = id else { continue };
            let entry = Entry { bytes: Some(*bytes), source: Source::File(path.clone()) };
            known.entries.entry(*id).or_insert(entry);
        }
        known.read = read;
        Ok(())
    }

    pub fn has(&self, model: &ModelId) -> bool {
        self.lock().entries.contains_key(model)
    }

    pub fn models(&self) -> Vec<ModelId> {
        self.lock().entries.keys().copied().collect()
    }

    /// Models that may be served in the place of `model`: the smaller ones, the largest first.
    pub fn cheaper(&self, model: &ModelId) -> Vec<ModelId> {
        let known = self.lock();
        let size = |entry: &Entry| entry.bytes.unwrap_or(u64::MAX);
        let Some(claimed) = known.entries.get(model).map(size) else { return Vec::new() };
        let smaller = known.entries.iter().filter(|(_, entry)| size(entry) < claimed);
        let mut smaller: Vec<(u64, ModelId)> =
            smaller.map(|(id, entry)| (size(entry), *id)).collect();
        smaller.sort_unstable_by(|a, b| b.cmp(a));
        smaller.into_iter().map(|(_, id)| id).collect()
    }

    /// The kind of machine that it runs on: this one, but for a server's.
    pub fn backend(&self, model: &ModelId) -> Backend {
        match self.lock().entries.get(model) {
            Some(Entry { source: Source::Held(_, backend), .. }) => *backend,
            _ => backend(),
        }
    }

    /// An engine that runs the model. `None`: it is not here. Blocks while a file is loaded.
    pub fn open(&self, model: ModelId) -> Result<Option<SharedEngine>, ShelfError> {
        let (source, last) = {
            let known = self.lock();
            let source = known.entries.get(&model).map(|entry| entry.source.clone());
            (source, known.last.clone())
        };
        let path = match source {
            None => return Ok(None),
            Some(Source::Held(engine, _)) => return Ok(Some(engine)),
            Some(Source::File(path)) => path,
        };
        if let Some((id, engine)) = last
            && id == model
        {
            return Ok(Some(engine));
        }
        let engine = EmbeddedEngine::load(&path, EmbeddedOptions::scoring())?;
        // It may have been changed since its name was learned.
        if engine.model().id != model {
            return Ok(None);
        }
        let engine: SharedEngine = Arc::new(engine);
        self.lock().last = Some((model, Arc::clone(&engine)));
        Ok(Some(engine))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Every change is made whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The GGUF files of a folder.
fn stamps(folder: &Path) -> io::Result<Vec<Stamp>> {
    let mut stamps = Vec::new();
    for entry in fs::read_dir(folder)?.take(FILES_MAX) {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "gguf") {
            continue;
        }
        let metadata = fs::metadata(&path)?;
        if metadata.is_file() {
            stamps.push((path, metadata.len(), metadata.modified().ok()));
        }
    }
    Ok(stamps)
}

fn model_in(path: &Path) -> Option<ModelId> {
    let id = EmbeddedEngine::model_id(path);
    if let Err(error) = &id {
        tracing::warn!(path = %path.display(), %error, "auditor.model is not usable");
    }
    id.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "../../models/ember-1m-f16.gguf";

    #[test]
    fn a_model_is_known_by_what_its_file_holds() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Vec::new(), Some(folder.path().to_owned()));
        shelf.refresh().unwrap();
        assert!(shelf.models().is_empty());
        fs::copy(MODEL, folder.path().join("anything.gguf")).unwrap();
        fs::write(folder.path().join("broken.gguf"), "no model").unwrap();
        fs::write(folder.path().join("notes.txt"), "no model").unwrap();
        shelf.refresh().unwrap();
        let [id] = shelf.models()[..] else { panic!("{:?}", shelf.models()) };
        let engine = shelf.open(id).unwrap().unwrap();
        let again = shelf.open(id).unwrap().unwrap();
        assert!(Arc::ptr_eq(&engine, &again), "it is loaded once");
        assert!(shelf.cheaper(&id).is_empty());
        fs::remove_file(folder.path().join("anything.gguf")).unwrap();
        shelf.refresh().unwrap();
        assert!(!shelf.has(&id) && shelf.open(id).unwrap().is_none());
    }

    #[test]
    fn smaller_models_are_what_may_be_served_instead() {
        let held = |id: u8, bytes| Held {
            id: ModelId([id; 32]),
            bytes,
            backend: backend(),
            engine: Arc::new(
                engine::dummy::DummyEngine::new(engine::dummy::DummyOptions::all()).unwrap(),
            ),
        };
        let all = vec![held(1, Some(800)), held(2, Some(400)), held(3, Some(600)), held(4, None)];
        let shelf = Shelf::new(all, None);
        let cheaper = |id: u8| -> Vec<u8> {
            shelf.cheaper(&ModelId([id; 32])).into_iter().map(|id| id.0[0]).collect()
        };
        assert_eq!(cheaper(1), [3, 2]);
        assert_eq!(cheaper(2), [0_u8; 0]);
        assert_eq!(cheaper(4), [1, 3, 2]);
        assert_eq!(cheaper(9), [0_u8; 0]);
    }
}
