//! Protocols whose questions may leave digits of the address open (DL/T 645, DL/T 698.45 and CJ/T 188, a byte AA for any two digits):
//! all are asked at once; where several answer at once, the last two digits are asked one by one, then the two before.

use super::{Found, Heard, Probe, Search};
use crate::protocol::dlt645::{self, Di};
use crate::protocol::{Protocol, Request, cjt188, dlt698};
use std::time::Duration;

/// DL/T 645: a meter answers within 500 ms (2007, 5.3.3); CJ/T 188 says nothing shorter.
const TURNAROUND: Duration = Duration::from_millis(500);
/// The most questions of one search; a line that makes more of them answers everything with garbage.
const PROBES_MAX: u32 = 2_000;
/// A byte of any two digits.
const WILD: u8 = 0xAA;

/// How a protocol asks, and who an answer is from.
#[derive(Clone, Copy, Debug)]
struct Tongue {
    protocol: Protocol,
    /// Bytes of an address.
    len: usize,
    /// The question to whoever fits these bytes, low byte first, the rest wild.
    ask: fn(&[u8]) -> Request,
    /// The address in an answer, as a meter's address is written; none when it does not tell.
    who: fn(&[u8]) -> Option<String>,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct DigitSearch {
    tongue: Tongue,
    thorough: bool,
    /// Low bytes that are fixed; the last is the next.
    todo: Vec<Vec<u8>>,
    asked: u32,
    silent_name: bool,
    collisions: u32,
    found: u32,
}

impl DigitSearch {
    pub(super) fn dlt645_2007(thorough: bool) -> Self {
        Self::new(
            Tongue {
                protocol: Protocol::Dlt645_2007,
                len: 6,
                ask: |low| {
                    Request::Dlt645(if low.is_empty() {
                        dlt645::Request::read_address()
                    } else {
                        dlt645::Request::read(wild645(low), Di::E2007(0x0001_0000))
                    })
                },
                who: who645,
            },
            thorough,
        )
    }

    pub(super) fn dlt645_1997(thorough: bool) -> Self {
        Self::new(
            Tongue {
                protocol: Protocol::Dlt645_1997,
                len: 6,
                ask: |low| Request::Dlt645(dlt645::Request::read(wild645(low), Di::E1997(0x9010))),
                who: who645,
            },
            thorough,
        )
    }

    pub(super) fn cjt188(thorough: bool) -> Self {
        Self::new(
            Tongue {
                protocol: Protocol::Cjt188,
                len: 7,
                ask: |low| {
                    let target = cjt188::Target::new(cjt188::MeterType::ANY, cjt188::Address(wild(low)));
                    Request::Cjt188(cjt188::Request::read_address(target))
                },
                who: |answer| {
                    let frame = cjt188::Frame::parse(answer).ok()?;
                    Some(frame.address.to_string())
                },
            },
            thorough,
        )
    }

    /// Addresses of six bytes, which is what meters have.
    pub(super) fn dlt698(thorough: bool) -> Self {
        Self::new(
            Tongue {
                protocol: Protocol::Dlt698,
                len: 6,
                ask: |low| Request::Dlt698(ask698(low)),
                who: who698,
            },
            thorough,
        )
    }

    fn new(tongue: Tongue, thorough: bool) -> Self {
        Self {
            tongue,
            thorough,
            todo: vec![Vec::new()],
            asked: 0,
            silent_name: false,
            collisions: 0,
            found: 0,
        }
    }

    fn narrow(&mut self, low: &[u8]) {
        if low.len() >= self.tongue.len {
            return;
        }
        for pair in (0..100u8).rev() {
            let mut next = low.to_vec();
            next.push((pair / 10 * 16) + pair % 10);
            self.todo.push(next);
        }
    }
}

impl Search for DigitSearch {
    fn probe(&mut self) -> Option<Probe> {
        if self.asked >= PROBES_MAX {
            return None;
        }
        let low = self.todo.last()?;
        Some(Probe {
            request: (self.tongue.ask)(low),
            turnaround: TURNAROUND,
            // a lost answer to the first question would hide a whole line
            attempts: if low.is_empty() { 3 } else { 2 },
        })
    }

    fn hear(&mut self, heard: Heard<'_>, found: &mut Vec<Found>) {
        let Some(low) = self.todo.pop() else { return };
        self.asked += 1;
        match heard {
            Heard::Silence => {}
            Heard::Answer(answer) => {
                match (self.tongue.who)(answer) {
                    Some(address) => {
                        self.found += 1;
                        found.push(Found {
                            protocol: self.tongue.protocol,
                            address,
                            answer: answer.to_vec(),
                        });
                    }
                    None => self.silent_name = true,
                }
                if self.thorough {
                    self.narrow(&low);
                }
            }
            // somebody refuses and somebody else may have been drowned
            Heard::Refused | Heard::Garbage => {
                self.collisions += 1;
                self.narrow(&low);
            }
        }
    }

    fn left(&self) -> u32 {
        u32::try_from(self.todo.len()).unwrap_or(u32::MAX)
    }

    fn note(&self) -> Option<String> {
        if self.asked >= PROBES_MAX && !self.todo.is_empty() {
            return Some(format!(
                "given up after {PROBES_MAX} questions: almost everything is answered by garbage; check speed and parity"
            ));
        }
        if self.silent_name {
            return Some("a meter answers that does not tell its address; enter it by hand".to_owned());
        }
        (self.collisions > 0 && self.found == 0)
            .then(|| "somebody answers, but no answer could be read; check speed and parity".to_owned())
    }
}

/// Low bytes as given, wild above.
fn wild<const N: usize>(low: &[u8]) -> [u8; N] {
    let mut wire = [WILD; N];
    wire.iter_mut().zip(low).for_each(|(byte, fixed)| *byte = *fixed);
    wire
}

fn wild645(low: &[u8]) -> dlt645::Address {
    dlt645::Address::from_wire(wild(low))
}

fn ask698(low: &[u8]) -> dlt698::Request {
    let mut printed: [u8; 6] = wild(low);
    printed.reverse();
    let kind = if low.len() < printed.len() {
        dlt698::Kind::Wildcard
    } else {
        dlt698::Kind::Single
    };
    let address = dlt698::Address::of(kind, 0, &printed).unwrap_or(dlt698::Address::ANYONE);
    dlt698::Request::read_address(address).with_preambles(4)
}

/// The address in the frame's head; where that repeats the wild digits of the question, the one in the data.
fn who698(answer: &[u8]) -> Option<String> {
    let frame = dlt698::frames(answer).next()?.1;
    if frame.address.is_device() {
        return Some(frame.address.to_string());
    }
    let Ok(dlt698::Apdu::GetAnswer(answered)) = dlt698::Apdu::parse(frame.data()) else {
        return None;
    };
    let dlt698::GetResult::Normal(dlt698::ItemResult {
        oad: dlt698::ADDRESS,
        result: dlt698::ValueResult::Data(dlt698::Data::Octets(digits)),
    }) = answered.body
    else {
        return None;
    };
    let told = dlt698::Address::of(dlt698::Kind::Single, 0, &digits.0)?;
    told.is_device().then(|| told.to_string())
}

/// The address in the frame's head; where that repeats the wild bytes of the question, the one in the data.
fn who645(answer: &[u8]) -> Option<String> {
    let view = dlt645::open(answer).ok()?;
    if view.address.is_meter() {
        return Some(view.address.to_string());
    }
    let data = view.data();
    let told = dlt645::Address::from_wire(data.first_chunk().copied()?);
    (data.len() == 6 && told.is_meter()).then(|| told.to_string())
}
