//! Between registers and numbers: orders, types, bit fields, BCD, exactly and both ways.

use super::{BitField, DataType, Encoding, Order, Point};
use crate::domain::quantity::Kind;
use crate::domain::reading::Value;
use rust_decimal::prelude::{FromPrimitive, ToPrimitive};
use rust_decimal::{Decimal, RoundingStrategy};

/// Why registers hold no usable number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RawError {
    /// The meter says so: an invalid marker, NaN or infinity.
    #[error("the meter says that it has no value")]
    NoValue,
    /// A nibble above 9 where decimal digits should be.
    #[error("0x{0:X} is not binary coded decimal")]
    NotBcd(u64),
    /// More digits than a decimal holds.
    #[error("the number is too large to be a register's value")]
    TooLarge,
    /// The value does not fit into the registers.
    #[error("the value does not fit into {0}")]
    DoesNotFit(&'static str),
    /// Too few registers; a fault of the caller.
    #[error("{0} registers are too few")]
    TooFew(usize),
}

/// A float on its way to a value.
enum Number {
    Exact(Decimal),
    Float(f64),
}

impl Point {
    /// The value in the canonical unit that registers (or one bit, as 0 or 1) hold.
    ///
    /// # Errors
    /// [`RawError`] when they hold none.
    pub fn value(&self, registers: &[u16]) -> Result<Value, RawError> {
        if registers.len() != usize::from(self.data.count()) {
            return Err(RawError::TooFew(registers.len()));
        }
        let pattern = self.pattern(registers);
        if self.invalid.contains(&pattern) {
            return Err(RawError::NoValue);
        }
        match self.data {
            DataType::F32 => {
                // the type has 32 bits, so nothing is lost
                let raw = f32::from_bits(u32::try_from(pattern).map_err(|_| RawError::TooLarge)?);
                self.float(raw.into(), || raw.to_string())
                    .and_then(|number| match number {
                        Number::Exact(exact) if self.is_register() => Ok(Value::Decimal(exact)),
                        Number::Exact(exact) => exact
                            .to_string()
                            .parse()
                            .map_err(|_| RawError::TooLarge)
                            .map(Value::F32),
                        Number::Float(wide) if (wide as f32).is_finite() => Ok(Value::F32(wide as f32)),
                        Number::Float(_) => Err(RawError::TooLarge),
                    })
            }
            DataType::F64 => {
                let raw = f64::from_bits(pattern);
                self.float(raw, || raw.to_string()).and_then(|number| match number {
                    Number::Exact(exact) if self.is_register() => Ok(Value::Decimal(exact)),
                    Number::Exact(exact) => exact
                        .to_string()
                        .parse()
                        .map_err(|_| RawError::TooLarge)
                        .map(Value::F64),
                    Number::Float(wide) => Ok(Value::F64(wide)),
                })
            }
            _ => self.integer(pattern),
        }
    }

    /// The bits in order, most significant first.
    fn pattern(&self, registers: &[u16]) -> u64 {
        let join = |pattern: u64, register: &u16| {
            let register = match self.byte_order {
                Order::Big => *register,
                Order::Little => register.swap_bytes(),
            };
            pattern << 16 | u64::from(register)
        };
        match self.word_order {
            Order::Big => registers.iter().fold(0, join),
            Order::Little => registers.iter().rev().fold(0, join),
        }
    }

    fn integer(&self, pattern: u64) -> Result<Value, RawError> {
        let pattern = match self.bits {
            Some(field) => field.of(pattern),
            None => pattern,
        };
        let bits = 16 * u32::from(self.data.count());
        let number = match self.data {
            DataType::I16 | DataType::I32 | DataType::I64 => {
                let unused = 64 - bits;
                i128::from((pattern << unused).cast_signed() >> unused)
            }
            DataType::Bcd16 | DataType::Bcd32 | DataType::Bcd64 => bcd(pattern)?,
            _ => i128::from(pattern),
        };
        let number = Decimal::try_from_i128_with_scale(number, 0).map_err(|_| RawError::TooLarge)?;
        let value = number.checked_mul(self.factor).ok_or(RawError::TooLarge)?;
        Ok(Value::Decimal(self.decoded(value)))
    }

    fn is_register(&self) -> bool {
        self.quantity()
            .is_some_and(|quantity| quantity.kind() == Kind::Register)
    }

    fn decoded(&self, value: Decimal) -> Decimal {
        match self.encoding {
            Encoding::FourQuadrant if value > Decimal::ONE => Decimal::TWO - value,
            Encoding::FourQuadrant if value < Decimal::NEGATIVE_ONE => -Decimal::TWO - value,
            Encoding::FourQuadrant | Encoding::Plain => value,
        }
    }

    /// A float times the factor, by way of the shortest decimal that it prints as: 0.2044 kvar are 204.4 var, not
    /// 204.40001. Floats that no decimal holds are multiplied as they are, unless they are registers.
    fn float(&self, raw: f64, printed: impl FnOnce() -> String) -> Result<Number, RawError> {
        if !raw.is_finite() {
            return Err(RawError::NoValue);
        }
        if !self.is_register() && self.factor == Decimal::ONE && self.encoding == Encoding::Plain {
            return Ok(Number::Float(raw));
        }
        let printed = printed();
        let exact = Decimal::from_str_exact(&printed)
            .ok()
            .and_then(|number| number.checked_mul(self.factor));
        if let Some(exact) = exact {
            return Ok(Number::Exact(self.decoded(exact)));
        }
        if self.is_register() {
            // what is smaller than the last digit of a decimal is zero; what is larger than the first is an error
            let rounded: Decimal = printed.parse().map_err(|_| RawError::TooLarge)?;
            return rounded
                .checked_mul(self.factor)
                .map(Number::Exact)
                .ok_or(RawError::TooLarge);
        }
        let wide = raw * self.factor.to_f64().ok_or(RawError::TooLarge)?;
        if wide.is_finite() {
            Ok(Number::Float(wide))
        } else {
            Err(RawError::TooLarge)
        }
    }

    /// The registers that show a value given in the canonical unit; the reverse of [`Point::value`], rounded to what
    /// the registers resolve. Bit fields are laid over `before`.
    ///
    /// # Errors
    /// [`RawError::DoesNotFit`] when the type cannot hold it.
    pub fn registers(&self, value: Value, before: &[u16]) -> Result<Vec<u16>, RawError> {
        let misfit = RawError::DoesNotFit(self.data.name());
        if self.data.is_float() {
            let wide = match value {
                Value::Decimal(value) => (value / self.factor).to_f64().ok_or(misfit)?,
                Value::F32(value) => f64::from(value) / self.factor.to_f64().ok_or(misfit)?,
                Value::F64(value) => value / self.factor.to_f64().ok_or(misfit)?,
            };
            return Ok(self.split(match self.data {
                // rounded to what the register resolves
                DataType::F32 => u64::from((wide as f32).to_bits()),
                _ => wide.to_bits(),
            }));
        }
        let value = match value {
            Value::Decimal(value) => value,
            Value::F32(value) => Decimal::from_f32(value).ok_or(misfit)?,
            Value::F64(value) => Decimal::from_f64(value).ok_or(misfit)?,
        };
        let number = value
            .checked_div(self.factor)
            .map(|number| number.round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero))
            .and_then(|number| number.to_i128())
            .ok_or(misfit)?;
        let pattern = self.pack(number).ok_or(misfit)?;
        Ok(match self.bits {
            Some(field) => {
                let around = if before.len() == usize::from(self.data.count()) {
                    self.pattern(before)
                } else {
                    0
                };
                self.split(field.lay(around, pattern).ok_or(misfit)?)
            }
            None => self.split(pattern),
        })
    }

    /// The registers that say "no value", if the model knows any.
    pub fn no_value(&self) -> Option<Vec<u16>> {
        match (self.invalid.first(), self.data) {
            (Some(pattern), _) => Some(self.split(*pattern)),
            (None, DataType::F32) => Some(self.split(f32::NAN.to_bits().into())),
            (None, DataType::F64) => Some(self.split(f64::NAN.to_bits())),
            _ => None,
        }
    }

    fn pack(&self, number: i128) -> Option<u64> {
        let bits = 16 * u32::from(self.data.count());
        let all = u64::MAX >> (64 - bits);
        match self.data {
            DataType::Bit => u64::try_from(number).ok().filter(|bit| *bit <= 1),
            DataType::I16 | DataType::I32 | DataType::I64 => {
                let number = i64::try_from(number).ok()?;
                let unused = 64 - bits;
                let pattern = number.cast_unsigned() & all;
                ((pattern << unused).cast_signed() >> unused == number).then_some(pattern)
            }
            DataType::Bcd16 | DataType::Bcd32 | DataType::Bcd64 => to_bcd(number).filter(|pattern| *pattern <= all),
            _ => u64::try_from(number).ok().filter(|pattern| *pattern <= all),
        }
    }

    fn split(&self, pattern: u64) -> Vec<u16> {
        let count = usize::from(self.data.count());
        let words = pattern.to_be_bytes();
        let mut registers: Vec<u16> = words
            .as_chunks::<2>()
            .0
            .iter()
            .skip(4 - count)
            .map(|pair| match self.byte_order {
                Order::Big => u16::from_be_bytes(*pair),
                Order::Little => u16::from_le_bytes(*pair),
            })
            .collect();
        if self.word_order == Order::Little {
            registers.reverse();
        }
        registers
    }
}

impl BitField {
    fn mask(self) -> u64 {
        // width is 1 to 64, checked when the model is loaded
        u64::MAX.checked_shr(64 - u32::from(self.width)).unwrap_or(0)
    }

    fn of(self, pattern: u64) -> u64 {
        pattern.checked_shr(self.offset.into()).unwrap_or(0) & self.mask()
    }

    fn lay(self, around: u64, value: u64) -> Option<u64> {
        let hole = self.mask().checked_shl(self.offset.into())?;
        (value <= self.mask()).then_some(around & !hole | value.checked_shl(self.offset.into())?)
    }
}

fn bcd(pattern: u64) -> Result<i128, RawError> {
    (0..16)
        .rev()
        .map(|nibble| pattern >> (4 * nibble) & 0xF)
        .try_fold(0, |number, digit| match digit {
            0..=9 => Ok(number * 10 + i128::from(digit)),
            _ => Err(RawError::NotBcd(pattern)),
        })
}

fn to_bcd(number: i128) -> Option<u64> {
    let mut rest = u64::try_from(number)
        .ok()
        .filter(|number| *number < 10_000_000_000_000_000)?;
    let mut pattern = 0;
    for nibble in 0..16 {
        pattern |= (rest % 10) << (4 * nibble);
        rest /= 10;
    }
    Some(pattern)
}

#[cfg(test)]
#[path = "raw_tests.rs"]
mod tests;
