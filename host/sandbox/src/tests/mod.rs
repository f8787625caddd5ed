mod causes;
mod compiling;
mod crowd;
mod evaluator;
mod hostile;
mod refused;
mod time;
mod wasi;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use futures_util::future::BoxFuture;

use super::{Budget, Call, CompileMode, Context, Halt, Host, Limits, Options, Package, Sandbox, Trap};
use bellhop_tests::guest::Plugin;

const FUNCTIONS: &[&str] = &["chat.post-message", "chat.update", "users.info"];

fn options(cache_dir: PathBuf) -> Options {
    Options {
        capabilities: "bellhop:slack@1.2.0".to_owned(),
        functions: FUNCTIONS.iter().map(|&name| name.to_owned()).collect(),
        cache_dir,
        limits: Limits::default(),
        compile: CompileMode::InProcess,
    }
}

/// One engine for all tests, as a program has one; the cache lives as long as the build folder, which saves
/// compiling the expression evaluator in each run.
fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| {
        Sandbox::new(options(std::env::current_exe().unwrap().with_file_name("component-cache"))).unwrap()
    })
}

async fn package(plugin: &Plugin<'_>) -> Package {
    sandbox().prepare(&plugin.build()).await.unwrap()
}

fn call(input: &str) -> Call<'_> {
    Call { action: "do", input, budget: Budget::default(), context: Context::default(), memory: Arc::default() }
}

/// What a guest did to its host.
#[derive(Default)]
struct Seen {
    calls: Vec<(String, String)>,
    logs: Vec<(String, String)>,
}

/// Answers every call with its own arguments, or never.
#[derive(Clone, Default)]
struct Recorder {
    seen: Arc<Mutex<Seen>>,
    then: Then,
}

#[derive(Clone, Copy, Default)]
enum Then {
    #[default]
    Echo,
    Wait,
    Halt,
}

impl Host for Recorder {
    fn call<'a>(
        &'a mut self,
        function: &'a str,
        arguments: String,
    ) -> BoxFuture<'a, Result<Result<String, String>, Halt>> {
        self.seen.lock().unwrap().calls.push((function.to_owned(), arguments.clone()));
        match self.then {
            Then::Echo => Box::pin(std::future::ready(Ok(Ok(arguments)))),
            Then::Wait => Box::pin(std::future::pending()),
            Then::Halt => Box::pin(std::future::ready(Err(Halt { reason: "parked" }))),
        }
    }

    fn log(&mut self, level: &str, text: &str) {
        self.seen.lock().unwrap().logs.push((level.to_owned(), text.to_owned()));
    }
}

/// Calls `chat.post-message` with its input and returns the answer.
const POST: Plugin<'_> = Plugin {
    imports: &["chat.post-message"],
    package: "bellhop:slack@1.0.0",
    run: "(call $chat.post-message (local.get $input) (local.get $length) (i32.const 64)) (i32.const 64)",
    description: r#"{"name":"post"}"#,
    items: "",
    core: "",
    outer: "",
    given: "",
    pages: 2,
    pages_max: None,
};

#[tokio::test]
async fn an_action_answers() {
    let package = package(&Plugin::default()).await;
    let answer = package.run(call(r#"{"a":1}"#), Recorder::default()).await;
    assert_eq!(answer, Ok(Ok(r#"{"a":1}"#.to_owned())));
}

#[tokio::test]
async fn an_error_is_an_answer_too() {
    let plugin =
        Plugin { run: "(call $result (i32.const 1) (local.get $input) (local.get $length))", ..Plugin::default() };
    assert_eq!(package(&plugin).await.run(call("no"), Recorder::default()).await, Ok(Err("no".to_owned())));
}

#[tokio::test]
async fn a_call_reaches_the_host_under_its_name() {
    let package = package(&POST).await;
    assert_eq!(package.inspection().imports, ["chat.post-message"]);
    let host = Recorder::default();
    let answer = package.run(call(r#"{"channel":"C1"}"#), host.clone()).await;
    assert_eq!(answer, Ok(Ok(r#"{"channel":"C1"}"#.to_owned())));
    let seen = host.seen.lock().unwrap();
    assert_eq!(seen.calls, [("chat.post-message".to_owned(), r#"{"channel":"C1"}"#.to_owned())]);
}

#[tokio::test]
async fn a_halted_guest_never_goes_on() {
    let host = Recorder { then: Then::Halt, ..Recorder::default() };
    let answer = package(&POST).await.run(call("{}"), host).await;
    assert_eq!(answer, Err(Trap::Halted(Halt { reason: "parked" })));
}

#[tokio::test]
async fn describes_itself() {
    assert_eq!(package(&POST).await.describe().await, Ok(serde_json::json!({"name": "post"})));
}

#[tokio::test]
async fn nothing_of_one_call_is_seen_by_the_next() {
    let plugin = Plugin {
        items: r#"(global $count (mut i32) (i32.const 48))"#,
        run: "(global.set $count (i32.add (global.get $count) (i32.const 1)))
              (i32.store8 (i32.const 2048) (i32.add (i32.load8_u (i32.const 2048)) (global.get $count)))
              (call $ok (i32.const 2048) (i32.const 1))",
        ..Plugin::default()
    };
    let package = package(&plugin).await;
    for _ in 0..3 {
        assert_eq!(package.run(call(""), Recorder::default()).await, Ok(Ok("1".to_owned())));
    }
}
