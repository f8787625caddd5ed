//! What a definition calls sensitive is nowhere but in what its actions send, and tokens are nowhere at all: a value that
//! nobody would write by chance is given to a run that shows what it can, and everything that the program says is read.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use serde_json::{Value, json};

use bellhop::hosted::Hosted;

/// It needs quoting in JSON: what stands in a text inside of JSON looks otherwise.
const CANARY: &str = "canary-\"7f3a\"-of-the-mine";
const EMAIL: &str = "canary.7f3a@plus.example";
/// What all of them have in common, however they are quoted, cut or cased.
const TRACES: [&str; 3] = ["7f3a", "of-the-mine", "canary."];
const TOKENS: [&str; 2] = ["xoxb-plus", "xoxp-plus-owner"];

/// Posts the value, then fails in as many ways as repeat it.
const WORKFLOW: &str = r#"
document:
  dsl: 1.0.3
  namespace: it
  name: mine
  version: 1.0.0
  metadata:
    bellhop:
      sensitive: [/secret, /person]
      idempotencyKey: .key
      onFault: { notify: { connection: plus, channel: C0PLUSIT } }
input:
  schema:
    document:
      type: object
      required: [secret]
      additionalProperties: false
      properties:
        secret: { type: string, maxLength: 60 }
        key: { type: string }
        person: { type: object, additionalProperties: false, properties: { email: { type: string, format: email } } }
do:
  - send: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: '${ .secret }' } }
  - copy:
      set: { all: '${ $workflow.input }', '${ "x" }': 1, said: '${ "it is \($workflow.input.secret)" }' }
      export: { as: '{($workflow.input.secret): .}' }
  - number:
      try: [{ read: { set: { n: '${ $workflow.input.secret | tonumber }' } } }]
      catch: { as: problem, do: [{ keep: { set: { problem: '${ $problem }' } } }] }
  - find:
      call: user.lookup:1@slack
      with: { connection: plus, email: '${ $workflow.input.person.email }' }
      metadata: { bellhop: { bestEffort: true } }
  - fail:
      raise:
        error:
          type: https://example.com/mine
          status: 500
          title: '${ "\($workflow.input.person.email) has fallen in" }'
          detail: '${ "nobody heard \($workflow.input.secret), \($context | tojson)" }'
"#;

/// Does nothing.
const NOTHING: &str = "\
document: { dsl: 1.0.3, namespace: it, name: nothing, version: 1.0.0 }
do: [{ nothing: { set: { n: '${ .n }' } } }]
";

/// Sleeps, in a group of its own.
const SLEEPS: &str = r#"
document:
  dsl: 1.0.3
  namespace: it
  name: sleeps
  version: 1.0.0
  metadata:
    bellhop: { sensitive: [/secret], concurrency: { group: '${ .secret }', whenFull: reject } }
do:
  - rest: { wait: P1D }
"#;

struct Heard {
    said: Vec<(String, String)>,
}

impl Heard {
    fn take(&mut self, what: &str, text: impl Into<String>) -> String {
        let text = text.into();
        self.said.push((what.to_owned(), text.clone()));
        text
    }

    #[track_caller]
    fn has_none_of(&self, traces: &[&str]) {
        for (what, text) in &self.said {
            let lower = text.to_lowercase();
            for trace in traces {
                if let Some(at) = lower.find(trace) {
                    let from = (0..=at.saturating_sub(200)).rev().find(|i| lower.is_char_boundary(*i)).unwrap_or(0);
                    panic!("{what} has `{trace}`: …{}", lower[from..].chars().take(400).collect::<String>());
                }
            }
        }
    }
}

#[test]
fn nothing_that_is_said_has_what_is_sensitive() {
    let host = Hosted::start("log = \"debug\"\n");
    host.ready();
    host.install_slack();
    let tokens = json!({ "bot": TOKENS[0], "user": TOKENS[1] });
    host.connect("plus", "workspace", "act", &tokens);
    host.apply("it/mine", WORKFLOW);
    host.apply("it/sleeps", SLEEPS);
    let mut heard = Heard { said: Vec::new() };
    let ask = |heard: &mut Heard, method: &str, path: &str, body: Option<&Value>, headers: &[(&str, &str)]| {
        let answer = host.try_call(method, path, body, headers).unwrap();
        heard.take(&format!("{method} {path}"), format!("{:?}\n{}", answer.headers, answer.text));
        answer
    };
    let person = json!({ "email": EMAIL });
    let mine = "/v1/workflows/it/mine/runs";
    let input = json!({
        "input": { "secret": CANARY, "key": "one", "person": person }, "labels": { "about": format!("the {CANARY}") },
    });
    let started =
        ask(&mut heard, "POST", &format!("{mine}?wait=20s"), Some(&input), &[("Idempotency-Key", CANARY)]).json();
    assert_eq!(started["status"], "faulted", "{started}");
    assert!(started["error"]["detail"].as_str().unwrap().starts_with("nobody heard ***, "), "{started}");
    let run = started["id"].as_str().unwrap().to_owned();
    // Refused for what it is, and for what was there before.
    let long = json!({ "input": { "secret": CANARY.repeat(4) } });
    assert_eq!(ask(&mut heard, "POST", mine, Some(&long), &[]).status, 422);
    let wrong = json!({ "input": { "secret": CANARY, "person": { "email": CANARY } } });
    assert_eq!(ask(&mut heard, "POST", mine, Some(&wrong), &[]).status, 422);
    let reused = json!({ "input": { "secret": CANARY, "key": "one" } });
    assert_eq!(ask(&mut heard, "POST", mine, Some(&reused), &[]).status, 422);
    assert_eq!(ask(&mut heard, "POST", mine, Some(&reused), &[("Idempotency-Key", CANARY)]).status, 422);
    let sleeps = "/v1/workflows/it/sleeps/runs";
    let secret = json!({ "input": { "secret": CANARY } });
    let slept = ask(&mut heard, "POST", sleeps, Some(&secret), &[]).json();
    let slept = slept["id"].as_str().unwrap().to_owned();
    // The first has to be in its group before the second is refused for it.
    let end = bellhop::hosted::now() + std::time::Duration::from_secs(20);
    while host.done("GET", &format!("/v1/runs/{slept}"), None)["status"] != "waiting" {
        assert!(bellhop::hosted::now() < end, "it does not come to rest");
        std::thread::yield_now();
    }
    assert_eq!(ask(&mut heard, "POST", sleeps, Some(&secret), &[]).status, 409);
    let nowhere = json!({ "input": { "secret": CANARY }, "connections": { "plus": "nowhere" } });
    ask(&mut heard, "POST", &format!("{mine}?onRefusal=block"), Some(&nowhere), &[]);

    for path in ["/v1/runs", "/metrics", "/v1/workflows", "/v1/connections", "/v1/plugins", "/v1/actions"] {
        assert_eq!(ask(&mut heard, "GET", path, None, &[]).status, 200, "{path}");
    }
    for run in [&run, &slept] {
        assert_eq!(ask(&mut heard, "GET", &format!("/v1/runs/{run}"), None, &[]).status, 200);
        let events = ask(&mut heard, "GET", &format!("/v1/runs/{run}/events"), None, &[("Accept", "application/json")]);
        assert_eq!(events.json()["result"][0]["data"]["input"]["secret"], "***");
    }
    let mut verb = |arguments: &[&str], code: i32| {
        for format in ["text", "json"] {
            let done = host.run(&[arguments, &["--output", format]].concat());
            heard.take(&format!("bellhop {arguments:?}"), format!("{}\n{}", done.stdout, done.stderr));
            assert_eq!(done.code, code, "{arguments:?}: {}{}", done.stdout, done.stderr);
        }
    };
    verb(&["runs", "list"], 0);
    verb(&["runs", "show", &run], 0);
    verb(&["runs", "watch", &run], 1);
    verb(&["runs", "export"], 0);
    verb(&["runs", "export", &run, &slept], 0);
    verb(&["runs", "suspend", &slept], 0);
    verb(&["runs", "retry", &run], 0);
    host.place.write("input.json", &json!({ "secret": CANARY, "person": person }).to_string());
    verb(&["run", "it/mine", "--input", "input.json"], 0);
    verb(&["runs", "cancel", &slept], 0);
    let shown = host.run(&["runs", "show", &slept]).stdout;
    for said in ["asked for by ", "asked for a pause", "asked for it to end", "cancelled after"] {
        assert!(shown.contains(said), "no `{said}` in {shown}");
    }

    // Only the action's own message has it, as it was given.
    let ledger = host.ledger();
    let texts: Vec<&str> = ledger.iter().filter_map(|line| line["args"]["text"].as_str()).collect();
    let (own, told): (Vec<&str>, Vec<&str>) = texts.iter().partition(|text| **text == CANARY);
    assert!(!own.is_empty() && !told.is_empty(), "{texts:?}");
    for text in told {
        heard.take("a notice", text);
    }
    let log = heard.take("the log", host.log());
    assert!(log.contains("DEBUG"), "{log}");
    heard.has_none_of(&TRACES);
    heard.has_none_of(&TOKENS);
}

/// More runs than a page of the list has, and one with more events than a page of those.
#[test]
fn an_export_has_every_run_with_all_that_happened() {
    const RUNS: usize = 130;
    let host = Hosted::start("");
    host.ready();
    host.install_slack();
    host.connect("plus", "workspace", "act", &json!({ "bot": TOKENS[0] }));
    host.apply("it/nothing", NOTHING);
    host.apply("it/good", bellhop::hosted::GOOD);
    let many = "
document: { dsl: 1.0.3, namespace: it, name: many, version: 1.0.0 }
do: [{ each: { for: { in: '${ [range(150)] }' }, do: [{ one: { set: { n: 1 } } }] } }]
";
    host.apply("it/many", many);
    let mut ids = Vec::new();
    let mut start = |name: &str, body: &Value| {
        let started = host.done("POST", &format!("/v1/workflows/it/{name}/runs?wait=20s"), Some(body));
        assert_eq!(started["status"], "completed", "{started}");
        ids.push(started["id"].as_str().unwrap().to_owned());
    };
    for n in 0..RUNS {
        start("nothing", &json!({ "input": { "n": n }, "labels": { "third": (n % 3).to_string() } }));
    }
    start("many", &json!({ "input": {} }));
    start("good", &json!({ "input": {} }));
    let export = |arguments: &[&str]| -> Vec<Value> {
        let done = host.run(&[&["runs", "export"], arguments].concat());
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let of = |lines: &[Value], record: &str| -> Vec<Value> {
        lines.iter().filter(|line| line["record"] == record).cloned().collect()
    };
    let all = export(&[]);
    let mut runs: Vec<String> = of(&all, "run").iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect();
    // The newest first, and those of one millisecond in whatever order.
    assert!(runs.windows(2).all(|two| two[0][..14] >= two[1][..14]), "{runs:?}");
    runs.sort();
    let mut begun = ids.clone();
    begun.sort();
    assert_eq!(runs, begun);
    for run in &ids {
        let events: Vec<&Value> =
            all.iter().filter(|line| line["record"] == "event" && line["run"] == run.as_str()).collect();
        let numbers: Vec<u64> = events.iter().map(|event| event["id"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>(), "{run}");
        assert_eq!(events[0]["type"], "run.accepted");
        assert!(events[0]["data"]["by"].is_string() && events[0]["data"]["definition"].is_string());
        assert_eq!(events.last().unwrap()["type"], "run.completed", "{run}");
    }
    // Each line is told from those around it.
    assert!(all.iter().all(|line| line["run"].is_string() || line["record"] == "run"));
    let effects = of(&all, "effect");
    assert_eq!(effects.len(), 1, "{effects:?}");
    assert_eq!((&effects[0]["outcome"], &effects[0]["function"]), (&json!("done"), &json!("chat.post-message")));
    let good = ids.last().unwrap();
    assert_eq!(of(&export(&[good]), "run").len(), 1);
    let third = of(&export(&["--label", "third=1", "--workflow", "it/nothing"]), "run");
    assert_eq!(third.len(), (0..RUNS).filter(|n| n % 3 == 1).count());
    assert_eq!(host.run(&["runs", "export", "run_00000000000000000000000000"]).code, 4);
}
