//! Messages for later: written down, listed, taken back, and posted when their time has come.

use serde_json::{Value, json};

use super::chat::{self, TEXT_CHARACTERS_MAX};
use crate::{
    call::{Call, Outcome},
    cursor, views,
    world::{Message, Scheduled, World},
};

/// "You can only schedule messages up to 120 days in advance" (Slack's page of `chat.scheduleMessage`).
const AHEAD_S_MAX: u64 = 120 * 86_400;
/// "no more than 30 messages per 5-minute window to the same channel" (the same page, `restricted_too_many`).
const WINDOW_S: u64 = 300;
const IN_A_WINDOW_MAX: usize = 30;
/// One "that will be posted to Slack within 60 seconds" is not taken back (Slack's page of `chat.deleteScheduledMessage`).
const TAKEN_BACK_S_MIN: u64 = 60;
const PAGE_MAX: usize = 100;

pub(super) fn schedule(call: &mut Call<'_>) -> Outcome {
    let id = chat::target(call)?;
    chat::writable(call, &id)?;
    let post_at_s = match call.arguments.number("post_at") {
        Ok(Some(at)) => u64::try_from(at).map_err(|_| "time_in_past")?,
        Ok(None) => return Err(crate::call::Refusal::missing("post_at")),
        Err(()) => return Err("invalid_time".into()),
    };
    if post_at_s <= call.now_s() {
        return Err("time_in_past".into());
    }
    if post_at_s > call.now_s() + AHEAD_S_MAX {
        return Err("time_too_far".into());
    }
    let content = chat::content(call, TEXT_CHARACTERS_MAX)?;
    let waiting = call.world.scheduled.values();
    let near = waiting.filter(|one| one.channel == id && one.post_at_s / WINDOW_S == post_at_s / WINDOW_S);
    if near.count() >= IN_A_WINDOW_MAX {
        return Err("restricted_too_many".into());
    }
    let thread_ts = call.arguments.text("thread_ts").filter(|ts| !ts.is_empty()).map(std::borrow::Cow::into_owned);
    let message = Message {
        ts: String::new(),
        user: call.token.user.clone(),
        team: chat::team_of(call, &id),
        text: content.text,
        bot: call.token.bot.clone(),
        blocks: content.blocks,
        attachments: content.attachments,
        metadata: content.metadata,
        thread_ts,
        broadcast: call.arguments.is_set("reply_broadcast"),
        edited: None,
        reactions: Vec::new(),
    };
    let mut shown = views::message(call.world, &message, false);
    shown.remove("ts");
    let scheduled = call.world.fresh_id('Q');
    let waits = Scheduled { channel: id.clone(), post_at_s, created_s: call.now_s(), message };
    call.world.scheduled.insert(scheduled.clone(), waits);
    call.changed(json!({"channel": id, "scheduled_message_id": scheduled, "post_at": post_at_s}));
    Ok(json!({"channel": id, "scheduled_message_id": scheduled, "post_at": post_at_s, "message": shown}))
}

pub(super) fn delete(call: &mut Call<'_>) -> Outcome {
    let id = call.arguments.need("channel")?.into_owned();
    call.conversation(&id)?;
    let scheduled = call.arguments.need("scheduled_message_id")?.into_owned();
    let (app, soon_s) = (call.token.user.clone(), call.now_s() + TAKEN_BACK_S_MIN);
    let is_taken_back =
        |waits: &Scheduled| waits.channel == id && waits.message.user == app && waits.post_at_s > soon_s;
    if !call.world.scheduled.get(&scheduled).is_some_and(is_taken_back) {
        return Err("invalid_scheduled_message_id".into());
    }
    call.world.scheduled.remove(&scheduled);
    call.changed(json!({"channel": id, "scheduled_message_id": {"before": scheduled, "after": null}}));
    Ok(json!({}))
}

/// Those of the app itself.
pub(super) fn list(call: &mut Call<'_>) -> Outcome {
    let channel = call.arguments.text("channel").filter(|id| !id.is_empty()).map(std::borrow::Cow::into_owned);
    if let Some(id) = &channel {
        call.conversation(id).map_err(|_| "invalid_channel")?;
    }
    let seconds = |name: &str| {
        let text = call.arguments.text(name).filter(|text| !text.is_empty());
        text.and_then(|text| text.split('.').next().and_then(|seconds| seconds.parse::<u64>().ok()))
    };
    let (oldest, latest) = (seconds("oldest").unwrap_or_default(), seconds("latest").unwrap_or(u64::MAX));
    // "If both oldest and latest are specified, oldest must be less than latest" (Slack's page of
    // `chat.scheduledMessages.list`, which does not say by which error).
    if oldest >= latest {
        return Err(crate::call::Refusal::invalid("[ERROR] oldest must be less than latest [json-pointer:/oldest]"));
    }
    let limit = call.limit(PAGE_MAX, PAGE_MAX)?;
    let is_meant = |waits: &Scheduled| {
        waits.message.user == call.token.user
            && channel.as_ref().is_none_or(|id| *id == waits.channel)
            && (oldest..=latest).contains(&waits.post_at_s)
    };
    let fit: Vec<(&String, &Scheduled)> = call.world.scheduled.iter().filter(|(_, waits)| is_meant(waits)).collect();
    let cursor = call.arguments.text("cursor");
    let (page, next) = cursor::page(fit, |(id, _)| (*id).clone(), cursor.as_deref(), limit)?;
    let shown = |(id, waits): &(&String, &Scheduled)| {
        json!({
            "id": id,
            "channel_id": waits.channel,
            "post_at": waits.post_at_s,
            "date_created": waits.created_s,
            "text": waits.message.text,
        })
    };
    let list: Vec<Value> = page.iter().map(shown).collect();
    Ok(json!({"scheduled_messages": list, "response_metadata": {"next_cursor": next}}))
}

/// Posts what is due. One whose channel is gone or archived by then is let go.
pub(crate) fn post_due(world: &mut World, now_us: u64) {
    let now_s = now_us / 1_000_000;
    let due: Vec<String> =
        world.scheduled.iter().filter(|(_, waits)| waits.post_at_s <= now_s).map(|(id, _)| id.clone()).collect();
    for id in due {
        let Some(Scheduled { channel, mut message, .. }) = world.scheduled.remove(&id) else { continue };
        message.ts = world.fresh_ts(now_us);
        let open = world.channels.get_mut(&channel).filter(|channel| !channel.archived && !channel.full());
        if let Some(channel) = open {
            channel.messages.push(message);
        }
    }
}
