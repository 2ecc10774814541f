//! Requests to an operation, made from its OpenAPI description: the path, the parameters that it needs, its example
//! body, and every place (slot) in query and body that names an object.

use super::ask::Answer;
use super::atlas::{self, Atlas};
use polyphase::api::BASE;
use polyphase::api::access::Operation;
use serde_json::{Map, Value, json};

/// One part of the way to a property.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Element,
}

/// A place that names an object.
#[derive(Clone, Debug)]
pub struct Slot {
    kind: &'static str,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Query(String),
    /// The way, whether it is a list of ids, and whether the body needs it.
    Body(Vec<Step>, bool, bool),
}

impl Slot {
    pub fn name(&self) -> String {
        match &self.place {
            Place::Query(name) => name.clone(),
            Place::Body(way, ..) => way
                .iter()
                .map(|step| match step {
                    Step::Key(key) => key.as_str(),
                    Step::Element => "[]",
                })
                .collect::<Vec<_>>()
                .join("."),
        }
    }

    /// Whether the answer refuses what stands here: it names the property or what it is in, or the kind of object.
    pub fn is_blamed_by(&self, answer: &Answer) -> bool {
        let name = self.name();
        let field = answer.json()["field"].as_str().unwrap_or_default().to_owned();
        let last = field
            .rsplit(['.', ']'])
            .find(|part| !part.is_empty())
            .unwrap_or_default();
        let refused = answer.json()["refused"]
            .as_array()
            .is_some_and(|refused| !refused.is_empty());
        // `schedule` also stands for one of `schedules`
        let blamed = last.split('[').next().unwrap_or_default();
        refused || (!blamed.is_empty() && name.split('.').any(|part| part.starts_with(blamed)))
    }
}

/// Whose object is asked for where.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// One's own everywhere.
    Own,
    /// Another's in the path.
    Path(&'a Atlas),
    /// Another's in a slot.
    Slot(usize, &'a Atlas),
}

/// A request.
pub struct Request {
    pub path: String,
    pub body: Option<Value>,
    /// The other's id, as the caller said it.
    pub said: Option<String>,
}

/// How an operation is asked.
pub struct Plan {
    kind: Option<&'static str>,
    needed: Vec<(String, String)>,
    example: Option<Value>,
    pub slots: Vec<Slot>,
    list: bool,
    /// Bodies of other operations, where a property takes such an object in place.
    templates: Vec<(String, Value)>,
}

/// A value for a parameter that has to be given, or that keeps an answer from waiting.
fn parameter(name: &str, required: bool) -> Option<&'static str> {
    match (name, required) {
        ("wait_s", _) => Some("0"),
        ("quantity", true) => Some("active_energy_import"),
        ("by", true) => Some("day"),
        ("kind", true) => Some("meters"),
        // what is asked for is looked at, not what becomes of it later
        ("dry_run", _) => Some("true"),
        ("from", true) => Some("2026-03-01T00:00:00Z"),
        ("to", true) => Some("2026-03-01T12:00:00Z"),
        (_, false) => None,
        (other, true) => {
            panic!("the parameter {other} has to be given: say with what in tests/it/authorisation/requests.rs")
        }
    }
}

impl Plan {
    pub fn of(document: &Value, operation: &Operation) -> Self {
        let path = format!("{BASE}{}", operation.route);
        let described = &document["paths"][&path][operation.method.to_lowercase()];
        assert!(described.is_object(), "{} is not described", operation.id);
        let kind = operation.route.find("/{").map(|at| {
            let collection = &operation.route[..at];
            atlas::collection(collection)
                .unwrap_or_else(|| panic!("what is in {collection}? Say it in tests/it/authorisation/atlas.rs"))
        });
        let mut plan = Self {
            kind,
            needed: Vec::new(),
            example: None,
            slots: Vec::new(),
            list: false,
            templates: templates(document),
        };
        for parameter in described["parameters"].as_array().into_iter().flatten() {
            plan.take_parameter(operation, parameter);
        }
        if let Some(content) = described["requestBody"]["content"].as_object() {
            let content = content.values().next().expect("a content");
            let example = content["example"].clone();
            assert!(
                !example.is_null(),
                "{} needs an example in src/api/examples.rs",
                operation.id
            );
            plan.example = Some(example);
            plan.find(document, operation.id, &content["schema"], &mut Vec::new(), true, 0);
        }
        let answer = described["responses"]["200"]["content"]["application/json"]["schema"].to_string();
        plan.list = answer.contains("Page_");
        plan
    }

    fn take_parameter(&mut self, operation: &Operation, parameter: &Value) {
        if parameter["in"] != "query" {
            return;
        }
        let name = parameter["name"].as_str().expect("a name");
        if let Some(kind) = atlas::reference(operation.id, name) {
            self.slots.push(Slot {
                kind,
                place: Place::Query(name.to_owned()),
            });
        } else if is_number(&parameter["schema"]) || name.ends_with("_id") {
            assert!(
                atlas::is_plain_number(name),
                "is the parameter {name} of {} an object's id? Say it in tests/it/authorisation/atlas.rs",
                operation.id
            );
        }
        let required = parameter["required"] == true;
        if let Some(value) = self::parameter(name, required) {
            self.needed.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Finds every property that names an object.
    fn find(
        &mut self,
        document: &Value,
        operation: &str,
        schema: &Value,
        way: &mut Vec<Step>,
        needed: bool,
        depth: usize,
    ) {
        if depth > 12 {
            return;
        }
        if let Some(reference) = schema["$ref"].as_str() {
            let schema = document.pointer(&reference[1..]).expect("a schema");
            return self.find(document, operation, schema, way, needed, depth + 1);
        }
        for part in ["oneOf", "anyOf", "allOf"] {
            for schema in schema[part].as_array().into_iter().flatten() {
                self.find(document, operation, schema, way, needed, depth + 1);
            }
        }
        if schema["items"].is_object() {
            way.push(Step::Element);
            self.find(document, operation, &schema["items"], way, needed, depth + 1);
            way.pop();
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let required = schema["required"]
                .as_array()
                .is_some_and(|all| all.contains(&json!(name)));
            way.push(Step::Key(name.clone()));
            self.take_property(document, operation, name, property, way, needed && required);
            self.find(document, operation, property, way, needed && required, depth + 1);
            way.pop();
        }
    }

    fn take_property(
        &mut self,
        document: &Value,
        operation: &str,
        name: &str,
        property: &Value,
        way: &[Step],
        needed: bool,
    ) {
        let (one, many) = (takes_number(document, property, 0), takes_numbers(document, property));
        if let Some(kind) = atlas::reference(operation, name) {
            // a name may also stand for an object in place: then its own properties are looked at
            if one || many || name.ends_with("_id") {
                self.slots.push(Slot {
                    kind,
                    place: Place::Body(way.to_vec(), many, needed),
                });
            }
        } else if one || many || name.ends_with("_id") {
            assert!(
                atlas::is_plain_number(name),
                "is the property {name} of {operation} an object's id? Say it in tests/it/authorisation/atlas.rs"
            );
        }
    }

    pub fn has_path_id(&self) -> bool {
        self.kind.is_some()
    }

    /// Whether the path names something that belongs to no account.
    pub fn catalogue(&self) -> bool {
        matches!(self.kind, Some("model" | "backup" | "template"))
    }

    pub fn is_list(&self) -> bool {
        self.list && !self.catalogue()
    }

    pub fn request(&self, operation: &Operation, own: &Atlas, target: Target<'_>, within: Option<&str>) -> Request {
        let mut said = None;
        let mut path = operation.route.to_owned();
        if let (Some(kind), Some(begin), Some(end)) = (self.kind, path.find('{'), path.find('}')) {
            let whose = if let Target::Path(atlas) = target { atlas } else { own };
            if let Target::Path(_) = target {
                said = Some(whose.id(kind).to_owned());
            }
            path.replace_range(begin..=end, whose.id(kind));
        }
        let mut query: Vec<String> = self
            .needed
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut body = self.example.clone();
        if let Some(body) = &mut body {
            self.make_own(operation.id, body, own);
        }
        if let Target::Slot(index, atlas) = target {
            let slot = &self.slots[index];
            let id = atlas.id(slot.kind).to_owned();
            match (&slot.place, &mut body) {
                (Place::Query(name), _) => query.push(format!("{name}={id}")),
                (Place::Body(way, many, _), Some(body)) => {
                    self.drop_others(body, index);
                    let value = id.parse::<i64>().map_or_else(|_| json!(id), |id| json!(id));
                    let value = if *many { json!([value]) } else { value };
                    self.put(body, way, value);
                }
                (Place::Body(..), None) => unreachable!("a slot of a body without a body"),
            }
            said = Some(id);
        }
        if let Some(account) = within {
            query.retain(|pair| !pair.starts_with("account="));
            query.push(format!("account={account}"));
        }
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        Request { path, body, said }
    }

    /// The ids of an example are replaced by one's own.
    fn make_own(&self, operation: &str, value: &mut Value, own: &Atlas) {
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    let kind = atlas::reference(operation, name);
                    let number = |value: &Value| value.is_i64() || value.is_u64();
                    match (kind, &mut *value) {
                        (Some(kind), value) if number(value) => {
                            *value = json!(own.id(kind).parse::<i64>().expect("a number"))
                        }
                        (Some(kind), Value::Array(all)) if all.iter().all(number) && !all.is_empty() => {
                            *value = json!([own.id(kind).parse::<i64>().expect("a number")]);
                        }
                        (_, value) => self.make_own(operation, value, own),
                    }
                    if name == "email" || name == "sn" {
                        // unique in all the server
                        *value = json!(format!("{}.{}", own.mark, value.as_str().unwrap_or_default()));
                    }
                }
            }
            Value::Array(all) => {
                for value in all {
                    self.make_own(operation, value, own);
                }
            }
            _ => {}
        }
    }

    /// Other objects that the body can do without: some exclude each other.
    fn drop_others(&self, body: &mut Value, index: usize) {
        for (other, slot) in self.slots.iter().enumerate() {
            let Place::Body(way, _, false) = &slot.place else {
                continue;
            };
            let [Step::Key(key)] = way.as_slice() else { continue };
            if other != index
                && let Some(object) = body.as_object_mut()
            {
                object.remove(key);
            }
        }
    }

    fn put(&self, body: &mut Value, way: &[Step], value: Value) {
        match way {
            [] => *body = value,
            [Step::Element, rest @ ..] => {
                if body.as_array().is_none_or(Vec::is_empty) {
                    *body = json!([{}]);
                }
                self.put(&mut body[0], rest, value);
            }
            [Step::Key(key), rest @ ..] => {
                if !body.is_object() {
                    *body = Value::Object(Map::new());
                }
                let object = body.as_object_mut().expect("an object");
                let within = object.entry(key.clone()).or_insert(Value::Null);
                let deeper = rest.iter().any(|step| matches!(step, Step::Key(_)));
                if deeper && !within.is_object() && !within.is_array() {
                    let template = self.templates.iter().find(|(name, _)| name == key);
                    let template = template.map_or(json!({}), |(_, template)| template.clone());
                    *within = if rest.first() == Some(&Step::Element) {
                        json!([template])
                    } else {
                        template
                    };
                }
                self.put(within, rest, value);
            }
        }
    }
}

/// What stands in place of a schedule is what makes one.
fn templates(document: &Value) -> Vec<(String, Value)> {
    let schedule = &document["paths"][format!("{BASE}/schedules")]["post"]["requestBody"]["content"]["application/json"]
        ["example"];
    ["schedule", "schedules"]
        .map(|name| (name.to_owned(), schedule.clone()))
        .to_vec()
}

fn is_number(schema: &Value) -> bool {
    let of = |kind: &Value| kind == "integer";
    of(&schema["type"]) || schema["type"].as_array().is_some_and(|all| all.iter().any(of))
}

fn takes_number(document: &Value, schema: &Value, depth: usize) -> bool {
    if depth > 4 {
        return false;
    }
    if let Some(reference) = schema["$ref"].as_str() {
        return takes_number(
            document,
            document.pointer(&reference[1..]).expect("a schema"),
            depth + 1,
        );
    }
    let any = |part: &str| {
        schema[part]
            .as_array()
            .into_iter()
            .flatten()
            .any(|schema| takes_number(document, schema, depth + 1))
    };
    is_number(schema) || ["oneOf", "anyOf", "allOf"].into_iter().any(any)
}

fn takes_numbers(document: &Value, schema: &Value) -> bool {
    schema["items"].is_object() && takes_number(document, &schema["items"], 0)
}
