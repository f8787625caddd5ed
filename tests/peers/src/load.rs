//! The load generator: one client for whoever is measured.

use std::fmt;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use reqwest::Client;

use crate::Outcome;

/// Flows before anything is measured.
const WARM: usize = 50;
/// Flows one at a time.
const ALONE: usize = 300;
/// Flows in all, of which so many are open at any time.
const MANY: usize = 6_000;
const TOGETHER: usize = 64;

/// What one turn of one of the two came to.
pub(crate) struct Figures {
    /// One flow at a time, from its request to its answer.
    pub(crate) p50_ms: f64,
    p99_ms: f64,
    /// With 64 open.
    pub(crate) flows_per_s: f64,
    /// Of the server, after all of them.
    pub(crate) resident_mb: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50_ms, p99_ms, flows_per_s, resident_mb } = self;
        write!(f, "{p50_ms:>12.2}{p99_ms:>12.2}{flows_per_s:>12.0}{resident_mb:>12.0}")
    }
}

/// A client that sets `TCP_NODELAY` and asks nobody on the way.
pub(crate) fn client() -> Outcome<Client> {
    Ok(Client::builder().tcp_nodelay(true).no_proxy().build()?)
}

/// One request, and how to tell whether its flow has come to its end.
pub(crate) struct Flow {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    pub(crate) body: &'static str,
    pub(crate) is_done: fn(&str) -> bool,
}

impl Flow {
    async fn go(&self, client: &Client) -> Outcome<f64> {
        let began = Instant::now();
        let mut request = client.post(&self.url).header("content-type", "application/json").body(self.body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() || !(self.is_done)(&text) {
            return Err(format!("{}: {status}: {text}", self.url).into());
        }
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }

    /// Asks for flow after flow; the memory is that of `pid`.
    pub(crate) async fn measure(&self, client: &Client, pid: u32) -> Outcome<Figures> {
        for _ in 0..WARM {
            self.go(client).await?;
        }
        let mut samples = Vec::with_capacity(ALONE);
        for _ in 0..ALONE {
            samples.push(self.go(client).await?);
        }
        samples.sort_by(f64::total_cmp);
        let began = Instant::now();
        let mut open: FuturesUnordered<_> = (0..TOGETHER).map(|_| self.go(client)).collect();
        let mut begun = TOGETHER;
        while let Some(done) = open.next().await {
            done?;
            if begun < MANY {
                open.push(self.go(client));
                begun += 1;
            }
        }
        Ok(Figures {
            p50_ms: samples[ALONE / 2],
            p99_ms: samples[ALONE * 99 / 100],
            flows_per_s: MANY as f64 / began.elapsed().as_secs_f64(),
            resident_mb: resident_mb(pid)?,
        })
    }
}

/// From `/proc/PID/status`, in kilobytes there (proc(5)).
fn resident_mb(pid: u32) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: f64 = line.split_whitespace().next().ok_or("no VmRSS")?.parse()?;
    Ok(kilobytes / 1024.0)
}
