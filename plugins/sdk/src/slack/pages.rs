//! Lists that come in pages.

use serde_json::Value;

use super::{Error, budget};

/// The pages of a list method with `cursor`, fetched one by one.
///
/// ```
/// # use bellhop_plugin::{Context, Done, Failure, slack};
/// # use serde_json::json;
/// # fn find(ctx: &Context) -> Result<Done<()>, Failure> {
/// let mut pages = slack::Pages::new(json!({ "limit": 200 }), |args| slack::users::list(args)).after(ctx.state());
/// while let Some(page) = pages.next()? {
///     // … look at the page, return when found …
///     if pages.should_pause() {
///         return Done::again(pages.cursor());
///     }
/// }
/// # Ok(Done::unchanged(()))
/// # }
/// ```
pub struct Pages<F> {
    args: Value,
    call: F,
    cursor: Option<String>,
    ended: bool,
}

impl<F: Fn(&Value) -> Result<Value, Error>> Pages<F> {
    /// From the beginning. `args` is an object.
    pub fn new(args: Value, call: F) -> Self {
        Self { args, call, cursor: None, ended: false }
    }

    /// From where an earlier slice stopped (see [`Pages::cursor`]); from the beginning for none.
    #[must_use]
    pub fn after(mut self, cursor: Option<String>) -> Self {
        self.cursor = cursor.filter(|cursor| !cursor.is_empty());
        self
    }

    /// The next page; none after the last one. A cursor that leads to itself is an error, not an endless list.
    #[allow(clippy::should_implement_trait, reason = "an iterator's item would hide the error behind an option")]
    pub fn next(&mut self) -> Result<Option<Value>, Error> {
        if self.ended {
            return Ok(None);
        }
        if let (Some(cursor), Value::Object(args)) = (&self.cursor, &mut self.args) {
            args.insert("cursor".to_owned(), cursor.as_str().into());
        }
        let page = (self.call)(&self.args)?;
        let next =
            page.pointer("/response_metadata/next_cursor").and_then(Value::as_str).filter(|next| !next.is_empty());
        if next.is_some() && next == self.cursor.as_deref() {
            return Err(Error::unreadable("the list's cursor leads to itself".to_owned()));
        }
        self.cursor = next.map(str::to_owned);
        self.ended = self.cursor.is_none();
        Ok(Some(page))
    }

    /// Where the next page begins; none after the last one. What a slice gives to [`crate::Done::again`].
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Whether there is more and this slice has read so much that the rest belongs into the next one.
    #[must_use]
    pub fn should_pause(&self) -> bool {
        !self.ended && budget::is_short()
    }
}

impl<F> std::fmt::Debug for Pages<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("args", &self.args).field("cursor", &self.cursor).finish_non_exhaustive()
    }
}
