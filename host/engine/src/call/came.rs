//! What is known of a call after it was sent.

use std::time::Duration;

use bellhop_core::requirement::TokenKind;
use bellhop_core::time::Timestamp;
use serde_json::Value;

use crate::execution::{Answer, Intent, NotSent, Parking};

/// What came of a call that was sent, or that an earlier life had sent.
pub(super) enum Came {
    /// This, by Slack or by reading back.
    Answered(Answer),
    /// Nothing was done that counts; it may be sent again.
    NotSent(NotSent),
    /// Slack refused it to the bot's token as a matter of policy, and another token of the connection may: it goes out once
    /// more, by that one, with an intent of its own.
    Refused {
        /// What the guest gets where that comes to nothing.
        refusal: String,
        /// Slack's code.
        error: String,
        /// The other one.
        next: TokenKind,
    },
    /// Nobody can tell: the intent stays open and the run parks.
    Doubt(Parking),
    /// Nobody can tell yet, because what would tell could not be read, for a reason that passes: the intent stays open and
    /// is asked about again.
    Unread {
        /// Why, in a few words.
        reason: String,
        /// Not before.
        retry_at: Option<Timestamp>,
    },
    /// It was given up before anything was sent or learnt, because the process is stopping.
    Stopped,
}

impl Came {
    /// Nothing was done, and it may be tried again from `retry_at` on.
    pub(super) const fn not_sent(reason: String, retry_at: Option<Timestamp>) -> Self {
        Self::NotSent(NotSent { reason, retry_at, repeats: false, instead: None })
    }
}

/// As whom a call goes out.
#[derive(Default)]
pub(super) struct Whom {
    /// By which token; none where there is none.
    pub(super) token: Option<TokenKind>,
    /// What another token was refused with before, as the guest would get it.
    pub(super) refused: Option<String>,
}

/// A write that was sent, or perhaps was.
pub(super) struct Sent<'a> {
    /// What was written before it was sent.
    pub(super) intent: &'a Intent,
    /// The key that it carries.
    pub(super) stamp: &'a str,
    /// When its connection ended, or this process began after the one that held it, as the clock counts that nobody sets.
    pub(super) ended: Duration,
    /// Somebody asks again later.
    pub(super) patient: bool,
    /// See [`Doubt::before`](super::Doubt::before).
    pub(super) before: Option<Value>,
}
