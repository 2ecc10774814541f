//! Records of events: what objects 3000 to 32FF recorded (DL/T 698.45-2017, annex E.4, E.5; classes 7 and 24), as they stand in
//! reports and beside answers.
//!
//! A record comes in three forms: as a row of the event's own record list, as the columns of an event within a row of a
//! terminal's task (ROAD), or as the value of an attribute: number, begin, end, source (class 7 only), state of its reports, then
//! what is the event's own. The state of its reports is left out of what is kept: it changes with every report.

use super::apdu::{FollowReport, ItemResult, RecordResult, Report, Rows, ValueResult};
use super::data::{Csd, Data, Road};
use super::objects;
use super::request::ROW_OF;
use super::values::Oad;
use super::wire::{CodecError, Wire, decode, sequence};
use chrono::NaiveDateTime;

/// Which record of its event it is.
pub const NUMBER: Oad = Oad::new(0x2022, 2);
/// When an event began.
pub const BEGAN_AT: Oad = Oad::new(0x201E, 2);
/// When an event ended.
pub const ENDED_AT: Oad = Oad::new(0x2020, 2);
/// Whose it is.
pub const SOURCE: Oad = Oad::new(0x2024, 2);
/// On which channels it was reported.
pub const REPORTED: Oad = Oad::new(0x3300, 2);

/// The class of events that have several tables of records.
const SEVERAL: u8 = 24;

sequence! {
    /// What an attribute was.
    pub struct Cell {
        /// The attribute.
        pub oad: Oad,
        /// Its value.
        pub data: Data,
    }
}

sequence! {
    /// A record.
    pub struct Event {
        /// The attribute whose record it is: the event, and of events with several tables which.
        pub oad: Oad,
        /// What it says.
        pub cells: Vec<Cell>,
    }
}

/// What a report says of events, and how much of it is nothing of the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The records.
    pub events: Vec<Event>,
    /// What is of an event and cannot be read as a record.
    pub left: usize,
}

/// Whether an object is an event: of a meter (30), a terminal (31), or of its control (32).
pub fn is_event(oi: u16) -> bool {
    (0x3000..=0x32FF).contains(&oi)
}

/// What an event is, in words.
pub fn name(oi: u16) -> &'static str {
    objects::object(oi).map_or("event of no known kind", |object| object.name)
}

impl Event {
    /// Reads what [`Event::bytes`] wrote.
    ///
    /// # Errors
    /// [`CodecError`] where it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        decode(bytes, false)
    }

    /// The record as it is kept: the same record makes the same bytes, however often it is reported.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn cell(&self, oad: Oad) -> Option<&Data> {
        self.cells.iter().find(|cell| cell.oad == oad).map(|cell| &cell.data)
    }

    /// Which record of its event it is; none where it does not say.
    pub fn number(&self) -> Option<u32> {
        match self.cell(NUMBER) {
            Some(Data::UInt32(number)) => Some(*number),
            _ => None,
        }
    }

    /// When it began, in the terminal's local time.
    pub fn began_at(&self) -> Option<NaiveDateTime> {
        self.cell(BEGAN_AT).and_then(Data::moment)
    }

    /// When it ended; none while it lasts.
    pub fn ended_at(&self) -> Option<NaiveDateTime> {
        self.cell(ENDED_AT).and_then(Data::moment)
    }

    /// The device that it is of, as its address is printed; none where it is the terminal itself.
    pub fn device(&self) -> Option<String> {
        [ROW_OF, SOURCE].into_iter().find_map(|oad| match self.cell(oad)? {
            Data::Tsa(device) => device.address().map(|address| address.to_string()),
            _ => None,
        })
    }

    /// What it says besides.
    pub fn values(&self) -> impl Iterator<Item = &Cell> {
        let common = [NUMBER, BEGAN_AT, ENDED_AT, ROW_OF];
        self.cells
            .iter()
            .filter(move |cell| !common.contains(&cell.oad) && cell.data != Data::Null)
            .filter(|cell| cell.oad != SOURCE || !matches!(cell.data, Data::Tsa(_)))
    }

    /// A record of these cells; none where they do not say which one it is or when it began.
    fn of(oad: Oad, cells: impl Iterator<Item = (Oad, Data)>) -> Option<Self> {
        let cells = cells
            .filter(|(oad, _)| *oad != REPORTED)
            .map(|(oad, data)| Cell { oad, data });
        let event = Self {
            oad,
            cells: cells.collect(),
        };
        (event.number().is_some() || event.began_at().is_some()).then_some(event)
    }
}

/// The event whose records a record list brings; none where it brings none, or of several.
fn event_of(record: &RecordResult) -> Option<Oad> {
    if is_event(record.oad.oi) {
        return Some(record.oad);
    }
    let mut events = record.columns.iter().filter_map(|column| match column {
        Csd::Road(Road { oad, .. }) if is_event(oad.oi) => Some(*oad),
        _ => None,
    });
    events.next().filter(|_| events.next().is_none())
}

/// Whether a record list is of events.
pub fn is_of_events(record: &RecordResult) -> bool {
    let within = |column: &Csd| matches!(column, Csd::Road(road) if is_event(road.oad.oi));
    is_event(record.oad.oi) || record.columns.iter().any(within)
}

impl Told {
    /// Of a report.
    pub fn of_report(report: &Report) -> Self {
        match report {
            Report::Items(items) => Self::of_items(items),
            Report::Records(records) => Self::of_records(records),
            Report::Transparent(_) => Self::default(),
        }
    }

    /// Of what is reported beside an answer.
    pub fn of_follow(follow: &FollowReport) -> Self {
        match follow {
            FollowReport::Items(items) => Self::of_items(items),
            FollowReport::Records(records) => Self::of_records(records),
        }
    }

    fn of_records(records: &[RecordResult]) -> Self {
        let mut told = Self::default();
        for record in records.iter().filter(|record| is_of_events(record)) {
            match (event_of(record), &record.rows) {
                (Some(oad), Rows::Rows(rows)) => rows.iter().for_each(|row| told.row(oad, record, row)),
                _ => told.left += 1,
            }
        }
        told
    }

    fn row(&mut self, oad: Oad, record: &RecordResult, row: &[Data]) {
        let cells = record.cells(row);
        // a terminal's task brings a row of each meter, whether anything happened there or not
        if cells
            .iter()
            .any(|(column, data)| *column == oad && **data == Data::Null)
        {
            return;
        }
        match Event::of(oad, cells.into_iter().map(|(oad, data)| (oad, data.clone()))) {
            Some(event) => self.events.push(event),
            None => self.left += 1,
        }
    }

    fn of_items(items: &[ItemResult]) -> Self {
        let mut told = Self::default();
        for item in items.iter().filter(|item| is_event(item.oad.oi)) {
            match &item.result {
                ValueResult::Data(Data::Array(list)) => list.iter().for_each(|one| told.value(item.oad, one)),
                ValueResult::Data(one) => told.value(item.oad, one),
                ValueResult::Dar(_) => told.left += 1,
            }
        }
        told
    }

    /// A record as the value of an attribute.
    fn value(&mut self, oad: Oad, data: &Data) {
        let several = objects::object(oad.oi).is_some_and(|object| object.class == SEVERAL);
        let columns: &[Oad] = match several {
            true => &[NUMBER, BEGAN_AT, ENDED_AT, REPORTED],
            false => &[NUMBER, BEGAN_AT, ENDED_AT, SOURCE, REPORTED],
        };
        // which place it has in the table changes with the next one
        let oad = Oad { index: 0, ..oad };
        let event = match data {
            Data::Structure(fields) => {
                let own = std::iter::repeat(&oad);
                let cells = columns.iter().chain(own).zip(fields);
                Event::of(oad, cells.map(|(oad, data)| (*oad, data.clone())))
            }
            _ => None,
        };
        match event {
            Some(event) => self.events.push(event),
            None => self.left += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::dlt698::{Apdu, Tsa};

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn told(apdu: &str) -> Told {
        let Apdu::Report(report) = Apdu::parse(&hex(apdu)).unwrap() else {
            panic!()
        };
        Told::of_report(&report.body)
    }

    fn at(text: &str) -> Option<NaiveDateTime> {
        Some(text.parse().unwrap())
    }

    /// A terminal without power: its record list, columns as published terminals report them.
    const SUPPLY: &str = "88 02 05 01 3106 02 00
        05 00 2022 02 00  00 201E 02 00  00 2020 02 00  00 2024 02 00  00 3300 02 00
        01 01  06 00000007  1C 07EA 0B 16 0A 1E 05  1C 07EA 0B 16 0A 1F 00  00  01 01 02 02 51 4500 02 00 11 01  00 00";

    #[test]
    fn a_row_of_an_events_own_list_is_a_record() {
        let told = told(SUPPLY);
        assert_eq!((told.events.len(), told.left), (1, 0));
        let event = &told.events[0];
        assert_eq!((event.oad, event.number()), (Oad::new(0x3106, 2), Some(7)));
        assert_eq!(event.began_at(), at("2026-11-22T10:30:05"));
        assert_eq!(event.ended_at(), at("2026-11-22T10:31:00"));
        assert_eq!((event.device(), event.values().count()), (None, 0));
        assert_eq!(name(event.oad.oi), "terminal without power, and with it again");
        assert_eq!(Event::parse(&event.bytes()).unwrap(), *event);
    }

    #[test]
    fn the_state_of_its_reports_makes_no_other_record() {
        let again = SUPPLY.replace("11 01  00 00", "11 02  00 00");
        assert_ne!(again, SUPPLY);
        assert_eq!(told(&again).events[0].bytes(), told(SUPPLY).events[0].bytes());
    }

    #[test]
    fn events_of_meters_come_within_rows_of_a_task() {
        // two meters: one lost a voltage and has it again, of the other nothing happened
        let apdu = "88 02 06 01 6012 03 00
            02 00 202A 02 00  01 3000 07 00 04 2022 02 00  201E 02 00  2020 02 00  2000 02 01
            01 02  55 07 05 20 26 11 22 00 01  02 04 06 00000003 1C 07EA 0B 16 08 00 00 1C 07EA 0B 16 08 05 00 12 08FD
                   55 07 05 20 26 11 22 00 02  00  00 00";
        let told = told(apdu);
        assert_eq!((told.events.len(), told.left), (1, 0));
        let event = &told.events[0];
        assert_eq!((event.oad, event.number()), (Oad::new(0x3000, 7), Some(3)));
        assert_eq!(event.device().as_deref(), Some("202611220001"));
        assert_eq!(event.ended_at(), at("2026-11-22T08:05:00"));
        let values: Vec<(Oad, Data)> = event.values().map(|cell| (cell.oad, cell.data.clone())).collect();
        assert_eq!(values, [(Oad::element(0x2000, 2, 1), Data::UInt16(2301))]);
    }

    #[test]
    fn an_attribute_of_an_event_is_its_records() {
        // a meter whose clock is off, the latest record: source is the meter, then both times
        let apdu = "88 01 07 01 3105 02 01 01
            02 07 06 00000009 1C 07EA 0B 16 09 00 00 00 55 07 05 20 26 11 22 00 01 00
            1C 07EA 0B 16 09 00 00 1C 07EA 0B 16 08 51 00  00 00";
        let told = told(apdu);
        assert_eq!((told.events.len(), told.left), (1, 0));
        let event = &told.events[0];
        assert_eq!((event.oad, event.number()), (Oad::new(0x3105, 2), Some(9)));
        assert_eq!((event.began_at(), event.ended_at()), (at("2026-11-22T09:00:00"), None));
        assert_eq!(event.device().as_deref(), Some("202611220001"));
        assert_eq!(event.values().count(), 2);
        let kept = Event::parse(&event.bytes()).unwrap();
        assert!(matches!(&kept.cells[3].data, Data::Tsa(device) if device.bytes() == Tsa::bytes(device)));
    }

    #[test]
    fn what_is_no_record_is_left_and_what_is_no_event_is_not_looked_at() {
        for (apdu, left) in [
            // the clock of the terminal
            ("88 01 01 01 4000 02 00 01 1C 07EA 0B 16 09 00 00 00 00", 0),
            // a record refused, one that is a number, one without number and begin
            ("88 01 01 01 3105 02 01 00 04 00 00", 1),
            ("88 01 01 01 3105 02 01 01 11 05 00 00", 1),
            ("88 01 01 01 3105 02 01 01 02 03 00 00 00 00 00", 1),
            ("88 02 01 01 3106 02 00 01 00 2022 02 00 00 04 00 00", 1),
            // two events in one row: whose begin is whose
            (
                "88 02 01 01 6012 03 00 02 01 3000 07 00 01 201E 02 00 01 3001 07 00 01 201E 02 00 01 01 00 00 00 00",
                1,
            ),
            // bytes of a meter
            ("88 03 02 F2 01 02 00 02 01 AA 02 BB CC 00 00", 0),
        ] {
            assert_eq!(told(apdu), Told { events: vec![], left }, "{apdu}");
        }
    }
}
