//! What a concentrator of Q/GDW 1376.1 reports of its own accord of its measuring points, over a real socket: readings of the meters
//! there, durable before the concentrator learns of it; nothing of points that are none of ours.

use super::field::{Field, dtu};
use super::reports::{port, stored};
use chrono::{DateTime, Utc};
use polyphase::base::ids::{DtuId, FrameId, MeterId};
use polyphase::domain::device::{DtuRecord, SerialNumber};
use polyphase::domain::reading::Source;
use polyphase::port::fleet::Fleet;
use polyphase::protocol::gdw376::{
    self, Address, Afn, Control, Edition, Fn, Found, Id, Link, Message, Pn, Spoken, Terminal,
};
use rust_decimal::dec;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const SN: &str = "4403-00004";
/// Long enough on any machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// 10:15 on the first of March 2026.
const READ_AT: [u8; 5] = [0x15, 0x10, 0x01, 0x03, 0x26];
/// The first of March 2026.
const DAY: [u8; 3] = [0x01, 0x03, 0x26];

struct Mute;

impl Spoken for Mute {
    fn forward(&mut self, _: u8, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn control(&mut self, _: Id, _: &[u8]) -> bool {
        panic!("a control")
    }
}

fn id(point: u16, item: u8) -> Id {
    Id {
        pn: Pn::new(point).unwrap(),
        item: Fn::new(item).unwrap(),
    }
}

/// A concentrator with the meters 11 and 12 at points 1 and 2, in a zone that is two hours ahead.
fn record() -> DtuRecord {
    let mut record = dtu(1, 2);
    record.sn = Some(SerialNumber::parse(SN).unwrap());
    for meter in &mut record.meters {
        meter.protocol = "gdw376.1".into();
        meter.address = (meter.id.0 - 10).to_string();
        meter.model = "gdw376_three_phase".into();
    }
    record
}

/// Registers: present ones of points 1, 2 and 99, the frozen one of point 2, and one that was read when the clock was never set.
fn terminal() -> Terminal {
    let mut terminal = Terminal::new(Address::parse(SN).unwrap(), Edition::E2013);
    let energy = |number: u8| [0, number, 0x56, 0x34, 0x12, 0];
    for (point, number) in [(1, 0x78), (2, 0x79), (99, 0x80)] {
        terminal.put(
            Afn::REALTIME,
            id(point, 129),
            &[],
            [&READ_AT[..], &energy(number)].concat(),
        );
    }
    let frozen = [&DAY[..], &READ_AT, &energy(0x70)].concat();
    terminal.put(Afn::HISTORY, id(2, 161), &DAY, frozen);
    let unset = [0x15, 0x10, 0x01, 0x01, 0x00];
    terminal.put(Afn::REALTIME, id(1, 131), &[], [&unset[..], &energy(0x11)].concat());
    terminal
}

/// The concentrator's side of a connection.
struct Peer {
    socket: TcpStream,
    terminal: Terminal,
    buffer: Vec<u8>,
}

impl Peer {
    /// Logs in, and is known.
    async fn new(port: SocketAddr, field: &Field) -> Self {
        let mut peer = Self {
            socket: TcpStream::connect(port).await.unwrap(),
            terminal: terminal(),
            buffer: Vec::new(),
        };
        assert_eq!(peer.says_on_the_link(Link::Login).await, 0);
        let known = async {
            while !field.fleet.live(&[DtuId(1)]).await[0].online {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, known).await.unwrap();
        // confirmed behind the admission
        assert_eq!(peer.says_on_the_link(Link::Heartbeat).await, 0);
        peer
    }

    async fn write(&mut self, message: &Message) {
        let wire = message.frame().unwrap().wire();
        self.socket.write_all(&wire).await.unwrap();
    }

    /// Says that it is there; how many reports were confirmed before that is.
    async fn says_on_the_link(&mut self, link: Link) -> usize {
        let message = self.terminal.say(link);
        self.write(&message).await;
        let mut reports = 0;
        loop {
            let (control, _) = self.hears_confirmed().await;
            if control == Control::LINK_STATE {
                return reports;
            }
            reports += 1;
        }
    }

    fn report(&mut self, afn: Afn, items: &[(Id, Vec<u8>)]) -> Message {
        self.terminal.report_data(afn, items, &mut Mute).unwrap()
    }

    /// The next confirmation: of what, and under which number.
    async fn hears_confirmed(&mut self) -> (Control, u8) {
        loop {
            if let Found::Frame { span, frame } = gdw376::find(&self.buffer) {
                self.buffer.drain(..span.end);
                let message = Message::of(&frame).unwrap();
                assert_eq!(message.afn, Afn::CONFIRM, "nothing is asked");
                return (message.control, message.seq.number());
            }
            let read = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.buffer)).await;
            assert_ne!(read.expect("it says nothing").unwrap(), 0, "it hangs up");
        }
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[test]
fn what_a_concentrator_reports_is_durable_before_it_is_confirmed_and_counts_once() {
    actix::System::new().block_on(async {
        let field = Field::new(vec![record()]).await;
        let (books, stop) = (&field.books, CancellationToken::new());
        let port = port(&field, &stop);
        let mut peer = Peer::new(port, &field).await;
        let of = |items: &[(u16, u8)]| -> Vec<(Id, Vec<u8>)> {
            items
                .iter()
                .map(|(point, item)| (id(*point, *item), Vec::new()))
                .collect()
        };

        // a disk that refuses: not confirmed; whoever comes again is kept then
        books.refuses.store(true, Ordering::SeqCst);
        let good = peer.report(Afn::REALTIME, &of(&[(1, 129), (2, 129)]));
        peer.write(&good).await;
        let refused = async {
            while books.refused.load(Ordering::SeqCst) < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.unwrap();
        assert_eq!(peer.says_on_the_link(Link::Heartbeat).await, 0);
        assert!(books.readings().is_empty());
        books.refuses.store(false, Ordering::SeqCst);

        // left, one after the other: a point that is none of ours, and a moment that cannot be; then the good one
        for items in [of(&[(99, 129)]), of(&[(1, 131)])] {
            let report = peer.report(Afn::REALTIME, &items);
            peer.write(&report).await;
        }
        let confirmed = async {
            // the refused one may not be forgotten yet when it comes again
            loop {
                peer.write(&good).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                if peer.says_on_the_link(Link::Heartbeat).await > 0 {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, confirmed).await.unwrap();
        let read = at("2026-03-01T08:15:00Z");
        let present = [
            (MeterId(11), read, Source::Pushed, Some(dec!(1234.5678))),
            (MeterId(12), read, Source::Pushed, Some(dec!(1234.5679))),
        ];
        assert_eq!(stored(books), present, "durable by now, and nothing else is");
        for reading in books.readings() {
            assert_eq!((reading.meter_time, reading.frames.first), (Some(read), FrameId(77)));
        }

        // the freeze of a day is of its end in the meters' zone
        let freeze = peer.report(Afn::HISTORY, &[(id(2, 161), DAY.to_vec())]);
        peer.write(&freeze).await;
        let (_, confirmed) = peer.hears_confirmed().await;
        assert_eq!(confirmed, freeze.seq.number());
        let frozen = (
            MeterId(12),
            at("2026-03-01T22:00:00Z"),
            Source::Pushed,
            Some(dec!(1234.5670)),
        );
        assert_eq!(stored(books), [present[0], present[1], frozen]);

        // a neighbour of somebody else's point is kept, but the report is not confirmed
        let mixed = peer.report(Afn::REALTIME, &of(&[(1, 129), (99, 129)]));
        peer.write(&mixed).await;
        let kept = async {
            while stored(books).len() < 4 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, kept).await.unwrap();
        assert_eq!(peer.says_on_the_link(Link::Heartbeat).await, 0);

        // a session later it makes the same readings: the store knows them by meter, moment and source
        drop(peer);
        let mut peer = Peer::new(port, &field).await;
        let again = peer.report(Afn::REALTIME, &of(&[(1, 129), (2, 129)]));
        peer.write(&again).await;
        assert_eq!(peer.hears_confirmed().await.1, again.seq.number());
        let mut all = stored(books);
        all.dedup();
        assert_eq!(all, [present[0], present[1], frozen]);
        stop.cancel();
    });
}
