//! The other side of the link: a device that answers from a table of attributes and records, for the simulator and for
//! tests.

use super::apdu::{
    ActionBody, ActionDone, ActionResult, ActionThenGot, Answered, Apdu, Application, Asked, Block, BlockContent,
    ConnectResponse, ErrorResponse, Factory, GetBody, GetRecord, GetResult, ItemResult, LinkKind, LinkRequest,
    Md5Content, Md5Result, Piid, ProxyBody, ProxyList, ProxyRecordResult, ProxyResult, ProxyTransparent,
    ProxyTransparentResult, RecordResult, ReleaseResponse, Report, Rows, SecuredAnswer, SecurityRequest, SetBody,
    SetDone, SetResult, SetThenGot, Target, TargetResult, TransparentContent, ValueResult,
};
use super::dar::Dar;
use super::data::Data;
use super::moments::DateTime;
use super::segment::{Part, Segment, split};
use super::values::{Oad, Omd};
use super::wire::{Many, Octets};
use super::{Address, Control, Frame, Tsa};
use chrono::NaiveDateTime;
use std::collections::VecDeque;

/// What a device has and does.
pub trait Objects {
    /// The value of an attribute.
    ///
    /// # Errors
    /// Why there is none.
    fn get(&mut self, oad: Oad) -> Result<Data, Dar>;

    /// Sets an attribute; says whether it is set.
    fn set(&mut self, oad: Oad, data: &Data) -> Dar;

    /// Does a method; says whether it is done, and what it gives.
    fn act(&mut self, omd: Omd, data: &Data) -> (Dar, Option<Data>);

    /// The rows of a record.
    ///
    /// # Errors
    /// Why there are none.
    fn rows(&mut self, asked: &GetRecord) -> Result<Vec<Vec<Data>>, Dar>;

    /// A meter behind a concentrator; none where there is none, or it does not answer.
    fn behind(&mut self, _server: &Tsa) -> Option<&mut dyn Objects> {
        None
    }

    /// What a meter behind says to bytes.
    ///
    /// # Errors
    /// Why it says nothing.
    fn forward(&mut self, _transparent: &ProxyTransparent) -> Result<Octets, Dar> {
        Err(Dar::DENIED)
    }
}

/// The answer of a device to a question; none to what is no question.
pub fn respond(asked: &Apdu, objects: &mut dyn Objects) -> Option<Apdu> {
    let answer = match asked {
        Apdu::Get(asked) => Apdu::GetAnswer(answered(asked, get(&asked.body, objects)?)),
        Apdu::Set(asked) => Apdu::SetAnswer(answered(asked, set(&asked.body, objects)?)),
        Apdu::Action(asked) => Apdu::ActionAnswer(answered(asked, action(&asked.body, objects)?)),
        Apdu::Proxy(asked) => Apdu::ProxyAnswer(answered(asked, proxy(&asked.body, objects)?)),
        Apdu::ConnectRequest(asked) => Apdu::ConnectResponse(Box::new(ConnectResponse {
            piid: asked.piid,
            factory: Factory {
                maker: *b"SIMU",
                software: *b"0001",
                software_date: *b"260101",
                hardware: *b"0001",
                hardware_date: *b"260101",
                extension: [0; 8],
            },
            parameters: asked.parameters.clone(),
            result: 0,
            security: None,
            follow: None,
            time_tag: asked.time_tag,
        })),
        Apdu::ReleaseRequest(asked) => Apdu::ReleaseResponse(ReleaseResponse {
            piid: asked.piid,
            result: 0,
            follow: None,
            time_tag: asked.time_tag,
        }),
        Apdu::Security(SecurityRequest::Plain(secured)) => {
            let application = match Apdu::parse(&secured.apdu.0) {
                // one guard alone
                Ok(Apdu::Security(_)) | Err(_) => Application::Dar(Dar(20)),
                Ok(inner) => Application::Plain(Octets(respond(&inner, objects)?.wire())),
            };
            Apdu::SecurityAnswer(SecuredAnswer {
                application,
                verification: None,
            })
        }
        Apdu::Security(SecurityRequest::Encrypted(_)) => Apdu::SecurityAnswer(SecuredAnswer {
            application: Application::Dar(Dar(28)),
            verification: None,
        }),
        _ => return None,
    };
    Some(answer)
}

/// That an APDU cannot be read.
pub fn unreadable(piid: Piid) -> Apdu {
    Apdu::Error(ErrorResponse {
        piid,
        kind: 1,
        follow: None,
        time_tag: None,
    })
}

fn answered<Q, B>(asked: &Asked<Q>, body: B) -> Answered<B> {
    Answered {
        piid: Piid(asked.piid.0 & 0xBF),
        body,
        follow: None,
        time_tag: asked.time_tag,
    }
}

/// One for each, in the same order.
fn each<Q, A>(asked: &Many<Q>, mut answer: impl FnMut(&Q) -> A) -> Option<Many<A>> {
    Many::new(asked.iter().map(&mut answer).collect())
}

fn item(oad: Oad, objects: &mut dyn Objects) -> ItemResult {
    let result = match objects.get(oad) {
        Ok(data) => ValueResult::Data(data),
        Err(dar) => ValueResult::Dar(dar),
    };
    ItemResult { oad, result }
}

fn record(asked: &GetRecord, objects: &mut dyn Objects) -> RecordResult {
    let rows = match objects.rows(asked) {
        Ok(rows) => Rows::Rows(rows),
        Err(dar) => Rows::Dar(dar),
    };
    RecordResult {
        oad: asked.oad,
        columns: asked.columns.clone(),
        rows,
    }
}

fn get(body: &GetBody, objects: &mut dyn Objects) -> Option<GetResult> {
    let result = match body {
        GetBody::Normal(oad) => GetResult::Normal(item(*oad, objects)),
        GetBody::List(list) => GetResult::List(each(list, |oad| item(*oad, objects))?),
        GetBody::Record(asked) => GetResult::Record(record(asked, objects)),
        GetBody::RecordList(list) => GetResult::RecordList(each(list, |asked| record(asked, objects))?),
        // long answers go in parts here, never in blocks
        GetBody::Next(number) => GetResult::Next(Block {
            last: true,
            number: number.wrapping_add(1),
            content: BlockContent::Dar(Dar::NO_BLOCKS),
        }),
        GetBody::Md5(oad) => GetResult::Md5(Md5Result {
            oad: *oad,
            content: Md5Content::Dar(Dar::DENIED),
        }),
    };
    Some(result)
}

fn set(body: &SetBody, objects: &mut dyn Objects) -> Option<SetResult> {
    let result = match body {
        SetBody::Normal(item) => SetResult::Normal(SetDone {
            oad: item.oad,
            dar: objects.set(item.oad, &item.data),
        }),
        SetBody::List(list) => SetResult::List(each(list, |item| SetDone {
            oad: item.oad,
            dar: objects.set(item.oad, &item.data),
        })?),
        SetBody::ThenGet(list) => SetResult::ThenGet(each(list, |asked| SetThenGot {
            oad: asked.oad,
            dar: objects.set(asked.oad, &asked.data),
            read: item(asked.read, objects),
        })?),
    };
    Some(result)
}

fn act(omd: Omd, data: &Data, objects: &mut dyn Objects) -> ActionDone {
    let (dar, data) = objects.act(omd, data);
    ActionDone { omd, dar, data }
}

fn action(body: &ActionBody, objects: &mut dyn Objects) -> Option<ActionResult> {
    let result = match body {
        ActionBody::Normal(item) => ActionResult::Normal(act(item.omd, &item.data, objects)),
        ActionBody::List(list) => ActionResult::List(each(list, |item| act(item.omd, &item.data, objects))?),
        ActionBody::ThenGet(list) => ActionResult::ThenGet(each(list, |asked| {
            let done = act(asked.omd, &asked.data, objects);
            ActionThenGot {
                omd: done.omd,
                dar: done.dar,
                data: done.data,
                read: item(asked.read, objects),
            }
        })?),
    };
    Some(result)
}

/// What meters behind answer; those that are not there are left out of nothing: each of their items is refused.
fn targets<Q, A>(
    list: &ProxyList<Q>,
    objects: &mut dyn Objects,
    mut answer: impl FnMut(&Q, Option<&mut dyn Objects>) -> A,
) -> Option<Many<TargetResult<A>>> {
    let mut results = Vec::new();
    for Target { server, items, .. } in list.targets.iter() {
        let mut answers = Vec::new();
        for asked in items.iter() {
            answers.push(answer(asked, objects.behind(server)));
        }
        results.push(TargetResult {
            server: server.clone(),
            items: Many::new(answers)?,
        });
    }
    Many::new(results)
}

/// The request timed out.
const SILENT: Dar = Dar(33);

fn item_behind(oad: Oad, meter: Option<&mut dyn Objects>) -> ItemResult {
    match meter {
        Some(meter) => item(oad, meter),
        None => ItemResult {
            oad,
            result: ValueResult::Dar(SILENT),
        },
    }
}

fn proxy(body: &ProxyBody, objects: &mut dyn Objects) -> Option<ProxyResult> {
    let result = match body {
        ProxyBody::Get(list) => ProxyResult::Get(targets(list, objects, |oad: &Oad, meter| item_behind(*oad, meter))?),
        ProxyBody::Record(asked) => {
            let refused = RecordResult {
                oad: asked.record.oad,
                columns: asked.record.columns.clone(),
                rows: Rows::Dar(SILENT),
            };
            ProxyResult::Record(ProxyRecordResult {
                server: asked.server.clone(),
                record: objects
                    .behind(&asked.server)
                    .map_or(refused, |meter| record(&asked.record, meter)),
            })
        }
        ProxyBody::Set(list) => ProxyResult::Set(targets(list, objects, |item, meter| SetDone {
            oad: item.oad,
            dar: meter.map_or(SILENT, |meter| meter.set(item.oad, &item.data)),
        })?),
        ProxyBody::SetThenGet(list) => ProxyResult::SetThenGet(targets(list, objects, |asked, meter| match meter {
            Some(meter) => SetThenGot {
                oad: asked.oad,
                dar: meter.set(asked.oad, &asked.data),
                read: item(asked.read, meter),
            },
            None => SetThenGot {
                oad: asked.oad,
                dar: SILENT,
                read: item_behind(asked.read, None),
            },
        })?),
        ProxyBody::Action(list) => ProxyResult::Action(targets(list, objects, |item, meter| match meter {
            Some(meter) => act(item.omd, &item.data, meter),
            None => ActionDone {
                omd: item.omd,
                dar: SILENT,
                data: None,
            },
        })?),
        ProxyBody::ActionThenGet(list) => {
            ProxyResult::ActionThenGet(targets(list, objects, |asked, meter| match meter {
                Some(meter) => {
                    let done = act(asked.omd, &asked.data, meter);
                    ActionThenGot {
                        omd: done.omd,
                        dar: done.dar,
                        data: done.data,
                        read: item(asked.read, meter),
                    }
                }
                None => ActionThenGot {
                    omd: asked.omd,
                    dar: SILENT,
                    data: None,
                    read: item_behind(asked.read, None),
                },
            })?)
        }
        ProxyBody::Transparent(asked) => ProxyResult::Transparent(ProxyTransparentResult {
            port: asked.port,
            content: match objects.forward(asked) {
                Ok(bytes) => TransparentContent::Bytes(bytes),
                Err(dar) => TransparentContent::Dar(dar),
            },
        }),
    };
    Some(result)
}

/// A device's end of a link: hears questions to its address, answers in one frame or in parts.
#[derive(Clone, Debug)]
pub struct Device {
    address: Address,
    /// The most data of one frame.
    frame_data_max: usize,
    /// Parts that wait for the confirmation of the one before, each the data of its frame.
    parts: VecDeque<(u16, Vec<u8>)>,
}

impl Device {
    /// A device that sends at most so many bytes of an APDU in one frame.
    pub fn new(address: Address, frame_data_max: usize) -> Self {
        Self {
            address,
            frame_data_max: frame_data_max.clamp(16, 1024),
            parts: VecDeque::new(),
        }
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Its answer to a frame; none to a frame for others, or which nobody answers. What a group or everybody is told is
    /// done all the same.
    pub fn hear(&mut self, frame: &Frame, objects: &mut dyn Objects) -> Option<Frame> {
        let control = frame.control;
        let to_all = !frame.address.is_answered();
        if control.is_from_device() || !control.is_service() || !(to_all || frame.address.covers(&self.address)) {
            return None;
        }
        if control.is_segmented() {
            let segment = Segment::parse(frame.data()).ok()?;
            return (segment.part == Part::Confirmation)
                .then(|| self.part_behind(frame, segment.number))
                .flatten();
        }
        let answer = match Apdu::parse(frame.data()) {
            Ok(asked) => respond(&asked, objects)?,
            Err(_) => unreadable(Piid::new(frame.data().get(2).copied().unwrap_or_default())),
        };
        self.parts.clear();
        let wire = answer.wire();
        if to_all {
            return None;
        }
        if wire.len() <= self.frame_data_max {
            return self.frame(frame, false, wire);
        }
        let parts = split(&wire, self.frame_data_max);
        self.parts = parts.iter().map(|part| (part.number, part.wire())).collect();
        let (_, first) = self.parts.front()?.clone();
        self.frame(frame, true, first)
    }

    fn part_behind(&mut self, asked: &Frame, confirmed: u16) -> Option<Frame> {
        let (number, part) = self.parts.front()?;
        if *number != confirmed {
            // the confirmation of an earlier part: the last one went lost
            let again = part.clone();
            return self.frame(asked, true, again);
        }
        self.parts.pop_front();
        let (_, part) = self.parts.front()?.clone();
        if self.parts.len() == 1 {
            self.parts.clear();
        }
        self.frame(asked, true, part)
    }

    fn frame(&self, asked: &Frame, segmented: bool, data: Vec<u8>) -> Option<Frame> {
        let mut control = Control::ANSWER;
        if segmented {
            control = control.segmented();
        }
        if asked.control.is_scrambled() {
            control = control.scrambled();
        }
        Frame::new(control, self.address, asked.client, data).ok()
    }

    /// The frame of a login, heartbeat or logout at the device's local time.
    pub fn link(&self, piid: Piid, kind: LinkKind, heartbeat_s: u16, now: NaiveDateTime) -> Option<Frame> {
        let request = LinkRequest {
            piid,
            kind,
            heartbeat_s,
            time: DateTime::of(now),
        };
        let data = Apdu::LinkRequest(request).wire();
        Frame::new(Control::LINK_REQUEST, self.address, 0, data).ok()
    }

    /// The frame of a report.
    pub fn report(&self, piid: Piid, report: Report) -> Option<Frame> {
        let data = Apdu::Report(Answered::new(piid, report)).wire();
        Frame::new(Control::REPORT, self.address, 0, data).ok()
    }
}
