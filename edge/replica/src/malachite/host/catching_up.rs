//! Decided blocks, from peers and for peers.

use arc_malachitebft_app_channel::app::types::sync::RawDecidedValue;
use arc_malachitebft_core_types::Round;
use arc_malachitebft_engine::host::SyncedValueOutcome;
use types::{Height, block::Block, limits};

use super::Host;
use crate::{
    Application,
    malachite::{
        codec::{self, SYNC_BYTES_MAX},
        context::{Consensus, round_number},
    },
};

/// Decided blocks in one answer to a peer that catches up.
const SYNC_BLOCKS_MAX: usize = 64;

impl<A: Application> Host<A> {
    pub(super) fn synced(
        &mut self,
        height: Height,
        round: Round,
        bytes: &[u8],
    ) -> SyncedValueOutcome<Consensus> {
        let block: Block = match limits::decode(bytes, SYNC_BYTES_MAX) {
            Ok(block) => block,
            Err(error) => {
                tracing::debug!(%error, %height, "a peer sent no block");
                return SyncedValueOutcome::PeerFault;
            }
        };
        if height != self.parts.worker.height() || block.header.height != height {
            return SyncedValueOutcome::PeerFault;
        }
        let (hash, round) = (block.header.hash(), round_number(round));
        let known = self.proposals.iter().any(|it| it.candidate.hash == hash);
        if !known {
            // The engine has checked the certificate: a block that fits it and is not valid here
            // means that this node differs from more than two thirds of the network.
            let Some(candidate) = self.validate(block, None) else {
                return SyncedValueOutcome::PeerFault;
            };
            if let Err(error) = self.keep(round, None, &candidate) {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::error!(error, "a decided block cannot be kept");
                return SyncedValueOutcome::LocalTransientError;
            }
        }
        self.counts.caught_up += 1;
        self.caught_up = Some(height);
        SyncedValueOutcome::Verdict(self.value(round, None, hash))
    }

    /// Decided blocks for a peer that catches up, as many as fit one answer.
    pub(super) fn decided(&self, from: Height, to: Height) -> Vec<RawDecidedValue<Consensus>> {
        let (mut values, mut bytes) = (Vec::new(), 0usize);
        let mut height = from;
        while height <= to && values.len() < SYNC_BLOCKS_MAX {
            let block = match self.parts.worker.store.block(height) {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, %height, "a block cannot be given to a peer");
                    break;
                }
            };
            let store::StoredBlock { header, txs, last_certificate, certificate, .. } = block;
            let block = Block { header, txs, last_certificate };
            let Ok(block) = borsh::to_vec(&block) else { break };
            bytes = bytes.saturating_add(block.len());
            if bytes > SYNC_BYTES_MAX / 2 && !values.is_empty() {
                break;
            }
            let certificate = codec::extended(certificate);
            values.push(RawDecidedValue { value_bytes: block.into(), certificate });
            height = height.next();
        }
        values
    }
}
