//! Their side: a service of three journaled posts, its listener, and Restate's server.

use std::path::Path;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Client;
use restate_sdk::hyper::HyperEndpoint;
use restate_sdk::prelude::*;
use serde_json::json;
use tokio::net::TcpListener;

use crate::load::{self, Figures};
use crate::process::Process;
use crate::{Outcome, slack};

/// Where its server listens: loopback alone, and not at the ports that it has by itself.
const NODE: &str = "127.0.0.1:17522";
const INGRESS: &str = "127.0.0.1:17508";
const ADMIN: &str = "127.0.0.1:17507";

/// Looks whether the server is there yet, 100 ms apart.
const LOOKS_MAX: usize = 300;

struct Messages {
    client: Client,
    slack_url: String,
}

#[restate_sdk::service]
impl Messages {
    #[handler]
    async fn three(&self, context: Context<'_>, text: String) -> Result<u64, HandlerError> {
        for step in 0..3 {
            let request = self
                .client
                .post(format!("{}/api/chat.postMessage", self.slack_url))
                .bearer_auth("xoxb-hq")
                .json(&json!({ "channel": "C0HQIT", "text": text }));
            let send = || async move {
                let answer = request.send().await?.text().await?;
                if answer.contains("\"ok\":true") { Ok(answer) } else { Err(TerminalError::new(answer).into()) }
            };
            let _answer: String = context.run(send).name(&format!("message {step}")).await?;
        }
        Ok(3)
    }
}

/// Serves the service at an address of the system's choice.
async fn serve(client: Client, slack_url: String) -> Outcome<String> {
    let endpoint = HyperEndpoint::new(Endpoint::builder().bind(Messages { client, slack_url }).build());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Without it each answer waits for the acknowledgement of the one before.
            let _is_set = stream.set_nodelay(true);
            let endpoint = endpoint.clone();
            tokio::spawn(async move {
                let _ended = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), endpoint).await;
            });
        }
    });
    Ok(format!("http://{address}"))
}

/// Tells the server of the service, as soon as the server is there.
async fn register(client: &Client, service: &str) -> Outcome<()> {
    let mut why = String::new();
    for _ in 0..LOOKS_MAX {
        let request = client.post(format!("http://{ADMIN}/deployments")).json(&json!({ "uri": service }));
        match request.send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => why = answer.text().await.unwrap_or_default(),
            Err(error) => why = error.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("restate does not take the service: {why}").into())
}

/// One turn, on a folder of its own.
pub(crate) async fn measure(program: &Path, server: &Path, folder: &Path) -> Outcome<Figures> {
    let (simulator, slack_url) = slack(program, folder).await?;
    let client = load::client()?;
    let service = serve(client.clone(), slack_url).await?;
    let data = folder.join("data").to_string_lossy().into_owned();
    let settings = [
        ("RESTATE_LISTEN_MODE", "tcp"),
        ("RESTATE_BIND_ADDRESS", NODE),
        ("RESTATE_ADVERTISED_ADDRESS", "http://127.0.0.1:17522"),
        ("RESTATE_INGRESS__BIND_ADDRESS", INGRESS),
        ("RESTATE_ADMIN__BIND_ADDRESS", ADMIN),
        ("RESTATE_DISABLE_TELEMETRY", "true"),
        ("DO_NOT_TRACK", "1"),
    ];
    let host = Process::start_logged(server, &["--base-dir", &data], &settings, &folder.join("server.log"))?;
    register(&client, &service).await?;
    let flow = load::Flow {
        url: format!("http://{INGRESS}/Messages/three"),
        token: None,
        body: "\"Hello\"",
        is_done: |answer| answer == "3",
    };
    let figures = flow.measure(&client, host.pid()?).await?;
    host.end().await?;
    simulator.end().await?;
    Ok(figures)
}
