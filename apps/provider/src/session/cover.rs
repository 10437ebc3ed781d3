//! How far a stream is paid for: the best voucher received, and how much of it would survive a
//! power cut.

use std::collections::VecDeque;

use types::{Nusd, channel::Voucher};

use super::Mark;

/// What keeps a token back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Short {
    /// The payer has not promised enough.
    Promised,
    /// It has, but the promise is not durable yet; waiting for this record helps.
    Durable(Mark),
}

/// Invariant: `durable <= best.total`.
#[derive(Clone, Debug)]
pub(crate) struct Cover {
    best: Voucher,
    durable: Nusd,
    /// Vouchers on their way to the disk, oldest first.
    pending: VecDeque<(Mark, Nusd)>,
    /// The price of one window: what may be delivered ahead of durability.
    window: Nusd,
}

/// Why a voucher is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unfit {
    /// The one we have. Harmless.
    Known,
    /// Of another lane, or it promises less than an earlier one: the payer broke the protocol.
    Broken,
}

impl Cover {
    /// `durable` is what of the lane's earlier promises is known to be on the disk.
    pub(crate) fn new(voucher: Voucher, mark: Mark, durable: Nusd, window: Nusd) -> Cover {
        let durable = durable.min(voucher.total);
        Cover { best: voucher, durable, pending: VecDeque::from([(mark, voucher.total)]), window }
    }

    pub(crate) fn check(&self, voucher: &Voucher) -> Result<(), Unfit> {
        let best = &self.best;
        if voucher == best {
            return Err(Unfit::Known);
        }
        let follows = voucher.channel == best.channel
            && voucher.lane == best.lane
            && voucher.sequence > best.sequence
            && voucher.total >= best.total;
        if follows { Ok(()) } else { Err(Unfit::Broken) }
    }

    /// Takes a voucher that [`Cover::check`] allowed and that is in the journal under `mark`.
    pub(crate) fn raise(&mut self, voucher: Voucher, mark: Mark) {
        self.best = voucher;
        self.pending.push_back((mark, voucher.total));
    }

    /// Everything up to `mark` is durable.
    pub(crate) fn durable(&mut self, mark: Mark) {
        while let Some(&(pending, total)) = self.pending.front()
            && pending <= mark
        {
            self.durable = self.durable.max(total);
            self.pending.pop_front();
        }
    }

    pub(crate) fn promised(&self) -> Nusd {
        self.best.total
    }

    /// Whether a lane total of `total` may be reached now.
    pub(crate) fn allows(&self, total: Nusd) -> Result<(), Short> {
        if total > self.best.total {
            return Err(Short::Promised);
        }
        let ahead_of = |durable: Nusd| total > durable.saturating_add(self.window);
        if !ahead_of(self.durable) {
            return Ok(());
        }
        // The last one is the best one, so it is far enough.
        let enough = self.pending.iter().find(|(_, total)| !ahead_of(*total));
        enough.map_or(Ok(()), |(mark, _)| Err(Short::Durable(*mark)))
    }
}
