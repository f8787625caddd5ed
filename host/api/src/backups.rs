//! A backup of what the host keeps, as a stream; and the word that has a restored host go on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::problem::{self, Problem};
use super::request::Request;
use super::{App, answer, work};
use bellhop_engine::operate::backup::{Backup, Error};
use bellhop_engine::setup::sealed::Passphrase;
use bellhop_journal::{self as journal, backup};

/// What a backup is to HTTP.
pub(super) const KIND: &str = "application/octet-stream";

/// `GET /v1/backup`: everything but the tokens of connections.
pub(super) async fn take(request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    begin(&request, None)
}

/// `POST /v1/backup`: `{"passphrase": …}`. The tokens of connections are in it, sealed with that.
pub(super) async fn take_with_secrets(mut request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let mut form = request.form(&["passphrase"]).await?;
    let passphrase = Passphrase::new(form.needed_text("passphrase").unwrap_or_default());
    if let Err(wrong) = &passphrase {
        form.refuse("passphrase", wrong.as_str());
    }
    form.finish()?;
    begin(&request, passphrase.ok())
}

fn begin(request: &Request, passphrase: Option<Passphrase>) -> Result<Response, Problem> {
    let app = request.app.clone();
    let place =
        app.backups.clone().try_acquire_owned().map_err(|_| {
            Problem::later(problem::UNAVAILABLE, "another backup is being taken", Duration::from_secs(30))
        })?;
    let services = &app.engine.services;
    let secrets = passphrase.map(|passphrase| (app.engine.connections.secrets().clone(), passphrase));
    let with_secrets = secrets.is_some();
    let bytes_max = services.limits.backup_queue_bytes_max;
    let backup = Backup::begin(&services.journal, services.clock.clone(), bytes_max, secrets);
    tracing::info!(by = request.caller.name(), with_secrets, "a backup is taken");
    let stopping = app.stopping.subscribe();
    let stream = Stream { app, backup: Some(backup), stopping, _place: place };
    let body = futures_util::stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((Ok::<_, Infallible>(chunk), stream))
    });
    Ok(answer::bytes(StatusCode::OK, KIND, Body::from_stream(body)))
}

/// A backup on its way.
struct Stream {
    app: Arc<App>,
    /// None after its end, and while it is taken further.
    backup: Option<Backup>,
    stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    /// The next bytes. A backup that comes to no end says so in its last ones, because the answer has begun.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let mut backup = self.backup.take()?;
            if *self.stopping.borrow() {
                return Some(broken_off(backup, &Problem::draining(), "the host is stopping"));
            }
            let handle = tokio::runtime::Handle::current();
            // A page of the store, or the sealing: nobody else's request waits for it.
            let stepped = tokio::task::spawn_blocking(move || {
                let step = handle.block_on(backup.next());
                (backup, step)
            });
            let (backup, step) = match stepped.await {
                Ok(stepped) => stepped,
                Err(error) => {
                    tracing::error!(%error, "a backup failed");
                    return None;
                }
            };
            match step {
                Ok(None) => {
                    if let Some(trailer) = backup.trailer() {
                        tracing::info!(items = trailer.items, bytes = trailer.bytes, "a backup was taken");
                    }
                    return None;
                }
                Ok(Some(bytes)) => {
                    self.backup = Some(backup);
                    if !bytes.is_empty() {
                        return Some(Bytes::from(bytes));
                    }
                }
                Err(error) => {
                    if let Error::Backup(backup::Error::Store(store)) = &error
                        && journal::Error::from(store.clone()).is_fatal()
                    {
                        self.app.engine.services.fatal.send_replace(Some(store.to_string()));
                    }
                    return Some(broken_off(backup, &class_of(&error), &error.to_string()));
                }
            }
        }
    }
}

fn broken_off(backup: Backup, problem: &Problem, why: &str) -> Bytes {
    let code = problem.kind().code;
    tracing::warn!(code, why, "a backup was broken off");
    Bytes::from(backup.broken_off(code, why))
}

/// What class of problem it is.
fn class_of(error: &Error) -> Problem {
    match error {
        Error::Backup(backup::Error::TooSlow { .. }) => Problem::new(problem::BACKUP_TOO_SLOW, error.to_string()),
        Error::Backup(backup::Error::Store(error)) => journal::Error::from(error.clone()).into(),
        Error::Backup(_) | Error::Connections(_) | Error::Sealed(_) => Problem::internal(error),
    }
}

/// `POST /v1/restore/go-on`.
pub(super) async fn go_on(mut request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    request.form_or_nothing(&[]).await?.finish()?;
    let app = request.app.clone();
    let by = request.caller.name();
    work::to_the_end(async move {
        let restore = app.engine.go_on().await?.ok_or_else(|| {
            Problem::new(problem::NOT_RESTORED, "the data folder of this host was not made from a backup")
        })?;
        tracing::info!(by, "the restored host was told to go on");
        answer::json(
            StatusCode::OK,
            &json!({
                "instant": restore.instant.to_string(),
                "restoredAt": restore.restored_at.to_string(),
                "goneOnAt": restore.gone_on_at.map(|at| at.to_string()),
            }),
        )
    })
    .await
}
