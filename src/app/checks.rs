//! What `/readyz` asks: the database, the spool, the device ports.

use crate::port::outage::DatabaseCondition;
use crate::port::readiness::{Readiness, ReadinessCheck};
use crate::spool::{SpoolHandle, SpoolState};
use async_trait::async_trait;
use chrono::SecondsFormat;

/// The database answers and takes writes. Without it readings go into the spool, so the server is degraded, not down.
pub struct DatabaseCheck(pub DatabaseCondition);

#[async_trait]
impl ReadinessCheck for DatabaseCheck {
    fn name(&self) -> &'static str {
        "database"
    }

    async fn check(&self) -> Readiness {
        self.0.trouble().map_or(Readiness::Ready, |trouble| {
            Readiness::Degraded(format!(
                "{} since {}: {}; readings are kept in the spool, writes are refused",
                trouble.outage.as_str(),
                trouble.since.to_rfc3339_opts(SecondsFormat::Secs, true),
                trouble.detail
            ))
        })
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
