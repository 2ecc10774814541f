//! What people read: texts as data (`config/notices/LANGUAGE.toml`, compiled in), filled in for a person's language and
//! zone. What is written into a text is never read as a text.

use super::{Edge, Happening, Language, Severity, cut};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Happenings that are written out in one message; the rest is counted.
pub const LINES_MAX: usize = 20;
/// The longest subject, characters.
pub const SUBJECT_MAX: usize = 150;
/// The longest text, characters. What every channel can take (Telegram: 4096).
pub const TEXT_MAX: usize = 3500;
/// The longest short text (SMS), characters: six segments in any script.
pub const SHORT_MAX: usize = 400;

type Section = BTreeMap<String, String>;

/// The texts of one language.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Texts {
    severity: Section,
    edge: Section,
    message: Section,
    kind: Section,
    fact: Section,
}

static TEXTS: LazyLock<[Texts; 4]> = LazyLock::new(|| {
    [
        include_str!("../../../config/notices/en.toml"),
        include_str!("../../../config/notices/zh.toml"),
        include_str!("../../../config/notices/ja.toml"),
        include_str!("../../../config/notices/ru.toml"),
    ]
    .map(|text| {
        #[expect(
            clippy::expect_used,
            reason = "a bad text compiled in is a build fault, found by the room's own test"
        )]
        toml::from_str(text).expect("the texts of notices are TOML")
    })
});

fn texts(language: Language) -> &'static Texts {
    let [en, zh, ja, ru] = &*TEXTS;
    match language {
        Language::En => en,
        Language::Zh => zh,
        Language::Ja => ja,
        Language::Ru => ru,
    }
}

/// The kinds that have a text of their own.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    texts(Language::En).kind.keys().map(String::as_str)
}

/// A message, written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// One line.
    pub subject: String,
    /// The whole, lines parted by `\n`.
    pub text: String,
    /// The same in short, for channels that charge by length.
    pub short: String,
}

struct Writer {
    texts: &'static Texts,
    zone: Tz,
}

/// Fills `{name}` in one pass: what is filled in is not looked at again.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(before);
        match behind.split_once('}') {
            Some((name, after)) => {
                match values.iter().find(|(known, _)| *known == name) {
                    Some((_, value)) => out.push_str(value),
                    None => {
                        out.push('{');
                        out.push_str(name);
                        out.push('}');
                    }
                }
                rest = after;
            }
            None => {
                out.push('{');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

impl Writer {
    fn word<'a>(section: &'a Section, key: &'a str) -> &'a str {
        section.get(key).map_or(key, String::as_str)
    }

    fn message(&self, key: &'static str, values: &[(&str, &str)]) -> String {
        fill(Self::word(&self.texts.message, key), values)
    }

    fn title(&self, happening: &Happening) -> String {
        match self.texts.kind.get(&happening.kind) {
            Some(title) => title.clone(),
            None => format!("{} ({})", Self::word(&self.texts.kind, "other"), happening.kind),
        }
    }

    /// The thing that it is about: the most exact one that has a name.
    fn place<'a>(&'a self, happening: &'a Happening) -> &'a str {
        ["meter", "point", "dtu", "sn", "group"]
            .iter()
            .find_map(|name| happening.facts.get(*name))
            .map_or_else(|| Self::word(&self.texts.message, "nowhere"), String::as_str)
    }

    fn time(&self, at: DateTime<Utc>) -> String {
        at.with_timezone(&self.zone).format("%Y-%m-%d %H:%M").to_string()
    }

    fn severity(&self, severity: Severity) -> &str {
        Self::word(&self.texts.severity, severity.as_str())
    }

    fn edge(&self, edge: Edge) -> &str {
        Self::word(&self.texts.edge, edge.as_str())
    }

    fn line(&self, happening: &Happening) -> String {
        self.message(
            "line",
            &[
                ("time", &self.time(happening.at)),
                ("severity", self.severity(happening.severity)),
                ("edge", self.edge(happening.edge)),
                ("title", &self.title(happening)),
                ("where", self.place(happening)),
            ],
        )
    }

    fn facts(&self, happening: &Happening, into: &mut Vec<String>) {
        for (name, fact) in &happening.facts {
            let label = Self::word(&self.texts.fact, name);
            // a fact that is an instant is told on the person's clock
            let fact = DateTime::parse_from_rfc3339(fact)
                .map_or_else(|_| cut(fact, super::FACT_CHARS_MAX), |at| self.time(at.to_utc()));
            into.push(format!(
                "  {}",
                self.message("fact", &[("name", label), ("fact", &fact)])
            ));
        }
    }

    fn subject(&self, happenings: &[Happening]) -> String {
        match happenings {
            [one] => {
                let key = if one.edge == Edge::Cleared {
                    "subject_cleared"
                } else {
                    "subject_one"
                };
                self.message(
                    key,
                    &[
                        ("severity", self.severity(one.severity)),
                        ("edge", self.edge(one.edge)),
                        ("title", &self.title(one)),
                        ("where", self.place(one)),
                    ],
                )
            }
            many => {
                let worst = many.iter().map(|one| one.severity).max().unwrap_or(Severity::Info);
                self.message(
                    "subject_many",
                    &[("severity", self.severity(worst)), ("count", &many.len().to_string())],
                )
            }
        }
    }
}

/// Lines that fit into so many characters; what does not is counted in a last line.
fn fit(writer: &Writer, blocks: &[Vec<String>], total: usize, chars: usize) -> String {
    let mut text = String::new();
    let mut room = chars;
    for (index, block) in blocks.iter().enumerate() {
        let block = block.join("\n");
        let length = block.chars().count() + 1;
        let rest = total - index;
        let more = writer.message("more", &[("count", &rest.to_string())]);
        // room for "and more" stays, unless this is the last one
        let reserve = if rest > 1 { more.chars().count() + 1 } else { 0 };
        if length + reserve > room || index >= LINES_MAX {
            if index == 0 {
                return cut(&block.replace('\n', " "), chars);
            }
            text.push_str(&more);
            return text;
        }
        room -= length;
        text.push_str(&block);
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

/// Writes happenings for a person.
pub fn write(happenings: &[Happening], language: Language, zone: Tz) -> Written {
    let writer = Writer {
        texts: texts(language),
        zone,
    };
    let footer = writer.message("footer", &[("zone", zone.name())]);
    let mut sorted: Vec<&Happening> = happenings.iter().collect();
    sorted.sort_by_key(|one| (std::cmp::Reverse(one.severity), one.at));
    let brief: Vec<Vec<String>> = sorted
        .iter()
        .map(|one| vec![cut(&writer.line(one), SHORT_MAX)])
        .collect();
    let full: Vec<Vec<String>> = sorted
        .iter()
        .map(|one| {
            let mut lines = vec![writer.line(one)];
            writer.facts(one, &mut lines);
            lines
        })
        .collect();
    // with few happenings there is room for their facts
    let room = TEXT_MAX - footer.chars().count() - 2;
    let blocks = if full
        .iter()
        .flatten()
        .map(|line| line.chars().count() + 1)
        .sum::<usize>()
        <= room
    {
        &full
    } else {
        &brief
    };
    Written {
        subject: cut(&writer.subject(happenings), SUBJECT_MAX),
        text: format!("{}\n\n{footer}", fit(&writer, blocks, sorted.len(), room)),
        short: fit(&writer, &brief, sorted.len(), SHORT_MAX),
    }
}

/// Writes the test message.
pub fn write_test(language: Language, zone: Tz) -> Written {
    let writer = Writer {
        texts: texts(language),
        zone,
    };
    let subject = writer.message("test_subject", &[]);
    let body = writer.message("test_body", &[]);
    Written {
        text: format!("{body}\n\n{}", writer.message("footer", &[("zone", zone.name())])),
        short: format!("{subject}. {body}"),
        subject,
    }
}

#[cfg(test)]
#[path = "texts_tests.rs"]
mod tests;
