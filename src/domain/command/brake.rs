//! The brake: how many supplies may be taken away over time, per account, in all and per DTU, whoever asks for it and
//! however it was approved by one person. A sliding-window count over the trips that were permitted; what exceeds it is
//! held for two people. Reconnects are never counted.

use crate::base::ids::{AccountId, DtuId};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A permitted trip begins on the line within this time or never. The windows are longer by it, so that the limits hold
/// for the frames on the lines as well as for the permits.
pub const PERMIT_LIFE: TimeDelta = TimeDelta::seconds(20);

/// The limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrakeLimits {
    /// Trips of one account in a window.
    pub account: u32,
    /// Trips in all in a window.
    pub total: u32,
    /// The window.
    pub window: TimeDelta,
    /// Share of one DTU's meters in its own window, percent; one meter may always be tripped.
    pub dtu_percent: u32,
    /// That window.
    pub dtu_window: TimeDelta,
}

impl Default for BrakeLimits {
    fn default() -> Self {
        Self {
            account: 20,
            total: 50,
            window: TimeDelta::minutes(10),
            dtu_percent: 30,
            dtu_window: TimeDelta::hours(1),
        }
    }
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrakeLimit {
    /// The account's.
    Account,
    /// That over all accounts.
    Total,
    /// The DTU's.
    Dtu,
}

/// A trip that was permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// When.
    pub at: DateTime<Utc>,
    /// Whose meter.
    pub account: AccountId,
    /// Behind which DTU.
    pub dtu: DtuId,
}

/// Where the next trip would happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Whose meter.
    pub account: AccountId,
    /// The account's own, tighter limit, if it set one.
    pub account_limit: Option<u32>,
    /// Behind which DTU.
    pub dtu: DtuId,
    /// How many meters that DTU has.
    pub dtu_meters: usize,
}

/// The count. Bounded: it holds the trips of the longer window, which the limits themselves bound but for those that
/// two people released.
#[derive(Clone, Debug, Default)]
pub struct Brake {
    limits: BrakeLimits,
    trips: VecDeque<Trip>,
}

impl Brake {
    /// Takes up the trips of an earlier process.
    pub fn resume(limits: BrakeLimits, mut trips: Vec<Trip>) -> Self {
        trips.sort_by_key(|trip| trip.at);
        Self {
            limits,
            trips: trips.into(),
        }
    }

    /// How far back trips matter: what a new process has to load.
    pub fn horizon(limits: &BrakeLimits) -> TimeDelta {
        limits.window.max(limits.dtu_window) + PERMIT_LIFE
    }

    /// The limit that one more trip would exceed, `planned` trips that are about to happen counted in.
    pub fn exceeded(&self, now: DateTime<Utc>, spot: Spot, planned: &[Trip]) -> Option<BrakeLimit> {
        let window = self.limits.window + PERMIT_LIFE;
        let dtu_window = self.limits.dtu_window + PERMIT_LIFE;
        let (mut account, mut total, mut dtu) = (0u32, 0u32, 0u32);
        for trip in self.trips.iter().chain(planned) {
            let age = now - trip.at;
            if age < window {
                total += 1;
                account += u32::from(trip.account == spot.account);
            }
            dtu += u32::from(trip.dtu == spot.dtu && age < dtu_window);
        }
        let own = spot
            .account_limit
            .map_or(self.limits.account, |own| own.min(self.limits.account));
        if total >= self.limits.total {
            Some(BrakeLimit::Total)
        } else if account >= own {
            Some(BrakeLimit::Account)
        } else if dtu >= self.of_dtu(spot.dtu_meters) {
            Some(BrakeLimit::Dtu)
        } else {
            None
        }
    }

    fn of_dtu(&self, meters: usize) -> u32 {
        let share = u64::try_from(meters)
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(self.limits.dtu_percent))
            / 100;
        u32::try_from(share).unwrap_or(u32::MAX).max(1)
    }

    /// Counts a trip that is permitted now.
    pub fn count(&mut self, trip: Trip) {
        let horizon = trip.at - Self::horizon(&self.limits);
        while self.trips.front().is_some_and(|old| old.at < horizon) {
            self.trips.pop_front();
        }
        self.trips.push_back(trip);
    }

    /// Takes a trip back whose step to `sent` was not taken after all.
    pub fn take_back(&mut self, trip: Trip) {
        if let Some(place) = self.trips.iter().rposition(|counted| *counted == trip) {
            self.trips.remove(place);
        }
    }

    /// Trips within the shorter window, for the metric.
    pub fn in_window(&self, now: DateTime<Utc>) -> usize {
        let window = self.limits.window + PERMIT_LIFE;
        self.trips.iter().filter(|trip| now - trip.at < window).count()
    }

    /// The limits.
    pub fn limits(&self) -> &BrakeLimits {
        &self.limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 + seconds, 0).unwrap()
    }

    fn spot(account: i32, dtu: i32, meters: usize) -> Spot {
        Spot {
            account: AccountId(account),
            account_limit: None,
            dtu: DtuId(dtu),
            dtu_meters: meters,
        }
    }

    fn try_one(brake: &mut Brake, now: DateTime<Utc>, spot: Spot) -> Option<BrakeLimit> {
        let exceeded = brake.exceeded(now, spot, &[]);
        if exceeded.is_none() {
            brake.count(Trip {
                at: now,
                account: spot.account,
                dtu: spot.dtu,
            });
        }
        exceeded
    }

    #[test]
    fn the_defaults_are_those_of_the_promise() {
        let mut brake = Brake::default();
        let passed = (0..100).filter(|dtu| try_one(&mut brake, at(0), spot(1, *dtu, 10)).is_none());
        assert_eq!(passed.count(), 20);
        assert_eq!(brake.exceeded(at(1), spot(1, 500, 10), &[]), Some(BrakeLimit::Account));
        let passed = (0..100).filter(|n| try_one(&mut brake, at(1), spot(2 + n % 9, 600 + n, 10)).is_none());
        assert_eq!(passed.count(), 30);
        assert_eq!(brake.exceeded(at(2), spot(77, 999, 10), &[]), Some(BrakeLimit::Total));
        assert_eq!(brake.exceeded(at(600 + 21), spot(77, 999, 10), &[]), None);
    }

    #[test]
    fn a_dtu_keeps_most_of_its_meters_for_an_hour() {
        let mut brake = Brake::default();
        let passed = (0..10).filter(|_| try_one(&mut brake, at(0), spot(1, 7, 10)).is_none());
        assert_eq!(passed.count(), 3);
        assert_eq!(brake.exceeded(at(3600), spot(1, 7, 10), &[]), Some(BrakeLimit::Dtu));
        assert_eq!(brake.exceeded(at(3620), spot(1, 7, 10), &[]), None);
        // a DTU with one meter is not beyond reach
        assert_eq!(brake.exceeded(at(0), spot(1, 8, 1), &[]), None);
    }

    #[test]
    fn an_account_can_tighten_its_limit_and_not_widen_it() {
        let mut brake = Brake::default();
        let own = |limit| Spot {
            account_limit: Some(limit),
            ..spot(1, 1, 100)
        };
        assert_eq!(try_one(&mut brake, at(0), own(1)), None);
        assert_eq!(brake.exceeded(at(0), own(1), &[]), Some(BrakeLimit::Account));
        for dtu in 2..21 {
            assert_eq!(try_one(&mut brake, at(0), spot(1, dtu, 100)), None);
        }
        assert_eq!(
            brake.exceeded(
                at(0),
                Spot {
                    account_limit: Some(1000),
                    ..spot(1, 99, 100)
                },
                &[]
            ),
            Some(BrakeLimit::Account)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is tried when, and whenever the process is started anew: no window ever holds more.
        #[test]
        fn no_window_holds_more_than_the_limits(
            tries in proptest::collection::vec((0i64..90, 1i32..4, 0i32..6, any::<bool>()), 1..400),
        ) {
            let mut brake = Brake::default();
            let mut passed: Vec<Trip> = Vec::new();
            let mut now = 0;
            for (wait, account, dtu, restart) in tries {
                now += wait;
                if restart {
                    let since = at(now) - Brake::horizon(brake.limits());
                    let kept = passed.iter().filter(|trip| trip.at >= since).copied().collect();
                    brake = Brake::resume(BrakeLimits::default(), kept);
                }
                // a DTU belongs to one account
                let spot = spot(account, account * 10 + dtu, 10);
                if try_one(&mut brake, at(now), spot).is_none() {
                    passed.push(Trip { at: at(now), account: spot.account, dtu: spot.dtu });
                }
            }
            for first in &passed {
                let ends = first.at + TimeDelta::minutes(10);
                let inside: Vec<_> = passed.iter().filter(|trip| trip.at >= first.at && trip.at < ends).collect();
                prop_assert!(inside.len() <= 50);
                for account in 1..4 {
                    prop_assert!(inside.iter().filter(|trip| trip.account == AccountId(account)).count() <= 20);
                }
                let hour = first.at + TimeDelta::hours(1);
                let of_dtu = passed.iter().filter(|t| t.dtu == first.dtu && t.at >= first.at && t.at < hour).count();
                prop_assert!(of_dtu <= 3);
            }
        }
    }
}
