//! `bellhop clock`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Context;
use super::browse::text;
use super::http::Client;
use super::output::{Exit, Failure};

/// `bellhop clock`
#[derive(Debug, Args)]
pub(super) struct Clock {
    #[command(subcommand)]
    order: Option<Order>,
}

/// What to do with it.
#[derive(Debug, Subcommand)]
enum Order {
    /// Say that the clock of the host's machine is right: what was held back while it was doubted goes on
    Confirm,
}

pub(super) fn run(wanted: &Clock, context: &Context) -> Result<Exit, Failure> {
    let client = Client::new(context)?;
    let answer = match wanted.order {
        None => client.get("/v1/clock")?.body,
        Some(Order::Confirm) => client.send("POST", "/v1/clock/confirm", &json!({}))?.body,
    };
    context.out.answer(|| shown(&answer), &answer);
    Ok(Exit::Done)
}

/// How it stands, in lines.
fn shown(answer: &Value) -> String {
    let mut lines = format!("the host's clock shows {}\n", text(answer, "time"));
    if answer["doubted"] != true {
        lines.push_str(match answer["wasDoubted"].as_bool() {
            Some(true) => "confirmed: it is doubted no more\n",
            Some(false) => "it was not doubted\n",
            None => "it is not doubted\n",
        });
        return lines;
    }
    lines.push_str(&format!("the newest known time is {}\n", text(answer, "newestKnown")));
    if answer["slackTime"].is_string() {
        lines.push_str(&format!("Slack's clock showed {}\n", text(answer, "slackTime")));
    }
    lines.push_str(&format!("it is doubted: {}\n", text(answer, "why")));
    lines.push_str("set the machine's clock; where it is right, say so: bellhop clock confirm\n");
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_is_shown_with_its_times_and_what_ends_it() {
        let time = "2026-01-05T08:00:00.000Z";
        let doubted = json!({
            "time": time, "newestKnown": "2026-01-03T08:00:00.000Z", "doubted": true, "why": "it was set ahead",
            "slackTime": "2026-01-03T08:00:01.000Z",
        });
        let text = shown(&doubted);
        for part in [time, "2026-01-03T08:00:00.000Z", "2026-01-03T08:00:01.000Z", "set ahead", "bellhop clock confirm"]
        {
            assert!(text.contains(part), "{text}");
        }
        let confirmed = json!({ "time": time, "newestKnown": time, "doubted": false, "wasDoubted": true });
        assert!(shown(&confirmed).ends_with("confirmed: it is doubted no more\n"));
    }
}
