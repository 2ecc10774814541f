//! Notices: who is told what, when, and by which channel. Pure: "now" and chance are arguments.
//!
//! A [`Happening`] (an edge of an alarm) becomes a plan ([`plan`]): items, each for one channel of one person and due at
//! an instant that heeds quiet hours, digest and escalation ([`person`]). Items that are due together become one
//! message, within rates ([`rate`]), written in the person's language ([`texts`]); a message that cannot be sent is
//! tried again ([`retry`]). It must not know the rules of alarms, databases, or how any channel works.

pub mod person;
pub mod plan;
pub mod rate;
pub mod retry;
pub mod target;
pub mod texts;

pub use crate::domain::alarm::Severity;
pub use person::{Channel, Digest, Quiet, Recipient};
pub use plan::{Earlier, Plan, PlannedItem, Route, Step, plan};

use crate::base::ids::{AccountId, GroupId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the API and the database.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Finds one by its name.
            pub fn by_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == name)
            }
        }
    };
}

words! {
    /// What became of the matter.
    Edge {
        /// It began.
        Raised "raised",
        /// It goes on.
        Reminded "reminded",
        /// Somebody looks after it.
        Acknowledged "acknowledged",
        /// It is over.
        Cleared "cleared",
    }
}

words! {
    /// How a person is reached.
    ChannelKind {
        /// E-mail by SMTP.
        Email "email",
        /// A Telegram chat, by the server's bot.
        Telegram "telegram",
        /// A text message, by gateway, SMPP or modem.
        Sms "sms",
        /// An HTTP endpoint of theirs, signed.
        Webhook "webhook",
    }
}

words! {
    /// The language of a person.
    Language {
        /// English.
        En "en",
        /// Chinese, simplified.
        Zh "zh",
        /// Japanese.
        Ja "ja",
        /// Russian.
        Ru "ru",
    }
}

/// The most facts of a happening that are kept.
pub const FACTS_MAX: usize = 20;
/// The longest fact, characters.
pub const FACT_CHARS_MAX: usize = 300;

/// Something that people are to be told of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Happening {
    /// Whose.
    pub account: AccountId,
    /// What it is about, the same for every edge of one matter: `alarm/17`.
    pub subject: String,
    /// What became of it.
    pub edge: Edge,
    /// How much it matters.
    pub severity: Severity,
    /// Its kind, a key of the texts: `deviation`, `dtu_offline`.
    pub kind: String,
    /// What to tell: names and numbers, no sentences. Keys are `meter`, `dtu`, `value`, … (see the texts).
    pub facts: BTreeMap<String, String>,
    /// The groups of meters that it concerns, with the groups above them.
    pub groups: Vec<GroupId>,
    /// When it happened.
    pub at: DateTime<Utc>,
}

impl Happening {
    /// With its facts cut to what is kept.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.facts = self
            .facts
            .into_iter()
            .take(FACTS_MAX)
            .map(|(name, fact)| (cut(&name, FACT_CHARS_MAX), cut(&fact, FACT_CHARS_MAX)))
            .collect();
        self.subject = cut(&self.subject, FACT_CHARS_MAX);
        self.kind = cut(&self.kind, 64);
        self
    }
}

/// At most so many characters of a text, without control characters: a name may hold a line break, a message's subject
/// must not.
pub fn cut(text: &str, chars: usize) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(chars)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_serde_writes() {
        for severity in Severity::ALL {
            assert_eq!(serde_json::to_value(severity).unwrap(), severity.as_str());
            assert_eq!(Severity::by_name(severity.as_str()), Some(severity));
        }
        for edge in Edge::ALL {
            assert_eq!(serde_json::to_value(edge).unwrap(), edge.as_str());
        }
        for kind in ChannelKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for language in Language::ALL {
            assert_eq!(serde_json::to_value(language).unwrap(), language.as_str());
        }
        assert!(Severity::Info < Severity::Warning && Severity::Warning < Severity::Critical);
    }

    #[test]
    fn a_name_cannot_break_a_line() {
        assert_eq!(cut("a\r\nBcc: x", 6), "a  Bcc");
    }
}
