//! Settings as a terminal may leave its factory with them: what virtual terminals begin with, and tests.

use crate::protocol::dlt698::{BitString, Data, DateTimeS, Oad, Octets, Text, Ti, Time};
use crate::protocol::gdw376::{Fn, Id, Pn};

/// Items of a concentrator of Q/GDW 1376.1, with those of so many measuring points; tasks 1 of class 1 and 2.
pub fn items(points: u16) -> Vec<(Id, Vec<u8>)> {
    const F1: [u8; 6] = [0, 2, 0x1E, 0x20, 0x04, 5];
    const F8: [u8; 8] = [0x11, 60, 0, 3, 10, 0xFF, 0xFF, 0xFF];
    const F59: [u8; 4] = [0x12, 0x20, 4, 5];
    const F28: [u8; 4] = [0x00, 0x09, 0x50, 0x08];
    // every hour, first at 2026-01-01 00:00:00 (a Thursday), each point of a curve, clock and instant values
    const TASK: [u8; 17] = [0x41, 0, 0, 0, 1, 0x81, 0x26, 1, 2, 0, 0, 2, 0, 1, 1, 1, 3];
    let mut f3 = vec![10, 0, 0, 1, 0xC3, 0x22, 10, 0, 0, 2, 0xC3, 0x22];
    let mut apn = b"CMNET".to_vec();
    apn.resize(16, 0);
    f3.extend(apn);
    let mut f9 = vec![0xFF; 8];
    f9.extend([0x07, 0x20, 0, 0, 0, 0, 0, 0]);
    let of = |pn: Pn, number: u8, data: Vec<u8>| Fn::new(number).map(|item| (Id { pn, item }, data));
    let own = |number: u8, data: Vec<u8>| of(Pn::TERMINAL, number, data);
    let mut items: Vec<Option<(Id, Vec<u8>)>> = vec![
        own(1, F1.to_vec()),
        own(3, f3),
        own(8, F8.to_vec()),
        own(9, f9),
        own(36, 31_457_280u32.to_le_bytes().to_vec()),
        own(59, F59.to_vec()),
    ];
    if let Some(first) = Pn::new(1) {
        for (task, runs) in [(65, 67), (66, 68)] {
            items.push(of(first, task, TASK.to_vec()));
            items.push(of(first, runs, vec![0x55]));
        }
    }
    for point in (1..=points).filter_map(Pn::new) {
        items.push(of(point, 26, limits()));
        items.push(of(point, 28, F28.to_vec()));
    }
    items.into_iter().flatten().collect()
}

/// F26 of a meter of 220 V: limits, for how many minutes, and from where on all is well again.
fn limits() -> Vec<u8> {
    let mut data = vec![0x50, 0x23, 0x00, 0x20, 0x00, 0x15];
    data.extend([0x40, 0x26, 10, 0x00, 0x02]);
    data.extend([0x80, 0x17, 10, 0x00, 0x02]);
    for current in [[0x00, 0x00, 0x07], [0x00, 0x00, 0x06], [0x00, 0x00, 0x02]] {
        data.extend(current);
        data.extend([10, 0x00, 0x02]);
    }
    for power in [[0x00, 0x50, 0x01], [0x00, 0x40, 0x01]] {
        data.extend(power);
        data.extend([10, 0x00, 0x02]);
    }
    for unbalance in [[0x00, 0x03], [0x00, 0x05]] {
        data.extend(unbalance);
        data.extend([10, 0x00, 0x02]);
    }
    data.push(10);
    data
}

/// Attributes of a terminal of DL/T 698.45, with one task.
pub fn attributes() -> Vec<(Oad, Data)> {
    let ports = || Data::Array(vec![Data::UInt16(9_001)]);
    let station = |host: u8, port: u16| {
        let address = Data::Octets(Octets(vec![10, 0, 0, host]));
        Data::Structure(vec![address, Data::UInt16(port)])
    };
    let stations = || Data::Array(vec![station(1, 8_899), station(2, 8_899)]);
    let nothing = || Data::Visible(Text(Vec::new()));
    let proxy = || [Data::Octets(Octets(vec![0; 4])), Data::UInt16(0)];
    // 30 s, three times
    let patience = Data::UInt8(30 << 2 | 3);
    let mut mobile = vec![Data::Enum(1), Data::Enum(0), Data::Enum(0), Data::Enum(0), ports()];
    mobile.extend([Data::Visible(Text::new("CMNET")), nothing(), nothing()]);
    mobile.extend(proxy());
    mobile.extend([patience.clone(), Data::UInt16(180)]);
    let mut wired = vec![Data::Enum(1), Data::Enum(0), Data::Enum(0), ports()];
    wired.extend(proxy());
    wired.extend([patience, Data::UInt16(60)]);
    let of_task = |threshold: Data| Data::Structure(vec![threshold, Data::UInt8(1)]);
    let midnight = Time {
        hour: 2,
        minute: 30,
        second: 0,
    };
    let values = [
        (0x4500_0200, Data::Structure(mobile)),
        (0x4500_0300, stations()),
        (0x4510_0200, Data::Structure(wired)),
        (0x4510_0300, stations()),
        (
            0x4204_0200,
            Data::Structure(vec![Data::Time(midnight), Data::Bool(false)]),
        ),
        (0x4300_0700, Data::Bool(false)),
        (0x4300_0800, Data::Bool(true)),
        (0x4300_0900, Data::Bool(true)),
        (0x3105_0800, Data::Enum(0)),
        (0x3106_0800, Data::Enum(3)),
        (0x310F_0800, Data::Enum(1)),
        (0x3105_0600, of_task(Data::UInt16(300))),
        (0x3106_0600, power_failure()),
        (0x310F_0600, of_task(Data::UInt8(2))),
        (0x3110_0600, Data::Structure(vec![Data::UInt32(31_457_280)])),
        (0x6012_0200, Data::Array(vec![task()])),
    ];
    values.map(|(oad, data)| (Oad::from_number(oad), data)).to_vec()
}

fn power_failure() -> Data {
    let collect = vec![
        Data::Bits(BitString::of_bytes(&[0xC0])),
        Data::UInt8(1),
        Data::UInt8(5),
        Data::Array(Vec::new()),
    ];
    let judge = [1, 4_320, 5, 5, 1_320, 1_760].map(Data::UInt16).to_vec();
    Data::Structure(vec![Data::Structure(collect), Data::Structure(judge)])
}

/// Task 1: ordinary scheme 1, each hour.
fn task() -> Data {
    let at = |year| {
        Data::DateTimeS(DateTimeS {
            year,
            month: 1,
            day: 1,
            hour: 0,
            minute: 0,
            second: 0,
        })
    };
    let hours = Data::Array(vec![Data::Structure([0, 0, 23, 59].map(Data::UInt8).to_vec())]);
    Data::Structure(vec![
        Data::UInt8(1),
        Data::Ti(Ti::minutes(60)),
        Data::Enum(1),
        Data::UInt8(1),
        at(2026),
        at(2099),
        Data::Ti(Ti::minutes(0)),
        Data::Enum(2),
        Data::Enum(1),
        Data::UInt16(0),
        Data::UInt16(0),
        Data::Structure(vec![Data::Enum(0), hours]),
    ])
}
