//! `bellhop demo`: the whole of it once, against a simulated Slack, with two kills; fails unless all was as expected.
//!
//! The host and the simulator are processes of their own. What happened is asserted from the simulator's files alone:
//! they are written before Slack answers, and the host cannot write them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::process::Command;

use super::child::{Outcome, Process, failed};
use super::shipped;
use crate::cli::output::{say, tell};

/// Where the demo finds what it shows.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The component with the Slack actions [default: the one that comes with the program, else target/plugins/slack.wasm]
    #[arg(long, value_name = "FILE")]
    pub(crate) plugin: Option<PathBuf>,
    /// The folder with the shipped definitions [default: the one that comes with the program, else workflows]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) workflows: Option<PathBuf>,
}

/// What the demo shows, found.
struct Shown {
    plugin: PathBuf,
    workflows: PathBuf,
}

/// The demo while it goes on.
struct Demo {
    http: Client,
    folder: tempfile::TempDir,
    slack: Process,
    host: Process,
    token: String,
    began: Instant,
}

#[allow(clippy::disallowed_methods, reason = "the demo shows people how long things took; nothing is decided by it")]
fn clock() -> Instant {
    Instant::now()
}

/// Runs the demo. `Ok` when everything was as expected.
pub(crate) async fn run(options: &Options) -> Outcome<()> {
    let began = clock();
    let options = &Shown {
        plugin: options.plugin.clone().unwrap_or_else(shipped::slack_actions),
        workflows: options.workflows.clone().unwrap_or_else(shipped::workflows),
    };
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (ledger, requests) = (path("ledger.jsonl"), path("requests.jsonl"));
    let slack = Process::start(
        &["slack-simulator", "--listen", "127.0.0.1:0", "--ledger", &ledger, "--requests", &requests],
        &folder.path().join("simulator.log"),
    )
    .await?;
    let slack_url = format!("http://{}", slack.address);
    let host = Process::start(
        &["serve", "--data-dir", &path("data"), "--listen", "127.0.0.1:0", "--slack-url", &slack_url],
        &folder.path().join("host.log"),
    )
    .await?;
    let Some(token) = host.token.clone() else { return failed("the host printed no operator token") };
    // The client talks to our own processes, over http alone: a machine without certificates will do.
    let http = Client::builder().no_proxy().tls_certs_only([]).build()?;
    say!("A simulated Slack runs at {slack_url}, a host at http://{}, both on this machine only.", host.address);
    let mut demo = Demo { http, folder, slack, host, token, began };
    let result = demo.tell(options).await;
    if result.is_err() {
        let log = std::fs::read_to_string(demo.folder.path().join("host.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(15).collect();
        tell!("The last lines of the host's log:");
        for line in tail.into_iter().rev() {
            tell!("  {line}");
        }
    }
    let _ended = demo.host.kill().await;
    let _ended = demo.slack.kill().await;
    result
}

impl Demo {
    async fn tell(&mut self, options: &Shown) -> Outcome<()> {
        self.ready().await?;
        self.set_up(options).await?;

        self.chapter("A person joins");
        let person = json!({
            "email": "grace@acme.example", "givenName": "Grace", "familyName": "Hopper", "department": "Engineering",
            "title": "Rear Admiral", "startDate": "2026-01-05", "timeZone": "Europe/Paris",
        });
        let run = self.trigger("people/onboarding", &json!({ "person": person }), Some("hire-4711")).await?;
        self.watch(&run).await?;
        self.expect_status(&run, "completed").await?;
        self.show_changes(&run).await?;
        let again = self.trigger("people/onboarding", &json!({ "person": person }), Some("hire-4711")).await?;
        self.expect(again == run, "the same Idempotency-Key gives the same run")?;

        self.chapter("The host dies after Slack has posted a message and before it could say so");
        self.kill_during("accept_then_withhold", "kill-a").await?;
        self.chapter("The host dies with its intent written and the request not yet taken up by Slack");
        self.kill_during("hold_before_accept", "kill-b").await?;

        self.chapter("The person leaves");
        let run = self
            .trigger(
                "people/offboarding",
                &json!({ "person": { "email": "grace@acme.example", "department": "Engineering" } }),
                Some("leave-4711"),
            )
            .await?;
        self.watch(&run).await?;
        self.expect_status(&run, "completed").await?;
        self.show_changes(&run).await?;
        let state = self.slack_get("/_sim/state").await?;
        let active = is_active(&state, "grace@acme.example");
        self.expect(active == Some(false), "the account is deactivated in the whole organisation")?;

        self.chapter("A notification where only the Grid account is connected");
        self.call("DELETE", "/v1/connections/acme-hq", None, None, &[200, 204]).await?;
        let body = json!({ "input": { "channel": "#it", "text": "Hello" } });
        let lines_before = self.ledger()?.len();
        let problem = self.call("POST", "/v1/workflows/it/send-notification/runs", Some(&body), None, &[422]).await?;
        self.expect(problem["code"] == "preflight-refused", "the trigger is refused with `preflight-refused`")?;
        self.expect(problem["diagnostics"][0]["code"] == "plan-required", "because of `plan-required`")?;
        self.expect(self.ledger()?.len() == lines_before, "and nothing was changed in Slack")?;
        let checked = Command::new(std::env::current_exe()?)
            .args([
                "check",
                &options.workflows.join("send-notification.yaml").to_string_lossy(),
                "--assume",
                "acme=grid-org",
            ])
            .arg("--plugin")
            .arg(&options.plugin)
            .output()
            .await?;
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        say!("{text}");
        self.expect(
            checked.status.code() == Some(3),
            "`bellhop check` says the same without a server, and exits with 3",
        )?;
        self.expect(text.contains("error[plan-required]"), "in words for people")?;

        let seconds = self.began.elapsed().as_secs_f32();
        say!("\nAll of it was as expected, in {seconds:.1} s.");
        Ok(())
    }

    fn chapter(&self, title: &str) {
        say!("\n== {title}");
    }

    fn expect(&self, holds: bool, what: &str) -> Outcome<()> {
        if holds {
            say!("   ok: {what}");
            Ok(())
        } else {
            failed(format!("not as expected: {what}"))
        }
    }

    async fn call(
        &self,
        verb: &str,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
        expected: &[u16],
    ) -> Outcome<Value> {
        let url = format!("http://{}{path}", self.host.address);
        let mut request = self.http.request(verb.parse()?, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        if !expected.contains(&status) {
            return failed(format!("{verb} {path} answered {status}: {text}"));
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn put_text(&self, path: &str, kind: &str, body: Vec<u8>, verb: &str) -> Outcome<Value> {
        let url = format!("http://{}{path}", self.host.address);
        let request = if verb == "POST" { self.http.post(url) } else { self.http.put(url) };
        let answer = request.bearer_auth(&self.token).header("Content-Type", kind).body(body).send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        if !(200..300).contains(&status) {
            return failed(format!("{verb} {path} answered {status}: {text}"));
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn slack_get(&self, path: &str) -> Outcome<Value> {
        let url = format!("http://{}{path}", self.slack.address);
        Ok(serde_json::from_str(&self.http.get(url).send().await?.text().await?)?)
    }

    async fn slack_post(&self, path: &str, body: &Value) -> Outcome<Value> {
        let url = format!("http://{}{path}", self.slack.address);
        let text = self.http.post(url).json(body).send().await?.text().await?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Waits until the host says that it is ready.
    async fn ready(&self) -> Outcome<()> {
        for _ in 0..400 {
            let url = format!("http://{}/readyz", self.host.address);
            if self.http.get(url).send().await.is_ok_and(|a| a.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        failed("the host did not become ready within ten seconds")
    }

    async fn set_up(&self, options: &Shown) -> Outcome<()> {
        let plugin = &options.plugin;
        let Ok(bytes) = std::fs::read(plugin) else {
            return failed(format!(
                "{} cannot be read: build the Slack actions first, by `make plugins`",
                plugin.display()
            ));
        };
        let size = bytes.len();
        self.put_text("/v1/plugins?grantAll=true", "application/wasm", bytes, "POST").await?;
        say!("Installed the Slack actions ({size} bytes of WebAssembly), and granted them all that they declare.");
        let org = json!({ "name": "acme", "kind": "grid-org", "permission": "act",
            "tokens": { "user": "xoxp-org-admin", "audit": "xoxp-org-owner", "bot": "xoxb-org" } });
        let hq = json!({ "name": "acme-hq", "kind": "grid-workspace", "permission": "act",
            "tokens": { "bot": "xoxb-hq", "user": "xoxp-hq-admin" } });
        for connection in [&org, &hq] {
            self.call("POST", "/v1/connections", Some(connection), None, &[200, 201]).await?;
        }
        say!(
            "Connected the organisation (Enterprise Grid: Grid account) and its workspace (Enterprise Grid: Workspace)."
        );
        let tables = options.workflows.join("tables");
        if let Ok(entries) = std::fs::read_dir(&tables) {
            for entry in entries.flatten() {
                let path = entry.path();
                let (Some(stem), Some("yaml")) =
                    (path.file_stem().and_then(|s| s.to_str()), path.extension().and_then(|e| e.to_str()))
                else {
                    continue;
                };
                let put = Command::new(std::env::current_exe()?)
                    .args(["tables", "put", stem])
                    .arg(&path)
                    .env("BELLHOP_URL", format!("http://{}", self.host.address))
                    .env("BELLHOP_TOKEN", &self.token)
                    .output()
                    .await?;
                if !put.status.success() {
                    return failed(format!("`bellhop tables put {stem}`: {}", String::from_utf8_lossy(&put.stderr)));
                }
            }
        }
        for (name, file) in [
            ("people/onboarding", "onboarding.yaml"),
            ("people/offboarding", "offboarding.yaml"),
            ("it/send-notification", "send-notification.yaml"),
        ] {
            let text = std::fs::read(options.workflows.join(file))?;
            self.put_text(&format!("/v1/workflows/{name}"), "application/yaml", text, "PUT").await?;
        }
        say!("Applied the workflows.");
        Ok(())
    }

    async fn trigger(&self, workflow: &str, input: &Value, key: Option<&str>) -> Outcome<String> {
        let path = format!("/v1/workflows/{workflow}/runs");
        let accepted = self.call("POST", &path, Some(&json!({ "input": input })), key, &[202]).await?;
        match accepted["id"].as_str() {
            Some(id) => Ok(id.to_owned()),
            None => failed("an accepted run has no id"),
        }
    }

    /// Prints a run's timeline as it happens, until it ends.
    async fn watch(&self, run: &str) -> Outcome<()> {
        let url = format!("http://{}/v1/runs/{run}/events", self.host.address);
        let mut answer = self
            .http
            .get(url)
            .bearer_auth(&self.token)
            .header("Accept", "text/event-stream")
            .timeout(Duration::from_secs(60))
            .send()
            .await?;
        let mut timeline = super::timeline::Timeline::default();
        let mut buffer = String::new();
        while let Some(chunk) = answer.chunk().await? {
            buffer.push_str(&String::from_utf8_lossy(&chunk));
            while let Some(end) = buffer.find("\n\n") {
                let event: String = buffer.drain(..end + 2).collect();
                let data: String = event.lines().filter_map(|l| l.strip_prefix("data:")).map(str::trim).collect();
                if let Ok(event) = serde_json::from_str::<Value>(&data) {
                    {
                        let line = timeline.line(&event);
                        say!("{line}");
                    }
                    if event["type"]
                        .as_str()
                        .is_some_and(|t| matches!(t, "run.completed" | "run.faulted" | "run.cancelled"))
                    {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    async fn expect_status(&self, run: &str, status: &str) -> Outcome<()> {
        let view = self.call("GET", &format!("/v1/runs/{run}?wait=30s"), None, None, &[200]).await?;
        if view["status"] != status {
            return failed(format!("the run is `{}` instead of `{status}`: {}", view["status"], view["error"]));
        }
        self.expect(true, &format!("the run is {status}"))
    }

    fn lines(&self, file: &str) -> Outcome<Vec<Value>> {
        let text = std::fs::read_to_string(self.folder.path().join(file))?;
        Ok(text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect())
    }

    fn ledger(&self) -> Outcome<Vec<Value>> {
        self.lines("ledger.jsonl")
    }

    /// What a run changed in Slack, from Slack's own book.
    async fn show_changes(&self, run: &str) -> Outcome<()> {
        say!("   What changed in Slack:");
        let mut by_method: BTreeMap<String, u32> = BTreeMap::new();
        let mut shown = 0;
        for line in self.ledger()? {
            if line["changed"] != json!(true) {
                continue;
            }
            *by_method.entry(line["method"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            shown += 1;
        }
        for (method, count) in by_method {
            say!("     {count:>3} × {method}");
        }
        self.expect(shown > 0, &format!("Slack's ledger has what {} did", &run[..run.len().min(12)]))
    }

    /// Kills the host at a moment that the simulator makes, starts it again, and asserts that the message stands once.
    async fn kill_during(&mut self, action: &str, name: &str) -> Outcome<()> {
        let fault = json!({ "method": "chat.postMessage", "times": 1, "action": action });
        let added = self.slack_post("/_sim/faults", &fault).await?;
        let Some(id) = added["id"].as_u64() else { return failed(format!("the simulator took no fault: {added}")) };
        let text = format!("Demo {name}");
        let run = self.trigger("it/send-notification", &json!({ "channel": "#it", "text": text }), Some(name)).await?;
        let fired = self.slack_get(&format!("/_sim/signals/wait?fault={id}&timeout_ms=15000")).await?;
        self.expect(
            fired["fired"].as_u64().is_some_and(|n| n > 0),
            "the request reached the simulator, which holds it",
        )?;
        let pid = self.host.child.id().unwrap_or_default();
        let requests_before = self.lines("requests.jsonl")?.len();
        self.host.kill().await?;
        say!("   kill -9 {pid}");
        let path = |file: &str| self.folder.path().join(file).to_string_lossy().into_owned();
        let (address, slack_url) = (self.host.address.clone(), format!("http://{}", self.slack.address));
        self.host = Process::start(
            &["serve", "--data-dir", &path("data"), "--listen", &address, "--slack-url", &slack_url],
            &self.folder.path().join("host.log"),
        )
        .await?;
        self.ready().await?;
        say!("   the host is back, pid {}", self.host.child.id().unwrap_or_default());
        self.watch(&run).await?;
        self.expect_status(&run, "completed").await?;
        let ours: Vec<Value> = self
            .ledger()?
            .into_iter()
            .filter(|l| l["method"] == "chat.postMessage" && l["key"].as_str().is_some_and(|k| k.starts_with(&run)))
            .collect();
        self.expect(ours.len() == 1, "the message stands once, by Slack's own ledger")?;
        let after: Vec<Value> = self
            .lines("requests.jsonl")?
            .into_iter()
            .skip(requests_before)
            .filter(|l| l["event"] == "request")
            .collect();
        let read_back = after.iter().position(|l| l["method"] == "conversations.history");
        let resend = after.iter().position(|l| l["method"] == "chat.postMessage");
        match action {
            "accept_then_withhold" => {
                self.expect(read_back.is_some() && resend.is_none(), "the host read it back and sent nothing again")
            }
            _ => self.expect(
                read_back.is_some() && resend.is_some() && read_back < resend,
                "the read-back stands between restart and resend",
            ),
        }
    }
}

/// Whether the account with that e-mail is active.
fn is_active(state: &Value, email: &str) -> Option<bool> {
    let accounts = state["users"].as_object()?;
    accounts.values().find(|a| a["email"] == email)?["active"].as_bool()
}
