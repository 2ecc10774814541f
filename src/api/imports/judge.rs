//! What all kinds of rows have in common: their cells as values, their faults, and bodies of requests made of them, which
//! are judged by the rules of those requests.

use super::columns::{Heading, rule, shown};
use crate::api::body;
use crate::api::problem::{ApiError, Fault};
use crate::base::ids::{DtuId, GroupId, ScheduleId};
use crate::port::imports::{Cell, CellKind, ImportChange, ImportFault, ImportKind, ImportTally, Known, SheetRow};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Changes that a job tells.
const CHANGES_MAX: usize = 100;
/// Digits that a spreadsheet program keeps of a number.
const EXACT_DIGITS: usize = 15;
/// Fields of a body that can be found wrong one after the other.
const FIELDS_MAX: usize = 32;

/// How a file is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) kind: ImportKind,
    pub(super) numbers_as_text: bool,
    pub(super) faults_max: usize,
}

/// What has been found by now.
pub(super) struct Found {
    pub(super) rules: Rules,
    pub(super) tally: ImportTally,
}

impl Found {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            tally: ImportTally::default(),
        }
    }

    pub(super) fn fault(&mut self, fault: ImportFault) {
        self.tally.faults_total += 1;
        if self.tally.faults.len() < self.rules.faults_max {
            self.tally.faults.push(fault);
        }
    }

    pub(super) fn change(&mut self, row: u32, id: i32, columns: BTreeMap<String, [String; 2]>) {
        self.tally.changed += 1;
        if self.tally.changes.len() < CHANGES_MAX {
            self.tally.changes.push(ImportChange { row, id, columns });
        }
    }
}

/// A row with its values; columns with faults are known, so that each is told once.
pub(super) struct Line<'a> {
    pub(super) number: u32,
    found: &'a mut Found,
    values: BTreeMap<&'static str, &'a Cell>,
    faulty: BTreeSet<String>,
}

impl<'a> Line<'a> {
    /// Reads a row; what no column can hold is a fault at once.
    pub(super) fn read(heading: &'a Heading, row: &'a SheetRow, found: &'a mut Found) -> Self {
        let mut line = Self {
            number: row.number,
            found,
            values: BTreeMap::new(),
            faulty: BTreeSet::new(),
        };
        line.found.tally.rows_checked += 1;
        for (column, cell) in heading.cells(row) {
            line.values.insert(column.name, cell);
            if let Some((problem, remedy)) = line.unfit(column.digits, cell) {
                line.fault_with(column.name, problem, remedy);
            }
        }
        let width = heading.width;
        if let Some(cell) = heading.stray(row) {
            line.whole(cell, &format!("there is something behind the last of {width} columns"));
        } else if row.exact && row.cells.len() < width {
            let there = row.cells.len();
            let text = format!("the row has {there} cells, the heading has {width}");
            line.whole(&Cell::empty(), &text);
        }
        line
    }

    /// Why a cell cannot be taken, whatever its column is about.
    fn unfit(&self, digits: bool, cell: &Cell) -> Option<(String, String)> {
        let text = |problem: &str, remedy: &str| Some((problem.to_owned(), remedy.to_owned()));
        match cell.kind {
            CellKind::Date => text(
                "the cell is a date; what was typed there is lost",
                "format the column as text and write the value again",
            ),
            CellKind::Error => text(
                "the cell is an error of a formula",
                "correct the formula, or write the value",
            ),
            CellKind::Unvalued => text(
                "the cell is a formula without a stored value",
                "open and save the file in a spreadsheet program, or write the value",
            ),
            CellKind::TooLong => text("the cell has more characters than are taken", "shorten it"),
            CellKind::Number if significant(&cell.text) > EXACT_DIGITS => text(
                "the cell is a number of more than 15 digits, of which the others are lost",
                "format the column as text and write the value again",
            ),
            CellKind::Number if digits && !self.found.rules.numbers_as_text => lost_zeros(),
            _ if cell.text.contains('\0') => text("the cell holds a NUL character", "remove it"),
            _ => None,
        }
    }

    pub(super) fn found(&mut self) -> &mut Found {
        self.found
    }

    /// The cell of a column, if something stands there.
    pub(super) fn cell(&self, name: &str) -> Option<&'a Cell> {
        self.values.get(name).copied()
    }

    /// The text of a column, if something stands there and is not wrong already.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        let cell = self.cell(name).filter(|_| !self.faulty.contains(name))?;
        Some(cell.text.as_str())
    }

    pub(super) fn is_sound(&self) -> bool {
        self.faulty.is_empty()
    }

    pub(super) fn is_faulty(&self, name: &str) -> bool {
        self.faulty.contains(name)
    }

    /// Notes a fault of a column, unless it has one.
    pub(super) fn fault(&mut self, column: &str, problem: impl Into<String>) {
        let remedy = rule(self.found.rules.kind, column);
        self.fault_with(column, problem.into(), remedy.to_owned());
    }

    pub(super) fn fault_with(&mut self, column: &str, problem: String, remedy: String) {
        if !self.faulty.insert(column.to_owned()) {
            return;
        }
        self.found.fault(ImportFault {
            row: Some(self.number),
            column: Some(column.to_owned()),
            value: self.values.get(column).map(|cell| shown(&cell.text)),
            problem,
            remedy,
        });
    }

    /// A fault of the row as a whole.
    fn whole(&mut self, cell: &Cell, problem: &str) {
        self.faulty.insert(String::new());
        self.found.fault(ImportFault {
            row: Some(self.number),
            column: None,
            value: (!cell.is_empty()).then(|| shown(&cell.text)),
            problem: problem.to_owned(),
            remedy: "give every row as many cells as the heading has; quote cells that hold the separator".to_owned(),
        });
    }

    /// Columns that a new thing needs and that are empty.
    pub(super) fn check_needed(&mut self) {
        for column in super::columns::of(self.found.rules.kind) {
            if column.needed && self.cell(column.name).is_none() {
                self.fault(column.name, "nothing stands here, and something new needs it");
            }
        }
    }

    /// Puts the texts of columns into a body.
    pub(super) fn put(&self, body: &mut Map<String, Value>, columns: &[&str]) {
        for name in columns {
            if let Some(text) = self.text(name) {
                body.insert((*name).to_owned(), Value::String(text.to_owned()));
            }
        }
    }

    /// Puts the whole numbers of columns into a body; what is none goes there as text, and is refused there.
    pub(super) fn put_numbers(&self, body: &mut Map<String, Value>, columns: &[&str]) {
        for name in columns {
            if let Some(text) = self.text(name) {
                body.insert((*name).to_owned(), number(text));
            }
        }
    }

    /// Reads a body; each fault is noted, and its field filled from `sound` so that the others are found too. None when
    /// it cannot be read even so.
    pub(super) fn body<T: DeserializeOwned>(
        &mut self,
        mut body: Map<String, Value>,
        sound: &Map<String, Value>,
    ) -> Option<T> {
        for _ in 0..FIELDS_MAX {
            let text = serde_json::to_vec(&body).ok()?;
            let error = match body::parse::<T>(&text) {
                Ok(body) => return Some(body),
                Err(error) => error,
            };
            let fault = error.faults().first()?.clone();
            let field = fault.field.split(['.', '[']).next().unwrap_or_default().to_owned();
            self.refused(&fault);
            let before = body.remove(&field);
            match sound.get(&field) {
                // what was put there is refused too: then it is not the field's fault
                Some(value) if before.as_ref() == Some(value) => return None,
                Some(value) => {
                    body.insert(field, value.clone());
                }
                None if before.is_none() => return None,
                None => {}
            }
        }
        None
    }

    /// Notes what the rules of a request said of a body.
    pub(super) fn judged<T>(&mut self, judged: Result<T, ApiError>) -> Option<T> {
        match judged {
            Ok(sound) => Some(sound),
            Err(error) => {
                for fault in error.faults() {
                    self.refused(fault);
                }
                None
            }
        }
    }

    fn refused(&mut self, fault: &Fault) {
        let column = column_of(self.found.rules.kind, &fault.field);
        self.fault(&column, fault.message.clone());
    }
}

pub(super) fn lost_zeros() -> Option<(String, String)> {
    Some((
        "the cell is a number: zeros in front of it would be lost".to_owned(),
        "format the column as text and write the value again; if none had zeros in front, import with \
         numbers_as_text=true"
            .to_owned(),
    ))
}

/// A whole number, or the text as it stands.
pub(super) fn number(text: &str) -> Value {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(number) if digits => Value::from(number),
        _ => Value::String(text.to_owned()),
    }
}

/// Digits of a number without zeros at its ends.
fn significant(text: &str) -> usize {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_start_matches('0');
    // a number with an exponent was too large to be exact
    if mantissa.len() < text.len() {
        return digits.len().max(EXACT_DIGITS + 1);
    }
    if mantissa.contains('.') {
        digits.trim_end_matches('0').len()
    } else {
        digits.len()
    }
}

/// The column in which a field of a body stood.
fn column_of(kind: ImportKind, field: &str) -> String {
    let name = match (kind, field) {
        (ImportKind::Meters, "dtu_id") => "dtu_sn".to_owned(),
        (ImportKind::Meters, "group_id") => "group".to_owned(),
        (ImportKind::Dtus, "connect.kind") => "connect".to_owned(),
        (_, other) => other.replace('.', "_"),
    };
    let known = super::columns::of(kind).iter().any(|column| column.name == name);
    // a field below one that stands in a column by itself
    if known {
        name
    } else {
        field.split(['.', '[']).next().unwrap_or_default().to_owned()
    }
}

/// What rows name, found by name.
pub(super) struct Names {
    dtus_by_sn: HashMap<String, DtuId>,
    /// DTUs without a serial number, by name.
    bare_dtus: HashMap<String, Vec<DtuId>>,
    dtus: BTreeSet<DtuId>,
    schedules: HashMap<String, Vec<ScheduleId>>,
    schedule_names: HashMap<ScheduleId, String>,
    groups: super::groups::Tree,
}

/// Why a name leads nowhere.
pub(super) enum Unnamed {
    /// There is nothing of the name.
    Unknown,
    /// So many have it.
    Several(usize),
}

impl Names {
    pub(super) fn new(known: &Known) -> Self {
        let mut names = Self {
            dtus_by_sn: HashMap::new(),
            bare_dtus: HashMap::new(),
            dtus: BTreeSet::new(),
            schedules: HashMap::new(),
            schedule_names: HashMap::new(),
            groups: super::groups::Tree::new(&known.groups),
        };
        for (id, sn, name) in &known.dtus {
            names.dtus.insert(*id);
            match sn {
                Some(sn) => {
                    names.dtus_by_sn.insert(sn.clone(), *id);
                }
                None => names.bare_dtus.entry(name.clone()).or_default().push(*id),
            }
        }
        for (id, name) in &known.schedules {
            names.schedules.entry(name.clone()).or_default().push(*id);
            names.schedule_names.insert(*id, name.clone());
        }
        names
    }

    /// A DTU of the account by its serial number.
    pub(super) fn dtu_by_sn(&self, sn: &str) -> Option<DtuId> {
        self.dtus_by_sn.get(sn).copied()
    }

    /// A DTU without a serial number, by its name.
    pub(super) fn bare_dtu(&self, name: &str) -> Result<DtuId, Unnamed> {
        only(self.bare_dtus.get(name))
    }

    /// The DTU that a row of meters names; in which column, and why it is none.
    pub(super) fn dtu_of(&self, line: &Line<'_>) -> Result<DtuId, (&'static str, String)> {
        let given: Vec<&'static str> = ["dtu_sn", "dtu_name", "dtu_id"]
            .into_iter()
            .filter(|name| line.cell(name).is_some())
            .collect();
        let [column] = given.as_slice() else {
            let text = "one of dtu_sn, dtu_name and dtu_id has to say behind which DTU the meter is";
            return Err((given.first().copied().unwrap_or("dtu_sn"), text.to_owned()));
        };
        let text = line.cell(column).map(|cell| cell.text.as_str()).unwrap_or_default();
        let found = match *column {
            "dtu_sn" => self.dtu_by_sn(text).ok_or(Unnamed::Unknown),
            "dtu_name" => self.bare_dtu(text),
            _ => {
                let id = text.parse().ok().map(DtuId).filter(|id| self.dtus.contains(id));
                id.ok_or(Unnamed::Unknown)
            }
        };
        found.map_err(|why| match why {
            Unnamed::Unknown if *column == "dtu_name" => (
                *column,
                "there is no DTU of this name without a serial number in this account".to_owned(),
            ),
            Unnamed::Unknown => (*column, "there is no such DTU in this account".to_owned()),
            Unnamed::Several(count) => (*column, format!("{count} DTUs without a serial number have this name")),
        })
    }

    /// A schedule by its name, or by its id.
    pub(super) fn schedule(&self, line: &mut Line<'_>) -> Option<ScheduleId> {
        let text = line.text("schedule")?;
        let by_id = || {
            let id = text.parse().ok().map(ScheduleId);
            id.filter(|id| self.schedule_names.contains_key(id))
        };
        match (only(self.schedules.get(text)), by_id()) {
            (Ok(id), _) | (Err(_), Some(id)) => Some(id),
            (Err(Unnamed::Unknown), None) => {
                line.fault("schedule", "there is no such schedule in this account");
                None
            }
            (Err(Unnamed::Several(count)), None) => {
                line.fault("schedule", format!("{count} schedules have this name"));
                None
            }
        }
    }

    pub(super) fn schedule_name(&self, id: ScheduleId) -> String {
        self.schedule_names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// The group that a row of meters names.
    pub(super) fn group(&self, line: &mut Line<'_>) -> Option<GroupId> {
        let text = line.text("group")?;
        match self.groups.known(text) {
            Ok(id) => Some(id),
            Err(Unnamed::Unknown) => {
                line.fault("group", "there is no such group in this account");
                None
            }
            Err(Unnamed::Several(count)) => {
                line.fault(
                    "group",
                    format!("{count} groups have this name; write the path of the one that is meant"),
                );
                None
            }
        }
    }

    pub(super) fn group_name(&self, id: Option<GroupId>) -> String {
        id.map(|id| self.groups.path(id)).unwrap_or_default()
    }
}

fn only<T: Copy>(found: Option<&Vec<T>>) -> Result<T, Unnamed> {
    match found.map(Vec::as_slice) {
        Some([one]) => Ok(*one),
        Some(several) if !several.is_empty() => Err(Unnamed::Several(several.len())),
        _ => Err(Unnamed::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_a_number_keeps_are_counted() {
        for (text, expected) in [
            ("0", 0),
            ("12", 2),
            ("0.1", 1),
            ("1.50", 2),
            ("100", 3),
            ("123456789012345", 15),
        ] {
            assert_eq!(significant(text), expected, "{text}");
        }
        assert!(significant("1.2E+17") > EXACT_DIGITS);
        assert!(significant("1234567890123456") > EXACT_DIGITS);
    }

    #[test]
    fn fields_of_bodies_are_columns() {
        for (kind, field, column) in [
            (ImportKind::Meters, "dtu_id", "dtu_sn"),
            (ImportKind::Meters, "ct_ratio", "ct_ratio"),
            (ImportKind::Dtus, "connect.address", "connect_address"),
            (ImportKind::Dtus, "connect.kind", "connect"),
            (ImportKind::Dtus, "connect.colour", "connect"),
        ] {
            assert_eq!(column_of(kind, field), column);
        }
    }
}
