//! What a provider holds of one of its rounds: read from its journals, beside the process that writes them.

use std::{collections::BTreeMap, path::Path};

use store::Journal;
use types::{
    ChainId, Hash32, Ppm,
    audit::{Demand, ReceiptsCommitment},
    receipt::{Acknowledgement, Receipt, ServiceReport},
    sign::Signed,
};
use wire::{audit::wanted, serve::Opening};

use crate::{
    books::{Attempt, Books, StoredReceipt},
    journal::BooksError,
    openings,
    record::Record,
};

/// Which round it is.
#[derive(Clone, Copy, Debug)]
pub struct Recalled<'a> {
    pub chain_id: &'a ChainId,
    pub receipts: &'a ReceiptsCommitment,
    /// They choose what is opened.
    pub beacon: &'a Hash32,
    pub share: Ppm,
    /// Of a round that a payer demanded, while it is open.
    pub demand: Option<&'a Demand>,
}

/// One answer of a round, of those that were chosen.
#[derive(Clone, Debug)]
pub struct RecalledAnswer {
    /// Of its report.
    pub digest: Hash32,
    /// `None`: not kept any more, or its payer did not acknowledge it.
    pub receipt: Option<Receipt>,
    /// `None`: not kept any more.
    pub opening: Option<Opening>,
}

/// The answers of a round that the beacon chose, in the order in which they are opened. `None`: nothing here was committed to so.
/// Waits for the disk.
pub fn recall(home: &Path, round: Recalled<'_>) -> Result<Option<Vec<RecalledAnswer>>, BooksError> {
    let journal = home.join("journal");
    let mut books = Books::default();
    let (mut number, mut failed) = (0_u64, None);
    Journal::read_only(&journal, |id, bytes| {
        number += 1;
        match Record::decode(bytes) {
            Ok(record) => books.apply(id, record),
            Err(source) => failed = failed.take().or(Some((number, source))),
        }
    })?;
    if let Some((number, source)) = failed {
        return Err(BooksError::Record { number, source });
    }
    let root = round.receipts.root;
    let audits = books.audits();
    let Some(batch) = audits.batch(&root).cloned().or_else(|| audits.demanded(&root)) else {
        return Ok(None);
    };
    let chosen = wanted(round.receipts, &batch.digests(), round.beacon, round.share);
    let chosen = chosen.unwrap_or_default();
    let at = |number: u32| batch.answers.get(usize::try_from(number).unwrap_or(usize::MAX));
    let answers: Vec<_> = chosen.into_iter().filter_map(at).collect();
    let mut statements: BTreeMap<Attempt, Statements> =
        answers.iter().map(|answer| (answer.attempt, Statements::default())).collect();
    Journal::read_only(&journal, |_, bytes| match Record::decode(bytes) {
        Ok(Record::Ended { report }) => {
            let ServiceReport { request_id, attempt: number, .. } = report.value;
            if let Some(said) = statements.get_mut(&Attempt { request_id, number }) {
                said.report = Some(report);
            }
        }
        Ok(Record::Acknowledged { acknowledgement }) => {
            let Acknowledgement { request_id, attempt: number, .. } = acknowledgement.value;
            if let Some(said) = statements.get_mut(&Attempt { request_id, number }) {
                said.acknowledgement = Some(acknowledgement);
            }
        }
        _ => {}
    })?;
    let mut opened = openings::recall(home, &statements.keys().copied().collect())?;
    let answer = |audited: &crate::audits::Audited| {
        let said = statements.remove(&audited.attempt).unwrap_or_default();
        let told = round.demand.map(|demand| demand.acknowledgement.clone());
        let acknowledgement = said.acknowledgement.or(told);
        let receipt = said.report.and_then(|report| {
            StoredReceipt { report, acknowledgement }.receipt(round.chain_id.clone())
        });
        let bytes = opened.remove(&audited.attempt);
        let opening = bytes.and_then(|bytes| Opening::decode(&bytes).ok());
        RecalledAnswer { digest: audited.digest, receipt, opening }
    };
    Ok(Some(answers.into_iter().map(answer).collect()))
}

/// What both sides signed of an answer.
#[derive(Default)]
struct Statements {
    report: Option<Signed<ServiceReport>>,
    acknowledgement: Option<Signed<Acknowledgement>>,
}
