//! Every item of the tables: named once, as long as published, and read back from what it wrote.

use super::*;
use crate::base::bytes::Reader;
use crate::protocol::gdw376::format::Value;
use crate::protocol::gdw376::layout::{Curve, Density, LayoutError, Stamped};
use crate::protocol::gdw376::point::ITEM_MAX;
use chrono::{NaiveDate, NaiveDateTime};
use proptest::prelude::*;
use rust_decimal::{Decimal, dec};

const EDITIONS: [Edition; 2] = [Edition::E2009, Edition::E2013];

fn all(afn: Afn, way: Way, edition: Edition) -> impl Iterator<Item = (Fn, Layout)> {
    (1..=ITEM_MAX).filter_map(move |number| {
        let item = Fn::new(number)?;
        Some((item, layout(afn, item, way, edition)?))
    })
}

fn up(afn: Afn, number: u8) -> Layout {
    layout(afn, Fn::new(number).unwrap(), Way::Up, Edition::E2013).unwrap()
}

/// The first number of each field in the alphabet of its format: what a fresh terminal might say.
fn plain(field: &Field, index: u32) -> Value {
    let day = NaiveDate::from_ymd_opt(2026, 3, 9).unwrap();
    let at = day.and_hms_opt(7, 15, 0).unwrap();
    match field.format {
        Format::A1 | Format::A15 => Value::Time(at),
        Format::A12 => Value::Digits(format!("{index:012}")),
        Format::A17 | Format::A16 | Format::A18 | Format::A24 => {
            let month = (field.format == Format::A17).then_some(3);
            let time = match field.format {
                Format::A24 => day.and_hms_opt(7, 0, 0).unwrap().time(),
                _ => at.time(),
            };
            Value::Moment(crate::protocol::gdw376::format::Moment { month, day: 9, time })
        }
        Format::A19 => Value::TimeOfDay(at.time()),
        Format::A20 => Value::Date(day),
        Format::A21 => Value::Month(NaiveDate::from_ymd_opt(2026, 3, 1).unwrap()),
        Format::Bits(_) => Value::Bits(u64::from(index % 256)),
        Format::Text(_) => Value::Text(format!("T{}", index % 100)),
        Format::Ip => Value::Text("10.0.0.1".to_owned()),
        Format::Phone(_) => Value::Digits("13800138000".to_owned()),
        Format::Bytes(size) => Value::Bytes(vec![7; size.into()]),
        Format::A4 | Format::A22 => Value::Number(Decimal::from(index % 8)),
        _ => Value::Number(Decimal::from(index % 70)),
    }
}

fn stamp(stamp: Stamp, points: u8) -> Vec<u8> {
    match stamp {
        Stamp::None => Vec::new(),
        Stamp::Day => vec![0x09, 0x03, 0x26],
        Stamp::Month => vec![0x03, 0x26],
        Stamp::Curve => vec![0x00, 0x00, 0x09, 0x03, 0x26, 0x01, points],
    }
}

#[test]
fn no_item_stands_twice_in_a_table() {
    for rows in [CONTROL, CONTROL_RESET, LINK, TERMINAL, TASK, EVENTS] {
        assert!(rows.is_sorted_by(|(a, _), (b, _)| a < b));
    }
    for edition in EDITIONS {
        let counted = |afn| all(afn, Way::Up, edition).count();
        assert!(counted(Afn::REALTIME) >= 80, "{}", counted(Afn::REALTIME));
        assert!(counted(Afn::HISTORY) >= 130, "{}", counted(Afn::HISTORY));
        assert!(counted(Afn::QUERY) >= 50, "{}", counted(Afn::QUERY));
    }
}

#[test]
fn items_are_as_long_as_published() {
    // from the sources named in docs/protocols/gdw376.md
    for (afn, number, length) in [
        (Afn::REALTIME, 2, 6),
        (Afn::REALTIME, 25, 67),
        (Afn::REALTIME, 26, 61),
        (Afn::REALTIME, 27, 60),
        (Afn::REALTIME, 28, 33),
        (Afn::REALTIME, 31, 59),
        (Afn::REALTIME, 33, 91),
        (Afn::REALTIME, 34, 91),
        (Afn::REALTIME, 35, 76),
        (Afn::REALTIME, 41, 21),
        (Afn::REALTIME, 49, 12),
        (Afn::REALTIME, 129, 31),
        (Afn::REALTIME, 130, 26),
        (Afn::REALTIME, 145, 41),
        (Afn::REALTIME, 161, 18),
        (Afn::REALTIME, 162, 12),
        (Afn::REALTIME, 165, 23),
        (Afn::REALTIME, 166, 29),
        (Afn::REALTIME, 167, 41),
        (Afn::REALTIME, 170, 18),
        (Afn::HISTORY, 1, 3 + 91),
        (Afn::HISTORY, 25, 3 + 32),
        (Afn::HISTORY, 26, 3 + 24),
        (Afn::HISTORY, 27, 3 + 66 + 27),
        (Afn::HISTORY, 28, 3 + 14),
        (Afn::HISTORY, 29, 3 + 38),
        (Afn::HISTORY, 31, 3 + 10),
        (Afn::HISTORY, 36, 2 + 16),
        (Afn::HISTORY, 39, 2 + 12),
        (Afn::HISTORY, 57, 3 + 12),
        (Afn::HISTORY, 65, 2 + 6),
        (Afn::HISTORY, 153, 3 + 20),
        (Afn::HISTORY, 154, 3 + 17),
        (Afn::HISTORY, 161, 3 + 31),
        (Afn::HISTORY, 162, 3 + 26),
        (Afn::HISTORY, 177, 2 + 31),
        (Afn::HISTORY, 185, 3 + 41),
        (Afn::QUERY, 1, 6),
        (Afn::QUERY, 3, 28),
        (Afn::QUERY, 4, 16),
        (Afn::QUERY, 8, 8),
        (Afn::QUERY, 9, 16),
        (Afn::QUERY, 16, 64),
        (Afn::QUERY, 25, 11),
        (Afn::QUERY, 26, 57),
        (Afn::QUERY, 47, 17),
        (Afn::TERMINAL, 1, 41),
    ] {
        assert_eq!(up(afn, number).size(4, 0), length, "{afn} F{number}");
    }
    // twelve points of a curve of powers
    assert_eq!(up(Afn::HISTORY, 81).size(4, 12), 7 + 36);
    let older = |afn, number| {
        layout(afn, Fn::new(number).unwrap(), Way::Up, Edition::E2009)
            .unwrap()
            .size(4, 0)
    };
    assert_eq!((older(Afn::REALTIME, 26), older(Afn::REALTIME, 161)), (57, 16));
    assert_eq!((older(Afn::REALTIME, 165), older(Afn::REALTIME, 166)), (19, 19));
    assert_eq!(older(Afn::HISTORY, 27), 3 + 66);
}

#[test]
fn a_curve_knows_when_each_point_was() {
    let start = NaiveDateTime::parse_from_str("2026-03-09 23:45", "%Y-%m-%d %H:%M").unwrap();
    let curve = Curve {
        start,
        density: Density::Minutes15,
        points: 3,
    };
    let layout = up(Afn::HISTORY, 89);
    let data = layout
        .write(&curve.wire().unwrap(), 0, 0, |_, _, index| {
            Value::Number(Decimal::from(220 + u32::from(index.unwrap())))
        })
        .unwrap();
    let mut reader = Reader::new(&data);
    let reading = layout.read(&mut reader).unwrap().unwrap();
    assert_eq!(reading.stamped, Stamped::Curve(curve));
    let said: Vec<(String, Value)> = reading
        .entries
        .into_iter()
        .map(|entry| (entry.at.unwrap().to_string(), entry.value.unwrap()))
        .collect();
    let volts = |n: u32| Value::Number(Decimal::from(n));
    assert_eq!(
        said,
        [
            ("2026-03-09 23:45:00".to_owned(), volts(220)),
            ("2026-03-10 00:00:00".to_owned(), volts(221)),
            ("2026-03-10 00:15:00".to_owned(), volts(222)),
        ]
    );
    let mut wrong = data.clone();
    wrong[5] = 4;
    assert_eq!(
        layout.read(&mut Reader::new(&wrong)),
        Some(Err(LayoutError::Density(4)))
    );
    wrong[5] = 1;
    wrong[..5].copy_from_slice(&[0xEE; 5]);
    assert_eq!(layout.read(&mut Reader::new(&wrong)), Some(Err(LayoutError::Stamp)));
    assert!(matches!(
        layout.read(&mut Reader::new(&data[..data.len() - 1])),
        Some(Err(LayoutError::Short(_)))
    ));
}

#[test]
fn registers_have_tariffs_and_obis_codes() {
    let layout = up(Afn::HISTORY, 1);
    let data = layout.write(&[0x09, 0x03, 0x26], 2, 0, |field, rate, _| match field.name {
        "terminal read at" => Value::None,
        _ => Value::Number(Decimal::new(i64::from(rate.unwrap()) * 10_000 + 1234, 4)),
    });
    let reading = layout.read(&mut Reader::new(&data.unwrap())).unwrap().unwrap();
    assert_eq!(
        reading.stamped,
        Stamped::Period(Ok(Value::Date(NaiveDate::from_ymd_opt(2026, 3, 9).unwrap())))
    );
    assert_eq!(reading.number("import active energy", Some(0)), Some(dec!(0.1234)));
    assert_eq!(reading.number("import active energy", Some(2)), Some(dec!(2.1234)));
    // two decimals of reactive registers
    assert_eq!(reading.number("reactive energy quadrant 4", Some(1)), Some(dec!(1.12)));
    let codes: Vec<String> = reading.entries.iter().filter_map(|entry| entry.obis()).collect();
    assert_eq!(codes.len(), 12);
    assert_eq!(
        (codes[0].as_str(), codes[2].as_str(), codes[11].as_str()),
        ("1-0:1.8.0", "1-0:1.8.2", "1-0:8.8.2")
    );
    let mut many = vec![0x09, 0x03, 0x26, 0, 0, 0, 0, 0, 0xEE];
    many.resize(4000, 0);
    assert_eq!(
        layout.read(&mut Reader::new(&many)),
        Some(Err(LayoutError::Rates(0xEE)))
    );
}

#[test]
fn questions_hold_what_the_standard_wants() {
    let down = |afn, number| layout(afn, Fn::new(number).unwrap(), Way::Down, Edition::E2013).unwrap();
    assert_eq!(down(Afn::REALTIME, 25).size(4, 0), 0);
    assert_eq!(down(Afn::HISTORY, 1).size(4, 0), 3);
    assert_eq!(down(Afn::HISTORY, 177).size(4, 0), 2);
    assert_eq!(down(Afn::HISTORY, 81).size(4, 96), 7);
    assert_eq!(down(Afn::QUERY, 25).size(4, 0), 0);
    let places = [2, 0, 5, 0, 6, 0];
    let mut reader = Reader::new(&places);
    assert_eq!(
        down(Afn::QUERY, 10).read(&mut reader).unwrap().unwrap().entries.len(),
        2
    );
    assert!(reader.is_empty());
    // a count that lies
    assert!(
        down(Afn::QUERY, 10)
            .read(&mut Reader::new(&[0xFF, 0xFF, 5, 0]))
            .unwrap()
            .is_err()
    );
}

proptest! {
    #[test]
    fn every_item_reads_back_what_it_wrote(rates in 0..6u8, points in 0..5u8) {
        for edition in EDITIONS {
            for (afn, way) in [(Afn::REALTIME, Way::Up), (Afn::HISTORY, Way::Up), (Afn::SET, Way::Down), (Afn::TERMINAL, Way::Up), (Afn::CONTROL, Way::Down)] {
                for (item, layout) in all(afn, way, edition) {
                    let mut count = 0;
                    let mut written = Vec::new();
                    let data = layout.write(&stamp(layout.stamp, points), rates, points.into(), |field, _, _| {
                        count += 1;
                        written.push(plain(field, count));
                        plain(field, count)
                    });
                    let hour = layout.parts.unwrap_or_default().iter().any(|part| matches!(part, Part::Hour(_)));
                    let Some(data) = data else {
                        prop_assert!(layout.parts.is_none() || hour, "{afn} {item}");
                        continue;
                    };
                    let mut reader = Reader::new(&data);
                    let reading = layout.read(&mut reader).unwrap();
                    prop_assert!(reader.is_empty(), "{afn} {item}: {:?}", reading);
                    let read: Vec<Value> = reading.unwrap().entries.into_iter().map(|entry| entry.value.unwrap()).collect();
                    prop_assert_eq!(read, written, "{} {}", afn, item);
                }
            }
        }
    }

    #[test]
    fn random_data_are_read_or_refused(number in 1..=ITEM_MAX, data in prop::collection::vec(any::<u8>(), 0..400)) {
        for afn in [Afn::REALTIME, Afn::HISTORY, Afn::QUERY, Afn::TERMINAL] {
            let Some(layout) = layout(afn, Fn::new(number).unwrap(), Way::Up, Edition::E2013) else { continue };
            let mut reader = Reader::new(&data);
            if let Some(Ok(reading)) = layout.read(&mut reader) {
                for entry in reading.entries {
                    prop_assert!(entry.span.end <= data.len());
                }
            }
        }
    }
}
