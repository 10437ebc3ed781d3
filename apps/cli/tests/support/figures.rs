//! Figures for Prometheus, as a running gateway serves them.

use std::collections::BTreeMap;

/// An address where nobody listens now.
pub fn free() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// All of them as text.
pub async fn text(listener: &str) -> String {
    let figures = reqwest::get(format!("http://{listener}/metrics")).await.unwrap();
    figures.text().await.unwrap()
}

/// What was counted of tokens that were drawn again, and of what followed, by name.
pub async fn replays(listener: &str) -> BTreeMap<String, u64> {
    let figures = text(listener).await;
    let counted = |line: &str| {
        let rest = line.strip_prefix("peerwatt_replay")?;
        let (_, label) = rest.split_once("=\"")?;
        let (name, count) = label.split_once("\"} ")?;
        Some((name.to_owned(), count.parse().unwrap()))
    };
    figures.lines().filter_map(counted).collect()
}
