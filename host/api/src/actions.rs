//! What the installed plugins can do, with all that a caller has to know beforehand.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use bellhop_core::definition::{ActionReference, parse_reference};
use bellhop_core::diagnostic::{Diagnostic, Needs, nearest};
use bellhop_core::digest::Digest;
use bellhop_core::manifest::{Action, Manifest};
use bellhop_core::requirement::{Availability, Method, Rules};

use super::form::{self, Form};
use super::problem::{self, Problem};
use super::request::Request;
use super::{answer, pages, runs, start, work};
use bellhop_engine::accept::trigger;

/// `GET /v1/actions`.
pub(super) async fn list(request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&["plugin", "limit", "cursor"])?;
    let services = &request.app.engine.services;
    let wanted = pages::wanted(&mut params, &services.limits);
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

/// An action, with what `rules` say of the methods that it calls.
pub fn shown(manifest: &Manifest, action: &Action, rules: &Rules) -> Value {
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

/// `POST /v1/actions/{name}/runs`: one action as a run, named in full (`message.send:1@slack`) or, where only one plugin
/// has it, by its name.
pub(super) async fn run(mut request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&["wait"])?;
    let wait = runs::wait(&request.app, &mut params);
    params.finish()?;
    let reference = meant(&request)?;
    let idempotency_key = start::idempotency_key(&request)?;
    let bytes = request.json_bytes().await?;
    let mut form = Form::of(form::parse(&bytes)?, &["input", "connection", "labels"])?;
    let connection = form.text("connection");
    let input = form.needed("input", "the action's input, an object").unwrap_or(Value::Null);
    if !input.is_object() && !input.is_null() {
        form.refuse("input", "an action's input is an object");
    }
    let labels = start::labels(&mut form, request.app.engine.services.limits.labels_max);
    form.finish()?;
    let engine = request.app.engine.clone();
    fits(&request, &reference, &input)?;
    let mut order = match trigger::of_action(&reference, &input, connection.as_deref()) {
        Ok(order) => order,
        Err(refused) => return Err(runs::refused(&engine, refused, None).await),
    };
    order.labels = labels;
    order.idempotency_key = idempotency_key;
    order.by = Some(request.caller.name());
    order.traceparent = start::traceparent(&request);
    // The key's scope is the action's name: another version of it is another request.
    order.body = Digest::of(&[reference.to_string().as_bytes(), b"\n", &bytes].concat());
    let starts = engine.clone();
    let accepted = work::by_the_engine(&engine, async move { starts.trigger(order).await }).await?;
    let accepted = match accepted {
        Ok(accepted) => accepted,
        Err(refused) => return Err(runs::refused(&engine, refused, None).await),
    };
    start::answered(&request.app, &request.caller, &accepted, wait).await
}

/// Whether the input fits the action's schema: as the input of a run it would only be looked at when the action begins.
/// An action that is not there is preflight's to tell.
fn fits(request: &Request, reference: &ActionReference, input: &Value) -> Result<(), Problem> {
    let plugins = &request.app.engine.services.plugins;
    let resolved = plugins.known().resolve(reference).ok().map(|resolved| resolved.reference);
    let Some((_, found)) = resolved.and_then(|reference| plugins.action(&reference)) else { return Ok(()) };
    let nothing = Value::Object(Map::new());
    let input = if input.is_null() { &nothing } else { input };
    let faults: Vec<Diagnostic> = found
        .input
        .validate(input)
        .into_iter()
        .map(|violation| {
            let pointer = format!("/input{}", violation.pointer);
            let place = if violation.pointer.is_empty() { "/" } else { violation.pointer.as_str() };
            let message = format!("the input at `{place}`: {}", violation.message);
            let mut fault = form::fault(violation.code(trigger::code::INPUT_INVALID), &pointer, message);
            fault.action = Some(reference.to_string());
            fault.needs = violation.expected.map(|text| Needs { text: Some(text), ..Needs::default() });
            match violation.suggestion {
                Some(near) => fault.with_help(format!("did you mean `{near}`?")),
                None => fault,
            }
        })
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(Problem::input("nothing was started: the input does not fit the action", faults))
}

/// The action that the address names.
fn meant(request: &Request) -> Result<ActionReference, Problem> {
    let text = request.part("name");
    let shown: String = text.chars().take(160).collect();
    if text.contains([':', '@']) {
        return parse_reference(text)
            .map_err(|(message, help)| Problem::new(problem::REQUEST_INVALID, format!("{message}: {help}")));
    }
    let installed = request.app.engine.services.plugins.all();
    let manifests = || installed.iter().map(|i| &i.stored.manifest);
    let plugins: BTreeSet<&str> = manifests().filter(|m| m.action(text).is_some()).map(|m| m.name.as_str()).collect();
    let mut plugins = plugins.into_iter();
    match (plugins.next(), plugins.next()) {
        (Some(plugin), None) => {
            let majors = manifests().filter(|m| m.name == plugin && m.action(text).is_some());
            let major = majors.filter_map(|m| m.version.split('.').next()?.parse::<u64>().ok()).max().unwrap_or(1);
            Ok(ActionReference { action: text.to_owned(), version: major.to_string(), plugin: plugin.to_owned() })
        }
        (Some(_), Some(_)) => {
            let detail = format!("several plugins have an action `{shown}`: write NAME:VERSION@PLUGIN");
            Err(Problem::new(problem::REQUEST_INVALID, detail))
        }
        (None, _) => {
            let near = nearest(text, manifests().flat_map(|m| m.actions.iter().map(|a| a.name.as_str())));
            let problem = Problem::new(problem::ACTION_UNKNOWN, format!("no plugin has an action `{shown}`"));
            Err(match near {
                Some(near) => problem.with_remedy(format!("did you mean `{near}`?")),
                None => problem,
            })
        }
    }
}
