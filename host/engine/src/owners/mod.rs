//! The owners of what runs share: each is asked for one kind of thing, and tells runs by messages.

pub(crate) mod concurrency_group;
pub(crate) mod keyed_lock;
pub(crate) mod timers;
