//! What `/readyz` asks: the database, the spool, the device ports.

use crate::port::readiness::{Readiness, ReadinessCheck};
use crate::spool::{SpoolHandle, SpoolState};
use crate::store::Database;
use async_trait::async_trait;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_millis(900);

/// The database answers. Without it readings go into the spool, so the server is degraded, not down.
pub struct DatabaseCheck(pub Database);

#[async_trait]
impl ReadinessCheck for DatabaseCheck {
    fn name(&self) -> &'static str {
        "database"
    }

    async fn check(&self) -> Readiness {
        match tokio::time::timeout(PATIENCE, self.0.ping()).await {
            Ok(Ok(())) => Readiness::Ready,
            Ok(Err(error)) => Readiness::Degraded(format!("{error}; readings are kept in the spool")),
            Err(_slow) => Readiness::Degraded("no answer within 0.9 s; readings are kept in the spool".into()),
        }
    }
}

/// The spool takes records.
pub struct SpoolCheck(pub SpoolHandle);

#[async_trait]
impl ReadinessCheck for SpoolCheck {
    fn name(&self) -> &'static str {
        "spool"
    }

    async fn check(&self) -> Readiness {
        match self.0.state() {
            SpoolState::Normal => Readiness::Ready,
            state @ (SpoolState::High | SpoolState::Critical) => {
                Readiness::Degraded(format!("the spool is filling ({})", state.as_str()))
            }
            state => Readiness::NotReady(format!("the spool takes nothing ({})", state.as_str())),
        }
    }
}

/// The device ports are open and schedules run.
pub struct FieldCheck(pub tokio::sync::watch::Receiver<bool>);

#[async_trait]
impl ReadinessCheck for FieldCheck {
    fn name(&self) -> &'static str {
        "field"
    }

    async fn check(&self) -> Readiness {
        if *self.0.borrow() {
            Readiness::Ready
        } else {
            Readiness::NotReady("recovery or stop is under way".into())
        }
    }
}
