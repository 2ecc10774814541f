//! What a virtual terminal says of its own accord.

use super::*;
use crate::device::catalogue::Catalogue;
use crate::protocol::Protocol;

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> DateTime<Utc> {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn monotonic(&self) -> std::time::Instant {
        std::time::Instant::now()
    }
}

fn terminal() -> SimTerminal {
    let catalogue = Catalogue::builtin().unwrap_or_else(|faults| panic!("{faults:?}"));
    let plan = StationPlan {
        terminals: 1,
        meters: 5,
        region: 0x4403,
        seed: 7,
        heartbeat: Duration::from_secs(60),
        habits: Habits::default(),
        model: Arc::clone(catalogue.get(Protocol::Dlt698, "dlt698_three_phase").unwrap()),
    };
    plan.terminal(0).unwrap()
}

#[test]
fn its_events_and_freezes_are_of_its_meters() {
    let terminal = terminal();
    let mut station = Station::new(&terminal, Arc::new(Still));
    station.happened = 4;
    let meter = terminal.meter_address(3);
    let told = event::Told::of_report(&Report::Records(Many::one(event_of(&station, &meter).unwrap())));
    assert_eq!((told.events.len(), told.left), (1, 0));
    assert_eq!(
        (told.events[0].number(), told.events[0].device()),
        (Some(4), Some(meter.clone()))
    );
    let freeze = station.freeze_of(&meter).unwrap();
    let Rows::Rows(rows) = &freeze.rows else { panic!() };
    let cells = freeze.cells(&rows[0]);
    assert!(matches!(cells[0].1, Data::Tsa(of) if *of == Tsa::of(&Address::parse(&meter).unwrap())));
    let midnight = "2026-11-22T00:00:00".parse().ok();
    assert!(
        cells
            .iter()
            .any(|(oad, data)| *oad == FROZEN_AT && data.moment() == midnight)
    );
    assert!(cells.len() > 3 && cells.iter().all(|(_, data)| **data != Data::Null));
    assert_eq!(station.freeze_of("999999999999"), None);
}

#[test]
fn storms_are_said_one_after_the_other_and_each_has_its_number() {
    let mut terminal = terminal();
    (terminal.habits.events, terminal.habits.reports) = (1.0, 1.0);
    let mut station = Station::new(&terminal, Arc::new(Still));
    let device = Device::new(terminal.address, 1024);
    let (mut number, mut dice, stats) = (Piid::new(0), Dice::new(1), FleetStats::default());
    (0..3).for_each(|_| terminal.speak(&device, &mut number, &mut station, &stats, &mut dice));
    assert_eq!(stats.reports.load(Ordering::Relaxed), 6);
    let now = Instant::now();
    let said: Vec<u8> = std::iter::from_fn(|| station.reports.next(now))
        .map(|wire| {
            let frame = crate::protocol::dlt698::open(&wire).unwrap();
            Apdu::parse(frame.data()).unwrap().piid().unwrap().number()
        })
        .collect();
    assert_eq!(said, [0, 1, 2, 3, 4, 5]);
}
