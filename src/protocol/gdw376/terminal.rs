//! The other side: a terminal that answers from a table of points and items, for the simulator.

use super::afn::Afn;
use super::archive::{self, ArchiveMeter};
use super::confirm::Confirmation;
use super::control::{Control, Seq};
use super::event::{self, Events, Record};
use super::forward;
use super::items::Edition;
use super::message::{EventCounters, Link, Message, Unit};
use super::point::{Fn, Id, Pn, UnitId};
use super::{Address, Frame};
use std::collections::BTreeMap;

/// What a terminal does beside its table.
pub trait Spoken {
    /// A meter's answer to a frame that is passed on; none: silence.
    fn forward(&mut self, port: u8, frame: &[u8]) -> Option<Vec<u8>>;

    /// A control was given; whether it was carried out.
    fn control(&mut self, id: Id, data: &[u8]) -> bool;

    /// The data of an item that is not in the table, with the time stamp that was asked for in front; none: there are
    /// none.
    fn data(&mut self, _afn: Afn, _id: Id, _stamp: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// A terminal.
#[derive(Clone, Debug)]
pub struct Terminal {
    address: Address,
    edition: Edition,
    frame_max: usize,
    number: u8,
    table: BTreeMap<(Afn, Id, Vec<u8>), Vec<u8>>,
    archive: BTreeMap<u16, ArchiveMeter>,
    /// Ports that it has; none said: all.
    ports: Vec<u8>,
    /// Parameters that it lets nobody set.
    locked: Vec<Fn>,
    events: [Vec<Record>; 2],
}

/// The most data of one answer frame, unless told otherwise.
const FRAME_DATA_MAX: usize = 1024;
/// Records of events that a terminal keeps.
const EVENTS_MAX: usize = 255;

impl Terminal {
    /// A terminal without anything in its table.
    pub fn new(address: Address, edition: Edition) -> Self {
        Self {
            address,
            edition,
            frame_max: FRAME_DATA_MAX,
            number: 0,
            table: BTreeMap::new(),
            archive: BTreeMap::new(),
            ports: Vec::new(),
            locked: Vec::new(),
            events: [Vec::new(), Vec::new()],
        }
    }

    /// The same that splits answers of more bytes of data.
    #[must_use]
    pub fn with_frames_of(self, bytes: usize) -> Self {
        Self {
            frame_max: bytes,
            ..self
        }
    }

    /// The same with these ports alone: meters at others are denied.
    #[must_use]
    pub fn with_ports(self, ports: &[u8]) -> Self {
        Self {
            ports: ports.to_vec(),
            ..self
        }
    }

    /// The same that lets nobody set these parameters.
    #[must_use]
    pub fn with_locked(self, items: &[Fn]) -> Self {
        Self {
            locked: items.to_vec(),
            ..self
        }
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Puts the data of an item into the table: for the past, of one time stamp, which `data` begin with.
    pub fn put(&mut self, afn: Afn, id: Id, stamp: &[u8], data: Vec<u8>) {
        self.table.insert((afn, id, stamp.to_vec()), data);
    }

    /// Puts a meter into the archive; point 0 takes it out.
    pub fn put_meter(&mut self, meter: ArchiveMeter) {
        match meter.point {
            0 => self.archive.remove(&meter.place),
            _ => self.archive.insert(meter.place, meter),
        };
    }

    /// The archive in order.
    pub fn archive(&self) -> impl Iterator<Item = &ArchiveMeter> {
        self.archive.values()
    }

    /// Records an event; the oldest of 255 is forgotten.
    pub fn happen(&mut self, important: bool, record: Record) {
        let [first, second] = &mut self.events;
        let kept = if important { first } else { second };
        if kept.len() >= EVENTS_MAX {
            kept.remove(0);
        }
        kept.push(record);
    }

    /// How many events of each kind it counts.
    fn counters(&self) -> EventCounters {
        let [important, ordinary] = self
            .events
            .each_ref()
            .map(|kept| u8::try_from(kept.len()).unwrap_or(u8::MAX));
        EventCounters { important, ordinary }
    }

    /// A login, logout or heartbeat, to be confirmed.
    pub fn say(&mut self, link: Link) -> Message {
        self.number = (self.number + 1) & 0x0F;
        Message {
            dialect: super::Dialect::Gdw376,
            control: Control::LINK_TEST,
            address: self.address,
            afn: Afn::LINK,
            seq: Seq::single(self.number).to_confirm(),
            body: UnitId::of(Id::terminal(link.item())).wire().to_vec(),
            password: None,
            events: None,
            tag: None,
        }
    }

    /// A report of the newest event of a kind; none where nothing has happened.
    pub fn report_event(&mut self, important: bool) -> Option<Message> {
        let counters = self.counters();
        let to = if important {
            counters.important
        } else {
            counters.ordinary
        };
        let from = to.checked_sub(1)?;
        let id = Id::terminal(if important { Fn::F1 } else { Fn::F2 });
        let data = self.records(important, &[from, to])?;
        Some(self.report(Afn::EVENTS, vec![(id, data)]))
    }

    /// A report of items, as a task has it: of the past ones with the stamp of when; none where it has none of them.
    pub fn report_data(&mut self, afn: Afn, items: &[(Id, Vec<u8>)], spoken: &mut dyn Spoken) -> Option<Message> {
        let found = items.iter().flat_map(|(id, stamp)| {
            let unit = Unit {
                id: *id,
                data: stamp.clone(),
                start: 0,
                reading: None,
            };
            self.look_up(afn, &unit, spoken)
        });
        let found: Vec<(Id, Vec<u8>)> = found.collect();
        (!found.is_empty()).then(|| self.report(afn, found))
    }

    /// To be confirmed.
    fn report(&mut self, afn: Afn, found: Vec<(Id, Vec<u8>)>) -> Message {
        self.number = (self.number + 1) & 0x0F;
        let counters = self.counters();
        let waits = counters.important > 0;
        Message {
            dialect: super::Dialect::Gdw376,
            control: if waits {
                Control::REPORT.with_events()
            } else {
                Control::REPORT
            },
            address: self.address,
            afn,
            seq: Seq::single(self.number).to_confirm(),
            body: body(found),
            password: None,
            events: waits.then_some(counters),
            tag: None,
        }
    }

    /// Whether a message is for it.
    fn is_meant(&self, message: &Message) -> bool {
        let everybody = message.address.is_broadcast();
        !message.control.is_from_terminal() && (everybody || message.address.is_terminal_of(self.address))
    }

    /// Answers a master's message; nothing where it is for another terminal, or asks for nothing.
    pub fn answer(&mut self, message: &Message, spoken: &mut dyn Spoken) -> Vec<Frame> {
        if !self.is_meant(message) || message.afn == Afn::CONFIRM {
            return Vec::new();
        }
        let replies = match message.units(self.edition) {
            Ok(units) => self.reply(message, &units, spoken),
            Err(_) => vec![(Control::CONFIRMED, Afn::CONFIRM, Confirmation::None.body())],
        };
        // nobody answers a question to everybody
        if message.address.is_broadcast() {
            return Vec::new();
        }
        let last = replies.len().saturating_sub(1);
        let frames = replies.into_iter().enumerate().map(|(index, (control, afn, body))| {
            let number = message
                .seq
                .number()
                .wrapping_add(u8::try_from(index % 16).unwrap_or_default())
                & 0x0F;
            let mut seq = Seq::single(number).part(index == 0, index == last);
            if message.tag.is_some() {
                seq = seq.with_time_tag();
            }
            let waits = self.counters().important > 0;
            Message {
                dialect: message.dialect,
                control: if waits { control.with_events() } else { control },
                address: self.address.with_msa(message.address.msa()),
                afn,
                seq,
                body,
                password: None,
                events: waits.then(|| self.counters()),
                tag: message.tag,
            }
            .frame()
        });
        frames.flatten().collect()
    }

    fn reply(&mut self, message: &Message, units: &[Unit], spoken: &mut dyn Spoken) -> Vec<(Control, Afn, Vec<u8>)> {
        match message.afn {
            Afn::SET | Afn::CONTROL | Afn::RESET => {
                let done: Vec<(Id, u8)> = units
                    .iter()
                    .map(|unit| (unit.id, u8::from(!self.carry_out(message.afn, unit, spoken))))
                    .collect();
                let failed = done.iter().filter(|(_, error)| *error != 0).count();
                let confirmation = match failed {
                    0 => Confirmation::All,
                    all if all == done.len() => Confirmation::None,
                    _ => Confirmation::Each {
                        afn: message.afn,
                        items: done,
                    },
                };
                vec![(Control::CONFIRMED, Afn::CONFIRM, confirmation.body())]
            }
            afn => {
                let found: Vec<(Id, Vec<u8>)> = units.iter().flat_map(|unit| self.look_up(afn, unit, spoken)).collect();
                if found.is_empty() {
                    return vec![(Control::NO_DATA, Afn::CONFIRM, Confirmation::None.body())];
                }
                let bodies = split(found, self.frame_max);
                bodies.into_iter().map(|body| (Control::ANSWER, afn, body)).collect()
            }
        }
    }

    fn carry_out(&mut self, afn: Afn, unit: &Unit, spoken: &mut dyn Spoken) -> bool {
        match (afn, unit.id.item.number()) {
            (Afn::SET, _) if self.locked.contains(&unit.id.item) => false,
            (Afn::SET, 10) => match archive::read(&unit.data) {
                Ok(meters) => {
                    let has = |meter: &ArchiveMeter| meter.point == 0 || self.ports.contains(&meter.port);
                    let takes = self.ports.is_empty() || meters.iter().all(has);
                    if takes {
                        meters.into_iter().for_each(|meter| self.put_meter(meter));
                    }
                    takes
                }
                Err(_) => false,
            },
            (Afn::SET, _) => {
                self.table.insert((Afn::QUERY, unit.id, Vec::new()), unit.data.clone());
                true
            }
            _ => spoken.control(unit.id, &unit.data),
        }
    }

    fn look_up(&self, afn: Afn, unit: &Unit, spoken: &mut dyn Spoken) -> Vec<(Id, Vec<u8>)> {
        let one = |data: Option<Vec<u8>>| data.map(|data| (unit.id, data)).into_iter().collect();
        match (afn, unit.id.item.number()) {
            (Afn::QUERY, 10) => self.meters(unit),
            (Afn::EVENTS, kind @ (1 | 2)) => one(self.records(kind == 1, &unit.data)),
            (Afn::FORWARD, 1) => one(forward::Question::read(&unit.data).ok().and_then(|question| {
                let port = question.passage.port;
                let frame = spoken.forward(port, &question.frame)?;
                forward::Answer { port, frame }.write().ok()
            })),
            _ if unit.id.pn == Pn::ALL => {
                let of_item = |(their, id, stamp): &&(Afn, Id, Vec<u8>)| {
                    *their == afn && id.item == unit.id.item && id.pn != Pn::TERMINAL && *stamp == unit.data
                };
                let keys = self.table.keys().filter(of_item);
                keys.filter_map(|key| Some((key.1, self.table.get(key)?.clone())))
                    .collect()
            }
            _ => {
                let kept = self.table.get(&(afn, unit.id, unit.data.clone())).cloned();
                one(kept.or_else(|| spoken.data(afn, unit.id, &unit.data)))
            }
        }
    }

    /// The archive at the places that are asked for, in pieces that fit a frame.
    fn meters(&self, unit: &Unit) -> Vec<(Id, Vec<u8>)> {
        let asked = unit.data.get(2..).unwrap_or_default().chunks_exact(2);
        let places = asked.filter_map(|place| Some(u16::from_le_bytes(place.try_into().ok()?)));
        let meters: Vec<ArchiveMeter> = places.filter_map(|place| self.archive.get(&place).cloned()).collect();
        let in_frame = (self.frame_max.saturating_sub(6) / archive::METER_LEN).max(1);
        meters
            .chunks(in_frame)
            .filter_map(|meters| Some((unit.id, archive::write(meters).ok()?)))
            .collect()
    }

    fn records(&self, important: bool, pointers: &[u8]) -> Option<Vec<u8>> {
        let [from, to] = *pointers else { return None };
        let [first, second] = &self.events;
        let kept = if important { first } else { second };
        let records = kept.get(from.into()..usize::from(to).min(kept.len()))?.to_vec();
        let to = from.wrapping_add(u8::try_from(records.len()).ok()?);
        let counters = self.counters();
        event::write(&Events {
            counters: (counters.important, counters.ordinary),
            from,
            to,
            records,
        })
    }
}

/// Data units in frames of at most so many bytes; neighbours share identifiers where all of the cross product is there.
fn split(found: Vec<(Id, Vec<u8>)>, frame_max: usize) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    let (mut batch, mut size): (Vec<(Id, Vec<u8>)>, usize) = (Vec::new(), 0);
    for (id, data) in found {
        let more = data.len() + 4;
        // a list in pieces is the same item again, which one frame cannot hold twice
        let again = batch.iter().any(|(kept, _)| *kept == id);
        if !batch.is_empty() && (again || size + more > frame_max) {
            bodies.push(body(std::mem::take(&mut batch)));
            size = 0;
        }
        size += more;
        batch.push((id, data));
    }
    if !batch.is_empty() {
        bodies.push(body(batch));
    }
    bodies
}

fn body(batch: Vec<(Id, Vec<u8>)>) -> Vec<u8> {
    let mut data: BTreeMap<Id, Vec<u8>> = batch.into_iter().collect();
    let mut body = Vec::new();
    for unit in UnitId::covering(data.keys().copied().collect::<Vec<_>>()) {
        body.extend_from_slice(&unit.wire());
        for id in unit.ids() {
            body.extend_from_slice(&data.remove(&id).unwrap_or_default());
        }
    }
    body
}

/// The clock of a terminal, AFN 0C F2.
impl Terminal {
    /// Puts its clock into the table.
    pub fn set_clock(&mut self, data: Vec<u8>) {
        self.put(Afn::REALTIME, Id::terminal(Fn::F2), &[], data);
    }
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
