//! A real browser: Chromium without a window, driven through ChromeDriver's WebDriver API
//! (<https://www.w3.org/TR/webdriver2/>) and its door to the DevTools protocol.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    net::TcpStream,
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::support::{DEADLINE, quick, until};

/// How a browser is installed, for whoever reads that a test was left out.
const HOW_TO_INSTALL: &str =
    "install Chromium and its driver, e.g. `apt-get install chromium chromium-driver`";
/// The driver says on which port it listens in a line with these words.
const STARTED: &str = "started successfully on port ";

/// What the page is looked at with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

/// A browser with a fresh profile and one window.
pub(crate) struct Browser {
    client: reqwest::Client,
    driver_port: u16,
    session: String,
    /// Killed when dropped, after the session was ended.
    _driver: Child,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser; `arguments` come after the usual ones. The error is why there is none here.
    pub(crate) async fn start(arguments: &[&str]) -> Result<Browser, String> {
        if quick() {
            return Err("only the quick tests were asked for".to_owned());
        }
        let profile = tempfile::tempdir().unwrap();
        let (driver, driver_port) = start_driver().await?;
        let client = wire::http_client_builder().timeout(DEADLINE).build().unwrap();
        let mut browser = Browser {
            client,
            driver_port,
            session: String::new(),
            _driver: driver,
            _profile: profile,
        };
        let session = browser.call("session", capabilities(&browser, arguments)).await;
        let session =
            session.map_err(|error| match error.contains("cannot find Chrome binary") {
                true => HOW_TO_INSTALL.to_owned(),
                false => panic!("the browser does not start: {error}"),
            })?;
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        Ok(browser)
    }

    /// Opens an address and waits until it is loaded.
    pub(crate) async fn open(&self, url: &str) {
        self.command("url", json!({ "url": url })).await;
    }

    /// What the function body `script` returns.
    pub(crate) async fn evaluate(&self, script: &str) -> Value {
        self.command("execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// What the promise that `expression` is comes to.
    pub(crate) async fn resolve(&self, expression: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; ({expression}).then(done, (error) => done(String(error)));"
        );
        self.command("execute/async", json!({ "script": script, "args": [] })).await
    }

    /// As [`Browser::evaluate`], for text.
    pub(crate) async fn text(&self, script: &str) -> String {
        let value = self.evaluate(script).await;
        value.as_str().unwrap_or_else(|| panic!("`{script}` gives {value}")).to_owned()
    }

    /// Waits until `script` returns something else than null, false or an empty text.
    pub(crate) async fn until(&self, what: &str, script: &str) -> Value {
        until(what, async || {
            let value = self.evaluate(script).await;
            let nothing = matches!(value, Value::Null | Value::Bool(false)) || value == "";
            if nothing { None } else { Some(value) }
        })
        .await
    }

    /// Types into the element that `selector` finds, as a person would.
    pub(crate) async fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.command(&format!("element/{element}/value"), json!({ "text": text })).await;
    }

    pub(crate) async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.command(&format!("element/{element}/click"), json!({})).await;
    }

    async fn element(&self, selector: &str) -> String {
        let find = json!({ "using": "css selector", "value": selector });
        let found = self.command("element", find).await;
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("no element in {found}")).to_owned()
    }

    /// Sets the size of the page, below 500 pixels as a phone has it, and the preferred colours.
    pub(crate) async fn look(&self, width: u32, height: u32, scheme: Scheme) {
        let scheme = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await;
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    /// What was written to the console, or by the browser about the page, since the last call.
    pub(crate) async fn console(&self) -> Vec<String> {
        let entries = self.command("se/log", json!({ "type": "browser" })).await;
        let line = |entry: &Value| format!("{}: {}", entry["level"], entry["message"]);
        entries.as_array().unwrap().iter().map(line).collect()
    }

    /// The page as it came from the server and was changed since.
    pub(crate) async fn source(&self) -> String {
        self.text("return document.documentElement.outerHTML").await
    }

    /// A command of this session that must succeed.
    async fn command(&self, path: &str, body: Value) -> Value {
        let path = format!("session/{}/{path}", self.session);
        self.call(&path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn call(&self, path: &str, body: Value) -> Result<Value, String> {
        let url = format!("http://127.0.0.1:{}/{path}", self.driver_port);
        let response = self.client.post(url).json(&body).send().await.map_err(|e| e.to_string())?;
        let succeeded = response.status().is_success();
        let mut answer: Value = response.json().await.map_err(|error| error.to_string())?;
        let value = answer["value"].take();
        if succeeded { Ok(value) } else { Err(value["message"].to_string()) }
    }
}

impl Drop for Browser {
    /// Ends the session, so that the browser ends: it does not end with its driver. Blocking, as
    /// there is no other way here, and without a complaint, as the test has ended already.
    fn drop(&mut self) {
        let Ok(mut driver) = TcpStream::connect(("127.0.0.1", self.driver_port)) else { return };
        let _ = driver.set_read_timeout(Some(Duration::from_secs(10)));
        let host = format!("Host: 127.0.0.1:{}\r\nConnection: close\r\n", self.driver_port);
        let _ = write!(driver, "DELETE /session/{} HTTP/1.1\r\n{host}\r\n", self.session);
        let _ = driver.read_to_end(&mut Vec::new());
    }
}

/// ChromeDriver on a port of its choice.
async fn start_driver() -> Result<(Child, u16), String> {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut driver = command.kill_on_drop(true).spawn().map_err(|error| {
        let reason =
            if error.kind() == std::io::ErrorKind::NotFound { "" } else { "cannot start: " };
        format!("chromedriver: {reason}{error}; {HOW_TO_INSTALL}")
    })?;
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, port)) = line.split_once(STARTED) {
                return port.trim_end_matches('.').parse::<u16>().unwrap();
            }
        }
        panic!("chromedriver ended before it listened");
    };
    let port = tokio::time::timeout(DEADLINE, port).await.expect("chromedriver listens in time");
    // It goes on writing there now and then.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((driver, port))
}

fn capabilities(browser: &Browser, arguments: &[&str]) -> Value {
    let profile: &OsStr = browser._profile.path().as_ref();
    let profile = format!("--user-data-dir={}", profile.to_str().unwrap());
    let mut all = vec![
        "--headless=new",
        // Tests run as root in containers, where Chromium's sandbox cannot be made.
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        &profile,
    ];
    all.extend(arguments);
    json!({ "capabilities": { "alwaysMatch": {
        "goog:chromeOptions": { "args": all },
        "goog:loggingPrefs": { "browser": "ALL" },
    }}})
}
