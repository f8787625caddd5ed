//! The channel that a call goes to, as far as its arguments say.

use serde_json::Value;

/// Slack gives out no shorter id, but in a workspace that is played, where they begin with a zero.
const ID_BYTES_MIN: usize = 9;

/// The id; or the name as `#name`, however it was written, because Slack takes `#it`, `it` and `#IT` for one channel.
pub(super) fn of(arguments: &Value) -> String {
    let text = arguments.get("channel").and_then(Value::as_str).unwrap_or_default().trim();
    if text.is_empty() || is_id(text) {
        text.to_owned()
    } else {
        format!("#{}", text.trim_start_matches('#').to_lowercase())
    }
}

fn is_id(text: &str) -> bool {
    let is_long = text.len() >= ID_BYTES_MIN || text.as_bytes().get(1) == Some(&b'0');
    is_long
        && text.starts_with(['C', 'G', 'D', 'U', 'W'])
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_channel_has_one_bucket_however_its_name_is_written() {
        for (text, channel) in [
            ("C0HQIT", "C0HQIT"),
            ("C024BE91L", "C024BE91L"),
            ("U2147483697", "U2147483697"),
            ("#it", "#it"),
            ("it", "#it"),
            (" #IT ", "#it"),
            ("DESIGN", "#design"),
            ("", ""),
        ] {
            assert_eq!(of(&json!({ "channel": text })), channel, "{text}");
        }
        assert_eq!(of(&json!({})), "");
    }
}
