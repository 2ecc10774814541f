//! Reading the archive of a terminal of DL/T 698.45: the scan over a real proxy, a terminal behind it.

use super::super::{LinkFinder, ScanParts, run};
use super::*;
use crate::base::clock::{Clock, ManualClock};
use crate::base::ids::{FrameRange, GrowingIds};
use crate::device::catalogue::Catalogue;
use crate::domain::archive::ArchiveChange;
use crate::exchange::Moment;
use crate::exchange::proxy::{Proxy, ProxyEvent, ProxySettings};
use crate::exchange::scan::ScanPlan;
use crate::port::field::{EndCause, Learned, Link, LinkError, LinkStats, Owner, PollJob, PollOutcome};
use crate::protocol::dlt698::terminal::Device;
use crate::protocol::dlt698::{Data, Oad, Table, Tsa, open};
use crate::protocol::dtu::Framing;
use async_trait::async_trait;
use chrono::DateTime;
use std::sync::{Arc, Mutex};

/// A connection to a terminal.
struct Wire {
    clock: Arc<ManualClock>,
    proxy: Mutex<Proxy>,
    station: Mutex<(Device, Table)>,
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
        let (mut proxy, mut station) = (self.proxy.lock().unwrap(), self.station.lock().unwrap());
        let (device, table) = &mut *station;
        proxy.submit(self.now(), job).unwrap();
        loop {
            proxy.tick(self.now());
            let mut wrote = false;
            while let Some(event) = proxy.event() {
                match event {
                    ProxyEvent::Write(wire) => {
                        wrote = true;
                        let answer = device.hear(&open(&wire).unwrap(), table);
                        if let Some(frame) = answer {
                            proxy.feed(self.now(), &frame.wire());
                        }
                    }
                    ProxyEvent::Done(settled) => {
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
            if !wrote && let Some(due) = proxy.next_deadline() {
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
                framing: Framing::Dlt698.name().to_owned(),
                ..Learned::default()
            },
            ..LinkStats::default()
        }
    }
}

fn meter(number: u16, protocol: MeterProtocol, wiring: Wiring) -> ArchiveMeter {
    ArchiveMeter {
        number,
        address: Address::parse(&format!("2026{number:08}")).unwrap(),
        protocol,
        port: ArchiveMeter::port_of(31),
        tariffs: 4,
        wiring,
        collector: None,
    }
}

/// What a meter holds: its number in hundredths of a kilowatt-hour.
fn held(number: u16) -> Table {
    let mut table = Table::new();
    let energies = vec![Data::UInt32(number.into()); 5];
    table.put(Oad::new(0x0010, 2), Data::Array(energies));
    table.put(Oad::new(0x2000, 2), Data::Array(vec![Data::UInt16(2300); 3]));
    table
}

async fn scanned(plan: ScanPlan, archive: Option<Data>, behind: &[u16]) -> (Result<(), ScanFailure>, ScanProgress) {
    let address = Address::parse("112233445566").unwrap();
    let mut table = Table::new();
    for number in behind {
        table.put_meter(
            &Tsa::of(&meter(*number, MeterProtocol::DLT698, Wiring::Single).address),
            held(*number),
        );
    }
    if let Some(archive) = archive {
        table.put(ARCHIVE, archive);
    }
    let wire = Arc::new(Wire {
        clock: Arc::new(ManualClock::new(DateTime::from_timestamp(1_790_000_000, 0).unwrap())),
        proxy: Mutex::new(Proxy::new(ProxySettings::default(), address)),
        station: Mutex::new((Device::new(address, 512), table)),
    });
    let told = Arc::new(Mutex::new(ScanProgress::default()));
    let link: LinkFinder = Arc::new({
        let wire = Arc::clone(&wire);
        move || {
            let wire: Arc<dyn Link> = wire.clone();
            Box::pin(async move { Some(wire) })
        }
    });
    let parts = ScanParts {
        clock: Arc::clone(&wire.clock) as Arc<dyn Clock>,
        catalogue: Arc::new(Catalogue::builtin().unwrap()),
        polls: Arc::new(GrowingIds::starting_at(wire.clock.now())),
        link,
        connect: None,
        tell: Arc::new({
            let told = Arc::clone(&told);
            move |progress| *told.lock().unwrap() = progress
        }),
    };
    let outcome = run(&plan, parts).await;
    let progress = told.lock().unwrap().clone();
    (outcome, progress)
}

#[tokio::test]
async fn the_meters_of_an_archive_are_proposed_with_what_they_show() {
    let mut meters: Vec<ArchiveMeter> = (1..=130)
        .map(|number| meter(number, MeterProtocol::DLT698, Wiring::FourWires))
        .collect();
    meters[1].wiring = Wiring::Single;
    // of another protocol; not reached; without a number that we have
    meters.push(meter(131, MeterProtocol::DLT645_2007, Wiring::Single));
    meters.push(meter(132, MeterProtocol::DLT698, Wiring::Single));
    meters.push(meter(0, MeterProtocol::DLT698, Wiring::Single));
    let archive = Data::Array(meters.iter().map(ArchiveMeter::data).chain([Data::Null]).collect());
    let behind: Vec<u16> = (1..=130).collect();
    let (outcome, progress) = scanned(ScanPlan::default(), Some(archive), &behind).await;
    assert_eq!(
        (outcome, progress.found.len(), &progress.searching),
        (Ok(()), 132, &None)
    );
    for (found, number) in progress.found.iter().zip(1u16..) {
        let place = found.archive.as_ref().unwrap();
        assert_eq!((found.point(), place.place), (Some(number), number));
        assert_eq!(
            (&found.address, &place.meter_address),
            (&format!("2026{number:08}"), &found.address)
        );
        assert_eq!(found.entry().unwrap().point, number);
        let energy = found
            .values
            .iter()
            .find(|value| value.quantity == "active_energy_import");
        match number {
            131 => assert_eq!((found.model.as_deref(), found.protocol.as_str()), (None, "dlt645-2007")),
            132 => assert_eq!((found.model.as_deref(), energy), (Some("dlt698_single_phase"), None)),
            _ => {
                let model = if number == 2 {
                    "dlt698_single_phase"
                } else {
                    "dlt698_three_phase"
                };
                assert_eq!(
                    (found.model.as_deref(), found.protocol.as_str()),
                    (Some(model), "dlt698.45")
                );
                let shown: f64 = energy.unwrap().value.parse().unwrap();
                assert!((shown - f64::from(number) / 100.0).abs() < 1e-9, "{number}: {shown}");
            }
        }
    }
    let notes = progress.notes.join("; ");
    for part in [
        "1 meters of the archive cannot be read",
        "1 meters have numbers beyond",
        "1 meters do not speak",
    ] {
        assert!(notes.contains(part), "{notes}");
    }
}

#[tokio::test]
async fn a_terminal_without_an_archive_says_so() {
    let (outcome, progress) = scanned(ScanPlan::default(), None, &[]).await;
    assert_eq!((outcome, progress.found.len()), (Ok(()), 0));
    assert!(
        progress.notes[0].contains("does not tell its archive"),
        "{:?}",
        progress.notes
    );
}

#[tokio::test]
async fn an_archive_that_is_only_read_is_not_written() {
    let plan = ScanPlan {
        writes: vec![ArchiveChange::Remove { place: 1, point: 1 }],
        ..ScanPlan::default()
    };
    let (outcome, progress) = scanned(plan, Some(Data::Array(Vec::new())), &[]).await;
    assert_eq!((outcome, progress.asked), (Err(ScanFailure::ReadOnly), 0));
}
