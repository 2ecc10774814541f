//! Newtype ids. A meter's id can never be handed over where a DTU's is wanted.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    };
}

id!(
    /// An account: an organisation that owns a fleet. Row level security hangs on it.
    AccountId(i32)
);
id!(
    /// A person who logs in.
    UserId(i32)
);
id!(
    /// An API key.
    ApiKeyId(i32)
);
id!(
    /// A DTU (or a dialled converter, a Modbus TCP gateway, a serial port of this host).
    DtuId(i32)
);
id!(
    /// A meter: the instrument.
    MeterId(i32)
);
impl MeterId {
    /// No meter of the directory, whose ids begin with 1: whoever answers a question to all on a line.
    pub const NOBODY: Self = Self(0);
}
id!(
    /// A metering point: the place where consumption belongs, whichever meter stands there.
    PointId(i32)
);
id!(
    /// A group of meters (a site).
    GroupId(i32)
);
id!(
    /// A reading schedule.
    ScheduleId(i32)
);
id!(
    /// A calendar of working days and holidays.
    CalendarId(i32)
);
id!(
    /// One session of a DTU, from registration to gone. Unique over restarts.
    SessionId(i64)
);
id!(
    /// One accepted or dialled connection within this process.
    ConnectionId(u64)
);
id!(
    /// A control command.
    CommandId(i64)
);
id!(
    /// A schedule of control commands.
    ControlScheduleId(i32)
);
id!(
    /// An alarm.
    AlarmId(i64)
);
id!(
    /// An event that a concentrator recorded.
    TerminalEventId(i64)
);
id!(
    /// A rule by which alarms are raised.
    AlarmRuleId(i32)
);
id!(
    /// A person or place that is told of happenings.
    RecipientId(i32)
);
id!(
    /// One way to reach a recipient.
    ChannelId(i32)
);
id!(
    /// A rule of who is told what.
    RouteId(i32)
);
id!(
    /// Something that people are to be told of.
    NoticeId(i64)
);
id!(
    /// A webhook or broker that is told of readings and events.
    IntegrationId(i32)
);
id!(
    /// One visit to one meter; may serve several slots.
    PollId(i64)
);
id!(
    /// A recorded raw frame. Grows over restarts and stays below 2^53, so that JSON clients keep it exact.
    FrameId(i64)
);

/// Ids `first .. first + count` of the raw frames of one poll; empty when `count` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRange {
    /// The first id.
    pub first: FrameId,
    /// How many follow on from it, itself included.
    pub count: u16,
}

impl FrameRange {
    /// No frame.
    pub const EMPTY: Self = Self {
        first: FrameId(0),
        count: 0,
    };

    /// The ids one by one.
    pub fn ids(self) -> impl Iterator<Item = FrameId> {
        (0..i64::from(self.count)).map(move |i| FrameId(self.first.0.saturating_add(i)))
    }
}

/// Hands out growing ids that stay unique over restarts: they begin with the start's unix time, 2^21 to the second. Holds
/// as long as fewer than two million ids a second are taken on average, and keeps below 2^53.
#[derive(Debug)]
pub struct GrowingIds(std::sync::atomic::AtomicI64);

/// Ids to the second.
const PARTS: i64 = 1 << 21;
const MICROS: i64 = 1_000_000;

impl GrowingIds {
    /// Starts behind everything that a process started before `now` can have handed out.
    pub fn starting_at(now: chrono::DateTime<chrono::Utc>) -> Self {
        // not whole seconds: a process that is killed at once is started again within one
        let micros = now.timestamp_micros().max(0);
        let first = micros / MICROS * PARTS + micros % MICROS * PARTS / MICROS;
        Self(std::sync::atomic::AtomicI64::new(first))
    }

    /// The next id.
    pub fn take(&self) -> i64 {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta};

    /// Found by the simulation (seed 344): a process that was killed and started again within one second gave out the ids of
    /// its predecessor.
    #[test]
    fn a_restart_within_the_second_repeats_no_id() {
        let start = DateTime::from_timestamp(1_772_409_630, 37_000_000).unwrap();
        let first = GrowingIds::starting_at(start);
        let last = (0..1_000).map(|_| first.take()).max().unwrap();
        let next = GrowingIds::starting_at(start + TimeDelta::milliseconds(1)).take();
        assert!(next > last, "{next} after {last}");
        let second = GrowingIds::starting_at(start + TimeDelta::seconds(1)).take();
        assert!(second > next && second < 1 << 53);
        assert!(GrowingIds::starting_at(DateTime::UNIX_EPOCH - TimeDelta::days(1)).take() == 0);
    }
}
