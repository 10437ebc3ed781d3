//! What the journal of a provider holds.
//!
//! The stored form is [`Stored`]: a version, then a [`Record`]. A variant is never changed or
//! removed, new ones go to the end; anything else is a new version.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    ChannelId, Hash32, Lane, Nusd, TimeMs,
    channel::Voucher,
    limits::{self, DecodeError},
    receipt::{Acknowledgement, ServiceReport},
    sign::Signed,
};

use crate::{audits::AuditBatch, books::Attempt};

/// Bytes of one record; a report with its names is below 1 KiB, a part of a batch to audit below 16 KiB.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// A record with its version.
#[derive(BorshSerialize, BorshDeserialize)]
enum Stored {
    V1(Record),
}

/// One fact about money owed to us, in the order in which it became one.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum Record {
    /// An order was taken. Guards against a second one of the same attempt.
    Opened {
        attempt: Attempt,
        at: TimeMs,
        /// What the payer says was charged before; at least what we had charged.
        total_before: Nusd,
        voucher: Signed<Voucher>,
    },
    /// A later voucher of a running request.
    Voucher { voucher: Signed<Voucher> },
    /// This much was charged on a lane when a request was somewhere in its middle.
    Progress { channel: ChannelId, lane: Lane, charged: Nusd },
    /// A request is over; the report says what is charged for it.
    Ended { report: Signed<ServiceReport> },
    /// The payer's answer to a report.
    Acknowledged { acknowledgement: Signed<Acknowledgement> },
    /// Part of a checkpoint: a lane as it stands.
    Lane { channel: ChannelId, lane: Lane, charged: Nusd, voucher: Option<Signed<Voucher>> },
    /// Part of a checkpoint: an attempt that must not be served again yet.
    Guard { attempt: Attempt, at: TimeMs },
    /// These answers are being committed to, so that a round may ask for them: the next of those under this root.
    Committing { root: Hash32, part: AuditBatch },
    /// They were not, after all.
    Uncommitted { root: Hash32 },
}

impl Record {
    pub(crate) fn encode(self) -> Vec<u8> {
        // Writing to memory cannot fail.
        borsh::to_vec(&Stored::V1(self)).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
        let Stored::V1(record) = limits::decode(bytes, RECORD_BYTES_MAX)?;
        Ok(record)
    }
}
