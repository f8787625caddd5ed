//! What runs share: each shared fact has one owner, which is asked, and which tells runs by messages.

pub(crate) mod concurrency_group;
pub(crate) mod keyed_lock;
pub(crate) mod notices;
pub(crate) mod partition;
pub(crate) mod timers;
