//! The records of the variable structure (EN 13757-3, 6): DIF, DIFE, VIF, VIFE and the data field, one behind the other.

use super::value::{Coding, Value, ValueFault, Variable, fixed};
use super::vif::{self, Class, Mark, Meaning, Unit};
use m_bus_application_layer::DataRecordError;
use m_bus_application_layer::data_information::{DataInformation, DataInformationError};
use m_bus_application_layer::data_record::RawDataRecordHeader;
use m_bus_application_layer::value_information::ValueInformationBlock;

/// Special functions in place of a DIF.
const MAKER: u8 = 0x0F;
const MAKER_MORE: u8 = 0x1F;
const FILLER: u8 = 0x2F;
/// A DIF and at most ten DIFE.
const DIB_MAX: usize = 11;

/// Which of its values a meter tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Function {
    /// The value of now.
    Instant,
    /// The highest.
    Maximum,
    /// The lowest.
    Minimum,
    /// What it was while there was an error: not a measured value.
    Error,
}

impl Function {
    /// The name that meter models use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Instant => "instant",
            Self::Maximum => "maximum",
            Self::Minimum => "minimum",
            Self::Error => "error",
        }
    }

    /// Finds one by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Instant, Self::Maximum, Self::Minimum, Self::Error]
            .into_iter()
            .find(|known| known.name() == name)
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which value of its kind.
    pub function: Function,
    /// 0 now; others were stored at a time that the meter's manual or another record tells.
    pub storage: u64,
    /// 0 all tariffs together.
    pub tariff: u32,
    /// Which of the meter's devices.
    pub subunit: u16,
    /// What kind of value.
    pub class: Class,
    /// Its unit.
    pub unit: Unit,
    /// What narrows it.
    pub marks: Vec<Mark>,
    /// Its unit as a text of the meter, for [`Class::PlainText`].
    pub unit_text: Option<String>,
    /// The value.
    pub value: Value,
    /// Where the record begins in the user data.
    pub offset: usize,
    /// All of its bytes.
    pub raw: Vec<u8>,
    /// How many of them stand in front of the data.
    pub head: usize,
}

/// What the user data of a telegram holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// The records in their order.
    pub list: Vec<Record>,
    /// The meter has more in another telegram (DIF 1F).
    pub more: bool,
    /// What follows DIF 0F or 1F: the maker's own, raw.
    pub maker: Vec<u8>,
    /// Where and why no record can be read any more; what was read before stands.
    pub fault: Option<RecordFault>,
}

/// Why records cannot be read from some place on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record at byte {offset} of the data: {kind}")]
pub struct RecordFault {
    /// Where, from the first byte behind the header.
    pub offset: usize,
    /// What is wrong.
    pub kind: RecordFaultKind,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFaultKind {
    /// The data ends inside it.
    #[error("it breaks off")]
    BreaksOff,
    /// A special function that no meter sends.
    #[error("reserved DIF {0:02X}")]
    Dif(u8),
    /// More than ten DIFE.
    #[error("more than 10 DIFE")]
    TooManyDife,
    /// More than ten VIFE, or a unit text that is too long or not ASCII.
    #[error("more than 10 VIFE, or a unit text that is none")]
    Vif,
    /// A length that is reserved.
    #[error("reserved length {0:02X} of a variable field")]
    Length(u8),
}

impl From<DataRecordError> for RecordFaultKind {
    fn from(error: DataRecordError) -> Self {
        use DataInformationError as D;
        match error {
            DataRecordError::DataInformationError(D::DataTooLong) => Self::TooManyDife,
            DataRecordError::DataInformationError(D::InvalidValueInformation | D::Unimplemented { .. }) => Self::Vif,
            _ => Self::BreaksOff,
        }
    }
}

impl Records {
    /// Reads all records of user data. `high` says that numbers come high byte first.
    pub fn parse(data: &[u8], high: bool) -> Self {
        let mut out = Self::default();
        let mut offset = 0;
        while let Some((dif, behind)) = data.get(offset..).and_then(<[u8]>::split_first) {
            match *dif {
                FILLER => offset += 1,
                MAKER | MAKER_MORE => {
                    out.more = *dif == MAKER_MORE;
                    out.maker = behind.to_vec();
                    break;
                }
                _ => match Record::parse(data.get(offset..).unwrap_or_default(), offset, high) {
                    Ok(record) => {
                        // a record has at least a DIF and a VIF
                        offset += record.raw.len().max(1);
                        out.list.push(record);
                    }
                    Err(kind) => {
                        out.fault = Some(RecordFault { offset, kind });
                        break;
                    }
                },
            }
        }
        out
    }
}

impl Record {
    /// Reads the record at the front of `data`.
    fn parse(data: &[u8], offset: usize, high: bool) -> Result<Self, RecordFaultKind> {
        let dif = data.first().copied().ok_or(RecordFaultKind::BreaksOff)?;
        let coding = Coding::of(dif).ok_or(RecordFaultKind::Dif(dif))?;
        let header = RawDataRecordHeader::try_from(data)?;
        let block = header.value_information_block.as_ref().ok_or(RecordFaultKind::Vif)?;
        let information = DataInformation::try_from(&header.data_information_block).map_err(DataRecordError::from)?;
        if header.data_information_block.get_size() > DIB_MAX {
            return Err(RecordFaultKind::TooManyDife);
        }
        let head = header.data_information_block.get_size() + block.get_size();
        let meaning = vif::meaning(block);
        let behind = data.get(head..).ok_or(RecordFaultKind::BreaksOff)?;
        let (value, len) = read_value(coding, &meaning, behind, high)?;
        let raw = data.get(..head + len).ok_or(RecordFaultKind::BreaksOff)?.to_vec();
        let reported = meaning.marks.contains(&Mark::Error);
        Ok(Self {
            function: match dif >> 4 & 0x03 {
                0 => Function::Instant,
                1 => Function::Maximum,
                2 => Function::Minimum,
                _ => Function::Error,
            },
            storage: information.storage_number,
            tariff: u32::try_from(information.tariff).unwrap_or(u32::MAX),
            subunit: u16::try_from(information.device).unwrap_or(u16::MAX),
            class: meaning.class,
            unit: meaning.unit,
            marks: meaning.marks,
            unit_text: meaning.text,
            value: if reported {
                Value::Invalid(ValueFault::Reported)
            } else {
                value
            },
            offset,
            raw,
            head,
        })
    }

    /// What it is in words: `volume flow, at phase l1`.
    pub fn words(&self) -> String {
        let block = self
            .raw
            .get(self.dib_len()..self.head)
            .and_then(|bytes| ValueInformationBlock::try_from(bytes).ok());
        block.map_or_else(
            || self.class.name().replace('_', " "),
            |block| {
                let words = vif::words(&block);
                match &self.unit_text {
                    Some(text) => words.replacen("plain text", &format!("{text:?}"), 1),
                    None => words,
                }
            },
        )
    }

    /// The value information block's bytes.
    pub fn vib(&self) -> &[u8] {
        self.raw.get(self.dib_len()..self.head).unwrap_or_default()
    }

    /// DIF and DIFE.
    fn dib_len(&self) -> usize {
        let extended = self.raw.iter().take(self.head).take_while(|byte| **byte & 0x80 != 0);
        (extended.count() + 1).min(self.head)
    }
}

/// The value behind a record's head and how many bytes it takes.
fn read_value(coding: Coding, meaning: &Meaning, behind: &[u8], high: bool) -> Result<(Value, usize), RecordFaultKind> {
    let low_first = |bytes: &[u8]| -> Vec<u8> {
        if high {
            bytes.iter().rev().copied().collect()
        } else {
            bytes.to_vec()
        }
    };
    let len = match coding {
        Coding::Empty => 0,
        Coding::Integer(len) | Coding::Bcd(len) => len,
        Coding::Real => 4,
        Coding::Variable => {
            let (length, behind) = behind.split_first().ok_or(RecordFaultKind::BreaksOff)?;
            let variable = Variable::of(*length).ok_or(RecordFaultKind::Length(*length))?;
            let bytes = behind.get(..variable.len()).ok_or(RecordFaultKind::BreaksOff)?;
            let value = variable.read(meaning.class, meaning.exponent, &low_first(bytes));
            return Ok((value, 1 + variable.len()));
        }
    };
    let bytes = behind.get(..len).ok_or(RecordFaultKind::BreaksOff)?;
    let value = fixed(coding, meaning.class, meaning.exponent, &low_first(bytes));
    Ok((value, len))
}
