//! That a host was not reached, or that its answer was lost: what failed on the way, and what would help.

use bellhop_slack::client::network::{Cause, Fault, Phase, innermost};
use reqwest::Url;

use super::output::Failure;
use crate::serve::PATH;

/// The end of a request to the host that people call `named`, at `base`.
pub(super) fn failure(error: &reqwest::Error, named: &str, base: &Url) -> Failure {
    // A socket in the file system has no name that anybody looks up, and nothing of a network.
    let fault = (!named.starts_with(PATH)).then(|| Fault::of(error, base, None));
    let said = fault.as_ref().map_or_else(|| innermost(error), ToString::to_string);
    if error.is_connect() {
        let help = fault.as_ref().map_or_else(|| START.to_owned(), |fault| remedy(fault, base));
        return Failure::unreachable(format!("no host answers at {named}: {said}")).with_help(help);
    }
    let help = match fault.map(|fault| fault.cause) {
        Some(Cause::NotHttp(_)) if base.scheme() == "http" => "see whether it is to be named by https://",
        _ => "look whether it was done before you send it again",
    };
    Failure::answer_lost(format!("the answer of {named} was lost: {said}")).with_help(help)
}

const START: &str = "start one with `bellhop serve`, or say where it is by BELLHOP_URL";

/// What would help a verb that asks a host. It takes no proxy.
fn remedy(fault: &Fault, base: &Url) -> String {
    match &fault.cause {
        Cause::Name(_) => "see whether --url, or BELLHOP_URL, names the right machine".to_owned(),
        Cause::Refused => START.to_owned(),
        Cause::Unreachable(_) | Cause::TimedOut(Phase::Connect) => {
            "see whether --url, or BELLHOP_URL, names the right machine, and whether a firewall is in the way"
                .to_owned()
        }
        Cause::Tls(_) if base.scheme() == "https" => {
            "see whether it is to be named by http://, as a host without a proxy before it is".to_owned()
        }
        _ => fault.remedy(),
    }
}
