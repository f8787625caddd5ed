//! Takes a backup of a store, while others write to it.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use bellhop_core::digest::Digester;
use bellhop_core::time::Timestamp;

use super::{
    BROKEN_OFF, BrokenOff, DAMAGED, DELETE, Error, FORMAT, FRAME_BYTES, HEADER, Header, NAME, PUT, RECORDS, SECRETS,
    TRAILER, Trailer, checksum,
};
use crate::journal::Journal;
use crate::store::{self, Bytes, Lack, Store, Tap};
use crate::tap::CutOff;
use crate::{ROOM_LOOK, sled};

/// Items that are read at one time: while they are, the writer of an embedded store waits.
const PAGE_ITEMS: usize = 128;

/// A backup that is being taken. Dropping it ends it.
pub struct Taking {
    store: Arc<dyn Store>,
    tap: Tap,
    bytes_max: usize,
    writer: Writer,
    /// Where the store is read on; none when it was read to its end.
    from: Option<Bytes>,
    /// Nothing more is heard.
    is_heard: bool,
}

impl fmt::Debug for Taking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taking").field("bytes", &self.writer.bytes).finish_non_exhaustive()
    }
}

impl Journal {
    /// Begins a backup at `now`: everything that was accepted before is in it. Of what is written meanwhile at most
    /// `bytes_max` wait until the backup is taken further; nobody waits for it.
    pub fn back_up(&self, program: &str, now: Timestamp, bytes_max: usize) -> Taking {
        Taking::of(Arc::clone(&self.store), program, now, bytes_max)
    }
}

impl Taking {
    pub(crate) fn of(store: Arc<dyn Store>, program: &str, now: Timestamp, bytes_max: usize) -> Self {
        let tap = store.tap(bytes_max);
        let mut writer = Writer::default();
        writer.line();
        let header = Header { store_format: sled::FORMAT, program: program.to_owned(), began_at: now };
        writer.json(HEADER, &header);
        Self { store, tap, bytes_max, writer, from: Some(Bytes::from([].as_slice())), is_heard: false }
    }

    /// The next bytes, perhaps none yet; `None` when only the [end](Self::end) is missing. A step is short.
    ///
    /// # Errors
    /// The store, or [`Error::TooSlow`].
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let heard = self.tap.take(FRAME_BYTES).map_err(|CutOff| Error::TooSlow { bytes_max: self.bytes_max })?;
        let is_quiet = heard.is_empty();
        for (key, value) in heard {
            self.writer.changes += 1;
            match value {
                Some(value) => self.writer.record(PUT, &key, &value),
                None => self.writer.record(DELETE, &key, &[]),
            }
        }
        match self.from.take() {
            Some(from) => self.read(&from).await?,
            None if !self.is_heard => {
                self.tap.close();
                self.is_heard = true;
            }
            None if is_quiet => {
                self.writer.close_records();
                return Ok(Some(self.writer.taken()).filter(|bytes| !bytes.is_empty()));
            }
            None => {}
        }
        Ok(Some(self.writer.taken()))
    }

    /// Reads the next items of the store.
    async fn read(&mut self, from: &[u8]) -> Result<(), Error> {
        let page = self.store.scan(from, &[], PAGE_ITEMS).await?;
        for (key, value) in page.items {
            self.writer.items += 1;
            self.writer.record(PUT, &key, &value);
        }
        for (key, _) in page.damaged {
            self.writer.items += 1;
            self.writer.damaged += 1;
            self.writer.record(DAMAGED, &key, &[]);
        }
        self.from = page.next;
        Ok(())
    }

    /// The last bytes, after [`Self::next`] gave none: what is `sealed` of connections, and the trailer. After Ok everything
    /// that is in the backup is durable in the store.
    ///
    /// # Errors
    /// The store; [`store::Error::NoRoom`] where what was read cannot become durable.
    pub async fn end(mut self, sealed: Option<&[u8]>, taken_at: Timestamp) -> Result<(Vec<u8>, Trailer), Error> {
        debug_assert!(self.from.is_none() && self.is_heard, "the end comes after everything else");
        let mut durable = self.store.durable(self.store.tip());
        loop {
            if let Ok(done) = tokio::time::timeout(ROOM_LOOK, &mut durable).await {
                done?;
                break;
            }
            if let Some(Lack { free, wanted }) = self.store.stats().held {
                return Err(store::Error::NoRoom { free, wanted }.into());
            }
        }
        if let Some(sealed) = sealed {
            self.writer.frame(SECRETS, sealed);
        }
        let trailer = Trailer {
            taken_at,
            items: self.writer.items,
            changes: self.writer.changes,
            damaged: self.writer.damaged,
            has_secrets: sealed.is_some(),
            bytes: self.writer.bytes,
            digest: self.writer.digester.digest(),
        };
        self.writer.json(TRAILER, &trailer);
        Ok((self.writer.taken(), trailer))
    }

    /// The bytes that say why there will be no end.
    pub fn broken_off(mut self, code: &str, detail: &str) -> Vec<u8> {
        self.writer.close_records();
        self.writer.json(BROKEN_OFF, &BrokenOff { code: code.to_owned(), detail: detail.to_owned() });
        self.writer.taken()
    }
}

/// Makes frames.
#[derive(Default)]
struct Writer {
    /// Frames that were not taken yet.
    out: Vec<u8>,
    /// Records that are in no frame yet.
    records: Vec<u8>,
    frames: u64,
    /// Bytes of all frames so far, the first line included.
    bytes: u64,
    digester: Digester,
    items: u64,
    changes: u64,
    damaged: u64,
}

impl Writer {
    fn taken(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.digester.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn line(&mut self) {
        self.put(NAME);
        self.put(format!("{FORMAT}\n").as_bytes());
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut head = vec![kind];
        head.extend_from_slice(&length.to_be_bytes());
        let sum = checksum(self.frames, &head, payload);
        self.frames += 1;
        self.put(&head);
        self.put(payload);
        self.put(&sum);
    }

    fn json(&mut self, kind: u8, value: &impl Serialize) {
        // Plain fields: there is always JSON of them.
        let payload = serde_json::to_vec(value).unwrap_or_default();
        self.frame(kind, &payload);
    }

    fn record(&mut self, tag: u8, key: &[u8], value: &[u8]) {
        self.records.push(tag);
        self.records.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.records.extend_from_slice(key);
        if tag == PUT {
            self.records.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
            self.records.extend_from_slice(value);
        }
        if self.records.len() >= FRAME_BYTES {
            self.close_records();
        }
    }

    fn close_records(&mut self) {
        if !self.records.is_empty() {
            let records = std::mem::take(&mut self.records);
            self.frame(RECORDS, &records);
        }
    }
}
