//! A concentrator is not searched: it has an archive (AFN 0A F10) that says which meter is at which measuring point. That is
//! read place by place, with what the terminal says of the way to each (0C F170), and proposed like what a search finds.
//!
//! What is written into it (04 F10) is written some places at a time. A terminal that denies some is asked in halves, until
//! whoever is denied stands alone; then every place is read back, and what that shows is what is told.

use super::{Scan, values};
use crate::device::decode::{DecodedPoll, decode};
use crate::device::plan::plan;
use crate::domain::archive::{ArchiveChange, ArchiveEntry};
use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::port::field::TransactionError;
use crate::port::scan::{ArchivePlace, FoundMeter, Route, ScanFailure, ScanProgress, WriteOutcome, WrittenPlace};
use crate::protocol::gdw376::archive::MeterProtocol;
use crate::protocol::gdw376::format::Value;
use crate::protocol::gdw376::{
    Afn, ArchiveMeter, Ask, Edition, Fn, Found, Id, Message, NO_TERMINAL, Pn, Request as Question, Said, find,
};
use crate::protocol::{Protocol, Request};
use rust_decimal::prelude::ToPrimitive;
use std::collections::BTreeMap;
use std::time::Duration;

/// Places of one question: their meters fill half an answer.
const PLACES_AT_ONCE: u16 = 64;
/// Meters that are written at once: a frame of half a kilobyte.
const WRITTEN_AT_ONCE: usize = 16;
/// The last place that is asked for.
const PLACES_MAX: u16 = 2048;
/// So many questions in a row for places that are empty end the archive.
const EMPTY_MAX: u8 = 2;
/// What a terminal takes to look something up.
const THINKS: Duration = Duration::from_secs(10);
/// The models, the one with more phases last.
const MODELS: [&str; 2] = ["gdw376_single_phase", "gdw376_three_phase"];
/// What shows that a meter is there, and of how many phases.
const SHOWN: [Quantity; 3] = [Quantity::ActiveEnergyImport, Quantity::VoltageL1, Quantity::VoltageL2];
/// F170: how the terminal reaches the meter.
const ROUTE: u8 = 170;

impl Scan {
    /// Reads the archive to its end, and asks for a few values of each point.
    ///
    /// # Errors
    /// [`ScanFailure`]; what was read by then has been told.
    pub(super) async fn archive(&mut self) -> Result<(), ScanFailure> {
        let mut empty = 0;
        let mut first = 1;
        while first <= PLACES_MAX && empty < EMPTY_MAX {
            let meters = self.places(first).await?;
            empty = if meters.is_empty() { empty + 1 } else { 0 };
            let found = self.described(&meters).await?;
            self.meters.extend(found);
            self.tell_archive(true);
            first += PLACES_AT_ONCE;
        }
        self.tell_archive(false);
        Ok(())
    }

    fn tell_archive(&self, reading: bool) {
        (self.parts.tell)(ScanProgress {
            asked: self.questions,
            left: 0,
            searching: reading.then(|| Protocol::Gdw376.name().to_owned()),
            found: self.meters.clone(),
            written: self.written.clone(),
            settings: Vec::new(),
            notes: Vec::new(),
        });
    }

    /// The meters at some places.
    async fn places(&mut self, first: u16) -> Result<Vec<ArchiveMeter>, ScanFailure> {
        let places: Vec<u16> = (first..first + PLACES_AT_ONCE).collect();
        Ok(self.standing_at(&places).await?.unwrap_or_default())
    }

    /// The meters at these places, at most [`PLACES_AT_ONCE`]; none where the terminal does not say.
    async fn standing_at(&mut self, places: &[u16]) -> Result<Option<Vec<ArchiveMeter>>, ScanFailure> {
        // so few places always fit
        let Ok(question) = Question::read_archive(NO_TERMINAL, places) else {
            return Ok(None);
        };
        self.questions = self.questions.saturating_add(1);
        let asked = vec![Request::Gdw376(question.clone())];
        let outcome = self.visit(asked, THINKS, 2).await?;
        let bytes = match outcome.reports.into_iter().next().map(|report| report.result) {
            Some(Ok(bytes)) => bytes,
            // there is nothing at any of them
            Some(Err(TransactionError::Refused(_))) => return Ok(Some(Vec::new())),
            _ => return Ok(None),
        };
        let answer = question.answer(&messages(&bytes), Edition::default()).ok();
        let meters = answer.and_then(|answer| answer.archive().ok());
        Ok(meters.map(|meters| meters.into_iter().filter(|meter| meter.point > 0).collect()))
    }

    /// Writes changes into the archive, and reads back what became of each.
    ///
    /// # Errors
    /// [`ScanFailure`]: what was written by then may stand there; the next comparison tells.
    pub(super) async fn write_archive(&mut self, changes: &[ArchiveChange]) -> Result<(), ScanFailure> {
        let places: Vec<u16> = changes.iter().map(ArchiveChange::place).collect();
        let before = self.standing(&places).await?;
        let meters: Vec<ArchiveMeter> = changes.iter().filter_map(|change| meter_of(change, &before)).collect();
        let mut denied: BTreeMap<u16, u8> = BTreeMap::new();
        for few in meters.chunks(WRITTEN_AT_ONCE) {
            self.write_few(few, &mut denied).await?;
        }
        let after = self.standing(&places).await?;
        for change in changes {
            let place = change.place();
            let code = denied.get(&place).copied();
            self.written.push(WrittenPlace {
                place,
                point: change.point(),
                removed: matches!(change, ArchiveChange::Remove { .. }),
                outcome: outcome_of(change, after.get(&place), code),
                code,
            });
        }
        self.tell_archive(true);
        Ok(())
    }

    /// What stands at places, by place; of a place that the terminal says nothing about there is no entry at all.
    async fn standing(&mut self, places: &[u16]) -> Result<BTreeMap<u16, Option<ArchiveMeter>>, ScanFailure> {
        let mut standing = BTreeMap::new();
        for few in places.chunks(PLACES_AT_ONCE.into()) {
            if let Some(meters) = self.standing_at(few).await? {
                standing.extend(few.iter().map(|place| (*place, None)));
                let asked = meters.into_iter().filter(|meter| few.contains(&meter.place));
                standing.extend(asked.map(|meter| (meter.place, Some(meter))));
            }
        }
        Ok(standing)
    }

    /// Writes some meters in one frame; if they are denied, each half on its own, down to who is denied alone.
    async fn write_few(&mut self, meters: &[ArchiveMeter], denied: &mut BTreeMap<u16, u8>) -> Result<(), ScanFailure> {
        let mut open = vec![meters.to_vec()];
        while let Some(meters) = open.pop() {
            let Ok(question) = Question::write_archive(NO_TERMINAL, &meters) else {
                continue;
            };
            self.questions = self.questions.saturating_add(1);
            let outcome = self.visit(vec![Request::Gdw376(question)], THINKS, 1).await?;
            let result = outcome.reports.into_iter().next().map(|report| report.result);
            // silence is not asked again: what became of it is read back
            let Some(Err(TransactionError::Refused(code))) = result else {
                continue;
            };
            match meters.as_slice() {
                [alone] => drop(denied.insert(alone.place, code)),
                several => {
                    let (front, back) = several.split_at(several.len() / 2);
                    open.extend([back.to_vec(), front.to_vec()]);
                }
            }
        }
        Ok(())
    }

    /// The meters of the archive, with what they show and how they are reached: all of them asked in one visit, which
    /// takes as few frames as hold them.
    async fn described(&mut self, meters: &[ArchiveMeter]) -> Result<Vec<FoundMeter>, ScanFailure> {
        let [single, three] = MODELS;
        let model = self.parts.catalogue.get(Protocol::Gdw376, three).cloned();
        let asked = |meter: &ArchiveMeter| -> Option<(Vec<Request>, Question)> {
            let values = plan(model.as_deref()?, &meter.point.to_string(), &SHOWN).ok()?;
            let id = Id {
                pn: Pn::new(meter.point)?,
                item: Fn::new(ROUTE)?,
            };
            let route = Question::new(NO_TERMINAL, Afn::REALTIME, [Ask::plain(id)]).ok()?;
            Some((values, route))
        };
        let asked: Vec<Option<(Vec<Request>, Question)>> = meters.iter().map(asked).collect();
        let requests: Vec<Request> = asked
            .iter()
            .flatten()
            .flat_map(|(values, route)| values.iter().cloned().chain([Request::Gdw376(route.clone())]))
            .collect();
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        self.questions = self.questions.saturating_add(1);
        let outcome = self.visit(requests, THINKS, 2).await?;
        let mut results = outcome.reports.into_iter().map(|report| report.result.ok());
        let mut found = Vec::new();
        for (meter, asked) in meters.iter().zip(asked) {
            let Some((values, route)) = asked else { continue };
            let answers: Vec<Option<Vec<u8>>> = values.iter().map(|_| results.next().flatten()).collect();
            let frames: Vec<Option<&[u8]>> = answers.iter().map(Option::as_deref).collect();
            let poll = model.as_ref().map(|model| decode(model, &values, &frames).only(&SHOWN));
            let said = results.next().flatten();
            let route = said.and_then(|bytes| route_of(&route, &bytes));
            found.push(found_of(meter, poll.as_ref(), route, [single, three]));
        }
        Ok(found)
    }
}

/// The meter as it is written: what we do not say (speed, digits, class, password) stays as it is there, if it is the same
/// meter. None for what cannot be written.
fn meter_of(change: &ArchiveChange, before: &BTreeMap<u16, Option<ArchiveMeter>>) -> Option<ArchiveMeter> {
    let entry = match change {
        ArchiveChange::Remove { place, .. } => {
            // point 0 takes the place out of use
            return Some(ArchiveMeter::new(*place, 0, [0; 6]));
        }
        ArchiveChange::Put(entry) => entry,
    };
    let address = wire_of(&entry.meter_address)?;
    // at whichever of the places: it may move
    let mut there = before.values().flatten();
    let same = there.find(|meter| meter.address == address && meter.point == entry.point);
    let base = same
        .cloned()
        .unwrap_or_else(|| ArchiveMeter::new(entry.place, entry.point, address));
    Some(ArchiveMeter {
        place: entry.place,
        port: entry.port,
        protocol: MeterProtocol::by_name(&entry.meter_protocol)?,
        tariffs: entry.tariffs,
        collector: if entry.collector.is_empty() {
            [0; 6]
        } else {
            wire_of(&entry.collector)?
        },
        ..base
    })
}

/// Twelve digits as they go over the wire.
fn wire_of(digits: &str) -> Option<[u8; 6]> {
    let mut bytes: [u8; 6] = crate::base::hex::decode(digits).ok()?.try_into().ok()?;
    bytes.reverse();
    Some(bytes)
}

/// What became of a change, by what stands at its place now.
fn outcome_of(change: &ArchiveChange, after: Option<&Option<ArchiveMeter>>, code: Option<u8>) -> WriteOutcome {
    let as_wanted = |there: &Option<ArchiveMeter>| match (change, there) {
        (ArchiveChange::Remove { .. }, there) => there.is_none(),
        (ArchiveChange::Put(entry), Some(there)) => {
            entry.differs_in(&entry_of(there)).is_empty() && there.point == entry.point
        }
        (ArchiveChange::Put(_), None) => false,
    };
    match (after, code) {
        (Some(there), _) if as_wanted(there) => WriteOutcome::Written,
        (_, Some(_)) => WriteOutcome::Denied,
        (Some(_), None) => WriteOutcome::Otherwise,
        (None, None) => WriteOutcome::Unknown,
    }
}

/// A place as it is compared.
fn entry_of(meter: &ArchiveMeter) -> ArchiveEntry {
    ArchiveEntry {
        point: meter.point,
        place: meter.place,
        meter_address: meter.address_text(),
        meter_protocol: meter.protocol.name().to_owned(),
        port: meter.port,
        collector: hex_of(meter.collector),
        tariffs: meter.tariffs,
    }
}

/// A meter as it is proposed: with a second voltage it has three phases.
fn found_of(
    meter: &ArchiveMeter,
    poll: Option<&DecodedPoll>,
    route: Option<Route>,
    [single, three]: [&str; 2],
) -> FoundMeter {
    let second = Measurand::Standard(Quantity::VoltageL2);
    let phases = poll.is_some_and(|poll| poll.items.iter().any(|item| item.measurand == second));
    let (model, other) = if phases { (three, single) } else { (single, three) };
    FoundMeter {
        protocol: Protocol::Gdw376.name().to_owned(),
        address: meter.point.to_string(),
        model: Some(model.to_owned()),
        others: vec![other.to_owned()],
        values: poll.map(values).unwrap_or_default(),
        archive: Some(ArchivePlace {
            place: meter.place,
            meter_address: meter.address_text(),
            meter_protocol: meter.protocol.name().to_owned(),
            port: meter.port,
            collector: hex_of(meter.collector),
            tariffs: meter.tariffs,
            route,
        }),
    }
}

/// How the terminal reaches a point, where it says so.
fn route_of(question: &Question, bytes: &[u8]) -> Option<Route> {
    let answer = question.answer(&messages(bytes), Edition::default()).ok()?;
    let Said::Data(units) = answer.said else { return None };
    let reading = units.into_iter().next()?.reading?;
    let small = |name| reading.number(name, None).and_then(|number| number.to_u8());
    let bits = |name: &str| {
        let entry = reading.entries.iter().find(|entry| entry.field.name == name)?;
        match entry.value {
            Ok(Value::Bits(bits)) => u8::try_from(bits).ok(),
            _ => None,
        }
    };
    Some(Route {
        relays: small("relay levels"),
        phase_bits: bits("phase"),
        signal_bits: bits("signal quality"),
        failures: small("failures in a row"),
        last_success: reading.time("last success"),
    })
}

/// The messages in an answer.
pub(super) fn messages(bytes: &[u8]) -> Vec<Message> {
    let (mut rest, mut messages) = (bytes, Vec::new());
    while let Found::Frame { span, frame } = find(rest) {
        messages.extend(Message::of(&frame).ok());
        rest = rest.get(span.end..).unwrap_or_default();
    }
    messages
}

/// A collector's address as it is printed; empty where the meter has none.
fn hex_of(mut wire: [u8; 6]) -> String {
    if wire == [0; 6] {
        return String::new();
    }
    wire.reverse();
    crate::base::hex::encode(&wire)
}

#[cfg(test)]
#[path = "archive_tests.rs"]
pub(super) mod tests;
