//! What a table is made of, whatever file it goes to.

use chrono::{DateTime, Utc};

/// What a column holds; a workbook gives instants two columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Anything but instants.
    Plain,
    /// Instants.
    Instant,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its heading, as the API names the field.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnKind,
}

impl Column {
    /// A column of anything but instants.
    pub const fn plain(name: &'static str) -> Self {
        let kind = ColumnKind::Plain;
        Self { name, kind }
    }

    /// A column of instants.
    pub const fn instant(name: &'static str) -> Self {
        let kind = ColumnKind::Instant;
        Self { name, kind }
    }
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// A text, from anybody.
    Text(String),
    /// A word of ours.
    Word(&'static str),
    /// A decimal number as text, without exponent.
    Number(String),
    /// A whole number.
    Whole(i64),
    /// An instant.
    Instant(DateTime<Utc>),
    /// Yes or no.
    Flag(bool),
}

impl Cell {
    /// A value or nothing.
    pub fn of<T>(value: Option<T>, make: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Empty, make)
    }

    /// An instant or nothing.
    pub fn instant(value: Option<DateTime<Utc>>) -> Self {
        Self::of(value, Self::Instant)
    }

    /// A text or nothing.
    pub fn text(value: Option<String>) -> Self {
        Self::of(value, Self::Text)
    }
}

/// A row, a cell a column.
pub type Row = Vec<Cell>;

/// Whether a spreadsheet program could take a text for a formula, or could not tell it from one that was made harmless.
fn is_dangerous(text: &str) -> bool {
    let mut rest = text.chars();
    // in front of a full-width sign some programs see the sign itself
    match rest.next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}') => true,
        Some('\'') => is_dangerous(rest.as_str()),
        _ => false,
    }
}

/// A text that no spreadsheet program takes for a formula (promise H5): an apostrophe is put in front of one that begins
/// as formulas do. It can be undone: drop an apostrophe that stands in front of such a text.
pub fn harmless(text: &str) -> std::borrow::Cow<'_, str> {
    if is_dangerous(text) {
        format!("'{text}").into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn undone(text: &str) -> &str {
        match text.strip_prefix('\'') {
            Some(rest) if is_dangerous(rest) => rest,
            _ => text,
        }
    }

    #[test]
    fn formulas_become_texts() {
        for formula in [
            "=1+1",
            "+1",
            "-2+3",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "=cmd|' /C calc'!A0",
            "＝1",
        ] {
            assert_eq!(harmless(formula), format!("'{formula}"));
        }
        for plain in ["Meter 1", "'s-Hertogenbosch", "", "a=b", " x", "1-2"] {
            assert_eq!(harmless(plain), plain);
        }
        assert_eq!(harmless("'=1"), "''=1");
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in "['=+@a-]{0,6}|.{0,12}") {
            let written = harmless(&text).into_owned();
            prop_assert!(!written.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']));
            prop_assert_eq!(undone(&written), text);
        }
    }
}
