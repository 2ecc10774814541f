//! What a simulated meter would measure: a load with a daily profile, and registers that are its integral.
//!
//! Everything is a function of the seed and of time, so that a run can be repeated and two runs agree: power is constant
//! within a quarter hour (day factor × profile × a factor of that quarter), energy is its exact integral since [`EPOCH`].

use chrono::{DateTime, Datelike, Duration, TimeZone, Timelike, Utc};
use rust_decimal::Decimal;
use std::sync::Mutex;

const QUARTERS: usize = 96;
const QUARTER_S: i64 = 900;
const DAY_S: i64 = 86_400;

/// A daily profile of a household in hundredths of its mean power, one value per hour, with its morning and evening peak.
const HOUSEHOLD: [u64; 24] = [
    55, 48, 44, 42, 42, 50, 80, 120, 125, 105, 95, 98, 110, 105, 95, 92, 100, 130, 165, 175, 160, 130, 95, 70,
];

/// What is measured at one instant, in canonical units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instant {
    /// Active power, W.
    pub power_w: f64,
    /// Reactive power, var.
    pub reactive_var: f64,
    /// Phase-to-neutral voltages, V.
    pub voltage_v: [f64; 3],
    /// Share of each phase in the load; sums to 1.
    pub share: [f64; 3],
    /// Power factor.
    pub power_factor: f64,
    /// Mains frequency, Hz.
    pub frequency_hz: f64,
    /// Imported active energy, kWh, three decimals.
    pub import_kwh: Decimal,
    /// Water volume of a meter of the same customer, m³, three decimals.
    pub volume_m3: Decimal,
    /// Flow, m³/h.
    pub flow_m3h: f64,
    /// Water temperature, °C.
    pub temperature_c: f64,
}

/// A customer's load.
#[derive(Debug)]
pub struct Load {
    seed: u64,
    phases: u8,
    mean_w: u64,
    /// Milliwatt-seconds up to the beginning of a day; the last one asked for.
    day_cache: Mutex<(i64, u128)>,
}

/// Registers count from here: 2024-01-01 00:00 UTC.
pub fn epoch() -> DateTime<Utc> {
    Utc.timestamp_opt(1_704_067_200, 0).single().unwrap_or_default()
}

/// A well-mixed hash of two numbers (splitmix64's finaliser).
fn mix(a: u64, b: u64) -> u64 {
    let mut z = a ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number of `0.0..1.0` for a seed and a step.
fn unit(seed: u64, step: u64) -> f64 {
    // 53 bits fit a float exactly
    (mix(seed, step) >> 11) as f64 / (1u64 << 53) as f64
}

impl Load {
    /// A load of this seed on one or three phases.
    pub fn new(seed: u64, phases: u8) -> Self {
        let mean_w = 250 + mix(seed, 1) % 900;
        Self {
            seed,
            phases,
            mean_w: mean_w * u64::from(phases.max(1)),
            day_cache: Mutex::new((0, 0)),
        }
    }

    /// Power in a quarter hour of a day, milliwatts.
    fn quarter_mw(&self, day: i64, quarter: usize) -> u64 {
        let profile = HOUSEHOLD.get(quarter / 4).copied().unwrap_or(100);
        let day = u64::try_from(day).unwrap_or(0);
        let day_factor = 80 + mix(self.seed, 1_000_000 + day) % 41;
        let step = day.wrapping_mul(QUARTERS as u64).wrapping_add(quarter as u64);
        let quarter_factor = 60 + mix(self.seed, 2_000_000_000 + step) % 81;
        // W × % × % × % = 10⁻⁶ W, so /10³ gives mW
        self.mean_w * profile * day_factor * quarter_factor / 1_000
    }

    fn day_mws(&self, day: i64) -> u128 {
        let seconds = u128::from(QUARTER_S.unsigned_abs());
        (0..QUARTERS)
            .map(|quarter| u128::from(self.quarter_mw(day, quarter)) * seconds)
            .sum()
    }

    /// Milliwatt-seconds from the epoch to `at`.
    fn energy_mws(&self, at: DateTime<Utc>) -> u128 {
        let ms = (at - epoch()).num_milliseconds().max(0);
        let (day, within_ms) = (ms / (DAY_S * 1000), ms % (DAY_S * 1000));
        let mut total = self.up_to_day(day);
        let quarter = usize::try_from(within_ms / (QUARTER_S * 1000)).unwrap_or(0);
        let seconds = u128::from(QUARTER_S.unsigned_abs());
        total += (0..quarter)
            .map(|quarter| u128::from(self.quarter_mw(day, quarter)) * seconds)
            .sum::<u128>();
        let rest_ms = u128::try_from(within_ms % (QUARTER_S * 1000)).unwrap_or(0);
        total + u128::from(self.quarter_mw(day, quarter)) * rest_ms / 1000
    }

    fn up_to_day(&self, day: i64) -> u128 {
        let mut cache = self.day_cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if cache.0 > day {
            *cache = (0, 0);
        }
        while cache.0 < day {
            cache.1 += self.day_mws(cache.0);
            cache.0 += 1;
        }
        cache.1
    }

    /// What a meter of this load shows at `at`.
    pub fn at(&self, at: DateTime<Utc>) -> Instant {
        let seconds = (at - epoch()).num_seconds().max(0);
        let quarter = usize::try_from(at.num_seconds_from_midnight() / 900).unwrap_or(0);
        let power_w = self.quarter_mw(seconds / DAY_S, quarter) as f64 / 1000.0;
        let step = u64::try_from(seconds / 5).unwrap_or(0);
        let power_factor = 0.90 + 0.09 * unit(self.seed, 77 + step / 180);
        let share = if self.phases >= 3 {
            let a = 0.25 + 0.2 * unit(self.seed, 5);
            let b = 0.25 + 0.2 * unit(self.seed, 6);
            [a, b, 1.0 - a - b]
        } else {
            [1.0, 0.0, 0.0]
        };
        let voltage = |phase: u64| 228.0 + 5.0 * unit(self.seed ^ phase, step) + unit(phase, step);
        let daily = 0.12 + 0.2 * unit(self.seed, 9);
        let volume = self.volume_m3(seconds, daily);
        Instant {
            power_w,
            reactive_var: power_w * (1.0 / (power_factor * power_factor) - 1.0).max(0.0).sqrt(),
            voltage_v: [voltage(1), voltage(2), voltage(3)],
            share,
            power_factor,
            frequency_hz: 49.98 + 0.04 * unit(42, step),
            import_kwh: self.import_kwh(at),
            volume_m3: volume,
            flow_m3h: daily / 24.0,
            temperature_c: 12.0 + 4.0 * (f64::from(at.ordinal()) / 58.1).sin(),
        }
    }

    /// Imported energy at `at`, kWh, cut to three decimals as a counter would.
    pub fn import_kwh(&self, at: DateTime<Utc>) -> Decimal {
        let start = Decimal::from(mix(self.seed, 3) % 50_000);
        // 1 Wh = 3.6·10⁶ mWs
        let wh = i64::try_from(self.energy_mws(at) / 3_600_000).unwrap_or(i64::MAX);
        start + Decimal::new(wh, 3)
    }

    fn volume_m3(&self, seconds: i64, daily_m3: f64) -> Decimal {
        let litres = (seconds as f64 * daily_m3 / 86.4).floor();
        Decimal::new(litres as i64, 3) + Decimal::from(mix(self.seed, 4) % 900)
    }
}

/// The first instant of the next quarter hour.
pub fn next_quarter(at: DateTime<Utc>) -> DateTime<Utc> {
    at + Duration::seconds(QUARTER_S - at.timestamp().rem_euclid(QUARTER_S))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rust_decimal::prelude::ToPrimitive;

    #[test]
    fn energy_is_the_integral_of_power() {
        let load = Load::new(7, 3);
        let from = epoch() + Duration::days(400) + Duration::seconds(1234);
        let to = from + Duration::days(2);
        // integrate the power that the meter showed, quarter by quarter
        let (mut at, mut wh) = (from, 0.0);
        while at < to {
            let next = next_quarter(at).min(to);
            wh += load.at(at).power_w * (next - at).num_milliseconds() as f64 / 3_600_000.0;
            at = next;
        }
        let counted = (load.import_kwh(to) - load.import_kwh(from)).to_f64().unwrap() * 1000.0;
        assert!((counted - wh).abs() <= 2.0, "{counted} against {wh}");
        assert!(wh > 1000.0);
    }

    #[test]
    fn a_seed_repeats_and_registers_never_go_back() {
        let (a, b) = (Load::new(5, 1), Load::new(5, 1));
        let mut last = Decimal::ZERO;
        for step in 0..2000 {
            let at = epoch() + Duration::seconds(700 * step);
            assert_eq!(a.at(at), b.at(at));
            assert!(a.import_kwh(at) >= last);
            last = a.import_kwh(at);
        }
        assert_ne!(a.import_kwh(epoch()), Load::new(6, 1).import_kwh(epoch()));
    }
}
