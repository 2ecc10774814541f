//! The registers that a virtual meter shows: the reverse of decoding.

use super::raw::RawError;
use super::{Point, RegisterProfile};
use crate::domain::reading::{Measurand, Value};
use crate::protocol::modbus::{Body, Function, Reply, Request};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a meter of a model shows on its registers and bits.
#[derive(Clone, Debug)]
pub struct RegisterImage {
    profile: Arc<RegisterProfile>,
    cells: BTreeMap<(Function, u16), u16>,
}

/// Why a value cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The model has no such value.
    #[error("the model has no {0:?}")]
    Unknown(Measurand),
    /// Its registers cannot hold it.
    #[error("{measurand:?}: {source}")]
    Raw {
        /// Which.
        measurand: Measurand,
        /// Why.
        source: RawError,
    },
}

impl RegisterImage {
    /// All zero; the gaps that a read may cross answer zero as well, everything else is an illegal address.
    pub fn new(profile: Arc<RegisterProfile>) -> Self {
        let mut cells = BTreeMap::new();
        for point in &profile.points {
            for address in point.address..=point.last() {
                cells.insert((point.function, address), 0);
            }
        }
        let known: Vec<(Function, u16)> = cells.keys().copied().collect();
        for (left, right) in known.iter().zip(known.iter().skip(1)) {
            let gap = right.1.saturating_sub(left.1).saturating_sub(1);
            if left.0 != right.0 || gap > profile.limits.max_gap {
                continue;
            }
            for address in left.1.saturating_add(1)..right.1 {
                cells.insert((left.0, address), 0);
            }
        }
        for range in &profile.limits.forbidden {
            cells.retain(|(function, address), _| {
                *function != range.function || !(range.first..=range.last).contains(address)
            });
        }
        Self { profile, cells }
    }

    /// Shows a value, given in the canonical unit, rounded to what the registers resolve.
    ///
    /// # Errors
    /// [`ImageError`] when the model has no such value or its registers cannot hold it; nothing changes then.
    pub fn set(&mut self, measurand: &Measurand, value: Value) -> Result<(), ImageError> {
        let profile = Arc::clone(&self.profile);
        let point = Self::point(&profile, measurand)?;
        let before: Vec<u16> = (point.address..=point.last())
            .filter_map(|address| self.cells.get(&(point.function, address)).copied())
            .collect();
        let registers = point.registers(value, &before).map_err(|source| ImageError::Raw {
            measurand: measurand.clone(),
            source,
        })?;
        self.write(point, &registers);
        Ok(())
    }

    /// Shows that there is no value: the model's invalid marker or NaN. False when the model has no way to say so.
    ///
    /// # Errors
    /// [`ImageError::Unknown`] when the model has no such value.
    pub fn clear(&mut self, measurand: &Measurand) -> Result<bool, ImageError> {
        let profile = Arc::clone(&self.profile);
        let point = Self::point(&profile, measurand)?;
        let Some(registers) = point.no_value() else {
            return Ok(false);
        };
        self.write(point, &registers);
        Ok(true)
    }

    fn point<'a>(profile: &'a RegisterProfile, measurand: &Measurand) -> Result<&'a Point, ImageError> {
        let found = profile.points.iter().find(|point| point.measurand == *measurand);
        found.ok_or_else(|| ImageError::Unknown(measurand.clone()))
    }

    fn write(&mut self, point: &Point, registers: &[u16]) {
        for (address, register) in (point.address..=point.last()).zip(registers) {
            self.cells.insert((point.function, address), *register);
        }
    }

    /// What the meter replies. It refuses writes (1, illegal function), addresses that it does not have (2) and more
    /// registers than it gives at once (3).
    pub fn reply(&self, request: &Request) -> Reply {
        let Body::Read {
            function,
            address,
            count,
        } = request.body()
        else {
            return Reply::Exception(1);
        };
        let limits = &self.profile.limits;
        let max = if function.is_bits() {
            limits.max_bits
        } else {
            limits.max_registers
        };
        if *count > max {
            return Reply::Exception(3);
        }
        // the request is valid by construction, so the range does not run past 65535
        let cells: Option<Vec<u16>> = (*address..=address.saturating_add(count - 1))
            .map(|address| self.cells.get(&(*function, address)).copied())
            .collect();
        match cells {
            Some(cells) if function.is_bits() => Reply::Bits(cells.into_iter().map(|cell| cell != 0).collect()),
            Some(cells) => Reply::Registers(cells),
            None => Reply::Exception(2),
        }
    }
}
