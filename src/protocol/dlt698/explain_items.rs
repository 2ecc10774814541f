//! What an APDU asks for or brings, item by item.

use super::answer::Refusal;
use super::apdu::{
    ActionBody, ActionDone, ActionItem, ActionResult, Apdu, Application, BlockContent, FollowReport, GetBody,
    GetRecord, GetResult, ItemResult, Md5Content, ProxyBody, ProxyResult, RecordResult, Report, ReportAck, Rows,
    SecurityRequest, SetBody, SetDone, SetResult, TargetResult, TransparentContent, ValueResult,
};
use super::dar::Dar;
use super::data::{Csd, Data};
use super::objects;
use super::relay;
use super::values::{Oad, Omd};
use crate::protocol::explain::ExplainedItem;

type Items = Vec<ExplainedItem>;

/// The most items of one frame that are told; a frame of 16 KB can hold more than anybody reads.
const ITEMS_MAX: usize = 2000;

/// One thing by name.
fn plain(id: impl Into<String>, name: impl Into<String>, value: Option<String>) -> ExplainedItem {
    ExplainedItem {
        id: id.into(),
        name: name.into(),
        value,
        ..ExplainedItem::default()
    }
}

fn asked(oad: Oad) -> ExplainedItem {
    plain(oad.to_string(), objects::item(oad, oad.index).to_string(), None)
}

/// The values of an attribute, each with its name and unit.
fn told(oad: Oad, data: &Data, into: &mut Items) {
    for value in objects::values(oad, data) {
        if into.len() >= ITEMS_MAX {
            return;
        }
        let text = match (value.number, value.at) {
            (Some(number), Some(at)) => format!("{number} at {at}"),
            (Some(number), None) => number.to_string(),
            (None, _) => value.data.to_string(),
        };
        into.push(ExplainedItem {
            id: value.item.oad.to_string(),
            name: value.item.to_string(),
            value: Some(text),
            unit: value
                .number
                .map(|_| value.item.unit.to_owned())
                .filter(|unit| !unit.is_empty()),
            ..ExplainedItem::default()
        });
    }
}

fn denied(id: String, name: String, dar: Dar) -> ExplainedItem {
    plain(id, name, Some(dar.to_string()))
}

fn item(result: &ItemResult, into: &mut Items) {
    match &result.result {
        ValueResult::Data(data) => told(result.oad, data, into),
        ValueResult::Dar(dar) => into.push(denied(result.oad.to_string(), asked(result.oad).name, *dar)),
    }
}

fn record(record: &RecordResult, into: &mut Items) {
    let rows = match &record.rows {
        Rows::Dar(dar) => {
            into.push(denied(record.oad.to_string(), asked(record.oad).name, *dar));
            return;
        }
        Rows::Rows(rows) => rows,
    };
    into.push(plain(
        record.oad.to_string(),
        asked(record.oad).name,
        Some(format!("{} rows", rows.len())),
    ));
    for row in rows {
        record
            .cells(row)
            .into_iter()
            .for_each(|(oad, data)| told(oad, data, into));
    }
}

fn record_asked(record: &GetRecord, into: &mut Items) {
    into.push(plain(
        record.oad.to_string(),
        format!("{}: {}", asked(record.oad).name, record.rows),
        None,
    ));
    for column in &record.columns {
        match column {
            Csd::Oad(oad) => into.push(asked(*oad)),
            Csd::Road(road) => into.extend(road.columns.iter().copied().map(asked)),
        }
    }
}

fn method(omd: Omd) -> String {
    let object = objects::object(omd.oi).map_or("an object not in the table", |object| object.name);
    format!("{object}, method {}", omd.method)
}

fn action(item: &ActionItem) -> ExplainedItem {
    let name = match relay::Action::of_item(item) {
        Some((action, _)) => format!("{}: {}", method(item.omd), action.name()),
        None => method(item.omd),
    };
    plain(item.omd.to_string(), name, Some(item.data.to_string()))
}

fn set(oad: Oad, data: &Data) -> ExplainedItem {
    plain(oad.to_string(), asked(oad).name, Some(data.to_string()))
}

fn is_set(done: &SetDone) -> ExplainedItem {
    denied(done.oad.to_string(), asked(done.oad).name, done.dar)
}

fn is_done(omd: Omd, dar: Dar, data: Option<&Data>) -> ExplainedItem {
    let text = match data {
        Some(data) => format!("{dar}: {data}"),
        None => dar.to_string(),
    };
    plain(omd.to_string(), method(omd), Some(text))
}

/// What it asks for or brings.
pub(super) fn items(apdu: &Apdu) -> Items {
    let mut into = Vec::new();
    match apdu {
        Apdu::LinkRequest(link) => {
            into.push(plain("", "heartbeat", Some(format!("{} s", link.heartbeat_s))));
            into.push(plain("", "time of the request", Some(link.time.to_string())));
        }
        Apdu::LinkResponse(link) => {
            into.push(plain("", "result", Some(link.result_name().to_owned())));
            into.push(plain("", "time of the request", Some(link.requested.to_string())));
            into.push(plain("", "time received", Some(link.received.to_string())));
            into.push(plain("", "time of the answer", Some(link.responded.to_string())));
        }
        Apdu::ConnectResponse(connect) => into.push(plain("", "result", Some(connect.result_name().to_owned()))),
        Apdu::Get(get) => get_asked(&get.body, &mut into),
        Apdu::GetAnswer(get) => get_told(&get.body, &mut into),
        Apdu::Set(asked) => match &asked.body {
            SetBody::Normal(item) => into.push(set(item.oad, &item.data)),
            SetBody::List(list) => into.extend(list.iter().map(|item| set(item.oad, &item.data))),
            SetBody::ThenGet(list) => into.extend(list.iter().map(|item| set(item.oad, &item.data))),
        },
        Apdu::SetAnswer(answered) => match &answered.body {
            SetResult::Normal(done) => into.push(is_set(done)),
            SetResult::List(list) => into.extend(list.iter().map(is_set)),
            SetResult::ThenGet(list) => {
                for got in list.iter() {
                    into.push(denied(got.oad.to_string(), asked(got.oad).name, got.dar));
                    item(&got.read, &mut into);
                }
            }
        },
        Apdu::Action(asked) => match &asked.body {
            ActionBody::Normal(item) => into.push(action(item)),
            ActionBody::List(list) => into.extend(list.iter().map(action)),
            ActionBody::ThenGet(list) => {
                into.extend(
                    list.iter()
                        .map(|item| plain(item.omd.to_string(), method(item.omd), Some(item.data.to_string()))),
                );
            }
        },
        Apdu::ActionAnswer(answered) => match &answered.body {
            ActionResult::Normal(done) => into.push(is_done(done.omd, done.dar, done.data.as_ref())),
            ActionResult::List(list) => {
                into.extend(list.iter().map(|d: &ActionDone| is_done(d.omd, d.dar, d.data.as_ref())))
            }
            ActionResult::ThenGet(list) => {
                for got in list.iter() {
                    into.push(is_done(got.omd, got.dar, got.data.as_ref()));
                    item(&got.read, &mut into);
                }
            }
        },
        Apdu::Report(answered) => match &answered.body {
            Report::Items(list) => list.iter().for_each(|result| item(result, &mut into)),
            Report::Records(list) => list.iter().for_each(|result| record(result, &mut into)),
            Report::Transparent(data) => {
                let name = asked(data.port).name;
                into.extend(
                    data.frames
                        .iter()
                        .map(|f| plain(data.port.to_string(), name.clone(), Some(f.to_string()))),
                );
            }
        },
        Apdu::ReportAck(asking) => match &asking.body {
            ReportAck::Items(list) | ReportAck::Records(list) => into.extend(list.iter().copied().map(asked)),
            ReportAck::Transparent => {}
        },
        Apdu::Proxy(asking) => proxy_asked(&asking.body, &mut into),
        Apdu::ProxyAnswer(answered) => proxy_told(&answered.body, &mut into),
        Apdu::Security(SecurityRequest::Plain(secured)) => inner(&secured.apdu.0, &mut into),
        Apdu::SecurityAnswer(answer) => match &answer.application {
            Application::Plain(apdu) => inner(&apdu.0, &mut into),
            Application::Encrypted(_) | Application::Dar(_) => {}
        },
        _ => {}
    }
    follow(apdu, &mut into);
    into.truncate(ITEMS_MAX);
    into
}

/// The APDU in a guarded one; a guarded one in that is not looked into.
fn inner(bytes: &[u8], into: &mut Items) {
    if let Ok(apdu) = Apdu::parse(bytes)
        && !matches!(apdu, Apdu::Security(_) | Apdu::SecurityAnswer(_))
    {
        into.extend(items(&apdu));
    }
}

fn get_asked(body: &GetBody, into: &mut Items) {
    match body {
        GetBody::Normal(oad) | GetBody::Md5(oad) => into.push(asked(*oad)),
        GetBody::List(list) => into.extend(list.iter().copied().map(asked)),
        GetBody::Record(record) => record_asked(record, into),
        GetBody::RecordList(list) => list.iter().for_each(|record| record_asked(record, into)),
        GetBody::Next(_) => {}
    }
}

fn get_told(body: &GetResult, into: &mut Items) {
    match body {
        GetResult::Normal(result) => item(result, into),
        GetResult::List(list) => list.iter().for_each(|result| item(result, into)),
        GetResult::Record(result) => record(result, into),
        GetResult::RecordList(list) => list.iter().for_each(|result| record(result, into)),
        GetResult::Next(block) => match &block.content {
            BlockContent::Dar(dar) => into.push(denied(String::new(), "block".to_owned(), *dar)),
            BlockContent::Items(list) => list.iter().for_each(|result| item(result, into)),
            BlockContent::Records(list) => list.iter().for_each(|result| record(result, into)),
        },
        GetResult::Md5(md5) => into.push(match &md5.content {
            Md5Content::Dar(dar) => denied(md5.oad.to_string(), asked(md5.oad).name, *dar),
            Md5Content::Sum(sum) => plain(md5.oad.to_string(), asked(md5.oad).name, Some(sum.to_string())),
        }),
    }
}

fn proxy_asked(body: &ProxyBody, into: &mut Items) {
    let of = |item: ExplainedItem, server: &dyn std::fmt::Display| ExplainedItem {
        name: format!("meter {server}: {}", item.name),
        ..item
    };
    match body {
        ProxyBody::Get(list) => {
            for target in list.targets.iter() {
                into.extend(target.items.iter().map(|oad| of(asked(*oad), &target.server)));
            }
        }
        ProxyBody::Record(record) => {
            let before = into.len();
            record_asked(&record.record, into);
            if let Some(first) = into.get_mut(before) {
                first.name = format!("meter {}: {}", record.server, first.name);
            }
        }
        ProxyBody::Set(list) => {
            for target in list.targets.iter() {
                into.extend(
                    target
                        .items
                        .iter()
                        .map(|item| of(set(item.oad, &item.data), &target.server)),
                );
            }
        }
        ProxyBody::SetThenGet(list) => {
            for target in list.targets.iter() {
                into.extend(
                    target
                        .items
                        .iter()
                        .map(|item| of(set(item.oad, &item.data), &target.server)),
                );
            }
        }
        ProxyBody::Action(list) => {
            for target in list.targets.iter() {
                into.extend(target.items.iter().map(|item| of(action(item), &target.server)));
            }
        }
        ProxyBody::ActionThenGet(list) => {
            for target in list.targets.iter() {
                let plain = |item: &super::apdu::ActionThenGet| {
                    plain(item.omd.to_string(), method(item.omd), Some(item.data.to_string()))
                };
                into.extend(target.items.iter().map(|item| of(plain(item), &target.server)));
            }
        }
        ProxyBody::Transparent(transparent) => into.push(plain(
            transparent.port.to_string(),
            asked(transparent.port).name,
            Some(transparent.command.to_string()),
        )),
    }
}

/// What one meter said, its address before every name.
fn of_target<T>(list: &[TargetResult<T>], each: impl Fn(&T, &mut Items), into: &mut Items) {
    for target in list {
        let before = into.len();
        target.items.iter().for_each(|result| each(result, into));
        for item in into.iter_mut().skip(before) {
            item.name = format!("meter {}: {}", target.server, item.name);
        }
    }
}

fn proxy_told(body: &ProxyResult, into: &mut Items) {
    match body {
        ProxyResult::Get(list) => of_target(list, item, into),
        ProxyResult::Record(result) => {
            let one = [TargetResult {
                server: result.server.clone(),
                items: super::wire::Many::one(result.record.clone()),
            }];
            of_target(&one, record, into);
        }
        ProxyResult::Set(list) => of_target(list, |done, into| into.push(is_set(done)), into),
        ProxyResult::SetThenGet(list) => {
            let each = |got: &super::apdu::SetThenGot, into: &mut Items| {
                into.push(denied(got.oad.to_string(), asked(got.oad).name, got.dar));
                item(&got.read, into);
            };
            of_target(list, each, into);
        }
        ProxyResult::Action(list) => {
            let each = |done: &ActionDone, into: &mut Items| into.push(is_done(done.omd, done.dar, done.data.as_ref()));
            of_target(list, each, into);
        }
        ProxyResult::ActionThenGet(list) => {
            let each = |got: &super::apdu::ActionThenGot, into: &mut Items| {
                into.push(is_done(got.omd, got.dar, got.data.as_ref()));
                item(&got.read, into);
            };
            of_target(list, each, into);
        }
        ProxyResult::Transparent(result) => into.push(match &result.content {
            TransparentContent::Dar(dar) => denied(result.port.to_string(), asked(result.port).name, *dar),
            TransparentContent::Bytes(bytes) => plain(
                result.port.to_string(),
                asked(result.port).name,
                Some(bytes.to_string()),
            ),
        }),
    }
}

/// What a device reports together with its answer.
fn follow(apdu: &Apdu, into: &mut Items) {
    let follow = match apdu {
        Apdu::GetAnswer(answered) => &answered.follow,
        Apdu::SetAnswer(answered) => &answered.follow,
        Apdu::ActionAnswer(answered) => &answered.follow,
        Apdu::ProxyAnswer(answered) => &answered.follow,
        Apdu::Report(answered) => &answered.follow,
        _ => return,
    };
    match follow {
        Some(FollowReport::Items(list)) => list.iter().for_each(|result| item(result, into)),
        Some(FollowReport::Records(list)) => list.iter().for_each(|result| record(result, into)),
        None => {}
    }
}

/// The refusal of the whole.
pub(super) fn refusal(apdu: &Apdu) -> Option<Refusal> {
    let dar = match apdu {
        Apdu::Error(error) => return Some(Refusal::Error(error.kind)),
        Apdu::ConnectResponse(connect) => return (connect.result != 0).then_some(Refusal::Connect(connect.result)),
        Apdu::GetAnswer(answered) => match &answered.body {
            GetResult::Normal(item) => match item.result {
                ValueResult::Dar(dar) => dar,
                ValueResult::Data(_) => return None,
            },
            GetResult::Record(record) => match record.rows {
                Rows::Dar(dar) => dar,
                Rows::Rows(_) => return None,
            },
            _ => return None,
        },
        Apdu::SetAnswer(answered) => match &answered.body {
            SetResult::Normal(done) => done.dar,
            _ => return None,
        },
        Apdu::ActionAnswer(answered) => match &answered.body {
            ActionResult::Normal(done) => done.dar,
            _ => return None,
        },
        Apdu::SecurityAnswer(answer) => match &answer.application {
            Application::Dar(dar) => *dar,
            _ => return None,
        },
        _ => return None,
    };
    (!dar.is_success()).then_some(Refusal::Dar(dar))
}

/// One line for the content.
pub(super) fn summary(apdu: &Apdu) -> String {
    let count = match apdu {
        Apdu::Get(get) => match &get.body {
            GetBody::List(list) => list.len(),
            GetBody::RecordList(list) => list.len(),
            GetBody::Next(number) => return format!("the block behind block {number}"),
            _ => 1,
        },
        Apdu::GetAnswer(get) => match &get.body {
            GetResult::List(list) => list.len(),
            GetResult::RecordList(list) => list.len(),
            GetResult::Next(block) => {
                let last = if block.last { ", the last" } else { "" };
                return format!("block {}{last}", block.number);
            }
            _ => 1,
        },
        Apdu::Security(SecurityRequest::Encrypted(_)) => return "enciphered".to_owned(),
        Apdu::SecurityAnswer(answer) if matches!(answer.application, Application::Encrypted(_)) => {
            return "enciphered".to_owned();
        }
        _ => return apdu.name().to_owned(),
    };
    match count {
        1 => "1 item".to_owned(),
        count => format!("{count} items"),
    }
}

/// What else there is to say.
pub(super) fn notes(apdu: &Apdu) -> Vec<String> {
    let mut notes = Vec::new();
    if apdu.service() & 0x80 != 0 && apdu.piid().is_some_and(super::Piid::acd) {
        notes.push("the device has reports waiting".to_owned());
    }
    let tag = match apdu {
        Apdu::Get(asked) => asked.time_tag,
        Apdu::Set(asked) => asked.time_tag,
        Apdu::Action(asked) => asked.time_tag,
        Apdu::Proxy(asked) => asked.time_tag,
        _ => None,
    };
    if let Some(tag) = tag {
        notes.push(format!("sent at {}, to come within {}", tag.sent, tag.allowed));
    }
    notes
}
