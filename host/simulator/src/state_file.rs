//! A world that outlives the process: written whole after each change, in one step, so that whoever reads it finds the world
//! before the change or after it.

use std::{fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    world::{Unshown, World},
};

/// Of the form of the file. Another one is refused, because nothing here reads it.
const FORM: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept<W> {
    simulator: u32,
    world: W,
    unshown: Unshown,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct StateFile(PathBuf);

impl StateFile {
    /// The file, and the world in it; none where there is no such file yet.
    ///
    /// # Errors
    /// It cannot be read, or is no world of this simulator's: it is as it was.
    pub(crate) fn open(path: PathBuf) -> Result<(Self, Option<World>), Error> {
        let unreadable = |why: String| Error::State { path: path.clone(), why };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Self(path), None)),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let kept: Kept<World> = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if kept.simulator != FORM {
            return Err(unreadable(format!("it has the form {}, and this program reads {FORM}", kept.simulator)));
        }
        Ok((Self(path), Some(kept.world.with(kept.unshown))))
    }

    /// Writes the world. What was written before stays where this fails, which is logged: the calls go on.
    pub(crate) fn write(&self, world: &World) {
        let kept = Kept { simulator: FORM, world, unshown: world.unshown() };
        let beside = self.0.with_extension("new");
        let written = serde_json::to_vec(&kept)
            .map_err(io::Error::other)
            .and_then(|bytes| fs::write(&beside, bytes))
            .and_then(|()| fs::rename(&beside, &self.0));
        if let Err(error) = written {
            tracing::error!(%error, path = %self.0.display(), "the state of the simulated Slack is not kept");
        }
    }
}
