//! What hangs on a line: searches, one per protocol, as a queue of questions and what was heard to each. Without time,
//! socket or meter model: whoever drives a [`Survey`] asks for the next [`Probe`], does it on the line when nobody else
//! wants it, and says what it heard.
//!
//! A search ends by itself: every one has an upper bound of questions, and a line on which everything answers with
//! garbage is given up with a word about it ([`Note`]).

mod digits;
mod mbus;
mod modbus;

use crate::domain::archive::ArchiveChange;
use crate::domain::parameter::ParameterPlan;
use crate::protocol::{Protocol, Request};
use digits::DigitSearch;
use mbus::MbusSearch;
use modbus::UnitSweep;
use std::collections::VecDeque;
use std::time::Duration;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPlan {
    /// The protocols, in the order of the search.
    pub protocols: Vec<Protocol>,
    /// The Modbus units that are tried, first and last.
    pub units: (u8, u8),
    /// Ask on where somebody was found already: two meters may answer as one.
    pub thorough: bool,
    /// What is written into the archive of a concentrator before it is read; nothing for a line.
    pub writes: Vec<ArchiveChange>,
    /// The settings that a concentrator or terminal is asked for, and nothing else; none: it is searched, or its archive read.
    pub settings: Option<ParameterPlan>,
}

impl Default for ScanPlan {
    /// Everything that a line may carry; what takes long comes last.
    fn default() -> Self {
        Self {
            protocols: vec![
                Protocol::Dlt645_2007,
                Protocol::Dlt645_1997,
                Protocol::Dlt698,
                Protocol::Cjt188,
                Protocol::Mbus,
                Protocol::ModbusRtu,
            ],
            units: (1, crate::protocol::modbus::UNIT_MAX),
            thorough: false,
            writes: Vec::new(),
            settings: None,
        }
    }
}

/// One question of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The question.
    pub request: Request,
    /// How long a meter of this protocol may think, without the time on the line.
    pub turnaround: Duration,
    /// How often it is asked when nobody answers.
    pub attempts: u8,
}

/// What the line said to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Nothing came.
    Silence,
    /// The answer.
    Answer(&'a [u8]),
    /// A refusal, which is as much of a sign of life.
    Refused,
    /// Bytes came that are no answer: several at once, or another speed.
    Garbage,
}

/// Somebody who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it speaks.
    pub protocol: Protocol,
    /// Its address, as a meter's address is written.
    pub address: String,
    /// The answer by which it was found; models are recognised by it where it says who it is.
    pub answer: Vec<u8>,
}

/// What a person should know about a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Of which search.
    pub protocol: Protocol,
    /// What.
    pub text: String,
}

/// One protocol's search.
trait Search: std::fmt::Debug + Send {
    /// The next question; none when it is over. Asked twice without [`Search::hear`] between, it says the same.
    fn probe(&mut self) -> Option<Probe>;

    /// What the line said to it.
    fn hear(&mut self, heard: Heard<'_>, found: &mut Vec<Found>);

    /// Questions that are left, as far as can be told now.
    fn left(&self) -> u32;

    /// What should be said when it is over.
    fn note(&self) -> Option<String>;
}

/// All searches of a scan, one behind the other.
#[derive(Debug)]
pub struct Survey {
    searches: VecDeque<(Protocol, Box<dyn Search>)>,
    found: Vec<Found>,
    notes: Vec<Note>,
    asked: u32,
}

impl Survey {
    /// A survey that has not begun. Modbus TCP has no line to search; it is left out.
    pub fn new(plan: &ScanPlan) -> Self {
        let mut searches: VecDeque<(Protocol, Box<dyn Search>)> = VecDeque::new();
        for protocol in &plan.protocols {
            let search: Box<dyn Search> = match protocol {
                Protocol::ModbusRtu => Box::new(UnitSweep::new(plan.units, plan.thorough)),
                Protocol::Dlt645_2007 => Box::new(DigitSearch::dlt645_2007(plan.thorough)),
                Protocol::Dlt645_1997 => Box::new(DigitSearch::dlt645_1997(plan.thorough)),
                Protocol::Cjt188 => Box::new(DigitSearch::cjt188(plan.thorough)),
                Protocol::Mbus => Box::new(MbusSearch::new(plan.thorough)),
                Protocol::Dlt698 => Box::new(DigitSearch::dlt698(plan.thorough)),
                // not of a line
                Protocol::ModbusTcp | Protocol::Gdw376 => continue,
            };
            searches.push_back((*protocol, search));
        }
        Self {
            searches,
            found: Vec::new(),
            notes: Vec::new(),
            asked: 0,
        }
    }

    /// The next question; none when all searches are over.
    pub fn probe(&mut self) -> Option<Probe> {
        while let Some((protocol, search)) = self.searches.front_mut() {
            if let Some(probe) = search.probe() {
                return Some(probe);
            }
            if let Some(text) = search.note() {
                let protocol = *protocol;
                self.notes.push(Note { protocol, text });
            }
            self.searches.pop_front();
        }
        None
    }

    /// What the line said to it.
    pub fn hear(&mut self, heard: Heard<'_>) {
        self.asked += 1;
        let mut found = Vec::new();
        if let Some((_, search)) = self.searches.front_mut() {
            search.hear(heard, &mut found);
        }
        for one in found {
            if !self
                .found
                .iter()
                .any(|known| known.protocol == one.protocol && known.address == one.address)
            {
                self.found.push(one);
            }
        }
    }

    /// What is searched now.
    pub fn protocol(&self) -> Option<Protocol> {
        self.searches.front().map(|(protocol, _)| *protocol)
    }

    /// Who was found by now.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// What should be said.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Questions asked, and those that are left as far as can be told now.
    pub fn progress(&self) -> (u32, u32) {
        let left = self
            .searches
            .iter()
            .fold(0u32, |sum, (_, search)| sum.saturating_add(search.left()));
        (self.asked, left)
    }
}

#[cfg(test)]
mod tests;
