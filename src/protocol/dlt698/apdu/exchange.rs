//! GET, SET, ACTION and REPORT (DL/T 698.45-2017, 7.1.3.4 to 7.1.3.7).

use crate::protocol::dlt698::dar::Dar;
use crate::protocol::dlt698::data::{Csd, Data, Rsd};
use crate::protocol::dlt698::values::{Oad, Omd};
use crate::protocol::dlt698::wire::{CodecError, Input, Many, Octets, Wire, choice, sequence};

choice! {
    /// A value, or why there is none.
    pub enum ValueResult as "result" {
        /// Why there is none.
        0 => Dar(dar: Dar),
        /// The value.
        1 => Data(data: Data),
    }
}

sequence! {
    /// An attribute and its value.
    pub struct ItemResult {
        /// The attribute.
        pub oad: Oad,
        /// The value.
        pub result: ValueResult,
    }
}

sequence! {
    /// Asks for rows of a record.
    pub struct GetRecord {
        /// The record.
        pub oad: Oad,
        /// Which rows.
        pub rows: Rsd,
        /// Which columns; none: those that the device has.
        pub columns: Vec<Csd>,
    }
}

/// The rows of a record, or why there are none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// Why there are none.
    Dar(Dar),
    /// The rows, each with a value for every column, or with one for every attribute of the columns: all alike.
    Rows(Vec<Vec<Data>>),
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordResult {
    /// The record.
    pub oad: Oad,
    /// Its columns.
    pub columns: Vec<Csd>,
    /// Its rows.
    pub rows: Rows,
}

/// How many attributes columns have, those of records within counted one by one.
fn spread(columns: &[Csd]) -> usize {
    let width = |column: &Csd| match column {
        Csd::Oad(_) => 1,
        Csd::Road(road) => road.columns.len(),
    };
    columns.iter().map(width).fold(0, usize::saturating_add)
}

impl RecordResult {
    /// The values of a row, each with its attribute. A value that stands for several attributes and is no list of as many
    /// is given under the record's own.
    pub fn cells<'a>(&'a self, row: &'a [Data]) -> Vec<(Oad, &'a Data)> {
        let mut cells = Vec::with_capacity(row.len());
        let each = row.len() != self.columns.len() && row.len() == spread(&self.columns);
        let mut values = row.iter();
        for column in &self.columns {
            match column {
                Csd::Oad(oad) => cells.extend(values.next().map(|value| (*oad, value))),
                Csd::Road(road) if each => {
                    cells.extend(road.columns.iter().zip(&mut values).map(|(oad, value)| (*oad, value)));
                }
                Csd::Road(road) => match (road.columns.as_slice(), values.next()) {
                    ([one], Some(value)) => cells.push((*one, value)),
                    (several, Some(Data::Array(list) | Data::Structure(list))) if several.len() == list.len() => {
                        cells.extend(several.iter().copied().zip(list));
                    }
                    (_, value) => cells.extend(value.map(|value| (road.oad, value))),
                },
            }
        }
        cells
    }
}

impl Wire for RecordResult {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let oad = Wire::read(input)?;
        let columns: Vec<Csd> = Wire::read(input)?;
        let offset = input.offset();
        let rows = match u8::read(input)? {
            0 => Rows::Dar(Wire::read(input)?),
            1 => {
                let count = input.length()?;
                if count > 0 && columns.is_empty() {
                    let what = "rows of a record without columns";
                    return Err(CodecError::Invalid { offset, what });
                }
                // a row has no length of its own: the columns say how many values it has
                let width = if input.spread() {
                    spread(&columns)
                } else {
                    columns.len()
                };
                input.elements(count.saturating_mul(width.max(1)))?;
                let row = |input: &mut Input<'_>| (0..width).map(|_| Data::read(input)).collect();
                Rows::Rows((0..count).map(|_| row(input)).collect::<Result<_, _>>()?)
            }
            found => {
                let what = "result of a record";
                return Err(CodecError::Choice { offset, what, found });
            }
        };
        Ok(Self { oad, columns, rows })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.oad.write(out);
        self.columns.write(out);
        match &self.rows {
            Rows::Dar(dar) => {
                out.push(0);
                dar.write(out);
            }
            Rows::Rows(rows) => {
                out.push(1);
                crate::protocol::dlt698::wire::write_length(rows.len(), out);
                let each = spread(&self.columns);
                let width = match rows.iter().all(|row| row.len() == each) {
                    true => each,
                    false => self.columns.len(),
                };
                for row in rows {
                    // every row has as many values as the columns say, whoever made it
                    let missing = std::iter::repeat(&Data::Null);
                    let values = row.iter().chain(missing).take(width);
                    values.for_each(|value| value.write(out));
                }
            }
        }
    }
}

choice! {
    /// What is asked for.
    pub enum GetBody as "get request" {
        /// One attribute.
        1 => Normal(oad: Oad),
        /// Several.
        2 => List(list: Many<Oad>),
        /// Rows of a record.
        3 => Record(record: GetRecord),
        /// Rows of several.
        4 => RecordList(list: Many<GetRecord>),
        /// The block behind this one of an answer in blocks.
        5 => Next(block: u16),
        /// The MD5 sum of an attribute.
        6 => Md5(oad: Oad),
    }
}

choice! {
    /// What a block brings.
    pub enum BlockContent as "content of a block" {
        /// Why there is none.
        0 => Dar(dar: Dar),
        /// Attributes.
        1 => Items(list: Many<ItemResult>),
        /// Records.
        2 => Records(list: Many<RecordResult>),
    }
}

sequence! {
    /// A block of an answer.
    pub struct Block {
        /// Whether it is the last.
        pub last: bool,
        /// Its number, from 0.
        pub number: u16,
        /// What it brings.
        pub content: BlockContent,
    }
}

choice! {
    /// A sum, or why there is none.
    pub enum Md5Content as "result of an MD5 sum" {
        /// Why there is none.
        0 => Dar(dar: Dar),
        /// The sum.
        1 => Sum(sum: Octets),
    }
}

sequence! {
    /// The MD5 sum of an attribute.
    pub struct Md5Result {
        /// The attribute.
        pub oad: Oad,
        /// The sum.
        pub content: Md5Content,
    }
}

choice! {
    /// What was asked for.
    pub enum GetResult as "get answer" {
        /// One attribute.
        1 => Normal(item: ItemResult),
        /// Several.
        2 => List(list: Many<ItemResult>),
        /// A record.
        3 => Record(record: RecordResult),
        /// Several.
        4 => RecordList(list: Many<RecordResult>),
        /// One block of more.
        5 => Next(block: Block),
        /// An MD5 sum.
        6 => Md5(md5: Md5Result),
    }
}

sequence! {
    /// Sets an attribute.
    pub struct SetItem {
        /// The attribute.
        pub oad: Oad,
        /// To what.
        pub data: Data,
    }
}

sequence! {
    /// Sets an attribute and reads one afterwards.
    pub struct SetThenGet {
        /// The attribute.
        pub oad: Oad,
        /// To what.
        pub data: Data,
        /// What is read then.
        pub read: Oad,
        /// After how many seconds; 0: as the device thinks.
        pub delay_s: u8,
    }
}

choice! {
    /// What is set.
    pub enum SetBody as "set request" {
        /// One attribute.
        1 => Normal(item: SetItem),
        /// Several.
        2 => List(list: Many<SetItem>),
        /// Several, and read.
        3 => ThenGet(list: Many<SetThenGet>),
    }
}

sequence! {
    /// Whether an attribute is set.
    pub struct SetDone {
        /// The attribute.
        pub oad: Oad,
        /// Whether.
        pub dar: Dar,
    }
}

sequence! {
    /// Whether an attribute is set, and what was read then.
    pub struct SetThenGot {
        /// The attribute.
        pub oad: Oad,
        /// Whether.
        pub dar: Dar,
        /// What was read.
        pub read: ItemResult,
    }
}

choice! {
    /// Whether it is set.
    pub enum SetResult as "set answer" {
        /// One attribute.
        1 => Normal(done: SetDone),
        /// Several.
        2 => List(list: Many<SetDone>),
        /// Several, and read.
        3 => ThenGet(list: Many<SetThenGot>),
    }
}

sequence! {
    /// Has a method done.
    pub struct ActionItem {
        /// The method.
        pub omd: Omd,
        /// With what.
        pub data: Data,
    }
}

sequence! {
    /// Has a method done and reads an attribute afterwards.
    pub struct ActionThenGet {
        /// The method.
        pub omd: Omd,
        /// With what.
        pub data: Data,
        /// What is read then.
        pub read: Oad,
        /// After how many seconds; 0: as the device thinks.
        pub delay_s: u8,
    }
}

choice! {
    /// What is done.
    pub enum ActionBody as "action request" {
        /// One method.
        1 => Normal(item: ActionItem),
        /// Several.
        2 => List(list: Many<ActionItem>),
        /// Several, and read.
        3 => ThenGet(list: Many<ActionThenGet>),
    }
}

sequence! {
    /// Whether a method is done.
    pub struct ActionDone {
        /// The method.
        pub omd: Omd,
        /// Whether.
        pub dar: Dar,
        /// What it gave.
        pub data: Option<Data>,
    }
}

sequence! {
    /// Whether a method is done, and what was read then.
    pub struct ActionThenGot {
        /// The method.
        pub omd: Omd,
        /// Whether.
        pub dar: Dar,
        /// What it gave.
        pub data: Option<Data>,
        /// What was read.
        pub read: ItemResult,
    }
}

choice! {
    /// Whether it is done.
    pub enum ActionResult as "action answer" {
        /// One method.
        1 => Normal(done: ActionDone),
        /// Several.
        2 => List(list: Many<ActionDone>),
        /// Several, and read.
        3 => ThenGet(list: Many<ActionThenGot>),
    }
}

sequence! {
    /// What another device said, bytes as they came.
    pub struct Transparent {
        /// Through which port.
        pub port: Oad,
        /// Frame by frame.
        pub frames: Many<Octets>,
    }
}

choice! {
    /// What a device says of its own accord.
    pub enum Report as "report" {
        /// Attributes.
        1 => Items(list: Many<ItemResult>),
        /// Records.
        2 => Records(list: Many<RecordResult>),
        /// What another device said.
        3 => Transparent(data: Transparent),
    }
}

choice! {
    /// What of a report is confirmed.
    pub enum ReportAck as "report confirmation" {
        /// These attributes.
        1 => Items(list: Many<Oad>),
        /// These records.
        2 => Records(list: Many<Oad>),
        /// The bytes of another device.
        3 => Transparent,
    }
}

impl Report {
    /// The confirmation of all of it.
    pub fn ack(&self) -> Option<ReportAck> {
        let ack = match self {
            Self::Items(items) => ReportAck::Items(Many::new(items.iter().map(|item| item.oad).collect())?),
            Self::Records(records) => ReportAck::Records(Many::new(records.iter().map(|record| record.oad).collect())?),
            Self::Transparent(_) => ReportAck::Transparent,
        };
        Some(ack)
    }
}

choice! {
    /// What a device reports together with an answer.
    pub enum FollowReport as "report in an answer" {
        /// Attributes.
        1 => Items(list: Many<ItemResult>),
        /// Records.
        2 => Records(list: Many<RecordResult>),
    }
}
