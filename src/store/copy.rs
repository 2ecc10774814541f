//! The encoder for `COPY … WITH (FORMAT binary)`: PostgreSQL manual, COPY, "Binary Format"; numeric as in
//! src/backend/utils/adt/numeric.c, `numeric_recv`.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

/// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
const EPOCH_US: i64 = 946_684_800_000_000;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Rows of one COPY, growing in one buffer.
#[derive(Debug)]
pub(crate) struct CopyBuffer {
    bytes: Vec<u8>,
}

impl CopyBuffer {
    /// An empty one with room for about `len` bytes of rows.
    pub(crate) fn new(len: usize) -> Self {
        let mut bytes = Vec::with_capacity(SIGNATURE.len() + len + len / 8);
        bytes.extend_from_slice(SIGNATURE);
        Self { bytes }
    }

    /// Bytes that wait in it.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes out what is whole rows so far; what follows continues it.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let room = self.bytes.capacity();
        std::mem::replace(&mut self.bytes, Vec::with_capacity(room))
    }

    /// Begins a row of `fields` fields; exactly so many must follow.
    pub(crate) fn row(&mut self, fields: usize) {
        let fields = i16::try_from(fields).unwrap_or(i16::MAX);
        self.bytes.extend_from_slice(&fields.to_be_bytes());
    }

    /// NULL.
    pub(crate) fn null(&mut self) {
        self.bytes.extend_from_slice(&(-1i32).to_be_bytes());
    }

    /// `smallint`.
    pub(crate) fn i16(&mut self, value: i16) {
        self.field(&value.to_be_bytes());
    }

    /// `int`.
    pub(crate) fn i32(&mut self, value: i32) {
        self.field(&value.to_be_bytes());
    }

    /// `bigint`.
    pub(crate) fn i64(&mut self, value: i64) {
        self.field(&value.to_be_bytes());
    }

    /// `real`.
    pub(crate) fn f32(&mut self, value: f32) {
        self.field(&value.to_be_bytes());
    }

    /// `double precision`.
    pub(crate) fn f64(&mut self, value: f64) {
        self.field(&value.to_be_bytes());
    }

    /// `timestamptz`, to the microsecond.
    pub(crate) fn timestamp(&mut self, value: DateTime<Utc>) {
        self.i64(value.timestamp_micros().saturating_sub(EPOCH_US));
    }

    /// `text`.
    pub(crate) fn text(&mut self, value: &str) {
        self.field(value.as_bytes());
    }

    /// `jsonb`: version 1 and the text.
    pub(crate) fn jsonb(&mut self, text: &str) {
        let length = i32::try_from(text.len().saturating_add(1)).unwrap_or(i32::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.push(1);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// `numeric`: base-10000 digits, most significant first, aligned to the decimal point.
    pub(crate) fn numeric(&mut self, value: Decimal) {
        let scale = value.scale();
        let fraction_groups = scale.div_ceil(4);
        // at most 2^96 × 1000: far below 2^128
        let mut rest = value
            .mantissa()
            .unsigned_abs()
            .saturating_mul(10u128.pow(fraction_groups * 4 - scale));
        // least significant first; 2^96 × 1000 has nine groups
        let (mut room, mut count) = ([0u16; 10], 0);
        while let Some(group) = room.get_mut(count).filter(|_| rest > 0) {
            let (above, low) = match u64::try_from(rest) {
                Ok(short) => (u128::from(short / 10_000), short % 10_000),
                Err(_) => (rest / 10_000, u64::try_from(rest % 10_000).unwrap_or(0)),
            };
            *group = u16::try_from(low).unwrap_or(0);
            (rest, count) = (above, count + 1);
        }
        let groups = room.get(..count).unwrap_or(&room);
        let above_point = i32::try_from(groups.len()).unwrap_or(0) - fraction_groups.cast_signed();
        let zeros = groups.iter().take_while(|group| **group == 0).count();
        let digits = groups.len() - zeros;
        let weight = if digits == 0 { 0 } else { above_point - 1 };
        let sign: u16 = if value.is_sign_negative() && digits > 0 {
            0x4000
        } else {
            0
        };

        let length = 8 + 2 * i32::try_from(digits).unwrap_or(0);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes
            .extend_from_slice(&u16::try_from(digits).unwrap_or(0).to_be_bytes());
        self.bytes
            .extend_from_slice(&i16::try_from(weight).unwrap_or(0).to_be_bytes());
        self.bytes.extend_from_slice(&sign.to_be_bytes());
        self.bytes
            .extend_from_slice(&u16::try_from(scale).unwrap_or(0).to_be_bytes());
        for group in groups.iter().skip(zeros).rev() {
            self.bytes.extend_from_slice(&group.to_be_bytes());
        }
    }

    /// Ends the data.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&(-1i16).to_be_bytes());
        self.bytes
    }

    fn field(&mut self, value: &[u8]) {
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a numeric back as the server would: Σ digit × 10000^(weight - i).
    fn read(bytes: &[u8]) -> (Decimal, u16) {
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let (digits, weight, sign, scale) = (word(4), word(6).cast_signed(), word(8), word(10));
        assert_eq!(bytes.len(), 12 + 2 * usize::from(digits));
        let mut sum = Decimal::ZERO;
        for i in 0..digits {
            let digit = Decimal::from(word(12 + 2 * usize::from(i)));
            let power = i32::from(weight) - i32::from(i);
            let unit = if power >= 0 {
                Decimal::from(10_000i128.pow(power.unsigned_abs()))
            } else {
                Decimal::from_i128_with_scale(1, 4 * power.unsigned_abs())
            };
            sum += digit * unit;
        }
        if sign == 0x4000 {
            sum.set_sign_negative(true);
        }
        (sum, scale)
    }

    fn numeric(value: Decimal) -> Vec<u8> {
        let mut buffer = CopyBuffer { bytes: Vec::new() };
        buffer.numeric(value);
        buffer.bytes
    }

    #[test]
    fn known_numerics() {
        // 12345.678 = 1·10000 + 2345 + 6780/10000
        let bytes = numeric("12345.678".parse().unwrap());
        assert_eq!(
            bytes,
            [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1a, 0x7c]
        );
        // zero has no digits but keeps its scale
        assert_eq!(numeric("0.00".parse().unwrap()), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2]);
        // the longest there is, 2^96 - 1
        assert_eq!(
            numeric(Decimal::MAX)[4..],
            [
                0, 8, 0, 7, 0, 0, 0, 0, 0, 7, 0x24, 0x0c, 0x06, 0x59, 0x05, 0x92, 0x10, 0xf1, 0x17, 0x2f, 0x11, 0x2b,
                0x01, 0x4f
            ]
        );
        // 0.0001 is one digit with weight -1
        assert_eq!(
            numeric("0.0001".parse().unwrap()),
            [0, 0, 0, 10, 0, 1, 0xff, 0xff, 0, 0, 0, 4, 0, 1]
        );
    }

    proptest! {
        #[test]
        fn numerics_read_back(mantissa in any::<i64>(), scale in 0u32..16) {
            let value = Decimal::new(mantissa, scale);
            let (back, back_scale) = read(&numeric(value));
            prop_assert_eq!(back, value);
            prop_assert_eq!(u32::from(back_scale), scale);
        }
    }
}
