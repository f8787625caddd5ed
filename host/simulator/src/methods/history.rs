//! Reading messages back.

use serde_json::{Map, Value, json};

use crate::{
    call::{Call, Family, Outcome, Refusal},
    cursor, views,
    world::{Channel, Message},
};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 999;

struct Range {
    oldest: Option<String>,
    latest: Option<String>,
    inclusive: bool,
}

impl Range {
    fn of(call: &Call<'_>) -> Result<Self, Refusal> {
        let bound = |name: &str, error: &'static str| match call.arguments.text(name).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => timestamp(&text).map(Some).ok_or_else(|| Refusal::new(error)),
        };
        Ok(Self {
            oldest: bound("oldest", "invalid_ts_oldest")?,
            latest: bound("latest", "invalid_ts_latest")?,
            inclusive: call.arguments.is_set("inclusive"),
        })
    }

    fn holds(&self, ts: &str) -> bool {
        let after = self.oldest.as_deref().is_none_or(|oldest| ts > oldest || (self.inclusive && ts == oldest));
        let before = self.latest.as_deref().is_none_or(|latest| ts < latest || (self.inclusive && ts == latest));
        after && before
    }
}

/// A time in the width of message timestamps, whose text sorts as the times do.
fn timestamp(text: &str) -> Option<String> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: u64 = if seconds.is_empty() { 0 } else { seconds.parse().ok()? };
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || fraction.len() > 9 {
        return None;
    }
    let micros: String = fraction.chars().chain("000000".chars()).take(6).collect();
    Some(format!("{seconds:010}.{micros}"))
}

fn limit(call: &Call<'_>) -> Result<usize, Refusal> {
    match call.arguments.number("limit") {
        Ok(None | Some(0)) => Ok(PAGE_DEFAULT),
        Ok(Some(limit)) if limit > 0 => Ok(usize::try_from(limit).unwrap_or(PAGE_MAX).min(PAGE_MAX)),
        _ => Err("invalid_limit".into()),
    }
}

/// The timestamp at which the cursor says to go on.
fn from_cursor(call: &Call<'_>) -> Result<Option<String>, Refusal> {
    match call.arguments.text("cursor").filter(|cursor| !cursor.is_empty()) {
        None => Ok(None),
        Some(text) => {
            let ts = cursor::decode(&text).and_then(|text| text.strip_prefix("next_ts:").map(str::to_owned));
            Ok(Some(ts.ok_or("invalid_cursor")?))
        }
    }
}

fn shown(call: &Call<'_>, channel: &Channel, message: &Message) -> Value {
    let mut out: Map<String, Value> =
        views::message(call.world, message, call.arguments.is_set("include_all_metadata"));
    if message.thread_ts.is_none() {
        let replies: Vec<&Message> =
            channel.messages.iter().filter(|reply| reply.thread_ts.as_deref() == Some(message.ts.as_str())).collect();
        if let Some(last) = replies.last() {
            let mut users: Vec<&str> = replies.iter().map(|reply| reply.user.as_str()).collect();
            users.sort_unstable();
            users.dedup();
            out.insert("thread_ts".into(), json!(message.ts));
            out.insert("reply_count".into(), json!(replies.len()));
            out.insert("reply_users_count".into(), json!(users.len()));
            out.insert("reply_users".into(), json!(users));
            out.insert("latest_reply".into(), json!(last.ts));
        }
    } else if let Some(parent) = message.thread_ts.as_deref().and_then(|ts| channel.message(ts)) {
        out.insert("parent_user_id".into(), json!(channel.messages[parent].user));
    }
    Value::Object(out)
}

pub(super) fn history(call: &mut Call<'_>) -> Outcome {
    let channel = call.argument_conversation(Family::History)?;
    if !channel.members.contains(&call.token.user) {
        return Err("not_in_channel".into());
    }
    let (range, limit, from) = (Range::of(call)?, limit(call)?, from_cursor(call)?);
    let mut newest_first =
        channel.messages.iter().rev().filter(|message| message.thread_ts.is_none() || message.broadcast).filter(
            |message| range.holds(&message.ts) && from.as_deref().is_none_or(|from| message.ts.as_str() <= from),
        );
    let page: Vec<&Message> = newest_first.by_ref().take(limit).collect();
    let next = newest_first.next().map(|message| cursor::encode(&format!("next_ts:{}", message.ts)));
    let messages: Vec<Value> = page.into_iter().map(|message| shown(call, channel, message)).collect();
    let mut answer = json!({"messages": messages, "has_more": next.is_some(), "pin_count": 0});
    if let Some(next) = next {
        answer["response_metadata"] = json!({"next_cursor": next});
    }
    Ok(answer)
}

pub(super) fn replies(call: &mut Call<'_>) -> Outcome {
    let channel = call.argument_conversation(Family::History)?;
    if !channel.members.contains(&call.token.user) {
        return Err("not_in_channel".into());
    }
    let ts = call.arguments.need("ts")?;
    let (range, limit, from) = (Range::of(call)?, limit(call)?, from_cursor(call)?);
    let asked = &channel.messages[channel.message(&ts).ok_or("thread_not_found")?];
    let root = asked.thread_ts.as_deref().unwrap_or(&asked.ts);
    let mut oldest_first = channel.messages.iter().filter(|message| {
        let in_thread = message.ts == root || message.thread_ts.as_deref() == Some(root);
        in_thread
            && (message.ts == root || range.holds(&message.ts))
            && from.as_deref().is_none_or(|from| message.ts.as_str() >= from)
    });
    let page: Vec<&Message> = oldest_first.by_ref().take(limit).collect();
    let next = oldest_first.next().map(|message| cursor::encode(&format!("next_ts:{}", message.ts)));
    let messages: Vec<Value> = page.into_iter().map(|message| shown(call, channel, message)).collect();
    let mut answer = json!({"messages": messages, "has_more": next.is_some()});
    if let Some(next) = next {
        answer["response_metadata"] = json!({"next_cursor": next});
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_get_one_width() {
        assert_eq!(timestamp("1512085950").as_deref(), Some("1512085950.000000"));
        assert_eq!(timestamp("1512085950.2").as_deref(), Some("1512085950.200000"));
        assert_eq!(timestamp("0").as_deref(), Some("0000000000.000000"));
        assert_eq!(timestamp("now"), None);
        assert_eq!(timestamp("1.x"), None);
    }
}
