//! Files that people send to be imported: whatever they are, what is read keeps to its bounds, rows come in order, and a
//! table that was read is read again as it is.

use crate::input::Input;
use crate::port::imports::{Cell, CellKind, ImportFormat, Sheet, SheetReader, SheetRow};
use crate::seeds::Seeds;
use crate::sheet::{SheetBounds, Sheets};
use std::io::{Cursor, Write};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const BOUNDS: SheetBounds = SheetBounds {
    unpacked_max: 1 << 16,
    rows_max: 40,
    columns_max: 12,
    cell_chars_max: 60,
};
const CHARSETS: [Option<&str>; 4] = [None, Some("gb18030"), Some("windows-1252"), Some("none")];
const BOOK: &str = r#"<workbook><sheets><sheet r:id="r1"/></sheets></workbook>"#;
const RELATIONS: &str = r#"<Relationships><Relationship Id="r1" Type="/worksheet" Target="sheet.xml"/><Relationship Id="r2"
    Type="/sharedStrings" Target="texts.xml"/><Relationship Id="r3" Type="/styles" Target="styles.xml"/></Relationships>"#;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let way = input.byte();
    let (format, charset, file) = match way % 3 {
        0 => (
            ImportFormat::Csv,
            CHARSETS[usize::from(way / 3) % CHARSETS.len()],
            input.all().to_vec(),
        ),
        1 => (ImportFormat::Xlsx, None, input.all().to_vec()),
        _ => (ImportFormat::Xlsx, None, package(input.all())),
    };
    match Sheets(BOUNDS).read(&file, format, charset) {
        Ok(sheet) => taken(&sheet, format),
        Err(fault) => assert!(!fault.problem.is_empty() && !fault.remedy.is_empty(), "{fault:?}"),
    }
}

/// A workbook whose sheet, texts and formats are the three parts of the input, parted by zeros.
fn package(data: &[u8]) -> Vec<u8> {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut part = |name: &str, bytes: &[u8]| {
        zip.start_file(name, SimpleFileOptions::default()).expect("a file");
        zip.write_all(bytes).expect("a part");
    };
    part("xl/workbook.xml", BOOK.as_bytes());
    part("xl/_rels/workbook.xml.rels", RELATIONS.as_bytes());
    for name in ["xl/sheet.xml", "xl/texts.xml", "xl/styles.xml"] {
        part(name, parts.next().unwrap_or_default());
    }
    zip.finish().expect("a package").into_inner()
}

fn taken(sheet: &Sheet, format: ImportFormat) {
    let rows: Vec<&SheetRow> = std::iter::once(&sheet.heading).chain(&sheet.rows).collect();
    assert!(sheet.rows.len() <= BOUNDS.rows_max, "{} rows", sheet.rows.len());
    for pair in rows.windows(2) {
        assert!(pair[0].number < pair[1].number, "rows out of order");
    }
    for row in &rows {
        assert!(
            row.cells.len() <= BOUNDS.columns_max && row.cells.iter().any(|cell| !cell.is_empty()),
            "{row:?}"
        );
        for cell in &row.cells {
            let most = if cell.kind == CellKind::TooLong {
                100
            } else {
                BOUNDS.cell_chars_max
            };
            assert!(cell.text.chars().count() <= most, "{cell:?}");
            assert_eq!(cell.text, cell.text.trim(), "blanks are left");
        }
    }
    if format == ImportFormat::Csv {
        again(&rows);
    }
}

/// Writes texts as CSV and reads them again. What parts cells is found by the heading; one of many cells leaves no doubt.
fn again(rows: &[&SheetRow]) {
    let width = BOUNDS.columns_max;
    let mut file = (0..width).map(|n| format!("c{n}")).collect::<Vec<_>>().join(";");
    for row in rows.iter().take(BOUNDS.rows_max) {
        file.push('\n');
        let cells: Vec<String> = row
            .cells
            .iter()
            .map(|cell| format!("\"{}\"", cell.text.replace('"', "\"\"")))
            .collect();
        file.push_str(&cells.join(";"));
    }
    let sheet = Sheets(BOUNDS)
        .read(file.as_bytes(), ImportFormat::Csv, None)
        .expect("what was written");
    let before: Vec<&Vec<Cell>> = rows.iter().take(BOUNDS.rows_max).map(|row| &row.cells).collect();
    let after: Vec<&Vec<Cell>> = sheet.rows.iter().map(|row| &row.cells).collect();
    assert_eq!(before, after);
}

pub(super) fn seeds(seeds: &mut Seeds) {
    for text in [
        "sn,name\r\n007,\"a, \"\"b\"\"\"\r\n",
        "\u{feff}a;b\n\n1;2\n",
        "sep=\t\na\tb\n",
        "\u{8868},x\n",
    ] {
        seeds.add(&[&[0], text.as_bytes()]);
        let (bytes, ..) = encoding_rs::GB18030.encode(text);
        seeds.add(&[&[3], &bytes]);
    }
    let sheet = br#"<worksheet><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" s="1"><v>45000</v></c>
        <c t="inlineStr"><is><t>x &amp; y</t></is></c></row><row r="3"><c t="b"><v>1</v></c><c><f>1</f><v/></c></row>
        </sheetData></worksheet>"#;
    let texts = br#"<sst uniqueCount="1"><si><r><t>a</t></r><rPh><t>b</t></rPh></si></sst>"#;
    let styles =
        br#"<styleSheet><numFmts><numFmt numFmtId="164" formatCode="yyyy"/></numFmts><cellXfs><xf numFmtId="0"/>
        <xf numFmtId="164"/></cellXfs></styleSheet>"#;
    let parts = [&sheet[..], &[0], texts, &[0], styles].concat();
    seeds.add(&[&[2], &parts]);
    seeds.add(&[&[1], &package(&parts)]);
}
