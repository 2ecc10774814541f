//! The parts of a workbook (ECMA-376, Open Packaging Conventions): unpacked within a budget, and those that say where
//! things are: relations, shared texts, number formats.

use super::whole;
use crate::port::imports::ImportFault;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::io::{Cursor, Read};
use zip::ZipArchive;

/// Files in a package; spreadsheet programs make some dozens.
const ENTRIES_MAX: usize = 4_000;
/// Shared texts, sheets, formats and relations of a package.
const ITEMS_MAX: usize = 2_000_000;

/// What is wrong with a file that is no whole workbook.
pub(super) fn broken(what: &str) -> ImportFault {
    whole(
        format!("the workbook cannot be read: {what}"),
        "save it again as .xlsx (not .xls, not encrypted) and send the whole file",
    )
}

/// A package.
pub(super) struct Package<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Bytes that may still be unpacked, and how many there were.
    left: u64,
    most: u64,
}

impl<'a> Package<'a> {
    pub(super) fn open(file: &'a [u8], unpacked_max: u64) -> Result<Self, ImportFault> {
        let mut zip =
            ZipArchive::new(Cursor::new(file)).map_err(|_| broken("it is no ZIP archive, or a part of one"))?;
        if zip.len() > ENTRIES_MAX {
            return Err(broken("it holds too many files"));
        }
        let mut declared = 0u64;
        for index in 0..zip.len() {
            let entry = zip
                .by_index_raw(index)
                .map_err(|_| broken("its table of contents is wrong"))?;
            declared = declared.saturating_add(entry.size());
        }
        if declared > unpacked_max {
            return Err(too_big(unpacked_max));
        }
        Ok(Self {
            zip,
            left: unpacked_max,
            most: unpacked_max,
        })
    }

    /// The text of a part; what it declares of its size is not believed.
    pub(super) fn part(&mut self, name: &str) -> Result<Option<String>, ImportFault> {
        let same = |found: &[u8]| {
            found
                .strip_prefix(b"/")
                .unwrap_or(found)
                .eq_ignore_ascii_case(name.as_bytes())
        };
        let Some(index) = self.zip.file_names_raw().position(same) else {
            return Ok(None);
        };
        let entry = self
            .zip
            .by_index(index)
            .map_err(|_| broken("a part of it is packed in a way that is not known"))?;
        let mut text = String::new();
        let read = entry
            .take(self.left.saturating_add(1))
            .read_to_string(&mut text)
            .map_err(|_| broken("a part of it is damaged, or is not UTF-8"))?;
        self.left = self
            .left
            .checked_sub(u64::try_from(read).unwrap_or(u64::MAX))
            .ok_or_else(|| too_big(self.most))?;
        Ok(Some(text))
    }

    /// The relations of a part: id, last word of the type, path of the target.
    pub(super) fn relations(&mut self, part: &str) -> Result<Vec<(String, String, String)>, ImportFault> {
        let (folder, name) = part.rsplit_once('/').unwrap_or(("", part));
        let at = if folder.is_empty() {
            format!("_rels/{name}.rels")
        } else {
            format!("{folder}/_rels/{name}.rels")
        };
        let text = self.part(&at)?.unwrap_or_default();
        let mut found = Vec::new();
        each(&text, |event| {
            if let Event::Start(element) | Event::Empty(element) = event
                && element.local_name().as_ref() == "Relationship"
            {
                let kind = attribute(element, "Type")?.unwrap_or_default();
                let target = attribute(element, "Target")?.unwrap_or_default();
                let path = match target.strip_prefix('/') {
                    Some(whole) => whole.to_owned(),
                    None if folder.is_empty() => target,
                    None => format!("{folder}/{target}"),
                };
                let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
                found.push((attribute(element, "Id")?.unwrap_or_default(), kind, path));
            }
            bounded(found.len())
        })?;
        Ok(found)
    }
}

fn too_big(most: u64) -> ImportFault {
    whole(
        format!("the workbook unpacks to more than {most} bytes (imports.unpacked_max)"),
        "remove pictures and other sheets, or part it into several files",
    )
}

fn bounded(items: usize) -> Result<bool, ImportFault> {
    if items > ITEMS_MAX {
        return Err(broken("it holds too many texts or formats"));
    }
    Ok(true)
}

/// Hands every event of an XML text to `look`, until it says false or the text ends.
pub(super) fn each(
    text: &str,
    mut look: impl FnMut(&Event<'_>) -> Result<bool, ImportFault>,
) -> Result<(), ImportFault> {
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    loop {
        match reader.read_event() {
            Ok(Event::Eof) => return Ok(()),
            // nothing of a spreadsheet needs one, and entities of one's own are how XML is made to grow
            Ok(Event::DocType(_)) => return Err(broken("it declares a document type")),
            Ok(event) => {
                if !look(&event)? {
                    return Ok(());
                }
            }
            Err(_) => return Err(broken("its XML is not well-formed")),
        }
    }
}

/// An attribute by its local name.
pub(super) fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, ImportFault> {
    for found in element.attributes().with_checks(false) {
        let found = found.map_err(|_| broken("its XML is not well-formed"))?;
        if found.key.local_name().as_ref() == name {
            let value = found
                .normalized_value(quick_xml::XmlVersion::Implicit1_0)
                .map_err(|_| broken("its XML is not well-formed"))?;
            return Ok(Some(value.into_owned()));
        }
    }
    Ok(None)
}

/// The characters that an event adds to a text.
pub(super) fn characters(event: &Event<'_>, into: &mut String, bytes_max: usize) -> Result<(), ImportFault> {
    if into.len() > bytes_max {
        return Ok(());
    }
    match event {
        Event::Text(text) => into.push_str(&text.xml10_content()),
        Event::CData(text) => into.push_str(&text.xml10_content()),
        Event::GeneralRef(reference) => {
            let unknown = || broken("its XML has an entity that is not known");
            match reference.resolve_char_ref().map_err(|_| unknown())? {
                Some(character) => into.push(character),
                None => {
                    let name = reference.xml10_content();
                    let text = quick_xml::escape::resolve_xml_entity(&name).ok_or_else(unknown)?;
                    into.push_str(text);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// The shared texts, each no longer than a little over `bytes_max`.
pub(super) fn texts(xml: &str, bytes_max: usize) -> Result<Vec<Box<str>>, ImportFault> {
    let mut found: Vec<Box<str>> = Vec::new();
    let mut text = String::new();
    let (mut inside, mut phonetic) = (false, false);
    each(xml, |event| {
        match event {
            Event::Start(element) => match element.local_name().as_ref() {
                "t" => inside = !phonetic,
                // how Japanese and Chinese texts are spoken
                "rPh" => phonetic = true,
                "si" => text.clear(),
                _ => {}
            },
            Event::Empty(element) if element.local_name().as_ref() == "si" => found.push("".into()),
            Event::End(element) => match element.local_name().as_ref() {
                "t" => inside = false,
                "rPh" => phonetic = false,
                "si" => found.push(text.as_str().into()),
                _ => {}
            },
            other if inside => characters(other, &mut text, bytes_max)?,
            _ => {}
        }
        bounded(found.len())
    })?;
    Ok(found)
}

/// Which cell formats are dates, by their number.
pub(super) fn dates(xml: &str) -> Result<Vec<bool>, ImportFault> {
    let mut own = std::collections::HashMap::new();
    let mut found = Vec::new();
    let mut formats = false;
    each(xml, |event| {
        match event {
            Event::Start(element) | Event::Empty(element) => match element.local_name().as_ref() {
                "numFmt" => {
                    let id = attribute(element, "numFmtId")?.unwrap_or_default();
                    let code = attribute(element, "formatCode")?.unwrap_or_default();
                    own.insert(id, is_date(&code));
                }
                "cellXfs" => formats = true,
                "xf" if formats => {
                    let id = attribute(element, "numFmtId")?.unwrap_or_default();
                    // ECMA-376 part 1, 18.8.30: the built-in formats
                    let built_in = matches!(id.parse::<u32>(), Ok(14..=22 | 27..=36 | 45..=47 | 50..=58));
                    found.push(own.get(&id).copied().unwrap_or(built_in));
                }
                _ => {}
            },
            Event::End(element) if element.local_name().as_ref() == "cellXfs" => formats = false,
            _ => {}
        }
        bounded(found.len().max(own.len()))
    })?;
    Ok(found)
}

/// Whether a number format shows a date or a time: it has a letter of one outside of quotes, brackets and escapes.
fn is_date(code: &str) -> bool {
    let (mut quoted, mut bracket, mut escaped) = (false, false, false);
    for c in code.chars() {
        if escaped {
            escaped = false;
            continue;
        }
        match c {
            '\\' | '_' | '*' => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' => bracket = true,
            ']' => bracket = false,
            'y' | 'Y' | 'd' | 'D' | 'm' | 'M' | 'h' | 'H' | 's' | 'S' if !bracket => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_dates_are_told_from_those_of_numbers() {
        for date in ["yyyy-mm-dd", "d/m/yy h:mm", "[$-409]h:mm AM/PM", "mm:ss.0"] {
            assert!(is_date(date), "{date}");
        }
        for number in [
            "0.00",
            "#,##0",
            "General",
            "000000000000",
            "0\\d",
            "0.0\" days\"",
            "[Red]0.0",
            "0_-",
        ] {
            assert!(!is_date(number), "{number}");
        }
    }
}
