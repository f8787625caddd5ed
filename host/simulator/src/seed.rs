//! The world that every simulator starts with, and the tokens that open it.
//!
//! | place | plan | id | tokens |
//! |---|---|---|---|
//! | organisation Acme | Enterprise | `E0ACME` | `xoxb-org`, `xoxb-org-hq` (granted to `T0HQ` alone), `xoxp-org-owner`, `xoxp-org-admin`, `xoxp-org-member` |
//! | its workspace Acme HQ | | `T0HQ` | `xoxb-hq`, `xoxp-hq-owner`, `xoxp-hq-admin`, `xoxp-hq-member` |
//! | its workspace Acme Lab | | `T0LAB` | `xoxb-lab`, `xoxp-lab-admin`, `xoxp-lab-member` |
//! | workspace Plus | Business+ | `T0PLUS` | `xoxb-plus`, `xoxp-plus-owner`, `xoxp-plus-admin`, `xoxp-plus-member` |
//! | workspace Pro | Pro | `T0PRO` | `xoxb-pro`, `xoxp-pro-owner`, `xoxp-pro-admin`, `xoxp-pro-member` |
//! | workspace Free | Free | `T0FREE` | `xoxb-free`, `xoxp-free-owner`, `xoxp-free-admin`, `xoxp-free-member` |
//!
//! Every token holds every scope of its kind (`chat:write.public` excepted), so that kind, plan and place alone decide;
//! appending `-noscope` gives the same token without any scope. `xoxb-revoked`, `xoxb-expired` and `xoxp-inactive` are what they say.
//!
//! In each place CODE (`HQ`, `LAB`, `PLUS`, `PRO`, `FREE`): channels `C0CODEGENERAL`, `…IT`, `…ITHELP`, `…ENGINEERING`, `…SALES` (the bot is
//! not in it), `…PRIVATE` (#it-private), `…OLD` (#old-project, archived); user groups `S0CODEENGINEERING`, `S0CODEIT` (none on Free);
//! people `U0CODE{PRIMARY,OWNER,ADMIN,MEMBER,GUEST,SINGLE,INVITED,GONE}` and the bot `U0CODEBOT` (`B0CODEBOT`). In the
//! organisation `U0ACMEPRIMARY`, `U0ACMEOWNER` and `U0ACMEADMIN` are its owners and admin, in both workspaces; `U0ACMEBOTH` is a
//! member of both, `U0ACMENOWHERE` of none; `C0ACMEANNOUNCE` is a channel of the whole organisation and `S0ACMESALES` its group.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value, json};

use crate::{
    rules::{Plan, TokenKind},
    world::{
        AccessLogin, Account, Channel, ChannelKind, Group, Installed, Membership, Note, Organisation, Role, Session,
        Token, TokenState, Workspace, World,
    },
};

/// The organisation's id.
pub const ORGANISATION: &str = "E0ACME";
/// A workspace of the organisation.
pub const HQ: &str = "T0HQ";
/// The other workspace of the organisation.
pub const LAB: &str = "T0LAB";
/// The Business+ workspace.
pub const PLUS: &str = "T0PLUS";
/// The Pro workspace.
pub const PRO: &str = "T0PRO";
/// The Free workspace.
pub const FREE: &str = "T0FREE";

/// Bot of [`HQ`].
pub const BOT_HQ: &str = "xoxb-hq";
/// Bot of [`LAB`].
pub const BOT_LAB: &str = "xoxb-lab";
/// Bot of [`PLUS`].
pub const BOT_PLUS: &str = "xoxb-plus";
/// Bot of [`PRO`].
pub const BOT_PRO: &str = "xoxb-pro";
/// Bot of [`FREE`].
pub const BOT_FREE: &str = "xoxb-free";
/// Bot of the organisation, granted to both workspaces.
pub const BOT_ORGANISATION: &str = "xoxb-org";
/// Bot of the organisation, granted to [`HQ`] alone.
pub const BOT_ORGANISATION_HQ: &str = "xoxb-org-hq";
/// An admin of [`HQ`].
pub const USER_HQ_ADMIN: &str = "xoxp-hq-admin";
/// An owner of [`PLUS`]; SCIM works with it.
pub const USER_PLUS_OWNER: &str = "xoxp-plus-owner";
/// An owner of [`PRO`].
pub const USER_PRO_OWNER: &str = "xoxp-pro-owner";
/// An owner of [`FREE`].
pub const USER_FREE_OWNER: &str = "xoxp-free-owner";
/// An admin of the organisation: `admin.*` and SCIM work with it, the audit log does not.
pub const USER_ORGANISATION_ADMIN: &str = "xoxp-org-admin";
/// An owner of the organisation: everything works with it, the audit log included.
pub const USER_ORGANISATION_OWNER: &str = "xoxp-org-owner";
/// A plain member's token from an installation on the organisation.
pub const USER_ORGANISATION_MEMBER: &str = "xoxp-org-member";
/// The bot of [`HQ`] without any scope.
pub const BOT_HQ_NO_SCOPE: &str = "xoxb-hq-noscope";
/// A token that was revoked.
pub const BOT_REVOKED: &str = "xoxb-revoked";
/// A token that expired.
pub const BOT_EXPIRED: &str = "xoxb-expired";
/// A token of somebody who was deactivated.
pub const USER_INACTIVE: &str = "xoxp-inactive";

const BOT_SCOPES: &[&str] = &[
    "channels:history",
    "channels:join",
    "channels:manage",
    "channels:read",
    "channels:write.invites",
    "channels:write.topic",
    "chat:write",
    "groups:history",
    "groups:read",
    "groups:write",
    "groups:write.invites",
    "groups:write.topic",
    "im:history",
    "im:read",
    "im:write",
    "im:write.topic",
    "mpim:history",
    "mpim:read",
    "mpim:write",
    "mpim:write.topic",
    "reactions:write",
    "team.billing:read",
    "team:read",
    "usergroups:read",
    "usergroups:write",
    "users.profile:read",
    "users:read",
    "users:read.email",
];

const USER_SCOPES: &[&str] = &[
    "admin",
    "admin.conversations:read",
    "admin.conversations:write",
    "admin.roles:read",
    "admin.roles:write",
    "admin.teams:read",
    "admin.teams:write",
    "admin.usergroups:read",
    "admin.usergroups:write",
    "admin.users:read",
    "admin.users:write",
    "auditlogs:read",
    "channels:history",
    "channels:read",
    "channels:write",
    "channels:write.invites",
    "channels:write.topic",
    "chat:write",
    "groups:history",
    "groups:read",
    "groups:write",
    "groups:write.invites",
    "groups:write.topic",
    "im:history",
    "im:read",
    "im:write",
    "im:write.topic",
    "mpim:history",
    "mpim:read",
    "mpim:write",
    "mpim:write.topic",
    "reactions:write",
    "team.billing:read",
    "team:read",
    "usergroups:read",
    "usergroups:write",
    "users.profile:read",
    "users.profile:write",
    "users:read",
    "users:read.email",
];

/// When everything in the default world was made.
const BORN_S: u64 = 1_735_689_600;

pub(crate) fn default_world() -> World {
    let mut world = World::default();
    let organisation = Organisation { id: ORGANISATION.to_owned(), name: "Acme".to_owned(), domain: "acme".to_owned() };
    world.organisations.insert(ORGANISATION.to_owned(), organisation);
    for (id, name, domain, plan) in [
        (HQ, "Acme HQ", "acme-hq", Plan::Enterprise),
        (LAB, "Acme Lab", "acme-lab", Plan::Enterprise),
        (PLUS, "Plus", "plus", Plan::BusinessPlus),
        (PRO, "Pro", "pro", Plan::Pro),
        (FREE, "Free", "free", Plan::Free),
    ] {
        let organisation = (plan == Plan::Enterprise).then(|| ORGANISATION.to_owned());
        world.workspaces.insert(
            id.to_owned(),
            Workspace { id: id.to_owned(), name: name.to_owned(), domain: domain.to_owned(), plan, organisation },
        );
    }
    people(&mut world);
    for (workspace, code) in [(HQ, "HQ"), (LAB, "LAB"), (PLUS, "PLUS"), (PRO, "PRO"), (FREE, "FREE")] {
        channels(&mut world, workspace, code);
    }
    organisation_wide(&mut world);
    sessions(&mut world);
    tokens(&mut world);
    world
}

fn account(world: &mut World, id: &str, name: &str, real_name: &str, home: &str, places: &[(&str, Role)]) {
    let domain =
        if home == ORGANISATION { "acme" } else { world.workspaces.get(home).map_or("acme", |w| w.domain.as_str()) };
    let email = format!("{name}@{domain}.example");
    let memberships = places
        .iter()
        .map(|(workspace, role)| {
            ((*workspace).to_owned(), Membership { role: *role, present: true, invited: false, expires_s: 0 })
        })
        .collect();
    world.users.insert(
        id.to_owned(),
        Account {
            id: id.to_owned(),
            name: name.to_owned(),
            real_name: real_name.to_owned(),
            email,
            home: home.to_owned(),
            active: true,
            memberships,
            created_s: BORN_S,
            updated_s: BORN_S,
            ..Account::default()
        },
    );
}

fn people(world: &mut World) {
    let both = |role| [(HQ, role), (LAB, role)];
    account(world, "U0ACMEPRIMARY", "olivia", "Olivia Park", ORGANISATION, &both(Role::PrimaryOwner));
    account(world, "U0ACMEOWNER", "oscar", "Oscar Lund", ORGANISATION, &both(Role::Owner));
    account(world, "U0ACMEADMIN", "ada", "Ada Kern", ORGANISATION, &both(Role::Admin));
    account(world, "U0ACMEBOTH", "bea", "Bea Novak", ORGANISATION, &both(Role::Member));
    account(world, "U0ACMENOWHERE", "nils", "Nils Ohm", ORGANISATION, &[]);
    for (id, role) in
        [("U0ACMEPRIMARY", Role::PrimaryOwner), ("U0ACMEOWNER", Role::Owner), ("U0ACMEADMIN", Role::Admin)]
    {
        if let Some(user) = world.users.get_mut(id) {
            user.organisation_role = Some(role);
        }
    }
    for (workspace, code) in [(HQ, "HQ"), (LAB, "LAB"), (PLUS, "PLUS"), (PRO, "PRO"), (FREE, "FREE")] {
        let home = world.home_of(workspace);
        let paid = code != "FREE";
        for (kind, role, shown) in [
            ("PRIMARY", Role::PrimaryOwner, "Paula"),
            ("OWNER", Role::Owner, "Owen"),
            ("ADMIN", Role::Admin, "Adam"),
            ("MEMBER", Role::Member, "Mona"),
            ("GUEST", Role::MultiChannelGuest, "Gina"),
            ("SINGLE", Role::SingleChannelGuest, "Sven"),
            ("INVITED", Role::Member, "Ines"),
            ("GONE", Role::Member, "Dora"),
        ] {
            // A free workspace has no guests, and the organisation's workspaces have its own primary owner.
            if (role.is_guest() && !paid) || (kind == "PRIMARY" && home == ORGANISATION) {
                continue;
            }
            let id = format!("U0{code}{kind}");
            let name = format!("{}.{}", shown.to_lowercase(), code.to_lowercase());
            account(world, &id, &name, &format!("{shown} {}", title(code)), &home, &[(workspace, role)]);
            if let Some(user) = world.users.get_mut(&id) {
                if kind == "INVITED"
                    && let Some(membership) = user.memberships.get_mut(workspace)
                {
                    membership.invited = true;
                }
                if kind == "GONE" {
                    user.active = false;
                    user.deactivated_s = BORN_S + 86_400;
                }
            }
        }
        bot(
            world,
            &format!("U0{code}BOT"),
            &format!("B0{code}BOT"),
            &format!("bellhop.{}", code.to_lowercase()),
            &home,
            &[workspace],
        );
    }
    bot(world, "U0ACMEBOT", "B0ACMEBOT", "bellhop", ORGANISATION, &[HQ, LAB]);
    account(world, "USLACKBOT", "slackbot", "Slackbot", "", &[]);
}

fn title(code: &str) -> String {
    let mut letters = code.chars();
    letters.next().map_or_else(String::new, |first| format!("{first}{}", letters.as_str().to_lowercase()))
}

fn bot(world: &mut World, id: &str, bot: &str, name: &str, home: &str, workspaces: &[&str]) {
    let places: Vec<(&str, Role)> = workspaces.iter().map(|workspace| (*workspace, Role::Member)).collect();
    account(world, id, name, "Bellhop", home, &places);
    if let Some(user) = world.users.get_mut(id) {
        user.bot = Some(bot.to_owned());
        user.email = String::new();
    }
}

fn channel(world: &mut World, id: &str, name: &str, kind: ChannelKind, teams: &[&str], members: BTreeSet<String>) {
    let creator = members.iter().find(|id| id.ends_with("ADMIN")).or_else(|| members.iter().next()).cloned();
    world.channels.insert(
        id.to_owned(),
        Channel {
            id: id.to_owned(),
            name: name.to_owned(),
            kind,
            teams: teams.iter().map(|team| (*team).to_owned()).collect(),
            organisation_wide: false,
            archived: false,
            general: name == "general",
            creator: creator.unwrap_or_else(|| "USLACKBOT".to_owned()),
            created_s: BORN_S,
            topic: Note::empty(),
            purpose: Note { value: format!("About {name}"), creator: String::new(), last_set: 0 },
            previous_names: Vec::new(),
            members,
            messages: Vec::new(),
        },
    );
}

fn channels(world: &mut World, workspace: &str, code: &str) {
    let present = |pick: &dyn Fn(&Account, Role) -> bool| -> BTreeSet<String> {
        world
            .users
            .values()
            .filter(|user| user.active && !user.memberships.get(workspace).is_some_and(|m| m.invited))
            .filter(|user| user.role_in(workspace).is_some_and(|role| pick(user, role)))
            .map(|user| user.id.clone())
            .collect()
    };
    let everybody = present(&|_, role| !role.is_guest());
    let with_guests = present(&|_, _| true);
    let people = present(&|user, role| !role.is_guest() && user.bot.is_none());
    let staff = present(&|user, role| role.is_admin() || user.bot.is_some());
    let admins = present(&|user, role| role.is_admin() && user.bot.is_none());
    let multi = present(&|_, role| role != Role::SingleChannelGuest);
    let teams = [workspace];
    let id = |name: &str| format!("C0{code}{name}");
    channel(world, &id("GENERAL"), "general", ChannelKind::Public, &teams, everybody.clone());
    channel(world, &id("IT"), "it", ChannelKind::Public, &teams, staff.clone());
    channel(world, &id("ITHELP"), "it-help", ChannelKind::Public, &teams, with_guests);
    channel(world, &id("ENGINEERING"), "engineering", ChannelKind::Public, &teams, multi);
    channel(world, &id("SALES"), "sales", ChannelKind::Public, &teams, people);
    channel(world, &id("PRIVATE"), "it-private", ChannelKind::Private, &teams, staff);
    channel(world, &id("SECRET"), "board", ChannelKind::Private, &teams, admins);
    channel(world, &id("OLD"), "old-project", ChannelKind::Public, &teams, everybody);
    if let Some(old) = world.channels.get_mut(&id("OLD")) {
        old.archived = true;
    }
    if code != "FREE" {
        let member = format!("U0{code}MEMBER");
        let admin = format!("U0{code}ADMIN");
        group(
            world,
            &format!("S0{code}ENGINEERING"),
            workspace,
            "Engineering",
            "engineering",
            vec![admin.clone(), member],
        );
        group(world, &format!("S0{code}IT"), workspace, "IT", "it", vec![admin]);
    }
}

fn group(world: &mut World, id: &str, home: &str, name: &str, handle: &str, users: Vec<String>) {
    let maker = users.first().cloned().unwrap_or_default();
    world.groups.insert(
        id.to_owned(),
        Group {
            id: id.to_owned(),
            home: home.to_owned(),
            name: name.to_owned(),
            handle: handle.to_owned(),
            description: format!("Everybody in {name}"),
            users,
            channels: Vec::new(),
            teams: Vec::new(),
            created_by: maker.clone(),
            updated_by: maker,
            created_s: BORN_S,
            updated_s: BORN_S,
            disabled_s: 0,
        },
    );
}

fn organisation_wide(world: &mut World) {
    let members = ["U0ACMEPRIMARY", "U0ACMEOWNER", "U0ACMEADMIN", "U0ACMEBOTH", "U0ACMEBOT", "U0HQBOT", "U0LABBOT"];
    let members: BTreeSet<String> = members.iter().map(|id| (*id).to_owned()).collect();
    channel(world, "C0ACMEANNOUNCE", "announcements", ChannelKind::Public, &[HQ, LAB], members);
    if let Some(channel) = world.channels.get_mut("C0ACMEANNOUNCE") {
        channel.organisation_wide = true;
    }
    group(world, "S0ACMESALES", ORGANISATION, "Sales", "sales", vec!["U0ACMEBOTH".to_owned()]);
    if let Some(group) = world.groups.get_mut("S0ACMESALES") {
        group.teams.push(HQ.to_owned());
    }
}

fn sessions(world: &mut World) {
    let mut next = 1_112_275_520_000;
    let people: Vec<(String, String)> = world
        .users
        .values()
        .filter(|user| user.active && user.bot.is_none() && user.id != "USLACKBOT")
        .map(|user| (user.id.clone(), user.home.clone()))
        .collect();
    for (user, home) in people {
        for (device, mobile) in [("Intel", false), ("iPhone", true)] {
            next += 1;
            world.sessions.push(Session {
                id: next,
                user: user.clone(),
                team: home.clone(),
                device: device.to_owned(),
                mobile,
            });
        }
        let workspaces: Vec<String> = world
            .users
            .get(&user)
            .map(|account| account.workspaces().into_iter().map(str::to_owned).collect())
            .unwrap_or_default();
        for workspace in workspaces {
            world.logins.push(AccessLogin {
                user: user.clone(),
                workspace,
                ip: "127.0.0.1".to_owned(),
                user_agent: "SlackWeb".to_owned(),
                first_s: BORN_S,
                last_s: BORN_S + 3_600,
                count: 2,
            });
        }
    }
}

/// A token with every scope of its kind, for a given account.
pub(crate) fn token(
    world: &World,
    kind: TokenKind,
    installed: Installed,
    user: &str,
    scopes: Option<&[String]>,
) -> Token {
    let scopes: BTreeSet<String> = match (scopes, kind) {
        (Some(scopes), _) => scopes.iter().cloned().collect(),
        (None, TokenKind::Bot) => BOT_SCOPES.iter().map(|scope| (*scope).to_owned()).collect(),
        (None, TokenKind::User) => USER_SCOPES.iter().map(|scope| (*scope).to_owned()).collect(),
    };
    let scope_line = scopes.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let bot = world.users.get(user).and_then(|account| account.bot.clone());
    Token { kind, installed, user: user.to_owned(), bot, scopes, scope_line, state: TokenState::Good }
}

fn tokens(world: &mut World) {
    let in_workspace = |id: &str| Installed::Workspace(id.to_owned());
    let in_organisation = |granted: &[&str]| Installed::Organisation {
        id: ORGANISATION.to_owned(),
        granted: granted.iter().map(|id| (*id).to_owned()).collect(),
    };
    let mut rows: Vec<(String, TokenKind, Installed, String)> = Vec::new();
    for (workspace, code) in [(HQ, "HQ"), (LAB, "LAB"), (PLUS, "PLUS"), (PRO, "PRO"), (FREE, "FREE")] {
        let word = code.to_lowercase();
        rows.push((format!("xoxb-{word}"), TokenKind::Bot, in_workspace(workspace), format!("U0{code}BOT")));
        for role in ["OWNER", "ADMIN", "MEMBER"] {
            let text = format!("xoxp-{word}-{}", role.to_lowercase());
            rows.push((text, TokenKind::User, in_workspace(workspace), format!("U0{code}{role}")));
        }
    }
    let everywhere = [HQ, LAB];
    rows.push((BOT_ORGANISATION.to_owned(), TokenKind::Bot, in_organisation(&everywhere), "U0ACMEBOT".to_owned()));
    rows.push((BOT_ORGANISATION_HQ.to_owned(), TokenKind::Bot, in_organisation(&[HQ]), "U0ACMEBOT".to_owned()));
    for (text, user) in [
        (USER_ORGANISATION_OWNER, "U0ACMEOWNER"),
        (USER_ORGANISATION_ADMIN, "U0ACMEADMIN"),
        (USER_ORGANISATION_MEMBER, "U0ACMEBOTH"),
    ] {
        rows.push((text.to_owned(), TokenKind::User, in_organisation(&everywhere), user.to_owned()));
    }
    rows.push((BOT_REVOKED.to_owned(), TokenKind::Bot, in_workspace(HQ), "U0HQBOT".to_owned()));
    rows.push((BOT_EXPIRED.to_owned(), TokenKind::Bot, in_workspace(HQ), "U0HQBOT".to_owned()));
    rows.push((USER_INACTIVE.to_owned(), TokenKind::User, in_workspace(HQ), "U0HQGONE".to_owned()));
    for (text, kind, installed, user) in rows {
        let bare = token(world, kind, installed.clone(), &user, Some(&[]));
        let mut full = token(world, kind, installed, &user, None);
        full.state = match text.as_str() {
            BOT_REVOKED => TokenState::Revoked,
            BOT_EXPIRED => TokenState::Expired,
            _ => TokenState::Good,
        };
        world.tokens.insert(format!("{text}-noscope"), Arc::new(bare));
        world.tokens.insert(text, Arc::new(full));
    }
}

/// The profile that a fresh account shows.
pub(crate) fn names_of(real_name: &str) -> (String, String) {
    let mut parts = real_name.splitn(2, ' ');
    (parts.next().unwrap_or_default().to_owned(), parts.next().unwrap_or_default().to_owned())
}

/// The fixed pictures of a profile.
pub(crate) fn pictures() -> Map<String, Value> {
    let picture = |size: u32| format!("https://avatars.example/{size}.png");
    [24, 32, 48, 72, 192, 512].iter().map(|size| (format!("image_{size}"), json!(picture(*size)))).collect()
}
