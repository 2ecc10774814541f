//! What a key may do of what its person may: scopes. A key without any acts as its person; with scopes it reaches the
//! groups of operations that they name, for reading or for everything. Which operation is in which group stands in
//! `api/scopes.rs`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Operations that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Accounts, people, keys, sign-ins, audit.
    People,
    /// DTUs, meters, points, groups, models, schedules, calendars, scans, frames, imports.
    Devices,
    /// Readings, consumption, slots, reads on demand, the live stream.
    Readings,
    /// Commands to meters.
    Control,
    /// Alarms and their rules.
    Alarms,
    /// Notices and what goes out: webhooks, MQTT.
    Notices,
    /// Exports, jobs.
    Exchange,
    /// The server itself: backups.
    Server,
}

impl Group {
    /// Every group.
    pub const ALL: &'static [Self] = &[
        Self::People,
        Self::Devices,
        Self::Readings,
        Self::Control,
        Self::Alarms,
        Self::Notices,
        Self::Exchange,
        Self::Server,
    ];

    /// The name in scopes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Devices => "devices",
            Self::Readings => "readings",
            Self::Control => "control",
            Self::Alarms => "alarms",
            Self::Notices => "notices",
            Self::Exchange => "exchange",
            Self::Server => "server",
        }
    }
}

/// One scope: `read`, `readings:read`, `devices:write` … `write` holds `read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyScope {
    /// Of which group; none: of all.
    pub group: Option<Group>,
    /// Whether it changes things.
    pub write: bool,
}

/// A text that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope; there are read, and GROUP:read or GROUP:write with the groups {names}", names = names())]
pub struct NoScope(pub String);

fn names() -> String {
    Group::ALL
        .iter()
        .map(|group| group.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

impl std::str::FromStr for KeyScope {
    type Err = NoScope;

    fn from_str(text: &str) -> Result<Self, NoScope> {
        if text == "read" {
            return Ok(Self {
                group: None,
                write: false,
            });
        }
        let wrong = || NoScope(text.chars().take(60).collect());
        let (group, verb) = text.split_once(':').ok_or_else(wrong)?;
        let group = Group::ALL
            .iter()
            .find(|known| known.as_str() == group)
            .ok_or_else(wrong)?;
        let write = match verb {
            "read" => false,
            "write" => true,
            _ => return Err(wrong()),
        };
        Ok(Self {
            group: Some(*group),
            write,
        })
    }
}

impl TryFrom<String> for KeyScope {
    type Error = NoScope;

    fn try_from(text: String) -> Result<Self, NoScope> {
        text.parse()
    }
}

impl From<KeyScope> for String {
    fn from(scope: KeyScope) -> Self {
        scope.to_string()
    }
}

impl fmt::Display for KeyScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.write { "write" } else { "read" };
        match self.group {
            None => f.write_str(verb),
            Some(group) => write!(f, "{}:{verb}", group.as_str()),
        }
    }
}

impl KeyScope {
    fn covers(self, other: Self) -> bool {
        (self.write || !other.write) && (self.group.is_none() || self.group == other.group)
    }
}

/// What a key may: everything its person may, or some scopes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Reach {
    /// Whatever its person may.
    #[default]
    Whole,
    /// These scopes alone.
    Only(Vec<KeyScope>),
}

impl Reach {
    /// Whether an operation of `group` (none: of no group) is within it.
    pub fn permits(&self, group: Option<Group>, write: bool) -> bool {
        match self {
            Self::Whole => true,
            // what is in no group is out of every scope's reach
            Self::Only(scopes) => group.is_some_and(|group| {
                let wanted = KeyScope {
                    group: Some(group),
                    write,
                };
                scopes.iter().any(|scope| scope.covers(wanted))
            }),
        }
    }

    /// Whether everything that `other` may is within it: a key hands out no more than it has.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole, _) => true,
            (Self::Only(_), Self::Whole) => false,
            (Self::Only(own), Self::Only(wanted)) => wanted
                .iter()
                .all(|wanted| own.iter().any(|scope| scope.covers(*wanted))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(scopes: &[&str]) -> Reach {
        Reach::Only(scopes.iter().map(|scope| scope.parse().unwrap()).collect())
    }

    #[test]
    fn scopes_are_a_closed_list_and_read_back() {
        for text in ["read", "readings:read", "control:write", "server:read"] {
            assert_eq!(text.parse::<KeyScope>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "write",
            "all",
            "readings",
            "readings:",
            "readings:delete",
            "Readings:read",
            ":read",
        ] {
            assert!(wrong.parse::<KeyScope>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_scope_reaches_what_it_names_and_no_more() {
        let key = only(&["read", "devices:write"]);
        assert!(key.permits(Some(Group::Alarms), false));
        assert!(key.permits(Some(Group::Devices), true));
        assert!(!key.permits(Some(Group::Alarms), true));
        assert!(!key.permits(None, false));
        assert!(!only(&[]).permits(Some(Group::Devices), false));
        assert!(Reach::Whole.permits(None, true));
    }

    /// Whoever is covered may nothing that the cover may not.
    #[test]
    fn a_cover_may_whatever_is_covered_may() {
        let mut all = vec![Reach::Whole, only(&["read"])];
        for group in Group::ALL {
            for verb in ["read", "write"] {
                all.push(only(&[&format!("{}:{verb}", group.as_str())]));
                all.push(only(&["read", &format!("{}:{verb}", group.as_str())]));
            }
        }
        for one in &all {
            for other in &all {
                let groups = Group::ALL.iter().map(|group| Some(*group)).chain([None]);
                let within = groups
                    .flat_map(|group| [(group, false), (group, true)])
                    .all(|(group, write)| one.permits(group, write) || !other.permits(group, write));
                if one.covers(other) {
                    assert!(within, "{one:?} {other:?}");
                }
            }
        }
        assert!(!only(&["read"]).covers(&Reach::Whole));
        assert!(only(&["devices:write"]).covers(&only(&["devices:read"])));
    }
}
