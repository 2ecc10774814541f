//! The parameters of a DL/T 645 meter, as its model names them: numbers behind identifiers that are read, and written with
//! the password of the configuration. What the model does not name is not written.

use super::Point;
use super::parse::point;
use crate::device::fault::Faults;
use crate::device::fields::Fields;
use crate::domain::reading::Measurand;
use crate::protocol::dlt645::items::{Format, Value};
use crate::protocol::dlt645::{Di, Edition};
use rust_decimal::Decimal;
use serde::Serialize;

/// A parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Where it stands and what it means.
    pub point: Point,
    /// Whether it can be written.
    pub write: bool,
    /// The least that may be written.
    pub min: Option<Decimal>,
    /// The most.
    pub max: Option<Decimal>,
}

/// Why a value cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// It can only be read.
    #[error("{0} can only be read")]
    ReadOnly(String),
    /// No number.
    #[error("{name} takes a decimal number, not {text:?}")]
    NoNumber {
        /// Which.
        name: String,
        /// What was given.
        text: String,
    },
    /// Outside its bounds.
    #[error("{name} takes {min} to {max}, not {value}")]
    OutOfBounds {
        /// Which.
        name: String,
        /// The least.
        min: String,
        /// The most.
        max: String,
        /// What was given.
        value: Decimal,
    },
    /// The form has not so many digits.
    #[error("{name} cannot hold {value} exactly")]
    DoesNotFit {
        /// Which.
        name: String,
        /// What was given.
        value: Decimal,
    },
    /// What came is no number of this form.
    #[error("{name}: {what}")]
    Undecodable {
        /// Which.
        name: String,
        /// What is wrong.
        what: String,
    },
}

impl Parameter {
    /// A number as people write it.
    ///
    /// # Errors
    /// [`ParameterError::NoNumber`].
    pub fn number(&self, text: &str) -> Result<Decimal, ParameterError> {
        Decimal::from_str_exact(text.trim()).map_err(|_| ParameterError::NoNumber {
            name: self.name.clone(),
            text: text.to_owned(),
        })
    }

    /// The bytes that write a value.
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn bytes(&self, text: &str) -> Result<Vec<u8>, ParameterError> {
        if !self.write {
            return Err(ParameterError::ReadOnly(self.name.clone()));
        }
        let value = self.number(text)?;
        if self.min.is_some_and(|min| value < min) || self.max.is_some_and(|max| value > max) {
            let bound = |bound: Option<Decimal>| bound.map_or_else(|| "any".to_owned(), |bound| bound.to_string());
            return Err(ParameterError::OutOfBounds {
                name: self.name.clone(),
                min: bound(self.min),
                max: bound(self.max),
                value,
            });
        }
        let unfit = || ParameterError::DoesNotFit {
            name: self.name.clone(),
            value,
        };
        let raw = value.checked_div(self.point.factor).ok_or_else(unfit)?;
        let bytes = self.point.format.write(&Value::Number(raw)).ok_or_else(unfit)?;
        // digits that the form has not are not rounded away
        if self.value(&bytes).ok() == Some(value) {
            Ok(bytes)
        } else {
            Err(unfit())
        }
    }

    /// The value that bytes say.
    ///
    /// # Errors
    /// [`ParameterError::Undecodable`].
    pub fn value(&self, bytes: &[u8]) -> Result<Decimal, ParameterError> {
        let undecodable = |what: String| ParameterError::Undecodable {
            name: self.name.clone(),
            what,
        };
        match self.point.format.read(bytes) {
            Ok(Value::Number(number)) => number
                .checked_mul(self.point.factor)
                .ok_or_else(|| undecodable("the number is too large".to_owned())),
            Ok(Value::None) => Err(undecodable("the meter has no value".to_owned())),
            Ok(_) => Err(undecodable("it is no number".to_owned())),
            Err(error) => Err(undecodable(error.to_string())),
        }
    }
}

/// Whether an identifier is one that no parameter may write: passwords (04000Cnn) and the relay of 1997.
fn guarded(di: Di) -> bool {
    match di {
        Di::E2007(number) => number >> 8 == 0x04_000C,
        Di::E1997(number) => number == 0xC028,
    }
}

/// Reads `[[parameter]]`.
pub(super) fn parameters(
    faults: &mut Faults<'_>,
    tables: Vec<Fields<'_, '_>>,
    edition: Edition,
    clock: &[Di],
) -> Vec<Parameter> {
    let mut parameters: Vec<Parameter> = Vec::new();
    for mut table in tables {
        let span = table.span.clone();
        let write = table.flag(faults, "write").is_some_and(|at| at.value);
        let (min, max) = (table.decimal(faults, "min"), table.decimal(faults, "max"));
        let Some(point) = point(faults, table, edition) else {
            continue;
        };
        let Measurand::Vendor(name) = &point.measurand else {
            faults.add(&span, "a parameter is no quantity", "name it with `vendor = …`");
            continue;
        };
        if parameters.iter().any(|other| other.name == **name) {
            faults.add(&span, format!("parameter {name} is given twice"), "keep one of them");
        }
        if !matches!(point.format, Format::Number { .. }) || point.bits.is_some() {
            faults.add(&span, "a parameter is a whole number", "name another identifier");
            continue;
        }
        if write && (guarded(point.di) || clock.contains(&point.di)) {
            let what = format!("{} cannot be written as a parameter", point.di);
            faults.add(&span, what, "it has commands of its own, or none");
        }
        parameters.push(Parameter {
            name: name.to_string(),
            write,
            min: min.map(|at| at.value),
            max: max.map(|at| at.value),
            point,
        });
    }
    parameters
}
