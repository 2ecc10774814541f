//! Settings of a concentrator or terminal by name: what they may be, what of them is wanted, and what became of it. Knows no
//! wire format; which item or attribute a name is stands in `device/parameter`. Pure.

use chrono::{NaiveDateTime, NaiveTime};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Settings that one call may name.
pub const ASKS_MAX: usize = 200;
/// The wanted value of a clock: our time when it is written.
pub const NOW: &str = "now";
/// A clock that is no more off than this is right; a terminal says whole seconds, over a slow way.
pub const CLOCK_TOLERANCE_S: i64 = 10;

/// A value. Numbers with decimals are texts, as everywhere in the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum ParameterValue {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// Some of the numbers from 1 on: events, classes.
    Numbers(BTreeSet<u8>),
    /// Anything else: an address, a choice, a decimal number, a time.
    Text(String),
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Yes or no.
    Flag,
    /// A whole number between two.
    Whole {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// A number with so many digits behind the point, both bounds in units of the last.
    Decimal {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
        /// Digits behind the point.
        decimals: u32,
    },
    /// One of these, with the code on the wire.
    Choice(&'static [(&'static str, u8)]),
    /// An IPv4 address.
    Address,
    /// Printable ASCII of at most so many characters.
    Text {
        /// How many.
        max: u8,
    },
    /// Some of the numbers from 1 to this.
    Numbers {
        /// The last.
        max: u8,
    },
    /// A time of day, `HH:MM:SS`.
    TimeOfDay,
    /// A moment by the terminal's own clock, `YYYY-MM-DDTHH:MM:SS`.
    Moment,
    /// The terminal's clock: wanted is `now`.
    Clock,
}

/// Why a value is none of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub String);

/// How a moment is written.
pub const MOMENT: &str = "%Y-%m-%dT%H:%M:%S";
/// How a time of day is written.
pub const TIME_OF_DAY: &str = "%H:%M:%S";

impl Kind {
    /// Its name in the API.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Whole { .. } => "whole",
            Self::Decimal { .. } => "decimal",
            Self::Choice(_) => "choice",
            Self::Address => "address",
            Self::Text { .. } => "text",
            Self::Numbers { .. } => "numbers",
            Self::TimeOfDay => "time_of_day",
            Self::Moment => "moment",
            Self::Clock => "clock",
        }
    }

    /// In words: what may be wanted.
    pub fn rule(&self) -> String {
        match self {
            Self::Flag => "is true or false".to_owned(),
            Self::Whole { min, max } => format!("is a whole number from {min} to {max}"),
            Self::Decimal { min, max, decimals } => format!(
                "is a text with a number from {} to {} with at most {decimals} digits behind the point",
                Decimal::new(*min, *decimals),
                Decimal::new(*max, *decimals)
            ),
            Self::Choice(choices) => {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                format!("is one of {}", names.join(", "))
            }
            Self::Address => "is an IPv4 address".to_owned(),
            Self::Text { max } => format!("is a text of at most {max} printable ASCII characters"),
            Self::Numbers { max } => format!("is a list of numbers from 1 to {max}"),
            Self::TimeOfDay => "is a time of day, HH:MM:SS".to_owned(),
            Self::Moment => "is a moment from 2000 to 2099 by the terminal's clock, YYYY-MM-DDTHH:MM:SS".to_owned(),
            Self::Clock => format!("is {NOW:?}"),
        }
    }

    /// The value as it is compared, if it may be wanted.
    ///
    /// # Errors
    /// [`ValueError`] says what may be.
    pub fn wanted(&self, value: &ParameterValue) -> Result<ParameterValue, ValueError> {
        self.settled(value).ok_or_else(|| ValueError(self.rule()))
    }

    fn settled(&self, value: &ParameterValue) -> Option<ParameterValue> {
        let settled = match (self, value) {
            (Self::Flag, ParameterValue::Flag(_)) => value.clone(),
            (Self::Whole { min, max }, ParameterValue::Whole(number)) => {
                (min..=max).contains(&number).then(|| value.clone())?
            }
            (Self::Decimal { min, max, decimals }, ParameterValue::Text(text)) => {
                let mut number: Decimal = text.parse().ok()?;
                let (min, max) = (Decimal::new(*min, *decimals), Decimal::new(*max, *decimals));
                let fits = (min..=max).contains(&number) && number.normalize().scale() <= *decimals;
                number.rescale(*decimals);
                fits.then(|| ParameterValue::Text(number.to_string()))?
            }
            (Self::Choice(choices), ParameterValue::Text(text)) => {
                choices.iter().find(|(name, _)| name == text).map(|_| value.clone())?
            }
            (Self::Address, ParameterValue::Text(text)) => {
                let address: Ipv4Addr = text.parse().ok()?;
                ParameterValue::Text(address.to_string())
            }
            (Self::Text { max }, ParameterValue::Text(text)) => {
                // blanks at the end cannot be told from filling on the wire
                let printable = text.bytes().all(|byte| matches!(byte, 0x20..=0x7E)) && text.trim_end() == text;
                (printable && text.len() <= usize::from(*max)).then(|| value.clone())?
            }
            (Self::Numbers { max }, ParameterValue::Numbers(numbers)) => {
                let all = numbers.iter().all(|number| (1..=*max).contains(number));
                all.then(|| value.clone())?
            }
            (Self::TimeOfDay, ParameterValue::Text(text)) => {
                let time = NaiveTime::parse_from_str(text, TIME_OF_DAY).ok()?;
                ParameterValue::Text(time.format(TIME_OF_DAY).to_string())
            }
            (Self::Moment, ParameterValue::Text(text)) => {
                let at = NaiveDateTime::parse_from_str(text, MOMENT).ok()?;
                let year = chrono::Datelike::year(&at);
                (2000..=2099)
                    .contains(&year)
                    .then(|| ParameterValue::Text(at.format(MOMENT).to_string()))?
            }
            (Self::Clock, ParameterValue::Text(text)) => (text == NOW).then(|| value.clone())?,
            _ => return None,
        };
        Some(settled)
    }
}

/// What settings are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParameterGroup {
    /// How the terminal reaches its master station. A wrong one can lose it for ever: written only when it is named once more.
    Communication,
    /// Its clock.
    Time,
    /// Which events it keeps and reports.
    Events,
    /// From where on it takes something for an event.
    Thresholds,
    /// What it collects and reports of its own accord.
    Tasks,
}

/// Of what a terminal has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Numbered {
    /// One of the terminal itself; its number is 0.
    Terminal,
    /// One of each measuring point.
    MeasuringPoint,
    /// One of each task.
    Task,
}

impl Numbered {
    /// Whether there can be one of this number.
    pub fn has(self, number: u16) -> bool {
        match self {
            Self::Terminal => number == 0,
            Self::MeasuringPoint => (1..=2040).contains(&number),
            Self::Task => (1..=255).contains(&number),
        }
    }
}

/// A setting as people know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Its unit; empty where it has none.
    pub unit: &'static str,
    /// What it is about.
    pub group: ParameterGroup,
    /// Of what there are several.
    pub numbered: Numbered,
    /// Whether it is written, too.
    pub writable: bool,
    /// The item or attribute, as its standard names it.
    pub item: &'static str,
    /// Where it is told.
    pub source: &'static str,
}

impl ParameterSpec {
    /// Whether a wrong value can lose the terminal for ever.
    pub fn is_guarded(&self) -> bool {
        self.group == ParameterGroup::Communication
    }
}

/// A setting that is asked for, and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterAsk {
    /// Its name.
    pub name: String,
    /// Of which measuring point or task; 0: of the terminal.
    #[serde(default)]
    pub number: u16,
    /// What is wanted; none: it is read.
    pub wanted: Option<ParameterValue>,
    /// What it was when somebody agreed to write it; it is written only while it is still that.
    #[serde(default)]
    pub seen: Option<ParameterValue>,
}

/// What a terminal is asked for, or told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterPlan {
    /// The protocol of the names.
    pub protocol: String,
    /// The settings.
    pub asks: Vec<ParameterAsk>,
    /// Write what is wanted, and read it back.
    pub write: bool,
    /// The zone of the terminal's clock.
    pub zone: Tz,
}

/// What became of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParameterOutcome {
    /// It was read, and nothing is wanted.
    Read,
    /// It is what is wanted; nothing was written.
    Same,
    /// It is not what is wanted; nothing was written.
    Differs,
    /// The terminal does not have it, or says something that is no value of it. Nothing was written.
    Absent,
    /// The terminal did not answer. Nothing was written.
    Silent,
    /// It is another than it was when somebody agreed to write it. Nothing was written.
    Changed,
    /// It was written, and read back it is what is wanted.
    Written,
    /// The terminal refused it; `code` says how.
    Refused,
    /// It was written and not refused, and read back it is something else.
    Otherwise,
    /// It was written, and could not be read back.
    Unknown,
}

/// A setting of a terminal, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Parameter {
    /// Its name.
    #[schema(example = "heartbeat")]
    pub name: String,
    /// Of which measuring point or task; 0: of the terminal.
    pub number: u16,
    /// What it is, as it was read last; null: it could not be read.
    pub present: Option<ParameterValue>,
    /// What is wanted.
    pub wanted: Option<ParameterValue>,
    /// What it was before it was written.
    pub before: Option<ParameterValue>,
    /// What became of it.
    pub outcome: ParameterOutcome,
    /// The terminal's error code, where it refused.
    pub code: Option<u8>,
    /// How far the clock was ahead of ours (negative: behind), seconds; of the clock alone.
    pub ahead_s: Option<i64>,
}

impl Parameter {
    /// One of which nothing is known yet.
    pub fn unread(ask: &ParameterAsk, outcome: ParameterOutcome) -> Self {
        Self {
            name: ask.name.clone(),
            number: ask.number,
            present: None,
            wanted: ask.wanted.clone(),
            before: None,
            outcome,
            code: None,
            ahead_s: None,
        }
    }
}

/// How a terminal as a whole stands, by its settings: the worst that became of one.
pub fn verdict(settings: &[Parameter]) -> ParameterOutcome {
    use ParameterOutcome::{Absent, Changed, Differs, Otherwise, Read, Refused, Same, Silent, Unknown, Written};
    const WORST_FIRST: [ParameterOutcome; 9] = [
        Unknown, Otherwise, Refused, Silent, Changed, Differs, Absent, Written, Same,
    ];
    let has = |outcome: &&ParameterOutcome| settings.iter().any(|setting| setting.outcome == **outcome);
    WORST_FIRST.iter().find(has).copied().unwrap_or(Read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> ParameterValue {
        ParameterValue::Text(text.to_owned())
    }

    #[test]
    fn what_is_wanted_is_of_its_kind_and_written_one_way() {
        let decimal = Kind::Decimal {
            min: 0,
            max: 9_999,
            decimals: 1,
        };
        assert_eq!(decimal.wanted(&text("242")), Ok(text("242.0")));
        assert_eq!(decimal.wanted(&text("242.00")), Ok(text("242.0")));
        for wrong in ["1000", "-1", "0.05", "", "1e3x"] {
            assert!(decimal.wanted(&text(wrong)).is_err(), "{wrong}");
        }
        assert!(decimal.wanted(&ParameterValue::Whole(3)).is_err());
        let whole = Kind::Whole { min: 1, max: 255 };
        assert!(whole.wanted(&ParameterValue::Whole(255)).is_ok());
        assert_eq!(
            whole.wanted(&ParameterValue::Whole(256)).unwrap_err().to_string(),
            "is a whole number from 1 to 255"
        );
        assert_eq!(Kind::Address.wanted(&text("10.0.0.1")), Ok(text("10.0.0.1")));
        assert!(Kind::Address.wanted(&text("10.0.0.256")).is_err());
        assert!(Kind::Text { max: 16 }.wanted(&text("CMNET ")).is_err());
        assert!(Kind::Text { max: 16 }.wanted(&text("kö")).is_err());
        assert!(Kind::Clock.wanted(&text("2026-01-01T00:00:00")).is_err());
        assert!(Kind::Clock.wanted(&text(NOW)).is_ok());
        assert!(Kind::Moment.wanted(&text("2126-01-01T00:00:00")).is_err());
        let events = Kind::Numbers { max: 64 };
        assert!(events.wanted(&ParameterValue::Numbers([0].into())).is_err());
        assert!(events.wanted(&ParameterValue::Numbers([1, 64].into())).is_ok());
    }

    #[test]
    fn values_are_told_apart_in_json() {
        for (json, value) in [
            ("true", ParameterValue::Flag(true)),
            ("15", ParameterValue::Whole(15)),
            ("[1,14]", ParameterValue::Numbers([1, 14].into())),
            ("\"15\"", text("15")),
        ] {
            let read: ParameterValue = serde_json::from_str(json).unwrap();
            assert_eq!(read, value);
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
        }
        assert!(serde_json::from_str::<ParameterValue>("1.5").is_err());
        assert!(serde_json::from_str::<ParameterValue>("[300]").is_err());
    }

    #[test]
    fn the_worst_is_told_of_a_terminal() {
        let of = |outcomes: &[ParameterOutcome]| {
            let ask = ParameterAsk {
                name: "heartbeat".to_owned(),
                number: 0,
                wanted: None,
                seen: None,
            };
            let settings: Vec<Parameter> = outcomes
                .iter()
                .map(|outcome| Parameter::unread(&ask, *outcome))
                .collect();
            verdict(&settings)
        };
        use ParameterOutcome::{Otherwise, Read, Refused, Same, Written};
        assert_eq!(of(&[]), Read);
        assert_eq!(of(&[Same, Written]), Written);
        assert_eq!(of(&[Same, Same]), Same);
        assert_eq!(of(&[Written, Refused, Otherwise]), Otherwise);
    }
}
