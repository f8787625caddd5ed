//! Reads a backup as its bytes come.

use std::fmt;

use serde::de::DeserializeOwned;

use bellhop_core::digest::Digester;

use super::{
    BROKEN_OFF, BrokenOff, DAMAGED, DELETE, Error, FORMAT, FRAME_BYTES_MAX, FRAME_HEAD_BYTES, FRAME_TAIL_BYTES, HEADER,
    Header, LINE_BYTES_MAX, NAME, PUT, RECORDS, SECRETS, TRAILER, Trailer, checksum,
};
use crate::sled;
use crate::store::{Bytes, KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// What is next in a backup.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// The first.
    Header(Header),
    /// What is put under keys, or that they are deleted, in this order.
    Changes(Vec<(Bytes, Option<Bytes>)>),
    /// Secrets of connections, sealed.
    Secrets(Vec<u8>),
    /// The last: the backup is whole.
    Trailer(Trailer),
}

/// A frame as it stands there.
struct Frame {
    kind: u8,
    payload: Vec<u8>,
    sum: [u8; FRAME_TAIL_BYTES],
}

/// Reads a backup whose bytes come piece by piece. Of these no more than a frame is held.
#[derive(Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// How many of them are read.
    done: usize,
    /// Bytes of the backup before those.
    before: u64,
    frames: u64,
    digester: Digester,
    has_begun: bool,
    has_header: bool,
    has_ended: bool,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("at", &self.at()).finish_non_exhaustive()
    }
}

impl Reader {
    /// Of a backup of which nothing has come yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// These bytes come next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.done);
        self.before += self.done as u64;
        self.done = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that were read.
    pub fn at(&self) -> u64 {
        self.before + self.done as u64
    }

    /// What is next; none until more bytes come.
    ///
    /// # Errors
    /// It is damaged, broken off, of another program, or no backup. Nothing that follows is of use.
    pub fn next_part(&mut self) -> Result<Option<Part>, Error> {
        if !self.has_begun && !self.begin()? {
            return Ok(None);
        }
        if self.has_ended {
            return if self.rest().is_empty() { Ok(None) } else { Err(self.damaged("something follows the trailer")) };
        }
        let Some(Frame { kind, payload, sum }) = self.frame()? else { return Ok(None) };
        let whole = FRAME_HEAD_BYTES + payload.len() + FRAME_TAIL_BYTES;
        let head = self.rest().get(..FRAME_HEAD_BYTES).unwrap_or_default();
        if checksum(self.frames, head, &payload) != sum {
            return Err(self.damaged("the checksum of a frame differs"));
        }
        let part = self.read(kind, payload)?;
        self.frames += 1;
        self.advance(whole);
        Ok(Some(part))
    }

    /// There are no more bytes.
    ///
    /// # Errors
    /// [`Error::Cut`]: its trailer has not come.
    pub fn finish(&self) -> Result<(), Error> {
        match (self.has_begun, self.has_ended) {
            (true, true) => Ok(()),
            (false, _) if !self.rest().starts_with(NAME) => Err(Error::NotABackup),
            _ => Err(Error::Cut { at: self.before + self.bytes.len() as u64 }),
        }
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.done..).unwrap_or_default()
    }

    fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::Damaged { at: self.at(), reason: reason.into() }
    }

    fn advance(&mut self, count: usize) {
        let end = (self.done + count).min(self.bytes.len());
        self.digester.update(self.bytes.get(self.done..end).unwrap_or_default());
        self.done = end;
    }

    /// Reads the first line; false until it is there.
    fn begin(&mut self) -> Result<bool, Error> {
        let rest = self.rest();
        let known = rest.len().min(NAME.len());
        if rest.get(..known) != NAME.get(..known) {
            return Err(Error::NotABackup);
        }
        let Some(end) = rest.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
            return if rest.len() < LINE_BYTES_MAX { Ok(false) } else { Err(Error::NotABackup) };
        };
        let number = rest.get(NAME.len()..end).and_then(|number| std::str::from_utf8(number).ok());
        match number.and_then(|number| number.parse::<u32>().ok()) {
            Some(FORMAT) => {}
            Some(found) if found > FORMAT => return Err(Error::Newer { found, known: FORMAT }),
            _ => return Err(Error::NotABackup),
        }
        self.advance(end + 1);
        self.has_begun = true;
        Ok(true)
    }

    /// The next frame; none until all of it is there.
    fn frame(&self) -> Result<Option<Frame>, Error> {
        let Some((&[kind, a, b, c, d], rest)) = self.rest().split_first_chunk::<FRAME_HEAD_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(self.damaged(format!("a frame of {length} bytes, and none has more than {FRAME_BYTES_MAX}")));
        }
        let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        let Some((sum, _)) = rest.split_first_chunk::<FRAME_TAIL_BYTES>() else { return Ok(None) };
        Ok(Some(Frame { kind, payload: payload.to_vec(), sum: *sum }))
    }

    fn read(&mut self, kind: u8, payload: Vec<u8>) -> Result<Part, Error> {
        if self.has_header == (kind == HEADER) {
            return Err(self.damaged("its header is not where it has to be"));
        }
        match kind {
            HEADER => {
                let header: Header = self.json(&payload)?;
                if header.store_format != sled::FORMAT {
                    let Header { store_format: found, program, .. } = header;
                    return Err(Error::OtherStore { found, known: sled::FORMAT, program });
                }
                self.has_header = true;
                Ok(Part::Header(header))
            }
            RECORDS => Ok(Part::Changes(records(&payload).map_err(|reason| self.damaged(reason))?)),
            SECRETS => Ok(Part::Secrets(payload)),
            BROKEN_OFF => {
                let BrokenOff { code, detail } = self.json(&payload)?;
                Err(Error::BrokenOff { code, detail })
            }
            TRAILER => {
                let trailer: Trailer = self.json(&payload)?;
                if trailer.bytes != self.at() || trailer.digest != self.digester.digest() {
                    return Err(self.damaged("what is before the trailer is not what the trailer says"));
                }
                self.has_ended = true;
                Ok(Part::Trailer(trailer))
            }
            _ => Err(self.damaged("a frame of a kind that is not known")),
        }
    }

    fn json<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(payload).map_err(|why| self.damaged(format!("a frame cannot be read: {why}")))
    }
}

/// The records of a frame.
fn records(mut rest: &[u8]) -> Result<Vec<(Bytes, Option<Bytes>)>, &'static str> {
    const SHORT: &str = "a record ends before its end";
    let mut found = Vec::new();
    while let Some((&[tag, a, b], behind)) = rest.split_first_chunk::<3>() {
        let (key, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes([a, b]))).ok_or(SHORT)?;
        if key.len() > KEY_BYTES_MAX {
            return Err("a key is longer than any is");
        }
        let (value, behind) = match tag {
            PUT => {
                let (length, behind) = behind.split_first_chunk::<4>().ok_or(SHORT)?;
                let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
                if length > VALUE_BYTES_MAX {
                    return Err("a value is larger than any is");
                }
                let (value, behind) = behind.split_at_checked(length).ok_or(SHORT)?;
                (Some(Bytes::from(value)), behind)
            }
            DELETE => (None, behind),
            DAMAGED => (Some(Bytes::from([].as_slice())), behind),
            _ => return Err("a record of a kind that is not known"),
        };
        found.push((Bytes::from(key), value));
        rest = behind;
    }
    if rest.is_empty() { Ok(found) } else { Err(SHORT) }
}
