//! Takes openings from providers: who is at the other end, which of its receipts the beacon chose, and whether what it opens
//! is what both sides signed. Everything here comes from strangers.
//!
//! Nothing that arrives is shown or logged but digests; openings hold prompts.

pub(crate) mod door;

use std::time::Duration;

use keys::Ed25519;
use net::{ReceiveHalf, SendHalf};
use tokio::{
    io::AsyncWriteExt,
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use types::{
    ChainId, Hash32, PublicKey,
    audit::CommitmentId,
    receipt::{Receipt, report_hash},
};
use wire::{
    audit::{
        OtherDigests, REASON_BYTES_MAX, TO_AUDITOR_FRAME_BYTES_MAX, ToAuditor, ToProvider, wanted,
    },
    chain::{Chain, ChainError, RoundView},
    frame::{self, FrameError},
    serve::{OPENING_BYTES_MAX, Opening},
};

use crate::{
    answer::{Answer, AnswerError},
    desk::{Asked, Opened, Taken},
    run::Shared,
};

/// How long a provider may be silent.
const MESSAGE_WAIT: Duration = Duration::from_secs(30);
/// Bytes of openings that are on their way, of all providers together, in units of 1 KiB.
pub(crate) const ARRIVING_KIB_MAX: usize = 256 * 1024;
/// Openings that are taken apart at once: while they are, each takes several times its bytes.
pub(crate) const DECODING_MAX: usize = 2;
/// How long it may take to open one receipt.
const OPENING_WAIT: Duration = Duration::from_secs(120);

/// Why nothing, or nothing more, is taken of a provider. It is told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error("the stream broke off")]
    Frame(#[from] FrameError),
    #[error("the provider is silent")]
    Silent,
    #[error("that is not what is said here")]
    Protocol,
    #[error("this is the network {ours}")]
    OtherNetwork { ours: ChainId },
    #[error("no round of {commitment} has drawn this auditor, or it does not know of it yet")]
    Unknown { commitment: CommitmentId },
    #[error("of {commitment} nothing more is wanted")]
    Over { commitment: CommitmentId },
    #[error("this auditor does not have the model {model}")]
    NoModel { model: types::ModelId },
    #[error("cannot ask the ledger")]
    Chain { source: ChainError },
    #[error("the node key is not that of the provider {provider}")]
    Stranger { provider: types::Address },
    #[error(transparent)]
    Digests(#[from] OtherDigests),
    #[error("this is not the receipt number {number}: {why}")]
    OtherReceipt { number: u32, why: &'static str },
    #[error("the opening of receipt number {number} is longer than {OPENING_BYTES_MAX} bytes")]
    TooLong { number: u32 },
    #[error("the receipt number {number} is not opened")]
    NotOpened { number: u32 },
    #[error("the receipt number {number} cannot be audited")]
    Answer { number: u32, source: AnswerError },
    #[error("there is no room for more openings now")]
    NoRoom,
    #[error("too busy to look at what is opened")]
    Busy,
}

impl IntakeError {
    fn answer(number: u32, error: impl Into<AnswerError>) -> IntakeError {
        IntakeError::Answer { number, source: error.into() }
    }
}

/// How a stream ended, as to whoever opened it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manners {
    Good,
    /// It asks about a round that we do not know, perhaps not yet: it asks again.
    Early,
    /// It has no business here.
    Bad,
}

impl Manners {
    fn of(error: &IntakeError) -> Manners {
        match error {
            IntakeError::Unknown { .. } => Manners::Early,
            IntakeError::Stranger { .. }
            | IntakeError::OtherNetwork { .. }
            | IntakeError::Protocol
            | IntakeError::Frame(FrameError::TooLong { .. } | FrameError::Decode { .. }) => {
                Manners::Bad
            }
            IntakeError::Frame(FrameError::Io { .. } | FrameError::Cut { .. })
            | IntakeError::Silent
            | IntakeError::Over { .. }
            | IntakeError::NoModel { .. }
            | IntakeError::Chain { .. }
            | IntakeError::Digests(_)
            | IntakeError::OtherReceipt { .. }
            | IntakeError::TooLong { .. }
            | IntakeError::NotOpened { .. }
            | IntakeError::Answer { .. }
            | IntakeError::NoRoom
            | IntakeError::Busy => Manners::Good,
        }
    }
}

async fn stream(
    shared: &Shared,
    peer: PublicKey,
    mut send: SendHalf,
    mut receive: ReceiveHalf,
) -> Manners {
    let taken = take(shared, peer, &mut send, &mut receive).await;
    let manners = taken.as_ref().map_or_else(Manners::of, |()| Manners::Good);
    if let Err(error) = taken {
        let chain = chain_of(&error);
        tracing::debug!(%peer, error = %chain, "auditor.intake");
        let mut reason = chain;
        while reason.len() > REASON_BYTES_MAX {
            reason.pop();
        }
        let refused = ToProvider::Refused { reason };
        let told = frame::write(&mut send, &refused);
        if timeout(MESSAGE_WAIT, told).await.is_err() {
            return manners;
        }
    }
    // A peer that is gone does not hear it.
    let _heard = timeout(MESSAGE_WAIT, send.shutdown()).await;
    manners
}

/// An error with what it follows from, for people.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// One commitment: what was chosen is asked for, and taken.
async fn take(
    shared: &Shared,
    peer: PublicKey,
    send: &mut SendHalf,
    receive: &mut ReceiveHalf,
) -> Result<(), IntakeError> {
    let ToAuditor::Committed { chain_id, commitment, digests } = next(receive).await? else {
        return Err(IntakeError::Protocol);
    };
    if chain_id != shared.chain_id {
        return Err(IntakeError::OtherNetwork { ours: shared.chain_id.clone() });
    }
    let round = shared.desk().case(&commitment).map(|case| case.round.clone());
    let round = round.ok_or(IntakeError::Unknown { commitment })?;
    let model = round.receipts.model;
    if !shared.shelf.has(&model) {
        // It may still come, too late for this provider to be asked again.
        shared.desk().excuse(&commitment);
        return Err(IntakeError::NoModel { model });
    }
    let provider = commitment.provider;
    let entry = shared.chain.provider(provider).await;
    let entry = entry.map_err(|source| IntakeError::Chain { source })?;
    if entry.is_none_or(|entry| entry.node_key != peer) {
        return Err(IntakeError::Stranger { provider });
    }
    let chosen = wanted(&round.receipts, &digests, &round.beacon.value, round.share)?;
    let asked = shared.desk().told(&commitment, &shared.operator, shared.now(), chosen);
    let numbers = match asked {
        Asked::Unknown => return Err(IntakeError::Unknown { commitment }),
        Asked::Over => return Err(IntakeError::Over { commitment }),
        Asked::Numbers(numbers) => numbers,
    };
    frame::write(send, &ToProvider::Wanted(numbers.clone())).await?;
    for number in numbers {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let digest = digests.get(index).copied().ok_or(IntakeError::Protocol)?;
        let opening = timeout(OPENING_WAIT, opening(&shared.arriving, receive, number)).await;
        let opening = opening.map_err(|_| IntakeError::Silent)?;
        if matches!(opening, Err(IntakeError::NoRoom)) {
            shared.desk().excuse(&commitment);
        }
        let Arrived { receipt, bytes, room } = opening?;
        let opened = open(shared, &round, number, digest, receipt, bytes).await?;
        drop(room);
        let length = opened.answer.bytes();
        match shared.desk().take(&commitment, number, opened, length) {
            Taken::Kept | Taken::Full => {}
            Taken::Unwanted => return Err(IntakeError::Over { commitment }),
        }
        frame::write(send, &ToProvider::Taken).await?;
    }
    Ok(())
}

async fn next(receive: &mut ReceiveHalf) -> Result<ToAuditor, IntakeError> {
    let read = frame::read(receive, TO_AUDITOR_FRAME_BYTES_MAX);
    let read = timeout(MESSAGE_WAIT, read).await.map_err(|_| IntakeError::Silent)??;
    read.ok_or(IntakeError::Silent)
}

/// A receipt and the bytes of its opening.
struct Arrived<'a> {
    receipt: Box<Receipt>,
    bytes: Vec<u8>,
    room: SemaphorePermit<'a>,
}

async fn opening<'a>(
    arriving: &'a Semaphore,
    receive: &mut ReceiveHalf,
    number: u32,
) -> Result<Arrived<'a>, IntakeError> {
    let ToAuditor::Receipt(receipt) = next(receive).await? else {
        return Err(IntakeError::Protocol);
    };
    let mut bytes = Vec::new();
    let mut room = arriving.try_acquire_many(0).map_err(|_| IntakeError::NoRoom)?;
    loop {
        let ToAuditor::Opening { part, more } = next(receive).await? else {
            return Err(IntakeError::Protocol);
        };
        if bytes.len().saturating_add(part.len()) > OPENING_BYTES_MAX {
            return Err(IntakeError::TooLong { number });
        }
        // Whoever says that there is more must send some.
        if more && part.is_empty() {
            return Err(IntakeError::Protocol);
        }
        let kib = u32::try_from(part.len().div_ceil(1_024)).unwrap_or(u32::MAX);
        room.merge(arriving.try_acquire_many(kib).map_err(|_| IntakeError::NoRoom)?);
        bytes.extend(part);
        if !more {
            break;
        }
    }
    match bytes.is_empty() {
        true => Err(IntakeError::NotOpened { number }),
        false => Ok(Arrived { receipt, bytes, room }),
    }
}

/// Checks that this is the receipt that was committed to, about paid work of the round's model, and takes the opening apart.
async fn open(
    shared: &Shared,
    round: &RoundView,
    number: u32,
    digest: Hash32,
    receipt: Box<Receipt>,
    bytes: Vec<u8>,
) -> Result<Opened, IntakeError> {
    let other = |why| IntakeError::OtherReceipt { number, why };
    let signed = receipt.report.as_ref().ok_or(other("it has no report"))?;
    let report = &signed.value;
    if report_hash(signed) != digest {
        return Err(other("it has another digest"));
    }
    if receipt.chain_id != shared.chain_id {
        return Err(other("it is of another network"));
    }
    if report.provider != round.commitment.provider {
        return Err(other("it is of another provider"));
    }
    if report.model != round.receipts.model {
        return Err(other("it is about another model than was committed to"));
    }
    let channel = shared.chain.channel(report.channel).await;
    let channel = channel.map_err(|source| IntakeError::Chain { source })?;
    let payer = receipt.acknowledgement.signer;
    let is_paid = channel
        .is_some_and(|it| it.terms.receiver == report.provider && it.terms.payer_key == payer);
    if !is_paid {
        return Err(other("its payer has no channel to the provider"));
    }
    let _turn = shared.decoding.acquire().await.map_err(|_| IntakeError::Busy)?;
    // Signatures and digests of up to 32 MiB.
    let opened = tokio::task::spawn_blocking(move || {
        let opening = Opening::decode(&bytes);
        let opening = opening.map_err(|error| IntakeError::answer(number, error))?;
        let answer = Answer::open(&receipt, opening, &Ed25519);
        let answer = answer.map_err(|error| IntakeError::answer(number, error))?;
        Ok(Opened { receipt: digest, answer })
    });
    opened.await.map_err(|_| IntakeError::Busy)?
}
