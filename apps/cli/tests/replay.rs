//! The embedded engine through the whole network: what it draws by chance is drawn again, token by token, by a gateway that
//! has no model.

mod support;

use serde_json::{Value, json};
use support::{figures, process::Up, stream::Consumer};

const MODEL: &str = "ember-1m";

#[tokio::test]
async fn every_token_of_the_embedded_engine_is_drawn_again() {
    let metrics = figures::free();
    let up = Up::start(&["--embedded", "--metrics-listen", &metrics]).await;
    let consumer = Consumer::new(&up.base_url, &up.api_key);
    let ask = async |turn: usize, more: Value| {
        let prompt = format!("Tell me story number {turn}.");
        let mut body = json!({
            "model": MODEL,
            "messages": [{ "role": "user", "content": prompt }],
            "max_tokens": 48,
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let response = consumer.ask(&body).await;
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        (id, response.json::<Value>().await.unwrap())
    };
    let mut drawn = 0;
    for turn in 0..8 {
        let temperature = [0.0, 0.5, 0.8, 1.0][turn % 4];
        let (id, answer) = ask(turn, json!({ "temperature": temperature })).await;
        drawn += answer["usage"]["completion_tokens"].as_u64().unwrap();
        let receipt = consumer.get(&format!("receipts/{id}")).await.unwrap();
        assert_eq!(receipt["receipt"]["report"]["value"]["profile"], "np1", "{receipt}");
    }
    let replays = figures::replays(&metrics).await;
    let excused = replays.get("excused").copied().unwrap_or(0);
    assert_eq!(replays["match"] + excused, drawn, "{replays:?}");
    assert_eq!(replays["clean"], 8, "{replays:?}");
    assert!(drawn > 100, "{drawn}");

    // A seed of the client's own is honoured: such an answer can be repeated, and is not replayed.
    let own = json!({ "seed": 7, "temperature": 1.0 });
    let (id, one) = ask(9, own.clone()).await;
    let (_, other) = ask(9, own).await;
    assert_eq!(one["choices"][0]["message"], other["choices"][0]["message"]);
    let receipt = consumer.get(&format!("receipts/{id}")).await.unwrap();
    assert_eq!(receipt["receipt"]["report"]["value"]["profile"], "np1-l1", "{receipt}");
    assert_eq!(figures::replays(&metrics).await["clean"], 8);
    up.stop_and_check().await;
}
