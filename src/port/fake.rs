//! Stand-ins for the running front end and the frame recorder, for tests of the rooms above: they do what they are told
//! and remember what they were asked.

use crate::base::ids::CommandId;
use crate::base::ids::{AccountId, DtuId, FrameId, MeterId};
use crate::domain::command::State;
use crate::domain::parameter::Parameter;
use crate::domain::quantity::Quantity;
use crate::domain::reading::Reading;
use crate::port::control::{Admitted, CommandRequest, Control, ControlError, Decision, Stop};
use crate::port::fleet::{DtuLive, Fleet, FleetCounts, LineState, QuarantineEntry, ReadFailure};
use crate::port::frames::{FrameExplainer, FrameLog, FrameLogError, RawFrame, RecordedFrame};
use crate::port::live::{LiveFeed, Topic};
use crate::port::scan::{FoundMeter, ScanFailure, ScanPlan, ScanProgress, ScanTeller, WrittenPlace};
use crate::port::scope::{Actor, Scope};
use async_trait::async_trait;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A front end without sockets.
#[derive(Debug, Default)]
pub struct FakeFleet {
    state: Mutex<FleetState>,
}

#[derive(Debug, Default)]
struct FleetState {
    live: HashMap<DtuId, DtuLive>,
    quarantine: Vec<QuarantineEntry>,
    readings: HashMap<MeterId, Result<Reading, ReadFailure>>,
    reloads: Vec<Option<DtuId>>,
    reads: Vec<(MeterId, Vec<Quantity>)>,
    counts: FleetCounts,
    found: Vec<FoundMeter>,
    written: Vec<WrittenPlace>,
    settings: Vec<Parameter>,
    plans: Vec<ScanPlan>,
    lines: HashMap<DtuId, LineState>,
}

impl FakeFleet {
    fn lock(&self) -> MutexGuard<'_, FleetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the DTU is in this state.
    pub fn set_live(&self, dtu: DtuId, live: DtuLive) {
        self.lock().live.insert(dtu, live);
    }

    /// From now on this waits at the port.
    pub fn set_quarantine(&self, entries: Vec<QuarantineEntry>) {
        self.lock().quarantine = entries;
    }

    /// From now on reads of the meter end so.
    pub fn set_reading(&self, meter: MeterId, outcome: Result<Reading, ReadFailure>) {
        self.lock().readings.insert(meter, outcome);
    }

    /// From now on this is the DTU's line.
    pub fn set_line(&self, dtu: DtuId, line: LineState) {
        self.lock().lines.insert(dtu, line);
    }

    /// From now on these are the counts.
    pub fn set_counts(&self, counts: FleetCounts) {
        self.lock().counts = counts;
    }

    /// From now on a scan finds these.
    pub fn set_found(&self, found: Vec<FoundMeter>) {
        self.lock().found = found;
    }

    /// What scans say of what they wrote from now on.
    pub fn set_written(&self, written: Vec<WrittenPlace>) {
        self.lock().written = written;
    }

    /// What terminals say of their settings from now on.
    pub fn set_settings(&self, settings: Vec<Parameter>) {
        self.lock().settings = settings;
    }

    /// What was scanned since the last call.
    pub fn take_plans(&self) -> Vec<ScanPlan> {
        std::mem::take(&mut self.lock().plans)
    }

    /// What was loaded anew since the last call: DTUs, or none for all.
    pub fn take_reloads(&self) -> Vec<Option<DtuId>> {
        std::mem::take(&mut self.lock().reloads)
    }

    /// What was read since the last call.
    pub fn take_reads(&self) -> Vec<(MeterId, Vec<Quantity>)> {
        std::mem::take(&mut self.lock().reads)
    }
}

#[async_trait]
impl Fleet for FakeFleet {
    async fn live(&self, dtus: &[DtuId]) -> Vec<DtuLive> {
        let offline = DtuLive {
            online: false,
            since: None,
            session: None,
            peer: None,
            stats: None,
            clone_suspected: false,
            banned_until: None,
        };
        let state = self.lock();
        dtus.iter()
            .map(|dtu| state.live.get(dtu).unwrap_or(&offline).clone())
            .collect()
    }

    async fn quarantine(&self) -> Vec<QuarantineEntry> {
        self.lock().quarantine.clone()
    }

    async fn reload(&self, dtu: DtuId) {
        self.lock().reloads.push(Some(dtu));
    }

    async fn reload_all(&self) {
        self.lock().reloads.push(None);
    }

    async fn read(
        &self,
        meter: MeterId,
        quantities: Vec<Quantity>,
        _deadline: Duration,
    ) -> Result<Reading, ReadFailure> {
        let mut state = self.lock();
        state.reads.push((meter, quantities));
        state
            .readings
            .get(&meter)
            .cloned()
            .unwrap_or(Err(ReadFailure::UnknownMeter))
    }

    async fn scan(&self, _dtu: DtuId, plan: ScanPlan, tell: ScanTeller) -> Result<(), ScanFailure> {
        let (found, written, settings) = {
            let mut state = self.lock();
            let written = if plan.writes.is_empty() {
                Vec::new()
            } else {
                state.written.clone()
            };
            state.plans.push(plan);
            (state.found.clone(), written, state.settings.clone())
        };
        tell(ScanProgress {
            asked: 1,
            found,
            written,
            settings,
            ..ScanProgress::default()
        });
        Ok(())
    }

    async fn line(&self, dtu: DtuId) -> Option<LineState> {
        self.lock().lines.get(&dtu).cloned()
    }

    async fn counts(&self, _account: Option<AccountId>) -> FleetCounts {
        self.lock().counts.clone()
    }
}

/// A feed to which nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unheard;

impl LiveFeed for Unheard {
    fn publish(&self, _: AccountId, _: Topic, _: Option<DtuId>, _: Option<MeterId>, _: serde_json::Value) {}
}

/// A recorder's ring in memory.
#[derive(Debug, Default)]
pub struct FakeFrameLog {
    frames: Mutex<Vec<RecordedFrame>>,
}

impl FakeFrameLog {
    /// Keeps a frame.
    pub fn add(&self, frame: RecordedFrame) {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
    }
}

impl FrameLog for FakeFrameLog {
    fn walk(
        &self,
        dtu: DtuId,
        before: Option<FrameId>,
        each: &mut dyn FnMut(RecordedFrame) -> ControlFlow<()>,
    ) -> Result<(), FrameLogError> {
        let mut found: Vec<RecordedFrame> = self
            .frames
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|kept| kept.frame.dtu == Some(dtu) && before.is_none_or(|before| kept.id < before))
            .cloned()
            .collect();
        found.sort_by_key(|kept| std::cmp::Reverse(kept.id));
        for frame in found {
            if each(frame).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn get(&self, id: FrameId) -> Result<Option<RecordedFrame>, FrameLogError> {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(frames.iter().find(|kept| kept.id == id).cloned())
    }
}

/// Explains every frame by its length.
#[derive(Clone, Copy, Debug, Default)]
pub struct FakeExplainer;

impl FrameExplainer for FakeExplainer {
    fn explain(&self, frame: &RawFrame) -> serde_json::Value {
        serde_json::json!({"protocol": frame.protocol, "length": frame.bytes.len()})
    }
}

/// A desk that is closed: it refuses everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClosedDesk;

#[async_trait]
impl Control for ClosedDesk {
    async fn request(&self, _scope: Scope, _request: CommandRequest) -> Result<Admitted, ControlError> {
        Err(ControlError::Disabled)
    }

    async fn decide(
        &self,
        _scope: Scope,
        _command: CommandId,
        _decision: Decision,
        _digest: Option<String>,
    ) -> Result<State, ControlError> {
        Err(ControlError::Disabled)
    }

    async fn stop(&self, _account: Option<AccountId>, _actor: Actor, _reason: String) -> Result<(), ControlError> {
        Err(ControlError::Disabled)
    }

    async fn resume(&self, _account: Option<AccountId>, _actor: Actor) -> Result<bool, ControlError> {
        Err(ControlError::Disabled)
    }

    async fn stops(&self, _account: Option<AccountId>) -> Vec<Stop> {
        Vec::new()
    }
}
