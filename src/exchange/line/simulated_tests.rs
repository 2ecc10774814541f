//! The line against a simulated one that loses, delays, repeats, splits and invents.

use super::*;
use crate::exchange::job::TransactionReport;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, HashMap};

/// How the simulated line treats answers; chances per answer, in percent.
#[derive(Clone, Copy, Debug)]
struct Faults {
    drop: u32,
    late: u32,
    repeat: u32,
    foreign: u32,
    noise: u32,
    beat: u32,
    refuse: u32,
    /// Values change with every question, else they stand still.
    changing: bool,
    /// The DTU's heartbeat is not known yet: an answer with one inside is noise, and its repeat may be whole.
    strange: bool,
    /// Steps before which the process has to wait for its host, per thousand: what came meanwhile is read behind it, at once.
    stall: u32,
}

struct Simulation {
    rng: StdRng,
    faults: Faults,
    time: Time,
    line: Line,
    /// What arrives when; the counter keeps them apart.
    arrivals: BTreeMap<(Duration, u64), Vec<u8>>,
    count: u64,
    asks: u16,
    /// Which ask numbers were written for which poll.
    asked: HashMap<i64, Vec<u16>>,
    open: HashMap<Ticket, PollJob>,
    polls: i64,
    answered: u64,
    failed: u64,
    /// Right register, but said to an earlier visit.
    stale: u64,
}

impl Simulation {
    fn new(seed: u64, faults: Faults) -> Self {
        let time = Time::new();
        Self {
            rng: StdRng::seed_from_u64(seed),
            faults,
            line: line(&time),
            time,
            arrivals: BTreeMap::new(),
            count: 0,
            asks: 0,
            asked: HashMap::new(),
            open: HashMap::new(),
            polls: 0,
            answered: 0,
            failed: 0,
            stale: 0,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn arrive(&mut self, at: Duration, bytes: Vec<u8>) {
        self.count += 1;
        // now and then in two pieces
        if bytes.len() > 3 && self.chance(20) {
            let cut = self.rng.random_range(1..bytes.len());
            let (head, tail) = bytes.split_at(cut);
            self.arrivals.insert((at, self.count), head.to_vec());
            self.count += 1;
            self.arrivals
                .insert((at + Duration::from_millis(8), self.count), tail.to_vec());
        } else {
            self.arrivals.insert((at, self.count), bytes);
        }
    }

    /// The frame as it comes through the DTU, now and then with a heartbeat inside.
    fn beaten(&mut self, frame: &[u8], may: bool) -> Vec<u8> {
        let mut frame = frame.to_vec();
        if self.chance(self.faults.beat) && may {
            let cut = self.rng.random_range(0..frame.len());
            frame.splice(cut..cut, b"HEART".iter().copied());
        }
        frame
    }

    /// The device's side: the value says unit, register and question.
    fn answer(&mut self, wire: &[u8]) {
        let asked = modbus::Request::parse(wire).unwrap();
        let stamp = if self.faults.changing { self.asks } else { 0xBEEF };
        let mut registers = vec![u16::from(asked.unit()) << 8 | asked.address(), stamp];
        registers.resize(usize::from(asked.count()), 0);
        let refuse = self.chance(self.faults.refuse);
        let said = if refuse {
            Reply::Exception(2)
        } else {
            Reply::Registers(registers)
        };
        let frame = asked.reply_frame(&said).unwrap();
        let quick = Duration::from_millis(self.rng.random_range(20..80));
        let slow = Duration::from_millis(self.rng.random_range(0..=3_000));
        let at = self.time.now
            + if self.chance(self.faults.late) {
                slow.max(quick)
            } else {
                quick
            };
        if !self.chance(self.faults.drop) {
            let first = self.beaten(&frame, !refuse);
            self.arrive(at, first);
            while self.chance(self.faults.repeat) {
                let again = Duration::from_millis(self.rng.random_range(0..=3_000));
                let copy = self.beaten(&frame, !refuse);
                self.arrive(at + again, copy);
            }
        }
        let soon = self.time.now + Duration::from_millis(self.rng.random_range(0..1_500));
        if self.chance(self.faults.foreign) {
            let (unit, function) = if self.rng.random_bool(0.5) {
                (asked.unit() + 100, asked.function())
            } else {
                (asked.unit(), Function::ReadInputRegisters)
            };
            let other = modbus::Request::read(unit, function, 0, asked.count()).unwrap();
            let lies = Reply::Registers(vec![0xDEAD; usize::from(asked.count())]);
            self.arrive(soon, other.reply_frame(&lies).unwrap());
        }
        if self.chance(self.faults.noise) {
            let noise = (0..self.rng.random_range(1..20)).map(|_| self.rng.random()).collect();
            self.arrive(soon, noise);
        }
    }

    fn submit(&mut self) {
        self.polls += 1;
        let meter = self.rng.random_range(1..=3u8);
        // registers of one shape, sometimes one of another length
        let questions = (0..self.rng.random_range(1..=3))
            .map(|_| {
                let count = if self.rng.random_bool(0.8) { 2 } else { 3 };
                let address = self.rng.random_range(0..4) * 3;
                Request::Modbus(modbus::Request::read(meter, Function::ReadHoldingRegisters, address, count).unwrap())
            })
            .collect();
        let mut job = job(&self.time, self.polls, meter.into(), Priority::Scheduled, questions);
        job.attempts = self.rng.random_range(1..=3);
        if self.rng.random_bool(0.2) {
            job.priority = Priority::OnDemand;
        }
        let ticket = self.line.submit(self.time.moment(), job.clone()).unwrap();
        self.open.insert(ticket, job);
    }

    fn check(&mut self, job: &PollJob, reports: &[TransactionReport]) {
        for (request, report) in job.requests.iter().zip(reports) {
            let Ok(frame) = &report.result else {
                self.failed += 1;
                continue;
            };
            self.answered += 1;
            let Request::Modbus(request) = request else {
                panic!("not Modbus: {request:?}")
            };
            let registers = request.answer_registers(frame).unwrap();
            let mine = u16::from(request.unit()) << 8 | request.address();
            assert_eq!(registers[0], mine, "a value of another register, {:?}", self.faults);
            if self.faults.changing {
                let asked = &self.asked[&job.poll.0];
                if !asked.contains(&registers[1]) {
                    self.stale += 1;
                }
            }
        }
    }

    /// The process waits for its host, and then reads what has come.
    fn stall(&mut self) {
        if self.rng.random_range(0..1_000) >= self.faults.stall {
            return;
        }
        self.time.now += Duration::from_millis(self.rng.random_range(0..4_000));
        while self
            .arrivals
            .first_key_value()
            .is_some_and(|((at, _), _)| *at <= self.time.now)
        {
            self.hear();
        }
    }

    /// One step: what is due first.
    fn step(&mut self) {
        self.stall();
        while self.open.len() < 3 {
            self.submit();
        }
        let now = self.time.moment();
        self.line.tick(now);
        if let Some(wire) = self.line.ask(now) {
            self.line.written(now);
            self.asks = self.asks.wrapping_add(1);
            let Some(Ticket(running)) = self.line.running() else {
                panic!("asking without a visit")
            };
            let poll = self.open[&Ticket(running)].poll.0;
            self.asked.entry(poll).or_default().push(self.asks);
            self.answer(&wire);
        }
        while let Some(event) = self.line.event() {
            if let LineEvent::Done { ticket, outcome } = event {
                let job = self.open.remove(&ticket).unwrap();
                self.check(&job, &outcome.reports);
                self.asked.remove(&job.poll.0);
            }
        }
        let due = self.line.next_deadline(now).map(|at| at - self.time.start);
        let next = self.arrivals.first_key_value().map(|((at, _), _)| *at);
        match (due, next) {
            (Some(due), Some(next)) if next <= due => self.hear(),
            (None, Some(_)) => self.hear(),
            (Some(due), _) => self.time.now = due.max(self.time.now),
            (None, None) => {}
        }
    }

    fn hear(&mut self) {
        let Some(((at, _), bytes)) = self.arrivals.pop_first() else {
            return;
        };
        self.time.now = at.max(self.time.now);
        let known = if self.faults.strange {
            vec![]
        } else {
            vec![b"HEART".to_vec()]
        };
        self.line.feed(self.time.moment(), &bytes, &known);
    }
}

fn simulate(seed: u64, faults: Faults, transactions: u64) -> Simulation {
    let mut simulation = Simulation::new(seed, faults);
    let mut steps = 0u64;
    while simulation.answered + simulation.failed < transactions {
        simulation.step();
        steps += 1;
        assert!(
            steps < transactions * 200,
            "the line stands still: {:?} {faults:?}",
            simulation.line
        );
    }
    simulation
}

#[test]
fn no_wrong_value_on_a_line_that_loses_delays_repeats_and_invents() {
    let harsh = Faults {
        drop: 10,
        late: 15,
        repeat: 15,
        foreign: 10,
        noise: 10,
        beat: 10,
        refuse: 3,
        changing: true,
        strange: false,
        stall: 0,
    };
    let rare = Faults {
        drop: 1,
        late: 1,
        repeat: 1,
        foreign: 1,
        noise: 1,
        beat: 2,
        refuse: 0,
        changing: true,
        strange: false,
        stall: 0,
    };
    let slow = Faults { late: 100, ..harsh };
    let (mut answered, mut all, mut stale, mut stalled) = (0, 0, 0, 0);
    for (n, faults) in [harsh, rare, slow].into_iter().enumerate() {
        for (changing, strange, stall) in [
            (true, false, 0),
            (false, false, 0),
            (true, true, 0),
            (false, true, 0),
            (true, false, 20),
            (true, true, 100),
        ] {
            let faults = Faults {
                changing,
                strange,
                stall,
                ..faults
            };
            for seed in 0..6 {
                let simulation = simulate(seed * 10 + n as u64, faults, 1_500);
                answered += simulation.answered;
                stale += simulation.stale * u64::from(stall == 0);
                stalled += simulation.stale * u64::from(stall > 0);
                all += simulation.answered + simulation.failed;
                if seed == 0 {
                    let seconds = simulation.time.now.as_secs_f64();
                    println!(
                        "{faults:?}: {} answered, {} failed, {} stale, {:.2} s a transaction",
                        simulation.answered,
                        simulation.failed,
                        simulation.stale,
                        seconds / 1_500.0
                    );
                }
            }
        }
    }
    println!("{answered} of {all} answered, {stale} stale");
    assert!(all >= 100_000);
    assert_eq!(stale, 0, "an answer to an earlier visit");
    // a line that behaved believes the same question's repeat (see the memory's limits); a process that waits makes it older
    assert!(
        stalled <= 2,
        "{stalled} answers to earlier visits behind a wait for the host"
    );
    assert!(answered * 10 > all * 6, "{answered} of {all}");
}

#[test]
fn a_clean_line_loses_no_time() {
    let clean = Faults {
        drop: 0,
        late: 0,
        repeat: 0,
        foreign: 0,
        noise: 0,
        beat: 0,
        refuse: 0,
        changing: true,
        strange: false,
        stall: 0,
    };
    let simulation = simulate(1, clean, 1_000);
    assert_eq!(simulation.failed, 0);
    assert!(
        simulation.time.now < Duration::from_secs(60),
        "{:?}",
        simulation.time.now
    );
}
