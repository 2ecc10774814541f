//! A visit that sets a clock: it is read first, and the rule of [`may_set`] judges what it shows.

use super::{Desk, RelayError, Way, borrowed, relay};
use crate::domain::command::clock::may_set;
use crate::domain::command::{Action, ClockObstacle, Command, Edge, Obstacle};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Value, json};
use std::time::Duration;

/// A frame with the time in it that has waited longer for the line is not sent.
pub(super) const FRESH: Duration = Duration::from_secs(8);

/// What a clock showed, and when it did.
pub(super) struct Shown {
    local: NaiveDateTime,
    at: DateTime<Utc>,
}

impl Desk {
    /// What the meter's clock shows, if it is to be set.
    pub(super) async fn look_at_clock(&self, command: &Command, way: &Way) -> Result<Option<Shown>, String> {
        if command.action != Action::SyncClock {
            return Ok(None);
        }
        let text = |error: RelayError| error.to_string();
        let asked = relay::read_back(&way.model, &command.target, &command.action).map_err(text)?;
        let frames = self.read(command, way, &asked).await?;
        let at = self.parts.clock.now();
        let local = relay::clock_shown(&way.model, &asked, &borrowed(&frames)).map_err(text)?;
        Ok(Some(Shown { local, at }))
    }
}

impl Shown {
    /// Whether the clock may be set; the way then knows how far it is ahead.
    pub(super) fn judge(&self, way: &mut Way) -> Result<(), Obstacle> {
        // one of an unknown zone would be set by hours
        let zone = way.zone.ok_or(Obstacle::Clock(ClockObstacle::NoZone))?;
        let now = self.at.with_timezone(&zone).naive_local();
        way.ahead = Some(may_set(self.local, now).map_err(Obstacle::Clock)?);
        Ok(())
    }
}

/// What an obstacle makes of the command; none: it waits, as long as it holds.
pub(super) fn edge(obstacle: ClockObstacle) -> Option<(Edge, Value)> {
    let detail = |cause: &str| json!({ "cause": cause, "detail": obstacle.to_string() });
    match obstacle {
        ClockObstacle::InOrder { .. } => Some((Edge::Cancel, detail("clock_in_order"))),
        ClockObstacle::TooFar { .. } => Some((Edge::Reject, detail("clock_too_far"))),
        ClockObstacle::NearFreeze { .. } | ClockObstacle::NoZone => None,
    }
}
