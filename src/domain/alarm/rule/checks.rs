//! What rules judge, kind by kind, with the defaults of what is left out.

use crate::base::ids::CalendarId;
use crate::domain::quantity::Quantity;
use serde::{Deserialize, Serialize};

/// Consumption far from the meter's own average at that hour of the week.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeviationCheck {
    /// The register whose hourly consumption is judged.
    #[schema(value_type = String, example = "active_energy_import")]
    pub quantity: Quantity,
    /// Times the expected consumption that is too much.
    pub factor: f64,
    /// Robust standard deviations (1.4826 × the median absolute deviation) that it has to be off by, too.
    pub score: f64,
    /// And in the register's unit: less than this in an hour is never worth an alarm.
    pub volume_min: f64,
    /// Hours in a row.
    pub hours: u8,
    /// Weeks of the past that are compared with.
    pub weeks: u8,
    /// Whether too little is wrong as well.
    pub below: bool,
    /// A calendar whose holidays are compared with Sundays and earlier holidays, and with nothing else.
    #[schema(value_type = Option<i32>)]
    pub calendar_id: Option<CalendarId>,
}

impl Default for DeviationCheck {
    fn default() -> Self {
        Self {
            quantity: Quantity::ActiveEnergyImport,
            factor: 1.8,
            score: 4.0,
            volume_min: 0.5,
            hours: 2,
            weeks: 8,
            below: false,
            calendar_id: None,
        }
    }
}

/// A quantity beyond a limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdCheck {
    /// A quantity of the list, or a vendor quantity of the meter's model; in its canonical unit.
    #[schema(example = "active_power_total")]
    pub quantity: String,
    /// More than this is wrong.
    pub above: Option<f64>,
    /// Less than this is wrong.
    pub below: Option<f64>,
    /// So far within the limit it is right again.
    pub hysteresis: f64,
    /// So long it has to last, seconds; 0: one reading is enough.
    pub for_s: u32,
}

/// Slots in a row without a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SilenceCheck {
    /// How many.
    pub slots: u16,
}

impl Default for SilenceCheck {
    fn default() -> Self {
        Self { slots: 3 }
    }
}

/// DTUs without a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OfflineCheck {
    /// After so many seconds.
    pub after_s: u32,
    /// It is over after so many seconds with a session.
    pub clear_after_s: u32,
    /// So many that went within `together_s` are one alarm.
    pub group_from: u16,
    /// See there.
    pub together_s: u32,
}

impl Default for OfflineCheck {
    fn default() -> Self {
        Self {
            after_s: 600,
            clear_after_s: 120,
            group_from: 5,
            together_s: 600,
        }
    }
}

/// Too few slots are collected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CollectionCheck {
    /// Less than this share of slots with a value, percent.
    pub below_percent: f64,
    /// Over so many hours.
    pub window_h: u16,
    /// Fewer slots than this in the window are not judged.
    pub slots_min: u32,
}

impl Default for CollectionCheck {
    fn default() -> Self {
        Self {
            below_percent: 95.0,
            window_h: 24,
            slots_min: 100,
        }
    }
}

/// A meter's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClockCheck {
    /// More than so many seconds off; below half of it is right again.
    pub over_s: u32,
}

impl Default for ClockCheck {
    fn default() -> Self {
        Self { over_s: 60 }
    }
}

/// Energy against the agreed direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReverseCheck {
    /// More power than this against the direction, W.
    pub power_w: f64,
    /// For so long, seconds.
    pub for_s: u32,
}

impl Default for ReverseCheck {
    fn default() -> Self {
        Self {
            power_w: 50.0,
            for_s: 900,
        }
    }
}

/// A register that went back. A roll-over of four digits or more is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackwardCheck {
    /// By more than this, in its unit.
    pub tolerance: f64,
}

impl Default for BackwardCheck {
    fn default() -> Self {
        Self { tolerance: 0.01 }
    }
}

/// A register that stands still though power flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StuckCheck {
    /// At least so much power, W; 0: whatever flows, e.g. to find meters without any consumption.
    pub power_w: f64,
    /// For so long, seconds.
    pub for_s: u32,
}

impl Default for StuckCheck {
    fn default() -> Self {
        Self {
            power_w: 300.0,
            for_s: 6 * 3600,
        }
    }
}

/// Voltage outside its band.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VoltageCheck {
    /// The nominal voltage between phase and neutral, V; null: the usual one that is nearest to what the meter shows.
    pub nominal_v: Option<f64>,
    /// More than so much below it is wrong, percent.
    pub low_percent: f64,
    /// More than so much above it is wrong, percent.
    pub high_percent: f64,
    /// So far within the band it is right again, percent.
    pub hysteresis_percent: f64,
    /// For so long, seconds.
    pub for_s: u32,
}

impl Default for VoltageCheck {
    fn default() -> Self {
        Self {
            nominal_v: None,
            low_percent: 10.0,
            high_percent: 10.0,
            hysteresis_percent: 1.0,
            for_s: 600,
        }
    }
}

/// One phase of three without voltage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PhaseCheck {
    /// A phase below this share of the highest one, percent.
    pub below_percent: f64,
    /// For so long, seconds.
    pub for_s: u32,
}

impl Default for PhaseCheck {
    fn default() -> Self {
        Self {
            below_percent: 60.0,
            for_s: 0,
        }
    }
}

/// A bit that is wrong when set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusBit {
    /// Its number, from 0 for the lowest.
    pub bit: u8,
    /// What it means.
    #[schema(example = "clock battery low")]
    pub name: String,
}

/// What the meter itself reports: bits of a status word, or a counter of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StatusCheck {
    /// The status word or counter: `status_word`, or a vendor quantity of the meter's model.
    #[schema(example = "status_word_1")]
    pub quantity: String,
    /// The bits that are wrong when set.
    pub bits: Vec<StatusBit>,
    /// Instead of bits: it counts events, and each more of them is one.
    pub counts: bool,
}

/// Commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommandCheck {
    /// After so many seconds in that state.
    pub after_s: u32,
}

impl Default for CommandCheck {
    fn default() -> Self {
        Self { after_s: 120 }
    }
}

/// Nothing to set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PlainCheck {}

/// What a rule judges. In JSON `{"kind": …}` and the fields of that kind; what is left out has its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Check {
    /// Consumption far from the meter's own profile.
    Deviation(DeviationCheck),
    /// A quantity beyond a limit.
    Threshold(ThresholdCheck),
    /// Slots in a row without a usable value.
    MissingData(SilenceCheck),
    /// A DTU without a session.
    DtuOffline(OfflineCheck),
    /// A meter that does not answer while its DTU is there.
    MeterOffline(SilenceCheck),
    /// Too few slots are collected.
    CollectionRate(CollectionCheck),
    /// The meter's clock is off.
    ClockDrift(ClockCheck),
    /// Energy against the agreed direction.
    ReverseEnergy(ReverseCheck),
    /// A register went back.
    RegisterBackward(BackwardCheck),
    /// A register stands still though power flows.
    RegisterStuck(StuckCheck),
    /// Voltage outside its band.
    VoltageQuality(VoltageCheck),
    /// One phase of three without voltage.
    PhaseLoss(PhaseCheck),
    /// The meter itself reports something.
    StatusBits(StatusCheck),
    /// Two devices with one serial number.
    Clone(PlainCheck),
    /// Another value under the key of a stored reading.
    ReadingConflict(PlainCheck),
    /// An important event that a concentrator recorded.
    TerminalEvent(PlainCheck),
    /// Disconnections beyond the brake.
    BrakeHeld(PlainCheck),
    /// A command whose outcome is not known.
    CommandUnknown(CommandCheck),
    /// A reconnection that did not come about.
    ReconnectFailed(PlainCheck),
}
