//! Meters behind terminals of DL/T 698.45: visits asked together, whatever the terminal says, each ended once and with
//! nothing that it did not ask for.

use crate::base::ids::{MeterId, PollId};
use crate::exchange::Moment;
use crate::exchange::job::{PollJob, Priority};
use crate::exchange::proxy::{Proxy, ProxyEvent, ProxySettings};
use crate::exchange::visit::Ticket;
use crate::input::{Input, piece};
use crate::protocol::dlt698::terminal::Device;
use crate::protocol::dlt698::{
    Address, Apdu, CLIENT, Control, Data, Frame, GetResult, ItemResult, Oad, Piid, Request, Table, Tsa, ValueResult,
    open,
};
use crate::protocol::{self, Finding, Verdict};
use crate::seeds::{Seeds, frames};
use chrono::{DateTime, TimeDelta};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const ENERGY: Oad = Oad::new(0x0010, 2);
const CURRENT: Oad = Oad::new(0x2001, 2);
/// Steps that a run takes at most; what is left then is ended.
const STEPS_MAX: usize = 2000;

fn terminal() -> Address {
    Address::parse("112233445566").expect("an address")
}

fn meter(number: u32) -> Address {
    Address::parse(&format!("2026{number:08}")).expect("an address")
}

fn held(number: u32) -> Table {
    let mut table = Table::new();
    table.put(ENERGY, Data::Array(vec![Data::UInt32(number); 5]));
    table.put(CURRENT, Data::Array(vec![Data::UInt32(number); 3]));
    table
}

fn start() -> Moment {
    Moment {
        at: DateTime::from_timestamp(1_790_000_000, 0).expect("a time"),
        on: Instant::now(),
    }
}

fn later(now: Moment, by: Duration) -> Moment {
    Moment {
        at: now.at + TimeDelta::from_std(by).unwrap_or_default(),
        on: now.on + by,
    }
}

/// Visits under way, each with its meter and its question.
#[derive(Default)]
struct Open {
    asked: BTreeMap<Ticket, (u32, Request)>,
    submitted: usize,
}

impl Open {
    fn submit(&mut self, proxy: &mut Proxy, now: Moment, input: &mut Input<'_>) {
        for _ in 0..=input.byte() % 20 {
            let (number, flags) = (u32::from(input.byte() % 24), input.byte());
            let oads: &[Oad] = match flags & 3 {
                0 => &[ENERGY],
                1 => &[CURRENT],
                _ => &[ENERGY, CURRENT],
            };
            let request = Request::get(meter(number), Piid::new(flags), oads).expect("a question");
            let priority = match flags >> 2 & 3 {
                0 => Priority::OnDemand,
                1 => Priority::BackFill,
                _ => Priority::Scheduled,
            };
            let job = PollJob {
                poll: PollId(1),
                meter: MeterId(1),
                priority,
                instead: vec![Vec::new()],
                requests: vec![protocol::Request::Dlt698(request.clone())],
                attempts: 1 + (flags >> 4 & 1),
                timeout: Duration::from_secs(1),
                byte_time: Duration::ZERO,
                pause: Duration::ZERO,
                evidence: false,
                deadline: now.on + Duration::from_secs(60 + u64::from(flags)),
                effect: None,
            };
            if let Ok(ticket) = proxy.submit(now, job) {
                self.asked.insert(ticket, (number, request));
                self.submitted += 1;
            }
        }
    }

    /// What the proxy wrote since; with `own` each value is that of its meter.
    fn take(&mut self, proxy: &mut Proxy, own: bool) -> Vec<Vec<u8>> {
        let mut written = Vec::new();
        while let Some(event) = proxy.event() {
            match event {
                ProxyEvent::Write(wire) => {
                    assert!(open(&wire).is_ok(), "a question that is no frame");
                    written.push(wire);
                }
                ProxyEvent::Done(settled) => {
                    for (ticket, outcome) in settled.outcomes {
                        let (number, request) = self.asked.remove(&ticket).expect("a visit ends once");
                        assert_eq!(outcome.reports.len(), 1);
                        if let Ok(bytes) = &outcome.reports[0].result {
                            fits(&request, bytes, own.then_some(number));
                        }
                    }
                }
                _ => {}
            }
        }
        assert_eq!(proxy.queued(), self.asked.len());
        written
    }
}

/// An outcome answers its own question, and nothing else.
fn fits(request: &Request, bytes: &[u8], own: Option<u32>) {
    let (span, verdict) = (0..bytes.len(), Verdict::Answer);
    assert_eq!(request.find(bytes), Finding::Frame { span, verdict });
    let Ok(Apdu::GetAnswer(answered)) = request.reply(bytes) else {
        panic!("an outcome that cannot be read")
    };
    let items: Vec<ItemResult> = match answered.body {
        GetResult::Normal(item) => vec![item],
        GetResult::List(list) => list.into_inner(),
        other => panic!("{other:?} of attributes"),
    };
    let Some(number) = own else { return };
    for item in items {
        let ValueResult::Data(data) = &item.result else {
            panic!("{item:?} of a meter that has it")
        };
        assert!(
            data.elements().iter().all(|value| *value == Data::UInt32(number)),
            "{item:?} of {number}"
        );
    }
}

/// A terminal that knows its meters; what it says is lost, held up, broken or said again.
fn honest(input: &mut Input<'_>) {
    let mut now = start();
    let settings = ProxySettings {
        meters_max: usize::from(input.byte() % 20),
        ..ProxySettings::default()
    };
    let mut device = Device::new(terminal(), 16 + 4 * usize::from(input.byte()));
    let mut table = Table::new();
    for number in 0..24 {
        if number % 7 != 3 {
            table.put_meter(&Tsa::of(&meter(number)), held(number));
        }
    }
    let (mut proxy, mut open_visits) = (Proxy::new(settings, terminal()), Open::default());
    open_visits.submit(&mut proxy, now, input);
    let (mut before, mut held_up): (Vec<Vec<u8>>, Vec<Vec<u8>>) = Default::default();
    for _ in 0..STEPS_MAX {
        proxy.tick(now);
        let written = open_visits.take(&mut proxy, true);
        for wire in &written {
            let asked = open(wire).expect("our own");
            let right = device.hear(&asked, &mut table).map(|frame| frame.wire());
            let fate = input.byte() % 16;
            let mut said = Vec::new();
            match fate {
                1 => {}
                2 => held_up.extend(right),
                _ => {
                    let mut fresh = std::mem::take(&mut held_up);
                    fresh.extend(right);
                    if fate == 3 {
                        // nobody hears a broken frame, and it is not said again
                        fresh.pop();
                    }
                    if fate == 4 {
                        said.append(&mut before);
                    }
                    said.extend(fresh.iter().cloned());
                    before.extend(fresh);
                }
            }
            // numbers come round after sixty-four questions
            before.drain(..before.len().saturating_sub(60));
            held_up.drain(..held_up.len().saturating_sub(60));
            for frame in said {
                now = later(now, Duration::from_millis(100));
                proxy.feed(now, &frame);
            }
        }
        if written.is_empty() {
            match proxy.next_deadline() {
                Some(due) => now = later(now, due.saturating_duration_since(now.on)),
                None => break,
            }
        }
    }
    assert!(
        open_visits.asked.is_empty(),
        "{} visits without an end",
        open_visits.asked.len()
    );
}

/// A terminal that says anything.
fn any(input: &mut Input<'_>) {
    let mut now = start();
    let (mut proxy, mut open_visits) = (Proxy::new(ProxySettings::default(), terminal()), Open::default());
    open_visits.submit(&mut proxy, now, input);
    let mut number = 0;
    while !input.is_empty() {
        proxy.tick(now);
        for wire in open_visits.take(&mut proxy, false) {
            let asked = open(&wire).expect("our own");
            number = Apdu::parse(asked.data())
                .ok()
                .and_then(|apdu| apdu.piid())
                .map_or(number, |piid| piid.0);
        }
        match input.byte() % 8 {
            0 => {
                let due = proxy.next_deadline().unwrap_or(now.on);
                now = later(now, due.saturating_duration_since(now.on));
            }
            1 => open_visits.submit(&mut proxy, now, input),
            2 => proxy.feed(now, input.piece()),
            kind => {
                let control = match kind {
                    3 => Control::ANSWER.segmented(),
                    4 => Control(input.byte()),
                    _ => Control::ANSWER,
                };
                let mut data = input.piece().to_vec();
                // mostly under the number that is waited for
                if kind > 5
                    && let Some(byte) = data.get_mut(2)
                {
                    *byte = number;
                }
                let frame = Frame::new(control, terminal(), CLIENT, data);
                proxy.feed(now, &frame.map(|frame| frame.wire()).unwrap_or_default());
            }
        }
    }
    proxy.end(now);
    open_visits.take(&mut proxy, false);
    assert!(
        open_visits.asked.is_empty(),
        "{} visits without an end",
        open_visits.asked.len()
    );
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 2 {
        0 => honest(&mut input),
        _ => any(&mut input),
    }
}

pub(super) fn seeds(seeds: &mut Seeds) {
    let visits = [5, 1, 2, 2, 6, 3, 18, 4, 10, 5, 2, 6, 0];
    for size in [0, 8, 60, 255] {
        seeds.add(&[&[0, 5, size], &visits, &[5, 5, 4, 5, 1, 2, 4, 5, 3, 5, 4, 4, 5]]);
    }
    for bytes in ["dlt698.45", "dlt698.45-apdu"].iter().flat_map(|name| frames(name)) {
        let data = open(&bytes).map(|frame| frame.data().to_vec()).unwrap_or(bytes);
        seeds.add(&[
            &[1],
            &visits,
            &[6],
            &piece(&data),
            &[7],
            &piece(&data),
            &[3],
            &piece(&data),
            &[0, 0],
        ]);
    }
}
