//! A fault in a meter model: where, what, and what to do.

use serde::Serialize;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One fault of a model file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.line {
            0 => write!(f, "{file}: {}; {}", self.what, self.help),
            line => write!(f, "{file}:{line}: {}; {}", self.what, self.help),
        }
    }
}

/// Collects the faults of one file.
pub(super) struct Faults<'a> {
    file: &'a Path,
    text: &'a str,
    list: Vec<Fault>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self {
            file,
            text,
            list: Vec::new(),
        }
    }

    /// Adds a fault at a place in the text.
    pub(super) fn add(&mut self, span: &Range<usize>, what: impl Into<String>, help: impl Into<String>) {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        self.list.push(Fault {
            file: self.file.to_path_buf(),
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            what: what.into(),
            help: help.into(),
        });
    }

    /// Keeps the first fault of each line.
    pub(super) fn one_a_line(&mut self) {
        self.list.dedup_by_key(|fault| fault.line);
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The faults in the order of the file.
    pub(super) fn into_sorted(mut self) -> Vec<Fault> {
        self.list.sort_by_key(|fault| fault.line);
        self.list
    }
}
