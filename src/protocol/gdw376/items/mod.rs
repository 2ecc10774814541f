//! The items of each application function: names, layouts, units, OBIS codes (Q/GDW 1376.1-2013, 7; annexes A to C).
//!
//! Data, not code. What is marked [K] in `docs/protocols/gdw376.md` is general knowledge that no public source showed;
//! an item whose layout is not known is said to be so: its data are bytes, and nothing behind them is read.

mod historical;
mod parameter;
mod realtime;

use super::afn::Afn;
use super::format::Format;
use super::layout::{Field, Layout, Part, Stamp};
use super::point::Fn;

/// Which edition's layouts. The frame does not say it; a terminal's model does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Edition {
    /// Q/GDW 376.1-2009 and DL/T 698.41-2010.
    E2009,
    /// Q/GDW 1376.1-2013.
    #[default]
    E2013,
}

/// Which way data go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the master station.
    Down,
    /// From the terminal.
    Up,
}

/// One row of a table: the item's number and its layout.
type Row = (u8, Layout);

/// A row of the present or a parameter.
const fn now(number: u8, name: &'static str, parts: &'static [Part]) -> Row {
    let parts = Some(parts);
    let stamp = Stamp::None;
    (number, Layout { name, stamp, parts })
}

/// A row of the past.
const fn past(number: u8, stamp: Stamp, name: &'static str, parts: &'static [Part]) -> Row {
    let parts = Some(parts);
    (number, Layout { name, stamp, parts })
}

/// A row whose name is known and whose data are not.
const fn dark(number: u8, stamp: Stamp, name: &'static str) -> Row {
    let parts = None;
    (number, Layout { name, stamp, parts })
}

const NOTHING: &[Part] = &[];

/// When the terminal read the meter.
const READ_AT: Part = Part::One(&[Field::new("terminal read at", Format::A15)]);

fn find(rows: &'static [Row], item: Fn) -> Option<Layout> {
    rows.iter()
        .find(|(number, _)| *number == item.number())
        .map(|(_, layout)| *layout)
}

/// The layout of an item's data; none for an item that this room has never heard of.
pub fn layout(afn: Afn, item: Fn, way: Way, edition: Edition) -> Option<Layout> {
    let plain = |row: Option<Layout>| {
        row.map(|layout| Layout {
            parts: Some(NOTHING),
            ..layout
        })
    };
    match (afn, way) {
        (Afn::RESET, Way::Down) => find(CONTROL_RESET, item),
        (Afn::LINK, _) => find(LINK, item),
        (Afn::SET, Way::Down) | (Afn::QUERY, Way::Up) => parameter::row(item),
        (Afn::QUERY, Way::Down) => parameter::question(item),
        (Afn::CONTROL, Way::Down) => find(CONTROL, item),
        (Afn::TERMINAL, Way::Down) => plain(find(TERMINAL, item)),
        (Afn::TERMINAL, Way::Up) => find(TERMINAL, item),
        (Afn::TASK, Way::Down) => find(TASK, item),
        (Afn::REALTIME, Way::Down) => plain(realtime::row(item, edition)),
        (Afn::REALTIME, Way::Up) => realtime::row(item, edition),
        (Afn::HISTORY, Way::Down) => plain(historical::row(item, edition)),
        (Afn::HISTORY, Way::Up) => historical::row(item, edition),
        (Afn::EVENTS, Way::Down) => find(EVENTS, item),
        (Afn::CONFIRM | Afn::EVENTS | Afn::FORWARD | Afn::FILE, _) => named(afn, item).map(|name| Layout {
            name,
            stamp: Stamp::None,
            parts: (afn == Afn::CONFIRM && item != Fn::F3).then_some(NOTHING),
        }),
        _ => None,
    }
}

/// The names of items whose data have a form of their own.
fn named(afn: Afn, item: Fn) -> Option<&'static str> {
    Some(match (afn, item.number()) {
        (Afn::CONFIRM, 1) => "all confirmed",
        (Afn::CONFIRM, 2) => "all denied",
        (Afn::CONFIRM, 3) => "confirmed or denied one by one",
        (Afn::EVENTS, 1) => "important events",
        (Afn::EVENTS, 2) => "ordinary events",
        (Afn::FILE, 1) => "file transfer",
        (Afn::FORWARD, 1) => "transparent forward",
        (Afn::FORWARD, 9) => "read a meter's data through the terminal",
        (Afn::FORWARD, 10) => "trip or close a meter through the terminal",
        (Afn::FORWARD, 11) => "write a meter's data through the terminal",
        _ => return None,
    })
}

const CONTROL_RESET: &[Row] = &[
    now(1, "hardware", NOTHING),
    now(2, "data", NOTHING),
    now(3, "parameters and data, factory state", NOTHING),
    now(4, "parameters but those of communication, and data", NOTHING),
];

const LINK: &[Row] = &[
    now(1, "login", NOTHING),
    now(2, "logout", NOTHING),
    now(3, "heartbeat", NOTHING),
];

const PORT: &[Part] = &[Part::One(&[Field::new("port", Format::Bin(1))])];

const CONTROL: &[Row] = &[
    now(
        1,
        "remote trip",
        &[Part::One(&[Field::new("limit and warning", Format::Bits(1))])],
    ),
    now(2, "close allowed", NOTHING),
    now(
        9,
        "power control by period on",
        &[Part::One(&[
            Field::new("periods", Format::Bits(1)),
            Field::new("scheme", Format::Bin(1)),
        ])],
    ),
    now(10, "power control on factory holidays on", NOTHING),
    now(11, "power control while business is suspended on", NOTHING),
    dark(12, Stamp::None, "power control below present power on"),
    now(15, "monthly energy control on", NOTHING),
    now(16, "purchased energy control on", NOTHING),
    now(17, "power control by period off", NOTHING),
    now(18, "power control on factory holidays off", NOTHING),
    now(19, "power control while business is suspended off", NOTHING),
    now(20, "power control below present power off", NOTHING),
    now(23, "monthly energy control off", NOTHING),
    now(24, "purchased energy control off", NOTHING),
    now(
        25,
        "supply protection on",
        &[Part::One(&[Field::new("for", Format::Bin(1)).unit("h/2")])],
    ),
    now(26, "arrears warning on", NOTHING),
    now(27, "speech with the master allowed", NOTHING),
    now(28, "terminal taken out", NOTHING),
    now(29, "reports of its own accord allowed", NOTHING),
    now(31, "clock", &[Part::One(&[Field::new("clock", Format::A1)])]),
    dark(32, Stamp::None, "text for the display"),
    now(33, "supply protection off", NOTHING),
    now(34, "arrears warning off", NOTHING),
    now(35, "speech with the master forbidden", NOTHING),
    now(36, "terminal taken in again", NOTHING),
    now(37, "reports of its own accord forbidden", NOTHING),
    now(38, "connect to the master", NOTHING),
    now(39, "disconnect from the master", NOTHING),
    dark(41, Stamp::None, "capacitors on"),
    dark(42, Stamp::None, "capacitors off"),
    now(49, "reading of a port paused", PORT),
    now(50, "reading of a port resumed", PORT),
    now(51, "reading of a port anew", PORT),
    now(52, "relay routes of a port forgotten", PORT),
    now(53, "meters of a port deleted", PORT),
];

const TERMINAL: &[Row] = &[
    now(
        1,
        "version",
        &[Part::One(&[
            Field::new("vendor", Format::Text(4)),
            Field::new("device", Format::Text(8)),
            Field::new("software version", Format::Text(4)),
            Field::new("software date", Format::A20),
            Field::new("capacity code", Format::Text(11)),
            Field::new("protocol version", Format::Text(4)),
            Field::new("hardware version", Format::Text(4)),
            Field::new("hardware date", Format::A20),
        ])],
    ),
    dark(2, Stamp::None, "inputs, outputs and ports"),
    dark(3, Stamp::None, "other configuration"),
    dark(4, Stamp::None, "parameters that it supports"),
    dark(5, Stamp::None, "controls that it supports"),
    dark(6, Stamp::None, "class 1 data that it supports"),
    dark(7, Stamp::None, "class 2 data that it supports"),
    dark(8, Stamp::None, "events that it supports"),
];

const TASK: &[Row] = &[
    now(1, "class 1 report task", NOTHING),
    dark(2, Stamp::None, "class 2 report task"),
];

const POINTERS: &[Part] = &[Part::One(&[
    Field::new("first record", Format::Bin(1)),
    Field::new("record behind the last", Format::Bin(1)),
])];

const EVENTS: &[Row] = &[
    now(1, "important events", POINTERS),
    now(2, "ordinary events", POINTERS),
];

#[cfg(test)]
mod tests;
