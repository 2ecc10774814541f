//! Conversations of Q/GDW 1376.1: answers beside their questions, questions under way, values read as they were written.

use crate::exchange::dialogue::{Dialogue, DialogueEvent, DialogueSettings};
use crate::input::{Input, piece};
use crate::protocol::gdw376::format::Format;
use crate::protocol::gdw376::{
    Address, Afn, Ask, Assembly, Control, Edition, Fn, Frame, ITEM_MAX, Id, Message, POINT_MAX, Pn, Request, Said,
};
use crate::seeds::{Seeds, frames};
use std::collections::BTreeSet;
use std::time::Instant;

/// The terminal that questions go to.
fn terminal() -> Address {
    Address::new(0x4403, 4).with_msa(2)
}

/// A frame of any control and data, mostly of our terminal.
fn sealed(input: &mut Input<'_>) -> Frame {
    let control = Control(input.byte());
    let address = match input.byte() {
        0 => Address::new(input.word(), input.word()),
        _ => terminal(),
    };
    let mut data = vec![input.byte() % 0x12, input.byte()];
    data.extend_from_slice(input.piece());
    Frame::new(control, address, data).expect("short data")
}

fn request(input: &mut Input<'_>) -> Option<Request> {
    let afn = Afn(input.byte() % 0x12);
    let count = usize::from(input.byte() % 12);
    let asks = (0..count).map(|_| {
        let pn = Pn::new(input.word() % (POINT_MAX + 1)).expect("within its range");
        let item = Fn::new(input.byte() % ITEM_MAX + 1).expect("within its range");
        let data = input.take(usize::from(input.clone().byte() % 8)).to_vec();
        Ask {
            id: Id { pn, item },
            data,
        }
    });
    let asks: Vec<Ask> = asks.collect();
    Some(Request::new(terminal(), afn, asks).ok()?.numbered(input.byte()))
}

/// Whatever comes, an answer holds nothing that was not asked.
fn answered(input: &mut Input<'_>) {
    let Some(request) = request(input) else { return };
    let wire = request.wire();
    assert!(Frame::parse(&wire).is_ok(), "a question that is no frame");
    let asked: BTreeSet<Id> = request.asks().map(|(id, _)| id).collect();
    let mut assembly = Assembly::new(4096);
    while !input.is_empty() {
        let Ok(message) = Message::of(&sealed(input)) else {
            continue;
        };
        let Ok(Some(frames)) = assembly.push(message) else {
            continue;
        };
        let Ok(answer) = request.answer(&frames, Edition::E2013) else {
            continue;
        };
        let beside = |id: &Id| !asked.contains(id);
        assert!(!answer.missing.iter().any(beside), "what nobody asked for is missing");
        if request.afn() != Afn::TASK {
            assert!(
                !answer.units().any(|unit| beside(&unit.id)),
                "a value that nobody asked for"
            );
        }
        if let Said::Partly { confirmed, denied } = &answer.said {
            assert!(!confirmed.iter().any(beside) && !denied.iter().any(|(id, _)| beside(id)));
        }
    }
}

/// No frame ends a question that it does not answer, and none ends twice.
fn conversation(input: &mut Input<'_>) {
    let now = Instant::now();
    let settings = DialogueSettings {
        under_way: usize::from(input.byte() % 8),
        ..DialogueSettings::default()
    };
    let mut dialogue = Dialogue::new(settings);
    let mut open = BTreeSet::new();
    for _ in 0..input.byte() % 4 {
        if let Some(request) = request(input)
            && let Ok((ticket, _)) = dialogue.ask(now, request)
        {
            open.insert(ticket);
        }
    }
    while !input.is_empty() {
        for event in dialogue.feed(now, &sealed(input).wire()) {
            match event {
                DialogueEvent::Answered { ticket, .. } | DialogueEvent::Failed { ticket, .. } => {
                    assert!(open.remove(&ticket), "a question ends twice");
                }
                DialogueEvent::Send(wire) => assert!(Frame::parse(&wire).is_ok()),
                _ => {}
            }
        }
        assert_eq!(dialogue.load(), open.len());
    }
    assert_eq!(dialogue.end().len(), open.len());
}

/// A value is read as it was written.
fn formats(input: &mut Input<'_>) {
    const ALL: [Format; 12] = [
        Format::A1,
        Format::A2,
        Format::A3,
        Format::A5,
        Format::A9,
        Format::A14,
        Format::A15,
        Format::A17,
        Format::A18,
        Format::A21,
        Format::A23,
        Format::A25,
    ];
    for format in ALL {
        let bytes = input.take(format.size());
        if let Ok(value) = format.read(bytes) {
            let again = format.write(&value).map(|bytes| format.read(&bytes));
            assert_eq!(again, Some(Ok(value)), "{format:?} of {bytes:02X?}");
        }
    }
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => answered(&mut input),
        1 => conversation(&mut input),
        _ => formats(&mut input),
    }
}

pub(super) fn seeds(seeds: &mut Seeds) {
    for frame in frames("gdw376.1") {
        let Ok(parsed) = Frame::parse(&frame) else { continue };
        let [afn, seq, body @ ..] = parsed.data() else { continue };
        // the question for the first unit, and the frame as its answer
        let Some(id) = Message::of(&parsed).ok().and_then(|message| message.first_id()) else {
            continue;
        };
        let ask = [
            id.pn.number().unwrap_or_default().to_le_bytes().as_slice(),
            &[id.item.number() - 1],
        ]
        .concat();
        let answer = [&[parsed.control.0, 1, *afn, *seq][..], &piece(body)].concat();
        seeds.add(&[&[0, *afn, 1], &ask, &[seq & 0x0F], &answer]);
        seeds.add(&[&[1, 1, 1, *afn, 1], &ask, &[0], &answer]);
    }
    seeds.add(&[&[2], &[0x49, 0x48, 0x11, 0x15, 0x52, 0x15], &[0x23, 0x84], &[0x12; 40]]);
}
