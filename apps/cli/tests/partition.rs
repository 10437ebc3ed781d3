//! Validators in network namespaces of this test's own, on two switches with a cable between them that
//! can be pulled. Needs root and `ip` (Debian: `iproute2`).

mod support;

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use serde_json::{Value, json};
use support::{
    process::{Process, json as run_json, run, text},
    skip, until,
};
use tokio::process::Command;
use types::{Address, PublicKey};

/// How long a part that must not decide is watched.
const WATCHED: Duration = Duration::from_secs(6);

/// Four validators, each in a namespace; two switches in another.
struct Lan {
    name: String,
    folder: tempfile::TempDir,
    /// On which switch each stands.
    sides: [char; 4],
    nodes: Vec<Process>,
}

async fn ip(line: &str) -> bool {
    let mut command = Command::new("ip");
    let status = command.args(line.split_whitespace()).stderr(Stdio::null()).status().await;
    status.is_ok_and(|status| status.success())
}

impl Lan {
    /// `None`: this machine does not allow it, and why.
    async fn lay(name: &str, sides: [char; 4]) -> Result<Lan, &'static str> {
        let name = format!("pw{}{name}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        if !ip(&format!("netns add {name}-hub")).await {
            return Err("network namespaces need root and `ip`");
        }
        let lan = Lan { name, folder, sides, nodes: Vec::new() };
        let hub = format!("{}-hub", lan.name);
        let mut lines: Vec<String> = ["a", "b"]
            .iter()
            .flat_map(|side| {
                [
                    format!("-n {hub} link add sw{side} type bridge"),
                    format!("-n {hub} link set sw{side} up"),
                ]
            })
            .collect();
        lines.push(format!("-n {hub} link add cable-a type veth peer name cable-b"));
        for side in ["a", "b"] {
            lines.push(format!("-n {hub} link set cable-{side} master sw{side} up"));
        }
        for (number, side) in sides.iter().enumerate() {
            let own = lan.namespace(number);
            lines.push(format!("netns add {own}"));
            lines.push(format!("-n {own} link set lo up"));
            lines.push(format!(
                "-n {hub} link add port{number} type veth peer name eth0 netns {own}"
            ));
            lines.push(format!("-n {hub} link set port{number} master sw{side} up"));
            lines.push(format!("-n {own} addr add {}/24 dev eth0", lan.addr(number)));
            lines.push(format!("-n {own} link set eth0 up"));
        }
        for line in lines {
            if !ip(&line).await {
                return Err("this machine does not allow bridges in network namespaces");
            }
        }
        Ok(lan)
    }

    fn namespace(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    fn addr(&self, number: usize) -> String {
        format!("10.77.0.{}", number + 1)
    }

    fn home(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("validator-{number}"))
    }

    /// `peerwatt` inside the namespace of a node, with its data folder.
    fn peerwatt(&self, number: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(number), env!("CARGO_BIN_EXE_peerwatt")]);
        command.args(["--json", "--data-dir"]).arg(self.home(number));
        command
    }

    async fn start(&mut self) {
        let dir = self.folder.path().to_str().unwrap();
        run_json(&["testnet", "--init-only", "--validators", "4", "--dir", dir]).await;
        let read = |number| -> Value {
            let path = self.home(number).join("validator.json");
            serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
        };
        let old: Vec<Value> = (0..4).map(|number| read(number)["peer_listen"].clone()).collect();
        for number in 0..4 {
            let mut settings = read(number);
            settings["listen"] = json!("127.0.0.1:8401");
            settings["peer_listen"] = json!(format!("{}:8403", self.addr(number)));
            for peer in settings["peers"].as_array_mut().unwrap() {
                let (key, addr) = peer.as_str().unwrap().split_once('@').unwrap();
                let place = old.iter().position(|it| it == addr).unwrap();
                *peer = json!(format!("{key}@{}:8403", self.addr(place)));
            }
            let path = self.home(number).join("validator.json");
            fs::write(path, serde_json::to_vec(&settings).unwrap()).unwrap();
        }
        for number in 0..4 {
            let mut process = Process::start("validator", self.peerwatt(number).arg("validator"));
            process.ready().await;
            self.nodes.push(process);
        }
    }

    async fn pull(&self) {
        assert!(ip(&format!("-n {}-hub link set cable-a down", self.name)).await);
    }

    async fn plug(&self) {
        assert!(ip(&format!("-n {}-hub link set cable-a up", self.name)).await);
    }

    /// Moves one WATT through a node; every node's wallet can, for the first one's folder is there.
    async fn pay(&self, through: usize) -> Result<(), String> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(through), env!("CARGO_BIN_EXE_peerwatt")]);
        command.args(["--json", "--data-dir"]).arg(self.home(0));
        let to = Address::of_key(&PublicKey([7; 32])).to_string();
        command.args(["wallet", "send", &to, "1", "--chain", "http://127.0.0.1:8401"]);
        let output = run("wallet send", &mut command).await;
        if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
    }

    async fn tip(&self, number: usize) -> Option<(u64, Value)> {
        let mut command = self.peerwatt(number);
        command.args(["status", "--chain", "http://127.0.0.1:8401"]);
        let output = run("status", &mut command).await;
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let chain = &status["chain"];
        Some((chain["height"].as_u64()?, chain["app_hash"].clone()))
    }

    async fn agree(&self, numbers: &[usize], height: u64) -> u64 {
        until("all to stand at one block", async || {
            let mut tips = Vec::new();
            for number in numbers {
                tips.push(self.tip(*number).await?);
            }
            let first = tips.first()?.clone();
            (first.0 >= height && tips.iter().all(|tip| *tip == first)).then_some(first.0)
        })
        .await
    }

    async fn check(mut self) {
        for process in std::mem::take(&mut self.nodes) {
            assert!(process.stop().await.success());
        }
        for number in 0..4 {
            let home = self.home(number);
            let checked =
                run_json(&["--data-dir", home.to_str().unwrap(), "ledger", "check"]).await;
            assert_eq!(checked["violations"], json!([]), "{checked}");
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.nodes.clear();
        let names = (0..self.sides.len()).map(|number| self.namespace(number));
        for name in names.chain([format!("{}-hub", self.name)]) {
            // Some are missing when laying failed half way.
            let mut command = std::process::Command::new("ip");
            let _ = command.args(["netns", "del", &name]).stderr(Stdio::null()).status();
        }
    }
}

#[tokio::test]
async fn two_and_two_decide_nothing_and_converge_when_the_cable_is_back() {
    let mut lan = match Lan::lay("h", ['a', 'a', 'b', 'b']).await {
        Ok(lan) => lan,
        Err(why) => return skip("partition: two and two", why),
    };
    lan.start().await;
    lan.pay(0).await.unwrap();
    let before = lan.agree(&[0, 1, 2, 3], 1).await;
    lan.pull().await;
    // Each side has its own transaction, and neither is decided.
    let sides = tokio::time::timeout(WATCHED, async { tokio::join!(lan.pay(0), lan.pay(2)) });
    assert!(sides.await.is_err());
    for number in 0..4 {
        assert_eq!(lan.tip(number).await.unwrap().0, before);
    }
    lan.plug().await;
    lan.agree(&[0, 1, 2, 3], before + 1).await;
    lan.pay(3).await.unwrap();
    lan.agree(&[0, 1, 2, 3], before + 2).await;
    lan.check().await;
}

#[tokio::test]
async fn three_go_on_without_the_fourth_which_catches_up() {
    let mut lan = match Lan::lay("t", ['a', 'a', 'a', 'b']).await {
        Ok(lan) => lan,
        Err(why) => return skip("partition: three and one", why),
    };
    lan.start().await;
    lan.pay(0).await.unwrap();
    let before = lan.agree(&[0, 1, 2, 3], 1).await;
    lan.pull().await;
    for _ in 0..3 {
        lan.pay(0).await.unwrap();
    }
    let three = lan.agree(&[0, 1, 2], before + 3).await;
    assert_eq!(lan.tip(3).await.unwrap().0, before);
    lan.plug().await;
    lan.agree(&[0, 1, 2, 3], three).await;
    lan.pay(3).await.unwrap();
    lan.agree(&[0, 1, 2, 3], three + 1).await;
    lan.check().await;
}
