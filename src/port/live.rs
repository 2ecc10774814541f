//! The live stream's seam: what is published after commit, and who listens.

use crate::base::ids::{AccountId, DtuId, MeterId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Topics of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Stored readings.
    Readings,
    /// Sessions that began or ended.
    Sessions,
    /// Slot endings.
    Slots,
    /// Alarms.
    Alarms,
    /// Control commands.
    Commands,
    /// Transactions on a line.
    Line,
    /// Background jobs.
    Jobs,
}

/// One event. `id` grows; it resumes a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveEvent {
    /// Position in the stream, assigned by the feed.
    pub id: u64,
    /// Whose it is; nobody else may see it.
    pub account: AccountId,
    /// The topic.
    pub topic: Topic,
    /// The DTU it is about, if any.
    pub dtu: Option<DtuId>,
    /// The meter it is about, if any.
    pub meter: Option<MeterId>,
    /// What happened, as the API shows it.
    pub data: Arc<serde_json::Value>,
}

/// Takes events; never blocks. Slow listeners lose the oldest and are told so.
pub trait LiveFeed: Send + Sync + 'static {
    /// Publishes; the feed assigns the id.
    fn publish(
        &self,
        account: AccountId,
        topic: Topic,
        dtu: Option<DtuId>,
        meter: Option<MeterId>,
        data: serde_json::Value,
    );
}
