//! The questions of a head end: their bytes by the standard's examples, and what is refused.

use super::relay::{Action, FIRST};
use super::*;
use crate::base::hex;
use crate::protocol::dlt645;
use chrono::NaiveDate;
use std::num::NonZeroU16;

fn meter() -> Address {
    Address::parse("202611210001").unwrap()
}

fn apdu(request: &Request) -> String {
    hex::encode(&request.apdu().unwrap().wire())
}

fn seconds(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap()
}

#[test]
fn questions_are_those_of_annex_d() {
    let day = NaiveDate::from_ymd_opt(2016, 1, 20).unwrap();
    let one = Request::get(meter(), Piid::new(1), &[ADDRESS]).unwrap();
    assert_eq!(apdu(&one), "0501014001020000");
    let energy = Oad::new(0x0010, 2);
    let frozen = Request::frozen(meter(), Piid::new(3), Oad::new(0x5004, 2), day, &[energy]).unwrap();
    assert_eq!(
        apdu(&frozen),
        "0503035004020001202102001C07E00114000000020020210200000010020000"
    );
    let cleared = Request::action(meter(), Piid::new(5), Omd::new(0x0010, 1), Data::Int8(0)).unwrap();
    assert_eq!(apdu(&cleared), "070105001001000F0000");
    let clock = day.and_hms_opt(8, 5, 6).unwrap();
    let set = Request::set_clock(meter(), Piid::new(2), clock).unwrap();
    assert_eq!(apdu(&set), "060102400002001C07E0011408050600");
    let all = Request::broadcast_clock(Piid::new(2), clock).unwrap();
    assert_eq!(apdu(&all), "07010240007F001C07E0011408050600");
    assert!(!all.expects_answer() && all.answer_len_max() == 0);
    assert_eq!(Request::get(meter(), Piid::new(1), &[]), Err(RequestError::Nothing));
    assert!(matches!(
        Request::get(meter(), Piid::new(1), &vec![energy; 300]),
        Err(RequestError::TooLong(_))
    ));
}

#[test]
fn relays_are_moved_by_their_own_functions_alone() {
    let trip = Action::Trip {
        alarm_min: 0,
        limit_min: 0,
        auto_close: true,
    };
    let request = relay::command(meter(), Piid::new(14), trip, FIRST).unwrap();
    // as the live capture among the vectors
    assert_eq!(apdu(&request), "07010E800081000101020451F20502011100120000030100");
    let close = relay::command(meter(), Piid::new(1), Action::Close, FIRST).unwrap();
    assert_eq!(apdu(&close), "070101800082000101020251F2050201160100");
    let through = relay::proxied(meter(), Piid::new(1), seconds(30), &meter(), Action::Close, FIRST).unwrap();
    for moving in [&request, &close, &through] {
        let refused = Request::new(meter(), moving.apdu().unwrap().clone());
        assert!(matches!(refused, Err(RequestError::Guarded(_))), "{moving:?}");
        // heard on a line it is what it is
        assert_eq!(Request::parse(&moving.wire()).as_ref(), Ok(moving));
        // and not in disguise either
        let provider = Clear::new([7; 16]);
        let guarded = provider.guard(&meter(), moving.apdu().unwrap()).unwrap();
        assert!(matches!(
            Request::secured(meter(), guarded),
            Err(RequestError::Guarded(_))
        ));
    }
    let Some(Apdu::Action(asked)) = close.apdu() else {
        panic!()
    };
    let ActionBody::Normal(item) = &asked.body else {
        panic!()
    };
    assert_eq!(Action::of_item(item), Some((Action::Close, Some(FIRST))));
    for to in [Address::BROADCAST, Address::ANYONE] {
        assert!(relay::command(to, Piid::new(1), Action::Close, FIRST).is_err());
        assert!(relay::proxied(meter(), Piid::new(1), seconds(30), &to, Action::Close, FIRST).is_err());
    }
    let settings = Request::set(meter(), Piid::new(1), Oad::new(0x8100, 2), Data::Null);
    assert!(matches!(settings, Err(RequestError::Guarded(_))));
    let reading = Request::get(meter(), Piid::new(1), &[Oad::new(0x8000, 3), Oad::new(0xF205, 2)]);
    assert!(reading.is_ok());
}

#[test]
fn only_frames_that_read_go_through_a_terminal() {
    let through = |command: &[u8]| {
        let transparent = ProxyTransparent {
            port: Oad::element(0xF209, 2, 1),
            settings: Comdcb::DLT645,
            timeout_s: 30,
            byte_timeout_ms: 100,
            command: Octets(command.to_vec()),
        };
        let made = relay::transparent(meter(), Piid::new(1), transparent.clone());
        assert!(made.is_ok(), "{command:02X?}");
        Request::transparent(meter(), Piid::new(1), transparent)
    };
    let frame = |text: &str| hex::decode(text).unwrap();
    // DL/T 645: read energy; a broadcast of the time is refused, as all that is no reading
    let read = dlt645::Request::read(dlt645::Address::ANYONE, dlt645::Di::E2007(0x0001_0000));
    assert!(through(&read.wire()).is_ok());
    let frozen = dlt645::Request::checked(
        dlt645::Edition::E2007,
        dlt645::Address::ANYONE,
        dlt645::Body::BroadcastTime(
            NaiveDate::from_ymd_opt(2026, 1, 1)
                .unwrap()
                .and_hms_opt(0, 0, 0)
                .unwrap(),
        ),
    );
    assert!(through(&frozen.unwrap().wire()).is_err());
    // Modbus: read two registers; write one
    assert!(through(&frame("0103000000 02C40B")).is_ok());
    assert!(through(&frame("0106000000 0189CA")).is_err());
    // 698 itself: a question of the inner kind
    let get = Request::get(meter(), Piid::new(1), &[CLOCK]).unwrap().wire();
    assert!(through(&get).is_ok());
    let set = relay::command(meter(), Piid::new(1), Action::Close, FIRST)
        .unwrap()
        .wire();
    assert!(through(&set).is_err());
    assert!(through(&[get.clone(), set].concat()).is_err());
    assert!(through(&[]).is_err() && through(&[1, 2, 3]).is_err());
}

#[test]
fn terminals_are_answered() {
    let login = hex::decode("681E008105111111111111009E7601000000B407E9040B05090C2800008A8B16").unwrap();
    let frame = open(&login).unwrap();
    let Ok(Apdu::LinkRequest(link)) = Apdu::parse(frame.data()) else {
        panic!()
    };
    assert_eq!((link.kind, link.heartbeat_s), (LinkKind::Login, 180));
    let received = NaiveDate::from_ymd_opt(2025, 4, 11)
        .unwrap()
        .and_hms_milli_opt(9, 12, 39, 440)
        .unwrap();
    let now = received + chrono::Duration::milliseconds(4);
    let answer = link_response(&frame, &link, 0, received, now).unwrap();
    // as the published answer, but for its client number A0
    let published = hex::decode(
        "6830000105111111111111A014BC81000007E9040B05090C28000007E9040B05090C2701B807E9040B05090C2701BCB19816",
    );
    let expected = open(&published.unwrap()).unwrap().data().to_vec();
    assert_eq!(
        (answer.control, answer.data()),
        (Control::LINK_RESPONSE, expected.as_slice())
    );

    let item = ItemResult {
        oad: Oad::new(0x3011, 2),
        result: ValueResult::Data(Data::Null),
    };
    let report = Answered::new(Piid(0x42), Report::Items(Many::one(item)));
    let data = Apdu::Report(report.clone()).wire();
    let frame = Frame::new(Control::REPORT, meter(), 0, data).unwrap();
    let answer = confirm_report(&frame, &report).unwrap();
    assert_eq!(answer.control, Control::CONFIRMATION);
    assert_eq!(hex::encode(answer.data()), "0801020130110200 00".replace(' ', ""));
}

#[test]
fn blocks_of_an_answer_are_joined() {
    let columns = [Oad::new(0x0010, 2)];
    let day = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
    let request = Request::frozen(meter(), Piid::new(9), Oad::new(0x5004, 2), day, &columns).unwrap();
    let Some(Apdu::Get(Asked {
        body: GetBody::Record(asked),
        ..
    })) = request.apdu()
    else {
        panic!()
    };
    let record = |rows: Vec<Vec<Data>>| RecordResult {
        oad: asked.oad,
        columns: asked.columns.clone(),
        rows: Rows::Rows(rows),
    };
    let row = |n: u32| vec![Data::DateTimeS(DateTimeS::midnight(day)), Data::UInt32(n)];
    let block = |number: u16, last: bool, rows: Vec<Vec<Data>>| {
        let content = BlockContent::Records(Many::one(record(rows)));
        let body = GetResult::Next(Block { last, number, content });
        let apdu = Apdu::GetAnswer(Answered::new(Piid::new(9), body));
        Frame::new(Control::ANSWER, meter(), CLIENT, apdu.wire())
            .unwrap()
            .wire()
    };
    let first = block(0, false, vec![row(1), row(2)]);
    let follow = request.follow_up(&first).unwrap();
    assert_eq!(apdu(&follow), "050509000000");
    assert_eq!(request.reply(&first), Err(AnswerError::Unfinished { have: 1 }));
    let second = block(1, true, vec![row(3)]);
    assert!(super::vector_tests::feed(&follow, &[&second]).0.is_some());
    // the same block again, or one that is left out, answers nothing
    assert_eq!(super::vector_tests::feed(&follow, &[&first]).0, None);
    assert_eq!(
        super::vector_tests::feed(&follow, &[&block(2, true, vec![row(3)])]).0,
        None
    );
    let all = [first.clone(), second].concat();
    assert_eq!(request.follow_up(&all), None);
    let whole = GetResult::Record(record(vec![row(1), row(2), row(3)]));
    assert_eq!(
        request.reply(&all),
        Ok(Apdu::GetAnswer(Answered::new(Piid::new(9), whole)))
    );
    // other columns than asked for are seen at the end
    let mut other = record(vec![row(3)]);
    other.columns[1] = Csd::Oad(Oad::new(0x0020, 2));
    let content = BlockContent::Records(Many::one(other));
    let body = GetResult::Next(Block {
        last: true,
        number: 1,
        content,
    });
    let apdu = Apdu::GetAnswer(Answered::new(Piid::new(9), body));
    let wrong = Frame::new(Control::ANSWER, meter(), CLIENT, apdu.wire())
        .unwrap()
        .wire();
    assert!(matches!(
        request.reply(&[first, wrong].concat()),
        Err(AnswerError::Mismatch(_))
    ));
}

#[test]
fn a_column_of_several_has_one_value_or_several() {
    let answer = |row: &str| {
        let text = format!("8503056012030002002 02A0200 0150040200022021020000100200 0101{row}0000").replace(' ', "");
        let Ok(Apdu::GetAnswer(answered)) = Apdu::parse(&hex::decode(&text).unwrap()) else {
            panic!("{text}")
        };
        assert_eq!(hex::encode(&Apdu::GetAnswer(answered.clone()).wire()), text);
        let GetResult::Record(record) = answered.body else {
            panic!()
        };
        let Rows::Rows(rows) = &record.rows else { panic!() };
        let cells: Vec<_> = record
            .cells(&rows[0])
            .into_iter()
            .map(|(oad, d)| (oad.to_string(), d.to_string()))
            .collect();
        cells
    };
    let said = [
        ("202A0200", "202611210001"),
        ("20210200", "2026-11-21 00:00:00"),
        ("00100200", "[100, 60]"),
    ]
    .map(|(oad, value)| (oad.to_owned(), value.to_owned()));
    let (server, time, energy) = ("550705202611210001", "1C07EA0B15000000", "0102060000006406 0000003C");
    assert_eq!(answer(&format!("{server}{time}{energy}")), said);
    assert_eq!(answer(&format!("{server}0202{time}{energy}")), said);
    // what does not fall apart so stays with the record
    assert_eq!(
        answer(&format!("{server}00"))[1],
        ("50040200".to_owned(), "null".to_owned())
    );
}

#[test]
fn a_terminal_that_answers_for_others_is_not_believed() {
    let other = Address::parse("202611210003").unwrap();
    let second = Address::parse("202611210002").unwrap();
    let energy = Oad::new(0x0010, 2);
    let request = Request::proxy_get(
        meter(),
        Piid::new(4),
        seconds(60),
        &[(second, vec![energy]), (other, vec![CLOCK])],
    )
    .unwrap();
    let result = |of: &Address, oad: Oad| TargetResult {
        server: Tsa::of(of),
        items: Many::one(ItemResult {
            oad,
            result: ValueResult::Data(Data::Null),
        }),
    };
    let answer = |list: Vec<TargetResult<ItemResult>>| {
        let body = ProxyResult::Get(Many::new(list).unwrap());
        let data = Apdu::ProxyAnswer(Answered::new(Piid::new(4), body)).wire();
        request.reply(&Frame::new(Control::ANSWER, meter(), CLIENT, data).unwrap().wire())
    };
    assert!(answer(vec![result(&second, energy), result(&other, CLOCK)]).is_ok());
    // a meter that is silent may be missing
    assert!(answer(vec![result(&other, CLOCK)]).is_ok());
    assert!(answer(vec![result(&other, energy)]).is_err());
    assert!(answer(vec![result(&second, energy), result(&second, energy)]).is_err());
    assert!(answer(vec![result(&meter(), energy)]).is_err());
}

#[test]
fn a_provider_without_keys_reads_what_is_clear() {
    let asked = Request::get(meter(), Piid::new(1), &[CLOCK]).unwrap();
    let provider = Clear::new([7; 16]);
    let question = provider.guard(&meter(), asked.apdu().unwrap()).unwrap();
    let request = Request::secured(meter(), question.clone()).unwrap();
    assert_eq!(
        apdu(&request),
        format!("1000080501014000020000 0110{}", "07".repeat(16)).replace(' ', "")
    );
    let inner = hex::decode("85010140000200011C07EA0B1508173B0000").unwrap();
    let answer = |application: Application| SecuredAnswer {
        application,
        verification: Some(VerifiedBy::Mac(Octets(vec![1, 2, 3, 4]))),
    };
    let clear = answer(Application::Plain(Octets(inner.clone())));
    let frame = Frame::new(
        Control::ANSWER,
        meter(),
        CLIENT,
        Apdu::SecurityAnswer(clear.clone()).wire(),
    )
    .unwrap();
    assert_eq!(request.reply(&frame.wire()), Ok(Apdu::SecurityAnswer(clear.clone())));
    let revealed = provider.reveal(&meter(), &question, &clear).unwrap();
    assert_eq!((revealed.apdu, revealed.proven), (Apdu::parse(&inner).unwrap(), false));
    let hidden = answer(Application::Encrypted(Octets(vec![1])));
    assert_eq!(
        provider.reveal(&meter(), &question, &hidden),
        Err(SecurityError::Enciphered)
    );
    let refused = answer(Application::Dar(Dar(22)));
    assert_eq!(
        provider.reveal(&meter(), &question, &refused),
        Err(SecurityError::Refused(Dar(22)))
    );
    // what is in the answer has to answer what is in the question
    let other = answer(Application::Plain(Octets(
        hex::decode("85010140010200010906123456789012 0000").unwrap(),
    )));
    let frame = Frame::new(Control::ANSWER, meter(), CLIENT, Apdu::SecurityAnswer(other).wire()).unwrap();
    assert!(matches!(request.reply(&frame.wire()), Err(AnswerError::Mismatch(_))));
}

#[test]
fn what_is_no_frame_says_why() {
    let good = Request::get(meter(), Piid::new(1), &[CLOCK]).unwrap().wire();
    let with = |index: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[index] = byte;
        open(&bytes).unwrap_err()
    };
    assert_eq!(with(0, 0x69), FrameError::Start(0x69));
    assert_eq!(with(2, 0x40), FrameError::Length(0x4017));
    assert_eq!(
        with(4, 0x0F),
        FrameError::Address {
            address: 16,
            length: 23
        }
    );
    assert!(matches!(with(6, 0xEE), FrameError::Head { .. }));
    assert!(matches!(with(15, 0xFF), FrameError::Checksum { .. }));
    assert_eq!(with(good.len() - 1, 0x17), FrameError::End(0x17));
    assert_eq!(
        open(&[good.clone(), vec![0]].concat()),
        Err(FrameError::Trailing { extra: 1 })
    );
    let explained = explain(&[good.clone(), vec![1, 2], good[..20].to_vec()].concat());
    assert_eq!(explained.len(), 2);
    assert!(explained[0].is_ok());
    let error = explained[1].as_ref().unwrap_err();
    assert_eq!((error.offset, error.checksum_ok), (good.len() + 2, None), "{error}");
    let mut broken = good;
    broken[15] ^= 1;
    assert_eq!(explain(&broken)[0].as_ref().unwrap_err().checksum_ok, Some(false));
}
