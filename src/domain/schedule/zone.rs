//! IANA zone names, and what to suggest for those that are none.

use super::ScheduleError;
use chrono_tz::{TZ_VARIANTS, Tz};

/// The longest zone name that is looked at; the longest of the database has 32 characters.
pub const ZONE_TEXT_MAX: usize = 64;

/// At most so many suggestions.
const SUGGESTIONS: usize = 3;

/// Finds a zone of the IANA database by its exact name.
///
/// # Errors
/// [`ScheduleError::Zone`] with similar names.
pub fn parse_zone(name: &str) -> Result<Tz, ScheduleError> {
    name.parse().map_err(|_| ScheduleError::Zone {
        found: name.chars().take(ZONE_TEXT_MAX).collect(),
        near: near(name),
    })
}

/// What to write instead.
pub(super) fn advice(near: &[&str]) -> String {
    if near.is_empty() {
        "write a name such as Europe/Berlin or UTC".to_owned()
    } else {
        format!("did you mean {}?", near.join(", "))
    }
}

/// Zones with a similar name, the best first.
fn near(name: &str) -> Vec<&'static str> {
    let wanted: String = name
        .chars()
        .take(ZONE_TEXT_MAX)
        .map(|c| if c == ' ' { '_' } else { c.to_ascii_lowercase() })
        .collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let city = last_part(&wanted);
    let mut ranked: Vec<(usize, &'static str)> = TZ_VARIANTS
        .iter()
        .filter_map(|zone| {
            let lower = zone.name().to_ascii_lowercase();
            let whole = distance(&wanted, &lower);
            // the right city counts even where the region is missing or wrong
            let by_city = distance(city, last_part(&lower)) + 1;
            let rank = whole.min(by_city);
            (rank <= 1 + wanted.len() / 4).then_some((rank, zone.name()))
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, zone)| zone).take(SUGGESTIONS).collect()
}

fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Levenshtein's distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(b.chars()) {
            let substituted = diagonal + usize::from(left != right);
            diagonal = *cell;
            before = substituted.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn a_wrong_zone_names_its_neighbours() {
        for (wrong, right) in [
            ("europe/berlin", "Europe/Berlin"),
            ("Europe/Berln", "Europe/Berlin"),
            ("Berlin", "Europe/Berlin"),
            ("America/New York", "America/New_York"),
            ("Asia/Calcuta", "Asia/Calcutta"),
            ("utc", "UTC"),
        ] {
            let error = parse_zone(wrong).unwrap_err();
            let ScheduleError::Zone { near, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(near.first(), Some(&right), "{error}");
            assert!(error.to_string().contains("did you mean"), "{error}");
        }
        let error = parse_zone("Middle-earth/Minas_Tirith").unwrap_err();
        assert!(error.to_string().contains("write a name such as"), "{error}");
        parse_zone(&"x".repeat(100_000)).unwrap_err();
    }
}
