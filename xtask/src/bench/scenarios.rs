//! What is measured of each row.

use std::time::Duration;

use super::{
    load::{Answers, Ask, Crowd},
    process,
    rows::Started,
};

/// Requests in flight.
pub(super) const CONNECTIONS: usize = 32;
/// Of long prompts: fewer, because each keeps a core busy.
pub(super) const LONG_CONNECTIONS: usize = 8;
/// How long plain requests are sent in one round.
const PLAIN_TIME: Duration = Duration::from_secs(3);
const BURST_TIME: Duration = Duration::from_secs(2);
const LONG_TIME: Duration = Duration::from_secs(2);
/// Requests in a second that no row is busy with.
pub(super) const STEADY_PER_SECOND: u32 = 200;
const STEADY_TIME: Duration = Duration::from_secs(3);
/// Streams that each connection reads in one round.
const PACED_EACH: u32 = 2;
/// Streams that begin in a second, whatever the size of the crowd.
pub(super) const CROWD_PER_SECOND: u32 = 100;
const CROWD_TIME: Duration = Duration::from_secs(4);
pub(super) const CROWDS: [usize; 3] = [16, 256, 1_000];

/// In the order in which they run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Scenario {
    /// Plain requests as fast as they are answered.
    Plain,
    /// Plain requests at a pace that nobody is busy with.
    Steady,
    /// Plain requests with prompts of 100 kB.
    Long,
    /// Streams at the pace of a model.
    Paced,
    /// Streams whose chunks come at once.
    Burst,
    /// Many streams at once. Once, not in every round: it takes long.
    Crowd(usize),
}

impl Scenario {
    pub(super) const ROUNDS: [Scenario; 5] =
        [Scenario::Plain, Scenario::Steady, Scenario::Long, Scenario::Paced, Scenario::Burst];

    pub(super) fn all() -> impl Iterator<Item = Scenario> {
        Scenario::ROUNDS.into_iter().chain(CROWDS.map(Scenario::Crowd))
    }

    pub(super) fn name(self) -> String {
        match self {
            Scenario::Plain => "plain".to_owned(),
            Scenario::Steady => "steady".to_owned(),
            Scenario::Long => "long".to_owned(),
            Scenario::Paced => "paced".to_owned(),
            Scenario::Burst => "burst".to_owned(),
            Scenario::Crowd(streams) => format!("crowd-{streams}"),
        }
    }

    pub(super) fn named(name: &str) -> Option<Scenario> {
        Scenario::all().find(|scenario| scenario.name() == name)
    }

    /// Whether this row can be measured so.
    pub(super) fn suits(self, started: &Started) -> bool {
        match self {
            Scenario::Steady => started.row.keeps_up(),
            Scenario::Crowd(streams) => streams <= started.row.streams_max(),
            Scenario::Plain | Scenario::Long | Scenario::Paced | Scenario::Burst => true,
        }
    }
}

/// All crowds of the measurement.
pub(super) fn crowds() -> impl Iterator<Item = Crowd> {
    CROWDS.into_iter().map(crowd)
}

fn crowd(streams: usize) -> Crowd {
    Crowd { streams, per_second: CROWD_PER_SECOND, measured: CROWD_TIME }
}

/// One measurement of one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) requests_per_second: f64,
    /// Per request; per chunk of a paced stream.
    pub(super) cpu_us: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Resident, in the middle of a crowd. Zero otherwise.
    pub(super) memory_kib: u64,
}

pub(super) fn measure(scenario: Scenario, started: &Started) -> anyhow::Result<Sample> {
    let (load, connections) = (&started.load, started.row.connections());
    let before = process::cpu(&started.pids)?;
    let mut memory_kib = 0;
    let (answers, parts) = match scenario {
        Scenario::Plain => (load.closed(Ask::Plain, connections, PLAIN_TIME)?, 1),
        Scenario::Steady => {
            (load.open(Ask::Plain, STEADY_PER_SECOND, CONNECTIONS, STEADY_TIME)?, 1)
        }
        Scenario::Long => {
            (load.closed(Ask::Long, LONG_CONNECTIONS.min(connections), LONG_TIME)?, 1)
        }
        Scenario::Paced => {
            (load.streams(Ask::Paced, connections, PACED_EACH)?, Ask::Paced.tokens())
        }
        Scenario::Burst => (load.closed(Ask::Burst, connections, BURST_TIME)?, 1),
        Scenario::Crowd(streams) => {
            let crowd = crowd(streams);
            let (answers, kib) = load.crowd(crowd, || process::memory_kib(&started.pids))?;
            memory_kib = kib;
            (answers, crowd.ask().tokens())
        }
    };
    let cpu = process::cpu(&started.pids)? - before;
    Ok(sample(&answers, parts, cpu, memory_kib))
}

fn sample(answers: &Answers, parts: u32, cpu: Duration, memory_kib: u64) -> Sample {
    let count = (answers.count * u64::from(parts)).max(1);
    Sample {
        requests_per_second: answers.count as f64 / answers.took.as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / count as f64,
        p50_ms: percentile_ms(&answers.times, 50),
        p99_ms: percentile_ms(&answers.times, 99),
        memory_kib,
    }
}

/// The smallest of `times` that `percent` of them do not exceed.
fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(rank).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!((percentile_ms(&times, 50), percentile_ms(&times, 99)), (50.0, 99.0));
        assert_eq!((percentile_ms(&times[..1], 99), percentile_ms(&[], 50)), (1.0, 0.0));
    }

    #[test]
    fn names_are_read_back() {
        for scenario in Scenario::all() {
            assert_eq!(Scenario::named(&scenario.name()), Some(scenario));
        }
    }
}
