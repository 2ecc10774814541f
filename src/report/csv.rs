//! CSV as RFC 4180 has it: commas, CRLF, quotes where needed; UTF-8; instants in RFC 3339 with the zone's offset.

use super::table::{Cell, Column, Row, harmless};
use chrono::SecondsFormat;
use chrono_tz::Tz;
use csv::{Terminator, WriterBuilder};
use std::io::{self, Write};

/// UTF-8's byte order mark.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A CSV file that is being written.
pub struct CsvFile<W: Write> {
    writer: csv::Writer<W>,
    zone: Tz,
    line: Vec<u8>,
}

impl<W: Write> CsvFile<W> {
    /// Begins a file with its headings.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(mut out: W, columns: &[Column], zone: Tz, bom: bool) -> io::Result<Self> {
        if bom {
            out.write_all(BOM)?;
        }
        let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
        writer.write_record(columns.iter().map(|column| column.name))?;
        let line = Vec::new();
        Ok(Self { writer, zone, line })
    }

    /// Writes rows.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn rows(&mut self, rows: &[Row]) -> io::Result<()> {
        for row in rows {
            for cell in row {
                self.line.clear();
                cell_text(cell, self.zone, &mut self.line)?;
                self.writer.write_field(&self.line)?;
            }
            self.writer.write_record(None::<&[u8]>)?;
        }
        Ok(())
    }

    /// Where it goes.
    pub fn get_ref(&self) -> &W {
        self.writer.get_ref()
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When its rest cannot be written.
    pub fn finish(self) -> io::Result<W> {
        self.writer.into_inner().map_err(|error| error.into_error())
    }
}

fn cell_text(cell: &Cell, zone: Tz, out: &mut Vec<u8>) -> io::Result<()> {
    match cell {
        Cell::Empty => Ok(()),
        Cell::Text(text) => out.write_all(harmless(text).as_bytes()),
        Cell::Word(word) => out.write_all(word.as_bytes()),
        Cell::Number(digits) => out.write_all(digits.as_bytes()),
        Cell::Whole(number) => write!(out, "{number}"),
        Cell::Instant(at) => {
            let text = at.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::AutoSi, true);
            out.write_all(text.as_bytes())
        }
        Cell::Flag(flag) => write!(out, "{flag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeZone, Utc};

    const COLUMNS: &[Column] = &[Column::plain("name"), Column::plain("value"), Column::instant("at")];

    fn written(rows: &[Row], zone: Tz, bom: bool) -> String {
        let mut file = CsvFile::begin(Vec::new(), COLUMNS, zone, bom).unwrap();
        file.rows(rows).unwrap();
        String::from_utf8(file.finish().unwrap()).unwrap()
    }

    #[test]
    fn lines_are_as_rfc_4180_says() {
        let at = Utc.with_ymd_and_hms(2026, 7, 1, 12, 0, 0).unwrap();
        let rows = vec![
            vec![
                Cell::Text("=HYPERLINK(\"http://x\",\"y\")".to_owned()),
                Cell::Number("-5.20".to_owned()),
                Cell::Instant(at),
            ],
            vec![Cell::Text("a,b\nc".to_owned()), Cell::Empty, Cell::Empty],
        ];
        assert_eq!(
            written(&rows, Tz::Europe__Berlin, false),
            "name,value,at\r\n\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\",-5.20,2026-07-01T14:00:00+02:00\r\n\"a,b\nc\",,\r\n"
        );
    }

    #[test]
    fn a_mark_stands_in_front_by_choice() {
        assert!(written(&[], Tz::UTC, true).starts_with("\u{feff}name,"));
        assert!(written(&[], Tz::UTC, false).starts_with("name,"));
    }

    #[test]
    fn the_repeated_hour_is_told_apart_and_microseconds_stay() {
        let hour = |minute| Utc.with_ymd_and_hms(2026, 10, 25, 0, minute, 0).unwrap();
        let later = hour(30) + chrono::TimeDelta::hours(1) + chrono::TimeDelta::microseconds(123_456);
        let row = |at| vec![Cell::Empty, Cell::Empty, Cell::Instant(at)];
        let text = written(&[row(hour(30)), row(later)], Tz::Europe__Berlin, false);
        assert!(text.contains(",,2026-10-25T02:30:00+02:00\r\n"), "{text}");
        assert!(text.contains(",,2026-10-25T02:30:00.123456+01:00\r\n"), "{text}");
    }
}
