//! The simulator's page: its examples are played, and its table is that of the rules. `UPDATE_EXPECT=1` writes the table.

use std::{fs, path::Path};

use bellhop_simulator::rules;
use serde_json::Value;

use crate::driver::Slack;

const FROM: &str = "<!-- rules -->\n";
const TO: &str = "<!-- /rules -->";

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulator.md")
}

#[tokio::test]
async fn each_example_of_the_page_is_taken() {
    let page = fs::read_to_string(path()).unwrap();
    let mut played = 0;
    for block in page.split("\n```json ").skip(1) {
        let (head, rest) = block.split_once('\n').unwrap();
        let (body, _) = rest.split_once("\n```").unwrap();
        let (verb, route) = head.split_once(' ').unwrap();
        let body: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
        let slack = Slack::start().await;
        let answer = slack.http("", verb, route, body).await;
        assert_eq!(answer.status, 200, "{head}: {}", answer.body);
        played += 1;
    }
    assert_eq!(played, 3);
}

#[test]
fn the_table_of_the_page_is_that_of_the_rules() {
    let page = fs::read_to_string(path()).unwrap();
    let (before, rest) = page.split_once(FROM).unwrap();
    let (there, after) = rest.split_once(TO).unwrap();
    let table = rules::table();
    if there == table {
        return;
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path(), format!("{before}{FROM}{table}{TO}{after}")).unwrap();
        return;
    }
    panic!("the table of {} is not that of the rules: UPDATE_EXPECT=1 writes it", path().display());
}
