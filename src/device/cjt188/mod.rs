//! Meter models that speak CJ/T 188: which frames a meter answers and what stands in each, one value behind the other.

pub(super) mod decode;
pub(super) mod history;
pub mod image;
pub(super) mod parse;
mod parse_field;
pub(super) mod plan;

use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::protocol::cjt188::record::Form;
use crate::protocol::cjt188::value::StatusBits;
use crate::protocol::cjt188::{Address, DataId, DiOrder, Frame, Leniency, MeterType, Request, Target};
use serde::Serialize;

/// How a meter model is asked and what it answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordProfile {
    /// How it is asked.
    pub ask: Ask,
    /// What it answers, one frame each.
    pub records: Vec<Record>,
    /// What it keeps of past months.
    pub history: Option<history::History>,
}

/// How a meter is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ask {
    /// The type in the question.
    pub meter_type: MeterType,
    /// Which byte of the identifier comes first.
    pub di_order: DiOrder,
    /// The serial number in the question.
    pub ser: u8,
    /// FE bytes before it.
    pub preamble: u8,
    /// What the answer need not repeat.
    pub lenient: Leniency,
}

impl RecordProfile {
    /// A meter that answers nothing.
    pub fn empty() -> Self {
        let ask = Ask {
            meter_type: MeterType::COLD_WATER,
            di_order: DiOrder::HighFirst,
            ser: 0,
            preamble: 0,
            lenient: Leniency::default(),
        };
        Self {
            ask,
            records: Vec::new(),
            history: None,
        }
    }

    /// Whether the meter whose answer this is may be of this kind: the frame says its type.
    pub(super) fn may_be(&self, answer: &[u8]) -> bool {
        Frame::parse(answer).is_ok_and(|frame| self.ask.lenient.meter_type || frame.meter_type == self.ask.meter_type)
    }

    /// A recorded question, its answer taken as the model's are.
    pub(super) fn as_asked(&self, request: Request) -> Request {
        let request = request.with_lenient(self.ask.lenient);
        match self.records.iter().find(|record| record.di == request.di()) {
            Some(record) => plan::with_length(request, record),
            None => request,
        }
    }
}

impl Ask {
    /// The meter at an address.
    pub fn target(&self, address: Address) -> Target {
        Target {
            meter_type: self.meter_type,
            address,
            order: self.di_order,
            ser: self.ser,
            preamble: self.preamble,
            lenient: self.lenient,
        }
    }
}

/// What one frame holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// The identifier that is asked for.
    pub di: DataId,
    /// Its values, in the order of the frame.
    pub fields: Vec<Field>,
}

/// A value of a frame.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Field {
    /// How it is written.
    pub form: Form,
    /// Its unit: of a number whose frame says it, the unit that a virtual meter says. Empty where there is none.
    pub unit: String,
    /// What it tells; nothing for the clock and for what is passed over.
    pub gives: Vec<Given>,
    /// Where the bits of a status word stand.
    pub status: Option<StatusBits>,
    /// Whether a poll of everything wants it.
    pub poll: bool,
}

/// What a field tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Given {
    /// What.
    pub measurand: Measurand,
    /// Which part of the field.
    pub part: Part,
}

/// A part of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The number.
    Number,
    /// The whole status word.
    Word,
    /// The valve: 0 closed, 1 open, 2 undefined, 3 abnormal.
    Valve,
    /// 1: the battery is low.
    BatteryLow,
}

impl Record {
    /// How many data bytes it has.
    pub fn len(&self) -> usize {
        self.fields.iter().map(|field| field.form.len()).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it tells, with whether a poll of everything wants it.
    pub fn measurands(&self) -> impl Iterator<Item = (&Measurand, bool)> {
        self.fields
            .iter()
            .flat_map(|field| field.gives.iter().map(|given| (&given.measurand, field.poll)))
    }

    /// Whether it is to be asked for; nothing wanted: everything that is polled.
    fn is_wanted(&self, wanted: &[Quantity]) -> bool {
        self.measurands().any(|(measurand, poll)| match measurand {
            _ if wanted.is_empty() => poll,
            Measurand::Standard(quantity) => wanted.contains(quantity),
            Measurand::Vendor(_) => false,
        })
    }
}

#[cfg(test)]
mod tests;
