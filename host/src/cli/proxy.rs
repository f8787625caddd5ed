//! The way out of a network that has one: a proxy through which a host asks Slack.
//!
//! `proxy` in the configuration names it, or says `none`; without that the usual variables do. Nothing on this machine is
//! ever asked through it.

use std::fmt;

use bellhop_slack::client;
use bellhop_slack::client::Secret;
use reqwest::Url;

use super::output::Failure;

/// The variables of which the first that says something counts.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// Where it is not used.
const EXCEPT: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// What a proxy is, for whoever wrote something else.
pub(super) const FORMS: &str = "a proxy such as `http://proxy.example:3128`, or `none`";

/// What the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Setting {
    /// None, whatever the variables say.
    None,
    /// This one.
    At(Proxy),
}

/// An address of a proxy, which may have a password in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy(Url);

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Proxy {
    fn parse(text: &str) -> Option<Self> {
        // As curl takes it, and so everybody writes it.
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&text).ok()?;
        (matches!(url.scheme(), "http" | "https") && url.host_str().is_some()).then_some(Self(url))
    }

    /// Its address without what only its users know.
    pub(crate) fn shown(&self) -> String {
        let mut url = self.0.clone();
        let _has_none = url.set_username("").and_then(|()| url.set_password(None));
        url.to_string()
    }
}

/// Reads the setting.
pub(super) fn parse(text: &str) -> Option<Setting> {
    if text == "none" { Some(Setting::None) } else { Proxy::parse(text).map(Setting::At) }
}

/// The proxy that is in force for what goes to Slack, with what is asked without it.
///
/// # Errors
/// A variable names something that is no proxy.
pub(super) fn in_force(
    setting: Option<&Setting>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<client::Proxy>, Failure> {
    let said = |names: &[&'static str]| {
        names.iter().find_map(|name| variable(name).filter(|text| !text.trim().is_empty()).map(|text| (*name, text)))
    };
    let proxy = match setting {
        Some(Setting::None) => return Ok(None),
        Some(Setting::At(proxy)) => proxy.clone(),
        None => {
            let Some((name, text)) = said(&VARIABLES) else { return Ok(None) };
            Proxy::parse(text.trim()).ok_or_else(|| {
                Failure::usage(format!("the variable {name} names no proxy that is spoken to over http or https"))
                    .with_help("set it to one such as http://proxy.example:3128, or write `proxy = \"none\"` into bellhop.toml")
            })?
        }
    };
    tracing::info!(proxy = proxy.shown(), "Slack is asked through a proxy");
    let except = said(&EXCEPT).map(|(_, text)| text).unwrap_or_default();
    Ok(Some(client::Proxy { url: Secret::new(proxy.0.to_string()), except }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(setting: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<(String, String)>, String> {
        let setting = setting.map(|text| parse(text).unwrap());
        let variable =
            |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map(|(_, text)| (*text).to_owned());
        let found = in_force(setting.as_ref(), variable).map_err(|failure| failure.message)?;
        Ok(found.map(|proxy| (proxy.url.reveal().to_owned(), proxy.except)))
    }

    #[test]
    fn surroundings_s8_a_setting_or_the_usual_variables_name_a_proxy() {
        let at = |text: &str, except: &str| Ok(Some((text.to_owned(), except.to_owned())));
        assert_eq!(url(None, &[]), Ok(None));
        let usual = [("HTTPS_PROXY", "proxy:3128"), ("ALL_PROXY", "http://other:1"), ("NO_PROXY", "a,b")];
        assert_eq!(url(None, &usual), at("http://proxy:3128/", "a,b"));
        assert_eq!(url(None, &[("HTTPS_PROXY", " "), ("all_proxy", "https://other:1")]), at("https://other:1/", ""));
        assert_eq!(url(Some("http://mine:1"), &usual), at("http://mine:1/", "a,b"));
        assert_eq!(url(Some("none"), &usual), Ok(None));
        let wrong = url(None, &[("ALL_PROXY", "socks5://u:secret@other:1")]).unwrap_err();
        assert!(wrong.contains("ALL_PROXY") && !wrong.contains("secret"), "{wrong}");
    }

    #[test]
    fn a_password_of_a_proxy_is_not_shown() {
        let Some(Setting::At(proxy)) = parse("http://user:secret@proxy:3128") else { panic!("no proxy") };
        assert_eq!(proxy.shown(), "http://proxy:3128/");
        assert!(!format!("{proxy:?}").contains("secret"));
    }
}
