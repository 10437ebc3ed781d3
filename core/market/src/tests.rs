//! Tables: who is chosen and why not the others; what opens and closes the breaker.

use expect_test::{Expect, expect};
use types::{
    Address, ModelId, Nusd, TimeMs,
    ability::{Abilities, EmbeddingAbility, ToolAbility},
    price::Price,
};

use super::*;

const MODEL: ModelId = ModelId([1; 32]);
const NOW: TimeMs = TimeMs(1_000_000);
/// Does not explore.
const RANDOM: u64 = 999_999;
/// Explores.
const CURIOUS: u64 = 1_000_000;

fn price(nusd_per_token: u128) -> Price {
    Price {
        request_nusd: Nusd(0),
        prompt_nusd_per_mtok: Nusd(nusd_per_token * 1_000_000),
        completion_nusd_per_mtok: Nusd(nusd_per_token * 1_000_000),
    }
}

const ABLE: Abilities = Abilities {
    completions: true,
    embeddings: EmbeddingAbility::None,
    logprobs: true,
    json: true,
    tools: ToolAbility::Forced,
    samplers: true,
};

fn candidate(number: u8) -> Candidate {
    Candidate {
        provider: Address([number; 20]),
        model: MODEL,
        price: price(100),
        context_tokens: 4_096,
        abilities: ABLE,
        region: "eu-west".into(),
        is_warm: false,
        slots: 4,
        in_flight: 0,
        payable: true,
        tried: false,
        record: Record::default(),
    }
}

fn measured(number: u8, first_token_ms: u64, token_ms: u64) -> Candidate {
    let mut candidate = candidate(number);
    let total_ms = first_token_ms + 100 * token_ms;
    let waited = Waited { accept_ms: 1, first_token_ms, gap_ms: token_ms };
    let outcome =
        Outcome::Served { prompt_tokens: 100, first_token_ms, total_ms, delivered: 101, waited };
    candidate.record.observe(TimeMs(u64::from(number)), outcome);
    candidate
}

fn need() -> Need {
    Need {
        model: MODEL,
        prompt_tokens: 100,
        prompt_tokens_min: 70,
        context_tokens_min: None,
        tokens_max: None,
        price_max: None,
        abilities: Abilities::default(),
        provider: None,
        region: None,
    }
}

fn check(need: &Need, candidates: &[Candidate], random: u64, expect: Expect) {
    let choice = choose(&Policy::BALANCED, NOW, need, candidates, random);
    let number = |address: &Address| address.0[0];
    let mut lines = match choice.taken {
        Some(index) => format!("takes {}\n", number(&candidates[index].provider)),
        None => format!("takes none, retry at {:?}\n", choice.retry_at(NOW).map(|at| at.0)),
    };
    for passed in &choice.passed {
        lines += &format!("not {}: {}\n", number(&passed.provider), passed.reason);
    }
    expect.assert_eq(&lines);
}

#[test]
fn hard_filters_name_their_reason() {
    let with = |number, change: fn(&mut Candidate)| {
        let mut candidate = candidate(number);
        change(&mut candidate);
        candidate
    };
    let candidates = [
        with(1, |c| c.model = ModelId([2; 32])),
        with(2, |c| c.tried = true),
        with(3, |c| c.abilities.logprobs = false),
        with(4, |c| c.context_tokens = 64),
        with(5, |c| c.price = price(1_000)),
        with(6, |c| c.payable = false),
        with(7, |c| c.in_flight = 4),
        with(8, |c| c.record.observe(NOW, Outcome::Busy { retry_after_ms: 2_000 })),
        with(9, |c| (0..3).for_each(|_| c.record.observe(NOW, Outcome::Cut))),
        with(10, |c| c.region = "europe".into()),
        with(11, |c| c.region = "".into()),
        with(12, |c| c.abilities.json = false),
        with(13, |c| c.abilities.tools = ToolAbility::Auto),
    ];
    let need =
        Need { abilities: ABLE, price_max: Some(price(500)), region: Some("eu".into()), ..need() };
    check(
        &need,
        &candidates,
        RANDOM,
        expect![[r#"
            takes none, retry at Some(1000000)
            not 1: another model
            not 2: tried before
            not 3: no log-probabilities
            not 4: the context holds 64 tokens, 71 are needed
            not 5: too expensive
            not 6: its channel is not funded yet
            not 7: all slots are in use
            not 8: busy
            not 9: quarantined after failures
            not 10: in another region
            not 11: in another region
            not 12: no structured output
            not 13: cannot be made to call a tool
        "#]],
    );
}

#[test]
fn the_cheaper_of_two_equally_fast_wins_and_the_faster_of_two_equally_dear() {
    let mut cheap = measured(1, 100, 10);
    cheap.price = price(50);
    check(
        &need(),
        &[measured(2, 100, 10), cheap],
        RANDOM,
        expect![[r#"
            takes 1
            not 2: another one scored better, most of all by its price
        "#]],
    );
    check(
        &need(),
        &[measured(1, 100, 40), measured(2, 100, 20)],
        RANDOM,
        expect![[r#"
            takes 2
            not 1: another one scored better, most of all by its speed
        "#]],
    );
}

#[test]
fn a_policy_weighs_price_against_time() {
    let mut cheap = measured(1, 100, 40);
    cheap.price = price(50);
    let candidates = [cheap, measured(2, 100, 10), measured(3, 100, 10)];
    let taken = |name: &str| {
        let policy = Policy::named(name).unwrap();
        let choice = choose(&policy, NOW, &need(), &candidates, RANDOM);
        candidates[choice.taken.unwrap()].provider.0[0]
    };
    assert_eq!(taken("cheapest"), 1);
    assert!([2, 3].contains(&taken("fastest")));
    assert_eq!(Policy::named("best"), None);
}

#[test]
fn a_provider_can_be_pinned() {
    let pinned = Need { provider: Some(Address([2; 20])), ..need() };
    check(
        &pinned,
        &[measured(1, 100, 10), measured(2, 900, 90)],
        CURIOUS,
        expect![[r#"
        takes 2
        not 1: another provider was asked for
    "#]],
    );
}

#[test]
fn a_prompt_goes_to_who_read_its_beginning_before() {
    let mut warm = measured(2, 4_000, 10);
    warm.is_warm = true;
    check(
        &need(),
        &[measured(1, 4_000, 10), warm],
        RANDOM,
        expect![[r#"
            takes 2
            not 1: another one scored better, most of all by its speed
        "#]],
    );
}

#[test]
fn of_two_about_as_good_the_less_busy_is_taken() {
    let busy = |number: u8, in_flight| Candidate { slots: 100, in_flight, ..candidate(number) };
    let candidates = [busy(1, 1), busy(2, 2), busy(3, 3)];
    let mut taken = [0; 3];
    for random in 0..300_u64 {
        let random = (random + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let choice = choose(&Policy::BALANCED, NOW, &need(), &candidates, random);
        taken[choice.taken.unwrap()] += 1;
    }
    // Each pair is as likely, and the busiest is never the better of one.
    assert!(taken[0] > 150 && taken[1] > 60, "{taken:?}");
    assert!(taken[2] < 12, "{taken:?}");
}

#[test]
fn load_moves_requests_to_the_slower_but_free_machine() {
    let mut loaded = measured(1, 100, 20);
    loaded.in_flight = 3;
    check(
        &need(),
        &[loaded, measured(2, 100, 30)],
        RANDOM,
        expect![[r#"
            takes 2
            not 1: another one scored better, most of all by its load
        "#]],
    );
}

#[test]
fn exploration_takes_whoever_was_measured_longest_ago() {
    check(
        &need(),
        &[measured(3, 100, 10), measured(2, 100, 90)],
        CURIOUS,
        expect![[r#"
            takes 2
            not 3: passed over to measure another one
        "#]],
    );
}

#[test]
fn nobody_is_measured_at_any_price() {
    let mut dear = candidate(2);
    dear.price.request_nusd = Nusd::whole(2);
    check(
        &need(),
        &[measured(3, 100, 10), dear],
        CURIOUS,
        expect![[r#"
            takes 3
            not 2: passed over to measure another one
        "#]],
    );
}

#[test]
fn probation_is_for_when_nobody_else_can() {
    let mut once_bad = candidate(1);
    (0..3).for_each(|_| once_bad.record.observe(TimeMs(0), Outcome::Failed));
    let mut full = candidate(2);
    full.in_flight = full.slots;
    check(
        &need(),
        &[once_bad.clone(), measured(3, 9_000, 900)],
        RANDOM,
        expect![[r#"
            takes 3
            not 1: on probation after failures
        "#]],
    );
    check(
        &need(),
        &[once_bad, full],
        RANDOM,
        expect![[r#"
            takes 1
            not 2: all slots are in use
        "#]],
    );
}

#[test]
fn equals_share_the_work() {
    let candidates = [candidate(1), candidate(2), candidate(3)];
    let mut taken = [0; 3];
    for random in 0..300_u64 {
        // Spread over the range, past exploration.
        let random = (random + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let choice = choose(&Policy::BALANCED, NOW, &need(), &candidates, random);
        taken[choice.taken.unwrap()] += 1;
    }
    assert!(taken.iter().all(|&count| count > 50), "{taken:?}");
}

#[test]
fn the_breaker_opens_on_failures_in_a_row_and_doubles_its_quarantine() {
    const SERVED: Outcome = Outcome::Served {
        prompt_tokens: 1,
        first_token_ms: 1,
        total_ms: 2,
        delivered: 2,
        waited: Waited { accept_ms: 0, first_token_ms: 1, gap_ms: 1 },
    };
    let mut record = Record::default();
    let mut now = TimeMs(0);
    let mut log = String::new();
    let mut see = |record: &mut Record, now: TimeMs, outcome: Outcome| {
        record.observe(now, outcome);
        let name = if outcome == SERVED { "Served".to_owned() } else { format!("{outcome:?}") };
        log += &format!("{:>7} ms {name}: {:?}\n", now.0, record.health(now));
    };
    for outcome in [Outcome::Failed, Outcome::Cut, SERVED, Outcome::Cut, Outcome::Cut] {
        see(&mut record, now, outcome);
    }
    for _ in 0..2 {
        see(&mut record, now, Outcome::Neutral);
    }
    for _ in 0..9 {
        see(&mut record, now, Outcome::Failed);
        let Health::Quarantined { until } = record.health(now) else { panic!("not open") };
        see(&mut record, now, SERVED);
        now = until;
    }
    see(&mut record, now, Outcome::Neutral);
    see(&mut record, now, SERVED);
    expect![[r#"
               0 ms Failed: Ok
               0 ms Cut: Ok
               0 ms Served: Ok
               0 ms Cut: Ok
               0 ms Cut: Ok
               0 ms Neutral: Ok
               0 ms Neutral: Ok
               0 ms Failed: Quarantined { until: TimeMs(30000) }
               0 ms Served: Quarantined { until: TimeMs(30000) }
           30000 ms Failed: Quarantined { until: TimeMs(90000) }
           30000 ms Served: Quarantined { until: TimeMs(90000) }
           90000 ms Failed: Quarantined { until: TimeMs(210000) }
           90000 ms Served: Quarantined { until: TimeMs(210000) }
          210000 ms Failed: Quarantined { until: TimeMs(450000) }
          210000 ms Served: Quarantined { until: TimeMs(450000) }
          450000 ms Failed: Quarantined { until: TimeMs(930000) }
          450000 ms Served: Quarantined { until: TimeMs(930000) }
          930000 ms Failed: Quarantined { until: TimeMs(1890000) }
          930000 ms Served: Quarantined { until: TimeMs(1890000) }
         1890000 ms Failed: Quarantined { until: TimeMs(3690000) }
         1890000 ms Served: Quarantined { until: TimeMs(3690000) }
         3690000 ms Failed: Quarantined { until: TimeMs(5490000) }
         3690000 ms Served: Quarantined { until: TimeMs(5490000) }
         5490000 ms Failed: Quarantined { until: TimeMs(7290000) }
         5490000 ms Served: Quarantined { until: TimeMs(7290000) }
         7290000 ms Neutral: Probation
         7290000 ms Served: Ok
    "#]]
    .assert_eq(&log);
}

#[test]
fn measurements_are_kept_by_prompt_size_and_smoothed() {
    let mut record = Record::default();
    assert_eq!(record.expected_ms(10, 100, false), None);
    let served = |prompt_tokens, first_token_ms, total_ms| Outcome::Served {
        prompt_tokens,
        first_token_ms,
        total_ms,
        delivered: 101,
        waited: Waited::default(),
    };
    record.observe(NOW, served(100, 50, 1_050));
    assert_eq!(record.expected_ms(10, 100, false), Some(1_050));
    assert_eq!(record.expected_ms(9_000, 100, false), Some(1_050), "borrowed from the nearest");
    record.observe(NOW, served(9_000, 4_050, 5_050));
    assert_eq!(record.expected_ms(9_000, 100, false), Some(5_050));
    assert_eq!(record.expected_ms(10, 100, false), Some(1_050));
    record.observe(NOW, served(100, 450, 1_450));
    assert_eq!(record.expected_ms(10, 0, false), Some(150), "a quarter of the way");
}

#[test]
fn patience_is_measured_by_prompt_size_and_not_borrowed() {
    let provider = measured(1, 2_000, 100);
    let patience = provider.record.patience(100).unwrap();
    assert_eq!((patience.first_token_ms, patience.accept_ms), (12_000, 1_000));
    assert_eq!(provider.record.slow_after_ms(100), Some(4_002));
    assert_eq!(provider.record.patience(9_000), None);
    assert_eq!(candidate(2).record.patience(100), None);
}

/// Whoever asks less for a text may ask more for its vector.
#[test]
fn vectors_are_priced_by_the_prompt_alone() {
    let mut dear_prompt = candidate(1);
    let mut dear_answer = candidate(2);
    let price = |prompt, completion| Price {
        request_nusd: Nusd::ZERO,
        prompt_nusd_per_mtok: Nusd(prompt),
        completion_nusd_per_mtok: Nusd(completion),
    };
    (dear_prompt.price, dear_answer.price) = (price(2_000_000_000, 0), price(0, 9_000_000_000));
    let candidates = [dear_prompt, dear_answer].map(|mut candidate| {
        candidate.abilities.embeddings = EmbeddingAbility::Fixed;
        candidate
    });
    let embeddings = EmbeddingAbility::Fixed;
    let abilities = Abilities { completions: false, embeddings, ..Abilities::default() };
    let need = Need { abilities, price_max: Some(price(2_000_000_000, 0)), ..need() };
    let choice = choose(&Policy::CHEAPEST, NOW, &need, &candidates, RANDOM);
    assert_eq!(choice.taken, Some(1), "{choice:?}");
    assert_eq!(choice.scored.iter().map(|it| it.cost).min(), Some(Nusd::ZERO));
}
