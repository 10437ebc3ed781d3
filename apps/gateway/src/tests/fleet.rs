//! Several gateways with one database. Each has its own providers, channels and journal.

use std::time::Duration;

use serde_json::json;

use super::*;
use postgres::Server;

/// Runs a test with a database, or says why not.
fn on_postgres<F: Future<Output = ()>>(name: &str, test: impl Fn(World) -> F + Copy) {
    match postgres::server() {
        Ok(server) => paused(test, server.database().parse().unwrap()),
        Err(reason) => postgres::skip(name, reason),
    }
}

/// In a world whose keys are in a database, with paused time.
fn paused<F: Future<Output = ()>>(test: impl Fn(World) -> F, database: DatabaseUrl) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::start(Some(database), GATEWAY_NODE, |_| ()).await;
        let made = world.gateway.create_api_key("tests", KeyLimits::budget(BUDGET)).await;
        test(World { api_key: made.unwrap(), ..world }).await;
    });
}

#[test]
fn two_gateways_share_a_budget() {
    on_postgres("two_gateways_share_a_budget", async |world: World| {
        let twin = world.twin(|_| ()).await;
        let (_one, _other) =
            (world.provider(11, &["story"]).await, twin.provider(12, &["story"]).await);
        let more = r#", "max_tokens": 5"#;
        assert_eq!(world.chat("story", more).await.status, 200);
        let used = twin.spent().await.0;
        assert!(used > Nusd::ZERO, "the other one knows");
        // Two and a half more of the most that such a request may cost.
        let most = Nusd(BUDGET.0.min(used.0 * 2));
        let budget = Nusd(used.0 + most.0 * 5 / 2);
        world.gateway.set_limits("tests", KeyLimits::budget(budget)).await.unwrap();
        let asks = (0..8).map(|number| match number % 2 {
            0 => world.chat("story", more),
            _ => twin.chat("story", more),
        });
        let answers = futures::future::join_all(asks).await;
        let served = answers.iter().filter(|answer| answer.status == 200).count();
        assert!(answers.iter().all(|answer| [200, 402].contains(&answer.status)));
        assert!((1..=5).contains(&served), "{served}");
        let (spent, reserved) = world.spent().await;
        assert!(spent <= budget, "{spent} of {budget}");
        assert_eq!((spent, reserved), (Nusd(used.0 * (1 + served as u128)), Nusd::ZERO));
        assert_eq!(twin.spent().await, world.spent().await);
    });
}

#[test]
fn requests_at_once_are_counted_over_all_gateways() {
    on_postgres("requests_at_once_are_counted_over_all_gateways", async |world: World| {
        let twin = world.twin(|_| ()).await;
        let (double, _other) =
            (world.provider(11, &["waits", "story"]).await, twin.provider(12, &["story"]).await);
        let limits = KeyLimits { requests_at_once: Some(1), ..KeyLimits::default() };
        world.gateway.set_limits("tests", limits).await.unwrap();
        let waiting = world.chat("waits", r#", "stream": true"#);
        let asked = async {
            double.until(|seen| !seen.orders.is_empty()).await;
            twin.chat("story", "").await
        };
        let refused = tokio::select! {
            refused = asked => refused,
            _ = waiting => panic!("it waits"),
        };
        assert_eq!(refused.status, 429, "{}", refused.body);
        world.gateway.idle().await;
        // One after the other, now here and now there: each is over everywhere before its client knows.
        for _ in 0..5 {
            assert_eq!(world.chat("story", "").await.status, 200);
            assert_eq!(twin.chat("story", r#", "stream": true"#).await.status, 200);
        }
    });
}

#[test]
fn any_gateway_shows_receipts_and_exports_all() {
    on_postgres("any_gateway_shows_receipts_and_exports_all", async |world: World| {
        let twin = world.twin(|_| ()).await;
        let (_one, _other) =
            (world.provider(11, &["story"]).await, twin.provider(12, &["story"]).await);
        let (first, second) = (world.chat("story", "").await, twin.chat("story", "").await);
        for id in [&first.id, &second.id] {
            let path = format!("/v1/receipts/{id}");
            let (here, there) = (world.get(&path).await, twin.get(&path).await);
            assert_eq!((here.status, &here.body), (200, &there.body));
        }
        let csv = world.get("/v1/usage?format=csv").await.body;
        assert_eq!(csv.lines().count(), 3, "{csv}");
        assert!(csv.contains(&first.id) && csv.contains(&second.id));
        let list = twin.get("/v1/usage").await.json();
        assert_eq!(list["data"].as_array().unwrap().len(), 2);
        let key = twin.get("/v1/key").await.json();
        assert_eq!((&key["name"], &key["in_flight"]), (&json!("tests"), &json!(0)));
        let fleet = world.gateway.shared.fleet.as_ref().unwrap();
        let known = format!("{:?}", fleet.keys(None).await.unwrap());
        assert!(known.contains("tests") && !known.contains(&world.api_key), "{known}");
        // A key that is revoked here is gone there, for requests at once.
        let made = world.gateway.create_api_key("other", KeyLimits::default()).await.unwrap();
        let other = World { api_key: made, ..twin };
        assert_eq!(other.chat("story", "").await.status, 200);
        let revoke = world.request("/admin/keys/other", "");
        let (mut parts, body) = revoke.into_parts();
        parts.method = http::Method::DELETE;
        parts.headers.insert("authorization", format!("Bearer {ADMIN_KEY}").parse().unwrap());
        let revoked = world.ask(Request::from_parts(parts, body)).await;
        assert_eq!(revoked.status, 200);
        assert_eq!(other.chat("story", "").await.status, 401);
    });
}

#[test]
fn keys_of_the_journal_are_taken_over_by_a_fleet() {
    let Ok(server) = postgres::server() else { return };
    let database = server.database().parse().unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        let double = world.provider(11, &["story"]).await;
        assert_eq!(world.chat("story", "").await.status, 200);
        let (spent, memory) = (world.spent().await, double.memory());
        let world = World { database: Some(database), ..world }.restart().await;
        assert_eq!(world.spent().await, spent);
        let _double = world.provider_again(11, &["story"], memory).await;
        assert_eq!(world.chat("story", "").await.status, 200);
        assert_eq!(world.spent().await.0, Nusd(2 * spent.0.0));
        // Once, however often it starts.
        let world = world.restart().await;
        assert_eq!(world.spent().await.0, Nusd(2 * spent.0.0));
        assert_eq!(world.gateway.recent_requests(9)[0].key, "tests");
    });
}

#[test]
fn a_database_that_goes_away_in_mid_answer_gets_the_bill_when_it_is_back() {
    let test = "a_database_that_goes_away_in_mid_answer_gets_the_bill_when_it_is_back";
    // It is stopped: not that of the others.
    let server = match Server::start() {
        Ok(server) => server,
        Err(reason) => return postgres::skip(test, &reason),
    };
    let database = server.database().parse().unwrap();
    let server = &server;
    let restarted = async |world: World| {
        let double = world.provider(11, &["story"]).await;
        assert_eq!(world.chat("story", "").await.status, 200);
        let one = world.spent().await.0;
        double.seen().sleep = Duration::from_secs(20);
        let orders = double.seen().orders.len();
        let away = async {
            double.until(|seen| seen.orders.len() > orders).await;
            server.tell("stop");
        };
        let (answer, ()) = tokio::join!(world.chat("story", r#", "stream": true"#), away);
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("[DONE]"), "{}", answer.body);
        double.seen().sleep = Duration::ZERO;

        let refused = world.chat("story", "").await;
        assert_eq!(refused.status, 503, "{}", refused.body);
        assert_eq!(refused.json()["error"]["code"], "keys_unavailable");
        assert!(refused.headers.contains("retry-after: 2"), "{}", refused.headers);
        assert_eq!(world.get("/ready").await.status, 503);
        assert_eq!(world.get("/v1/key").await.status, 503);

        server.tell("start");
        world.gateway.idle().await;
        while world.gateway.shared.books.unbooked() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(world.spent().await, (Nusd(2 * one.0), Nusd::ZERO));
        assert_eq!(world.chat("story", "").await.status, 200);
        assert_eq!(world.get("/ready").await.status, 200);

        // And once more, with a gateway that stops before it is back.
        double.seen().sleep = Duration::from_secs(20);
        let orders = double.seen().orders.len();
        let away = async {
            double.until(|seen| seen.orders.len() > orders).await;
            server.tell("stop");
        };
        let (answer, ()) = tokio::join!(world.chat("story", ""), away);
        assert_eq!(answer.status, 200);
        world.gateway.shutdown().await;
        server.tell("start");
        let world = world.restart().await;
        assert_eq!(world.spent().await, (Nusd(4 * one.0), Nusd::ZERO));
        let world = world.restart().await;
        assert_eq!(world.spent().await, (Nusd(4 * one.0), Nusd::ZERO));
    };
    paused(restarted, database);
}
