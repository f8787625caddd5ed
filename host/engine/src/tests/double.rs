//! A world outside and actions that act on it, by script: what a driver is driven with where no guest is needed.
//!
//! An action makes its calls by the same steps as the real one ([`super::super::call`]): what is on record is not
//! done again, an open intent is read back and not sent, a write that an earlier attempt made is answered from there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::digest::Digest;
use bellhop_core::fault::Fault;
use bellhop_core::run::{Calling, Cause, Effect, FrameId, Returned, Why};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use crate::execution::invoker::{CallEnd, CallFuture, Invoker, Wish};
use crate::execution::{Answer, CallKey, Called, Error, Execution, How, Intent, NotSent, Parking, Signal};

/// What outlives every process: what was accepted, and how often it was asked.
#[derive(Default)]
pub(super) struct Outside {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How often each effect was carried out.
    ledger: BTreeMap<String, u32>,
    /// How often each was sent.
    sends: BTreeMap<String, u32>,
    reads: u32,
    /// Whether reading back works for doubtful effects.
    helped: bool,
    /// Somebody asked for the run to be cancelled.
    cancelled: bool,
}

impl Outside {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ledger(&self) -> BTreeMap<String, u32> {
        self.state().ledger.clone()
    }

    pub(super) fn sends(&self) -> BTreeMap<String, u32> {
        self.state().sends.clone()
    }

    pub(super) fn reads(&self) -> u32 {
        self.state().reads
    }

    /// A person gives what was missing for reading back.
    pub(super) fn help(&self) {
        self.state().helped = true;
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }
}

/// How one effect goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It is accepted.
    Plain,
    /// The first request is refused, by an answer.
    RefusedOnce,
    /// The first request is surely not carried out; another may be.
    LimitedOnce,
    /// It is carried out and the answer is lost; reading back works only once somebody helped.
    Doubtful,
    /// While it is on its way somebody cancels the run; it is carried out all the same.
    Cancelling,
}

/// The actions of one life of one run.
pub(super) struct Double<E> {
    pub(super) port: Arc<E>,
    pub(super) outside: Arc<Outside>,
    pub(super) inbox: mpsc::UnboundedSender<Signal>,
    /// Where the acknowledgement of a cancellation will come.
    pub(super) acknowledged: Arc<Mutex<Option<oneshot::Receiver<bool>>>>,
}

impl<E> Clone for Double<E> {
    fn clone(&self) -> Self {
        Self {
            port: self.port.clone(),
            outside: self.outside.clone(),
            inbox: self.inbox.clone(),
            acknowledged: self.acknowledged.clone(),
        }
    }
}

impl<E: Execution> Invoker for Double<E> {
    fn invoke(&self, _: FrameId, call: Calling, wish: watch::Receiver<Wish>) -> CallFuture {
        let action = Acting { double: self.clone(), call, wish };
        Box::pin(async move { action.carry().await.into() })
    }
}

struct Acting<E> {
    double: Double<E>,
    call: Calling,
    wish: watch::Receiver<Wish>,
}

/// Why an action did not get to its end.
#[expect(clippy::large_enum_variant, reason = "one an action, moved twice")]
enum Stopped {
    Park(Parking),
    PutDown,
    Failed(Error),
}

impl<E: Execution> Acting<E> {
    async fn carry(self) -> CallEnd {
        match self.act().await {
            Ok(Ok(output)) => {
                CallEnd::Returned(Returned::Ok { output, effect: Effect { changed: true, ..Effect::default() } })
            }
            Ok(Err(code)) => CallEnd::Returned(Returned::Fault(Fault::declared(&code, 429, "as the script says"))),
            Err(Stopped::Park(fault)) => CallEnd::Park(fault),
            Err(Stopped::Failed(error)) => CallEnd::Failed(error),
            Err(Stopped::PutDown) if *self.wish.borrow() == Wish::PutDown => CallEnd::PutDown,
            Err(Stopped::PutDown) => {
                let effect = Effect { changed: true, ..Effect::default() };
                CallEnd::Returned(Returned::Ok { output: Value::Null, effect })
            }
        }
    }

    async fn act(&self) -> Result<Result<Value, String>, Stopped> {
        if self.call.attempt > 1 {
            self.double.port.recall().await.map_err(Stopped::Failed)?;
        }
        match self.call.action.action.as_str() {
            "plain" => self.write(0, Manner::Plain, "").await,
            "limited" => self.write(0, Manner::LimitedOnce, "").await,
            "doubtful" => self.write(0, Manner::Doubtful, "").await,
            "cancelling" => self.write(0, Manner::Cancelling, "").await,
            // What it writes depends on what it read.
            "read-write" => {
                let read = self.read(0).await?;
                self.write(1, Manner::Plain, &read).await
            }
            // The second write fails at first, after the first has succeeded.
            "pair" => {
                if let Err(code) = self.write(0, Manner::Plain, "").await? {
                    return Ok(Err(code));
                }
                self.write(1, Manner::RefusedOnce, "").await
            }
            other => Ok(Err(format!("no-script-for-{other}"))),
        }
    }

    fn key(&self, ordinal: u32) -> CallKey {
        CallKey { execution: self.call.key.clone(), attempt: self.call.attempt, ordinal }
    }

    async fn kept(&self, key: CallKey) -> Result<Option<Answer>, Stopped> {
        self.double.port.called(&key).await.map(Called::answer).map_err(Stopped::Failed)
    }

    async fn keep(&self, key: CallKey, answer: Answer) -> Result<(), Stopped> {
        self.double.port.ended(&key, &answer).await.map_err(Stopped::Failed)
    }

    async fn read(&self, ordinal: u32) -> Result<String, Stopped> {
        if let Some(kept) = self.kept(self.key(ordinal)).await? {
            return Ok(kept.result.unwrap_or_default());
        }
        tokio::task::yield_now().await;
        let number = {
            let mut state = self.double.outside.state();
            state.reads += 1;
            state.reads
        };
        // Every time another answer, so that a replay that reads anew becomes another program.
        let result = json!({ "read": number }).to_string();
        let answer = Answer {
            hash: hash(""),
            function: "read".to_owned(),
            writes: false,
            result: Ok(result.clone()),
            how: How::Sent,
            token: None,
        };
        self.keep(self.key(ordinal), answer).await?;
        Ok(result)
    }

    async fn write(&self, ordinal: u32, manner: Manner, request: &str) -> Result<Result<Value, String>, Stopped> {
        let key = self.key(ordinal);
        let effect = format!("{}/{ordinal}", self.call.key);
        let hash = hash(request);
        if let Some(kept) = self.kept(key.clone()).await? {
            assert_eq!(kept.hash, hash, "{effect}: the replay is another program");
            return Ok(result_of(kept));
        }
        for attempt in (1..self.call.attempt).rev() {
            let earlier = self.kept(CallKey { attempt, ..key.clone() }).await?;
            if let Some(earlier) = earlier.filter(|answer| answer.result.is_ok()) {
                assert_eq!(earlier.hash, hash, "{effect}: the retry is another program");
                self.keep(key, Answer { how: How::Reused, ..earlier.clone() }).await?;
                return Ok(result_of(earlier));
            }
        }
        loop {
            // Messages for the run have their chance before each request.
            tokio::task::yield_now().await;
            match self.comes(&key, &effect, manner, &hash).await.map_err(Stopped::Failed)? {
                Came::Answered(answer) => return Ok(result_of(answer)),
                Came::NotSent(_) => {}
                Came::Doubt(parking) => return Err(Stopped::Park(parking)),
                Came::Stopped => return Err(Stopped::PutDown),
            }
        }
    }

    async fn comes(&self, key: &CallKey, effect: &str, manner: Manner, hash: &str) -> Result<Came, Error> {
        let port = &self.double.port;
        let came = match port.called(key).await? {
            Called::Ended(answer) => return Ok(Came::Answered(answer)),
            Called::Open(open) => {
                assert_eq!(open.hash, hash, "{effect}: what was read was forgotten after the intent was kept");
                self.read_back(effect, manner, hash)
            }
            Called::New if *self.wish.borrow() != Wish::Run => return Ok(Came::Stopped),
            Called::New => {
                let intent = Intent {
                    hash: hash.to_owned(),
                    at: port.now(),
                    function: "write".to_owned(),
                    connection: "double".to_owned(),
                    token: None,
                };
                if !port.intend(key, intent).await? {
                    return Ok(Came::Stopped);
                }
                self.send(effect, manner, hash).await
            }
        };
        match &came {
            Came::Answered(answer) => port.ended(key, answer).await?,
            Came::NotSent(why) => port.not_sent(key, why).await?,
            Came::Doubt(_) | Came::Stopped => {}
        }
        Ok(came)
    }

    async fn send(&self, effect: &str, manner: Manner, hash: &str) -> Came {
        let first = {
            let mut state = self.double.outside.state();
            let sends = state.sends.entry(effect.to_owned()).or_insert(0);
            *sends += 1;
            let first = *sends == 1;
            match manner {
                Manner::RefusedOnce | Manner::LimitedOnce if first => {}
                _ => *state.ledger.entry(effect.to_owned()).or_insert(0) += 1,
            }
            first
        };
        match manner {
            Manner::RefusedOnce if first => answered(hash, Err("refused".to_owned()), How::Sent),
            Manner::LimitedOnce if first => not_sent("limited"),
            Manner::Doubtful => self.read_back(effect, manner, hash),
            Manner::Cancelling if first => {
                self.cancel();
                let mut wish = self.wish.clone();
                // The driver holds the other end for as long as the call is under way.
                let _stopped = wish.wait_for(|w| *w != Wish::Run).await;
                answered(hash, Ok(json!({ "did": effect }).to_string()), How::Sent)
            }
            _ => answered(hash, Ok(json!({ "did": effect }).to_string()), How::Sent),
        }
    }

    fn cancel(&self) {
        self.double.outside.state().cancelled = true;
        let (tell, told) = oneshot::channel();
        *self.double.acknowledged.lock().unwrap() = Some(told);
        let _sent = self.double.inbox.send(Signal { acknowledge: Some(tell), ..Signal::of(Cause::Cancel) });
    }

    fn read_back(&self, effect: &str, manner: Manner, hash: &str) -> Came {
        let (done, helped) = {
            let state = self.double.outside.state();
            (state.ledger.contains_key(effect), state.helped)
        };
        if manner == Manner::Doubtful && !helped {
            let reason = Fault::of_code("outcome-unknown", effect);
            return Came::Doubt(Parking { why: Why::Doubt, reason });
        }
        if done { answered(hash, Ok(json!({ "did": effect }).to_string()), How::Found) } else { not_sent("absent") }
    }
}

/// What came of a write.
enum Came {
    Answered(Answer),
    NotSent(NotSent),
    Doubt(Parking),
    Stopped,
}

fn answered(hash: &str, result: Result<String, String>, how: How) -> Came {
    Came::Answered(Answer {
        hash: hash.to_owned(),
        function: "write".to_owned(),
        writes: true,
        result,
        how,
        token: None,
    })
}

fn not_sent(reason: &str) -> Came {
    Came::NotSent(NotSent { reason: reason.to_owned(), retry_at: None, repeats: false, instead: None })
}

fn result_of(answer: Answer) -> Result<Value, String> {
    answer.result.map(|text| serde_json::from_str(&text).unwrap())
}

fn hash(request: &str) -> String {
    Digest::of(request.as_bytes()).to_string()
}
