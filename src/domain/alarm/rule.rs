//! Rules as data: what is judged, where it applies, and which of several rules is in force.
//!
//! Every kind has a built-in rule (some of them off); a rule of an account, of a group or of a meter takes its place
//! there, the most specific one wins. Switched off, it quiets that kind there. Of rules on quantities (thresholds,
//! deviation, status bits) each quantity is a matter of its own.

mod checks;

pub use checks::*;

use super::{AlarmKind, Severity};
use crate::base::ids::{AccountId, AlarmRuleId, GroupId, MeterId};
use crate::domain::quantity::{Kind, Quantity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest duration of a rule, seconds: a month.
pub const SPAN_MAX_S: u32 = 31 * 86_400;
/// The longest name of a rule, characters.
pub const NAME_MAX: usize = 200;
/// Characters of a vendor quantity's name.
const QUANTITY_MAX: usize = 64;

/// Where a rule applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything of the account.
    #[default]
    Account,
    /// The meters of a group and of the groups below it.
    Group(GroupId),
    /// One meter.
    Meter(MeterId),
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its id; none: built in.
    pub id: Option<AlarmRuleId>,
    /// Whose; none: built in, for all.
    pub account: Option<AccountId>,
    /// Where.
    pub scope: Scope,
    /// Off: it quiets what a less specific rule would say.
    pub enabled: bool,
    /// How much its alarms matter.
    pub severity: Severity,
    /// What is judged.
    pub check: Check,
}

/// What is wrong with a rule; the field as the API names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct RuleFault {
    /// The field.
    pub field: &'static str,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Check {
    /// The kind of its alarms.
    pub fn kind(&self) -> AlarmKind {
        match self {
            Self::Deviation(_) => AlarmKind::Deviation,
            Self::Threshold(_) => AlarmKind::Threshold,
            Self::MissingData(_) => AlarmKind::MissingData,
            Self::DtuOffline(_) => AlarmKind::DtuOffline,
            Self::MeterOffline(_) => AlarmKind::MeterOffline,
            Self::CollectionRate(_) => AlarmKind::CollectionRate,
            Self::ClockDrift(_) => AlarmKind::ClockDrift,
            Self::ReverseEnergy(_) => AlarmKind::ReverseEnergy,
            Self::RegisterBackward(_) => AlarmKind::RegisterBackward,
            Self::RegisterStuck(_) => AlarmKind::RegisterStuck,
            Self::VoltageQuality(_) => AlarmKind::VoltageQuality,
            Self::PhaseLoss(_) => AlarmKind::PhaseLoss,
            Self::StatusBits(_) => AlarmKind::StatusBits,
            Self::Clone(_) => AlarmKind::Clone,
            Self::ReadingConflict(_) => AlarmKind::ReadingConflict,
            Self::TerminalEvent(_) => AlarmKind::TerminalEvent,
            Self::BrakeHeld(_) => AlarmKind::BrakeHeld,
            Self::CommandUnknown(_) => AlarmKind::CommandUnknown,
            Self::ReconnectFailed(_) => AlarmKind::ReconnectFailed,
        }
    }

    /// The quantity by which its kind is divided; each is a matter of its own.
    pub fn quantity(&self) -> &str {
        match self {
            Self::Deviation(check) => check.quantity.name(),
            Self::Threshold(check) => &check.quantity,
            Self::StatusBits(check) => &check.quantity,
            _ => "",
        }
    }

    /// Whether rules for a group or a single meter make sense.
    pub fn is_of_meters(&self) -> bool {
        !matches!(
            self,
            Self::DtuOffline(_)
                | Self::Clone(_)
                | Self::BrakeHeld(_)
                | Self::CollectionRate(_)
                | Self::CommandUnknown(_)
                | Self::ReconnectFailed(_)
        )
    }

    /// Whether its alarms follow from the values of single readings.
    pub fn is_of_readings(&self) -> bool {
        matches!(
            self,
            Self::Threshold(_)
                | Self::ClockDrift(_)
                | Self::ReverseEnergy(_)
                | Self::RegisterBackward(_)
                | Self::RegisterStuck(_)
                | Self::VoltageQuality(_)
                | Self::PhaseLoss(_)
                | Self::StatusBits(_)
        )
    }

    /// Every fault of its numbers.
    pub fn faults(&self) -> Vec<RuleFault> {
        let mut faults = Faults(Vec::new());
        match self {
            Self::Deviation(check) => deviation_faults(check, &mut faults),
            Self::Threshold(check) => {
                faults.quantity(&check.quantity);
                let limits = check.above.is_some() || check.below.is_some();
                faults.check(limits, "above", "give `above`, `below` or both");
                let finite = [check.above, check.below].into_iter().flatten().all(f64::is_finite);
                faults.check(finite, "above", "limits are plain numbers");
                faults.range("hysteresis", check.hysteresis, 0.0, f64::MAX);
                faults.span("for_s", check.for_s);
                if let (Some(above), Some(below)) = (check.above, check.below) {
                    faults.check(below < above, "below", "must lie under `above`");
                }
            }
            Self::MissingData(check) | Self::MeterOffline(check) => {
                faults.check((1..=1_000).contains(&check.slots), "slots", "must be 1 to 1000");
            }
            Self::DtuOffline(check) => {
                for (field, span) in [
                    ("after_s", check.after_s),
                    ("clear_after_s", check.clear_after_s),
                    ("together_s", check.together_s),
                ] {
                    faults.span(field, span);
                }
                faults.check(
                    (2..=10_000).contains(&check.group_from),
                    "group_from",
                    "must be 2 to 10000",
                );
            }
            Self::CollectionRate(check) => {
                faults.range("below_percent", check.below_percent, 1.0, 100.0);
                faults.check((1..=168).contains(&check.window_h), "window_h", "must be 1 to 168");
            }
            Self::ClockDrift(check) => {
                faults.check((5..=86_400).contains(&check.over_s), "over_s", "must be 5 to 86400");
            }
            Self::ReverseEnergy(check) => {
                faults.range("power_w", check.power_w, 0.0, 1e9);
                faults.span("for_s", check.for_s);
            }
            Self::RegisterBackward(check) => faults.range("tolerance", check.tolerance, 0.0, 1e9),
            Self::RegisterStuck(check) => {
                faults.range("power_w", check.power_w, 0.0, 1e9);
                faults.span("for_s", check.for_s);
            }
            Self::VoltageQuality(check) => {
                faults.range("nominal_v", check.nominal_v.unwrap_or(230.0), 10.0, 500_000.0);
                faults.range("low_percent", check.low_percent, 0.5, 90.0);
                faults.range("high_percent", check.high_percent, 0.5, 90.0);
                let most = check.low_percent.min(check.high_percent);
                faults.range("hysteresis_percent", check.hysteresis_percent, 0.0, most);
                faults.span("for_s", check.for_s);
            }
            Self::PhaseLoss(check) => {
                faults.range("below_percent", check.below_percent, 1.0, 95.0);
                faults.span("for_s", check.for_s);
            }
            Self::StatusBits(check) => {
                faults.quantity(&check.quantity);
                faults.check(
                    check.counts == check.bits.is_empty(),
                    "bits",
                    "name bits, or set `counts`, not both",
                );
                faults.check(
                    check.bits.len() <= 63 && check.bits.iter().all(|bit| bit.bit < 63),
                    "bits",
                    "are numbered from 0 to 62",
                );
                let short = |bit: &StatusBit| (1..=100).contains(&bit.name.chars().count());
                faults.check(
                    check.bits.iter().all(short),
                    "bits",
                    "each has a name of 1 to 100 characters",
                );
            }
            Self::CommandUnknown(check) => faults.span("after_s", check.after_s),
            Self::Clone(_)
            | Self::ReadingConflict(_)
            | Self::TerminalEvent(_)
            | Self::BrakeHeld(_)
            | Self::ReconnectFailed(_) => {}
        }
        faults.0
    }
}

struct Faults(Vec<RuleFault>);

impl Faults {
    fn check(&mut self, holds: bool, field: &'static str, message: impl Into<String>) {
        if !holds {
            self.0.push(RuleFault {
                field,
                message: message.into(),
            });
        }
    }

    fn range(&mut self, field: &'static str, value: f64, least: f64, most: f64) {
        let message = if most >= 1e300 {
            format!("must be {least} or more")
        } else {
            format!("must be {least} to {most}")
        };
        self.check((least..=most).contains(&value), field, message);
    }

    fn span(&mut self, field: &'static str, seconds: u32) {
        self.check(seconds <= SPAN_MAX_S, field, format!("must be 0 to {SPAN_MAX_S}"));
    }

    fn quantity(&mut self, name: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let named = !name.is_empty() && name.len() <= QUANTITY_MAX && name.chars().all(plain);
        self.check(named, "quantity", "is no name of a quantity");
    }
}

fn deviation_faults(check: &DeviationCheck, faults: &mut Faults) {
    let register = check.quantity.kind() == Kind::Register;
    faults.check(
        register,
        "quantity",
        "must be a register, e.g. active_energy_import or volume_total",
    );
    faults.range("factor", check.factor, 1.1, 1_000.0);
    faults.range("score", check.score, 1.0, 1_000.0);
    faults.range("volume_min", check.volume_min, 0.0, 1e9);
    faults.check((1..=24).contains(&check.hours), "hours", "must be 1 to 24");
    faults.check((2..=12).contains(&check.weeks), "weeks", "must be 2 to 12");
}

fn built_in(enabled: bool, severity: Severity, check: Check) -> Rule {
    Rule {
        id: None,
        account: None,
        scope: Scope::Account,
        enabled,
        severity,
        check,
    }
}

fn status(quantity: &str, bits: &[(u8, &str)]) -> Check {
    Check::StatusBits(StatusCheck {
        quantity: quantity.to_owned(),
        bits: bits
            .iter()
            .map(|(bit, name)| StatusBit {
                bit: *bit,
                name: (*name).to_owned(),
            })
            .collect(),
        counts: bits.is_empty(),
    })
}

/// The rules that apply where an account has none of its own. docs/alarms.md says why these.
pub fn defaults() -> Vec<Rule> {
    use Severity::{Critical, Info, Warning};
    let volume = DeviationCheck {
        quantity: Quantity::VolumeTotal,
        volume_min: 0.2,
        ..DeviationCheck::default()
    };
    let total = DeviationCheck {
        quantity: Quantity::ActiveEnergyTotal,
        ..DeviationCheck::default()
    };
    vec![
        built_in(true, Warning, Check::Deviation(DeviationCheck::default())),
        built_in(true, Warning, Check::Deviation(total)),
        built_in(true, Warning, Check::Deviation(volume)),
        built_in(true, Warning, Check::MissingData(SilenceCheck::default())),
        built_in(true, Critical, Check::DtuOffline(OfflineCheck::default())),
        built_in(true, Warning, Check::MeterOffline(SilenceCheck::default())),
        built_in(true, Warning, Check::CollectionRate(CollectionCheck::default())),
        built_in(true, Info, Check::ClockDrift(ClockCheck::default())),
        // who has solar panels on the roof feeds in rightly
        built_in(false, Warning, Check::ReverseEnergy(ReverseCheck::default())),
        built_in(true, Critical, Check::RegisterBackward(BackwardCheck::default())),
        built_in(true, Warning, Check::RegisterStuck(StuckCheck::default())),
        built_in(true, Info, Check::VoltageQuality(VoltageCheck::default())),
        built_in(true, Critical, Check::PhaseLoss(PhaseCheck::default())),
        built_in(true, Warning, status("battery_low", &[(0, "battery low")])),
        // DL/T 645-2007, status word 1
        built_in(
            true,
            Warning,
            status("status_word_1", &[(2, "clock battery low"), (3, "reading battery low")]),
        ),
        built_in(true, Critical, status("cover_openings", &[])),
        built_in(true, Critical, status("terminal_cover_openings", &[])),
        built_in(true, Critical, status("magnetic_interferences", &[])),
        built_in(true, Critical, Check::Clone(PlainCheck {})),
        built_in(true, Warning, Check::ReadingConflict(PlainCheck {})),
        built_in(true, Warning, Check::TerminalEvent(PlainCheck {})),
        built_in(true, Critical, Check::BrakeHeld(PlainCheck {})),
        built_in(true, Critical, Check::CommandUnknown(CommandCheck::default())),
        built_in(true, Critical, Check::ReconnectFailed(PlainCheck {})),
    ]
}

/// Where a meter stands: its account, its group and the groups above that, the nearest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The groups.
    pub groups: Vec<GroupId>,
    /// The meter; none: what holds for the account as such.
    pub meter: Option<MeterId>,
}

/// How specific a rule is at a place; none: it does not apply there.
fn rank(rule: &Rule, place: &Place) -> Option<usize> {
    match rule.scope {
        Scope::Account if rule.account.is_none() => Some(0),
        Scope::Account => Some(1),
        Scope::Group(group) => {
            let distance = place.groups.iter().position(|at| *at == group)?;
            // the nearest group ranks highest; groups are not nested a million deep
            Some(1_000_000_usize.saturating_sub(distance).max(2))
        }
        Scope::Meter(meter) => (place.meter == Some(meter)).then_some(usize::MAX),
    }
}

/// The rules in force at a place, of `rules` (those of one account and the built-in ones): of each matter the most
/// specific, all of them if there are several, without those that are off.
pub fn in_force<'a>(rules: impl IntoIterator<Item = &'a Rule>, place: &Place) -> Vec<&'a Rule> {
    let mut best: BTreeMap<(AlarmKind, &str), (usize, Vec<&Rule>)> = BTreeMap::new();
    for rule in rules {
        let Some(rank) = rank(rule, place) else { continue };
        let matter = (rule.check.kind(), rule.check.quantity());
        let (top, found) = best.entry(matter).or_insert_with(|| (rank, Vec::new()));
        if rank > *top {
            *top = rank;
            found.clear();
        }
        if rank == *top {
            found.push(rule);
        }
    }
    let all = best.into_values().flat_map(|(_, rules)| rules);
    all.filter(|rule| rule.enabled).collect()
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
