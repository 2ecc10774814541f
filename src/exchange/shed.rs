//! What is given up first when the server runs out of memory or of room in the spool: the one order of priority, from
//! its end. Control and money are never shed.

use super::job::Priority;
use std::sync::atomic::{AtomicU8, Ordering};

/// How hard it presses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// All is done.
    #[default]
    None,
    /// From 80 % of a budget: no discovery, no back-fill.
    Some,
    /// From 95 %: no ordinary schedules either.
    High,
    /// Nothing is left: what nobody pays for or is cut off by waits, too.
    Extreme,
}

impl Pressure {
    /// Every level, the lowest first.
    pub const ALL: [Self; 4] = [Self::None, Self::Some, Self::High, Self::Extreme];

    /// Of a budget that is used so far.
    pub fn of(used: u64, budget: u64) -> Self {
        let percent = used.saturating_mul(100) / budget.max(1);
        match percent {
            0..80 => Self::None,
            80..95 => Self::Some,
            95..100 => Self::High,
            _ => Self::Extreme,
        }
    }

    /// Whether work of this priority is still done.
    pub fn admits(self, priority: Priority) -> bool {
        let last = match self {
            Self::None => Priority::Discovery,
            Self::Some => Priority::Scheduled,
            Self::High => Priority::Settlement,
            Self::Extreme => Priority::Money,
        };
        priority <= last
    }

    /// The name in metrics and the health.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Some => "some",
            Self::High => "high",
            Self::Extreme => "extreme",
        }
    }
}

/// The pressure of now, shared by who measures it and who sheds.
#[derive(Debug, Default)]
pub struct PressureGauge(AtomicU8);

impl PressureGauge {
    /// The level now.
    pub fn now(&self) -> Pressure {
        let level = usize::from(self.0.load(Ordering::Relaxed));
        Pressure::ALL.get(level).copied().unwrap_or(Pressure::Extreme)
    }

    /// Sets it; what it was.
    pub fn set(&self, pressure: Pressure) -> Pressure {
        let level = self.0.swap(pressure as u8, Ordering::Relaxed);
        Pressure::ALL.get(usize::from(level)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: [Priority; 7] = [
        Priority::Control,
        Priority::Money,
        Priority::OnDemand,
        Priority::Settlement,
        Priority::Scheduled,
        Priority::BackFill,
        Priority::Discovery,
    ];

    /// Promise 18: one order, for the line and for shedding.
    #[test]
    fn what_is_shed_is_always_the_end_of_the_order() {
        assert!(ORDER.is_sorted());
        let kept: Vec<usize> = Pressure::ALL
            .iter()
            .map(|pressure| {
                let kept = ORDER.iter().take_while(|priority| pressure.admits(**priority)).count();
                assert!(!ORDER.iter().skip(kept).any(|priority| pressure.admits(*priority)));
                kept
            })
            .collect();
        assert_eq!(kept, [7, 5, 4, 2]);
    }

    #[test]
    fn the_pressure_follows_the_budget() {
        let of = |used| Pressure::of(used, 1000);
        assert_eq!([0, 799, 800, 949, 950, 999, 1000, 5000].map(of), {
            use Pressure::*;
            [None, None, Some, Some, High, High, Extreme, Extreme]
        });
        assert_eq!(Pressure::of(5, 0), Pressure::Extreme);
        let gauge = PressureGauge::default();
        assert_eq!(gauge.set(Pressure::High), Pressure::None);
        assert_eq!(gauge.now(), Pressure::High);
    }
}
