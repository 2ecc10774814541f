//! XLSX: the first sheet that is not hidden, cell by cell, with the values that were stored.
//!
//! Cells are read one after the other and put where they say they stand; a sheet that names its last row and column
//! takes no memory for what lies between.

use super::parts::{Package, attribute, broken, characters, dates, each, texts};
use super::{Rows, shown};
use crate::port::imports::{Cell, CellKind, ImportFault, SheetRow};
use quick_xml::events::{BytesStart, Event};

/// Rows and columns that a sheet can have (ECMA-376).
const ROWS: u32 = 1_048_576;
const COLUMNS: usize = 16_384;
/// Bytes of the longest character.
const CHAR_BYTES: usize = 4;
/// From here on a spreadsheet's number has lost digits; it is told as it stands in the file.
const EXACT_BELOW: f64 = 1e15;

pub(super) fn read(file: &[u8], rows: &mut Rows) -> Result<(), ImportFault> {
    let mut package = Package::open(file, rows.bounds.unpacked_max)?;
    let target = |relations: &[(String, String, String)], kind: &str| {
        let found = relations.iter().find(|(_, found, _)| found == kind);
        found.map(|(_, _, path)| path.clone())
    };
    let book = target(&package.relations("")?, "officeDocument").unwrap_or_else(|| "xl/workbook.xml".to_owned());
    let xml = package.part(&book)?.ok_or_else(|| broken("it has no workbook in it"))?;
    let id = first_sheet(&xml)?;
    let relations = package.relations(&book)?;
    let sheet = relations.iter().find(|(found, _, _)| *found == id);
    let (_, _, sheet) = sheet.ok_or_else(|| broken("its first sheet is not in it"))?;
    let bytes_max = rows.bounds.cell_chars_max.saturating_mul(CHAR_BYTES);
    let texts = match target(&relations, "sharedStrings") {
        Some(path) => texts(&package.part(&path)?.unwrap_or_default(), bytes_max)?,
        None => Vec::new(),
    };
    let dates = match target(&relations, "styles") {
        Some(path) => dates(&package.part(&path)?.unwrap_or_default())?,
        None => Vec::new(),
    };
    let xml = package
        .part(sheet)?
        .ok_or_else(|| broken("its first sheet is not in it"))?;
    let mut reading = Reading {
        rows,
        texts: &texts,
        dates: &dates,
        row: 0,
        column: 0,
        cells: Vec::new(),
        open: None,
        sink: Sink::None,
        ended: false,
    };
    each(&xml, |event| reading.take(event))?;
    if reading.ended {
        Ok(())
    } else {
        Err(broken("its first sheet has no end, or is no table"))
    }
}

/// The relation of the first sheet that is not hidden.
fn first_sheet(xml: &str) -> Result<String, ImportFault> {
    let mut found = None;
    each(xml, |event| {
        if let Event::Start(element) | Event::Empty(element) = event
            && element.local_name().as_ref() == "sheet"
            && attribute(element, "state")?.is_none_or(|state| state == "visible")
        {
            found = attribute(element, "id")?;
        }
        Ok(found.is_none())
    })?;
    found.ok_or_else(|| broken("it has no sheet that is not hidden"))
}

/// Where characters belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    None,
    Value,
    Phonetic,
}

/// A cell that has begun.
struct Open {
    column: usize,
    kind: String,
    style: usize,
    formula: bool,
    valued: bool,
    text: String,
}

struct Reading<'a> {
    rows: &'a mut Rows,
    texts: &'a [Box<str>],
    dates: &'a [bool],
    /// The row that is read, from 1, and the column behind the last cell.
    row: u32,
    column: usize,
    cells: Vec<Cell>,
    open: Option<Open>,
    sink: Sink,
    ended: bool,
}

impl Reading<'_> {
    fn take(&mut self, event: &Event<'_>) -> Result<bool, ImportFault> {
        match event {
            Event::Start(element) => self.begin(element)?,
            Event::Empty(element) => match element.local_name().as_ref() {
                "row" => {
                    self.begin_row(element)?;
                    self.end_row()?;
                }
                "c" => {
                    self.begin_cell(element)?;
                    self.end_cell()?;
                }
                "f" => self.formula(),
                "sheetData" => {
                    self.ended = true;
                    return Ok(false);
                }
                _ => {}
            },
            Event::End(element) => match element.local_name().as_ref() {
                "row" => self.end_row()?,
                "c" => self.end_cell()?,
                "v" | "t" if self.sink == Sink::Value => self.sink = Sink::None,
                "rPh" => self.sink = Sink::None,
                "sheetData" => {
                    self.ended = true;
                    return Ok(false);
                }
                _ => {}
            },
            other => {
                let bytes_max = self.rows.bounds.cell_chars_max.saturating_mul(CHAR_BYTES);
                if let (Sink::Value, Some(open)) = (self.sink, self.open.as_mut()) {
                    characters(other, &mut open.text, bytes_max)?;
                }
            }
        }
        Ok(true)
    }

    fn begin(&mut self, element: &BytesStart<'_>) -> Result<(), ImportFault> {
        match element.local_name().as_ref() {
            "row" => self.begin_row(element)?,
            "c" => self.begin_cell(element)?,
            "f" => self.formula(),
            "rPh" => self.sink = Sink::Phonetic,
            "v" | "t" if self.sink == Sink::None => {
                if let Some(open) = self.open.as_mut() {
                    open.valued = true;
                    self.sink = Sink::Value;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn formula(&mut self) {
        if let Some(open) = self.open.as_mut() {
            open.formula = true;
        }
    }

    fn begin_row(&mut self, element: &BytesStart<'_>) -> Result<(), ImportFault> {
        let wrong = || broken("its rows are not in order");
        let number = match attribute(element, "r")? {
            Some(number) => number.parse().map_err(|_| wrong())?,
            None => self.row.saturating_add(1),
        };
        if number <= self.row || number > ROWS {
            return Err(wrong());
        }
        (self.row, self.column) = (number, 0);
        self.cells.clear();
        Ok(())
    }

    fn end_row(&mut self) -> Result<(), ImportFault> {
        let row = SheetRow {
            number: self.row,
            cells: std::mem::take(&mut self.cells),
            exact: false,
        };
        self.rows.take(row)
    }

    fn begin_cell(&mut self, element: &BytesStart<'_>) -> Result<(), ImportFault> {
        if self.row == 0 || self.open.is_some() {
            return Err(broken("a cell stands in no row"));
        }
        if let Some(place) = attribute(element, "r")? {
            self.column = column(&place).ok_or_else(|| broken("a cell has no place"))?;
        }
        self.open = Some(Open {
            column: self.column,
            kind: attribute(element, "t")?.unwrap_or_default(),
            style: attribute(element, "s")?
                .and_then(|style| style.parse().ok())
                .unwrap_or(0),
            formula: false,
            valued: false,
            text: String::new(),
        });
        Ok(())
    }

    fn end_cell(&mut self) -> Result<(), ImportFault> {
        self.sink = Sink::None;
        let Some(open) = self.open.take() else {
            return Err(broken("a cell stands in no row"));
        };
        let place = open.column;
        self.column = place.saturating_add(1);
        let cell = self.cell(open)?;
        // cells far to the right that only have a colour are common
        if cell.is_empty() {
            return Ok(());
        }
        if place >= self.rows.bounds.columns_max {
            return Err(self.rows.too_wide(self.row));
        }
        if self.cells.len() <= place {
            self.cells.resize(place + 1, Cell::empty());
        }
        if let Some(slot) = self.cells.get_mut(place) {
            *slot = cell;
        }
        Ok(())
    }

    fn cell(&self, open: Open) -> Result<Cell, ImportFault> {
        let (text, kind) = match open.kind.as_str() {
            "str" if open.valued => (open.text, CellKind::Text),
            _ if open.formula && open.text.is_empty() => (String::new(), CellKind::Unvalued),
            "s" if open.valued => {
                let text = open
                    .text
                    .trim()
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| self.texts.get(index));
                let text = text.ok_or_else(|| broken("a cell names a text that is not there"))?;
                (text.to_string(), CellKind::Text)
            }
            "inlineStr" | "str" | "s" => (open.text, CellKind::Text),
            "b" => {
                let truth = if open.text.trim() == "1" { "true" } else { "false" };
                (truth.to_owned(), CellKind::Bool)
            }
            "e" => (open.text, CellKind::Error),
            "d" => (open.text, CellKind::Date),
            _ if open.text.trim().is_empty() => (String::new(), CellKind::Text),
            _ => {
                let date = self.dates.get(open.style).copied().unwrap_or(false);
                let kind = if date { CellKind::Date } else { CellKind::Number };
                (number(open.text.trim())?, kind)
            }
        };
        let most = self.rows.bounds.cell_chars_max;
        if text.chars().count() > most {
            return Ok(Cell {
                text: shown(&text),
                kind: CellKind::TooLong,
            });
        }
        Ok(Cell {
            text: text.trim().to_owned(),
            kind,
        })
    }
}

/// A stored number as a spreadsheet program shows it: in fifteen digits, without an exponent.
fn number(stored: &str) -> Result<String, ImportFault> {
    let wrong = || broken("a cell that should hold a number does not");
    let value: f64 = stored.parse().map_err(|_| wrong())?;
    if !value.is_finite() {
        return Err(wrong());
    }
    if value.abs() >= EXACT_BELOW {
        return Ok(stored.to_owned());
    }
    let rounded: f64 = format!("{value:.14e}").parse().map_err(|_| wrong())?;
    // there is no negative zero in a sheet
    Ok(if rounded == 0.0 {
        "0".to_owned()
    } else {
        rounded.to_string()
    })
}

/// The column of a place such as `AB12`, from 0.
fn column(place: &str) -> Option<usize> {
    let letters = place.bytes().take_while(u8::is_ascii_alphabetic);
    let number = letters.take(4).fold(0usize, |number, letter| {
        number * 26 + usize::from(letter.to_ascii_uppercase() - b'A') + 1
    });
    number.checked_sub(1).filter(|column| *column < COLUMNS)
}
