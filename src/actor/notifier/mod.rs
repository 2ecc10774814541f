//! The notifier: works the outbox of notices. What it decides is in `domain/notice`; what it does is in [`engine`].
//!
//! A kept worker runs plain futures: one that plans and bundles, and one for each kind of channel, so that a mail server
//! that hangs does not hold back an SMS. A worker that dies is built anew with back-off, and takes what it was sending for
//! sent or not sent: it is sent again, marked.

pub mod engine;

pub use engine::{Chance, Engine, NotifierParts, NotifierSettings, SystemChance};

use crate::actor::keep::Keeper;
use crate::actor::supervise::RestartPolicy;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The actor; it works from its start until `stop`.
pub fn notifier(parts: NotifierParts, policy: RestartPolicy, stop: CancellationToken) -> Keeper {
    let (clock, token) = (Arc::clone(&parts.clock), stop.clone());
    let work =
        move || -> futures::future::LocalBoxFuture<'static, ()> { Box::pin(engine::run(parts.clone(), token.clone())) };
    Keeper::new("notifier", Arc::new(work), clock, policy, stop)
}
