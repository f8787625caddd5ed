//! What removes records whose time is over.

pub(crate) mod retention;
pub(crate) mod sweep;
