//! Every key in every language, and what is written with them.

use super::*;
use crate::base::ids::AccountId;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn sections(language: Language) -> Vec<(&'static str, &'static Section)> {
    let texts = texts(language);
    vec![
        ("severity", &texts.severity),
        ("edge", &texts.edge),
        ("message", &texts.message),
        ("kind", &texts.kind),
        ("fact", &texts.fact),
    ]
}

fn placeholders(text: &str) -> BTreeSet<String> {
    text.split('{')
        .skip(1)
        .filter_map(|part| part.split_once('}').map(|(name, _)| name.to_owned()))
        .collect()
}

#[test]
fn every_language_has_every_key_with_the_same_placeholders() {
    for language in Language::ALL {
        for ((name, english), (_, section)) in sections(Language::En).into_iter().zip(sections(*language)) {
            let keys: Vec<_> = english.keys().collect();
            assert_eq!(section.keys().collect::<Vec<_>>(), keys, "{language:?} [{name}]");
            for (key, text) in section {
                assert!(!text.trim().is_empty(), "{language:?} {name}.{key} is empty");
                assert_eq!(
                    placeholders(text),
                    placeholders(&english[key]),
                    "{language:?} {name}.{key}"
                );
            }
        }
    }
}

#[test]
fn every_word_of_the_vocabulary_has_a_text() {
    for severity in Severity::ALL {
        assert!(texts(Language::En).severity.contains_key(severity.as_str()));
    }
    for kind in crate::domain::alarm::AlarmKind::ALL {
        assert!(texts(Language::En).kind.contains_key(kind.as_str()), "{kind}");
    }
    for edge in Edge::ALL {
        assert!(texts(Language::En).edge.contains_key(edge.as_str()));
    }
    for key in [
        "subject_one",
        "subject_cleared",
        "subject_many",
        "line",
        "fact",
        "more",
        "nowhere",
        "footer",
        "test_subject",
        "test_body",
    ] {
        assert!(texts(Language::En).message.contains_key(key), "{key}");
    }
}

/// A translation that was forgotten would be English.
#[test]
fn languages_are_written_in_their_script() {
    let han = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
    let kana = |text: &str| text.chars().any(|c| ('\u{3040}'..='\u{30ff}').contains(&c));
    let cyrillic = |text: &str| text.chars().any(|c| ('\u{0400}'..='\u{04ff}').contains(&c));
    for (section, key) in sections(Language::En)
        .into_iter()
        .flat_map(|(name, section)| section.keys().map(move |key| (name, key)))
        // names and patterns without a word of their own
        .filter(|(name, key)| *name != "message" && *key != "dtu")
    {
        let text = |language| {
            let found = sections(language).into_iter().find(|(name, _)| *name == section);
            found.unwrap().1[key].clone()
        };
        assert!(han(&text(Language::Zh)), "zh {section}.{key}");
        let ja = text(Language::Ja);
        assert!(han(&ja) || kana(&ja), "ja {section}.{key}");
        assert!(cyrillic(&text(Language::Ru)), "ru {section}.{key}");
    }
}

fn happening(kind: &str, meter: &str) -> Happening {
    Happening {
        account: AccountId(1),
        subject: "alarm/1".into(),
        edge: Edge::Raised,
        severity: Severity::Warning,
        kind: kind.into(),
        facts: [("meter", meter), ("value", "412.7 kWh"), ("expected", "130 kWh")]
            .into_iter()
            .map(|(name, fact)| (name.to_owned(), fact.to_owned()))
            .collect(),
        groups: Vec::new(),
        at: "2026-03-01T03:30:00Z".parse().unwrap(),
    }
}

#[test]
fn one_happening_reads_well_in_each_language() {
    let one = [happening("deviation", "Hall 3")];
    let en = write(&one, Language::En, chrono_tz::Europe::Berlin);
    assert_eq!(en.subject, "[Warning] Deviation from the usual: Hall 3");
    assert_eq!(
        en.text,
        "2026-03-01 04:30 Warning, began: Deviation from the usual: Hall 3\n  Usual: 130 kWh\n  Meter: Hall 3\n  \
         Value: 412.7 kWh\n\nTimes are those of Europe/Berlin. Sent by Polyphase."
    );
    assert_eq!(
        en.short,
        "2026-03-01 04:30 Warning, began: Deviation from the usual: Hall 3"
    );
    let zh = write(&one, Language::Zh, chrono_tz::Asia::Shanghai);
    assert_eq!(zh.subject, "【警告】偏离平均值：Hall 3");
    assert!(zh.short.starts_with("2026-03-01 11:30 警告，发生"));
    assert!(
        write(&one, Language::Ja, chrono_tz::Asia::Tokyo)
            .text
            .contains("平均からの逸脱")
    );
    assert!(
        write(&one, Language::Ru, chrono_tz::Europe::Moscow)
            .subject
            .contains("Внимание")
    );
    // a kind of tomorrow is told by its name
    assert_eq!(
        write(&[happening("flood", "Hall 3")], Language::Ru, chrono_tz::UTC).subject,
        "[Внимание] Тревога (flood): Hall 3"
    );
}

#[test]
fn many_are_counted_and_the_worst_comes_first() {
    let mut many: Vec<Happening> = (0..60)
        .map(|n| happening("dtu_offline", &format!("meter {n}")))
        .collect();
    many[40].severity = Severity::Critical;
    let written = write(&many, Language::En, chrono_tz::UTC);
    assert_eq!(written.subject, "[Critical] Polyphase: 60 notices");
    assert!(written.text.lines().next().unwrap().contains("meter 40"));
    assert!(written.text.contains("… and more: 40"), "{}", written.text);
    assert!(written.short.ends_with("… and more: 53"), "{}", written.short);
}

#[test]
fn what_is_filled_in_is_not_filled_again() {
    let written = write(
        &[happening("deviation", "{severity}{title}")],
        Language::En,
        chrono_tz::UTC,
    );
    assert_eq!(written.subject, "[Warning] Deviation from the usual: {severity}{title}");
}

proptest! {
    /// Whatever things are called: bounded, one line of subject, every happening told or counted.
    #[test]
    fn messages_are_bounded(
        names in proptest::collection::vec(".{0,300}", 1..60), language in 0usize..4, kind in "[a-z_]{0,80}",
    ) {
        let many: Vec<Happening> = names.iter().map(|name| happening(&kind, name).bounded()).collect();
        let written = write(&many, Language::ALL[language], chrono_tz::Asia::Tokyo);
        prop_assert!(written.subject.chars().count() <= SUBJECT_MAX);
        prop_assert!(!written.subject.contains('\n') && !written.subject.contains('\r'));
        prop_assert!(written.text.chars().count() <= TEXT_MAX);
        prop_assert!(written.short.chars().count() <= SHORT_MAX);
        prop_assert!(!written.text.contains('\r'));
    }
}
