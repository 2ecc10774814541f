//! Files as spreadsheet programs write them, as people break them, and as somebody makes them who means harm.

use super::*;
use crate::port::imports::{Cell, CellKind};
use proptest::prelude::*;
use rust_xlsxwriter::{ExcelDateTime, Format, Formula, Workbook};
use std::io::{Cursor, Write};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const BOUNDS: SheetBounds = SheetBounds {
    unpacked_max: 1 << 20,
    rows_max: 50,
    columns_max: 20,
    cell_chars_max: 200,
};

fn csv(file: &[u8], charset: Option<&str>) -> Result<Sheet, ImportFault> {
    Sheets(BOUNDS).read(file, ImportFormat::Csv, charset)
}

fn xlsx(file: &[u8]) -> Result<Sheet, ImportFault> {
    Sheets(BOUNDS).read(file, ImportFormat::Xlsx, None)
}

/// Rows as number and texts.
fn texts(sheet: &Sheet) -> Vec<(u32, Vec<&str>)> {
    std::iter::once(&sheet.heading)
        .chain(&sheet.rows)
        .map(|row| (row.number, row.cells.iter().map(|cell| cell.text.as_str()).collect()))
        .collect()
}

/// A package of these parts.
fn package(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in parts {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

const RELATIONS: &str = r#"<Relationships><Relationship Id="r1" Type="x/worksheet" Target="worksheets/sheet1.xml"/>
    <Relationship Id="r2" Type="x/sharedStrings" Target="/xl/sharedStrings.xml"/></Relationships>"#;
const BOOK: &str = r#"<workbook><sheets><sheet name="S" r:id="r1"/></sheets></workbook>"#;

/// A workbook whose sheet has these rows.
fn book(rows: &str, strings: &str) -> Vec<u8> {
    let sheet = format!("<worksheet><sheetData>{rows}</sheetData></worksheet>");
    package(&[
        ("xl/workbook.xml", BOOK),
        ("xl/_rels/workbook.xml.rels", RELATIONS),
        ("xl/worksheets/sheet1.xml", &sheet),
        ("xl/sharedStrings.xml", strings),
    ])
}

#[test]
fn separators_marks_and_line_ends_of_all_programs_are_read() {
    let expected = vec![(1, vec!["sn", "name"]), (3, vec!["007", "a;b,c"]), (4, vec!["x", ""])];
    for file in [
        "sn,name\n\n007,\"a;b,c\"\nx,\n",
        "\u{feff}sn;name\r\n\r\n007;\"a;b,c\"\r\nx;\r\n",
        "sn\tname\r\r007\ta;b,c\rx\t",
    ] {
        let sheet = csv(file.as_bytes(), None).unwrap();
        assert_eq!(texts(&sheet), expected, "{file:?}");
    }
    let sheet = csv(b"sep=;\r\na;b,c,d\r\n1;2\r\n", None).unwrap();
    assert_eq!(texts(&sheet), [(2, vec!["a", "b,c,d"]), (3, vec!["1", "2"])]);
    // a row of separators is blank, and counts
    let sheet = csv(b"a,b\n,\n \n1,2\n", None).unwrap();
    assert_eq!(texts(&sheet), [(1, vec!["a", "b"]), (4, vec!["1", "2"])]);
}

#[test]
fn character_sets_are_named_and_never_guessed() {
    let (bytes, ..) = encoding_rs::GB18030.encode("name\n\u{8868}\u{8ba1}\n");
    let fault = csv(&bytes, None).unwrap_err();
    assert_eq!(
        (fault.row, fault.problem.as_str()),
        (Some(2), "the text is not UTF-8 from byte 5 on")
    );
    assert!(fault.remedy.contains("charset=gb18030"));
    for label in ["gb18030", "GBK", "gb2312"] {
        let sheet = csv(&bytes, Some(label)).unwrap();
        assert_eq!(sheet.rows[0].cells[0].text, "\u{8868}\u{8ba1}");
    }
    assert!(csv(&bytes, Some("utf-9")).unwrap_err().problem.contains("utf-9"));
    assert!(csv(b"a\n\x81", Some("gb18030")).is_err());
    // "Unicode text" of Excel
    let wide: Vec<u8> = "\u{feff}a\tb\r\n1\t2\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(
        texts(&csv(&wide, None).unwrap()),
        [(1, vec!["a", "b"]), (2, vec!["1", "2"])]
    );
}

#[test]
fn a_csv_file_keeps_to_its_bounds() {
    let wide = ",".repeat(10_000_000);
    assert!(
        csv(wide.as_bytes(), None)
            .unwrap_err()
            .problem
            .contains("more than 20 columns")
    );
    let long = format!("a\n{}", "x".repeat(5_000_000));
    let fault = csv(long.as_bytes(), None).unwrap_err();
    assert_eq!(fault.row, Some(2));
    assert!(fault.problem.contains("more than 200 characters"), "{}", fault.problem);
    let unclosed = format!("a,b\n1,\"{}", "2,3\n".repeat(100));
    assert!(
        csv(unclosed.as_bytes(), None)
            .unwrap_err()
            .remedy
            .contains("never closed")
    );
    let rows = "1\n".repeat(51);
    assert_eq!(
        csv(format!("a\n{}", &rows[2..]).as_bytes(), None).unwrap().rows.len(),
        50
    );
    assert!(
        csv(format!("a\n{rows}").as_bytes(), None)
            .unwrap_err()
            .problem
            .contains("more than 50 rows")
    );
    for nothing in ["", "\n\n", "\u{feff}", " , \n"] {
        assert!(
            csv(nothing.as_bytes(), None)
                .unwrap_err()
                .problem
                .contains("nothing in the file"),
            "{nothing:?}"
        );
    }
    // two hundred characters of four bytes fit
    let fits = format!("a\n{}", "\u{1F600}".repeat(200));
    assert_eq!(
        csv(fits.as_bytes(), None).unwrap().rows[0].cells[0].kind,
        CellKind::Text
    );
}

#[test]
fn cells_of_a_workbook_are_told_by_what_they_are() {
    let mut book = Workbook::new();
    let page = book.add_worksheet();
    let date = Format::new().set_num_format("yyyy-mm-dd");
    let zeros = Format::new().set_num_format("000000000000");
    page.write_string(0, 0, "heading").unwrap();
    page.write_string(2, 0, " 00123 ").unwrap();
    page.write_number(2, 1, 40.5).unwrap();
    page.write_number_with_format(2, 2, 123_456.0, &zeros).unwrap();
    page.write_datetime_with_format(2, 3, ExcelDateTime::from_ymd(2026, 3, 1).unwrap(), &date)
        .unwrap();
    page.write_boolean(2, 4, true).unwrap();
    page.write_formula(2, 5, Formula::new("=1/3").set_result("0.333333333333333333"))
        .unwrap();
    page.write_formula(2, 6, Formula::new("=A1").set_result("a text"))
        .unwrap();
    page.write_formula(2, 7, Formula::new("=NA()").set_result("#N/A"))
        .unwrap();
    page.write_number(2, 8, 0.1 + 0.2).unwrap();
    page.write_string(2, 9, "x".repeat(201)).unwrap();
    page.write_string(2, 10, "a <b> & \u{8868} \"c\"\nd").unwrap();
    // a colour far to the right is nothing
    page.write_blank(2, 16_000, &Format::new().set_bold()).unwrap();
    let sheet = xlsx(&book.save_to_buffer().unwrap()).unwrap();
    assert_eq!(sheet.rows.len(), 1);
    let row = &sheet.rows[0];
    let cells: Vec<(CellKind, &str)> = row.cells.iter().map(|cell| (cell.kind, cell.text.as_str())).collect();
    assert_eq!(row.number, 3);
    assert_eq!(
        cells[..3],
        [
            (CellKind::Text, "00123"),
            (CellKind::Number, "40.5"),
            (CellKind::Number, "123456")
        ]
    );
    assert_eq!(cells[3], (CellKind::Date, "46082"));
    assert_eq!(cells[4], (CellKind::Bool, "true"));
    assert_eq!(cells[5], (CellKind::Number, "0.333333333333333"));
    assert_eq!(cells[6], (CellKind::Text, "a text"));
    assert_eq!(cells[7].0, CellKind::Error);
    assert_eq!(cells[8], (CellKind::Number, "0.3"));
    assert_eq!(cells[9], (CellKind::TooLong, "x".repeat(100).as_str()));
    assert_eq!(cells[10], (CellKind::Text, "a <b> & \u{8868} \"c\"\nd"));
}

#[test]
fn other_writers_forms_are_read() {
    // inline texts, rich texts, a formula that nobody computed, numbers with exponents, no places
    let rows = r#"<row><c t="inlineStr"><is><t>a</t></is></c><c t="s"><v>0</v></c></row>
        <row r="4"><c r="B4"><f>SUM(1,1)</f><v></v></c><c><v>1.5E-3</v></c><c><v>1.2345678901234568E+17</v></c>
        <c t="str"><f>""</f><v></v></c><c t="inlineStr"><is><r><t>x</t></r><r><t xml:space="preserve"> y</t></r></is></c></row>"#;
    let strings =
        r#"<sst uniqueCount="1"><si><r><t>&lt;b</t></r><rPh><t>spoken</t></rPh><r><t>&#x3e;</t></r></si></sst>"#;
    let sheet = xlsx(&book(rows, strings)).unwrap();
    assert_eq!(texts(&sheet)[0], (1, vec!["a", "<b>"]));
    let cells: Vec<(CellKind, &str)> = sheet.rows[0].cells.iter().map(|c| (c.kind, c.text.as_str())).collect();
    assert_eq!(sheet.rows[0].number, 4);
    assert_eq!(cells[1], (CellKind::Unvalued, ""));
    assert_eq!(cells[2], (CellKind::Number, "0.0015"));
    assert_eq!(cells[3], (CellKind::Number, "1.2345678901234568E+17"));
    assert_eq!(cells[5], (CellKind::Text, "x y"));
}

#[test]
fn the_first_sheet_that_is_seen_is_read() {
    let mut book = Workbook::new();
    book.add_worksheet()
        .set_hidden(true)
        .write_string(0, 0, "hidden")
        .unwrap();
    let seen = book.add_worksheet();
    // the first one is shown unless another is in front
    seen.set_active(true).write_string(0, 0, "seen").unwrap();
    book.add_worksheet().write_string(0, 0, "third").unwrap();
    let sheet = xlsx(&book.save_to_buffer().unwrap()).unwrap();
    assert_eq!(sheet.heading.cells, [Cell::text("seen")]);
}

#[test]
fn what_a_workbook_says_of_its_size_is_not_believed() {
    // a part that unpacks to more than is allowed, honestly and not
    let rows = format!(
        r#"<row><c t="inlineStr"><is><t>{}</t></is></c></row>"#,
        "0".repeat(4 << 20)
    );
    let honest = book(&rows, "<sst/>");
    assert!(honest.len() < 64 << 10);
    let fault = xlsx(&honest).unwrap_err();
    assert!(
        fault.problem.contains("unpacks to more than 1048576 bytes"),
        "{}",
        fault.problem
    );
    let mut lying = honest;
    let size = u32::try_from(rows.len() + "<worksheet><sheetData></sheetData></worksheet>".len()).unwrap();
    let (from, to) = (size.to_le_bytes(), 1000u32.to_le_bytes());
    let places: Vec<usize> = lying
        .windows(4)
        .enumerate()
        .filter(|(_, w)| *w == from)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    for place in places {
        lying[place..place + 4].copy_from_slice(&to);
    }
    assert!(xlsx(&lying).is_err());
    // room is not made for what a count announces
    let strings = r#"<sst uniqueCount="99999999999"><si><t>a</t></si></sst>"#;
    let sheet = xlsx(&book(r#"<row><c t="s"><v>0</v></c></row>"#, strings)).unwrap();
    assert_eq!(sheet.heading.cells, [Cell::text("a")]);
}

#[test]
fn cells_far_away_take_no_room() {
    let cell = |place: &str| format!(r#"<c r="{place}"><v>1</v></c>"#);
    let rows = format!(
        r#"<row r="1">{}</row><row r="1048576">{}</row>"#,
        cell("A1"),
        cell("T1048576")
    );
    let sheet = xlsx(&book(&rows, "<sst/>")).unwrap();
    assert_eq!((sheet.rows[0].number, sheet.rows[0].cells.len()), (1_048_576, 20));
    let fault = xlsx(&book(&format!(r#"<row r="1">{}</row>"#, cell("XFD1")), "<sst/>")).unwrap_err();
    assert!(fault.problem.contains("more than 20 columns"), "{}", fault.problem);
    for wrong in [
        r#"<row r="2"/><row r="1"/>"#,
        r#"<row r="1048577"/>"#,
        r#"<row r="x"/>"#,
        r#"<row><c r="ZZZZ1"><v>1</v></c></row>"#,
        r#"<row><c t="s"><v>0</v></c></row>"#,
        r#"<row><c><v>one</v></c></row>"#,
        r#"<row><c><v>inf</v></c></row>"#,
        "<c><v>1</v></c>",
        "<row><c><c/></c></row>",
        "<!DOCTYPE x><row/>",
        "<row><c t=\"inlineStr\"><is><t>&own;</t></is></c></row>",
    ] {
        let fault = xlsx(&book(wrong, "<sst/>")).unwrap_err();
        assert!(
            fault.problem.starts_with("the workbook cannot be read"),
            "{wrong}: {}",
            fault.problem
        );
    }
}

#[test]
fn a_part_of_a_workbook_is_refused() {
    let mut book = Workbook::new();
    book.add_worksheet().write_string(0, 0, "whole").unwrap();
    let file = book.save_to_buffer().unwrap();
    assert!(xlsx(&file).is_ok());
    for end in (0..file.len()).step_by(7) {
        assert!(xlsx(&file[..end]).is_err(), "{end} of {} bytes", file.len());
    }
    assert!(xlsx(b"sn,name\n1,2\n").unwrap_err().problem.contains("no ZIP archive"));
    assert!(
        xlsx(&package(&[("a.txt", "b")]))
            .unwrap_err()
            .problem
            .contains("no workbook")
    );
}

#[test]
fn a_template_is_text_from_top_to_bottom() {
    let file = Sheets(BOUNDS).template("meters", &["dtu_sn", "address"]).unwrap();
    assert_eq!(texts(&xlsx(&file).unwrap()), [(1, vec!["dtu_sn", "address"])]);
}

fn table() -> impl Strategy<Value = Vec<Vec<String>>> {
    let cell = "[a-zA-Z0-9,;\t\"'= \u{e4}\u{8868}\r\n.-]{0,8}";
    proptest::collection::vec(proptest::collection::vec(cell, 4), 0..12)
}

/// What is read of rows below a heading: without blanks around texts and without blank rows.
fn model(rows: &[Vec<String>]) -> Vec<(u32, Vec<String>)> {
    (2u32..)
        .zip(rows)
        .map(|(number, row)| {
            (
                number,
                row.iter().map(|cell| cell.trim().to_owned()).collect::<Vec<_>>(),
            )
        })
        .filter(|(_, row)| row.iter().any(|cell| !cell.is_empty()))
        .collect()
}

fn read(sheet: &Sheet, width: usize) -> Vec<(u32, Vec<String>)> {
    let texts = |row: &SheetRow| {
        let mut texts: Vec<String> = row.cells.iter().map(|cell| cell.text.clone()).collect();
        texts.resize(width, String::new());
        texts
    };
    sheet.rows.iter().map(|row| (row.number, texts(row))).collect()
}

proptest! {
    #[test]
    fn any_table_comes_back_from_csv(
        rows in table(),
        separator in proptest::sample::select(vec![b',', b';', b'\t']),
        mark in any::<bool>(),
        returns in any::<bool>(),
    ) {
        let ends = if returns { ::csv::Terminator::CRLF } else { ::csv::Terminator::Any(b'\n') };
        let mut writer = ::csv::WriterBuilder::new().delimiter(separator).terminator(ends).from_writer(Vec::new());
        writer.write_record(["a", "b", "c", "d"]).unwrap();
        for row in &rows {
            writer.write_record(row).unwrap();
        }
        let mut file = if mark { "\u{feff}".as_bytes().to_vec() } else { Vec::new() };
        file.extend(writer.into_inner().unwrap());
        let sheet = csv(&file, None).unwrap();
        prop_assert_eq!(read(&sheet, 4), model(&rows));
    }

    #[test]
    fn any_table_comes_back_from_a_workbook(rows in table()) {
        let mut book = Workbook::new();
        let page = book.add_worksheet();
        for (column, name) in (0u16..).zip(["a", "b", "c", "d"]) {
            page.write_string(0, column, name).unwrap();
        }
        // XML has no carriage returns
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|c| c.replace('\r', " ")).collect()).collect();
        for (number, row) in (1u32..).zip(&rows) {
            for (column, cell) in (0u16..).zip(row) {
                page.write_string(number, column, cell).unwrap();
            }
        }
        let sheet = xlsx(&book.save_to_buffer().unwrap()).unwrap();
        prop_assert_eq!(read(&sheet, 4), model(&rows));
    }

    #[test]
    fn no_bytes_break_a_reader(bytes in proptest::collection::vec(any::<u8>(), 0..600), rows in "[<>a-z/=\"' &;#0-9]{0,200}") {
        for charset in [None, Some("gb18030"), Some("utf-16le")] {
            let _any = csv(&bytes, charset);
        }
        let _any = xlsx(&bytes);
        let _any = xlsx(&book(&rows, &rows));
    }
}

/// A file that PyPI's openpyxl 3.1 wrote: it computes no formulas, and says of every number only what it holds.
#[test]
fn a_workbook_of_another_library_is_read() {
    let sheet = xlsx(include_bytes!("../../../tests/fixtures/openpyxl.xlsx")).unwrap();
    let cells = |row: usize| -> Vec<(CellKind, &str)> {
        let cells = sheet.rows[row].cells.iter();
        cells.map(|cell| (cell.kind, cell.text.as_str())).collect()
    };
    assert_eq!(sheet.heading.cells.len(), 7);
    assert_eq!(
        cells(0)[..6],
        [
            (CellKind::Text, "0042"),
            (CellKind::Text, "modbus-rtu"),
            (CellKind::Number, "7"),
            (CellKind::Text, "eastron_sdm630"),
            (CellKind::Text, "\u{8868}\u{8ba1} 1"),
            (CellKind::Number, "40.5"),
        ]
    );
    assert_eq!(cells(1)[2], (CellKind::Text, "000000123456"));
    assert_eq!(cells(1)[4], (CellKind::Text, "a & <b>\nc"));
    assert_eq!(cells(1)[5..], [(CellKind::Number, "0.1"), (CellKind::Unvalued, "")]);
    assert_eq!(
        cells(2)[2..],
        [
            (CellKind::Date, "46082"),
            (CellKind::Text, ""),
            (CellKind::Bool, "true")
        ]
    );
    assert_eq!(sheet.rows[3].number, 6);
    // more digits than a spreadsheet keeps: as it stands in the file, so that nobody takes it for exact
    assert_eq!(cells(3)[5], (CellKind::Number, "1.234567890123457e+16"));
}
