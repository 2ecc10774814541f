//! Happenings of the server's certificate.

use super::counters;
use prometheus::IntCounterVec;
use std::path::Path;
use std::sync::LazyLock;

static CHANGES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_tls_certificate_changes_total",
        "Changes of the certificate's files, by whether the new pair was taken into use.",
        &["outcome"],
    )
});

pub(super) fn touch() {
    for outcome in ["taken", "refused"] {
        CHANGES.with_label_values(&[outcome]);
    }
}

/// A new certificate is in use.
#[derive(Clone, Copy, Debug)]
pub struct CertificateTaken<'a> {
    /// Its file.
    pub path: &'a Path,
}

impl CertificateTaken<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        CHANGES.with_label_values(&["taken"]).inc();
        tracing::info!(path = %self.path.display(), "a new certificate is in use");
    }
}

/// The files have changed and cannot be used: the certificate before stays.
#[derive(Clone, Copy, Debug)]
pub struct CertificateKept<'a> {
    /// The file at fault.
    pub path: &'a Path,
    /// What is wrong.
    pub cause: &'a str,
}

impl CertificateKept<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        CHANGES.with_label_values(&["refused"]).inc();
        tracing::warn!(path = %self.path.display(), cause = self.cause, "the certificate before stays in use");
    }
}
