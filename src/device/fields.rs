//! Reading a TOML table key by key, so that every fault of a file is found in one go and says its line.

use super::fault::Faults;
use rust_decimal::Decimal;
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// A table being read. What is not asked for is an unknown key.
pub(super) struct Fields<'t, 'i> {
    table: &'t DeTable<'i>,
    /// Where it stands, for what is missing.
    pub(super) span: Range<usize>,
    asked: BTreeSet<&'static str>,
}

impl<'t, 'i> Fields<'t, 'i> {
    pub(super) fn new(table: &'t DeTable<'i>, span: Range<usize>) -> Self {
        Self {
            table,
            span,
            asked: BTreeSet::new(),
        }
    }

    /// The value of a key, if it is there.
    fn get(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.asked.insert(key);
        self.table
            .iter()
            .find(|(name, _)| name.get_ref().as_ref() == key)
            .map(|(_, value)| value)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.iter().any(|(name, _)| name.get_ref().as_ref() == key)
    }

    /// Where a key's value stands, else the table.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.table
            .iter()
            .find(|(name, _)| name.get_ref().as_ref() == key)
            .map_or_else(|| self.span.clone(), |(_, value)| value.span())
    }

    /// Reports a key that must be there.
    pub(super) fn need<T>(&self, faults: &mut Faults<'_>, key: &str, found: Option<T>) -> Option<T> {
        // a key that is there but wrong was reported when it was read
        if found.is_none() && !self.has(key) {
            faults.add(&self.span, format!("`{key}` is missing"), format!("add `{key} = …`"));
        }
        found
    }

    pub(super) fn text(&mut self, faults: &mut Faults<'_>, key: &'static str) -> Option<At<&'t str>> {
        let value = self.get(key)?;
        let span = value.span();
        match value.get_ref().as_str() {
            Some(text) => Some(At { value: text, span }),
            None => {
                wrong_type(faults, key, value, "text in quotes");
                None
            }
        }
    }

    /// Text in quotes, or a whole number as its text.
    pub(super) fn text_or_integer(&mut self, faults: &mut Faults<'_>, key: &'static str) -> Option<String> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
            other => match other.as_str() {
                Some(text) => Some(text.to_owned()),
                None => {
                    wrong_type(faults, key, value, "text in quotes or a whole number");
                    None
                }
            },
        }
    }

    pub(super) fn integer(
        &mut self,
        faults: &mut Faults<'_>,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<At<i64>> {
        let value = self.get(key)?;
        let span = value.span();
        let DeValue::Integer(number) = value.get_ref() else {
            wrong_type(faults, key, value, "a whole number");
            return None;
        };
        match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) if range.contains(&value) => Some(At { value, span }),
            _ => {
                faults.add(
                    &span,
                    format!("`{key}` is out of range"),
                    format!("use {} to {}", range.start(), range.end()),
                );
                None
            }
        }
    }

    /// A decimal, exactly as its digits stand in the file.
    pub(super) fn decimal(&mut self, faults: &mut Faults<'_>, key: &'static str) -> Option<At<Decimal>> {
        let value = self.get(key)?;
        decimal(faults, key, value)
    }

    pub(super) fn flag(&mut self, faults: &mut Faults<'_>, key: &'static str) -> Option<At<bool>> {
        let value = self.get(key)?;
        let span = value.span();
        match value.get_ref().as_bool() {
            Some(value) => Some(At { value, span }),
            None => {
                wrong_type(faults, key, value, "true or false");
                None
            }
        }
    }

    pub(super) fn table(&mut self, faults: &mut Faults<'_>, key: &'static str) -> Option<Fields<'t, 'i>> {
        let value = self.get(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Fields::new(table, value.span())),
            None => {
                wrong_type(faults, key, value, "a table");
                None
            }
        }
    }

    pub(super) fn array(&mut self, faults: &mut Faults<'_>, key: &'static str) -> Option<At<&'t DeArray<'i>>> {
        let value = self.get(key)?;
        let span = value.span();
        match value.get_ref().as_array() {
            Some(value) => Some(At { value, span }),
            None => {
                wrong_type(faults, key, value, "a list in brackets");
                None
            }
        }
    }

    /// One text or a list of texts.
    pub(super) fn texts(&mut self, faults: &mut Faults<'_>, key: &'static str) -> Vec<At<&'t str>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let one = |value: &'t Spanned<DeValue<'i>>| {
            let span = value.span();
            value.get_ref().as_str().map(|value| At { value, span })
        };
        if let Some(text) = one(value) {
            return vec![text];
        }
        let Some(array) = value.get_ref().as_array() else {
            wrong_type(faults, key, value, "a text or a list of texts");
            return Vec::new();
        };
        let mut out = Vec::new();
        for value in array.iter() {
            match one(value) {
                Some(text) => out.push(text),
                None => wrong_type(faults, key, value, "a list of texts"),
            }
        }
        out
    }

    /// An array of tables.
    pub(super) fn tables(&mut self, faults: &mut Faults<'_>, key: &'static str) -> Vec<Fields<'t, 'i>> {
        let Some(array) = self.array(faults, key) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for value in array.value.iter() {
            match value.get_ref().as_table() {
                Some(table) => out.push(Fields::new(table, value.span())),
                None => wrong_type(faults, key, value, "tables"),
            }
        }
        out
    }

    /// Every entry of a table whose keys are data.
    pub(super) fn entries(&self) -> impl Iterator<Item = (At<&'t str>, &'t Spanned<DeValue<'i>>)> {
        self.table.iter().map(|(key, value)| {
            let at = At {
                value: key.get_ref().as_ref(),
                span: key.span(),
            };
            (at, value)
        })
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self, faults: &mut Faults<'_>) {
        for (key, _) in self.table.iter() {
            let name = key.get_ref().as_ref();
            if !self.asked.contains(name) {
                let help = suggest(name, self.asked.iter().copied());
                faults.add(&key.span(), format!("unknown key `{name}`"), help);
            }
        }
    }
}

/// A decimal of an integer, a float or a text.
pub(super) fn decimal(faults: &mut Faults<'_>, key: &str, value: &Spanned<DeValue<'_>>) -> Option<At<Decimal>> {
    let span = value.span();
    let parsed = match value.get_ref() {
        DeValue::Integer(number) if number.radix() == 10 => Decimal::from_str_exact(number.as_str()),
        DeValue::Float(number) => {
            Decimal::from_str_exact(number.as_str()).or_else(|_| Decimal::from_scientific(number.as_str()))
        }
        DeValue::String(text) => Decimal::from_str_exact(text),
        _ => {
            wrong_type(faults, key, value, "a decimal number");
            return None;
        }
    };
    match parsed {
        Ok(value) => Some(At { value, span }),
        Err(_) => {
            faults.add(
                &span,
                format!("`{key}` is not a decimal number"),
                "write it like 0.001, with at most 28 digits",
            );
            None
        }
    }
}

pub(super) fn wrong_type(faults: &mut Faults<'_>, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
    faults.add(
        &value.span(),
        format!("`{key}` is {}", value.get_ref().type_str()),
        format!("it has to be {wanted}"),
    );
}

/// "did you mean", else the list of what is known.
pub(super) fn suggest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let near = known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .min()
        .filter(|(steps, _)| *steps <= 1 + word.len() / 4);
    match near {
        Some((_, candidate)) => format!("did you mean `{candidate}`?"),
        None if known.len() <= 24 => format!("known are {}", known.join(", ")),
        None => "see docs/meter-models.md for what is known".to_owned(),
    }
}

/// How many letters have to be changed, added or left out (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (diagonal + usize::from(from != *to)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(
            suggest("adress", ["address", "type"].into_iter()),
            "did you mean `address`?"
        );
        assert_eq!(
            suggest("foo", ["address", "type"].into_iter()),
            "known are address, type"
        );
    }
}
