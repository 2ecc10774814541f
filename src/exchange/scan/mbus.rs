//! M-Bus: the wildcard search of the secondary addresses (EN 13757-3, 11.5); where somebody answers and nobody was found
//! so, or when it is to be thorough, the primary addresses one by one.

use super::{Found, Heard, Probe, Search};
use crate::protocol::mbus::{self, Identification, SearchHeard, SearchStep};
use crate::protocol::{Protocol, Request};
use std::time::Duration;

/// A slave begins to answer within 330 bit times and 50 ms (EN 13757-2, 5.7.1.2); 1.2 s at 300 baud.
const TURNAROUND: Duration = Duration::from_millis(1_200);
/// At more than 300 baud, which is nearly always.
const QUICK: Duration = Duration::from_millis(400);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Is anybody there at all?
    Knock,
    Secondary,
    /// The next primary address.
    Primary(u8),
    /// Who has just acknowledged at this primary address.
    PrimaryRead(u8),
    Over,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct MbusSearch {
    phase: Phase,
    search: mbus::Search,
    thorough: bool,
    somebody: bool,
    found: u32,
}

impl MbusSearch {
    pub(super) fn new(thorough: bool) -> Self {
        Self {
            phase: Phase::Knock,
            search: mbus::Search::default(),
            thorough,
            somebody: false,
            found: 0,
        }
    }

    fn find(&mut self, address: String, answer: &[u8], found: &mut Vec<Found>) {
        self.found += 1;
        found.push(Found {
            protocol: Protocol::Mbus,
            address,
            answer: answer.to_vec(),
        });
    }

    fn after_secondary(&self) -> Phase {
        if self.thorough || (self.somebody && self.search.found().is_empty()) {
            Phase::Primary(0)
        } else {
            Phase::Over
        }
    }

    fn after_primary(address: u8) -> Phase {
        if address >= mbus::PRIMARY_MAX {
            Phase::Over
        } else {
            Phase::Primary(address + 1)
        }
    }
}

fn probe(request: Request, turnaround: Duration, attempts: u8) -> Probe {
    Probe {
        request,
        turnaround,
        attempts,
    }
}

/// Who an answer with all its telegrams is from.
fn identification(request: &mbus::Request, answer: &[u8]) -> Option<Identification> {
    request.readout(answer).ok()?.identification()
}

impl Search for MbusSearch {
    fn probe(&mut self) -> Option<Probe> {
        loop {
            let request = match self.phase {
                Phase::Knock => mbus::Request::reset(mbus::TEST).map(|request| (request, TURNAROUND, 2)),
                Phase::Secondary => match self.search.step() {
                    SearchStep::Select(mask) => Ok((mbus::Request::select(mask), QUICK, 2)),
                    SearchStep::Read(mask) => Ok((mbus::Request::read_selected(mask), TURNAROUND, 1)),
                    SearchStep::Done => {
                        self.phase = self.after_secondary();
                        continue;
                    }
                },
                Phase::Primary(address) => mbus::Request::reset(address).map(|request| (request, QUICK, 1)),
                Phase::PrimaryRead(address) => {
                    mbus::Request::read(address, true).map(|request| (request, TURNAROUND, 2))
                }
                Phase::Over => return None,
            };
            match request {
                Ok((request, turnaround, attempts)) => {
                    return Some(probe(Request::Mbus(request), turnaround, attempts));
                }
                Err(_) => self.phase = Phase::Over,
            }
        }
    }

    fn hear(&mut self, heard: Heard<'_>, found: &mut Vec<Found>) {
        let silent = heard == Heard::Silence;
        match self.phase {
            Phase::Knock => {
                self.somebody = !silent;
                self.phase = Phase::Secondary;
            }
            Phase::Secondary => {
                let (heard, answer) = match (heard, self.search.step()) {
                    (Heard::Silence, _) => (SearchHeard::Silence, None),
                    (Heard::Refused | Heard::Garbage, _) => (SearchHeard::Collision, None),
                    (Heard::Answer(answer), SearchStep::Read(mask)) => {
                        match identification(&mbus::Request::read_selected(mask), answer) {
                            Some(identification) => {
                                (SearchHeard::Meter(identification), Some((identification, answer)))
                            }
                            None => (SearchHeard::Collision, None),
                        }
                    }
                    (Heard::Answer(_), _) => (SearchHeard::Ack, None),
                };
                let before = self.search.found().len();
                self.search.hear(heard);
                // the search believes it by now
                if let Some((identification, answer)) = answer.filter(|_| self.search.found().len() > before) {
                    self.find(identification.to_string(), answer, found);
                }
            }
            Phase::Primary(address) => {
                self.phase = match heard {
                    Heard::Answer(_) => Phase::PrimaryRead(address),
                    _ => Self::after_primary(address),
                };
            }
            Phase::PrimaryRead(address) => {
                if let Heard::Answer(answer) = heard {
                    let who = mbus::Request::read(address, true)
                        .ok()
                        .and_then(|request| identification(&request, answer));
                    if !who.is_some_and(|who| self.search.found().contains(&who)) {
                        self.find(address.to_string(), answer, found);
                    }
                }
                self.phase = Self::after_primary(address);
            }
            Phase::Over => {}
        }
    }

    fn left(&self) -> u32 {
        match self.phase {
            Phase::Knock => 2,
            // twenty thousandths of the numbers that are left are a fair guess of the questions
            Phase::Secondary => u32::try_from(1_000u64.saturating_sub(self.search.progress()) / 20)
                .unwrap_or(u32::MAX)
                .max(1),
            Phase::Primary(address) | Phase::PrimaryRead(address) => {
                u32::from(mbus::PRIMARY_MAX.saturating_sub(address)) + 1
            }
            Phase::Over => 0,
        }
    }

    fn note(&self) -> Option<String> {
        let unresolved: Vec<String> = self.search.unresolved().take(10).map(ToString::to_string).collect();
        if !unresolved.is_empty() {
            return Some(format!(
                "meters that share the number {} cannot be told apart",
                unresolved.join(", ")
            ));
        }
        if self.search.is_cut() {
            return Some("given up: too many selections are answered".to_owned());
        }
        (self.somebody && self.found == 0)
            .then(|| "somebody answers, but no answer could be read; check speed and parity".to_owned())
    }
}
