//! How Home Assistant is told of a meter's quantities: its MQTT discovery (home-assistant.io/integrations/mqtt), with the
//! device class, state class and unit that its sensor entity documents.

use crate::base::ids::{AccountId, DtuId, MeterId};
use crate::domain::quantity::{Kind, Quantity, Unit};
use serde_json::{Value, json};

/// What Home Assistant makes of a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// `device_class`; none: a plain number.
    pub device_class: Option<&'static str>,
    /// `state_class`; none: no statistics.
    pub state_class: Option<&'static str>,
    /// `unit_of_measurement`.
    pub unit: Option<&'static str>,
}

/// The sensor of a quantity.
pub fn sensor(quantity: Quantity) -> Sensor {
    use Quantity as Q;
    let unit = quantity.unit();
    let name = quantity.name();
    let device_class = match unit {
        Unit::Volt => Some("voltage"),
        Unit::Ampere => Some("current"),
        Unit::Hertz => Some("frequency"),
        Unit::Watt => Some("power"),
        Unit::Var => Some("reactive_power"),
        Unit::VoltAmpere => Some("apparent_power"),
        Unit::KilowattHour => Some("energy"),
        Unit::CubicMetre if quantity == Q::GasVolume => Some("gas"),
        Unit::CubicMetre => Some("water"),
        Unit::CubicMetrePerHour => Some("volume_flow_rate"),
        Unit::Celsius => Some("temperature"),
        Unit::Bar => Some("pressure"),
        Unit::Hour => Some("duration"),
        Unit::One if name.starts_with("power_factor") => Some("power_factor"),
        _ => None,
    };
    let state_class = match quantity.kind() {
        // may fall: what was fed in is taken off, what was paid is used up, what was counted on a day of settlement stands still
        Kind::Register
            if matches!(
                quantity,
                Q::ActiveEnergyNet | Q::CreditBalance | Q::CreditEnergy | Q::Overdraft
            ) =>
        {
            Some("total")
        }
        Kind::Register if name.starts_with("active_energy_total") || name.ends_with("_settlement") => Some("total"),
        Kind::Register => Some("total_increasing"),
        Kind::Instant => Some("measurement"),
        Kind::State => None,
    };
    Sensor {
        device_class,
        // Home Assistant refuses kWh and m³ that count and measure at once
        state_class: match (state_class, device_class) {
            (Some("measurement"), Some("energy" | "water" | "gas")) => None,
            (other, _) => other,
        },
        unit: match unit {
            Unit::One | Unit::Currency => None,
            Unit::Degree => Some("°"),
            other => Some(other.symbol()),
        },
    }
}

/// A meter as Home Assistant shows it.
#[derive(Clone, Debug)]
pub struct Device<'a> {
    /// Whose.
    pub account: AccountId,
    /// Which.
    pub meter: MeterId,
    /// Its name.
    pub name: &'a str,
    /// Its model.
    pub model: &'a str,
    /// Behind which DTU.
    pub dtu: DtuId,
}

/// Where the configuration of a quantity stands, below Home Assistant's prefix (`homeassistant` unless changed there).
pub fn config_topic(prefix: &str, account: AccountId, meter: MeterId, quantity: &str) -> String {
    // letters, digits, _ and - alone: names of quantities are
    let object: String = quantity
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    format!("{prefix}/sensor/polyphase_{account}_{meter}/{object}/config")
}

/// The configuration of a quantity. `topics`: its state, and what says that it is available (all have to be `online`).
pub fn config(device: &Device<'_>, quantity: Quantity, state: &str, available: &[String]) -> Value {
    let sensor = sensor(quantity);
    let name = quantity.name().replace('_', " ");
    let mut config = json!({
        "name": name,
        "unique_id": format!("polyphase_{}_{}_{}", device.account, device.meter, quantity.name()),
        "state_topic": state,
        "availability": available.iter().map(|topic| json!({ "topic": topic })).collect::<Vec<_>>(),
        "availability_mode": "all",
        "device": {
            "identifiers": [format!("polyphase_{}_{}", device.account, device.meter)],
            "name": device.name,
            "model": device.model,
            "via_device": format!("polyphase_{}_dtu_{}", device.account, device.dtu),
        },
        "origin": { "name": "Polyphase", "sw_version": env!("CARGO_PKG_VERSION") },
    });
    if let Some(fields) = config.as_object_mut() {
        for (name, value) in [
            ("device_class", sensor.device_class),
            ("state_class", sensor.state_class),
            ("unit_of_measurement", sensor.unit),
        ] {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value.into());
            }
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which units and state classes a device class takes (Home Assistant, `sensor/const.py`: DEVICE_CLASS_UNITS and
    /// DEVICE_CLASS_STATE_CLASSES).
    fn takes(class: &str) -> (&'static [&'static str], &'static [&'static str]) {
        match class {
            "voltage" => (&["V"], &["measurement"]),
            "current" => (&["A"], &["measurement"]),
            "frequency" => (&["Hz"], &["measurement"]),
            "power" => (&["W"], &["measurement"]),
            "reactive_power" => (&["var"], &["measurement"]),
            "apparent_power" => (&["VA"], &["measurement"]),
            "energy" => (&["kWh"], &["total", "total_increasing"]),
            "water" | "gas" => (&["m³"], &["total", "total_increasing"]),
            "volume_flow_rate" => (&["m³/h"], &["measurement"]),
            "temperature" => (&["°C"], &["measurement"]),
            "pressure" => (&["bar"], &["measurement"]),
            "duration" => (&["h"], &["measurement", "total", "total_increasing"]),
            "power_factor" => (&[], &["measurement"]),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_quantity_is_one_that_home_assistant_takes() {
        for quantity in Quantity::ALL {
            let sensor = sensor(*quantity);
            let Some(class) = sensor.device_class else { continue };
            let (units, states) = takes(class);
            match sensor.unit {
                Some(unit) => assert!(units.contains(&unit), "{quantity:?}: {unit}"),
                None => assert!(units.is_empty(), "{quantity:?} has no unit"),
            }
            if let Some(state) = sensor.state_class {
                assert!(states.contains(&state), "{quantity:?}: {class} cannot be {state}");
            }
        }
    }

    #[test]
    fn what_people_look_at_first_is_right() {
        let of = |quantity| {
            let sensor = sensor(quantity);
            (sensor.device_class, sensor.state_class, sensor.unit)
        };
        let energy = (Some("energy"), Some("total_increasing"), Some("kWh"));
        assert_eq!(of(Quantity::ActiveEnergyImport), energy);
        assert_eq!(of(Quantity::HeatEnergy), energy);
        assert_eq!(
            of(Quantity::VolumeTotal),
            (Some("water"), Some("total_increasing"), Some("m³"))
        );
        assert_eq!(
            of(Quantity::VoltageL1),
            (Some("voltage"), Some("measurement"), Some("V"))
        );
        assert_eq!(
            of(Quantity::ActivePowerTotal),
            (Some("power"), Some("measurement"), Some("W"))
        );
    }

    #[test]
    fn a_configuration_names_its_device() {
        let device = Device {
            account: AccountId(3),
            meter: MeterId(17),
            name: "Kitchen",
            model: "acme",
            dtu: DtuId(9),
        };
        let config = config(
            &device,
            Quantity::VoltageL1,
            "p/3/x/17/voltage_l1",
            &["p/3/_status".into()],
        );
        assert_eq!(config["unique_id"], "polyphase_3_17_voltage_l1");
        assert_eq!(config["device"]["name"], "Kitchen");
        assert_eq!(config["availability"][0]["topic"], "p/3/_status");
        assert_eq!(
            config_topic("homeassistant", AccountId(3), MeterId(17), "voltage_l1"),
            "homeassistant/sensor/polyphase_3_17/voltage_l1/config"
        );
    }
}
