//! A table of attributes and records that answers questions as a device does.

use super::apdu::GetRecord;
use super::dar::Dar;
use super::data::{Between, Csd, Data, Ms, Rsd, Span};
use super::request::{ROW_OF, STORED_AT};
use super::terminal::Objects;
use super::values::{Oad, Omd};
use super::{Tsa, relay};
use std::collections::{BTreeMap, BTreeSet};

/// A row of a record: its columns.
pub type Row = BTreeMap<Oad, Data>;

/// What a device has.
#[derive(Clone, Debug, Default)]
pub struct Table {
    attributes: BTreeMap<Oad, Data>,
    writable: BTreeSet<Oad>,
    /// By object, oldest row first.
    records: BTreeMap<u16, Vec<Row>>,
    /// Meters behind, by address.
    meters: BTreeMap<Vec<u8>, Table>,
    /// Methods that may be done, besides those of the relay.
    methods: BTreeSet<Omd>,
    /// Whether the relay may be moved.
    has_relay: bool,
    open: bool,
    /// Every method that was done.
    done: Vec<(Omd, Data)>,
}

/// How many methods a table remembers.
const DONE_MAX: usize = 256;

impl Table {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives an attribute a value, from outside.
    pub fn put(&mut self, oad: Oad, data: Data) {
        self.attributes.insert(oad, data);
    }

    /// Lets an attribute be set.
    pub fn allow_set(&mut self, oad: Oad) {
        self.writable.insert(oad);
    }

    /// Lets a method be done.
    pub fn allow_method(&mut self, omd: Omd) {
        self.methods.insert(omd);
    }

    /// Gives it a relay, closed.
    pub fn give_relay(&mut self) {
        self.has_relay = true;
    }

    /// Whether its relay is open.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// What was done, oldest first.
    pub fn done(&self) -> &[(Omd, Data)] {
        &self.done
    }

    /// Adds a row to a record, as its newest.
    pub fn push_row(&mut self, oi: u16, row: Row) {
        self.records.entry(oi).or_default().push(row);
    }

    /// Puts a meter behind it.
    pub fn put_meter(&mut self, server: &Tsa, meter: Self) {
        self.meters.insert(server.bytes().to_vec(), meter);
    }

    /// A meter behind it.
    pub fn meter(&self, server: &Tsa) -> Option<&Self> {
        self.meters.get(server.bytes())
    }

    fn cell(row: &Row, column: &Csd) -> Data {
        match column {
            Csd::Oad(oad) => row.get(oad).cloned().unwrap_or(Data::Null),
            Csd::Road(road) => {
                let cells = road
                    .columns
                    .iter()
                    .map(|oad| row.get(oad).cloned().unwrap_or(Data::Null));
                let mut cells: Vec<Data> = cells.collect();
                match (cells.len(), cells.pop()) {
                    (1, Some(only)) => only,
                    (_, last) => {
                        cells.extend(last);
                        Data::Array(cells)
                    }
                }
            }
        }
    }
}

/// Whether a value lies between two of its kind, the second left out.
fn lies_between(value: &Data, begin: &Data, end: &Data) -> bool {
    match (value, begin, end) {
        (Data::DateTimeS(value), Data::DateTimeS(begin), Data::DateTimeS(end)) => begin <= value && value < end,
        _ => match (value.number(), begin.number(), end.number()) {
            (Some(value), Some(begin), Some(end)) => begin <= value && value < end,
            _ => false,
        },
    }
}

fn within(row: &Row, between: &Between) -> bool {
    let value = row.get(&between.oad);
    value.is_some_and(|value| lies_between(value, &between.begin, &between.end))
}

fn is_of(row: &Row, meters: &Ms) -> bool {
    match meters {
        Ms::None => false,
        Ms::Addresses(list) => match row.get(&ROW_OF) {
            Some(Data::Tsa(server)) => list.contains(server),
            _ => false,
        },
        // a table has no archive of kinds and numbers
        _ => true,
    }
}

fn stored_within(row: &Row, span: &Span) -> bool {
    let stored = match row.get(&STORED_AT) {
        Some(Data::DateTimeS(stored)) => *stored,
        _ => return false,
    };
    span.begin <= stored && stored < span.end && is_of(row, &span.meters)
}

impl Objects for Table {
    fn get(&mut self, oad: Oad) -> Result<Data, Dar> {
        if let Some(data) = self.attributes.get(&oad) {
            return Ok(data.clone());
        }
        let whole = self.attributes.get(&Oad { index: 0, ..oad }).ok_or(Dar::UNDEFINED)?;
        let place = usize::from(oad.index).checked_sub(1).ok_or(Dar::UNDEFINED)?;
        match whole {
            Data::Array(list) | Data::Structure(list) => list.get(place).cloned().ok_or(Dar::UNDEFINED),
            _ => Err(Dar::UNDEFINED),
        }
    }

    fn set(&mut self, oad: Oad, data: &Data) -> Dar {
        let old = match self.attributes.get(&oad) {
            None => return Dar::UNDEFINED,
            Some(_) if !self.writable.contains(&oad) => return Dar::DENIED,
            Some(old) => old,
        };
        if std::mem::discriminant(old) != std::mem::discriminant(data) {
            return Dar::TYPE;
        }
        self.attributes.insert(oad, data.clone());
        Dar::SUCCESS
    }

    fn act(&mut self, omd: Omd, data: &Data) -> (Dar, Option<Data>) {
        let item = super::apdu::ActionItem {
            omd,
            data: data.clone(),
        };
        match relay::Action::of_item(&item) {
            Some((relay::Action::Trip { .. }, _)) if self.has_relay => self.open = true,
            Some((relay::Action::Close, _)) if self.has_relay => self.open = false,
            Some(_) if self.has_relay => {}
            _ if self.methods.contains(&omd) => {}
            _ => return (Dar::DENIED, None),
        }
        if self.done.len() < DONE_MAX {
            self.done.push((omd, data.clone()));
        }
        (Dar::SUCCESS, None)
    }

    fn rows(&mut self, asked: &GetRecord) -> Result<Vec<Vec<Data>>, Dar> {
        let rows = self.records.get(&asked.oad.oi).ok_or(Dar::UNDEFINED)?;
        let newest = |count: u8, of: &Ms| {
            let chosen: Vec<&Row> = rows.iter().filter(|row| is_of(row, of)).collect();
            let from = chosen.len().saturating_sub(count.into());
            chosen.into_iter().skip(from).collect::<Vec<_>>()
        };
        let chosen: Vec<&Row> = match &asked.rows {
            Rsd::All => rows.iter().collect(),
            Rsd::Equal(equal) => rows
                .iter()
                .filter(|row| row.get(&equal.oad) == Some(&equal.value))
                .collect(),
            Rsd::Between(between) => rows.iter().filter(|row| within(row, between)).collect(),
            Rsd::AllBetween(list) => rows.iter().filter(|row| list.iter().all(|b| within(row, b))).collect(),
            Rsd::StartedAt(at) | Rsd::StoredAt(at) => {
                let time = Data::DateTimeS(at.time);
                let stored = rows.iter().filter(|row| row.get(&STORED_AT) == Some(&time));
                stored.filter(|row| is_of(row, &at.meters)).collect()
            }
            Rsd::Started(span) | Rsd::Stored(span) | Rsd::Collected(span) => {
                rows.iter().filter(|row| stored_within(row, span)).collect()
            }
            Rsd::Back(number) => {
                let place = rows.len().checked_sub((*number).into());
                place.and_then(|place| rows.get(place)).into_iter().collect()
            }
            Rsd::Last(last) => newest(last.count, &last.meters),
        };
        let cells = |row: &Row| asked.columns.iter().map(|column| Self::cell(row, column)).collect();
        Ok(chosen.into_iter().map(cells).collect())
    }

    fn behind(&mut self, server: &Tsa) -> Option<&mut dyn Objects> {
        let meter = self.meters.get_mut(server.bytes())?;
        Some(meter)
    }
}
