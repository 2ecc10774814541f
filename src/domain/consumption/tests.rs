//! Known curves, and that parts add up to the whole whatever the readings.

use super::*;
use proptest::prelude::*;
use rust_decimal::dec;

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-{text}:00Z").parse().unwrap()
}

fn reading(meter: i32, when: &str, value: Decimal) -> RegisterReading {
    RegisterReading {
        meter: MeterId(meter),
        at: at(when),
        value,
        quality: Quality::Measured,
    }
}

fn installation(meter: i32, from: &str, to: Option<&str>, ratio: Decimal) -> Installation {
    Installation {
        meter: MeterId(meter),
        from: at(from),
        to: to.map(at),
        opening: None,
        closing: None,
        ratio,
        roll_over: None,
    }
}

fn alone() -> Vec<Installation> {
    vec![installation(1, "01-01T00:00", None, dec!(1))]
}

fn hours(readings: &[RegisterReading], installations: &[Installation], from: &str, to: &str) -> Vec<IntervalReading> {
    let edges = boundaries(Tz::UTC, Per::Hour, at(from), at(to)).unwrap();
    consumption(readings, installations, &edges, TimeDelta::hours(2))
}

fn values(intervals: &[IntervalReading]) -> Vec<Option<Decimal>> {
    intervals.iter().map(|interval| interval.value).collect()
}

#[test]
fn days_have_23_24_and_25_hours_and_months_their_days() {
    let berlin = Tz::Europe__Berlin;
    for (day, next, hours) in [
        ("03-28T23:00", "03-29T22:00", 23),
        ("10-24T22:00", "10-25T23:00", 25),
        ("06-01T22:00", "06-02T22:00", 24),
    ] {
        let day_edges = boundaries(berlin, Per::Day, at(day), at(next)).unwrap();
        assert_eq!(day_edges, [at(day), at(next)]);
        let edges = boundaries(berlin, Per::Hour, at(day), at(next)).unwrap();
        assert_eq!(edges.len(), hours + 1);
        assert_eq!((edges.first(), edges.last()), (Some(&at(day)), Some(&at(next))));
    }
    let months = boundaries(berlin, Per::Month, at("03-15T12:00"), at("05-01T00:00")).unwrap();
    assert_eq!(
        months,
        [
            at("02-28T23:00"),
            at("03-31T22:00"),
            at("04-30T22:00"),
            at("05-31T22:00")
        ]
    );
    // Kolkata's hours begin at half past
    let kolkata = boundaries(Tz::Asia__Kolkata, Per::Hour, at("03-01T00:00"), at("03-01T01:00")).unwrap();
    assert_eq!(kolkata, [at("02-28T23:30"), at("03-01T00:30"), at("03-01T01:30")]);
    // Havana has no midnight on the spring day
    let havana = boundaries(Tz::America__Havana, Per::Day, at("03-08T12:00"), at("03-08T13:00")).unwrap();
    assert_eq!(havana, [at("03-08T05:00"), at("03-09T04:00")]);
    assert!(
        boundaries(berlin, Per::Day, at("03-08T12:00"), at("03-08T12:00"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn boundaries_between_readings_are_interpolated_and_said_so() {
    let readings = [
        reading(1, "01-02T00:00", dec!(100)),
        reading(1, "01-02T00:45", dec!(103)),
        reading(1, "01-02T01:15", dec!(105)),
        reading(1, "01-02T02:00", dec!(108.5)),
    ];
    let hours = hours(&readings, &alone(), "01-02T00:00", "01-02T02:00");
    assert_eq!(values(&hours), [Some(dec!(4)), Some(dec!(4.5))]);
    assert!(
        hours
            .iter()
            .all(|hour| hour.flags.interpolated && !hour.flags.estimated && !hour.flags.incomplete)
    );
    assert_eq!(hours[0].quality(), Quality::Measured);
}

#[test]
fn long_gaps_are_estimates_and_their_whole_is_not() {
    let readings = [reading(1, "01-02T00:00", dec!(10)), reading(1, "01-02T04:00", dec!(11))];
    let parts = hours(&readings, &alone(), "01-02T00:00", "01-02T04:00");
    assert!(
        parts
            .iter()
            .all(|hour| hour.flags.estimated && hour.value == Some(dec!(0.25)))
    );
    let whole = consumption(
        &readings,
        &alone(),
        &[at("01-02T00:00"), at("01-02T04:00")],
        TimeDelta::hours(2),
    );
    assert_eq!((whole[0].value, whole[0].flags), (Some(dec!(1)), Flags::default()));
}

#[test]
fn what_is_not_covered_is_incomplete_or_none() {
    let readings = [reading(1, "01-02T00:30", dec!(10)), reading(1, "01-02T01:30", dec!(12))];
    let hours = hours(&readings, &alone(), "01-01T23:00", "01-02T03:00");
    assert_eq!(values(&hours), [None, Some(dec!(1)), Some(dec!(1)), None]);
    assert!(hours.iter().all(|hour| hour.flags.incomplete));
}

#[test]
fn an_exchange_keeps_the_point_whole() {
    let mut old = installation(1, "01-01T00:00", Some("01-02T00:30"), dec!(40));
    old.closing = Some(dec!(1010));
    let mut new = installation(2, "01-02T00:30", None, dec!(60));
    new.opening = Some(dec!(5));
    let readings = [
        reading(1, "01-02T00:00", dec!(1000)),
        reading(1, "01-02T00:45", dec!(9999)), // on the bench, no longer at the point
        reading(2, "01-02T00:15", dec!(4)),    // not yet
        reading(2, "01-02T01:00", dec!(8)),
    ];
    let hours = hours(&readings, &[old.clone(), new], "01-02T00:00", "01-02T01:00");
    assert_eq!(values(&hours), [Some(dec!(580))]); // 10 × 40 + 3 × 60
    assert_eq!(hours[0].flags, Flags::default());
    // without closing and opening registers what passed around the exchange is unknown, and said so
    old.closing = None;
    let new = installation(2, "01-02T00:30", None, dec!(60));
    let readings = [
        reading(1, "01-02T00:00", dec!(1000)),
        reading(1, "01-02T00:20", dec!(1010)),
        reading(2, "01-02T00:40", dec!(7)),
        reading(2, "01-02T01:00", dec!(8)),
    ];
    let hours = super::tests::hours(&readings, &[old, new], "01-02T00:00", "01-02T01:00");
    assert_eq!(values(&hours), [Some(dec!(460))]);
    assert!(hours[0].flags.incomplete);
}

#[test]
fn a_new_ratio_counts_from_its_date() {
    let before = installation(1, "01-01T00:00", Some("01-02T00:30"), dec!(1));
    let after = installation(1, "01-02T00:30", None, dec!(10));
    let readings = [reading(1, "01-02T00:00", dec!(0)), reading(1, "01-02T01:00", dec!(4))];
    let hours = hours(&readings, &[before, after], "01-02T00:00", "01-02T01:00");
    assert_eq!(values(&hours), [Some(dec!(22))]);
    assert!(!hours[0].flags.incomplete);
}

#[test]
fn a_roll_over_counts_only_when_known_and_plausible() {
    let mut known = alone();
    known[0].roll_over = Some(RollOver {
        modulus: dec!(10000),
        per_hour_max: dec!(50),
    });
    let readings = [
        reading(1, "01-02T00:00", dec!(9990)),
        reading(1, "01-02T01:00", dec!(15)),
    ];
    assert_eq!(
        values(&hours(&readings, &known, "01-02T00:00", "01-02T01:00")),
        [Some(dec!(25))]
    );
    for unknown in [alone(), {
        known[0].roll_over = Some(RollOver {
            modulus: dec!(10000),
            per_hour_max: dec!(20),
        });
        known
    }] {
        let hours = hours(&readings, &unknown, "01-02T00:00", "01-02T01:00");
        assert_eq!(values(&hours), [Some(dec!(0))]);
        assert!(hours[0].flags.suspect && hours[0].quality() == Quality::Suspect);
    }
}

#[test]
fn spikes_dips_and_resets_never_count_twice_or_negative() {
    let series = |list: &[Decimal]| -> Vec<RegisterReading> {
        let when = |i: usize| format!("01-02T0{i}:00");
        list.iter()
            .enumerate()
            .map(|(i, value)| reading(1, &when(i), *value))
            .collect()
    };
    let total = |list: &[Decimal]| {
        let end = format!("01-02T0{}:00", list.len() - 1);
        let hours = hours(&series(list), &alone(), "01-02T00:00", &end);
        let suspects: Vec<bool> = hours.iter().map(|hour| hour.flags.suspect).collect();
        (hours.iter().filter_map(|hour| hour.value).sum::<Decimal>(), suspects)
    };
    // a spike
    let (sum, suspects) = total(&[dec!(100), dec!(101), dec!(9999), dec!(103), dec!(104)]);
    assert_eq!((sum, suspects), (dec!(4), vec![false, true, true, false]));
    // a dip to zero, twice
    let (sum, suspects) = total(&[dec!(100), dec!(0), dec!(0), dec!(103), dec!(104)]);
    assert_eq!((sum, suspects), (dec!(4), vec![true, true, true, false]));
    // an unrecorded exchange: what passed before and after counts, the step does not
    let (sum, suspects) = total(&[dec!(100), dec!(101), dec!(5), dec!(6), dec!(7), dec!(8)]);
    assert_eq!((sum, suspects), (dec!(4), vec![false, true, false, false, false]));
    // a reading that was marked suspect is left out
    let mut readings = series(&[dec!(100), dec!(500), dec!(104)]);
    readings[1].quality = Quality::Suspect;
    let hours = hours(&readings, &alone(), "01-02T00:00", "01-02T02:00");
    assert_eq!(values(&hours), [Some(dec!(2)), Some(dec!(2))]);
    assert!(hours.iter().all(|hour| hour.flags.suspect));
}

#[test]
fn estimated_readings_make_estimates() {
    let mut readings = [
        reading(1, "01-02T00:00", dec!(1)),
        reading(1, "01-02T01:00", dec!(2)),
        reading(1, "01-02T02:00", dec!(3)),
        reading(1, "01-02T03:00", dec!(4)),
    ];
    readings[1].quality = Quality::Estimated;
    let hours = hours(&readings, &alone(), "01-02T00:00", "01-02T03:00");
    let estimated: Vec<bool> = hours.iter().map(|hour| hour.flags.estimated).collect();
    assert_eq!(estimated, [true, true, false]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Berlin, a week over either change of the clocks, three meters and a ratio change, readings anywhere: hours add up to
    /// days, days to the week, and the week to what the registers say, exactly.
    #[test]
    fn parts_add_up_to_the_whole(
        autumn in any::<bool>(),
        steps in prop::collection::vec((1..20_000_i64, 0..5_000_000_i64, 0..20_u8), 2..120),
        exchange in 1..100_i64,
        ratio in 1..4000_u32,
    ) {
        let (from, to) = if autumn {
            (at("10-19T22:00"), at("10-26T23:00"))
        } else {
            (at("03-23T23:00"), at("03-30T22:00"))
        };
        let changed = from + TimeDelta::hours(exchange);
        let mut first = installation(1, "01-01T00:00", None, Decimal::from(ratio));
        first.to = Some(changed);
        let mut second = installation(2, "01-01T00:00", None, dec!(7.5));
        second.from = changed;
        let (mut when, mut value) = (from - TimeDelta::hours(1), dec!(12345.678));
        let (mut readings, mut whole) = (Vec::new(), dec!(0));
        let mut last_old = None;
        let mut faults = false;
        for (wait_s, milli, kind) in steps {
            when += TimeDelta::seconds(wait_s);
            value += Decimal::new(milli, 4);
            let meter = if when < changed { 1 } else { 2 };
            let shown = if kind == 0 { faults = true; dec!(0) } else { value };
            if meter == 1 { last_old = Some(value); }
            readings.push(RegisterReading { meter: MeterId(meter), at: when, value: shown, quality: Quality::Measured });
        }
        first.closing = last_old.map(|v| v + dec!(0.5));
        second.opening = Some(last_old.unwrap_or(dec!(12345.678)));
        let installations = [first.clone(), second.clone()];
        let sum = |per| {
            let edges = boundaries(Tz::Europe__Berlin, per, from, to).unwrap();
            prop_assert_eq!((edges.first(), edges.last()), (Some(&from), Some(&to)));
            let parts = consumption(&readings, &installations, &edges, TimeDelta::hours(3));
            for part in &parts {
                prop_assert!(part.value.is_none_or(|v| v >= Decimal::ZERO), "{:?}", part);
            }
            Ok(parts.iter().filter_map(|part| part.value).sum::<Decimal>())
        };
        let week = consumption(&readings, &installations, &[from, to], TimeDelta::hours(3))[0].clone();
        prop_assert_eq!(sum(Per::Hour)?, week.value.unwrap_or_default());
        prop_assert_eq!(sum(Per::Day)?, week.value.unwrap_or_default());
        // from the first reading to the last, the curve is the registers' own difference
        let olds: Vec<_> = readings.iter().filter(|r| r.meter == MeterId(1)).collect();
        let news: Vec<_> = readings.iter().filter(|r| r.meter == MeterId(2)).collect();
        if let (Some(a), Some(closing)) = (olds.first(), first.closing) {
            whole += (closing - a.value) * first.ratio;
        }
        if let (Some(z), Some(opening)) = (news.last(), second.opening) {
            whole += (z.value - opening) * second.ratio;
        }
        if !faults {
            let all = consumption(&readings, &installations, &[at("01-01T00:00"), at("12-31T00:00")], TimeDelta::hours(3));
            prop_assert_eq!(all[0].value.unwrap_or_default(), whole);
            prop_assert!(!all[0].flags.suspect);
        }
    }
}
