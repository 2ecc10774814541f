//! What a value information block means: the kind of value, its unit, its power of ten, and what narrows it.
//!
//! Kind, unit and power come from the tables of the record crate (EN 13757-3, tables 10 to 14); what narrows a value
//! (phase, direction, limits) is read from the VIFE chain itself, because the crate tells neither a missing additive
//! correction from one of 1 nor which of its labels came from the chain.

use m_bus_application_layer::value_information::{UnitName, ValueInformation, ValueInformationBlock, ValueLabel};

macro_rules! named {
    ($(#[$doc:meta])* $kind:ident { $($(#[$item:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $kind {
            $($(#[$item])* $variant,)*
        }

        impl $kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name that meter models use.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Finds one by its name.
            pub fn by_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.name() == name)
            }
        }
    };
}

named! {
    /// The kind of a value.
    Class {
        /// Energy.
        Energy = "energy",
        /// Reactive energy.
        ReactiveEnergy = "reactive_energy",
        /// Apparent energy.
        ApparentEnergy = "apparent_energy",
        /// Volume.
        Volume = "volume",
        /// Mass.
        Mass = "mass",
        /// Power.
        Power = "power",
        /// Reactive power.
        ReactivePower = "reactive_power",
        /// Apparent power.
        ApparentPower = "apparent_power",
        /// Volume flow.
        VolumeFlow = "volume_flow",
        /// Mass flow.
        MassFlow = "mass_flow",
        /// Temperature of what flows to the consumer.
        FlowTemperature = "flow_temperature",
        /// Temperature of what flows back.
        ReturnTemperature = "return_temperature",
        /// Difference of both.
        TemperatureDifference = "temperature_difference",
        /// Some other temperature.
        ExternalTemperature = "external_temperature",
        /// Pressure.
        Pressure = "pressure",
        /// Voltage.
        Voltage = "voltage",
        /// Current.
        Current = "current",
        /// Frequency.
        Frequency = "frequency",
        /// A phase angle.
        Phase = "phase_angle",
        /// Relative humidity.
        Humidity = "humidity",
        /// How long it has had power.
        OnTime = "on_time",
        /// How long it has counted.
        OperatingTime = "operating_time",
        /// A date.
        Date = "date",
        /// A date with its time.
        DateTime = "date_time",
        /// Units of a heat cost allocator.
        CostAllocation = "cost_allocation",
        /// Over how long a value is averaged.
        AveragingDuration = "averaging_duration",
        /// How old a value is.
        ActualityDuration = "actuality_duration",
        /// Fabrication number.
        FabricationNumber = "fabrication_number",
        /// Enhanced identification.
        EnhancedIdentification = "enhanced_identification",
        /// Error flags.
        ErrorFlags = "error_flags",
        /// Digital inputs.
        DigitalInput = "digital_input",
        /// Digital outputs.
        DigitalOutput = "digital_output",
        /// Life of the battery that is left.
        BatteryLeft = "battery_left",
        /// Operating time of the battery.
        BatteryTime = "battery_time",
        /// Credit in the local currency.
        Credit = "credit",
        /// Debit in the local currency.
        Debit = "debit",
        /// A number whose unit is a text of the meter.
        PlainText = "plain_text",
        /// A kind of the maker's own.
        Maker = "maker",
        /// Any other of the standard.
        Other = "other",
    }
}

named! {
    /// What narrows a value: the VIFE behind its kind.
    Mark {
        /// In phase L1.
        L1 = "l1",
        /// In phase L2.
        L2 = "l2",
        /// In phase L3.
        L3 = "l3",
        /// In the neutral.
        N = "n",
        /// Between L1 and L2.
        L1L2 = "l1_l2",
        /// Between L2 and L3.
        L2L3 = "l2_l3",
        /// Between L3 and L1.
        L3L1 = "l3_l1",
        /// Quadrant 1.
        Q1 = "q1",
        /// Quadrant 2.
        Q2 = "q2",
        /// Quadrant 3.
        Q3 = "q3",
        /// Quadrant 4.
        Q4 = "q4",
        /// Import less export.
        Net = "net",
        /// Import and export added.
        Absolute = "absolute",
        /// What is positive only: import.
        Positive = "positive",
        /// What is negative only: export.
        Negative = "negative",
        /// Averaged.
        Average = "average",
        /// At base conditions.
        BaseConditions = "base_conditions",
        /// Not corrected.
        Uncorrected = "uncorrected",
        /// While leaking.
        Leakage = "leakage",
        /// While overflowing.
        Overflow = "overflow",
        /// Will be so.
        Future = "future",
        /// A constant is to be added that the number does not hold.
        Offset = "offset",
        /// The meter reports an error instead of the value.
        Error = "error",
        /// The maker's own.
        Maker = "maker",
        /// Any other of the standard: limits, durations, dates of events, rates.
        Other = "other",
    }
}

named! {
    /// The unit of a value; the power of ten is in the number.
    Unit {
        /// None.
        None = "",
        /// Wh
        WattHour = "Wh",
        /// J
        Joule = "J",
        /// cal
        Calorie = "cal",
        /// varh
        VarHour = "varh",
        /// VAh
        VoltAmpereHour = "VAh",
        /// m³
        CubicMetre = "m³",
        /// kg
        Kilogram = "kg",
        /// t
        Tonne = "t",
        /// s
        Second = "s",
        /// min
        Minute = "min",
        /// h
        Hour = "h",
        /// d
        Day = "d",
        /// months
        Month = "months",
        /// years
        Year = "years",
        /// W
        Watt = "W",
        /// J/h
        JoulePerHour = "J/h",
        /// var
        Var = "var",
        /// VA
        VoltAmpere = "VA",
        /// m³/h
        CubicMetrePerHour = "m³/h",
        /// m³/min
        CubicMetrePerMinute = "m³/min",
        /// m³/s
        CubicMetrePerSecond = "m³/s",
        /// kg/h
        KilogramPerHour = "kg/h",
        /// °C
        Celsius = "°C",
        /// K
        Kelvin = "K",
        /// °F
        Fahrenheit = "°F",
        /// bar
        Bar = "bar",
        /// V
        Volt = "V",
        /// A
        Ampere = "A",
        /// Hz
        Hertz = "Hz",
        /// %
        Percent = "%",
        /// °
        Degree = "°",
        /// Local currency.
        Currency = "currency",
        /// Any other.
        Other = "other unit",
    }
}

/// A value information block, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) class: Class,
    pub(super) unit: Unit,
    pub(super) marks: Vec<Mark>,
    /// The value is the number times ten to this power.
    pub(super) exponent: i32,
    /// The unit as a text of the meter.
    pub(super) text: Option<String>,
}

/// What a block means. One that the tables do not have is [`Class::Other`] without a unit.
pub(super) fn meaning(block: &ValueInformationBlock<'_>) -> Meaning {
    let information = ValueInformation::try_from(block).ok();
    let text = block
        .plaintext_vife
        .as_ref()
        .and_then(|text| text.as_ascii_str())
        .map(|text| text.chars().rev().collect());
    let Some(information) = information else {
        return Meaning {
            class: Class::Other,
            unit: Unit::None,
            marks: Vec::new(),
            exponent: 0,
            text,
        };
    };
    Meaning {
        class: information.labels().next().map_or(Class::Other, class),
        unit: unit(&information),
        marks: marks(block),
        exponent: i32::try_from(information.decimal_scale_exponent).unwrap_or_default(),
        text,
    }
}

/// The labels of a block in words, for people.
pub(super) fn words(block: &ValueInformationBlock<'_>) -> String {
    let Ok(information) = ValueInformation::try_from(block) else {
        return "reserved".to_owned();
    };
    let mut words: Vec<String> = Vec::new();
    for label in information.labels() {
        if label != ValueLabel::Binary {
            words.push(split_words(&format!("{label:?}")));
        }
    }
    if words.is_empty() {
        return "reserved".to_owned();
    }
    words.join(", ")
}

/// `FlowTemperature` as `flow temperature`.
fn split_words(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    let mut upper_before = true;
    for c in name.chars() {
        if c.is_ascii_uppercase() && !upper_before {
            out.push(' ');
        }
        upper_before = c.is_ascii_uppercase();
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn class(label: ValueLabel) -> Class {
    use ValueLabel as L;
    match label {
        L::Energy => Class::Energy,
        L::ReactiveEnergy => Class::ReactiveEnergy,
        L::ApparentEnergy => Class::ApparentEnergy,
        L::Volume => Class::Volume,
        L::Mass => Class::Mass,
        L::Power => Class::Power,
        L::ReactivePower => Class::ReactivePower,
        L::ApparentPower => Class::ApparentPower,
        L::VolumeFlow => Class::VolumeFlow,
        L::MassFlow => Class::MassFlow,
        L::FlowTemperature => Class::FlowTemperature,
        L::ReturnTemperature => Class::ReturnTemperature,
        L::TemperatureDifference => Class::TemperatureDifference,
        L::ExternalTemperature => Class::ExternalTemperature,
        L::Pressure => Class::Pressure,
        L::Voltage => Class::Voltage,
        L::Current => Class::Current,
        L::Frequency => Class::Frequency,
        L::PhaseUtoU | L::PhaseUtoI | L::PhaseItoU => Class::Phase,
        L::RelativeHumidity | L::MoistureLevel => Class::Humidity,
        L::OnTime => Class::OnTime,
        L::OperatingTime => Class::OperatingTime,
        L::Date => Class::Date,
        L::DateTime => Class::DateTime,
        L::DimensionlessHCA => Class::CostAllocation,
        L::AveragingDuration => Class::AveragingDuration,
        L::ActualityDuration => Class::ActualityDuration,
        L::FabricationNumber => Class::FabricationNumber,
        L::EnhancedIdentification => Class::EnhancedIdentification,
        L::ErrorFlags => Class::ErrorFlags,
        L::DigitalInput => Class::DigitalInput,
        L::DigitalOutput => Class::DigitalOutput,
        L::RemainingBatteryLifeTime => Class::BatteryLeft,
        L::OperatingTimeBattery => Class::BatteryTime,
        L::Credit => Class::Credit,
        L::Debit => Class::Debit,
        L::PlainText => Class::PlainText,
        L::ManufacturerSpecific => Class::Maker,
        _ => Class::Other,
    }
}

fn unit(information: &ValueInformation<'_>) -> Unit {
    use UnitName as U;
    let parts: Vec<(UnitName, i32)> = information.units().map(|unit| (unit.name, unit.exponent)).collect();
    match parts.as_slice() {
        [] => Unit::None,
        [(U::Watt, 1), (U::Hour, 1)] => Unit::WattHour,
        [(U::ReactiveWatt, 1), (U::Hour, 1)] => Unit::VarHour,
        [(U::ApparentWatt, 1), (U::Hour, 1)] => Unit::VoltAmpereHour,
        [(U::Joul, 1)] => Unit::Joule,
        [(U::Calorie, 1)] => Unit::Calorie,
        [(U::Meter, 3)] => Unit::CubicMetre,
        [(U::Kilogram, 1)] => Unit::Kilogram,
        [(U::Tonne, 1)] => Unit::Tonne,
        [(U::Second, 1)] => Unit::Second,
        [(U::Minute, 1)] => Unit::Minute,
        [(U::Hour, 1)] => Unit::Hour,
        [(U::Day, 1)] => Unit::Day,
        [(U::Month, 1)] => Unit::Month,
        [(U::Year, 1)] => Unit::Year,
        [(U::Watt, 1)] => Unit::Watt,
        [(U::Joul, 1), (U::Hour, -1)] => Unit::JoulePerHour,
        [(U::ReactiveWatt, 1)] => Unit::Var,
        [(U::ApparentWatt, 1)] => Unit::VoltAmpere,
        [(U::Meter, 3), (U::Hour, -1)] => Unit::CubicMetrePerHour,
        [(U::Meter, 3), (U::Minute, -1)] => Unit::CubicMetrePerMinute,
        [(U::Meter, 3), (U::Second, -1)] => Unit::CubicMetrePerSecond,
        [(U::Kilogram, 1), (U::Hour, -1)] => Unit::KilogramPerHour,
        [(U::Celsius, 1)] => Unit::Celsius,
        [(U::Kelvin, 1)] => Unit::Kelvin,
        [(U::Fahrenheit, 1)] => Unit::Fahrenheit,
        [(U::Bar, 1)] => Unit::Bar,
        [(U::Volt, 1)] => Unit::Volt,
        [(U::Ampere, 1)] => Unit::Ampere,
        [(U::Hertz, 1)] => Unit::Hertz,
        [(U::Percent, 1)] => Unit::Percent,
        [(U::Degree, 1)] => Unit::Degree,
        [(U::LocalMoneyCurrency, 1)] => Unit::Currency,
        _ => Unit::Other,
    }
}

/// What the VIFE chain says behind the kind.
fn marks(block: &ValueInformationBlock<'_>) -> Vec<Mark> {
    let chain = block.value_information_extension.as_ref();
    let head = match block.value_information.data & 0x7F {
        // the first VIFE of the extension tables is the kind itself
        0x7B | 0x7D => 1,
        // behind a kind of the maker's own everything is
        0x7E | 0x7F => return Vec::new(),
        _ => 0,
    };
    let mut marks = Vec::new();
    let mut extended = false;
    for vife in chain.into_iter().flat_map(|chain| chain.iter()).skip(head) {
        if vife.data == 0xFC {
            extended = true;
            continue;
        }
        let code = vife.data & 0x7F;
        let mark = if std::mem::take(&mut extended) {
            extended_mark(code)
        } else {
            match code {
                // powers of ten are in the exponent, "standard conform data content" says nothing new
                0x1D | 0x70..=0x77 | 0x7D => continue,
                0x12 => Mark::Average,
                0x15..=0x1C => Mark::Error,
                0x3A => Mark::Uncorrected,
                0x3B => Mark::Positive,
                0x3C => Mark::Negative,
                0x3E => Mark::BaseConditions,
                0x69 => Mark::Leakage,
                0x6D => Mark::Overflow,
                0x78..=0x7B => Mark::Offset,
                0x7E => Mark::Future,
                0x7F => {
                    marks.push(Mark::Maker);
                    break;
                }
                _ => Mark::Other,
            }
        };
        marks.push(mark);
    }
    marks
}

fn extended_mark(code: u8) -> Mark {
    match code {
        0x01 => Mark::L1,
        0x02 => Mark::L2,
        0x03 => Mark::L3,
        0x04 => Mark::N,
        0x05 => Mark::L1L2,
        0x06 => Mark::L2L3,
        0x07 => Mark::L3L1,
        0x08 => Mark::Q1,
        0x09 => Mark::Q2,
        0x0A => Mark::Q3,
        0x0B => Mark::Q4,
        0x0C => Mark::Net,
        0x10 => Mark::Absolute,
        _ => Mark::Other,
    }
}
