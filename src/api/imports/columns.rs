//! The columns that each kind of file can have: their headings are the API's own names of fields.

use crate::port::imports::{Cell, ImportFault, ImportKind, SheetRow};
use std::collections::BTreeMap;

/// A column.
#[derive(Debug)]
pub(super) struct Column {
    /// Its heading.
    pub(super) name: &'static str,
    /// What may stand in it; what a fault advises.
    pub(super) rule: &'static str,
    /// Zeros in front mean something: a number cell of a workbook has lost them.
    pub(super) digits: bool,
    /// A new thing needs it.
    pub(super) needed: bool,
}

const fn column(name: &'static str, rule: &'static str) -> Column {
    Column {
        name,
        rule,
        digits: false,
        needed: false,
    }
}

const fn needed(name: &'static str, rule: &'static str) -> Column {
    Column {
        needed: true,
        ..column(name, rule)
    }
}

const fn digits(name: &'static str, rule: &'static str) -> Column {
    Column {
        digits: true,
        ..column(name, rule)
    }
}

const NAME: &str = "write a name of 1 to 200 characters";
const SCHEDULE: &str = "write the name of a schedule, or its id where several have that name";
const RATIO: &str = "write a decimal number with a point, above 0 and at most 100000, with at most 6 decimals";

const DTUS: &[Column] = &[
    digits(
        "sn",
        "write the serial number as it is printed on the DTU; only DTUs that are reached as modbus_tcp or serial do without",
    ),
    needed("name", NAME),
    column("connect", "write inbound, dial, modbus_tcp or serial; empty: inbound"),
    column(
        "connect_address",
        "for dial and modbus_tcp: write HOST:PORT, such as 192.0.2.7:502",
    ),
    column(
        "connect_device",
        "for serial: write a port of the server, such as /dev/ttyUSB0",
    ),
    column("connect_baud", "for serial: write a whole number from 300 to 921600"),
    column("connect_parity", "for serial: write none, even or odd"),
    column("profile", "write the name of a registration profile, or auto"),
    column(
        "time_zone",
        "write an IANA zone such as Europe/Berlin; empty: the account's",
    ),
    column("schedule", SCHEDULE),
    column("silence_s", "write a whole number of seconds from 10 to 86400"),
    column("timeout_ms", "write a whole number of milliseconds from 10 to 120000"),
    column("pause_ms", "write a whole number of milliseconds from 0 to 60000"),
];

const METERS: &[Column] = &[
    digits(
        "dtu_sn",
        "write the serial number of a DTU of this account; import DTUs first",
    ),
    column("dtu_name", "for a DTU without a serial number: write its name"),
    column("dtu_id", "instead of dtu_sn: write the id of a DTU of this account"),
    needed(
        "protocol",
        "write a protocol of this server, such as modbus-rtu; /meter-models lists models with their protocols",
    ),
    needed("address", "write the address as it is printed on the meter"),
    needed("model", "write a model of /meter-models that speaks the protocol"),
    needed("name", NAME),
    column("comment", "write at most 2000 characters"),
    column(
        "group",
        "write the name of a group of this account, or its path such as Harbour/Hall 3; import groups first",
    ),
    column("schedule", SCHEDULE),
    column("ct_ratio", RATIO),
    column("vt_ratio", RATIO),
];

const GROUPS: &[Column] = &[
    needed("name", NAME),
    column(
        "parent",
        "write the name of the group above, or its path such as Harbour/Hall 3; empty: none",
    ),
];

/// The columns of a kind of file.
pub(super) fn of(kind: ImportKind) -> &'static [Column] {
    match kind {
        ImportKind::Dtus => DTUS,
        ImportKind::Meters => METERS,
        ImportKind::Groups => GROUPS,
    }
}

/// What a fault in a column advises.
pub(super) fn rule(kind: ImportKind, name: &str) -> &'static str {
    let found = of(kind).iter().find(|column| column.name == name);
    found.map_or("correct the row", |column| column.rule)
}

/// The heading of a file: where which column is.
#[derive(Debug)]
pub(super) struct Heading {
    /// Columns that are there, by place.
    places: BTreeMap<usize, &'static Column>,
    /// Cells of the first row.
    pub(super) width: usize,
    /// What is wrong with it.
    pub(super) faults: Vec<ImportFault>,
    /// The columns by which a row is known are there, so that rows can be looked at.
    pub(super) usable: bool,
}

impl Heading {
    /// Reads a heading. Case does not matter, and neither does whether words are parted by `_`, `-` or a blank.
    pub(super) fn read(kind: ImportKind, row: &SheetRow) -> Self {
        let mut heading = Self {
            places: BTreeMap::new(),
            width: row.cells.len(),
            faults: Vec::new(),
            usable: true,
        };
        for (place, cell) in row.cells.iter().enumerate() {
            if cell.text.is_empty() {
                continue;
            }
            let name = cell.text.to_lowercase().replace([' ', '-'], "_");
            match of(kind).iter().find(|column| column.name == name) {
                Some(column) if heading.places.values().any(|known| known.name == column.name) => {
                    heading.fault(row, cell, "the column is there twice", "remove one of them".to_owned());
                }
                Some(column) => {
                    heading.places.insert(place, column);
                }
                None => {
                    let remedy = format!("{} Known are {}.", advice(kind, &name), names(kind));
                    heading.fault(row, cell, "there is no such column", remedy);
                }
            }
        }
        for wanted in keys(kind) {
            if !wanted.iter().any(|name| heading.has(name)) {
                heading.usable = false;
                heading.faults.push(ImportFault {
                    row: Some(row.number),
                    column: wanted.first().map(|name| (*name).to_owned()),
                    value: None,
                    problem: "the column is missing".to_owned(),
                    remedy: format!("the first row names the columns; write {}", wanted.join(" or ")),
                });
            }
        }
        heading
    }

    fn fault(&mut self, row: &SheetRow, cell: &Cell, problem: &str, remedy: String) {
        self.faults.push(ImportFault {
            row: Some(row.number),
            column: Some(shown(&cell.text)),
            value: Some(shown(&cell.text)),
            problem: problem.to_owned(),
            remedy,
        });
    }

    fn has(&self, name: &str) -> bool {
        self.places.values().any(|column| column.name == name)
    }

    /// The cells of a row that belong to a column and hold something.
    pub(super) fn cells<'a>(&'a self, row: &'a SheetRow) -> impl Iterator<Item = (&'static Column, &'a Cell)> {
        let cells = row.cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty());
        cells.filter_map(|(place, cell)| Some((*self.places.get(&place)?, cell)))
    }

    /// The first cell that holds something where no column is.
    pub(super) fn stray<'a>(&self, row: &'a SheetRow) -> Option<&'a Cell> {
        let beyond = |(place, cell): &(usize, &Cell)| *place >= self.width && !cell.is_empty();
        row.cells.iter().enumerate().find(beyond).map(|(_, cell)| cell)
    }
}

/// Columns without which no row can be told from another; of each list one is enough.
fn keys(kind: ImportKind) -> &'static [&'static [&'static str]] {
    match kind {
        ImportKind::Dtus => &[&["sn", "name"]],
        ImportKind::Meters => &[&["dtu_sn", "dtu_name", "dtu_id"], &["protocol"], &["address"]],
        ImportKind::Groups => &[&["name"]],
    }
}

pub(super) fn names(kind: ImportKind) -> String {
    let names: Vec<&str> = of(kind).iter().map(|column| column.name).collect();
    names.join(", ")
}

fn advice(kind: ImportKind, name: &str) -> String {
    let near = of(kind).iter().map(|column| (distance(name, column.name), column.name));
    match near.min() {
        Some((distance, near)) if distance * 2 <= near.len().max(2) => format!("Was {near} meant?"),
        _ => "Remove it.".to_owned(),
    }
}

/// How many letters differ (Levenshtein); of long texts the first 40 are looked at.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(40).collect();
    let mut line: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.chars().take(40).enumerate() {
        let mut next = vec![row + 1];
        for (to, pair) in b.iter().zip(line.windows(2)) {
            let [diagonal, above] = pair else { continue };
            let left = next.last().copied().unwrap_or(0);
            let changed = diagonal + usize::from(from != *to);
            next.push(changed.min(above + 1).min(left + 1));
        }
        line = next;
    }
    line.last().copied().unwrap_or(0)
}

/// The first characters of a value, as a fault shows it; NUL cannot be kept.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .take(100)
        .map(|c| if c == '\0' { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heading(names: &[&str]) -> Heading {
        let row = SheetRow {
            number: 1,
            cells: names.iter().map(|name| Cell::text(name)).collect(),
            exact: true,
        };
        Heading::read(ImportKind::Meters, &row)
    }

    #[test]
    fn headings_are_known_in_their_usual_spellings() {
        let found = heading(&["DTU SN", "Protocol", "ADDRESS", "model", "ct-ratio", ""]);
        assert_eq!((found.faults.len(), found.usable), (0, true));
        assert!(found.has("dtu_sn") && found.has("ct_ratio") && !found.has("vt_ratio"));
    }

    #[test]
    fn unknown_columns_name_the_nearest_known_one() {
        let found = heading(&["dtu_sn", "protocoll", "address", "adress", "Bemerkung", "address"]);
        let said: Vec<(&str, &str)> = found
            .faults
            .iter()
            .map(|fault| (fault.problem.as_str(), fault.remedy.as_str()))
            .collect();
        assert!(said[0].1.starts_with("Was protocol meant?"), "{said:?}");
        assert!(said[1].1.starts_with("Was address meant?"), "{said:?}");
        assert!(said[2].1.starts_with("Remove it."), "{said:?}");
        assert_eq!(said[3].0, "the column is there twice");
        assert_eq!(
            said[4],
            (
                "the column is missing",
                "the first row names the columns; write protocol"
            )
        );
        assert!(!found.usable);
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("name", "name", 0),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
