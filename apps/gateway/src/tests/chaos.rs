//! Half of the providers misbehave, the others are cut off at random, and many clients ask at once.
//! `cargo xtask chaos gateway` runs it longer and shows the report.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;

use super::{
    double::{LONG, LONG_TOKENS},
    *,
};

/// Set by the command to have it longer.
const REQUESTS_VARIABLE: &str = "PEERWATT_CHAOS_REQUESTS";
const REQUESTS: u64 = 400;
const CLIENTS: usize = 12;
/// What the bad ones do, one each.
const FAULTS: [&str; 8] =
    ["-refuses", "-dies", "-stalls", "-garbage", "-loris", "-lies", "-other-model", "-slow"];
const GOOD: u8 = 8;

/// Numbers that are the same in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's constants for a linear congruential generator, of which the upper half is taken.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What became of the requests.
#[derive(Debug, Default)]
struct Report {
    whole: u64,
    continued: u64,
    cut: u64,
    refused: BTreeMap<String, u64>,
}

impl Report {
    fn count(&mut self, answer: &Answer, streamed: bool) {
        let expected: String = (0..LONG_TOKENS).map(|index| format!(" t{index}")).collect();
        if answer.status != 200 {
            let code = answer.json()["error"]["code"].as_str().unwrap_or("?").to_owned();
            *self.refused.entry(format!("{} {code}", answer.status)).or_default() += 1;
            return;
        }
        if streamed && !answer.body.contains("data: [DONE]") {
            assert!(
                answer.body.contains(r#"data: {"error":"#),
                "cut without a word: {}",
                answer.body
            );
            self.cut += 1;
            return;
        }
        let text = super::continuation::text(answer);
        assert_eq!(text, expected, "no token is lost and none doubled");
        self.whole += 1;
        self.continued += u64::from(answer.body.contains("continued_by"));
    }
}

#[expect(clippy::print_stdout, reason = "the report, which a command shows")]
#[tokio::test(start_paused = true)]
async fn half_of_the_providers_misbehave_and_the_clients_hardly_notice() {
    #[expect(clippy::disallowed_methods, reason = "a test that a command makes longer")]
    let requests = std::env::var(REQUESTS_VARIABLE).ok().and_then(|text| text.parse().ok());
    let requests: u64 = requests.unwrap_or(REQUESTS);
    let world = World::with(|config| {
        config.channels.deposit = Nusd::whole(50);
        config.credits = CreditPolicy { below: Nusd::whole(900), amount: Nusd::whole(2_000) };
    })
    .await;
    world.chain.fund(key(GATEWAY_OPERATOR).address(), Watt::whole(1_000_000));
    world.gateway.set_limits("tests", KeyLimits::default()).await.unwrap();
    let mut bad = Vec::new();
    for (seed, fault) in (30_u8..).zip(FAULTS) {
        bad.push((fault, world.provider(seed, &[&format!("{LONG}={LONG}{fault}")]).await));
    }
    let good = tokio::sync::Mutex::new(Vec::new());
    for seed in 60..60 + GOOD {
        good.lock().await.push(world.provider(seed, &[LONG]).await);
    }

    let kills = async {
        let mut draw = Draw(7);
        let mut count = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(500 + draw.below(1_000))).await;
            let seed = 60 + u8::try_from(draw.below(GOOD.into())).unwrap();
            let mut good = good.lock().await;
            let place = usize::from(seed - 60);
            let memory = good[place].memory();
            good[place].connection.close("killed");
            count += 1;
            println!("kill {count}: provider {seed}");
            good[place] = world.provider_again(seed, &[LONG], memory).await;
        }
    };
    let asked = async {
        let mut report = Report::default();
        let answers = futures::stream::iter(0..requests).map(|number| {
            let streamed = number % 3 != 0;
            let more = if streamed { r#", "stream": true"# } else { "" };
            let world = &world;
            async move { (world.chat(LONG, more).await, streamed) }
        });
        let mut answers = answers.buffer_unordered(CLIENTS);
        while let Some((answer, streamed)) = answers.next().await {
            report.count(&answer, streamed);
        }
        report
    };
    let report = tokio::select! {
        report = asked => report,
        () = kills => unreachable!("it kills for ever"),
    };
    world.gateway.idle().await;

    println!("{requests} requests: {report:?}");
    let good = good.into_inner();
    for (name, double) in
        bad.iter().map(|(fault, double)| (*fault, double)).chain(good.iter().map(|it| ("good", it)))
    {
        let seen = double.seen();
        println!(
            "{name:>12}: {} orders, {} tokens, {} cancels",
            seen.orders.len(),
            seen.sent,
            seen.cancels
        );
    }
    assert!(report.whole * 100 >= requests * 99, "{report:?}");
    // Books: what is owed is what the doubles count, and nothing stays reserved.
    let counted: Nusd = bad
        .iter()
        .map(|(_, double)| double)
        .chain(&good)
        .flat_map(|double| {
            double.seen().lanes.values().map(|lane| lane.charged).collect::<Vec<_>>()
        })
        .sum();
    let (charged, promised) = world.owed();
    println!("owed {charged} of {promised} promised, {counted} counted by the providers");
    assert_eq!(world.spent().await.1, Nusd::ZERO);
    assert!(charged <= promised);
    let usage = world.gateway.shared.books.ended_between(TimeMs(0), TimeMs(u64::MAX));
    let billed: Nusd =
        usage.iter().map(|id| world.gateway.shared.books.usage(*id, None).unwrap().cost_nusd).sum();
    assert_eq!(billed, world.spent().await.0, "the bills add up to what the key spent");
    // Whoever only refuses gets what probation gives.
    let refusing = bad[0].1.seen().orders.len();
    assert!(refusing <= 12, "{refusing} orders to one that is dead");
}

also_on_postgres! {
    half_of_the_providers_misbehave_and_the_clients_hardly_notice
}
