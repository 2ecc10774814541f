//! Data identifiers: what each brings, in which form and unit, and how a block falls into its items.

mod format;
mod status;
mod table_1997;
mod table_2007;

pub use format::{Form, Format, Value, ValueError};
pub use status::{RelayState, relay_state, status_bits};

use super::Di;
use std::fmt;

/// The byte that some meters put between the groups of a block.
const SEPARATOR: u8 = 0xAA;

/// The most items of one block.
const ITEMS_MAX: usize = 256;

/// What one item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its own identifier, where it has one; an item of a freeze has none.
    pub di: Option<Di>,
    /// What it is.
    pub what: &'static str,
    /// Which of several.
    pub part: Part,
    /// Of when.
    pub period: Period,
    /// Its unit; empty where it has none.
    pub unit: &'static str,
    /// Its form.
    pub format: Format,
}

/// Which of several like items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// There is one only.
    Only,
    /// Of all tariffs, or all phases.
    Total,
    /// One tariff, from 1.
    Tariff(u8),
    /// One phase: 1 to 3.
    Phase(u8),
    /// One harmonic of a phase.
    Harmonic {
        /// The phase, 1 to 3.
        phase: u8,
        /// Which, from 1.
        order: u8,
    },
    /// A number, from 1.
    Number(u8),
}

/// Of when an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Now.
    Now,
    /// At the n-th last settlement.
    Settlement(u8),
    /// At the n-th last freeze of a kind.
    Freeze(&'static str, u8),
    /// The n-th last event.
    Event(u8),
}

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        match self.part {
            Part::Only => {}
            Part::Total => f.write_str(", total")?,
            Part::Tariff(tariff) => write!(f, ", tariff {tariff}")?,
            Part::Phase(phase) => write!(f, ", phase {}", phase_name(phase))?,
            Part::Harmonic { phase, order } => write!(f, " {order}, phase {}", phase_name(phase))?,
            Part::Number(number) => write!(f, " {number}")?,
        }
        match self.period {
            Period::Now => Ok(()),
            Period::Settlement(1) => f.write_str(", last settlement"),
            Period::Settlement(n) => write!(f, ", {n} settlements ago"),
            Period::Freeze(kind, n) => write!(f, ", {kind} freeze {n} back"),
            Period::Event(n) => write!(f, ", {n} back"),
        }
    }
}

fn phase_name(phase: u8) -> char {
    match phase {
        1 => 'A',
        2 => 'B',
        3 => 'C',
        _ => '?',
    }
}

/// The item of place `index`, from 0, that an identifier brings; none behind its last, and for an unknown identifier.
pub fn definition(di: Di, index: usize) -> Option<Definition> {
    match di {
        Di::E1997(number) => table_1997::definition(number, index),
        Di::E2007(number) => table_2007::definition(number, index),
    }
}

/// Whether an identifier brings several items.
pub fn is_block(di: Di) -> bool {
    definition(di, 1).is_some()
}

/// The most bytes that an identifier's data have, without its own; none when it is not known. A tariff block is taken
/// with four tariffs and one separator: meters have no more, and the answer of one that has is waited for as it arrives.
pub fn data_len(di: Di) -> Option<usize> {
    let first = definition(di, 0)?;
    let usual = |item: &Definition| !matches!(item.part, Part::Tariff(5..));
    let further = (1..ITEMS_MAX).map_while(|index| definition(di, index));
    let further: usize = further.take_while(usual).map(|item| item.format.size()).sum();
    Some(first.format.size() + further + usize::from(further > 0))
}

/// One item of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// What it is.
    pub definition: Definition,
    /// Where its bytes begin in the data behind the identifier.
    pub offset: usize,
    /// Its bytes.
    pub raw: &'a [u8],
    /// What it says.
    pub value: Result<Value, ValueError>,
}

/// Why data do not fall into items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// The identifier is not in the table.
    #[error("identifier {0} is not known")]
    Unknown(Di),
    /// The data end inside an item.
    #[error("{di} ends inside item {index}: {left} bytes left of {need}")]
    Short {
        /// Whose data.
        di: Di,
        /// Which item, from 0.
        index: usize,
        /// Bytes that are left.
        left: usize,
        /// Bytes of the item.
        need: usize,
    },
    /// Bytes behind the last item.
    #[error("{left} bytes behind the last item of {di}")]
    Trailing {
        /// Whose data.
        di: Di,
        /// How many.
        left: usize,
    },
}

/// Splits the data of an answer (identifier taken off) into items. A block may end early at an item's end: a single-phase
/// meter has one voltage, a meter with two tariffs three energies. Separators AA are skipped. A single item may carry one
/// separator behind it.
///
/// # Errors
/// [`SplitError`] when the identifier is not known or the data end inside an item or go on behind the last one.
pub fn split(di: Di, data: &[u8]) -> Result<Vec<Item<'_>>, SplitError> {
    let mut items = Vec::new();
    let mut offset = 0;
    for index in 0..ITEMS_MAX {
        let Some(definition) = definition(di, index) else {
            if index == 0 {
                return Err(SplitError::Unknown(di));
            }
            break;
        };
        if definition.format.is_decimal() {
            while index > 0 && data.get(offset) == Some(&SEPARATOR) {
                offset += 1;
            }
        }
        let rest = data.get(offset..).unwrap_or_default();
        if rest.is_empty() && index > 0 {
            break;
        }
        let need = definition.format.size();
        let short = SplitError::Short {
            di,
            index,
            left: rest.len(),
            need,
        };
        let raw = rest.get(..need).ok_or(short)?;
        items.push(Item {
            definition,
            offset,
            raw,
            value: definition.format.read(raw),
        });
        offset += need;
    }
    let rest = data.get(offset..).unwrap_or_default();
    if rest.iter().all(|byte| *byte == SEPARATOR) {
        Ok(items)
    } else {
        let left = rest.len();
        Err(SplitError::Trailing { di, left })
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
