//! Who is told that somebody has changed something, whichever process that was.

use tokio::sync::watch::{Receiver, Sender};

/// What is changed, for whoever [watches](super::Store::watch) it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// What operators set up and every process keeps in memory: tokens, plugins and their grants, connections.
    Setup,
}

/// How much of a topic reaches a [`Watch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Every change: nobody else writes to the store, and this process tells itself.
    All,
    /// Most: a message from another machine may be lost. Whoever watches looks by time as well.
    Most,
}

/// Tells of changes of one topic since it was made; see [`super::Store::watch`].
#[derive(Debug)]
pub struct Watch {
    changes: Receiver<u64>,
    reach: Reach,
}

impl Watch {
    /// Ends when the topic may have changed since the watch was made, or since this last ended; never where the store is
    /// gone. Changes that come together are told as one. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How much of the topic reaches it.
    pub fn reach(&self) -> Reach {
        self.reach
    }
}

/// The other ends of [`Watch`]es, for stores.
#[derive(Debug, Default)]
pub struct Bells {
    setup: Sender<u64>,
}

impl Bells {
    fn of(&self, topic: Topic) -> &Sender<u64> {
        match topic {
            Topic::Setup => &self.setup,
        }
    }

    /// A watch that hears of the topic from now on.
    pub fn watch(&self, topic: Topic, reach: Reach) -> Watch {
        Watch { changes: self.of(topic).subscribe(), reach }
    }

    /// Tells every watch of the topic, if there is one.
    pub fn ring(&self, topic: Option<Topic>) {
        if let Some(topic) = topic {
            self.of(topic).send_modify(|rings| *rings = rings.wrapping_add(1));
        }
    }
}
