//! Whether a part of the server can do its work; `/readyz` asks every part.

use async_trait::async_trait;

/// What a part says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It works.
    Ready,
    /// It works in part; the text says what does not. The server stays ready.
    Degraded(String),
    /// It does not work; the text says why.
    NotReady(String),
}

/// A part that can be asked. Answers within a second.
#[async_trait]
pub trait ReadinessCheck: Send + Sync {
    /// What is checked, e.g. `database`.
    fn name(&self) -> &'static str;

    /// How it is now.
    async fn check(&self) -> Readiness;
}
