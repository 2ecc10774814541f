//! Alarms: what is wrong, said once. A rule ([`rule`]) is data; what a meter said is judged by pure functions
//! into [`Change`]s, which the store applies and nobody else.
//!
//! An alarm is known by its [`Key`]: of one key at most one alarm is open, so a restart, a duplicate or a late reading
//! cannot raise it twice. It is raised, acknowledged, commented, shelved and cleared; every step is an [`AlarmEdge`].

pub mod deviation;
pub mod fleet;
pub mod latch;
pub mod meter;
pub mod rule;
pub mod silence;
pub mod storm;
mod text;
pub mod trial;

use crate::base::ids::{AccountId, AlarmId, AlarmRuleId, DtuId, MeterId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of thing is wrong. A closed list: it is a metric label, a column and what texts hang on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// Consumption far from the meter's own profile.
    Deviation,
    /// A quantity beyond a limit.
    Threshold,
    /// Slots in a row without a value, though the meter is there.
    MissingData,
    /// A DTU without a session, or many of them at once.
    DtuOffline,
    /// A meter that does not answer while its DTU is there.
    MeterOffline,
    /// Too few slots of an account or group are collected.
    CollectionRate,
    /// The meter's clock is off.
    ClockDrift,
    /// Energy flows against the agreed direction.
    ReverseEnergy,
    /// A register went back.
    RegisterBackward,
    /// A register stands still though power flows.
    RegisterStuck,
    /// Voltage outside its band.
    VoltageQuality,
    /// One phase of three without voltage.
    PhaseLoss,
    /// The meter itself reports a fault or a tampering.
    StatusBits,
    /// Two devices use one serial number.
    Clone,
    /// Another value came under the key of a stored reading.
    ReadingConflict,
    /// A concentrator recorded an important event.
    TerminalEvent,
    /// Disconnections that exceed the brake wait for two people.
    BrakeHeld,
    /// A command whose outcome is not known.
    CommandUnknown,
    /// A reconnection that did not come about.
    ReconnectFailed,
    /// The disk or the spool on it runs full.
    Spool,
    /// The server is short of memory and does less.
    Overload,
    /// The database is away.
    Database,
}

impl AlarmKind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Deviation,
        Self::Threshold,
        Self::MissingData,
        Self::DtuOffline,
        Self::MeterOffline,
        Self::CollectionRate,
        Self::ClockDrift,
        Self::ReverseEnergy,
        Self::RegisterBackward,
        Self::RegisterStuck,
        Self::VoltageQuality,
        Self::PhaseLoss,
        Self::StatusBits,
        Self::Clone,
        Self::ReadingConflict,
        Self::TerminalEvent,
        Self::BrakeHeld,
        Self::CommandUnknown,
        Self::ReconnectFailed,
        Self::Spool,
        Self::Overload,
        Self::Database,
    ];

    /// The name in the API, the database and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deviation => "deviation",
            Self::Threshold => "threshold",
            Self::MissingData => "missing_data",
            Self::DtuOffline => "dtu_offline",
            Self::MeterOffline => "meter_offline",
            Self::CollectionRate => "collection_rate",
            Self::ClockDrift => "clock_drift",
            Self::ReverseEnergy => "reverse_energy",
            Self::RegisterBackward => "register_backward",
            Self::RegisterStuck => "register_stuck",
            Self::VoltageQuality => "voltage_quality",
            Self::PhaseLoss => "phase_loss",
            Self::StatusBits => "status_bits",
            Self::Clone => "clone",
            Self::ReadingConflict => "reading_conflict",
            Self::TerminalEvent => "terminal_event",
            Self::BrakeHeld => "brake_held",
            Self::CommandUnknown => "command_unknown",
            Self::ReconnectFailed => "reconnect_failed",
            Self::Spool => "spool",
            Self::Overload => "overload",
            Self::Database => "database",
        }
    }

    /// By its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }

    /// Whether a person has to clear it: what happened stays true whatever comes after.
    pub fn stays(self) -> bool {
        matches!(
            self,
            Self::RegisterBackward | Self::Clone | Self::ReadingConflict | Self::TerminalEvent | Self::ReconnectFailed
        )
    }
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much it matters.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should look at it today.
    #[default]
    Warning,
    /// Somebody should look at it now.
    Critical,
}

impl Severity {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// By its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name)
    }
}

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "subject", rename_all = "snake_case")]
pub enum Subject {
    /// A meter, behind a DTU.
    Meter {
        /// Which.
        meter: MeterId,
        /// Its DTU.
        dtu: DtuId,
    },
    /// A DTU.
    Dtu {
        /// Which.
        dtu: DtuId,
    },
    /// An account, or a group of it.
    Account,
    /// The server.
    Server,
}

impl Subject {
    /// The meter, if it is one.
    pub fn meter(self) -> Option<MeterId> {
        match self {
            Self::Meter { meter, .. } => Some(meter),
            _ => None,
        }
    }

    /// The DTU, of a meter its own.
    pub fn dtu(self) -> Option<DtuId> {
        match self {
            Self::Meter { dtu, .. } | Self::Dtu { dtu } => Some(dtu),
            Self::Account | Self::Server => None,
        }
    }
}

/// By what an alarm is known: of one key at most one alarm is open. The account is none for alarms of the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Whose.
    pub account: Option<AccountId>,
    /// `kind[:variant]@subject`, e.g. `threshold:7@meter/12`.
    pub text: String,
}

impl Key {
    /// Of a kind and a subject; `variant` tells alarms of one kind and subject apart, and may be empty.
    pub fn new(account: Option<AccountId>, kind: AlarmKind, variant: &str, subject: Subject) -> Self {
        let colon = if variant.is_empty() { "" } else { ":" };
        let place = match subject {
            Subject::Meter { meter, .. } => format!("meter/{meter}"),
            Subject::Dtu { dtu } => format!("dtu/{dtu}"),
            Subject::Account => "account".to_owned(),
            Subject::Server => "server".to_owned(),
        };
        Self {
            account,
            text: format!("{kind}{colon}{variant}@{place}"),
        }
    }
}

/// What is known of a cause: numbers and names for texts in any language. Numbers are decimal text in the named unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Detail {
    /// The quantity, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<String>,
    /// What was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The limit that it is beyond.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// What was to be expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The unit of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Since when it has been so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// How many (slots, DTUs, commands).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Names: phases, bits, reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The reading that caused it, by its time stamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reading_at: Option<DateTime<Utc>>,
    /// The raw frames that caused it: the first id and how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<(i64, u16)>,
    /// Anything else in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Detail {
    /// One English sentence for lists and logs.
    pub fn sentence(&self, kind: AlarmKind) -> String {
        text::sentence(kind, self)
    }
}

/// An alarm to be raised.
#[derive(Clone, Debug, PartialEq)]
pub struct Raise {
    /// By what it is known.
    pub key: Key,
    /// What is wrong.
    pub kind: AlarmKind,
    /// How much it matters.
    pub severity: Severity,
    /// With what.
    pub subject: Subject,
    /// By which rule; none: a built-in one.
    pub rule: Option<AlarmRuleId>,
    /// The instant of the data that cause it; nothing at or before the last judged instant of a key raises it again.
    pub cause_at: DateTime<Utc>,
    /// What is known of the cause.
    pub detail: Detail,
    /// DTUs that this one alarm stands for.
    pub victims: Vec<(DtuId, DateTime<Utc>)>,
    /// The alarm of which this one is a consequence; such an alarm is listed and not forwarded.
    pub parent: Option<Key>,
}

/// What the judgement wants to be written down.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is wrong. Of an open key: once more.
    Raise(Box<Raise>),
    /// It is right again, by data of this instant. Of a key that is not open: nothing.
    Clear {
        /// Which.
        key: Key,
        /// By data of when.
        at: DateTime<Utc>,
    },
    /// More DTUs belong to an open alarm, and of some it is over.
    Victims {
        /// Which.
        key: Key,
        /// New ones, with their since.
        joined: Vec<(DtuId, DateTime<Utc>)>,
        /// Those of which it is over.
        back: Vec<DtuId>,
        /// When.
        at: DateTime<Utc>,
    },
}

impl Change {
    /// The key that it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Raise(raise) => &raise.key,
            Self::Clear { key, .. } | Self::Victims { key, .. } => key,
        }
    }
}

/// A step in an alarm's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmStep {
    /// It is wrong.
    Raised,
    /// It is wrong again, so soon that it is the same alarm.
    Reopened,
    /// Nobody has looked at it for a while.
    Reminded,
    /// Somebody takes care of it.
    Acknowledged,
    /// Somebody said something.
    Commented,
    /// Somebody put it aside until a time.
    Shelved,
    /// It is back from there.
    Unshelved,
    /// It is right again, or somebody said so.
    Cleared,
}

impl AlarmStep {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Raised,
        Self::Reopened,
        Self::Reminded,
        Self::Acknowledged,
        Self::Commented,
        Self::Shelved,
        Self::Unshelved,
        Self::Cleared,
    ];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Reopened => "reopened",
            Self::Reminded => "reminded",
            Self::Acknowledged => "acknowledged",
            Self::Commented => "commented",
            Self::Shelved => "shelved",
            Self::Unshelved => "unshelved",
            Self::Cleared => "cleared",
        }
    }

    /// By its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == name)
    }
}

/// One step of one alarm, as it is written down and told on: notices are made from it, in the same transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmEdge {
    /// The alarm.
    pub alarm: AlarmId,
    /// Whose; none: the server's.
    pub account: Option<AccountId>,
    /// What happened.
    pub step: AlarmStep,
    /// When, wall time.
    pub at: DateTime<Utc>,
    /// Who; `alarms` for the rules themselves.
    pub actor: String,
    /// What is wrong.
    pub kind: AlarmKind,
    /// How much it matters.
    pub severity: Severity,
    /// With what.
    pub subject: Subject,
    /// Since when the alarm is open.
    pub raised_at: DateTime<Utc>,
    /// What is known of the cause.
    pub detail: Detail,
    /// DTUs that this one alarm stands for; 0: it stands for its subject alone.
    pub victims: u64,
    /// It is not to be forwarded: shelved, flapping, or a consequence of another alarm.
    pub quiet: bool,
}

impl AlarmEdge {
    /// The step as the live stream shows it.
    pub fn to_event(&self) -> serde_json::Value {
        serde_json::json!({
            "alarm_id": self.alarm, "step": self.step, "at": self.at, "actor": self.actor, "kind": self.kind,
            "severity": self.severity, "dtu_id": self.subject.dtu(), "meter_id": self.subject.meter(),
            "sentence": self.detail.sentence(self.kind), "victims": self.victims, "raised_at": self.raised_at,
            "quiet": self.quiet,
        })
    }

    /// Whether people want to hear of it who have not opened the console.
    pub fn is_news(&self) -> bool {
        !self.quiet
            && matches!(
                self.step,
                AlarmStep::Raised
                    | AlarmStep::Reopened
                    | AlarmStep::Reminded
                    | AlarmStep::Cleared
                    | AlarmStep::Acknowledged
            )
    }
}

/// Who acts when nobody does: the rules.
pub const BY_RULE: &str = "alarms";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again() {
        for kind in AlarmKind::ALL {
            assert_eq!(AlarmKind::by_name(kind.as_str()), Some(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for step in AlarmStep::ALL {
            assert_eq!(AlarmStep::by_name(step.as_str()), Some(step));
            assert_eq!(serde_json::to_value(step).unwrap(), step.as_str());
        }
        for severity in Severity::ALL {
            assert_eq!(Severity::by_name(severity.as_str()), Some(severity));
        }
    }

    #[test]
    fn keys_tell_accounts_kinds_and_subjects_apart() {
        let meter = Subject::Meter {
            meter: MeterId(12),
            dtu: DtuId(3),
        };
        let key = Key::new(Some(AccountId(1)), AlarmKind::Threshold, "7", meter);
        assert_eq!(key.text, "threshold:7@meter/12");
        let moved = Subject::Meter {
            meter: MeterId(12),
            dtu: DtuId(4),
        };
        assert_eq!(Key::new(Some(AccountId(1)), AlarmKind::Threshold, "7", moved), key);
        assert_ne!(Key::new(Some(AccountId(2)), AlarmKind::Threshold, "7", meter), key);
        assert_eq!(
            Key::new(None, AlarmKind::Database, "", Subject::Server).text,
            "database@server"
        );
    }
}
