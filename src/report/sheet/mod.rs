//! Files that people send, read into rows of cells: CSV in the spellings of spreadsheet programs, and XLSX.
//!
//! Files are hostile until read: whatever they say of themselves, no more is unpacked, kept or looked at than
//! [`SheetBounds`] allow. What a cell means is not known here.

mod delimited;
mod parts;
mod template;
mod workbook;

#[cfg(test)]
mod tests;

use crate::port::imports::{ImportFault, ImportFormat, Sheet, SheetReader, SheetRow};

/// Characters of a value that a fault shows.
const SHOWN: usize = 100;

/// Bounds of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SheetBounds {
    /// Bytes of a workbook's unpacked parts, in all.
    pub unpacked_max: u64,
    /// Rows that are not blank, besides the heading.
    pub rows_max: usize,
    /// Columns.
    pub columns_max: usize,
    /// Characters of a cell.
    pub cell_chars_max: usize,
}

/// Reads files within these bounds.
#[derive(Clone, Copy, Debug)]
pub struct Sheets(pub SheetBounds);

impl SheetReader for Sheets {
    fn read(&self, file: &[u8], format: ImportFormat, charset: Option<&str>) -> Result<Sheet, ImportFault> {
        let mut rows = Rows {
            bounds: self.0,
            found: Vec::new(),
        };
        match format {
            ImportFormat::Csv => delimited::read(file, charset, &mut rows)?,
            ImportFormat::Xlsx => workbook::read(file, &mut rows)?,
        }
        let mut found = rows.found.into_iter();
        let heading = found.next().ok_or_else(|| {
            whole(
                "there is nothing in the file",
                "send a file with a heading and rows below it",
            )
        })?;
        Ok(Sheet {
            heading,
            rows: found.collect(),
        })
    }

    fn template(&self, sheet: &str, columns: &[&str]) -> Result<Vec<u8>, String> {
        template::write(sheet, columns).map_err(|error| error.to_string())
    }
}

/// Rows as they are found.
struct Rows {
    bounds: SheetBounds,
    found: Vec<SheetRow>,
}

impl Rows {
    /// Takes a row unless it is blank.
    fn take(&mut self, row: SheetRow) -> Result<(), ImportFault> {
        if row.cells.iter().all(crate::port::imports::Cell::is_empty) {
            return Ok(());
        }
        // the heading is one of them
        if self.found.len() > self.bounds.rows_max {
            let most = self.bounds.rows_max;
            return Err(whole(
                format!("the file has more than {most} rows (imports.rows_max)"),
                "part it into several files; each can be imported by itself",
            ));
        }
        self.found.push(row);
        Ok(())
    }

    fn too_wide(&self, row: u32) -> ImportFault {
        let most = self.bounds.columns_max;
        ImportFault {
            row: Some(row),
            ..whole(
                format!("the row has more than {most} columns (imports.columns_max)"),
                "remove what does not belong to the import; the template has the columns that are known",
            )
        }
    }
}

/// A fault of the file as a whole.
fn whole(problem: impl Into<String>, remedy: &str) -> ImportFault {
    ImportFault {
        row: None,
        column: None,
        value: None,
        problem: problem.into(),
        remedy: remedy.to_owned(),
    }
}

/// The first characters of a value, as a fault shows it; NUL cannot be kept.
fn shown(text: &str) -> String {
    let kept = text.chars().take(SHOWN);
    kept.map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}
