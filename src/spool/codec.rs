//! What a record says, as bytes: compact, exact (decimals, floats and nanoseconds come back bit for bit), versioned by
//! its first byte. Every struct is taken apart field by field, so that a new field cannot be forgotten here.
//!
//! Closed lists have codes of their own, never the position in the list; quantities go by name. To add a field:
//! raise the version, keep reading the old one.

use crate::base::bytes::{FrameBytes, Reader, ShortRead};
use crate::base::ids::{AccountId, ConnectionId, DtuId, FrameId, FrameRange, MeterId, PollId, ScheduleId};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Item, Measurand, Quality, Reading, Source, Value};
use crate::domain::slot::{MissReason, SlotEnding, SlotState};
use crate::port::frames::{FrameKind, RawFrame, RecordedFrame};
use crate::port::ledger::PollRecord;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use std::borrow::Cow;

pub(super) use ring::{Newest, decode_frame, decode_newest, encode_frame, encode_newest};

const VERSION: u8 = 1;

/// Why a body with a right checksum cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    #[error("the body ends early: {0}")]
    Short(#[from] ShortRead),
    #[error("version {0} of the record format is unknown to this program, which knows {VERSION}")]
    Version(u8),
    #[error("{what} cannot be {found}")]
    Value { what: &'static str, found: String },
    #[error("{0} bytes are left over behind the record")]
    Rest(usize),
}

type Result<T> = std::result::Result<T, CodecError>;

fn wrong<T>(what: &'static str, found: impl std::fmt::Display) -> Result<T> {
    Err(CodecError::Value {
        what,
        found: found.to_string(),
    })
}

/// Something that is written and read back.
trait Field: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn get(from: &mut Reader<'_>) -> Result<Self>;
}

macro_rules! codes {
    ($what:literal $name:ident { $($variant:ident = $code:literal),* $(,)? }) => {
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $(Self::$variant => $code,)* });
            }
            fn get(from: &mut Reader<'_>) -> Result<Self> {
                match from.u8()? {
                    $($code => Ok(Self::$variant),)*
                    other => wrong($what, other),
                }
            }
        }
    };
}

codes!("source" Source { Scheduled = 1, OnDemand = 2, BackFill = 3, Pushed = 4, Manual = 5, Imported = 6 });
codes!("quality" Quality { Measured = 1, Estimated = 2, Substituted = 3, Suspect = 4 });
codes!("slot state" SlotState { Actual = 1, Late = 2, Estimated = 3, Missing = 4 });
codes!("miss reason" MissReason {
    DtuOffline = 1, Timeout = 2, Exception = 3, LineBusy = 4, BreakerOpen = 5, SessionLost = 6, ServerDown = 7,
    Overlap = 8, Undecodable = 9, Partial = 10, NoModel = 11, StorageRefused = 12, Internal = 13, MeterRemoved = 14,
    Overload = 15,
});
codes!("frame kind" FrameKind {
    Request = 1, Answer = 2, Refusal = 3, Stray = 4, Noise = 5, Registration = 6, Heartbeat = 7,
});

/// LEB128, in the arithmetic of the number's own width.
macro_rules! leb128 {
    () => {
        fn put(&self, out: &mut Vec<u8>) {
            let mut left = *self;
            loop {
                let low = u8::try_from(left & 0x7F).unwrap_or(0x7F);
                left >>= 7;
                if left == 0 {
                    out.push(low);
                    return;
                }
                out.push(low | 0x80);
            }
        }
    };
}

impl Field for u128 {
    leb128!();

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let mut value = 0u128;
        for shift in (0..126).step_by(7) {
            let byte = from.u8()?;
            value |= u128::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        wrong("number", "longer than 126 bits")
    }
}

impl Field for u64 {
    leb128!();

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let value = u128::get(from)?;
        Self::try_from(value).or_else(|_| wrong("64-bit number", value))
    }
}

/// Zigzag.
impl Field for i64 {
    fn put(&self, out: &mut Vec<u8>) {
        ((self << 1) ^ (self >> 63)).cast_unsigned().put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let value = u64::get(from)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}

impl Field for i32 {
    fn put(&self, out: &mut Vec<u8>) {
        i64::from(*self).put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let value = i64::get(from)?;
        Self::try_from(value).or_else(|_| wrong("32-bit number", value))
    }
}

impl Field for u16 {
    fn put(&self, out: &mut Vec<u8>) {
        u64::from(*self).put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let value = u64::get(from)?;
        Self::try_from(value).or_else(|_| wrong("16-bit number", value))
    }
}

impl Field for u32 {
    fn put(&self, out: &mut Vec<u8>) {
        u64::from(*self).put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let value = u64::get(from)?;
        Self::try_from(value).or_else(|_| wrong("32-bit number", value))
    }
}

impl Field for usize {
    fn put(&self, out: &mut Vec<u8>) {
        u64::try_from(*self).unwrap_or(u64::MAX).put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let value = u64::get(from)?;
        Self::try_from(value).or_else(|_| wrong("length", value))
    }
}

macro_rules! ids {
    ($($name:ident)*) => {
        $(impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn get(from: &mut Reader<'_>) -> Result<Self> {
                Ok(Self(Field::get(from)?))
            }
        })*
    };
}

ids!(AccountId MeterId DtuId ScheduleId PollId FrameId ConnectionId);

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    bytes.len().put(out);
    out.extend_from_slice(bytes);
}

fn get_bytes<'a>(from: &mut Reader<'a>) -> Result<&'a [u8]> {
    let len = usize::get(from)?;
    Ok(from.take(len)?)
}

fn get_text<'a>(from: &mut Reader<'a>) -> Result<&'a str> {
    std::str::from_utf8(get_bytes(from)?).or_else(|error| wrong("text", error))
}

impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        get_text(from).map(str::to_owned)
    }
}

impl Field for Cow<'static, str> {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        get_text(from).map(|text| Self::Owned(text.to_owned()))
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.put(out);
            }
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        match from.u8()? {
            0 => Ok(None),
            1 => T::get(from).map(Some),
            other => wrong("presence", other),
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.len().put(out);
        for each in self {
            each.put(out);
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let count = usize::get(from)?;
        // no allocation by a claimed length: every element takes at least a byte
        let mut out = Self::with_capacity(count.min(from.rest().len()).min(1024));
        for _ in 0..count {
            out.push(T::get(from)?);
        }
        Ok(out)
    }
}

impl Field for DateTime<Utc> {
    fn put(&self, out: &mut Vec<u8>) {
        self.timestamp().put(out);
        u64::from(self.timestamp_subsec_nanos()).put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let seconds = i64::get(from)?;
        let nanos = u64::get(from)?;
        let instant = u32::try_from(nanos)
            .ok()
            .and_then(|nanos| Self::from_timestamp(seconds, nanos));
        instant.map_or_else(|| wrong("instant", format!("{seconds} s {nanos} ns")), Ok)
    }
}

/// Scale with the sign in its top bit, then the mantissa; minus zero survives.
impl Field for Decimal {
    fn put(&self, out: &mut Vec<u8>) {
        let scale = u8::try_from(self.scale()).unwrap_or(0x7F);
        out.push(scale | if self.is_sign_negative() { 0x80 } else { 0 });
        self.mantissa().unsigned_abs().put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let scale = from.u8()?;
        let mantissa = u128::get(from)?;
        let made = i128::try_from(mantissa)
            .ok()
            .and_then(|mantissa| Self::try_from_i128_with_scale(mantissa, u32::from(scale & 0x7F)).ok());
        let Some(mut decimal) = made else {
            return wrong("decimal", format!("{mantissa} with scale byte {scale}"));
        };
        decimal.set_sign_negative(scale & 0x80 != 0);
        Ok(decimal)
    }
}

impl Field for Value {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Decimal(value) => {
                out.push(1);
                value.put(out);
            }
            Self::F32(value) => {
                out.push(2);
                out.extend_from_slice(&value.to_bits().to_le_bytes());
            }
            Self::F64(value) => {
                out.push(3);
                out.extend_from_slice(&value.to_bits().to_le_bytes());
            }
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        match from.u8()? {
            1 => Decimal::get(from).map(Self::Decimal),
            2 => Ok(Self::F32(f32::from_bits(u32::from_le_bytes(from.array()?)))),
            3 => Ok(Self::F64(f64::from_bits(u64::from_le_bytes(from.array()?)))),
            other => wrong("value", other),
        }
    }
}

impl Field for Measurand {
    fn put(&self, out: &mut Vec<u8>) {
        let (code, name) = match self {
            Self::Standard(quantity) => (1, quantity.name()),
            Self::Vendor(name) => (2, &**name),
        };
        out.push(code);
        put_bytes(name.as_bytes(), out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        match from.u8()? {
            1 => {
                let name = get_text(from)?;
                Quantity::by_name(name).map_or_else(|| wrong("quantity", name), |quantity| Ok(Self::Standard(quantity)))
            }
            2 => get_text(from).map(|name| Self::Vendor(name.into())),
            other => wrong("measurand", other),
        }
    }
}

macro_rules! fields {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($field.put(out);)*
            }
            fn get(from: &mut Reader<'_>) -> Result<Self> {
                $(let $field = Field::get(from)?;)*
                Ok(Self { $($field),* })
            }
        }
    };
}

fields!(Item {
    measurand,
    value,
    quality
});
fields!(FrameRange { first, count });
fields!(Reading {
    account,
    meter,
    ts,
    source,
    read_at,
    meter_time,
    poll,
    frames,
    items
});
fields!(SlotEnding {
    account,
    meter,
    schedule,
    due_at,
    state,
    reason,
    detail,
    attempts,
    ended_at
});
fields!(RecordedFrame { id, frame });
fields!(PollRecord {
    reading,
    endings,
    evidence
});

impl Field for RawFrame {
    fn put(&self, out: &mut Vec<u8>) {
        let Self {
            at,
            dtu,
            connection,
            meter,
            poll,
            kind,
            protocol,
            bytes,
            // the ring writes it behind the frame; evidence does without, so that spools stay readable both ways
            turn: _,
        } = self;
        at.put(out);
        dtu.put(out);
        connection.put(out);
        meter.put(out);
        poll.put(out);
        kind.put(out);
        protocol.put(out);
        put_bytes(bytes, out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            at: Field::get(from)?,
            dtu: Field::get(from)?,
            connection: Field::get(from)?,
            meter: Field::get(from)?,
            poll: Field::get(from)?,
            kind: Field::get(from)?,
            protocol: Field::get(from)?,
            bytes: FrameBytes::from_slice(get_bytes(from)?),
            turn: None,
        })
    }
}

fn encode<T: Field>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.push(VERSION);
    value.put(&mut out);
    out
}

fn decode<T: Field>(bytes: &[u8]) -> Result<T> {
    let mut reader = Reader::new(bytes);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    let value = T::get(&mut reader)?;
    if reader.is_empty() {
        Ok(value)
    } else {
        Err(CodecError::Rest(reader.rest().len()))
    }
}

/// The body of a spool record.
pub(super) fn encode_poll(record: &PollRecord) -> Vec<u8> {
    encode(record)
}

/// Reads a spool record's body.
pub(super) fn decode_poll(body: &[u8]) -> Result<PollRecord> {
    decode(body)
}

// behind the macros, which it uses
mod ring;

#[cfg(test)]
mod tests;
