//! Makes a store of a backup.

use std::sync::Arc;

use bellhop_core::id::RunId;

use super::Error;
use crate::ROOM_LOOK;
use crate::journal::Journal;
use crate::key::{Parts, Space};
use crate::sled::{OpenError, Options, Sled};
use crate::store::{self, Batch, Bytes, Lack, Store, Ticket};

/// Keys and values of one batch.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// A store that is being made of a backup. Until [`Self::end`] it has a part of it.
#[derive(Debug)]
pub struct Restoring {
    store: Arc<Sled>,
    batch: Batch,
    newest: Option<RunId>,
}

/// A store that was made of a backup.
#[derive(Debug)]
pub struct Restored {
    /// It.
    pub journal: Journal,
    /// The run in it that was accepted last.
    pub newest: Option<RunId>,
}

impl Restoring {
    /// Begins in a folder that is not there yet.
    ///
    /// # Errors
    /// As [`Sled::open`].
    pub fn begin(options: &Options) -> Result<Self, OpenError> {
        let store = Sled::open(options, Box::new(|_| {}))?;
        Ok(Self { store: Arc::new(store), batch: Batch::new(), newest: None })
    }

    /// Carries out what a backup says next.
    ///
    /// # Errors
    /// The store; [`store::Error::NoRoom`] where its disk is full.
    pub async fn carry_out(&mut self, changes: Vec<(Bytes, Option<Bytes>)>) -> Result<(), Error> {
        for (key, value) in changes {
            let run = Parts::of(Space::Summary, &key).and_then(|mut parts| parts.run());
            self.newest = self.newest.max(run);
            match value {
                Some(value) => self.batch.put(key, value),
                None => self.batch.delete(key),
            }
            if self.batch.bytes() >= BATCH_BYTES {
                self.commit().await?;
            }
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        loop {
            match self.store.commit(batch.clone()) {
                Ok(_) => return Ok(()),
                Err(store::Error::Full { .. }) => self.durable(self.store.tip()).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the disk, unless that has no room.
    async fn durable(&self, ticket: Ticket) -> Result<(), Error> {
        let mut durable = self.store.durable(ticket);
        loop {
            if let Ok(done) = tokio::time::timeout(ROOM_LOOK, &mut durable).await {
                return Ok(done?);
            }
            if let Some(Lack { free, wanted }) = self.store.stats().held {
                return Err(store::Error::NoRoom { free, wanted }.into());
            }
        }
    }

    /// After Ok everything is durable, and everything could be read back.
    ///
    /// # Errors
    /// As [`Self::carry_out`].
    pub async fn end(mut self) -> Result<Restored, Error> {
        self.commit().await?;
        self.durable(self.store.tip()).await?;
        self.store.verify()?;
        Ok(Restored { journal: Journal::new(self.store), newest: self.newest })
    }
}
