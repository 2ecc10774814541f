//! APDUs: the services of DL/T 698.45-2017, 7.1 and annex A, both ways.
//!
//! Every service but LINK and SECURITY stands as `service, choice, PIID, content, tail`; [`Asked`] and [`Answered`] are
//! that frame, and the content is a choice of its own.

mod connect;
mod exchange;
mod link;
mod proxy;
mod security;

pub(in crate::protocol::dlt698) use connect::error_name;
pub use connect::{
    Auth, Ciphered, ConnectRequest, ConnectResponse, ErrorResponse, Factory, Parameters, RefusedRequest, ReleaseNotice,
    ReleaseRequest, ReleaseResponse, SecurityData,
};
pub use exchange::{
    ActionBody, ActionDone, ActionItem, ActionResult, ActionThenGet, ActionThenGot, Block, BlockContent, FollowReport,
    GetBody, GetRecord, GetResult, ItemResult, Md5Content, Md5Result, RecordResult, Report, ReportAck, Rows, SetBody,
    SetDone, SetItem, SetResult, SetThenGet, SetThenGot, Transparent, ValueResult,
};
pub use link::{LinkKind, LinkRequest, LinkResponse};
pub use proxy::{
    ProxyBody, ProxyList, ProxyRecord, ProxyRecordResult, ProxyResult, ProxyTransparent, ProxyTransparentResult,
    Target, TargetResult, TransparentContent,
};
pub use security::{Application, RnMac, Secured, SecuredAnswer, SecurityRequest, Verification, VerifiedBy};

use super::moments::DateTimeS;
use super::values::Ti;
use super::wire::{CodecError, Input, Tagged, Wire, choice, decode, sequence};
use std::fmt;

/// Who asked what: priority, and a number that the answer repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Piid(pub u8);

impl Piid {
    /// The number, at ordinary priority; its low six bits count.
    pub const fn new(number: u8) -> Self {
        Self(number & 0x3F)
    }

    /// The number, 0 to 63.
    pub const fn number(self) -> u8 {
        self.0 & 0x3F
    }

    /// Whether an answer asks for access (ACD): reports wait.
    pub const fn acd(self) -> bool {
        self.0 & 0x40 != 0
    }

    /// The next number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::new(self.0.wrapping_add(1))
    }
}

impl fmt::Display for Piid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())?;
        if self.0 & 0x80 != 0 {
            f.write_str(", high priority")?;
        }
        if self.acd() {
            f.write_str(", reports wait")?;
        }
        Ok(())
    }
}

impl Wire for Piid {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        u8::read(input).map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.0);
    }
}

sequence! {
    /// When a question was sent, and how late it may come.
    #[derive(Copy)]
    pub struct TimeTag {
        /// When.
        pub sent: DateTimeS,
        /// How late; 0: however late.
        pub allowed: Ti,
    }
}

/// A question of the head end, or a report's confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked<B> {
    /// Its number.
    pub piid: Piid,
    /// What it asks.
    pub body: B,
    /// How late it may come; none: however late.
    pub time_tag: Option<TimeTag>,
}

/// A device's answer, or its report.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answered<B> {
    /// The question's number, or the report's.
    pub piid: Piid,
    /// What it says.
    pub body: B,
    /// What it reports besides.
    pub follow: Option<FollowReport>,
    /// The question's time tag.
    pub time_tag: Option<TimeTag>,
}

impl<B> Asked<B> {
    /// A question without time tag.
    pub fn new(piid: Piid, body: B) -> Self {
        let time_tag = None;
        Self { piid, body, time_tag }
    }
}

impl<B> Answered<B> {
    /// An answer without report and time tag.
    pub fn new(piid: Piid, body: B) -> Self {
        Self {
            piid,
            body,
            follow: None,
            time_tag: None,
        }
    }
}

/// The choice and the PIID, which stands behind its tag.
fn read_body<B: Tagged>(input: &mut Input<'_>) -> Result<(Piid, B), CodecError> {
    let offset = input.offset();
    let tag = u8::read(input)?;
    let piid = Piid::read(input)?;
    Ok((piid, B::read_tagged(tag, offset, input)?))
}

fn write_body<B: Tagged>(piid: Piid, body: &B, out: &mut Vec<u8>) {
    out.push(body.tag());
    piid.write(out);
    body.write_content(out);
}

impl<B: Tagged> Wire for Asked<B> {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let (piid, body) = read_body(input)?;
        Ok(Self {
            piid,
            body,
            time_tag: Wire::read(input)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_body(self.piid, &self.body, out);
        self.time_tag.write(out);
    }
}

impl<B: Tagged> Wire for Answered<B> {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let (piid, body) = read_body(input)?;
        Ok(Self {
            piid,
            body,
            follow: Wire::read(input)?,
            time_tag: Wire::read(input)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_body(self.piid, &self.body, out);
        self.follow.write(out);
        self.time_tag.write(out);
    }
}

choice! {
    /// An APDU.
    pub enum Apdu as "service" {
        /// A terminal's login, heartbeat or logout.
        0x01 => LinkRequest(link: LinkRequest),
        /// Our answer to it.
        0x81 => LinkResponse(link: LinkResponse),
        /// Asks for an association.
        0x02 => ConnectRequest(connect: Box<ConnectRequest>),
        /// Grants it or not.
        0x82 => ConnectResponse(connect: Box<ConnectResponse>),
        /// Ends an association.
        0x03 => ReleaseRequest(release: ReleaseRequest),
        /// Says so.
        0x83 => ReleaseResponse(release: ReleaseResponse),
        /// The device ended an association that was too old.
        0x84 => ReleaseNotice(release: ReleaseNotice),
        /// Asks for attributes.
        0x05 => Get(get: Asked<GetBody>),
        /// Brings them.
        0x85 => GetAnswer(get: Answered<GetResult>),
        /// Sets attributes.
        0x06 => Set(set: Asked<SetBody>),
        /// Says whether they are set.
        0x86 => SetAnswer(set: Answered<SetResult>),
        /// Has methods done.
        0x07 => Action(action: Asked<ActionBody>),
        /// Says whether they are done.
        0x87 => ActionAnswer(action: Answered<ActionResult>),
        /// Confirms a report.
        0x08 => ReportAck(report: Asked<ReportAck>),
        /// What the device says of its own accord.
        0x88 => Report(report: Answered<Report>),
        /// Asks a terminal to ask others.
        0x09 => Proxy(proxy: Asked<ProxyBody>),
        /// Brings what they said.
        0x89 => ProxyAnswer(proxy: Answered<ProxyResult>),
        /// Another APDU, guarded.
        0x10 => Security(security: SecurityRequest),
        /// The same of an answer.
        0x90 => SecurityAnswer(security: SecuredAnswer),
        /// We could not read a device's APDU.
        0x6E => Refused(error: RefusedRequest),
        /// The device could not read ours.
        0xEE => Error(error: ErrorResponse),
    }
}

impl Apdu {
    /// Reads one APDU, nothing behind it. Where a record has a column that stands for several (ROAD), the standard gives
    /// one value for it, and terminals are known that give one for each: what fits the bytes is taken.
    ///
    /// # Errors
    /// [`CodecError`] says where it is none, or which limit it breaks.
    pub fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        decode(bytes, false).or_else(|error| match bytes.first() {
            Some(0x85 | 0x88 | 0x89) => decode(bytes, true).map_err(|_| error),
            _ => Err(error),
        })
    }

    /// Its bytes.
    pub fn wire(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// The service's number.
    pub fn service(&self) -> u8 {
        self.tag()
    }

    /// The number that question and answer share; none where the service has none.
    pub fn piid(&self) -> Option<Piid> {
        let piid = match self {
            Self::LinkRequest(link) => link.piid,
            Self::LinkResponse(link) => link.piid,
            Self::ConnectRequest(connect) => connect.piid,
            Self::ConnectResponse(connect) => connect.piid,
            Self::ReleaseRequest(release) => release.piid,
            Self::ReleaseResponse(release) => release.piid,
            Self::ReleaseNotice(release) => release.piid,
            Self::Get(asked) => asked.piid,
            Self::Set(asked) => asked.piid,
            Self::Action(asked) => asked.piid,
            Self::ReportAck(asked) => asked.piid,
            Self::Proxy(asked) => asked.piid,
            Self::GetAnswer(answered) => answered.piid,
            Self::SetAnswer(answered) => answered.piid,
            Self::ActionAnswer(answered) => answered.piid,
            Self::Report(answered) => answered.piid,
            Self::ProxyAnswer(answered) => answered.piid,
            Self::Refused(error) => error.piid,
            Self::Error(error) => error.piid,
            Self::Security(_) | Self::SecurityAnswer(_) => return None,
        };
        Some(piid)
    }

    /// What a device reports beside what it was asked.
    pub fn follow(&self) -> Option<&FollowReport> {
        match self {
            Self::ConnectResponse(response) => response.follow.as_ref(),
            Self::ReleaseResponse(response) => response.follow.as_ref(),
            Self::ReleaseNotice(notice) => notice.follow.as_ref(),
            Self::GetAnswer(answered) => answered.follow.as_ref(),
            Self::SetAnswer(answered) => answered.follow.as_ref(),
            Self::ActionAnswer(answered) => answered.follow.as_ref(),
            Self::Report(answered) => answered.follow.as_ref(),
            Self::ProxyAnswer(answered) => answered.follow.as_ref(),
            Self::Error(error) => error.follow.as_ref(),
            _ => None,
        }
    }

    /// The service in words.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LinkRequest(link) => link.kind.name(),
            Self::LinkResponse(_) => "link response",
            Self::ConnectRequest(_) => "connect",
            Self::ConnectResponse(_) => "connect answer",
            Self::ReleaseRequest(_) => "release",
            Self::ReleaseResponse(_) => "release answer",
            Self::ReleaseNotice(_) => "release notice",
            Self::Get(asked) => match asked.body {
                GetBody::Normal(_) => "get",
                GetBody::List(_) => "get list",
                GetBody::Record(_) => "get record",
                GetBody::RecordList(_) => "get record list",
                GetBody::Next(_) => "get next block",
                GetBody::Md5(_) => "get MD5",
            },
            Self::GetAnswer(answered) => match answered.body {
                GetResult::Normal(_) => "get answer",
                GetResult::List(_) => "get list answer",
                GetResult::Record(_) => "get record answer",
                GetResult::RecordList(_) => "get record list answer",
                GetResult::Next(_) => "block of a get answer",
                GetResult::Md5(_) => "get MD5 answer",
            },
            Self::Set(asked) => match asked.body {
                SetBody::Normal(_) => "set",
                SetBody::List(_) => "set list",
                SetBody::ThenGet(_) => "set then get",
            },
            Self::SetAnswer(_) => "set answer",
            Self::Action(asked) => match asked.body {
                ActionBody::Normal(_) => "action",
                ActionBody::List(_) => "action list",
                ActionBody::ThenGet(_) => "action then get",
            },
            Self::ActionAnswer(_) => "action answer",
            Self::ReportAck(_) => "report confirmation",
            Self::Report(answered) => match answered.body {
                Report::Items(_) => "report",
                Report::Records(_) => "report of records",
                Report::Transparent(_) => "transparent report",
            },
            Self::Proxy(asked) => match asked.body {
                ProxyBody::Get(_) => "proxy get list",
                ProxyBody::Record(_) => "proxy get record",
                ProxyBody::Set(_) => "proxy set list",
                ProxyBody::SetThenGet(_) => "proxy set then get",
                ProxyBody::Action(_) => "proxy action list",
                ProxyBody::ActionThenGet(_) => "proxy action then get",
                ProxyBody::Transparent(_) => "proxy transparent",
            },
            Self::ProxyAnswer(_) => "proxy answer",
            Self::Security(_) => "security",
            Self::SecurityAnswer(_) => "security answer",
            Self::Refused(_) => "error of the head end",
            Self::Error(_) => "error",
        }
    }
}
