//! What integrators are told: topics, the place in the feed, and what of it stands where at a broker. Pure.

pub mod discovery;
pub mod horizon;
pub mod naming;

use serde::{Deserialize, Serialize};

/// What can be heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedTopic {
    /// Stored readings.
    Readings,
    /// Slots that did not simply end with their on-time reading: late, estimated, missing.
    Slots,
    /// Steps of alarms.
    Alarms,
    /// Steps of control commands.
    Commands,
    /// Sessions of DTUs that began or ended.
    Sessions,
}

impl FeedTopic {
    /// Every topic.
    pub const ALL: [Self; 5] = [
        Self::Readings,
        Self::Slots,
        Self::Alarms,
        Self::Commands,
        Self::Sessions,
    ];

    /// The name in the API, in the database and at a broker.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Readings => "readings",
            Self::Slots => "slots",
            Self::Alarms => "alarms",
            Self::Commands => "commands",
            Self::Sessions => "sessions",
        }
    }

    /// Finds a topic by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == name)
    }
}

/// A place in the feed: behind `part` items of row `seq` and everything before that row. Everything up to it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The row.
    pub seq: i64,
    /// Items of it that are done; [`Position::WHOLE`]: all.
    pub part: i32,
}

impl Position {
    /// All items of a row, however many it has.
    pub const WHOLE: i32 = i32::MAX;

    /// Behind the whole of a row.
    pub fn behind(seq: i64) -> Self {
        Self { seq, part: Self::WHOLE }
    }
}

/// How a broker is told of readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A topic for each quantity of a meter, its payload the value alone.
    #[default]
    Values,
    /// One topic for each meter, its payload the reading as JSON.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_found_by_name() {
        for topic in FeedTopic::ALL {
            assert_eq!(FeedTopic::by_name(topic.as_str()), Some(topic));
            assert_eq!(serde_json::to_value(topic).unwrap(), topic.as_str());
        }
        assert_eq!(FeedTopic::by_name("weather"), None);
    }

    #[test]
    fn places_are_in_order() {
        let place = |seq, part| Position { seq, part };
        assert!(place(7, 0) < place(7, 3));
        assert!(place(7, 3) < Position::behind(7));
        assert!(Position::behind(7) < place(8, 0));
    }
}
