//! Schemas that take long to compare with: refused when they come, or for the input that is too large for them.

use super::*;

fn workflow(schema: &Value) -> String {
    json!({
        "document": { "dsl": "1.0.3", "namespace": "hr", "name": "chain", "version": "1.0.0" },
        "input": { "schema": { "document": schema } },
        "do": [{ "say": { "set": { "done": true } } }],
    })
    .to_string()
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(7), |inner, _| json!({ "s": inner }))
}

#[tokio::test]
async fn attack_b3_a_schema_that_nothing_could_be_compared_with_is_not_kept() {
    let world = World::new().await;
    let mut all: serde_json::Map<String, Value> = (0..40)
        .map(|level| {
            let next = json!({ "$ref": format!("#/$defs/a{}", level + 1) });
            (format!("a{level}"), json!({ "properties": { "s": { "anyOf": [next, next] } } }))
        })
        .collect();
    all.insert("a40".to_owned(), json!({ "type": "string" }));
    let schema = json!({ "$ref": "#/$defs/a0", "$defs": all });
    let refused = world.put("/v1/workflows/hr/chain", workflow(&schema)).await.problem(422, "definition-invalid");
    assert_eq!(refused["diagnostics"][0]["code"], "schema-too-costly", "{refused}");
    assert!(refused["diagnostics"][0]["pointer"].as_str().unwrap().starts_with("/input/schema/document"));
}

#[tokio::test]
async fn attack_b3_an_input_that_its_schema_takes_too_long_with_starts_nothing() {
    let world = World::new().await;
    let again = json!({ "$ref": "#" });
    let schema = json!({ "properties": { "s": { "anyOf": [again, again] } } });
    world.put("/v1/workflows/hr/chain", workflow(&schema)).await.ok(201);
    let path = "/v1/workflows/hr/chain/runs";
    let refused = world.post(path, &json!({ "input": nested(40) })).await.problem(422, "schema-too-costly");
    assert_eq!(refused["diagnostics"][0]["code"], "schema-too-costly", "{refused}");
    assert_eq!(world.get("/v1/runs").await.ok(200)["result"], json!([]));
    world.post(path, &json!({ "input": nested(3) })).await.ok(202);
}
