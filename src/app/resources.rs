//! What the host gives to the process and how it is shared out: descriptors between ports, memory against its budget;
//! and from both memory and spool the pressure by which load is shed.

use crate::config::Config;
use crate::exchange::shed::{Pressure, PressureGauge};
use crate::port::readiness::{Readiness, ReadinessCheck};
use crate::spool::{SpoolHandle, SpoolState};
use crate::telemetry::actor::{MEMORY, MEMORY_BUDGET, PressureChanged};
use async_trait::async_trait;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Of what the host or the control group has, where no budget is set.
const SHARE_PERCENT: u64 = 75;

/// Sockets of the two kinds of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// At the device ports.
    pub devices: usize,
    /// At the API.
    pub http: usize,
}

/// Raises the soft limit of descriptors to the hard one, then gives each port what the configuration wants; where that
/// is more than there is, each gets its part of it. The reserved ones are left to files and the database.
pub fn share_sockets(config: &Config) -> Sockets {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of descriptors cannot be raised");
    }
    let shared = share(
        getrlimit(Resource::Nofile).current,
        config.limits.reserved_descriptors,
        config.limits.connections_max,
        config.http.connections_max,
    );
    if shared.devices < config.limits.connections_max || shared.http < config.http.connections_max {
        tracing::warn!(
            devices = shared.devices,
            http = shared.http,
            descriptors = limit.maximum,
            "fewer connections than configured: raise the limit of open files (LimitNOFILE)"
        );
    }
    shared
}

fn share(limit: Option<u64>, reserved: u64, devices: usize, http: usize) -> Sockets {
    let Some(limit) = limit else {
        return Sockets { devices, http };
    };
    // under a tiny limit the ports still get half of it
    let left = limit.saturating_sub(reserved).max(limit / 2);
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let wanted = wide(devices).saturating_add(wide(http)).max(1);
    let part = |count: usize| {
        let part = u128::from(wide(count)) * u128::from(left) / u128::from(wanted);
        count.min(usize::try_from(part).unwrap_or(usize::MAX)).max(1)
    };
    Sockets {
        devices: part(devices),
        http: part(http),
    }
}

/// The bytes that the process may take: as configured, else three quarters of what its control group or its host has.
pub fn memory_budget(config: &Config) -> u64 {
    if config.limits.memory_bytes > 0 {
        return config.limits.memory_bytes;
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let group = read("/sys/fs/cgroup/memory.max").trim().parse::<u64>().ok();
    let host = kilobytes(&read("/proc/meminfo"), "MemTotal:");
    let have = [group, host].into_iter().flatten().min().unwrap_or(4 << 30);
    have / 100 * SHARE_PERCENT
}

/// Resident memory of this process, bytes.
fn resident() -> Option<u64> {
    kilobytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let count: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(count.saturating_mul(1024))
}

fn of_spool(state: SpoolState) -> Pressure {
    match state {
        SpoolState::Normal | SpoolState::Closed => Pressure::None,
        SpoolState::High => Pressure::Some,
        SpoolState::Critical => Pressure::High,
        SpoolState::Full | SpoolState::Failed => Pressure::Extreme,
    }
}

/// Measures, and says what is short.
pub struct Load {
    gauge: Arc<PressureGauge>,
    spool: SpoolHandle,
    budget: u64,
    short: Arc<Mutex<String>>,
}

impl Load {
    /// Of this process and this spool.
    pub fn new(gauge: Arc<PressureGauge>, spool: SpoolHandle, budget: u64) -> Self {
        MEMORY_BUDGET.set(i64::try_from(budget).unwrap_or(i64::MAX));
        Self {
            gauge,
            spool,
            budget,
            short: Arc::default(),
        }
    }

    /// What sheds by it looks here.
    pub fn gauge(&self) -> Arc<PressureGauge> {
        Arc::clone(&self.gauge)
    }

    /// What `/readyz` asks.
    pub fn check(&self) -> LoadCheck {
        LoadCheck {
            gauge: Arc::clone(&self.gauge),
            short: Arc::clone(&self.short),
        }
    }

    /// Measures until it is dropped.
    pub async fn watch(self) {
        loop {
            self.measure();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn measure(&self) {
        let used = resident().unwrap_or_default();
        MEMORY.set(i64::try_from(used).unwrap_or(i64::MAX));
        let (memory, spool) = (Pressure::of(used, self.budget), of_spool(self.spool.state()));
        let pressure = memory.max(spool);
        if self.gauge.set(pressure) == pressure {
            return;
        }
        let detail = if pressure == Pressure::None {
            String::new()
        } else if memory >= spool {
            format!("{used} of {} bytes of memory are used", self.budget)
        } else {
            format!("the spool is {}", self.spool.state().as_str())
        };
        PressureChanged {
            level: pressure.as_str(),
            detail: &detail,
        }
        .emit();
        *self.short.lock().unwrap_or_else(PoisonError::into_inner) = detail;
    }
}

/// Whether all polls are made.
pub struct LoadCheck {
    gauge: Arc<PressureGauge>,
    short: Arc<Mutex<String>>,
}

#[async_trait]
impl ReadinessCheck for LoadCheck {
    fn name(&self) -> &'static str {
        "load"
    }

    async fn check(&self) -> Readiness {
        let what = match self.gauge.now() {
            Pressure::None => return Readiness::Ready,
            Pressure::Some => "no back-fill and no discovery",
            Pressure::High => "no ordinary schedules, no back-fill, no discovery",
            Pressure::Extreme => "only control and money",
        };
        let short = self.short.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Readiness::Degraded(format!("{short}: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_get_what_they_want_or_their_part_of_it() {
        let of = |limit, devices, http| share(limit, 200, devices, http);
        assert_eq!(
            of(Some(65_536), 16_000, 6_000),
            Sockets {
                devices: 16_000,
                http: 6_000
            }
        );
        assert_eq!(
            of(None, 16_000, 6_000),
            Sockets {
                devices: 16_000,
                http: 6_000
            }
        );
        let scarce = of(Some(20_000), 16_000, 6_000);
        assert_eq!(
            scarce,
            Sockets {
                devices: 14_400,
                http: 5_400
            }
        );
        let tiny = of(Some(256), 16_000, 6_000);
        assert!(tiny.devices + tiny.http <= 128 && tiny.http > 30, "{tiny:?}");
    }

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        assert_eq!(kilobytes("Name:\tx\nVmRSS:\t  12345 kB\n", "VmRSS:"), Some(12_641_280));
        assert_eq!(kilobytes("VmSize: 1 kB", "VmRSS:"), None);
        assert!(resident().is_some_and(|bytes| bytes > 100_000));
    }
}
