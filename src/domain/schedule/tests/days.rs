//! Calendars, intervals and settlement days held against brute force, and against known days.

use super::*;
use crate::domain::device::ScheduleRule;
use std::sync::Arc;

/// Zones with jumps of an hour and of half an hour, at night and at midnight, over midnight backwards, of a whole day.
const ZONES: [&str; 9] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Australia/Adelaide",
    "America/St_Johns",
    "America/Santiago",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Asia/Kolkata",
];

fn calendar(zone: &str, weekdays: &[u32], holidays: &[&str], working: &[&str]) -> Arc<Calendar> {
    let weekdays = weekdays
        .iter()
        .filter_map(|day| chrono::Weekday::try_from(u8::try_from(*day).unwrap()).ok());
    let holiday = |date: &&str| Holiday {
        date: date.parse().unwrap(),
        name: String::new(),
    };
    let working = working.iter().map(|date| date.parse().unwrap()).collect();
    Arc::new(
        Calendar::new(
            zone,
            weekdays.collect(),
            holidays.iter().map(holiday).collect(),
            working,
        )
        .unwrap(),
    )
}

fn all_due(when: &Recurrence, zone: Tz, from: &str, to: &str) -> Vec<String> {
    let mut due = Vec::new();
    let mut next = when.next_from(at(from));
    while let Some(instant) = next.filter(|instant| *instant < at(to)) {
        due.push(instant.with_timezone(&zone).format("%m-%dT%H:%M%:z").to_string());
        next = when.next_after(instant);
    }
    due
}

fn interval(minutes: u16, zone: &str, from: &str, to: &str) -> Vec<String> {
    let when = Recurrence::compile(&Timing::EveryMinutes(minutes), zone, DayRule::EveryDay, None).unwrap();
    all_due(&when, zone.parse().unwrap(), from, to)
}

#[test]
fn short_intervals_leave_no_hole_and_long_ones_keep_their_marks() {
    // Lord Howe goes back from 02:00 to 01:30 on 5 April 2026 at 15:00 UTC
    assert_eq!(
        interval(
            30,
            "Australia/Lord_Howe",
            "2026-04-04T14:00:00Z",
            "2026-04-04T16:30:00Z"
        ),
        [
            "04-05T01:00+11:00",
            "04-05T01:30+11:00",
            "04-05T01:30+10:30",
            "04-05T02:00+10:30",
            "04-05T02:30+10:30"
        ]
    );
    assert_eq!(
        interval(
            120,
            "Australia/Lord_Howe",
            "2026-04-04T13:00:00Z",
            "2026-04-04T20:00:00Z"
        ),
        [
            "04-05T00:00+11:00",
            "04-05T02:00+10:30",
            "04-05T04:00+10:30",
            "04-05T06:00+10:30"
        ]
    );
    // 02:00 does not exist in Berlin on 29 March
    assert_eq!(
        interval(120, "Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T05:00:00Z"),
        [
            "03-29T00:00+01:00",
            "03-29T03:00+02:00",
            "03-29T04:00+02:00",
            "03-29T06:00+02:00"
        ]
    );
    // nor midnight in Santiago on 6 September
    assert_eq!(
        interval(1440, "America/Santiago", "2026-09-05T00:00:00Z", "2026-09-08T00:00:00Z"),
        ["09-05T00:00-04:00", "09-06T01:00-03:00", "09-07T00:00-03:00"]
    );
    // 90 minutes are no field of an hour; marks count from midnight
    assert_eq!(
        interval(90, "Asia/Kolkata", "2026-01-01T14:00:00Z", "2026-01-01T21:00:00Z"),
        [
            "01-01T19:30+05:30",
            "01-01T21:00+05:30",
            "01-01T22:30+05:30",
            "01-02T00:00+05:30",
            "01-02T01:30+05:30"
        ]
    );
}

#[test]
fn a_calendar_of_another_zone_counts_its_own_dates() {
    // Tokyo's Monday begins at 15:00 UTC on Sunday
    let tokyo = calendar("Asia/Tokyo", &[0, 1, 2, 3, 4], &[], &[]);
    let when = Recurrence::compile(
        &Timing::Cron("0 */6 * * *".into()),
        "UTC",
        DayRule::WorkingDays,
        Some(&tokyo),
    )
    .unwrap();
    assert_eq!(
        all_due(&when, Tz::UTC, "2026-03-06T00:00:00Z", "2026-03-09T07:00:00Z"),
        [
            "03-06T00:00+00:00",
            "03-06T06:00+00:00",
            "03-06T12:00+00:00",
            "03-08T18:00+00:00",
            "03-09T00:00+00:00",
            "03-09T06:00+00:00"
        ]
    );
}

#[test]
fn what_never_falls_on_its_days_ends_quickly() {
    let started = Instant::now();
    let weekdays = calendar("Europe/Berlin", &[0, 1, 2, 3, 4], &[], &[]);
    for (cron, rule) in [
        ("*/15 * * * SUN", DayRule::WorkingDays),
        ("* * * * * *", DayRule::Holidays),
        ("0 0 * * MON-FRI", DayRule::NonWorkingDays),
    ] {
        let when = Recurrence::compile(&Timing::Cron(cron.into()), "Europe/Berlin", rule, Some(&weekdays)).unwrap();
        for _ in 0..10 {
            assert_eq!(when.next_after(at("2026-01-01T00:00:00Z")), None, "{cron}");
        }
    }
    assert!(started.elapsed().as_secs() < 120, "{:?}", started.elapsed());
    let without = Recurrence::compile(&Timing::EveryMinutes(15), "UTC", DayRule::Holidays, None);
    assert_eq!(without, Err(ScheduleError::Calendar { rule: "holidays" }));
    // a leap day on a working day: 2028 is a Tuesday
    let leap = Recurrence::compile(
        &Timing::Cron("0 0 29 2 *".into()),
        "Europe/Berlin",
        DayRule::WorkingDays,
        Some(&weekdays),
    );
    assert_eq!(
        leap.unwrap().next_after(at("2026-01-01T00:00:00Z")),
        Some(at("2028-02-28T23:00:00Z"))
    );
}

#[test]
fn a_rule_over_a_calendars_versions_is_one_rule_for_each() {
    let (a, b) = (calendar("UTC", &[0], &[], &[]), calendar("UTC", &[1], &[], &[]));
    let version = |from: &str, to: Option<&str>, calendar: &Arc<Calendar>| CalendarVersion {
        valid_from: at(from),
        valid_to: to.map(at),
        calendar: Arc::clone(calendar),
    };
    let versions = [
        version("2026-01-01T00:00:00Z", Some("2026-02-01T00:00:00Z"), &a),
        version("2026-02-01T00:00:00Z", Some("2026-03-01T00:00:00Z"), &b),
        version("2026-03-01T00:00:00Z", None, &a),
    ];
    let rule = |from: &str, to: Option<&str>| ScheduleRule {
        days: DayRule::WorkingDays,
        valid_to: to.map(at),
        ..ScheduleRule::by_cron("0 0 * * *", "UTC", at(from))
    };
    let spans = |rule: ScheduleRule| -> Vec<(String, Option<String>, bool)> {
        let rules = over_versions(rule, &versions);
        let day = |at: DateTime<Utc>| at.format("%m-%d").to_string();
        let is_a = |rule: &ScheduleRule| Arc::ptr_eq(rule.calendar.as_ref().unwrap(), &a);
        rules
            .iter()
            .map(|rule| (day(rule.valid_from), rule.valid_to.map(day), is_a(rule)))
            .collect()
    };
    let row = |from: &str, to: Option<&str>, is_a| (from.to_owned(), to.map(str::to_owned), is_a);
    assert_eq!(
        spans(rule("2026-01-10T00:00:00Z", None)),
        [
            row("01-10", Some("02-01"), true),
            row("02-01", Some("03-01"), false),
            row("03-01", None, true)
        ]
    );
    assert_eq!(
        spans(rule("2026-02-10T00:00:00Z", Some("2026-02-20T00:00:00Z"))),
        [row("02-10", Some("02-20"), false)]
    );
    // a rule older than its calendar, by a clock that was set back
    assert_eq!(
        spans(rule("2025-12-01T00:00:00Z", Some("2026-02-01T00:00:00Z"))),
        [row("12-01", Some("02-01"), true)]
    );
    assert_eq!(
        over_versions(
            ScheduleRule::by_cron("0 0 * * *", "UTC", at("2026-01-01T00:00:00Z")),
            &versions
        )
        .len(),
        1
    );
}

/// The dates of a calendar as sets, and its verdict on one by the definition.
#[derive(Clone, Debug)]
struct Days {
    zone: &'static str,
    weekdays: BTreeSet<u32>,
    holidays: BTreeSet<i64>,
    working: BTreeSet<i64>,
    rule: DayRule,
}

impl Days {
    fn calendar(&self, base: NaiveDate) -> Arc<Calendar> {
        let date = |day: &i64| base + TimeDelta::days(*day);
        let weekdays = self
            .weekdays
            .iter()
            .map(|day| chrono::Weekday::try_from(u8::try_from(*day).unwrap()).unwrap());
        let holidays = self.holidays.iter().map(|day| Holiday {
            date: date(day),
            name: "h".into(),
        });
        let working = self.working.difference(&self.holidays).map(date).collect();
        Arc::new(Calendar::new(self.zone, weekdays.collect(), holidays.collect(), working).unwrap())
    }

    fn keeps(&self, base: NaiveDate, instant: i64) -> bool {
        let zone: Tz = self.zone.parse().unwrap();
        let date = DateTime::from_timestamp(instant, 0)
            .unwrap()
            .with_timezone(&zone)
            .date_naive();
        let day = (date - base).num_days();
        let holiday = self.holidays.contains(&day);
        let usual = self.weekdays.contains(&date.weekday().num_days_from_monday());
        let working = !holiday && (usual || self.working.contains(&day));
        match self.rule {
            DayRule::EveryDay => true,
            DayRule::WorkingDays => working,
            DayRule::NonWorkingDays => !working,
            DayRule::Holidays => holiday,
        }
    }
}

fn days() -> impl Strategy<Value = Days> {
    let dates = || prop::collection::btree_set(-6..8_i64, 0..5);
    (
        prop::sample::select(&ZONES[..]),
        prop::collection::btree_set(0..7_u32, 0..7),
        dates(),
        dates(),
        prop::sample::select(&DayRule::ALL[..]),
    )
        .prop_map(|(zone, weekdays, holidays, working, rule)| Days {
            zone,
            weekdays,
            holidays,
            working,
            rule,
        })
}

/// A timing, and whether a wall time is one of its marks.
#[derive(Clone, Debug)]
enum Marks {
    Interval(u16),
    Settlement(Option<u8>, u8, u8),
    Daily(u8, u8),
    Quarters,
}

impl Marks {
    fn timing(&self) -> Timing {
        match self {
            Self::Interval(minutes) => Timing::EveryMinutes(*minutes),
            Self::Settlement(day, hour, minute) => Timing::Settlement(SettlementTime {
                day: day.map_or(SettlementDay::Last, SettlementDay::Day),
                hour: *hour,
                minute: *minute,
            }),
            Self::Daily(hour, minute) => Timing::Cron(format!("{minute} {hour} * * *")),
            Self::Quarters => Timing::Cron("*/15 * * * *".into()),
        }
    }

    fn matches(&self, wall: NaiveDateTime) -> bool {
        let of_day = wall.hour() * 60 + wall.minute();
        match self {
            Self::Interval(minutes) => of_day.is_multiple_of(u32::from(*minutes)),
            Self::Settlement(day, hour, minute) => {
                let right_day = match day {
                    Some(day) => wall.day() == u32::from(*day),
                    None => (wall + TimeDelta::days(1)).day() == 1,
                };
                right_day && of_day == u32::from(*hour) * 60 + u32::from(*minute)
            }
            Self::Daily(hour, minute) => of_day == u32::from(*hour) * 60 + u32::from(*minute),
            Self::Quarters => of_day.is_multiple_of(15),
        }
    }

    fn once_a_day(&self) -> bool {
        match self {
            Self::Interval(minutes) => *minutes > 60,
            Self::Settlement(..) | Self::Daily(..) => true,
            Self::Quarters => false,
        }
    }
}

fn marks(near: NaiveDateTime) -> impl Strategy<Value = Marks> {
    let divisors: Vec<u16> = (5..=1440).filter(|minutes| 1440 % minutes == 0).collect();
    let time = (0..24_u8, 0..60_u8);
    let day = u8::try_from(near.day()).unwrap();
    let around: Vec<Option<u8>> = (day.saturating_sub(1)..=day + 1)
        .map(|day| (1..=28).contains(&day).then_some(day))
        .collect();
    prop_oneof![
        2 => prop::sample::select(divisors).prop_map(Marks::Interval),
        2 => (prop::sample::select(around), 0..4_u8, time.1.clone()).prop_map(|(day, h, m)| Marks::Settlement(day, h, m)),
        2 => time.prop_map(|(hour, minute)| Marks::Daily(hour, minute)),
        1 => Just(Marks::Quarters),
    ]
}

/// A zone, one of its clock jumps, and marks near it.
fn case() -> impl Strategy<Value = (&'static str, i64, Marks)> {
    (prop::sample::select(&ZONES[..]), any::<prop::sample::Index>()).prop_flat_map(|(zone, pick)| {
        let tz: Tz = zone.parse().unwrap();
        let jumps = jumps(tz);
        let near = if jumps.is_empty() {
            at("2026-03-29T01:00:00Z").timestamp()
        } else {
            *pick.get(&jumps)
        };
        let wall = DateTime::from_timestamp(near + 6 * 3600, 0)
            .unwrap()
            .with_timezone(&tz)
            .naive_local();
        (Just(zone), Just(near), marks(wall))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn due_times_on_a_calendars_days_agree_with_brute_force(
        (zone, near, marks) in case(), days in days(), shift in -1500..1500_i64,
    ) {
        let tz: Tz = zone.parse().unwrap();
        let base = DateTime::from_timestamp(near, 0).unwrap().date_naive();
        let from = near / 60 * 60 + shift * 60 - 86_400;
        let to = from + 4 * 86_400;
        let when = Recurrence::compile(&marks.timing(), zone, days.rule, Some(&days.calendar(base))).unwrap();
        let mut ours = Vec::new();
        let mut next = when.next_from(DateTime::from_timestamp(from, 0).unwrap());
        while let Some(due) = next.filter(|due| due.timestamp() < to) {
            ours.push(due.timestamp());
            next = when.next_after(due);
        }
        let theirs: Vec<i64> = brute(tz, |wall| marks.matches(wall), marks.once_a_day(), from, to)
            .into_iter()
            .filter(|due| days.keeps(base, *due))
            .collect();
        prop_assert_eq!(ours, theirs, "{:?} in {} on {:?}", marks, zone, days);
    }

    /// Settlement days against `croner`, month by month over clock changes of five zones. Hours from 4 on: where a
    /// clock jumps in the hour itself the rules differ (see `the_calendar_agrees_with_croner`).
    #[test]
    fn settlement_days_agree_with_croner(
        zone in prop::sample::select(&["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Australia/Adelaide", "America/St_Johns"][..]),
        day in prop::option::of(1..=28_u8), hour in 4..24_u8, minute in 0..60_u8, begin in 0..700_i64,
    ) {
        let tz: Tz = zone.parse().unwrap();
        let from = at("2024-02-01T00:00:00Z") + TimeDelta::days(begin);
        let cron = format!("{minute} {hour} {} * *", day.map_or("L".to_owned(), |day| day.to_string()));
        let reference: croner::Cron = cron.parse().unwrap();
        let theirs: Vec<DateTime<Utc>> = reference
            .iter_after(from.with_timezone(&tz)).take(26).map(|due| due.with_timezone(&Utc)).collect();
        let marks = Marks::Settlement(day, hour, minute);
        let when = Recurrence::compile(&marks.timing(), zone, DayRule::EveryDay, None).unwrap();
        let ours: Vec<DateTime<Utc>> = std::iter::successors(when.next_after(from), |due| when.next_after(*due)).take(26).collect();
        prop_assert_eq!(ours, theirs, "{} in {}", cron, zone);
    }
}
