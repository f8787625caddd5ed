//! Follows what other processes set up; see [`crate::setup::revision`].

use std::sync::Arc;

use bellhop_journal::{self as journal, Reach};

use crate::Engine;
use crate::accept::blocked::Change;
use crate::setup::installation;
use crate::setup::revision::{Followed, LOOK_EVERY, written};

impl Engine {
    /// Reads anew what others set up, until the process stops.
    pub(crate) async fn follow_setup(self: Arc<Self>, followed: Option<Followed>) {
        let Some(Followed { mut read, mut watch }) = followed else { return };
        let mut drain = self.services.drain.subscribe();
        loop {
            let is_read = match self.read_setup_anew(&mut read).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(%error, "what was set up cannot be read; it is tried again");
                    false
                }
            };
            let looks = watch.reach() == Reach::Most || !is_read;
            tokio::select! {
                biased;
                _ = drain.wait_for(|drain| *drain) => return,
                () = watch.changed() => {}
                () = self.services.clock.sleep(LOOK_EVERY), if looks => {}
            }
        }
    }

    /// Reads it if there is another revision than `read`, which after Ok is the one that was read.
    async fn read_setup_anew(&self, read: &mut Option<String>) -> Result<(), journal::Error> {
        // First the revision: what is changed afterwards has another one.
        let now = written(&self.services.journal).await?;
        if now == *read {
            return Ok(());
        }
        self.services.installation.set(installation::written(&self.services.journal).await?);
        self.tokens.forget_found();
        let plugins = self.services.plugins.read_anew().await?;
        let connections = self.connections.read_anew(&self.services.gateway).await?;
        if plugins || connections {
            self.remedied(&Change::Any);
        }
        *read = now;
        Ok(())
    }
}
