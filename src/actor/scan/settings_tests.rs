//! Settings over a real trunk, a terminal behind it: what is told of a setting is what the terminal has.

use super::super::archive::tests::{Wire, wire};
use super::super::{LinkFinder, ScanParts, run};
use super::*;
use crate::base::clock::Clock;
use crate::base::ids::GrowingIds;
use crate::device::catalogue::Catalogue;
use crate::device::parameter::factory;
use crate::exchange::scan::ScanPlan;
use crate::port::field::Link;
use crate::protocol::gdw376::{Fn, Terminal};
use std::sync::{Arc, Mutex};

fn bare() -> Terminal {
    Terminal::new(crate::protocol::gdw376::Address::new(0x4403, 4), Edition::E2013)
}

fn terminal() -> Terminal {
    let mut terminal = bare();
    for (id, data) in factory::items(1) {
        terminal.put(Afn::QUERY, id, &[], data);
    }
    terminal
}

fn ask(name: &str, wanted: Option<i64>, seen: Option<i64>) -> ParameterAsk {
    ParameterAsk {
        name: name.to_owned(),
        number: 0,
        wanted: wanted.map(ParameterValue::Whole),
        seen: seen.map(ParameterValue::Whole),
    }
}

/// Runs the plan; what was told last.
async fn told(wire: &Arc<Wire>, write: bool, asks: Vec<ParameterAsk>) -> (Result<(), ScanFailure>, Vec<Parameter>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let (heard, link) = (Arc::clone(&said), Arc::clone(wire));
    let link: LinkFinder = Arc::new(move || {
        let link = Arc::clone(&link) as Arc<dyn Link>;
        Box::pin(async move { Some(link) })
    });
    let clock = Arc::clone(&wire.clock);
    let parts = ScanParts {
        polls: Arc::new(GrowingIds::starting_at(clock.now())),
        clock,
        catalogue: Arc::new(Catalogue::builtin().unwrap()),
        link,
        connect: None,
        tell: Arc::new(move |progress: ScanProgress| *heard.lock().unwrap() = progress.settings),
    };
    let plan = ScanPlan {
        settings: Some(ParameterPlan {
            protocol: "gdw376.1".to_owned(),
            asks,
            write,
            zone: chrono_tz::UTC,
        }),
        ..ScanPlan::default()
    };
    let ended = run(&plan, parts).await;
    let told = said.lock().unwrap().clone();
    (ended, told)
}

fn outcomes(told: &[Parameter]) -> Vec<(ParameterOutcome, Option<ParameterValue>)> {
    told.iter()
        .map(|setting| (setting.outcome, setting.present.clone()))
        .collect()
}

fn whole(number: i64) -> Option<ParameterValue> {
    Some(ParameterValue::Whole(number))
}

fn written(wire: &Wire) -> usize {
    let asked = wire.asked.lock().unwrap();
    asked.iter().filter(|message| message.afn == Afn::SET).count()
}

#[tokio::test]
async fn nothing_is_written_by_comparing() {
    let wire = wire(terminal(), None, Framing::Gdw376);
    let asks = vec![
        ask("heartbeat", Some(11), None),
        ask("send_delay", Some(2), None),
        ask("meter_clock_off", None, None),
    ];
    let (ended, told) = told(&wire, false, asks).await;
    assert_eq!(ended, Ok(()));
    use ParameterOutcome::{Differs, Read, Same};
    assert_eq!(
        outcomes(&told),
        [(Differs, whole(5)), (Same, whole(2)), (Read, whole(5))]
    );
    assert_eq!(written(&wire), 0);
}

#[tokio::test]
async fn what_was_agreed_to_is_written_in_one_frame_an_item_and_how_it_is_reached_last() {
    let wire = wire(terminal(), None, Framing::Gdw376);
    let asks = vec![
        ask("heartbeat", Some(11), Some(5)),
        ask("send_delay", Some(7), Some(2)),
        // somebody else wrote it since
        ask("answer_within", Some(60), Some(29)),
        ask("meter_clock_off", Some(9), Some(5)),
    ];
    let (ended, first) = told(&wire, true, asks.clone()).await;
    assert_eq!(ended, Ok(()));
    use ParameterOutcome::{Changed, Same, Written};
    assert_eq!(
        outcomes(&first),
        [
            (Written, whole(11)),
            (Written, whole(7)),
            (Changed, whole(30)),
            (Written, whole(9))
        ]
    );
    assert_eq!(first[0].before, whole(5));
    assert_eq!(written(&wire), 2);
    let items: Vec<u8> = {
        let asked = wire.asked.lock().unwrap();
        let sets = asked.iter().filter(|message| message.afn == Afn::SET);
        sets.map(|message| message.units(Edition::E2013).unwrap()[0].id.item.number())
            .collect()
    };
    assert_eq!(items, [59, 1]);
    // once more: nothing differs but what was not written
    let (_, again) = told(&wire, true, asks).await;
    assert_eq!(
        outcomes(&again).iter().map(|(outcome, _)| *outcome).collect::<Vec<_>>(),
        [Same, Same, Changed, Same]
    );
    assert_eq!(written(&wire), 2);
}

#[tokio::test]
async fn refused_ignored_and_unanswered_writes_are_told_for_what_they_are() {
    let refuses = wire(terminal().with_locked(&[Fn::F1]), None, Framing::Gdw376);
    let (_, told_refused) = told(&refuses, true, vec![ask("heartbeat", Some(11), Some(5))]).await;
    assert_eq!(outcomes(&told_refused), [(ParameterOutcome::Refused, whole(5))]);
    assert!(told_refused[0].code.is_some());

    let ignores = wire(terminal(), None, Framing::Gdw376);
    *ignores.ignored.lock().unwrap() = Some(Afn::SET);
    let (_, told_ignored) = told(&ignores, true, vec![ask("heartbeat", Some(11), Some(5))]).await;
    assert_eq!(outcomes(&told_ignored), [(ParameterOutcome::Otherwise, whole(5))]);

    // its confirmation is lost, and it is there all the same; it was asked for once
    let mute = wire(terminal(), Some(Afn::SET), Framing::Gdw376);
    let (_, told_lost) = told(&mute, true, vec![ask("heartbeat", Some(11), Some(5))]).await;
    assert_eq!(outcomes(&told_lost), [(ParameterOutcome::Written, whole(11))]);
    assert_eq!(written(&mute), 1);
}

#[tokio::test]
async fn what_a_terminal_does_not_have_or_say_is_no_value() {
    let empty = wire(bare(), None, Framing::Gdw376);
    let (_, absent) = told(&empty, true, vec![ask("heartbeat", Some(11), Some(5))]).await;
    assert_eq!(outcomes(&absent), [(ParameterOutcome::Absent, None)]);
    let silent = wire(terminal(), Some(Afn::QUERY), Framing::Gdw376);
    let asks = vec![
        ask("heartbeat", Some(11), Some(5)),
        ask("monthly_traffic", None, None),
        ask("meter_clock_off", None, None),
    ];
    let (_, unanswered) = told(&silent, true, asks).await;
    assert!(
        unanswered
            .iter()
            .all(|setting| setting.outcome == ParameterOutcome::Silent)
    );
    assert_eq!(written(&silent), 0);
}

#[tokio::test]
async fn other_devices_and_other_names_are_refused_before_anything_is_asked() {
    let line = wire(terminal(), None, Framing::Transparent);
    let asks = || vec![ask("heartbeat", None, None)];
    assert_eq!(told(&line, false, asks()).await.0, Err(ScanFailure::NoConcentrator));
    let station = wire(terminal(), None, Framing::Dlt698);
    assert_eq!(told(&station, false, asks()).await.0, Err(ScanFailure::OtherProtocol));
    assert!(station.asked.lock().unwrap().is_empty());
}
