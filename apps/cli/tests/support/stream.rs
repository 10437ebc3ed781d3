//! A consumer that counts for itself: it asks for a stream and notes what arrives, so that books
//! can be compared with what was really delivered.

use serde_json::{Value, json};

use super::DEADLINE;

/// What a consumer saw of one stream.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// From the header; absent if the gateway never answered.
    pub request_id: Option<String>,
    /// The answer began with 200. A request that was refused at once costs nothing.
    pub answered: bool,
    /// Chunks with text. The dummy engine's tokens are never joined into one chunk here, because
    /// each is a word and words are counted.
    pub tokens: u32,
    /// The stream ended with `[DONE]`.
    pub finished: bool,
    /// An error event, or what broke the connection.
    pub problem: Option<String>,
}

/// A consumer of one gateway.
#[derive(Clone, Debug)]
pub struct Consumer {
    client: reqwest::Client,
    base_url: String,
    api_key: String,
}

impl Consumer {
    pub fn new(base_url: &str, api_key: &str) -> Consumer {
        let client = wire::http_client_builder().build().unwrap();
        Consumer { client, base_url: base_url.to_owned(), api_key: api_key.to_owned() }
    }

    /// `GET path` below the base URL; `None` unless it is answered with 200.
    pub async fn get(&self, path: &str) -> Option<Value> {
        let url = format!("{}/{path}", self.base_url);
        let request = self.client.get(url).bearer_auth(&self.api_key).timeout(DEADLINE);
        let response = request.send().await.ok()?.error_for_status().ok()?;
        response.json().await.ok()
    }

    /// Asks for a plain answer; the response whatever its status.
    pub async fn ask(&self, body: &Value) -> reqwest::Response {
        self.ask_with(body, &[]).await
    }

    /// The same with more headers.
    pub async fn ask_with(&self, body: &Value, headers: &[(&str, &str)]) -> reqwest::Response {
        let url = format!("{}/chat/completions", self.base_url);
        let request = self.client.post(url).bearer_auth(&self.api_key).json(body).timeout(DEADLINE);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap()
    }

    /// Reads one stream to whatever end it comes to; `on_token` is called as tokens arrive.
    pub async fn stream(&self, model: &str, content: &str, mut on_token: impl FnMut()) -> Seen {
        let mut seen = Seen::default();
        let body = json!({
            "model": model,
            "messages": [{ "role": "user", "content": content }],
            "stream": true,
        });
        let url = format!("{}/chat/completions", self.base_url);
        let request = self.client.post(url).bearer_auth(&self.api_key).json(&body);
        let reading = async {
            let mut response = request.send().await?;
            let id = response.headers().get("x-request-id").and_then(|it| it.to_str().ok());
            seen.request_id = id.map(str::to_owned);
            seen.answered = response.status().is_success();
            let mut text = Vec::new();
            while let Some(bytes) = response.chunk().await? {
                text.extend_from_slice(&bytes);
                while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    let tokens = seen.read(&String::from_utf8_lossy(&line));
                    (0..tokens).for_each(|_| on_token());
                }
            }
            if !text.is_empty() {
                seen.problem = Some(String::from_utf8_lossy(&text).into_owned());
            }
            Ok::<_, reqwest::Error>(())
        };
        match tokio::time::timeout(DEADLINE, reading).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => seen.problem = Some(format!("{error:?}")),
            Err(_) => panic!("a stream of {model} hangs after {} tokens", seen.tokens),
        }
        seen
    }
}

impl Seen {
    /// Reads a line of the stream and returns how many tokens it brought.
    fn read(&mut self, line: &str) -> u32 {
        let Some(data) = line.trim_end().strip_prefix("data: ") else { return 0 };
        if data == "[DONE]" {
            self.finished = true;
            return 0;
        }
        let event: Value = serde_json::from_str(data).unwrap();
        if let Some(error) = event.get("error") {
            self.problem = Some(error["message"].as_str().unwrap_or_default().to_owned());
        }
        let text = event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        let tokens = u32::try_from(text.split_whitespace().count()).unwrap();
        self.tokens += tokens;
        tokens
    }
}
