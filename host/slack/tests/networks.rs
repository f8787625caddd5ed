//! Faults of a network, made by real sockets: each says what failed, where, and whom to ask, and keeps its class.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

#[path = "../../tests/bellhop/tls.rs"]
mod tls;

use std::net::TcpListener;

use bellhop_slack::catalog::Catalog;
use bellhop_slack::client::network::{Cause, Certificate, Fault, Phase};
use bellhop_slack::client::{Client, Failure, NotSent, Options, Proxy, Secret, Unknown, certificates};
use serde_json::json;

use tls::{closed, saying, server};

fn options(url: &str) -> Options {
    Options { base_url: url.to_owned(), clear_text: true, ..Options::default() }
}

/// That believes who signs the certificates of the tests.
fn believing(url: &str) -> Options {
    Options { certificates: certificates::read(tls::CA).unwrap(), ..options(url) }
}

fn through(proxy: u16) -> Options {
    let url = Secret::new(format!("http://user:secret@127.0.0.1:{proxy}"));
    Options { proxy: Some(Proxy { url, except: String::new() }), ..believing("https://slack.invalid") }
}

/// What became of one call: whether it was surely not sent, and what failed.
async fn failed(options: &Options) -> (bool, Fault) {
    let method = Catalog::built_in().by_name("chat.postMessage").unwrap();
    let client = Client::new(options).unwrap();
    match client.send(method, &json!({}), &Secret::new("xoxb-a-test-token".into()), None).await {
        Err(Failure::NotSent { reason: NotSent::Network(fault), retry_after_ms: None }) => (true, *fault),
        Err(Failure::Unknown { reason: Unknown::Network(fault) }) => (false, *fault),
        other => panic!("{other:?}"),
    }
}

/// That the call was surely not sent for `cause`, and that the texts say so.
async fn not_sent(options: &Options, cause: &Cause, words: &[&str]) {
    let (is_not_sent, fault) = failed(options).await;
    assert!(is_not_sent && fault.cause == *cause, "{cause:?}: {fault:?}");
    told(&fault, words);
}

fn told(fault: &Fault, words: &[&str]) {
    let told = format!("{fault}\n{}", fault.remedy());
    for word in words.iter().chain(&["; ask whoever runs "]) {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(!told.contains("secret") && !told.contains("BELLHOP_CONNECTION"), "{told}");
}

#[tokio::test]
async fn surroundings_s8_an_address_that_is_not_there_is_named() {
    let port = closed();
    let place = format!("nobody listens at 127.0.0.1:{port}");
    not_sent(&options(&format!("http://127.0.0.1:{port}")), &Cause::Refused, &[&place, "firewall"]).await;
    let (is_not_sent, fault) = failed(&options("http://no-such-host.invalid")).await;
    assert!(is_not_sent && matches!(fault.cause, Cause::Name(_)), "{fault:?}");
    told(
        &fault,
        &["the name of no-such-host.invalid:80", "getent hosts no-such-host.invalid", "resolver", "HTTPS_PROXY"],
    );
}

#[tokio::test]
async fn surroundings_s10_a_certificate_that_is_not_believed_says_why() {
    let body = r#"{"ok":true,"ts":"1","channel":"C1"}"#;
    let at = |pair| format!("https://localhost:{}", server(pair, body));
    let good = at(tls::GOOD);
    let unknown = Cause::Certificate(Certificate::UnknownIssuer);
    not_sent(&options(&good), &unknown, &["certificate of localhost:", "`ca_file`", "SSL_CERT_FILE"]).await;
    let method = Catalog::built_in().by_name("chat.postMessage").unwrap();
    let client = Client::new(&believing(&good)).unwrap();
    assert!(client.send(method, &json!({}), &Secret::new("xoxb-t".into()), None).await.unwrap().ok);
    let expired = Cause::Certificate(Certificate::Expired);
    not_sent(&believing(&at(tls::EXPIRED)), &expired, &["it has ended", "clock"]).await;
    let other = Cause::Certificate(Certificate::OtherName);
    not_sent(&believing(&at(tls::OTHER)), &other, &["it is of another name", "address is right"]).await;
}

#[tokio::test]
async fn surroundings_s8_who_speaks_something_else_is_named() {
    let plain = saying(b"HTTP/1.1 400 no\r\n\r\n");
    let (is_not_sent, fault) = failed(&options(&format!("https://localhost:{plain}"))).await;
    assert!(is_not_sent && matches!(fault.cause, Cause::Tls(_)), "{fault:?}");
    told(&fault, &["no TLS with localhost:", "speaks TLS at that port"]);
    // An alert, as a server of TLS answers a request in plain text.
    let encrypted = saying(b"\x15\x03\x03\x00\x02\x02\x46\r\n\r\n");
    let (is_not_sent, fault) = failed(&options(&format!("http://localhost:{encrypted}"))).await;
    assert!(!is_not_sent && matches!(fault.cause, Cause::NotHttp(_)), "{fault:?}");
    told(&fault, &["does not speak HTTP"]);
}

#[tokio::test]
async fn surroundings_s8_a_proxy_that_does_not_help_is_named() {
    let refusing = closed();
    let place = format!("the proxy 127.0.0.1:{refusing}");
    not_sent(&through(refusing), &Cause::Refused, &[&place, "names the right proxy", "NO_PROXY"]).await;
    let asking = saying(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n");
    not_sent(&through(asking), &Cause::NotAuthorised, &["(407)", "http://USER:PASSWORD@PROXY:3128"]).await;
    let denying = saying(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    not_sent(&through(denying), &Cause::Denied, &["does not let through to slack.invalid:443"]).await;
    not_sent(&through(saying(b"")), &Cause::Cut, &["the proxy 127.0.0.1:", "was cut"]).await;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let patient = Options { deadline_ms: 400, ..through(silent.local_addr().unwrap().port()) };
    not_sent(&patient, &Cause::TimedOut(Phase::Connect), &["slack.invalid:443 or the proxy 127.0.0.1:"]).await;
    for fault in [failed(&through(refusing)).await.1, failed(&through(denying)).await.1] {
        assert!(fault.is_of_proxy && fault.server == "slack.invalid:443", "{fault:?}");
    }
}

#[tokio::test]
async fn surroundings_s8_what_was_sent_and_not_answered_stays_unknown() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let (is_not_sent, fault) = failed(&Options { deadline_ms: 200, ..options(&url) }).await;
    assert!(!is_not_sent && fault.cause == Cause::TimedOut(Phase::Answer), "{fault:?}");
    told(&fault, &["no whole answer of 127.0.0.1:"]);
    for half in [&b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"ok\""[..], b"HTTP/1.1 200", b""] {
        let (is_not_sent, fault) = failed(&options(&format!("http://127.0.0.1:{}", saying(half)))).await;
        assert!(!is_not_sent && fault.cause == Cause::Cut, "{half:?}: {fault:?}");
        told(&fault, &["was cut before the answer was whole"]);
    }
}
