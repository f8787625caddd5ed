//! Bytes from outside as text: UTF-8, with or without the mark that some systems put before it.

/// Why bytes are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// They are text in another encoding.
    #[error("it is text in {0}, and UTF-8 is read; save it as UTF-8, or send it through: iconv -f {0} -t UTF-8")]
    Other(&'static str),
    /// They are in none.
    #[error("byte {at} (counted from 0) is 0x{byte:02x}, which is no UTF-8")]
    Invalid {
        /// The place of the first byte that is not.
        at: usize,
        /// What it is.
        byte: u8,
    },
}

/// What some systems put before a text in UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// The text, without the mark before it.
///
/// # Errors
/// They are no UTF-8: what they seem to be, or the place of the first byte that is not.
pub fn text(bytes: &[u8]) -> Result<&str, Error> {
    if let Some(other) = other(bytes) {
        return Err(Error::Other(other));
    }
    let unmarked = bytes.strip_prefix(MARK).unwrap_or(bytes);
    std::str::from_utf8(unmarked).map_err(|error| {
        let at = bytes.len() - unmarked.len() + error.valid_up_to();
        Error::Invalid { at, byte: bytes.get(at).copied().unwrap_or_default() }
    })
}

/// The encoding of a text in another one than UTF-8, by its mark or by the zeros beside a first letter.
fn other(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [1..=0xff, 0, 0, 0, ..] => Some("UTF-32LE"),
        [0, 0, 0xfe, 0xff, ..] | [0, 0, 0, 1..=0xff, ..] => Some("UTF-32BE"),
        [0xff, 0xfe, ..] | [1..=0xff, 0, 1..=0xff, 0, ..] => Some("UTF-16LE"),
        [0xfe, 0xff, ..] | [0, 1..=0xff, 0, 1..=0xff, ..] => Some("UTF-16BE"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_s15_an_encoding_is_told_by_its_name_and_a_wrong_byte_by_its_place() {
        assert_eq!(text("\u{feff}{\"a\": \"\u{e9}\"}".as_bytes()), Ok("{\"a\": \"\u{e9}\"}"));
        assert_eq!(text(b""), Ok(""));
        assert_eq!(text("\u{feff}".as_bytes()), Ok(""));
        assert_eq!(text(b"\xef\xbb\xbfa\xe9"), Err(Error::Invalid { at: 4, byte: 0xe9 }));
        assert_eq!(text(b"a\xe9"), Err(Error::Invalid { at: 1, byte: 0xe9 }));
        assert_eq!(text(b"caf\xc3"), Err(Error::Invalid { at: 3, byte: 0xc3 }), "it ends in the middle of a letter");
        assert_eq!(text(b"\0"), Ok("\0"), "what is to be said of that is another's affair");
        let wide = |marked: bool, order: fn(u16) -> [u8; 2]| -> Vec<u8> {
            let mark = marked.then_some(0xfeff);
            mark.into_iter().chain("{\"a\":1}".encode_utf16()).flat_map(order).collect()
        };
        for marked in [false, true] {
            assert_eq!(text(&wide(marked, u16::to_le_bytes)), Err(Error::Other("UTF-16LE")));
            assert_eq!(text(&wide(marked, u16::to_be_bytes)), Err(Error::Other("UTF-16BE")));
            let four = |order: fn(u32) -> [u8; 4]| -> Vec<u8> {
                marked.then_some(0xfeff).into_iter().chain("{}".chars().map(u32::from)).flat_map(order).collect()
            };
            assert_eq!(text(&four(u32::to_le_bytes)), Err(Error::Other("UTF-32LE")));
            assert_eq!(text(&four(u32::to_be_bytes)), Err(Error::Other("UTF-32BE")));
        }
    }
}
