//! DL/T 698.45 frames explained: what each byte is, in the words of a field engineer.

use super::answer::Refusal;
use super::apdu::Apdu;
use super::explain_items as items;
use super::frame::{Frame, FrameError, frames, open, preambles};
use super::segment::{Part, Segment};
use crate::base::hex;
use crate::protocol::explain::{self as words, Direction, ExplainError, Explained, Field};
use std::ops::Range;

type Frames = Vec<Result<Explained, ExplainError>>;

/// Explains the frames that stand in `bytes`; what lies between them is named as noise.
pub fn explain(bytes: &[u8]) -> Frames {
    let mut explained = Vec::new();
    let mut from = 0;
    for (span, frame) in frames(bytes) {
        if span.start > from {
            explained.push(Err(no_frame(bytes, from..span.start)));
        }
        from = span.end;
        explained.push(Ok(framed(bytes, &span, &frame)));
    }
    if from < bytes.len() {
        explained.push(Err(no_frame(bytes, from..bytes.len())));
    }
    explained
}

/// Why bytes are no frame.
fn no_frame(bytes: &[u8], place: Range<usize>) -> ExplainError {
    let noise = bytes.get(place.clone()).unwrap_or_default();
    let starts = noise.iter().enumerate().filter(|(_, byte)| **byte == 0x68);
    let tried: Vec<(usize, FrameError)> = starts
        .filter_map(|(at, _)| {
            let rest = noise.get(at..).unwrap_or_default();
            // a length that says less than there is: what follows is not the frame's own
            let claimed = match rest {
                [_, low, high, ..] => usize::from(u16::from_le_bytes([*low, *high])).saturating_add(2),
                _ => rest.len(),
            };
            let own = rest.get(..claimed.min(rest.len())).unwrap_or_default();
            open(own).err().map(|error| (at, error))
        })
        .collect();
    let broken = tried.iter().find(|(_, error)| error.is_checksum());
    match broken.or(tried.first()) {
        Some((at, error)) => ExplainError {
            checksum_ok: error.is_checksum().then_some(false),
            ..ExplainError::new(format!("no DL/T 698.45 frame: {error}"), place.start + at)
        },
        None => {
            let text = format!("{} bytes of noise, no 68 among them", noise.len());
            ExplainError::new(text, place.start)
        }
    }
}

/// The fields of a frame, one behind the other.
struct Fields {
    list: Vec<Field>,
    at: usize,
}

impl Fields {
    fn add(&mut self, name: &'static str, len: usize, value: impl Into<String>) {
        let (start, end) = (self.at, self.at + len);
        if len > 0 {
            self.list.push(Field {
                name,
                start,
                end,
                value: value.into(),
            });
        }
        self.at = end;
    }
}

fn framed(bytes: &[u8], span: &Range<usize>, frame: &Frame) -> Explained {
    let woken = preambles(bytes.get(span.clone()).unwrap_or_default());
    let control = frame.control;
    let mut fields = Fields {
        list: Vec::new(),
        at: span.start,
    };
    fields.add("preamble", woken, format!("{woken} × FE"));
    fields.add("start", 1, "68");
    fields.add("length", 2, (span.len() - woken - 2).to_string());
    fields.add("control", 1, format!("{control:?}: {control}"));
    let kind = format!("{:?}", frame.address.kind()).to_lowercase();
    fields.add(
        "address",
        1 + frame.address.printed().len(),
        format!("{}, {kind}", frame.address),
    );
    fields.add("client", 1, format!("{:02X}", frame.client));
    fields.add("head checksum", 2, "right");
    let mut explained = Explained {
        protocol: "dlt698.45",
        direction: match control.is_from_device() {
            true => Direction::Response,
            false => Direction::Request,
        },
        address: frame.address.to_string(),
        function: None,
        function_name: None,
        control: Some(format!("0x{control:?}")),
        checksum_ok: Some(true),
        refusal: None,
        items: Vec::new(),
        fields: Vec::new(),
        start: span.start,
        end: span.end,
        notes: Vec::new(),
    };
    if control.is_segmented() {
        part(frame.data(), &mut explained, &mut fields);
    } else {
        whole(frame.data(), &mut explained, &mut fields);
    }
    fields.at = span.end - 3;
    fields.add("checksum", 2, "right");
    fields.add("end", 1, "16");
    explained.fields = fields.list;
    explained
}

/// One part of an APDU.
fn part(data: &[u8], explained: &mut Explained, fields: &mut Fields) {
    match Segment::parse(data) {
        Ok(segment) => {
            let what = match segment.part {
                Part::First => "first part",
                Part::Between => "part between",
                Part::Last => "last part",
                Part::Confirmation => "confirmation of a part",
            };
            explained.function_name = Some(what);
            fields.add("part", 2, format!("{what}, number {}", segment.number));
            fields.add("data", segment.data.len(), hex::encode(segment.data));
        }
        Err(error) => {
            fields.add("data", data.len(), hex::encode(data));
            explained.notes.push(error.to_string());
        }
    }
}

fn whole(data: &[u8], explained: &mut Explained, fields: &mut Fields) {
    let apdu = match Apdu::parse(data) {
        Ok(apdu) => apdu,
        Err(error) => {
            fields.add("data", data.len(), hex::encode(data));
            explained.notes.push(error.to_string());
            return;
        }
    };
    explained.function = Some(apdu.service());
    explained.function_name = Some(apdu.name());
    fields.add("service", 1, format!("{:02X}: {}", apdu.service(), apdu.name()));
    let framed = matches!(apdu.service() & 0x7F, 5..=9);
    if framed {
        let choice = data.get(1).copied().unwrap_or_default();
        fields.add("choice", 1, choice.to_string());
    }
    if let Some(piid) = apdu.piid() {
        fields.add("number", 1, piid.to_string());
    }
    let content = data
        .len()
        .saturating_sub(1 + usize::from(framed) + usize::from(apdu.piid().is_some()));
    fields.add("content", content, items::summary(&apdu));
    if let Some(refusal) = items::refusal(&apdu) {
        explained.refusal = Some(words::Refusal {
            code: refusal.code(),
            name: match refusal {
                Refusal::Dar(dar) => dar.name(),
                Refusal::Error(kind) => super::apdu::error_name(kind),
                Refusal::Connect(_) => "no association",
            },
        });
    }
    explained.items = items::items(&apdu);
    explained.notes.extend(items::notes(&apdu));
}
