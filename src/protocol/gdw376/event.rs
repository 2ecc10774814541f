//! AFN 0E: the records of events ERC1 to ERC41 (Q/GDW 1376.1-2013, 7.15 and annex D).

use super::format::{Format, Value, ValueError};
use crate::base::bytes::{Reader, ShortRead};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// ERC: what happened.
    pub code: u8,
    /// What it says: first the time in most records, then what is its own.
    pub data: Vec<u8>,
}

/// What a terminal answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// EC1, EC2.
    pub counters: (u8, u8),
    /// The pointers: the first record and the one behind the last.
    pub from: u8,
    /// The one behind the last.
    pub to: u8,
    /// The records.
    pub records: Vec<Record>,
}

/// Why data are no list of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Cut off.
    #[error(transparent)]
    Short(#[from] ShortRead),
    /// The pointers promise another number of records.
    #[error("the pointers {from} to {to} promise {promised} records; there are {found}")]
    Count {
        /// First.
        from: u8,
        /// Behind the last.
        to: u8,
        /// How many that makes.
        promised: usize,
        /// How many there are.
        found: usize,
    },
}

impl Record {
    /// When it happened, by the terminal's clock: of all records but those of the terminal's own making (above ERC41) the
    /// first five bytes.
    ///
    /// # Errors
    /// [`ValueError`] where they are no time.
    pub fn at(&self) -> Result<Value, ValueError> {
        match self.data.first_chunk::<5>() {
            Some(at) => Format::A15.read(at),
            None => Err(ValueError::Length {
                have: self.data.len(),
                need: 5,
            }),
        }
    }

    /// What happened, in words.
    pub fn name(&self) -> &'static str {
        name(self.code)
    }
}

/// What an event is, in words.
pub fn name(code: u8) -> &'static str {
    match code {
        1 => "data initialised or version changed",
        2 => "parameters lost",
        3 => "parameters changed",
        4 => "input changed",
        5 => "remote trip",
        6 => "trip by power control",
        7 => "trip by energy control",
        8 => "meter parameters changed",
        9 => "current loop abnormal",
        10 => "voltage loop abnormal",
        11 => "phase order abnormal",
        12 => "meter clock off",
        13 => "meter fault",
        14 => "terminal lost or regained supply",
        15 => "harmonics above the limit",
        16 => "direct current input above the limit",
        17 => "voltage or current unbalanced",
        18 => "capacitors locked",
        19 => "purchase parameters set",
        20 => "message authentication failed",
        21 => "terminal fault",
        22 => "energy difference above the limit",
        23 => "warning of energy control",
        24 => "voltage outside its limits",
        25 => "current above its limit",
        26 => "apparent power above its limit",
        27 => "meter register fell",
        28 => "meter off by too much",
        29 => "meter flies",
        30 => "meter stands still",
        31 => "meter not reached",
        32 => "traffic above the limit",
        33 => "meter status word changed",
        34 => "current transformer abnormal",
        35 => "unknown meter found",
        36 => "control output abnormal",
        37 => "meter cover opened",
        38 => "meter terminal cover opened",
        39 => "compensation abnormal",
        40 => "magnetic field",
        41 => "clock set",
        _ => "reserved",
    }
}

/// Reads the data of F1 and F2.
///
/// # Errors
/// [`EventError`]: cut off, or more or fewer records than the pointers promise.
pub fn read(data: &[u8]) -> Result<Events, EventError> {
    let mut reader = Reader::new(data);
    let [important, ordinary, from, to] = reader.array()?;
    let mut records = Vec::new();
    while !reader.is_empty() {
        let [code, length] = reader.array()?;
        let data = reader.take(length.into())?.to_vec();
        records.push(Record { code, data });
    }
    let (promised, found) = (usize::from(to.wrapping_sub(from)), records.len());
    // 256 records are promised as none
    if promised != found % 256 {
        return Err(EventError::Count {
            from,
            to,
            promised,
            found,
        });
    }
    Ok(Events {
        counters: (important, ordinary),
        from,
        to,
        records,
    })
}

/// Writes the data of F1 and F2; none where a record is longer than its length byte can say.
pub fn write(events: &Events) -> Option<Vec<u8>> {
    let mut out = vec![events.counters.0, events.counters.1, events.from, events.to];
    for record in &events.records {
        out.extend_from_slice(&[record.code, u8::try_from(record.data.len()).ok()?]);
        out.extend_from_slice(&record.data);
    }
    Some(out)
}
