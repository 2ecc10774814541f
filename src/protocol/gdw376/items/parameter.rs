//! AFN 04 and 0A: parameters, written and read (Q/GDW 1376.1-2013, 7.5 and 7.11).

use super::{NOTHING, Row, dark, find, now};
use crate::protocol::gdw376::format::Format::{
    self, A1, A2, A3, A4, A5, A7, A12, A22, A23, A25, Bin, Bits, Bytes, Ip, Phone, Text,
};
use crate::protocol::gdw376::layout::{Field, Layout, Part, Stamp};
use crate::protocol::gdw376::point::Fn;

const fn f(name: &'static str, format: Format) -> Field {
    Field::new(name, format)
}

/// F10: the archive's meters. `archive.rs` reads them as what they are.
const METERS: &[Part] = &[Part::List(
    2,
    &[
        f("place", Bin(2)),
        f("measuring point", Bin(2)),
        f("speed and port", Bits(1)),
        f("protocol", Bin(1)),
        f("meter address", A12),
        f("password", Bytes(6)),
        f("tariffs", Bin(1)),
        f("digits", Bits(1)),
        f("collector address", A12),
        f("user class", Bits(1)),
    ],
)];

const LIMITS: &[Part] = &[Part::One(&[
    f("voltage upper limit", A7).unit("V"),
    f("voltage lower limit", A7).unit("V"),
    f("phase loss below", A7).unit("V"),
    f("voltage upper upper limit", A7).unit("V"),
    f("voltage upper upper limit for", Bin(1)).unit("min"),
    f("voltage upper upper limit restored at", A5).unit("%"),
    f("voltage lower lower limit", A7).unit("V"),
    f("voltage lower lower limit for", Bin(1)).unit("min"),
    f("voltage lower lower limit restored at", A5).unit("%"),
    f("current upper upper limit", A25).unit("A"),
    f("current upper upper limit for", Bin(1)).unit("min"),
    f("current upper upper limit restored at", A5).unit("%"),
    f("current upper limit", A25).unit("A"),
    f("current upper limit for", Bin(1)).unit("min"),
    f("current upper limit restored at", A5).unit("%"),
    f("neutral current upper limit", A25).unit("A"),
    f("neutral current upper limit for", Bin(1)).unit("min"),
    f("neutral current upper limit restored at", A5).unit("%"),
    f("apparent power upper upper limit", A23).unit("kVA"),
    f("apparent power upper upper limit for", Bin(1)).unit("min"),
    f("apparent power upper upper limit restored at", A5).unit("%"),
    f("apparent power upper limit", A23).unit("kVA"),
    f("apparent power upper limit for", Bin(1)).unit("min"),
    f("apparent power upper limit restored at", A5).unit("%"),
    f("voltage unbalance limit", A5).unit("%"),
    f("voltage unbalance limit for", Bin(1)).unit("min"),
    f("voltage unbalance restored at", A5).unit("%"),
    f("current unbalance limit", A5).unit("%"),
    f("current unbalance limit for", Bin(1)).unit("min"),
    f("current unbalance restored at", A5).unit("%"),
    f("voltage loss for", Bin(1)).unit("min"),
])];

/// F65, F66: a report task.
const TASK: &[Part] = &[
    Part::One(&[f("period", Bits(1)), f("first report", A1), f("every how many", Bin(1))]),
    Part::List(1, &[f("unit identifier", Bytes(4))]),
];
const RUNS: &[Part] = &[Part::One(&[f("55 runs, AA stopped", Bits(1))])];

const ROWS: &[Row] = &[
    now(
        1,
        "communication with the master",
        &[Part::One(&[
            f("request to send", Bin(1)).unit("20 ms"),
            f("transmission delay", Bin(1)).unit("min"),
            f("answer within and attempts", Bits(2)),
            f("services to confirm", Bits(1)),
            f("heartbeat", Bin(1)).unit("min"),
        ])],
    ),
    dark(2, Stamp::None, "radio relaying"),
    now(
        3,
        "addresses of the master",
        &[Part::One(&[
            f("main address", Ip),
            f("main port", Bin(2)),
            f("spare address", Ip),
            f("spare port", Bin(2)),
            f("access point", Text(16)),
        ])],
    ),
    now(
        4,
        "telephone of the master",
        &[Part::One(&[f("telephone", Phone(8)), f("message centre", Phone(8))])],
    ),
    now(
        5,
        "authentication of messages",
        &[Part::One(&[f("scheme", Bin(1)), f("parameter", Bin(2))])],
    ),
    now(6, "group addresses", &[Part::One(&[f("groups", Bytes(16))])]),
    dark(7, Stamp::None, "addresses of the terminal"),
    now(
        8,
        "manner of connection",
        &[Part::One(&[
            f("mode", Bits(1)),
            f("dial again after", Bin(2)).unit("s"),
            f("dial at most", Bin(1)),
            f("disconnect after silence of", Bin(1)).unit("min"),
            f("online hours", Bits(3)),
        ])],
    ),
    now(
        9,
        "which events are kept",
        &[Part::One(&[f("kept", Bits(8)), f("important", Bits(8))])],
    ),
    now(10, "meters", METERS),
    now(
        11,
        "pulse inputs",
        &[Part::List(
            1,
            &[
                f("input", Bin(1)),
                f("measuring point", Bin(1)),
                f("kind", Bits(1)),
                f("constant", Bin(2)),
            ],
        )],
    ),
    now(
        12,
        "state inputs",
        &[Part::One(&[f("connected", Bits(1)), f("closed at rest", Bits(1))])],
    ),
    now(
        13,
        "analogue inputs",
        &[Part::List(
            1,
            &[f("input", Bin(1)), f("measuring point", Bin(1)), f("kind", Bits(1))],
        )],
    ),
    dark(14, Stamp::None, "totalling groups"),
    now(
        15,
        "energy differences",
        &[Part::List(
            1,
            &[
                f("group", Bin(1)),
                f("compared group", Bin(1)),
                f("reference group", Bin(1)),
                f("period and method", Bits(1)),
                f("relative limit", Bin(1)).unit("%"),
                f("absolute limit", A3).unit("kWh"),
            ],
        )],
    ),
    now(
        16,
        "user of the private network",
        &[Part::One(&[f("user", Text(32)), f("password", Bytes(32))])],
    ),
    now(17, "safety limit", &[Part::One(&[f("safety limit", A2).unit("kW")])]),
    now(
        18,
        "periods of power control",
        &[Part::One(&[f("half hours", Bytes(12))])],
    ),
    now(
        19,
        "float of the power limit",
        &[Part::One(&[f("float", A4).unit("%")])],
    ),
    now(
        20,
        "float of the monthly energy limit",
        &[Part::One(&[f("float", A4).unit("%")])],
    ),
    now(
        21,
        "tariff times",
        &[Part::One(&[f("half hours", Bytes(48)), f("tariffs", Bin(1))])],
    ),
    now(22, "tariff prices", &[Part::List(1, &[f("price", Bytes(4))])]),
    now(23, "arrears warning", &[Part::One(&[f("hours", Bits(3))])]),
    now(
        25,
        "basics of a measuring point",
        &[Part::One(&[
            f("voltage transformer ratio", Bin(2)),
            f("current transformer ratio", Bin(2)),
            f("rated voltage", A7).unit("V"),
            f("rated current", A22).unit("A"),
            f("rated load", A23).unit("kVA"),
            f("wiring and phase", Bits(1)),
        ])],
    ),
    now(26, "limits of a measuring point", LIMITS),
    dark(27, Stamp::None, "losses of a measuring point"),
    now(
        28,
        "power factor limits",
        &[Part::One(&[f("limit 1", A5).unit("%"), f("limit 2", A5).unit("%")])],
    ),
    now(29, "number on the display", &[Part::One(&[f("number", Text(12))])]),
    now(30, "reading of the area stopped", &[Part::One(&[f("stopped", Bin(1))])]),
    dark(31, Stamp::None, "nodes of a carrier node"),
    dark(33, Stamp::None, "reading of meters"),
    now(
        34,
        "ports to the meters",
        &[Part::List(
            1,
            &[
                f("port", Bin(1)),
                f("line settings", Bits(1)),
                f("bits per second", Bin(4)),
            ],
        )],
    ),
    now(35, "key meters", &[Part::List(1, &[f("place", Bin(2))])]),
    now(
        36,
        "traffic limit",
        &[Part::One(&[f("monthly limit", Bin(4)).unit("B")])],
    ),
    dark(37, Stamp::None, "cascaded terminals"),
    dark(38, Stamp::None, "class 1 data of user classes"),
    dark(39, Stamp::None, "class 2 data of user classes"),
    dark(41, Stamp::None, "power limits by period"),
    dark(42, Stamp::None, "factory holidays"),
    now(
        43,
        "sliding time of power control",
        &[Part::One(&[f("sliding time", Bin(1)).unit("min")])],
    ),
    dark(44, Stamp::None, "suspension of business"),
    now(45, "rounds of power control", &[Part::One(&[f("rounds", Bits(1))])]),
    now(46, "monthly energy limit", &[Part::One(&[f("limit", A3).unit("kWh")])]),
    now(
        47,
        "purchased energy",
        &[Part::One(&[
            f("order number", Bin(4)),
            f("55 adds, AA replaces", Bits(1)),
            f("purchased", A3).unit("kWh"),
            f("warning at", A3).unit("kWh"),
            f("trip at", A3).unit("kWh"),
        ])],
    ),
    now(48, "rounds of energy control", &[Part::One(&[f("rounds", Bits(1))])]),
    now(
        49,
        "warning before a trip",
        &[Part::One(&[f("warning", Bin(1)).unit("min")])],
    ),
    now(57, "hours of sound", &[Part::One(&[f("hours", Bits(3))])]),
    now(
        58,
        "protection without the master",
        &[Part::One(&[f("after", Bin(1)).unit("h")])],
    ),
    now(
        59,
        "thresholds of meter faults",
        &[Part::One(&[
            f("energy off by", A22),
            f("flies at", A22),
            f("stands still for", Bin(1)).unit("15 min"),
            f("clock off by", Bin(1)).unit("min"),
        ])],
    ),
    dark(60, Stamp::None, "harmonic limits"),
    now(61, "direct current inputs", &[Part::One(&[f("connected", Bits(1))])]),
    now(65, "class 1 report task", TASK),
    now(66, "class 2 report task", TASK),
    now(67, "class 1 report task runs", RUNS),
    now(68, "class 2 report task runs", RUNS),
    dark(73, Stamp::None, "capacitors"),
    dark(81, Stamp::None, "direct current ratio"),
    dark(89, Stamp::None, "address of the terminal"),
];

pub(super) fn row(item: Fn) -> Option<Layout> {
    find(ROWS, item)
}

/// What a question for a parameter carries: mostly nothing; of lists, which blocks.
pub(super) fn question(item: Fn) -> Option<Layout> {
    const PLACES: &[Part] = &[Part::List(2, &[f("place", Bin(2))])];
    const SHORT_PLACES: &[Part] = &[Part::List(1, &[f("place", Bin(1))])];
    const CLASSES: &[Part] = &[
        Part::One(&[f("user class", Bin(1))]),
        Part::List(1, &[f("subclass", Bin(1))]),
    ];
    let parts = match item.number() {
        10 => PLACES,
        11 | 13 | 14 | 15 | 33 | 34 => SHORT_PLACES,
        38 | 39 => CLASSES,
        _ => NOTHING,
    };
    row(item).map(|layout| Layout {
        parts: Some(parts),
        ..layout
    })
}
