//! The relay and the parameters of a Modbus meter, as its model names them. No register is guessed: a model without
//! `[relay]` cannot be switched.

use super::parse_point::{Defaults, function as read_function, point};
use super::{Point, code};
use crate::device::fault::Faults;
use crate::device::fields::{At, Fields};
use crate::device::relay::{Judgement, RelayError};
use crate::domain::reading::Measurand;
use crate::protocol::modbus::Function;
use rust_decimal::Decimal;
use serde::Serialize;

/// The relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RelayProfile {
    /// The function that writes it: 5 or 15 for a coil, 6 or 16 for a register.
    #[serde(serialize_with = "code")]
    pub write: Function,
    /// The coil or register, from 0.
    pub address: u16,
    /// What disconnects; of a coil 0 or 1.
    pub disconnect: u16,
    /// What reconnects.
    pub reconnect: u16,
    /// Where it shows how it stands.
    pub read_back: ReadBack,
    /// Registers that hold the meter's own number, read before each relay frame.
    pub identity: Option<Identity>,
}

/// Where a relay shows how it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ReadBack {
    /// The function that reads it, 1 to 4.
    #[serde(serialize_with = "code")]
    pub function: Function,
    /// The address, from 0.
    pub address: u16,
    /// The bits that count.
    pub mask: u16,
    /// What they are when the supply is off.
    pub off: u16,
    /// What they are when it is on.
    pub on: u16,
}

/// Registers that hold the meter's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The function that reads them, 3 or 4.
    #[serde(serialize_with = "code")]
    pub function: Function,
    /// The first.
    pub address: u16,
    /// How many.
    pub count: u16,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Where it stands and what it means.
    pub point: Point,
    /// The function that writes it; none: it can only be read.
    #[serde(serialize_with = "maybe_code")]
    pub write: Option<Function>,
    /// The least that may be written.
    pub min: Option<Decimal>,
    /// The most.
    pub max: Option<Decimal>,
}

fn maybe_code<S: serde::Serializer>(function: &Option<Function>, serializer: S) -> Result<S::Ok, S::Error> {
    function.map(Function::code).serialize(serializer)
}

impl ReadBack {
    /// What a coil or register says of the supply, against what was wanted.
    ///
    /// # Errors
    /// [`RelayError::Undecodable`] when it says neither on nor off.
    pub fn judge(&self, cell: u16, wanted_off: bool) -> Result<Judgement, RelayError> {
        let shown = cell & self.mask;
        let off = if shown == self.off {
            true
        } else if shown == self.on {
            false
        } else {
            let text = format!("the relay shows 0x{cell:04X}, which is neither on nor off");
            return Err(RelayError::Undecodable(text));
        };
        let said = format!("supply {} (0x{cell:04X})", if off { "off" } else { "on" });
        Ok(if off == wanted_off {
            Judgement::AsWanted { said }
        } else {
            Judgement::Otherwise { said }
        })
    }
}

/// Reads `[relay]`.
pub(super) fn relay(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Option<RelayProfile> {
    let span = table.span.clone();
    let coil = table.integer(faults, "coil", 0..=0xFFFF);
    let register = table.integer(faults, "register", 0..=0xFFFF);
    let address = match (&coil, &register) {
        (Some(at), None) | (None, Some(at)) => number(at),
        _ => {
            faults.add(
                &span,
                "a relay is a coil or a register",
                "give either `coil` or `register`",
            );
            None
        }
    };
    let is_coil = coil.is_some();
    let (plain, several) = if is_coil { (5, 15) } else { (6, 16) };
    let write = table.integer(faults, "write", 0..=127);
    if let Some(at) = write.as_ref().filter(|at| at.value != plain && at.value != several) {
        faults.add(
            &at.span,
            "this function does not write it",
            format!("use {plain} or {several}"),
        );
    }
    let write = Function::by_code(u8::try_from(write.map_or(plain, |at| at.value)).ok()?);
    let top = if is_coil { 1 } else { 0xFFFF };
    let mut value = |key| {
        let found = table.integer(faults, key, 0..=top);
        table.need(faults, key, found).as_ref().and_then(number)
    };
    let (disconnect, reconnect) = (value("disconnect"), value("reconnect"));
    if disconnect.is_some() && disconnect == reconnect {
        faults.add(
            &span,
            "`disconnect` and `reconnect` are the same",
            "correct one of them",
        );
    }
    let back = table.table(faults, "read_back");
    let back = table
        .need(faults, "read_back", back)
        .and_then(|back| read_back(faults, back));
    let identity = table
        .table(faults, "identity")
        .and_then(|table| identity(faults, table));
    table.finish(faults);
    Some(RelayProfile {
        write: write?,
        address: address?,
        disconnect: disconnect?,
        reconnect: reconnect?,
        read_back: back?,
        identity,
    })
}

fn number(at: &At<i64>) -> Option<u16> {
    u16::try_from(at.value).ok()
}

fn read_back(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Option<ReadBack> {
    let function = read_function(faults, &mut table);
    let function = table.need(faults, "function", function);
    let mut value = |key, needed: bool| {
        let found = table.integer(faults, key, 0..=0xFFFF);
        let found = if needed { table.need(faults, key, found) } else { found };
        found.as_ref().and_then(number)
    };
    let (address, off, on) = (value("address", true), value("off", true), value("on", true));
    let mask = value("mask", false).unwrap_or(0xFFFF);
    if let (Some(off), Some(on)) = (off, on)
        && (off == on || off & mask != off || on & mask != on)
    {
        faults.add(
            &table.span,
            "`off` and `on` cannot be told apart within `mask`",
            "correct them",
        );
    }
    table.finish(faults);
    Some(ReadBack {
        function: function?,
        address: address?,
        mask,
        off: off?,
        on: on?,
    })
}

fn identity(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Option<Identity> {
    let function = read_function(faults, &mut table);
    let function = table.need(faults, "function", function);
    if function.is_some_and(Function::is_bits) {
        faults.add(&table.span, "bits hold no number", "use function 3 or 4");
    }
    let address = table.integer(faults, "address", 0..=0xFFFF);
    let address = table.need(faults, "address", address).as_ref().and_then(number);
    let count = table.integer(faults, "count", 1..=16);
    let count = table.need(faults, "count", count).as_ref().and_then(number);
    table.finish(faults);
    Some(Identity {
        function: function?,
        address: address?,
        count: count?,
    })
}

/// Reads `[[parameter]]`.
pub(super) fn parameters(
    faults: &mut Faults<'_>,
    tables: Vec<Fields<'_, '_>>,
    defaults: &Defaults,
    relay: Option<&RelayProfile>,
) -> Vec<Parameter> {
    let mut parameters: Vec<Parameter> = Vec::new();
    for mut table in tables {
        let span = table.span.clone();
        let write = table.integer(faults, "write", 0..=127);
        let (min, max) = (table.decimal(faults, "min"), table.decimal(faults, "max"));
        let write = write.and_then(|at| {
            let function = u8::try_from(at.value).ok().and_then(Function::by_code);
            let function = function.filter(|function| !function.is_read());
            if function.is_none() {
                faults.add(&at.span, "this function does not write", "use 5, 6, 15 or 16");
            }
            function
        });
        let Some(point) = point(faults, table, defaults) else {
            continue;
        };
        let Measurand::Vendor(name) = &point.measurand else {
            faults.add(&span, "a parameter is no quantity", "name it with `vendor = …`");
            continue;
        };
        if parameters.iter().any(|other| other.name == **name) {
            faults.add(&span, format!("parameter {name} is given twice"), "keep one of them");
        }
        if write.is_some_and(|write| write.is_bits() != point.function.is_bits()) || point.bits.is_some() {
            faults.add(
                &span,
                "this cannot be written",
                "write coils with 5 or 15, whole registers with 6 or 16",
            );
        }
        // what moves the relay goes by commands of its own, with all that guards them
        if let (Some(write), Some(relay)) = (write, relay)
            && write.is_bits() == relay.write.is_bits()
            && (point.address..=point.last()).contains(&relay.address)
        {
            faults.add(&span, "the parameter covers the relay", "leave it out");
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
