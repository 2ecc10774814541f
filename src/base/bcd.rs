//! Packed decimal digits (BCD), two a byte, as Chinese meter protocols and M-Bus write numbers.

/// The most bytes that are read or written as one number: 18 digits fit `u64`.
const BYTES_MAX: usize = 9;

/// Why bytes are not packed decimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BcdError {
    /// A half byte of 10 to 15.
    #[error("byte {found:02X} at offset {offset} is not two decimal digits")]
    Digit {
        /// Its place, from 0.
        offset: usize,
        /// The byte.
        found: u8,
    },
    /// More digits than a number holds.
    #[error("{0} bytes of decimal digits are more than 9")]
    Long(usize),
}

/// One byte as two digits; none if a half is above 9.
pub fn byte(packed: u8) -> Option<u8> {
    let (high, low) = (packed >> 4, packed & 0x0F);
    (high < 10 && low < 10).then_some(high * 10 + low)
}

/// 0 to 99 as one byte; none above.
pub fn pack(value: u8) -> Option<u8> {
    (value < 100).then_some(((value / 10) << 4) | (value % 10))
}

/// The number whose lowest digits stand in the first byte.
///
/// # Errors
/// [`BcdError`] names the first byte that is not decimal.
pub fn low_first(bytes: &[u8]) -> Result<u64, BcdError> {
    if bytes.len() > BYTES_MAX {
        return Err(BcdError::Long(bytes.len()));
    }
    let mut number = 0;
    for (offset, found) in bytes.iter().copied().enumerate().rev() {
        let digits = byte(found).ok_or(BcdError::Digit { offset, found })?;
        number = number * 100 + u64::from(digits);
    }
    Ok(number)
}

/// The reverse; none where the number has more digits than `len` bytes hold.
pub fn to_low_first(number: u64, len: usize) -> Option<Vec<u8>> {
    let mut rest = number;
    let mut bytes = Vec::with_capacity(len.min(BYTES_MAX));
    for _ in 0..len {
        let digits = u8::try_from(rest % 100).ok()?;
        bytes.push(pack(digits)?);
        rest /= 100;
    }
    (rest == 0 && len <= BYTES_MAX).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_read_back(number in 0u64..1_000_000_000_000, spare in 0usize..3) {
            let bytes = to_low_first(number, 6 + spare).unwrap();
            prop_assert_eq!(low_first(&bytes), Ok(number));
        }

        #[test]
        fn every_byte_is_two_digits_or_refused(packed in any::<u8>()) {
            let decimal = format!("{packed:02X}").parse::<u8>().ok();
            prop_assert_eq!(byte(packed), decimal);
            prop_assert_eq!(decimal.and_then(pack), decimal.map(|_| packed));
        }
    }

    #[test]
    fn what_is_not_decimal_is_named() {
        assert_eq!(low_first(&[0x56, 0x34, 0x12]), Ok(123_456));
        assert_eq!(
            low_first(&[0x56, 0x3A, 0x12]),
            Err(BcdError::Digit { offset: 1, found: 0x3A })
        );
        assert_eq!(low_first(&[0; 10]), Err(BcdError::Long(10)));
        assert_eq!(to_low_first(100, 1), None);
        assert_eq!(to_low_first(u64::MAX, 10), None);
    }
}
