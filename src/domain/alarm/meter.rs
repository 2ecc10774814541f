//! One reading against the rules in force at its meter: limits, voltage, phases, direction, registers, status, clock.
//!
//! What has to be remembered between readings is in [`MeterWatch`]; of it only what is on its way to an alarm or to its end
//! is worth keeping over a restart ([`MeterWatch::to_keep`]). Values that the decoder found implausible are not judged.

mod registers;

use super::latch::{Latch, Sign, Turn};
use super::rule::{Check, ClockCheck, PhaseCheck, ReverseCheck, Rule, StatusCheck, ThresholdCheck, VoltageCheck};
use super::silence::{Listening, Silence};
use super::{Change, Detail, Key, Raise, Subject};
use crate::base::ids::AccountId;
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Quality, Reading, Source, Value};
use crate::domain::slot::SlotState;
use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Under this name a reading holds how far the meter's clock is ahead of ours, whole seconds.
const CLOCK_DRIFT: &str = "clock_drift_s";
/// Readings after which the nominal voltage of a meter is known.
const VOLTAGES_MIN: u32 = 20;
/// Usual nominal voltages between phase and neutral or at the secondary side of a transformer, V.
const NOMINAL_V: [f64; 15] = [
    57.7, 63.5, 100.0, 110.0, 115.0, 120.0, 127.0, 220.0, 230.0, 240.0, 277.0, 347.0, 380.0, 400.0, 480.0,
];
const VOLTAGES: [Quantity; 3] = [Quantity::VoltageL1, Quantity::VoltageL2, Quantity::VoltageL3];
const PHASES: [&str; 3] = ["l1", "l2", "l3"];

/// What a register showed last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// When it was read.
    pub at: DateTime<Utc>,
    /// What it showed.
    pub value: Decimal,
}

/// What is remembered of a meter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MeterWatch {
    /// Conditions by kind and variant, as far as they are raised or on their way: of a meter that is well there are none.
    latches: BTreeMap<String, Latch>,
    /// Slots without an answer or value.
    silence: Silence,
    /// Counters of events as they were seen last.
    counters: BTreeMap<String, Decimal>,
    /// When the newest reading was received.
    seen: Option<DateTime<Utc>>,
    /// Registers as they were seen last.
    #[serde(skip)]
    registers: BTreeMap<Quantity, Shown>,
    /// How many voltages were seen, and their mean.
    #[serde(skip)]
    voltage: (u32, f64),
}

impl MeterWatch {
    /// What was kept, with the registers as they are stored. What cannot be read is forgotten.
    pub fn taken_up(kept: Option<serde_json::Value>, registers: impl IntoIterator<Item = (Quantity, Shown)>) -> Self {
        let mut watch: Self = kept
            .and_then(|kept| serde_json::from_value(kept).ok())
            .unwrap_or_default();
        watch.registers = registers.into_iter().collect();
        watch
    }

    /// Whether there is nothing to remember over a restart.
    pub fn is_idle(&self) -> bool {
        self.latches.values().all(Latch::is_idle) && self.silence.is_idle() && self.counters.is_empty()
    }

    /// What of it decides anything, without the times of what was merely seen: when this changes it has to be kept anew.
    pub fn shape(&self) -> Option<Self> {
        if self.is_idle() {
            return None;
        }
        let mut shape = Self {
            latches: self.latches.clone(),
            silence: self.silence.clone(),
            counters: self.counters.clone(),
            ..Self::default()
        };
        shape.latches.retain(|_, latch| !latch.is_idle());
        shape.latches.values_mut().for_each(|latch| latch.last = None);
        shape.silence.heard = None;
        Some(shape)
    }

    /// What a restart must not lose; none: nothing.
    pub fn to_keep(&self) -> Option<serde_json::Value> {
        if self.is_idle() {
            return None;
        }
        let mut kept = self.clone();
        kept.latches.retain(|_, latch| !latch.is_idle());
        // names, numbers and times: it always serialises
        serde_json::to_value(&kept).ok()
    }
}

/// Where a reading is judged.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// Whose meter.
    pub account: AccountId,
    /// Which.
    pub subject: Subject,
    /// What is in force there.
    pub rules: &'a [&'a Rule],
}

impl<'a> Ground<'a> {
    /// The same for slots.
    pub fn listening(self) -> Listening<'a> {
        Listening {
            account: self.account,
            subject: self.subject,
            rules: self.rules,
        }
    }
}

/// A condition as one reading shows it.
struct Seen {
    variant: String,
    sign: Sign,
    raise_after_s: u32,
    clear_after_s: u32,
    detail: Detail,
}

impl Seen {
    /// A sign with the seconds after which it raises and clears. Only a bad one can raise, and most are good: what there is
    /// to say is made up for bad ones alone, and of a meter of which nothing is bad yet anything else says nothing.
    fn of(
        values: &Values<'_>,
        variant: impl FnOnce() -> String,
        sign: Sign,
        (raise_after_s, clear_after_s): (u32, u32),
        detail: impl FnOnce() -> Detail,
    ) -> Option<Self> {
        let detail = match sign {
            Sign::Bad => detail(),
            Sign::Good | Sign::Between if values.calm => return None,
            Sign::Good | Sign::Between => Detail::default(),
        };
        Some(Self {
            variant: variant(),
            sign,
            raise_after_s,
            clear_after_s,
            detail,
        })
    }
}

/// A reading taken apart.
struct Values<'a> {
    reading: &'a Reading,
    /// No condition of the meter is raised or on its way.
    calm: bool,
}

impl Values<'_> {
    fn exact(&self, measurand: &Measurand) -> Option<Value> {
        let item = self.reading.items.iter().find(|item| item.measurand == *measurand)?;
        (item.quality != Quality::Suspect).then_some(item.value)
    }

    fn number(&self, quantity: Quantity) -> Option<f64> {
        self.exact(&Measurand::Standard(quantity)).and_then(to_f64)
    }

    fn named(&self, name: &str) -> Option<Value> {
        let named = |measurand: &Measurand| match measurand {
            Measurand::Standard(quantity) => quantity.name() == name,
            Measurand::Vendor(vendor) => **vendor == *name,
        };
        let item = self.reading.items.iter().find(|item| named(&item.measurand))?;
        (item.quality != Quality::Suspect).then_some(item.value)
    }

    fn register(&self, quantity: Quantity) -> Option<Decimal> {
        match self.exact(&Measurand::Standard(quantity))? {
            Value::Decimal(value) => Some(value),
            Value::F32(_) | Value::F64(_) => None,
        }
    }

    /// A detail with what every alarm of a reading says.
    fn detail(&self) -> Detail {
        let frames = self.reading.frames;
        Detail {
            reading_at: Some(self.reading.ts),
            frames: (frames.count > 0).then_some((frames.first.0, frames.count)),
            ..Detail::default()
        }
    }
}

fn to_f64(value: Value) -> Option<f64> {
    let number = match value {
        Value::Decimal(value) => value.to_f64()?,
        Value::F32(value) => f64::from(value),
        Value::F64(value) => value,
    };
    number.is_finite().then_some(number)
}

fn unit_of(name: &str) -> Option<String> {
    Quantity::by_name(name).map(|quantity| quantity.unit().symbol().to_owned())
}

/// A number for people: at most three decimals, without trailing zeros.
pub fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short.is_empty() || short == "-0" {
        "0".to_owned()
    } else {
        short.to_owned()
    }
}

/// Judges a reading, forwards in time: what is not newer says nothing. Only what was read live says how things are now; what comes from a meter's memory, from a file or
/// from a person does not.
pub fn judge(ground: Ground<'_>, reading: &Reading, partial: bool, watch: &mut MeterWatch) -> Vec<Change> {
    if !matches!(reading.source, Source::Scheduled | Source::OnDemand | Source::Pushed) {
        return Vec::new();
    }
    if watch.seen.is_some_and(|seen| reading.read_at <= seen) {
        return Vec::new();
    }
    watch.seen = Some(reading.read_at);
    let whole = !partial && reading.source == Source::Scheduled;
    let mut changes = watch.silence.heard(ground.listening(), reading.read_at, whole);
    let values = Values {
        reading,
        calm: watch.latches.is_empty(),
    };
    for rule in ground.rules {
        let seen = match &rule.check {
            Check::Threshold(check) => threshold(check, &values),
            Check::ClockDrift(check) => clock(check, &values),
            Check::ReverseEnergy(check) => reverse(check, &values),
            Check::RegisterBackward(check) => {
                changes.extend(registers::backward(check, rule, ground, &values, watch));
                continue;
            }
            Check::RegisterStuck(check) => registers::stuck(check, &values, watch),
            Check::VoltageQuality(check) => voltage(check, &values, watch),
            Check::PhaseLoss(check) => phases(check, &values),
            Check::StatusBits(check) if check.counts => {
                changes.extend(counted(check, rule, ground, &values, watch));
                continue;
            }
            Check::StatusBits(check) => status(check, &values),
            _ => continue,
        };
        for seen in seen {
            changes.extend(latch(rule, ground, reading, seen, watch));
        }
    }
    registers::remember(&values, watch);
    changes
}

/// Slots of the meter that ended in another way than by their on-time reading.
pub fn judge_ending(
    ground: Ground<'_>,
    ending: &crate::domain::slot::SlotEnding,
    watch: &mut MeterWatch,
) -> Vec<Change> {
    watch.silence.ended(ground.listening(), ending)
}

/// Whether one of these endings says that the reading beside it lacks something.
pub fn is_partial(endings: &[crate::domain::slot::SlotEnding]) -> bool {
    endings.iter().any(|ending| ending.state == SlotState::Missing)
}

/// The variant of a rule's alarms: rules of one matter stand side by side.
fn variant(rule: &Rule, part: &str) -> String {
    match rule.id {
        Some(id) if part.is_empty() => id.to_string(),
        Some(id) => format!("{id}.{part}"),
        None => part.to_owned(),
    }
}

fn raise(rule: &Rule, ground: Ground<'_>, part: &str, cause_at: DateTime<Utc>, detail: Detail) -> Change {
    let kind = rule.check.kind();
    Change::Raise(Box::new(Raise {
        key: Key::new(Some(ground.account), kind, &variant(rule, part), ground.subject),
        kind,
        severity: rule.severity,
        subject: ground.subject,
        rule: rule.id,
        cause_at,
        detail,
        victims: Vec::new(),
        parent: None,
    }))
}

fn latch(rule: &Rule, ground: Ground<'_>, reading: &Reading, seen: Seen, watch: &mut MeterWatch) -> Option<Change> {
    let name = format!("{}:{}", rule.check.kind(), variant(rule, &seen.variant));
    let mut latch = watch.latches.remove(&name).unwrap_or_default();
    let span = |seconds: u32| TimeDelta::seconds(seconds.into());
    let turn = latch.see(
        reading.read_at,
        seen.sign,
        span(seen.raise_after_s),
        span(seen.clear_after_s),
    );
    // a reading that is not newer than the last never comes here: of an idle condition there is nothing to know
    if !latch.is_idle() {
        watch.latches.insert(name, latch);
    }
    match turn {
        Turn::Stay => None,
        Turn::Raise(since) => {
            let detail = Detail {
                since: Some(since),
                ..seen.detail
            };
            Some(raise(rule, ground, &seen.variant, reading.read_at, detail))
        }
        Turn::Clear => Some(Change::Clear {
            key: Key::new(
                Some(ground.account),
                rule.check.kind(),
                &variant(rule, &seen.variant),
                ground.subject,
            ),
            at: reading.read_at,
        }),
    }
}

/// Beyond a limit, within it by the hysteresis, or between.
fn beyond(excess: f64, hysteresis: f64) -> Sign {
    if excess > 0.0 {
        Sign::Bad
    } else if excess <= -hysteresis {
        Sign::Good
    } else {
        Sign::Between
    }
}

fn threshold(check: &ThresholdCheck, values: &Values<'_>) -> Vec<Seen> {
    let Some(value) = values.named(&check.quantity).and_then(to_f64) else {
        return Vec::new();
    };
    let limits = [
        ("above", check.above, check.above.map(|limit| value - limit)),
        ("below", check.below, check.below.map(|limit| limit - value)),
    ];
    limits
        .into_iter()
        .filter_map(|(part, limit, excess)| {
            Seen::of(
                values,
                || part.to_owned(),
                beyond(excess?, check.hysteresis),
                (check.for_s, check.for_s),
                || Detail {
                    quantity: Some(check.quantity.clone()),
                    value: Some(plain(value)),
                    limit: limit.map(plain),
                    unit: unit_of(&check.quantity),
                    ..values.detail()
                },
            )
        })
        .collect()
}

fn clock(check: &ClockCheck, values: &Values<'_>) -> Vec<Seen> {
    let Some(drift) = values.named(CLOCK_DRIFT).and_then(to_f64) else {
        return Vec::new();
    };
    let limit = f64::from(check.over_s);
    let seen = Seen::of(
        values,
        String::new,
        beyond(drift.abs() - limit, limit / 2.0),
        (0, 0),
        || Detail {
            value: Some(plain(drift)),
            limit: Some(plain(limit)),
            unit: Some("s".to_owned()),
            ..values.detail()
        },
    );
    seen.into_iter().collect()
}

fn reverse(check: &ReverseCheck, values: &Values<'_>) -> Vec<Seen> {
    let Some(power) = values.number(Quantity::ActivePowerTotal) else {
        return Vec::new();
    };
    let seen = Seen::of(
        values,
        String::new,
        beyond(-power - check.power_w, check.power_w / 2.0),
        (check.for_s, check.for_s),
        || Detail {
            quantity: Some(Quantity::ActivePowerTotal.name().to_owned()),
            value: Some(plain(power)),
            limit: Some(plain(-check.power_w)),
            unit: Some("W".to_owned()),
            ..values.detail()
        },
    );
    seen.into_iter().collect()
}

/// How many times the one is the other.
fn apart(a: f64, b: f64) -> f64 {
    (a / b).max(b / a)
}

/// The usual voltage that is nearest to what a meter showed, once enough was seen.
fn nominal(seen: (u32, f64)) -> Option<f64> {
    let (count, mean) = seen;
    if count < VOLTAGES_MIN {
        return None;
    }
    NOMINAL_V
        .into_iter()
        .min_by(|a, b| apart(*a, mean).total_cmp(&apart(*b, mean)))
}

fn voltage(check: &VoltageCheck, values: &Values<'_>, watch: &mut MeterWatch) -> Vec<Seen> {
    let shown: Vec<(usize, f64)> = (0..3)
        .zip(VOLTAGES)
        .filter_map(|(phase, quantity)| Some((phase, values.number(quantity)?)))
        // a phase without any voltage is lost, which is a matter of its own
        .filter(|(_, volts)| *volts > 1.0)
        .collect();
    let known = check.nominal_v.or_else(|| nominal(watch.voltage));
    let (count, mean) = &mut watch.voltage;
    for (_, volts) in &shown {
        *count = count.saturating_add(1).min(10_000);
        *mean += (volts - *mean) / f64::from(*count);
    }
    let Some(nominal) = known else { return Vec::new() };
    let mut seen = Vec::new();
    for (phase, volts) in shown {
        let Some((name, quantity)) = PHASES.get(phase).zip(VOLTAGES.get(phase)) else {
            continue;
        };
        let hysteresis = nominal * check.hysteresis_percent / 100.0;
        let high = nominal * (1.0 + check.high_percent / 100.0);
        let low = nominal * (1.0 - check.low_percent / 100.0);
        for (part, excess, limit) in [("high", volts - high, high), ("low", low - volts, low)] {
            seen.extend(Seen::of(
                values,
                || format!("{name}.{part}"),
                beyond(excess, hysteresis),
                (check.for_s, check.for_s),
                || Detail {
                    quantity: Some(quantity.name().to_owned()),
                    value: Some(plain(volts)),
                    limit: Some(plain(limit)),
                    unit: Some("V".to_owned()),
                    ..values.detail()
                },
            ));
        }
    }
    seen
}

fn phases(check: &PhaseCheck, values: &Values<'_>) -> Vec<Seen> {
    let [Some(l1), Some(l2), Some(l3)] = VOLTAGES.map(|quantity| values.number(quantity)) else {
        return Vec::new();
    };
    let volts = [l1, l2, l3];
    let highest = l1.max(l2).max(l3);
    // with no voltage at all the meter would not answer; a model that shows zeros shows nothing
    if highest <= 1.0 {
        return Vec::new();
    }
    let lost = |volts: f64| volts < highest * check.below_percent / 100.0;
    let seen = Seen::of(
        values,
        String::new,
        Sign::of(volts.into_iter().any(lost)),
        (check.for_s, check.for_s),
        || Detail {
            value: Some(plain(l1.min(l2).min(l3))),
            limit: Some(plain(highest * check.below_percent / 100.0)),
            unit: Some("V".to_owned()),
            names: PHASES
                .iter()
                .zip(volts)
                .filter(|(_, volts)| lost(*volts))
                .map(|(name, _)| (*name).to_uppercase())
                .collect(),
            ..values.detail()
        },
    );
    seen.into_iter().collect()
}

fn integer(value: Value) -> Option<u64> {
    match value {
        Value::Decimal(value) => value.trunc().to_u64(),
        Value::F32(_) | Value::F64(_) => None,
    }
}

fn status(check: &StatusCheck, values: &Values<'_>) -> Vec<Seen> {
    let Some(word) = values.named(&check.quantity).and_then(integer) else {
        return Vec::new();
    };
    // each bit is an alarm of its own: a second fault must not hide behind the first
    check
        .bits
        .iter()
        .filter_map(|bit| {
            Seen::of(
                values,
                || format!("{}.{}", check.quantity, bit.bit),
                Sign::of(word.checked_shr(u32::from(bit.bit)).unwrap_or(0) & 1 == 1),
                (0, 0),
                || Detail {
                    quantity: Some(check.quantity.clone()),
                    value: Some(word.to_string()),
                    names: vec![bit.name.clone()],
                    ..values.detail()
                },
            )
        })
        .collect()
}

/// A counter of events: more of them than before is an alarm, which nobody but a person clears. The first sight of it is
/// none.
fn counted(
    check: &StatusCheck,
    rule: &Rule,
    ground: Ground<'_>,
    values: &Values<'_>,
    watch: &mut MeterWatch,
) -> Option<Change> {
    let Some(Value::Decimal(value)) = values.named(&check.quantity) else {
        return None;
    };
    let before = watch.counters.insert(check.quantity.clone(), value)?;
    let more = value.checked_sub(before)?;
    if more <= Decimal::ZERO {
        return None;
    }
    let detail = Detail {
        quantity: Some(check.quantity.clone()),
        value: Some(value.normalize().to_string()),
        expected: Some(before.normalize().to_string()),
        count: more.to_u64(),
        names: vec![check.quantity.replace('_', " ")],
        ..values.detail()
    };
    Some(raise(rule, ground, &check.quantity, values.reading.read_at, detail))
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
