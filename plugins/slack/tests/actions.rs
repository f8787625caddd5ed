//! Every branch of every action, against a scripted Slack; what is called is what is declared.

use std::path::Path;

use bellhop_plugin_slack::PLUGIN;

#[test]
fn every_action_in_every_branch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let faults = bellhop_plugin::testing::check(&PLUGIN, &folder);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
