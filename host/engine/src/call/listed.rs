//! Reads one of Slack's lists for the sake of a name, page by page.
//!
//! One look-up reads a list at a time; others wait for it and take what it found. What was read is kept when the run is put
//! down halfway, and the next look-up goes on from there: a long list takes longer than a run may stay in memory.

use std::sync::Arc;
use std::time::Duration;

use bellhop_slack::catalog::Method;
use bellhop_slack::catalog::outcome::{Kind, classify};
use serde_json::Value;

use super::known::Register;
use super::list::{Item, Listing, Meant, key, unescaped};
use super::named::Named;
use super::reading::Part;
use super::scope::Scope;
use super::unresolved::{Name, Unresolved, read, refused, untold};
use crate::execution::Execution;

/// Pages of a list, whatever is in them: Slack may answer empty ones with a cursor.
const PAGES_MAX: usize = 2_000;

/// What came of reading.
pub(super) enum Found {
    /// This is what is called so; the rest of the list was not needed.
    One(String),
    /// The whole list.
    Among(Arc<Listing>),
}

/// What is read, and for which name.
pub(super) struct Listed<'l, E> {
    pub(super) scope: &'l Scope<E>,
    pub(super) name: &'l Name<'l>,
    pub(super) register: &'l Arc<Register>,
    pub(super) method: &'static Method,
    /// Where in an answer the items are.
    pub(super) list: &'static str,
    /// Of the first page.
    pub(super) arguments: Value,
    /// The name without what people put before it.
    pub(super) plain: &'l str,
}

/// What a page leads to.
enum Page {
    Read,
    /// It was refused for a part of what was asked for. The rest is asked for without it.
    Narrower,
    /// Slack does not know its own cursor any more: from the beginning.
    Anew,
}

impl<E: Execution> Listed<'_, E> {
    /// The list as it was at `since` or later, or what has the name in it.
    ///
    /// # Errors
    /// As for a request of a look-up; and the list is longer than is read.
    pub(super) async fn read(&self, since: Duration) -> Result<Found, Unresolved> {
        let mut reader = loop {
            match self.register.reading.begins() {
                Ok(reader) => break reader,
                Err(turn) => self.scope.waits_for_list(self.name.key, turn).await.map_err(Unresolved::Stopped)?,
            }
        };
        let kept = &mut *reader.part;
        if let Some(listing) = self.register.listed_since(since) {
            return Ok(Found::Among(listing));
        }
        let now = self.scope.monotonic();
        if let Some(id) = self.register.found_lately(self.plain, now) {
            return Ok(Found::One(id));
        }
        kept.take_if(|part| !part.is_fresh(now));
        let is_resumed = kept.is_some();
        if let Some(found) = self.goes_on(kept).await? {
            return Ok(found);
        }
        // The first pages are from before anybody asked: what is not in them may be there now.
        let listing = self.whole(kept)?;
        if !is_resumed || listing.began >= since || listing.meant_by(self.plain) != Meant::Nothing {
            return Ok(Found::Among(listing));
        }
        if let Some(found) = self.goes_on(kept).await? {
            return Ok(found);
        }
        self.whole(kept).map(Found::Among)
    }

    /// Reads on to the end of the list, or until something shows that is surely meant.
    async fn goes_on(&self, kept: &mut Option<Part>) -> Result<Option<Found>, Unresolved> {
        let (sought, mut looked_at) = (key(self.plain), 0);
        loop {
            let now = self.scope.monotonic();
            let part = kept.get_or_insert_with(|| Part::of(self.arguments.clone(), now));
            let alone = |item: &&Item| item.is_alone(self.name.named, &sought);
            if let Some(item) = part.items.iter().skip(looked_at).find(alone) {
                self.register.found(self.plain, &item.id, part.at);
                return Ok(Some(Found::One(item.id.to_string())));
            }
            looked_at = part.items.len();
            if part.pages > 0 && part.cursor.is_none() {
                return Ok(None);
            }
            let mut arguments = part.arguments.clone();
            if let Some(cursor) = &part.cursor {
                arguments["cursor"] = cursor.as_str().into();
            }
            let answer = read(self.scope, self.name, self.method, &arguments).await?;
            let turned = if answer.ok { self.takes(part, &answer.body) } else { self.narrows(part, answer) };
            match turned {
                Ok(Page::Anew) => {
                    *kept = None;
                    looked_at = 0;
                }
                // The last page is looked at, too.
                Ok(Page::Read | Page::Narrower) => {}
                Err(unresolved) => {
                    *kept = None;
                    return Err(unresolved);
                }
            }
        }
    }

    /// The list, of which every page was read.
    fn whole(&self, kept: &mut Option<Part>) -> Result<Arc<Listing>, Unresolved> {
        let Some(part) = kept.take() else { return Err(untold(self.scope, self.name, "nothing was read")) };
        let listing = Arc::new(Listing::of(part.items, part.began, self.scope.monotonic(), part.withheld));
        self.register.keep(listing.clone());
        let services = &self.scope.services;
        let max = usize::try_from(services.limits.names_listed_max).unwrap_or(usize::MAX);
        services.names.makes_room(self.register, max);
        Ok(listing)
    }

    fn takes(&self, part: &mut Part, body: &Value) -> Result<Page, Unresolved> {
        let method = &self.method.name;
        let Some(page) = body[self.list].as_array() else {
            return Err(untold(self.scope, self.name, &format!("the answer of {method} has no `{}`", self.list)));
        };
        let max = self.scope.services.limits.names_listed_max;
        part.items.extend(page.iter().filter_map(|item| Item::of(self.name.named, item)));
        part.pages += 1;
        part.at = self.scope.monotonic();
        if part.items.len() as u64 > max {
            let why = format!("{method} lists more than {max} (`names_listed_max`): give its id");
            return Err(untold(self.scope, self.name, &why));
        }
        let next = body["response_metadata"]["next_cursor"].as_str().filter(|cursor| !cursor.is_empty());
        if part.pages >= PAGES_MAX || (next.is_some() && next == part.cursor.as_deref()) {
            let why = format!("{method} comes to no end after {} pages: give its id", part.pages);
            return Err(untold(self.scope, self.name, &why));
        }
        part.cursor = next.map(str::to_owned);
        Ok(Page::Read)
    }

    /// What is left to be asked after a refusal.
    fn narrows(&self, part: &mut Part, answer: bellhop_slack::client::Answer) -> Result<Page, Unresolved> {
        let error = answer.error.as_deref().unwrap_or_default();
        if error == "invalid_cursor" && part.pages > 0 {
            return Ok(Page::Anew);
        }
        // One scope is for public channels and another for private ones, and Slack refuses both where one is missing.
        let is_scope = classify(self.method, error).kind == Kind::Scope;
        let narrower = part.arguments["types"].as_str().and_then(Named::narrower).filter(|_| is_scope);
        let Some(narrower) = narrower else {
            let first = part.withheld.take();
            return Err(refused(self.scope, self.name, self.method, first.as_deref().unwrap_or(&answer)));
        };
        part.arguments["types"] = narrower.into();
        part.cursor = None;
        part.withheld.get_or_insert_with(|| Arc::new(answer));
        Ok(Page::Narrower)
    }
}

/// The names and ids that a page of a list has, as they are compared; one thing may have several.
pub(crate) fn pairs(list: &[Value]) -> Vec<(String, String)> {
    let of = |item: &Value| {
        let id = item["id"].as_str()?.to_owned();
        // One that is a name of one thing and a handle of another stays a name.
        let names = ["name", "handle", "domain"].into_iter().filter_map(|field| item[field].as_str());
        Some(names.map(|name| (key(&unescaped(name)), id.clone())).collect::<Vec<_>>())
    };
    list.iter().filter_map(of).flatten().collect()
}
