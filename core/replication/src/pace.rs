//! When the next height starts: an idle network makes no blocks.

use types::TimeMs;

/// How eager a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// A block after this long without one. `None`: only when there is something to do.
    pub heartbeat_ms: Option<u64>,
    /// So long after a block transactions gather for the next one.
    pub interval_ms_min: u64,
}

impl Pace {
    pub const STANDARD: Pace = Pace { heartbeat_ms: None, interval_ms_min: 0 };
}

/// What the decision depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    /// Transactions wait.
    pub has_txs: bool,
    /// When the application needs a block even if nobody submits anything.
    pub next_due: Option<TimeMs>,
    /// Time in the header of the last block.
    pub last_block: TimeMs,
    /// A peer has decided, or votes at, the height that would start.
    pub peer_ahead: bool,
    /// The process has just come up: it may have voted at this height before.
    pub just_started: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    Start,
    /// Until then, or until something changes. `None`: only that.
    Wait {
        until: Option<TimeMs>,
    },
}

impl Pace {
    pub fn decide(&self, view: &View, now: TimeMs) -> Decision {
        // Others wait for this node's vote, or its own earlier vote has to be found again.
        if view.peer_ahead || view.just_started {
            return Decision::Start;
        }
        let gathered = view.last_block.plus_ms(self.interval_ms_min);
        let wanted = [
            view.has_txs.then_some(gathered),
            view.next_due.map(|due| due.max(gathered)),
            self.heartbeat_ms
                .map(|after_ms| view.last_block.plus_ms(after_ms.max(1)).max(gathered)),
        ];
        match wanted.into_iter().flatten().min() {
            Some(at) if at <= now => Decision::Start,
            until => Decision::Wait { until },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: View = View {
        has_txs: false,
        next_due: None,
        last_block: TimeMs(1_000),
        peer_ahead: false,
        just_started: false,
    };

    fn check(pace: Pace, view: View, now: u64, expected: Decision) {
        assert_eq!(pace.decide(&view, TimeMs(now)), expected, "{pace:?} {view:?} {now}");
    }

    fn until(ms: u64) -> Decision {
        Decision::Wait { until: Some(TimeMs(ms)) }
    }

    #[test]
    fn an_idle_network_makes_no_blocks() {
        check(Pace::STANDARD, IDLE, u64::MAX, Decision::Wait { until: None });
    }

    #[test]
    fn whatever_there_is_to_do_starts_a_height() {
        let pace = Pace::STANDARD;
        check(pace, View { has_txs: true, ..IDLE }, 1_000, Decision::Start);
        check(pace, View { peer_ahead: true, ..IDLE }, 0, Decision::Start);
        check(pace, View { just_started: true, ..IDLE }, 0, Decision::Start);
        let due = View { next_due: Some(TimeMs(1_500)), ..IDLE };
        check(pace, due, 1_499, until(1_500));
        check(pace, due, 1_500, Decision::Start);
        // The clock stands before the last block.
        check(pace, View { has_txs: true, ..IDLE }, 900, until(1_000));
    }

    #[test]
    fn a_heartbeat_is_counted_from_the_last_block() {
        let pace = Pace { heartbeat_ms: Some(100), ..Pace::STANDARD };
        check(pace, IDLE, 1_099, until(1_100));
        check(pace, IDLE, 1_100, Decision::Start);
        check(pace, View { next_due: Some(TimeMs(1_050)), ..IDLE }, 1_000, until(1_050));
    }

    #[test]
    fn transactions_gather_but_others_are_not_kept_waiting() {
        let pace = Pace { interval_ms_min: 50, ..Pace::STANDARD };
        check(pace, View { has_txs: true, ..IDLE }, 1_049, until(1_050));
        check(pace, View { has_txs: true, ..IDLE }, 1_050, Decision::Start);
        check(pace, View { has_txs: true, peer_ahead: true, ..IDLE }, 1_001, Decision::Start);
        check(pace, View { next_due: Some(TimeMs(1)), ..IDLE }, 1_001, until(1_050));
    }
}
