//! What a block did, in the words of the chain API, as it is kept with the block.

use ledger::{BlockOutcome, TxOutcome as Outcome};
use replica::Refusal;
use serde::{Deserialize, Serialize};
use types::Height;
use wire::chain::{Event, TxOutcome, TxResult};

/// The outcomes of a block's transactions in order, and the events of the block itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) results: Vec<TxOutcome>,
    pub(crate) events: Vec<Event>,
}

impl Record {
    /// Transactions that had no place in the block are left out, as they are from the block.
    pub(crate) fn of(height: Height, outcome: BlockOutcome) -> Record {
        let results = outcome.results.into_iter();
        let results = results.filter_map(|result| self::outcome(height, result).ok());
        Record { results: results.collect(), events: views(&outcome.events) }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Record, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Without the messages, whose wording may change from one version of the program to the next.
    pub(crate) fn without_messages(mut self) -> Record {
        for outcome in &mut self.results {
            match &mut outcome.result {
                TxResult::Failed { message, .. } => message.clear(),
                TxResult::Applied { .. } => {}
            }
        }
        self
    }
}

/// What became of one transaction; the reason if it had no place in the block.
pub(crate) fn outcome(height: Height, result: ledger::TxResult) -> Result<TxOutcome, Refusal> {
    let (id, fee) = (result.id, result.fee);
    let result = match result.outcome {
        Outcome::Applied { events } => TxResult::Applied { events: views(&events) },
        Outcome::Failed { error } => {
            TxResult::Failed { code: error.code().to_owned(), message: error.to_string() }
        }
        Outcome::Skipped { error } => {
            return Err(Refusal { code: error.code(), message: error.to_string() });
        }
    };
    Ok(TxOutcome { id, height, fee, result })
}

fn views(events: &[ledger::Event]) -> Vec<Event> {
    let view = |event: &ledger::Event| Event {
        kind: event.kind().to_owned(),
        fields: event.fields().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    events.iter().map(view).collect()
}
