//! Interlocks: what forbids taking a supply away, whoever asks and whoever approves. Judged when a command is asked for
//! and again before it is sent.

use crate::base::ids::GroupId;
use crate::domain::schedule::parse_zone;
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Timelike, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An outside temperature older than this is not known any more.
const TEMPERATURE_LIFE: TimeDelta = TimeDelta::hours(6);

/// Why a meter is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProtectionKind {
    /// Somebody's life hangs on the supply.
    LifeSupport,
    /// Another reason, in the note.
    Protected,
}

/// A protection of one meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Why.
    pub kind: ProtectionKind,
    /// Until when; none: until somebody ends it.
    pub until: Option<DateTime<Utc>>,
}

/// Interlocks of an account, as data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Interlocks {
    /// Groups whose meters, those of their sub-groups included, keep their supply.
    #[schema(value_type = Vec<i32>)]
    pub protected_groups: Vec<GroupId>,
    /// Hours of the account's wall clock in which nothing is disconnected.
    pub quiet_hours: Vec<QuietHours>,
    /// Days on which nothing is disconnected.
    pub holidays: Vec<NaiveDate>,
    /// Outside temperatures beyond which nothing is disconnected.
    pub temperature: Option<TemperatureBand>,
    /// While it is set nothing is disconnected; the text says why.
    pub block: Option<String>,
}

/// Hours of the wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// Days on which they begin, 1 Monday to 7 Sunday; empty: every day.
    #[serde(default)]
    pub days: Vec<u8>,
    /// They begin, `HH:MM`.
    #[schema(value_type = String)]
    pub from: DayTime,
    /// They end, `HH:MM`; not after `from`: on the next day.
    #[schema(value_type = String)]
    pub to: DayTime,
}

/// A time of the day, `HH:MM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DayTime(NaiveTime);

impl TryFrom<String> for DayTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        NaiveTime::parse_from_str(&text, "%H:%M")
            .map(Self)
            .map_err(|_| format!("{text:?} is not a time of the day; write HH:MM"))
    }
}

impl From<DayTime> for String {
    fn from(DayTime(time): DayTime) -> Self {
        format!("{:02}:{:02}", time.hour(), time.minute())
    }
}

/// Temperatures between which a supply may be taken away, °C.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TemperatureBand {
    /// Below it nothing is disconnected.
    #[schema(value_type = Option<String>)]
    pub min_c: Option<Decimal>,
    /// Above it nothing is disconnected.
    #[schema(value_type = Option<String>)]
    pub max_c: Option<Decimal>,
}

/// What is known of the place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// Protections of the meter.
    pub protections: Vec<Protection>,
    /// Its group and the groups above it.
    pub groups: Vec<GroupId>,
    /// The outside temperature, °C, and when it was told.
    pub celsius: Option<(Decimal, DateTime<Utc>)>,
}

/// An interlock in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interlock {
    /// The meter is on life support.
    LifeSupport,
    /// The meter is protected.
    ProtectedMeter,
    /// It is in a protected group.
    ProtectedGroup(GroupId),
    /// Quiet hours.
    QuietHours,
    /// A holiday.
    Holiday,
    /// Too cold, too hot, or not known.
    Temperature,
    /// The account's block.
    Block(String),
    /// The account's time zone is unknown, so neither hours nor days can be judged.
    ZoneUnknown,
}

impl Interlock {
    /// The name in the API and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LifeSupport => "life_support",
            Self::ProtectedMeter => "protected_meter",
            Self::ProtectedGroup(_) => "protected_group",
            Self::QuietHours => "quiet_hours",
            Self::Holiday => "holiday",
            Self::Temperature => "temperature",
            Self::Block(_) => "block",
            Self::ZoneUnknown => "zone_unknown",
        }
    }
}

impl fmt::Display for Interlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LifeSupport => f.write_str("the meter is on life support"),
            Self::ProtectedMeter => f.write_str("the meter is protected"),
            Self::ProtectedGroup(group) => write!(f, "group {group} is protected"),
            Self::QuietHours => f.write_str("these are quiet hours"),
            Self::Holiday => f.write_str("today is a holiday"),
            Self::Temperature => f.write_str("the outside temperature is beyond its limits or not known"),
            Self::Block(text) => write!(f, "disconnections are blocked: {text}"),
            Self::ZoneUnknown => f.write_str("the account's time zone is unknown"),
        }
    }
}

impl Interlocks {
    /// The first interlock in force for a meter at `now`; `zone` is the account's.
    pub fn in_force(&self, site: &Site, zone: &str, now: DateTime<Utc>) -> Option<Interlock> {
        let protection = |kind| {
            let holds = |p: &&Protection| p.kind == kind && p.until.is_none_or(|until| now < until);
            site.protections.iter().find(holds)
        };
        if protection(ProtectionKind::LifeSupport).is_some() {
            return Some(Interlock::LifeSupport);
        }
        if protection(ProtectionKind::Protected).is_some() {
            return Some(Interlock::ProtectedMeter);
        }
        if let Some(group) = site.groups.iter().find(|group| self.protected_groups.contains(group)) {
            return Some(Interlock::ProtectedGroup(*group));
        }
        if let Some(text) = &self.block {
            return Some(Interlock::Block(text.clone()));
        }
        self.calendar(zone, now).or_else(|| self.weather(site, now))
    }

    fn calendar(&self, zone: &str, now: DateTime<Utc>) -> Option<Interlock> {
        if self.quiet_hours.is_empty() && self.holidays.is_empty() {
            return None;
        }
        let Ok(zone) = parse_zone(zone) else {
            return Some(Interlock::ZoneUnknown);
        };
        let local = now.with_timezone(&zone).naive_local();
        if self.holidays.contains(&local.date()) {
            return Some(Interlock::Holiday);
        }
        self.quiet_hours
            .iter()
            .any(|hours| hours.cover(local.date(), local.time()))
            .then_some(Interlock::QuietHours)
    }

    fn weather(&self, site: &Site, now: DateTime<Utc>) -> Option<Interlock> {
        let band = self.temperature.as_ref()?;
        let known = site.celsius.filter(|(_, told)| now - *told < TEMPERATURE_LIFE);
        let within = known.is_some_and(|(celsius, _)| {
            band.min_c.is_none_or(|min| celsius >= min) && band.max_c.is_none_or(|max| celsius <= max)
        });
        (!within).then_some(Interlock::Temperature)
    }
}

impl QuietHours {
    fn cover(&self, date: NaiveDate, time: NaiveTime) -> bool {
        let on = |date: NaiveDate| {
            let day = u8::try_from(date.weekday().number_from_monday()).unwrap_or_default();
            self.days.is_empty() || self.days.contains(&day)
        };
        let (DayTime(from), DayTime(to)) = (self.from, self.to);
        if from < to {
            return on(date) && time >= from && time < to;
        }
        // over midnight: the evening of a day, or the morning after one
        (on(date) && time >= from) || (time < to && date.pred_opt().is_some_and(on))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn hours(days: &[u8], from: &str, to: &str) -> QuietHours {
        QuietHours {
            days: days.to_vec(),
            from: DayTime::try_from(from.to_owned()).unwrap(),
            to: DayTime::try_from(to.to_owned()).unwrap(),
        }
    }

    #[test]
    fn quiet_hours_go_by_the_accounts_wall_clock_and_over_midnight() {
        // from Friday evening to Saturday morning in Berlin, which is an hour or two ahead of UTC
        let interlocks = Interlocks {
            quiet_hours: vec![hours(&[5], "22:00", "06:00")],
            ..Interlocks::default()
        };
        let at = |text| interlocks.in_force(&Site::default(), "Europe/Berlin", utc(text));
        assert_eq!(at("2026-01-09T20:59:59Z"), None);
        assert_eq!(at("2026-01-09T21:00:00Z"), Some(Interlock::QuietHours));
        assert_eq!(at("2026-01-10T04:59:59Z"), Some(Interlock::QuietHours));
        assert_eq!(at("2026-01-10T05:00:00Z"), None);
        // in summer an hour earlier, and not on other evenings
        assert_eq!(at("2026-07-10T20:00:00Z"), Some(Interlock::QuietHours));
        assert_eq!(at("2026-07-09T20:00:00Z"), None);
        assert_eq!(
            interlocks.in_force(&Site::default(), "Mars/Olympus", utc("2026-01-10T12:00:00Z")),
            Some(Interlock::ZoneUnknown)
        );
    }

    #[test]
    fn holidays_are_days_of_the_accounts_calendar() {
        let interlocks = Interlocks {
            holidays: vec!["2026-10-01".parse().unwrap()],
            ..Interlocks::default()
        };
        let at = |text| interlocks.in_force(&Site::default(), "Asia/Shanghai", utc(text));
        assert_eq!(at("2026-09-30T15:59:59Z"), None);
        assert_eq!(at("2026-09-30T16:00:00Z"), Some(Interlock::Holiday));
        assert_eq!(at("2026-10-01T16:00:00Z"), None);
    }

    #[test]
    fn life_support_comes_first_and_ends_with_its_term() {
        let now = utc("2026-01-10T12:00:00Z");
        let mut site = Site {
            protections: vec![Protection {
                kind: ProtectionKind::LifeSupport,
                until: Some(utc("2026-01-10T12:00:01Z")),
            }],
            groups: vec![GroupId(4), GroupId(2)],
            celsius: None,
        };
        let interlocks = Interlocks {
            protected_groups: vec![GroupId(2)],
            block: Some("heat wave".into()),
            ..Interlocks::default()
        };
        assert_eq!(interlocks.in_force(&site, "UTC", now), Some(Interlock::LifeSupport));
        let later = now + TimeDelta::seconds(1);
        assert_eq!(
            interlocks.in_force(&site, "UTC", later),
            Some(Interlock::ProtectedGroup(GroupId(2)))
        );
        site.groups.clear();
        assert_eq!(
            interlocks.in_force(&site, "UTC", later),
            Some(Interlock::Block("heat wave".into()))
        );
        assert_eq!(Interlocks::default().in_force(&site, "UTC", later), None);
    }

    #[test]
    fn a_temperature_that_nobody_told_lately_holds() {
        let interlocks: Interlocks =
            serde_json::from_str(r#"{"temperature": {"min_c": "0", "max_c": "33.3"}}"#).unwrap();
        let now = utc("2026-01-10T12:00:00Z");
        let at = |celsius: &str, told: &str| {
            let site = Site {
                celsius: Some((celsius.parse().unwrap(), utc(told))),
                ..Site::default()
            };
            interlocks.in_force(&site, "UTC", now)
        };
        assert_eq!(at("0", "2026-01-10T11:00:00Z"), None);
        assert_eq!(at("-0.1", "2026-01-10T11:00:00Z"), Some(Interlock::Temperature));
        assert_eq!(at("33.4", "2026-01-10T11:00:00Z"), Some(Interlock::Temperature));
        assert_eq!(at("20", "2026-01-10T06:00:00Z"), Some(Interlock::Temperature));
        assert_eq!(
            interlocks.in_force(&Site::default(), "UTC", now),
            Some(Interlock::Temperature)
        );
    }
}
