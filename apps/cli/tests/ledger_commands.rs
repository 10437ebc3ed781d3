//! The commands that look at the ledger and change it, on a network of their own.

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{
    process::{Up, json as run_json, peerwatt, run, string, text},
    until,
};

/// `peerwatt --data-dir HOME` with more arguments.
struct Cli {
    home: String,
}

impl Cli {
    async fn json(&self, line: &str) -> Value {
        let mut arguments = vec!["--data-dir", &self.home];
        arguments.extend(line.split_whitespace());
        run_json(&arguments).await
    }

    /// What it says on stderr when it must fail.
    async fn fails(&self, line: &str) -> String {
        let mut command = peerwatt(["--data-dir", &self.home]);
        let output = run(line, command.args(line.split_whitespace())).await;
        assert!(!output.status.success(), "{line} succeeded: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// Every line that it prints, as JSON.
    async fn lines(&self, line: &str) -> Vec<Value> {
        let mut command = peerwatt(["--json", "--data-dir", &self.home]);
        let output = run(line, command.args(line.split_whitespace())).await;
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        let stdout = text(&output.stdout);
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn kinds(events: &Value) -> Vec<&str> {
    let events = events.as_array().unwrap();
    events.iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

async fn up() -> (Up, Cli) {
    let up = Up::start(&["--dummy-engine"]).await;
    let home = up.home.path().to_str().unwrap().to_owned();
    (up, Cli { home })
}

#[tokio::test]
async fn stake_is_delegated_shown_and_taken_back() {
    let (up, cli) = up().await;
    let validators = cli.json("validator list").await;
    let operator = format!("validator/{}", string(&validators[0], "operator"));
    assert_eq!(validators.as_array().unwrap().len(), 1);
    assert!(validators[0]["power"].is_u64(), "{validators}");

    let dry = cli.json(&format!("stake delegate {operator} 1000 --dry-run")).await;
    assert_eq!(
        (dry["dry_run"].clone(), kinds(&dry["events"])),
        (json!(true), vec!["stake.delegated"])
    );
    assert_eq!(cli.json("stake show").await, json!([]), "a dry run changes nothing");
    let beyond = cli.fails(&format!("stake delegate {operator} 2000000 --dry-run")).await;
    assert!(beyond.contains("nothing was sent"), "{beyond}");

    let done = cli.json(&format!("stake delegate {operator} 1000")).await;
    assert_eq!((kinds(&done["events"]), &done["fee"]), (vec!["stake.delegated"], &dry["fee"]));
    let stakes = cli.json("stake show").await;
    assert_eq!(stakes[0]["operator"], operator);
    assert_eq!(stakes[0]["stake"], "1000000000000");

    // Fees of transactions are rewards of stakers: there is something in the next block.
    cli.json(&format!("stake delegate {operator} 1")).await;
    let rewards = until("rewards", async || {
        let stakes = cli.json("stake rewards").await;
        (stakes[0]["rewards"] != "0").then_some(stakes)
    });
    rewards.await;
    let withdrawn = cli.json("stake rewards --withdraw").await;
    assert!(kinds(&withdrawn["events"]).contains(&"rewards.withdrawn"), "{withdrawn}");

    cli.json(&format!("stake undelegate {operator} 400")).await;
    let stakes = cli.json("stake show").await;
    assert_eq!(stakes[0]["unbonding"][0]["balance"], "400000000000");
    up.stop_and_check().await;
}

#[tokio::test]
async fn channels_parameters_events_and_the_price_are_shown() {
    let (up, cli) = up().await;
    let channels = cli.json("channel list").await;
    let channel = string(&channels[0], "id");
    assert_eq!((&channels[0]["open"], channels.as_array().unwrap().len()), (&json!(true), 1));
    let asked = cli.json(&format!("channel withdraw {channel} --dry-run")).await;
    assert_eq!(kinds(&asked["events"]), ["channel.withdraw_requested"]);

    let provider = cli.json("provider show").await;
    // It has earned nothing yet, and has to pay a fee.
    let return_one = format!("channel return {channel} 1");
    let unpaid = cli.fails(&format!("{return_one} --dry-run")).await;
    assert!(unpaid.contains("has 0 WATT"), "{unpaid}");
    cli.json(&format!("wallet send {} 100", string(&provider, "operator"))).await;
    assert_eq!(kinds(&cli.json(&return_one).await["events"]), ["channel.deposit_returned"]);
    assert_eq!(cli.json("channel list").await[0]["returned"], "1000000000");
    let bonded = cli.json("provider bond 60").await;
    assert_eq!(kinds(&bonded["events"]), ["stake.delegated"]);
    let bond = |provider: &Value| provider["bond"].as_str().unwrap().to_owned();
    assert_eq!(bond(&cli.json("provider show").await), "60000000000");
    assert_eq!((&provider["moniker"], &provider["leaving"]), (&json!("provider"), &json!(false)));
    assert!(!provider["models"].as_array().unwrap().is_empty(), "{provider}");

    let params = cli.json("params").await;
    let holdback =
        params.as_array().unwrap().iter().find(|it| it["name"] == "channels.holdback_ms");
    assert_eq!(holdback.unwrap()["value"], "0", "claims of a local network are settled at once");

    let events = cli.lines("events --kind channel.").await;
    assert_eq!(events[0]["event"]["kind"], "channel.opened");
    assert!(events[0]["tx"].is_string(), "{}", events[0]);
    let later = events[0]["height"].as_u64().unwrap() + 1;
    assert!(cli.lines(&format!("events --kind channel.opened --from {later}")).await.is_empty());

    let before = cli.json("oracle show").await;
    assert_eq!(before["nusd_per_watt"], "100000000");
    let vote = cli.json("oracle vote 0.11").await;
    assert_eq!(kinds(&vote["events"]), ["oracle.revealed"]);
    up.stop_and_check().await;
}

#[tokio::test]
async fn proofs_and_snapshots_are_checked_without_the_network() {
    let (up, cli) = up().await;
    let wallet = string(&cli.json("wallet show").await, "address");
    let channel = string(&cli.json("channel list").await[0], "id");
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let proof = cli.json(&format!("proof get account {wallet}")).await;
    std::fs::write(file("account"), proof.to_string()).unwrap();
    let channel_proof = cli.json(&format!("proof get channel {channel}")).await;
    std::fs::write(file("channel"), channel_proof.to_string()).unwrap();
    let home = up.home.path().to_owned();
    // Asked twice under two names, so that there is something to compare.
    let running = std::fs::read_to_string(home.join("running.json")).unwrap();
    let running: Value = serde_json::from_str(&running).unwrap();
    let url = string(&running, "chain_url");
    let twice = format!("light sync --at {url},{}", url.replace("127.0.0.1", "localhost"));
    let synced = cli.json(&twice).await;
    assert!(synced["height"].as_u64() >= proof["header"]["height"].as_u64(), "{synced}");
    up.process.stop().await;

    let kept = cli.json("light status").await;
    assert_eq!((&kept["height"], &kept["hash"]), (&synced["height"], &synced["hash"]));
    let verified = cli.json(&format!("proof verify {}", file("account"))).await;
    assert_eq!((&verified["valid"], &verified["key"]["address"]), (&json!(true), &json!(wallet)));
    let validators = string(&proof["header"], "validators");
    let by_set = format!("proof verify {} --validators {validators}", file("account"));
    assert_eq!(cli.json(&by_set).await["entry"], verified["entry"]);
    let other = validators.replace(char::is_alphabetic, "0");
    cli.fails(&format!("proof verify {} --validators {other}", file("account"))).await;
    let height = &proof["header"]["height"];
    cli.fails(&format!("proof verify {} --trust {height}:{other}", file("account"))).await;
    assert_eq!(verified["entry"]["watt"], "1000000000000000");
    let root = string(&verified, "root");
    let verified = cli.json(&format!("proof verify {} --root {root}", file("channel"))).await;
    assert_eq!(verified["entry"]["open"], true);
    let wrong = root.replace(char::is_alphabetic, "0");
    cli.fails(&format!("proof verify {} --root {wrong}", file("account"))).await;
    let mut forged = proof.clone();
    forged["value"] = channel_proof["value"].clone();
    std::fs::write(file("forged"), forged.to_string()).unwrap();
    let refused = cli.fails(&format!("proof verify {}", file("forged"))).await;
    assert!(refused.contains("the proof does not hold"), "{refused}");

    let exported = cli.json(&format!("ledger export {}", file("state"))).await;
    let genesis = home.join("genesis.json");
    let import = format!("ledger import {} --genesis {}", file("state"), genesis.display());
    assert_eq!(cli.json(&import).await, exported);
    damage(Path::new(&file("state")));
    cli.fails(&import).await;
}

/// Changes one byte in the middle.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
