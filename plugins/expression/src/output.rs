//! Writes the result of a program as JSON, within limits.

use jaq_json::{Num, Val};

use crate::error::Error;
use crate::program::limits;

/// Writes `value`, or says which limit it breaks. Never recurses deeper than the limit of depth.
pub(crate) fn write(value: &Val) -> Result<String, Error> {
    let mut writer = Writer { out: Vec::with_capacity(128) };
    writer.value(value, 0)?;
    String::from_utf8(writer.out).map_err(|_| Error::invalid("the result is not text"))
}

struct Writer {
    out: Vec<u8>,
}

impl Writer {
    fn value(&mut self, value: &Val, depth: usize) -> Result<(), Error> {
        if depth > limits::OUTPUT_DEPTH_MAX {
            return Err(Error::Budget { what: format!("more than {} levels of output", limits::OUTPUT_DEPTH_MAX) });
        }
        match value {
            Val::Null => self.out.extend_from_slice(b"null"),
            Val::Bool(true) => self.out.extend_from_slice(b"true"),
            Val::Bool(false) => self.out.extend_from_slice(b"false"),
            Val::Num(n) => self.number(n),
            Val::TStr(bytes) | Val::BStr(bytes) => self.text(bytes)?,
            Val::Arr(items) => {
                self.out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        self.out.push(b',');
                    }
                    self.value(item, depth + 1)?;
                }
                self.out.push(b']');
            }
            Val::Obj(entries) => {
                self.out.push(b'{');
                for (i, (key, item)) in entries.iter().enumerate() {
                    if i > 0 {
                        self.out.push(b',');
                    }
                    let Val::TStr(key) = key else {
                        return Err(Error::invalid("the key of an object in the result is not a text"));
                    };
                    self.text(key)?;
                    self.out.push(b':');
                    self.value(item, depth + 1)?;
                }
                self.out.push(b'}');
            }
        }
        if self.out.len() > limits::OUTPUT_BYTES_MAX {
            return Err(Error::Budget { what: format!("more than {} bytes of output", limits::OUTPUT_BYTES_MAX) });
        }
        Ok(())
    }

    fn text(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // Bytes that are no text become replacement characters, as jq writes them.
        let text = String::from_utf8_lossy(bytes);
        serde_json::to_writer(&mut self.out, text.as_ref()).map_err(|e| Error::invalid(e.to_string()))
    }

    fn number(&mut self, number: &Num) {
        match number {
            Num::Int(i) => self.out.extend_from_slice(i.to_string().as_bytes()),
            Num::BigInt(i) => self.out.extend_from_slice(i.to_string().as_bytes()),
            Num::Float(f) => self.float(*f),
            // A decimal literal that nobody calculated with stays as it was written, unless no reader could hold it.
            Num::Dec(literal) => match literal.parse::<f64>() {
                Ok(f) if f.is_finite() => self.out.extend_from_slice(literal.as_bytes()),
                Ok(f) => self.float(f),
                Err(_) => self.out.extend_from_slice(b"null"),
            },
        }
    }

    /// As jq does: whole numbers without a fraction (`10 / 2` is `5`), infinity as the largest number, no number as null.
    fn float(&mut self, f: f64) {
        /// Up to here every whole number has a double of its own.
        const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
        let written = if f.is_nan() {
            "null".to_owned()
        } else if f.is_infinite() {
            if f > 0.0 { "1.7976931348623157e308".to_owned() } else { "-1.7976931348623157e308".to_owned() }
        } else if f == 0.0 {
            "0".to_owned()
        } else if f.trunc() == f && f.abs() <= WHOLE_MAX {
            format!("{f:.0}")
        } else {
            format!("{f:?}")
        };
        self.out.extend_from_slice(written.as_bytes());
    }
}
