//! Lines for whoever operates the host. Always granted, capped, and silent while the host replays the action: a line that was
//! written before the action was put down is not written again. Each is one line of the host's log, at its level, with
//! line breaks and control characters written as escapes.

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Details for the author.
    Debug,
    /// What happened.
    Info,
    /// What should be looked at.
    Warn,
}

/// Writes a line. Never put a secret or a person's data into it.
pub fn write(level: Level, text: &str) {
    let level = match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
    };
    #[cfg(target_arch = "wasm32")]
    crate::bindings::bellhop::action::log::log(level, text);
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::logged(level, text);
}
