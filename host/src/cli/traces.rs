//! Where spans go: to the collector of `[traces]` in the configuration, or to that of the usual variables of
//! OpenTelemetry, which count more. Without either there are none.

use std::time::Duration;

use bellhop_core::diagnostic::nearest;
use reqwest::Url;

use super::output::Failure;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const COMPRESSIONS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const DISABLED: &str = "OTEL_SDK_DISABLED";

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];
/// The one that is spoken.
const PROTOCOL: &str = "http/protobuf";
/// What is put behind an address without a path.
const PATH: &str = "v1/traces";
/// As the standard has it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What an address is, for whoever wrote something else.
pub(super) const FORMS: &str =
    "an address of a collector such as `http://127.0.0.1:4318`, which is spoken to over HTTP";

/// Where spans go, and how long one request may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) endpoint: Url,
    pub(super) timeout: Duration,
    /// Only the file says so.
    pub(super) by_file: bool,
}

/// Reads an address.
pub(super) fn parse(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim()).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.host_str().is_some()).then_some(url)
}

/// An address of all that a collector takes, with the place for spans.
fn with_path(mut url: Url) -> Url {
    let path = format!("{}/{PATH}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

/// Where spans go, by the setting and the variables; none where they are kept nowhere.
///
/// # Errors
/// A variable says something that cannot be done.
pub(super) fn in_force(
    setting: Option<&Url>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Sent>, Failure> {
    let said = |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, said(name)?)));
    let wrong = |name: &str, what: String, help: &str| {
        Failure::usage(format!("the variable {name} {what}")).with_help(help.to_owned())
    };
    let address = |name: &str, text: &str| {
        let help = "set it to an address such as http://127.0.0.1:4318, or unset it";
        parse(text).ok_or_else(|| wrong(name, "names no address that is spoken to over http or https".to_owned(), help))
    };
    if said(DISABLED).is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let (endpoint, by_file) = match (said(TRACES_ENDPOINT), said(ENDPOINT), setting) {
        (Some(text), _, _) => (address(TRACES_ENDPOINT, &text)?, false),
        (None, Some(text), _) => (with_path(address(ENDPOINT, &text)?), false),
        (None, None, Some(url)) if matches!(url.path(), "" | "/") => (with_path(url.clone()), true),
        (None, None, Some(url)) => (url.clone(), true),
        (None, None, None) => return Ok(None),
    };
    match said(EXPORTER).as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(None),
        Some(other) => {
            return Err(wrong(EXPORTER, format!("says `{other}`"), "spans go by `otlp`, or nowhere, by `none`"));
        }
    }
    if let Some((name, text)) = first(PROTOCOLS).filter(|(_, text)| text != PROTOCOL) {
        let help = "set it to http/protobuf, for which collectors listen on port 4318, or unset it";
        return Err(wrong(name, format!("says `{text}`, and spans are sent by `{PROTOCOL}`"), help));
    }
    if let Some((name, text)) = first(COMPRESSIONS).filter(|(_, text)| text != "none") {
        return Err(wrong(name, format!("says `{text}`, and spans are sent as they are"), "unset it"));
    }
    if let Some(text) = said(SAMPLER).filter(|text| !SAMPLERS.contains(&text.as_str())) {
        let help = match nearest(&text, SAMPLERS) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it is one of {}", SAMPLERS.join(", ")),
        };
        return Err(wrong(SAMPLER, format!("names no sampler: `{text}`"), &help));
    }
    let is_share = |text: &str| text.parse::<f64>().is_ok_and(|share| (0.0..=1.0).contains(&share));
    if said(SAMPLER).is_some_and(|text| text.ends_with("traceidratio"))
        && let Some(text) = said(SAMPLER_ARGUMENT).filter(|text| !is_share(text))
    {
        return Err(wrong(SAMPLER_ARGUMENT, format!("is no share: `{text}`"), "set it to a number from 0 to 1"));
    }
    let timeout = match first(TIMEOUTS) {
        None => TIMEOUT,
        Some((name, text)) => match text.parse() {
            Ok(0) | Err(_) => {
                return Err(wrong(name, format!("is no time: `{text}`"), "set it to a number of milliseconds"));
            }
            Ok(millis) => Duration::from_millis(millis),
        },
    };
    Ok(Some(Sent { endpoint, timeout, by_file }))
}

/// An address without what only its users know.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _has_none = url.set_username("").and_then(|()| url.set_password(None));
    url.set_query(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(setting: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<(String, u64)>, String> {
        let setting = setting.map(|text| parse(text).unwrap());
        let variable =
            |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map(|(_, text)| (*text).to_owned());
        let found = in_force(setting.as_ref(), variable).map_err(|failure| failure.message)?;
        Ok(found.map(|sent| (sent.endpoint.to_string(), u64::try_from(sent.timeout.as_millis()).unwrap())))
    }

    #[test]
    fn spans_go_where_the_setting_or_the_usual_variables_say() {
        let to = |url: &str| Ok(Some((url.to_owned(), 10_000)));
        assert_eq!(sent(None, &[]), Ok(None));
        assert_eq!(sent(Some("http://127.0.0.1:4318"), &[]), to("http://127.0.0.1:4318/v1/traces"));
        assert_eq!(sent(Some("http://127.0.0.1:4318/here"), &[]), to("http://127.0.0.1:4318/here"));
        let all = (ENDPOINT, "http://all:4318/otlp/");
        assert_eq!(sent(Some("http://file:4318"), &[all]), to("http://all:4318/otlp/v1/traces"));
        assert_eq!(sent(None, &[all, (TRACES_ENDPOINT, "https://own/spans")]), to("https://own/spans"));
        assert_eq!(sent(None, &[all, (DISABLED, "TRUE")]), Ok(None));
        assert_eq!(sent(None, &[all, (EXPORTER, "none")]), Ok(None));
        assert_eq!(sent(None, &[(SAMPLER, "no such thing")]), Ok(None));
        let slow = sent(None, &[all, (TIMEOUTS[1], "250")]).unwrap().unwrap();
        assert_eq!(slow.1, 250);
    }

    #[test]
    fn a_variable_that_says_what_cannot_be_done_is_named() {
        let all = (ENDPOINT, "http://all:4318");
        for (name, text, what) in [
            (TRACES_ENDPOINT, "collector:4317", "names no address"),
            (PROTOCOLS[1], "grpc", "http/protobuf"),
            (COMPRESSIONS[0], "gzip", "as they are"),
            (EXPORTER, "zipkin", "zipkin"),
            (SAMPLER, "always_onn", "names no sampler"),
            (TIMEOUTS[0], "10s", "is no time"),
        ] {
            let wrong = sent(None, &[all, (name, text)]).unwrap_err();
            assert!(wrong.contains(name) && wrong.contains(what), "{wrong}");
        }
        let share = [all, (SAMPLER, "parentbased_traceidratio"), (SAMPLER_ARGUMENT, "20%")];
        assert!(sent(None, &share).unwrap_err().contains("20%"));
    }

    #[test]
    fn what_only_users_of_a_collector_know_is_not_shown() {
        assert_eq!(shown(&parse("https://user:secret@c/v1/traces?key=secret").unwrap()), "https://c/v1/traces");
    }
}
