//! A line and the agendas of its meters on virtual time: what one dead meter costs its neighbours, and what a sweep of a
//! whole line costs beside the bytes and turnarounds that it takes.

use super::Moment;
use super::agenda::{Action, Agenda, Failure, Got, PollOrder, PollVerdict};
use super::job::{PollJob, Priority, TransactionError, byte_time};
use super::line::{Line, LineEvent, LineSettings};
use super::visit::{Ticket, VisitOutcome};
use crate::base::ids::{AccountId, MeterId, PollId, ScheduleId};
use crate::domain::device::{AppliedSchedule, MissedRun, RetryPolicy, ScheduleRule};
use crate::domain::slot::plan::{RuleShelf, SlotPlan};
use crate::domain::slot::{MissReason, SlotState};
use crate::protocol::dlt645::{self, Address, Di, Reply};
use crate::protocol::{Request, modbus};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn midnight() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap()
}

fn schedule(cron: &str, window_s: u32, deadline_s: u32) -> AppliedSchedule {
    let rule = ScheduleRule {
        window_s,
        retry: RetryPolicy {
            deadline_s,
            ..RetryPolicy::default()
        },
        missed_run: MissedRun::Skip,
        ..ScheduleRule::by_cron(cron, "UTC", midnight() - TimeDelta::days(1))
    };
    AppliedSchedule {
        schedule: ScheduleId(1),
        valid_from: rule.valid_from,
        valid_to: None,
        rules: Arc::new(vec![rule]),
    }
}

/// A meter of the simulated line.
struct Device {
    agenda: Agenda,
    questions: Vec<Request>,
    alive: bool,
    turnaround: Duration,
    actual: u64,
    missing: HashMap<MissReason, u64>,
}

/// A half-duplex line at a speed: bytes out, turnaround, bytes in; the answer arrives when its last byte is through.
struct Bus {
    start: Instant,
    now: Duration,
    line: Line,
    byte: Duration,
    timeout: Duration,
    pause: Duration,
    devices: Vec<Device>,
    open: HashMap<Ticket, (usize, Option<PollOrder>)>,
    arrivals: BTreeMap<Duration, Vec<u8>>,
    polls: i64,
    /// The least that what was asked can take.
    least: Duration,
    begun: Option<Duration>,
    ended: Duration,
}

impl Bus {
    fn new(baud: u32, pause: Duration, devices: Vec<Device>) -> Self {
        let start = Instant::now();
        let now = Moment {
            at: midnight(),
            on: start,
        };
        let mut line = Line::new(LineSettings::default(), now);
        line.set_pause(pause);
        Self {
            start,
            now: Duration::ZERO,
            line,
            byte: byte_time(baud, true, 1),
            timeout: Duration::from_secs(1),
            pause,
            devices,
            open: HashMap::new(),
            arrivals: BTreeMap::new(),
            polls: 0,
            least: Duration::ZERO,
            begun: None,
            ended: Duration::ZERO,
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            at: midnight() + TimeDelta::from_std(self.now).unwrap(),
            on: self.start + self.now,
        }
    }

    fn submit(&mut self, place: usize, order: Option<PollOrder>) {
        let now = self.moment();
        self.polls += 1;
        let left = order.as_ref().map_or(Duration::from_secs(600), |order| {
            (order.deadline - now.at).to_std().unwrap_or_default()
        });
        let job = PollJob {
            poll: PollId(self.polls),
            meter: MeterId(i32::try_from(place).unwrap()),
            priority: order.as_ref().map_or(Priority::Scheduled, |order| order.priority),
            requests: self.devices[place].questions.clone(),
            attempts: order.as_ref().map_or(3, |order| order.attempts),
            timeout: self.timeout,
            byte_time: self.byte,
            pause: self.pause,
            evidence: false,
            instead: Vec::new(),
            deadline: now.on + left,
            effect: None,
        };
        let ticket = self.line.submit(now, job).unwrap();
        self.open.insert(ticket, (place, order));
    }

    fn wake(&mut self, place: usize) {
        loop {
            let now = self.moment().at;
            match self.devices[place].agenda.wake(now, true) {
                Action::Poll(order) => self.submit(place, Some(order)),
                Action::End(ended) => self.book(place, &ended),
                Action::Sleep => return,
            }
        }
    }

    fn book(&mut self, place: usize, ended: &super::agenda::Ended) {
        let device = &mut self.devices[place];
        device.actual += u64::try_from(ended.by_reading.len()).unwrap();
        for ending in &ended.endings {
            match ending.state {
                SlotState::Actual => device.actual += 1,
                _ => *device.missing.entry(ending.reason.unwrap()).or_default() += 1,
            }
        }
        device.agenda.saved(ended);
    }

    fn settle(&mut self, ticket: Ticket, outcome: &VisitOutcome) {
        let (place, order) = self.open.remove(&ticket).unwrap();
        self.ended = self.now;
        let Some(order) = order else {
            assert!(
                outcome.reports.iter().all(|report| report.result.is_ok()),
                "{outcome:?}"
            );
            return;
        };
        let failure = outcome.reports.iter().find_map(|report| report.result.as_ref().err());
        let verdict = PollVerdict {
            began_at: outcome.began_at,
            attempts: outcome.reports.iter().map(|report| u16::from(report.attempts)).sum(),
            got: if failure.is_none() {
                Got::Everything
            } else {
                Got::Nothing
            },
            failure: failure.map(|error| {
                Failure::of(match error {
                    TransactionError::Timeout => MissReason::Timeout,
                    TransactionError::Deadline => MissReason::LineBusy,
                    other => panic!("{other}"),
                })
            }),
        };
        let now = self.moment().at;
        let settlement = self.devices[place].agenda.outcome(now, order.serial, verdict);
        self.book(place, &settlement.ended);
        self.wake(place);
    }

    fn ask(&mut self) {
        let now = self.moment();
        let Some(wire) = self.line.ask(now) else { return };
        self.line.written(now);
        self.begun.get_or_insert(self.now);
        let Some((place, answer)) = self.answer(&wire) else {
            return;
        };
        let takes = |bytes: usize| self.byte * u32::try_from(bytes).unwrap();
        let round = takes(wire.len()) + self.devices[place].turnaround + takes(answer.len());
        self.least += round;
        assert!(self.arrivals.insert(self.now + round, answer).is_none());
    }

    /// Who is asked, and what it says; none from a dead one.
    fn answer(&self, wire: &[u8]) -> Option<(usize, Vec<u8>)> {
        let asked = |device: &Device| device.questions.iter().position(|question| question.wire() == wire);
        let place = self.devices.iter().position(|device| asked(device).is_some())?;
        let device = &self.devices[place];
        let question = &device.questions[asked(device)?];
        // the same register says something new every time
        let stamp = u32::try_from(self.now.as_millis() % 100_000_000).unwrap();
        let frame = match question {
            Request::Modbus(request) => {
                let low = u16::try_from(stamp & 0xFFFF).unwrap();
                let registers = vec![low; usize::from(request.count())];
                request.reply_frame(&modbus::Reply::Registers(registers)).unwrap()
            }
            Request::Dlt645(request) => {
                let mut frame = vec![0xFE; 4];
                frame.extend(request.reply_frame(request.address(), &Reply::Data(stamp.to_le_bytes().to_vec())));
                frame
            }
            _ => return None,
        };
        device.alive.then_some((place, frame))
    }

    /// What is due first.
    fn step(&mut self) {
        let now = self.moment();
        self.line.tick(now);
        self.ask();
        while let Some(event) = self.line.event() {
            match event {
                LineEvent::Done { ticket, outcome } => self.settle(ticket, &outcome),
                LineEvent::Dead => panic!("its DTU speaks, yet the line is taken for dead"),
                _ => {}
            }
        }
        let due = self
            .line
            .next_deadline(now)
            .map(|at| at.saturating_duration_since(self.start));
        let heard = self.arrivals.first_key_value().map(|(at, _)| *at);
        let woken = self.devices.iter().filter_map(|device| device.agenda.next_wake()).min();
        let woken = woken.map(|at| (at - midnight()).to_std().unwrap_or_default());
        let Some(next) = [due, heard, woken].into_iter().flatten().min() else {
            return;
        };
        self.now = self.now.max(next);
        // a heartbeat now and then: the DTU lives
        self.line.peer_lives();
        if heard.is_some_and(|at| at <= self.now) {
            let (_, bytes) = self.arrivals.pop_first().unwrap();
            self.line.feed(self.moment(), &bytes, &[]);
        }
        for place in 0..self.devices.len() {
            let wants = self.devices[place].agenda.next_wake();
            if wants.is_some_and(|at| at <= self.moment().at) {
                self.wake(place);
            }
        }
    }
}

fn device(place: usize, questions: Vec<Request>, schedules: &[AppliedSchedule], from: DateTime<Utc>) -> Device {
    let plan = SlotPlan::compile(schedules, &mut RuleShelf::default()).0;
    Device {
        agenda: Agenda::new(AccountId(1), MeterId(i32::try_from(place).unwrap()), plan, from),
        questions,
        alive: true,
        turnaround: Duration::from_millis(40),
        actual: 0,
        missing: HashMap::new(),
    }
}

fn registers(unit: usize) -> Vec<Request> {
    let unit = u8::try_from(unit + 1).unwrap();
    let read = |address| modbus::Request::read(unit, modbus::Function::ReadHoldingRegisters, address, 10).unwrap();
    vec![Request::Modbus(read(0)), Request::Modbus(read(40))]
}

/// One dead meter of eight, all read every minute for a day: its neighbours keep their slots.
#[test]
fn one_dead_meter_of_eight_costs_its_neighbours_nothing() {
    let every_minute = [schedule("* * * * *", 30, 25)];
    let devices = (0..8).map(|place| device(place, registers(place), &every_minute, midnight()));
    let mut bus = Bus::new(9_600, Duration::from_millis(20), devices.collect());
    bus.devices[3].alive = false;
    while bus.now < Duration::from_secs(24 * 3_600) {
        bus.step();
    }
    let (mut slots, mut actual) = (0, 0);
    for (place, device) in bus.devices.iter().enumerate() {
        let missed: u64 = device.missing.values().sum();
        if place == 3 {
            assert_eq!(device.actual, 0);
            assert!(
                missed > 1_400 && device.missing[&MissReason::BreakerOpen] > 1_200,
                "{:?}",
                device.missing
            );
        } else {
            slots += device.actual + missed;
            actual += device.actual;
        }
    }
    println!("{actual} of {slots} slots of the live meters");
    assert!(slots >= 7 * 1_439);
    assert!(actual * 1_000 >= slots * 999, "{actual} of {slots}");
}

/// The line whose only meter is dead stays up as long as its DTU speaks, and the meter is read at once when it is back.
#[test]
fn a_line_whose_only_meter_is_dead_is_not_taken_for_dead() {
    let mut bus = Bus::new(
        9_600,
        Duration::ZERO,
        vec![device(0, registers(0), &[schedule("* * * * *", 30, 25)], midnight())],
    );
    bus.devices[0].alive = false;
    while bus.now < Duration::from_secs(24 * 3_600) {
        bus.step();
    }
    assert_eq!(bus.devices[0].actual, 0);
    bus.devices[0].alive = true;
    while bus.now < Duration::from_secs(25 * 3_600) {
        bus.step();
    }
    // the breaker waits a quarter of an hour at most
    assert!(bus.devices[0].actual >= 44, "{}", bus.devices[0].actual);
}

/// 32 DL/T 645 meters, four items each, at 2400 baud: the sweep takes little more than its bytes and turnarounds.
#[test]
fn a_sweep_of_32_meters_takes_a_tenth_more_than_its_bytes_at_most() {
    // the rests of the meters fall into the turns of others
    for (turnaround_ms, rest_ms) in [(20, 20), (60, 50), (250, 100)] {
        let items = ["00010000", "02010100", "02020100", "02030000"];
        let devices = (0..32).map(|place| {
            let address = Address::parse(&format!("{:012}", 112_233_000 + place)).unwrap();
            let read = |di: &&str| Request::Dlt645(dlt645::Request::read(address, Di::parse(di).unwrap()));
            let mut device = device(place, items.iter().map(read).collect(), &[], midnight());
            device.turnaround = Duration::from_millis(turnaround_ms);
            device
        });
        let mut bus = Bus::new(2_400, Duration::from_millis(20), devices.collect());
        bus.pause = Duration::from_millis(rest_ms);
        for place in 0..32 {
            bus.submit(place, None);
        }
        while !bus.open.is_empty() {
            bus.step();
        }
        let used = bus.ended - bus.begun.unwrap();
        let ratio = used.as_secs_f64() / bus.least.as_secs_f64();
        println!("{turnaround_ms} ms to answer: {used:?} for {:?}, {ratio:.3}", bus.least);
        assert!(ratio <= 1.1, "{ratio}");
    }
}
