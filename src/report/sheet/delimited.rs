//! CSV: cells parted by commas, semicolons or tabs, in UTF-8 or the character set that the sender names.

use super::{Rows, shown, whole};
use crate::port::imports::{Cell, ImportFault, SheetRow};
use csv_core::{ReadFieldResult, ReaderBuilder};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use std::borrow::Cow;

/// What parts cells.
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];
/// Bytes of the longest character.
const CHAR_BYTES: usize = 4;

pub(super) fn read(file: &[u8], charset: Option<&str>, rows: &mut Rows) -> Result<(), ImportFault> {
    let text = decode(file, charset)?;
    let (separator, mut rest, mut row) = separator(&text);
    let mut reader = ReaderBuilder::new().delimiter(separator).build();
    let mut out = vec![0u8; rows.bounds.cell_chars_max.saturating_mul(CHAR_BYTES).saturating_add(1)];
    while !rest.is_empty() {
        row = row.saturating_add(1);
        // a blank line is a row that nothing stands in
        if let Some(behind) = behind_break(rest) {
            rest = behind;
            continue;
        }
        let mut cells = Vec::new();
        loop {
            let (cell, behind, last) = field(&mut reader, rest, &mut out, rows.bounds.cell_chars_max)
                .map_err(|begin| too_long(row, cells.len(), begin, rows.bounds.cell_chars_max))?;
            let ended_by_return = last
                && rest
                    .get(..rest.len() - behind.len())
                    .is_some_and(|read| read.ends_with(b"\r"));
            rest = behind;
            cells.extend(cell);
            if cells.len() > rows.bounds.columns_max {
                return Err(rows.too_wide(row));
            }
            if last {
                if ended_by_return {
                    rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                }
                break;
            }
        }
        rows.take(SheetRow {
            number: row,
            cells,
            exact: true,
        })?;
    }
    Ok(())
}

/// One cell, what stands behind it, and whether it was the last of its row. The error is the beginning of a cell that
/// is too long.
fn field<'a>(
    reader: &mut csv_core::Reader,
    mut rest: &'a [u8],
    out: &mut [u8],
    chars_max: usize,
) -> Result<(Option<Cell>, &'a [u8], bool), String> {
    let mut filled = 0;
    loop {
        let room = out.get_mut(filled..).unwrap_or_default();
        let (result, read, written) = reader.read_field(rest, room);
        rest = rest.get(read..).unwrap_or_default();
        filled += written;
        let text = || String::from_utf8_lossy(out.get(..filled).unwrap_or_default());
        match result {
            // an empty input tells the reader that nothing more comes
            ReadFieldResult::InputEmpty => {}
            ReadFieldResult::OutputFull => return Err(shown(&text())),
            ReadFieldResult::Field { record_end } => {
                let text = text();
                if text.chars().count() > chars_max {
                    return Err(shown(&text));
                }
                return Ok((Some(Cell::text(&text)), rest, record_end));
            }
            ReadFieldResult::End => return Ok((None, rest, true)),
        }
    }
}

fn too_long(row: u32, before: usize, begin: String, chars_max: usize) -> ImportFault {
    ImportFault {
        row: Some(row),
        value: Some(begin),
        ..whole(
            format!(
                "cell {} of the row has more than {chars_max} characters (imports.cell_chars_max)",
                before + 1
            ),
            "shorten it; a quotation mark that is never closed makes one cell of all that is behind it",
        )
    }
}

/// What stands behind a line break at the beginning.
fn behind_break(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"\r\n")
        .or_else(|| text.strip_prefix(b"\n"))
        .or_else(|| text.strip_prefix(b"\r"))
}

/// The separator, the text to be read, and how many rows are read with it. Spreadsheet programs know a first line
/// `sep=;`; without one it is what parts the heading's cells most often.
fn separator(text: &str) -> (u8, &[u8], u32) {
    let bytes = text.as_bytes();
    if let Some([found, behind @ ..]) = bytes.strip_prefix(b"sep=") {
        let behind = behind_break(behind).or_else(|| behind.is_empty().then_some(behind));
        if let (true, Some(behind)) = (SEPARATORS.contains(found), behind) {
            return (*found, behind, 1);
        }
    }
    let mut counts = [0usize; SEPARATORS.len()];
    let mut quoted = false;
    let heading = text.trim_start_matches(['\r', '\n']);
    for byte in heading.bytes() {
        match byte {
            b'"' => quoted = !quoted,
            b'\r' | b'\n' if !quoted => break,
            _ if quoted => {}
            other => {
                for (count, separator) in counts.iter_mut().zip(SEPARATORS) {
                    *count += usize::from(other == separator);
                }
            }
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    let found = SEPARATORS.iter().zip(counts).find(|(_, count)| *count == most);
    (found.map_or(b',', |(separator, _)| *separator), bytes, 0)
}

/// The text of a file. Nothing is guessed: bytes that are no UTF-8 need a name for what they are.
fn decode<'a>(file: &'a [u8], charset: Option<&str>) -> Result<Cow<'a, str>, ImportFault> {
    let marked = match file {
        [0xFF, 0xFE, ..] => Some(UTF_16LE),
        [0xFE, 0xFF, ..] => Some(UTF_16BE),
        _ => None,
    };
    let encoding = match (marked, charset) {
        (Some(marked), _) => marked,
        (None, None) => UTF_8,
        (None, Some(label)) => Encoding::for_label_no_replacement(label.as_bytes()).ok_or_else(|| {
            whole(
                format!("{:?} is no character set that is known", shown(label)),
                "name one of the WHATWG encoding standard, such as utf-8, gb18030 or windows-1252",
            )
        })?,
    };
    if encoding == UTF_8 {
        let file = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
        return std::str::from_utf8(file).map(Cow::Borrowed).map_err(|error| {
            let before = file.get(..error.valid_up_to()).unwrap_or_default();
            let lines = before.iter().filter(|byte| **byte == b'\n').count();
            ImportFault {
                row: u32::try_from(lines + 1).ok(),
                ..whole(
                    format!("the text is not UTF-8 from byte {} on", before.len()),
                    "save it as \"CSV UTF-8\", or name what it is: Content-Type: text/csv; charset=gb18030",
                )
            }
        });
    }
    let (text, wrong) = encoding.decode_with_bom_removal(file);
    if wrong {
        return Err(whole(
            format!("the text is not {}", encoding.name()),
            "name the character set that it is saved in, or save it as \"CSV UTF-8\"",
        ));
    }
    Ok(text)
}
