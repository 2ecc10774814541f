//! What can be asked of a meter.

use serde::{Deserialize, Serialize};

/// Longest name of a parameter.
pub const PARAMETER_NAME_MAX: usize = 64;
/// Longest text of a parameter's value.
pub const PARAMETER_VALUE_MAX: usize = 64;
/// Longest raw frame, bytes.
pub const RAW_MAX: usize = 256;

/// One thing to do. Disconnect and reconnect are said of the supply: of a water meter they close and open its valve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Opens the relay (trips, 拉闸), or closes the valve.
    Disconnect,
    /// Closes the relay from here (直接合闸), or opens the valve.
    Reconnect,
    /// Allows the customer to close the relay by the meter's button (合闸允许).
    Arm,
    /// Keeps the supply on whatever the meter's own rules say (保电).
    KeepPower,
    /// Ends [`Action::KeepPower`] (保电解除).
    ReleaseKeepPower,
    /// Alarm on (报警).
    AlarmOn,
    /// Alarm off.
    AlarmOff,
    /// Sets the meter's clock to ours.
    SyncClock,
    /// Freezes the registers now.
    Freeze,
    /// Reads a parameter that the model names.
    ReadParameter {
        /// Its name in the model.
        name: String,
    },
    /// Writes a parameter that the model names.
    WriteParameter {
        /// Its name in the model.
        name: String,
        /// The value, in the parameter's unit.
        value: String,
    },
    /// A frame of the meter's own protocol, as it stands. It may be anything, so everything that guards a disconnect
    /// guards it too.
    Raw {
        /// The frame as hex.
        frame: String,
    },
}

/// Kinds of actions, for rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionClass {
    /// May take the supply away.
    Trip,
    /// Gives the supply back from afar, with nobody at the meter.
    Close,
    /// Other movements of relay and alarm.
    Relay,
    /// Clock, freeze, parameters.
    Parameter,
    /// Raw frames.
    Expert,
}

impl Action {
    /// The name in the API, the database and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::Reconnect => "reconnect",
            Self::Arm => "arm",
            Self::KeepPower => "keep_power",
            Self::ReleaseKeepPower => "release_keep_power",
            Self::AlarmOn => "alarm_on",
            Self::AlarmOff => "alarm_off",
            Self::SyncClock => "sync_clock",
            Self::Freeze => "freeze",
            Self::ReadParameter { .. } => "read_parameter",
            Self::WriteParameter { .. } => "write_parameter",
            Self::Raw { .. } => "raw",
        }
    }

    /// Whose right it takes.
    pub fn class(&self) -> ActionClass {
        match self {
            Self::Disconnect | Self::ReleaseKeepPower => ActionClass::Trip,
            Self::Reconnect => ActionClass::Close,
            Self::Arm | Self::KeepPower | Self::AlarmOn | Self::AlarmOff => ActionClass::Relay,
            Self::SyncClock | Self::Freeze | Self::ReadParameter { .. } | Self::WriteParameter { .. } => {
                ActionClass::Parameter
            }
            Self::Raw { .. } => ActionClass::Expert,
        }
    }

    /// Whether it can take a supply away: then interlocks hold it and the brake counts it. Raw frames can.
    pub fn may_darken(&self) -> bool {
        matches!(self.class(), ActionClass::Trip | ActionClass::Expert)
    }

    /// Whether it is one of those of which a relay has at most one open, and which end by a read-back alone. What a raw
    /// frame or a kept supply did cannot be read back, so it must not keep the relay for ever; and a supply may be kept
    /// while a disconnection is open.
    pub fn claims_relay(&self) -> bool {
        matches!(self, Self::Disconnect | Self::Reconnect | Self::Arm)
    }

    /// Whether it only reads: a lost answer leaves nothing unknown.
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::ReadParameter { .. })
    }
}
