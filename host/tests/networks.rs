//! Faults of a network, as whoever types a verb and whoever runs a host hear of them; and where a host listens.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::net::TcpListener;

use bellhop::tls::{self, closed, saying, server};
use bellhop::{Done, Place};

const RUNS: &str = r#"{"result":[],"next_cursor":null}"#;

fn last_word(line: &str) -> String {
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// Lists the runs of the host at `url`.
fn list(place: &Place, url: &str, environment: &[(&str, &str)]) -> Done {
    let all = [&[("BELLHOP_TOKEN", "bh_1")][..], environment].concat();
    place.run_with(&["runs", "list", "--url", url], &all)
}

fn says(done: &Done, code: i32, words: &[&str]) {
    assert_eq!(done.code, code, "{}{}", done.stdout, done.stderr);
    for word in words {
        assert!(done.stderr.contains(word), "{word}: {}", done.stderr);
    }
}

#[test]
fn surroundings_s10_a_verb_says_why_it_does_not_believe_a_host() {
    let place = Place::new();
    let at = |pair| format!("https://localhost:{}", server(pair, RUNS));
    let good = at(tls::GOOD);
    let unknown = ["no host answers at https://localhost:", "certificate of localhost:", "`ca_file`", "SSL_CERT_FILE"];
    says(&list(&place, &good, &[]), 5, &unknown);
    place.write("ca.pem", std::str::from_utf8(tls::CA).unwrap());
    let ca = place.path("ca.pem");
    says(&list(&place, &good, &[("SSL_CERT_FILE", &ca)]), 0, &[]);
    place.write("here.toml", "ca_file = \"ca.pem\"\n");
    let listed =
        place.run_with(&["runs", "list", "--url", &good, "--config", "here.toml"], &[("BELLHOP_TOKEN", "bh_1")]);
    says(&listed, 0, &[]);
    let trusting = [("SSL_CERT_FILE", ca.as_str())];
    says(&list(&place, &at(tls::EXPIRED), &trusting), 5, &["it has ended", "clock"]);
    says(&list(&place, &at(tls::OTHER), &trusting), 5, &["it is of another name"]);
}

#[test]
fn surroundings_s8_a_verb_says_what_failed_on_the_way_to_a_host() {
    let place = Place::new();
    let nobody = closed();
    let refused = format!("nobody listens at 127.0.0.1:{nobody}");
    says(&list(&place, &format!("http://127.0.0.1:{nobody}"), &[]), 5, &[&refused, "bellhop serve"]);
    let name = "the name of no-such-host.invalid:443 has no address";
    says(&list(&place, "https://no-such-host.invalid", &[]), 5, &[name, "BELLHOP_URL"]);
    let plain = saying(b"HTTP/1.1 400 no\r\n\r\n");
    says(&list(&place, &format!("https://localhost:{plain}"), &[]), 5, &["no TLS with localhost:", "by http://"]);
    let encrypted = saying(b"\x15\x03\x03\x00\x02\x02\x46\r\n\r\n");
    says(&list(&place, &format!("http://localhost:{encrypted}"), &[]), 5, &["does not speak HTTP", "by https://"]);
    let cut = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{");
    says(&list(&place, &format!("http://localhost:{cut}"), &[]), 5, &["was cut before the answer was whole"]);
    // No proxy is on the way to a host, whatever the variables say.
    let proxied = list(&place, &format!("http://127.0.0.1:{nobody}"), &[("HTTP_PROXY", "http://127.0.0.1:1")]);
    says(&proxied, 5, &[&refused]);
}

#[test]
fn surroundings_s8_a_host_blames_the_network_and_not_the_connection() {
    let place = Place::new();
    let slack = format!("https://localhost:{}", server(tls::GOOD, "{}"));
    let serve = ["serve", "--listen", "127.0.0.1:0", "--slack-url", &slack, "--data-dir", "data"];
    let variables = [("BELLHOP_CONNECTION_ACME_KIND", "workspace"), ("BELLHOP_CONNECTION_ACME_BOT_TOKEN", "xoxb-1")];
    let mut host = place.start_with(&serve, &variables);
    let broken = host.line();
    for word in ["`acme` is broken", "certificate of localhost:", "`ca_file`", "ask whoever runs"] {
        assert!(broken.contains(word), "{word}: {broken}");
    }
    assert!(!broken.contains("BELLHOP_CONNECTION"), "{broken}");
    let (token, url) = (last_word(&host.line()), last_word(&host.line()));
    let environment = [("BELLHOP_TOKEN", token.as_str()), ("BELLHOP_CONNECTION_HQ_BOT_TOKEN", "xoxb-2")];
    let connect = ["connect", "slack", "--kind", "workspace", "--name", "hq", "--url", &url];
    says(&place.run_with(&connect, &environment), 1, &["slack-unavailable", "certificate of localhost:", "`ca_file`"]);
}

#[test]
fn surroundings_s7_a_host_listens_by_ipv6_and_is_found_there() {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    for listen in ["[::1]:0", "[::]:0"] {
        let place = Place::new();
        let data = ["--slack-url", "http://127.0.0.1:1", "--data-dir", "data"];
        let mut host = place.start(&[&["serve", "--listen", listen][..], &data].concat());
        let (token, url) = (last_word(&host.line()), last_word(&host.line()));
        assert!(url.starts_with(&listen.replace(":0", ":").replacen('[', "http://[", 1)), "{listen}: {url}");
        // By the address that it says, and by the configuration that it was started with.
        says(&place.run_with(&["runs", "list", "--url", &url], &[("BELLHOP_TOKEN", &token)]), 0, &[]);
        let address = url.trim_start_matches("http://");
        place.write("bellhop.toml", &format!("listen = \"{address}\"\n"));
        says(&place.run_with(&["runs", "list"], &[("BELLHOP_TOKEN", &token)]), 0, &[]);
        let port = last_word(&address.replace(':', " "));
        let by_v4 = place
            .run_with(&["runs", "list", "--url", &format!("http://127.0.0.1:{port}")], &[("BELLHOP_TOKEN", &token)]);
        assert_eq!(by_v4.code == 0, listen == "[::]:0", "{}", by_v4.stderr);
    }
}

#[test]
fn surroundings_s7_a_port_that_is_taken_says_by_whom() {
    let place = Place::new();
    let data = ["--slack-url", "http://127.0.0.1:1", "--data-dir"];
    let mut first = place.start(&[&["serve", "--listen", "127.0.0.1:0"][..], &data, &["one"]].concat());
    first.line();
    let address = last_word(&first.line()).replace("http://", "");
    let second = place.run(&[&["serve", "--listen", &address][..], &data, &["two"]].concat());
    let by = format!("process {} (bellhop)", first.pid());
    says(&second, 1, &["cannot listen on", &by, "--listen"]);
    let port = last_word(&address.replace(':', " "));
    let everywhere = place.run(&[&["serve", "--listen", &format!(":{port}")][..], &data, &["two"]].concat());
    says(&everywhere, 1, &[&by]);
}
