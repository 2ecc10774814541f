use super::*;
use crate::base::hex::decode;
use std::time::{Duration, Instant};

fn settings(profile: &str) -> SessionSettings {
    SessionSettings {
        profile: profile.parse().unwrap(),
        ..SessionSettings::default()
    }
}

/// Feeds, lets the line fall quiet, and collects.
fn run(session: &mut Session, now: &mut Instant, bytes: &[u8]) -> Vec<SessionEvent> {
    let mut events = session.feed(*now, bytes);
    *now += Duration::from_secs(1);
    events.extend(session.tick(*now));
    events
}

fn sn_of(events: &[SessionEvent]) -> Option<String> {
    events.iter().find_map(|event| match event {
        SessionEvent::Identified { sn, .. } => Some(sn.to_string()),
        _ => None,
    })
}

#[test]
fn text_is_identified_when_it_has_ended() {
    let mut now = Instant::now();
    let mut session = Session::new(settings("auto"), now);
    assert_eq!(session.feed(now, b"1206"), []);
    now += Duration::from_millis(100);
    assert_eq!(session.feed(now, b"1204"), []);
    let events = run(&mut session, &mut now, b"");
    assert_eq!(sn_of(&events).as_deref(), Some("12061204"));
    assert_eq!(session.learned().registration_name(), "ascii_once");
}

#[test]
fn ddp_is_acknowledged_and_unwrapped() {
    let mut now = Instant::now();
    let mut session = Session::new(settings("auto"), now);
    let register = decode("7B01001631333430333135343332390A1BBE2D0FA07B").unwrap();
    let events = run(&mut session, &mut now, &register);
    assert_eq!(sn_of(&events).as_deref(), Some("13403154329"));
    let ack = decode("7B81001031333430333135343332397B").unwrap();
    assert!(events.contains(&SessionEvent::Reply(ack)));
    assert_eq!(
        session.wrap(&[1, 2]),
        decode("7B8900123133343033313534333239 01027B").unwrap()
    );
    assert_eq!(session.line_busy(now, true), []);
    let data = decode("7B0900143133343033313534333239 0A0B0C0D7B").unwrap();
    assert_eq!(
        session.feed(now, &data),
        [SessionEvent::Line(vec![0x0A, 0x0B, 0x0C, 0x0D])]
    );
}
