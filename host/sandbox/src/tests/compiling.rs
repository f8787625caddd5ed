//! Who is compiled when, and for whom.

#![allow(clippy::disallowed_methods, reason = "what takes how long is measured")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{POST, Plugin, Recorder, call, options};
use crate::{CompileMode, Error, Limits, Options, Refusal, Sandbox};

/// A component of more than a megabyte.
fn large(name: &str) -> Vec<u8> {
    let mut bytes = Plugin { description: &format!(r#"{{"name":"{name}"}}"#), ..POST }.build();
    // A section of one's own: its kind, its size, the length of its name, and what is in it.
    let size = (1_u32 << 20) + 1;
    bytes.push(0);
    bytes.extend((0..5).map(|i| {
        let part = u8::try_from(size >> (7 * i) & 0x7f).unwrap();
        if i < 4 { part | 0x80 } else { part }
    }));
    bytes.push(0);
    bytes.resize(bytes.len() + (1 << 20), 0);
    bytes
}

/// A compiler that never ends with what is large, and writes down that it has begun; the real one for the rest.
fn stubborn(folder: &Path) -> PathBuf {
    let program = folder.join("compiler.sh");
    let text = format!(
        "#!/bin/sh\n\
         if [ $(/usr/bin/wc -c < \"$2\") -gt 1048576 ]; then echo $$ >> {begun}; exec /bin/sleep 600; fi\n\
         exec {program} \"$@\"\n",
        begun = begun(folder).display(),
        program = std::env::current_exe().unwrap().display(),
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    program
}

fn begun(folder: &Path) -> PathBuf {
    folder.join("begun")
}

/// The compilers that have begun with something large.
fn compilers(folder: &Path) -> Vec<u32> {
    let text = fs::read_to_string(begun(folder)).unwrap_or_default();
    text.lines().map(|pid| pid.parse().unwrap()).collect()
}

fn is_there(pid: u32) -> bool {
    // A child that has ended and that nobody has asked for yet is not at work any more.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn sandbox(folder: &tempfile::TempDir, change: impl FnOnce(&mut Options)) -> Sandbox {
    let mut options = options(folder.path().join("cache"));
    options.limits = Limits { concurrent_calls_max: 1, expression_instances_max: 1, ..Limits::default() };
    options.compile = CompileMode::Child { program: stubborn(folder.path()) };
    change(&mut options);
    Sandbox::new(options).unwrap()
}

#[tokio::test]
async fn author_c10_small_ones_pass_a_large_one() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox(&folder, |_| {});
    let slow = large("slow");
    let mut slow = Box::pin(sandbox.prepare(&slow));
    tokio::select! {
        ended = &mut slow => panic!("{ended:?}"),
        () = until("the compiler begins", || !compilers(folder.path()).is_empty()) => {}
    }
    let small = tokio::select! {
        ended = &mut slow => panic!("{ended:?}"),
        small = async { sandbox.prepare(&POST.build()).await.unwrap() } => small,
    };
    drop(slow);
    assert_eq!(small.run(call("{}"), Recorder::default()).await, Ok(Ok("{}".to_owned())));
}

#[tokio::test]
async fn author_c10_nobody_compiles_for_a_client_that_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox(&folder, |_| {});
    let bytes = large("shared");
    let mut first = Box::pin(sandbox.prepare(&bytes));
    let mut second = Box::pin(sandbox.prepare(&bytes));
    tokio::select! {
        ended = &mut first => panic!("{ended:?}"),
        ended = &mut second => panic!("{ended:?}"),
        () = until("the compiler begins", || !compilers(folder.path()).is_empty()) => {}
    }
    drop(first);
    let [pid] = compilers(folder.path())[..] else { panic!("one compiler for both") };
    tokio::select! {
        ended = &mut second => panic!("{ended:?}"),
        small = async { sandbox.prepare(&POST.build()).await } => drop(small.unwrap()),
    }
    assert!(is_there(pid), "another waits for it, and something small was compiled meanwhile");
    drop(second);
    until("it ends", || !is_there(pid)).await;
    assert_eq!(compilers(folder.path()), [pid]);
    // The next of its size has its turn.
    let other = large("other");
    tokio::select! {
        ended = sandbox.prepare(&other) => panic!("{ended:?}"),
        () = until("the next one begins", || compilers(folder.path()).len() == 2) => {}
    }
}

#[tokio::test]
async fn author_c10_what_takes_too_long_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let busy = sandbox(&folder, |options| options.limits.compile_wall_s_max = 1);
    let error = busy.prepare(&large("slow")).await.unwrap_err();
    assert!(matches!(&error, Error::Busy(text) if text.contains("too busy")), "{error}");
    let line = bellhop_limits::Limits::TABLE.iter().find(|line| line.name == "compile_cpu_ms_max").unwrap();
    let limits = Limits::default();
    assert_eq!(line.default, limits.compile_cpu_s_max * 1_000);
    assert!(line.cap < limits.compile_wall_s_max * 1_000, "who meets the latter has met a busy machine");
}

/// By the signal and the words with which a compiler ended.
#[tokio::test]
async fn author_c10_the_end_of_a_compiler_has_its_true_cause() {
    for (script, expected) in [
        ("kill -XCPU $$", "the plugin cannot be compiled: it needs more than 20 seconds of processor time"),
        ("kill -KILL $$", "the compiler was stopped by the system, which may be short of memory"),
        (
            "echo memory allocation of 12 bytes failed >&2; kill -ABRT $$",
            "the plugin cannot be compiled: it needs more than 4294967296 bytes of memory",
        ),
        ("kill -SEGV $$", "the plugin cannot be compiled: the compiler ended with signal 11"),
        ("exit 1", "the plugin cannot be compiled: the compiler ended without a word"),
        ("printf 'a\\033[2J\\nb' >&2; exit 1", "the plugin cannot be compiled: a\\u{1b}[2J b"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("ends.sh");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let sandbox = sandbox(&folder, |options| options.compile = CompileMode::Child { program });
        assert_eq!(sandbox.prepare(&POST.build()).await.unwrap_err().to_string(), expected, "{script}");
    }
}

#[tokio::test]
async fn author_c13_a_folder_that_is_removed_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox(&folder, |options| options.compile = CompileMode::InProcess);
    let cache = folder.path().join("cache");
    let bytes = POST.build();
    let inspection = sandbox.inspect(&bytes).unwrap();
    let loaded = sandbox.prepare(&bytes).await.unwrap();
    fs::remove_dir_all(&cache).unwrap();
    let again = async |package: &crate::Package| {
        assert_eq!(package.run(call("{}"), Recorder::default()).await, Ok(Ok("{}".to_owned())));
    };
    again(&loaded).await;
    again(&sandbox.load(&inspection, || async { Ok(bytes.clone()) }).await.unwrap()).await;
    assert_eq!(cache.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    // A file of it, whole and then in part.
    let compiled = || cache.read_dir().unwrap().next().unwrap().unwrap().path();
    fs::remove_file(compiled()).unwrap();
    again(&sandbox.load(&inspection, || async { Ok(bytes.clone()) }).await.unwrap()).await;
    let compiled = compiled();
    fs::remove_file(&compiled).unwrap();
    fs::write(&compiled, &fs::read(std::env::current_exe().unwrap()).unwrap()[..1 << 20]).unwrap();
    again(&sandbox.load(&inspection, || async { Ok(bytes.clone()) }).await.unwrap()).await;
    // What was there before is not touched by any of it.
    again(&loaded).await;
}

#[test]
fn author_c4_what_is_too_large_is_refused_by_its_limits_name() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox(&folder, |_| {});
    let refusal = sandbox.inspect(&vec![0; 34_605_897]).unwrap_err();
    assert_eq!(refusal, Refusal::TooLarge { size: 34_605_897, max: 31 << 20 });
    assert!(refusal.to_string().contains("`plugin_bytes_max`"), "{refusal}");
    assert!(!refusal.remedy().contains("raise"), "{}", refusal.remedy());
}
