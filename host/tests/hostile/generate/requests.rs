//! Requests that no client sends: every route, with odd methods, addresses, headers and bodies.

use serde_json::{Value, json};

use super::{Kind, case, ends, steps};
use crate::bellhop::dice::Dice;
use crate::case::{Case, Step};

/// Routes by what they are about; `RUN` is no run that there is.
const ROUTES: &[(&str, &[(&str, &str)])] = &[
    (
        "starts",
        &[
            ("POST", "/v1/workflows/hostile-others/one/runs"),
            ("POST", "/v1/workflows/a/b/runs"),
            ("POST", "/v1/actions/user.lookup:1@slack/runs"),
            ("POST", "/v1/actions/no:1@none/runs"),
        ],
    ),
    ("runs", &[("GET", "/v1/runs"), ("GET", "/v1/runs/RUN"), ("GET", "/v1/runs/RUN/events")]),
    (
        "orders",
        &[
            ("POST", "/v1/runs/RUN/cancel"),
            ("POST", "/v1/runs/RUN/suspend"),
            ("POST", "/v1/runs/RUN/resume"),
            ("POST", "/v1/runs/RUN/resolve"),
            ("POST", "/v1/runs/RUN/retry"),
            ("POST", "/v1/runs/RUN/undo"),
        ],
    ),
    (
        "definitions",
        &[
            ("GET", "/v1/workflows"),
            ("PUT", "/v1/workflows/hostile/odd"),
            ("GET", "/v1/workflows/hostile-others/one"),
            ("PUT", "/v1/workflows/hostile-others/one/bindings"),
            ("GET", "/v1/workflows/hostile-others/one/bindings"),
            ("POST", "/v1/check"),
        ],
    ),
    ("tables", &[("GET", "/v1/tables"), ("PUT", "/v1/tables/odd"), ("GET", "/v1/tables/odd")]),
    (
        "connections",
        &[
            ("POST", "/v1/connections"),
            ("GET", "/v1/connections"),
            ("GET", "/v1/connections/plus"),
            ("POST", "/v1/connections/none/test"),
            ("DELETE", "/v1/connections/none"),
        ],
    ),
    ("plugins", &[("POST", "/v1/plugins"), ("GET", "/v1/plugins"), ("GET", "/v1/actions")]),
    ("tokens", &[("POST", "/v1/tokens"), ("GET", "/v1/tokens"), ("DELETE", "/v1/tokens/none")]),
    (
        "outside",
        &[
            ("GET", "/"),
            ("GET", "/v1"),
            ("GET", "/healthz"),
            ("GET", "/readyz"),
            ("GET", "/metrics"),
            ("GET", "/openapi.json"),
        ],
    ),
];

fn step(method: &str, path: impl Into<Value>, body: impl Into<Value>) -> Step {
    Step::Send {
        method: method.to_owned(),
        path: path.into(),
        body: body.into(),
        kind: None,
        headers: vec![],
        token: None,
        times: 1,
        together: false,
        is: ends(&["documented"]),
        keep: Default::default(),
        shows: Default::default(),
        absent: vec![],
        lacks: vec![],
    }
}

fn with_headers(mut step: Step, more: Vec<(String, Value)>) -> Step {
    if let Step::Send { headers, .. } = &mut step {
        *headers = more;
    }
    step
}

fn with_kind(mut step: Step, of: &str) -> Step {
    if let Step::Send { kind, .. } = &mut step {
        *kind = Some(of.to_owned());
    }
    step
}

fn raw(text: impl Into<Value>) -> Step {
    Step::Raw { bytes: text.into(), is: ends(&["documented", "closed"]) }
}

type Mutator = (&'static str, fn(&mut Dice, &str, &str) -> Step);

const MUTATORS: &[Mutator] = &[
    ("deep-body", |dice, method, path| {
        let depth = dice.between(60, 100_000);
        step(
            method,
            path,
            json!({ "join": ["{\"input\":", { "repeat": "[", "times": depth }, { "repeat": "]", "times": depth }, "}"] }),
        )
    }),
    ("open-body", |dice, method, path| {
        step(method, path, json!({ "repeat": "{\"a\":[", "times": dice.between(1, 80_000) }))
    }),
    ("large-body", |dice, method, path| {
        let bytes = *dice.one(&[1_000_000_u64, 1_048_576, 1_048_577, 3_000_000, 17_000_000]);
        step(method, path, json!({ "repeat": " ", "times": bytes }))
    }),
    ("odd-json", |dice, method, path| {
        let text = *dice.one(&[
            "null",
            "[]",
            "1",
            "\"x\"",
            "true",
            "{}",
            "{\"input\":null}",
            "{\"input\":{},\"input\":{}}",
            "{\"input\":1e400}",
            "{\"input\":{},\"x\":1}",
            "{\"input\":\"\\ud800\"}",
            "\u{feff}{}",
            "{}{}",
            "{\"input\":{}}\u{0}",
        ]);
        step(method, path, text)
    }),
    ("odd-fields", |dice, method, path| {
        let name = *dice.one(&[
            "name",
            "kind",
            "scopes",
            "labels",
            "connections",
            "version",
            "columns",
            "rows",
            "tokens",
            "answer",
            "done",
            "expiresIn",
            "file",
            "grants",
        ]);
        let value =
            dice.one(&["null", "[]", "{}", "-1", "1.5", "\"\\u0000\"", "[[[]]]", "99999999999999999999", "true"]);
        step(method, path, format!("{{\"input\":{{}},\"{name}\":{value}}}"))
    }),
    ("odd-type", |dice, method, path| {
        let kind = *dice.one(&[
            "text/plain",
            "application/xml",
            "application/json; charset=utf-16",
            "multipart/form-data; boundary=x",
            "",
            "x",
            "application/wasm",
            "application/yaml",
        ]);
        with_kind(step(method, path, "{\"input\":{}}"), kind)
    }),
    ("odd-method", |dice, _, path| {
        let method =
            *dice.one(&["PATCH", "TRACE", "OPTIONS", "HEAD", "CONNECT", "get", "G", "PROPFIND", "DELETE", "PUT"]);
        with_kind(step(method, path, ""), "")
    }),
    ("odd-path", |dice, method, path| {
        let end = *dice.one(&[
            "/",
            "//",
            "/..",
            "/../..",
            "/%2e%2e/%2e%2e",
            "%00",
            "%2f",
            ";x=1",
            "/%ff",
            "\\",
            "/%E2%80%AE",
            "?",
            "?a=b&a=c",
            "#x",
        ]);
        step(method, format!("{path}{end}"), Value::Null)
    }),
    ("long-path", |dice, method, path| {
        step(method, json!({ "join": [path, "/", { "repeat": "x", "times": dice.between(100, 60_000) }] }), Value::Null)
    }),
    ("odd-parameters", |dice, method, path| {
        let text = *dice.one(&[
            "wait=-1s",
            "wait=99999d",
            "limit=0",
            "limit=-1",
            "limit=99999999999",
            "cursor=x",
            "cursor=%00",
            "after=99999999999999999999",
            "status=none",
            "label=a",
            "label==",
            "replace=maybe",
            "grant=*",
            "grant=chat.postMessage:x=*",
            "strict=2",
            "version=9.9.9",
            "onRefusal=x",
            "dryRun=true",
            "x=1",
        ]);
        step(method, format!("{path}?{text}"), Value::Null)
    }),
    ("many-parameters", |dice, method, path| {
        step(
            method,
            json!({ "join": [path, "?", { "repeat": "label=k{n}=v&", "times": dice.between(10, 1_200) }, "z=1"] }),
            Value::Null,
        )
    }),
    ("many-headers", |dice, method, path| {
        let count = dice.between(1, 200);
        with_headers(step(method, path, Value::Null), (0..count).map(|n| (format!("X-Odd-{n}"), json!("v"))).collect())
    }),
    ("long-header", |dice, method, path| {
        let length = dice.between(10, 200_000);
        with_headers(
            step(method, path, Value::Null),
            vec![("X-Odd".to_owned(), json!({ "repeat": "v", "times": length }))],
        )
    }),
    ("odd-headers", |dice, method, path| {
        let (name, value) = *dice.one(&[
            ("Idempotency-Key", ""),
            ("Idempotency-Key", "\u{e9}"),
            ("If-Match", "*"),
            ("If-Match", "\"x\""),
            ("If-None-Match", "*"),
            ("Last-Event-ID", "-1"),
            ("Last-Event-ID", "99999999999999999999"),
            ("Accept", "text/html"),
            ("Accept", "image/*;q=0"),
            ("Content-Encoding", "gzip"),
            ("Expect", "100-continue"),
            ("Range", "bytes=0-"),
            ("X-Forwarded-For", "127.0.0.1"),
            ("Host", "evil.example"),
            ("Upgrade", "websocket"),
            ("Origin", "null"),
        ]);
        with_headers(step(method, path, Value::Null), vec![(name.to_owned(), json!(value))])
    }),
    ("bad-token", |dice, method, path| {
        let token = *dice.one(&["bh_", "x", "bh_00000000000000000000000000", "operator", "%00", "Bearer"]);
        match step(method, path, Value::Null) {
            Step::Send { method, path, body, kind, headers, times, together, keep, shows, absent, lacks, .. } => {
                Step::Send {
                    method,
                    path,
                    body,
                    kind,
                    headers,
                    token: Some(token.to_owned()),
                    times,
                    together,
                    is: ends(&["401 documented", "2xx", "403 documented", "404 documented"]),
                    keep,
                    shows,
                    absent,
                    lacks,
                }
            }
            other => other,
        }
    }),
    ("raw", |dice, method, path| {
        let text = dice.one(&[
            "{M} {P} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "{M} {P} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
            "{M} {P} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            "{M} {P} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "{M} {P} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
            "{M} {P} HTTP/1.1\r\n\r\n",
            "{M} {P} HTTP/9.9\r\nHost: x\r\n\r\n",
            "{M} {P}\r\n\r\n",
            "{M}  {P}  HTTP/1.1\r\nHost: x\r\n\r\n",
            "{M} http://evil.example{P} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "{M} {P} HTTP/1.1\r\nHost: x\r\nA: b\r\n c: d\r\n\r\n",
            "{M} {P} HTTP/1.1\r\nHost: x\r\n: v\r\n\r\n",
            "{M} {P} HTTP/1.0\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\u{16}\u{3}\u{1}\u{0}\u{5}hello\r\n\r\n",
            "\r\n\r\n\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        ]);
        raw(text.replace("{M}", method).replace("{P}", path))
    }),
];

/// Each mutator on each group of routes, and what is about keys.
pub(super) fn kinds() -> Vec<Kind> {
    let mut all = Vec::new();
    for round in 0..MUTATORS.len() {
        for (number, (group, routes)) in ROUTES.iter().enumerate() {
            let (name, make) = MUTATORS[(round + number) % MUTATORS.len()];
            all.push(Kind::new(format!("request/{name}/{group}"), move |dice| {
                let (method, path) = *dice.one(routes);
                steps(format!("{name} on a route about {group}"), vec![make(dice, method, path)])
            }));
        }
    }
    all.extend(keys());
    all
}

const START: &str = "/v1/workflows/hostile-others/one/runs";

fn keyed(key: Value, body: &str, times: usize, is: &[&str]) -> Step {
    Step::Send {
        method: "POST".to_owned(),
        path: json!(START),
        body: json!(body),
        kind: None,
        headers: vec![("Idempotency-Key".to_owned(), key)],
        token: None,
        times,
        together: true,
        is: ends(is),
        keep: Default::default(),
        shows: Default::default(),
        absent: vec![],
        lacks: vec![],
    }
}

fn keys() -> Vec<Kind> {
    vec![
        Kind::new("key/at-once", |dice| {
            let key = json!(format!("k{}", dice.between(0, u64::MAX - 1)));
            let times = usize::try_from(dice.between(2, 50)).unwrap_or(2);
            let other = keyed(key.clone(), "{\"input\":{\"other\":1}}", 2, &["422 idempotency-key-reused"]);
            Case { ..steps("one key at once and again", vec![keyed(key, "{\"input\":{}}", times, &["2xx"]), other]) }
        }),
        Kind::new("key/long", |dice| {
            let length = dice.between(1, 600);
            let is: &[&str] = if length > 255 { &["400 documented"] } else { &["2xx", "422 documented"] };
            Case {
                ..steps("a long key", vec![keyed(json!({ "repeat": "k", "times": length }), "{\"input\":{}}", 1, is)])
            }
        }),
        Kind::new("key/many", |dice| {
            let many = dice.between(10, 200);
            let step = (0..3)
                .map(|_| {
                    keyed(
                        json!(format!("m{}-#{{n}}", dice.between(0, 1 << 40))),
                        "{\"input\":{}}",
                        usize::try_from(many).unwrap_or(10),
                        &["2xx"],
                    )
                })
                .collect();
            Case { ..case_of("many keys", step) }
        }),
    ]
}

fn case_of(tries: &str, step: Vec<Step>) -> Case {
    Case { step, ..case(tries) }
}
