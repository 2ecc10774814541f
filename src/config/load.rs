//! Merging of defaults, file and environment, with errors that name the key and where it stands.

use super::{Config, DEFAULT_TOML};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A fault of the configuration. Exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration file {path}: {error}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML, has an unknown key, or a value of the wrong type.
    #[error("{place}: {message}")]
    Invalid {
        /// `FILE:LINE`, or the environment variable, or the key.
        place: String,
        /// What is wrong and what to do.
        message: String,
    },
}

/// Loads with the process environment.
///
/// # Errors
/// The first [`ConfigError`].
pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    load_with_environment(file, std::env::vars().collect())
}

const PREFIX: &str = "POLYPHASE__";
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Loads with a given environment (tests).
///
/// # Errors
/// The first [`ConfigError`].
pub fn load_with_environment(
    file: Option<&Path>,
    environment: BTreeMap<String, String>,
) -> Result<Config, ConfigError> {
    let mut merged = parse(DEFAULT_TOML, "built-in defaults")?;
    let mut file_text = None;
    if let Some(path) = file {
        let text = read(path)?;
        let own = parse(&text, &path.display().to_string())?;
        merge(&mut merged, own);
        file_text = Some((path.display().to_string(), text));
    }
    for (name, value) in environment {
        if let Some(keys) = name.strip_prefix(PREFIX) {
            apply_variable(&mut merged, &name, keys, value)?;
        }
    }
    let build = config::Config::builder()
        .add_source(config::File::from_str(&merged.to_string(), config::FileFormat::Toml))
        .build()
        .and_then(serde_path);
    build.map_err(|error| {
        let (key, message) = describe(&error);
        let place = file_text
            .as_ref()
            .and_then(|(name, text)| {
                key.as_deref()
                    .and_then(|key| line_of(text, key))
                    .map(|line| format!("{name}:{line}"))
            })
            .unwrap_or_else(|| {
                key.clone()
                    .map_or_else(|| "configuration".into(), |key| format!("configuration key {key}"))
            });
        ConfigError::Invalid { place, message }
    })
}

fn serde_path(built: config::Config) -> Result<Config, config::ConfigError> {
    built.try_deserialize()
}

fn read(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read;
    let unreadable = |error| ConfigError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(text)
}

fn parse(text: &str, name: &str) -> Result<toml::Table, ConfigError> {
    text.parse::<toml::Table>().map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        ConfigError::Invalid {
            place: format!("{name}:{line}"),
            message: error.message().to_owned(),
        }
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

fn apply_variable(merged: &mut toml::Table, name: &str, keys: &str, value: String) -> Result<(), ConfigError> {
    let invalid = |message: String| ConfigError::Invalid {
        place: format!("environment variable {name}"),
        message,
    };
    let path: Vec<String> = keys.split("__").map(str::to_lowercase).collect();
    let [section, key] = path.as_slice() else {
        return Err(invalid(
            "the form is POLYPHASE__SECTION__KEY, e.g. POLYPHASE__HTTP__BIND".into(),
        ));
    };
    let (key, value) = match key.strip_suffix("_file") {
        Some(key) => {
            let path = PathBuf::from(&value);
            let text = read(&path).map_err(|error| invalid(error.to_string()))?;
            (key.to_owned(), text.trim_end_matches(['\n', '\r']).to_owned())
        }
        None => (key.clone(), value),
    };
    let Some(toml::Value::Table(table)) = merged.get_mut(section) else {
        let known: Vec<&str> = merged
            .iter()
            .filter(|(_, v)| v.is_table())
            .map(|(k, _)| k.as_str())
            .collect();
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
        toml::Value::Boolean(_) => value
            .parse()
            .map(toml::Value::Boolean)
            .map_err(|_| invalid(format!("{value:?} is neither true nor false")))?,
        _ => toml::Value::String(value),
    };
    table.insert(key, typed);
    Ok(())
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
        _ => (unknown_field(&text), text),
    }
}

fn unknown_field(message: &str) -> Option<String> {
    message
        .split("unknown field `")
        .nth(1)
        .and_then(|rest| rest.split('`').next())
        .map(str::to_owned)
}

/// The line of a dotted key (its last part) in TOML text; finds the section first when the key names one.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let last = key.rsplit('.').next()?;
    let section = key.split('.').next().filter(|first| *first != last);
    let mut inside = section.is_none();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if let Some(header) = line.strip_prefix('[') {
            let name = header
                .trim_start_matches('[')
                .split(']')
                .next()
                .unwrap_or_default()
                .trim();
            inside = section.is_none_or(|section| section == name || section.starts_with(&format!("{name}[")));
            if name == last {
                return Some(index + 1);
            }
        } else if inside && line.split('=').next().is_some_and(|found| found.trim() == last) {
            return Some(index + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn from_text(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.toml");
        std::fs::write(&path, text).unwrap();
        load_with_environment(Some(&path), BTreeMap::new())
    }

    #[test]
    fn defaults_are_complete_and_safe() {
        let config = load_with_environment(None, BTreeMap::new()).unwrap();
        assert_eq!(config.http.bind.to_string(), "127.0.0.1:8080");
        assert_eq!(config.listeners.len(), 1);
        assert!(super::super::problems(&config).is_empty());
    }

    #[test]
    fn environment_wins_and_wrong_names_are_told() {
        let config = load_with_environment(None, environment(&[("POLYPHASE__HTTP__BIND", "127.0.0.1:9000")])).unwrap();
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
    }

    #[test]
    fn secrets_do_not_print() {
        let config = load_with_environment(
            None,
            environment(&[("POLYPHASE__DATABASE__URL", "postgres://u:hush@h/d")]),
        );
        assert!(!format!("{config:?}").contains("hush"));
    }
}
