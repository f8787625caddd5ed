//! Opaque page cursors, in base64 with padding like Slack's, so that a client that forgets to encode `=` is found out.

use crate::call::Refusal;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn encode(text: &str) -> String {
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = u32::from(chunk[0]) << 16
            | u32::from(chunk.get(1).copied().unwrap_or_default()) << 8
            | u32::from(chunk.get(2).copied().unwrap_or_default());
        for position in 0..4 {
            if position <= chunk.len() {
                let index = (bits >> (18 - 6 * position)) & 63;
                out.push(char::from(ALPHABET[index as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

pub(crate) fn decode(text: &str) -> Option<String> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::new();
    for chunk in text.chunks(4) {
        let mut bits = 0_u32;
        for byte in chunk {
            let index = ALPHABET.iter().position(|letter| letter == byte)?;
            bits = bits << 6 | u32::try_from(index).ok()?;
        }
        bits <<= 6 * (4 - chunk.len());
        let whole = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
        bytes.extend_from_slice(&whole[..chunk.len() * 6 / 8]);
    }
    String::from_utf8(bytes).ok()
}

/// One page of a list that is sorted by key. The cursor names the key of the next item, so that items that come or
/// go between two pages neither repeat nor hide the others.
pub(crate) fn page<T>(
    items: Vec<T>,
    key: impl Fn(&T) -> String,
    cursor: Option<&str>,
    limit: usize,
) -> Result<(Vec<T>, String), Refusal> {
    let from = match cursor.filter(|cursor| !cursor.is_empty()) {
        None => None,
        Some(cursor) => Some(
            decode(cursor).and_then(|text| text.strip_prefix("next:").map(str::to_owned)).ok_or("invalid_cursor")?,
        ),
    };
    let mut rest = items.into_iter().filter(|item| from.as_ref().is_none_or(|from| key(item) >= *from));
    let taken: Vec<T> = rest.by_ref().take(limit).collect();
    let next = rest.next().map(|item| encode(&format!("next:{}", key(&item)))).unwrap_or_default();
    Ok((taken, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_base64_and_comes_back() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("next:U0HQ", "bmV4dDpVMEhR")]
        {
            assert_eq!(encode(plain), coded);
            assert_eq!(decode(coded).as_deref(), Some(plain));
        }
        assert_eq!(decode("#"), None);
    }

    #[test]
    fn pages_cover_everything_once() {
        let items: Vec<String> = (0..7).map(|n| format!("k{n}")).collect();
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let (page, next) = page(items.clone(), Clone::clone, Some(&cursor), 3).unwrap();
            seen.extend(page);
            if next.is_empty() {
                break;
            }
            cursor = next;
        }
        assert_eq!(seen, items);
    }
}
