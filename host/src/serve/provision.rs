//! What a host is given at its start besides what it keeps: connections and plugins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::requirement::{Grant, Kind, Permission, TokenKind};
use bellhop_slack::client::Secret;

use bellhop_engine as engine;
use bellhop_engine::Engine;
use bellhop_engine::setup::connections::{ConnectError, New};

use super::{Error, read};

/// What a host is given at its start besides what it keeps. It is kept, too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Provision {
    /// Connections.
    pub(crate) connections: Vec<Declared>,
    /// Components, each installed and granted everything that its actions declare, which is said.
    pub(crate) plugins: Vec<PathBuf>,
    /// Whether every start prints a token, which ends after a day.
    pub(crate) token_each_start: bool,
}

/// A connection that a host is told of at its start.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    /// Its name in upper case, with `_` for `-`: all that the name of a variable can say.
    pub(crate) stem: String,
    /// What it is; where nothing is said, what the connection that is there is.
    pub(crate) kind: Option<Kind>,
    /// What it may be used for; where nothing is said, as before, else to act.
    pub(crate) permission: Option<Permission>,
    /// At least one.
    pub(crate) tokens: BTreeMap<TokenKind, Secret>,
}

/// How the names of variables write a connection's name.
pub(crate) fn stem(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

/// Tries again, now and then, what could not be connected at the start.
pub(super) async fn mend(engine: Arc<Engine>) {
    let services = &engine.services;
    while !engine.connections.broken().is_empty() {
        services.clock.sleep(Duration::from_millis(services.limits.blocked_again_ms)).await;
        if engine.connections.mend(&services.gateway, services.clock.now()).await {
            engine.remedied(&engine::accept::blocked::Change::Reach);
        }
    }
}

/// Makes the connections that were declared. One that is there with the same tokens is left alone: Slack need not answer
/// for a host to start.
async fn connect(engine: &Engine, declared: &Declared) -> Result<Option<String>, Error> {
    let refused = |message: String| Error::Connection { message, diagnostics: Vec::new() };
    let Declared { stem: wanted, kind, permission, tokens } = declared;
    let gateway = &engine.services.gateway;
    let mut there: Vec<_> = gateway.connections().into_iter().filter(|c| stem(&c.facts.name) == *wanted).collect();
    let present = there.pop();
    if let (Some(one), Some(other)) = (&present, there.first()) {
        return Err(refused(format!(
            "BELLHOP_CONNECTION_{wanted}_… could be `{}` or `{}`: remove one of these connections",
            other.facts.name, one.facts.name
        )));
    }
    let Some(kind) = kind.or_else(|| present.as_ref().map(|c| c.facts.kind)) else {
        return Err(refused(format!(
            "BELLHOP_CONNECTION_{wanted}_KIND has to say what the connection is: workspace, grid-workspace or grid-org"
        )));
    };
    let permission = permission.or_else(|| present.as_ref().map(|c| c.facts.permission)).unwrap_or(Permission::Act);
    let same = |c: &engine::gateway::Connected| {
        c.facts.kind == kind
            && c.facts.permission == permission
            && c.tokens.len() == tokens.len()
            && c.tokens.iter().all(|(kind, token)| tokens.get(kind).is_some_and(|t| t.reveal() == token.reveal()))
    };
    if present.as_ref().is_some_and(|c| same(c)) {
        return Ok(None);
    }
    let name = present.map_or_else(|| wanted.to_ascii_lowercase().replace('_', "-"), |c| c.facts.name.clone());
    let new = New { name: name.clone(), kind, permission, tokens: tokens.clone() };
    match engine.connections.connect(gateway, new.clone(), engine.services.clock.now()).await {
        // What Slack says, or does not say, of one connection is no reason to keep all others waiting.
        Err(error @ ConnectError::Detect(_)) => {
            // What helps where the network is to blame has nothing to do with what the connection was made of.
            let fix = error.fix();
            tracing::warn!(connection = name, %error, fix, "the connection is broken: runs that need it are refused until it is whole");
            engine.connections.is_broken(new, error.to_string(), fix.clone());
            let fix = fix.map(|fix| format!("; {fix}")).unwrap_or_default();
            Ok(Some(format!("the connection `{name}` is broken: {error}{fix}")))
        }
        Ok(connected) => Ok(Some(format!("connected {name}: {}", connected.facts.kind.title()))),
        Err(error) => {
            let message = format!("the connection `{name}` cannot be made: {error}");
            let diagnostics = match error {
                ConnectError::Mismatch(diagnostics) => diagnostics,
                ConnectError::Detect(_) | ConnectError::Lacking(_) | ConnectError::Keep(_) => Vec::new(),
            };
            Err(Error::Connection { message, diagnostics })
        }
    }
}

/// Installs a component with all that it declares; gives what there is to say of it.
async fn install(engine: &Engine, file: &Path) -> Result<Vec<String>, Error> {
    use engine::setup::plugins::{InstallError, Order, Replace, Wanted};
    let services = &engine.services;
    let shown = file.display();
    let refused = |message: String, diagnostics: Vec<Diagnostic>| Error::Plugin { message, diagnostics };
    let read = read::whole(file, services.limits.plugin_bytes_max);
    let bytes = read.map_err(|e| refused(format!("{shown} cannot be read: {e}"), Vec::new()))?;
    let order = Order {
        bytes: &bytes,
        grants: Wanted::Everything,
        replace: Replace::Nobody,
        // Whoever starts the host has built it.
        follows: None,
        means: &|before, after| Box::pin(engine.callers_anew(before, after)),
        rules: &services.gateway.rules,
        connections: &[],
        now: services.clock.now(),
    };
    match services.plugins.put(order).await {
        Ok(done) => {
            let manifest = &done.installed.stored.manifest;
            let granted: Vec<&str> = done.installed.grants.iter().map(Grant::method).collect();
            let granted = if granted.is_empty() { "nothing".to_owned() } else { granted.join(", ") };
            Ok(vec![
                format!("installed {} {} from {shown}", manifest.name, manifest.version),
                format!("  granted all that it declares: {granted}"),
            ])
        }
        // Runs that have begun pin the one that is there.
        Err(error @ InstallError::Immutable { .. }) => Ok(vec![format!("left out {shown}: {error}")]),
        Err(error) => {
            let message = format!("{shown} cannot be installed: {error}");
            let diagnostics = match error {
                InstallError::Manifest(faults) | InstallError::Grants(faults) => faults,
                _ => Vec::new(),
            };
            Err(refused(message, diagnostics))
        }
    }
}

/// Installs and connects what the host is to have. Ok says, in lines for people, what was new.
pub(super) async fn provide(engine: &Engine, provision: &Provision) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    for file in &provision.plugins {
        lines.extend(install(engine, file).await?);
    }
    for declared in &provision.connections {
        lines.extend(connect(engine, declared).await?);
    }
    Ok(lines)
}
