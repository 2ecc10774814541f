//! The identifiers of DL/T 645-2007, annex A, with those of its supplement on cost control.

use super::super::Di;
use super::{Definition, Form, Format, Part, Period};

/// The number of settlement days that are kept.
const SETTLEMENTS: u8 = 12;
/// The most tariffs.
const TARIFFS: u8 = 63;
const BLOCK: u8 = 0xFF;

const fn number(bytes: u8, decimals: u8) -> Format {
    Format::Number {
        bytes,
        decimals,
        signed: false,
    }
}

const fn signed(bytes: u8, decimals: u8) -> Format {
    Format::Number {
        bytes,
        decimals,
        signed: true,
    }
}

const fn time(form: Form) -> Format {
    Format::Time(form)
}

/// The item of place `index` behind identifier `di`.
pub(super) fn definition(di: u32, index: usize) -> Option<Definition> {
    let index = u8::try_from(index).ok()?;
    match di.to_be_bytes() {
        [0x00, 0x90, kind @ 1..=2, which] if index == 0 => prepaid(di, kind, which),
        [0x00, kind, d1, d0] => energy(kind, d1, d0, index),
        [0x01, kind, d1, d0] => demand(kind, d1, d0, index),
        [0x02, 0x80, 0x00, which] if index == 0 => extra(di, which),
        [0x02, kind @ 0x0A..=0x0B, phase @ 1..=3, order] => harmonic(kind, phase, order, index),
        [0x02, kind, d1, 0x00] => variable(kind, d1, index),
        [0x03, 0x32..=0x33, which, nth] if index == 0 => purchase(di, which, nth),
        [0x03, kind, d1, d0] => event_count(di, [kind, d1, d0], index),
        [0x1D, 0, 0, 1] if index == 0 => one(di, "trips of the relay", "", number(3, 0)),
        [0x1E, 0, 0, 1] if index == 0 => one(di, "closings of the relay", "", number(3, 0)),
        [0x04, 0x00, 0x05, BLOCK] if index < 7 => parameter(0x0400_0501 + u32::from(index)),
        [0x04, 0x00, 0x10, BLOCK] if index < 5 => parameter(0x0400_1001 + u32::from(index)),
        [0x04, kind @ 5..=6, set, which] => price(kind, set, which, index),
        [0x04, ..] if index == 0 => parameter(di),
        [0x05, kind, item, nth @ 1..=0xFE] => freeze(di, kind, item, nth, index),
        [0x07, 0x01, 0x04, BLOCK] => prepaid_block(index),
        _ => None,
    }
}

fn one(di: u32, what: &'static str, unit: &'static str, format: Format) -> Option<Definition> {
    Some(Definition {
        di: Some(Di::E2007(di)),
        what,
        part: Part::Only,
        period: Period::Now,
        unit,
        format,
    })
}

/// What, unit of energy and of demand, whether signed; by DI2.
fn kind_of(kind: u8) -> Option<(&'static str, &'static str, &'static str, bool)> {
    Some(match kind {
        0x00 => ("combined active", "kWh", "kW", true),
        0x01 => ("import active", "kWh", "kW", false),
        0x02 => ("export active", "kWh", "kW", false),
        0x03 => ("combined reactive 1", "kvarh", "kvar", true),
        0x04 => ("combined reactive 2", "kvarh", "kvar", true),
        0x05 => ("reactive quadrant 1", "kvarh", "kvar", false),
        0x06 => ("reactive quadrant 2", "kvarh", "kvar", false),
        0x07 => ("reactive quadrant 3", "kvarh", "kvar", false),
        0x08 => ("reactive quadrant 4", "kvarh", "kvar", false),
        0x09 => ("import apparent", "kVAh", "kVA", false),
        0x0A => ("export apparent", "kVAh", "kVA", false),
        _ => return None,
    })
}

/// Kind and phase of the identifiers by phase: 15 to 1E are 01 to 0A of phase A, 29 of B, 3D of C.
fn phase_of(kind: u8) -> Option<(u8, u8)> {
    match kind {
        0x15..=0x1E => Some((kind - 0x14, 1)),
        0x29..=0x32 => Some((kind - 0x28, 2)),
        0x3D..=0x46 => Some((kind - 0x3C, 3)),
        _ => None,
    }
}

/// Place of tariff and settlement: the values of DI1 and DI0 for item `index` of an identifier or block.
fn place(d1: u8, d0: u8, index: u8) -> Option<(u8, u8)> {
    let (tariff, settlement) = match (d1, d0) {
        (BLOCK, 0..=SETTLEMENTS) => (index, d0),
        (0..=TARIFFS, BLOCK) => (d1, index),
        (0..=TARIFFS, 0..=SETTLEMENTS) if index == 0 => (d1, d0),
        _ => return None,
    };
    (tariff <= TARIFFS && settlement <= SETTLEMENTS).then_some((tariff, settlement))
}

fn period(settlement: u8) -> Period {
    match settlement {
        0 => Period::Now,
        n => Period::Settlement(n),
    }
}

fn energy_name(kind: u8) -> &'static str {
    match kind {
        0x00 => "combined active energy",
        0x01 => "import active energy",
        0x02 => "export active energy",
        0x03 => "combined reactive energy 1",
        0x04 => "combined reactive energy 2",
        0x05 => "reactive energy, quadrant 1",
        0x06 => "reactive energy, quadrant 2",
        0x07 => "reactive energy, quadrant 3",
        0x08 => "reactive energy, quadrant 4",
        0x09 => "import apparent energy",
        _ => "export apparent energy",
    }
}

fn demand_name(kind: u8) -> &'static str {
    match kind {
        0x00 => "combined active maximum demand",
        0x01 => "import active maximum demand",
        0x02 => "export active maximum demand",
        0x03 => "combined reactive maximum demand 1",
        0x04 => "combined reactive maximum demand 2",
        0x05 => "reactive maximum demand, quadrant 1",
        0x06 => "reactive maximum demand, quadrant 2",
        0x07 => "reactive maximum demand, quadrant 3",
        0x08 => "reactive maximum demand, quadrant 4",
        0x09 => "import apparent maximum demand",
        _ => "export apparent maximum demand",
    }
}

fn energy(kind: u8, d1: u8, d0: u8, index: u8) -> Option<Definition> {
    let (tariff, settlement) = place(d1, d0, index)?;
    let di = Some(Di::E2007(u32::from_be_bytes([0x00, kind, tariff, settlement])));
    let special = |what| Definition {
        di,
        what,
        part: Part::Only,
        period: period(settlement),
        unit: "kWh",
        format: signed(4, 2),
    };
    let what = match kind {
        0x0B => "active energy of the settlement period",
        0x0C => "active energy of the month",
        0x80 => "associated total energy",
        0x81 => "import active energy, fundamental",
        0x82 => "export active energy, fundamental",
        0x83 => "import active energy, harmonics",
        0x84 => "export active energy, harmonics",
        0x85 => "copper loss energy",
        0x86 => "iron loss energy",
        _ => {
            let (kind, part) = match phase_of(kind) {
                Some((kind, phase)) if tariff == 0 => (kind, Part::Phase(phase)),
                Some(_) => return None,
                None if tariff == 0 => (kind, Part::Total),
                None => (kind, Part::Tariff(tariff)),
            };
            let (_, unit, _, has_sign) = kind_of(kind)?;
            return Some(Definition {
                di,
                what: energy_name(kind),
                part,
                period: period(settlement),
                unit,
                format: Format::Number {
                    bytes: 4,
                    decimals: 2,
                    signed: has_sign,
                },
            });
        }
    };
    (tariff == 0).then(|| special(what))
}

fn demand(kind: u8, d1: u8, d0: u8, index: u8) -> Option<Definition> {
    let (tariff, settlement) = place(d1, d0, index)?;
    let (of, part) = match phase_of(kind) {
        Some((of, phase)) if tariff == 0 => (of, Part::Phase(phase)),
        Some(_) => return None,
        None if tariff == 0 => (kind, Part::Total),
        None => (kind, Part::Tariff(tariff)),
    };
    let (_, _, unit, _) = kind_of(of)?;
    Some(Definition {
        di: Some(Di::E2007(u32::from_be_bytes([0x01, kind, tariff, settlement]))),
        what: demand_name(of),
        part,
        period: period(settlement),
        unit,
        format: Format::Demand { bytes: 3, decimals: 4 },
    })
}

fn prepaid(di: u32, kind: u8, which: u8) -> Option<Definition> {
    let (what, unit) = match (kind, which) {
        (1, 0) => ("remaining energy", "kWh"),
        (1, 1) => ("overdrawn energy", "kWh"),
        (2, 0) => ("remaining amount", "yuan"),
        (2, 1) => ("overdrawn amount", "yuan"),
        _ => return None,
    };
    one(di, what, unit, number(4, 2))
}

fn variable(kind: u8, d1: u8, index: u8) -> Option<Definition> {
    let (what, unit, format, first) = match kind {
        0x01 => ("voltage", "V", number(2, 1), 1),
        0x02 => ("current", "A", signed(3, 3), 1),
        0x03 => ("active power", "kW", signed(3, 4), 0),
        0x04 => ("reactive power", "kvar", signed(3, 4), 0),
        0x05 => ("apparent power", "kVA", number(3, 4), 0),
        0x06 => ("power factor", "", signed(2, 3), 0),
        0x07 => ("phase angle", "deg", number(2, 1), 1),
        0x08 => ("voltage distortion", "%", number(2, 2), 1),
        0x09 => ("current distortion", "%", number(2, 2), 1),
        _ => return None,
    };
    let phase = match d1 {
        BLOCK => index.checked_add(first)?,
        _ if index == 0 => d1,
        _ => return None,
    };
    if !(first..=3).contains(&phase) {
        return None;
    }
    Some(Definition {
        di: Some(Di::E2007(u32::from_be_bytes([0x02, kind, phase, 0x00]))),
        what,
        part: if phase == 0 { Part::Total } else { Part::Phase(phase) },
        period: Period::Now,
        unit,
        format,
    })
}

fn harmonic(kind: u8, phase: u8, order: u8, index: u8) -> Option<Definition> {
    let order = match order {
        BLOCK => index.checked_add(1)?,
        _ if index == 0 => order,
        _ => return None,
    };
    // 2 to 21 are harmonics, 1 is the fundamental
    (1..=21).contains(&order).then(|| Definition {
        di: Some(Di::E2007(u32::from_be_bytes([0x02, kind, phase, order]))),
        what: if kind == 0x0A {
            "voltage harmonic"
        } else {
            "current harmonic"
        },
        part: Part::Harmonic { phase, order },
        period: Period::Now,
        unit: "%",
        format: number(2, 2),
    })
}

fn extra(di: u32, which: u8) -> Option<Definition> {
    let (what, unit, format) = match which {
        0x01 => ("neutral current", "A", signed(3, 3)),
        0x02 => ("frequency", "Hz", number(2, 2)),
        0x03 => ("average active power of one minute", "kW", signed(3, 4)),
        0x04 => ("active demand now", "kW", signed(3, 4)),
        0x05 => ("reactive demand now", "kvar", signed(3, 4)),
        0x06 => ("apparent demand now", "kVA", signed(3, 4)),
        0x07 => ("temperature inside the meter", "°C", signed(2, 1)),
        0x08 => ("clock battery voltage", "V", number(2, 2)),
        0x09 => ("reading battery voltage", "V", number(2, 2)),
        0x0A => ("time on battery", "min", number(4, 0)),
        0x0B => ("price of the current step", "yuan/kWh", number(4, 4)),
        0x20 => ("current price", "yuan/kWh", number(4, 4)),
        0x21 => ("price of the current tariff", "yuan/kWh", number(4, 4)),
        _ => return None,
    };
    one(di, what, unit, format)
}

fn purchase(di: u32, which: u8, nth: u8) -> Option<Definition> {
    if !(1..=10).contains(&nth) {
        return None;
    }
    let (what, unit, format) = match which {
        0x01 => ("time of purchase", "", time(Form::ToMinute)),
        0x02 => ("purchase count", "", number(2, 0)),
        0x03 => ("purchased", "yuan", number(4, 2)),
        0x04 => ("balance before purchase", "yuan", number(4, 2)),
        0x05 => ("balance after purchase", "yuan", number(4, 2)),
        0x06 => ("purchased in all", "yuan", number(4, 2)),
        _ => return None,
    };
    let unit = if di >> 16 == 0x0332 && unit == "yuan" {
        "kWh"
    } else {
        unit
    };
    one(di, what, unit, format).map(|definition| Definition {
        period: Period::Event(nth),
        ..definition
    })
}

/// Counters of events. Those by phase bring count and minutes of each phase in turn.
fn event_count(di: u32, [kind, d1, d0]: [u8; 3], index: u8) -> Option<Definition> {
    let by_phase = match kind {
        0x01 => Some(("losses of voltage", "minutes without voltage")),
        0x02 => Some(("under-voltages", "minutes of under-voltage")),
        0x03 => Some(("over-voltages", "minutes of over-voltage")),
        0x04 => Some(("phases open", "minutes of open phase")),
        _ => None,
    };
    if let Some((count, minutes)) = by_phase {
        return ((d1, d0) == (0, 0) && index < 6).then(|| Definition {
            di: None,
            what: if index.is_multiple_of(2) { count } else { minutes },
            part: Part::Phase(index / 2 + 1),
            period: Period::Now,
            unit: if index.is_multiple_of(2) { "" } else { "min" },
            format: number(3, 0),
        });
    }
    let what = match (kind, d1, d0) {
        (0x05, 0, 0) if index == 0 => "total losses of voltage",
        (0x05, 0, 0) if index == 1 => "minutes of total loss of voltage",
        (0x06, 0, 0) if index == 0 => "losses of auxiliary supply",
        (0x06, 0, 0) if index == 1 => "minutes without auxiliary supply",
        (0x11, 0, 0) if index == 0 => "power failures",
        (0x30, 0x00, 0) if index == 0 => "programmings",
        (0x30, 0x01, 0) if index == 0 => "clearings of the meter",
        (0x30, 0x02, 0) if index == 0 => "clearings of demand",
        (0x30, 0x03, 0) if index == 0 => "clearings of events",
        (0x30, 0x04, 0) if index == 0 => "settings of the clock",
        (0x30, 0x05, 0) if index == 0 => "programmings of day tables",
        (0x30, 0x06, 0) if index == 0 => "programmings of time zones",
        (0x30, 0x0D, 0) if index == 0 => "openings of the meter cover",
        (0x30, 0x0E, 0) if index == 0 => "openings of the terminal cover",
        _ => return None,
    };
    let unit = if index == 1 { "min" } else { "" };
    one(di, what, unit, number(3, 0))
}

fn parameter(di: u32) -> Option<Definition> {
    let [_, d2, d1, d0] = di.to_be_bytes();
    if d2 != 0 {
        return None;
    }
    let (what, unit, format) = match (d1, d0) {
        (0x01, 0x01) => ("date and weekday", "", time(Form::Date)),
        (0x01, 0x02) => ("time of day", "", time(Form::TimeOfDay)),
        (0x01, 0x03) => ("demand period", "min", number(1, 0)),
        (0x01, 0x04) => ("demand slide time", "min", number(1, 0)),
        (0x01, 0x05) => ("pulse width", "ms", number(2, 0)),
        (0x01, 0x06) => ("switching of the zone tables", "", time(Form::ToMinute)),
        (0x01, 0x07) => ("switching of the day tables", "", time(Form::ToMinute)),
        (0x01, 0x0C) => ("date and time", "", time(Form::ToSecondWithWeekday)),
        (0x02, 0x01) => ("year zones", "", number(1, 0)),
        (0x02, 0x02) => ("day tables", "", number(1, 0)),
        (0x02, 0x03) => ("day slots", "", number(1, 0)),
        (0x02, 0x04) => ("tariffs", "", number(1, 0)),
        (0x02, 0x05) => ("public holidays", "", number(2, 0)),
        (0x02, 0x06) => ("harmonics analysed", "", number(1, 0)),
        (0x02, 0x07) => ("steps", "", number(1, 0)),
        (0x03, 0x01..=0x05) => ("display setting", "", number(1, 0)),
        (0x03, 0x06) => ("current transformer ratio", "", number(3, 0)),
        (0x03, 0x07) => ("voltage transformer ratio", "", number(3, 0)),
        (0x04, 0x01) => ("address", "", Format::Digits(6)),
        (0x04, 0x02) => ("meter number", "", Format::Digits(6)),
        (0x04, 0x03) => ("asset code", "", Format::Text(32)),
        (0x04, 0x04) => ("nominal voltage", "", Format::Text(6)),
        (0x04, 0x05) => ("nominal current", "", Format::Text(6)),
        (0x04, 0x06) => ("maximum current", "", Format::Text(6)),
        (0x04, 0x07) => ("active accuracy class", "", Format::Text(4)),
        (0x04, 0x08) => ("reactive accuracy class", "", Format::Text(4)),
        (0x04, 0x09) => ("active constant", "imp/kWh", number(3, 0)),
        (0x04, 0x0A) => ("reactive constant", "imp/kvarh", number(3, 0)),
        (0x04, 0x0B) => ("meter model", "", Format::Text(10)),
        (0x04, 0x0C) => ("date of production", "", Format::Text(10)),
        (0x04, 0x0D) => ("protocol version", "", Format::Text(16)),
        (0x04, 0x0E) => ("customer number", "", Format::Digits(6)),
        (0x05, 0x01..=0x07) => ("status word", "", Format::Bits(2)),
        (0x06, 0x01) => ("combination of active energy", "", Format::Bits(1)),
        (0x06, 0x02..=0x03) => ("combination of reactive energy", "", Format::Bits(1)),
        (0x07, 0x01..=0x05) => ("speed word of a port", "", Format::Bits(1)),
        (0x08, 0x01) => ("weekly rest days", "", Format::Bits(1)),
        (0x08, 0x02) => ("day table of rest days", "", number(1, 0)),
        (0x09, 0x01..=0x06) => ("load profile and freeze mode", "", Format::Bits(1)),
        (0x0A, 0x01) => ("load profile start", "", time(Form::MonthToMinute)),
        (0x0A, 0x02..=0x07) => ("load profile interval", "min", number(2, 0)),
        (0x0B, 0x01..=0x03) => ("settlement day", "", time(Form::DayHour)),
        (0x0E, 0x01..=0x02) => ("active power limit", "kW", number(3, 4)),
        (0x0E, 0x03..=0x04) => ("voltage limit", "V", number(2, 1)),
        (0x0F, 0x01..=0x02) => ("alarm energy", "kWh", number(4, 2)),
        (0x0F, 0x03) => ("most energy that may be bought", "kWh", number(4, 2)),
        (0x0F, 0x04) => ("energy that may be overdrawn", "kWh", number(4, 2)),
        (0x10, 0x01..=0x02) => ("alarm amount", "yuan", number(4, 2)),
        (0x10, 0x03) => ("amount that may be overdrawn", "yuan", number(4, 2)),
        (0x10, 0x04) => ("most that may be bought", "yuan", number(4, 2)),
        (0x10, 0x05) => ("amount at which closing is allowed", "yuan", number(4, 2)),
        (0x11, 0x01) => ("running feature word", "", Format::Bits(1)),
        (0x12, 0x01) => ("start of hourly freezes", "", time(Form::ToMinute)),
        (0x12, 0x02) => ("interval of hourly freezes", "min", number(1, 0)),
        (0x12, 0x03) => ("time of daily freezes", "", time(Form::HourMinute)),
        (0x14, 0x01) => ("delay before a trip", "min", number(2, 0)),
        _ => return None,
    };
    let part = match format {
        Format::Bits(2) => Part::Number(d0),
        _ if matches!((d1, d0), (0x0B, _) | (0x0F | 0x10, 1..=2)) => Part::Number(d0),
        _ => Part::Only,
    };
    one(di, what, unit, format).map(|definition| Definition { part, ..definition })
}

/// Prices by tariff and by step, in two sets.
fn price(kind: u8, set: u8, which: u8, index: u8) -> Option<Definition> {
    let (what, unit, decimals) = match (kind, set) {
        (5, 1) => ("price, set 1", "yuan/kWh", 4),
        (5, 2) => ("price, set 2", "yuan/kWh", 4),
        (6, 0) => ("step, set 1", "kWh", 2),
        (6, 1) => ("price of step, set 1", "yuan/kWh", 4),
        (6, 2) => ("step, set 2", "kWh", 2),
        (6, 3) => ("price of step, set 2", "yuan/kWh", 4),
        _ => return None,
    };
    let which = match which {
        BLOCK => index.checked_add(1)?,
        _ if index == 0 => which,
        _ => return None,
    };
    (1..=TARIFFS).contains(&which).then(|| Definition {
        di: Some(Di::E2007(u32::from_be_bytes([0x04, kind, set, which]))),
        what,
        part: if kind == 5 {
            Part::Tariff(which)
        } else {
            Part::Number(which)
        },
        period: Period::Now,
        unit,
        format: number(4, decimals),
    })
}

/// Freezes: DI2 the kind, DI1 the item, DI0 how many back.
fn freeze(di: u32, kind: u8, item: u8, nth: u8, index: u8) -> Option<Definition> {
    let name = match kind {
        0x00 => "timed",
        0x01 => "instant",
        0x02 => "zone change",
        0x03 => "day table change",
        0x04 => "hourly",
        0x05 => "step change",
        0x06 => "daily",
        _ => return None,
    };
    let hourly = kind == 0x04;
    let tariff = if index == 0 { Part::Total } else { Part::Tariff(index) };
    let (what, part, unit, format) = match item {
        0x00 if index == 0 => ("time of freeze", Part::Only, "", time(Form::ToMinute)),
        0x01..=0x08 if index <= TARIFFS && !(hourly && index > 0) => {
            let (_, unit, _, has_sign) = kind_of(item)?;
            let format = Format::Number {
                bytes: 4,
                decimals: 2,
                signed: has_sign,
            };
            (energy_name(item), tariff, unit, format)
        }
        0x09..=0x0A if index <= TARIFFS && !hourly => {
            let format = Format::Demand { bytes: 3, decimals: 4 };
            (demand_name(item - 8), tariff, "kW", format)
        }
        0x10 if index < 8 => {
            let part = match index % 4 {
                0 => Part::Total,
                phase => Part::Phase(phase),
            };
            let (what, unit) = if index < 4 {
                ("active power", "kW")
            } else {
                ("reactive power", "kvar")
            };
            (what, part, unit, signed(3, 4))
        }
        _ => return None,
    };
    Some(Definition {
        di: (item == 0 || hourly).then_some(Di::E2007(di)),
        what,
        part,
        period: Period::Freeze(name, nth),
        unit,
        format,
    })
}

/// 070104FF of some makers: their prepayment parameters, 143 bytes in a row.
fn prepaid_block(index: u8) -> Option<Definition> {
    let (what, part, unit, format) = match index {
        0..=3 => ("switching time", Part::Number(index + 1), "", Format::Bytes(5)),
        4..=8 => ("count", Part::Number(index - 3), "", number(1, 0)),
        9 => ("voltage transformer ratio", Part::Only, "", number(3, 0)),
        10 => ("current transformer ratio", Part::Only, "", number(3, 0)),
        11..=12 => ("alarm amount", Part::Number(index - 10), "yuan", number(4, 2)),
        13 => ("amount that may be overdrawn", Part::Only, "yuan", number(4, 2)),
        14 => ("most that may be bought", Part::Only, "yuan", number(4, 2)),
        15 => ("amount at which closing is allowed", Part::Only, "yuan", number(4, 2)),
        16 => ("power limit", Part::Only, "kW", number(3, 4)),
        17 => ("delay before a trip", Part::Only, "s", number(1, 0)),
        18..=21 => ("price, set 1", Part::Tariff(index - 17), "yuan/kWh", number(4, 4)),
        22..=25 => ("price, set 2", Part::Tariff(index - 21), "yuan/kWh", number(4, 4)),
        26..=28 => ("step, set 1", Part::Number(index - 25), "kWh", number(4, 2)),
        29..=32 => (
            "price of step, set 1",
            Part::Number(index - 28),
            "yuan/kWh",
            number(4, 4),
        ),
        33..=35 => ("step, set 2", Part::Number(index - 32), "kWh", number(4, 2)),
        36..=39 => (
            "price of step, set 2",
            Part::Number(index - 35),
            "yuan/kWh",
            number(4, 4),
        ),
        _ => return None,
    };
    Some(Definition {
        di: None,
        what,
        part,
        period: Period::Now,
        unit,
        format,
    })
}
