//! Status words 1 to 7 of 2007 and the running states of 1997, bit by bit.

use super::super::Di;

/// What a meter says of its relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelayState {
    /// Current can flow.
    Closed,
    /// It cannot.
    Open,
}

/// The relay in status word 3 of 2007 (04000503, bit 4).
pub fn relay_state(word_3: u64) -> RelayState {
    if word_3 >> 4 & 1 == 0 {
        RelayState::Closed
    } else {
        RelayState::Open
    }
}

const WORD_1: &[(u8, &str)] = &[
    (1, "demand by sliding block"),
    (2, "clock battery low"),
    (3, "reading battery low"),
    (4, "active power reversed"),
    (5, "reactive power reversed"),
];
const WORD_2: &[(u8, &str)] = &[
    (0, "active power reversed, phase A"),
    (1, "active power reversed, phase B"),
    (2, "active power reversed, phase C"),
    (4, "reactive power reversed, phase A"),
    (5, "reactive power reversed, phase B"),
    (6, "reactive power reversed, phase C"),
];
const WORD_3: &[(u8, &str)] = &[
    (0, "second day tables in use"),
    (1, "on auxiliary supply"),
    (2, "on battery"),
    (3, "programming permitted"),
    (4, "relay open"),
    (5, "second zone tables in use"),
    (6, "relay commanded open"),
    (7, "alarm before trip"),
];
const WORD_PHASE: &[(u8, &str)] = &[
    (0, "loss of voltage"),
    (1, "under-voltage"),
    (2, "over-voltage"),
    (3, "loss of current"),
    (4, "over-current"),
    (5, "overload"),
    (6, "power reversed"),
    (7, "phase open"),
    (8, "current broken"),
];
const WORD_7: &[(u8, &str)] = &[
    (0, "voltage sequence reversed"),
    (1, "current sequence reversed"),
    (2, "voltage unbalance"),
    (3, "current unbalance"),
    (4, "auxiliary supply lost"),
    (5, "power off"),
    (6, "demand limit exceeded"),
    (7, "total power factor low"),
    (8, "severe current unbalance"),
    (9, "power reversed"),
    (10, "total loss of voltage"),
];

/// The names of the bits that are set; empty where the identifier is no status word.
pub fn status_bits(di: Di, bits: u64) -> Vec<&'static str> {
    let names = match di {
        Di::E2007(0x0400_0501) => WORD_1,
        Di::E2007(0x0400_0502) => WORD_2,
        Di::E2007(0x0400_0503) => WORD_3,
        Di::E2007(0x0400_0504..=0x0400_0506) => WORD_PHASE,
        Di::E2007(0x0400_0507) => WORD_7,
        _ => &[],
    };
    let set = names.iter().filter(|(bit, _)| bits >> bit & 1 != 0);
    set.map(|(_, name)| *name).collect()
}
