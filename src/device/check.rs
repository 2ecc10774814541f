//! `check-config` for meter models.

use super::catalogue::read_folder;
use super::fault::Fault;
use super::model::{Folder, MeterModel};
use super::parse::parse;
use std::path::Path;

/// Reads every model below a folder, replays its recorded exchanges, and names every fault with file and line.
pub fn check_folder(folder: &Path) -> Vec<Fault> {
    read_folder(folder).1
}

/// The same of one model that stands in memory; `file` gives its name and stands in the faults.
///
/// # Errors
/// Every fault of it.
pub fn check_text(file: &Path, folder: Folder, text: &str) -> Result<MeterModel, Vec<Fault>> {
    parse(file, folder, text)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
