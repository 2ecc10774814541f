//! A workbook to be filled in: a heading, and columns that are text, so that zeros in front stay.

use rust_xlsxwriter::{Format, Workbook, XlsxError};

/// Characters wide.
const WIDTH: f64 = 18.0;

pub(super) fn write(sheet: &str, columns: &[&str]) -> Result<Vec<u8>, XlsxError> {
    let mut book = Workbook::new();
    let page = book.add_worksheet();
    page.set_name(sheet)?;
    let text = Format::new().set_num_format("@");
    let bold = Format::new().set_num_format("@").set_bold();
    for (place, name) in (0u16..).zip(columns) {
        page.set_column_format(place, &text)?;
        page.set_column_width(place, WIDTH)?;
        page.write_string_with_format(0, place, *name, &bold)?;
    }
    page.set_freeze_panes(1, 0)?;
    book.save_to_buffer()
}
