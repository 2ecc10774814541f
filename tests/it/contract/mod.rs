//! The contract with the outside, line by line (`interface.md` of the design): every command and flag, every resource with its
//! verbs, query parameters, body fields, answer fields and states, held against the command line and the OpenAPI
//! description. That the description is true is for `make api-fuzz` and [`crate::authorisation`] to prove.

mod behaviour;

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// The resources, one operation a line: `METHOD ROUTE ? QUERY PARAMETERS < FIELDS OF THE BODY > FIELDS OF THE ANSWER` (of an
/// item, where the answer is a list).
const CONTRACT: &str = include_str!("operations.txt");

/// An operation of the contract.
struct Row {
    method: &'static str,
    route: &'static str,
    query: Vec<&'static str>,
    body: Vec<&'static str>,
    answer: Vec<&'static str>,
}

fn rows() -> Vec<Row> {
    let row = |line: &'static str| {
        let mut words = line.split_whitespace();
        let (method, route) = (words.next()?, words.next()?);
        let mut row = Row {
            method,
            route,
            query: Vec::new(),
            body: Vec::new(),
            answer: Vec::new(),
        };
        let mut into = &mut row.query;
        for word in words {
            match word {
                "?" => into = &mut row.query,
                "<" => into = &mut row.body,
                ">" => into = &mut row.answer,
                name => into.push(name),
            }
        }
        Some(row)
    };
    CONTRACT.lines().filter_map(row).collect()
}

/// Which operations move a relay or money, and therefore take an `Idempotency-Key`.
const KEYED: &[(&str, &str)] = &[
    ("post", "/meters/{id}/commands"),
    ("post", "/commands"),
    ("post", "/dtus"),
];

fn schema<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(path) => schema_at(document, path),
        None => schema,
    }
}

fn schema_at<'a>(document: &'a Value, path: &str) -> &'a Value {
    let found = document.pointer(path.trim_start_matches('#'));
    found.unwrap_or_else(|| panic!("{path} leads nowhere"))
}

/// Names of a schema's properties, those of its parts included.
fn names(document: &Value, part: &Value, found: &mut BTreeSet<String>) {
    let part = schema(document, part);
    found.extend(
        part["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone()),
    );
    for kind in ["allOf", "oneOf", "anyOf"] {
        for inner in part[kind].as_array().into_iter().flatten() {
            names(document, inner, found);
        }
    }
}

/// The properties of a body, or of the items of one that is a list.
fn fields(document: &Value, content: &Value) -> BTreeSet<String> {
    let part = &content["application/json"]["schema"];
    let mut found = BTreeSet::new();
    names(document, part, &mut found);
    let items = &schema(document, part)["properties"]["items"]["items"];
    if !items.is_null() {
        names(document, items, &mut found);
    }
    found
}

fn lacking(wanted: &[&str], found: &BTreeSet<String>) -> Vec<String> {
    wanted
        .iter()
        .filter(|name| !found.contains(**name))
        .map(|name| (*name).to_owned())
        .collect()
}

#[test]
fn every_resource_has_its_verbs_parameters_and_fields() {
    let document = polyphase::api::document();
    let mut faults = Vec::new();
    for Row {
        method,
        route,
        query,
        body,
        answer,
    } in rows()
    {
        let operation = &document["paths"][format!("/api/v1{route}")][method];
        if operation.is_null() {
            faults.push(format!("{method} {route}: there is no such operation"));
            continue;
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let found = parameters
            .iter()
            .map(|one| one["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        let mut tell = |what: &str, lacking: Vec<String>| {
            if !lacking.is_empty() {
                faults.push(format!("{method} {route}: {what} {}", lacking.join(", ")));
            }
        };
        tell("takes no", lacking(&query, &found));
        tell(
            "its body has no",
            lacking(&body, &fields(&document, &operation["requestBody"]["content"])),
        );
        let answers = operation["responses"].as_object().cloned().unwrap_or_default();
        let good = answers
            .iter()
            .find(|(status, _)| status.starts_with('2'))
            .map(|(_, answer)| answer.clone());
        let good = good.unwrap_or_default();
        tell(
            "its answer has no",
            lacking(&answer, &fields(&document, &good["content"])),
        );
    }
    for (method, route) in KEYED {
        let parameters = &document["paths"][format!("/api/v1{route}")][*method]["parameters"];
        let keyed = parameters
            .as_array()
            .into_iter()
            .flatten()
            .any(|one| one["name"] == "Idempotency-Key");
        if !keyed {
            faults.push(format!(
                "{method} {route}: does not say that it takes an Idempotency-Key"
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn lists_have_items_and_next_and_counted_ones_a_total() {
    let document = polyphase::api::document();
    let answer = |route: &str| {
        let content = &document["paths"][format!("/api/v1{route}")]["get"]["responses"]["200"]["content"];
        let mut found = BTreeSet::new();
        names(&document, &content["application/json"]["schema"], &mut found);
        found
    };
    for Row {
        method, route, query, ..
    } in rows()
    {
        if method == "get" && query.contains(&"cursor") {
            assert_eq!(
                lacking(&["items", "next"], &answer(route)),
                Vec::<String>::new(),
                "{route}"
            );
        }
    }
    assert!(answer("/meters").contains("total"));
}

#[test]
fn edits_take_if_match_and_every_problem_is_a_problem() {
    let document = polyphase::api::document();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            if method == "patch" {
                let parameters = operation["parameters"].as_array().expect("parameters");
                assert!(parameters.iter().any(|one| one["name"] == "If-Match"), "{path}");
            }
            for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
                let body = answer["content"].as_object().is_some_and(|content| !content.is_empty());
                // the readiness of a server that is not ready is told as such
                if status.starts_with('4') && body {
                    let kinds: Vec<&String> = answer["content"].as_object().expect("content").keys().collect();
                    assert_eq!(kinds, ["application/problem+json"], "{method} {path} {status}");
                }
            }
        }
    }
}

/// A command and the flags that it has at least.
const COMMANDS: &[(&[&str], &[&str])] = &[
    (&["serve"], &["--config"]),
    (&["demo"], &["--dtus", "--meters"]),
    (
        &["simulate"],
        &[
            "--connect",
            "--seed",
            "--noise",
            "--split",
            "--glue",
            "--late",
            "--wrong-address",
            "--mute",
            "--drop",
            "--cut",
        ],
    ),
    (
        &["virtual-dtu"],
        &["--connect", "--sn", "--serial", "--baud", "--parity", "--tcp"],
    ),
    (&["decode"], &["--protocol", "--text"]),
    (&["migrate"], &["--config"]),
    (&["check-config"], &["--config", "--lines"]),
    (&["user", "add"], &["--role", "--account", "--password-stdin"]),
    (&["api-key", "create"], &["--user", "--name"]),
    (&["backup"], &["<FILE>"]),
    (&["restore"], &["<FILE>"]),
    (&["audit", "verify"], &["--config"]),
];

#[test]
fn every_command_has_its_flags() {
    for (command, flags) in COMMANDS {
        let ran = Command::new(env!("CARGO_BIN_EXE_polyphase"))
            .args(*command)
            .arg("--help")
            .output()
            .expect("the program runs");
        let help = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success(), "{command:?}");
        for flag in *flags {
            assert!(help.contains(flag), "{command:?} has no {flag}:\n{help}");
        }
    }
}

#[test]
fn names_of_closed_lists_are_those_of_the_contract() {
    use polyphase::domain::access::Role;
    use polyphase::domain::command::State;
    use polyphase::domain::quantity::Quantity;
    use polyphase::port::live::Topic;
    use polyphase::protocol::Protocol;
    let protocols: Vec<&str> = Protocol::ALL.iter().map(|protocol| protocol.name()).collect();
    for name in [
        "modbus-rtu",
        "modbus-tcp",
        "dlt645-2007",
        "dlt645-1997",
        "cjt188",
        "mbus",
        "gdw376.1",
        "dlt698.45",
    ] {
        assert!(protocols.contains(&name), "{name}");
    }
    for name in ["admin", "operator", "billing", "viewer", "platform"] {
        assert!(Role::by_name(name).is_some(), "{name}");
    }
    for name in [
        "requested",
        "held",
        "approved",
        "sent",
        "confirmed",
        "failed",
        "unknown",
        "rejected",
        "cancelled",
        "expired",
    ] {
        assert!(State::by_name(name).is_some(), "{name}");
    }
    for name in ["readings", "sessions", "slots", "alarms", "commands", "line", "jobs"] {
        assert!(Topic::by_name(name).is_some(), "{name}");
    }
    for (name, unit) in [
        ("voltage_l1", "V"),
        ("current_n", "A"),
        ("active_power_total", "W"),
        ("power_factor_l2", "1"),
        ("frequency", "Hz"),
        ("active_energy_import", "kWh"),
        ("active_energy_import_t1", "kWh"),
        ("active_energy_export", "kWh"),
        ("reactive_energy_import", "kvarh"),
        ("max_demand_active_import", "W"),
        ("volume_total", "m³"),
        ("flow_rate", "m³/h"),
        ("temperature", "°C"),
        ("heat_energy", "kWh"),
    ] {
        let quantity = Quantity::by_name(name).unwrap_or_else(|| panic!("there is no {name}"));
        assert_eq!(quantity.unit().symbol(), unit, "{name}");
    }
    for name in ["credit_balance", "relay_state"] {
        assert!(Quantity::by_name(name).is_some(), "{name}");
    }
    assert_eq!(Quantity::ActiveEnergyImport.obis(), "1-0:1.8.0*255");
}

#[test]
fn the_shipped_configuration_has_the_sections_and_defaults_of_the_contract() {
    let text = include_str!("../../../config/default.toml");
    let shipped: toml::Table = text.parse().expect("TOML");
    for section in [
        "data",
        "database",
        "http",
        "listener",
        "limits",
        "retention",
        "control",
        "notify",
        "log",
    ] {
        assert!(shipped.contains_key(section), "{section}");
    }
    assert_eq!(shipped["http"]["bind"].as_str(), Some("127.0.0.1:8080"));
    assert_eq!(shipped["listener"][0]["bind"].as_str(), Some("0.0.0.0:8899"));
    assert_eq!(shipped["access"]["claims"].as_str(), Some("code"));
    assert!(shipped["data"].get("meter_models").is_some());
}
