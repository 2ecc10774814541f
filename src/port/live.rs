//! The live stream's seam: what is published after commit, who listens, and how a listener finds its place again.

use crate::base::ids::{AccountId, DtuId, MeterId};
use crate::port::events::{StoredPoll, describe};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
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

impl Topic {
    /// Every topic.
    pub const ALL: &'static [Topic] = &[
        Topic::Readings,
        Topic::Sessions,
        Topic::Slots,
        Topic::Alarms,
        Topic::Commands,
        Topic::Line,
        Topic::Jobs,
    ];

    /// The name in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Readings => "readings",
            Self::Sessions => "sessions",
            Self::Slots => "slots",
            Self::Alarms => "alarms",
            Self::Commands => "commands",
            Self::Line => "line",
            Self::Jobs => "jobs",
        }
    }

    /// Finds a topic by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|topic| topic.as_str() == name)
    }
}

/// A place in the stream of one account: which run of the server, and the how manieth event. Text form `EPOCH-ID`.
///
/// Ids are counted per account, so that gaps say nothing about anybody else; the epoch changes with every start of the
/// server, so that a place of an earlier run is known to be gone and never mistaken for one of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivePlace {
    /// The run of the server.
    pub epoch: u64,
    /// The event; 0 stands before the first.
    pub id: u64,
}

/// A text that is not a [`LivePlace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event id has the form EPOCH-ID, both decimal numbers")]
pub struct LivePlaceError;

impl fmt::Display for LivePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.id)
    }
}

impl FromStr for LivePlace {
    type Err = LivePlaceError;

    fn from_str(text: &str) -> Result<Self, LivePlaceError> {
        let (epoch, id) = text.trim().split_once('-').ok_or(LivePlaceError)?;
        Ok(Self {
            epoch: epoch.parse().map_err(|_| LivePlaceError)?,
            id: id.parse().map_err(|_| LivePlaceError)?,
        })
    }
}

/// What an event says: one line of JSON, written once for all listeners.
#[derive(Clone, Debug)]
pub enum LiveText {
    /// It is written.
    Written(Arc<str>),
    /// It is written when it is wanted.
    Stored {
        /// The record that it is about.
        poll: Arc<StoredPoll>,
        /// Which of its events.
        place: usize,
    },
}

impl LiveText {
    /// The JSON.
    pub fn json(&self) -> Arc<str> {
        match self {
            Self::Written(json) => Arc::clone(json),
            // the feed numbers the events that there are
            Self::Stored { poll, place } => poll.text(*place).unwrap_or_else(|| "null".into()),
        }
    }
}

impl PartialEq for LiveText {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveEvent {
    /// Where it stands, assigned by the feed.
    pub place: LivePlace,
    /// Whose it is; nobody else may see it.
    pub account: AccountId,
    /// The topic.
    pub topic: Topic,
    /// The DTU it is about, if any.
    pub dtu: Option<DtuId>,
    /// The meter it is about, if any.
    pub meter: Option<MeterId>,
    /// What happened, as the API shows it.
    pub text: LiveText,
}

/// Takes events; never blocks. Slow listeners lose the oldest and are told so.
pub trait LiveFeed: Send + Sync + 'static {
    /// Whether anybody in the account listens to this topic now. What is told often and kept elsewhere (topic `line`) is
    /// published only then.
    fn is_wanted(&self, _account: AccountId, topic: Topic) -> bool {
        topic != Topic::Line
    }

    /// Publishes; the feed assigns the id.
    fn publish(
        &self,
        account: AccountId,
        topic: Topic,
        dtu: Option<DtuId>,
        meter: Option<MeterId>,
        data: serde_json::Value,
    );

    /// Publishes the events of a committed record, see [`StoredPoll`].
    fn publish_stored(&self, account: AccountId, dtu: Option<DtuId>, meter: MeterId, poll: Arc<StoredPoll>) {
        for (topic, data) in describe(poll.record()) {
            self.publish(account, topic, dtu, Some(meter), data);
        }
    }
}

/// What a listener wants to hear. The account is the caller's and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveFilter {
    /// Whose events.
    pub account: AccountId,
    /// Topics; empty: all but `line`.
    pub topics: Vec<Topic>,
    /// Only about this DTU.
    pub dtu: Option<DtuId>,
    /// Only about this meter.
    pub meter: Option<MeterId>,
}

impl LiveFilter {
    /// Whether a topic is wanted. Topic `line` has to be named: it tells every question on every line.
    pub fn wants(&self, topic: Topic) -> bool {
        self.topics.contains(&topic) || (self.topics.is_empty() && topic != Topic::Line)
    }

    /// Whether an event passes.
    pub fn passes(&self, event: &LiveEvent) -> bool {
        event.account == self.account
            && self.wants(event.topic)
            && (self.dtu.is_none() || self.dtu == event.dtu)
            && (self.meter.is_none() || self.meter == event.meter)
    }
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq)]
pub enum LiveItem {
    /// An event.
    Event(LiveEvent),
    /// The place that the listener asked to resume from is no longer kept; it goes on from `place`.
    Reset {
        /// Where it goes on.
        place: LivePlace,
    },
    /// The listener was too slow; so many events of its account (of any topic) passed by. It goes on from `place`.
    Missed {
        /// How many.
        events: u64,
        /// Where it goes on.
        place: LivePlace,
    },
}

/// Why nobody may listen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// The account has as many listeners as it may have.
    #[error("the account has {0} open streams, which is the limit")]
    AccountFull(usize),
    /// The server has as many listeners as it may have.
    #[error("the server has {0} open streams, which is the limit")]
    ServerFull(usize),
}

/// Where listeners come from.
pub trait LiveSource: Send + Sync + 'static {
    /// Begins to listen: behind `after` if it is still kept (else a [`LiveItem::Reset`] comes first), without `after`
    /// from now on.
    ///
    /// # Errors
    /// [`LiveError`] when a limit is reached.
    fn listen(&self, filter: LiveFilter, after: Option<LivePlace>) -> Result<Box<dyn LiveListener>, LiveError>;
}

/// One listener. Dropping it ends it.
#[async_trait]
pub trait LiveListener: Send {
    /// The next items, oldest first, at least one, at most `max`; waits for them. None: the feed has closed.
    async fn next(&mut self, max: usize) -> Option<Vec<LiveItem>>;

    /// Where the listener stands now, events that its filter left out included.
    fn place(&self) -> LivePlace;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_text_form() {
        let place = LivePlace {
            epoch: 1_763_000_000_000_000,
            id: 42,
        };
        assert_eq!(place.to_string().parse(), Ok(place));
        for broken in ["", "42", "a-1", "1-", "1-2-3", "-1-2"] {
            assert_eq!(broken.parse::<LivePlace>(), Err(LivePlaceError), "{broken:?}");
        }
    }

    #[test]
    fn topics_are_found_by_name() {
        for topic in Topic::ALL {
            assert_eq!(Topic::by_name(topic.as_str()), Some(*topic));
            assert_eq!(serde_json::to_value(topic).unwrap(), topic.as_str());
        }
        assert_eq!(Topic::by_name("reading"), None);
    }
}
