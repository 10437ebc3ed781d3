//! A proposed block on its way to the other validators.

use arc_malachitebft_core_types as malachite;
use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Hash32, Height,
    block::Block,
    sign::{Signable, Signed},
};

use super::context::Consensus;

/// The proposer's word that it sends this block: keeps strangers from making us execute blocks. It is
/// no vote, and no proof of anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Announcement {
    pub(crate) height: Height,
    pub(crate) round: u32,
    pub(crate) valid_round: Option<u32>,
    pub(crate) block: Hash32,
}

impl Signable for Announcement {
    const DOMAIN: &'static str = "consensus-block/1";
}

/// A whole block: at a megabyte it fits one message, so it is not cut into pieces.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct BlockPart {
    pub(crate) announcement: Signed<Announcement>,
    pub(crate) block: Block,
}

impl malachite::ProposalPart<Consensus> for BlockPart {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}
