//! Ids of names that were found lately.
//!
//! A name is one of a place, as a connection sees it. The connection's own name says neither: another one may have it by
//! now, and one to a whole organisation sees many workspaces.
//!
//! A list is read by one look-up at a time, which leaves it to all that wait for it, and where it was broken off to the one
//! that goes on. Times here are those of the clock that nobody sets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellhop_core::requirement::{Connection, Tenant};
use serde_json::Value;

use super::list::{Listing, Meant, key, unescaped};
use super::named::Named;
use super::reading::Reading;

/// How long a name that was found is believed. After that it is asked for again.
const BELIEVED: Duration = Duration::from_secs(60);
/// Who was deactivated is believed for longer, because the list of a workspace's people is read only for that.
pub(super) const PEOPLE_BELIEVED: Duration = Duration::from_secs(600);
/// Single names of a place, and ids of channels, that are remembered beside its list.
const FOUND_MAX: usize = 10_000;
/// Places of which names are remembered.
const REGISTERS_MAX: usize = 1_000;

/// Where a name is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Within {
    connection: String,
    tenant: Tenant,
    /// The workspace, where the connection sees several.
    workspace: Option<String>,
}

impl Within {
    /// None where nobody knows where the connection leads: then nothing is remembered.
    pub(super) fn of(connection: &Connection, workspace: Option<&str>) -> Option<Self> {
        let (tenant, workspace) = (connection.tenant()?, workspace.map(str::to_owned));
        Some(Self { connection: connection.name.clone(), tenant, workspace })
    }
}

/// What is known of one kind of names in one place.
#[derive(Default)]
pub(super) struct Register {
    known: Mutex<Names>,
    pub(super) reading: Reading,
}

#[derive(Default)]
struct Names {
    listing: Option<Arc<Listing>>,
    /// What was found otherwise, by its key, with the time at which that was so.
    found: HashMap<String, (String, Duration)>,
    /// Names by their id.
    names: HashMap<String, (String, Duration)>,
    /// When this host last changed such a name.
    changed_at: Duration,
    used_at: Duration,
}

impl Names {
    fn put(&mut self, key: String, id: &str, now: Duration) {
        if self.found.len() >= FOUND_MAX {
            self.found.clear();
        }
        self.found.insert(key, (id.to_owned(), now));
    }
}

fn is_within(span: Duration, at: Duration, now: Duration) -> bool {
    now.saturating_sub(at) < span
}

impl Register {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of what is called so, as far as that is believed.
    pub(super) fn believed(&self, text: &str, now: Duration) -> Option<String> {
        let mut names = self.names();
        names.used_at = now;
        if let Some((id, at)) = names.found.get(&key(text))
            && is_within(BELIEVED, *at, now)
        {
            return Some(id.clone());
        }
        let listing = names.listing.as_ref();
        let listing = listing.filter(|l| is_within(BELIEVED, l.ended, now) && l.began >= names.changed_at)?;
        match listing.meant_by(text) {
            Meant::One(item) => Some(item.id.to_string()),
            Meant::Several(_) | Meant::Nothing => None,
        }
    }

    /// The id that was found alone for what is called so, as far as that is believed.
    pub(super) fn found_lately(&self, text: &str, now: Duration) -> Option<String> {
        let names = self.names();
        let (id, at) = names.found.get(&key(text))?;
        is_within(BELIEVED, *at, now).then(|| id.clone())
    }

    /// The id of what was called so some time ago.
    pub(super) fn remembered(&self, text: &str) -> Option<String> {
        let names = self.names();
        if let Some((id, _)) = names.found.get(&key(text)) {
            return Some(id.clone());
        }
        match names.listing.as_ref()?.meant_by(text) {
            Meant::One(item) => Some(item.id.to_string()),
            Meant::Several(_) | Meant::Nothing => None,
        }
    }

    /// It is called so now.
    pub(super) fn found(&self, text: &str, id: &str, now: Duration) {
        self.names().put(key(text), id, now);
    }

    /// It is not called so any more.
    pub(super) fn lost(&self, text: &str) {
        self.names().found.remove(&key(text));
    }

    /// The list, where it was begun to be read at that time or later.
    pub(super) fn listed_since(&self, from: Duration) -> Option<Arc<Listing>> {
        self.names().listing.clone().filter(|listing| listing.began >= from)
    }

    pub(super) fn keep(&self, listing: Arc<Listing>) {
        let mut names = self.names();
        names.used_at = listing.ended;
        names.listing = Some(listing);
    }

    /// The name of a channel, as far as that is believed.
    pub(super) fn name_of(&self, id: &str, now: Duration) -> Option<String> {
        let names = self.names();
        if let Some((name, at)) = names.names.get(id)
            && is_within(BELIEVED, *at, now)
        {
            return Some(name.clone());
        }
        let listing = names.listing.as_ref();
        let listing = listing.filter(|l| is_within(BELIEVED, l.ended, now) && l.began >= names.changed_at)?;
        listing.name_of(id).map(str::to_owned)
    }

    /// The channel with that id is called so now, and by no other name.
    pub(super) fn is_called(&self, id: &str, name: &str, now: Duration) {
        let mut names = self.names();
        names.found.retain(|_, (own, _)| own != id);
        names.put(key(name), id, now);
        if names.names.len() >= FOUND_MAX {
            names.names.clear();
        }
        names.names.insert(id.to_owned(), (name.to_owned(), now));
    }

    /// This host has changed what something is called, so that a list may be wrong that was begun before.
    fn changed(&self, now: Duration) {
        let mut names = self.names();
        names.changed_at = now;
        names.names.clear();
    }

    fn forget(&self) {
        *self.names() = Names::default();
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Known {
    registers: Mutex<HashMap<(Within, Named), Arc<Register>>>,
}

impl Known {
    fn registers(&self) -> MutexGuard<'_, HashMap<(Within, Named), Arc<Register>>> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of such names there. It is kept where it is known which place that is.
    pub(super) fn of(&self, within: Option<&Within>, named: Named) -> Arc<Register> {
        let Some(within) = within else { return Arc::default() };
        let mut registers = self.registers();
        let place = (within.clone(), named);
        if registers.len() >= REGISTERS_MAX && !registers.contains_key(&place) {
            let oldest = registers.iter().min_by_key(|(_, register)| register.names().used_at);
            if let Some(oldest) = oldest.map(|(place, _)| place.clone()) {
                registers.remove(&oldest);
            }
        }
        registers.entry(place).or_default().clone()
    }

    /// Lists of other places go, the ones first that were not used for longest, until those that are kept have no more than
    /// `items_max` items together.
    pub(super) fn makes_room(&self, kept: &Arc<Register>, items_max: usize) {
        let registers = self.registers();
        let length = |register: &Register| register.names().listing.as_ref().map_or(0, |listing| listing.length());
        let mut items: usize = registers.values().map(|register| length(register)).sum();
        let mut others: Vec<&Arc<Register>> = registers.values().filter(|one| !Arc::ptr_eq(one, kept)).collect();
        others.sort_by_key(|register| register.names().used_at);
        for register in others {
            if items <= items_max {
                return;
            }
            items = items.saturating_sub(length(register));
            register.names().listing = None;
        }
    }

    /// A call of this host has changed names of that kind in the connection's place; `answer` is what Slack said to it.
    pub(super) fn changed(&self, connection: &Connection, named: Named, answer: &Value, now: Duration) {
        let Some(tenant) = connection.tenant() else { return };
        let registers = self.registers();
        let here = registers.iter().filter(|((within, own), _)| *own == named && within.tenant.is(&tenant));
        for ((within, _), register) in here {
            if named != Named::Channel {
                register.forget();
                continue;
            }
            register.changed(now);
            let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str);
            if let (Some(id), Some(name)) = (text("/channel/id"), text("/channel/name"))
                && within.connection == connection.name
                && within.workspace.is_none()
            {
                register.is_called(id, &unescaped(name), now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bellhop_core::requirement::{Kind, Permission};
    use serde_json::json;

    use super::super::list::Item;
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn connection(name: &str, workspace: Option<&str>, enterprise: Option<&str>) -> Connection {
        Connection {
            name: name.to_owned(),
            kind: Kind::GridOrg,
            permission: Permission::Act,
            plan: None,
            plan_unknown_because: None,
            checked_at: None,
            tokens: BTreeMap::new(),
            assumed: false,
            workspace_id: workspace.map(str::to_owned),
            enterprise_id: enterprise.map(str::to_owned),
        }
    }

    fn listing(channels: &[(&str, &str)], at: Duration) -> Arc<Listing> {
        let item = |(id, name): &(&str, &str)| Item::of(Named::Channel, &json!({ "id": id, "name": name })).unwrap();
        Arc::new(Listing::of(channels.iter().map(item).collect(), at, at, None))
    }

    #[test]
    fn attack_d7_what_was_found_in_one_place_answers_for_no_other() {
        let known = Known::default();
        let places = [
            Within::of(&connection("a", Some("T1"), None), None),
            Within::of(&connection("a", Some("T2"), None), None),
            Within::of(&connection("b", Some("T1"), None), None),
            // Two workspaces of one organisation.
            Within::of(&connection("org", None, Some("E1")), Some("T1")),
            Within::of(&connection("org", None, Some("E1")), Some("T2")),
        ];
        for (number, place) in places.iter().enumerate() {
            let (register, id) = (known.of(place.as_ref(), Named::Channel), format!("C{number}"));
            assert_eq!(register.believed("it", NOW), None, "{place:?}");
            register.is_called(&id, "it", NOW);
            let again = known.of(place.as_ref(), Named::Channel);
            assert_eq!(again.believed("it", NOW), Some(id.clone()));
            assert_eq!(again.name_of(&id, NOW).as_deref(), Some("it"));
            assert_eq!(again.name_of("C9", NOW), None);
        }
        let nowhere = Within::of(&connection("a", None, None), None);
        known.of(nowhere.as_ref(), Named::Channel).found("it", "C9", NOW);
        let nowhere = known.of(nowhere.as_ref(), Named::Channel);
        assert_eq!(nowhere.believed("it", NOW), None, "nobody knows where that was");
        assert_eq!(known.of(places[0].as_ref(), Named::Channel).believed("it", NOW + BELIEVED), None);
    }

    #[test]
    fn slack_23_a_list_is_believed_from_its_end_on_and_until_this_host_changes_a_name() {
        let known = Known::default();
        let (hq, place) = (connection("hq", Some("T1"), None), Within::of(&connection("hq", Some("T1"), None), None));
        let register = known.of(place.as_ref(), Named::Channel);
        let items = vec![Item::of(Named::Channel, &json!({ "id": "C1", "name": "it" })).unwrap()];
        let ended = NOW + Duration::from_secs(300);
        register.keep(Arc::new(Listing::of(items, NOW, ended, None)));
        assert_eq!(register.believed("#it".trim_start_matches('#'), ended).as_deref(), Some("C1"));
        assert_eq!(register.believed("it", ended + BELIEVED), None);
        assert_eq!(register.remembered("it").as_deref(), Some("C1"), "it is asked about by its id");
        register.keep(listing(&[("C1", "it"), ("C2", "ops")], ended));
        let renamed = json!({ "ok": true, "channel": { "id": "C1", "name": "helpdesk" } });
        let later = ended + Duration::from_secs(1);
        known.changed(&hq, Named::Channel, &renamed, later);
        assert_eq!(register.believed("it", later), None);
        assert_eq!(register.believed("helpdesk", later).as_deref(), Some("C1"));
        assert_eq!(register.believed("ops", later), None, "a list from before is not believed");
        assert_eq!(register.remembered("ops").as_deref(), Some("C2"));
        // What another connection knows of the same workspace is doubted as well, and that of another is not.
        let other = known.of(Within::of(&connection("x", Some("T1"), None), None).as_ref(), Named::Channel);
        let far = known.of(Within::of(&connection("y", Some("T2"), None), None).as_ref(), Named::Channel);
        for register in [&other, &far] {
            register.keep(listing(&[("C1", "it")], later));
        }
        known.changed(&hq, Named::Channel, &renamed, later + Duration::from_secs(1));
        let last = later + Duration::from_secs(2);
        assert_eq!((other.believed("it", last), far.believed("it", last)), (None, Some("C1".to_owned())));
    }

    #[test]
    fn slack_23_what_is_remembered_has_an_end() {
        let known = Known::default();
        let register = |n: usize| {
            let place = Within::of(&connection(&format!("c{n}"), Some("T1"), None), None);
            known.of(place.as_ref(), Named::Channel)
        };
        let channels: Vec<(String, String)> = (0..40).map(|n| (format!("C{n}"), format!("c-{n}"))).collect();
        let channels: Vec<(&str, &str)> = channels.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
        for n in 0..3_u32 {
            let register = register(usize::try_from(n).unwrap());
            register.keep(listing(&channels, NOW + Duration::from_secs(n.into())));
            known.makes_room(&register, 100);
        }
        let is_kept = |n: usize| register(n).remembered("c-1").is_some();
        assert_eq!([is_kept(0), is_kept(1), is_kept(2)], [false, true, true]);
        let names = register(1);
        for n in 0..FOUND_MAX + 5 {
            names.found(&format!("d-{n}"), &format!("D{n}"), NOW);
        }
        assert!(names.names().found.len() <= FOUND_MAX);
        for n in 0..REGISTERS_MAX + 5 {
            drop(register(n + 10));
        }
        assert!(known.registers().len() <= REGISTERS_MAX);
    }
}
