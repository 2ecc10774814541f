//! Writing archives: the scan over a real trunk, a terminal behind it.

use super::super::{LinkFinder, ScanParts, run};
use super::*;
use crate::base::clock::{Clock, ManualClock};
use crate::base::ids::{FrameRange, GrowingIds};
use crate::device::catalogue::Catalogue;
use crate::exchange::Moment;
use crate::exchange::scan::ScanPlan;
use crate::exchange::trunk::{Trunk, TrunkEvent, TrunkSettings};
use crate::port::field::{EndCause, Learned, Link, LinkError, LinkStats, Owner, PollJob, PollOutcome};
use crate::protocol::dtu::Framing;
use crate::protocol::gdw376::{Address, Spoken, Terminal};
use async_trait::async_trait;
use chrono::DateTime;
use std::sync::{Arc, Mutex};

const PORTS: [u8; 2] = [1, 31];

/// A terminal that has nothing but its archive.
struct Bare;

impl Spoken for Bare {
    fn forward(&mut self, _: u8, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn control(&mut self, _: Id, _: &[u8]) -> bool {
        false
    }
}

/// A connection to it.
pub(in super::super) struct Wire {
    pub(in super::super) clock: Arc<ManualClock>,
    trunk: Mutex<Trunk>,
    terminal: Mutex<Terminal>,
    /// Answers to these functions are lost; what was asked is carried out all the same.
    lost: Option<Afn>,
    /// What is asked by these functions is confirmed, and not carried out.
    pub(in super::super) ignored: Mutex<Option<Afn>>,
    framing: Framing,
    pub(in super::super) asked: Mutex<Vec<Message>>,
}

impl Wire {
    fn now(&self) -> Moment {
        Moment {
            at: self.clock.now(),
            on: self.clock.monotonic(),
        }
    }
}

#[async_trait]
impl Link for Wire {
    async fn poll(&self, job: PollJob) -> Result<PollOutcome, LinkError> {
        let (mut trunk, mut terminal) = (self.trunk.lock().unwrap(), self.terminal.lock().unwrap());
        trunk.submit(self.now(), job).unwrap();
        loop {
            trunk.tick(self.now());
            let mut wrote = false;
            while let Some(event) = trunk.event() {
                match event {
                    TrunkEvent::Write(wire) => {
                        wrote = true;
                        let Found::Frame { frame, .. } = find(&wire) else {
                            panic!()
                        };
                        let message = Message::of(&frame).unwrap();
                        let ignored = *self.ignored.lock().unwrap() == Some(message.afn);
                        let frames = match ignored {
                            true => terminal.clone().answer(&message, &mut Bare),
                            false => terminal.answer(&message, &mut Bare),
                        };
                        let lost = Some(message.afn) == self.lost;
                        self.asked.lock().unwrap().push(message);
                        for frame in frames.iter().filter(|_| !lost) {
                            trunk.feed(self.now(), &frame.wire());
                        }
                    }
                    TrunkEvent::Done(settled) => {
                        let (_, outcome) = settled.outcomes.into_iter().next().unwrap();
                        return Ok(PollOutcome {
                            began_at: outcome.began_at,
                            reports: outcome.reports,
                            frames: FrameRange::EMPTY,
                            late_by: None,
                            evidence: Vec::new(),
                        });
                    }
                    _ => {}
                }
            }
            if !wrote && let Some(due) = trunk.next_deadline() {
                self.clock
                    .advance(due.saturating_duration_since(self.clock.monotonic()));
            }
        }
    }

    fn adopt(&self, _owner: Owner) {}

    fn close(&self, _cause: EndCause) {}

    fn stats(&self) -> LinkStats {
        LinkStats {
            learned: Learned {
                framing: self.framing.name().to_owned(),
                ..Learned::default()
            },
            ..LinkStats::default()
        }
    }
}

pub(in super::super) fn wire(terminal: Terminal, lost: Option<Afn>, framing: Framing) -> Arc<Wire> {
    Arc::new(Wire {
        clock: Arc::new(ManualClock::new(DateTime::from_timestamp(1_790_000_000, 0).unwrap())),
        trunk: Mutex::new(Trunk::new(TrunkSettings::default(), terminal.address())),
        terminal: Mutex::new(terminal),
        lost,
        ignored: Mutex::new(None),
        framing,
        asked: Mutex::new(Vec::new()),
    })
}

fn meter(point: u16) -> ArchiveMeter {
    ArchiveMeter {
        speed: 3,
        password: [7; 6],
        class: (5, 1),
        ..ArchiveMeter::new(point, point, wire_of(&format!("{point:012}")).unwrap())
    }
}

/// A terminal with these points.
fn terminal(points: u16) -> Terminal {
    let mut terminal =
        Terminal::new(Address::new(0x4403, 4), crate::protocol::gdw376::Edition::E2013).with_ports(&PORTS);
    (1..=points).for_each(|point| terminal.put_meter(meter(point)));
    terminal
}

fn put(point: u16, port: u8) -> ArchiveChange {
    ArchiveChange::Put(ArchiveEntry {
        port,
        ..entry_of(&meter(point))
    })
}

/// Runs the scan that writes; what it said last.
async fn written(wire: &Arc<Wire>, writes: Vec<ArchiveChange>) -> (Result<(), ScanFailure>, ScanProgress) {
    let said = Arc::new(Mutex::new(ScanProgress::default()));
    let (heard, link) = (Arc::clone(&said), Arc::clone(wire));
    let link: LinkFinder = Arc::new(move || {
        let link = Arc::clone(&link) as Arc<dyn Link>;
        Box::pin(async move { Some(link) })
    });
    let parts = ScanParts {
        clock: Arc::clone(&wire.clock) as Arc<dyn Clock>,
        catalogue: Arc::new(Catalogue::builtin().unwrap()),
        polls: Arc::new(GrowingIds::starting_at(wire.clock.now())),
        link,
        connect: None,
        tell: Arc::new(move |progress| *heard.lock().unwrap() = progress),
    };
    let plan = ScanPlan {
        writes,
        ..ScanPlan::default()
    };
    let outcome = run(&plan, parts).await;
    let progress = said.lock().unwrap().clone();
    (outcome, progress)
}

#[tokio::test]
async fn one_denied_meter_does_not_keep_the_others_from_being_written() {
    let wire = wire(terminal(40), None, Framing::Gdw376);
    let mut changes: Vec<ArchiveChange> = (1..=33).map(|point| put(point, 1)).collect();
    // the terminal has no port 9
    changes[12] = put(13, 9);
    changes.push(ArchiveChange::Remove { place: 40, point: 40 });
    let (outcome, progress) = written(&wire, changes).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(progress.written.len(), 34);
    for place in &progress.written {
        let right = match place.place {
            13 => (WriteOutcome::Denied, Some(1), false),
            40 => (WriteOutcome::Written, None, true),
            _ => (WriteOutcome::Written, None, false),
        };
        assert_eq!((place.outcome, place.code, place.removed), right, "{place:?}");
    }
    let terminal = wire.terminal.lock().unwrap();
    let standing: BTreeMap<u16, &ArchiveMeter> = terminal.archive().map(|meter| (meter.place, meter)).collect();
    assert_eq!(standing.len(), 39);
    assert_eq!(
        (
            standing[&13].port,
            standing[&12].port,
            standing[&14].port,
            standing[&34].port
        ),
        (31, 1, 1, 31)
    );
    // what we do not say stays
    assert_eq!(
        (standing[&12].password, standing[&12].speed, standing[&12].class),
        ([7; 6], 3, (5, 1))
    );
    // 16, halved to the one: 8 and 8, 4 and 4, 2 and 2, 1 and 1 more, and two frames of the others
    let sets = wire
        .asked
        .lock()
        .unwrap()
        .iter()
        .filter(|message| message.afn == Afn::SET)
        .count();
    assert_eq!(sets, 11);
    // and what it has now is proposed
    assert_eq!(progress.found.len(), 39);
}

#[tokio::test]
async fn a_lost_confirmation_is_read_back_and_nothing_is_written_twice() {
    let wire = wire(terminal(3), Some(Afn::SET), Framing::Gdw376);
    let (outcome, progress) = written(&wire, vec![put(2, 1), put(3, 9)]).await;
    assert_eq!(outcome, Ok(()));
    let outcomes: Vec<WriteOutcome> = progress.written.iter().map(|place| place.outcome).collect();
    // the terminal denied the frame as a whole, and said so to nobody
    assert_eq!(outcomes, [WriteOutcome::Otherwise, WriteOutcome::Otherwise]);
    let sets = |wire: &Wire| {
        wire.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|message| message.afn == Afn::SET)
            .count()
    };
    assert_eq!(sets(&wire), 1);
    let (_, progress) = written(&wire, vec![put(2, 1)]).await;
    assert_eq!(progress.written[0].outcome, WriteOutcome::Written);
    assert_eq!(sets(&wire), 2);
}

#[tokio::test]
async fn what_cannot_be_read_back_is_unknown_and_a_line_is_not_written_to() {
    let silent = wire(terminal(3), Some(Afn::QUERY), Framing::Gdw376);
    let (_, progress) = written(&silent, vec![put(2, 1)]).await;
    assert_eq!(progress.written[0].outcome, WriteOutcome::Unknown);
    let line = wire(terminal(3), None, Framing::Transparent);
    let (outcome, progress) = written(&line, vec![put(2, 1)]).await;
    assert_eq!((outcome, progress.written.len()), (Err(ScanFailure::NoConcentrator), 0));
    assert!(line.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_meter_that_moves_takes_along_what_the_terminal_knows_of_it() {
    let wire = wire(terminal(3), None, Framing::Gdw376);
    let moved = ArchiveEntry {
        place: 9,
        ..entry_of(&meter(2))
    };
    let changes = vec![ArchiveChange::Remove { place: 2, point: 2 }, ArchiveChange::Put(moved)];
    let (_, progress) = written(&wire, changes).await;
    assert!(
        progress
            .written
            .iter()
            .all(|place| place.outcome == WriteOutcome::Written)
    );
    let terminal = wire.terminal.lock().unwrap();
    let standing: Vec<(u16, u16, [u8; 6])> = terminal
        .archive()
        .map(|meter| (meter.place, meter.point, meter.password))
        .collect();
    assert_eq!(standing, [(1, 1, [7; 6]), (3, 3, [7; 6]), (9, 2, [7; 6])]);
}
