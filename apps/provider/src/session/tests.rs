//! Billing rules and flow control as tables: inputs, and everything that follows from them.

mod length;
mod vectors;

use engine::Usage;
use expect_test::{Expect, expect};
use keys::SecretKey;
use types::{
    ChainId, ChannelId, Hash32, Lane, ModelId, PublicKey, RequestId, Signature,
    inference::CountMethod, price::Price,
};

use super::*;

/// One nano-USD per prompt token, a thousand per completion token: a window is 64 000.
pub(super) const PRICE: Price = Price {
    request_nusd: Nusd::ZERO,
    prompt_nusd_per_mtok: Nusd(1_000_000),
    completion_nusd_per_mtok: Nusd(1_000_000_000),
};
pub(super) const BEFORE: Nusd = Nusd(5_000_000);
pub(super) const ESTIMATE: u32 = 100;
const NOW: TimeMs = TimeMs(1_000_000);
const CHANNEL: ChannelId = ChannelId([1; 32]);
const LANE: Lane = Lane(3);
const TIMEOUT_MS: u64 = 60_000;

pub(super) fn order() -> Order {
    Order {
        request_id: RequestId([2; 16]),
        attempt: 1,
        provider: Address([3; 20]),
        model: ModelId([4; 32]),
        prompt_hash: Hash32([5; 32]),
        request_hash: Hash32([6; 32]),
        price: PRICE,
        channel: CHANNEL,
        lane: LANE,
        lane_total_before: BEFORE,
        issued_at: NOW,
        timeout_ms: TIMEOUT_MS,
    }
}

/// A voucher for the estimated prompt and `tokens` completion tokens.
pub(super) fn voucher(sequence: u64, tokens: u32) -> Signed<Voucher> {
    let total = BEFORE.saturating_add(PRICE.charge(ESTIMATE, tokens));
    let value = Voucher { channel: CHANNEL, lane: LANE, sequence, total };
    // Whether it is signed is the shell's question.
    Signed { value, signer: PublicKey([0; 32]), signature: Signature([0; 64]) }
}

pub(super) fn opening(cover_tokens: u32, durable: Nusd) -> Opening {
    Opening {
        order: order(),
        operator: Address([3; 20]),
        engine_version: "dummy 1".to_owned(),
        profile: "free",
        seed: None,
        prompt_tokens_estimate: ESTIMATE,
        prompt_tokens_max: 400,
        vectors: None,
        tokens_max: None,
        voucher: voucher(1, cover_tokens).value,
        durable,
    }
}

pub(super) fn tokens(count: u32) -> Input {
    let token = |n| EngineEvent::Token(piece(&format!("{n}")));
    Input::Engine((0..count).map(token).collect())
}

fn piece(text: &str) -> TokenPiece {
    let bytes = text.as_bytes().to_vec();
    TokenPiece { id: Some(1), bytes, ..TokenPiece::default() }
}

fn done(finish: FinishReason, prompt_tokens: Option<u32>) -> Input {
    let (completion_tokens, counted) = (None, CountMethod::TokenIds);
    let usage = Usage { prompt_tokens, completion_tokens, counted };
    Input::Engine(vec![EngineEvent::Done { finish, usage }])
}

fn started() -> Input {
    Input::Started { prompt_tokens: Some(ESTIMATE) }
}

fn more(sequence: u64, tokens: u32) -> Input {
    Input::Voucher { voucher: voucher(sequence, tokens), affordable: true }
}

fn durable() -> Input {
    Input::Durable(Mark::OPENED)
}

fn acknowledged() -> Input {
    let order = order();
    let acknowledgement = Acknowledgement {
        request_id: order.request_id,
        attempt: order.attempt,
        provider: order.provider,
        model: order.model,
        prompt_hash: order.prompt_hash,
        response_hash: Hash32::default(),
        transcript_root: Hash32::default(),
        prompt_tokens: ESTIMATE,
        delivered_tokens: 0,
        counted: CountMethod::TokenIds,
        price: order.price,
        channel: order.channel,
        lane: order.lane,
        lane_total_before: BEFORE,
        lane_total: BEFORE,
        report_hash: None,
        finish: FinishReason::Stop,
        ended_at: NOW,
    };
    let chain_id: ChainId = "test.1".parse().unwrap();
    let payer = SecretKey::from_seed([8; 32]);
    Input::Acknowledged(Box::new(Signed::new(acknowledgement, &chain_id, &payer)))
}

/// What a step does, one line each.
pub(super) fn shown(effect: &Effect) -> String {
    match effect {
        Effect::Persist { mark: Mark(mark), record } => match &**record {
            Record::Voucher { voucher } => {
                format!("persist {mark} voucher up to +{}", above(voucher.value.total))
            }
            Record::Progress { charged, .. } => {
                format!("persist {mark} charged +{}", above(*charged))
            }
            Record::Acknowledged { .. } => format!("persist {mark} acknowledgement"),
            other => format!("persist {mark} {other:?}"),
        },
        Effect::Sync(Mark(mark)) => format!("sync {mark}"),
        Effect::Accept { prompt_tokens } => format!("accept, prompt {prompt_tokens:?}"),
        Effect::Refuse(refusal) => format!("refuse: {refusal}"),
        Effect::Delta { pieces, prompt_tokens: None } => format!("delta of {}", pieces.len()),
        Effect::Delta { pieces, prompt_tokens: Some(prompt) } => {
            format!("delta of {}, prompt {prompt}", pieces.len())
        }
        Effect::StopEngine => "stop engine".to_owned(),
        Effect::Report { report, tell } => format!(
            "report {:?}: {} + {} tokens for +{}{}",
            report.finish,
            report.prompt_tokens,
            report.completion_tokens,
            above(report.lane_total),
            if *tell { "" } else { ", to nobody" }
        ),
        Effect::Violated(what) => format!("violated: {what}"),
        Effect::Done(outcome) => format!("done: {outcome:?}"),
    }
}

fn above(total: Nusd) -> u128 {
    total.saturating_sub(BEFORE).0
}

/// Runs inputs, each with the milliseconds that passed before it, against a session whose first
/// voucher covers `cover` tokens and is durable.
fn check(cover: u32, inputs: Vec<(u64, Input)>, expected: Expect) {
    let mut session = Session::open(opening(cover, voucher(1, cover).value.total), NOW);
    expected.assert_eq(&play(&mut session, inputs));
}

fn play(session: &mut Session, inputs: Vec<(u64, Input)>) -> String {
    let (mut now, mut text) = (NOW, String::new());
    for (ms, input) in inputs {
        now = now.plus_ms(ms);
        let name = format!("{input:?}");
        let name = name.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
        text.push_str(&format!("{name}\n"));
        for effect in session.step(now, input) {
            text.push_str(&format!("    {}\n", shown(&effect)));
        }
    }
    text
}

/// What was made and not told nobody could run again.
#[test]
fn an_answer_that_is_only_compared_is_kept_if_it_is_all_that_was_made() {
    let check = |profile, made: Option<u32>, is_kept: bool| {
        let opening = Opening { profile, ..opening(64, voucher(1, 64).value.total) };
        let mut session = Session::open(opening, NOW);
        let (finish, counted) = (FinishReason::Stop, CountMethod::TokenIds);
        let usage = Usage { prompt_tokens: None, completion_tokens: made, counted };
        let done = Input::Engine(vec![EngineEvent::Done { finish, usage }]);
        play(&mut session, vec![(0, durable()), (5, started()), (1, tokens(3)), (1, done)]);
        assert_eq!(session.disclosed().is_some(), is_kept, "{profile} {made:?}");
        // What is not kept nobody may demand.
        assert_eq!(session.profile(), if is_kept { profile } else { "free" }, "{made:?}");
    };
    // With the token that ended it, without, and more.
    for (made, is_kept) in [(Some(4), true), (Some(3), true), (Some(5), false), (None, true)] {
        check("np1-l1", made, is_kept);
        check("np1", made, true);
        check("free", made, false);
    }
}

#[test]
fn a_request_is_accepted_streamed_reported_and_acknowledged() {
    check(
        64,
        vec![
            (0, durable()),
            (5, started()),
            (1, tokens(3)),
            (1, tokens(1)),
            (1, done(FinishReason::Stop, Some(ESTIMATE))),
            (1, acknowledged()),
        ],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                delta of 3
            Engine
                delta of 1
            Engine
                report Stop: 100 + 4 tokens for +4100
            Acknowledged
                persist 1 acknowledgement
                done: Acknowledged
        "#]],
    );
}

#[test]
fn nothing_delivered_is_free() {
    check(
        64,
        vec![(0, durable()), (0, started()), (0, done(FinishReason::Stop, Some(ESTIMATE)))],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                report Stop: 100 + 0 tokens for +0
        "#]],
    );
}

#[test]
fn nothing_is_charged_for_a_delta_that_could_not_be_sent() {
    check(
        64,
        vec![(0, durable()), (0, started()), (0, tokens(5)), (0, Input::Failed(Failure::Delta))],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                delta of 5
            Failed
                stop engine
                report Cancelled: 100 + 0 tokens for +0, to nobody
                done: Unacknowledged
        "#]],
    );
}

#[test]
fn a_client_that_leaves_pays_for_what_was_delivered() {
    check(
        64,
        vec![(0, durable()), (0, started()), (0, tokens(5)), (0, Input::Cancel)],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                delta of 5
            Cancel
                stop engine
                report Cancelled: 100 + 5 tokens for +5100
        "#]],
    );
    check(
        64,
        vec![(0, durable()), (0, started()), (0, tokens(5)), (0, Input::Gone)],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                delta of 5
            Gone
                stop engine
                report Cancelled: 100 + 5 tokens for +5100, to nobody
                done: Unacknowledged
        "#]],
    );
}

#[test]
fn a_provider_that_dies_is_paid_for_what_was_delivered() {
    let dies = Input::Engine(vec![
        EngineEvent::Token(piece("last")),
        EngineEvent::Failed { reason: "out of memory".to_owned() },
    ]);
    check(
        64,
        vec![(0, durable()), (0, started()), (0, tokens(2)), (0, dies)],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                delta of 2
            Engine
                delta of 1
                report Failed: 100 + 3 tokens for +3100
        "#]],
    );
    check(
        64,
        vec![(0, durable()), (0, started()), (0, tokens(2)), (0, Input::EngineGone)],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                delta of 2
            EngineGone
                report Failed: 100 + 2 tokens for +2100
        "#]],
    );
}

#[test]
fn tokens_beyond_the_cover_wait_for_a_voucher() {
    check(
        64,
        vec![
            (0, durable()),
            (0, started()),
            (0, tokens(70)),
            (0, more(2, 68)),
            (0, Input::Durable(Mark(2))),
            (0, more(3, 128)),
        ],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                delta of 64
                persist 1 charged +64100
            Voucher
                persist 2 voucher up to +68100
                delta of 4
            Durable
            Voucher
                persist 3 voucher up to +128100
                delta of 2
        "#]],
    );
}

#[test]
fn a_stream_whose_payer_stops_paying_ends_with_what_was_covered() {
    check(
        64,
        vec![
            (0, durable()),
            (0, started()),
            (0, tokens(70)),
            (COVER_WAIT_MS - 1, Input::Tick),
            (1, Input::Tick),
        ],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                delta of 64
                persist 1 charged +64100
            Tick
            Tick
                stop engine
                report Cancelled: 100 + 64 tokens for +64100
        "#]],
    );
}

#[test]
fn at_most_a_window_is_delivered_ahead_of_what_is_durable() {
    // The first voucher covers 200 tokens and is not on the disk yet; nothing before it is owed.
    let mut session = Session::open(opening(200, BEFORE), NOW);
    let text = play(
        &mut session,
        vec![(0, started()), (0, tokens(100)), (0, durable()), (0, Input::Cancel)],
    );
    expect![[r#"
        Started
            accept, prompt Some(100)
        Engine
            delta of 63
            persist 1 charged +63100
            sync 0
        Durable
            delta of 37
            persist 2 charged +100100
        Cancel
            stop engine
            report Cancelled: 100 + 100 tokens for +100100
    "#]]
    .assert_eq(&text);
}

#[test]
fn the_report_waits_until_the_guard_is_durable() {
    check(
        64,
        vec![(0, started()), (0, tokens(1)), (0, Input::Cancel), (9, durable())],
        expect![[r#"
            Started
                accept, prompt Some(100)
            Engine
                delta of 1
            Cancel
                stop engine
                sync 0
            Durable
                report Cancelled: 100 + 1 tokens for +1100
        "#]],
    );
}

#[test]
fn a_longer_prompt_than_estimated_is_told_and_covered_first() {
    check(
        2,
        vec![
            (0, durable()),
            (0, Input::Started { prompt_tokens: Some(300) }),
            (0, tokens(2)),
            (0, more(2, 10)),
        ],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(300)
            Engine
                delta of 1
            Voucher
                persist 1 voucher up to +10100
                delta of 1
        "#]],
    );
}

#[test]
fn a_prompt_told_at_the_end_is_billed_if_it_is_covered_and_estimated_if_not() {
    let end = || {
        vec![
            (0, durable()),
            (0, Input::Started { prompt_tokens: None }),
            (0, tokens(2)),
            (0, done(FinishReason::Stop, Some(350))),
        ]
    };
    check(
        3,
        end(),
        expect![[r#"
            Durable
            Started
                accept, prompt None
            Engine
                delta of 2
            Engine
                delta of 0, prompt 350
                report Stop: 350 + 2 tokens for +2350
        "#]],
    );
    let mut uncovered = end();
    uncovered.push((COVER_WAIT_MS, Input::Tick));
    check(
        2,
        uncovered,
        expect![[r#"
            Durable
            Started
                accept, prompt None
            Engine
                delta of 2
            Engine
                delta of 0, prompt 350
            Tick
                report Stop: 100 + 2 tokens for +2100
        "#]],
    );
}

#[test]
fn a_prompt_is_never_longer_than_its_bytes_allow() {
    check(
        64,
        vec![(0, durable()), (0, Input::Started { prompt_tokens: Some(9_999) })],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(400)
        "#]],
    );
}

#[test]
fn a_slow_engine_is_accepted_without_its_word_and_may_still_fail_free_of_charge() {
    check(
        64,
        vec![
            (0, durable()),
            (ACCEPT_WAIT_MS, Input::Tick),
            (0, Input::NotStarted { refusal: Refusal::Engine }),
        ],
        expect![[r#"
            Durable
            Tick
                accept, prompt None
            NotStarted
                report Failed: 100 + 0 tokens for +0
        "#]],
    );
    check(
        64,
        vec![(0, Input::NotStarted { refusal: Refusal::Engine })],
        expect![[r#"
            NotStarted
                refuse: the engine does not answer
                done: Refused
        "#]],
    );
}

#[test]
fn a_slow_engine_may_still_find_that_the_request_is_wrong() {
    let wrong =
        || Refusal::Request { field: "input".into(), problem: "is longer than the context".into() };
    check(
        64,
        vec![
            (0, durable()),
            (ACCEPT_WAIT_MS, Input::Tick),
            (0, Input::NotStarted { refusal: wrong() }),
        ],
        expect![[r#"
            Durable
            Tick
                accept, prompt None
            NotStarted
                refuse: input: is longer than the context
                done: Refused
        "#]],
    );
}

#[test]
fn vouchers_that_do_not_follow_end_the_request() {
    let lower = |sequence, covered| {
        vec![(0, durable()), (0, started()), (0, tokens(1)), (0, more(sequence, covered))]
    };
    let ended = || {
        expect![[r#"
        Durable
        Started
            accept, prompt Some(100)
        Engine
            delta of 1
        Voucher
            violated: voucher order
            stop engine
            report Cancelled: 100 + 1 tokens for +1100
    "#]]
    };
    check(64, lower(2, 63), ended());
    check(64, lower(1, 128), ended());
    check(64, lower(0, 128), ended());
    // The same one again is no harm.
    check(
        64,
        lower(1, 64),
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                delta of 1
            Voucher
        "#]],
    );
}

#[test]
fn a_promise_beyond_the_deposit_covers_nothing() {
    let beyond = Input::Voucher { voucher: voucher(2, 128), affordable: false };
    check(
        1,
        vec![
            (0, durable()),
            (0, started()),
            (0, tokens(2)),
            (0, beyond),
            (COVER_WAIT_MS, Input::Tick),
        ],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                delta of 1
            Voucher
            Tick
                stop engine
                report Cancelled: 100 + 1 tokens for +1100
        "#]],
    );
}

#[test]
fn a_flood_of_vouchers_ends_the_request() {
    let mut session = Session::open(opening(64, BEFORE), NOW);
    session.step(NOW, started());
    for n in 0..VOUCHERS_SPARE {
        session.step(NOW, more(u64::from(n) + 2, 65 + n));
    }
    let effects = session.step(NOW, more(1_000, 1_000));
    let flood = Effect::Violated("voucher flood");
    assert_eq!(effects, [flood, Effect::StopEngine, Effect::Sync(Mark::OPENED)]);
}

#[test]
fn time_runs_out() {
    check(
        64,
        vec![(0, durable()), (0, started()), (0, tokens(1)), (TIMEOUT_MS, Input::Tick)],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                delta of 1
            Tick
                stop engine
                report Failed: 100 + 1 tokens for +1100
        "#]],
    );
}

#[test]
fn a_payer_that_does_not_acknowledge_is_not_waited_for_for_ever() {
    let until_report = || vec![(0, durable()), (0, started()), (0, tokens(1)), (0, Input::Cancel)];
    for (ms, last) in [(ACKNOWLEDGE_WAIT_MS, Input::Tick), (0, Input::Gone), (0, Input::Violation)]
    {
        let mut session = Session::open(opening(64, BEFORE), NOW);
        play(&mut session, until_report());
        let effects = session.step(NOW.plus_ms(ms), last);
        assert_eq!(effects, [Effect::Done(Outcome::Unacknowledged)]);
        assert!(session.is_over());
    }
}

#[test]
fn a_shutdown_refuses_what_has_not_begun_and_reports_what_has() {
    check(
        64,
        vec![(0, durable()), (0, Input::Cut)],
        expect![[r#"
            Durable
            Cut
                stop engine
                refuse: the provider is leaving
                done: Refused
        "#]],
    );
    check(
        64,
        vec![(0, durable()), (0, started()), (0, tokens(2)), (0, Input::Cut)],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                delta of 2
            Cut
                stop engine
                report Failed: 100 + 2 tokens for +2100
        "#]],
    );
}

#[test]
fn without_a_journal_nothing_more_is_promised() {
    check(
        64,
        vec![(0, started()), (0, tokens(2)), (0, Input::Failed(Failure::Journal)), (0, tokens(2))],
        expect![[r#"
            Started
                accept, prompt Some(100)
            Engine
                delta of 2
            Failed
                stop engine
                done: JournalBroken
            Engine
        "#]],
    );
}

#[test]
fn a_delta_that_fails_in_the_step_of_the_report_is_left_out_of_it() {
    let mut session = Session::open(opening(64, BEFORE), NOW);
    play(&mut session, vec![(0, durable()), (0, started()), (0, tokens(2))]);
    let last =
        vec![EngineEvent::Token(piece("lost")), EngineEvent::Failed { reason: String::new() }];
    let effects = session.step(NOW, Input::Engine(last));
    assert!(matches!(effects[..], [Effect::Delta { .. }, Effect::Report { .. }]), "{effects:?}");
    let text = play(&mut session, vec![(0, Input::Failed(Failure::Delta))]);
    expect![[r#"
        Failed
            report Cancelled: 100 + 2 tokens for +2100, to nobody
            done: Unacknowledged
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_delta_stays_far_below_the_frame_limit() {
    let fat = || EngineEvent::Token(piece(&"x".repeat(limits::TOKEN_BYTES_MAX)));
    let mut opening = opening(100, voucher(1, 100).value.total);
    opening.tokens_max = None;
    let mut session = Session::open(opening, NOW);
    play(&mut session, vec![(0, durable()), (0, started())]);
    let mut counts = Vec::new();
    let mut input = Input::Engine((0..100).map(|_| fat()).collect());
    loop {
        for effect in session.step(NOW, input) {
            if let Effect::Delta { pieces, .. } = effect {
                counts.push(pieces.len());
            }
        }
        if session.deadline() != Some(TimeMs(0)) {
            break;
        }
        input = Input::Tick;
    }
    assert_eq!(counts, [62, 38]);
}
