//! What the explanations say of frames with known meaning.

use super::*;
use proptest::prelude::*;

const WATER: &str = "681F1F6808027278563412244001075500000003131531 00DA023B13018B60043718021816";

#[test]
fn a_water_meter_is_explained_field_by_field() {
    let bytes = hex::decode(WATER).unwrap();
    let frames = explain(&bytes);
    let [Ok(frame)] = frames.as_slice() else {
        panic!("{frames:?}");
    };
    assert_eq!((frame.address.as_str(), frame.function_name), ("2", Some("RSP_UD")));
    let items: Vec<_> = frame
        .items
        .iter()
        .map(|item| {
            let part = |part: &Option<String>| part.clone().unwrap_or_default();
            (item.name.clone(), part(&item.value), part(&item.unit))
        })
        .collect();
    let item = |name: &str, value: &str, unit: &str| (name.to_owned(), value.to_owned(), unit.to_owned());
    assert_eq!(
        items,
        [
            item("volume", "12.565", "m³"),
            item("volume flow, maximum, storage 5", "0.113", "m³/h"),
            item("energy, tariff 2, subunit 1", "218370", "Wh"),
        ]
    );
    assert!(frame.notes.contains(&"secondary address 12345678.PAD.01.07".to_owned()));
    // the fields cover the frame without a gap
    let mut at = 0;
    for field in &frame.fields {
        assert_eq!(field.start, at, "{field:?}");
        at = field.end;
    }
    assert_eq!(at, bytes.len());
}

#[test]
fn a_conversation_is_explained_frame_by_frame() {
    let bytes =
        hex::decode("1040014116 E5 107B017C16 68040468080170088116 FF 680B0B6853FD52FFFFFF1FFFFFFFFFBA16").unwrap();
    let frames = explain(&bytes);
    let names: Vec<_> = frames
        .iter()
        .map(|f| f.as_ref().ok().and_then(|f| f.function_name))
        .collect();
    let expected = [
        Some("SND_NKE"),
        Some("acknowledgement"),
        Some("REQ_UD2"),
        Some("RSP_UD"),
        None,
        Some("SND_UD"),
    ];
    assert_eq!(names, expected);
    let refusal = frames[3].as_ref().unwrap().refusal.unwrap();
    assert_eq!((refusal.code, refusal.name), (8, "application busy"));
}

#[test]
fn faults_have_their_place() {
    let fault = |text: &str| explain(&hex::decode(text).unwrap()).remove(0).unwrap_err();
    let sum = fault("1040014216");
    assert_eq!((sum.offset, sum.checksum_ok), (3, Some(false)));
    assert_eq!(fault("6804056808").offset, 2);
    let cut = fault("681F1F6808027278");
    assert!(cut.error.contains("needs 37 bytes and has 8"), "{}", cut.error);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _unused = explain(&bytes);
    }

    #[test]
    fn random_user_data_never_panics(data in prop::collection::vec(any::<u8>(), 0..=252), ci in any::<u8>(), c in any::<u8>()) {
        let frame = Frame::Long { control: c, address: 1, ci, data }.wire().unwrap();
        for frame in explain(&frame).into_iter().flatten() {
            for field in &frame.fields {
                prop_assert!(field.start <= field.end && field.end <= frame.end, "{:?}", field);
            }
        }
    }
}
