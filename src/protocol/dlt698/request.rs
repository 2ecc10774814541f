//! The questions of a head end: each an APDU for one device, with what is needed to know its answer.

use super::apdu::{
    ActionBody, ActionItem, Apdu, Asked, GetBody, GetRecord, Piid, ProxyBody, ProxyList, ProxyRecord, ProxyTransparent,
    SecurityRequest, SetBody, SetItem, Target,
};
use super::data::{AtTime, Csd, Data, Equal, Ms, Road, Rsd};
use super::frame::{FrameError, PREAMBLE, PREAMBLES_MAX, open};
use super::moments::DateTimeS;
use super::segment::{Part, Segment, SegmentError};
use super::values::{Oad, Omd};
use super::wire::{CodecError, Many};
use super::{Address, Control, Frame, Tsa, guard};
use chrono::{NaiveDate, NaiveDateTime};
use std::num::NonZeroU16;

/// Our number as a client where nobody gave another.
pub const CLIENT: u8 = 0x01;
/// The most data of a frame that we send; what every device takes.
const FRAME_DATA_MAX: usize = 1024;

/// The day's or moment's freeze: when a row was frozen (20210200).
pub const FROZEN_AT: Oad = Oad::new(0x2021, 2);
/// The meter that a row of a terminal is of (202A0200).
pub const ROW_OF: Oad = Oad::new(0x202A, 2);
/// When the terminal stored a row (60420200).
pub const STORED_AT: Oad = Oad::new(0x6042, 2);
/// The clock (40000200).
pub const CLOCK: Oad = Oad::new(0x4000, 2);
/// The communication address (40010200).
pub const ADDRESS: Oad = Oad::new(0x4001, 2);
/// The rows that the terminal's tasks brought (60120300).
pub const TASK_ROWS: Oad = Oad::new(0x6012, 3);

/// Why there is no such question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It is no APDU.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// It is no part of one.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Only a question may be asked.
    #[error("{0} is not a question of a head end")]
    NotAQuestion(&'static str),
    /// It goes the other way, or is of the link.
    #[error("control byte {0:?} is not that of a question")]
    Control(Control),
    /// Nothing is asked.
    #[error("a question for nothing")]
    Nothing,
    /// It moves a relay, or may.
    #[error("{0}; such a question is made by the control of relays alone")]
    Guarded(&'static str),
    /// It does not go in one frame, and everybody cannot confirm its parts.
    #[error("a question of {0} bytes to more than one device; one frame carries {FRAME_DATA_MAX}")]
    TooLong(usize),
}

/// What goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// An APDU.
    Apdu(Box<Apdu>),
    /// The confirmation of a part of an answer.
    Confirm(u16),
}

/// A question for one device, or for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub(super) address: Address,
    pub(super) client: u8,
    pub(super) body: Body,
    scrambled: bool,
    preambles: usize,
}

impl Request {
    /// Any question that moves no relay.
    ///
    /// # Errors
    /// [`RequestError`] when the APDU is no question, or one that moves a relay or may.
    pub fn new(address: Address, apdu: Apdu) -> Result<Self, RequestError> {
        guard::check(&apdu).map_err(RequestError::Guarded)?;
        Self::unguarded(address, apdu)
    }

    /// The same without looking for relays.
    pub(super) fn unguarded(address: Address, apdu: Apdu) -> Result<Self, RequestError> {
        let asks = matches!(
            apdu,
            Apdu::ConnectRequest(_)
                | Apdu::ReleaseRequest(_)
                | Apdu::Get(_)
                | Apdu::Set(_)
                | Apdu::Action(_)
                | Apdu::Proxy(_)
                | Apdu::Security(_)
        );
        if !asks {
            return Err(RequestError::NotAQuestion(apdu.name()));
        }
        let request = Self {
            address,
            client: CLIENT,
            body: Body::Apdu(Box::new(apdu)),
            scrambled: false,
            preambles: 0,
        };
        match request.payload().len() {
            len if len > FRAME_DATA_MAX => Err(RequestError::TooLong(len)),
            _ => Ok(request),
        }
    }

    /// Reads attributes: one alone, or a list.
    ///
    /// # Errors
    /// [`RequestError::Nothing`] for none, [`RequestError::TooLong`] for more than a frame holds.
    pub fn get(address: Address, piid: Piid, oads: &[Oad]) -> Result<Self, RequestError> {
        let body = match oads {
            [one] => GetBody::Normal(*one),
            several => GetBody::List(Many::new(several.to_vec()).ok_or(RequestError::Nothing)?),
        };
        Self::new(address, Apdu::Get(Asked::new(piid, body)))
    }

    /// Asks whoever it reaches for his communication address.
    pub fn read_address(address: Address) -> Self {
        Self {
            address,
            client: CLIENT,
            body: Body::Apdu(Box::new(Apdu::Get(Asked::new(Piid::new(0), GetBody::Normal(ADDRESS))))),
            scrambled: false,
            preambles: 0,
        }
    }

    /// Reads rows of a record.
    ///
    /// # Errors
    /// [`RequestError::TooLong`] for more than a frame holds.
    pub fn get_record(
        address: Address,
        piid: Piid,
        oad: Oad,
        rows: Rsd,
        columns: Vec<Csd>,
    ) -> Result<Self, RequestError> {
        let record = GetRecord { oad, rows, columns };
        Self::new(address, Apdu::Get(Asked::new(piid, GetBody::Record(record))))
    }

    /// Reads what a meter froze at the beginning of a day: the row of record `oad` whose 20210200 is that midnight, with
    /// that time as its first column. A day freeze is 50040200, a month's 50060200.
    ///
    /// # Errors
    /// [`RequestError::TooLong`] for more columns than a frame holds.
    pub fn frozen(
        address: Address,
        piid: Piid,
        oad: Oad,
        day: NaiveDate,
        columns: &[Oad],
    ) -> Result<Self, RequestError> {
        let equal = Equal {
            oad: FROZEN_AT,
            value: Data::DateTimeS(DateTimeS::midnight(day)),
        };
        let columns = std::iter::once(&FROZEN_AT).chain(columns).copied().map(Csd::Oad);
        Self::get_record(address, piid, oad, Rsd::Equal(equal), columns.collect())
    }

    /// Reads the row so many back of a meter's record; 1 is the last. Its first column is when it was frozen.
    ///
    /// # Errors
    /// [`RequestError::TooLong`] for more columns than a frame holds.
    pub fn frozen_back(
        address: Address,
        piid: Piid,
        oad: Oad,
        back: u8,
        columns: &[Oad],
    ) -> Result<Self, RequestError> {
        let columns = std::iter::once(&FROZEN_AT).chain(columns).copied().map(Csd::Oad);
        Self::get_record(address, piid, oad, Rsd::Back(back), columns.collect())
    }

    /// Reads what a terminal's tasks stored of its meters as of a moment: one row a meter, with the meter's address, when it
    /// was stored, and the columns of record `of` (50040200 for the day's freeze).
    ///
    /// # Errors
    /// [`RequestError::TooLong`] for more meters or columns than a frame holds.
    pub fn stored(
        address: Address,
        piid: Piid,
        time: NaiveDateTime,
        meters: Ms,
        of: Oad,
        columns: &[Oad],
    ) -> Result<Self, RequestError> {
        let at = AtTime {
            time: DateTimeS::of(time),
            meters,
        };
        let record = Road {
            oad: of,
            columns: columns.to_vec(),
        };
        let columns = vec![Csd::Oad(ROW_OF), Csd::Oad(STORED_AT), Csd::Road(record)];
        Self::get_record(address, piid, TASK_ROWS, Rsd::StoredAt(at), columns)
    }

    /// Asks for the block behind block `number` of an answer in blocks.
    pub(super) fn next_block(&self, piid: Piid, number: u16) -> Self {
        let apdu = Apdu::Get(Asked::new(piid, GetBody::Next(number)));
        Self {
            body: Body::Apdu(Box::new(apdu)),
            ..self.clone()
        }
    }

    /// Confirms part `number` of an answer in parts.
    pub(super) fn confirm_part(&self, number: u16) -> Self {
        Self {
            body: Body::Confirm(number),
            ..self.clone()
        }
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// [`RequestError`] when it is one of the control of relays, or too long.
    pub fn set(address: Address, piid: Piid, oad: Oad, data: Data) -> Result<Self, RequestError> {
        let body = SetBody::Normal(SetItem { oad, data });
        Self::new(address, Apdu::Set(Asked::new(piid, body)))
    }

    /// Sets the clock, to the device's local time.
    ///
    /// # Errors
    /// None in fact; the APDU is short and moves nothing.
    pub fn set_clock(address: Address, piid: Piid, time: NaiveDateTime) -> Result<Self, RequestError> {
        Self::set(address, piid, CLOCK, Data::DateTimeS(DateTimeS::of(time)))
    }

    /// Sets the clocks of all that hear it (method 127 of the clock); nobody answers.
    ///
    /// # Errors
    /// None in fact.
    pub fn broadcast_clock(piid: Piid, time: NaiveDateTime) -> Result<Self, RequestError> {
        let data = Data::DateTimeS(DateTimeS::of(time));
        Self::action(Address::BROADCAST, piid, Omd::new(CLOCK.oi, 127), data)
    }

    /// Has a method done.
    ///
    /// # Errors
    /// [`RequestError`] when it is one of the control of relays, or too long.
    pub fn action(address: Address, piid: Piid, omd: Omd, data: Data) -> Result<Self, RequestError> {
        let body = ActionBody::Normal(ActionItem { omd, data });
        Self::new(address, Apdu::Action(Asked::new(piid, body)))
    }

    /// Has a terminal read attributes of meters behind it.
    ///
    /// # Errors
    /// [`RequestError`] when nothing is asked, or more than a frame holds.
    pub fn proxy_get(
        terminal: Address,
        piid: Piid,
        timeout_s: NonZeroU16,
        targets: &[(Address, Vec<Oad>)],
    ) -> Result<Self, RequestError> {
        let target = |(meter, oads): &(Address, Vec<Oad>)| {
            Many::new(oads.clone()).map(|items| Target {
                server: Tsa::of(meter),
                timeout_s: 0,
                items,
            })
        };
        let targets: Option<Vec<_>> = targets.iter().map(target).collect();
        let targets = targets.and_then(Many::new).ok_or(RequestError::Nothing)?;
        let list = ProxyList { timeout_s, targets };
        Self::new(terminal, Apdu::Proxy(Asked::new(piid, ProxyBody::Get(list))))
    }

    /// Has a terminal read rows of a record of a meter behind it.
    ///
    /// # Errors
    /// [`RequestError::TooLong`] for more than a frame holds.
    pub fn proxy_record(
        terminal: Address,
        piid: Piid,
        timeout_s: NonZeroU16,
        meter: &Address,
        record: GetRecord,
    ) -> Result<Self, RequestError> {
        let body = ProxyBody::Record(ProxyRecord {
            timeout_s,
            server: Tsa::of(meter),
            record,
        });
        Self::new(terminal, Apdu::Proxy(Asked::new(piid, body)))
    }

    /// Has a terminal send a frame of another protocol to a meter; one that only reads.
    ///
    /// # Errors
    /// [`RequestError::Guarded`] when the frame is not known to be one that only reads.
    pub fn transparent(terminal: Address, piid: Piid, transparent: ProxyTransparent) -> Result<Self, RequestError> {
        let body = ProxyBody::Transparent(transparent);
        Self::new(terminal, Apdu::Proxy(Asked::new(piid, body)))
    }

    /// A guarded question: what is in it cannot be looked at when it is enciphered, so that is refused here.
    ///
    /// # Errors
    /// [`RequestError`] when the APDU in it is enciphered, moves a relay or may, or is too long.
    pub fn secured(address: Address, request: SecurityRequest) -> Result<Self, RequestError> {
        Self::new(address, Apdu::Security(request))
    }

    /// The same from another client number.
    #[must_use]
    pub fn with_client(mut self, client: u8) -> Self {
        self.client = client;
        self
    }

    /// The same with its data scrambled, as meters on power lines want it.
    #[must_use]
    pub fn with_scrambling(mut self, scrambled: bool) -> Self {
        self.scrambled = scrambled;
        self
    }

    /// The same with so many FE before it, 16 at most.
    #[must_use]
    pub fn with_preambles(mut self, preambles: usize) -> Self {
        self.preambles = preambles.min(PREAMBLES_MAX);
        self
    }

    /// Whom it asks.
    pub fn address(&self) -> Address {
        self.address
    }

    /// What it asks; none for the confirmation of a part.
    pub fn apdu(&self) -> Option<&Apdu> {
        match &self.body {
            Body::Apdu(apdu) => Some(apdu),
            Body::Confirm(_) => None,
        }
    }

    /// Its number; none where it has none.
    pub fn piid(&self) -> Option<Piid> {
        self.apdu().and_then(Apdu::piid)
    }

    /// Whether anybody answers.
    pub fn expects_answer(&self) -> bool {
        self.address.is_answered()
    }

    fn payload(&self) -> Vec<u8> {
        match &self.body {
            Body::Apdu(apdu) => apdu.wire(),
            Body::Confirm(number) => Segment::confirmation(*number).wire(),
        }
    }

    /// Its bytes.
    pub fn wire(&self) -> Vec<u8> {
        let mut control = Control::QUESTION;
        if matches!(self.body, Body::Confirm(_)) {
            control = control.segmented();
        }
        if self.scrambled {
            control = control.scrambled();
        }
        let mut wire = vec![PREAMBLE; self.preambles];
        // checked when it was made: it fits a frame
        if let Ok(frame) = Frame::new(control, self.address, self.client, self.payload()) {
            wire.extend(frame.wire());
        }
        wire
    }

    /// Reads a question from its bytes, as the simulator and the tests do. It may move a relay: it was heard, not made.
    ///
    /// # Errors
    /// [`RequestError`] says why it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let frame = open(bytes)?;
        let request = Self::of_frame(&frame)?;
        Ok(request.with_preambles(super::frame::preambles(bytes)))
    }

    /// The question in a frame.
    ///
    /// # Errors
    /// [`RequestError`] says why it is none.
    pub fn of_frame(frame: &Frame) -> Result<Self, RequestError> {
        let control = frame.control;
        if control.is_from_device() || !control.is_of_ours() || !control.is_service() {
            return Err(RequestError::Control(control));
        }
        let body = match control.is_segmented() {
            true => match Segment::parse(frame.data())? {
                segment if segment.part == Part::Confirmation => Body::Confirm(segment.number),
                // a question of ours never comes in parts
                _ => return Err(RequestError::Control(control)),
            },
            false => {
                let request = Self::unguarded(frame.address, Apdu::parse(frame.data())?)?;
                request.body
            }
        };
        Ok(Self {
            address: frame.address,
            client: frame.client,
            body,
            scrambled: control.is_scrambled(),
            preambles: 0,
        })
    }

    /// Whom and what it asks, as one number: what every answer and every refusal says of its question.
    pub fn kin(&self) -> u64 {
        let mut hash = Fnv::new();
        hash.bytes(&[self.address.flags(), self.client]);
        hash.bytes(self.address.printed());
        match &self.body {
            Body::Apdu(apdu) => hash.bytes(&[apdu.service(), apdu.piid().map_or(0xFF, Piid::number)]),
            Body::Confirm(_) => hash.bytes(&[0xFE]),
        }
        hash.0
    }

    /// What the answer, but no refusal, says of its question besides: the attributes and methods.
    pub fn subject(&self) -> u64 {
        let mut hash = Fnv::new();
        hash.bytes(&self.payload());
        hash.0
    }

    /// The most bytes that an answer frame is reckoned with, for time-outs: 160 for every attribute or column of a row,
    /// and no more than devices send in one frame. 0 where nobody answers.
    pub fn answer_len_max(&self) -> usize {
        const HEAD: usize = 64;
        const EACH: usize = 160;
        const MOST: usize = 2048;
        if !self.expects_answer() {
            return 0;
        }
        let items = match self.apdu() {
            Some(Apdu::Get(asked)) => match &asked.body {
                GetBody::Normal(_) | GetBody::Md5(_) => 1,
                GetBody::List(list) => list.len(),
                GetBody::Record(record) if matches!(record.rows, Rsd::Equal(_) | Rsd::Back(_)) => {
                    record.columns.len().max(8)
                }
                GetBody::Record(_) | GetBody::RecordList(_) | GetBody::Next(_) => MOST,
            },
            Some(Apdu::Set(_) | Apdu::Action(_) | Apdu::ReleaseRequest(_) | Apdu::ConnectRequest(_)) => 1,
            _ => MOST,
        };
        (HEAD + items.saturating_mul(EACH)).min(MOST)
    }
}

/// A sum of bytes (FNV-1a).
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }
}
