//! The words that people were promised: features of the four products, and the error of the design.

use bellhop_core::diagnostic::render;
use serde_json::json;

use super::{case, only};

/// The text of the design, character by character.
const KNOWN: &str = r#"error[plan-required]: `message.send` cannot run on connection `acme`
  --> workflows/send-notification.yaml:21:13 (task /do/0/notify)
   |
21 |       call: message.send:1@slack
   |             ^^^^^^^^^^^^^^^^^^^^ calls chat.postMessage, which acts in one workspace
   |
   = needs: a connection of kind "Enterprise Grid: Workspace" (or a Pro / Business+ workspace)
   = has:   "Enterprise Grid: Grid account"
   = fix:   connect the workspace too: bellhop connect slack --kind grid-workspace --name acme-hq
   = who:   a Workspace Owner of that workspace
   = more:  bellhop explain plan-required
"#;

#[test]
fn the_known_error_is_the_one_of_the_design() {
    let report = case("known-error");
    let diagnostic = only(&report);
    assert_eq!(render(diagnostic), KNOWN);
    assert_eq!(
        serde_json::to_value(diagnostic).unwrap(),
        json!({
            "code": "plan-required", "severity": "error",
            "file": "workflows/send-notification.yaml", "line": 21, "column": 13,
            "task": "/do/0/notify", "action": "message.send:1@slack",
            "methods": ["chat.postMessage"], "connection": "acme",
            "needs": {"kinds": ["grid-workspace", "workspace"], "title": "Enterprise Grid: Workspace"},
            "has": {"kind": "grid-org", "title": "Enterprise Grid: Grid account"},
            "retryable": "after-remedy", "who": "a Workspace Owner of that workspace",
            "remedies": [{
                "title": "connect the workspace too",
                "command": "bellhop connect slack --kind grid-workspace --name acme-hq",
                "http": {
                    "method": "POST", "path": "/v1/connections",
                    "body": {"kind": "grid-workspace", "name": "acme-hq"},
                },
            }],
        })
    );
}

#[test]
fn t07_user_management_below_business_plus_names_the_plans() {
    for name in ["provision-on-pro", "provision-on-free"] {
        let text = render(only(&case(name)));
        assert!(text.contains("Business+ or Enterprise Grid"), "{text}");
    }
}

#[test]
fn t09_an_acting_step_over_a_read_only_connection_names_the_permission() {
    let report = case("read-only");
    let diagnostic = only(&report);
    assert_eq!(diagnostic.code.0, "permission-read-only");
    assert!(render(diagnostic).contains("read and take action"), "{}", render(diagnostic));
}

#[test]
fn t27_fault_notifications_on_a_free_workspace_name_the_paid_plans() {
    let report = case("notify-on-free");
    let text = render(only(&report));
    for plan in ["Pro", "Business+", "Enterprise"] {
        assert!(text.contains(plan), "{text}");
    }
}

#[test]
fn r23_organisation_actions_outside_a_grid_name_the_grid_account() {
    for name in ["provision-on-grid-workspace", "suspend-on-business-plus", "assign-on-grid-workspace"] {
        let text = render(only(&case(name)));
        assert!(text.contains("\"Enterprise Grid: Grid account\""), "{text}");
    }
}

#[test]
fn l14_suspending_names_enterprise_grid() {
    let text = render(only(&case("suspend-on-business-plus")));
    assert!(text.contains("Enterprise Grid"), "{text}");
}

#[test]
fn l16_l21_licences_are_in_the_plan_of_the_run() {
    let report = case("licences");
    assert_eq!((report.outline.licences.adds, report.outline.licences.reclaims), (1, 1));
}

#[test]
fn l22_provisioning_is_not_for_offboarding() {
    let report = case("purpose-not-allowed");
    assert_eq!(only(&report).code.0, "purpose-not-allowed");
}
