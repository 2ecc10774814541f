//! `check-config` for meter models.

use super::catalogue::read_folder;
use super::fault::Fault;
use std::path::Path;

/// Reads every model below a folder, replays its recorded exchanges, and names every fault with file and line.
pub fn check_folder(folder: &Path) -> Vec<Fault> {
    read_folder(folder).1
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
