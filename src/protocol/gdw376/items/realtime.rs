//! AFN 0C: data of class 1, the present (Q/GDW 1376.1-2013, 7.13; the form of 2009 where it differs).

use super::{Edition, READ_AT, Row, dark, find, now};
use crate::protocol::gdw376::format::Format::{
    A1, A2, A3, A5, A7, A8, A9, A10, A11, A13, A14, A15, A17, A23, A25, A27, Bin, Bits, Bytes,
};
use crate::protocol::gdw376::layout::{Field, Layout, Part, Stamp};
use crate::protocol::gdw376::point::Fn;

const fn f(name: &'static str, format: crate::protocol::gdw376::format::Format) -> Field {
    Field::new(name, format)
}

const IMPORT: Field = f("import active energy", A14).unit("kWh").obis(1, 8);
const EXPORT: Field = f("export active energy", A14).unit("kWh").obis(2, 8);
const COMBINED: Field = f("combined active energy", A14).unit("kWh").obis(15, 8);
const REACTIVE_1: Field = f("import reactive energy (combined 1)", A11).unit("kvarh").obis(3, 8);
const REACTIVE_2: Field = f("export reactive energy (combined 2)", A11).unit("kvarh").obis(4, 8);
const QUADRANT_1: Field = f("reactive energy quadrant 1", A11).unit("kvarh").obis(5, 8);
const QUADRANT_2: Field = f("reactive energy quadrant 2", A11).unit("kvarh").obis(6, 8);
const QUADRANT_3: Field = f("reactive energy quadrant 3", A11).unit("kvarh").obis(7, 8);
const QUADRANT_4: Field = f("reactive energy quadrant 4", A11).unit("kvarh").obis(8, 8);

const DEMAND_AT: Field = f("at", A17);
const IMPORT_DEMAND: Field = f("import active maximum demand", A23).unit("kW").obis(1, 6);
const IMPORT_REACTIVE_DEMAND: Field = f("import reactive maximum demand", A23).unit("kvar").obis(3, 6);
const EXPORT_DEMAND: Field = f("export active maximum demand", A23).unit("kW").obis(2, 6);
const EXPORT_REACTIVE_DEMAND: Field = f("export reactive maximum demand", A23).unit("kvar").obis(4, 6);

/// When, tariffs, one register.
macro_rules! register {
    ($field:expr) => {
        &[READ_AT, Part::Rates(&[&[$field]])]
    };
}
/// When, tariffs, each maximum with its time.
macro_rules! maximum {
    ($field:expr) => {
        &[READ_AT, Part::Rates(&[&[$field, DEMAND_AT]])]
    };
}
/// Tariffs of an energy within a period.
macro_rules! amount {
    ($name:literal, $unit:literal) => {
        &[Part::Rates(&[&[f($name, A13).unit($unit)]])]
    };
}
macro_rules! total {
    ($name:literal, $unit:literal) => {
        &[Part::Rates(&[&[f($name, A3).unit($unit)]])]
    };
}

pub(super) const IMPORTS: &[Part] = &[
    READ_AT,
    Part::Rates(&[&[IMPORT], &[REACTIVE_1], &[QUADRANT_1], &[QUADRANT_4]]),
];
pub(super) const EXPORTS: &[Part] = &[
    READ_AT,
    Part::Rates(&[&[EXPORT], &[REACTIVE_2], &[QUADRANT_2], &[QUADRANT_3]]),
];
pub(super) const IMPORT_DEMANDS: &[Part] = &[
    READ_AT,
    Part::Rates(&[&[IMPORT_DEMAND], &[DEMAND_AT], &[IMPORT_REACTIVE_DEMAND], &[DEMAND_AT]]),
];
pub(super) const EXPORT_DEMANDS: &[Part] = &[
    READ_AT,
    Part::Rates(&[&[EXPORT_DEMAND], &[DEMAND_AT], &[EXPORT_REACTIVE_DEMAND], &[DEMAND_AT]]),
];
pub(super) const IMPORT_BY_TARIFF: &[Part] = register!(IMPORT);
pub(super) const REACTIVE_1_BY_TARIFF: &[Part] = register!(REACTIVE_1);
pub(super) const EXPORT_BY_TARIFF: &[Part] = register!(EXPORT);
pub(super) const REACTIVE_2_BY_TARIFF: &[Part] = register!(REACTIVE_2);
pub(super) const QUADRANT_1_BY_TARIFF: &[Part] = register!(QUADRANT_1);
pub(super) const QUADRANT_2_BY_TARIFF: &[Part] = register!(QUADRANT_2);
pub(super) const QUADRANT_3_BY_TARIFF: &[Part] = register!(QUADRANT_3);
pub(super) const QUADRANT_4_BY_TARIFF: &[Part] = register!(QUADRANT_4);
pub(super) const IMPORT_DEMAND_BY_TARIFF: &[Part] = maximum!(IMPORT_DEMAND);
pub(super) const IMPORT_REACTIVE_DEMAND_BY_TARIFF: &[Part] = maximum!(IMPORT_REACTIVE_DEMAND);
pub(super) const EXPORT_DEMAND_BY_TARIFF: &[Part] = maximum!(EXPORT_DEMAND);
pub(super) const EXPORT_REACTIVE_DEMAND_BY_TARIFF: &[Part] = maximum!(EXPORT_REACTIVE_DEMAND);

const PHASE_REGISTERS: &[Part] = &[
    READ_AT,
    Part::One(&[
        f("import active energy phase A", A14).unit("kWh").obis(21, 8),
        f("export active energy phase A", A14).unit("kWh").obis(22, 8),
        f("import reactive energy phase A", A11).unit("kvarh").obis(23, 8),
        f("export reactive energy phase A", A11).unit("kvarh").obis(24, 8),
        f("import active energy phase B", A14).unit("kWh").obis(41, 8),
        f("export active energy phase B", A14).unit("kWh").obis(42, 8),
        f("import reactive energy phase B", A11).unit("kvarh").obis(43, 8),
        f("export reactive energy phase B", A11).unit("kvarh").obis(44, 8),
        f("import active energy phase C", A14).unit("kWh").obis(61, 8),
        f("export active energy phase C", A14).unit("kWh").obis(62, 8),
        f("import reactive energy phase C", A11).unit("kvarh").obis(63, 8),
        f("export reactive energy phase C", A11).unit("kvarh").obis(64, 8),
    ]),
];

/// F25: powers, power factors, voltages, currents.
const INSTANT: &[Part] = &[
    READ_AT,
    Part::One(&[
        f("active power", A9).unit("kW").obis(1, 7),
        f("active power phase A", A9).unit("kW").obis(21, 7),
        f("active power phase B", A9).unit("kW").obis(41, 7),
        f("active power phase C", A9).unit("kW").obis(61, 7),
        f("reactive power", A9).unit("kvar").obis(3, 7),
        f("reactive power phase A", A9).unit("kvar").obis(23, 7),
        f("reactive power phase B", A9).unit("kvar").obis(43, 7),
        f("reactive power phase C", A9).unit("kvar").obis(63, 7),
        f("power factor", A5).unit("%").obis(13, 7),
        f("power factor phase A", A5).unit("%").obis(33, 7),
        f("power factor phase B", A5).unit("%").obis(53, 7),
        f("power factor phase C", A5).unit("%").obis(73, 7),
        f("voltage phase A", A7).unit("V").obis(32, 7),
        f("voltage phase B", A7).unit("V").obis(52, 7),
        f("voltage phase C", A7).unit("V").obis(72, 7),
        f("current phase A", A25).unit("A").obis(31, 7),
        f("current phase B", A25).unit("A").obis(51, 7),
        f("current phase C", A25).unit("A").obis(71, 7),
        f("neutral current", A25).unit("A").obis(91, 7),
        f("apparent power", A9).unit("kVA").obis(9, 7),
        f("apparent power phase A", A9).unit("kVA").obis(29, 7),
        f("apparent power phase B", A9).unit("kVA").obis(49, 7),
        f("apparent power phase C", A9).unit("kVA").obis(69, 7),
    ]),
];

/// F26: how often and how long phases were lost; the counts grew from two to three bytes.
macro_rules! phase_loss {
    ($count:expr) => {
        &[
            READ_AT,
            Part::One(&[
                f("phase losses", $count),
                f("phase losses phase A", $count),
                f("phase losses phase B", $count),
                f("phase losses phase C", $count),
                f("time of phase loss", A10).unit("min"),
                f("time of phase loss phase A", A10).unit("min"),
                f("time of phase loss phase B", A10).unit("min"),
                f("time of phase loss phase C", A10).unit("min"),
                f("last phase loss from", A17),
                f("last phase loss phase A from", A17),
                f("last phase loss phase B from", A17),
                f("last phase loss phase C from", A17),
                f("last phase loss to", A17),
                f("last phase loss phase A to", A17),
                f("last phase loss phase B to", A17),
                f("last phase loss phase C to", A17),
            ]),
        ]
    };
}

const METER_CLOCK: &[Part] = &[
    READ_AT,
    Part::One(&[
        f("meter clock", A1),
        f("battery in use", A27).unit("min"),
        f("programmings", A10),
        f("last programming", A1),
        f("clearings", A10),
        f("last clearing", A1),
        f("demand clearings", A10),
        f("last demand clearing", A1),
        f("event clearings", A10),
        f("last event clearing", A1),
        f("clock settings", A10),
        f("last clock setting", A1),
    ]),
];

/// F28: the meter's seven status words and which of their bits changed.
const STATUS: &[Part] = &[
    READ_AT,
    Part::One(&[
        f("changed bits of status word 1", Bits(2)),
        f("changed bits of status word 2", Bits(2)),
        f("changed bits of status word 3", Bits(2)),
        f("changed bits of status word 4", Bits(2)),
        f("changed bits of status word 5", Bits(2)),
        f("changed bits of status word 6", Bits(2)),
        f("changed bits of status word 7", Bits(2)),
        f("status word 1", Bits(2)),
        f("status word 2", Bits(2)),
        f("status word 3", Bits(2)),
        f("status word 4", Bits(2)),
        f("status word 5", Bits(2)),
        f("status word 6", Bits(2)),
        f("status word 7", Bits(2)),
    ]),
];

const ANGLES: &[Part] = &[Part::One(&[
    f("voltage angle phase A", A5).unit("°").obis(81, 7),
    f("voltage angle phase B", A5).unit("°"),
    f("voltage angle phase C", A5).unit("°"),
    f("current angle phase A", A5).unit("°"),
    f("current angle phase B", A5).unit("°"),
    f("current angle phase C", A5).unit("°"),
])];

const READ_STATE: &[Part] = &[Part::List(
    1,
    &[
        f("port", Bin(1)),
        f("meters to read", Bin(2)),
        f("state of reading", Bits(1)),
        f("meters read", Bin(2)),
        f("key meters read", Bin(1)),
        f("reading began", A1),
        f("reading ended", A1),
    ],
)];

/// F161, F165, F166: times had five bytes and counts two, and grew by one each.
macro_rules! relay {
    ($time:expr) => {
        &[
            READ_AT,
            Part::One(&[f("relay", Bits(1)), f("last closed", $time), f("last opened", $time)]),
        ]
    };
}
macro_rules! switches {
    ($count:expr, $time:expr) => {
        &[
            READ_AT,
            Part::One(&[
                f("programming switch used", $count),
                f("last use of the programming switch", $time),
                f("terminal cover opened", $count),
                f("last opening of the terminal cover", $time),
            ]),
        ]
    };
}
pub(super) const RELAY_2013: &[Part] = relay!(A1);
pub(super) const RELAY_2009: &[Part] = relay!(A15);
pub(super) const SWITCHES_2013: &[Part] = switches!(A10, A1);
pub(super) const SWITCHES_2009: &[Part] = switches!(A8, A15);
pub(super) const CHANGES_2013: &[Part] = &[
    READ_AT,
    Part::One(&[
        f("clock changes", A10),
        f("clock before the last change", A1),
        f("clock behind the last change", A1),
        f("tariff time changes", A10),
        f("last tariff time change", A1),
    ]),
];
pub(super) const CHANGES_2009: &[Part] = &[
    READ_AT,
    Part::One(&[
        f("clock changes", A8),
        f("last clock change", A15),
        f("tariff time changes", A8),
        f("last tariff time change", A15),
    ]),
];
pub(super) const PURCHASE: &[Part] = &[
    READ_AT,
    Part::One(&[
        f("purchases", A8),
        f("remaining money", A14),
        f("money purchased", A14),
        f("remaining energy", A11).unit("kWh"),
        f("overdrawn energy", A11).unit("kWh"),
        f("energy purchased", A11).unit("kWh"),
        f("energy on credit at most", A11).unit("kWh"),
        f("warning at", A11).unit("kWh"),
        f("faulty energy", A11).unit("kWh"),
    ]),
];
const SETTLEMENT: &[Part] = &[
    READ_AT,
    Part::Rates(&[
        &[f("settled energy", A14).unit("kWh")],
        &[f("energy not settled", A14).unit("kWh")],
    ]),
];
/// F170: how the terminal reaches the meter: the picture of the mesh.
const ROUTE: &[Part] = &[Part::One(&[
    f("port", Bin(1)),
    f("relay levels", Bin(1)),
    f("phase", Bits(1)),
    f("signal quality", Bits(1)),
    f("last reading", Bits(1)),
    f("last success", A1),
    f("last failure", A1),
    f("failures in a row", Bin(1)),
])];

macro_rules! hourly {
    ($name:literal, $format:expr, $unit:literal) => {
        &[Part::Hour(&[f($name, $format).unit($unit)])]
    };
}

const ROWS: &[Row] = &[
    now(2, "clock", &[Part::One(&[f("clock", A1)])]),
    now(3, "parameter states", &[Part::One(&[f("parameters set", Bytes(31))])]),
    now(4, "communication state", &[Part::One(&[f("state", Bits(1))])]),
    dark(5, Stamp::None, "control settings"),
    dark(6, Stamp::None, "control state"),
    now(
        7,
        "event counters",
        &[Part::One(&[
            f("important events", Bin(1)),
            f("ordinary events", Bin(1)),
        ])],
    ),
    now(8, "event flags", &[Part::One(&[f("flags", Bits(8))])]),
    now(
        9,
        "inputs",
        &[Part::One(&[f("inputs", Bits(1)), f("changed inputs", Bits(1))])],
    ),
    now(
        10,
        "traffic with the master",
        &[Part::One(&[
            f("today", Bin(4)).unit("B"),
            f("this month", Bin(4)).unit("B"),
        ])],
    ),
    now(11, "state of collective reading", READ_STATE),
    now(
        17,
        "total active power of a group",
        &[Part::One(&[f("active power", A2).unit("kW")])],
    ),
    now(
        18,
        "total reactive power of a group",
        &[Part::One(&[f("reactive power", A2).unit("kvar")])],
    ),
    now(
        19,
        "active energy of a group today",
        total!("active energy today", "kWh"),
    ),
    now(
        20,
        "reactive energy of a group today",
        total!("reactive energy today", "kvarh"),
    ),
    now(
        21,
        "active energy of a group this month",
        total!("active energy this month", "kWh"),
    ),
    now(
        22,
        "reactive energy of a group this month",
        total!("reactive energy this month", "kvarh"),
    ),
    now(
        23,
        "remaining energy",
        &[Part::One(&[f("remaining energy", A3).unit("kWh")])],
    ),
    now(
        24,
        "frozen power of a group",
        &[Part::One(&[f("active power", A2).unit("kW")])],
    ),
    now(25, "powers, voltages, currents", INSTANT),
    now(26, "phase losses", phase_loss!(A10)),
    now(27, "meter clock and programming", METER_CLOCK),
    now(28, "meter status words", STATUS),
    dark(29, Stamp::None, "losses of this month"),
    dark(30, Stamp::None, "losses of last month"),
    now(31, "energies by phase", PHASE_REGISTERS),
    now(32, "energies by phase, last settlement", PHASE_REGISTERS),
    now(33, "import energies", IMPORTS),
    now(34, "export energies", EXPORTS),
    now(35, "import demands this month", IMPORT_DEMANDS),
    now(36, "export demands this month", EXPORT_DEMANDS),
    now(37, "import energies, last settlement", IMPORTS),
    now(38, "export energies, last settlement", EXPORTS),
    now(39, "import demands last month", IMPORT_DEMANDS),
    now(40, "export demands last month", EXPORT_DEMANDS),
    now(
        41,
        "import active energy today",
        amount!("import active energy today", "kWh"),
    ),
    now(
        42,
        "import reactive energy today",
        amount!("import reactive energy today", "kvarh"),
    ),
    now(
        43,
        "export active energy today",
        amount!("export active energy today", "kWh"),
    ),
    now(
        44,
        "export reactive energy today",
        amount!("export reactive energy today", "kvarh"),
    ),
    now(
        45,
        "import active energy this month",
        amount!("import active energy this month", "kWh"),
    ),
    now(
        46,
        "import reactive energy this month",
        amount!("import reactive energy this month", "kvarh"),
    ),
    now(
        47,
        "export active energy this month",
        amount!("export active energy this month", "kWh"),
    ),
    now(
        48,
        "export reactive energy this month",
        amount!("export reactive energy this month", "kvarh"),
    ),
    now(49, "voltage and current angles", ANGLES),
    now(89, "hourly active power", hourly!("active power", A9, "kW")),
    now(93, "hourly reactive power", hourly!("reactive power", A9, "kvar")),
    now(97, "hourly voltage phase A", hourly!("voltage phase A", A7, "V")),
    now(98, "hourly voltage phase B", hourly!("voltage phase B", A7, "V")),
    now(99, "hourly voltage phase C", hourly!("voltage phase C", A7, "V")),
    now(100, "hourly current phase A", hourly!("current phase A", A25, "A")),
    now(101, "hourly current phase B", hourly!("current phase B", A25, "A")),
    now(102, "hourly current phase C", hourly!("current phase C", A25, "A")),
    now(
        105,
        "hourly import active amount",
        hourly!("import active amount", A13, "kWh"),
    ),
    now(
        109,
        "hourly import active energy",
        hourly!("import active energy", A11, "kWh"),
    ),
    now(
        110,
        "hourly import reactive energy",
        hourly!("import reactive energy", A11, "kvarh"),
    ),
    now(
        111,
        "hourly export active energy",
        hourly!("export active energy", A11, "kWh"),
    ),
    now(
        112,
        "hourly export reactive energy",
        hourly!("export reactive energy", A11, "kvarh"),
    ),
    now(129, "import active energy", IMPORT_BY_TARIFF),
    now(130, "import reactive energy", REACTIVE_1_BY_TARIFF),
    now(131, "export active energy", EXPORT_BY_TARIFF),
    now(132, "export reactive energy", REACTIVE_2_BY_TARIFF),
    now(133, "reactive energy quadrant 1", QUADRANT_1_BY_TARIFF),
    now(134, "reactive energy quadrant 2", QUADRANT_2_BY_TARIFF),
    now(135, "reactive energy quadrant 3", QUADRANT_3_BY_TARIFF),
    now(136, "reactive energy quadrant 4", QUADRANT_4_BY_TARIFF),
    now(137, "import active energy, last settlement", IMPORT_BY_TARIFF),
    now(138, "import reactive energy, last settlement", REACTIVE_1_BY_TARIFF),
    now(139, "export active energy, last settlement", EXPORT_BY_TARIFF),
    now(140, "export reactive energy, last settlement", REACTIVE_2_BY_TARIFF),
    now(141, "reactive energy quadrant 1, last settlement", QUADRANT_1_BY_TARIFF),
    now(142, "reactive energy quadrant 2, last settlement", QUADRANT_2_BY_TARIFF),
    now(143, "reactive energy quadrant 3, last settlement", QUADRANT_3_BY_TARIFF),
    now(144, "reactive energy quadrant 4, last settlement", QUADRANT_4_BY_TARIFF),
    now(145, "import active demand this month", IMPORT_DEMAND_BY_TARIFF),
    now(
        146,
        "import reactive demand this month",
        IMPORT_REACTIVE_DEMAND_BY_TARIFF,
    ),
    now(147, "export active demand this month", EXPORT_DEMAND_BY_TARIFF),
    now(
        148,
        "export reactive demand this month",
        EXPORT_REACTIVE_DEMAND_BY_TARIFF,
    ),
    now(149, "import active demand last month", IMPORT_DEMAND_BY_TARIFF),
    now(
        150,
        "import reactive demand last month",
        IMPORT_REACTIVE_DEMAND_BY_TARIFF,
    ),
    now(151, "export active demand last month", EXPORT_DEMAND_BY_TARIFF),
    now(
        152,
        "export reactive demand last month",
        EXPORT_REACTIVE_DEMAND_BY_TARIFF,
    ),
    now(161, "relay", RELAY_2013),
    now(
        162,
        "clocks of terminal and meter",
        &[Part::One(&[f("terminal clock", A1), f("meter clock", A1)])],
    ),
    now(165, "switches and covers", SWITCHES_2013),
    now(166, "clock and tariff changes", CHANGES_2013),
    now(167, "purchase", PURCHASE),
    now(168, "settlement", SETTLEMENT),
    now(170, "how the meter is reached", ROUTE),
    now(177, "combined active energy", &[READ_AT, Part::Rates(&[&[COMBINED]])]),
    now(
        178,
        "combined active energy, last settlement",
        &[READ_AT, Part::Rates(&[&[COMBINED]])],
    ),
];

/// What was laid out differently in 2009.
const ROWS_2009: &[Row] = &[
    now(26, "phase losses", phase_loss!(A8)),
    now(161, "relay", RELAY_2009),
    dark(162, Stamp::None, "reserved"),
    now(165, "switches and covers", SWITCHES_2009),
    now(166, "clock and tariff changes", CHANGES_2009),
    dark(177, Stamp::None, "voltage statistics of today"),
];

pub(super) fn row(item: Fn, edition: Edition) -> Option<Layout> {
    let older = (edition == Edition::E2009).then(|| find(ROWS_2009, item)).flatten();
    older.or_else(|| find(ROWS, item))
}
