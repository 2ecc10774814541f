//! Modbus has no question to all: unit after unit is asked for one register. An answer and a refusal are both a sign of
//! life; what the register holds says nothing.

use super::{Found, Heard, Probe, Search};
use crate::protocol::modbus::{self, Function};
use crate::protocol::{Protocol, Request};
use std::time::Duration;

/// Meters answer within 50 ms, gateways in front of them within 200.
const TURNAROUND: Duration = Duration::from_millis(200);

/// See the file's head.
#[derive(Debug)]
pub(super) struct UnitSweep {
    /// Functions still to be tried, with the units of each.
    units: Vec<(Function, u8)>,
    alive: Vec<u8>,
    garbage: Vec<u8>,
}

impl UnitSweep {
    /// Thorough: units that say nothing to a holding register are asked for an input register, too.
    pub(super) fn new((first, last): (u8, u8), thorough: bool) -> Self {
        let units = |function| (first.max(1)..=last.min(modbus::UNIT_MAX)).map(move |unit| (function, unit));
        let mut todo: Vec<_> = units(Function::ReadHoldingRegisters).collect();
        if thorough {
            todo.extend(units(Function::ReadInputRegisters));
        }
        todo.reverse();
        Self {
            units: todo,
            alive: Vec::new(),
            garbage: Vec::new(),
        }
    }
}

impl Search for UnitSweep {
    fn probe(&mut self) -> Option<Probe> {
        while let Some((function, unit)) = self.units.last().copied() {
            if !self.alive.contains(&unit)
                && let Ok(request) = modbus::Request::read(unit, function, 0, 1)
            {
                return Some(Probe {
                    request: Request::Modbus(request),
                    turnaround: TURNAROUND,
                    attempts: 1,
                });
            }
            self.units.pop();
        }
        None
    }

    fn hear(&mut self, heard: Heard<'_>, found: &mut Vec<Found>) {
        let Some((_, unit)) = self.units.pop() else { return };
        let answer = match heard {
            Heard::Silence => return,
            Heard::Garbage => {
                self.garbage.push(unit);
                return;
            }
            Heard::Answer(answer) => answer.to_vec(),
            Heard::Refused => Vec::new(),
        };
        self.alive.push(unit);
        found.push(Found {
            protocol: Protocol::ModbusRtu,
            address: unit.to_string(),
            answer,
        });
    }

    fn left(&self) -> u32 {
        u32::try_from(self.units.len()).unwrap_or(u32::MAX)
    }

    fn note(&self) -> Option<String> {
        let garbage: Vec<String> = self
            .garbage
            .iter()
            .filter(|unit| !self.alive.contains(unit))
            .take(10)
            .map(ToString::to_string)
            .collect();
        (!garbage.is_empty()).then(|| {
            format!(
                "bytes that are no answer came to units {}; two meters with one unit id, or another speed or parity",
                garbage.join(", ")
            )
        })
    }
}
