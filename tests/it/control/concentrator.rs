//! Relays behind a concentrator: the meter's own frame passed on, to the meter that both archives have at the point and to nobody
//! else, read back the same way.

use super::world::{Fate, Meter, World};
use chrono::{DateTime, Utc};
use polyphase::domain::command::{Action, State};
use polyphase::port::field::TransactionError;
use polyphase::protocol::dlt645;
use polyphase::protocol::gdw376::forward::Question;
use polyphase::protocol::gdw376::{
    self, Address, Afn, ArchiveMeter, DENIED, Edition, Id, Message, Request, Said, Spoken, Terminal,
};
use polyphase::simulator::behind::{Meters, asked};
use polyphase::simulator::physics::Load;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A concentrator and the meters on its carrier, by measuring point.
pub struct Concentrator {
    terminal: Mutex<Terminal>,
    carrier: Mutex<Carrier>,
}

struct Carrier {
    meters: Meters,
    /// Who hangs there, whatever the archive says.
    there: BTreeMap<String, u16>,
    now: DateTime<Utc>,
}

impl Spoken for Carrier {
    fn forward(&mut self, port: u8, frame: &[u8]) -> Option<Vec<u8>> {
        let (address, request) = asked(frame).filter(|_| port == 31)?;
        let point = *self.there.get(&address.to_string())?;
        self.meters.say(point, &request, &Load::new(point.into(), 1), self.now)
    }

    fn control(&mut self, _: Id, _: &[u8]) -> bool {
        panic!("a control round of the concentrator's own");
    }
}

/// A meter's question that is passed on; none of what is not.
pub fn passed_on(request: &Request) -> Option<dlt645::Request> {
    let (_, data) = request.asks().next().filter(|_| request.afn() == Afn::FORWARD)?;
    let question = Question::read(data).unwrap();
    Some(dlt645::Request::parse(dlt645::Edition::E2007, &question.frame).unwrap())
}

/// Whether a question moves a relay.
pub fn moves(request: &Request) -> bool {
    let is_control = request.afn() == Afn::CONTROL;
    is_control || passed_on(request).is_some_and(|inner| !matches!(inner.body(), dlt645::Body::Read { .. }))
}

fn wire(address: &str) -> [u8; 6] {
    let mut bytes: [u8; 6] = polyphase::base::hex::decode(address).unwrap().try_into().unwrap();
    bytes.reverse();
    bytes
}

impl Concentrator {
    /// With a meter of the address `…0042` at point 42.
    fn of(points: std::ops::RangeInclusive<u16>) -> Arc<Self> {
        let mut terminal = Terminal::new(Address::new(0x4403, 1), Edition::E2013);
        points
            .clone()
            .for_each(|point| terminal.put_meter(ArchiveMeter::new(point, point, wire(&meter_address(point)))));
        let carrier = Carrier {
            meters: Meters::default(),
            there: points.map(|point| (meter_address(point), point)).collect(),
            now: DateTime::UNIX_EPOCH,
        };
        Arc::new(Self {
            terminal: Mutex::new(terminal),
            carrier: Mutex::new(carrier),
        })
    }

    /// Somebody writes another meter to a place.
    fn replace(&self, place: u16, address: &str) {
        let mut terminal = self.terminal.lock().unwrap();
        terminal.put_meter(ArchiveMeter::new(place, place, wire(address)));
    }

    pub fn is_off(&self, point: u16) -> bool {
        self.carrier.lock().unwrap().meters.is_open(point)
    }

    /// What the connection makes of its answer: an excerpt for the one that asked.
    pub fn say(&self, request: &Request, now: DateTime<Utc>) -> Result<Vec<u8>, TransactionError> {
        let mut terminal = self.terminal.lock().unwrap();
        let to = terminal.address().with_msa(1);
        let question = request.clone().to_terminal(to);
        let mut carrier = self.carrier.lock().unwrap();
        carrier.now = now;
        let frames = terminal.answer(&question.message(), &mut *carrier);
        let messages: Vec<Message> = frames.iter().map(|frame| Message::of(frame).unwrap()).collect();
        match question.answer(&messages, Edition::E2013).unwrap().said {
            Said::Data(units) => Ok(request.excerpt(question.afn(), &units).unwrap()),
            Said::Denied => Err(TransactionError::Refused(DENIED)),
            other => panic!("{other:?}"),
        }
    }
}

fn meter_address(point: u16) -> String {
    format!("20261121{point:04}")
}

/// Wants these meters at these points.
async fn want(world: &World, entries: &[(u16, &str)]) {
    for (point, address) in entries {
        world
            .db
            .sql(&format!(
                r#"INSERT INTO archive_entry (dtu_id, account_id, point, entry)
                   VALUES (1, 1, {point}, '{{"point": {point}, "meter_address": "{address}"}}')
                   ON CONFLICT (dtu_id, point) DO UPDATE SET entry = excluded.entry"#
            ))
            .await;
    }
}

/// Points 1 to 3 and others behind one concentrator, so that the brake's share of it lets a few trips through.
async fn world() -> (Arc<Concentrator>, World) {
    let concentrator = Concentrator::of(1..=14);
    let world = World::of((1..=14).map(|point| Meter::behind(1, point, &concentrator)).collect()).await;
    let entries: Vec<(u16, String)> = (1..=3).map(|point| (point, meter_address(point))).collect();
    let entries: Vec<(u16, &str)> = entries
        .iter()
        .map(|(point, address)| (*point, address.as_str()))
        .collect();
    want(&world, &entries).await;
    (concentrator, world)
}

#[actix::test]
async fn a_relay_behind_a_concentrator_is_proven_moved_and_read_back() {
    let (_, world) = world().await;
    let off = world.one(Action::Disconnect, 2).await;
    let view = world.until(off, State::Confirmed).await;
    assert!(world.field.is_off(2) && !world.field.is_off(1) && !world.field.is_off(3));
    assert_eq!(
        view.outcome["read_back"], "relay open (status word 3), load 0 W",
        "{view:?}"
    );
    let sent = &world.get(off).await.history.unwrap()[1];
    let proof = "place 2 of the concentrator's archive, communication address 202611210002";
    assert_eq!(sent.detail["proof"], proof, "{sent:?}");
    {
        let wires = world.field.wires.lock().unwrap();
        let message = Message::of(&gdw376::Frame::parse(wires.last().unwrap()).unwrap()).unwrap();
        let question = Question::read(&message.units(Edition::E2013).unwrap()[0].data).unwrap();
        let inner = dlt645::Request::parse(dlt645::Edition::E2007, &question.frame).unwrap();
        assert_eq!(inner.address().to_string(), "202611210002");
        let dlt645::Body::Relay(command) = inner.body() else {
            panic!("{inner:?}")
        };
        assert!(
            command.until().is_some(),
            "the deadline stands in the meter's own frame"
        );
    }
    let armed = world.one(Action::Arm, 2).await;
    let view = world.until(armed, State::Confirmed).await;
    assert_eq!(view.outcome["read_back"], "relay open, closing allowed (status word 3)");
    // the answer is lost: what became of it is read, and nothing sent again
    world.field.fate(2, Fate::ReplyLost);
    let on = world.one(Action::Reconnect, 2).await;
    world.until(on, State::Confirmed).await;
    assert_eq!(world.states(on).await, ["requested", "sent", "unknown", "confirmed"]);
    assert!(!world.field.is_off(2));
    assert_eq!(world.field.frames_of(2), 3);
    assert_eq!(world.field.frames(), 3);
}

#[actix::test]
async fn where_it_is_not_certain_who_is_meant_nothing_is_sent() {
    let (concentrator, world) = world().await;
    // nobody says who is at point 9, and two points have one meter
    want(&world, &[(4, "202611210005"), (5, "202611210005")]).await;
    for point in [9, 4, 5] {
        let asked = world.ask(1, Action::Disconnect, &[point], 60).await.unwrap();
        assert_eq!(asked.refused[0].reason, "invalid", "{asked:?}");
        assert!(asked.refused[0].detail.contains("does not name one meter"), "{asked:?}");
    }
    // the concentrator has another meter at the place: the command waits, and says why
    concentrator.replace(1, "202611210077");
    let waits = world.one(Action::Disconnect, 1).await;
    let view = world.until(waits, State::Expired).await;
    assert!(!world.field.is_off(1), "{view:?}");
    // the meter is another one than when it was asked for
    world.field.disconnect(1);
    let asked = world.one(Action::Disconnect, 3).await;
    want(&world, &[(3, "202611210006")]).await;
    world.field.connect(1);
    let view = world.until(asked, State::Rejected).await;
    assert_eq!(view.outcome["cause"], "target_changed", "{view:?}");
    assert_eq!(world.field.frames(), 0);
}
