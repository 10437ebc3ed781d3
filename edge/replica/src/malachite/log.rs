//! The log of the height that is being decided: the engine's inputs and the blocks that were proposed, in
//! one file that one sync makes durable. It stands in for the engine's own log, which syncs twice when a
//! height begins and knows blocks by digest only.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

use arc_malachitebft_core_consensus::Input;
use arc_malachitebft_engine::wal::{Msg, decode_entry, encode_entry};
use async_trait::async_trait;
use borsh::{BorshDeserialize, BorshSerialize};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use store::{RoundLog, StoreError};
use tokio::sync::oneshot;
use types::{Height, block::Block};

use super::{
    codec::Borsh,
    context::{At, Consensus},
};

/// An input of the engine, in the engine's own form.
const INPUT: u8 = 0;
/// A proposed block.
const BLOCK: u8 = 1;

/// A proposed block and the round it was proposed in.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Undecided {
    pub(crate) round: u32,
    /// The round in which two thirds wanted it before.
    pub(crate) valid_round: Option<u32>,
    pub(crate) block: Block,
}

/// The log, shared by the engine, which syncs it before it says anything to anybody, and the host, which
/// adds blocks before the engine hears of them.
#[derive(Clone, Debug)]
pub(crate) struct HeightLog(Arc<Mutex<RoundLog>>);

impl HeightLog {
    pub(crate) fn new(log: RoundLog) -> HeightLog {
        HeightLog(Arc::new(Mutex::new(log)))
    }

    fn lock(&self) -> MutexGuard<'_, RoundLog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The blocks that were proposed at this height. One that cannot be read is passed over.
    pub(crate) fn blocks(&self, height: Height) -> Vec<Undecided> {
        let log = self.lock();
        let records = log.records().iter().filter(|record| record.kind == BLOCK);
        let blocks = records.filter_map(|record| borsh::from_slice(&record.bytes).ok());
        blocks.filter(|it: &Undecided| it.block.header.height == height).collect()
    }

    /// Keeps a block that we propose or may vote for. It is durable as soon as the engine has said
    /// anything about it.
    pub(crate) fn keep(&self, undecided: &Undecided) -> Result<(), StoreError> {
        let height = undecided.block.header.height;
        let mut log = self.lock();
        // The engine may be about to begin this height.
        log.begin(height)?;
        log.append(BLOCK, &borsh::to_vec(undecided).unwrap_or_default())
    }

    fn inputs(&self) -> Vec<io::Result<Input<Consensus>>> {
        let log = self.lock();
        let records = log.records().iter().filter(|record| record.kind == INPUT);
        records.map(|record| decode_entry(&Borsh, io::Cursor::new(&record.bytes))).collect()
    }
}

/// Starts what answers the engine.
pub(crate) async fn spawn(log: HeightLog) -> Result<ActorRef<Msg<Consensus>>, SpawnErr> {
    let (actor, _) = Actor::spawn(None, LogActor, log).await?;
    Ok(actor)
}

/// A log to sync, and who waits for it.
type ToSync = (HeightLog, oneshot::Sender<Result<(), StoreError>>);

/// Starts the thread that waits for the disk, so that a vote waits for nothing else: the threads for other
/// long work may all be taken. It ends when nobody can ask it any more.
fn syncing_thread() -> io::Result<mpsc::Sender<ToSync>> {
    let (syncs, asked) = mpsc::channel::<ToSync>();
    thread::Builder::new().name("consensus-log".to_owned()).spawn(move || {
        for (log, done) in asked {
            let synced = log.lock().sync();
            // The file is free as soon as nobody else holds it.
            drop(log);
            // The engine may have stopped.
            let _ = done.send(synced);
        }
    })?;
    Ok(syncs)
}

struct LogActor;

struct Serving {
    log: HeightLog,
    syncs: mpsc::Sender<ToSync>,
    /// The height that the engine is at. `None`: it has not begun any.
    began: Option<At>,
}

impl Serving {
    fn started(&mut self, height: At) -> eyre::Result<Vec<io::Result<Input<Consensus>>>> {
        if self.began.replace(height) == Some(height) {
            // It has got them.
            return Ok(Vec::new());
        }
        self.log.lock().begin(height.0)?;
        Ok(self.log.inputs())
    }

    fn append(&mut self, height: At, input: Input<Consensus>) -> eyre::Result<()> {
        let mut log = self.log.lock();
        if self.began != Some(height) || log.height() != height.0 {
            // Of a height that is over.
            return Ok(());
        }
        let mut bytes = Vec::new();
        encode_entry(input, &Borsh, &mut bytes)?;
        Ok(log.append(INPUT, &bytes)?)
    }

    async fn sync(&self) -> eyre::Result<()> {
        let (done, synced) = oneshot::channel();
        let asked = self.syncs.send((self.log.clone(), done));
        asked.map_err(|_| eyre::eyre!("the thread that syncs the log has ended"))?;
        Ok(synced.await??)
    }
}

#[async_trait]
impl Actor for LogActor {
    type Msg = Msg<Consensus>;
    type State = Serving;
    type Arguments = HeightLog;

    async fn pre_start(
        &self,
        _: ActorRef<Msg<Consensus>>,
        log: HeightLog,
    ) -> Result<Serving, ActorProcessingErr> {
        Ok(Serving { log, syncs: syncing_thread()?, began: None })
    }

    async fn handle(
        &self,
        _: ActorRef<Msg<Consensus>>,
        message: Msg<Consensus>,
        state: &mut Serving,
    ) -> Result<(), ActorProcessingErr> {
        // An engine that has stopped reads no answer. What fails is said to it, and stops it.
        match message {
            Msg::StartedHeight(height, reply) => drop(reply.send(state.started(height))),
            Msg::Reset(height, reply) => {
                state.began = Some(height);
                let cleared = state.log.lock().clear(height.0);
                drop(reply.send(cleared.map_err(Into::into)));
            }
            Msg::Append(height, input, reply) => drop(reply.send(state.append(height, input))),
            Msg::Flush(reply) => drop(reply.send(state.sync().await)),
            Msg::Dump => {}
        }
        Ok(())
    }
}
