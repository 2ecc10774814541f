//! Unknown keys and values of the wrong kind in a user's file, all at once, judged against the defaults.

use toml::{Table, Value};

/// Faults of the form `key: what and what to do`.
pub(super) fn faults(defaults: &Table, own: &Table) -> Vec<String> {
    let mut found = Vec::new();
    for (section, value) in own {
        match (defaults.get(section), value) {
            (None, _) => found.push(format!(
                "{section}: there is no such section; sections are {}",
                names(defaults)
            )),
            (Some(Value::Table(known)), Value::Table(own)) => keys(section, known, own, &mut found),
            (Some(Value::Array(known)), Value::Array(own)) => {
                let known = known.first().and_then(Value::as_table);
                for (index, entry) in own.iter().enumerate() {
                    match (known, entry) {
                        (Some(known), Value::Table(own)) => {
                            keys(&format!("{section}[{index}]"), known, own, &mut found);
                        }
                        _ => found.push(list_of_tables(section)),
                    }
                }
            }
            (Some(Value::Array(_)), _) => found.push(list_of_tables(section)),
            (Some(_), _) => found.push(format!("{section}: is a section; write [{section}] and its keys below")),
        }
    }
    found
}

fn list_of_tables(section: &str) -> String {
    format!("{section}: there can be several; write [[{section}]] with two brackets, and its keys below")
}

fn keys(section: &str, known: &Table, own: &Table, found: &mut Vec<String>) {
    for (key, value) in own {
        match known.get(key) {
            None => found.push(format!(
                "{section}.{key}: there is no such key; keys are {}",
                names(known)
            )),
            Some(Value::Table(within)) if value.is_table() => {
                let own = value.as_table().into_iter();
                own.for_each(|own| keys(&format!("{section}.{key}"), within, own, found));
            }
            Some(default) if !default.same_type(value) => found.push(format!(
                "{section}.{key}: needs {}, not {}, as in {key} = {default}",
                kind(default),
                kind(value)
            )),
            Some(_) if value.as_integer().is_some_and(|number| number < 0) => {
                found.push(format!("{section}.{key}: must not be negative"));
            }
            Some(_) => {}
        }
    }
}

fn names(table: &Table) -> String {
    let names: Vec<&str> = table.keys().map(String::as_str).collect();
    names.join(", ")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text in quotes",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}
