//! Merging of defaults, file and environment, with errors that name the key and where it stands.

use super::place::Source;
use super::{Config, DEFAULT_TOML};
use std::collections::BTreeMap;
use std::path::Path;

/// Every fault of the configuration that stands in the way of reading it, each with its place. Exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigFaults(pub Vec<String>);

impl ConfigFaults {
    fn one(place: &str, message: impl std::fmt::Display) -> Self {
        Self(vec![format!("{place}: {message}")])
    }
}

/// Loads with the process environment.
///
/// # Errors
/// [`ConfigFaults`].
pub fn load(file: Option<&Path>) -> Result<(Config, Source), ConfigFaults> {
    load_with_environment(file, std::env::vars().collect())
}

const PREFIX: &str = "POLYPHASE__";
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Loads with a given environment (tests).
///
/// # Errors
/// [`ConfigFaults`].
pub fn load_with_environment(
    file: Option<&Path>,
    environment: BTreeMap<String, String>,
) -> Result<(Config, Source), ConfigFaults> {
    let mut merged = parse(DEFAULT_TOML, "built-in defaults")?;
    let mut source = Source::default();
    let mut faults = Vec::new();
    if let Some(path) = file {
        let (name, text) = (
            path.display().to_string(),
            read(path).map_err(|error| ConfigFaults(vec![error]))?,
        );
        let own = parse(&text, &name)?;
        source.file = Some((name, text));
        let wrong = super::shape::faults(&merged, &own);
        faults.extend(wrong.into_iter().map(|fault| source.placed(fault)));
        merge(&mut merged, own);
    }
    for (name, value) in environment {
        if let Some(keys) = name.strip_prefix(PREFIX) {
            match apply_variable(&mut merged, &name, keys, value) {
                Ok(key) => {
                    source.variables.insert(key, name);
                }
                Err(fault) => faults.extend(fault.0),
            }
        }
    }
    if !faults.is_empty() {
        return Err(ConfigFaults(faults));
    }
    let build = config::Config::builder()
        .add_source(config::File::from_str(&merged.to_string(), config::FileFormat::Toml))
        .build()
        .and_then(serde_path);
    match build {
        Ok(config) => Ok((config, source)),
        Err(error) => {
            let (key, message) = describe(&error);
            let fault = match key {
                Some(key) => source.placed(format!("{key}: {message}{}", advice(&key))),
                None => format!("configuration: {message}"),
            };
            Err(ConfigFaults(vec![fault]))
        }
    }
}

/// What to write instead, for keys whose values are words or addresses.
fn advice(key: &str) -> &'static str {
    match key.rsplit('.').next() {
        Some("bind") => "; give an IP address and a port, such as \"127.0.0.1:8080\"",
        Some("security") => "; give \"starttls\", \"tls\" or \"none\"",
        Some("via") => "; give \"gateway\", \"smpp\", \"modem\" or \"\"",
        Some("format") => "; give \"text\" or \"json\"",
        Some("forwarded_header") => "; give \"x-forwarded-for\" or \"forwarded\"",
        Some("claims") => "; give \"code\", \"platform\" or \"open\"",
        _ => "; see config/default.toml",
    }
}

fn serde_path(built: config::Config) -> Result<Config, config::ConfigError> {
    built.try_deserialize()
}

fn read(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let unreadable = |error| format!("{}: cannot be read: {error}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(text)
}

fn parse(text: &str, name: &str) -> Result<toml::Table, ConfigFaults> {
    text.parse::<toml::Table>().map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        ConfigFaults::one(&format!("{name}:{line}"), format_args!("not TOML: {}", error.message()))
    })
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn merge(base: &mut toml::Table, own: toml::Table) {
    for (key, value) in own {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(own)) => merge(base, own),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Sets the key that a variable names; which key that is.
fn apply_variable(merged: &mut toml::Table, name: &str, keys: &str, value: String) -> Result<String, ConfigFaults> {
    let invalid = |message: String| ConfigFaults::one(&format!("environment variable {name}"), message);
    let path: Vec<String> = keys.split("__").map(str::to_lowercase).collect();
    let (sections, key) = match path.as_slice() {
        [section, key] => (vec![section], key),
        [section, within, key] => (vec![section, within], key),
        _ => {
            return Err(invalid(
                "the form is POLYPHASE__SECTION__KEY, e.g. POLYPHASE__HTTP__BIND".into(),
            ));
        }
    };
    let section = path.split_last().map(|(_, names)| names.join(".")).unwrap_or_default();
    let (key, value) = match key.strip_suffix("_file") {
        Some(key) => {
            let text = read(Path::new(&value)).map_err(invalid)?;
            (key.to_owned(), text.trim_end_matches(['\n', '\r']).to_owned())
        }
        None => (key.clone(), value),
    };
    let known: Vec<String> = merged
        .iter()
        .filter(|(_, v)| v.is_table())
        .map(|(k, _)| k.clone())
        .collect();
    let mut table = Some(merged);
    for name in sections {
        table = table
            .and_then(|table| table.get_mut(name))
            .and_then(toml::Value::as_table_mut);
    }
    let Some(table) = table else {
        return Err(invalid(format!(
            "there is no section [{section}]; sections are {}",
            known.join(", ")
        )));
    };
    let Some(present) = table.get(&key) else {
        let known: Vec<&str> = table.keys().map(String::as_str).collect();
        return Err(invalid(format!(
            "section [{section}] has no key {key}; keys are {}",
            known.join(", ")
        )));
    };
    let typed = match present {
        toml::Value::Integer(_) => value
            .parse()
            .map(toml::Value::Integer)
            .map_err(|_| invalid(format!("{value:?} is not a whole number")))?,
        toml::Value::Table(_) => {
            return Err(invalid(format!(
                "[{section}.{key}] is a section; name one of its keys as well"
            )));
        }
        toml::Value::Boolean(_) => value
            .parse()
            .map(toml::Value::Boolean)
            .map_err(|_| invalid(format!("{value:?} is neither true nor false")))?,
        _ => toml::Value::String(value),
    };
    let dotted = format!("{section}.{key}");
    table.insert(key, typed);
    Ok(dotted)
}

/// The key at fault, if the error names one, and the message for people.
fn describe(error: &config::ConfigError) -> (Option<String>, String) {
    let text = error.to_string();
    match error {
        config::ConfigError::At { error: inner, key, .. } => {
            let (_, message) = describe(inner);
            let unknown = unknown_field(&message);
            let key = match (key, unknown) {
                (Some(key), Some(unknown)) => Some(format!("{key}.{unknown}")),
                (Some(key), None) => Some(key.clone()),
                (None, unknown) => unknown,
            };
            (key, message)
        }
        config::ConfigError::Type { key, .. } => (key.clone(), text),
        _ => match text.split_once("does not have variant constructor ") {
            Some((_, word)) => (None, format!("{word:?} is not one of its words")),
            None => (unknown_field(&text), text),
        },
    }
}

fn unknown_field(message: &str) -> Option<String> {
    message
        .split("unknown field `")
        .nth(1)
        .and_then(|rest| rest.split('`').next())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn from_text(text: &str) -> Result<Config, ConfigFaults> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.toml");
        std::fs::write(&path, text).unwrap();
        load_with_environment(Some(&path), BTreeMap::new()).map(|loaded| loaded.0)
    }

    #[test]
    fn defaults_are_complete_and_safe() {
        let (config, _) = load_with_environment(None, BTreeMap::new()).unwrap();
        assert_eq!(config.http.bind.to_string(), "127.0.0.1:8080");
        assert_eq!(config.listeners.len(), 1);
        assert!(super::super::problems(&config).is_empty());
    }

    #[test]
    fn environment_wins_and_wrong_names_are_told() {
        let (config, _) =
            load_with_environment(None, environment(&[("POLYPHASE__HTTP__BIND", "127.0.0.1:9000")])).unwrap();
        assert_eq!(config.http.bind.port(), 9000);
        let error = load_with_environment(None, environment(&[("POLYPHASE__HTTP__PORT", "1")])).unwrap_err();
        assert!(
            error.to_string().contains("section [http] has no key port; keys are"),
            "{error}"
        );
        let error = load_with_environment(None, environment(&[("POLYPHASE__LIMITS__READS_MAX", "many")])).unwrap_err();
        assert!(error.to_string().contains("POLYPHASE__LIMITS__READS_MAX"), "{error}");
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line() {
        let error = from_text("[http]\nbind = \"127.0.0.1:1\"\nworkres = 3\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("own.toml:3") && error.contains("workres"), "{error}");
        let error = from_text("[log]\n\nformat = \"yaml\"\n").unwrap_err().to_string();
        assert!(error.contains("own.toml:3") && error.contains("yaml"), "{error}");
        let error = from_text("[http\n").unwrap_err().to_string();
        assert!(error.contains("own.toml:1"), "{error}");
        let error = from_text("[limits]\nreads_max = \"x\"\n").unwrap_err().to_string();
        assert!(error.contains("own.toml:2"), "{error}");
        let error = from_text("[limits]\nreads_max = \"x\"\n[htp]\n[http]\nwork = 1\nworkers = -1\n").unwrap_err();
        assert_eq!(error.0.len(), 4, "{error}");
    }

    #[test]
    fn secrets_do_not_print() {
        let (config, _) = load_with_environment(
            None,
            environment(&[("POLYPHASE__DATABASE__URL", "postgres://u:hush@h/d")]),
        )
        .unwrap();
        assert!(!format!("{config:?}").contains("hush"));
    }
}
