//! The meter models that this server knows: those built in, and those of the user's folders, which add and override.

use super::builtin::MODELS;
use super::fault::Fault;
use super::model::{Folder, MeterModel};
use super::parse::{FILE_MAX, parse};
use crate::protocol::Protocol;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most files of one folder.
const FILES_MAX: usize = 10_000;

/// Meter models by folder and name.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    models: BTreeMap<(Folder, Arc<str>), Arc<MeterModel>>,
}

impl Catalogue {
    /// The models that are part of the binary.
    ///
    /// # Errors
    /// Every fault; none in a released binary, as a test loads them all.
    pub fn builtin() -> Result<Self, Vec<Fault>> {
        let mut catalogue = Self::default();
        let mut faults = Vec::new();
        for (folder, name, text) in MODELS {
            let file = PathBuf::from(format!("config/meter-models/{}/{name}.toml", folder.name()));
            match parse(&file, *folder, text) {
                Ok(model) => catalogue.insert(model),
                Err(more) => faults.extend(more),
            }
        }
        if faults.is_empty() { Ok(catalogue) } else { Err(faults) }
    }

    /// The built-in models, and over them those of `folders` in their order, each laid out as
    /// `<folder>/modbus/<name>.toml`.
    ///
    /// # Errors
    /// Every fault of every file.
    pub fn load(folders: &[&Path]) -> Result<Self, Vec<Fault>> {
        let mut catalogue = Self::builtin()?;
        let mut faults = Vec::new();
        for folder in folders {
            let (models, more) = read_folder(folder);
            faults.extend(more);
            models.into_iter().for_each(|model| catalogue.insert(model));
        }
        if faults.is_empty() { Ok(catalogue) } else { Err(faults) }
    }

    fn insert(&mut self, model: MeterModel) {
        self.models
            .insert((model.folder, Arc::clone(&model.name)), Arc::new(model));
    }

    /// The model of a name that a protocol can read.
    pub fn get(&self, protocol: Protocol, name: &str) -> Option<&Arc<MeterModel>> {
        let found = self.models.get(&(Folder::of(protocol)?, name.into()));
        found.filter(|model| model.protocols().contains(&protocol))
    }

    /// Every model, by folder and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<MeterModel>> {
        self.models.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.models.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }
}

/// Reads every model below a folder; what is faulty is left out and named.
pub(super) fn read_folder(folder: &Path) -> (Vec<MeterModel>, Vec<Fault>) {
    let (mut models, mut faults) = (Vec::new(), Vec::new());
    let fault = |file: &Path, what: String, help: &str| Fault {
        file: file.to_path_buf(),
        line: 0,
        what,
        help: help.to_owned(),
    };
    let entries = match list(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let help = "name a folder of meter models that the server may read";
            return (models, vec![fault(folder, format!("cannot be read: {error}"), help)]);
        }
    };
    let known: Vec<&str> = Folder::ALL.iter().map(|folder| folder.name()).collect();
    for entry in entries {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let family = Folder::ALL.iter().find(|family| family.name() == name);
        let Some(family) = family.filter(|_| entry.is_dir()) else {
            let misplaced = entry.is_dir() || entry.extension().is_some_and(|extension| extension == "toml");
            if misplaced && !name.starts_with('.') {
                let help = format!("models stand in sub-folders: {}", known.join(", "));
                faults.push(fault(&entry, "is not where models are looked for".to_owned(), &help));
            }
            continue;
        };
        let files = match list(&entry) {
            Ok(files) => files,
            Err(error) => {
                faults.push(fault(
                    &entry,
                    format!("cannot be read: {error}"),
                    "let the server read it",
                ));
                continue;
            }
        };
        let models_only = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "toml");
        for file in files.into_iter().filter(models_only) {
            match read(&file) {
                Ok(text) => match parse(&file, *family, &text) {
                    Ok(model) => models.push(model),
                    Err(more) => faults.extend(more),
                },
                Err(error) => {
                    let help = "a model is a text file (UTF-8) of at most 1 MiB that the server may read";
                    faults.push(fault(&file, format!("cannot be read: {error}"), help));
                }
            }
        }
    }
    (models, faults)
}

/// The entries of a folder, sorted, so that faults come in the same order everywhere.
fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries: std::io::Result<Vec<PathBuf>> = std::fs::read_dir(folder)?
        .take(FILES_MAX)
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut entries = entries?;
    entries.sort();
    Ok(entries)
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(file)?
        .take(FILE_MAX + 1)
        .read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read <= FILE_MAX) {
        Ok(text)
    } else {
        Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "more than 1 MiB"))
    }
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
