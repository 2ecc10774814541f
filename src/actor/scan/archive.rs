//! A concentrator is not searched: it has an archive (AFN 0A F10) that says which meter is at which measuring point. That is
//! read place by place, with what the terminal says of the way to each (0C F170), and proposed like what a search finds.

use super::{Scan, values};
use crate::device::decode::{DecodedPoll, decode};
use crate::device::plan::plan;
use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::port::scan::{ArchivePlace, FoundMeter, Route, ScanFailure, ScanProgress};
use crate::protocol::gdw376::format::Value;
use crate::protocol::gdw376::{
    Afn, ArchiveMeter, Ask, Edition, Fn, Found, Id, Message, NO_TERMINAL, Pn, Request as Question, Said, find,
};
use crate::protocol::{Protocol, Request};
use rust_decimal::prelude::ToPrimitive;
use std::time::Duration;

/// Places of one question: their meters fill half an answer.
const PLACES_AT_ONCE: u16 = 64;
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
            notes: Vec::new(),
        });
    }

    /// The meters at some places.
    async fn places(&mut self, first: u16) -> Result<Vec<ArchiveMeter>, ScanFailure> {
        let places: Vec<u16> = (first..first + PLACES_AT_ONCE).collect();
        // so few places always fit
        let Ok(question) = Question::read_archive(NO_TERMINAL, &places) else {
            return Ok(Vec::new());
        };
        self.questions = self.questions.saturating_add(1);
        let asked = vec![Request::Gdw376(question.clone())];
        let outcome = self.visit(asked, THINKS, 2).await?;
        let bytes = outcome.reports.into_iter().next().and_then(|report| report.result.ok());
        let meters = bytes.and_then(|bytes| {
            let answer = question.answer(&messages(&bytes), Edition::default()).ok()?;
            answer.archive().ok()
        });
        let meters = meters.unwrap_or_default().into_iter();
        Ok(meters.filter(|meter| meter.point > 0).collect())
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
fn messages(bytes: &[u8]) -> Vec<Message> {
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
