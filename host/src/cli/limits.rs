//! `bellhop config`: what is in force, and why.

use serde_json::{Map, Value, json};

use super::Context;
use super::output::{Exit, Failure, plain};
use super::proxy;
use super::settings::LogFormat;
use crate::serve::here::{self, Here};
use bellhop_limits::Limits;

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let settings = &context.settings;
    let file = settings.file.as_ref().map(|f| f.display().to_string());
    let log_format = match settings.log_format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let shown = [
        ("data_dir", settings.data_dir.display().to_string()),
        ("listen", settings.listen.to_string()),
        ("url", settings.url.clone()),
        ("slack_url", settings.slack_url.clone()),
        ("log", settings.log.clone()),
        ("log_format", log_format.to_owned()),
    ];
    let trusted: Vec<String> = settings.trusted_proxies.iter().map(ToString::to_string).collect();
    let proxy = settings.proxy().map(|setting| match setting {
        proxy::Setting::None => "none".to_owned(),
        proxy::Setting::At(proxy) => proxy.shown(),
    });
    let ca_file = settings.ca_file().map(|path| path.display().to_string());
    let public_url = settings.public_url.as_ref().map(ToString::to_string);
    let traces = settings.traces();
    let metrics = settings.metrics_listen.map(|address| address.to_string());
    let log_file = settings.log_file().map(|path| path.display().to_string());
    let here = here::come_to(&settings.limits);
    let text = || {
        let mut text = match &file {
            Some(file) => format!("# read from {}\n", plain(file)),
            None => "# no bellhop.toml: these are the defaults\n".to_owned(),
        };
        for (name, value) in &shown {
            text.push_str(&format!("{name} = {}\n", Value::from(value.as_str())));
        }
        if let Some(address) = &metrics {
            text.push_str(&format!("metrics_listen = {}\n", json!(address)));
        }
        if let Some(proxy) = &proxy {
            text.push_str(&format!("proxy = {}\n", json!(proxy)));
        }
        if let Some(path) = &ca_file {
            text.push_str(&format!("ca_file = {}\n", json!(path)));
        }
        if let Some(path) = &log_file {
            text.push_str(&format!("log_file = {}\n", json!(path)));
        }
        if let Some(url) = &public_url {
            text.push_str(&format!("public_url = {}\n", json!(url)));
        }
        text.push_str(&format!("trusted_proxies = {}\n", json!(trusted)));
        if let Some(endpoint) = &traces {
            text.push_str(&format!("\n[traces]\nendpoint = {}\n", json!(endpoint)));
        }
        text.push_str("\n[limits]\n");
        text.push_str(&limits_text(&settings.limits, &here));
        text
    };
    let limits = limits_json(&settings.limits, &here);
    let mut settings: Map<String, Value> =
        shown.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    settings.insert("metrics_listen".to_owned(), json!(metrics));
    settings.insert("log_file".to_owned(), json!(log_file));
    settings.insert("ca_file".to_owned(), json!(ca_file));
    settings.insert("proxy".to_owned(), json!(proxy));
    settings.insert("public_url".to_owned(), json!(public_url));
    settings.insert("traces".to_owned(), json!({ "endpoint": traces }));
    settings.insert("trusted_proxies".to_owned(), json!(trusted));
    context.out.answer(text, &json!({ "file": file, "settings": settings, "limits": limits }));
    Ok(Exit::Done)
}

/// What a line comes to here, where that is another value.
fn here_of<'h>(here: &'h [Here], name: &str) -> Option<&'h Here> {
    here.iter().find(|line| line.name == name)
}

fn limits_text(limits: &Limits, here: &[Here]) -> String {
    let mut text = String::new();
    for line in Limits::TABLE {
        let value = limits.get(line.name).unwrap_or(line.default);
        let changed = if value == line.default { String::new() } else { format!(", unless set {}", line.default) };
        text.push_str(&format!("# {} (at most {}{changed})\n", line.why, line.cap));
        if let Some(here) = here_of(here, line.name) {
            text.push_str(&format!("# here {}: {}\n", here.value, here.follows_from));
        }
        text.push_str(&format!("{} = {value}\n", line.name));
    }
    text
}

fn limits_json(limits: &Limits, here: &[Here]) -> Vec<Value> {
    let shown = |line: &bellhop_limits::Line| {
        let value = limits.get(line.name);
        let mut shown =
            json!({ "name": line.name, "value": value, "default": line.default, "cap": line.cap, "why": line.why });
        if let Some(here) = here_of(here, line.name) {
            shown["here"] = json!({ "value": here.value, "follows_from": here.follows_from });
        }
        shown
    };
    Limits::TABLE.iter().map(shown).collect()
}
