//! The parts of a host that work for as long as it does: where one ends, the host has to, because nobody else does its
//! work. A host whose timers had gone would answer and never wake a run.

use tokio::sync::watch;

/// A part that has ended though nobody stopped it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the part of the host that {name} has ended: {why}")]
pub struct Ended {
    /// What it does, in words that follow "that".
    pub name: &'static str,
    /// How it ended. What a panic said stands in the log.
    pub why: &'static str,
}

/// Those who look at the ends of parts.
pub struct Parts {
    /// The first that has ended.
    first: watch::Sender<Option<Ended>>,
    /// What was begun, for tests that end each.
    #[cfg(test)]
    begun: std::sync::Mutex<Vec<(&'static str, tokio::task::AbortHandle)>>,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            first: watch::channel(None).0,
            #[cfg(test)]
            begun: std::sync::Mutex::default(),
        }
    }
}

impl Parts {
    /// Has `work` go on beside its caller. Its end is told, unless the process is stopping by then.
    pub fn begin(
        &self,
        name: &'static str,
        drain: watch::Receiver<bool>,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let part = tokio::spawn(work);
        #[cfg(test)]
        self.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((name, part.abort_handle()));
        let first = self.first.clone();
        tokio::spawn(async move {
            let why = match part.await {
                Ok(()) => "it came to its end",
                Err(error) if error.is_panic() => "it panicked, and the log says at what",
                Err(_) => "it was broken off",
            };
            if !*drain.borrow() {
                Self::tell(&first, Ended { name, why });
            }
        });
    }

    /// Has `work` go on beside its caller until it is done or the process is stopping. Only a panic is told.
    pub fn carry(
        &self,
        name: &'static str,
        drain: watch::Receiver<bool>,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let mut stops = drain.clone();
        let work = tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = stops.wait_for(|drain| *drain) => {}
                () = work => {}
            }
        });
        let first = self.first.clone();
        tokio::spawn(async move {
            if work.await.is_err_and(|error| error.is_panic()) && !*drain.borrow() {
                Self::tell(&first, Ended { name, why: "it panicked, and the log says at what" });
            }
        });
    }

    fn tell(first: &watch::Sender<Option<Ended>>, ended: Ended) {
        first.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(ended);
            is_first
        });
    }

    /// Waits until a part has ended, and says which.
    pub async fn ended(&self) -> Ended {
        let mut first = self.first.subscribe();
        loop {
            let ended = first.borrow_and_update().clone();
            if let Some(ended) = ended {
                return ended;
            }
            // The sender is here: it cannot go.
            let _changed = first.changed().await;
        }
    }

    /// What was begun.
    #[cfg(test)]
    pub fn names(&self) -> Vec<&'static str> {
        self.begun.lock().unwrap().iter().map(|(name, _)| *name).collect()
    }

    /// Breaks one off.
    #[cfg(test)]
    pub fn break_off(&self, name: &str) {
        let begun = self.begun.lock().unwrap();
        begun.iter().filter(|(begun, _)| *begun == name).for_each(|(_, part)| part.abort());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_end_is_told_with_how_it_came() {
        let (drain, drains) = watch::channel(false);
        let parts = Parts::default();
        parts.begin("waits", drains.clone(), std::future::pending());
        parts.begin("ends", drains.clone(), async {});
        assert_eq!(parts.ended().await, Ended { name: "ends", why: "it came to its end" });
        parts.break_off("waits");
        tokio::task::yield_now().await;
        assert_eq!(parts.ended().await.name, "ends", "the first stays");

        let parts = Parts::default();
        parts.begin("breaks", drains.clone(), async { panic!("as the test says") });
        assert_eq!(parts.ended().await, Ended { name: "breaks", why: "it panicked, and the log says at what" });

        let parts = Parts::default();
        parts.carry("is done", drains.clone(), async {});
        parts.carry("breaks", drains.clone(), async { panic!("as the test says") });
        assert_eq!(parts.ended().await.name, "breaks", "what is done is no end");

        // A process that is stopping ends its parts.
        drain.send_replace(true);
        let parts = Parts::default();
        parts.begin("ends", drains.clone(), async {});
        parts.carry("goes on", drains, std::future::pending());
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(parts.first.borrow().is_none());
    }
}
