"""The official Python client against the simulator: argument 1 is its address, http://127.0.0.1:PORT.

Nothing of slack_sdk is changed. Prints one line for each check and ends with 1 if any fails.
"""

import sys

from slack_sdk import WebClient
from slack_sdk.audit_logs import AuditLogsClient
from slack_sdk.errors import SlackApiError
from slack_sdk.scim import SCIMClient
from slack_sdk.scim.v1.group import Group, GroupMember
from slack_sdk.scim.v1.user import User, UserEmail, UserName

BASE = sys.argv[1]
failures = 0


def web(token):
    return WebClient(token, base_url=BASE + "/api/", retry_handlers=[])


def scim(token):
    return SCIMClient(token, base_url=BASE + "/scim/v1/", retry_handlers=[])


def check(name, condition, shown=None):
    global failures
    if condition:
        print("ok      " + name)
    else:
        failures += 1
        print("FAILED  " + name + ": " + repr(shown))


def refused(name, code, call):
    try:
        answer = call()
    except SlackApiError as error:
        check(name, error.response["error"] == code, error.response.data)
    else:
        check(name, False, answer.data)


def facts():
    bot = web("xoxb-hq")
    answer = bot.auth_test()
    check("auth.test", answer["team_id"] == "T0HQ" and answer["enterprise_id"] == "E0ACME", answer.data)
    check("api.test", bot.api_test(foo="bar")["args"]["foo"] == "bar")
    check("team.info", bot.team_info()["team"]["domain"] == "acme-hq")
    check("team.billing.info", web("xoxb-plus").team_billing_info()["plan"] == "plus")
    check("bots.info", bot.bots_info(bot="B0HQBOT")["bot"]["user_id"] == "U0HQBOT")
    teams = web("xoxb-org").auth_teams_list()["teams"]
    check("auth.teams.list", [team["id"] for team in teams] == ["T0HQ", "T0LAB"], teams)
    check("team.accessLogs", len(web("xoxp-pro-owner").team_accessLogs()["logins"]) > 0)
    refused("no token", "not_authed", lambda: web("").auth_test())
    refused("wrong token", "invalid_auth", lambda: web("xoxb-nobody").auth_test())
    refused("missing scope", "missing_scope", lambda: web("xoxb-hq-noscope").users_list())
    refused("team_id on a token of an organisation", "missing_argument", lambda: web("xoxb-org").users_list())
    refused("plan", "plan_upgrade_required", lambda: web("xoxb-free").usergroups_list())


def messages():
    bot = web("xoxb-hq")
    metadata = {"event_type": "hire", "event_payload": {"bellhop": "key-1", "own": [1, 2]}}
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "*hello*"}}]
    posted = bot.chat_postMessage(channel="C0HQIT", text="hello", blocks=blocks, metadata=metadata)
    block = posted["message"]["blocks"][0]
    check("chat.postMessage", block["text"] == blocks[0]["text"] and block["block_id"], posted.data)
    ts = posted["ts"]
    history = bot.conversations_history(channel="C0HQIT", include_all_metadata=True, limit=1)
    check("conversations.history", history["messages"][0]["metadata"] == metadata, history.data)
    bot.chat_postMessage(channel="C0HQIT", text="reply", thread_ts=ts)
    check("conversations.replies", len(bot.conversations_replies(channel="C0HQIT", ts=ts)["messages"]) == 2)
    check("chat.update", bot.chat_update(channel="C0HQIT", ts=ts, text="hi", blocks=[])["text"] == "hi")
    check("reactions.add", bot.reactions_add(channel="C0HQIT", timestamp=ts, name="wave")["ok"])
    refused("already_reacted", "already_reacted", lambda: bot.reactions_add(channel="C0HQIT", timestamp=ts, name="wave"))
    check("chat.delete", bot.chat_delete(channel="C0HQIT", ts=ts)["ts"] == ts)
    check("a person as channel", bot.chat_postMessage(channel="U0HQMEMBER", text="hello")["channel"].startswith("D"))
    refused("not_in_channel", "not_in_channel", lambda: bot.chat_postMessage(channel="C0HQSALES", text="x"))


def people():
    bot = web("xoxb-plus")
    members = [member["id"] for page in bot.users_list(limit=3) for member in page["members"]]
    check("users.list in pages", len(members) == len(set(members)) == 10, members)
    check("users.info", bot.users_info(user="U0PLUSMEMBER")["user"]["name"] == "mona.plus")
    found = bot.users_lookupByEmail(email="mona.plus@plus.example")
    check("users.lookupByEmail", found["user"]["id"] == "U0PLUSMEMBER")
    refused("a deactivated person by e-mail", "users_not_found", lambda: bot.users_lookupByEmail(email="dora.plus@plus.example"))
    owner = web("xoxp-plus-owner")
    profile = owner.users_profile_set(user="U0PLUSMEMBER", profile={"title": "Cook"})["profile"]
    check("users.profile.set", profile["title"] == "Cook", profile)
    check("users.profile.get", bot.users_profile_get(user="U0PLUSMEMBER")["profile"]["title"] == "Cook")
    check("users.conversations", len(bot.users_conversations(user="U0PLUSMEMBER")["channels"]) > 0)


def channels():
    bot = web("xoxb-plus")
    made = bot.conversations_create(name="newcomers", is_private=True)["channel"]
    channel = made["id"]
    check("conversations.create", made["is_private"] and made["is_member"], made)
    check("conversations.invite", bot.conversations_invite(channel=channel, users=["U0PLUSMEMBER", "U0PLUSADMIN"])["ok"])
    members = bot.conversations_members(channel=channel)["members"]
    check("conversations.members", len(members) == 3, members)
    check("conversations.kick", bot.conversations_kick(channel=channel, user="U0PLUSMEMBER")["ok"])
    check("conversations.setTopic", bot.conversations_setTopic(channel=channel, topic="t")["channel"]["topic"]["value"] == "t")
    check("conversations.setPurpose", bot.conversations_setPurpose(channel=channel, purpose="p")["ok"])
    check("conversations.rename", bot.conversations_rename(channel=channel, name="new")["channel"]["name"] == "new")
    check("conversations.archive", bot.conversations_archive(channel=channel)["ok"])
    check("conversations.unarchive", web("xoxp-plus-admin").conversations_unarchive(channel=channel)["ok"])
    check("conversations.join", bot.conversations_join(channel="C0PLUSSALES")["channel"]["is_member"])
    check("conversations.leave", bot.conversations_leave(channel="C0PLUSSALES")["ok"])
    check("conversations.open", bot.conversations_open(users=["U0PLUSMEMBER"])["channel"]["id"].startswith("D"))
    listed = [c["id"] for page in bot.conversations_list(types="public_channel,private_channel", limit=2) for c in page["channels"]]
    check("conversations.list in pages", channel in listed and len(listed) == len(set(listed)), listed)
    check("conversations.info", bot.conversations_info(channel=channel)["channel"]["name"] == "new")
    made = bot.usergroups_create(name="Bakers", handle="bakers")["usergroup"]
    check("usergroups.create", made["handle"] == "bakers")
    updated = bot.usergroups_users_update(usergroup=made["id"], users=["U0PLUSMEMBER", "U0PLUSADMIN"])
    check("usergroups.users.update", updated["usergroup"]["users"] == ["U0PLUSMEMBER", "U0PLUSADMIN"], updated.data)
    check("usergroups.users.list", len(bot.usergroups_users_list(usergroup=made["id"])["users"]) == 2)
    check("usergroups.update", bot.usergroups_update(usergroup=made["id"], description="d")["usergroup"]["description"] == "d")
    check("usergroups.list", any(g["id"] == made["id"] for g in bot.usergroups_list(include_users=True)["usergroups"]))
    check("usergroups.disable", bot.usergroups_disable(usergroup=made["id"])["ok"])
    check("usergroups.enable", bot.usergroups_enable(usergroup=made["id"])["ok"])


def administration():
    admin = web("xoxp-org-admin")
    check("admin.users.assign", admin.admin_users_assign(team_id="T0HQ", user_id="U0ACMENOWHERE", channel_ids=["C0HQIT"])["ok"])
    listed = [u["id"] for page in admin.admin_users_list(team_id="T0HQ", limit=4) for u in page["users"]]
    check("admin.users.list in pages", "U0ACMENOWHERE" in listed and len(listed) == len(set(listed)), listed)
    check("admin.users.setAdmin", admin.admin_users_setAdmin(team_id="T0HQ", user_id="U0ACMENOWHERE")["ok"])
    check("admin.users.setRegular", admin.admin_users_setRegular(team_id="T0HQ", user_id="U0ACMENOWHERE")["ok"])
    sessions = admin.admin_users_session_list(team_id="T0HQ", user_id="U0ACMENOWHERE")["active_sessions"]
    check("admin.users.session.list", len(sessions) == 2, sessions)
    check("admin.users.session.invalidate", admin.admin_users_session_invalidate(session_id=str(sessions[0]["session_id"]), team_id="T0HQ", user_id="U0ACMENOWHERE")["ok"])
    check("admin.users.session.reset", admin.admin_users_session_reset(user_id="U0ACMENOWHERE")["ok"])
    check("admin.users.remove", admin.admin_users_remove(team_id="T0HQ", user_id="U0ACMENOWHERE")["ok"])
    check("admin.users.invite", admin.admin_users_invite(team_id="T0HQ", email="new@acme.example", channel_ids=["C0HQIT"])["ok"])
    check("admin.teams.list", len(admin.admin_teams_list()["teams"]) == 2)
    channel = admin.admin_conversations_create(is_private=False, name="plans", team_id="T0HQ")["channel_id"]
    check("admin.conversations.invite", admin.admin_conversations_invite(channel_id=channel, user_ids=["U0HQMEMBER"])["ok"])
    check("admin.conversations.search", admin.admin_conversations_search(query="plans")["total_count"] == 1)
    check("admin.conversations.archive", admin.admin_conversations_archive(channel_id=channel)["ok"])
    check("admin.usergroups.addTeams", admin.admin_usergroups_addTeams(usergroup_id="S0ACMESALES", team_ids=["T0LAB"])["ok"])
    check("admin.usergroups.addChannels", admin.admin_usergroups_addChannels(usergroup_id="S0ACMESALES", channel_ids=["C0HQIT"])["ok"])
    check("admin.usergroups.listChannels", len(admin.admin_usergroups_listChannels(usergroup_id="S0ACMESALES")["channels"]) == 1)
    role = {"role_id": "Rl0A", "entity_ids": ["T0HQ"], "user_ids": ["U0HQMEMBER"]}
    check("admin.roles.addAssignments", admin.admin_roles_addAssignments(**role)["ok"])
    check("admin.roles.listAssignments", len(admin.admin_roles_listAssignments(role_ids=["Rl0A"])["role_assignments"]) == 1)
    check("admin.roles.removeAssignments", admin.admin_roles_removeAssignments(**role)["ok"])
    refused("an admin method elsewhere", "feature_not_enabled", lambda: web("xoxp-plus-owner").admin_users_list())
    audit = AuditLogsClient("xoxp-org-owner", base_url=BASE + "/audit/v1/", retry_handlers=[])
    check("audit logs", len(audit.logs(limit=5).body["entries"]) == 5)


def provisioning(token, domain):
    client = scim(token)
    user = User(
        user_name="rosa",
        name=UserName(given_name="Rosa", family_name="Diaz"),
        emails=[UserEmail(value="rosa@" + domain, primary=True)],
        external_id="hr-1",
        title="Cook",
    )
    made = client.create_user(user)
    check("SCIM create_user " + domain, made.status_code == 201 and made.user.active is True, made.raw_body)
    rosa = made.user.id
    again = client.create_user(user)
    check("SCIM create_user twice", again.status_code == 409 and again.errors.code == 409, again.raw_body)
    found = client.search_users(count=10, start_index=1, filter='email eq "rosa@' + domain + '"')
    check("SCIM search_users", [one.id for one in found.users] == [rosa], found.raw_body)
    patched = client.patch_user(rosa, partial_user=User(title="Chef"))
    check("SCIM patch_user", patched.user.title == "Chef", patched.raw_body)
    read = client.read_user(rosa).user
    check("SCIM read_user", read.name.given_name == "Rosa" and not read.external_id, read.to_dict())
    read.user_name = "rosa.diaz"
    check("SCIM update_user", client.update_user(read).user.user_name == "rosa.diaz")
    group = client.create_group(Group(display_name="Cooks", members=[GroupMember(value=rosa)])).group
    check("SCIM create_group", [member.value for member in group.members] == [rosa], group.to_dict())
    groups = client.search_groups(count=10, start_index=1, filter='displayName eq "Cooks"').groups
    check("SCIM search_groups", [one.id for one in groups] == [group.id])
    renamed = client.patch_group(group.id, partial_group=Group(display_name="Chefs")).status_code
    check("SCIM patch_group", renamed == 200 and client.read_group(group.id).group.display_name == "Chefs")
    group.members = []
    check("SCIM update_group", client.update_group(group).status_code == 200)
    check("SCIM delete_group", client.delete_group(group.id).status_code == 200)
    check("SCIM delete_user", client.delete_user(rosa).status_code == 200)
    check("SCIM a deactivated user", client.read_user(rosa).user.active is False)
    missing = client.read_user("U0NOBODY")
    check("SCIM a missing user", missing.status_code == 404 and missing.errors.description == "user_not_found", missing.raw_body)


facts()
messages()
people()
channels()
administration()
provisioning("xoxp-org-admin", "acme.example")
provisioning("xoxp-plus-owner", "plus.example")
check("SCIM below Business+", scim("xoxp-pro-owner").search_users(count=1, start_index=1).status_code == 403)
print("failed: " + str(failures))
sys.exit(1 if failures else 0)
