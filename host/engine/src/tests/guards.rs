//! What two processes decide of one thing at one moment: the store takes one of the two writes, and the other is decided
//! anew. The other process is a hook here, between what a commit rests on and the commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellhop_core::definition::WorkflowName;
use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::preflight::Table;
use bellhop_core::time::Timestamp;
use futures_util::FutureExt as _;
use serde_json::json;

use super::dying::Dying;
use super::life::{Life, Slack, fresh, trigger};
use crate::execution::summary::Bound;
use crate::setup::definitions::{self, Definitions, Expect, PutError, PutTableError};
use crate::setup::tokens::{Scope, Tokens};
use crate::tests::at_once;
use bellhop_journal::memory::Memory;
use bellhop_journal::{GUARDED_TRIES_MAX, Journal, Write, key};

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// A store, and two journals over it.
fn shared() -> (Arc<Dying>, Journal, Journal) {
    let store = Arc::new(Dying::over(Memory::manual()));
    (store.clone(), Journal::checked(store.clone()), Journal::checked(store))
}

fn name() -> WorkflowName {
    WorkflowName { namespace: "test".to_owned(), name: "w".to_owned() }
}

fn text(version: &str, value: u64) -> String {
    format!(
        "document: {{dsl: 1.0.3, namespace: test, name: w, version: {version}}}\ndo:\n  - one: {{set: {{x: {value}}}}}\n"
    )
}

fn put(definitions: &Definitions, text: &str, expect: &Expect) -> Result<bool, PutError> {
    let definition = definitions::read("w.yaml", text).0.unwrap();
    let address = name();
    let put = definitions.put(&address, definition, "w.yaml", text, expect, NOW);
    put.now_or_never().expect("nothing is waited for").map(|(_, is_new)| is_new)
}

#[test]
fn of_two_texts_of_one_version_one_is_kept() {
    let (store, here, there) = shared();
    let (here, there) = (Definitions::new(here), Arc::new(Definitions::new(there)));
    let other = there.clone();
    store.before(move || assert!(put(&other, &text("1.0.0", 2), &Expect::Any).unwrap()));
    let refused = put(&here, &text("1.0.0", 1), &Expect::Any);
    assert!(matches!(refused, Err(PutError::Immutable { .. })), "{refused:?}");
    let kept = at_once(here.find(&name(), None)).unwrap().unwrap();
    assert_eq!(kept.digest, Digest::of(text("1.0.0", 2).as_bytes()));
    // The same text twice is no conflict.
    store.before(move || assert!(put(&there, &text("1.1.0", 1), &Expect::Any).unwrap()));
    assert!(!put(&here, &text("1.1.0", 1), &Expect::Any).unwrap(), "the other one has made it");
}

#[test]
fn what_a_put_expects_is_judged_when_it_is_written() {
    let (store, here, there) = shared();
    let (here, there) = (Definitions::new(here), Definitions::new(there));
    store.before(move || assert!(put(&there, &text("1.0.0", 1), &Expect::None).unwrap()));
    let refused = put(&here, &text("2.0.0", 1), &Expect::None);
    assert!(
        matches!(&refused, Err(PutError::Precondition { current: Some(c) }) if c.version == "1.0.0"),
        "{refused:?}"
    );
}

#[test]
fn of_two_versions_of_a_table_none_is_lost() {
    let (store, here, there) = shared();
    let (here, there) = (Definitions::new(here), Arc::new(Definitions::new(there)));
    let table = |value: &str| -> Table {
        serde_json::from_value(json!({ "columns": { "a": "text" }, "rows": { "r": { "a": value } } })).unwrap()
    };
    let put = |definitions: &Definitions, value, expect: &Expect| {
        definitions.put_table("t", &table(value), expect).now_or_never().expect("nothing is waited for")
    };
    let of_other = table("there");
    let puts = move || {
        there.put_table("t", &of_other, &Expect::Any).now_or_never().unwrap().unwrap();
    };
    store.before(puts.clone());
    assert_eq!(put(&here, "here", &Expect::Any).unwrap().version, 2);
    let first = at_once(here.tables()).unwrap().pop().unwrap().1;
    store.before(puts);
    let refused = put(&here, "more", &Expect::Latest(first.digest));
    assert!(matches!(&refused, Err(PutTableError::Precondition { current: Some(c) }) if c.version == 3), "{refused:?}");
}

#[test]
fn of_two_first_tokens_one_is_made() {
    let (store, here, there) = shared();
    let (here, there) = (Tokens::new(here), Tokens::new(there));
    let scopes = || [Scope::parse("tokens:admin").unwrap()].into();
    store.before(move || {
        let made = there.create_first("there", scopes(), NOW, 2).now_or_never().unwrap().unwrap();
        assert!(made.is_some());
    });
    let made = here.create_first("here", scopes(), NOW, 1).now_or_never().unwrap().unwrap();
    assert!(made.is_none());
    let names: Vec<String> = at_once(here.all()).unwrap().into_iter().map(|stored| stored.name).collect();
    assert_eq!(names, ["there"]);
}

#[test]
fn surroundings_s2_a_first_token_that_nobody_has_used_is_made_anew() {
    let (_store, here, there) = shared();
    let scopes = || [Scope::parse("tokens:admin").unwrap()].into();
    let start = |journal: &Journal, n: u128| {
        let tokens = Tokens::new(journal.clone());
        let made = tokens.create_first("first operator", scopes(), NOW, n).now_or_never().unwrap().unwrap();
        (tokens, made)
    };
    let is_valid = |tokens: &Tokens, secret: &str| at_once(tokens.find(secret, NOW)).unwrap().is_some();
    let (_, lost) = start(&here, 1);
    let (tokens, read) = start(&here, 2);
    let (lost, read) = (lost.unwrap().1, read.unwrap().1);
    assert!(tokens.first_is_used().now_or_never().is_none());
    assert!(!is_valid(&tokens, &lost), "whoever finds it later in a log has nothing");
    assert!(tokens.first_is_used().now_or_never().is_none(), "a token that is none uses nothing");
    assert!(is_valid(&tokens, &read));
    assert!(tokens.first_is_used().now_or_never().is_some());
    let (tokens, again) = start(&there, 3);
    assert!(again.is_none(), "it was used");
    assert!(is_valid(&tokens, &read) && tokens.first_is_used().now_or_never().is_some());
}

#[test]
fn a_first_token_beside_another_one_stays() {
    let (_store, here, _there) = shared();
    let scopes = || [Scope::parse("tokens:admin").unwrap()].into();
    let tokens = Tokens::new(here.clone());
    let (_, secret) = tokens.create_first("first operator", scopes(), NOW, 1).now_or_never().unwrap().unwrap().unwrap();
    tokens.create("more", scopes(), None, NOW, 2).now_or_never().unwrap().unwrap();
    let tokens = Tokens::new(here);
    assert!(tokens.create_first("first operator", scopes(), NOW, 3).now_or_never().unwrap().unwrap().is_none());
    assert!(tokens.first_is_used().now_or_never().is_none());
    assert!(at_once(tokens.find(&secret, NOW)).unwrap().is_some());
    assert!(tokens.first_is_used().now_or_never().is_some());
}

#[test]
fn of_two_triggers_with_one_key_one_starts_a_run() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply_text(&text("1.0.0", 1));
    let order = trigger(&workflow, json!({}), &[], Some("a key"));
    let run = RunId::new(NOW, 7);
    let bound = Bound { body: order.body, run, revision: None };
    let (journal, key) = (life.journal().clone(), key::idempotency(&workflow.namespace, &workflow.name, "a key"));
    life.store.before(move || {
        let mut write = Write::new();
        write.put(&key, &bound).unwrap();
        journal.commit(write).unwrap();
    });
    let accepted = life.trigger(order).unwrap().unwrap();
    assert!(accepted.replayed && accepted.run == run);
    assert_eq!(life.runs(), [], "nothing of the other is there");
}

/// Somebody else is always first, which ends.
#[test]
fn what_is_refused_each_time_is_given_up() {
    let (store, here, there) = shared();
    let here = Definitions::new(here);
    /// Binds the table's name anew before each of so many commits.
    fn each_time(store: &Arc<Dying>, there: Journal, left: u32) {
        let next = store.clone();
        store.before(move || {
            if left > 0 {
                let mut write = Write::new();
                let rows = BTreeMap::from([("n", left)]);
                write.put(&key::table_current("t"), &rows).unwrap();
                there.commit(write).unwrap();
                each_time(&next, there, left - 1);
            }
        });
    }
    each_time(&store, there, GUARDED_TRIES_MAX);
    let table: Table = serde_json::from_value(json!({ "columns": {}, "rows": {} })).unwrap();
    let put = here.put_table("t", &table, &Expect::Any).now_or_never().unwrap();
    assert!(matches!(&put, Err(PutTableError::Journal(error)) if error.is_refused()), "{put:?}");
}
