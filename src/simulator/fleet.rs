//! A fleet of virtual DTUs: who is in it, and how it is started. Repeatable by its seed.

use crate::base::clock::Clock;
use crate::simulator::dtu::{FleetStats, Registration, SimDtu};
use crate::simulator::faults::{Dice, Faults};
use crate::simulator::meter::Mould;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What a fleet looks like.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    /// How many DTUs.
    pub dtus: usize,
    /// Meters behind each, 1 to 247.
    pub meters: u8,
    /// Prefix of serial numbers; the number follows with six digits.
    pub prefix: String,
    /// The seed.
    pub seed: u64,
    /// How they register.
    pub registration: Registration,
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// Line speed; 0: no line time.
    pub baud: u32,
    /// What goes wrong.
    pub faults: Faults,
}

impl FleetPlan {
    /// The serial number of the DTU at `index`.
    pub fn sn(&self, index: usize) -> String {
        match self.registration {
            Registration::Ddp => format!("139{:08}", index + 1),
            _ => format!("{}{:06}", self.prefix, index + 1),
        }
    }

    /// The mould of the meter at `unit` behind any DTU: moulds take turns.
    pub fn mould(unit: u8, moulds: &[Mould]) -> Option<&Mould> {
        moulds.get(usize::from(unit).checked_rem(moulds.len())?)
    }

    fn dtu(&self, index: usize, moulds: &[Mould]) -> SimDtu {
        let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(index as u64);
        let mut dice = Dice::new(seed ^ 0xA5A5);
        let meters = (1..=self.meters)
            .filter_map(|unit| {
                let mute = dice.chance(self.faults.mute);
                let seed = seed.wrapping_mul(257).wrapping_add(unit.into());
                // drawn only where it is wanted, so that other fleets stay as they were
                let odd = (self.faults.quirks > 0.0 && dice.chance(self.faults.quirks)).then(|| dice.roll());
                Some(Self::mould(unit, moulds)?.meter(index, unit, seed, mute, odd))
            })
            .collect();
        SimDtu {
            sn: self.sn(index),
            registration: self.registration,
            heartbeat: self.heartbeat,
            baud: self.baud,
            faults: self.faults.clone(),
            seed,
            meters,
        }
    }

    /// Starts every DTU, a few hundred a second, on the current runtime. Dropping the set ends them.
    pub async fn start(
        &self,
        server: &str,
        moulds: &[Mould],
        clock: &Arc<dyn Clock>,
        stats: &Arc<FleetStats>,
    ) -> JoinSet<()> {
        let mut set = JoinSet::new();
        for index in 0..self.dtus {
            let dtu = Arc::new(self.dtu(index, moulds));
            set.spawn(dtu.run(server.to_owned(), Arc::clone(clock), Arc::clone(stats)));
            if index % 10 == 9 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        set
    }
}
