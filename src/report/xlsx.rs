//! Workbooks, written in constant memory: each row goes to a temporary file at once and is forgotten.
//!
//! A number of a workbook is a binary float, which keeps 15 digits of a decimal; a number with more is written as text,
//! so that no digit is lost. Its format shows as many decimals as it has. An instant is a date of the zone's wall clock,
//! to the millisecond, and the zone's offset beside it in a column of its own, because a workbook's dates have no zone.
//! A sheet takes 1,048,576 rows; what is more goes to the next one.

use super::table::{Cell, Column, ColumnKind, Row};
use chrono::{DateTime, Datelike, Offset, Timelike, Utc};
use chrono_tz::Tz;
use rust_xlsxwriter::{ExcelDateTime, Format, Workbook, Worksheet, XlsxError};
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// Rows of a sheet, the heading among them (ECMA-376, as Excel limits it).
pub const SHEET_ROWS: u32 = 1_048_576;
/// Characters of a cell.
const TEXT_MAX: usize = 32_767;
/// Digits that a binary float of 64 bits keeps of any decimal (IEEE 754: `DBL_DIG`).
const DIGITS_MAX: usize = 15;
/// What stands at the end of a text that was cut.
const CUT: &str = " … (cut)";

/// A workbook that is being written.
pub struct XlsxFile {
    workbook: Workbook,
    name: &'static str,
    columns: &'static [Column],
    zone: Tz,
    sheets: usize,
    sheet_rows: u32,
    next_row: u32,
    heading: Format,
    instant: Format,
    decimals: HashMap<usize, Format>,
}

fn failed(error: XlsxError) -> io::Error {
    match error {
        XlsxError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

impl XlsxFile {
    /// Begins a workbook; rows wait in `folder`, on the disk of the file to come. `name` is that of the sheets.
    ///
    /// # Errors
    /// When the folder takes no file.
    pub fn begin(folder: &Path, name: &'static str, columns: &'static [Column], zone: Tz) -> io::Result<Self> {
        Self::with_rows(folder, name, columns, zone, SHEET_ROWS)
    }

    fn with_rows(
        folder: &Path,
        name: &'static str,
        columns: &'static [Column],
        zone: Tz,
        sheet_rows: u32,
    ) -> io::Result<Self> {
        let mut workbook = Workbook::new();
        workbook.set_tempdir(folder).map_err(failed)?;
        let mut file = Self {
            workbook,
            name,
            columns,
            zone,
            sheets: 0,
            sheet_rows,
            next_row: 0,
            heading: Format::new().set_bold(),
            instant: Format::new().set_num_format("yyyy-mm-dd hh:mm:ss.000"),
            decimals: HashMap::new(),
        };
        file.begin_sheet().map_err(failed)?;
        Ok(file)
    }

    fn begin_sheet(&mut self) -> Result<(), XlsxError> {
        self.sheets += 1;
        let name = match self.sheets {
            1 => self.name.to_owned(),
            more => format!("{} {more}", self.name),
        };
        let sheet = self.workbook.add_worksheet_with_constant_memory()?;
        sheet.set_name(name)?;
        sheet.set_freeze_panes(1, 0)?;
        let mut place = 0u16;
        for column in self.columns {
            sheet.set_column_width(place, if column.kind == ColumnKind::Instant { 24 } else { 16 })?;
            sheet.write_string_with_format(0, place, column.name, &self.heading)?;
            place += 1;
            if column.kind == ColumnKind::Instant {
                sheet.write_string_with_format(0, place, format!("{}_offset", column.name), &self.heading)?;
                place += 1;
            }
        }
        self.next_row = 1;
        Ok(())
    }

    /// Writes rows.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn rows(&mut self, rows: &[Row]) -> io::Result<()> {
        for row in rows {
            if self.next_row >= self.sheet_rows {
                self.begin_sheet().map_err(failed)?;
            }
            self.row(row).map_err(failed)?;
            self.next_row += 1;
        }
        Ok(())
    }

    fn row(&mut self, row: &Row) -> Result<(), XlsxError> {
        let sheet = self.workbook.worksheet_from_index(self.sheets.saturating_sub(1))?;
        let mut place = 0u16;
        for (cell, column) in row.iter().zip(self.columns) {
            match cell {
                Cell::Empty => {}
                Cell::Text(text) => write_text(sheet, self.next_row, place, text)?,
                Cell::Word(word) => write_text(sheet, self.next_row, place, word)?,
                Cell::Number(digits) => match number(digits) {
                    Some((value, decimals)) => {
                        let format = self.decimals.entry(decimals).or_insert_with(|| places(decimals));
                        sheet.write_number_with_format(self.next_row, place, value, format)?;
                    }
                    None => write_text(sheet, self.next_row, place, digits)?,
                },
                Cell::Whole(whole) => match number(&whole.to_string()) {
                    Some((value, _)) => drop(sheet.write_number(self.next_row, place, value)?),
                    None => write_text(sheet, self.next_row, place, &whole.to_string())?,
                },
                Cell::Instant(at) => {
                    let (date, offset) = wall(*at, self.zone)?;
                    sheet.write_datetime_with_format(self.next_row, place, &date, &self.instant)?;
                    sheet.write_string(self.next_row, place.saturating_add(1), offset)?;
                }
                Cell::Flag(flag) => drop(sheet.write_boolean(self.next_row, place, *flag)?),
            }
            place += if column.kind == ColumnKind::Instant { 2 } else { 1 };
        }
        Ok(())
    }

    /// Ends the workbook and writes it to `path`. Takes as long as compressing it does.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self, path: &Path) -> io::Result<()> {
        self.workbook.save(path).map_err(failed)
    }
}

/// A text as it is; `write_string` never makes a formula of it (promise H5). One that is too long for a cell is cut.
fn write_text(sheet: &mut Worksheet, row: u32, column: u16, text: &str) -> Result<(), XlsxError> {
    // the limit counts UTF-16 units
    if text.len() <= TEXT_MAX || text.encode_utf16().count() <= TEXT_MAX {
        sheet.write_string(row, column, text)?;
        return Ok(());
    }
    let mut left = TEXT_MAX - CUT.chars().count();
    let kept: String = text
        .chars()
        .take_while(|c| {
            let fits = c.len_utf16() <= left;
            left = left.saturating_sub(c.len_utf16());
            fits
        })
        .collect();
    sheet.write_string(row, column, format!("{kept}{CUT}"))?;
    Ok(())
}

/// A decimal as a float that gives the same decimal back, and how many decimals it has; none: a float would lose digits.
fn number(digits: &str) -> Option<(f64, usize)> {
    let bare = digits.strip_prefix('-').unwrap_or(digits);
    let (whole, fraction) = bare.split_once('.').unwrap_or((bare, ""));
    let all = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let significant = format!("{whole}{fraction}").trim_start_matches('0').len();
    if whole.is_empty() || !all(whole) || !all(fraction) || significant > DIGITS_MAX || fraction.len() > 30 {
        return None;
    }
    Some((digits.parse().ok()?, fraction.len()))
}

fn places(decimals: usize) -> Format {
    let zeros = "0".repeat(decimals);
    Format::new().set_num_format(if decimals == 0 {
        "0".to_owned()
    } else {
        format!("0.{zeros}")
    })
}

/// An instant by a zone's wall clock, and the zone's offset then.
fn wall(at: DateTime<Utc>, zone: Tz) -> Result<(ExcelDateTime, String), XlsxError> {
    let local = at.with_timezone(&zone);
    let millis = local.nanosecond() / 1_000_000 % 1_000;
    let year = u16::try_from(local.year()).unwrap_or(0);
    let part = |value: u32| u8::try_from(value).unwrap_or(0);
    let date = ExcelDateTime::from_ymd(year, part(local.month()), part(local.day()))?.and_hms_milli(
        u16::from(part(local.hour())),
        part(local.minute()),
        part(local.second()),
        u16::try_from(millis).unwrap_or(0),
    )?;
    Ok((date, local.offset().fix().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    const COLUMNS: &[Column] = &[Column::plain("name"), Column::instant("at")];

    #[test]
    fn a_full_sheet_is_followed_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.xlsx");
        let mut file = XlsxFile::with_rows(folder.path(), "slots", COLUMNS, Tz::UTC, 4).unwrap();
        let row = vec![Cell::Text("=1+1".to_owned()), Cell::Instant(DateTime::UNIX_EPOCH)];
        for _ in 0..7 {
            file.rows(std::slice::from_ref(&row)).unwrap();
        }
        assert_eq!((file.sheets, file.next_row), (3, 2));
        file.finish(&path).unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert!(bytes.starts_with(b"PK"));
    }

    #[test]
    fn a_text_beyond_a_cell_is_cut_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = XlsxFile::begin(folder.path(), "x", COLUMNS, Tz::UTC).unwrap();
        let long = "\u{1f50c}".repeat(20_000);
        file.rows(&[vec![Cell::Text(long), Cell::Empty]]).unwrap();
        file.finish(&folder.path().join("x.xlsx")).unwrap();
    }

    #[test]
    fn numbers_with_too_many_digits_stay_texts() {
        assert_eq!(number("1234.50"), Some((1234.5, 2)));
        assert_eq!(number("-0.001"), Some((-0.001, 3)));
        assert_eq!(number("999999999999999"), Some((999_999_999_999_999.0, 0)));
        for text in ["1234567890.123456", "NaN", "inf", "", "1e5", "-", "12.34.5", "+1"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_number_gives_its_decimal_back(mantissa in -999_999_999_999_999i64..=999_999_999_999_999, scale in 0u32..=15) {
            let decimal = Decimal::new(mantissa, scale);
            let (float, decimals) = number(&decimal.to_string()).unwrap();
            prop_assert_eq!(format!("{float:.decimals$}").parse::<Decimal>().unwrap(), decimal);
        }
    }
}
