//! Whole sessions against scripted DTUs.

use super::*;
use crate::base::hex::decode;
use crate::protocol::dtu::strip_candidates;
use proptest::prelude::*;

const CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS);
const ACK: &str = "7B81001031333430333135343332397B";
const REGISTER: &str = "7B01001631333430333135343332390A1BBE2D0FA07B";

fn reply(unit: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![unit, 3, u8::try_from(data.len()).unwrap()];
    frame.extend(data);
    frame.extend(CRC.checksum(&frame).to_le_bytes());
    frame
}

/// A session and its clock.
struct Rig {
    session: Session,
    now: Instant,
}

impl Rig {
    fn new(profile: &str) -> Self {
        let now = Instant::now();
        let settings = SessionSettings {
            profile: profile.parse().unwrap(),
            ..SessionSettings::default()
        };
        Self {
            session: Session::new(settings, now),
            now,
        }
    }

    /// One that has registered with `package`.
    fn registered(profile: &str, package: &[u8]) -> Self {
        let mut rig = Self::new(profile);
        let events = rig.quiet_after(package);
        assert!(sn_of(&events).is_some(), "{events:?}");
        rig
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<SessionEvent> {
        self.session.feed(self.now, bytes)
    }

    fn wait(&mut self, ms: u64) -> Vec<SessionEvent> {
        self.now += Duration::from_millis(ms);
        self.session.tick(self.now)
    }

    fn quiet_after(&mut self, bytes: &[u8]) -> Vec<SessionEvent> {
        let mut events = self.feed(bytes);
        events.extend(self.wait(1000));
        events
    }

    fn busy(&mut self, busy: bool) -> Vec<SessionEvent> {
        self.session.line_busy(self.now, busy)
    }
}

#[test]
fn a_terminal_is_known_by_its_login_and_its_links_are_heartbeats() {
    let login = decode("681E008105111111111111009E7601000000B407E90403040F14050000E8B016").unwrap();
    for profile in ["auto", "dlt698.45"] {
        let mut rig = Rig::new(profile);
        for piece in [&login[..1], &login[1..3], &login[3..9], &login[9..14], &login[14..31]] {
            assert_eq!(rig.quiet_after(piece), []);
        }
        let events = rig.feed(&login[login.len() - 1..]);
        assert_eq!(sn_of(&events), Some("111111111111"));
        let learned = rig.session.learned();
        assert_eq!(
            (learned.registration_name().as_str(), learned.framing.name()),
            ("dlt698.45_once", "dlt698.45")
        );
        for busy in [false, true] {
            rig.busy(busy);
            let beat = [&login[..14], &login[14..]].concat();
            assert_eq!(rig.feed(&beat), [SessionEvent::Heartbeat(login.clone())]);
        }
    }
}

#[test]
fn a_concentrator_is_known_by_its_login_and_kept_by_confirmations() {
    let login = decode("683200320068C900023412000271000001008516").unwrap();
    let confirmed = decode("6832003200680B0002341200006100000100B516").unwrap();
    let mut rig = Rig::new("auto");
    // a cellular network may pause anywhere in it
    for byte in &login[..login.len() - 1] {
        assert_eq!(rig.quiet_after(&[*byte]), []);
    }
    let events = rig.feed(&login[login.len() - 1..]);
    assert_eq!(sn_of(&events), Some("0200-04660"));
    assert_eq!(events.last(), Some(&SessionEvent::Reply(confirmed.clone())));
    let learned = rig.session.learned();
    assert_eq!(
        (learned.registration_name().as_str(), learned.framing.name()),
        ("gdw376.1_once", "gdw376.1")
    );
    let heartbeat = decode("683200320068C900023412000272000004008916").unwrap();
    let answered = decode("6832003200680B0002341200006200000100B616").unwrap();
    for busy in [false, true] {
        rig.busy(busy);
        let events = rig.feed(&heartbeat);
        assert_eq!(
            events,
            [
                SessionEvent::Heartbeat(heartbeat.clone()),
                SessionEvent::Reply(answered.clone())
            ]
        );
    }
    rig.busy(false);
    // the same report again and again is never learned as a heartbeat
    let report = decode("684A004A0068C400023412000C7100000200494811155215A916").unwrap();
    for _ in 0..8 {
        assert_eq!(line_of(&rig.quiet_after(&report)), report);
    }
    let other = decode("683200320068C900023512000271000001008616").unwrap();
    let fault = SessionFault::IdentityChanged {
        was: "0200-04660".to_owned(),
        now: "0200-04661".to_owned(),
    };
    assert_eq!(rig.feed(&other).last(), Some(&SessionEvent::Fault(fault)));
}

fn sn_of(events: &[SessionEvent]) -> Option<&str> {
    events.iter().find_map(|event| match event {
        SessionEvent::Identified { sn, .. } => Some(sn.as_str()),
        _ => None,
    })
}

fn line_of(events: &[SessionEvent]) -> Vec<u8> {
    let bytes = events.iter().filter_map(|event| match event {
        SessionEvent::Line(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    bytes.collect::<Vec<_>>().concat()
}

fn heartbeat(bytes: &[u8]) -> SessionEvent {
    SessionEvent::Heartbeat(bytes.to_vec())
}

#[test]
fn text_is_identified_when_it_has_ended() {
    let mut rig = Rig::new("auto");
    assert_eq!(rig.feed(b"1206"), []);
    assert_eq!(rig.wait(400), [], "the gap begins anew with each arrival");
    assert_eq!(rig.feed(b"1204"), []);
    assert_eq!(rig.session.next_deadline(), Some(rig.now + Duration::from_millis(500)));
    assert_eq!(rig.wait(499), []);
    let events = rig.wait(1);
    assert_eq!(sn_of(&events), Some("12061204"));
    let SessionEvent::Identified {
        learned,
        first_bytes,
        package,
        ..
    } = &events[0]
    else {
        panic!("{events:?}");
    };
    assert_eq!(
        (first_bytes.as_slice(), package.as_slice()),
        (b"12061204".as_slice(), b"12061204".as_slice())
    );
    assert_eq!(
        (learned.registration_name().as_str(), learned.framing.name()),
        ("ascii_once", "transparent")
    );
    assert_eq!(rig.session.next_deadline(), None);
}

#[test]
fn bytes_that_were_read_late_were_not_a_quiet_line() {
    let mut rig = Rig::new("auto");
    rig.feed(b"1206");
    rig.now += Duration::from_secs(2);
    assert_eq!(rig.feed(b"1204"), [], "the reader stalled, not the dtu");
    assert_eq!(sn_of(&rig.wait(500)), Some("12061204"));
}

#[test]
fn a_registration_that_never_falls_quiet_is_judged_all_the_same() {
    let mut rig = Rig::new("auto");
    let mut events = rig.feed(b"12061204\r\n");
    for _ in 0..40 {
        rig.now += Duration::from_millis(100);
        events.extend(rig.feed(&[0xFF, 0xFF, 0x80, 0x80]));
    }
    assert_eq!(sn_of(&events), Some("12061204"));
}

#[test]
fn silence_and_rubbish_end_it() {
    let mut rig = Rig::new("auto");
    assert_eq!(rig.session.next_deadline(), Some(rig.now + Duration::from_secs(30)));
    assert_eq!(rig.wait(29_999), []);
    let fault = SessionFault::NoRegistration {
        waited: Duration::from_secs(30),
        bytes: 0,
    };
    assert_eq!(rig.wait(1), [SessionEvent::Fault(fault)]);
    assert_eq!(
        (rig.feed(b"12061204"), rig.wait(1000), rig.session.next_deadline()),
        (vec![], vec![], None)
    );

    // one byte now and then does not hold the socket
    let mut rig = Rig::new("auto");
    let mut events = Vec::new();
    for _ in 0..31 {
        events.extend(rig.feed(b"."));
        events.extend(rig.wait(1000));
    }
    assert!(matches!(events.last(), Some(SessionEvent::Fault(_))), "{events:?}");

    let mut rig = Rig::new("auto");
    let events = rig.feed(&[b'A'; 10_000]);
    assert!(
        matches!(&events[..], [SessionEvent::Fault(SessionFault::BadRegistration(_))]),
        "{events:?}"
    );
    assert_eq!(rig.session.held_len(), 0);
}

#[test]
fn what_comes_behind_the_registration_reaches_the_line() {
    let frame = reply(1, &[0, 230]);
    for (profile, package) in [
        ("auto", b"12061204".to_vec()),
        ("auto", b"SN:1\r\n".to_vec()),
        ("auto", decode(REGISTER).unwrap()),
    ] {
        let wire = if package[0] == 0x7B {
            let data = [&decode("7B0900173133343033313534333239").unwrap()[..], &frame, &[0x7B]].concat();
            [package.clone(), data].concat()
        } else {
            [package.clone(), frame.clone()].concat()
        };
        for cut in 0..wire.len() {
            let mut rig = Rig::new(profile);
            let mut events = rig.feed(&wire[..cut]);
            events.extend(rig.quiet_after(&wire[cut..]));
            events.extend(rig.wait(1000));
            assert!(sn_of(&events).is_some(), "cut at {cut}: {events:?}");
            assert_eq!(line_of(&events), frame, "cut at {cut}: {events:?}");
        }
    }
}

#[test]
fn ddp_is_acknowledged_and_unwrapped() {
    let mut rig = Rig::new("auto");
    let events = rig.feed(&decode(REGISTER).unwrap());
    assert_eq!(sn_of(&events), Some("13403154329"));
    assert_eq!(events[1], SessionEvent::Reply(decode(ACK).unwrap()));
    assert_eq!(
        *rig.session.wrap(&[1, 2]),
        decode("7B8900123133343033313534333239 01027B").unwrap()
    );
    assert_eq!(rig.busy(true), []);
    let data = decode("7B0900143133343033313534333239 0A7B0C0D7B").unwrap();
    assert_eq!(rig.feed(&data[..9]), []);
    assert_eq!(rig.feed(&data[9..]), [SessionEvent::Line(vec![0x0A, 0x7B, 0x0C, 0x0D])]);
    // its heartbeat is the register packet, and wants its answer in a transaction as well
    let register = decode(REGISTER).unwrap();
    assert_eq!(
        rig.feed(&register),
        [heartbeat(&register), SessionEvent::Reply(decode(ACK).unwrap())]
    );
    assert_eq!(rig.feed(&[1, 2, 3]), [SessionEvent::Noise(vec![1, 2, 3])]);
    let other = decode("7B0100163133393030303030303030AC186A0213897B").unwrap();
    let fault = SessionFault::IdentityChanged {
        was: "13403154329".into(),
        now: "13900000000".into(),
    };
    assert_eq!(rig.feed(&other), [SessionEvent::Fault(fault)]);
}

#[test]
fn ddp_splits_what_is_too_long_and_knows_a_dtu_by_its_data() {
    let mut rig = Rig::new("auto");
    let events = rig.quiet_after(&decode("7B0900123133343033313534333239 01027B").unwrap());
    assert_eq!((sn_of(&events), line_of(&events)), (Some("13403154329"), vec![1, 2]));
    let wire = rig.session.wrap(&[7; 1500]);
    assert_eq!(wire.len(), 1500 + 2 * 16);
    rig.feed(&decode(REGISTER).unwrap());
    assert_eq!(rig.session.learned().package, decode(REGISTER).unwrap());
}

#[test]
fn prot_is_unescaped() {
    let register = decode("78563412313330363636363838383800C0A8014200").unwrap();
    let mut rig = Rig::new("auto");
    assert_eq!(sn_of(&rig.feed(&register)), Some("13066668888"));
    assert_eq!(*rig.session.wrap(&[1, 0xFD, 0xFE]), [1, 0xFD, 0xED, 0xFD, 0xEE]);
    rig.busy(true);
    assert_eq!(rig.feed(&[1, 0xFD]), [SessionEvent::Line(vec![1])]);
    assert_eq!(
        rig.feed(&[0xEE, 0xFE, 2]),
        [
            SessionEvent::Line(vec![0xFE]),
            heartbeat(&[0xFE]),
            SessionEvent::Line(vec![2])
        ]
    );
    assert_eq!(rig.feed(&register), [heartbeat(&register)]);
    assert_eq!(rig.session.heartbeat_patterns(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_package_before_every_packet_is_removed_however_it_is_cut() {
    let (package, answer) = (b"LOGIN:1001".as_slice(), reply(1, &[1, 2, 3, 4]));
    for profile in ["auto", "login+every"] {
        let mut rig = Rig::registered(profile, package);
        for _ in 0..2 {
            rig.busy(true);
            assert_eq!(
                rig.feed(&[package, &answer].concat()),
                [SessionEvent::Line(answer.clone())],
                "{profile}"
            );
            rig.busy(false);
        }
        assert!(rig.session.learned().every_packet);
        assert_eq!(rig.session.learned().registration_name(), "login_every_packet");
        let wire = [package, &answer].concat();
        for cut in 1..wire.len() {
            rig.busy(true);
            let mut events = rig.feed(&wire[..cut]);
            events.extend(rig.feed(&wire[cut..]));
            assert_eq!(line_of(&events), answer, "cut at {cut}");
            rig.busy(false);
        }
    }
}

#[test]
fn the_end_of_a_reply_that_looks_like_a_package_is_only_held_for_a_moment() {
    let mut rig = Rig::registered("login+every", b"LOGIN:1001");
    rig.busy(true);
    assert_eq!(rig.feed(b"LO"), []);
    assert_eq!(rig.session.next_deadline(), Some(rig.now + Duration::from_millis(100)));
    assert_eq!(rig.wait(100), [SessionEvent::Line(b"LO".to_vec())]);
}

#[test]
fn a_package_that_could_begin_a_reply_is_left_to_the_frame_check() {
    // hex registration 01 03 04 00: exactly how a reply of unit 1 begins
    let mut rig = Rig::registered("hex+every", &[1, 3, 4, 0]);
    let answer = reply(1, &[0, 1, 2, 3]);
    rig.busy(true);
    assert_eq!(rig.feed(&answer), [SessionEvent::Line(answer.clone())]);
    assert_eq!(rig.session.heartbeat_patterns(), [vec![1, 3, 4, 0]]);
}

#[test]
fn heartbeats_are_learned_on_an_idle_line() {
    let mut rig = Rig::registered("auto", b"12061204");
    // a shipped one at once, split as it may be
    rig.feed(b"www.u");
    assert_eq!(rig.quiet_after(b"sr.cn"), [heartbeat(b"www.usr.cn")]);
    // an unknown one at its second time
    assert_eq!(rig.quiet_after(b"HB-77"), [SessionEvent::Line(b"HB-77".to_vec())]);
    rig.wait(29_000);
    assert_eq!(rig.quiet_after(b"HB-77"), [heartbeat(b"HB-77")]);
    rig.wait(29_000);
    assert_eq!(
        rig.quiet_after(b"HB-77HB-77"),
        [heartbeat(b"HB-77"), heartbeat(b"HB-77")]
    );
    // the registration again
    assert_eq!(rig.quiet_after(b"12061204"), [heartbeat(b"12061204")]);
    assert_eq!(
        rig.session.learned().heartbeats,
        [b"www.usr.cn".to_vec(), b"HB-77".to_vec()]
    );
    assert_eq!(
        rig.session.heartbeat_patterns(),
        [b"www.usr.cn".to_vec(), b"HB-77".to_vec(), b"12061204".to_vec()]
    );
    assert_eq!(rig.session.learned().registration_name(), "ascii_once");
}

#[test]
fn the_heartbeat_interval_is_learned() {
    let mut rig = Rig::registered("ascii+heartbeat=4842", b"12061204");
    for _ in 0..3 {
        assert_eq!(rig.quiet_after(b"HB"), [heartbeat(b"HB")]);
        rig.wait(29_000);
    }
    assert_eq!(rig.session.learned().heartbeat_interval, Some(Duration::from_secs(30)));
}

#[test]
fn a_reply_that_is_sent_twice_is_no_heartbeat() {
    let mut rig = Rig::registered("auto", b"12061204");
    let late = reply(1, &[0, 230]);
    for _ in 0..4 {
        assert_eq!(rig.quiet_after(&late), [SessionEvent::Line(late.clone())]);
    }
    assert!(rig.session.learned().heartbeats.is_empty());
    // nor is what the line threw out of its window, if it could be a torn reply
    for _ in 0..4 {
        assert!(!rig.session.noise(rig.now, &late[..4]));
    }
    assert!(!rig.session.noise(rig.now, b"KEEPALIVE"));
    assert!(
        rig.session.noise(rig.now, b"KEEPALIVE"),
        "learned on a line that is never idle"
    );
    assert!(rig.session.noise(rig.now, b"12061204"));
}

#[test]
fn what_came_before_a_request_is_out_before_it() {
    let mut rig = Rig::registered("auto", b"12061204");
    let late = reply(1, &[0, 230]);
    assert_eq!(rig.feed(&late), []);
    assert_eq!(
        rig.busy(true),
        [SessionEvent::Line(late.clone())],
        "a stray, given out before the request is written"
    );
    assert_eq!(rig.feed(&late), [SessionEvent::Line(late.clone())]);
    assert_eq!(rig.busy(false), []);
}

#[test]
fn answers_are_given_as_pinned() {
    let mut rig = Rig::new("ascii+echo");
    assert_eq!(
        rig.quiet_after(b"12061204\r\n")[1],
        SessionEvent::Reply(b"12061204\r\n".to_vec())
    );
    assert_eq!(
        rig.quiet_after(b"12061204\r\n"),
        [
            heartbeat(b"12061204\r\n"),
            SessionEvent::Reply(b"12061204\r\n".to_vec())
        ]
    );
    rig.busy(true);
    assert_eq!(
        rig.feed(b"12061204\r\n"),
        [heartbeat(b"12061204\r\n")],
        "no word into a transaction"
    );
    let mut rig = Rig::new("login+answer=4F4B");
    assert_eq!(rig.quiet_after(b"LOGIN:1001")[1], SessionEvent::Reply(b"OK".to_vec()));
}

#[test]
fn a_profile_can_be_pinned_once_the_directory_knows_the_dtu() {
    let mut rig = Rig::registered("auto", b"12061204");
    rig.quiet_after(b"www.usr.cn");
    let pinned = "ascii+every+echo+heartbeat=4842".parse().unwrap();
    assert_eq!(rig.session.pin(pinned), [SessionEvent::Reply(b"12061204".to_vec())]);
    assert!(rig.session.learned().every_packet);
    assert_eq!(
        rig.session.learned().heartbeats,
        [b"HB".to_vec(), b"www.usr.cn".to_vec()]
    );
    assert_eq!(rig.quiet_after(b"HB"), [heartbeat(b"HB")]);
    let again = "ascii+echo".parse().unwrap();
    assert_eq!(rig.session.pin(again), [], "it has its answer");
}

#[test]
fn a_flood_ends_it_and_a_fast_line_does_not() {
    let mut rig = Rig::registered("auto", b"12061204");
    rig.busy(true);
    for _ in 0..600 {
        // 115,200 baud
        assert!(
            !rig.feed(&[0x55; 1152])
                .iter()
                .any(|event| matches!(event, SessionEvent::Fault(_)))
        );
        rig.now += Duration::from_millis(100);
    }
    let mut events = Vec::new();
    for _ in 0..1000 {
        events.extend(rig.feed(&[0x55; 1152]));
    }
    assert!(matches!(
        events.last(),
        Some(SessionEvent::Fault(SessionFault::Flood { .. }))
    ));

    let mut rig = Rig::registered("auto", b"12061204");
    let events: Vec<_> = (0..3000).flat_map(|_| rig.feed(b"x")).collect();
    assert!(matches!(
        events.last(),
        Some(SessionEvent::Fault(SessionFault::Flood { .. }))
    ));
}

#[test]
fn a_transparent_session_needs_no_registration() {
    let now = Instant::now();
    let mut session = Session::transparent(SessionSettings::default(), now);
    assert!(session.is_open() && session.next_deadline().is_none());
    assert_eq!(*session.wrap(&[1, 2]), [1, 2]);
    assert_eq!(session.line_busy(now, true), []);
    assert_eq!(
        session.feed(now, b"12061204"),
        [SessionEvent::Line(b"12061204".to_vec())]
    );
    assert_eq!(session.learned().registration_name(), "");
}

proptest! {
    /// A DTU that puts its package before every packet and its heartbeat anywhere, cut anywhere: every reply is found.
    #[test]
    fn every_reply_is_recovered(
        replies in prop::collection::vec((1u8..=247, prop::collection::vec(any::<u8>(), 2..40)), 1..6),
        places in prop::collection::vec(any::<prop::sample::Index>(), 6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 6),
        every in any::<bool>(),
    ) {
        let profile = if every { "ascii+every+heartbeat=FFFF8080" } else { "ascii+heartbeat=FFFF8080" };
        let mut rig = Rig::registered(profile, b"12061204");
        for (at, (unit, data)) in replies.iter().enumerate() {
            let frame = reply(*unit, data);
            let mut wire = if every { b"12061204".to_vec() } else { Vec::new() };
            let head = wire.len();
            wire.extend(&frame);
            let place = head + places[at].index(frame.len() + 1);
            wire.splice(place..place, [0xFF, 0xFF, 0x80, 0x80]);
            let cut = cuts[at].index(wire.len());
            rig.busy(true);
            let mut line = line_of(&rig.feed(&wire[..cut]));
            line.extend(line_of(&rig.feed(&wire[cut..])));
            line.extend(line_of(&rig.wait(200)));
            let patterns = rig.session.heartbeat_patterns();
            let found = strip_candidates(&line, &patterns)
                .iter()
                .any(|reading| reading.bytes.windows(frame.len()).any(|window| window == frame));
            prop_assert!(found, "{:02X?} in {:02X?}", frame, line);
            rig.busy(false);
        }
    }

    /// The recogniser's grammar is the domain's.
    #[test]
    fn the_grammar_is_that_of_the_domain(text in "[ -~]{0,90}") {
        let ours = crate::protocol::dtu::sn::check(text.as_bytes()).is_ok();
        prop_assert_eq!(ours, SerialNumber::parse(&text).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Random bytes at random times: no panic, bounded memory, at most one identity, nothing after a fault.
    #[test]
    fn random_bytes_are_survived(
        steps in prop::collection::vec(
            (prop::collection::vec(prop_oneof![any::<u8>(), Just(0x7B), 0x30u8..0x3A], 0..200), 0u64..1500, any::<bool>()), 0..30),
        profile in prop::sample::select(vec!["auto", "ascii+every", "hex", "mac", "ddp", "prot", "gdw376.1", "dlt698.45", "login", "custom:{hex:4}"]),
    ) {
        let mut rig = Rig::new(profile);
        let (mut identities, mut faults) = (0, 0);
        for (bytes, ms, busy) in steps {
            let mut events = rig.busy(busy);
            events.extend(rig.feed(&bytes));
            events.extend(rig.wait(ms));
            prop_assert!(faults == 0 || events.is_empty());
            identities += usize::from(sn_of(&events).is_some());
            faults += events.iter().filter(|event| matches!(event, SessionEvent::Fault(_))).count();
            prop_assert!(rig.session.held_len() <= 2048 + 512 + 200);
            prop_assert!(rig.session.heartbeat_patterns().len() <= 5);
        }
        prop_assert!(identities <= 1 && faults <= 1);
    }
}
