//! What outlives the server: the meters and what they said, the trace of the run, and what is found to be wrong.

use super::plan::{Plan, Weather};
use super::time::SimClock;
use polyphase::base::ids::{ConnectionId, MeterId};
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Measurand, Reading, Value};
use polyphase::simulator::faults::Dice;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// The least time-out of the lines.
pub const TIMEOUT_MS: u64 = 1_000;

/// No word is older when it is taken for an answer: both attempts of the questions of a visit, with time-outs as long as
/// they are ever learned.
const STALE_MS: u64 = 40_000;

/// A word of a meter.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    pub meter: MeterId,
    pub at_ms: u64,
}

/// A line as the server writes to it.
#[derive(Clone, Copy, Debug)]
struct Wire {
    connection: ConnectionId,
    wrote_ms: u64,
    heard: bool,
}

#[derive(Debug, Default)]
pub struct State {
    /// Words by their number; no number is ever used twice.
    said: BTreeMap<i64, Said>,
    words: BTreeMap<MeterId, i64>,
    connections: u64,
    wires: BTreeMap<usize, Wire>,
    pub mute_until: BTreeMap<MeterId, u64>,
    pub weather: Weather,
    pub faults: BTreeMap<&'static str, u64>,
    pub wrong: Vec<String>,
    hash: u64,
    lines: u64,
}

/// See the file's head.
pub struct World {
    pub seed: u64,
    pub plan: Plan,
    pub clock: Arc<SimClock>,
    pub planted: Option<Planted>,
    traced: Traced,
    state: Mutex<State>,
}

/// A bug that is planted at a seam of the server, to see that the simulation finds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Planted {
    /// A poll is acknowledged before the spool has it.
    AcknowledgedEarly,
    /// The answers of two questions of a line are taken for each other's.
    Swapped,
    /// Now and then a frame that came before is taken for the answer.
    StrayBelieved,
    /// Of slots of one instant, what the last question brought is not kept.
    MergedInPart,
}

impl Planted {
    pub const ALL: [Self; 4] = [
        Self::AcknowledgedEarly,
        Self::Swapped,
        Self::StrayBelieved,
        Self::MergedInPart,
    ];
}

/// What becomes of the trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Traced {
    Not,
    Hashed,
    Printed,
}

impl World {
    pub fn new(seed: u64, traced: Traced, planted: Option<Planted>) -> Arc<Self> {
        let plan = Plan::of(seed);
        let state = State {
            weather: plan.weather,
            hash: 0xcbf2_9ce4_8422_2325,
            ..State::default()
        };
        Arc::new(Self {
            seed,
            plan,
            clock: Arc::new(SimClock::new()),
            planted,
            traced,
            state: Mutex::new(state),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Dice for one part of the world, so that parts do not shift each other.
    pub fn dice(&self, part: u64) -> Dice {
        Dice::new(self.seed.wrapping_mul(1_000_003).wrapping_add(part))
    }

    /// Writes a line of the trace.
    pub fn trace(&self, line: fmt::Arguments<'_>) {
        if self.traced == Traced::Not {
            return;
        }
        let text = format!("{:>9.3} {line}", self.clock.ms() as f64 / 1000.0);
        if self.traced == Traced::Printed {
            println!("{text}");
        }
        let mut state = self.state();
        state.lines += 1;
        for byte in text.bytes().chain([b'\n']) {
            state.hash = (state.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// An invariant does not hold.
    pub fn wrong(&self, what: fmt::Arguments<'_>) {
        self.trace(format_args!("WRONG {what}"));
        let mut state = self.state();
        if state.wrong.len() < 20 {
            let at = self.clock.ms();
            state.wrong.push(format!("at {at} ms: {what}"));
        }
    }

    pub fn count(&self, fault: &'static str) {
        *self.state().faults.entry(fault).or_default() += 1;
    }

    pub fn hash(&self) -> (u64, u64) {
        let state = self.state();
        (state.hash, state.lines)
    }

    pub fn next_connection(&self) -> ConnectionId {
        let mut state = self.state();
        state.connections += 1;
        ConnectionId(state.connections)
    }

    // ---- what meters say

    /// A word that no meter ever says again.
    pub fn say(&self, meter: MeterId) -> i64 {
        let at_ms = self.clock.ms();
        let mut state = self.state();
        let words = state.words.entry(meter).or_default();
        *words += 1;
        let word = i64::from(meter.0) * 10_000 + *words;
        let said = Said { meter, at_ms };
        state.said.insert(word, said);
        word
    }

    /// What a word looks like in a register.
    pub fn shown(word: i64, quantity: Quantity) -> Option<Decimal> {
        let hundredths = match quantity {
            Quantity::ActiveEnergyTotal => 0,
            Quantity::ActiveEnergyExport => 25,
            Quantity::ActiveEnergyImport => 50,
            _ => return None,
        };
        Some(Decimal::new(word * 100 + hundredths, 2))
    }

    /// A reading says what its own meter said, in the right register, at its own time.
    pub fn judge(&self, reading: &Reading) {
        let mut said: Vec<Said> = Vec::new();
        for item in &reading.items {
            let (Measurand::Standard(quantity), Value::Decimal(value)) = (&item.measurand, item.value) else {
                continue;
            };
            let Some(word) = value.trunc().to_i64().filter(|_| Self::shown(0, *quantity).is_some()) else {
                continue;
            };
            if Self::shown(word, *quantity) != Some(value) {
                self.wrong(format_args!(
                    "{value} is no {} of anybody: {reading:?}",
                    quantity.name()
                ));
            }
            let found = self.state().said.get(&word).copied();
            match found {
                Some(found) if found.meter == reading.meter => said.push(found),
                Some(found) => self.wrong(format_args!("a word of meter {}: {reading:?}", found.meter)),
                None => self.wrong(format_args!("nobody said {value}: {reading:?}")),
            }
        }
        for word in &said {
            // a clock that was set back shows less than it has shown
            if self.clock.highest_at(word.at_ms) < reading.ts {
                self.wrong(format_args!("said before it was asked for: {word:?}, {reading:?}"));
            }
            match self.clock.virtual_of(reading.read_at, word.at_ms) {
                Some(read) if read - word.at_ms <= STALE_MS => {}
                // of answers on both sides of a step, the one that seems to be the last counts
                _ if self
                    .clock
                    .stepped(word.at_ms.saturating_sub(STALE_MS), word.at_ms + STALE_MS) => {}
                read => self.wrong(format_args!("read at {read:?} ms: {word:?}, {reading:?}")),
            }
        }
    }

    // ---- one line, one owner

    /// The server wrote to a line.
    pub fn wrote(&self, dtu: usize, connection: ConnectionId) {
        let now = self.clock.ms();
        let before = self.state().wires.get(&dtu).copied();
        if let Some(before) = before {
            if connection < before.connection {
                self.wrong(format_args!(
                    "DTU {dtu} was asked on connection {connection}, though {} has taken over",
                    before.connection
                ));
            }
            let same = connection == before.connection && now != before.wrote_ms;
            if same && !before.heard && now - before.wrote_ms + 50 < TIMEOUT_MS {
                self.wrong(format_args!(
                    "DTU {dtu} was asked {} ms after a question that has no answer",
                    now - before.wrote_ms
                ));
            }
        }
        let wire = Wire {
            connection,
            wrote_ms: now,
            heard: false,
        };
        self.state().wires.insert(dtu, wire);
    }

    /// The server read from a line.
    pub fn heard(&self, dtu: usize, connection: ConnectionId) {
        if let Some(wire) = self
            .state()
            .wires
            .get_mut(&dtu)
            .filter(|wire| wire.connection == connection)
        {
            wire.heard = true;
        }
    }
}
