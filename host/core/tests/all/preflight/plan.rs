//! What a plan pins.

use super::case;

#[test]
fn a_plan_pins_aliases_and_full_versions() {
    let report = case("clean");
    let plan = report.plan.expect("nothing blocks");
    let connections: Vec<(&str, &str)> = plan.connections().iter().map(|(a, c)| (a.as_str(), c.as_str())).collect();
    assert_eq!(connections, [("hq", "acme-hq"), ("org", "acme-org")]);
    let actions: Vec<(String, String)> = plan.actions().iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    assert!(actions.contains(&("message.send:1@slack".to_owned(), "message.send:1.2.0@slack".to_owned())));
}

#[test]
fn the_same_question_has_the_same_answer() {
    assert_eq!(case("everything-wrong"), case("everything-wrong"));
}
