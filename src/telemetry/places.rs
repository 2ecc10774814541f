//! Happenings of the file that tells where addresses are.

use super::counters;
use prometheus::IntCounterVec;
use std::path::Path;
use std::sync::LazyLock;

static CHANGES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_places_file_changes_total",
        "Changes of the file that tells where addresses are, by whether the new one was taken into use.",
        &["outcome"],
    )
});

pub(super) fn touch() {
    for outcome in ["taken", "refused"] {
        CHANGES.with_label_values(&[outcome]);
    }
}

/// A new file is in use.
#[derive(Clone, Copy, Debug)]
pub struct PlacesTaken<'a> {
    /// Where it is.
    pub path: &'a Path,
}

impl PlacesTaken<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        CHANGES.with_label_values(&["taken"]).inc();
        tracing::info!(path = %self.path.display(), "a new file of places is in use");
    }
}

/// The file has changed and cannot be used: what was read before stays.
#[derive(Clone, Copy, Debug)]
pub struct PlacesKept<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// What is wrong.
    pub cause: &'a str,
}

impl PlacesKept<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        CHANGES.with_label_values(&["refused"]).inc();
        tracing::warn!(path = %self.path.display(), cause = self.cause, "the places read before stay in use");
    }
}
