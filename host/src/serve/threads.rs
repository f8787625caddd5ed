//! The threads of a host that carry no run.

/// The threads that answer over HTTP. They carry no run, so that whatever runs compute, somebody answers.
pub(super) struct Threads(Option<tokio::runtime::Runtime>);

/// Two: one may wait for the store.
pub(super) const HTTP_THREADS: usize = 2;

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// The machine gives none.
    pub(super) fn new() -> std::io::Result<Self> {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        threads.worker_threads(HTTP_THREADS).thread_name("http").enable_all().build().map(|threads| Self(Some(threads)))
    }

    /// Has one of them carry `task`.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        match &self.0 {
            Some(threads) => threads.spawn(task),
            None => tokio::spawn(task),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting for them would hold up a process that is to end.
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}
