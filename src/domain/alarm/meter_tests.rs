//! Readings against rules: each kind by examples, and what must hold of all of them.

use super::*;
use crate::base::ids::{AlarmRuleId, DtuId, FrameId, FrameRange, MeterId, PollId};
use crate::domain::alarm::rule::{BackwardCheck, Scope, StatusBit, StuckCheck, defaults};
use crate::domain::alarm::{AlarmKind, Severity};
use crate::domain::reading::Item;
use proptest::prelude::*;
use rust_decimal::dec;

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(minute)
}

fn reading(minute: i64, values: &[(&str, f64)]) -> Reading {
    let items = values.iter().map(|(name, value)| {
        let measurand = Quantity::by_name(name).map_or_else(|| Measurand::Vendor((*name).into()), Measurand::Standard);
        let exact =
            name.contains("energy") || name.contains("status") || name.contains("openings") || name.contains("drift");
        Item {
            measurand,
            value: if exact {
                Value::Decimal(Decimal::try_from(*value).unwrap())
            } else {
                Value::F64(*value)
            },
            quality: Quality::Measured,
        }
    });
    Reading {
        account: AccountId(1),
        meter: MeterId(7),
        ts: at(minute),
        source: Source::Scheduled,
        read_at: at(minute),
        meter_time: None,
        poll: PollId(1),
        frames: FrameRange {
            first: FrameId(5),
            count: 2,
        },
        items: items.collect(),
    }
}

fn rule(check: Check) -> Rule {
    Rule {
        id: Some(AlarmRuleId(9)),
        account: Some(AccountId(1)),
        scope: Scope::Account,
        enabled: true,
        severity: Severity::Warning,
        check,
    }
}

struct Bench {
    rules: Vec<Rule>,
    watch: MeterWatch,
}

impl Bench {
    fn new(check: Check) -> Self {
        Self {
            rules: vec![rule(check)],
            watch: MeterWatch::default(),
        }
    }

    fn see(&mut self, reading: &Reading) -> Vec<Change> {
        let rules: Vec<&Rule> = self.rules.iter().collect();
        let ground = Ground {
            account: AccountId(1),
            subject: Subject::Meter {
                meter: MeterId(7),
                dtu: DtuId(3),
            },
            rules: &rules,
        };
        judge(ground, reading, false, &mut self.watch)
    }

    /// `+key` of what is raised, `-key` of what is cleared.
    fn says(&mut self, minute: i64, values: &[(&str, f64)]) -> Vec<String> {
        let told = self.see(&reading(minute, values));
        told.iter()
            .map(|change| {
                let sign = if matches!(change, Change::Raise(_)) { '+' } else { '-' };
                let key = change.key().text.replace("@meter/7", "");
                format!("{sign}{key}")
            })
            .collect()
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_limit_has_a_duration_and_a_way_back() {
    let mut bench = Bench::new(Check::Threshold(ThresholdCheck {
        quantity: "current_l1".to_owned(),
        above: Some(16.0),
        below: Some(-1.0),
        hysteresis: 2.0,
        for_s: 900,
    }));
    assert_eq!(bench.says(0, &[("current_l1", 17.0)]), NOTHING);
    assert_eq!(bench.says(15, &[("current_l1", 18.0)]), ["+threshold:9.above"]);
    assert_eq!(bench.says(30, &[("current_l1", 15.0)]), NOTHING);
    assert_eq!(bench.says(45, &[("current_l1", 13.0)]), NOTHING);
    assert_eq!(bench.says(60, &[("current_l1", 13.0)]), ["-threshold:9.above"]);
    assert_eq!(
        bench.says(75, &[("voltage_l1", 13.0)]),
        NOTHING,
        "it is not in the reading"
    );
}

#[test]
fn what_raised_it_is_in_the_detail() {
    let mut bench = Bench::new(Check::Threshold(ThresholdCheck {
        quantity: "current_l1".to_owned(),
        above: Some(16.0),
        ..ThresholdCheck::default()
    }));
    let told = bench.see(&reading(3, &[("current_l1", 17.25)]));
    let [Change::Raise(raised)] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(raised.detail.value.as_deref(), Some("17.25"));
    assert_eq!(raised.detail.frames, Some((5, 2)));
    assert_eq!((raised.detail.reading_at, raised.cause_at), (Some(at(3)), at(3)));
    let said = raised.detail.sentence(raised.kind);
    assert_eq!(said, "current_l1 is 17.25 A, the limit is 16 A");
}

#[test]
fn a_register_that_goes_back_is_told_once_and_a_roll_over_is_none() {
    let mut bench = Bench::new(Check::RegisterBackward(BackwardCheck::default()));
    let energy = |value: f64| [("active_energy_import", value)];
    assert_eq!(bench.says(0, &energy(999_990.0)), NOTHING);
    assert_eq!(bench.says(15, &energy(3.5)), NOTHING, "six digits rolled over");
    assert_eq!(bench.says(30, &energy(500.0)), NOTHING);
    assert_eq!(
        bench.says(45, &energy(400.0)),
        ["+register_backward:9.active_energy_import"]
    );
    assert_eq!(bench.says(60, &energy(401.0)), NOTHING);
    // what was read before, late: neither a step back nor what the next one is compared with
    assert_eq!(bench.says(20, &energy(4.0)), NOTHING);
    assert_eq!(bench.says(75, &energy(402.0)), NOTHING);
}

#[test]
fn after_a_restart_the_stored_registers_are_compared_with() {
    let shown = Shown {
        at: at(0),
        value: dec!(100),
    };
    let mut bench = Bench::new(Check::RegisterBackward(BackwardCheck::default()));
    bench.watch = MeterWatch::taken_up(None, [(Quantity::ActiveEnergyImport, shown)]);
    let energy = |value: f64| [("active_energy_import", value)];
    assert_eq!(
        bench.says(0, &energy(50.0)),
        NOTHING,
        "the stored one once more, or older"
    );
    assert_eq!(
        bench.says(15, &energy(50.0)),
        ["+register_backward:9.active_energy_import"]
    );
}

#[test]
fn a_register_stands_still_only_while_power_flows() {
    let mut bench = Bench::new(Check::RegisterStuck(StuckCheck {
        power_w: 300.0,
        for_s: 3600,
    }));
    let said: Vec<String> = (0..10)
        .flat_map(|hour| {
            // an empty flat for four hours, then somebody comes and the register does not move
            let power = if hour < 4 { 0.0 } else { 900.0 };
            bench.says(
                hour * 60,
                &[("active_energy_import", 10.0), ("active_power_total", power)],
            )
        })
        .collect();
    assert_eq!(said, ["+register_stuck:9.active_energy_import"]);
    let moves = bench.says(700, &[("active_energy_import", 11.0), ("active_power_total", 900.0)]);
    assert_eq!(moves, ["-register_stuck:9.active_energy_import"]);
}

#[test]
fn the_band_of_a_voltage_is_that_of_the_usual_one_it_is_near() {
    let mut bench = Bench::new(Check::VoltageQuality(VoltageCheck {
        for_s: 0,
        ..VoltageCheck::default()
    }));
    // before it is known what is usual nothing is said
    assert_eq!(bench.says(0, &[("voltage_l1", 260.0)]), NOTHING);
    for minute in 1..30 {
        assert_eq!(bench.says(minute, &[("voltage_l1", 231.0)]), NOTHING);
    }
    assert_eq!(bench.says(31, &[("voltage_l1", 254.0)]), ["+voltage_quality:9.l1.high"]);
    assert_eq!(bench.says(32, &[("voltage_l1", 252.0)]), NOTHING);
    assert_eq!(bench.says(33, &[("voltage_l1", 250.0)]), ["-voltage_quality:9.l1.high"]);
    assert_eq!(bench.says(34, &[("voltage_l1", 206.0)]), ["+voltage_quality:9.l1.low"]);
}

#[test]
fn a_lost_phase_is_told_by_its_name_and_one_phase_has_none() {
    let mut bench = Bench::new(Check::PhaseLoss(PhaseCheck::default()));
    let volts = |l2: f64| [("voltage_l1", 230.0), ("voltage_l2", l2), ("voltage_l3", 229.0)];
    assert_eq!(bench.says(0, &volts(231.0)), NOTHING);
    let told = bench.see(&reading(1, &volts(3.0)));
    let [Change::Raise(raised)] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(
        (raised.kind, &raised.detail.names[..]),
        (AlarmKind::PhaseLoss, &["L2".to_owned()][..])
    );
    assert_eq!(bench.says(2, &volts(231.0)), ["-phase_loss:9"]);
    assert_eq!(bench.says(3, &[("voltage_l1", 0.0)]), NOTHING);
    assert_eq!(bench.says(4, &volts(0.0)[1..2]), NOTHING);
}

#[test]
fn each_bit_is_an_alarm_and_a_counter_tells_more_of_it() {
    let bit = |bit, name: &str| StatusBit {
        bit,
        name: name.to_owned(),
    };
    let mut bench = Bench::new(Check::StatusBits(StatusCheck {
        quantity: "status_word".to_owned(),
        bits: vec![bit(2, "battery"), bit(5, "cover")],
        counts: false,
    }));
    assert_eq!(bench.says(0, &[("status_word", 3.0)]), NOTHING);
    assert_eq!(bench.says(1, &[("status_word", 4.0)]), ["+status_bits:9.status_word.2"]);
    assert_eq!(
        bench.says(2, &[("status_word", 36.0)]),
        ["+status_bits:9.status_word.5"]
    );
    assert_eq!(
        bench.says(3, &[("status_word", 32.0)]),
        ["-status_bits:9.status_word.2"]
    );
    let mut bench = Bench::new(Check::StatusBits(StatusCheck {
        quantity: "cover_openings".to_owned(),
        counts: true,
        ..StatusCheck::default()
    }));
    assert_eq!(bench.says(0, &[("cover_openings", 27.0)]), NOTHING, "of years ago");
    bench.watch = MeterWatch::taken_up(bench.watch.to_keep(), []);
    assert_eq!(
        bench.says(1, &[("cover_openings", 28.0)]),
        ["+status_bits:9.cover_openings"]
    );
    assert_eq!(bench.says(2, &[("cover_openings", 28.0)]), NOTHING);
}

#[test]
fn the_clock_and_the_direction() {
    let mut bench = Bench::new(Check::ClockDrift(ClockCheck { over_s: 60 }));
    assert_eq!(bench.says(0, &[("clock_drift_s", -61.0)]), ["+clock_drift:9"]);
    assert_eq!(bench.says(1, &[("clock_drift_s", -45.0)]), NOTHING);
    assert_eq!(bench.says(2, &[("clock_drift_s", 3.0)]), ["-clock_drift:9"]);
    let mut bench = Bench::new(Check::ReverseEnergy(ReverseCheck {
        power_w: 50.0,
        for_s: 0,
    }));
    assert_eq!(bench.says(0, &[("active_power_total", -40.0)]), NOTHING);
    assert_eq!(bench.says(1, &[("active_power_total", -400.0)]), ["+reverse_energy:9"]);
    assert_eq!(bench.says(2, &[("active_power_total", 400.0)]), ["-reverse_energy:9"]);
}

#[test]
fn history_from_memory_or_file_says_nothing_of_now() {
    let mut bench = Bench::new(Check::RegisterBackward(BackwardCheck::default()));
    assert_eq!(bench.says(0, &[("active_energy_import", 100.0)]), NOTHING);
    for source in [Source::BackFill, Source::Manual, Source::Imported] {
        let past = Reading {
            source,
            ..reading(10, &[("active_energy_import", 1.0)])
        };
        assert_eq!(bench.see(&past), []);
    }
    let mut suspect = reading(20, &[("active_energy_import", 1.0)]);
    suspect.items[0].quality = Quality::Suspect;
    assert_eq!(bench.see(&suspect), []);
}

proptest! {
    /// Whatever comes, twice and late: of one key raise and clear take turns, a restart in between changes nothing, and what is
    /// left out while nothing is bad would have said nothing.
    #[test]
    fn raises_and_clears_take_turns_over_restarts(
        steps in proptest::collection::vec((1i64..40, 0.0f64..30.0, 150.0f64..280.0, -900.0f64..900.0, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let mut rules = defaults();
        rules.push(rule(Check::Threshold(ThresholdCheck {
            quantity: "current_l1".to_owned(), above: Some(16.0), hysteresis: 1.0, for_s: 600, ..ThresholdCheck::default()
        })));
        rules.push(rule(Check::ReverseEnergy(ReverseCheck { power_w: 50.0, for_s: 900 })));
        rules.push(rule(Check::PhaseLoss(PhaseCheck { for_s: 600, ..PhaseCheck::default() })));
        let fresh = || Bench { rules: rules.clone(), watch: MeterWatch::default() };
        let (mut plain, mut restarted, mut wary) = (fresh(), fresh(), fresh());
        // something else is bad all the time: nothing is left out
        let elsewhere = Latch { raised: true, ..Latch::default() };
        wary.watch.latches.insert("elsewhere".to_owned(), elsewhere);
        let mut open = std::collections::BTreeSet::new();
        let (mut minute, mut energy, mut past) = (0, 100.0, Vec::new());
        for (step, amps, volts, power, restart, again) in steps {
            minute += step;
            energy += 0.01;
            let now = reading(minute, &[
                ("current_l1", amps), ("voltage_l1", volts), ("voltage_l2", 230.0), ("voltage_l3", 230.0),
                ("active_power_total", power), ("active_energy_import", (energy * 100.0f64).round() / 100.0),
            ]);
            let told = plain.see(&now);
            prop_assert_eq!(&restarted.see(&now), &told);
            prop_assert_eq!(&wary.see(&now), &told);
            prop_assert!(plain.watch.latches.values().all(|latch| !latch.is_idle()), "what is idle is not kept");
            for change in &told {
                match change {
                    Change::Raise(raise) => prop_assert!(open.insert(raise.key.text.clone()), "{:?} twice", raise.key),
                    Change::Clear { key, .. } => prop_assert!(open.remove(&key.text), "{key:?} was not open"),
                    Change::Victims { .. } => prop_assert!(false),
                }
            }
            past.push(now);
            if again {
                for reading in &past {
                    prop_assert_eq!(restarted.see(reading), []);
                }
            }
            if restart {
                let kept = restarted.watch.registers.clone();
                let voltage = restarted.watch.voltage;
                restarted.watch = MeterWatch::taken_up(restarted.watch.to_keep(), kept);
                restarted.watch.voltage = voltage;
            }
        }
    }
}
