//! The bodies of `/meters`: what may be written, and the checks that need no database.

use super::ApiState;
use super::body::nullable;
use super::problem::{ApiError, Faults};
use super::schedule_form::ScheduleRef;
use crate::base::ids::{DtuId, GroupId, PointId};
use crate::domain::quantity::{Kind as QuantityKind, Quantity};
use crate::port::meter_models::ModelView;
use crate::port::meters::{NewMeter, Registers, ScheduleChoice};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::Deserialize;
use std::collections::BTreeMap;

const NAME_MAX: usize = 200;
const COMMENT_MAX: usize = 2000;
/// Schedules of one meter.
const SCHEDULES_MAX: usize = 20;
/// The largest transformer ratio, e.g. 400 kV / 100 V or 10 kA / 1 A with room to spare.
const RATIO_MAX: i64 = 100_000;
/// What a bare number in `closing` or `opening` means: the first of these that the model has.
const MAIN_REGISTERS: &[Quantity] = &[
    Quantity::ActiveEnergyImport,
    Quantity::ActiveEnergyTotal,
    Quantity::VolumeTotal,
    Quantity::GasVolume,
    Quantity::HeatEnergy,
    Quantity::CoolingEnergy,
];

/// An address: text, or a number where the protocol has numbers.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "an address as text or number")]
pub enum Address {
    /// As text.
    Text(String),
    /// As number.
    Number(u64),
}

impl Address {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// A meter to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MeterBody {
    /// The DTU behind which it hangs.
    #[schema(value_type = i32)]
    pub(super) dtu_id: DtuId,
    /// The protocol's name.
    #[schema(example = "modbus-rtu")]
    pub(super) protocol: String,
    /// Its address in the protocol's own form, e.g. 1 to 247 for Modbus.
    pub(super) address: Address,
    /// Its model in the catalogue.
    #[schema(example = "eastron_sdm630")]
    pub(super) model: String,
    /// Its name.
    pub(super) name: String,
    /// A remark.
    #[serde(default)]
    pub(super) comment: String,
    /// Its group.
    #[schema(value_type = Option<i32>)]
    pub(super) group_id: Option<GroupId>,
    /// Its own schedule; none: its DTU's, else its account's.
    pub(super) schedule: Option<ScheduleRef>,
    /// Its own schedules, where it has several.
    #[serde(default)]
    pub(super) schedules: Vec<ScheduleRef>,
    /// Current transformer ratio; readings stay as the meter says them, consumption is multiplied. Default 1.
    #[schema(value_type = Option<String>, example = "40")]
    pub(super) ct_ratio: Option<Decimal>,
    /// Voltage transformer ratio. Default 1.
    #[schema(value_type = Option<String>, example = "1")]
    pub(super) vt_ratio: Option<Decimal>,
    /// The metering point where it stands; none: a new one.
    #[schema(value_type = Option<i32>)]
    pub(super) point_id: Option<PointId>,
}

impl MeterBody {
    /// The meter that it asks for; `zone` is for schedules in place that name none.
    pub(super) fn checked(self, state: &ApiState, zone: Tz, now: DateTime<Utc>) -> Result<NewMeter, ApiError> {
        let mut faults = Faults::new();
        texts(Some(&self.name), Some(&self.comment), &mut faults);
        ratio("ct_ratio", self.ct_ratio, &mut faults);
        ratio("vt_ratio", self.vt_ratio, &mut faults);
        let address = self.address.text();
        let address = fitting(state, &self.protocol, &self.model, &address, "", &mut faults);
        let one = self.schedule.as_ref();
        let schedules = choices(one, &self.schedules, &self.name, zone, now, &mut faults);
        faults.done()?;
        Ok(NewMeter {
            dtu: self.dtu_id,
            protocol: self.protocol,
            address,
            model: self.model,
            name: self.name,
            comment: self.comment,
            group: self.group_id,
            schedules,
            ct_ratio: self.ct_ratio.unwrap_or(Decimal::ONE),
            vt_ratio: self.vt_ratio.unwrap_or(Decimal::ONE),
            point: self.point_id,
        })
    }
}

/// What an edit changes.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MeterEditBody {
    /// Another DTU.
    #[schema(value_type = Option<i32>)]
    pub(super) dtu_id: Option<DtuId>,
    /// Another protocol.
    pub(super) protocol: Option<String>,
    /// Another address.
    pub(super) address: Option<Address>,
    /// Another model.
    pub(super) model: Option<String>,
    /// Another name.
    pub(super) name: Option<String>,
    /// Another remark.
    pub(super) comment: Option<String>,
    /// Another group; null: none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<i32>)]
    pub(super) group_id: Option<Option<GroupId>>,
    /// Another schedule of its own; null: its DTU's, else its account's.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<ScheduleRef>)]
    pub(super) schedule: Option<Option<ScheduleRef>>,
    /// Other schedules of its own; an empty list: its DTU's, else its account's.
    pub(super) schedules: Option<Vec<ScheduleRef>>,
    /// Another current transformer ratio, from now on.
    #[schema(value_type = Option<String>)]
    pub(super) ct_ratio: Option<Decimal>,
    /// Another voltage transformer ratio, from now on.
    #[schema(value_type = Option<String>)]
    pub(super) vt_ratio: Option<Decimal>,
}

/// The meter that takes another's place; what is left out is as with the old one.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMeterBody {
    /// The DTU.
    #[schema(value_type = Option<i32>)]
    pub(super) dtu_id: Option<DtuId>,
    /// The protocol's name.
    pub(super) protocol: Option<String>,
    /// Its address.
    pub(super) address: Option<Address>,
    /// Its model.
    pub(super) model: Option<String>,
    /// Its name.
    pub(super) name: Option<String>,
    /// A remark.
    pub(super) comment: Option<String>,
    /// Its group.
    #[schema(value_type = Option<i32>)]
    pub(super) group_id: Option<GroupId>,
    /// Its own schedule.
    pub(super) schedule: Option<ScheduleRef>,
    /// Its own schedules.
    pub(super) schedules: Option<Vec<ScheduleRef>>,
    /// Current transformer ratio.
    #[schema(value_type = Option<String>)]
    pub(super) ct_ratio: Option<Decimal>,
    /// Voltage transformer ratio.
    #[schema(value_type = Option<String>)]
    pub(super) vt_ratio: Option<Decimal>,
}

/// Registers as they were read off: by quantity, or one number for the meter's main register.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(
    untagged,
    expecting = "registers by quantity such as {\"active_energy_import\": \"1234.5\"}, or one number"
)]
pub enum RegistersBody {
    /// The main register.
    #[schema(value_type = String)]
    Main(Decimal),
    /// By quantity.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    ByQuantity(BTreeMap<String, Decimal>),
}

/// An exchange of meters at one metering point.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExchangeBody {
    /// When the meters were exchanged.
    pub(super) at: DateTime<Utc>,
    /// The old meter's registers then.
    pub(super) closing: RegistersBody,
    /// The new meter.
    pub(super) new_meter: NewMeterBody,
    /// The new meter's registers then.
    pub(super) opening: RegistersBody,
}

pub(super) fn ratio(field: &str, ratio: Option<Decimal>, faults: &mut Faults) {
    let fits =
        ratio.is_none_or(|ratio| ratio > Decimal::ZERO && ratio <= Decimal::from(RATIO_MAX) && ratio.scale() <= 6);
    faults.check(
        fits,
        field,
        format!("must be above 0 and at most {RATIO_MAX}, with at most 6 decimals"),
    );
}

pub(super) fn texts(name: Option<&str>, comment: Option<&str>, faults: &mut Faults) {
    if let Some(name) = name {
        faults.text("name", name, NAME_MAX);
    }
    let comment = comment.unwrap_or_default();
    faults.check(
        comment.chars().count() <= COMMENT_MAX && !comment.contains('\0'),
        "comment",
        format!("must have at most {COMMENT_MAX} characters and no NUL"),
    );
}

/// One schedule or several, checked.
pub(super) fn choices(
    one: Option<&ScheduleRef>,
    several: &[ScheduleRef],
    owner: &str,
    zone: Tz,
    now: DateTime<Utc>,
    faults: &mut Faults,
) -> Vec<ScheduleChoice> {
    faults.check(
        one.is_none() || several.is_empty(),
        "schedules",
        "give either `schedule` or `schedules`",
    );
    faults.check(
        several.len() <= SCHEDULES_MAX,
        "schedules",
        format!("a meter has at most {SCHEDULES_MAX} schedules"),
    );
    let mut found: Vec<ScheduleChoice> = Vec::new();
    found.extend(one.and_then(|one| one.choice("schedule", owner, zone, now, faults)));
    for (index, one) in several.iter().take(SCHEDULES_MAX).enumerate() {
        found.extend(one.choice(&format!("schedules[{index}]"), owner, zone, now, faults));
    }
    found
}

/// The address in its canonical form, if protocol, model and address fit each other.
pub(super) fn fitting(
    state: &ApiState,
    protocol: &str,
    model: &str,
    address: &str,
    prefix: &str,
    faults: &mut Faults,
) -> String {
    state.models.check(protocol, model, address).unwrap_or_else(|fault| {
        faults.check(false, &format!("{prefix}{}", fault.field()), fault.to_string());
        String::new()
    })
}

/// Registers of a body by quantity; each must be a register that the model has.
pub(super) fn registers(
    field: &str,
    body: &RegistersBody,
    model: Option<&ModelView>,
    faults: &mut Faults,
) -> Registers {
    let has = |quantity: Quantity| model.is_none_or(|model| model.points.iter().any(|p| p.quantity == quantity.name()));
    let mut found = Registers::new();
    match body {
        RegistersBody::Main(value) => match MAIN_REGISTERS.iter().find(|quantity| has(**quantity)) {
            Some(quantity) => {
                found.insert(*quantity, *value);
            }
            None => faults.check(
                false,
                field,
                "the model has no main register; give registers by quantity",
            ),
        },
        RegistersBody::ByQuantity(values) => {
            faults.check(!values.is_empty(), field, "must name at least one register");
            for (name, value) in values {
                match Quantity::by_name(name).filter(|q| q.kind() == QuantityKind::Register && has(*q)) {
                    Some(quantity) => {
                        found.insert(quantity, *value);
                    }
                    None => faults.check(
                        false,
                        &format!("{field}.{name}"),
                        "is no register of that meter's model",
                    ),
                }
            }
        }
    }
    found
}
