//! The way to a terminal against a scripted one, in virtual time.

use super::*;
use crate::base::ids::{MeterId, PollId};
use crate::exchange::visit::VisitOutcome;
use crate::protocol::dlt698::terminal::Device;
use crate::protocol::dlt698::{
    Control, Csd, Dar, Data, DateTimeS, FROZEN_AT, Frame, GetRecord, GetResult, ItemResult, Next, Oad, Report, Rows,
    Rsd, Table, Tsa, ValueResult, next,
};
use crate::protocol::{self, Finding, Verdict, dlt698};
use chrono::{DateTime, NaiveDate, TimeDelta};
use std::collections::BTreeMap;

pub(super) const ENERGY: Oad = Oad::new(0x0010, 2);
pub(super) const VOLTAGE: Oad = Oad::new(0x2000, 2);

pub(super) fn terminal() -> Address {
    Address::parse("112233445566").unwrap()
}

pub(super) fn meter(number: u32) -> Address {
    Address::parse(&format!("2026{number:08}")).unwrap()
}

/// What a meter holds: its number is its register.
fn held(number: u32) -> Table {
    let mut table = Table::new();
    table.put(ENERGY, Data::Array(vec![Data::UInt32(number); 5]));
    table.put(
        VOLTAGE,
        Data::Array(vec![Data::UInt16(2300 + (number % 1000) as u16); 3]),
    );
    let at = DateTimeS::midnight(NaiveDate::from_ymd_opt(2026, 11, 21).unwrap());
    let row = [(FROZEN_AT, Data::DateTimeS(at)), (ENERGY, Data::UInt32(number + 1))];
    table.push_row(0x5004, row.into());
    table
}

/// A terminal with meters behind it.
pub(super) fn station(meters: impl IntoIterator<Item = u32>) -> Table {
    let mut table = held(999_999);
    for number in meters {
        table.put_meter(&Tsa::of(&meter(number)), held(number));
    }
    table
}

pub(super) fn start() -> Moment {
    Moment {
        at: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
        on: Instant::now(),
    }
}

fn later(now: Moment, by: Duration) -> Moment {
    Moment {
        at: now.at + TimeDelta::from_std(by).unwrap(),
        on: now.on + by,
    }
}

pub(super) fn get(address: Address, oads: &[Oad]) -> protocol::Request {
    protocol::Request::Dlt698(Request::get(address, Piid::new(1), oads).unwrap())
}

pub(super) fn job(now: Moment, number: u32, requests: Vec<protocol::Request>, priority: Priority) -> PollJob {
    PollJob {
        poll: PollId(1),
        meter: MeterId(i32::try_from(number).unwrap()),
        priority,
        instead: vec![Vec::new(); requests.len()],
        requests,
        attempts: 2,
        timeout: Duration::from_secs(1),
        byte_time: Duration::ZERO,
        pause: Duration::ZERO,
        evidence: false,
        deadline: now.on + Duration::from_secs(900),
        effect: None,
    }
}

/// What was said.
#[derive(Default)]
pub(super) struct Heard {
    written: Vec<Vec<u8>>,
    pub(super) done: BTreeMap<Ticket, VisitOutcome>,
    unasked: Vec<LineFrame>,
    pub(super) reports: usize,
    /// Records of events in them.
    pub(super) events: usize,
    dead: usize,
}

pub(super) fn take(proxy: &mut Proxy, heard: &mut Heard) -> Vec<Vec<u8>> {
    let mut fresh = Vec::new();
    while let Some(event) = proxy.event() {
        match event {
            ProxyEvent::Write(wire) => fresh.push(wire),
            ProxyEvent::Done(settled) => {
                for (ticket, outcome) in settled.outcomes {
                    assert!(heard.done.insert(ticket, outcome).is_none(), "a visit ends once");
                }
            }
            ProxyEvent::Unasked(frame) => heard.unasked.push(frame),
            ProxyEvent::Report(report) => {
                heard.reports += 1;
                heard.events += report.events.len();
            }
            ProxyEvent::Answered | ProxyEvent::Replay => {}
            ProxyEvent::Dead => heard.dead += 1,
        }
    }
    heard.written.extend(fresh.iter().cloned());
    fresh
}

/// Lets time pass and the terminal answer, as `answer` has it, until nothing is due; at most so many steps.
pub(super) fn play(
    proxy: &mut Proxy,
    mut now: Moment,
    heard: &mut Heard,
    mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>>,
) -> Moment {
    for _ in 0..4000 {
        proxy.tick(now);
        let fresh = take(proxy, heard);
        for wire in &fresh {
            for frame in answer(wire) {
                now = later(now, Duration::from_millis(200));
                proxy.feed(now, &frame);
            }
        }
        if !fresh.is_empty() {
            continue;
        }
        match proxy.next_deadline() {
            Some(due) => now = later(now, due.saturating_duration_since(now.on)),
            None => return now,
        }
    }
    panic!("it does not end")
}

/// A terminal that answers everything.
pub(super) fn honest<'a>(device: &'a mut Device, table: &'a mut Table) -> impl FnMut(&[u8]) -> Vec<Vec<u8>> + 'a {
    move |wire| {
        let Next::Frame { frame, .. } = next(wire) else {
            panic!()
        };
        device
            .hear(&frame, table)
            .map(|frame| frame.wire())
            .into_iter()
            .collect()
    }
}

/// The register that a visit's answer to its own question brings.
pub(super) fn register(request: &protocol::Request, bytes: &[u8]) -> Option<u32> {
    let protocol::Request::Dlt698(request) = request else {
        panic!()
    };
    assert!(matches!(
        request.find(bytes),
        Finding::Frame {
            verdict: Verdict::Answer,
            ..
        }
    ));
    let Ok(Apdu::GetAnswer(answered)) = request.reply(bytes) else {
        return None;
    };
    let items = match answered.body {
        GetResult::Normal(item) => vec![item],
        GetResult::List(list) => list.into_inner(),
        _ => return None,
    };
    items
        .iter()
        .find(|item| item.oad == ENERGY)
        .and_then(|item| match &item.result {
            ValueResult::Data(data) => match data.elements() {
                [Data::UInt32(number), ..] => Some(*number),
                _ => None,
            },
            ValueResult::Dar(_) => None,
        })
}

#[test]
fn meters_of_one_instant_share_questions_and_each_gets_its_own() {
    for frame in [1024, 60] {
        let now = start();
        let mut proxy = Proxy::new(ProxySettings::default(), terminal());
        let mut asked = BTreeMap::new();
        for number in 1..=40 {
            let request = get(meter(number), &[ENERGY, VOLTAGE]);
            let ticket = proxy.submit(now, job(now, number, vec![request.clone()], Priority::Scheduled));
            asked.insert(ticket.unwrap(), (number, request));
        }
        let (mut device, mut table, mut heard) = (Device::new(terminal(), frame), station(1..=40), Heard::default());
        play(&mut proxy, now, &mut heard, honest(&mut device, &mut table));
        assert_eq!(heard.done.len(), 40);
        for (ticket, (number, request)) in &asked {
            let report = &heard.done[ticket].reports[0];
            assert_eq!(register(request, report.result.as_ref().unwrap()), Some(*number));
        }
        let questions = heard.written.iter().filter(|wire| {
            let Next::Frame { frame, .. } = next(wire) else {
                panic!()
            };
            !frame.control.is_segmented()
        });
        // one association, forty meters by sixteen
        assert_eq!(questions.count(), 1 + 3, "{frame}");
        assert!(frame == 1024 || heard.written.len() > 10);
        assert_eq!((proxy.queued(), proxy.stats().strays), (0, 0));
    }
}

#[test]
fn records_and_the_terminals_own_attributes_are_asked_one_by_one() {
    let now = start();
    let mut proxy = Proxy::new(ProxySettings::default(), terminal());
    let record = GetRecord {
        oad: Oad::new(0x5004, 2),
        rows: Rsd::Back(1),
        columns: vec![Csd::Oad(FROZEN_AT), Csd::Oad(ENERGY)],
    };
    let frozen = |address| {
        let columns = record.columns.clone();
        Request::get_record(address, Piid::new(49), record.oad, record.rows.clone(), columns).unwrap()
    };
    let questions = [frozen(meter(7)), frozen(terminal())];
    let own = get(terminal(), &[ENERGY]);
    let mut tickets = Vec::new();
    for question in &questions {
        let request = protocol::Request::Dlt698(question.clone());
        tickets.push(
            proxy
                .submit(now, job(now, 7, vec![request], Priority::BackFill))
                .unwrap(),
        );
    }
    let last = proxy
        .submit(now, job(now, 8, vec![own.clone()], Priority::BackFill))
        .unwrap();
    let (mut device, mut table, mut heard) = (Device::new(terminal(), 1024), station([7]), Heard::default());
    play(&mut proxy, now, &mut heard, honest(&mut device, &mut table));
    for (question, (ticket, energy)) in questions.iter().zip(tickets.iter().zip([8, 1_000_000])) {
        let bytes = heard.done[ticket].reports[0].result.clone().unwrap();
        let Ok(Apdu::GetAnswer(answered)) = question.reply(&bytes) else {
            panic!()
        };
        let GetResult::Record(record) = answered.body else {
            panic!()
        };
        let Rows::Rows(rows) = record.rows else { panic!() };
        assert_eq!(rows[0][1], Data::UInt32(energy));
    }
    let bytes = heard.done[&last].reports[0].result.clone().unwrap();
    assert_eq!(register(&own, &bytes), Some(999_999));
}

/// Whoever does not know its address asks the terminal as whoever is there; an answer of any length comes whole.
#[test]
fn the_terminal_itself_is_asked_without_its_address() {
    let list = Oad::new(0x6000, 2);
    for (count, frame) in [(3, 1024), (2000, 200), (2000, 1024)] {
        let now = start();
        let mut proxy = Proxy::new(ProxySettings::default(), terminal());
        let question = Request::get(Address::ANYONE, Piid::new(1), &[list]).unwrap();
        let asked = protocol::Request::Dlt698(question.clone());
        let ticket = proxy
            .submit(now, job(now, 1, vec![asked], Priority::Discovery))
            .unwrap();
        let (mut device, mut table, mut heard) = (Device::new(terminal(), frame), station([]), Heard::default());
        let value = Data::Array((0..count).map(Data::UInt64).collect());
        table.put(list, value.clone());
        play(&mut proxy, now, &mut heard, honest(&mut device, &mut table));
        let bytes = heard.done[&ticket].reports[0].result.clone().unwrap();
        let Ok(Apdu::GetAnswer(answered)) = question.reply(&bytes) else {
            panic!()
        };
        let result = ValueResult::Data(value);
        assert_eq!(answered.body, GetResult::Normal(ItemResult { oad: list, result }));
    }
}

/// A setting goes to the terminal itself and to nobody behind it, alone and once, whatever becomes of its answer.
#[test]
fn a_setting_of_the_terminal_itself_is_written_once_and_told_truly() {
    let set = |address, oad, data| protocol::Request::Dlt698(Request::set(address, Piid::new(1), oad, data).unwrap());
    let (switch, locked) = (Oad::new(0x4300, 8), Oad::new(0x4300, 9));
    let asked = [
        set(Address::ANYONE, switch, Data::Bool(true)),
        set(Address::ANYONE, locked, Data::Bool(true)),
        set(meter(7), switch, Data::Bool(true)),
    ];
    let now = start();
    let mut proxy = Proxy::new(ProxySettings::default(), terminal());
    let (mut device, mut table, mut heard) = (Device::new(terminal(), 1024), station([7]), Heard::default());
    table.put(switch, Data::Bool(false));
    table.allow_set(switch);
    table.put(locked, Data::Bool(false));
    let tickets: Vec<Ticket> = asked
        .iter()
        .map(|request| {
            let job = job(now, 7, vec![request.clone()], Priority::Discovery);
            proxy.submit(now, job).unwrap()
        })
        .collect();
    play(&mut proxy, now, &mut heard, honest(&mut device, &mut table));
    let result = |at: usize| heard.done[&tickets[at]].reports[0].result.clone();
    let protocol::Request::Dlt698(question) = &asked[0] else {
        panic!()
    };
    let Ok(Apdu::SetAnswer(_)) = question.reply(&result(0).unwrap()) else {
        panic!()
    };
    assert_eq!(result(1), Err(TransactionError::Refused(Dar::DENIED.0)));
    assert_eq!(result(2), Err(TransactionError::Unfit));
    // the association and two settings
    assert_eq!(heard.written.len(), 3);

    let mut silent = Proxy::new(ProxySettings::default(), terminal());
    let mut heard = Heard::default();
    let ticket = silent
        .submit(now, job(now, 7, vec![asked[0].clone()], Priority::Discovery))
        .unwrap();
    play(&mut silent, now, &mut heard, |_| Vec::new());
    assert_eq!(heard.done[&ticket].reports[0].result, Err(TransactionError::Timeout));
    assert_eq!(heard.written.len(), 2, "the association, and the setting once");
}

#[test]
fn a_meter_that_the_terminal_does_not_reach_is_silent_and_its_neighbours_are_not() {
    let now = start();
    let mut proxy = Proxy::new(ProxySettings::default(), terminal());
    let ask = |number| get(meter(number), &[ENERGY, VOLTAGE]);
    let tickets: Vec<Ticket> = (1..=3)
        .map(|number| {
            proxy
                .submit(now, job(now, number, vec![ask(number)], Priority::OnDemand))
                .unwrap()
        })
        .collect();
    let (mut device, mut table, mut heard) = (Device::new(terminal(), 1024), station([1, 3]), Heard::default());
    play(&mut proxy, now, &mut heard, honest(&mut device, &mut table));
    let result = |place: usize| heard.done[&tickets[place]].reports[0].result.clone();
    assert_eq!(register(&ask(1), &result(0).unwrap()), Some(1));
    assert_eq!(result(1), Err(TransactionError::Timeout));
    assert_eq!(register(&ask(3), &result(2).unwrap()), Some(3));
    // the terminal answered, so nobody was asked twice
    assert_eq!(heard.written.len(), 2);
}

#[test]
fn what_a_meter_refuses_is_told_and_a_refused_list_is_asked_finer() {
    let now = start();
    let mut proxy = Proxy::new(ProxySettings::default(), terminal());
    let unknown = Oad::new(0x2099, 2);
    let single = get(meter(1), &[unknown]);
    let first = proxy
        .submit(now, job(now, 1, vec![single], Priority::OnDemand))
        .unwrap();
    let list = get(meter(2), &[ENERGY, unknown]);
    let second = proxy
        .submit(now, job(now, 2, vec![list.clone()], Priority::OnDemand))
        .unwrap();
    let own = get(terminal(), &[ENERGY, VOLTAGE]);
    let mut finer = job(now, 3, vec![own], Priority::OnDemand);
    finer.instead = vec![vec![get(terminal(), &[ENERGY]), get(terminal(), &[VOLTAGE])]];
    let third = proxy.submit(now, finer).unwrap();
    let (mut device, mut table, mut heard) = (Device::new(terminal(), 1024), station([1, 2]), Heard::default());
    let mut honest = honest(&mut device, &mut table);
    play(&mut proxy, now, &mut heard, |wire| {
        let Next::Frame { frame, .. } = next(wire) else {
            panic!()
        };
        match Apdu::parse(frame.data()) {
            // this terminal knows no lists of its own attributes
            Ok(Apdu::Get(asked)) if matches!(asked.body, dlt698::GetBody::List(_)) => {
                let error = dlt698::terminal::unreadable(asked.piid).wire();
                vec![Frame::new(Control::ANSWER, terminal(), 1, error).unwrap().wire()]
            }
            _ => honest(wire),
        }
    });
    assert_eq!(
        heard.done[&first].reports[0].result,
        Err(TransactionError::Refused(Dar::UNDEFINED.0))
    );
    let bytes = heard.done[&second].reports[0].result.clone().unwrap();
    assert_eq!(register(&list, &bytes), Some(2));
    let reports = &heard.done[&third].reports;
    assert_eq!(
        (reports.len(), &reports[0].result),
        (3, &Err(TransactionError::Refused(0xF1)))
    );
    assert_eq!(
        register(&get(terminal(), &[ENERGY]), reports[1].result.as_ref().unwrap()),
        Some(999_999)
    );
}

#[test]
fn a_silent_terminal_ends_every_visit_and_then_the_connection() {
    let mut now = start();
    let settings = ProxySettings {
        dead_timeouts: 4,
        ..ProxySettings::default()
    };
    let mut proxy = Proxy::new(settings, terminal());
    let mut heard = Heard::default();
    for round in 0..2 {
        for number in 1..=40 {
            let asked = get(meter(number), &[ENERGY]);
            proxy
                .submit(now, job(now, number, vec![asked], Priority::Scheduled))
                .unwrap();
        }
        now = play(&mut proxy, now, &mut heard, |_| Vec::new());
        assert_eq!(heard.done.len(), 40 * (round + 1));
    }
    let all = heard.done.values().flat_map(|outcome| &outcome.reports);
    assert!(
        all.clone().count() == 80
            && all
                .clone()
                .all(|report| report.result == Err(TransactionError::Timeout))
    );
    // two questions of two attempts a batch, and the association once
    assert_eq!((heard.written.len(), heard.dead), (1 + 8, 1));
}

#[test]
fn what_came_late_or_from_others_is_nobodys_answer() {
    let now = start();
    let mut proxy = Proxy::new(ProxySettings::default(), terminal());
    let asked = get(meter(1), &[ENERGY]);
    let ticket = proxy
        .submit(now, job(now, 1, vec![asked.clone()], Priority::OnDemand))
        .unwrap();
    let (mut device, mut table, mut heard) = (Device::new(terminal(), 1024), station([1]), Heard::default());
    let mut wrong = station([]);
    wrong.put_meter(&Tsa::of(&meter(1)), held(666));
    let mut other = Device::new(Address::parse("112233445567").unwrap(), 1024);
    let mut late: Vec<Vec<u8>> = Vec::new();
    play(&mut proxy, now, &mut heard, |wire| {
        let Next::Frame { frame, .. } = next(wire) else {
            panic!()
        };
        let is_proxy = matches!(Apdu::parse(frame.data()), Ok(Apdu::Proxy(_)));
        let Some(right) = device.hear(&frame, &mut table).map(|frame| frame.wire()) else {
            panic!()
        };
        if is_proxy && late.is_empty() {
            // this answer comes when the question was given up; with a value that nobody may see
            late.extend(device.hear(&frame, &mut wrong).map(|frame| frame.wire()));
            return Vec::new();
        }
        let of_other = Frame::new(frame.control, other.address(), 1, frame.data().to_vec()).unwrap();
        let foreign = other.hear(&of_other, &mut wrong).map(|frame| frame.wire());
        late.drain(..).chain(foreign).chain([right]).collect()
    });
    let report = &heard.done[&ticket].reports[0];
    assert_eq!(
        (register(&asked, report.result.as_ref().unwrap()), report.attempts),
        (Some(1), 2)
    );
    assert!(proxy.stats().strays >= 2);
}

#[test]
fn somebody_who_waits_goes_before_the_next_question_and_reports_are_told() {
    let now = start();
    let mut proxy = Proxy::new(ProxySettings::default(), terminal());
    for number in 1..=40 {
        let asked = get(meter(number), &[ENERGY]);
        proxy
            .submit(now, job(now, number, vec![asked], Priority::Scheduled))
            .unwrap();
    }
    let (mut device, mut table, mut heard) = (Device::new(terminal(), 1024), station(1..=41), Heard::default());
    let report = Device::new(terminal(), 1024)
        .report(
            Piid::new(3),
            Report::Items(
                dlt698::Many::new(vec![ItemResult {
                    oad: VOLTAGE,
                    result: ValueResult::Dar(Dar(2)),
                }])
                .unwrap(),
            ),
        )
        .unwrap();
    let mut written = 0;
    let (mut urgent, mut answered_behind) = (None, usize::MAX);
    let mut now = later(now, Duration::from_secs(1));
    while heard.done.len() < 41 {
        proxy.tick(now);
        for wire in take(&mut proxy, &mut heard) {
            written += 1;
            // behind the association and the first sixteen
            if written == 2 {
                let asked = get(meter(41), &[ENERGY]);
                urgent = proxy.submit(now, job(now, 41, vec![asked], Priority::OnDemand)).ok();
                proxy.feed(now, &report.wire());
            }
            let Next::Frame { frame, .. } = next(&wire) else {
                panic!()
            };
            now = later(now, Duration::from_millis(100));
            proxy.feed(now, &device.hear(&frame, &mut table).unwrap().wire());
            take(&mut proxy, &mut heard);
        }
        if heard.done.contains_key(&urgent.unwrap_or(Ticket(u64::MAX))) {
            answered_behind = answered_behind.min(written);
        }
        assert!(written < 20);
    }
    // it was the third question of all
    assert_eq!((heard.reports, answered_behind), (1, 3));
    assert!(heard.done[&urgent.unwrap()].reports[0].result.is_ok());
}

#[test]
fn the_end_of_a_session_ends_every_visit() {
    let now = start();
    let mut proxy = Proxy::new(ProxySettings::default(), terminal());
    let asked = get(meter(1), &[ENERGY]);
    let first = proxy
        .submit(now, job(now, 1, vec![asked.clone()], Priority::OnDemand))
        .unwrap();
    let mut heard = Heard::default();
    proxy.tick(now);
    take(&mut proxy, &mut heard);
    let second = proxy
        .submit(now, job(now, 1, vec![asked.clone(), asked], Priority::Scheduled))
        .unwrap();
    proxy.end(now);
    take(&mut proxy, &mut heard);
    for ticket in [first, second] {
        let reports = &heard.done[&ticket].reports;
        assert_eq!(reports.len(), 1);
        assert_eq!(reports[0].result, Err(TransactionError::SessionLost));
    }
}
