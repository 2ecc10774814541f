//! `decode`: any bytes are explained or said not to be, each place once, and nothing is believed that its checksum denies.

use crate::input::Input;
use crate::protocol::Protocol;
use crate::protocol::explain::{Explained, explain_all};
use crate::seeds::{Seeds, frames};
use rust_decimal::Decimal;

fn check(explained: &Explained, bytes: &[u8]) {
    let place = format!("{} to {} of {}", explained.start, explained.end, bytes.len());
    assert!(
        explained.start < explained.end && explained.end <= bytes.len(),
        "a frame at {place}"
    );
    for field in &explained.fields {
        let within = explained.start <= field.start && field.start <= field.end && field.end <= explained.end;
        assert!(
            within,
            "{} at {} to {}, its frame at {place}",
            field.name, field.start, field.end
        );
    }
    if explained.checksum_ok == Some(true) {
        let frame = &bytes[explained.start..explained.end];
        assert!(frame.len() >= 4, "{} bytes with a checksum", frame.len());
    }
    serde_json::to_string(explained).expect("it can be shown");
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = usize::from(input.byte());
    let protocol = Protocol::ALL.get(choice % (Protocol::ALL.len() + 1)).copied();
    let bytes = input.all();
    let mut end = 0;
    for found in explain_all(protocol, bytes) {
        match found {
            Ok(explained) => {
                assert!(explained.start >= end, "two frames of the same bytes");
                check(&explained, bytes);
                end = explained.end;
            }
            Err(error) => assert!(error.offset <= bytes.len(), "a fault behind the end"),
        }
    }
}

pub(super) fn seeds(seeds: &mut Seeds) {
    for (index, protocol) in Protocol::ALL.iter().enumerate() {
        let index = u8::try_from(index).unwrap_or_default();
        for frame in frames(protocol.name()) {
            seeds.add(&[&[index], &frame]);
            seeds.add(&[&[u8::try_from(Protocol::ALL.len()).unwrap_or_default()], &frame]);
        }
    }
}
