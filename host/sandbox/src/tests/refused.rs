//! What is refused before it runs, and the cache of what is not.

use std::os::unix::fs::PermissionsExt as _;

use super::{POST, Plugin, options, sandbox};
use crate::{CompileMode, Refusal, Sandbox};

fn refusal(plugin: &Plugin<'_>) -> String {
    sandbox().inspect(&plugin.build()).unwrap_err().to_string()
}

#[test]
fn imports_are_read_from_the_binary() {
    let inspection =
        sandbox().inspect(&Plugin { imports: &["users.info", "chat.update"], ..Plugin::default() }.build()).unwrap();
    assert_eq!(inspection.imports, ["chat.update", "users.info"]);
    assert_eq!(inspection.exports, ["bellhop:action/actions@1.0.0"]);
    assert!(inspection.logs && inspection.wasi.is_empty());
}

#[test]
fn an_older_plugin_is_welcome_and_a_newer_one_is_told_the_hosts_version() {
    sandbox().inspect(&Plugin { package: "bellhop:slack@1.1.9", ..POST }.build()).unwrap();
    assert_eq!(
        refusal(&Plugin { package: "bellhop:slack@1.3.0", ..POST }),
        "the plugin imports `bellhop:slack/chat@1.3.0`, but this host has bellhop:slack@1.2.0: it needs a newer host"
    );
    assert!(refusal(&Plugin { package: "bellhop:slack@2.0.0", ..POST }).contains("newer host"));
    assert!(refusal(&Plugin { package: "bellhop:slack@0.9.0", ..POST }).contains("build the plugin anew"));
}

#[test]
fn forbidden_imports_are_named() {
    for (outer, name) in [
        (r#"(import "wasi:http/outgoing-handler@0.2.0" (instance))"#, "wasi:http/outgoing-handler@0.2.0"),
        (r#"(import "wasi:cli/environment@0.3.0" (instance))"#, "wasi:cli/environment@0.3.0"),
        (r#"(import "evil:net/tcp@1.0.0" (instance))"#, "evil:net/tcp@1.0.0"),
        (r#"(import "bellhop:action/secrets@1.0.0" (instance))"#, "bellhop:action/secrets@1.0.0"),
        (r#"(import "backdoor" (func))"#, "backdoor"),
        (r#"(import "code" (core module))"#, "code"),
    ] {
        let text = refusal(&Plugin { outer, ..Plugin::default() });
        assert!(text.contains(&format!("imports `{name}`, which no plugin is given")), "{text}");
    }
    assert_eq!(
        refusal(&Plugin { imports: &["chat.read-minds"], ..Plugin::default() }),
        "the plugin imports `bellhop:slack/chat@1.0.0#read-minds`, which no plugin is given: \
         `bellhop:slack@1.2.0` has no `chat.read-minds`"
    );
    assert!(refusal(&Plugin { imports: &["oauth.access"], ..Plugin::default() }).contains("has no interface `oauth`"));
}

#[test]
fn only_a_component_with_actions_is_a_plugin() {
    let inspect = |bytes: &[u8]| sandbox().inspect(bytes).unwrap_err();
    assert!(matches!(inspect(b"#!/bin/sh"), Refusal::NotAComponent { .. }));
    assert!(matches!(inspect(b""), Refusal::NotAComponent { .. }));
    assert!(matches!(inspect(&wat::parse_str("(module)").unwrap()), Refusal::CoreModule { .. }));
    assert!(matches!(inspect(&wat::parse_str("(component)").unwrap()), Refusal::MissingExport { .. }));
    let mut cut = POST.build();
    cut.truncate(cut.len() / 2);
    assert!(matches!(inspect(&cut), Refusal::NotAComponent { .. }));
}

#[test]
fn native_code_is_refused() {
    let engine = wasmtime::Engine::default();
    let component = engine.precompile_component(&POST.build()).unwrap();
    assert_eq!(sandbox().inspect(&component), Err(Refusal::NativeCode));
    let module = engine.precompile_module(&wat::parse_str("(module)").unwrap()).unwrap();
    assert_eq!(sandbox().inspect(&module), Err(Refusal::NativeCode));
}

#[tokio::test]
async fn a_wrong_type_is_refused() {
    let plugin = r#"(component
        (import "bellhop:slack/chat@1.0.0" (instance (export "update" (func (param "args" u32)))))
        (instance $actions) (export "bellhop:action/actions@1.0.0" (instance $actions)))"#;
    let error = sandbox().prepare(&wat::parse_str(plugin).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("does not fit this host"), "{error}");
}

#[test]
fn a_size_has_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path().to_owned());
    options.limits.component_bytes_max = 100;
    options.limits.concurrent_calls_max = 1;
    let refusal = Sandbox::new(options).unwrap().inspect(&POST.build()).unwrap_err();
    assert!(matches!(refusal, Refusal::TooLarge { max: 100, .. }));
}

#[tokio::test]
async fn the_cache_is_ours_alone_and_made_anew_when_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let mut options = options(cache.clone());
    options.limits.concurrent_calls_max = 1;
    let sandbox = Sandbox::new(options).unwrap();
    let bytes = POST.build();
    let package = sandbox.prepare(&bytes).await.unwrap();
    assert!(sandbox.is_compiled(&package.digest()));
    // Its name says what is in it, and no two are alike.
    let file = || {
        let files: Vec<_> = cache.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    };
    assert_eq!(file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(cache.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for spoilt in [&b""[..], b"not machine code"] {
        let path = file();
        // What is mapped is left as it is.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, spoilt).unwrap();
        let package = sandbox.prepare(&bytes).await.unwrap();
        assert!(package.run(super::call("{}"), super::Recorder::default()).await.is_ok());
        assert_ne!(std::fs::read(file()).unwrap(), spoilt);
    }
}

/// At a start, what is installed is not read, hashed and validated again.
#[tokio::test]
async fn a_known_plugin_is_loaded_without_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path().to_owned());
    options.limits.concurrent_calls_max = 1;
    let sandbox = Sandbox::new(options.clone()).unwrap();
    let bytes = POST.build();
    let known = sandbox.inspect(&bytes).unwrap();
    let known = serde_json::from_value(serde_json::to_value(known).unwrap()).unwrap();
    let other = sandbox.load(&known, || async { Ok(b"other".to_vec()) }).await.unwrap_err();
    assert!(other.to_string().contains("has changed"), "{other}");
    sandbox.load(&known, || async { Ok(bytes.clone()) }).await.unwrap();
    let restarted = Sandbox::new(options).unwrap();
    let package = restarted.load(&known, || async { panic!("the bytes are not needed") }).await.unwrap();
    assert!(package.run(super::call("{}"), super::Recorder::default()).await.is_ok());
}

#[test]
fn machine_code_of_another_version_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path().to_owned());
    options.limits.concurrent_calls_max = 1;
    let stale = dir.path().join("00-0123456789abcdef-x86_64.cwasm");
    let (being_made, other) = (dir.path().join(".making-1"), dir.path().join("notes.txt"));
    for path in [&stale, &being_made, &other] {
        std::fs::write(path, "x").unwrap();
    }
    Sandbox::new(options).unwrap();
    assert!(!stale.exists() && being_made.exists() && other.exists());
}

/// The test program stands in for the program: with these arguments it runs just the test below.
#[tokio::test]
async fn compiles_in_a_child() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path().join("cache"));
    options.limits.concurrent_calls_max = 1;
    options.compile = CompileMode::Child { program: std::env::current_exe().unwrap() };
    let sandbox = Sandbox::new(options.clone()).unwrap();
    let package = sandbox.prepare(&POST.build()).await.unwrap();
    assert!(package.run(super::call("{}"), super::Recorder::default()).await.is_ok());

    options.cache_dir = dir.path().join("starved");
    options.limits.compile_memory_bytes_max = 1 << 20;
    let error = Sandbox::new(options).unwrap().prepare(&POST.build()).await.unwrap_err();
    assert!(error.to_string().starts_with("the plugin cannot be compiled"), "{error}");
}

#[test]
fn __compile() {
    let arguments: Vec<_> = std::env::args_os().skip_while(|a| *a != crate::COMPILE_VERB).skip(1).collect();
    if arguments.len() == 4 {
        assert_eq!(format!("{:?}", crate::compile_as_child(arguments)), "ExitCode(unix_exit_status(0))");
    }
}
