//! The catalogue of meter models as the API shows it and checks meters against it.

use crate::device::catalogue::Catalogue;
use crate::device::mbus;
use crate::device::model::MeterModel;
use crate::device::plan::check_address;
use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::protocol::{Protocol, dlt645, dlt698};
use serde::Serialize;

/// What a model can read.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ModelPoint {
    /// The quantity's name, or the vendor quantity's.
    #[schema(example = "active_energy_import")]
    pub quantity: String,
    /// Its canonical unit; null for vendor quantities.
    #[schema(example = "kWh")]
    pub unit: Option<&'static str>,
    /// Its OBIS code; null for vendor quantities.
    #[schema(example = "1-0:1.8.0*255")]
    pub obis: Option<&'static str>,
    /// Whether a poll of everything reads it.
    pub polled: bool,
}

/// A meter model.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ModelView {
    /// Its name; what a meter's `model` says.
    #[schema(example = "eastron_sdm630")]
    pub name: String,
    /// The protocols by which it can be read.
    #[schema(example = json!(["modbus-rtu", "modbus-tcp"]))]
    pub protocols: Vec<&'static str>,
    /// Who makes it.
    pub vendor: String,
    /// The maker's name for it.
    pub model: String,
    /// 1 or 3.
    pub phases: u8,
    /// Factory setting of its serial side, e.g. `9600 8N1`.
    pub serial: String,
    /// Its factory address.
    pub factory_address: String,
    /// What a field engineer should know.
    pub notes: String,
    /// What it can read.
    pub points: Vec<ModelPoint>,
}

/// Why a meter does not fit the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelFault {
    /// No such protocol.
    #[error("{found:?} is no protocol of this server; it has {known}")]
    Protocol {
        /// What was given.
        found: String,
        /// The names there are.
        known: String,
    },
    /// No such model for that protocol.
    #[error("there is no meter model {found:?} for {protocol}; /meter-models lists them")]
    Model {
        /// What was given.
        found: String,
        /// The protocol.
        protocol: &'static str,
    },
    /// The address is none of that protocol.
    #[error("{0}")]
    Address(String),
}

impl ModelFault {
    /// The field of a meter that is at fault.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Protocol { .. } => "protocol",
            Self::Model { .. } => "model",
            Self::Address(_) => "address",
        }
    }
}

/// The catalogue.
pub trait MeterModels: Send + Sync + 'static {
    /// Every model, by name.
    fn models(&self) -> Vec<ModelView>;

    /// One, by name.
    fn model(&self, name: &str) -> Option<ModelView>;

    /// Checks protocol, model and address of a meter; gives the address in its canonical form.
    ///
    /// # Errors
    /// [`ModelFault`] names the field.
    fn check(&self, protocol: &str, model: &str, address: &str) -> Result<String, ModelFault>;

    /// Whether addresses of this protocol have several lengths, so that zeros in front can mean something that a number
    /// has lost.
    fn zeros_matter(&self, protocol: &str) -> bool;
}

fn view(model: &MeterModel) -> ModelView {
    let parity = match model.serial.parity {
        crate::domain::device::Parity::None => 'N',
        crate::domain::device::Parity::Even => 'E',
        crate::domain::device::Parity::Odd => 'O',
    };
    let point = |(measurand, polled): (&Measurand, bool)| match measurand {
        Measurand::Standard(quantity) => ModelPoint {
            quantity: Quantity::name(*quantity).to_owned(),
            unit: Some(quantity.unit().symbol()),
            obis: Some(quantity.obis()),
            polled,
        },
        Measurand::Vendor(name) => ModelPoint {
            quantity: name.to_string(),
            unit: None,
            obis: None,
            polled,
        },
    };
    ModelView {
        name: model.name.to_string(),
        protocols: model.protocols().iter().map(|protocol| protocol.name()).collect(),
        vendor: model.vendor.clone(),
        model: model.model.clone(),
        phases: model.phases,
        serial: format!("{} 8{parity}{}", model.serial.baud, model.serial.stop_bits),
        factory_address: model.serial.address.clone(),
        notes: model.notes.clone(),
        points: model.measurands().map(point).collect(),
    }
}

impl MeterModels for Catalogue {
    fn models(&self) -> Vec<ModelView> {
        let mut models: Vec<ModelView> = self.iter().map(|model| view(model)).collect();
        models.sort_by(|a, b| a.name.cmp(&b.name));
        models
    }

    fn model(&self, name: &str) -> Option<ModelView> {
        self.iter().find(|model| &*model.name == name).map(|model| view(model))
    }

    fn check(&self, protocol: &str, model: &str, address: &str) -> Result<String, ModelFault> {
        let found = Protocol::by_name(protocol).ok_or_else(|| ModelFault::Protocol {
            found: protocol.chars().take(40).collect(),
            known: Protocol::ALL.iter().map(|p| p.name()).collect::<Vec<_>>().join(", "),
        })?;
        let model = self.get(found, model).ok_or_else(|| ModelFault::Model {
            found: model.chars().take(80).collect(),
            protocol: found.name(),
        })?;
        check_address(model, address).map_err(|error| ModelFault::Address(error.to_string()))?;
        Ok(canonical(found, address))
    }

    fn zeros_matter(&self, protocol: &str) -> bool {
        matches!(Protocol::by_name(protocol), Some(Protocol::Dlt698 | Protocol::Mbus))
    }
}

/// One spelling per address, so that `1` and `01` are seen to be the same meter of a line.
fn canonical(protocol: Protocol, address: &str) -> String {
    match protocol {
        Protocol::ModbusRtu | Protocol::ModbusTcp | Protocol::Gdw376 => {
            address.trim().trim_start_matches('0').to_owned()
        }
        // checked before
        Protocol::Dlt645_2007 | Protocol::Dlt645_1997 => {
            dlt645::Address::parse(address).map_or_else(|_| address.trim().to_owned(), |a| a.to_string())
        }
        // a secondary address in capitals, a primary one without zeros in front
        Protocol::Cjt188 => format!("{:0>14}", address.trim().to_ascii_uppercase()),
        Protocol::Dlt698 => {
            dlt698::Address::parse(address).map_or_else(|_| address.trim().to_owned(), |address| address.to_string())
        }
        Protocol::Mbus => {
            mbus::Address::parse(address).map_or_else(|_| address.trim().to_owned(), |address| address.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_is_checked_against_the_catalogue() {
        let catalogue = Catalogue::builtin().unwrap();
        let model = catalogue.models().into_iter().next().unwrap();
        assert_eq!(catalogue.check("modbus-rtu", &model.name, " 007 "), Ok("7".to_owned()));
        for (protocol, name, address, field) in [
            ("modbus", model.name.as_str(), "1", "protocol"),
            ("modbus-rtu", "nobody_nothing", "1", "model"),
            ("modbus-rtu", model.name.as_str(), "0", "address"),
            ("modbus-rtu", model.name.as_str(), "248", "address"),
            ("modbus-tcp", model.name.as_str(), "x", "address"),
        ] {
            let fault = catalogue.check(protocol, name, address).unwrap_err();
            assert_eq!(fault.field(), field, "{fault}");
        }
        assert!(
            model
                .points
                .iter()
                .any(|point| point.unit.is_some() && point.obis.is_some())
        );
    }
}
