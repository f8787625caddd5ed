//! What the installed plugins can do, with all that a caller has to know beforehand.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use bellhop_core::manifest::{Action, Manifest};
use bellhop_core::requirement::{Availability, Method, Rules};

use super::problem::Problem;
use super::request::Request;
use super::{answer, pages};

/// `GET /v1/actions`.
pub(super) async fn list(request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&["plugin", "limit", "cursor"])?;
    let services = &request.app.engine.services;
    let wanted = pages::wanted(&mut params, services.limits.list_items_max);
    let plugin = params.one("plugin");
    params.finish()?;
    let mut all = Vec::new();
    for installed in services.plugins.all() {
        let manifest = &installed.stored.manifest;
        if plugin.as_ref().is_none_or(|wanted| *wanted == manifest.name) {
            all.extend(
                manifest
                    .actions
                    .iter()
                    .map(|action| (reference(manifest, action), shown(manifest, action, &services.gateway.rules))),
            );
        }
    }
    let page = pages::of_all(all, &wanted, |(reference, _)| reference.clone(), |(_, shown)| shown.clone());
    answer::json(StatusCode::OK, &page)
}

fn reference(manifest: &Manifest, action: &Action) -> String {
    format!("{}:{}@{}", action.name, manifest.version, manifest.name)
}

fn shown(manifest: &Manifest, action: &Action, rules: &Rules) -> Value {
    let calls: Vec<Value> = action
        .calls
        .iter()
        .map(|alternative| {
            let methods: Vec<Value> = alternative
                .methods
                .iter()
                .map(|call| {
                    let facts = rules.by_function(&call.function).map(facts).unwrap_or_default();
                    let mut fields = Map::new();
                    fields.insert("function".to_owned(), json!(call.function));
                    fields.insert("when".to_owned(), json!(call.when));
                    fields.extend(facts);
                    Value::Object(fields)
                })
                .collect();
            json!({ "on": alternative.on, "methods": methods })
        })
        .collect();
    json!({
        "action": reference(manifest, action),
        "name": action.name,
        "plugin": manifest.name,
        "version": manifest.version,
        "title": action.title,
        "description": action.description,
        "effect": action.effect,
        "purposes": action.purposes,
        "inverse": action.inverse,
        "input": action.input,
        "output": action.output,
        "errors": action.errors,
        "calls": calls,
    })
}

/// What the host's catalog knows of a method. Nothing for one that it does not have.
fn facts(method: &Method) -> Map<String, Value> {
    let tokens: Vec<Value> =
        method.access.iter().map(|access| json!({ "token": access.token, "anyScopeOf": access.scopes })).collect();
    let on: Map<String, Value> = method
        .availability
        .iter()
        .map(|(kind, availability)| {
            let said = match availability {
                Availability::Yes => json!({ "available": true }),
                Availability::From(plan) => json!({ "available": true, "fromPlan": plan }),
                Availability::No(instead) => json!({ "available": false, "instead": instead }),
            };
            (kind.to_string(), said)
        })
        .collect();
    let mut fields = Map::new();
    fields.insert("method".to_owned(), json!(method.name));
    fields.insert("writes".to_owned(), json!(method.writes));
    fields.insert("ratePerMinute".to_owned(), json!(method.rate_per_minute));
    fields.insert("tokens".to_owned(), Value::Array(tokens));
    fields.insert("connections".to_owned(), Value::Object(on));
    fields
}

/// `POST /v1/actions/{name}/runs`: one action as a run.
pub(super) async fn run(_request: Request) -> Result<Response, Problem> {
    Err(Problem::not_supported("running a single action"))
}
