//! What a host keeps: its records, the tokens of its interface, its plugins with what they are granted.

use bellhop_core::manifest;
use bellhop_core::text::shell_word;
use bellhop_engine::setup::plugins::Installed;
use bellhop_engine::setup::tokens::{MAKES_TOKENS, Stored};
use bellhop_journal::sled::FORMAT;
use serde_json::{Map, Value, json};

use super::{Check, Inside, State};
use crate::serve::Options;

/// A larger file is not read for its sizes.
const READ_BYTES_MAX: u64 = 64 << 20;
/// A token whose end is nearer is said, and a tenth of its life before at most.
const SOON_MS: u64 = 14 * 86_400_000;
/// So many things are named.
const NAMED_MAX: usize = 10;

/// Whether what is kept can be read, and how many bytes there are of what.
pub(super) async fn store(inside: &Inside<'_>, options: &Options) -> Vec<Check> {
    let check = Check::of("store").with("format", FORMAT);
    let damages = inside.journal.damages();
    let file = options.data_dir.join("store/db");
    let is_small = std::fs::metadata(file).is_ok_and(|found| found.len() <= READ_BYTES_MAX);
    let check = match if is_small { Some(inside.journal.sizes().await) } else { None } {
        Some(Ok(sizes)) => {
            let sizes: Map<String, Value> =
                sizes.into_iter().map(|size| (size.kind.to_owned(), json!(size.bytes))).collect();
            check.with("bytes", sizes)
        }
        Some(Err(error)) => {
            let fix = "what it says has to be mended, or the folder taken from a copy: bellhop explain storage-failed";
            return vec![check.fault("storage-failed", State::Wrong).has(error.to_string()).fix(fix)];
        }
        // Reading all of a large one would take longer than anybody waits.
        None => check.with("bytes", Value::Null),
    };
    if damages.is_empty() {
        return vec![check.has(format!("opened, format {FORMAT}"))];
    }
    let named: Vec<String> =
        damages.iter().take(NAMED_MAX).map(|damage| format!("{} {}", damage.kind(), damage.fact)).collect();
    vec![
        check
            .fault("storage-damaged", State::Wrong)
            .needs("facts that can be read")
            .has(format!("{} cannot be: {}", damages.len(), named.join(", ")))
            .fix("write each anew; how is said by: bellhop explain storage-damaged"),
    ]
}

/// Whether somebody can still make tokens, and which end soon.
pub(super) async fn tokens(inside: &Inside<'_>, options: &Options) -> Vec<Check> {
    let check = Check::of("tokens");
    let all = match inside.tokens.all().await {
        Ok(all) => all,
        Err(error) => return vec![check.unknown(error.to_string())],
    };
    let now = inside.clock.now();
    if all.is_empty() {
        return vec![check.has("there is none yet: the first start makes one")];
    }
    let live: Vec<&Stored> = all.iter().filter(|token| token.expires_at.is_none_or(|at| now < at)).collect();
    let makers: Vec<&&Stored> = live.iter().filter(|token| token.may(MAKES_TOKENS)).collect();
    let folder = shell_word(&options.data_dir.display().to_string()).into_owned();
    let offline = format!("bellhop token create --offline --name operator --scope {MAKES_TOKENS} --data-dir {folder}");
    let stopped = if inside.is_host { "stop the host, and make one beside its folder: " } else { "make one: " };
    let for_good = makers.iter().any(|token| token.makes_tokens_for_good());
    let last = makers.iter().filter_map(|token| token.expires_at.map(|at| (at, &token.name))).max();
    let check = check.with("tokens", live.len());
    let mut checks = Vec::new();
    checks.push(match (makers.is_empty(), for_good, last) {
        (true, _, _) => check
            .fault("operator-token-ends", State::Wrong)
            .needs(format!("a token that makes tokens ({MAKES_TOKENS})"))
            .has("none that has not ended: nobody can make a token over HTTP")
            .fix(format!("{stopped}{offline}")),
        (false, false, Some((at, name))) => check
            .fault("operator-token-ends", State::Warning)
            .needs(format!("a token that makes tokens ({MAKES_TOKENS}) and has no end"))
            .has(format!("the last one, `{name}`, ends at {at}"))
            // One that ends makes none that is there longer.
            .fix(format!("{stopped}{offline}")),
        _ => check.has(format!("{} that have not ended, {} of them make tokens", live.len(), makers.len())),
    });
    for token in live.iter().filter(|token| for_good || !token.may(MAKES_TOKENS)) {
        let Some(at) = token.expires_at else { continue };
        let (left_ms, life_ms) = (at.millis_since(now), at.millis_since(token.created_at));
        if left_ms < SOON_MS && left_ms < life_ms / 10 {
            let scopes: Vec<String> = token.scopes.iter().map(|scope| format!("--scope {}", scope.as_str())).collect();
            checks.push(
                Check::of("tokens")
                    .about(token.name.clone())
                    .fault("token-ends-soon", State::Warning)
                    .needs("another token for whoever uses this one")
                    .has(format!("it ends at {at}"))
                    .fix(format!("bellhop token create --name {} {}", shell_word(&token.name), scopes.join(" "))),
            );
        }
    }
    checks
}

/// Each plugin: whether it is compiled, and whether what it was granted is enough for what it was granted for.
pub(super) fn plugins(inside: &Inside<'_>) -> Vec<Check> {
    let all = inside.plugins.all();
    let checks: Vec<Check> = all
        .iter()
        .filter(|installed| installed.stored.removed_at.is_none())
        .map(|installed| plugin(inside, installed))
        .collect();
    if checks.is_empty() {
        return vec![Check::of("plugin").has("there is none yet: bellhop plugin install FILE")];
    }
    checks
}

fn plugin(inside: &Inside<'_>, installed: &Installed) -> Check {
    let stored = &installed.stored;
    let (name, version) = (&stored.manifest.name, &stored.manifest.version);
    let is_compiled = inside.plugins.is_compiled(&stored.inspection.digest);
    let check = Check::of("plugin").about(format!("{name} {version}")).with("compiled", is_compiled);
    let lacks = lacking(inside, installed);
    if lacks.is_empty() {
        let compiled = if is_compiled { "compiled" } else { "compiled at its first call" };
        return check.has(format!("{compiled}; {} grants", installed.grants.len()));
    }
    check
        .fault("capability-not-granted", State::Warning)
        .needs(format!("grants of what its actions declare: {}", lacks.join(", ")))
        .has(match installed.grants.len() {
            0 => "none: none of its actions can call anything".to_owned(),
            count => format!("{count} grants, with which these actions can do a part of what they do"),
        })
        .fix(format!("bellhop plugin grant {name}@{version} --add {}", lacks.join(" ")))
}

/// The methods that are missing. An action of which nothing is granted is one that the operator does without, unless that
/// is so of all.
fn lacking(inside: &Inside<'_>, installed: &Installed) -> Vec<String> {
    let rules = &inside.gateway.rules;
    let manifest = &installed.stored.manifest;
    let missing = manifest::missing(manifest, &installed.grants, rules);
    if installed.grants.is_empty() {
        return missing.into_iter().map(str::to_owned).collect();
    }
    let method_of = |function: &str| {
        rules.methods.values().find(|method| method.function == function).map(|method| method.name.as_str())
    };
    let mut lacks = std::collections::BTreeSet::new();
    for action in &manifest.actions {
        let methods: Vec<&str> = action.functions().filter_map(method_of).collect();
        let (lacking, granted): (Vec<&str>, Vec<&str>) =
            methods.into_iter().partition(|method| missing.contains(method));
        if !granted.is_empty() {
            lacks.extend(lacking.into_iter().map(str::to_owned));
        }
    }
    lacks.into_iter().collect()
}
