//! Clocks set through the desk: only within the rule, by the frame that the meter takes, and read back.

use super::world::{Meter, World};
use chrono::{NaiveTime, TimeDelta, Timelike};
use polyphase::base::clock::Clock;
use polyphase::domain::command::{Action, State};
use polyphase::protocol::Protocol;
use polyphase::protocol::dlt645::{Body, Di, Edition, Request};
use polyphase::simulator::fluid::Quirks;

const SINGLE: &str = "dlt645_2007_single_phase";
const OLDER: &str = "dlt645_1997_single_phase";

fn meter(number: u8, ahead_s: i64) -> Meter {
    let address = format!("2026112100{number:02}");
    Meter::item(1, Protocol::Dlt645_2007, SINGLE, &address, "000000", 8).ahead(TimeDelta::seconds(ahead_s))
}

/// A world whose meters keep the time of Shanghai, at twenty past eight in the evening there.
async fn world(meters: Vec<Meter>) -> World {
    let world = World::of(meters).await;
    world
        .db
        .sql("UPDATE account SET time_zone = 'Europe/Paris'; UPDATE dtu SET time_zone = 'Asia/Shanghai'")
        .await;
    // the world begins at noon
    world.clock.advance(std::time::Duration::from_secs(20 * 60));
    world
}

fn last(world: &World, edition: Edition) -> Request {
    let wires = world.field.wires.lock().unwrap();
    Request::parse(edition, wires.last().unwrap()).unwrap()
}

/// Seconds between a time of day and the world's, eight hours ahead of ours.
fn off(world: &World, time: NaiveTime) -> i64 {
    let local = (world.clock.now() + TimeDelta::hours(8)).time();
    i64::from(time.num_seconds_from_midnight()) - i64::from(local.num_seconds_from_midnight())
}

#[actix::test]
async fn a_clock_that_drifted_is_set_by_the_frame_that_the_meter_takes() {
    let world = world(vec![meter(1, -180), meter(2, 720)]).await;
    // up to five minutes without a password, to this meter alone
    let set = world.one(Action::SyncClock, 1).await;
    let view = world.until(set, State::Confirmed).await;
    assert!(
        view.outcome["read_back"].as_str().unwrap().contains("s off"),
        "{view:?}"
    );
    let sent = last(&world, Edition::E2007);
    assert_eq!(sent.address().to_string(), "202611210001");
    let Body::BroadcastTime(told) = sent.body() else {
        panic!("{sent:?}")
    };
    assert!(off(&world, told.time()).abs() < 60, "{told}");
    // beyond it the time of day is written, with the password
    let set = world.one(Action::SyncClock, 2).await;
    world.until(set, State::Confirmed).await;
    let sent = last(&world, Edition::E2007);
    let Body::Write { di, value, .. } = sent.body() else {
        panic!("{sent:?}")
    };
    assert_eq!((*di, value.len()), (Di::E2007(0x0400_0102), 3));
    assert_eq!((world.field.frames_of(1), world.field.frames_of(2)), (1, 1));
    // a clock that was set is in order
    let again = world.one(Action::SyncClock, 2).await;
    let view = world.until(again, State::Cancelled).await;
    assert_eq!(view.outcome["cause"], "clock_in_order", "{view:?}");
    assert_eq!(world.field.frames(), 2);
}

#[actix::test]
async fn the_older_edition_and_water_meters_are_set_too() {
    let older = Meter::item(1, Protocol::Dlt645_1997, OLDER, "000000000097", "000000", 8);
    let quirks = |ahead: TimeDelta| Quirks {
        clock_ahead_s: (TimeDelta::hours(8) + ahead).num_seconds(),
        ..Quirks::default()
    };
    let water = "standard_cold_water_2018";
    let world = world(vec![
        older.ahead(TimeDelta::minutes(-9)),
        Meter::fluid(1, water, "19121301", quirks(TimeDelta::minutes(7))),
    ])
    .await;
    for meter in [1, 2] {
        let set = world.one(Action::SyncClock, meter).await;
        world.until(set, State::Confirmed).await;
        assert_eq!(world.field.frames_of(meter), 1);
        let again = world.one(Action::SyncClock, meter).await;
        let view = world.until(again, State::Cancelled).await;
        assert_eq!(view.outcome["cause"], "clock_in_order", "{view:?}");
    }
    let wires = world.field.wires.lock().unwrap().clone();
    let written = Request::parse(Edition::E1997, &wires[0]).unwrap();
    assert_eq!(written.di(), Some(Di::E1997(0xC011)));
}

#[actix::test]
async fn a_clock_is_left_alone_when_it_is_in_order_or_too_far_off() {
    let world = world(vec![meter(1, 40), meter(2, 3600), meter(3, -1000)]).await;
    for (number, state, cause) in [
        (1, State::Cancelled, "clock_in_order"),
        (2, State::Rejected, "clock_too_far"),
        (3, State::Rejected, "clock_too_far"),
    ] {
        let set = world.one(Action::SyncClock, number).await;
        let view = world.until(set, state).await;
        assert_eq!(view.outcome["cause"], cause, "{view:?}");
    }
    assert_eq!(world.field.frames(), 0);
}

#[actix::test]
async fn no_clock_is_set_near_a_freeze_and_the_command_waits() {
    // at 20:52 the clock says 21:03: a full hour lies between
    let world = world(vec![meter(1, 660)]).await;
    world.clock.advance(std::time::Duration::from_secs(32 * 60));
    let set = world.ask(1, Action::SyncClock, &[1], 7200).await.unwrap().commands[0].id;
    world.settle().await;
    let view = world.get(set).await;
    assert_eq!((view.state, world.field.frames()), (State::Requested, 0), "{view:?}");
    // the hour is over for both
    world.clock.advance(std::time::Duration::from_secs(10 * 60));
    world.until(set, State::Confirmed).await;
    assert_eq!(world.field.frames(), 1);
}

#[actix::test]
async fn a_meter_that_refuses_the_time_says_why() {
    let address = "202611210009";
    let locked = Meter::item(1, Protocol::Dlt645_2007, SINGLE, address, "123456", 8);
    let world = world(vec![locked.ahead(TimeDelta::minutes(10))]).await;
    let set = world.one(Action::SyncClock, 1).await;
    let view = world.until(set, State::Failed).await;
    let answer = view.outcome["answer"].as_str().unwrap();
    assert!(answer.contains("wrong password"), "{view:?}");
}
