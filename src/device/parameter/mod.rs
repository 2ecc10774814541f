//! Which item (Q/GDW 1376.1) or attribute (DL/T 698.45) a setting of a terminal is, and where in it: the catalogue, and what
//! reads and writes one value among the others of its item. What stands beside a value is kept as it came, byte for byte.
//!
//! Only what is published is here, and nothing that decides on supply: power and energy control, its limits and its times belong to
//! the control of relays. No password, no key: what is read here is shown.

pub mod dlt698;
pub mod factory;
pub mod gdw376;

use crate::domain::parameter::{Kind, Numbered, ParameterGroup, ParameterSpec, ParameterValue};
use crate::protocol::Protocol;

/// A setting, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameter {
    /// What it is to people.
    pub spec: ParameterSpec,
    /// Where it stands.
    pub place: Place,
}

/// Where a setting stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// In an item.
    Gdw376(gdw376::Place),
    /// In an attribute.
    Dlt698(dlt698::Place),
}

/// Why a value cannot be read out of, or put into, what a terminal says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// What the terminal says is not laid out so.
    #[error("the terminal says no {0} there")]
    Missing(&'static str),
    /// It says that it has no value, or one that is none.
    #[error("the terminal has no value of {0}")]
    NoValue(&'static str),
    /// The value does not fit the place.
    #[error("{0} does not take this value")]
    Unfit(&'static str),
    /// It is only read.
    #[error("{0} is only read")]
    ReadOnly(&'static str),
}

/// The settings of a protocol; none where it has none.
pub fn catalogue(protocol: Protocol) -> &'static [Parameter] {
    match protocol {
        Protocol::Gdw376 => gdw376::CATALOGUE,
        Protocol::Dlt698 => dlt698::CATALOGUE,
        _ => &[],
    }
}

/// The setting that is called so.
pub fn find(protocol: Protocol, name: &str) -> Option<&'static Parameter> {
    catalogue(protocol).iter().find(|parameter| parameter.spec.name == name)
}

const fn spec(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    group: ParameterGroup,
    (item, source): (&'static str, &'static str),
) -> ParameterSpec {
    ParameterSpec {
        name,
        kind,
        unit,
        group,
        numbered: Numbered::Terminal,
        writable: true,
        item,
        source,
    }
}

/// A code by its name.
fn choice_named(code: u64, choices: &[(&'static str, u8)]) -> ParameterValue {
    let known = choices.iter().find(|(_, known)| u64::from(*known) == code);
    ParameterValue::Text(known.map_or_else(|| format!("code {code}"), |(name, _)| (*name).to_owned()))
}

/// The code of a name.
fn choice_code(name: &str, choices: &[(&'static str, u8)]) -> Option<u64> {
    let known = choices.iter().find(|(known, _)| *known == name);
    known.map(|(_, code)| u64::from(*code))
}

/// Some of the bits of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// The lowest, from 0.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Bits {
    fn mask(self) -> u64 {
        let all = u64::MAX.checked_shl(self.count).map_or(u64::MAX, |above| !above);
        all.checked_shl(self.first).unwrap_or(0)
    }

    fn of(self, whole: u64) -> u64 {
        (whole & self.mask()).checked_shr(self.first).unwrap_or(0)
    }

    /// `whole` with these bits as `value` has them; none where it has more.
    fn put(self, whole: u64, value: u64) -> Option<u64> {
        let placed = value.checked_shl(self.first)?;
        (placed & !self.mask() == 0 && self.of(placed) == value).then_some(whole & !self.mask() | placed)
    }
}

/// Any value of a kind.
#[cfg(test)]
pub(super) fn any_value(kind: &Kind) -> proptest::strategy::BoxedStrategy<ParameterValue> {
    use chrono::{NaiveDate, NaiveTime};
    use proptest::prelude::*;
    let text = |text: String| ParameterValue::Text(text);
    match *kind {
        Kind::Flag => any::<bool>().prop_map(ParameterValue::Flag).boxed(),
        Kind::Whole { min, max } => (min..=max).prop_map(ParameterValue::Whole).boxed(),
        Kind::Decimal { min, max, decimals } => (min..=max)
            .prop_map(move |number| text(rust_decimal::Decimal::new(number, decimals).to_string()))
            .boxed(),
        Kind::Choice(choices) => (0..choices.len())
            .prop_map(move |place| text(choices[place].0.to_owned()))
            .boxed(),
        Kind::Address => any::<[u8; 4]>()
            .prop_map(move |bytes| text(std::net::Ipv4Addr::from(bytes).to_string()))
            .boxed(),
        Kind::Text { max } => proptest::collection::vec(0x21u8..0x7F, 0..=usize::from(max))
            .prop_map(move |bytes| text(String::from_utf8(bytes).unwrap()))
            .boxed(),
        Kind::Numbers { max } => proptest::collection::btree_set(1..=max, 0..=usize::from(max))
            .prop_map(ParameterValue::Numbers)
            .boxed(),
        Kind::TimeOfDay => (0u32..86_400)
            .prop_map(move |second| {
                let time = NaiveTime::from_num_seconds_from_midnight_opt(second, 0).unwrap();
                text(time.format(crate::domain::parameter::TIME_OF_DAY).to_string())
            })
            .boxed(),
        Kind::Moment | Kind::Clock => (0i64..3_155_760_000)
            .prop_map(move |second| {
                let first = NaiveDate::from_ymd_opt(2000, 1, 1)
                    .unwrap()
                    .and_hms_opt(0, 0, 0)
                    .unwrap();
                let at = first + chrono::TimeDelta::seconds(second);
                text(at.format(crate::domain::parameter::MOMENT).to_string())
            })
            .boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_setting_has_a_name_of_its_own_and_says_where_it_is_told() {
        for protocol in [Protocol::Gdw376, Protocol::Dlt698] {
            let mut names = HashSet::new();
            let all = catalogue(protocol);
            assert!(all.len() > 20, "{} of {}", all.len(), protocol.name());
            for parameter in all {
                let spec = &parameter.spec;
                assert!(names.insert(spec.name), "{} twice", spec.name);
                assert!(!spec.source.is_empty() && !spec.item.is_empty(), "{}", spec.name);
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
                assert!(spec.name.bytes().all(plain), "{}", spec.name);
                assert_eq!(find(protocol, spec.name), Some(parameter));
            }
        }
        assert!(catalogue(Protocol::Mbus).is_empty());
    }

    #[test]
    fn what_moves_a_master_station_is_guarded() {
        for protocol in [Protocol::Gdw376, Protocol::Dlt698] {
            for name in [
                "master_address",
                "master_port",
                "apn",
                "heartbeat",
                "attempts",
                "work_mode",
                "transport",
            ] {
                assert!(find(protocol, name).unwrap().spec.is_guarded(), "{name}");
            }
            assert!(!find(protocol, "clock").unwrap().spec.is_guarded());
        }
    }

    #[test]
    fn bits_are_taken_and_put() {
        let attempts = Bits { first: 12, count: 2 };
        assert_eq!((attempts.of(0x3FFF), attempts.put(0xFFFF, 1)), (3, Some(0xDFFF)));
        assert_eq!(attempts.put(0, 4), None);
        assert_eq!(Bits { first: 0, count: 64 }.put(7, u64::MAX), Some(u64::MAX));
    }
}
