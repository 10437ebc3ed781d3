//! Where block times come from.

use std::{fmt, time::SystemTime};

use types::TimeMs;

/// Tells the time. A block never gets an earlier time than its parent, whatever the clock says.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    fn now(&self) -> TimeMs;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> TimeMs {
        // A clock before 1970 reads as 1970: the parent's time counts then.
        let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        TimeMs(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}
