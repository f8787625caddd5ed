//! The bytes of every kind of entry. A file here is what is on people's disks: within one format of the
//! store it is never changed, only added to.
//! `UPDATE_EXPECT=1` writes the files of kinds that have none yet.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::requirement::TokenKind;
use bellhop_core::time::Timestamp;
use expect_test::expect_file;
use serde_json::json;

use crate::Json;
use crate::entry::{Answer, Content, Entry, Instead, KINDS, Resolution};
use crate::key::{self, Space};
use crate::record;

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/golden")
}

fn samples() -> Vec<(&'static str, Entry)> {
    let at = Timestamp::from_millis(1_788_253_200_123);
    let hash = Digest::of(b"request");
    let key = "/do/0/welcome#1".to_owned();
    let value = |value: serde_json::Value| Content::Value(Json::from(&value));
    let stored = Content::Stored { digest: Digest::of(b"large"), bytes: 20_000 };
    vec![
        (
            "accepted",
            Entry::Accepted { pins: Json::from(&json!({"definition": Digest::of(b"definition"), "host": "0.1.0"})) },
        ),
        (
            "pinned",
            Entry::Pinned { pins: Json::from(&json!({"definition": Digest::of(b"another"), "version": "2.0.0"})) },
        ),
        (
            "decision",
            Entry::Decision { events: vec![value(json!({"task-entered": {"task": "/do/0"}})), stored.clone()] },
        ),
        (
            "intent",
            Entry::Intent {
                key: key.clone(),
                attempt: 1,
                ordinal: 2,
                hash,
                at,
                function: "chat.post-message".to_owned(),
                connection: Some("acme".to_owned()),
                token: None,
            },
        ),
        (
            "intent-without-connection",
            Entry::Intent {
                key: key.clone(),
                attempt: 1,
                ordinal: 2,
                hash,
                at,
                function: "log".to_owned(),
                connection: None,
                token: None,
            },
        ),
        (
            "intent-as-user",
            Entry::Intent {
                key: key.clone(),
                attempt: 1,
                ordinal: 2,
                hash,
                at,
                function: "usergroups-users.update".to_owned(),
                connection: Some("acme".to_owned()),
                token: Some(TokenKind::User),
            },
        ),
        (
            "outcome",
            Entry::Outcome {
                key: key.clone(),
                attempt: 1,
                ordinal: 2,
                hash,
                at,
                answer: Answer::Ok(value(json!({"ok": true, "ts": "1788253200.000100", "n": 0.1}))),
                how: "sent".to_owned(),
            },
        ),
        (
            "outcome-error",
            Entry::Outcome {
                key: key.clone(),
                attempt: 1,
                ordinal: 2,
                hash,
                at,
                answer: Answer::Err(value(json!({"code": "not-in-channel"}))),
                how: "sent".to_owned(),
            },
        ),
        (
            "outcome-stored",
            Entry::Outcome {
                key: key.clone(),
                attempt: 1,
                ordinal: 2,
                hash,
                at,
                answer: Answer::Ok(stored),
                how: "sent".to_owned(),
            },
        ),
        (
            "not-sent",
            Entry::NotSent {
                key: key.clone(),
                attempt: 1,
                ordinal: 2,
                at,
                reason: "rate-limited".to_owned(),
                repeats: false,
                retry_at: Some(at),
                instead: None,
            },
        ),
        (
            "not-sent-instead",
            Entry::NotSent {
                key: key.clone(),
                attempt: 1,
                ordinal: 2,
                at,
                reason: "refused to the bot".to_owned(),
                repeats: false,
                retry_at: Some(at),
                instead: Some(Instead { token: TokenKind::User, refused: "permission_denied".to_owned() }),
            },
        ),
        (
            "read",
            Entry::Read {
                key: key.clone(),
                attempt: 1,
                ordinal: 3,
                hash,
                at,
                answer: Answer::Ok(value(json!({"user": {"id": "U1", "name": "zoë \u{1F600}"}}))),
                how: "sent".to_owned(),
                function: None,
                token: None,
            },
        ),
        (
            "read-of",
            Entry::Read {
                key: key.clone(),
                attempt: 2,
                ordinal: 0,
                hash,
                at,
                answer: Answer::Err(value(json!({"code": "not-found"}))),
                how: "denied".to_owned(),
                function: Some("users.info".to_owned()),
                token: None,
            },
        ),
        (
            "read-as-bot",
            Entry::Read {
                key: key.clone(),
                attempt: 1,
                ordinal: 3,
                hash,
                at,
                answer: Answer::Ok(value(json!({"users": ["U1"]}))),
                how: "sent".to_owned(),
                function: Some("usergroups-users.list".to_owned()),
                token: Some(TokenKind::Bot),
            },
        ),
        ("slice", Entry::Slice { key: key.clone(), attempt: 1, ordinal: 200, state: value(json!({"cursor": "c2"})) }),
        (
            "resolved-done",
            Entry::Resolved {
                key: key.clone(),
                attempt: 1,
                ordinal: 2,
                hash,
                at,
                how: Resolution::Done(Answer::Ok(value(json!({"ts": "1"})))),
                by: "read-back".to_owned(),
            },
        ),
        (
            "resolved-not-done",
            Entry::Resolved {
                key,
                attempt: 1,
                ordinal: 2,
                hash,
                at,
                how: Resolution::NotDone,
                by: "tok_01JZZZZZZZZZZZZZZZZZZZZZZZ".to_owned(),
            },
        ),
        ("note", Entry::Note { at, level: "warn".to_owned(), text: "a line\nand \"another\"".to_owned(), by: None }),
        (
            "note-asked",
            Entry::Note {
                at,
                level: "info".to_owned(),
                text: "for a pause".to_owned(),
                by: Some("ada (tok_1)".to_owned()),
            },
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n");
    lines.collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

#[test]
fn entries_are_written_as_they_always_were() {
    let key = key::event(RunId::new(Timestamp::from_millis(1_788_253_200_000), 7), 1);
    for (name, entry) in samples() {
        let record = record::encode(&key, &entry).unwrap();
        expect_file![dir().join(format!("{name}.hex"))].assert_eq(&hex(&record));
        let json = serde_json::to_string_pretty(&entry).unwrap() + "\n";
        expect_file![dir().join(format!("{name}.json"))].assert_eq(&json);
        assert_eq!(json.lines().nth(1).unwrap().trim(), format!("\"{}\": {{", entry.kind()));
        assert_eq!(record::decode::<Entry>(Space::Event, key.bytes(), &record).unwrap(), entry, "{name}");
    }
}

#[test]
fn what_was_ever_written_is_still_read() {
    let key = key::event(RunId::new(Timestamp::from_millis(1_788_253_200_000), 7), 1);
    let samples = samples();
    let mut names = BTreeSet::new();
    for file in std::fs::read_dir(dir()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().unwrap() == "hex" {
            let record = unhex(&std::fs::read_to_string(&path).unwrap());
            let entry: Entry = record::decode(Space::Event, key.bytes(), &record).unwrap();
            let json = std::fs::read_to_string(path.with_extension("json")).unwrap();
            assert_eq!(entry, serde_json::from_str::<Entry>(&json).unwrap(), "{name}");
            if let Some((_, sample)) = samples.iter().find(|(sample, _)| *sample == name) {
                assert_eq!(entry, *sample, "{name}");
            }
            names.insert(name);
        }
    }
    for (name, _) in &samples {
        assert!(names.contains(*name), "{name} has no golden file");
    }
    let kinds: BTreeSet<_> = samples.iter().map(|(_, entry)| entry.kind()).collect();
    assert_eq!(kinds, BTreeSet::from(KINDS), "a kind without a sample");
}

#[test]
fn what_is_not_a_known_record_is_told_apart() {
    let run = RunId::new(Timestamp::from_millis(1), 7);
    let key = key::event(run, 1);
    let read = |record: &[u8]| record::decode::<Entry>(Space::Event, key.bytes(), record);
    let good = record::encode(&key, &samples()[0].1).unwrap();
    assert!(read(&good).is_ok());

    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(read(&bad), Err(record::Error::Corrupt { .. })), "bit {bit}: {:?}", read(&bad));
    }
    for length in 0..good.len() {
        assert!(matches!(read(&good[..length]), Err(record::Error::Corrupt { .. })), "{length} bytes");
    }

    let sealed = |head: [u8; 2], payload: &[u8]| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head);
        hasher.update(payload);
        [&head[..], &hasher.finalize().to_le_bytes(), payload].concat()
    };
    let newer = read(&sealed([2, b'e'], b"whatever")).unwrap_err();
    assert!(matches!(newer, record::Error::NewerVersion { found: 2, known: 1, .. }), "{newer}");
    let unknown = read(&sealed([1, b'?'], b"{}")).unwrap_err();
    assert!(matches!(&unknown, record::Error::UnknownKind { kind, .. } if kind == "?"), "{unknown}");
    let unknown = read(&sealed([1, b'e'], br#"{"from-the-future":{"x":1}}"#)).unwrap_err();
    assert!(matches!(&unknown, record::Error::UnknownKind { kind, .. } if kind == "from-the-future"), "{unknown}");
    let other = read(&record::encode(&key::snapshot(run), &1).unwrap()).unwrap_err();
    assert!(matches!(other, record::Error::Corrupt { .. }), "{other}");
    let extra = read(&sealed([1, b'e'], br#"{"note":{"at":1,"level":"info","text":"","more":1}}"#)).unwrap_err();
    assert!(matches!(extra, record::Error::Corrupt { .. }), "a field that would be lost: {extra}");
}

#[test]
fn numbers_read_back_as_they_were() {
    let key = key::host("numbers");
    let mut random = super::Random(1);
    for _ in 0..20_000 {
        let number = f64::from_bits(random.next());
        if !number.is_finite() {
            continue;
        }
        let value = json!({"n": number, "i": random.next(), "s": -((random.next() >> 1) as i64)});
        let written = record::encode(&key, &value).unwrap();
        assert_eq!(record::decode::<serde_json::Value>(Space::Host, key.bytes(), &written).unwrap(), value);
    }
}
