//! Any order of events keeps the rules. An auditor recounts from what was sent and written; it never
//! asks the session.

use proptest::prelude::*;
use store::{Journal, JournalConfig};
use types::price::WINDOW_TOKENS;

use super::{
    tests::{BEFORE, ESTIMATE, PRICE, opening, tokens, voucher},
    *,
};
use crate::books::{Books, LaneKey};

/// Something that may happen.
#[derive(Clone, Debug)]
enum Move {
    Tokens(u32),
    /// Covers this many tokens more than the last.
    Voucher(u32),
    /// Everything written is on the disk.
    Durable,
    Pause(u64),
    Prompt(u32),
    Cancel,
    Gone,
    DeltaFails,
    EngineDies,
    Cut,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let often = prop_oneof![
        8 => (1..40u32).prop_map(Move::Tokens),
        6 => (0..80u32).prop_map(Move::Voucher),
        4 => Just(Move::Durable),
        2 => (0..3_000u64).prop_map(Move::Pause),
        1 => (0..400u32).prop_map(Move::Prompt),
        1 => prop_oneof![
            Just(Move::Cancel), Just(Move::Gone), Just(Move::DeltaFails),
            Just(Move::EngineDies), Just(Move::Cut),
        ],
    ];
    prop::collection::vec(often, 1..60)
}

/// What an outsider sees.
struct Auditor {
    session: Session,
    now: TimeMs,
    promised: Nusd,
    durable: Nusd,
    written: Vec<(Mark, Nusd)>,
    records: Vec<Record>,
    delivered: u32,
    prompt: u32,
    charged: Option<Nusd>,
    delta_fails: bool,
}

impl Auditor {
    fn open() -> Auditor {
        let opening = opening(WINDOW_TOKENS, BEFORE);
        let promised = opening.voucher.total;
        Auditor {
            session: Session::open(opening, TimeMs(0)),
            now: TimeMs(0),
            promised,
            durable: BEFORE,
            written: vec![(Mark::OPENED, promised)],
            records: Vec::new(),
            delivered: 0,
            prompt: ESTIMATE,
            charged: None,
            delta_fails: false,
        }
    }

    fn total(&self, delivered: u32) -> Nusd {
        BEFORE.saturating_add(PRICE.charge(self.prompt, delivered))
    }

    fn step(&mut self, input: Input) {
        let mut effects = self.session.step(self.now, input);
        while let Some(failed) = self.watch(std::mem::take(&mut effects)) {
            effects = self.session.step(self.now, failed);
        }
    }

    /// Checks effects in order; gives the failure that replaces the rest.
    fn watch(&mut self, effects: Vec<Effect>) -> Option<Input> {
        for effect in effects {
            match effect {
                Effect::Persist { mark, record } => {
                    if let Record::Voucher { voucher } = &*record {
                        self.promised = self.promised.max(voucher.value.total);
                    }
                    self.written.push((mark, self.promised));
                    self.records.push(*record);
                }
                Effect::Accept { prompt_tokens } => {
                    self.prompt = prompt_tokens.unwrap_or(self.prompt)
                }
                Effect::Delta { .. } if std::mem::take(&mut self.delta_fails) => {
                    return Some(Input::Failed(Failure::Delta));
                }
                Effect::Delta { pieces, prompt_tokens } => {
                    self.prompt = prompt_tokens.unwrap_or(self.prompt);
                    if !pieces.is_empty() {
                        self.delivered += u32::try_from(pieces.len()).unwrap();
                        let total = self.total(self.delivered);
                        assert!(total <= self.promised, "delivered beyond the promise");
                        let ahead = self.durable.saturating_add(PRICE.window());
                        assert!(total <= ahead, "delivered beyond what a power cut leaves");
                    }
                }
                Effect::Report { report, .. } => {
                    assert_eq!(self.charged, None, "reported twice");
                    assert_eq!(report.completion_tokens, self.delivered);
                    assert!(report.lane_total <= self.promised, "charged beyond the promise");
                    let due = PRICE.charge(report.prompt_tokens, self.delivered);
                    assert_eq!(report.lane_total, BEFORE.saturating_add(due));
                    self.charged = Some(report.lane_total);
                }
                Effect::Sync(_)
                | Effect::Refuse(_)
                | Effect::StopEngine
                | Effect::Violated(_)
                | Effect::Done(_) => {}
            }
        }
        None
    }

    fn play(&mut self, change: Move, sequence: u64, covered: &mut u32) {
        match change {
            // The shell asks the engine only when the session wants more.
            Move::Tokens(count) if self.session.wants_engine() => self.step(tokens(count)),
            Move::Tokens(_) => {}
            Move::Voucher(tokens) => {
                *covered += tokens;
                let voucher = voucher(sequence, *covered);
                self.step(Input::Voucher { voucher, affordable: true });
            }
            Move::Durable => {
                if let Some(&(mark, total)) = self.written.last() {
                    self.durable = self.durable.max(total);
                    self.step(Input::Durable(mark));
                }
            }
            Move::Pause(ms) => {
                self.now = self.now.plus_ms(ms);
                self.step(Input::Tick);
            }
            Move::Prompt(tokens) => self.step(Input::Started { prompt_tokens: Some(tokens) }),
            Move::Cancel => self.step(Input::Cancel),
            Move::Gone => self.step(Input::Gone),
            Move::DeltaFails => self.delta_fails = true,
            Move::EngineDies => self.step(Input::EngineGone),
            Move::Cut => self.step(Input::Cut),
        }
        self.check_after_a_crash();
    }

    /// What a restart finds charged is at most what was delivered, and less by less than a window.
    fn check_after_a_crash(&self) {
        if self.charged.is_some() || self.delivered == 0 {
            return;
        }
        let charged = self.records.iter().rev().find_map(|record| match record {
            Record::Progress { charged, .. } => Some(*charged),
            _ => None,
        });
        let charged = charged.unwrap_or(BEFORE);
        let unwritten = PRICE.charge(400, WINDOW_TOKENS);
        assert!(charged.saturating_add(unwritten) >= self.total(self.delivered));
        assert!(charged <= BEFORE.saturating_add(PRICE.charge(400, self.delivered)));
    }
}

proptest! {
    #[test]
    fn nothing_is_delivered_that_is_not_covered(moves in moves()) {
        let mut auditor = Auditor::open();
        auditor.step(Input::Started { prompt_tokens: None });
        let mut covered = WINDOW_TOKENS;
        for (index, change) in moves.into_iter().enumerate() {
            auditor.play(change, index as u64 + 2, &mut covered);
        }
        // Whatever happened: once the disk is there and time passes, the request ends, reported once.
        auditor.play(Move::Durable, 1_000, &mut covered);
        for _ in 0..4 {
            auditor.play(Move::Pause(100_000), 1_000, &mut covered);
            auditor.play(Move::Durable, 1_000, &mut covered);
        }
        prop_assert!(auditor.session.is_over());
        prop_assert!(auditor.charged.is_some());
    }
}

/// The records of a request, applied in order as a restart does.
#[test]
fn a_restart_finds_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let config = JournalConfig { folder: folder.path().to_owned() };
    let first = voucher(1, 64);
    let key = LaneKey::of(&first.value);
    let attempt = crate::books::Attempt { request_id: types::RequestId([2; 16]), number: 1 };
    let opened = Record::Opened { attempt, at: TimeMs(0), total_before: BEFORE, voucher: first };
    let mut live = Books::default();
    {
        let journal = Journal::open(&config, |_, _| {}).unwrap();
        let mut keep = |record: Record| {
            let id = journal.append(&record.clone().encode()).unwrap();
            live.apply(id, record);
        };
        keep(opened);
        let mut session = Session::open(opening(64, BEFORE), TimeMs(0));
        let steps = [
            Input::Started { prompt_tokens: Some(ESTIMATE) },
            Input::Voucher { voucher: voucher(2, 128), affordable: true },
            Input::Durable(Mark(1)),
            tokens(40),
        ];
        for input in steps {
            for effect in session.step(TimeMs(1), input) {
                if let Effect::Persist { record, .. } = effect {
                    keep(*record);
                }
            }
        }
    }
    let mut rebuilt = Books::default();
    Journal::open(&config, |id, bytes| rebuilt.apply(id, Record::decode(bytes).unwrap())).unwrap();
    assert_eq!(rebuilt, live);
    let lane = rebuilt.lane(key).unwrap();
    assert_eq!(lane.charged, BEFORE.saturating_add(PRICE.charge(ESTIMATE, 40)));
    assert_eq!(lane.promised(), voucher(2, 128).value.total);
    assert!(rebuilt.was_served(attempt));
}
