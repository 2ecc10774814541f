//! The shared vectors, and frames of our own: each means what it says, whole, split and with a bit turned over.

use super::*;
use crate::base::hex;
use crate::protocol::{Finding, Verdict};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Feeds pieces as they would arrive; the first answer or refusal, and what was said before it.
pub(crate) fn feed(request: &Request, pieces: &[&[u8]]) -> (Option<(Vec<u8>, Verdict)>, Vec<Verdict>) {
    let (mut buffer, mut before) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match request.find(&buffer) {
                Finding::NeedMore { noise } => {
                    buffer.drain(..noise);
                    break;
                }
                Finding::Frame { span, verdict } => {
                    let frame = buffer[span.clone()].to_vec();
                    buffer.drain(..span.end);
                    match verdict {
                        Verdict::Answer | Verdict::Refused(_) => return (Some((frame, verdict)), before),
                        other => before.push(other),
                    }
                }
            }
        }
    }
    (None, before)
}

/// Feeds pieces to a connection; every frame that comes out.
pub(crate) fn stream(pieces: &[&[u8]]) -> Vec<Frame> {
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match next(&buffer) {
                Next::NeedMore { noise } => {
                    buffer.drain(..noise);
                    break;
                }
                Next::Frame { span, frame } => {
                    buffer.drain(..span.end);
                    found.push(frame);
                }
            }
        }
    }
    found
}

pub(super) fn vectors(name: &str) -> Option<String> {
    let shared = std::env::var_os("POLYPHASE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let file = shared.join("vectors").join(name);
    let text = std::fs::read_to_string(&file).ok();
    if text.is_none() {
        println!("absent, so not checked: {}", file.display());
    }
    text
}

/// A value in the words of the vectors.
fn data_json(data: &Data) -> Value {
    let list = |list: &[Data]| list.iter().map(data_json).collect::<Vec<_>>();
    match data {
        Data::Null => Value::Null,
        Data::Array(elements) => json!({ "array": list(elements) }),
        Data::Structure(elements) => json!({ "structure": list(elements) }),
        Data::Bool(value) => json!({ "bool": value }),
        Data::Int8(value) => json!({ "int8": value }),
        Data::Int16(value) => json!({ "int16": value }),
        Data::Int32(value) => json!({ "int32": value }),
        Data::Int64(value) => json!({ "int64": value }),
        Data::UInt8(value) => json!({ "uint8": value }),
        Data::UInt16(value) => json!({ "uint16": value }),
        Data::UInt32(value) => json!({ "uint32": value }),
        Data::UInt64(value) => json!({ "uint64": value }),
        Data::Octets(value) => json!({ "octet_string": value.to_string() }),
        Data::DateTimeS(value) => json!({ "date_time_s": value.to_string() }),
        Data::Oad(value) => json!({ "oad": value.to_string() }),
        other => panic!("no vector has {other:?}"),
    }
}

fn item_json(item: &ItemResult) -> Value {
    match &item.result {
        ValueResult::Data(data) => json!({ "oad": item.oad.to_string(), "data": data_json(data) }),
        ValueResult::Dar(dar) => json!({ "oad": item.oad.to_string(), "dar": dar.0 }),
    }
}

/// What an APDU means, in the words of the vectors.
fn meaning(apdu: &Apdu) -> Value {
    let choice = apdu.wire()[1];
    let piid = apdu.piid().map(|piid| piid.0);
    match apdu {
        Apdu::LinkRequest(link) => json!({
            "service": "link_request", "sender": "terminal", "piid": piid, "request_type": link.kind.name(),
            "heartbeat_s": link.heartbeat_s, "time": link.time.to_string(),
        }),
        Apdu::LinkResponse(link) => json!({
            "service": "link_response", "sender": "head_end", "piid": piid, "result": format!("{:02X}", link.result),
            "request_time": link.requested.to_string(), "received_time": link.received.to_string(),
            "response_time": link.responded.to_string(),
        }),
        Apdu::ReleaseRequest(_) => json!({ "service": "release_request", "sender": "head_end", "piid": piid }),
        Apdu::ReleaseResponse(release) => json!({
            "service": "release_response", "sender": "terminal", "piid": piid, "result": release.result,
        }),
        Apdu::Get(get) => {
            let head = json!({ "service": "get_request", "sender": "head_end", "choice": choice, "piid": piid });
            match &get.body {
                GetBody::Normal(oad) => with(head, json!({ "oad": oad.to_string() })),
                GetBody::List(oads) => {
                    let oads: Vec<_> = oads.iter().map(Oad::to_string).collect();
                    with(head, json!({ "oads": oads }))
                }
                _ => head,
            }
        }
        Apdu::GetAnswer(get) => {
            let head = json!({ "service": "get_response", "sender": "terminal", "choice": choice, "piid": piid });
            match &get.body {
                GetResult::Normal(item) => with(head, json!({ "results": [item_json(item)] })),
                GetResult::List(items) => {
                    let items: Vec<_> = items.iter().map(item_json).collect();
                    with(head, json!({ "results": items }))
                }
                _ => head,
            }
        }
        Apdu::Set(set) => {
            let head = json!({ "service": "set_request", "sender": "head_end", "choice": choice, "piid": piid });
            match &set.body {
                SetBody::Normal(item) => with(
                    head,
                    json!({ "oad": item.oad.to_string(), "data": data_json(&item.data) }),
                ),
                _ => head,
            }
        }
        Apdu::SetAnswer(set) => {
            let head = json!({ "service": "set_response", "sender": "terminal", "choice": choice, "piid": piid });
            match &set.body {
                SetResult::Normal(done) => with(head, json!({ "oad": done.oad.to_string(), "dar": done.dar.0 })),
                _ => head,
            }
        }
        Apdu::Action(action) => {
            let head = json!({ "service": "action_request", "sender": "head_end", "choice": choice, "piid": piid });
            match &action.body {
                // the one whose data the vector does not state
                ActionBody::Normal(item) if item.omd.oi == 0x6014 => with(head, json!({ "partly_decoded": true })),
                ActionBody::Normal(item) => with(
                    head,
                    json!({ "omd": item.omd.to_string(), "data": data_json(&item.data) }),
                ),
                _ => head,
            }
        }
        Apdu::ActionAnswer(action) => {
            let head = json!({ "service": "action_response", "sender": "terminal", "choice": choice, "piid": piid });
            match &action.body {
                ActionResult::Normal(done) => with(head, json!({ "omd": done.omd.to_string(), "dar": done.dar.0 })),
                _ => head,
            }
        }
        Apdu::Report(_) => json!({ "service": "report_notification", "sender": "terminal" }),
        Apdu::ReportAck(_) => json!({ "service": "report_response", "sender": "head_end" }),
        Apdu::Proxy(_) => json!({ "service": "proxy_request", "sender": "head_end" }),
        Apdu::ProxyAnswer(_) => json!({ "service": "proxy_response", "sender": "terminal" }),
        Apdu::Error(_) => json!({ "service": "error_response", "sender": "terminal" }),
        other => panic!("no vector has {other:?}"),
    }
}

fn with(mut head: Value, more: Value) -> Value {
    head.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    head
}

/// The vector's meaning without what is said of the frame, and of where it comes from.
fn stated(meaning: &Value) -> Value {
    let mut meaning = meaning.clone();
    let fields = meaning.as_object_mut().unwrap();
    for field in ["name", "value_from", "note"] {
        fields.remove(field);
    }
    meaning
}

/// A question that an answer vector answers.
fn asking(frame: &Frame, apdu: &Apdu) -> Option<Request> {
    let piid = apdu.piid()?;
    let request = match apdu {
        Apdu::GetAnswer(answered) => match &answered.body {
            GetResult::Normal(item) => Request::get(frame.address, piid, &[item.oad]),
            GetResult::List(items) => {
                let oads: Vec<_> = items.iter().map(|item| item.oad).collect();
                Request::get(frame.address, piid, &oads)
            }
            _ => return None,
        },
        Apdu::SetAnswer(answered) => match &answered.body {
            SetResult::Normal(done) => Request::set(frame.address, piid, done.oad, Data::Null),
            _ => return None,
        },
        Apdu::ActionAnswer(answered) => match &answered.body {
            ActionResult::Normal(done) => {
                let item = ActionItem {
                    omd: done.omd,
                    data: Data::Null,
                };
                Request::unguarded(frame.address, Apdu::Action(Asked::new(piid, ActionBody::Normal(item))))
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(request.unwrap().with_client(frame.client))
}

fn check_frame(line: &str) -> bool {
    let vector: Value = serde_json::from_str(line).unwrap();
    let bytes = hex::decode(vector["frame_hex"].as_str().unwrap()).unwrap();
    let meant = &vector["meaning"];
    if let Some(error) = meant["error"].as_str() {
        let found = open(&bytes).unwrap_err();
        match error {
            // its length is one more than there is, so the head's sum, which covers it, is wrong as well
            "length_too_long" => assert!(
                matches!(found, FrameError::Head { .. } | FrameError::Short { .. }),
                "{line}"
            ),
            "bad_hcs" => assert!(matches!(found, FrameError::Head { .. }), "{line}"),
            other => panic!("{other}"),
        }
        assert_eq!(stream(&[&bytes]), [], "{line}");
        return false;
    }
    let frame = open(&bytes).unwrap();
    let control = frame.control;
    assert_eq!(meant["length"], bytes.len() as u64 - 2, "{line}");
    assert_eq!(meant["control"], format!("{control:?}"), "{line}");
    assert_eq!(meant["dir"], u64::from(control.is_from_device()), "{line}");
    assert_eq!(meant["prm"], u64::from(control.is_of_ours()), "{line}");
    assert_eq!(meant["split"], u64::from(control.is_segmented()), "{line}");
    assert_eq!(meant["scrambled"], u64::from(control.is_scrambled()), "{line}");
    assert_eq!(meant["function"], u64::from(control.function()), "{line}");
    assert_eq!(meant["sa_type"], 0, "{line}");
    assert_eq!(frame.address.kind(), Kind::Single, "{line}");
    assert_eq!(meant["logical_address"], u64::from(frame.address.logical()), "{line}");
    assert_eq!(meant["sa"], frame.address.to_string(), "{line}");
    assert_eq!(meant["client_address"], u64::from(frame.client), "{line}");
    assert_eq!(meant["apdu_hex"], hex::encode(frame.data()), "{line}");
    let apdu = Apdu::parse(frame.data()).unwrap();
    assert_eq!(meaning(&apdu), meant["apdu"], "{line}");
    assert_eq!(apdu.wire(), frame.data(), "{line}");
    assert_eq!(frame.wire(), bytes, "{line}");
    let asked = asking(&frame, &apdu);
    let refused = |apdu: &Apdu| matches!(apdu, Apdu::GetAnswer(a) if matches!(&a.body, GetResult::Normal(i) if matches!(i.result, ValueResult::Dar(_))));
    for cut in 0..=bytes.len() {
        assert_eq!(
            stream(&[&bytes[..cut], &bytes[cut..]]),
            std::slice::from_ref(&frame),
            "{line} cut at {cut}"
        );
        if let Some(request) = &asked {
            assert!(!refused(&apdu));
            let found = feed(request, &[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(
                found,
                (Some((bytes.clone(), Verdict::Answer)), vec![]),
                "{line} cut at {cut}"
            );
        }
    }
    for bit in 0..bytes.len() * 8 {
        let mut broken = bytes.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&broken).is_err(), "{line} bit {bit}");
        assert_eq!(stream(&[&broken]), [], "{line} bit {bit}");
    }
    if control == Control::QUESTION {
        let request = Request::parse(&bytes).unwrap();
        assert_eq!(request.wire(), bytes, "{line}");
    }
    true
}

#[test]
fn the_shared_frames_mean_what_they_say() {
    let Some(text) = vectors("dlt698.45.jsonl") else { return };
    let good = text.lines().filter(|line| check_frame(line)).count();
    assert!(good >= 23, "only {good} frames");
}

fn check_apdu(line: &str) -> bool {
    let vector: Value = serde_json::from_str(line).unwrap();
    let bytes = hex::decode(vector["frame_hex"].as_str().unwrap()).unwrap();
    let meant = &vector["meaning"];
    if let Some(crc) = meant["crc16_x25"].as_str() {
        assert_eq!(format!("{:04X}", checksum(&bytes)), crc);
        return false;
    }
    if let Some(error) = meant["error"].as_str() {
        let found = Apdu::parse(&bytes).unwrap_err();
        let right = match error {
            "truncated: time-tag byte missing" => matches!(found, CodecError::Short(_)),
            "trailing byte" => matches!(found, CodecError::Trailing { extra: 1, .. }),
            "total timeout 0" | "report list with zero entries" => matches!(found, CodecError::Invalid { .. }),
            other => panic!("{other}"),
        };
        assert!(right, "{line}: {found}");
        return false;
    }
    let apdu = Apdu::parse(&bytes).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(meaning(&apdu), stated(meant), "{line}");
    assert_eq!(apdu.wire(), bytes, "{line}");
    // cut anywhere it is none
    for cut in 0..bytes.len() {
        assert!(Apdu::parse(&bytes[..cut]).is_err(), "{line} cut at {cut}");
    }
    true
}

#[test]
fn the_shared_apdus_mean_what_they_say() {
    let Some(text) = vectors("dlt698.45-apdu.jsonl") else {
        return;
    };
    let good = text.lines().filter(|line| check_apdu(line)).count();
    assert!(good >= 21, "only {good} APDUs");
}
