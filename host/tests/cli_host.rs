//! The verbs that ask a host, against the built program serving with a simulated Slack behind it.

mod bellhop;

use serde_json::Value;

use bellhop::{Done, Place, Started};

const WORKFLOW: &str = "\
document:
  dsl: 1.0.3
  namespace: it
  name: hello
  version: 1.0.0
input:
  schema:
    format: json
    document:
      type: object
      required: [channel]
      properties: { channel: { type: string } }
do:
  - greet:
      call: message.send:1@slack
      with: { channel: '${ .channel }', text: Hello }
";

/// A simulator, a host before it, and a token for it.
struct Hosted {
    place: Place,
    url: String,
    token: String,
    _simulator: Started,
    host: Started,
}

impl Hosted {
    fn start() -> Self {
        let place = Place::new();
        let mut simulator = place.start(&["slack-simulator"]);
        let slack = simulator.line();
        let mut host = place.start(&["serve", "--listen", "127.0.0.1:0", "--slack-url", &slack, "--data-dir", "data"]);
        // The token first: who waits for the address may begin.
        let last_word = |line: String| line.rsplit(' ').next().unwrap_or_default().to_owned();
        let token = last_word(host.line());
        let url = last_word(host.line());
        assert!(token.starts_with("bh_"), "{token}");
        Self { place, url, token, _simulator: simulator, host }
    }

    fn run(&self, arguments: &[&str]) -> Done {
        self.place.run_with(arguments, &[("BELLHOP_URL", &self.url), ("BELLHOP_TOKEN", &self.token)])
    }

    /// Runs a verb that has to succeed; its JSON.
    fn done(&self, arguments: &[&str]) -> Value {
        let done = self.run(&[arguments, &["--output", "json"]].concat());
        assert_eq!(done.code, 0, "{arguments:?}: {}{}", done.stdout, done.stderr);
        done.json()
    }

    /// Runs a verb that has to fail: its exit code, its error's code, its words.
    fn refused(&self, arguments: &[&str]) -> (i32, String, String) {
        let text = self.run(arguments);
        let json = self.run(&[arguments, &["--output", "json"]].concat());
        assert_eq!(text.code, json.code, "{arguments:?}");
        (json.code, json.json()["error"]["code"].as_str().unwrap_or_default().to_owned(), text.stderr)
    }

    fn connect(&self, kind: &str, name: &str, token: &str) -> Value {
        self.place.write("token", &format!("{token}\n"));
        self.done(&["connect", "slack", "--kind", kind, "--name", name, "--bot-token-file", "token"])
    }
}

#[test]
fn a_message_is_sent_and_its_story_told() {
    let hosted = Hosted::start();
    hosted.place.write("hello.yaml", WORKFLOW);
    let installed = hosted.done(&["plugin", "install", bellhop::slack_plugin(), "--grant-all"]);
    assert_eq!(installed["name"], "slack");
    assert_eq!(hosted.done(&["plugin", "list"])["result"][0]["name"], "slack");

    let connected = hosted.connect("workspace", "plus", "xoxb-plus");
    assert_eq!(connected["plan"], "business-plus");
    assert!(!connected.to_string().contains("xoxb-"), "a token came out: {connected}");
    assert_eq!(hosted.done(&["connections", "test", "plus"])["kind"], "workspace");
    assert!(hosted.run(&["connections", "list"]).stdout.contains("business-plus"));

    let applied = hosted.done(&["workflows", "apply", "hello.yaml"]);
    assert_eq!(applied["result"][0]["version"], "1.0.0");
    assert_eq!(hosted.done(&["workflows", "list"])["result"][0]["name"], "it/hello");
    assert_eq!(hosted.run(&["workflows", "show", "it/hello"]).stdout, WORKFLOW);

    let told = hosted.run(&["run", "it/hello", "--input", "{\"channel\": \"C0PLUSGENERAL\"}", "--wait"]);
    assert_eq!(told.code, 0, "{}{}", told.stdout, told.stderr);
    for part in [
        "/do/0/greet",
        "action message.send:",
        " on plus",
        "-> chat.post-message",
        "<- chat.post-message ok",
        "completed",
    ] {
        assert!(told.stdout.contains(part), "no `{part}` in\n{}", told.stdout);
    }
    let run = told.stdout.lines().next().unwrap().to_owned();
    assert_eq!(hosted.done(&["runs", "show", &run])["status"], "completed");
    assert!(hosted.run(&["runs", "watch", &run]).stdout.contains("<- chat.post-message ok"));
    let listed = hosted.done(&["runs", "list", "--status", "completed", "--workflow", "it/hello"]);
    assert_eq!(listed["result"][0]["id"], Value::from(run.as_str()));
    let (code, error, _) = hosted.refused(&["runs", "cancel", &run]);
    assert_eq!((code, error.as_str()), (4, "run-ended"));

    // A key starts one run.
    hosted.place.write("input.yaml", "channel: C0PLUSGENERAL\n");
    let keyed = ["run", "hello.yaml", "--input", "input.yaml", "--idempotency-key", "k", "--label", "team=it"];
    let first = hosted.done(&keyed)["id"].clone();
    assert_eq!(hosted.done(&keyed)["id"], first);
    assert!(hosted.run(&keyed).stderr.contains("this key has started this run before"));
    let labelled = hosted.done(&["runs", "list", "--label", "team=it"]);
    assert_eq!(labelled["result"].as_array().map(Vec::len), Some(1));

    let input = "{\"channel\": \"C0PLUSGENERAL\", \"text\": \"x\"}";
    let acted =
        hosted.done(&["action", "run", "message.send:1@slack", "--input", input, "--connection", "plus", "--wait"]);
    assert_eq!(acted["status"], "completed", "{acted:#}");
}

#[test]
fn refusals_are_said_whole_and_end_with_their_codes() {
    let mut hosted = Hosted::start();
    hosted.place.write("hello.yaml", WORKFLOW);
    hosted.done(&["plugin", "install", bellhop::slack_plugin(), "--grant-all"]);
    hosted.connect("grid-org", "acme", "xoxb-org");
    let (code, error, words) = hosted.refused(&["run", "hello.yaml", "--input", "{\"channel\": \"C1\"}"]);
    assert_eq!((code, error.as_str()), (3, "preflight-refused"), "{words}");
    for part in [
        "error[plan-required]: `message.send` cannot run on connection `acme`",
        "= has:   \"Enterprise Grid: Grid account\"",
        "= fix:   connect the workspace too: bellhop connect slack --kind grid-workspace --name acme-hq",
        "= who:   a Workspace Owner of that workspace",
        ", request req_",
    ] {
        assert!(words.contains(part), "no `{part}` in\n{words}");
    }
    for (arguments, exit, code) in [
        (&["run", "it/hello", "--input", "{}"][..], 3, "input-invalid"),
        (&["run", "it/helo"], 4, "workflow-unknown"),
        (&["runs", "show", "run_01ARZ3NDEKTSV4RRFFQ69G5FAV"], 4, "run-unknown"),
        (&["runs", "watch", "run_01ARZ3NDEKTSV4RRFFQ69G5FAV"], 4, "run-unknown"),
        (&["runs", "list", "--status", "done"], 3, "request-invalid"),
        (&["connections", "show", "acm"], 4, "connection-unknown"),
        (&["tables", "show", "access"], 4, "table-unknown"),
        (&["workflows", "bind", "it/hello", "slack=acm"], 3, "request-invalid"),
        (&["plugin", "install", bellhop::slack_plugin(), "--grant", "chat.postMesage"], 3, "grant-invalid"),
        (&["token", "create", "--name", "x", "--scope", "runs:strat"], 3, "request-invalid"),
    ] {
        let (found, error, words) = hosted.refused(arguments);
        assert_eq!((found, error.as_str()), (exit, code), "{arguments:?}: {words}");
    }
    hosted.place.write("hello.yaml", &WORKFLOW.replace("Hello", "Good morning"));
    let (code, error, _) = hosted.refused(&["workflows", "apply", "hello.yaml"]);
    assert_eq!((code, error.as_str()), (4, "version-immutable"));
    hosted.place.write("broken.yaml", "document: [\n");
    let (code, _, words) = hosted.refused(&["workflows", "apply", "broken.yaml"]);
    assert_eq!(code, 3, "{words}");
    assert!(words.contains("error[yaml-invalid]"), "{words}");

    let stranger = hosted.place.run_with(&["runs", "list"], &[("BELLHOP_URL", &hosted.url)]);
    assert_eq!(stranger.code, 1, "{}", stranger.stderr);
    assert!(
        stranger.stderr.contains("token-missing") && stranger.stderr.contains("BELLHOP_TOKEN"),
        "{}",
        stranger.stderr
    );

    // A data directory that a host is using is left alone, and that is said.
    let checked = [
        "check",
        "hello.yaml",
        "--data-dir",
        "data",
        "--plugin",
        bellhop::slack_plugin(),
        "--assume",
        "a=workspace:pro",
    ];
    let checked = hosted.place.run(&checked);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(checked.stderr.contains("is in use by another process"), "{}", checked.stderr);

    // Asked to stop, it ends well; then the data directory shows what is installed.
    let asked = std::process::Command::new("kill").args(["-TERM", &hosted.host.pid().to_string()]).status().unwrap();
    assert!(asked.success());
    assert_eq!(hosted.host.wait(), 0);
    let checked = hosted.place.run(&["check", "hello.yaml", "--data-dir", "data"]);
    assert_eq!(checked.code, 3, "{}", checked.stderr);
    assert!(checked.stdout.starts_with("error[plan-required]"), "{}", checked.stdout);
    let seen = hosted.place.run(&["plugin", "inspect", "slack", "--data-dir", "data", "--output", "json"]);
    assert_eq!(seen.json()["name"], "slack", "{}", seen.stderr);
}

#[test]
fn tables_and_tokens_come_and_go() {
    let hosted = Hosted::start();
    hosted.place.write("access.csv", "department,channel:channel,note\nit,#it,\"a, b\"\nsales,#sales,\n");
    assert_eq!(hosted.done(&["tables", "put", "access", "access.csv"])["version"], 1);
    hosted.place.write(
        "access.yaml",
        "columns: {channel: channel, note: text}\nrows: {it: {channel: '#it', note: 'a, b'}, sales: {channel: '#sales', note: ''}}\n",
    );
    assert_eq!(
        hosted.done(&["tables", "put", "access", "access.yaml"])["version"],
        1,
        "the same table is no new version"
    );
    assert_eq!(hosted.done(&["tables", "list"])["result"][0]["name"], "access");
    let shown = hosted.run(&["tables", "show", "access"]).stdout;
    assert_eq!(shown, "KEY    channel:channel  note:text\nit     #it              a, b\nsales  #sales\n");

    let made = hosted.done(&[
        "token",
        "create",
        "--name",
        "hr",
        "--scope",
        "runs:read",
        "--expires-at",
        "2099-01-01T00:00:00Z",
    ]);
    let (id, secret) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let as_hr = [("BELLHOP_URL", hosted.url.as_str()), ("BELLHOP_TOKEN", secret)];
    assert_eq!(hosted.place.run_with(&["runs", "list"], &as_hr).stdout, "none\n");
    assert_eq!(hosted.place.run_with(&["token", "list"], &as_hr).code, 1);
    let listed = hosted.done(&["token", "list"]);
    assert!(!listed.to_string().contains(secret), "a secret came out");
    hosted.done(&["token", "revoke", id]);
    assert_eq!(hosted.place.run_with(&["runs", "list"], &as_hr).code, 1);
    assert_eq!(hosted.refused(&["token", "revoke", id]).0, 4);
}
