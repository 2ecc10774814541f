//! Days and times as they stand in attributes and services (DL/T 698.45-2017, 7.3.1): the device's own local time, each
//! field of which may be left open.

use super::wire::sequence;
use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use std::fmt;

/// Stands in a field of a time that is not specified.
const UNSPECIFIED: u8 = 0xFF;

sequence! {
    /// A moment in the device's local time, with day of week and milliseconds (date_time).
    #[derive(Copy, PartialOrd, Ord)]
    pub struct DateTime {
        /// The year; FFFF: not specified, as FF in the other fields.
        pub year: u16,
        /// 1 to 12.
        pub month: u8,
        /// 1 to 31.
        pub day: u8,
        /// 0 is Sunday.
        pub weekday: u8,
        /// 0 to 23.
        pub hour: u8,
        /// 0 to 59.
        pub minute: u8,
        /// 0 to 59.
        pub second: u8,
        /// 0 to 999; FFFF: not specified.
        pub millisecond: u16,
    }
}

sequence! {
    /// A moment in the device's local time, to the second (date_time_s).
    #[derive(Copy, PartialOrd, Ord)]
    pub struct DateTimeS {
        /// The year; FFFF: not specified, as FF in the other fields.
        pub year: u16,
        /// 1 to 12.
        pub month: u8,
        /// 1 to 31.
        pub day: u8,
        /// 0 to 23.
        pub hour: u8,
        /// 0 to 59.
        pub minute: u8,
        /// 0 to 59.
        pub second: u8,
    }
}

sequence! {
    /// A day.
    #[derive(Copy)]
    pub struct Date {
        /// The year.
        pub year: u16,
        /// 1 to 12.
        pub month: u8,
        /// 1 to 31.
        pub day: u8,
        /// 0 is Sunday.
        pub weekday: u8,
    }
}

sequence! {
    /// A time of day.
    #[derive(Copy)]
    pub struct Time {
        /// 0 to 23.
        pub hour: u8,
        /// 0 to 59.
        pub minute: u8,
        /// 0 to 59.
        pub second: u8,
    }
}

fn year_of(year: i32) -> u16 {
    u16::try_from(year).unwrap_or(u16::MAX)
}

/// A number below 256 by construction.
fn byte(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(UNSPECIFIED)
}

impl DateTime {
    /// Of a local time. Fractions of a millisecond fall away; a leap second is that before it.
    pub fn of(time: NaiveDateTime) -> Self {
        let s = DateTimeS::of(time);
        let millisecond = u16::try_from(time.and_utc().timestamp_subsec_millis().min(999)).unwrap_or(999);
        Self {
            year: s.year,
            month: s.month,
            day: s.day,
            weekday: byte(time.weekday().num_days_from_sunday()),
            hour: s.hour,
            minute: s.minute,
            second: s.second,
            millisecond,
        }
    }

    /// The local time; none where a field is not specified or is none that a clock shows.
    pub fn naive(self) -> Option<NaiveDateTime> {
        let day = NaiveDate::from_ymd_opt(self.year.into(), self.month.into(), self.day.into())?;
        let millisecond = Some(self.millisecond).filter(|ms| *ms < 1000)?;
        day.and_hms_milli_opt(
            self.hour.into(),
            self.minute.into(),
            self.second.into(),
            millisecond.into(),
        )
    }
}

impl DateTimeS {
    /// Of a local time; what is less than a second falls away.
    pub fn of(time: NaiveDateTime) -> Self {
        Self {
            year: year_of(time.year()),
            month: byte(time.month()),
            day: byte(time.day()),
            hour: byte(time.hour()),
            minute: byte(time.minute()),
            second: byte(time.second()),
        }
    }

    /// Midnight at which a day begins.
    pub fn midnight(day: NaiveDate) -> Self {
        Self {
            year: year_of(day.year()),
            month: byte(day.month()),
            day: byte(day.day()),
            hour: 0,
            minute: 0,
            second: 0,
        }
    }

    /// The local time; none where a field is not specified or is none that a clock shows.
    pub fn naive(self) -> Option<NaiveDateTime> {
        let day = NaiveDate::from_ymd_opt(self.year.into(), self.month.into(), self.day.into())?;
        day.and_hms_opt(self.hour.into(), self.minute.into(), self.second.into())
    }
}

/// A field of so many digits; `??` where it is not specified.
fn field(f: &mut fmt::Formatter<'_>, before: &str, value: u8) -> fmt::Result {
    f.write_str(before)?;
    match value {
        UNSPECIFIED => f.write_str("??"),
        value => write!(f, "{value:02}"),
    }
}

fn day(f: &mut fmt::Formatter<'_>, year: u16, month: u8, day: u8) -> fmt::Result {
    match year {
        u16::MAX => f.write_str("????")?,
        year => write!(f, "{year:04}")?,
    }
    field(f, "-", month)?;
    field(f, "-", day)
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        day(f, self.year, self.month, self.day)?;
        if self.weekday != UNSPECIFIED {
            write!(f, " wd{}", self.weekday)?;
        }
        field(f, " ", self.hour)?;
        field(f, ":", self.minute)?;
        field(f, ":", self.second)?;
        match self.millisecond {
            u16::MAX => Ok(()),
            ms => write!(f, ".{ms:03}"),
        }
    }
}

impl fmt::Display for DateTimeS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        day(f, self.year, self.month, self.day)?;
        field(f, " ", self.hour)?;
        field(f, ":", self.minute)?;
        field(f, ":", self.second)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        day(f, self.year, self.month, self.day)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        field(f, "", self.hour)?;
        field(f, ":", self.minute)?;
        field(f, ":", self.second)
    }
}
