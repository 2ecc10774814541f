//! One English sentence of what is wrong, for lists, logs and dashboards. Notices have texts of their own.

use super::{AlarmKind, Detail};

/// Text of a value with its unit; `?` where there is none.
fn with_unit(value: Option<&String>, detail: &Detail) -> String {
    let value = value.map_or("?", String::as_str);
    match detail.unit.as_deref() {
        Some(unit) if unit != "1" => format!("{value} {unit}"),
        _ => value.to_owned(),
    }
}

pub(super) fn sentence(kind: AlarmKind, detail: &Detail) -> String {
    let quantity = detail.quantity.as_deref().unwrap_or("value");
    let value = with_unit(detail.value.as_ref(), detail);
    let limit = with_unit(detail.limit.as_ref(), detail);
    let expected = with_unit(detail.expected.as_ref(), detail);
    let count = detail.count.unwrap_or_default();
    let names = detail.names.join(", ");
    let said = match kind {
        AlarmKind::Deviation => format!("{quantity}: {value} in an hour, {expected} were to be expected"),
        AlarmKind::Threshold => format!("{quantity} is {value}, the limit is {limit}"),
        AlarmKind::MissingData => format!("{count} slots in a row without a value ({names})"),
        AlarmKind::DtuOffline if count > 1 => format!("{count} DTUs went offline together"),
        AlarmKind::DtuOffline => "the DTU is offline".to_owned(),
        AlarmKind::MeterOffline => format!("the meter has not answered in {count} slots ({names})"),
        AlarmKind::CollectionRate => format!("{value} of the slots are collected, {limit} are wanted"),
        AlarmKind::ClockDrift => format!("the meter's clock is off by {value}"),
        AlarmKind::ReverseEnergy => format!("{quantity} is {value}, against the agreed direction"),
        AlarmKind::RegisterBackward => format!("{quantity} went back from {expected} to {value}"),
        AlarmKind::RegisterStuck => format!("{quantity} stands at {value} though power flows"),
        AlarmKind::VoltageQuality => format!("{quantity} is {value}, outside the band that ends at {limit}"),
        AlarmKind::PhaseLoss => format!("no voltage on {names}"),
        AlarmKind::StatusBits => format!("the meter reports: {names}"),
        AlarmKind::Clone => "two devices use the serial number of this DTU".to_owned(),
        AlarmKind::ReadingConflict => format!("{count} readings came again with other values"),
        AlarmKind::TerminalEvent if count > 1 => format!("the concentrator recorded {count} times: {names}"),
        AlarmKind::TerminalEvent => format!("the concentrator recorded: {names}"),
        AlarmKind::BrakeHeld => format!("{count} disconnections exceed the brake and wait for two people"),
        AlarmKind::CommandUnknown => format!("the outcome of {names} is not known"),
        AlarmKind::ReconnectFailed => format!("{names} did not come about"),
        AlarmKind::Spool => "the spool in front of the database runs full".to_owned(),
        AlarmKind::Overload => "the server is short of memory and does less".to_owned(),
        AlarmKind::Database => "the database is away".to_owned(),
    };
    match &detail.note {
        Some(note) => format!("{said}: {note}"),
        None => said,
    }
}
