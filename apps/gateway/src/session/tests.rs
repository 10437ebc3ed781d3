//! Tables of single rules, and properties over any order of events. The auditor recounts from the
//! inputs and effects alone.

mod bounds;

use expect_test::{Expect, expect};
use keys::SecretKey;
use proptest::prelude::*;
use types::{ChainId, receipt::Receipt, sha256, sign::Signed};

use super::*;

const PRICE: Price = Price {
    request_nusd: Nusd(10),
    prompt_nusd_per_mtok: Nusd(50_000_000),
    completion_nusd_per_mtok: Nusd(100_000_000),
};
const WAITS: Waits = Waits {
    accept_ms: 100,
    first_token_ms: 1_000,
    inter_token_ms: 500,
    total_ms: 10_000,
    cancel_ms: 200,
};
const BEFORE: Nusd = Nusd(1_000_000);
const TOKENS_MAX: u32 = 300;
const ESTIMATE: u32 = 20;

fn chain_id() -> ChainId {
    "test".parse().unwrap()
}

fn operator() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

fn terms() -> Terms {
    Terms {
        request_id: RequestId([7; 16]),
        attempt: 0,
        provider: operator().address(),
        model: ModelId([2; 32]),
        price: PRICE,
        prompt_hash: sha256(&[b"prompt"]),
        prompt_tokens_estimate: ESTIMATE,
        prompt_tokens_max: 60,
        vectors: None,
        profile: verify::profile::NO_NAME,
        tools: false,
        bought: false,
        tokens_max: TOKENS_MAX,
        channel: ChannelId([3; 32]),
        lane: Lane(4),
        lane_total_before: BEFORE,
        promised: Terms::opening_total(&PRICE, ESTIMATE, TOKENS_MAX, BEFORE),
        waits: WAITS,
    }
}

fn pieces(count: usize) -> Vec<TokenPiece> {
    let piece = TokenPiece { id: Some(5), bytes: b"ab".to_vec(), ..TokenPiece::default() };
    vec![piece; count]
}

fn accepted(prompt_tokens: Option<u32>) -> Input {
    Input::Accepted { prompt_tokens }
}

fn delta(count: usize) -> Input {
    Input::Delta { pieces: pieces(count), prompt_tokens: None }
}

/// What an honest provider reports, then changed.
fn report(
    prompt_tokens: u32,
    delivered: u32,
    finish: FinishReason,
    change: impl FnOnce(&mut ServiceReport),
) -> Input {
    let terms = terms();
    let all = pieces(usize::try_from(delivered).unwrap());
    let bytes: Vec<u8> = all.iter().flat_map(|piece| piece.bytes.clone()).collect();
    let leaves: Vec<Hash32> = all.iter().map(TokenPiece::transcript_leaf).collect();
    let mut report = ServiceReport {
        request_id: terms.request_id,
        attempt: terms.attempt,
        provider: terms.provider,
        model: terms.model,
        engine_version: "dummy 1".into(),
        profile: "free".into(),
        seed: None,
        prompt_hash: terms.prompt_hash,
        response_hash: sha256(&[&bytes]),
        transcript_root: types::hash::merkle_root(&leaves),
        prompt_tokens,
        completion_tokens: delivered,
        counted: CountMethod::TokenIds,
        price: terms.price,
        channel: terms.channel,
        lane: terms.lane,
        lane_total_before: BEFORE,
        lane_total: Nusd(BEFORE.0 + PRICE.charge(prompt_tokens, delivered).0),
        finish,
        started_at: TimeMs(0),
        ended_at: TimeMs(1),
    };
    change(&mut report);
    let signed = Signed::new(report, &chain_id(), &operator());
    Input::Final(Box::new(signed.verify(&chain_id(), &keys::Ed25519).unwrap()))
}

/// Feeds `inputs` and shows every effect on a line of its own.
fn check(inputs: Vec<(u64, Input)>, expect: Expect) {
    let mut session = Session::new(terms());
    let mut lines = String::new();
    for (now_ms, input) in inputs {
        let mut effects = Vec::new();
        session.step(now_ms, input, &mut effects);
        for effect in effects {
            lines += &match effect {
                Effect::Promise { total } => format!("promise {}\n", total.0 - BEFORE.0),
                Effect::Cancel => "cancel\n".into(),
                Effect::Deliver(pieces) => format!("deliver {}\n", pieces.len()),
                Effect::Close(closing) => show(&closing),
            };
        }
    }
    lines += &match session.deadline_ms() {
        Some(deadline_ms) => format!("waits until {deadline_ms} ms\n"),
        None => String::new(),
    };
    expect.assert_eq(&lines);
}

fn show(closing: &Closing) -> String {
    let mut line = format!(
        "close {:?}: {} tokens after {}, charge {}, {}\n",
        closing.ending,
        closing.delivered,
        closing.prompt_tokens,
        closing.charge,
        if closing.report.is_some() { "with report" } else { "without report" },
    );
    for finding in &closing.findings {
        line += &format!("  finding: {finding}\n");
    }
    line
}

#[test]
fn an_answer_is_paid_window_by_window() {
    let mut inputs = vec![(5, accepted(Some(12)))];
    inputs.extend((0..10).map(|n| (10 + n, delta(10))));
    inputs.push((30, report(12, 100, FinishReason::Stop, |_| ())));
    check(
        inputs,
        expect![[r#"
        deliver 10
        deliver 10
        deliver 10
        promise 11010
        deliver 10
        deliver 10
        deliver 10
        deliver 10
        promise 15010
        deliver 10
        deliver 10
        deliver 10
        close Finished(Stop): 100 tokens after 12, charge 10610, with report
    "#]],
    );
}

#[test]
fn a_short_answer_needs_no_voucher_but_the_first() {
    check(
        vec![(5, accepted(None)), (10, delta(3)), (20, report(9, 3, FinishReason::Stop, |_| ()))],
        expect![[r#"
            deliver 3
            close Finished(Stop): 3 tokens after 9, charge 760, with report
        "#]],
    );
}

#[test]
fn a_larger_prompt_than_estimated_is_covered_when_it_is_known() {
    check(
        vec![
            (5, accepted(None)),
            (10, Input::Delta { pieces: pieces(40), prompt_tokens: Some(60) }),
            (20, report(60, 40, FinishReason::Length, |_| ())),
        ],
        expect![[r#"
            promise 13410
            deliver 40
            close Finished(Length): 40 tokens after 60, charge 7010, with report
        "#]],
    );
    check(
        vec![
            (5, accepted(None)),
            (10, delta(40)),
            (20, report(60, 40, FinishReason::Stop, |_| ())),
        ],
        expect![[r#"
            promise 11410
            deliver 40
            close Finished(Stop): 40 tokens after 60, charge 7010, with report
        "#]],
    );
    check(
        vec![(5, accepted(Some(61)))],
        expect![[r#"
        cancel
        close Failed(Breach(PromptTokens { claimed: 61, most: 60 })): 0 tokens after 20, charge 0, without report
    "#]],
    );
}

#[test]
fn the_end_of_the_order_ends_the_promises() {
    let mut inputs = vec![(5, accepted(Some(0)))];
    inputs.extend((0..30).map(|n| (10 + n, delta(10))));
    inputs.push((60, delta(1)));
    check(
        inputs,
        expect![[r#"
        deliver 10
        deliver 10
        deliver 10
        deliver 10
        promise 11410
        deliver 10
        deliver 10
        deliver 10
        deliver 10
        promise 15410
        deliver 10
        deliver 10
        deliver 10
        deliver 10
        promise 19410
        deliver 10
        deliver 10
        deliver 10
        deliver 10
        promise 23410
        deliver 10
        deliver 10
        deliver 10
        deliver 10
        promise 27410
        deliver 10
        deliver 10
        deliver 10
        deliver 10
        promise 30010
        deliver 10
        deliver 10
        deliver 10
        deliver 10
        deliver 10
        deliver 10
        cancel
        close Failed(Breach(TooManyTokens)): 300 tokens after 0, charge 30010, without report
    "#]],
    );
}

#[test]
fn what_the_protocol_does_not_allow_ends_it_and_what_came_before_is_paid() {
    let begun = || vec![(5, accepted(Some(10))), (10, delta(3))];
    let with = |input| begun().into_iter().chain([(20, input)]).collect::<Vec<_>>();
    let odd = |change: fn(&mut TokenPiece)| {
        let mut pieces = pieces(2);
        change(&mut pieces[1]);
        Input::Delta { pieces, prompt_tokens: None }
    };
    check(
        vec![(5, delta(1))],
        expect![[r#"
        cancel
        close Failed(Breach(OutOfOrder)): 0 tokens after 20, charge 0, without report
    "#]],
    );
    check(
        with(accepted(None)),
        expect![[r#"
        deliver 3
        cancel
        close Failed(Breach(OutOfOrder)): 3 tokens after 10, charge 810, without report
    "#]],
    );
    check(
        with(Input::Refused(Refusal::Engine)),
        expect![[r#"
        deliver 3
        cancel
        close Failed(Breach(OutOfOrder)): 3 tokens after 10, charge 810, without report
    "#]],
    );
    check(
        with(odd(|piece| piece.bytes.clear())),
        expect![[r#"
        deliver 3
        cancel
        close Failed(Breach(PieceBytes { bytes: 0 })): 3 tokens after 10, charge 810, without report
    "#]],
    );
    check(
        with(odd(|piece| piece.bytes = vec![b'x'; 2_000])),
        expect![[r#"
        deliver 3
        cancel
        close Failed(Breach(PieceBytes { bytes: 2000 })): 3 tokens after 10, charge 810, without report
    "#]],
    );
    check(
        with(delta(80)),
        expect![[r#"
            deliver 3
            cancel
            close Failed(Breach(BeyondCover)): 3 tokens after 10, charge 810, without report
        "#]],
    );
    check(
        with(Input::Breach(Breach::Signature)),
        expect![[r#"
        deliver 3
        cancel
        close Failed(Breach(Signature)): 3 tokens after 10, charge 810, without report
    "#]],
    );
    check(
        with(report(10, 3, FinishReason::Stop, |r| r.attempt = 1)),
        expect![[r#"
        deliver 3
        cancel
        close Failed(Breach(OtherReport { field: "attempt" })): 3 tokens after 10, charge 810, without report
    "#]],
    );
    check(
        with(report(10, 3, FinishReason::Stop, |r| r.price.request_nusd = Nusd(9))),
        expect![[r#"
            deliver 3
            cancel
            close Failed(Breach(OtherReport { field: "price" })): 3 tokens after 10, charge 810, without report
        "#]],
    );
    check(
        with(report(99, 3, FinishReason::Stop, |_| ())),
        expect![[r#"
        deliver 3
        cancel
        close Failed(Breach(PromptTokens { claimed: 99, most: 60 })): 3 tokens after 10, charge 810, without report
    "#]],
    );
}

#[test]
fn a_lie_about_usage_changes_no_charge_and_is_a_finding() {
    check(
        vec![
            (5, accepted(Some(10))),
            (10, delta(3)),
            (
                20,
                report(10, 3, FinishReason::Stop, |report| {
                    report.completion_tokens = 50;
                    report.lane_total = Nusd(BEFORE.0 + 5_510);
                    report.response_hash = sha256(&[b"other"]);
                    report.transcript_root = sha256(&[b"other"]);
                    report.profile = "other".into();
                }),
            ),
        ],
        expect![[r#"
            deliver 3
            close Finished(Stop): 3 tokens after 10, charge 810, with report
              finding: the provider counts 50 tokens, 3 arrived
              finding: the provider's digest of the answer is another
              finding: the provider's transcript is another
              finding: the provider names another profile than the order has, `free`
              finding: the provider charges up to 1005510, 1000810 is due
        "#]],
    );
}

#[test]
fn each_wait_has_its_end() {
    check(
        vec![(99, Input::Tick), (100, Input::Tick)],
        expect![[r#"
        cancel
        close Failed(NotAccepted): 0 tokens after 20, charge 0, without report
    "#]],
    );
    check(
        vec![(5, accepted(None)), (1_005, Input::Tick)],
        expect![[r#"
        cancel
        close Failed(NoFirstToken): 0 tokens after 20, charge 0, without report
    "#]],
    );
    check(
        vec![(5, accepted(None)), (10, delta(1)), (509, Input::Tick), (510, Input::Tick)],
        expect![[r#"
            deliver 1
            cancel
            close Failed(Stalled): 1 tokens after 20, charge 1110, without report
        "#]],
    );
    let slow = (0..25).map(|n| (400 * (n + 1), delta(1)));
    let inputs = [(5, accepted(None))].into_iter().chain(slow).chain([(10_000, Input::Tick)]);
    check(
        inputs.collect(),
        expect![[r#"
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        deliver 1
        cancel
        close Failed(TookTooLong): 25 tokens after 20, charge 3510, without report
    "#]],
    );
}

#[test]
fn a_provider_that_ends_early_or_fails_is_told_apart() {
    let begun = || vec![(5, accepted(Some(10))), (10, delta(3))];
    let with = |input| begun().into_iter().chain([(20, input)]).collect::<Vec<_>>();
    check(
        with(Input::Ended),
        expect![[r#"
        deliver 3
        close Failed(Died): 3 tokens after 10, charge 810, without report
    "#]],
    );
    check(
        with(report(10, 3, FinishReason::Failed, |_| ())),
        expect![[r#"
        deliver 3
        close Failed(Engine): 3 tokens after 10, charge 810, with report
    "#]],
    );
    check(
        with(report(10, 3, FinishReason::Cancelled, |_| ())),
        expect![[r#"
        deliver 3
        close Failed(StoppedEarly): 3 tokens after 10, charge 810, with report
    "#]],
    );
    let wrong = || Refusal::Request { field: "input".into(), problem: "too long".into() };
    check(
        vec![(5, accepted(None)), (5, Input::Refused(wrong()))],
        expect![[r#"
        close Refused(Request { field: "input", problem: "too long" }): 0 tokens after 20, charge 0, without report
    "#]],
    );
    check(
        vec![(5, accepted(None)), (5, Input::Refused(Refusal::Leaving))],
        expect![[r#"
        cancel
        close Failed(Breach(OutOfOrder)): 0 tokens after 20, charge 0, without report
    "#]],
    );
    check(
        vec![(5, Input::Refused(Refusal::Leaving))],
        expect![[r#"
        close Refused(Leaving): 0 tokens after 20, charge 0, without report
    "#]],
    );
    check(
        vec![(5, report(0, 0, FinishReason::Stop, |_| ()))],
        expect![[r#"
        cancel
        close Failed(Breach(OutOfOrder)): 0 tokens after 0, charge 0, without report
    "#]],
    );
    check(
        vec![(5, report(0, 0, FinishReason::Failed, |_| ()))],
        expect![[r#"
        close Failed(Engine): 0 tokens after 0, charge 0, with report
    "#]],
    );
}

#[test]
fn a_client_that_leaves_pays_for_what_was_delivered() {
    let begun = || vec![(5, accepted(Some(10))), (10, delta(3)), (15, Input::ClientGone)];
    let with = |more: Vec<(u64, Input)>| begun().into_iter().chain(more).collect::<Vec<_>>();
    // Tokens that were under way when the client left were delivered to its gateway.
    let finish = FinishReason::Cancelled;
    check(
        with(vec![(20, delta(2)), (25, report(10, 5, finish, |_| ()))]),
        expect![[r#"
        deliver 3
        cancel
        deliver 2
        close ClientGone: 5 tokens after 10, charge 1010, with report
    "#]],
    );
    check(
        with(vec![(20, Input::ClientGone), (215, Input::Tick)]),
        expect![[r#"
        deliver 3
        cancel
        close ClientGone: 3 tokens after 10, charge 810, without report
    "#]],
    );
    check(
        with(vec![(20, Input::Ended)]),
        expect![[r#"
        deliver 3
        cancel
        close ClientGone: 3 tokens after 10, charge 810, without report
    "#]],
    );
    check(
        vec![(1, Input::ClientGone), (2, Input::Refused(Refusal::Engine))],
        expect![[r#"
        cancel
        close ClientGone: 0 tokens after 20, charge 0, without report
    "#]],
    );
    check(
        vec![(1, Input::ClientGone), (2, accepted(None)), (3, report(9, 0, finish, |_| ()))],
        expect![[r#"
            cancel
            close ClientGone: 0 tokens after 9, charge 0, with report
        "#]],
    );
}

#[test]
fn nothing_delivered_is_free() {
    let endings = [
        Input::Refused(Refusal::Engine),
        Input::Ended,
        Input::Breach(Breach::Signature),
        report(60, 0, FinishReason::Failed, |_| ()),
    ];
    for ending in endings {
        let mut session = Session::new(terms());
        let mut effects = Vec::new();
        session.step(1, ending, &mut effects);
        let Some(Effect::Close(closing)) = effects.pop() else { panic!("{effects:?}") };
        assert_eq!(closing.charge, Nusd::ZERO);
    }
}

#[test]
fn the_acknowledgement_makes_a_receipt_that_verifies() {
    for finish in [FinishReason::Stop, FinishReason::Failed] {
        let mut session = Session::new(terms());
        let mut effects = Vec::new();
        session.step(1, accepted(Some(11)), &mut effects);
        session.step(2, delta(7), &mut effects);
        let last = match finish {
            FinishReason::Stop => report(11, 7, finish, |_| ()),
            _ => Input::Ended,
        };
        session.step(3, last, &mut effects);
        let Some(Effect::Close(closing)) = effects.pop() else { panic!("{effects:?}") };
        let ack = acknowledgement(session.terms(), &closing, TimeMs(9));
        assert_eq!(ack.finish, finish);
        let payer = SecretKey::from_seed([9; 32]);
        let receipt = Receipt {
            chain_id: chain_id(),
            report: closing.report.clone(),
            acknowledgement: Signed::new(ack, &chain_id(), &payer),
        };
        assert_eq!(receipt.verify(&keys::Ed25519), Ok(()));
        assert_eq!(receipt.cost(), PRICE.charge(11, 7));
        assert_eq!(receipt.agrees(), finish == FinishReason::Stop);
        assert_eq!(receipt.verify_response(b"ababababababab"), Ok(()));
    }
}

#[test]
fn affordable_tokens_is_the_inverse_of_the_charge() {
    let free = Price {
        request_nusd: Nusd(0),
        prompt_nusd_per_mtok: Nusd(0),
        completion_nusd_per_mtok: Nusd(0),
    };
    assert_eq!(affordable_tokens(&free, 5, Nusd(0)), u32::MAX);
    assert_eq!(affordable_tokens(&PRICE, 0, Nusd(9)), 0);
    assert_eq!(affordable_tokens(&PRICE, 2, Nusd(110)), 0);
    assert_eq!(affordable_tokens(&PRICE, 2, Nusd(210)), 1);
}

fn any_prompt() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![3 => Just(None), 2 => (0..=62_u32).prop_map(Some)]
}

#[derive(Clone, Debug)]
enum Event {
    Accepted(Option<u32>),
    Refused,
    Delta(usize, Option<u32>),
    Final { prompt: u32, count: u32, finish: FinishReason },
    Breach,
    Ended,
    Tick,
    ClientGone,
}

fn any_event() -> impl Strategy<Value = Event> {
    let finish = prop_oneof![
        Just(FinishReason::Stop),
        Just(FinishReason::Length),
        Just(FinishReason::Failed),
        Just(FinishReason::Cancelled),
    ];
    prop_oneof![
        4 => any_prompt().prop_map(Event::Accepted),
        1 => Just(Event::Refused),
        40 => (0..40_usize, any_prompt()).prop_map(|(count, prompt)| Event::Delta(count, prompt)),
        2 => (0..=62_u32, 0..400_u32, finish)
            .prop_map(|(prompt, count, finish)| Event::Final { prompt, count, finish }),
        1 => Just(Event::Breach),
        1 => Just(Event::Ended),
        4 => Just(Event::Tick),
        1 => Just(Event::ClientGone),
    ]
}

/// Recounts what a session says from its effects.
#[derive(Default)]
struct Auditor {
    /// What the lane had been promised when the session began.
    opening: Nusd,
    promised: Nusd,
    delivered: u32,
    prompt_most: u32,
    closed: Option<Closing>,
}

impl Auditor {
    fn see(&mut self, effects: Vec<Effect>) -> Result<(), TestCaseError> {
        prop_assert!(self.closed.is_none() || effects.is_empty(), "effects after the close");
        for effect in effects {
            prop_assert!(self.closed.is_none(), "the close is the last effect");
            match effect {
                Effect::Promise { total } => {
                    prop_assert!(total > self.promised, "promises rise");
                    self.promised = total;
                }
                Effect::Deliver(pieces) => {
                    self.delivered += u32::try_from(pieces.len()).unwrap();
                }
                Effect::Cancel => {}
                Effect::Close(closing) => self.closed = Some(*closing),
            }
        }
        let ahead = self.delivered.saturating_add(WINDOW_TOKENS);
        let most = BEFORE.0 + PRICE.charge(self.prompt_most.max(ESTIMATE), ahead).0;
        prop_assert!(self.promised.0 <= most.max(self.opening.0), "at most a window ahead");
        if let Some(closing) = &self.closed {
            prop_assert_eq!(closing.delivered, self.delivered);
            prop_assert_eq!(closing.charge, PRICE.charge(closing.prompt_tokens, self.delivered));
            prop_assert!(BEFORE.0 + closing.charge.0 <= self.promised.0, "owed is promised");
            prop_assert!(self.delivered > 0 || closing.charge == Nusd::ZERO);
            prop_assert!(closing.prompt_tokens <= terms().prompt_tokens_max);
            prop_assert!(self.delivered <= TOKENS_MAX);
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn any_order_of_events_keeps_the_invariants(
        events in prop::collection::vec((0..300_u64, any_event()), 0..60),
        used in 0..3_u128,
    ) {
        let mut terms = terms();
        // The lane may have been promised more before.
        terms.promised = Nusd(terms.promised.0 + used * 3_000);
        let (opening, promised) = (terms.promised, terms.promised);
        let mut auditor = Auditor { opening, promised, ..Auditor::default() };
        let mut session = Session::new(terms);
        let mut now_ms = 0;
        for (pause_ms, event) in events {
            now_ms += pause_ms;
            let input = match event {
                Event::Accepted(prompt) => accepted(prompt),
                Event::Refused => Input::Refused(Refusal::Engine),
                Event::Delta(count, prompt_tokens) => {
                    Input::Delta { pieces: pieces(count), prompt_tokens }
                }
                Event::Final { prompt, count, finish } => report(prompt, count, finish, |_| ()),
                Event::Breach => Input::Breach(Breach::Signature),
                Event::Ended => Input::Ended,
                Event::Tick => Input::Tick,
                Event::ClientGone => Input::ClientGone,
            };
            if let Input::Accepted { prompt_tokens: Some(told) }
            | Input::Delta { prompt_tokens: Some(told), .. } = &input
            {
                auditor.prompt_most = auditor.prompt_most.max(*told);
            }
            if let Input::Final(report) = &input {
                auditor.prompt_most = auditor.prompt_most.max(report.value().prompt_tokens);
            }
            let mut effects = Vec::new();
            session.step(now_ms, input, &mut effects);
            auditor.see(effects)?;
        }
        prop_assert_eq!(auditor.closed.is_some(), session.deadline_ms().is_none());
    }

    #[test]
    fn affordable_is_tight(prompt in 0..10_000_u32, amount in 0..100_000_000_u128) {
        let tokens = affordable_tokens(&PRICE, prompt, Nusd(amount));
        prop_assert!(PRICE.charge(prompt, tokens).0 <= amount);
        prop_assert!(PRICE.charge(prompt, tokens + 1).0 > amount);
    }
}
