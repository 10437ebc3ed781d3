//! What the journal's lines say.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{
    Nusd, RequestId, TimeMs,
    limits::{self, DecodeError},
    receipt::Receipt,
};

use crate::{
    accounts::{KeyId, KeyRecord, OldKeyRecord},
    lanes::LaneRecord,
};

/// Bytes of one record: a receipt is about 1.5 KiB.
pub(super) const RECORD_BYTES_MAX: usize = 64 * 1024;

/// A line of the journal. New kinds go to the end.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) enum Record {
    /// Keys and lanes are restated from here on; what was said of them before is void.
    Restated,
    OldKey(OldKeyRecord),
    Lane(LaneRecord),
    OldSettled(Box<OldSettlement>),
    Key(Box<KeyRecord>),
    /// Keys are in a database. `is_new`: from here on, and what was settled before is not its business.
    Joined {
        is_new: bool,
    },
    /// The database has all that was settled up to this attempt.
    Booked {
        request: RequestId,
        attempt: u16,
    },
    Settled(Box<Settlement>),
}

/// A closed attempt.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Settlement {
    pub receipt: Receipt,
    pub salt: [u8; 16],
    pub key: KeyId,
    /// Taken from the key's budget. Zero for an attempt that another one replaced: what its
    /// provider is owed is then the gateway's loss.
    pub billed: Nusd,
    /// Whether this attempt gave the client its answer.
    pub answered: bool,
    /// The name that the client used.
    pub model_name: String,
    pub started_at: TimeMs,
    pub duration_ms: u64,
    /// Of a service outside the network.
    pub bought: Option<Bought>,
}

/// Where an answer was bought that nobody in the network made: as the operator calls the service, and as the
/// service calls the model.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Bought {
    pub upstream: String,
    pub model: String,
}

/// A settlement from when everything was bought of providers.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct OldSettlement {
    pub receipt: Receipt,
    pub salt: [u8; 16],
    pub key: KeyId,
    pub billed: Nusd,
    pub answered: bool,
    pub model_name: String,
    pub started_at: TimeMs,
    pub duration_ms: u64,
}

impl From<OldSettlement> for Settlement {
    fn from(old: OldSettlement) -> Settlement {
        let OldSettlement { receipt, salt, key, billed, answered, .. } = old;
        let OldSettlement { model_name, started_at, duration_ms, .. } = old;
        Settlement {
            receipt,
            salt,
            key,
            billed,
            answered,
            model_name,
            started_at,
            duration_ms,
            bought: None,
        }
    }
}

/// Reads a record that may be a settlement.
pub(super) fn settlement_of(bytes: &[u8]) -> Result<Option<Settlement>, DecodeError> {
    match limits::decode(bytes, RECORD_BYTES_MAX)? {
        Record::Settled(settlement) => Ok(Some(*settlement)),
        Record::OldSettled(settlement) => Ok(Some((*settlement).into())),
        Record::Restated
        | Record::OldKey(_)
        | Record::Key(_)
        | Record::Lane(_)
        | Record::Joined { .. }
        | Record::Booked { .. } => Ok(None),
    }
}
