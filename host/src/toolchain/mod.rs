//! Building plugins: from a crate to a component.
//!
//! The build script includes `compile.rs` of this room too, so that the component which ships inside the
//! program is made by the same code as everybody's plugins.

mod compile;

use std::path::Path;

pub(crate) use compile::{Error as CompileError, Options, compile, encode};

use crate::sandbox::{Refusal, Sandbox};

/// Why there is no plugin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Compiling or encoding failed; what the compiler said is on standard error already.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It was built, but no host would take it.
    #[error("the plugin was built, but would be refused: {0}")]
    Refused(#[from] Refusal),
}

/// Compiles the crate in `dir`, encodes it as a component and checks it as an installation would.
///
/// After Ok the component, which is given, is one that `sandbox` accepts, as far as that can be told without running it.
///
/// # Errors
/// See [`Error`]. Nothing is written outside the target folder.
pub(crate) fn build(sandbox: &Sandbox, dir: &Path, options: &Options) -> Result<Vec<u8>, Error> {
    let bytes = encode(&compile(dir, options)?)?;
    let _accepted = sandbox.inspect(&bytes)?;
    Ok(bytes)
}
