//! How long guests may stay.

use bellhop_plugin::{Context, Done, Failure, action, input, output, slack};
use serde_json::{Value, json};

/// Whose access to which workspace ends when.
#[input]
pub(crate) struct SetGuestExpiry {
    /// The workspace.
    workspace: slack::WorkspaceId,
    /// The guest.
    user: slack::UserId,
    /// When the access ends, in seconds since 1970. Slack looks once an hour.
    until: u64,
}

/// A guest's access.
#[output]
pub(crate) struct GuestExpiry {
    /// The guest's id.
    user: String,
    /// The workspace's id.
    workspace: String,
    /// When the access was to end before; null: never.
    before: Option<u64>,
}

/// Sets when a guest's access to a workspace of the organisation ends. Slack has no way to take an end away again.
#[action(
    name = "user.set-guest-expiry",
    title = "Set when a guest's access ends",
    effect = "update",
    inverse = "user.set-guest-expiry",
    error("not-a-guest", 409, "The person is no guest of the workspace."),
    calls(on("grid-org"), always("admin-users.list"), maybe("admin-users.set-expiration"))
)]
pub(crate) fn set_guest_expiry(context: &Context, input: &SetGuestExpiry) -> Result<Done<GuestExpiry>, Failure> {
    let no_guest = || {
        let message = format!("{} is no guest of the workspace {}", input.user, input.workspace);
        Failure::new("not-a-guest", message)
    };
    let list = json!({ "team_id": input.workspace, "only_guests": true, "limit": 100 });
    let mut pages = slack::Pages::new(list, |args| slack::admin_users::list(args)).after(context.state());
    let guest = loop {
        let page = pages.next()?.ok_or_else(no_guest)?;
        let of_user = |member: &&Value| member["id"] == input.user.as_str();
        if let Some(guest) = slack::list(&page, "/users").iter().find(of_user) {
            break guest.clone();
        }
        if pages.should_pause() {
            return Done::again(pages.cursor());
        }
    };
    let before = guest["expiration_ts"].as_u64().filter(|at| *at > 0);
    let done = GuestExpiry { user: input.user.to_string(), workspace: input.workspace.to_string(), before };
    if before == Some(input.until) {
        return Ok(Done::unchanged(done));
    }
    let set = slack::admin_users::set_expiration(json!({
        "team_id": input.workspace, "user_id": input.user, "expiration_ts": input.until,
    }));
    match set {
        Ok(_) => {}
        Err(refusal) if refusal.is(&["user_is_not_a_guest"]) => return Err(no_guest()),
        Err(refusal) => return Err(refusal.into()),
    }
    let done = Done::changed(done);
    Ok(match before {
        Some(before) => {
            let undo = json!({ "workspace": input.workspace, "user": input.user, "until": before });
            done.undo("user.set-guest-expiry", undo)
        }
        None => done,
    })
}
