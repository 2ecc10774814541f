//! Settings of a concentrator or terminal: read one item after the other, compared with what is wanted, written where that was
//! agreed to, and read back.
//!
//! A value is written only while it is what it was when somebody agreed to write it, into the item as it was just read, so that
//! nothing beside it changes. It is asked for once: silence is not asked again, what became of it is read back. What decides
//! how the terminal is reached comes last, because nothing may come behind it.

use super::archive::messages;
use super::{AGAIN, PATIENCE, ROUND_TRIP, Scan};
use crate::device::parameter::{self, Place, PlaceError, dlt698, gdw376};
use crate::domain::parameter::{
    CLOCK_TOLERANCE_S, Kind, MOMENT, Parameter, ParameterAsk, ParameterOutcome, ParameterPlan, ParameterValue,
};
use crate::port::field::{LinkError, TransactionError};
use crate::port::scan::{ScanFailure, ScanProgress};
use crate::protocol::dlt698::{Address, Apdu, Data, GetResult, ItemResult, Oad, Piid, Request as Station, ValueResult};
use crate::protocol::dtu::Framing;
use crate::protocol::gdw376::{Afn, Ask, Edition, Id, NO_TERMINAL, Request as Question, Said as Answered};
use crate::protocol::{Protocol, Request};
use chrono::NaiveDateTime;
use std::time::Duration;

/// What a terminal takes to look something up, or to put it into its memory.
const THINKS: Duration = Duration::from_secs(10);
/// How long something that is written may wait for the line: a clock is set to what it was then.
const WRITE_WAIT: Duration = Duration::from_secs(60);
/// The same for a clock.
const CLOCK_WAIT: Duration = Duration::from_secs(5);
/// Items in a row that the terminal did not answer for; behind them nothing more is asked.
const SILENT_MAX: u8 = 2;

/// What is asked and written as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    /// An item of a point.
    Gdw376(Afn, Id),
    /// An attribute.
    Dlt698(Oad),
}

/// An item as the terminal says it.
#[derive(Clone, Debug, PartialEq)]
enum Content {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// Its value.
    Data(Data),
}

/// What came of a question for an item.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    /// This.
    Content(Content),
    /// The terminal does not have it, or answers something else.
    Nothing(Option<u8>),
    /// The terminal did not answer.
    Silence,
}

/// What came of writing an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrote {
    /// The terminal says that it did it, or says nothing: who reads it back knows.
    Perhaps,
    /// It refused.
    Refused(u8),
    /// It never went out.
    Never,
}

/// A setting with its place, and where its outcome stands.
struct Wish<'a> {
    at: usize,
    ask: &'a ParameterAsk,
    setting: &'static parameter::Parameter,
}

impl Scan {
    /// Reads settings, and writes them where the plan says so.
    ///
    /// # Errors
    /// [`ScanFailure`]; what became of each by then has been told.
    pub(super) async fn settings(&mut self, plan: &ParameterPlan, framing: &str) -> Result<(), ScanFailure> {
        let protocol = match framing {
            "" => return Err(ScanFailure::Offline),
            framing if framing == Framing::Gdw376.name() => Protocol::Gdw376,
            framing if framing == Framing::Dlt698.name() => Protocol::Dlt698,
            _ => return Err(ScanFailure::NoConcentrator),
        };
        if protocol.name() != plan.protocol {
            return Err(ScanFailure::OtherProtocol);
        }
        let mut told: Vec<Parameter> = plan
            .asks
            .iter()
            .map(|ask| Parameter::unread(ask, ParameterOutcome::Silent))
            .collect();
        let mut silent = 0;
        for (item, wishes) in grouped(protocol, &plan.asks, &mut told) {
            if silent >= SILENT_MAX {
                break;
            }
            let said = self.say(item).await?;
            silent = if said == Said::Silence { silent + 1 } else { 0 };
            self.judge(plan, &wishes, &said, &mut told);
            if plan.write {
                self.write_item(plan, item, &wishes, &said, &mut told).await?;
            }
            self.tell_settings(&told, true);
        }
        self.tell_settings(&told, false);
        Ok(())
    }

    fn tell_settings(&self, told: &[Parameter], asking: bool) {
        let unread = told
            .iter()
            .filter(|setting| setting.outcome == ParameterOutcome::Silent)
            .count();
        (self.parts.tell)(ScanProgress {
            asked: self.questions,
            left: if asking {
                u32::try_from(unread).unwrap_or(u32::MAX)
            } else {
                0
            },
            settings: told.to_vec(),
            ..ScanProgress::default()
        });
    }

    /// What the terminal's clock should show now.
    fn local(&self, plan: &ParameterPlan) -> NaiveDateTime {
        self.parts.clock.now().with_timezone(&plan.zone).naive_local()
    }

    /// What an item shows of each wish, and how that compares.
    fn judge(&self, plan: &ParameterPlan, wishes: &[Wish<'_>], said: &Said, told: &mut [Parameter]) {
        for wish in wishes {
            let Some(told) = told.get_mut(wish.at) else { continue };
            match said {
                Said::Silence => told.outcome = ParameterOutcome::Silent,
                Said::Nothing(code) => (told.outcome, told.code) = (ParameterOutcome::Absent, *code),
                Said::Content(content) => match value_in(wish, content) {
                    Err(_) => told.outcome = ParameterOutcome::Absent,
                    Ok(value) => {
                        told.ahead_s = self.ahead(plan, wish, &value);
                        told.outcome = match &wish.ask.wanted {
                            None => ParameterOutcome::Read,
                            Some(wanted) if is_wanted(wanted, &value, told.ahead_s) => ParameterOutcome::Same,
                            Some(_) => ParameterOutcome::Differs,
                        };
                        told.present = Some(value);
                    }
                },
            }
        }
    }

    /// How far a clock is ahead; none of anything else.
    fn ahead(&self, plan: &ParameterPlan, wish: &Wish<'_>, value: &ParameterValue) -> Option<i64> {
        let (Kind::Clock, ParameterValue::Text(text)) = (wish.setting.spec.kind, value) else {
            return None;
        };
        let shown = NaiveDateTime::parse_from_str(text, MOMENT).ok()?;
        Some(shown.signed_duration_since(self.local(plan)).num_seconds())
    }

    /// Writes what differs of an item, and reads it back.
    async fn write_item(
        &mut self,
        plan: &ParameterPlan,
        item: Item,
        wishes: &[Wish<'_>],
        said: &Said,
        told: &mut [Parameter],
    ) -> Result<(), ScanFailure> {
        let Said::Content(content) = said else { return Ok(()) };
        let mut content = content.clone();
        let mut changed: Vec<&Wish<'_>> = Vec::new();
        let mut clock = false;
        for wish in wishes {
            let Some(told) = told.get_mut(wish.at) else { continue };
            let Some(wanted) = wish
                .ask
                .wanted
                .as_ref()
                .filter(|_| told.outcome == ParameterOutcome::Differs)
            else {
                continue;
            };
            let is_clock = wish.setting.spec.kind == Kind::Clock;
            // a clock goes on; everything else has to be what somebody saw
            if !is_clock && wish.ask.seen != told.present {
                told.outcome = ParameterOutcome::Changed;
                continue;
            }
            if !is_clock && put(wish, &mut content, wanted).is_err() {
                told.outcome = ParameterOutcome::Refused;
                continue;
            }
            clock |= is_clock;
            told.before = told.present.clone();
            changed.push(wish);
        }
        if changed.is_empty() {
            return Ok(());
        }
        let wrote = self.put_out(plan, item, &content, clock).await?;
        // nothing is known of it until it is read back, whatever fails on the way
        for wish in &changed {
            if let Some(told) = told.get_mut(wish.at) {
                told.outcome = ParameterOutcome::Unknown;
            }
        }
        self.tell_settings(told, true);
        let after = match wrote {
            Wrote::Never => Said::Silence,
            _ => self.say(item).await.unwrap_or(Said::Silence),
        };
        for wish in changed {
            let Some(told) = told.get_mut(wish.at) else { continue };
            self.conclude(plan, wish, wrote, &after, told);
        }
        Ok(())
    }
}

impl Scan {
    /// What became of a setting that was written.
    fn conclude(&self, plan: &ParameterPlan, wish: &Wish<'_>, wrote: Wrote, after: &Said, told: &mut Parameter) {
        let Some(wanted) = &wish.ask.wanted else { return };
        let read = match after {
            Said::Content(content) => value_in(wish, content).ok(),
            _ => None,
        };
        told.ahead_s = read
            .as_ref()
            .and_then(|value| self.ahead(plan, wish, value))
            .or(told.ahead_s);
        told.outcome = match (&read, wrote) {
            (_, Wrote::Never) => ParameterOutcome::Silent,
            (Some(value), _) if is_wanted(wanted, value, told.ahead_s) => ParameterOutcome::Written,
            (_, Wrote::Refused(code)) => {
                told.code = Some(code);
                ParameterOutcome::Refused
            }
            (Some(_), Wrote::Perhaps) => ParameterOutcome::Otherwise,
            (None, Wrote::Perhaps) => ParameterOutcome::Unknown,
        };
        if read.is_some() {
            told.present = read;
        }
    }

    /// Asks for an item.
    async fn say(&mut self, item: Item) -> Result<Said, ScanFailure> {
        let question = match item {
            Item::Gdw376(afn, id) => Question::new(NO_TERMINAL, afn, [Ask::plain(id)])
                .ok()
                .map(Request::Gdw376),
            Item::Dlt698(oad) => Station::get(Address::ANYONE, Piid::new(0), &[oad])
                .ok()
                .map(Request::Dlt698),
        };
        let Some(question) = question else {
            return Ok(Said::Nothing(None));
        };
        self.questions = self.questions.saturating_add(1);
        let outcome = self.visit(vec![question.clone()], THINKS, 2).await?;
        let result = outcome.reports.into_iter().next().map(|report| report.result);
        Ok(match result {
            Some(Ok(bytes)) => said_of(&question, item, &bytes).map_or(Said::Nothing(None), Said::Content),
            Some(Err(TransactionError::Refused(code))) => Said::Nothing(Some(code)),
            Some(Err(TransactionError::Unfit | TransactionError::Endless)) => Said::Nothing(None),
            _ => Said::Silence,
        })
    }

    /// Writes an item, once. What may have gone out is never sent again, whatever became of the session.
    async fn put_out(
        &mut self,
        plan: &ParameterPlan,
        item: Item,
        content: &Content,
        clock: bool,
    ) -> Result<Wrote, ScanFailure> {
        self.questions = self.questions.saturating_add(1);
        let began = self.parts.clock.monotonic();
        let wait = if clock { CLOCK_WAIT } else { WRITE_WAIT };
        loop {
            let now = self.parts.clock.monotonic();
            if let Some(link) = (self.parts.link)().await {
                let Some(request) = self.write_request(plan, item, content, clock) else {
                    return Ok(Wrote::Never);
                };
                let round_trip = link.stats().round_trip_ms;
                let round_trip = round_trip.map_or(ROUND_TRIP, |ms| Duration::from_millis(u64::from(ms) * 2));
                let job = self.job(vec![request], THINKS + round_trip, now + wait);
                match link.poll(job).await {
                    Ok(outcome) => {
                        return Ok(match outcome.reports.into_iter().next().map(|report| report.result) {
                            Some(Err(TransactionError::Refused(code))) => Wrote::Refused(code),
                            Some(Err(TransactionError::Deadline)) => Wrote::Never,
                            _ => Wrote::Perhaps,
                        });
                    }
                    // it was not begun
                    Err(LinkError::Busy | LinkError::Closed) => {}
                }
            }
            if self.parts.clock.monotonic() >= began + PATIENCE {
                return Ok(Wrote::Never);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The frame that writes an item; of a clock our time as it is now.
    fn write_request(&self, plan: &ParameterPlan, item: Item, content: &Content, clock: bool) -> Option<Request> {
        match (item, content) {
            (Item::Gdw376(..), _) if clock => Question::set_clock(NO_TERMINAL, self.local(plan))
                .ok()
                .map(Request::Gdw376),
            (Item::Dlt698(_), _) if clock => Station::set_clock(Address::ANYONE, Piid::new(0), self.local(plan))
                .ok()
                .map(Request::Dlt698),
            (Item::Gdw376(_, id), Content::Bytes(data)) => {
                let data = data.clone();
                Question::new(NO_TERMINAL, Afn::SET, [Ask { id, data }])
                    .ok()
                    .map(Request::Gdw376)
            }
            (Item::Dlt698(oad), Content::Data(data)) => Station::set(Address::ANYONE, Piid::new(0), oad, data.clone())
                .ok()
                .map(Request::Dlt698),
            _ => None,
        }
    }
}

/// The items that hold the settings, those last that decide how the terminal is reached. What has no place is absent.
fn grouped<'a>(protocol: Protocol, asks: &'a [ParameterAsk], told: &mut [Parameter]) -> Vec<(Item, Vec<Wish<'a>>)> {
    let mut plain: Vec<(Item, Vec<Wish<'a>>)> = Vec::new();
    let mut guarded: Vec<(Item, Vec<Wish<'a>>)> = Vec::new();
    for (at, ask) in asks.iter().enumerate() {
        let setting = parameter::find(protocol, &ask.name);
        let place = setting.and_then(|setting| Some((setting, item_of(setting, ask.number)?)));
        let Some((setting, item)) = place else {
            if let Some(told) = told.get_mut(at) {
                told.outcome = ParameterOutcome::Absent;
            }
            continue;
        };
        let items = if setting.spec.is_guarded() {
            &mut guarded
        } else {
            &mut plain
        };
        let wish = Wish { at, ask, setting };
        match items.iter_mut().find(|(known, _)| *known == item) {
            Some((_, wishes)) => wishes.push(wish),
            None => items.push((item, vec![wish])),
        }
    }
    plain.into_iter().chain(guarded).collect()
}

fn item_of(setting: &parameter::Parameter, number: u16) -> Option<Item> {
    match &setting.place {
        Place::Gdw376(place) => gdw376::question(place, number).map(|(afn, id)| Item::Gdw376(afn, id)),
        Place::Dlt698(place) => Some(Item::Dlt698(place.oad)),
    }
}

fn value_in(wish: &Wish<'_>, content: &Content) -> Result<ParameterValue, PlaceError> {
    match (&wish.setting.place, content) {
        (Place::Gdw376(place), Content::Bytes(data)) => gdw376::read(wish.setting, place, data),
        (Place::Dlt698(place), Content::Data(data)) => dlt698::read(wish.setting, place, data, wish.ask.number),
        _ => Err(PlaceError::Missing(wish.setting.spec.name)),
    }
}

fn put(wish: &Wish<'_>, content: &mut Content, wanted: &ParameterValue) -> Result<(), PlaceError> {
    match (&wish.setting.place, content) {
        (Place::Gdw376(place), Content::Bytes(data)) => gdw376::write(wish.setting, place, data, wanted),
        (Place::Dlt698(place), Content::Data(data)) => {
            dlt698::write(wish.setting, place, data, wish.ask.number, wanted)
        }
        _ => Err(PlaceError::Missing(wish.setting.spec.name)),
    }
}

/// Whether what stands there is what is wanted; a clock by how far it is off.
fn is_wanted(wanted: &ParameterValue, present: &ParameterValue, ahead_s: Option<i64>) -> bool {
    match ahead_s {
        Some(ahead) => ahead.abs() <= CLOCK_TOLERANCE_S,
        None => wanted == present,
    }
}

/// The item in an answer.
fn said_of(question: &Request, item: Item, bytes: &[u8]) -> Option<Content> {
    match (question, item) {
        (Request::Gdw376(question), Item::Gdw376(_, id)) => {
            let answer = question.answer(&messages(bytes), Edition::default()).ok()?;
            let Answered::Data(units) = answer.said else {
                return None;
            };
            let unit = units.into_iter().find(|unit| unit.id == id)?;
            Some(Content::Bytes(unit.data))
        }
        (Request::Dlt698(question), Item::Dlt698(_)) => match question.reply(bytes).ok()? {
            Apdu::GetAnswer(answered) => match answered.body {
                GetResult::Normal(ItemResult {
                    result: ValueResult::Data(data),
                    ..
                }) => Some(Content::Data(data)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
