//! What a shard knows of the line of one of its DTUs: its meters as they behave, and what their schedules ask of it.

use super::*;
use crate::actor::messages::{GetLine, LineOfDtu};
use crate::actor::meter::{byte_time_of, wants_of};
use crate::device::model::{Folder, MeterModel};
use crate::device::plan::plan;
use crate::domain::quantity::Quantity;
use crate::exchange::feasible::{LoadOfMeter, TURNAROUND_GUESS, visit_time};
use crate::port::fleet::MeterOnLine;
use crate::protocol::Protocol;

/// What a meter's schedules ask of its line, by what a visit for some quantities takes.
fn load_of(record: &MeterRecord, plan: SlotPlan, takes: impl Fn(&[Quantity]) -> Duration) -> LoadOfMeter {
    let rules = record.schedules.iter().flat_map(|applied| applied.rules.iter());
    // in the order in which compiled rules keep them
    let mut sets: Vec<Vec<Quantity>> = rules
        .map(|rule| {
            let mut wanted = rule.quantities.clone();
            wanted.sort_unstable();
            wanted.dedup();
            wanted
        })
        .collect();
    sets.push(Vec::new());
    sets.sort_unstable();
    sets.dedup();
    let visits = sets.into_iter().map(|wanted| {
        let takes = takes(&wanted);
        (wanted, takes)
    });
    LoadOfMeter {
        meter: record.id,
        plan,
        visits: visits.collect(),
    }
}

/// What the schedules behind a DTU ask of its line as far as that is known before anything was learned of its meters;
/// meters without a model are left out.
pub fn expected_loads(dtu: &DtuRecord, catalogue: &Catalogue, shelf: &mut RuleShelf) -> Vec<LoadOfMeter> {
    let mut loads = Vec::new();
    for record in &dtu.meters {
        let model = Protocol::by_name(&record.protocol).and_then(|protocol| catalogue.get(protocol, &record.model));
        // a concentrator has no line of ours
        let Some(model) = model.filter(|model| model.folder != Folder::Gdw376) else {
            continue;
        };
        let (_, pause) = wants_of(Some(dtu), model);
        let takes = |wanted: &[Quantity]| {
            let planned = plan(model, &record.address, wanted).unwrap_or_default();
            visit_time(&planned, byte_time_of(Some(dtu), model), TURNAROUND_GUESS, pause, None)
        };
        let (slots, _faults) = SlotPlan::compile(&record.schedules, shelf);
        loads.push(load_of(record, slots, takes));
    }
    loads
}

impl Shard {
    fn line(&self, dtu: DtuId) -> Option<LineOfDtu> {
        let cell = self.dtus.get(&dtu)?;
        let now = self.parts.clock.now();
        let cells = cell.record.meters.iter().filter_map(|meter| self.meters.get(&meter.id));
        let mut line = LineOfDtu {
            meters: Vec::new(),
            loads: Vec::new(),
            now,
        };
        for meter in cells {
            let model = Protocol::by_name(&meter.record.protocol)
                .and_then(|protocol| self.parts.catalogue.get(protocol, &meter.record.model));
            let load = model.map(|model| self.load(&cell.record, meter, model));
            let all = load
                .as_ref()
                .and_then(|load| load.visits.first())
                .map(|(_, takes)| *takes);
            line.meters
                .push(self.on_line(&cell.record, meter, model.map(|model| &**model), all, now));
            line.loads.extend(load);
        }
        Some(line)
    }

    fn load(&self, dtu: &DtuRecord, meter: &MeterCell, model: &MeterModel) -> LoadOfMeter {
        let (life, record) = (&meter.life, &meter.record);
        let (habit, refused) = (life.habit.borrow(), life.refused.borrow());
        let (_, pause) = wants_of(Some(dtu), model);
        let takes = |wanted: &[Quantity]| {
            let planned = plan(model, &record.address, wanted).unwrap_or_default();
            visit_time(
                &refused.plan(model, planned),
                byte_time_of(Some(dtu), model),
                habit.turnaround().unwrap_or(TURNAROUND_GUESS),
                habit.pause(pause),
                habit.answer_bytes(),
            )
        };
        load_of(record, self.parts.plan(record), takes)
    }

    fn on_line(
        &self,
        dtu: &DtuRecord,
        meter: &MeterCell,
        model: Option<&MeterModel>,
        visit: Option<Duration>,
        now: DateTime<Utc>,
    ) -> MeterOnLine {
        let life = &meter.life;
        let (habit, agenda) = (life.habit.borrow(), life.agenda.borrow());
        let (configured, pause) = model.map_or(
            (Duration::from_millis(dtu.timeout_ms.into()), Duration::ZERO),
            |model| wants_of(Some(dtu), model),
        );
        let timeout = habit.timeout(configured);
        MeterOnLine {
            meter: meter.record.id,
            breaker_open: agenda.breaker().is_open(),
            probe_at: agenda.breaker().probe_at(),
            timeout,
            timeout_learned: timeout > configured,
            turnaround: habit.turnaround(),
            rest: habit.pause(pause),
            share: habit.share(now),
            visit,
            clock: life.clock.get().drift(),
        }
    }
}

impl Handler<GetLine> for Shard {
    type Result = MessageResult<GetLine>;

    fn handle(&mut self, GetLine(dtu): GetLine, _ctx: &mut Self::Context) -> Self::Result {
        MessageResult(self.line(dtu))
    }
}
