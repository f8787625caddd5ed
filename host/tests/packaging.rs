//! What is packed: units that promise what the program does, and a program that finds what came with it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bellhop::{Place, slack_plugin};
use bellhop_tests::project;

fn packed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(packed(name)).unwrap()
}

/// What a unit says of a key, the last time.
fn said(unit: &str, key: &str) -> Option<String> {
    text(unit).lines().rev().find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
}

#[test]
fn a_host_has_more_time_to_stop_than_it_takes_to_drain() {
    let limits = fs::read_to_string(project::root().join("host/limits/src/lib.rs")).unwrap();
    let line = limits.lines().find(|line| line.trim().starts_with("drain_ms_max = ")).unwrap();
    let cap: u64 = line.split(',').nth(1).unwrap().trim().replace('_', "").parse().unwrap();
    for (name, span) in [
        ("bellhop.service", said("bellhop.service", "TimeoutStopSec").unwrap()),
        ("compose.yaml", text("compose.yaml").split_once("stop_grace_period: ").unwrap().1.to_owned()),
    ] {
        let digits: String = span.chars().take_while(char::is_ascii_digit).collect();
        assert!(span[digits.len()..].starts_with('m'), "{name}: {span}");
        assert!(digits.parse::<u64>().unwrap() * 60_000 > cap, "{name}: {span} and a drain of {cap} ms");
    }
}

#[test]
fn the_units_are_hardened_and_say_what_a_supervisor_has_to_know() {
    let expected = [
        ("Type", "notify"),
        ("Restart", "on-failure"),
        ("User", "bellhop"),
        ("WatchdogSec", "60s"),
        ("SystemCallErrorNumber", "EPERM"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
    ];
    for (key, value) in expected {
        assert_eq!(said("bellhop.service", key).as_deref(), Some(value), "{key}");
    }
    assert!(said("bellhop.service", "ExecStart").unwrap().contains("--first-token-file "));
    // Compiled plugins are made executable.
    assert_eq!(said("bellhop.service", "MemoryDenyWriteExecute"), None);
    for unit in ["bellhop.service", "bellhop-backup.service"] {
        let judged = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=20"])
            .arg(packed(unit))
            .output();
        let Ok(judged) = judged else {
            println!("skipped: there is no systemd-analyze on this machine");
            return;
        };
        let (out, err) = (String::from_utf8_lossy(&judged.stdout), String::from_utf8_lossy(&judged.stderr));
        assert!(judged.status.success(), "{unit}: {out}{err}");
    }
}

#[test]
fn dockerfile_and_image_say_the_same() {
    let (dockerfile, image) = (text("Dockerfile"), text("image.py"));
    for both in ["--first-token-file", "/var/lib/bellhop/first-token", "doctor", "--live", "10001", "SIGTERM", "7420"] {
        assert!(dockerfile.contains(both) && image.contains(both), "{both}");
    }
    assert!(text("image.toml").contains("listen = \"0.0.0.0:7420\""));
    assert!(text("compose.yaml").contains("read_only: true"));
    let version = format!("bellhop:{}", env!("CARGO_PKG_VERSION"));
    assert!(text("compose.yaml").contains(&version), "compose.yaml names another version than {version}");
}

/// What a configuration of a package says, the program takes.
#[test]
fn the_configurations_of_the_packages_are_taken() {
    let place = Place::new();
    for name in ["bellhop.toml", "image.toml"] {
        // With every line that is a suggestion in force, too.
        let suggested: String = text(name)
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|l| l.contains(" = ") || l.starts_with('[')).unwrap_or(line))
            .filter(|line| !line.starts_with("ca_file"))
            .flat_map(|line| [line, "\n"])
            .collect();
        for (kind, content) in [("as it is", text(name)), ("with all that it suggests", suggested)] {
            place.write("packed.toml", &content);
            let shown = place.run(&["config", "--config", "packed.toml"]);
            assert_eq!(shown.code, 0, "{name}, {kind}: {}", shown.stderr);
            assert!(shown.stdout.contains("/var/lib/bellhop"), "{name}: {}", shown.stdout);
        }
    }
}

/// Puts the program, as an installation has it, into `bin` of a place.
fn installed(place: &Place, bin: &str) -> String {
    let program = place.path(&format!("{bin}/bellhop"));
    fs::create_dir_all(Path::new(&program).parent().unwrap()).unwrap();
    // It has hundreds of megabytes: a second name will do, where the file system allows it.
    if fs::hard_link(bellhop::program(), &program).is_err() {
        fs::copy(bellhop::program(), &program).unwrap();
    }
    program
}

#[test]
fn an_installed_program_takes_the_actions_that_came_with_it_and_none_of_the_current_folder() {
    let place = Place::new();
    let program = installed(&place, "usr/bin");
    // Somebody's project, in which the verb is called.
    place.write("target/plugins/slack.wasm", "no component");
    let inspect = || {
        Command::new(&program)
            .args(["plugin", "inspect", "slack", "--url", "http://127.0.0.1:1"])
            .env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
            .current_dir(place.path("."))
            .output()
            .unwrap()
    };
    let alone = inspect();
    assert_eq!(alone.status.code(), Some(4), "{}", String::from_utf8_lossy(&alone.stderr));
    for folder in ["usr/bin/plugins", "usr/lib/bellhop/plugins"] {
        let folder = place.path(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(slack_plugin(), format!("{folder}/slack.wasm")).unwrap();
        let found = inspect();
        let (out, err) = (String::from_utf8_lossy(&found.stdout), String::from_utf8_lossy(&found.stderr));
        assert!(found.status.success() && out.contains("message.send"), "{folder}: {out}{err}");
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn the_script_of_backups_keeps_as_many_as_it_is_told_and_nothing_that_cannot_be_read() {
    let place = Place::new();
    let (bin, folder) = (place.path("bin"), place.path("backups"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(&folder).unwrap();
    // Stands for the program: what it writes is a backup if its folder says so.
    let program = format!(
        "#!/bin/sh\ncase $1 in backup) for a; do :; done; echo made >\"$a\" ;; verify) [ ! -e {folder}/damaged ] ;; esac\n"
    );
    fs::write(format!("{bin}/bellhop"), program).unwrap();
    fs::set_permissions(format!("{bin}/bellhop"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    let backup = || Command::new(packed("backup")).args([&folder, "3"]).env("PATH", &path).status().unwrap();
    let names = || {
        let mut names: Vec<String> =
            fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let old = |day: u32| format!("bellhop-2020010{day}T000000Z.backup");
    for day in 1..=4 {
        fs::write(format!("{folder}/{}", old(day)), "old").unwrap();
    }
    fs::write(format!("{folder}/mine.txt"), "").unwrap();
    assert!(backup().success());
    let left = names();
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(left.contains(&old(3)) && left.contains(&old(4)) && left.contains(&"mine.txt".to_owned()), "{left:?}");
    fs::write(format!("{folder}/damaged"), "").unwrap();
    let before: Vec<String> = names().into_iter().filter(|name| !name.starts_with("bellhop-20200")).collect();
    assert_eq!(before.len(), 3, "the new one, and two that are no backups: {before:?}");
    fs::remove_file(format!("{folder}/{}", before.iter().find(|name| name.starts_with("bellhop-")).unwrap())).unwrap();
    assert!(!backup().success());
    let left = names();
    assert!(left.contains(&old(3)) && left.contains(&old(4)), "an older one went for one that is none: {left:?}");
    assert!(!left.iter().any(|name| name.starts_with("bellhop-") && !name.contains("-20200")), "{left:?}");
}
