//! Time as a thread spends it: a figure per core should not contain what other programs did meanwhile.

use std::time::Duration;

/// Processor time of this thread since some moment.
#[cfg(unix)]
fn now() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// Where that is not to be had: time that passed.
#[cfg(not(unix))]
fn now() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

/// Runs from its making.
pub(super) struct Stopwatch(Duration);

impl Stopwatch {
    pub(super) fn start() -> Stopwatch {
        Stopwatch(now())
    }

    pub(super) fn elapsed(&self) -> Duration {
        now().saturating_sub(self.0)
    }
}
