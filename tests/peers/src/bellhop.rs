//! Our side: `bellhop serve` with its defaults, but for Slack's budget, which is multiplied as it is for the other side.

use std::path::Path;

use reqwest::Client;
use serde_json::json;

use crate::load::{self, Figures, Flow};
use crate::process::Process;
use crate::{Outcome, slack};

/// Three messages, one after the other.
const THREE: &str = "\
document: { dsl: 1.0.3, namespace: peers, name: three, version: 1.0.0, metadata: { bellhop: { connections: { team: {} } } } }
do:
  - one: { call: 'message.send:1@slack', with: { connection: team, channel: C0HQIT, text: '${ .text }' }, output: { as: '${ $workflow.input }' } }
  - two: { call: 'message.send:1@slack', with: { connection: team, channel: C0HQIT, text: '${ .text }' }, output: { as: '${ $workflow.input }' } }
  - three: { call: 'message.send:1@slack', with: { connection: team, channel: C0HQIT, text: '${ .text }' } }
";

/// One turn, on a store of its own.
pub(crate) async fn measure(program: &Path, plugin: &Path, folder: &Path) -> Outcome<Figures> {
    let (simulator, slack_url) = slack(program, folder).await?;
    let data = folder.join("data").to_string_lossy().into_owned();
    let arguments =
        ["serve", "--data-dir", &data, "--listen", "127.0.0.1:0", "--slack-url", &slack_url, "--budget-scale", "1000000", "--log", "warn"];
    let mut host = Process::start(program, &arguments, &folder.join("host.log"))?;
    let token = host.word("bh_").await?;
    let url = host.word("http://").await?;
    let client = load::client()?;
    let set = |request: reqwest::RequestBuilder| done(request.bearer_auth(&token));
    let post = |path: &str| client.post(format!("{url}{path}"));
    set(post("/v1/plugins?grantAll=true").header("content-type", "application/wasm").body(std::fs::read(plugin)?)).await?;
    let connection =
        json!({ "name": "acme-hq", "kind": "grid-workspace", "permission": "act", "tokens": { "bot": "xoxb-hq" } });
    set(post("/v1/connections").json(&connection)).await?;
    let put: &Client = &client;
    set(put.put(format!("{url}/v1/workflows/peers/three")).header("content-type", "application/yaml").body(THREE)).await?;
    let flow = Flow {
        url: format!("{url}/v1/workflows/peers/three/runs?wait=30s"),
        token: Some(token.clone()),
        body: r#"{"input":{"text":"Hello"},"connections":{"team":"acme-hq"}}"#,
        is_done: |answer| answer.contains(r#""status":"completed""#),
    };
    let figures = flow.measure(&client, host.pid()?).await?;
    host.end().await?;
    simulator.end().await?;
    Ok(figures)
}

async fn done(request: reqwest::RequestBuilder) -> Outcome<()> {
    let answer = request.send().await?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("{status}: {}", answer.text().await?).into()) }
}
