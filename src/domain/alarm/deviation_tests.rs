//! Deviation: examples, properties, and a fleet over a simulated month.

use super::*;
use proptest::prelude::*;

const ZONE: Tz = chrono_tz::Europe::Berlin;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A well-mixed hash (splitmix64's finaliser) as a number of 0 to 1.
fn unit(a: u64, b: u64) -> f64 {
    let mut z = a.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64
}

/// Hours from `from` on, each as `value` says of its number.
fn hours(from: DateTime<Utc>, count: u32, value: impl Fn(u32, DateTime<Utc>) -> f64) -> HashMap<DateTime<Utc>, f64> {
    (0..count)
        .map(|number| {
            let start = from + TimeDelta::hours(number.into());
            (start, value(number, start))
        })
        .collect()
}

fn steady() -> HashMap<DateTime<Utc>, f64> {
    hours(at("2026-01-04T23:00:00Z"), 60 * 24, |number, _| {
        1.0 + 0.2 * (unit(1, number.into()) - 0.5)
    })
}

#[test]
fn a_peak_is_found_in_its_second_hour_and_is_over_two_hours_after_its_end() {
    let (check, none) = (DeviationCheck::default(), BTreeSet::new());
    let mut hours = steady();
    let peak = at("2026-02-24T10:00:00Z");
    for hour in 0..4 {
        hours.insert(peak + TimeDelta::hours(hour), 3.0);
    }
    let judged = |hour: i64| judge(&check, ZONE, &none, &hours, peak + TimeDelta::hours(hour));
    assert_eq!(judged(-1), Judgement::Clear);
    assert_eq!(judged(0), Judgement::Open, "one hour is life");
    let Judgement::Raise { value, expected, since } = judged(1) else {
        panic!("{:?}", judged(1));
    };
    assert!(value == 3.0 && (0.9..1.1).contains(&expected) && since == peak);
    assert!(matches!(judged(3), Judgement::Raise { .. }));
    assert_eq!(judged(4), Judgement::Open);
    assert_eq!(judged(5), Judgement::Clear);
}

#[test]
fn little_is_wrong_only_if_the_rule_says_so() {
    let none = BTreeSet::new();
    let mut hours = steady();
    let off = at("2026-02-24T10:00:00Z");
    hours.insert(off, 0.0);
    hours.insert(off + TimeDelta::hours(1), 0.0);
    let check = |below| DeviationCheck {
        below,
        ..DeviationCheck::default()
    };
    let last = off + TimeDelta::hours(1);
    assert_eq!(judge(&check(false), ZONE, &none, &hours, last), Judgement::Clear);
    assert!(matches!(
        judge(&check(true), ZONE, &none, &hours, last),
        Judgement::Raise { .. }
    ));
}

#[test]
fn small_volumes_a_new_meter_and_a_gap_raise_nothing() {
    let (check, none) = (DeviationCheck::default(), BTreeSet::new());
    let from = at("2026-01-04T23:00:00Z");
    let last = from + TimeDelta::hours(24 * 50);
    let mut small = hours(from, 24 * 51, |_, _| 0.05);
    for back in 0..2 {
        small.insert(last - TimeDelta::hours(back), 0.4);
    }
    assert_eq!(judge(&check, ZONE, &none, &small, last), Judgement::Clear);
    let young = hours(from, 10 * 24, |_, _| 1.0);
    let newest = from + TimeDelta::hours(239);
    assert_eq!(judge(&check, ZONE, &none, &young, newest), Judgement::Open);
    let mut holed = steady();
    holed.remove(&(last - TimeDelta::hours(1)));
    assert_eq!(judge(&check, ZONE, &none, &holed, last), Judgement::Open);
}

#[test]
fn a_rhythm_of_the_week_is_no_deviation_and_one_odd_week_does_not_blind() {
    let (check, none) = (DeviationCheck::default(), BTreeSet::new());
    let from = at("2026-01-04T23:00:00Z");
    // an office: eight hours on working days by the wall clock, nearly nothing else
    let open = |start: DateTime<Utc>| {
        let wall = start.with_timezone(&ZONE);
        wall.weekday().number_from_monday() <= 5 && (8..16).contains(&wall.hour())
    };
    let mut office = hours(from, 24 * 70, |number, start| {
        let noise = 0.2 * unit(5, number.into());
        if open(start) { 9.0 + noise } else { 0.5 + noise }
    });
    for number in 24 * 28..24 * 70 {
        let last = from + TimeDelta::hours(number);
        let judged = judge(&check, ZONE, &none, &office, last);
        assert!(!matches!(judged, Judgement::Raise { .. }), "{last}: {judged:?}");
    }
    // on a Saturday the office is open: that is one
    let saturday = at("2026-03-07T10:00:00Z");
    for hour in 0..3 {
        office.insert(saturday + TimeDelta::hours(hour), 9.0);
    }
    let next = saturday + TimeDelta::hours(1);
    assert!(matches!(
        judge(&check, ZONE, &none, &office, next),
        Judgement::Raise { .. }
    ));
    // a week later it is still one: once is no habit
    let later = next + TimeDelta::days(7);
    for hour in 0..3 {
        office.insert(saturday + TimeDelta::days(7) + TimeDelta::hours(hour), 9.0);
    }
    assert!(matches!(
        judge(&check, ZONE, &none, &office, later),
        Judgement::Raise { .. }
    ));
}

#[test]
fn a_holiday_is_compared_with_sundays_and_nothing_with_it() {
    let check = DeviationCheck {
        below: true,
        ..DeviationCheck::default()
    };
    let from = at("2026-01-04T23:00:00Z");
    let holiday = NaiveDate::from_ymd_opt(2026, 3, 3).unwrap();
    let office = hours(from, 24 * 70, |number, start| {
        let wall = start.with_timezone(&ZONE);
        let works = wall.weekday().number_from_monday() <= 5 && wall.date_naive() != holiday;
        0.2 * unit(9, number.into()) + if works { 9.0 } else { 2.0 }
    });
    let noon = at("2026-03-03T12:00:00Z");
    let plain = judge(&check, ZONE, &BTreeSet::new(), &office, noon);
    assert!(
        matches!(plain, Judgement::Raise { .. }),
        "a Tuesday without work: {plain:?}"
    );
    let known = BTreeSet::from([holiday]);
    assert_eq!(judge(&check, ZONE, &known, &office, noon), Judgement::Clear);
    let week_later = comparable(&check, ZONE, &known, noon + TimeDelta::days(7));
    assert!(!week_later.contains(&noon), "the holiday is not compared with");
    assert!(comparable(&check, ZONE, &BTreeSet::new(), noon + TimeDelta::days(7)).contains(&noon));
}

#[test]
fn hours_are_compared_by_the_wall_clock() {
    let check = DeviationCheck {
        weeks: 2,
        ..DeviationCheck::default()
    };
    // Berlin's clock goes forward on 29 March 2026
    let after = comparable(&check, ZONE, &BTreeSet::new(), at("2026-03-31T06:00:00Z"));
    let same: Vec<_> = after.iter().map(|start| start.with_timezone(&ZONE).hour()).collect();
    assert_eq!(same, [7, 8, 9, 7, 8, 9]);
    // the hour that did not exist has no instant
    let night = comparable(&check, ZONE, &BTreeSet::new(), at("2026-04-05T00:00:00Z"));
    assert_eq!(night.len(), 5, "{night:?}");
}

#[test]
fn the_profile_has_every_hour_of_the_week() {
    let (check, none) = (DeviationCheck::default(), BTreeSet::new());
    let found = profile(&check, ZONE, &none, &steady(), at("2026-02-24T10:00:00Z"));
    assert_eq!(found.len(), 168);
    let monday_3 = found.iter().find(|bin| (bin.weekday, bin.hour) == (1, 3)).unwrap();
    let usual = monday_3.usual.unwrap();
    assert!((0.9..1.1).contains(&usual.expected) && usual.samples >= 18, "{usual:?}");
}

proptest! {
    /// What is multiplied by anything is judged the same, volumes aside.
    #[test]
    fn judgement_does_not_hang_on_the_unit(scale in 0.5f64..1e5, peak in 0.0f64..6.0, seed in any::<u64>()) {
        let check = DeviationCheck { volume_min: 0.0, below: true, ..DeviationCheck::default() };
        let values: Vec<f64> = (0..24).map(|n| 1.0 + unit(seed, n)).collect();
        let plain = verdict(&check, peak, &expect(values.iter().copied()).unwrap());
        let scaled = verdict(&check, peak * scale, &expect(values.iter().map(|value| value * scale)).unwrap());
        // at a limit rounding decides
        let near = [0.999_999, 1.000_001].map(|by| verdict(&check, peak * by, &expect(values.iter().copied()).unwrap()));
        prop_assert!(plain == scaled || near[0] != near[1]);
    }

    /// Whatever a few odd weeks did, what is expected lies within what the others show.
    #[test]
    fn a_few_odd_values_do_not_move_the_expectation(odd in proptest::collection::vec(0.0f64..1e9, 0..10), seed in any::<u64>()) {
        let usual: Vec<f64> = (0..24).map(|n| 1.0 + unit(seed, n)).collect();
        let found = expect(usual.iter().chain(&odd).copied()).unwrap();
        prop_assert!((1.0..=2.0).contains(&found.expected));
    }

    /// An hour as great as comparable ones were is never too much.
    #[test]
    fn what_was_seen_before_is_usual(values in proptest::collection::vec(0.0f64..1e6, 6..40)) {
        let check = DeviationCheck { volume_min: 0.0, ..DeviationCheck::default() };
        let found = expect(values).unwrap();
        prop_assert_eq!(verdict(&check, found.high, &found), Verdict::Usual);
    }
}

/// A thousand loads as the simulator makes them: a daily profile, a factor of the day (±20 %) and of the quarter hour
/// (±40 %), and here a weekend as well.
struct Fleet {
    from: DateTime<Utc>,
    hours: u32,
    peaks: std::collections::BTreeMap<usize, u32>,
    values: Vec<Vec<f64>>,
}

const HOUSEHOLD: [f64; 24] = [
    0.55, 0.48, 0.44, 0.42, 0.42, 0.50, 0.80, 1.20, 1.25, 1.05, 0.95, 0.98, 1.10, 1.05, 0.95, 0.92, 1.00, 1.30, 1.65,
    1.75, 1.60, 1.30, 0.95, 0.70,
];
const PEAK_H: u32 = 5;

impl Fleet {
    /// `meters` over `days`; `peaks`: of these meters three times as much from that hour on, for five hours.
    fn new(meters: usize, days: u32, peaks: &[(usize, u32)]) -> Self {
        let from = at("2026-01-04T23:00:00Z");
        let peaks: std::collections::BTreeMap<usize, u32> = peaks.iter().copied().collect();
        let mut fleet = Self {
            from,
            hours: days * 24,
            peaks,
            values: Vec::new(),
        };
        fleet.values = (0..meters).map(|meter| fleet.load(meter)).collect();
        fleet
    }

    fn load(&self, meter: usize) -> Vec<f64> {
        let seed = meter as u64 + 1;
        let mean = 0.4 + 1.2 * unit(seed, 1);
        let one = |number: u32| {
            let wall = (self.from + TimeDelta::hours(number.into())).with_timezone(&ZONE);
            let weekend = if wall.weekday().number_from_monday() > 5 {
                1.3
            } else {
                1.0
            };
            let day = 0.8 + 0.4 * unit(seed, 1_000_000 + u64::from(number / 24));
            let quarters = (0..4).map(|quarter| 0.6 + 0.8 * unit(seed, 2_000_000 + u64::from(number * 4 + quarter)));
            let noise = quarters.sum::<f64>() / 4.0;
            let peak = self
                .peaks
                .get(&meter)
                .is_some_and(|begin| (*begin..begin + PEAK_H).contains(&number));
            mean * HOUSEHOLD[wall.hour() as usize] * weekend * day * noise * if peak { 3.0 } else { 1.0 }
        };
        (0..self.hours).map(one).collect()
    }

    fn hour(&self, meter: usize, start: DateTime<Utc>) -> Option<f64> {
        let number = (start - self.from).num_hours();
        self.values[meter].get(usize::try_from(number).ok()?).copied()
    }
}

/// Issue 5: of 1,000 simulated meters over a simulated month ten have a peak of three times their load: ten alarms, each
/// within two slots, and at most one false.
#[test]
fn ten_peaks_among_a_thousand_meters_in_a_month_are_ten_alarms() {
    let check = DeviationCheck {
        weeks: 4,
        ..DeviationCheck::default()
    };
    let none = BTreeSet::new();
    // four weeks are learned, thirty days are watched; peaks by day, where an hour is worth speaking of
    let peaks: Vec<(usize, u32)> = (0..10)
        .map(|n| (n * 97 + 3, (30 + n as u32 * 2) * 24 + 9 + n as u32))
        .collect();
    let fleet = Fleet::new(1_000, 28 + 30, &peaks);
    let mut open = vec![false; 1_000];
    let mut raised: Vec<(usize, u32)> = Vec::new();
    for number in 28 * 24..fleet.hours {
        let last = fleet.from + TimeDelta::hours(number.into());
        let comparison = Comparison::new(&check, ZONE, &none, last);
        for (meter, open) in open.iter_mut().enumerate() {
            match comparison.judge(&check, *open, |start| fleet.hour(meter, start)) {
                Judgement::Raise { .. } if !*open => {
                    *open = true;
                    raised.push((meter, number));
                }
                Judgement::Clear => *open = false,
                _ => {}
            }
        }
    }
    let (right, wrong): (Vec<_>, Vec<_>) = raised.iter().partition(|(meter, number)| {
        fleet
            .peaks
            .get(meter)
            .is_some_and(|begin| (*begin..begin + PEAK_H).contains(number))
    });
    println!("{} right, {} false: {wrong:?}", right.len(), wrong.len());
    assert_eq!(right.len(), 10, "{raised:?}");
    for (meter, number) in &right {
        // the slot that ends the peak's first hour, and the one behind it
        assert!(number - fleet.peaks[meter] < 2, "meter {meter} at hour {number}");
    }
    assert!(wrong.len() <= 1, "{wrong:?}");
    assert!(open.iter().all(|open| !open), "all of it is over");
}
