//! The closed list of quantities: one name, one canonical unit, one OBIS code each.
//!
//! Names are those of the interface contract; OBIS codes follow IEC 62056-61 (A-B:C.D.E*F), where the standard has none
//! (phase-to-phase voltages, unbalance, balances) the code is ours, in the ranges it leaves to manufacturers. Whatever
//! a device sends is converted to the canonical unit; what has no name here is a vendor quantity of its model.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Canonical units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Unit {
    /// V
    #[serde(rename = "V")]
    Volt,
    /// A
    #[serde(rename = "A")]
    Ampere,
    /// Hz
    #[serde(rename = "Hz")]
    Hertz,
    /// W
    #[serde(rename = "W")]
    Watt,
    /// var
    #[serde(rename = "var")]
    Var,
    /// VA
    #[serde(rename = "VA")]
    VoltAmpere,
    /// kWh
    #[serde(rename = "kWh")]
    KilowattHour,
    /// kvarh
    #[serde(rename = "kvarh")]
    KilovarHour,
    /// kVAh
    #[serde(rename = "kVAh")]
    KilovoltAmpereHour,
    /// m³
    #[serde(rename = "m³")]
    CubicMetre,
    /// m³/h
    #[serde(rename = "m³/h")]
    CubicMetrePerHour,
    /// °C
    #[serde(rename = "°C")]
    Celsius,
    /// K
    #[serde(rename = "K")]
    Kelvin,
    /// %
    #[serde(rename = "%")]
    Percent,
    /// 1
    #[serde(rename = "1")]
    One,
    /// deg
    #[serde(rename = "deg")]
    Degree,
    /// bar
    #[serde(rename = "bar")]
    Bar,
    /// h
    #[serde(rename = "h")]
    Hour,
    /// currency
    #[serde(rename = "currency")]
    Currency,
}

impl Unit {
    /// Every unit.
    pub const ALL: &'static [Unit] = &[
        Unit::Volt,
        Unit::Ampere,
        Unit::Hertz,
        Unit::Watt,
        Unit::Var,
        Unit::VoltAmpere,
        Unit::KilowattHour,
        Unit::KilovarHour,
        Unit::KilovoltAmpereHour,
        Unit::CubicMetre,
        Unit::CubicMetrePerHour,
        Unit::Celsius,
        Unit::Kelvin,
        Unit::Percent,
        Unit::One,
        Unit::Degree,
        Unit::Bar,
        Unit::Hour,
        Unit::Currency,
    ];

    /// The symbol that the API shows.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Volt => "V",
            Self::Ampere => "A",
            Self::Hertz => "Hz",
            Self::Watt => "W",
            Self::Var => "var",
            Self::VoltAmpere => "VA",
            Self::KilowattHour => "kWh",
            Self::KilovarHour => "kvarh",
            Self::KilovoltAmpereHour => "kVAh",
            Self::CubicMetre => "m³",
            Self::CubicMetrePerHour => "m³/h",
            Self::Celsius => "°C",
            Self::Kelvin => "K",
            Self::Percent => "%",
            Self::One => "1",
            Self::Degree => "deg",
            Self::Bar => "bar",
            Self::Hour => "h",
            Self::Currency => "currency",
        }
    }
}

/// What kind of number a quantity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Cumulative; a decimal, never a float.
    Register,
    /// True at one instant.
    Instant,
    /// A code or bit field; an integer.
    State,
}

/// Which wide table keeps a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Electricity.
    Electricity,
    /// Water, heat, gas.
    Fluid,
    /// The side table.
    Other,
}

macro_rules! quantities {
    ($($variant:ident $name:literal $unit:ident $obis:literal $kind:ident $family:ident;)*) => {
        /// A quantity of the closed list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(u16)]
        pub enum Quantity {
            $(
                #[doc = concat!("`", $name, "`, OBIS ", $obis)]
                #[serde(rename = $name)]
                $variant,
            )*
        }

        impl Quantity {
            /// Every quantity, in the order of the list.
            pub const ALL: &'static [Quantity] = &[$(Quantity::$variant,)*];

            /// The name in the API and in meter models.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The canonical unit.
            pub fn unit(self) -> Unit {
                match self { $(Self::$variant => Unit::$unit,)* }
            }

            /// The OBIS code, A-B:C.D.E*F.
            pub fn obis(self) -> &'static str {
                match self { $(Self::$variant => $obis,)* }
            }

            /// Register, instantaneous value or state.
            pub fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }

            /// The table family that stores it.
            pub fn family(self) -> Family {
                match self { $(Self::$variant => Family::$family,)* }
            }

            /// Finds a quantity by its name.
            pub fn by_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

quantities! {
    VoltageL1 "voltage_l1" Volt "1-0:32.7.0*255" Instant Electricity;
    VoltageL2 "voltage_l2" Volt "1-0:52.7.0*255" Instant Electricity;
    VoltageL3 "voltage_l3" Volt "1-0:72.7.0*255" Instant Electricity;
    VoltageAvg "voltage_avg" Volt "1-0:12.7.0*255" Instant Electricity;
    VoltageL1L2 "voltage_l1_l2" Volt "1-0:124.7.0*255" Instant Electricity;
    VoltageL2L3 "voltage_l2_l3" Volt "1-0:125.7.0*255" Instant Electricity;
    VoltageL3L1 "voltage_l3_l1" Volt "1-0:126.7.0*255" Instant Electricity;
    CurrentL1 "current_l1" Ampere "1-0:31.7.0*255" Instant Electricity;
    CurrentL2 "current_l2" Ampere "1-0:51.7.0*255" Instant Electricity;
    CurrentL3 "current_l3" Ampere "1-0:71.7.0*255" Instant Electricity;
    CurrentN "current_n" Ampere "1-0:91.7.0*255" Instant Electricity;
    CurrentTotal "current_total" Ampere "1-0:90.7.0*255" Instant Electricity;
    ActivePowerTotal "active_power_total" Watt "1-0:16.7.0*255" Instant Electricity;
    ActivePowerL1 "active_power_l1" Watt "1-0:36.7.0*255" Instant Electricity;
    ActivePowerL2 "active_power_l2" Watt "1-0:56.7.0*255" Instant Electricity;
    ActivePowerL3 "active_power_l3" Watt "1-0:76.7.0*255" Instant Electricity;
    ReactivePowerTotal "reactive_power_total" Var "1-0:131.7.0*255" Instant Electricity;
    ReactivePowerL1 "reactive_power_l1" Var "1-0:151.7.0*255" Instant Electricity;
    ReactivePowerL2 "reactive_power_l2" Var "1-0:171.7.0*255" Instant Electricity;
    ReactivePowerL3 "reactive_power_l3" Var "1-0:191.7.0*255" Instant Electricity;
    ApparentPowerTotal "apparent_power_total" VoltAmpere "1-0:9.7.0*255" Instant Electricity;
    ApparentPowerL1 "apparent_power_l1" VoltAmpere "1-0:29.7.0*255" Instant Electricity;
    ApparentPowerL2 "apparent_power_l2" VoltAmpere "1-0:49.7.0*255" Instant Electricity;
    ApparentPowerL3 "apparent_power_l3" VoltAmpere "1-0:69.7.0*255" Instant Electricity;
    PowerFactorTotal "power_factor_total" One "1-0:13.7.0*255" Instant Electricity;
    PowerFactorL1 "power_factor_l1" One "1-0:33.7.0*255" Instant Electricity;
    PowerFactorL2 "power_factor_l2" One "1-0:53.7.0*255" Instant Electricity;
    PowerFactorL3 "power_factor_l3" One "1-0:73.7.0*255" Instant Electricity;
    PhaseAngle "phase_angle" Degree "1-0:81.7.4*255" Instant Electricity;
    PhaseAngleTotal "phase_angle_total" Degree "1-0:81.7.0*255" Instant Electricity;
    PhaseAngleL1 "phase_angle_l1" Degree "1-0:81.7.40*255" Instant Electricity;
    PhaseAngleL2 "phase_angle_l2" Degree "1-0:81.7.51*255" Instant Electricity;
    PhaseAngleL3 "phase_angle_l3" Degree "1-0:81.7.62*255" Instant Electricity;
    Frequency "frequency" Hertz "1-0:14.7.0*255" Instant Electricity;
    VoltageThdL1 "voltage_thd_l1" Percent "1-0:32.7.124*255" Instant Electricity;
    VoltageThdL2 "voltage_thd_l2" Percent "1-0:52.7.124*255" Instant Electricity;
    VoltageThdL3 "voltage_thd_l3" Percent "1-0:72.7.124*255" Instant Electricity;
    CurrentThdL1 "current_thd_l1" Percent "1-0:31.7.124*255" Instant Electricity;
    CurrentThdL2 "current_thd_l2" Percent "1-0:51.7.124*255" Instant Electricity;
    CurrentThdL3 "current_thd_l3" Percent "1-0:71.7.124*255" Instant Electricity;
    VoltageUnbalance "voltage_unbalance" Percent "1-0:12.7.128*255" Instant Electricity;
    CurrentUnbalance "current_unbalance" Percent "1-0:11.7.128*255" Instant Electricity;
    ActiveEnergyTotal "active_energy_total" KilowattHour "1-0:15.8.0*255" Register Electricity;
    ActiveEnergyTotalT1 "active_energy_total_t1" KilowattHour "1-0:15.8.1*255" Register Electricity;
    ActiveEnergyTotalT2 "active_energy_total_t2" KilowattHour "1-0:15.8.2*255" Register Electricity;
    ActiveEnergyTotalT3 "active_energy_total_t3" KilowattHour "1-0:15.8.3*255" Register Electricity;
    ActiveEnergyTotalT4 "active_energy_total_t4" KilowattHour "1-0:15.8.4*255" Register Electricity;
    ActiveEnergyTotalL1 "active_energy_total_l1" KilowattHour "1-0:35.8.0*255" Register Electricity;
    ActiveEnergyTotalL2 "active_energy_total_l2" KilowattHour "1-0:55.8.0*255" Register Electricity;
    ActiveEnergyTotalL3 "active_energy_total_l3" KilowattHour "1-0:75.8.0*255" Register Electricity;
    ActiveEnergyImport "active_energy_import" KilowattHour "1-0:1.8.0*255" Register Electricity;
    ActiveEnergyImportT1 "active_energy_import_t1" KilowattHour "1-0:1.8.1*255" Register Electricity;
    ActiveEnergyImportT2 "active_energy_import_t2" KilowattHour "1-0:1.8.2*255" Register Electricity;
    ActiveEnergyImportT3 "active_energy_import_t3" KilowattHour "1-0:1.8.3*255" Register Electricity;
    ActiveEnergyImportT4 "active_energy_import_t4" KilowattHour "1-0:1.8.4*255" Register Electricity;
    ActiveEnergyImportL1 "active_energy_import_l1" KilowattHour "1-0:21.8.0*255" Register Electricity;
    ActiveEnergyImportL2 "active_energy_import_l2" KilowattHour "1-0:41.8.0*255" Register Electricity;
    ActiveEnergyImportL3 "active_energy_import_l3" KilowattHour "1-0:61.8.0*255" Register Electricity;
    ActiveEnergyExport "active_energy_export" KilowattHour "1-0:2.8.0*255" Register Electricity;
    ActiveEnergyExportT1 "active_energy_export_t1" KilowattHour "1-0:2.8.1*255" Register Electricity;
    ActiveEnergyExportT2 "active_energy_export_t2" KilowattHour "1-0:2.8.2*255" Register Electricity;
    ActiveEnergyExportT3 "active_energy_export_t3" KilowattHour "1-0:2.8.3*255" Register Electricity;
    ActiveEnergyExportT4 "active_energy_export_t4" KilowattHour "1-0:2.8.4*255" Register Electricity;
    ActiveEnergyExportL1 "active_energy_export_l1" KilowattHour "1-0:22.8.0*255" Register Electricity;
    ActiveEnergyExportL2 "active_energy_export_l2" KilowattHour "1-0:42.8.0*255" Register Electricity;
    ActiveEnergyExportL3 "active_energy_export_l3" KilowattHour "1-0:62.8.0*255" Register Electricity;
    ActiveEnergyNet "active_energy_net" KilowattHour "1-0:16.8.0*255" Register Electricity;
    ReactiveEnergyTotal "reactive_energy_total" KilovarHour "1-0:128.8.0*255" Register Electricity;
    ReactiveEnergyImport "reactive_energy_import" KilovarHour "1-0:3.8.0*255" Register Electricity;
    ReactiveEnergyImportT1 "reactive_energy_import_t1" KilovarHour "1-0:3.8.1*255" Register Electricity;
    ReactiveEnergyImportT2 "reactive_energy_import_t2" KilovarHour "1-0:3.8.2*255" Register Electricity;
    ReactiveEnergyImportT3 "reactive_energy_import_t3" KilovarHour "1-0:3.8.3*255" Register Electricity;
    ReactiveEnergyImportT4 "reactive_energy_import_t4" KilovarHour "1-0:3.8.4*255" Register Electricity;
    ReactiveEnergyImportL1 "reactive_energy_import_l1" KilovarHour "1-0:23.8.0*255" Register Electricity;
    ReactiveEnergyImportL2 "reactive_energy_import_l2" KilovarHour "1-0:43.8.0*255" Register Electricity;
    ReactiveEnergyImportL3 "reactive_energy_import_l3" KilovarHour "1-0:63.8.0*255" Register Electricity;
    ReactiveEnergyExport "reactive_energy_export" KilovarHour "1-0:4.8.0*255" Register Electricity;
    ReactiveEnergyExportT1 "reactive_energy_export_t1" KilovarHour "1-0:4.8.1*255" Register Electricity;
    ReactiveEnergyExportT2 "reactive_energy_export_t2" KilovarHour "1-0:4.8.2*255" Register Electricity;
    ReactiveEnergyExportT3 "reactive_energy_export_t3" KilovarHour "1-0:4.8.3*255" Register Electricity;
    ReactiveEnergyExportT4 "reactive_energy_export_t4" KilovarHour "1-0:4.8.4*255" Register Electricity;
    ReactiveEnergyExportL1 "reactive_energy_export_l1" KilovarHour "1-0:24.8.0*255" Register Electricity;
    ReactiveEnergyExportL2 "reactive_energy_export_l2" KilovarHour "1-0:44.8.0*255" Register Electricity;
    ReactiveEnergyExportL3 "reactive_energy_export_l3" KilovarHour "1-0:64.8.0*255" Register Electricity;
    ReactiveEnergyQ1 "reactive_energy_q1" KilovarHour "1-0:5.8.0*255" Register Electricity;
    ReactiveEnergyQ2 "reactive_energy_q2" KilovarHour "1-0:6.8.0*255" Register Electricity;
    ReactiveEnergyQ3 "reactive_energy_q3" KilovarHour "1-0:7.8.0*255" Register Electricity;
    ReactiveEnergyQ4 "reactive_energy_q4" KilovarHour "1-0:8.8.0*255" Register Electricity;
    ApparentEnergyTotal "apparent_energy_total" KilovoltAmpereHour "1-0:137.8.0*255" Register Electricity;
    ApparentEnergyImport "apparent_energy_import" KilovoltAmpereHour "1-0:9.8.0*255" Register Electricity;
    ApparentEnergyExport "apparent_energy_export" KilovoltAmpereHour "1-0:10.8.0*255" Register Electricity;
    MaxDemandActiveImport "max_demand_active_import" Watt "1-0:1.6.0*255" Instant Electricity;
    MaxDemandActiveExport "max_demand_active_export" Watt "1-0:2.6.0*255" Instant Electricity;
    DemandActiveImport "demand_active_import" Watt "1-0:1.4.0*255" Instant Electricity;
    CtRatio "ct_ratio" One "1-0:0.4.2*255" Instant Electricity;
    PtRatio "pt_ratio" One "1-0:0.4.3*255" Instant Electricity;
    VolumeTotal "volume_total" CubicMetre "8-0:1.0.0*255" Register Fluid;
    VolumeReverse "volume_reverse" CubicMetre "8-0:2.0.0*255" Register Fluid;
    VolumeSettlement "volume_settlement" CubicMetre "8-0:1.0.0*1" Register Fluid;
    FlowRate "flow_rate" CubicMetrePerHour "8-0:2.7.0*255" Instant Fluid;
    HeatEnergy "heat_energy" KilowattHour "6-0:1.0.0*255" Register Fluid;
    CoolingEnergy "cooling_energy" KilowattHour "5-0:1.0.0*255" Register Fluid;
    HeatEnergySettlement "heat_energy_settlement" KilowattHour "6-0:1.0.0*1" Register Fluid;
    ThermalPower "thermal_power" Watt "6-0:8.0.0*255" Instant Fluid;
    Temperature "temperature" Celsius "0-0:96.9.0*255" Instant Fluid;
    TemperatureFlow "temperature_flow" Celsius "6-0:10.0.0*255" Instant Fluid;
    TemperatureReturn "temperature_return" Celsius "6-0:11.0.0*255" Instant Fluid;
    TemperatureDifference "temperature_difference" Kelvin "6-0:12.0.0*255" Instant Fluid;
    Pressure "pressure" Bar "7-0:42.0.0*255" Instant Fluid;
    GasVolume "gas_volume" CubicMetre "7-0:3.0.0*255" Register Fluid;
    OperatingHours "operating_hours" Hour "0-0:96.8.0*255" Register Fluid;
    CreditBalance "credit_balance" Currency "0-0:19.10.0*255" Register Other;
    CreditEnergy "credit_energy" KilowattHour "0-0:19.10.1*255" Register Other;
    Overdraft "overdraft" Currency "0-0:19.10.2*255" Register Other;
    PurchaseCount "purchase_count" One "0-0:19.10.3*255" Register Other;
    RelayState "relay_state" One "0-0:96.3.10*255" State Other;
    ValveState "valve_state" One "0-0:96.3.11*255" State Other;
    StatusWord "status_word" One "0-0:97.97.0*255" State Other;
    BatteryVoltage "battery_voltage" Volt "0-0:96.6.3*255" Instant Other;
    SignalQuality "signal_quality" Percent "0-0:96.12.5*255" Instant Other;
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_obis_codes_are_unique() {
        let names: HashSet<_> = Quantity::ALL.iter().map(|q| q.name()).collect();
        assert_eq!(names.len(), Quantity::ALL.len());
        let codes: HashSet<_> = Quantity::ALL.iter().map(|q| q.obis()).collect();
        assert_eq!(codes.len(), Quantity::ALL.len());
    }

    #[test]
    fn registers_are_found_by_name() {
        let energy = Quantity::by_name("active_energy_import").unwrap();
        assert_eq!(
            (energy.obis(), energy.unit().symbol(), energy.kind()),
            ("1-0:1.8.0*255", "kWh", Kind::Register)
        );
    }
}
