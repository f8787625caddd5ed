//! Work that must not be cut off when the caller goes, or must not hold up other requests.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::App;
use super::problem::Problem;
use bellhop_engine::Engine;

/// Carries `work` to its end, also when the caller has gone: half of a change helps nobody.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let span = tracing::Span::current();
    let ended = tokio::spawn(tracing::Instrument::instrument(work, span)).await;
    ended.unwrap_or_else(|error| Err(Problem::internal(&error)))
}

/// Has the threads that carry runs do `work`, which checks a value against a schema or judges a run: those that answer
/// over HTTP are for whoever only asks. It comes to its end, also when the caller has gone.
pub(super) async fn by_the_engine<T: Send + 'static>(
    engine: &Engine,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    let span = tracing::Span::current();
    let ended = engine.services.spawn(tracing::Instrument::instrument(work, span)).await;
    ended.map_err(|error| Problem::internal(&error))
}

/// As [`heavy`], for what computes between its waits for the store.
pub(super) async fn heavy_until<T: Send + 'static>(
    app: &Arc<App>,
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let handle = tokio::runtime::Handle::current();
    heavy(app, move || handle.block_on(work)).await
}

/// Computes on a thread of its own, one of a few.
pub(super) async fn heavy<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    apart(&app.heavy, work).await
}

/// One of a few places for records that are being read: one record can have megabytes, and is in memory until it is sent.
pub(super) struct Place {
    _held: OwnedSemaphorePermit,
}

/// A place for whoever reads records, as soon as there is one.
pub(super) async fn to_read(app: &Arc<App>) -> Result<Place, Problem> {
    Place::of(&app.reading).await
}

impl Place {
    async fn of(places: &Arc<Semaphore>) -> Result<Self, Problem> {
        let held = places.clone().acquire_owned().await.map_err(|error| Problem::internal(&error))?;
        Ok(Self { _held: held })
    }

    /// Computes on a thread of its own; the place is free when that is done, also when the caller has gone, or given back.
    pub(super) async fn compute<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<(Self, T), Problem> {
        let span = tracing::Span::current();
        let ended = tokio::task::spawn_blocking(move || Ok((self, span.in_scope(work)?)));
        ended.await.unwrap_or_else(|error| Err(Problem::internal(&error)))
    }
}

/// Computes on a thread of its own as soon as there is a place.
async fn apart<T: Send + 'static>(
    places: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let (_place, done) = Place::of(places).await?.compute(work).await?;
    Ok(done)
}
