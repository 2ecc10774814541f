//! The identifiers of DL/T 645-1997, annex A.

use super::super::Di;
use super::{Definition, Form, Format, Part, Period};

const BLOCK: u8 = 0x0F;

const fn number(bytes: u8, decimals: u8) -> Format {
    Format::Number {
        bytes,
        decimals,
        signed: false,
    }
}

/// The item of place `index` behind identifier `di`.
pub(super) fn definition(di: u16, index: usize) -> Option<Definition> {
    let index = u8::try_from(index).ok()?;
    let [d1, d0] = di.to_be_bytes();
    let (high, low) = (d0 >> 4, d0 & 0x0F);
    match d1 {
        // 9x energies, Ax demands, Bx their times; bits 3 and 2 the month, bit 0 reactive
        0x90..=0x9B | 0xA0..=0xAB | 0xB0 | 0xB1 | 0xB4 | 0xB5 | 0xB8 | 0xB9 => register(d1, high, low, index),
        0xB6 => variable(high, low, index),
        0xB2 | 0xB3 | 0xC0..=0xC2 if index == 0 => parameter(di),
        _ => None,
    }
}

fn register(d1: u8, high: u8, low: u8, index: u8) -> Option<Definition> {
    let months_ago = d1 >> 2 & 3;
    let reactive = match d1 & 3 {
        0 => false,
        1 => true,
        _ => return None,
    };
    let tariff = match low {
        BLOCK => index,
        _ if index == 0 => low,
        _ => return None,
    };
    if tariff >= BLOCK || months_ago > 2 {
        return None;
    }
    let direction = match (reactive, high) {
        (_, 1) => 0,
        (_, 2) => 1,
        (true, 3) => 2,
        (true, 4) => 5,
        (true, 5) => 3,
        (true, 6) => 4,
        _ => return None,
    };
    const ENERGIES: [&str; 6] = [
        "import reactive energy",
        "export reactive energy",
        "reactive energy, quadrant 1",
        "reactive energy, quadrant 2",
        "reactive energy, quadrant 3",
        "reactive energy, quadrant 4",
    ];
    const DEMANDS: [&str; 6] = [
        "import reactive maximum demand",
        "export reactive maximum demand",
        "reactive maximum demand, quadrant 1",
        "reactive maximum demand, quadrant 2",
        "reactive maximum demand, quadrant 3",
        "reactive maximum demand, quadrant 4",
    ];
    let (what, unit, format) = match (d1 >> 4, reactive, direction) {
        (0x9, false, 0) => ("import active energy", "kWh", number(4, 2)),
        (0x9, false, _) => ("export active energy", "kWh", number(4, 2)),
        (0x9, true, n) => (ENERGIES.get(n).copied()?, "kvarh", number(4, 2)),
        (0xA, false, 0) => ("import active maximum demand", "kW", number(3, 4)),
        (0xA, false, _) => ("export active maximum demand", "kW", number(3, 4)),
        (0xA, true, n) => (DEMANDS.get(n).copied()?, "kvar", number(3, 4)),
        (_, false, 0) => (
            "time of import active maximum demand",
            "",
            Format::Time(Form::MonthToMinute),
        ),
        (_, false, _) => (
            "time of export active maximum demand",
            "",
            Format::Time(Form::MonthToMinute),
        ),
        (_, true, _) => ("time of reactive maximum demand", "", Format::Time(Form::MonthToMinute)),
    };
    Some(Definition {
        di: Some(Di::E1997(u16::from_be_bytes([d1, high << 4 | tariff]))),
        what,
        part: if tariff == 0 { Part::Total } else { Part::Tariff(tariff) },
        period: match months_ago {
            0 => Period::Now,
            n => Period::Settlement(n),
        },
        unit,
        format,
    })
}

fn variable(high: u8, low: u8, index: u8) -> Option<Definition> {
    let (what, unit, format, first) = match high {
        1 => ("voltage", "V", number(2, 0), 1),
        2 => ("current", "A", number(2, 2), 1),
        3 => ("active power", "kW", number(3, 4), 0),
        4 => ("reactive power", "kvar", number(2, 2), 0),
        5 => ("power factor", "", number(2, 3), 0),
        _ => return None,
    };
    let phase = match low {
        BLOCK => index.checked_add(first)?,
        _ if index == 0 => low,
        _ => return None,
    };
    // B634 and B635 of a block are the power limits
    let (what, part) = match (high, phase) {
        (_, 0) if first == 0 => (what, Part::Total),
        (_, 1..=3) => (what, Part::Phase(phase)),
        (3, 4) => ("import active power limit", Part::Only),
        (3, 5) => ("export active power limit", Part::Only),
        _ => return None,
    };
    Some(Definition {
        di: Some(Di::E1997(u16::from_be_bytes([0xB6, high << 4 | phase]))),
        what,
        part,
        period: Period::Now,
        unit,
        format,
    })
}

fn parameter(di: u16) -> Option<Definition> {
    let (what, unit, format) = match di {
        0xB210 => ("last programming", "", Format::Time(Form::MonthToMinute)),
        0xB211 => ("last clearing of demand", "", Format::Time(Form::MonthToMinute)),
        0xB212 => ("programmings", "", number(2, 0)),
        0xB213 => ("clearings of demand", "", number(2, 0)),
        0xB214 => ("time on battery", "min", number(3, 0)),
        0xB310..=0xB313 => ("phases open", "", number(2, 0)),
        0xB320..=0xB323 => ("minutes of open phase", "min", number(3, 0)),
        0xB330..=0xB333 => ("begin of last open phase", "", Format::Time(Form::MonthToMinute)),
        0xB340..=0xB343 => ("end of last open phase", "", Format::Time(Form::MonthToMinute)),
        0xC010 => ("date and weekday", "", Format::Time(Form::Date)),
        0xC011 => ("time of day", "", Format::Time(Form::TimeOfDay)),
        0xC020 => ("running state of the meter", "", Format::Bits(1)),
        0xC021 => ("state of the grid", "", Format::Bits(1)),
        0xC022 => ("weekly rest days", "", Format::Bits(1)),
        0xC030 => ("active constant", "imp/kWh", number(3, 0)),
        0xC031 => ("reactive constant", "imp/kvarh", number(3, 0)),
        0xC032 => ("meter number", "", Format::Digits(6)),
        0xC033 => ("customer number", "", Format::Digits(6)),
        0xC034 => ("device code", "", Format::Digits(6)),
        0xC111 => ("demand period", "min", number(1, 0)),
        0xC112 => ("demand slide time", "min", number(1, 0)),
        0xC113..=0xC116 => ("display setting", "", number(1, 0)),
        0xC117 => ("settlement day", "", Format::Time(Form::DayHour)),
        0xC118 => ("load profile interval", "min", number(1, 0)),
        0xC119 => ("start of active energy", "kWh", number(4, 2)),
        0xC11A => ("start of reactive energy", "kvarh", number(4, 2)),
        0xC211 => ("pulse width", "ms", number(2, 0)),
        _ => return None,
    };
    let [_, d0] = di.to_be_bytes();
    let low = d0 & 0x0F;
    let part = match di {
        0xB310 | 0xB320 => Part::Total,
        0xB311..=0xB313 | 0xB321..=0xB323 | 0xB331..=0xB333 | 0xB341..=0xB343 => Part::Phase(low),
        _ => Part::Only,
    };
    Some(Definition {
        di: Some(Di::E1997(di)),
        what,
        part,
        period: Period::Now,
        unit,
        format,
    })
}
