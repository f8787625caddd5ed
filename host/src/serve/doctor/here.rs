//! The same looks where no host runs, over the folder that one has left or will make.

use std::sync::Arc;

use bellhop_clock::{self as clock, Clock};
use bellhop_engine::gateway::{Gateway, SlackClock};
use bellhop_engine::setup::connections::{Connections, Secrets};
use bellhop_engine::setup::plugins::Plugins;
use bellhop_engine::setup::tokens::Tokens;
use bellhop_journal::sled::{OpenError, Options as StoreOptions, Sled};
use bellhop_journal::{Journal, store};
use bellhop_slack::client::Client;
use bellhop_slack::limiter::{self, Limiter};
use serde_json::Value;

use super::{CHECK_MAX, Check, Inside, State, look, shown};
use crate::serve::{Error, Options, client_options, not_opened, own, sandbox};

/// Looks at this place in place of a host.
///
/// # Errors
/// [`Error::InUse`]: a host has the folder. [`Error::Client`]: Slack's address is none.
pub(crate) async fn here(options: &Options) -> Result<Value, Error> {
    own::keep_to_ourselves();
    let clock: Arc<dyn Clock> = Arc::new(clock::System::new());
    let client = Client::new(&client_options(options))?;
    let folder = options.data_dir.join("store");
    // Looking makes no store, and opens none in a folder that a start would refuse.
    let opens = folder.join("format").is_file() && own::look(&options.data_dir).is_ok();
    let journal = match opens.then(|| open(options)) {
        None => Err(Check::of("store").has("there is none yet: the first start makes one")),
        Some(opening) => opening.await?,
    };
    let mut checks = Vec::new();
    match &journal {
        Err(check) => {
            checks.push(check.clone());
            checks.extend(look(options, &client, &*clock, None, None).await);
        }
        Ok(journal) => {
            checks.extend(kept(options, journal, client, &clock).await);
            journal.close().map_err(|error| Error::Store(error.to_string()))?;
        }
    }
    Ok(shown(checks))
}

/// Opens the store; `Ok(Err)` is why it cannot be looked into.
async fn open(options: &Options) -> Result<Result<Journal, Check>, Error> {
    let store = StoreOptions::new(options.data_dir.join("store"));
    let opening = tokio::task::spawn_blocking(move || Sled::open(&store, Box::new(|_: &store::Error| {})));
    let check = Check::of("store");
    let Ok(opened) = tokio::time::timeout(CHECK_MAX, opening).await else {
        let fix = "start the host, and ask it: bellhop doctor";
        return Ok(Err(check.unknown("it takes long to open").fault("check-timed-out", State::Unknown).fix(fix)));
    };
    let opened = opened.map_err(|error| Error::Io(std::io::Error::other(error)))?;
    Ok(match opened {
        Ok(store) => Ok(Journal::new(Arc::new(store))),
        Err(error @ OpenError::InUse { .. }) => return Err(not_opened(error)),
        Err(error @ OpenError::OlderFormat { .. }) => Err(check
            .has(error.to_string())
            .fault("store-older", State::Wrong)
            .fix("begin anew in a folder that is not there yet, by --data-dir")),
        Err(error) => Err(check
            .has(error.to_string())
            .fault("storage-failed", State::Wrong)
            .fix("what it says has to be mended, or the folder taken from a copy: bellhop explain storage-failed")),
    })
}

/// What the folder has, and all else.
async fn kept(options: &Options, journal: &Journal, client: Client, clock: &Arc<dyn Clock>) -> Vec<Check> {
    let limiter = Limiter::new(limiter::Options::default(), SlackClock(clock.clone()));
    let gateway = Gateway::new(client.clone(), limiter);
    let secrets = Secrets::in_folder(options.data_dir.join("secrets"));
    let read = async {
        journal.look_through().await.map_err(|error| error.to_string())?;
        let connections =
            Connections::read(journal.clone(), secrets, &gateway).await.map_err(|error| error.to_string())?;
        let sandbox = sandbox(&options.compiled_dir, &options.limits).map_err(|error| error.to_string())?;
        let plugins = Plugins::read(journal.clone(), sandbox).await.map_err(|error| error.to_string())?;
        Ok::<_, String>((connections, plugins))
    };
    let (connections, plugins) =
        match read.await {
            Ok(read) => read,
            Err(why) => {
                let mut checks = look(options, &client, &**clock, None, None).await;
                checks.push(Check::of("store").has(why).fault("storage-failed", State::Wrong).fix(
                    "what it says has to be mended, or the folder taken from a copy: bellhop explain storage-failed",
                ));
                return checks;
            }
        };
    let tokens = Tokens::new(journal.clone());
    let inside = Inside {
        clock: &**clock,
        journal,
        gateway: &gateway,
        connections: &connections,
        tokens: &tokens,
        plugins: &plugins,
        is_host: false,
    };
    look(options, &client, &**clock, None, Some(&inside)).await
}
