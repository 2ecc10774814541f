//! Where the derived OpenAPI description does not say what the server does, it is put right here, at its JSON: entity
//! tags that extractors ask for, unions whose parts forbid each other, decimals that are also taken as numbers, and the
//! closed list of problem types.

use super::page::{LIMIT_DEFAULT, LIMIT_MAX};
use super::problem::Kind;
use serde_json::{Map, Value, json};

/// Operations besides PATCH that need `If-Match`.
const NEED_IF_MATCH: &[&str] = &["edit_alarm_rule", "edit_control_schedule", "delete_alarm_rule"];
/// Operations that heed `If-Match` and work without.
const HEED_IF_MATCH: &[&str] = &[
    "delete_user",
    "delete_dtu",
    "delete_meter",
    "delete_group",
    "delete_schedule",
    "delete_calendar",
    "delete_recipient",
    "delete_channel",
    "delete_notice_route",
    "set_control_policy",
];
/// Decimals in bodies: strings, and numbers are taken too.
const DECIMALS: &[&str] = &["celsius", "min_c", "max_c", "ct_ratio", "vt_ratio"];
const METHODS: &[&str] = &["get", "post", "put", "patch", "delete"];

/// Puts the description right.
pub(super) fn mend(api: &mut Value) {
    if let Some(paths) = api.get_mut("paths").and_then(Value::as_object_mut) {
        for item in paths.values_mut() {
            for method in METHODS {
                if let Some(operation) = item.get_mut(*method).and_then(Value::as_object_mut) {
                    tags(method, operation);
                    pages(operation);
                    bounds(operation);
                }
            }
        }
    }
    if let Some(schemas) = api.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        unions(schemas);
        decimals(schemas);
        problem_types(schemas);
    }
}

/// The entity tag that an edit is made from.
fn tags(method: &str, operation: &mut Map<String, Value>) {
    let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
    let needed = method == "patch" || NEED_IF_MATCH.contains(&id);
    if !needed && !HEED_IF_MATCH.contains(&id) {
        return;
    }
    let parameter = json!({
        "name": "If-Match",
        "in": "header",
        "required": needed,
        "description": "The `ETag` of the version that this is made from, or `*` for whatever is there.",
        "schema": { "type": "string" },
        "example": "*",
    });
    let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
    if let Some(parameters) = parameters.as_array_mut() {
        parameters.retain(|other| other.get("name").is_none_or(|name| name != "If-Match"));
        parameters.push(parameter);
    }
}

/// How long a page may be.
fn pages(operation: &mut Map<String, Value>) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let is_limit = parameter.get("name").is_some_and(|name| name == "limit");
        if let Some(schema) = parameter
            .get_mut("schema")
            .and_then(Value::as_object_mut)
            .filter(|_| is_limit)
        {
            schema.insert("minimum".to_owned(), json!(1));
            schema.insert("maximum".to_owned(), json!(LIMIT_MAX));
            schema.insert("default".to_owned(), json!(LIMIT_DEFAULT));
        }
    }
}

/// Whoever signs in can ask for too much.
fn bounds(operation: &mut Map<String, Value>) {
    let open = operation
        .get("security")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty);
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
        return;
    };
    if open || responses.contains_key("429") {
        return;
    }
    let limited = json!({
        "description": "Too many requests of this key or session, or too many heavy ones of its account.",
        "headers": { "Retry-After": { "description": "Seconds to wait.", "schema": { "type": "integer" } } },
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    responses.insert("429".to_owned(), limited);
}

/// A union whose variants are "that object, and a `kind`": the object must not forbid the `kind`.
fn unions(schemas: &mut Map<String, Value>) {
    let mut opened = Vec::new();
    for schema in schemas.values() {
        let variants = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        for part in variants
            .filter_map(|variant| variant.get("allOf")?.as_array())
            .flatten()
        {
            let name = part.get("$ref").and_then(Value::as_str);
            opened.extend(name.and_then(|name| name.rsplit('/').next()).map(str::to_owned));
        }
    }
    for name in opened {
        if let Some(schema) = schemas.get_mut(&name).and_then(Value::as_object_mut) {
            schema.remove("additionalProperties");
        }
    }
}

fn decimals(schemas: &mut Map<String, Value>) {
    // what forbids unknown keys is a body
    let bodies = schemas
        .values_mut()
        .filter(|schema| schema.get("additionalProperties") == Some(&Value::Bool(false)));
    for property in bodies.filter_map(|schema| schema.get_mut("properties")?.as_object_mut()) {
        for name in DECIMALS {
            if let Some(kind) = property.get_mut(*name).and_then(|schema| schema.get_mut("type")) {
                let mut kinds = match kind.take() {
                    Value::Array(kinds) => kinds,
                    one => vec![one],
                };
                kinds.push(json!("number"));
                *kind = Value::Array(kinds);
            }
        }
    }
}

fn problem_types(schemas: &mut Map<String, Value>) {
    let kinds: Vec<String> = Kind::ALL
        .iter()
        .map(|kind| format!("/problems/{}", kind.slug()))
        .collect();
    let about: Vec<String> = Kind::ALL
        .iter()
        .map(|kind| {
            format!(
                "- `/problems/{}` ({}): {}",
                kind.slug(),
                kind.status().as_u16(),
                kind.about()
            )
        })
        .collect();
    let Some(kind) = schemas
        .get_mut("Problem")
        .and_then(|schema| schema.pointer_mut("/properties/type"))
    else {
        return;
    };
    if let Some(kind) = kind.as_object_mut() {
        let text = format!(
            "The stable name of the kind of problem; the server explains each at that path.\n\n{}",
            about.join("\n")
        );
        kind.insert("description".to_owned(), json!(text));
        kind.insert("enum".to_owned(), json!(kinds));
        kind.insert("example".to_owned(), json!("/problems/not-found"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{access, document};
    use super::*;

    #[test]
    fn the_lists_name_operations() {
        for id in NEED_IF_MATCH.iter().chain(HEED_IF_MATCH) {
            assert!(access::OPERATIONS.iter().any(|row| row.id == *id), "{id}");
        }
    }

    #[test]
    fn edits_say_that_they_need_a_tag_and_problems_what_they_are() {
        let api = document();
        let edit = &api["paths"]["/api/v1/meters/{id}"]["patch"];
        let tag = edit["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .find(|p| p["name"] == "If-Match");
        assert_eq!(tag.unwrap()["required"], true);
        assert!(edit["responses"]["429"]["headers"]["Retry-After"].is_object());
        let kinds = &api["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
        assert_eq!(kinds.as_array().unwrap().len(), Kind::ALL.len());
        assert!(api["paths"]["/api/v1/session"]["post"]["responses"]["429"].is_null());
    }

    #[test]
    fn a_check_may_name_its_kind() {
        let api = document();
        let part = &api["components"]["schemas"]["ThresholdCheck"];
        assert!(part["properties"]["quantity"].is_object());
        assert!(part["additionalProperties"].is_null());
        let celsius = &api["components"]["schemas"]["TemperatureBody"]["properties"]["celsius"]["type"];
        assert_eq!(*celsius, json!(["string", "number"]));
    }
}
