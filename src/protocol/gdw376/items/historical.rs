//! AFN 0D: data of class 2, the past: days, months, curves (Q/GDW 1376.1-2013, 7.14). Each begins with its time stamp.

use super::realtime::{
    CHANGES_2009, CHANGES_2013, EXPORT_BY_TARIFF, EXPORT_DEMAND_BY_TARIFF, EXPORT_DEMANDS,
    EXPORT_REACTIVE_DEMAND_BY_TARIFF, EXPORTS, IMPORT_BY_TARIFF, IMPORT_DEMAND_BY_TARIFF, IMPORT_DEMANDS,
    IMPORT_REACTIVE_DEMAND_BY_TARIFF, IMPORTS, PURCHASE, QUADRANT_1_BY_TARIFF, QUADRANT_2_BY_TARIFF,
    QUADRANT_3_BY_TARIFF, QUADRANT_4_BY_TARIFF, REACTIVE_1_BY_TARIFF, REACTIVE_2_BY_TARIFF, RELAY_2009, RELAY_2013,
    SWITCHES_2009, SWITCHES_2013,
};
use super::{Edition, READ_AT, Row, dark, find, past};
use crate::protocol::gdw376::format::Format::{
    self, A2, A3, A5, A7, A9, A11, A13, A14, A17, A18, A23, A25, Bin, Bytes,
};
use crate::protocol::gdw376::layout::Stamp::{Curve, Day, Month};
use crate::protocol::gdw376::layout::{Field, Layout, Part};
use crate::protocol::gdw376::point::Fn;

const fn f(name: &'static str, format: Format) -> Field {
    Field::new(name, format)
}

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
macro_rules! curve {
    ($field:expr) => {
        &[Part::Points(&[$field])]
    };
}
macro_rules! powers {
    ($time:expr) => {
        &[Part::One(&[
            f("maximum active power", A23).unit("kW"),
            f("maximum active power at", $time),
            f("maximum active power phase A", A23).unit("kW"),
            f("maximum active power phase A at", $time),
            f("maximum active power phase B", A23).unit("kW"),
            f("maximum active power phase B at", $time),
            f("maximum active power phase C", A23).unit("kW"),
            f("maximum active power phase C at", $time),
            f("time without power", Bin(2)).unit("min"),
            f("time without power phase A", Bin(2)).unit("min"),
            f("time without power phase B", Bin(2)).unit("min"),
            f("time without power phase C", Bin(2)).unit("min"),
        ])]
    };
}
const DEMANDS: &[Part] = &[Part::One(&[
    f("maximum demand", A23).unit("kW"),
    f("maximum demand at", A18),
    f("maximum demand phase A", A23).unit("kW"),
    f("maximum demand phase A at", A18),
    f("maximum demand phase B", A23).unit("kW"),
    f("maximum demand phase B at", A18),
    f("maximum demand phase C", A23).unit("kW"),
    f("maximum demand phase C at", A18),
])];
const VOLTAGES: &[Field] = &[
    f("voltage A above its upper upper limit", Bin(2)).unit("min"),
    f("voltage A below its lower lower limit", Bin(2)).unit("min"),
    f("voltage A above its upper limit", Bin(2)).unit("min"),
    f("voltage A below its lower limit", Bin(2)).unit("min"),
    f("voltage A within its limits", Bin(2)).unit("min"),
    f("voltage B above its upper upper limit", Bin(2)).unit("min"),
    f("voltage B below its lower lower limit", Bin(2)).unit("min"),
    f("voltage B above its upper limit", Bin(2)).unit("min"),
    f("voltage B below its lower limit", Bin(2)).unit("min"),
    f("voltage B within its limits", Bin(2)).unit("min"),
    f("voltage C above its upper upper limit", Bin(2)).unit("min"),
    f("voltage C below its lower lower limit", Bin(2)).unit("min"),
    f("voltage C above its upper limit", Bin(2)).unit("min"),
    f("voltage C below its lower limit", Bin(2)).unit("min"),
    f("voltage C within its limits", Bin(2)).unit("min"),
    f("maximum voltage phase A", A7).unit("V"),
    f("maximum voltage phase A at", A18),
    f("minimum voltage phase A", A7).unit("V"),
    f("minimum voltage phase A at", A18),
    f("maximum voltage phase B", A7).unit("V"),
    f("maximum voltage phase B at", A18),
    f("minimum voltage phase B", A7).unit("V"),
    f("minimum voltage phase B at", A18),
    f("maximum voltage phase C", A7).unit("V"),
    f("maximum voltage phase C at", A18),
    f("minimum voltage phase C", A7).unit("V"),
    f("minimum voltage phase C at", A18),
    f("mean voltage phase A", A7).unit("V"),
    f("mean voltage phase B", A7).unit("V"),
    f("mean voltage phase C", A7).unit("V"),
];
const VOLTAGES_2009: &[Part] = &[Part::One(VOLTAGES)];
const VOLTAGES_2013: &[Part] = &[
    Part::One(VOLTAGES),
    Part::One(&[f("voltage qualification rates", Bytes(27))]),
];
macro_rules! unbalance {
    ($time:expr) => {
        &[Part::One(&[
            f("current unbalanced", Bin(2)).unit("min"),
            f("voltage unbalanced", Bin(2)).unit("min"),
            f("maximum current unbalance", A5).unit("%"),
            f("maximum current unbalance at", $time),
            f("maximum voltage unbalance", A5).unit("%"),
            f("maximum voltage unbalance at", $time),
        ])]
    };
}
const CURRENTS: &[Part] = &[Part::One(&[
    f("current A above its upper upper limit", Bin(2)).unit("min"),
    f("current A above its upper limit", Bin(2)).unit("min"),
    f("current B above its upper upper limit", Bin(2)).unit("min"),
    f("current B above its upper limit", Bin(2)).unit("min"),
    f("current C above its upper upper limit", Bin(2)).unit("min"),
    f("current C above its upper limit", Bin(2)).unit("min"),
    f("neutral current above its limit", Bin(2)).unit("min"),
    f("maximum current phase A", A25).unit("A"),
    f("maximum current phase A at", A18),
    f("maximum current phase B", A25).unit("A"),
    f("maximum current phase B at", A18),
    f("maximum current phase C", A25).unit("A"),
    f("maximum current phase C at", A18),
    f("maximum neutral current", A25).unit("A"),
    f("maximum neutral current at", A18),
])];
const APPARENT: &[Part] = &[Part::One(&[
    f("apparent power above its upper upper limit", Bin(2)).unit("min"),
    f("apparent power above its upper limit", Bin(2)).unit("min"),
])];
macro_rules! load_rate {
    ($time:expr) => {
        &[Part::One(&[
            f("maximum load rate", A5).unit("%"),
            f("maximum load rate at", $time),
            f("minimum load rate", A5).unit("%"),
            f("minimum load rate at", $time),
        ])]
    };
}
const FACTOR_TIMES: &[Part] = &[Part::One(&[
    f("power factor in section 1", Bin(2)).unit("min"),
    f("power factor in section 2", Bin(2)).unit("min"),
    f("power factor in section 3", Bin(2)).unit("min"),
])];
const SUPPLY: &[Part] = &[Part::One(&[
    f("terminal supplied", Bin(2)).unit("min"),
    f("restarts", Bin(2)),
])];
const TRAFFIC: &[Part] = &[Part::One(&[f("traffic with the master", Bin(4)).unit("B")])];
const GROUP_POWER: &[Part] = &[Part::One(&[
    f("maximum active power", A2).unit("kW"),
    f("maximum active power at", A18),
    f("minimum active power", A2).unit("kW"),
    f("minimum active power at", A18),
    f("time without power", Bin(2)).unit("min"),
])];
const OVER: &[Part] = &[Part::One(&[
    f("above the limit", Bin(2)).unit("min"),
    f("energy above the limit", A3).unit("kWh"),
])];
macro_rules! phases {
    ($format:expr, $unit:literal, $a:literal, $b:literal, $c:literal, $ca:literal, $cb:literal, $cc:literal) => {
        &[
            READ_AT,
            Part::One(&[
                f($a, $format).unit($unit).obis($ca, 8),
                f($b, $format).unit($unit).obis($cb, 8),
                f($c, $format).unit($unit).obis($cc, 8),
            ]),
        ]
    };
}
const PHASES_IMPORT: &[Part] = phases!(
    A14,
    "kWh",
    "import active energy phase A",
    "import active energy phase B",
    "import active energy phase C",
    21,
    41,
    61
);
const PHASES_IMPORT_REACTIVE: &[Part] = phases!(
    A11,
    "kvarh",
    "import reactive energy phase A",
    "import reactive energy phase B",
    "import reactive energy phase C",
    23,
    43,
    63
);
const PHASES_EXPORT: &[Part] = phases!(
    A14,
    "kWh",
    "export active energy phase A",
    "export active energy phase B",
    "export active energy phase C",
    22,
    42,
    62
);
const PHASES_EXPORT_REACTIVE: &[Part] = phases!(
    A11,
    "kvarh",
    "export reactive energy phase A",
    "export reactive energy phase B",
    "export reactive energy phase C",
    24,
    44,
    64
);

const ROWS: &[Row] = &[
    past(1, Day, "import energies of a day", IMPORTS),
    past(2, Day, "export energies of a day", EXPORTS),
    past(3, Day, "import demands of a day", IMPORT_DEMANDS),
    past(4, Day, "export demands of a day", EXPORT_DEMANDS),
    past(
        5,
        Day,
        "import active amount of a day",
        amount!("import active amount", "kWh"),
    ),
    past(
        6,
        Day,
        "import reactive amount of a day",
        amount!("import reactive amount", "kvarh"),
    ),
    past(
        7,
        Day,
        "export active amount of a day",
        amount!("export active amount", "kWh"),
    ),
    past(
        8,
        Day,
        "export reactive amount of a day",
        amount!("export reactive amount", "kvarh"),
    ),
    past(9, Day, "import energies of a reading day", IMPORTS),
    past(10, Day, "export energies of a reading day", EXPORTS),
    past(11, Day, "import demands of a reading day", IMPORT_DEMANDS),
    past(12, Day, "export demands of a reading day", EXPORT_DEMANDS),
    past(17, Month, "import energies of a month", IMPORTS),
    past(18, Month, "export energies of a month", EXPORTS),
    past(19, Month, "import demands of a month", IMPORT_DEMANDS),
    past(20, Month, "export demands of a month", EXPORT_DEMANDS),
    past(
        21,
        Month,
        "import active amount of a month",
        amount!("import active amount", "kWh"),
    ),
    past(
        22,
        Month,
        "import reactive amount of a month",
        amount!("import reactive amount", "kvarh"),
    ),
    past(
        23,
        Month,
        "export active amount of a month",
        amount!("export active amount", "kWh"),
    ),
    past(
        24,
        Month,
        "export reactive amount of a month",
        amount!("export reactive amount", "kvarh"),
    ),
    past(25, Day, "maximum powers of a day", powers!(A18)),
    past(26, Day, "maximum demands of a day", DEMANDS),
    past(27, Day, "voltage statistics of a day", VOLTAGES_2013),
    past(28, Day, "unbalance of a day", unbalance!(A18)),
    past(29, Day, "current statistics of a day", CURRENTS),
    past(30, Day, "apparent power statistics of a day", APPARENT),
    past(31, Day, "load rates of a day", load_rate!(A18)),
    dark(32, Day, "phase losses of a day"),
    past(33, Month, "maximum powers of a month", powers!(A18)),
    past(34, Month, "maximum demands of a month", DEMANDS),
    past(35, Month, "voltage statistics of a month", VOLTAGES_2013),
    past(36, Month, "unbalance of a month", unbalance!(A17)),
    past(37, Month, "current statistics of a month", CURRENTS),
    past(38, Month, "apparent power statistics of a month", APPARENT),
    past(39, Month, "load rates of a month", load_rate!(A17)),
    dark(40, Month, "phase losses of a month"),
    dark(41, Day, "capacitors of a day"),
    dark(42, Day, "compensated reactive energy of a day and its month"),
    past(43, Day, "power factor sections of a day", FACTOR_TIMES),
    past(44, Month, "power factor sections of a month", FACTOR_TIMES),
    dark(45, Day, "losses of a day"),
    dark(46, Month, "losses of a month"),
    past(49, Day, "supply and restarts of the terminal in a day", SUPPLY),
    dark(50, Day, "controls of a day"),
    past(51, Month, "supply and restarts of the terminal in a month", SUPPLY),
    dark(52, Month, "controls of a month"),
    past(53, Day, "traffic of a day", TRAFFIC),
    past(54, Month, "traffic of a month", TRAFFIC),
    past(57, Day, "power of a group in a day", GROUP_POWER),
    past(
        58,
        Day,
        "active energy of a group in a day",
        total!("active energy", "kWh"),
    ),
    past(
        59,
        Day,
        "reactive energy of a group in a day",
        total!("reactive energy", "kvarh"),
    ),
    past(60, Month, "power of a group in a month", GROUP_POWER),
    past(
        61,
        Month,
        "active energy of a group in a month",
        total!("active energy", "kWh"),
    ),
    past(
        62,
        Month,
        "reactive energy of a group in a month",
        total!("reactive energy", "kvarh"),
    ),
    past(65, Month, "above the power limit in a month", OVER),
    past(66, Month, "above the energy limit in a month", OVER),
    past(
        73,
        Curve,
        "active power of a group",
        curve!(f("active power", A2).unit("kW")),
    ),
    past(
        74,
        Curve,
        "reactive power of a group",
        curve!(f("reactive power", A2).unit("kvar")),
    ),
    past(
        75,
        Curve,
        "active energy of a group",
        curve!(f("active energy", A3).unit("kWh")),
    ),
    past(
        76,
        Curve,
        "reactive energy of a group",
        curve!(f("reactive energy", A3).unit("kvarh")),
    ),
    past(
        81,
        Curve,
        "active power",
        curve!(f("active power", A9).unit("kW").obis(1, 7)),
    ),
    past(
        82,
        Curve,
        "active power phase A",
        curve!(f("active power phase A", A9).unit("kW").obis(21, 7)),
    ),
    past(
        83,
        Curve,
        "active power phase B",
        curve!(f("active power phase B", A9).unit("kW").obis(41, 7)),
    ),
    past(
        84,
        Curve,
        "active power phase C",
        curve!(f("active power phase C", A9).unit("kW").obis(61, 7)),
    ),
    past(
        85,
        Curve,
        "reactive power",
        curve!(f("reactive power", A9).unit("kvar").obis(3, 7)),
    ),
    past(
        86,
        Curve,
        "reactive power phase A",
        curve!(f("reactive power phase A", A9).unit("kvar").obis(23, 7)),
    ),
    past(
        87,
        Curve,
        "reactive power phase B",
        curve!(f("reactive power phase B", A9).unit("kvar").obis(43, 7)),
    ),
    past(
        88,
        Curve,
        "reactive power phase C",
        curve!(f("reactive power phase C", A9).unit("kvar").obis(63, 7)),
    ),
    past(
        89,
        Curve,
        "voltage phase A",
        curve!(f("voltage phase A", A7).unit("V").obis(32, 7)),
    ),
    past(
        90,
        Curve,
        "voltage phase B",
        curve!(f("voltage phase B", A7).unit("V").obis(52, 7)),
    ),
    past(
        91,
        Curve,
        "voltage phase C",
        curve!(f("voltage phase C", A7).unit("V").obis(72, 7)),
    ),
    past(
        92,
        Curve,
        "current phase A",
        curve!(f("current phase A", A25).unit("A").obis(31, 7)),
    ),
    past(
        93,
        Curve,
        "current phase B",
        curve!(f("current phase B", A25).unit("A").obis(51, 7)),
    ),
    past(
        94,
        Curve,
        "current phase C",
        curve!(f("current phase C", A25).unit("A").obis(71, 7)),
    ),
    past(
        95,
        Curve,
        "neutral current",
        curve!(f("neutral current", A25).unit("A").obis(91, 7)),
    ),
    past(
        97,
        Curve,
        "import active amount",
        curve!(f("import active amount", A13).unit("kWh").obis(1, 29)),
    ),
    past(
        98,
        Curve,
        "import reactive amount",
        curve!(f("import reactive amount", A13).unit("kvarh").obis(3, 29)),
    ),
    past(
        99,
        Curve,
        "export active amount",
        curve!(f("export active amount", A13).unit("kWh").obis(2, 29)),
    ),
    past(
        100,
        Curve,
        "export reactive amount",
        curve!(f("export reactive amount", A13).unit("kvarh").obis(4, 29)),
    ),
    past(
        101,
        Curve,
        "import active energy",
        curve!(f("import active energy", A11).unit("kWh").obis(1, 8)),
    ),
    past(
        102,
        Curve,
        "import reactive energy",
        curve!(f("import reactive energy", A11).unit("kvarh").obis(3, 8)),
    ),
    past(
        103,
        Curve,
        "export active energy",
        curve!(f("export active energy", A11).unit("kWh").obis(2, 8)),
    ),
    past(
        104,
        Curve,
        "export reactive energy",
        curve!(f("export reactive energy", A11).unit("kvarh").obis(4, 8)),
    ),
    past(
        105,
        Curve,
        "power factor",
        curve!(f("power factor", A5).unit("%").obis(13, 7)),
    ),
    past(
        106,
        Curve,
        "power factor phase A",
        curve!(f("power factor phase A", A5).unit("%").obis(33, 7)),
    ),
    past(
        107,
        Curve,
        "power factor phase B",
        curve!(f("power factor phase B", A5).unit("%").obis(53, 7)),
    ),
    past(
        108,
        Curve,
        "power factor phase C",
        curve!(f("power factor phase C", A5).unit("%").obis(73, 7)),
    ),
    dark(109, Curve, "voltage angles"),
    dark(110, Curve, "current angles"),
    past(153, Day, "import active energy by phase of a day", PHASES_IMPORT),
    past(
        154,
        Day,
        "import reactive energy by phase of a day",
        PHASES_IMPORT_REACTIVE,
    ),
    past(155, Day, "export active energy by phase of a day", PHASES_EXPORT),
    past(
        156,
        Day,
        "export reactive energy by phase of a day",
        PHASES_EXPORT_REACTIVE,
    ),
    past(157, Month, "import active energy by phase of a month", PHASES_IMPORT),
    past(
        158,
        Month,
        "import reactive energy by phase of a month",
        PHASES_IMPORT_REACTIVE,
    ),
    past(159, Month, "export active energy by phase of a month", PHASES_EXPORT),
    past(
        160,
        Month,
        "export reactive energy by phase of a month",
        PHASES_EXPORT_REACTIVE,
    ),
    past(161, Day, "import active energy of a day", IMPORT_BY_TARIFF),
    past(162, Day, "import reactive energy of a day", REACTIVE_1_BY_TARIFF),
    past(163, Day, "export active energy of a day", EXPORT_BY_TARIFF),
    past(164, Day, "export reactive energy of a day", REACTIVE_2_BY_TARIFF),
    past(165, Day, "reactive energy quadrant 1 of a day", QUADRANT_1_BY_TARIFF),
    past(166, Day, "reactive energy quadrant 2 of a day", QUADRANT_2_BY_TARIFF),
    past(167, Day, "reactive energy quadrant 3 of a day", QUADRANT_3_BY_TARIFF),
    past(168, Day, "reactive energy quadrant 4 of a day", QUADRANT_4_BY_TARIFF),
    past(169, Day, "import active energy of a reading day", IMPORT_BY_TARIFF),
    past(
        170,
        Day,
        "import reactive energy of a reading day",
        REACTIVE_1_BY_TARIFF,
    ),
    past(171, Day, "export active energy of a reading day", EXPORT_BY_TARIFF),
    past(
        172,
        Day,
        "export reactive energy of a reading day",
        REACTIVE_2_BY_TARIFF,
    ),
    past(
        173,
        Day,
        "reactive energy quadrant 1 of a reading day",
        QUADRANT_1_BY_TARIFF,
    ),
    past(
        174,
        Day,
        "reactive energy quadrant 2 of a reading day",
        QUADRANT_2_BY_TARIFF,
    ),
    past(
        175,
        Day,
        "reactive energy quadrant 3 of a reading day",
        QUADRANT_3_BY_TARIFF,
    ),
    past(
        176,
        Day,
        "reactive energy quadrant 4 of a reading day",
        QUADRANT_4_BY_TARIFF,
    ),
    past(177, Month, "import active energy of a month", IMPORT_BY_TARIFF),
    past(178, Month, "import reactive energy of a month", REACTIVE_1_BY_TARIFF),
    past(179, Month, "export active energy of a month", EXPORT_BY_TARIFF),
    past(180, Month, "export reactive energy of a month", REACTIVE_2_BY_TARIFF),
    past(
        181,
        Month,
        "reactive energy quadrant 1 of a month",
        QUADRANT_1_BY_TARIFF,
    ),
    past(
        182,
        Month,
        "reactive energy quadrant 2 of a month",
        QUADRANT_2_BY_TARIFF,
    ),
    past(
        183,
        Month,
        "reactive energy quadrant 3 of a month",
        QUADRANT_3_BY_TARIFF,
    ),
    past(
        184,
        Month,
        "reactive energy quadrant 4 of a month",
        QUADRANT_4_BY_TARIFF,
    ),
    past(185, Day, "import active demand of a day", IMPORT_DEMAND_BY_TARIFF),
    past(
        186,
        Day,
        "import reactive demand of a day",
        IMPORT_REACTIVE_DEMAND_BY_TARIFF,
    ),
    past(187, Day, "export active demand of a day", EXPORT_DEMAND_BY_TARIFF),
    past(
        188,
        Day,
        "export reactive demand of a day",
        EXPORT_REACTIVE_DEMAND_BY_TARIFF,
    ),
    past(
        189,
        Day,
        "import active demand of a reading day",
        IMPORT_DEMAND_BY_TARIFF,
    ),
    past(
        190,
        Day,
        "import reactive demand of a reading day",
        IMPORT_REACTIVE_DEMAND_BY_TARIFF,
    ),
    past(
        191,
        Day,
        "export active demand of a reading day",
        EXPORT_DEMAND_BY_TARIFF,
    ),
    past(
        192,
        Day,
        "export reactive demand of a reading day",
        EXPORT_REACTIVE_DEMAND_BY_TARIFF,
    ),
    past(193, Month, "import active demand of a month", IMPORT_DEMAND_BY_TARIFF),
    past(
        194,
        Month,
        "import reactive demand of a month",
        IMPORT_REACTIVE_DEMAND_BY_TARIFF,
    ),
    past(195, Month, "export active demand of a month", EXPORT_DEMAND_BY_TARIFF),
    past(
        196,
        Month,
        "export reactive demand of a month",
        EXPORT_REACTIVE_DEMAND_BY_TARIFF,
    ),
    past(209, Day, "relay at the end of a day", RELAY_2013),
    past(210, Day, "purchase at the end of a day", PURCHASE),
    past(213, Day, "switches and covers at the end of a day", SWITCHES_2013),
    past(214, Day, "clock and tariff changes at the end of a day", CHANGES_2013),
];

/// What was laid out differently in 2009.
const ROWS_2009: &[Row] = &[
    past(27, Day, "voltage statistics of a day", VOLTAGES_2009),
    past(35, Month, "voltage statistics of a month", VOLTAGES_2009),
    past(209, Day, "relay at the end of a day", RELAY_2009),
    past(213, Day, "switches and covers at the end of a day", SWITCHES_2009),
    past(214, Day, "clock and tariff changes at the end of a day", CHANGES_2009),
];

pub(super) fn row(item: Fn, edition: Edition) -> Option<Layout> {
    let older = (edition == Edition::E2009).then(|| find(ROWS_2009, item)).flatten();
    older.or_else(|| find(ROWS, item))
}
