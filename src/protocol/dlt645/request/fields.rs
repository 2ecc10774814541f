//! Freezes, speeds and times, as questions say them.

use super::{Edition, RequestError, bcd};
use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};

/// When to freeze; what is not said is any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreezeAt {
    /// Month 1 to 12: once a year.
    pub month: Option<u8>,
    /// Day 1 to 31: once a month.
    pub day: Option<u8>,
    /// Hour 0 to 23: once a day.
    pub hour: Option<u8>,
    /// Minute 0 to 59: once an hour. None: now.
    pub minute: Option<u8>,
}

/// Speed of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Speed {
    /// 600 bit/s
    B600,
    /// 1200 bit/s
    B1200,
    /// 2400 bit/s
    B2400,
    /// 4800 bit/s
    B4800,
    /// 9600 bit/s
    B9600,
    /// 19200 bit/s; not in 1997
    B19200,
}

impl FreezeAt {
    pub(super) fn check(self) -> Result<(), RequestError> {
        let parts = [
            (self.month, 1..=12),
            (self.day, 1..=31),
            (self.hour, 0..=23),
            (self.minute, 0..=59),
        ];
        // once a part is said, all finer ones are
        let finer_said = parts
            .windows(2)
            .all(|pair| matches!(pair, [(coarse, _), (fine, _)] if coarse.is_none() || fine.is_some()));
        let valid = parts
            .iter()
            .all(|(part, range)| part.is_none_or(|part| range.contains(&part)));
        if finer_said && valid {
            Ok(())
        } else {
            Err(RequestError::Time(format!("{self:?}")))
        }
    }

    /// mm hh DD MM, 99 for any.
    pub(super) fn wire(self) -> [u8; 4] {
        [self.minute, self.hour, self.day, self.month].map(|part| part.map_or(0x99, bcd::two))
    }
}

impl Speed {
    /// Every speed.
    pub const ALL: &'static [Self] = &[
        Self::B600,
        Self::B1200,
        Self::B2400,
        Self::B4800,
        Self::B9600,
        Self::B19200,
    ];

    /// Bits per second.
    pub fn bits_per_second(self) -> u32 {
        match self {
            Self::B600 => 600,
            Self::B1200 => 1200,
            Self::B2400 => 2400,
            Self::B4800 => 4800,
            Self::B9600 => 9600,
            Self::B19200 => 19200,
        }
    }

    /// The characteristic word: one bit a speed (2007, 5.2.4.8); in 1997 the row begins with 300, so each speed stands a bit
    /// higher.
    pub fn word(self, edition: Edition) -> u8 {
        let bit = match self {
            Self::B600 => 1,
            Self::B1200 => 2,
            Self::B2400 => 3,
            Self::B4800 => 4,
            Self::B9600 => 5,
            Self::B19200 => 6,
        };
        match edition {
            Edition::E1997 => 2 << bit,
            Edition::E2007 => 1 << bit,
        }
    }

    pub(super) fn by_word(edition: Edition, word: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|speed| speed.word(edition) == word)
    }
}

/// ss mm hh DD MM YY.
pub(in crate::protocol::dlt645) fn clock(time: NaiveDateTime) -> [u8; 6] {
    let two = |number: u32| bcd::two(u8::try_from(number % 100).unwrap_or_default());
    let year = u32::try_from(time.year().rem_euclid(100)).unwrap_or_default();
    [
        two(time.second()),
        two(time.minute()),
        two(time.hour()),
        two(time.day()),
        two(time.month()),
        two(year),
    ]
}

/// The time of ss mm hh DD MM YY.
pub(in crate::protocol::dlt645) fn clock_of(bytes: [u8; 6]) -> Result<NaiveDateTime, RequestError> {
    let wrong = || RequestError::Time(crate::base::hex::encode(&bytes));
    let mut parts = [0u8; 6];
    for (part, byte) in parts.iter_mut().zip(bytes) {
        *part = bcd::byte(byte).map_err(|_| wrong())?;
    }
    let [second, minute, hour, day, month, year] = parts;
    NaiveDate::from_ymd_opt(2000 + i32::from(year), month.into(), day.into())
        .and_then(|date| date.and_hms_opt(hour.into(), minute.into(), second.into()))
        .ok_or_else(wrong)
}
