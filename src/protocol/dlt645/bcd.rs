//! Binary-coded decimal, low byte first, as DL/T 645 sends all its numbers.

/// The most bytes of a number.
const BYTES_MAX: usize = 9;

/// A byte that is not two decimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {index} is {byte:02X}, not two decimal digits")]
pub struct BcdError {
    /// Which byte, from 0 on the wire.
    pub index: usize,
    /// What it is.
    pub byte: u8,
}

/// The number in up to nine bytes, low byte first.
///
/// # Errors
/// [`BcdError`] for the first byte with a digit above 9, and for a tenth byte, which no number here has.
pub fn number(bytes: &[u8]) -> Result<u64, BcdError> {
    let wrong = |(index, byte): (usize, &u8)| *byte >> 4 > 9 || *byte & 0x0F > 9 || index >= BYTES_MAX;
    if let Some((index, byte)) = bytes.iter().enumerate().find(|each| wrong(*each)) {
        return Err(BcdError { index, byte: *byte });
    }
    // 18 digits fit
    Ok(bytes.iter().rev().fold(0, |sum: u64, byte| {
        sum.wrapping_mul(100)
            .wrapping_add(u64::from(*byte >> 4) * 10 + u64::from(*byte & 0x0F))
    }))
}

/// The two digits of one byte.
///
/// # Errors
/// [`BcdError`] when a digit is above 9.
pub fn byte(byte: u8) -> Result<u8, BcdError> {
    if byte >> 4 > 9 || byte & 0x0F > 9 {
        return Err(BcdError { index: 0, byte });
    }
    Ok((byte >> 4) * 10 + (byte & 0x0F))
}

/// Two digits as one byte; of a larger number the last two digits.
pub fn two(number: u8) -> u8 {
    let digits = number % 100;
    ((digits / 10) << 4) | (digits % 10)
}

/// A number as `len` bytes, low byte first; digits that do not fit are cut off, as a counter rolls over.
pub fn bytes(mut number: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len);
    for _ in 0..len {
        // below 100, so it fits
        out.push(two(u8::try_from(number % 100).unwrap_or_default()));
        number /= 100;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_go_there_and_back(value in 0u64..10_000_000_000_000_000, len in 1usize..=8) {
            let cut = value % 100u64.pow(u32::try_from(len).unwrap());
            prop_assert_eq!(number(&bytes(value, len)), Ok(cut));
        }

        #[test]
        fn only_decimal_digits_are_numbers(raw in any::<[u8; 4]>()) {
            let decimal = raw.iter().all(|byte| format!("{byte:02X}").chars().all(|c| c.is_ascii_digit()));
            prop_assert_eq!(number(&raw).is_ok(), decimal);
        }
    }

    #[test]
    fn the_low_byte_comes_first() {
        assert_eq!(number(&[0x56, 0x34, 0x12, 0x00]), Ok(123_456));
        assert_eq!(number(&[0x56, 0x3A]), Err(BcdError { index: 1, byte: 0x3A }));
        assert_eq!((byte(0x59), two(59)), (Ok(59), 0x59));
    }
}
