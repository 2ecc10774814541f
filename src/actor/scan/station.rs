//! A terminal of DL/T 698.45 is not searched: it has an archive (object 6000) that says which meters it reads. That is asked for
//! in one question, however long the answer is, and proposed like what a search finds, with what the meters show.

use super::{Scan, values};
use crate::device::decode::{DecodedPoll, decode};
use crate::device::plan::plan;
use crate::domain::archive::POINT_MAX;
use crate::domain::quantity::Quantity;
use crate::port::field::TransactionError;
use crate::port::scan::{ArchivePlace, FoundMeter, ScanFailure, ScanProgress};
use crate::protocol::dlt698::archive::{ARCHIVE, Archive, ArchiveMeter, MeterProtocol, Wiring, archive};
use crate::protocol::dlt698::{Address, Apdu, GetResult, ItemResult, Piid, Refusal, Request as Question, ValueResult};
use crate::protocol::{Protocol, Request};
use std::time::Duration;

/// Meters that are asked what they show at once.
const AT_ONCE: usize = 64;
/// What a terminal takes to look something up.
const THINKS: Duration = Duration::from_secs(10);
/// The models, by phases.
const MODELS: [&str; 2] = ["dlt698_single_phase", "dlt698_three_phase"];
/// What shows that a meter is there.
const SHOWN: [Quantity; 2] = [Quantity::ActiveEnergyImport, Quantity::VoltageL1];

impl Scan {
    /// Reads the archive, and asks each meter of it for a few values.
    ///
    /// # Errors
    /// [`ScanFailure`]; what was read by then has been told.
    pub(super) async fn station(&mut self) -> Result<(), ScanFailure> {
        let mut notes = Vec::new();
        let meters = match self.station_archive().await? {
            Ok(archive) => {
                if let Some(why) = &archive.why {
                    notes.push(format!(
                        "{} meters of the archive cannot be read: {why}",
                        archive.unread
                    ));
                }
                archive.meters
            }
            Err(why) => {
                notes.push(format!("the terminal does not tell its archive: {why}"));
                Vec::new()
            }
        };
        let (meters, strange): (Vec<_>, Vec<_>) = meters
            .into_iter()
            .partition(|meter| (1..=POINT_MAX).contains(&meter.number));
        if !strange.is_empty() {
            let count = strange.len();
            notes.push(format!(
                "{count} meters have numbers beyond 1 to {POINT_MAX} and are left out"
            ));
        }
        let others = meters.iter().filter(|meter| meter.protocol != MeterProtocol::DLT698);
        let others = others.count();
        if others > 0 {
            notes.push(format!(
                "{others} meters do not speak DL/T 698.45 and are not read through the terminal"
            ));
        }
        for few in meters.chunks(AT_ONCE) {
            let found = self.shown(few).await?;
            self.meters.extend(found);
            self.tell_station(true, &notes);
        }
        self.tell_station(false, &notes);
        Ok(())
    }

    fn tell_station(&self, reading: bool, notes: &[String]) {
        (self.parts.tell)(ScanProgress {
            asked: self.questions,
            left: 0,
            searching: reading.then(|| Protocol::Dlt698.name().to_owned()),
            found: self.meters.clone(),
            written: Vec::new(),
            settings: Vec::new(),
            notes: notes.to_vec(),
        });
    }

    /// The archive, or why there is none.
    async fn station_archive(&mut self) -> Result<Result<Archive, String>, ScanFailure> {
        // one attribute always fits
        let Ok(question) = Question::get(Address::ANYONE, Piid::new(0), &[ARCHIVE]) else {
            return Ok(Err("it cannot be asked".to_owned()));
        };
        self.questions = self.questions.saturating_add(1);
        let asked = vec![Request::Dlt698(question.clone())];
        let outcome = self.visit(asked, THINKS, 2).await?;
        let bytes = match outcome.reports.into_iter().next().map(|report| report.result) {
            Some(Ok(bytes)) => bytes,
            Some(Err(TransactionError::Refused(code))) => return Ok(Err(Refusal::of_code(code).to_string())),
            Some(Err(error)) => return Ok(Err(error.to_string())),
            None => return Ok(Err("it says nothing".to_owned())),
        };
        let data = match question.reply(&bytes) {
            Ok(Apdu::GetAnswer(answered)) => match answered.body {
                GetResult::Normal(ItemResult {
                    result: ValueResult::Data(data),
                    ..
                }) => data,
                _ => return Ok(Err("it answers something else".to_owned())),
            },
            Ok(_) => return Ok(Err("it answers something else".to_owned())),
            Err(error) => return Ok(Err(error.to_string())),
        };
        Ok(archive(&data).map_err(|error| error.to_string()))
    }

    /// Some meters of the archive, with what they show: all of them asked in one visit, which takes as few questions as
    /// hold them.
    async fn shown(&mut self, meters: &[ArchiveMeter]) -> Result<Vec<FoundMeter>, ScanFailure> {
        let models = MODELS.map(|name| self.parts.catalogue.get(Protocol::Dlt698, name).cloned());
        let asked: Vec<_> = meters
            .iter()
            .map(|meter| {
                let model = models
                    .get(usize::from(meter.wiring != Wiring::Single))
                    .cloned()
                    .flatten();
                let model = model.filter(|_| meter.protocol == MeterProtocol::DLT698)?;
                let requests = plan(&model, &meter.address.to_string(), &SHOWN).ok()?;
                Some((model, requests))
            })
            .collect();
        let requests: Vec<Request> = asked
            .iter()
            .flatten()
            .flat_map(|(_, requests)| requests.iter().cloned())
            .collect();
        let mut results = Vec::new().into_iter();
        if !requests.is_empty() {
            self.questions = self.questions.saturating_add(1);
            let outcome = self.visit(requests, THINKS, 2).await?;
            let answers: Vec<Option<Vec<u8>>> = outcome.reports.into_iter().map(|report| report.result.ok()).collect();
            results = answers.into_iter();
        }
        let mut found = Vec::new();
        for (meter, asked) in meters.iter().zip(asked) {
            let poll = asked.map(|(model, requests)| {
                let answers: Vec<Option<Vec<u8>>> = requests.iter().map(|_| results.next().flatten()).collect();
                let frames: Vec<Option<&[u8]>> = answers.iter().map(Option::as_deref).collect();
                decode(&model, &requests, &frames).only(&SHOWN)
            });
            found.push(found_of(meter, poll.as_ref()));
        }
        Ok(found)
    }
}

/// What we call the protocol of a meter.
fn protocol_of(protocol: MeterProtocol) -> &'static str {
    match protocol {
        MeterProtocol::DLT645_1997 => Protocol::Dlt645_1997.name(),
        MeterProtocol::DLT645_2007 => Protocol::Dlt645_2007.name(),
        MeterProtocol::CJT188 => Protocol::Cjt188.name(),
        _ => Protocol::Dlt698.name(),
    }
}

/// A meter as it is proposed. Only those that can be read through the terminal have a model.
fn found_of(meter: &ArchiveMeter, poll: Option<&DecodedPoll>) -> FoundMeter {
    let [single, three] = MODELS;
    let (model, other) = match meter.wiring {
        Wiring::Single => (single, three),
        _ => (three, single),
    };
    let fits = meter.protocol == MeterProtocol::DLT698;
    FoundMeter {
        protocol: protocol_of(meter.protocol).to_owned(),
        address: meter.address.to_string(),
        model: fits.then(|| model.to_owned()),
        others: if fits { vec![other.to_owned()] } else { Vec::new() },
        values: poll.map(values).unwrap_or_default(),
        archive: Some(ArchivePlace {
            place: meter.number,
            meter_address: meter.address.to_string(),
            meter_protocol: meter.protocol.name().to_owned(),
            port: meter.port_number(),
            collector: meter
                .collector
                .map(|collector| collector.to_string())
                .unwrap_or_default(),
            tariffs: meter.tariffs,
            route: None,
        }),
    }
}

#[cfg(test)]
#[path = "station_tests.rs"]
mod tests;
