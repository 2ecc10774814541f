//! Bodies of `/dtus` and their checks.

use super::ApiState;
use super::accounts::check_zone;
use super::body::nullable;
use super::problem::{ApiError, Faults};
use super::schedule_form::ScheduleRef;
use crate::domain::device::{Connect, Parity, SerialNumber};
use crate::port::dtus::NewDtu;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Deserialize;
use utoipa::ToSchema;

const NAME_MAX: usize = 200;
const ADDRESS_MAX: usize = 260;
const PROFILE_MAX: usize = 400;

/// How a DTU is reached (the shape of [`Connect`] for the API description).
#[derive(ToSchema)]
#[schema(as = Connect)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ConnectShape {
    /// It dials us and says its SN.
    Inbound,
    /// We dial a transparent converter.
    Dial {
        /// `HOST:PORT`.
        address: String,
    },
    /// We dial a Modbus TCP meter or gateway.
    ModbusTcp {
        /// `HOST:PORT`.
        address: String,
    },
    /// A serial port of the server.
    Serial {
        /// E.g. `/dev/ttyUSB0`.
        device: String,
        /// Bits per second, 300 to 921600.
        baud: u32,
        /// `none`, `even` or `odd`.
        #[schema(value_type = String)]
        parity: Parity,
    },
}

/// A new DTU.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DtuCreate {
    /// Its serial number; only `modbus_tcp` and `serial` do without.
    #[schema(value_type = Option<String>, example = "DTU20260001", max_length = 80)]
    pub(super) sn: Option<SerialNumber>,
    /// Its name.
    #[schema(min_length = 1, max_length = 200)]
    pub(super) name: String,
    /// How it is reached; `inbound` when left out.
    #[schema(value_type = Option<ConnectShape>)]
    pub(super) connect: Option<Connect>,
    /// A registration profile to pin; left out or `auto`: the recogniser learns.
    pub(super) profile: Option<String>,
    /// IANA zone; the account's when left out.
    pub(super) time_zone: Option<String>,
    /// The schedule of its meters that have none of their own: the id of one, or one made in place.
    pub(super) schedule: Option<ScheduleRef>,
    /// Silence after which its session is dead, seconds; 180 when left out.
    #[schema(minimum = 10, maximum = 86400)]
    pub(super) silence_s: Option<u32>,
    /// Reply time-out of its line, milliseconds; 2000 when left out.
    #[schema(minimum = 10, maximum = 120_000)]
    pub(super) timeout_ms: Option<u32>,
    /// Pause between a reply and the next request, milliseconds; 50 when left out.
    #[schema(minimum = 0, maximum = 60_000)]
    pub(super) pause_ms: Option<u32>,
}

impl DtuCreate {
    /// The DTU that it asks for; `zone` is for a schedule in place that names none.
    pub(super) fn checked(self, state: &ApiState, zone: Tz, now: DateTime<Utc>) -> Result<NewDtu, ApiError> {
        let connect = self.connect.unwrap_or(Connect::Inbound);
        let mut faults = Faults::new();
        Checked {
            name: Some(&self.name),
            connect: Some(&connect),
            profile: self.profile.as_deref(),
            time_zone: self.time_zone.as_deref(),
            silence_s: self.silence_s,
            timeout_ms: self.timeout_ms,
            pause_ms: self.pause_ms,
        }
        .check(state, &mut faults);
        faults.check(
            self.sn.is_some() || matches!(connect, Connect::ModbusTcp { .. } | Connect::Serial { .. }),
            "sn",
            "a DTU that is reached this way needs its serial number",
        );
        let schedule = self
            .schedule
            .and_then(|schedule| schedule.choice("schedule", &self.name, zone, now, &mut faults));
        faults.done()?;
        Ok(NewDtu {
            sn: self.sn,
            name: self.name.trim().to_owned(),
            connect,
            profile: pinned(self.profile),
            time_zone: self.time_zone,
            schedule,
            silence_s: self.silence_s,
            timeout_ms: self.timeout_ms,
            pause_ms: self.pause_ms,
        })
    }
}

/// What to change of a DTU.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DtuPatch {
    /// Its serial number.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 80)]
    pub(super) sn: Option<Option<SerialNumber>>,
    /// Its name.
    #[schema(min_length = 1, max_length = 200)]
    pub(super) name: Option<String>,
    /// How it is reached.
    #[schema(value_type = Option<ConnectShape>)]
    pub(super) connect: Option<Connect>,
    /// A registration profile to pin; null or `auto`: the recogniser learns.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    pub(super) profile: Option<Option<String>>,
    /// IANA zone; null: the account's.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    pub(super) time_zone: Option<Option<String>>,
    /// The schedule of its meters that have none of their own: an id, one made in place, or null for the account's.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<ScheduleRef>)]
    pub(super) schedule: Option<Option<ScheduleRef>>,
    /// Silence after which its session is dead, seconds.
    #[schema(minimum = 10, maximum = 86400)]
    pub(super) silence_s: Option<u32>,
    /// Reply time-out of its line, milliseconds.
    #[schema(minimum = 10, maximum = 120_000)]
    pub(super) timeout_ms: Option<u32>,
    /// Pause between a reply and the next request, milliseconds.
    #[schema(minimum = 0, maximum = 60_000)]
    pub(super) pause_ms: Option<u32>,
    /// Whether it is let in at the port.
    pub(super) enabled: Option<bool>,
}

/// What both bodies share, for checking.
pub(super) struct Checked<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) connect: Option<&'a Connect>,
    pub(super) profile: Option<&'a str>,
    pub(super) time_zone: Option<&'a str>,
    pub(super) silence_s: Option<u32>,
    pub(super) timeout_ms: Option<u32>,
    pub(super) pause_ms: Option<u32>,
}

impl Checked<'_> {
    pub(super) fn check(&self, state: &ApiState, faults: &mut Faults) {
        if let Some(name) = self.name {
            faults.text("name", name, NAME_MAX);
        }
        if let Some(connect) = self.connect {
            check_connect(faults, connect);
        }
        if let Some(profile) = self.profile {
            faults.check(
                profile.len() <= PROFILE_MAX,
                "profile",
                format!("must have at most {PROFILE_MAX} bytes"),
            );
            faults.take("profile", (state.check_profile)(profile));
        }
        if let Some(zone) = self.time_zone {
            check_zone(faults, "time_zone", zone);
        }
        let numbers = [
            ("silence_s", self.silence_s, 10..=86_400),
            ("timeout_ms", self.timeout_ms, 10..=120_000),
            ("pause_ms", self.pause_ms, 0..=60_000),
        ];
        for (field, value, range) in numbers {
            if let Some(value) = value {
                let (low, high) = (range.start(), range.end());
                faults.check(
                    range.contains(&value),
                    field,
                    format!("must lie between {low} and {high}, this is {value}"),
                );
            }
        }
    }
}

fn check_connect(faults: &mut Faults, connect: &Connect) {
    match connect {
        Connect::Inbound => {}
        Connect::Dial { address } | Connect::ModbusTcp { address } => {
            faults.take("connect.address", check_address(address));
        }
        Connect::Serial { device, baud, .. } => {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | ':');
            faults.check(
                device.strip_prefix("/dev/").is_some_and(|rest| !rest.is_empty())
                    && device.len() <= ADDRESS_MAX
                    && device.chars().all(plain)
                    && !device.contains(".."),
                "connect.device",
                "must be a serial port of the server, such as /dev/ttyUSB0",
            );
            faults.check(
                (300..=921_600).contains(baud),
                "connect.baud",
                format!("must lie between 300 and 921600, this is {baud}"),
            );
        }
    }
}

/// `HOST:PORT`; an IPv6 address stands in brackets.
fn check_address(address: &str) -> Result<(), &'static str> {
    const WRONG: &str = "must be HOST:PORT, such as 192.0.2.7:502 or [2001:db8::7]:502";
    let (host, port) = address.rsplit_once(':').ok_or(WRONG)?;
    let port_fits = port.parse::<u16>().is_ok_and(|port| port > 0);
    let host_fits = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        }
    };
    if port_fits && host_fits && address.len() <= ADDRESS_MAX {
        Ok(())
    } else {
        Err(WRONG)
    }
}

/// `auto` is the same as none.
pub(super) fn pinned(profile: Option<String>) -> Option<String> {
    profile.filter(|profile| profile != "auto")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_host_and_port() {
        for good in ["192.0.2.7:502", "meter-7.example.org:8899", "[2001:db8::7]:502"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in [
            "192.0.2.7",
            ":502",
            "a:0",
            "a:65536",
            "a b:1",
            "2001:db8::7:502",
            "[x]:5",
            "a/b:1",
            "http://a:1",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
