//! The embedded engine: a GGUF model, run in this process by candle (the Llama family) or by llama.cpp (all it knows).
//!
//! A request runs from its first to its last token on one of the engine's own threads, with its own
//! attention cache over shared weights; the model file decides nothing else about the process. Which library computes
//! changes the last digits of logits and nothing else: prompts, draws, ends and what is told of a token are the same code.

mod bpe;
mod chat;
mod compute;
mod gguf;
mod options;
mod run;
mod sample;
mod spm;
#[cfg(test)]
mod tests;
mod texts;
mod tokenizer;

use std::{
    fs::File,
    io::{BufReader, Cursor, Read, Seek},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc},
    thread,
};

use async_trait::async_trait;
use futures::stream;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;
use types::{
    Hash32, ModelId,
    ability::Abilities,
    hash::StreamHash,
    inference::{Begun, InferenceRequest, Prompt},
    offer::EngineKind,
};

pub use self::options::{CacheType, EmbeddedOptions, Library, LlamaOptions};
use self::{
    chat::ChatTemplate,
    compute::{Slot, Weights},
    gguf::{Header, LoadError, first_line, panic_text},
    run::{Outlet, Run, RunError},
    tokenizer::Tokenizer,
};
pub(crate) use self::{texts::Texts, tokenizer::END_TEXTS};
#[cfg(feature = "llama")]
use crate::llama;
use crate::{
    Engine, EngineError, EngineEvent, EngineModel, Generation, LOGITS_AHEAD_MAX, Load,
    LogitsStream, STREAM_EVENTS_MAX, Vocabulary, bounded_name, scoring::check_from,
};

/// The loader has no constant that says it; a test compares it with `Cargo.lock`.
const CANDLE_VERSION: &str = "embedded candle 0.11.1";

/// Below this size of its file a model is computed by one thread per request: sharing a matrix of a
/// few thousand weights among threads costs more than it saves (measured: a tenth of the speed).
const SMALL_MODEL_BYTES: u64 = 64 * 1024 * 1024;

/// What a model file holds.
#[derive(Debug)]
struct Loaded {
    weights: Weights,
    tokenizer: Tokenizer,
    /// Tokens that deliver no text and end nothing.
    silent: Vec<u32>,
    template: ChatTemplate,
    context_tokens: u32,
    small: bool,
    version: &'static str,
}

/// Runs one model in this process.
#[derive(Debug)]
pub struct EmbeddedEngine {
    loaded: Arc<Loaded>,
    model: EngineModel,
    options: EmbeddedOptions,
    /// One for each request that runs or waits.
    places: Arc<Semaphore>,
    /// `None` only while dropping.
    jobs: Option<std_mpsc::Sender<Job>>,
    shutdown: CancellationToken,
    threads: Vec<thread::JoinHandle<()>>,
}

/// Work for a slot. Its place is free again when it is dropped.
struct Job {
    task: Task,
    place: OwnedSemaphorePermit,
}

enum Task {
    Generate {
        run: Box<Run>,
        /// Reserved, so that the last event never waits for a consumer.
        last: mpsc::OwnedPermit<EngineEvent>,
    },
    Score {
        tokens: Vec<u32>,
        reply: oneshot::Sender<Result<Vec<i32>, RunError>>,
    },
    Logits {
        tokens: Vec<u32>,
        from: usize,
        outlet: Outlet<Result<Vec<f32>, EngineError>>,
    },
}

impl EmbeddedEngine {
    /// Loads a GGUF file. Blocks; a file of gigabytes takes seconds.
    pub fn load(path: &Path, options: EmbeddedOptions) -> Result<EmbeddedEngine, EngineError> {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let loaded = read_file(path, &options);
        EmbeddedEngine::start(loaded, &path.display().to_string(), name, options)
    }

    /// The id of the model in a GGUF file, without its weights. Blocks while it reads the whole file.
    pub fn model_id(path: &Path) -> Result<ModelId, EngineError> {
        let read = || {
            let (mut reader, bytes) = open(path)?;
            let weights = digest(&mut reader)?;
            reader.rewind()?;
            let template = Header::read(&mut reader, bytes).and_then(|header| {
                let tokenizer = Tokenizer::from_gguf(&header)?;
                template(&header, &tokenizer)
            });
            #[cfg(feature = "llama")]
            let template = template.or_else(|error| llama_template(path).map_err(|_| error));
            Ok((weights, template?))
        };
        let id = read().map(|(weights, template): (Hash32, ChatTemplate)| {
            ModelId::of(&weights, &template.digest())
        });
        id.map_err(|error: LoadError| not_a_model(&path.display().to_string(), &error))
    }

    /// Loads a GGUF file that is part of the program, to be known as `name`, with candle: llama.cpp reads files alone.
    pub fn from_bytes(
        bytes: &'static [u8],
        name: &str,
        options: EmbeddedOptions,
    ) -> Result<EmbeddedEngine, EngineError> {
        let mut hash = StreamHash::default();
        hash.update(bytes);
        let loaded = match options.library {
            None | Some(Library::Candle) => read_model(&mut Cursor::new(bytes), bytes.len() as u64),
            Some(Library::Llama(_)) => Err(LoadError::Library {
                reason: "llama.cpp loads models from files alone".to_owned(),
            }),
        };
        let loaded = loaded.map(|loaded| (hash.finish(), loaded));
        EmbeddedEngine::start(loaded, name, Some(name.to_owned()), options)
    }

    fn start(
        loaded: Result<(Hash32, Loaded), LoadError>,
        path: &str,
        name: Option<String>,
        options: EmbeddedOptions,
    ) -> Result<EmbeddedEngine, EngineError> {
        let failed = |error: LoadError| not_a_model(path, &error);
        let (weights, mut loaded) = loaded.map_err(failed)?;
        loaded.context_tokens = loaded.context_tokens.min(options.context_tokens_max).max(1);
        let model = EngineModel {
            id: ModelId::of(&weights, &loaded.template.digest()),
            alias: bounded_name(&name.unwrap_or_default()),
            weights,
            weights_known: true,
            context_tokens: loaded.context_tokens,
            abilities: Abilities { logprobs: true, samplers: true, ..Abilities::default() },
        };
        let options = EmbeddedOptions { slots: options.slots.max(1), ..options };
        let (jobs, queue) = std_mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let loaded = Arc::new(loaded);
        let start = |slot: u32| {
            let worker = Worker { loaded: Arc::clone(&loaded), queue: Arc::clone(&queue) };
            thread::Builder::new().name(format!("engine-{slot}")).spawn(move || worker.work())
        };
        let threads = (0..options.slots).map(start).collect::<Result<_, _>>();
        let threads = threads.map_err(|error| failed(LoadError::Read(error)))?;
        let places = options.slots.saturating_add(options.waiting_max) as usize;
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        let shutdown = CancellationToken::new();
        Ok(EmbeddedEngine { loaded, model, options, places, jobs: Some(jobs), shutdown, threads })
    }

    /// The model that it runs.
    pub fn model(&self) -> &EngineModel {
        &self.model
    }

    /// The tokens of a prompt, with the chat template applied.
    pub fn prompt_tokens(&self, prompt: &Prompt) -> Result<Vec<u32>, EngineError> {
        self.loaded.prompt_tokens(prompt, None).map(|(prompt, _)| prompt)
    }

    /// The bytes that a token delivers: none for special ones.
    pub fn token_bytes(&self, token: u32) -> &[u8] {
        self.loaded.tokenizer.delivered(token)
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, EngineError> {
        let waiting_max = self.options.waiting_max;
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| EngineError::Busy { waiting_max })
    }

    fn submit(&self, task: Task, place: OwnedSemaphorePermit) -> Result<(), EngineError> {
        let sent = self.jobs.as_ref().map(|jobs| jobs.send(Job { task, place }));
        match sent {
            Some(Ok(())) => Ok(()),
            // Every thread is gone, and they go only with the engine.
            Some(Err(_)) | None => {
                Err(EngineError::Failed { reason: "it has been shut down".to_owned() })
            }
        }
    }

    /// Whether tokens that were made elsewhere can be read.
    fn check_tokens(&self, model: ModelId, tokens: &[u32]) -> Result<(), EngineError> {
        self.check_model(model)?;
        let context_tokens = self.loaded.context_tokens;
        let prompt_tokens = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        if prompt_tokens > context_tokens {
            return Err(EngineError::ContextFull { prompt_tokens, context_tokens });
        }
        match tokens.iter().find(|token| !self.loaded.tokenizer.contains(**token)) {
            Some(token) => {
                Err(EngineError::BadRequest { reason: format!("there is no token {token}") })
            }
            None => Ok(()),
        }
    }

    fn outlet<T>(&self, items: mpsc::Sender<T>, cancel: CancellationToken) -> Outlet<T> {
        Outlet { items, cancel, shutdown: self.shutdown.clone(), runtime: Handle::current() }
    }

    fn check_model(&self, model: ModelId) -> Result<(), EngineError> {
        if model == self.model.id { Ok(()) } else { Err(EngineError::UnknownModel { model }) }
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // Each ends after the forward pass it is in.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Engine for EmbeddedEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Embedded
    }

    fn version(&self) -> String {
        self.loaded.version.to_owned()
    }

    async fn models(&self) -> Result<Vec<EngineModel>, EngineError> {
        Ok(vec![self.model.clone()])
    }

    async fn generate(
        &self,
        model: ModelId,
        request: InferenceRequest,
        cancel: CancellationToken,
    ) -> Result<Generation, EngineError> {
        self.check_model(model)?;
        self.model.check(&request)?;
        let place = self.place()?;
        let loaded = Arc::clone(&self.loaded);
        // A prompt of megabytes takes a while to tokenize.
        let prepared = tokio::task::spawn_blocking(move || {
            let tokens = loaded.prompt_tokens(&request.prompt, request.begun.as_ref());
            tokens.map(|tokens| (tokens, request))
        });
        let ((prompt, begun), request) = prepared.await.map_err(|error| {
            EngineError::Failed { reason: format!("the prompt could not be tokenized: {error}") }
        })??;
        let prompt_tokens = u32::try_from(prompt.len().saturating_add(begun.len())).ok();
        let (sender, events) = mpsc::channel(STREAM_EVENTS_MAX.saturating_add(1));
        let last = sender.clone().reserve_owned().await.map_err(|_| EngineError::Failed {
            reason: "the stream closed before it began".to_owned(),
        })?;
        let outlet = self.outlet(sender, cancel);
        let loaded = Arc::clone(&self.loaded);
        let run = Box::new(Run { loaded, prompt, begun, request, outlet, delivered: 0 });
        self.submit(Task::Generate { run, last }, place)?;
        Ok(Generation { prompt_tokens, events: events.into() })
    }

    async fn score(&self, model: ModelId, tokens: &[u32]) -> Result<Vec<i32>, EngineError> {
        self.check_tokens(model, tokens)?;
        let place = self.place()?;
        let (reply, scores) = oneshot::channel();
        self.submit(Task::Score { tokens: tokens.to_vec(), reply }, place)?;
        let failed = |reason: String| EngineError::Failed { reason };
        let scores = scores.await.map_err(|_| failed("it broke off while scoring".to_owned()))?;
        scores.map_err(|error| failed(error.to_string()))
    }

    async fn logits(
        &self,
        model: ModelId,
        tokens: &[u32],
        from: usize,
    ) -> Result<LogitsStream, EngineError> {
        self.check_tokens(model, tokens)?;
        let count = check_from(from, tokens.len())?;
        let place = self.place()?;
        let (sender, mut positions) = mpsc::channel(LOGITS_AHEAD_MAX);
        // Whoever drops the stream closes the channel.
        let outlet = self.outlet(sender, CancellationToken::new());
        self.submit(Task::Logits { tokens: tokens.to_vec(), from, outlet }, place)?;
        Ok(LogitsStream::new(count, stream::poll_fn(move |cx| positions.poll_recv(cx))))
    }

    async fn tokenize(&self, model: ModelId, prompt: &Prompt) -> Result<Vec<u32>, EngineError> {
        self.check_model(model)?;
        let (loaded, prompt) = (Arc::clone(&self.loaded), prompt.clone());
        let tokens = tokio::task::spawn_blocking(move || loaded.prompt_tokens(&prompt, None));
        let tokens = tokens.await.map_err(|error| EngineError::Failed {
            reason: format!("the prompt could not be tokenized: {error}"),
        })?;
        tokens.map(|(prompt, _)| prompt)
    }

    async fn vocabulary(&self, model: ModelId) -> Result<Vocabulary, EngineError> {
        self.check_model(model)?;
        Ok(self.loaded.tokenizer.vocabulary())
    }

    /// What waits counts as active.
    fn load(&self) -> Load {
        let places = self.options.slots.saturating_add(self.options.waiting_max);
        let free = u32::try_from(self.places.available_permits()).unwrap_or(u32::MAX);
        Load { slots: self.options.slots, active: places.saturating_sub(free) }
    }
}

impl Loaded {
    /// The tokens of a prompt, at least one, and of an answer that was begun elsewhere, with room for the
    /// rest. Without the begun tokens' ids their text is read as part of the prompt.
    fn prompt_tokens(
        &self,
        prompt: &Prompt,
        begun: Option<&Begun>,
    ) -> Result<(Vec<u32>, Vec<u32>), EngineError> {
        let context_tokens = self.context_tokens;
        let full = |tokens: usize| {
            let prompt_tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
            Err(EngineError::ContextFull { prompt_tokens, context_tokens })
        };
        let begun_text = begun.map_or("", |begun| begun.text.as_str());
        let least = self.tokenizer.tokens_min(prompt.text_bytes().saturating_add(begun_text.len()));
        if least >= context_tokens as usize {
            return full(least);
        }
        let mut text = match prompt {
            Prompt::Text(text) => text.clone(),
            Prompt::Inputs(_) => return Err(EngineError::Unsupported { what: "embeddings" }),
            Prompt::Chat(messages) => self.template.render(messages).map_err(|error| {
                let reason = first_line(&error.to_string());
                EngineError::BadRequest { reason: format!("its chat template says: {reason}") }
            })?,
        };
        let ids = begun.and_then(|begun| self.known_ids(begun)).unwrap_or_default();
        if ids.is_empty() {
            text.push_str(begun_text);
        }
        let tokens = self.tokenizer.encode(&text);
        if tokens.is_empty() {
            return Err(EngineError::BadRequest { reason: "the prompt has no token".to_owned() });
        }
        match tokens.len().saturating_add(ids.len()) {
            count if count >= context_tokens as usize => full(count),
            _ => Ok((tokens, ids)),
        }
    }

    /// The ids of what was begun, if they are of this vocabulary and deliver just that text.
    fn known_ids(&self, begun: &Begun) -> Option<Vec<u32>> {
        let mut rest = begun.text.as_bytes();
        for id in &begun.ids {
            let known = self.tokenizer.contains(*id).then(|| self.tokenizer.delivered(*id))?;
            // What delivers nothing steers the model, unseen.
            if known.is_empty() {
                return None;
            }
            rest = rest.strip_prefix(known)?;
        }
        rest.is_empty().then(|| begun.ids.clone())
    }
}

/// One slot.
struct Worker {
    loaded: Arc<Loaded>,
    queue: Arc<Mutex<std_mpsc::Receiver<Job>>>,
}

impl Worker {
    /// Runs jobs until the engine is dropped.
    fn work(self) {
        // On a thread with a pool of its own, of itself alone, candle's parallel loops are plain loops.
        let _alone = self
            .loaded
            .small
            .then(|| rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build());
        let mut slot = self.loaded.weights.slot();
        loop {
            let job = self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { task, place }) = job else { return };
            match task {
                Task::Generate { run, last } => generate(run, &mut slot, place, last),
                Task::Score { tokens, reply } => {
                    let is_over = || reply.is_closed();
                    let scores = guarded(|| run::score(&mut slot, &tokens, is_over));
                    drop(place);
                    // Whoever asked may have left.
                    let _ = reply.send(scores);
                }
                Task::Logits { tokens, from, outlet } => {
                    let give = |logits| outlet.send(Ok(logits));
                    let is_over = || outlet.is_over();
                    let done = guarded(|| run::logits(&mut slot, &tokens, from, give, is_over));
                    drop(place);
                    if let Err(error) = done {
                        // Of no interest to who has left, and the engine's end shows without it.
                        let _ = outlet.send(Err(EngineError::Failed { reason: error.to_string() }));
                    }
                }
            }
        }
    }
}

fn generate(
    mut run: Box<Run>,
    slot: &mut Slot<'_>,
    place: OwnedSemaphorePermit,
    last: mpsc::OwnedPermit<EngineEvent>,
) {
    let answer = catch_unwind(AssertUnwindSafe(|| run.answer(slot)));
    // A panic of the library on one request must not take the slot with it.
    let event = answer.unwrap_or_else(|panic| EngineEvent::Failed {
        reason: first_line(panic_text(panic.as_ref())),
    });
    // Whoever has seen the end finds the place free.
    drop(place);
    last.send(event);
}

/// The same of whoever scores.
fn guarded<T>(score: impl FnOnce() -> Result<T, RunError>) -> Result<T, RunError> {
    catch_unwind(AssertUnwindSafe(score)).unwrap_or_else(|panic| {
        Err(RunError::Compute { reason: first_line(panic_text(panic.as_ref())) })
    })
}

fn not_a_model(path: &str, error: &LoadError) -> EngineError {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    let reason = format!("{error}{}", source.unwrap_or_default());
    EngineError::Model { path: path.to_owned(), reason }
}

fn template(header: &Header, tokenizer: &Tokenizer) -> Result<ChatTemplate, LoadError> {
    let source = header.text("tokenizer.chat_template");
    ChatTemplate::new(source, tokenizer.bos_text(), tokenizer.eos_text())
}

fn open(path: &Path) -> std::io::Result<(BufReader<File>, u64)> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    Ok((BufReader::new(file), bytes))
}

/// The model in a file, and the digest of it.
fn read_file(path: &Path, options: &EmbeddedOptions) -> Result<(Hash32, Loaded), LoadError> {
    let (mut reader, bytes) = open(path)?;
    let weights = digest(&mut reader)?;
    reader.rewind()?;
    let loaded = match options.library {
        Some(Library::Llama(how)) => read_with_llama(path, bytes, how, options.slots),
        Some(Library::Candle) => read_model(&mut reader, bytes),
        None => read_model(&mut reader, bytes).or_else(|error| {
            let how = LlamaOptions::standard();
            // The first to try says more of what is wrong with the file.
            read_with_llama(path, bytes, how, options.slots).map_err(|_| error)
        }),
    };
    Ok((weights, loaded?))
}

fn read_model<R: Read + Seek>(reader: &mut R, bytes: u64) -> Result<Loaded, LoadError> {
    let header = Header::read(reader, bytes)?;
    let shape = header.check()?;
    let tokenizer = Tokenizer::from_gguf(&header)?;
    let template = template(&header, &tokenizer)?;
    let weights = Weights::Candle(Box::new(header.load(shape, reader)?));
    let small = bytes < SMALL_MODEL_BYTES;
    let silent = tokenizer.silent().collect();
    let context_tokens = shape.context_tokens;
    let version = CANDLE_VERSION;
    Ok(Loaded { weights, tokenizer, silent, template, context_tokens, small, version })
}

#[cfg(feature = "llama")]
fn read_with_llama(
    path: &Path,
    bytes: u64,
    how: LlamaOptions,
    slots: u32,
) -> Result<Loaded, LoadError> {
    let small = bytes < SMALL_MODEL_BYTES;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // More threads than cores wait for each other, spinning.
    let threads = if small { 1 } else { cores / slots.max(1) as usize };
    let load = || {
        let model = Arc::new(llama::Model::load(path, how, threads)?);
        let weights = Weights::Llama(Arc::clone(&model));
        // What cannot be run is found now and not in a request.
        let tried = weights.slot().begin(2).and_then(|mut text| text.read(&[0, 0]));
        let tokenizer = Tokenizer::from_llama(Arc::clone(&model))?;
        let (bos, eos) = (tokenizer.bos_text(), tokenizer.eos_text());
        let template = ChatTemplate::new(model.template().as_deref(), bos, eos)?;
        tried.map_err(|error| LoadError::Library { reason: error.to_string() })?;
        Ok((weights, tokenizer, template, model.context_tokens()))
    };
    let loaded = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| {
        Err(LoadError::Library { reason: first_line(panic_text(panic.as_ref())) })
    });
    let (weights, tokenizer, template, context_tokens) = loaded?;
    let silent = tokenizer.silent().collect();
    let version = llama::VERSION;
    Ok(Loaded { weights, tokenizer, silent, template, context_tokens, small, version })
}

#[cfg(not(feature = "llama"))]
fn read_with_llama(_: &Path, _: u64, _: LlamaOptions, _: u32) -> Result<Loaded, LoadError> {
    let reason = "llama.cpp is to run it, and this program was built without; build it with \
                  `--features llama`";
    Err(LoadError::Library { reason: reason.to_owned() })
}

/// The chat template of a file that only llama.cpp reads.
#[cfg(feature = "llama")]
fn llama_template(path: &Path) -> Result<ChatTemplate, LoadError> {
    let template = llama::Model::template_in(path)?;
    // Its texts are of no matter to the model's id.
    ChatTemplate::new(template.as_deref(), String::new(), String::new())
}

fn digest<R: Read>(reader: &mut R) -> std::io::Result<Hash32> {
    let mut hash = StreamHash::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hash.finish()),
            count => hash.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}
