//! Whatever comes: round trips, splits, noise, bits turned over, random bytes; and frames of our own.

use super::vector_tests::{feed, stream};
use super::*;
use crate::base::hex;
use crate::protocol::Verdict;
use proptest::collection::vec;
use proptest::prelude::*;
use std::num::NonZeroU16;

fn any_oad() -> impl Strategy<Value = Oad> {
    any::<u32>().prop_map(Oad::from_number)
}

fn any_octets() -> impl Strategy<Value = Octets> {
    vec(any::<u8>(), 0..40).prop_map(Octets)
}

fn any_moment() -> impl Strategy<Value = DateTimeS> {
    any::<[u8; 7]>().prop_map(|[y1, y2, month, day, hour, minute, second]| DateTimeS {
        year: u16::from_be_bytes([y1, y2]),
        month,
        day,
        hour,
        minute,
        second,
    })
}

fn any_ti() -> impl Strategy<Value = Ti> {
    (0u8..6, any::<u16>()).prop_map(|(unit, value)| Ti { unit, value })
}

pub(super) fn any_address() -> impl Strategy<Value = Address> {
    let kind = prop_oneof![
        Just(Kind::Single),
        Just(Kind::Wildcard),
        Just(Kind::Group),
        Just(Kind::Broadcast)
    ];
    (kind, 0u8..4, vec(any::<u8>(), 1..=16))
        .prop_map(|(kind, logical, bytes)| Address::of(kind, logical, &bytes).unwrap())
}

fn any_meter() -> impl Strategy<Value = Address> {
    vec(0u8..100, 1..=16).prop_map(|digits| {
        let bytes: Vec<u8> = digits.iter().map(|n| ((n / 10) << 4) | (n % 10)).collect();
        Address::of(Kind::Single, 0, &bytes).unwrap()
    })
}

fn any_tsa() -> impl Strategy<Value = Tsa> {
    any_address().prop_map(|address| Tsa::of(&address))
}

fn any_csd() -> impl Strategy<Value = Csd> {
    let road = (any_oad(), vec(any_oad(), 0..4)).prop_map(|(oad, columns)| Csd::Road(Road { oad, columns }));
    prop_oneof![any_oad().prop_map(Csd::Oad), road]
}

fn leaf() -> impl Strategy<Value = Data> {
    let numbers = prop_oneof![
        any::<i8>().prop_map(Data::Int8),
        any::<i16>().prop_map(Data::Int16),
        any::<i32>().prop_map(Data::Int32),
        any::<i64>().prop_map(Data::Int64),
        any::<u8>().prop_map(Data::UInt8),
        any::<u16>().prop_map(Data::UInt16),
        any::<u32>().prop_map(Data::UInt32),
        any::<u64>().prop_map(Data::UInt64),
        any::<u8>().prop_map(Data::Enum),
        any::<u32>().prop_map(|bits| Data::Float32(Float32(bits))),
        any::<u64>().prop_map(|bits| Data::Float64(Float64(bits))),
    ];
    let strings = prop_oneof![
        Just(Data::Null),
        any::<bool>().prop_map(Data::Bool),
        vec(any::<u8>(), 0..20).prop_map(|bytes| Data::Bits(BitString::of_bytes(&bytes))),
        any_octets().prop_map(Data::Octets),
        any_octets().prop_map(|octets| Data::Visible(Text(octets.0))),
        any_octets().prop_map(|octets| Data::Utf8(Text(octets.0))),
        any_octets().prop_map(Data::Mac),
        any_octets().prop_map(Data::Rn),
    ];
    let others = prop_oneof![
        any_moment().prop_map(Data::DateTimeS),
        (any_moment(), any::<u8>(), any::<u16>()).prop_map(|(s, weekday, millisecond)| Data::DateTime(DateTime {
            year: s.year,
            month: s.month,
            day: s.day,
            weekday,
            hour: s.hour,
            minute: s.minute,
            second: s.second,
            millisecond,
        })),
        any_moment().prop_map(|s| Data::Date(Date {
            year: s.year,
            month: s.month,
            day: s.day,
            weekday: s.hour
        })),
        any_moment().prop_map(|s| Data::Time(Time {
            hour: s.hour,
            minute: s.minute,
            second: s.second
        })),
        any::<u16>().prop_map(Data::Oi),
        any_oad().prop_map(Data::Oad),
        any_oad().prop_map(|oad| Data::Omd(Omd {
            oi: oad.oi,
            method: oad.attribute,
            mode: oad.index
        })),
        any_ti().prop_map(Data::Ti),
        any_tsa().prop_map(Data::Tsa),
        (any::<i8>(), any::<u8>()).prop_map(|(scaler, unit)| Data::ScalerUnit(ScalerUnit { scaler, unit })),
        (any::<u32>(), any_octets()).prop_map(|(id, additional)| Data::Sid(Sid { id, additional })),
        Just(Data::Comdcb(Comdcb::DLT645)),
        any_csd().prop_map(Data::Csd),
        vec(any_csd(), 0..4).prop_map(Data::Rcsd),
    ];
    prop_oneof![numbers, strings, others]
}

fn any_ms() -> impl Strategy<Value = Ms> {
    let region = (0u8..4, any::<u16>(), any::<u16>()).prop_map(|(boundary, begin, end)| Region {
        boundary,
        begin: Data::UInt16(begin),
        end: Data::UInt16(end),
    });
    prop_oneof![
        Just(Ms::None),
        Just(Ms::All),
        vec(any::<u8>(), 0..4).prop_map(Ms::Kinds),
        vec(any_tsa(), 0..4).prop_map(Ms::Addresses),
        vec(any::<u16>(), 0..4).prop_map(Ms::Numbers),
        vec(region, 0..3).prop_map(Ms::NumberRegions),
    ]
}

fn any_rsd() -> impl Strategy<Value = Rsd> {
    let between =
        || (any_oad(), leaf(), leaf(), leaf()).prop_map(|(oad, begin, end, step)| Between { oad, begin, end, step });
    let span = || {
        (any_moment(), any_moment(), any_ti(), any_ms()).prop_map(|(begin, end, step, meters)| Span {
            begin,
            end,
            step,
            meters,
        })
    };
    let at = || (any_moment(), any_ms()).prop_map(|(time, meters)| AtTime { time, meters });
    prop_oneof![
        Just(Rsd::All),
        (any_oad(), leaf()).prop_map(|(oad, value)| Rsd::Equal(Equal { oad, value })),
        between().prop_map(Rsd::Between),
        vec(between(), 0..3).prop_map(Rsd::AllBetween),
        at().prop_map(Rsd::StartedAt),
        at().prop_map(Rsd::StoredAt),
        span().prop_map(Rsd::Started),
        span().prop_map(Rsd::Stored),
        span().prop_map(Rsd::Collected),
        any::<u8>().prop_map(Rsd::Back),
        (any::<u8>(), any_ms()).prop_map(|(count, meters)| Rsd::Last(Last { count, meters })),
    ]
}

pub(super) fn any_data() -> impl Strategy<Value = Data> {
    let leaf = prop_oneof![
        8 => leaf(),
        1 => any_rsd().prop_map(|rsd| Data::Rsd(Box::new(rsd))),
        1 => any_ms().prop_map(Data::Ms),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let region = (0u8..4, inner.clone(), inner.clone())
            .prop_map(|(boundary, begin, end)| Data::Region(Box::new(Region { boundary, begin, end })));
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Data::Array),
            vec(inner, 0..5).prop_map(Data::Structure),
            region,
        ]
    })
}

fn any_item() -> impl Strategy<Value = ItemResult> {
    let result = prop_oneof![
        any_data().prop_map(ValueResult::Data),
        (1u8..36).prop_map(|dar| ValueResult::Dar(Dar(dar)))
    ];
    (any_oad(), result).prop_map(|(oad, result)| ItemResult { oad, result })
}

fn many<T: std::fmt::Debug>(each: impl Strategy<Value = T>) -> impl Strategy<Value = Many<T>> {
    vec(each, 1..5).prop_map(|list| Many::new(list).unwrap())
}

fn any_record() -> impl Strategy<Value = RecordResult> {
    (any_oad(), vec(any_csd(), 1..4), 0usize..4, any_data()).prop_map(|(oad, columns, rows, data)| {
        let row = vec![data; columns.len()];
        RecordResult {
            oad,
            columns,
            rows: Rows::Rows(vec![row; rows]),
        }
    })
}

fn any_tag() -> impl Strategy<Value = Option<TimeTag>> {
    proptest::option::of((any_moment(), any_ti()).prop_map(|(sent, allowed)| TimeTag { sent, allowed }))
}

fn any_follow() -> impl Strategy<Value = Option<FollowReport>> {
    let follow = prop_oneof![
        many(any_item()).prop_map(FollowReport::Items),
        many(any_record()).prop_map(FollowReport::Records)
    ];
    proptest::option::of(follow)
}

fn asked<B: std::fmt::Debug>(body: impl Strategy<Value = B>) -> impl Strategy<Value = Asked<B>> {
    (0u8..64, body, any_tag()).prop_map(|(piid, body, time_tag)| Asked {
        piid: Piid::new(piid),
        body,
        time_tag,
    })
}

fn answered<B: std::fmt::Debug>(body: impl Strategy<Value = B>) -> impl Strategy<Value = Answered<B>> {
    (any::<u8>(), body, any_follow(), any_tag()).prop_map(|(piid, body, follow, time_tag)| Answered {
        piid: Piid(piid),
        body,
        follow,
        time_tag,
    })
}

fn any_get() -> impl Strategy<Value = GetBody> {
    let record = || {
        (any_oad(), any_rsd(), vec(any_csd(), 0..4)).prop_map(|(oad, rows, columns)| GetRecord { oad, rows, columns })
    };
    prop_oneof![
        any_oad().prop_map(GetBody::Normal),
        many(any_oad()).prop_map(GetBody::List),
        record().prop_map(GetBody::Record),
        many(record()).prop_map(GetBody::RecordList),
        any::<u16>().prop_map(GetBody::Next),
        any_oad().prop_map(GetBody::Md5),
    ]
}

fn any_apdu() -> impl Strategy<Value = Apdu> {
    let omd = || {
        any_oad().prop_map(|oad| Omd {
            oi: oad.oi,
            method: oad.attribute,
            mode: oad.index,
        })
    };
    let set = || (any_oad(), any_data()).prop_map(|(oad, data)| SetItem { oad, data });
    let action = move || (omd(), any_data()).prop_map(|(omd, data)| ActionItem { omd, data });
    let target = (any_tsa(), any::<u16>(), many(any_oad())).prop_map(|(server, timeout_s, items)| Target {
        server,
        timeout_s,
        items,
    });
    let proxy = (1u16.., many(target)).prop_map(|(timeout, targets)| {
        let timeout_s = NonZeroU16::new(timeout).unwrap();
        ProxyBody::Get(ProxyList { timeout_s, targets })
    });
    let proxied = many((any_tsa(), many(any_item())).prop_map(|(server, items)| TargetResult { server, items }));
    let block = (any::<bool>(), any::<u16>(), many(any_item())).prop_map(|(last, number, items)| Block {
        last,
        number,
        content: BlockContent::Items(items),
    });
    let done = (omd(), 0u8..36, proptest::option::of(any_data())).prop_map(|(omd, dar, data)| ActionDone {
        omd,
        dar: Dar(dar),
        data,
    });
    let transparent = (any_oad(), many(any_octets())).prop_map(|(port, frames)| Transparent { port, frames });
    let secured = any_octets().prop_map(|apdu| {
        SecurityRequest::Plain(Secured {
            apdu,
            verification: Verification::Random(Octets(vec![1; 16])),
        })
    });
    prop_oneof![
        asked(any_get()).prop_map(Apdu::Get),
        answered(any_item().prop_map(GetResult::Normal)).prop_map(Apdu::GetAnswer),
        answered(many(any_item()).prop_map(GetResult::List)).prop_map(Apdu::GetAnswer),
        answered(many(any_record()).prop_map(GetResult::RecordList)).prop_map(Apdu::GetAnswer),
        answered(block.prop_map(GetResult::Next)).prop_map(Apdu::GetAnswer),
        asked(many(set()).prop_map(SetBody::List)).prop_map(Apdu::Set),
        asked(many(action()).prop_map(ActionBody::List)).prop_map(Apdu::Action),
        answered(done.prop_map(ActionResult::Normal)).prop_map(Apdu::ActionAnswer),
        answered(transparent.prop_map(Report::Transparent)).prop_map(Apdu::Report),
        answered(many(any_record()).prop_map(Report::Records)).prop_map(Apdu::Report),
        asked(proxy).prop_map(Apdu::Proxy),
        answered(proxied.prop_map(ProxyResult::Get)).prop_map(Apdu::ProxyAnswer),
        secured.prop_map(Apdu::Security),
    ]
}

/// A question for attributes, and its answer, which goes in a frame and in no more parts than are taken.
fn exchange() -> impl Strategy<Value = (Request, Apdu)> {
    (any_meter(), 0u8..64, vec((any_oad(), any_data()), 1..6))
        .prop_map(|(meter, piid, list)| {
            let oads: Vec<_> = list.iter().map(|(oad, _)| *oad).collect();
            let request = Request::get(meter, Piid::new(piid), &oads).unwrap();
            let mut items = list.into_iter().map(|(oad, data)| ItemResult {
                oad,
                result: ValueResult::Data(data),
            });
            let body = match items.len() {
                1 => GetResult::Normal(items.next().unwrap()),
                _ => GetResult::List(Many::new(items.collect()).unwrap()),
            };
            (request, Apdu::GetAnswer(Answered::new(Piid::new(piid), body)))
        })
        .prop_filter("too long", |(_, answer): &(Request, Apdu)| answer.wire().len() < 3000)
}

fn answer_frame(request: &Request, data: Vec<u8>) -> Frame {
    Frame::new(Control::ANSWER, request.address(), CLIENT, data).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(apdu in any_apdu()) {
        let wire = apdu.wire();
        prop_assert_eq!(Apdu::parse(&wire), Ok(apdu));
        // a byte less or more is no APDU, or, where a column of a record stands for several, another one
        let none_or_another = |bytes: &[u8]| Apdu::parse(bytes).map_or(true, |apdu| apdu.wire() == bytes);
        prop_assert!(none_or_another(&wire[..wire.len() - 1]));
        prop_assert!(none_or_another(&[wire, vec![0]].concat()));
    }

    #[test]
    fn what_is_framed_is_opened(
        address in any_address(), client in any::<u8>(), control in any::<u8>(), data in vec(any::<u8>(), 0..600),
        woken in 0usize..6,
    ) {
        let frame = Frame::new(Control(control), address, client, data).unwrap();
        let wire = [vec![PREAMBLE; woken], frame.wire()].concat();
        prop_assert_eq!(open(&wire), Ok(frame));
        for cut in woken..wire.len() {
            let short = matches!(open(&wire[..cut]), Err(FrameError::Short { .. }));
            prop_assert!(short, "cut at {}", cut);
        }
    }

    #[test]
    fn noise_and_a_frame_are_the_frame(
        (request, answer) in exchange(), noise in vec(any::<u8>(), 0..80), cuts in (any::<usize>(), any::<usize>()),
    ) {
        let frame = answer_frame(&request, answer.wire());
        let bytes = [noise, frame.wire()].concat();
        let (a, b) = (cuts.0 % bytes.len(), cuts.1 % bytes.len());
        let (a, b) = (a.min(b), a.max(b));
        let pieces = [&bytes[..a], &bytes[a..b], &bytes[b..]];
        let (found, _) = feed(&request, &pieces);
        let (found, verdict) = found.expect("the answer");
        prop_assert_eq!(verdict, Verdict::Answer);
        prop_assert!(found.ends_with(&frame.wire()));
        prop_assert_eq!(request.reply(&found), Ok(answer));
        // without a question a head that is proven by chance is waited for: no 68 before the frame here
        let quiet: Vec<u8> = bytes[..bytes.len() - frame.wire().len()].iter().map(|b| b & 0xF7).collect();
        prop_assert_eq!(stream(&[&quiet, &frame.wire()]), [frame]);
    }

    #[test]
    fn a_bit_turned_over_is_no_answer((request, answer) in exchange(), bit in any::<usize>()) {
        let mut wire = answer_frame(&request, answer.wire()).wire();
        let bit = bit % (wire.len() * 8);
        wire[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(open(&wire).is_err());
        prop_assert_eq!(feed(&request, &[&wire]), (None, vec![]));
    }

    #[test]
    fn another_questions_answer_is_foreign((request, answer) in exchange(), (other, _) in exchange()) {
        let frame = answer_frame(&request, answer.wire()).wire();
        if other != request {
            prop_assert_eq!(feed(&other, &[&frame]), (None, vec![Verdict::Foreign]));
        }
        let own = request.wire();
        prop_assert_eq!(feed(&request, &[&own, &frame]), (Some((frame, Verdict::Answer)), vec![Verdict::Echo]));
    }

    #[test]
    fn answers_in_parts_are_joined((request, answer) in exchange(), size in 8usize..60) {
        let apdu = answer.wire();
        prop_assume!(apdu.len() > size);
        let parts = split(&apdu, size);
        let count = parts.len();
        let (mut asked, mut bytes) = (request.clone(), Vec::new());
        for (index, part) in parts.iter().enumerate() {
            let frame = Frame::new(Control::ANSWER.segmented(), request.address(), CLIENT, part.wire()).unwrap().wire();
            let (found, before) = feed(&asked, &[&frame]);
            prop_assert_eq!((found, before), (Some((frame.clone(), Verdict::Answer)), vec![]));
            bytes.extend(frame);
            match request.follow_up(&bytes) {
                Some(follow) => {
                    prop_assert_eq!(follow.wire(), Frame::new(
                        Control::QUESTION.segmented(), request.address(), CLIENT,
                        Segment::confirmation(u16::try_from(index).unwrap()).wire(),
                    ).unwrap().wire());
                    asked = follow;
                }
                None => prop_assert_eq!(index + 1, count),
            }
        }
        prop_assert_eq!(request.reply(&bytes), Ok(answer));
    }

    #[test]
    fn any_bytes_are_taken_without_a_panic(
        bytes in vec(prop_oneof![Just(0x68u8), Just(0xFE), Just(0x16), any::<u8>()], 0..700),
        (request, _) in exchange(),
    ) {
        let _apdu = Apdu::parse(&bytes);
        let _frame = open(&bytes);
        let _explained = explain(&bytes);
        let _answer = request.reply(&bytes);
        let _more = request.follow_up(&bytes);
        prop_assert_eq!(request.find_last(&bytes), crate::protocol::Finding::NeedMore { noise: noise(&request, &bytes) });
        prop_assert_eq!(stream(&[&bytes]), []);
        // nothing is kept that cannot become a frame
        if let Next::NeedMore { noise } = next(&bytes) {
            prop_assert!(bytes.len() - noise <= FRAME_MAX + PREAMBLES_MAX);
        }
    }

    #[test]
    fn any_bytes_behind_a_service_are_judged_and_bounded(
        service in prop_oneof![Just(0x85u8), Just(0x88), Just(0x89), Just(0x05), Just(0x87), Just(0x10), Just(0x90)],
        choice in 0u8..8, rest in vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(0x82), 0u8..97, any::<u8>()], 0..300),
    ) {
        let bytes = [vec![service, choice, 1], rest].concat();
        if let Ok(apdu) = Apdu::parse(&bytes) {
            // what was read is written so that it reads the same
            prop_assert_eq!(Apdu::parse(&apdu.wire()), Ok(apdu));
        }
    }
}

fn noise(request: &Request, bytes: &[u8]) -> usize {
    match request.find(bytes) {
        crate::protocol::Finding::NeedMore { noise } => noise,
        crate::protocol::Finding::Frame { .. } => usize::MAX,
    }
}

#[test]
fn depth_and_size_have_an_end() {
    // arrays within arrays, each of one
    let deep = |levels: usize| {
        [
            vec![0x85, 1, 1, 0, 0x10, 2, 0, 1],
            [1u8, 1].repeat(levels),
            vec![0, 0, 0],
        ]
        .concat()
    };
    assert!(Apdu::parse(&deep(10)).is_ok());
    assert!(matches!(
        Apdu::parse(&deep(40)),
        Err(CodecError::Limit {
            what: "levels",
            max: DEPTH_MAX,
            ..
        })
    ));
    // a record that claims more cells than there are bytes takes no memory
    let claims = [
        0x85, 3, 1, 0x50, 4, 2, 0, 1, 0, 0x20, 0x21, 2, 0, 1, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0,
    ];
    assert!(matches!(Apdu::parse(&claims), Err(CodecError::Short(_))));
    // elements that are there, but too many
    let mut many = vec![0x85, 1, 1, 0, 0x10, 2, 0, 1, 1, 0x82, 0x80, 0x00];
    many.extend(vec![0; 0x8000]);
    many.extend([0, 0]);
    assert!(matches!(
        Apdu::parse(&many),
        Err(CodecError::Limit {
            what: "elements",
            max: ELEMENTS_MAX,
            ..
        })
    ));
    assert!(matches!(
        Apdu::parse(&vec![0; APDU_MAX + 1]),
        Err(CodecError::Limit { what: "bytes", .. })
    ));
    let meter = Address::parse("1").unwrap();
    assert!(matches!(
        Frame::new(Control::ANSWER, meter, 0, vec![0; FRAME_MAX]),
        Err(FrameError::TooLong { .. })
    ));
    // a length in the long form, and one of no sense
    assert!(Apdu::parse(&[0x85, 1, 1, 0x40, 1, 2, 0, 1, 9, 0x81, 1, 7, 0, 0]).is_ok());
    assert!(Apdu::parse(&[0x85, 1, 1, 0x40, 1, 2, 0, 1, 9, 0x80, 0, 0]).is_err());
}

#[test]
fn our_own_frames_mean_what_they_say() {
    let text = include_str!("../../../tests/frames/dlt698.45.jsonl");
    for line in text.lines() {
        let pair: serde_json::Value = serde_json::from_str(line).unwrap();
        let bytes = |name: &str| hex::decode(pair[name].as_str().unwrap()).unwrap();
        let (asked, answer) = (bytes("request"), bytes("answer"));
        let request = Request::parse(&asked).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(request.wire(), asked, "{line}");
        let (found, before) = feed(&request, &[&asked, &answer]);
        let (frame, verdict) = found.unwrap_or_else(|| panic!("{line}: {:?}", request.reply(&answer)));
        assert_eq!((frame, before), (answer.clone(), vec![Verdict::Echo]), "{line}");
        let explained = explain(&answer);
        let [Ok(explained)] = explained.as_slice() else {
            panic!("{line}: {explained:?}")
        };
        let values: Vec<_> = explained
            .items
            .iter()
            .map(|item| {
                let value = item.value.clone().unwrap_or_default();
                item.unit
                    .as_ref()
                    .map_or(value.clone(), |unit| format!("{value} {unit}"))
            })
            .collect();
        let stated: Vec<_> = pair["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap().to_owned())
            .collect();
        assert_eq!(values, stated, "{line}");
        assert_eq!(
            explained.refusal.is_some(),
            matches!(verdict, Verdict::Refused(_)),
            "{line}"
        );
        match request.reply(&answer) {
            Ok(_) => assert_eq!(verdict, Verdict::Answer),
            Err(AnswerError::Refused(refusal)) => assert_eq!(verdict, Verdict::Refused(refusal.code())),
            Err(error) => panic!("{line}: {error}"),
        }
        // every byte is told of, once
        let spans: Vec<_> = explained.fields.iter().map(|field| (field.start, field.end)).collect();
        assert!(spans.windows(2).all(|pair| pair[0].1 == pair[1].0), "{line}: {spans:?}");
        assert_eq!((spans[0].0, spans[spans.len() - 1].1), (0, answer.len()), "{line}");
    }
    assert!(text.lines().count() >= 14);
}
