//! Relays of DL/T 645 and valves of CJ/T 188 through the desk: proven, with the deadline in the frame, read back.

use super::world::{Fate, Meter, World};
use chrono::TimeDelta;
use polyphase::base::clock::Clock;
use polyphase::base::hex;
use polyphase::domain::command::{Action, State};
use polyphase::protocol::Protocol;
use polyphase::protocol::dlt645::{Address, Body, Di, Edition, Request, relay};
use polyphase::simulator::fluid::Quirks;

const SINGLE: &str = "dlt645_2007_single_phase";
const VALVE: &str = "standard_valve_water_2004";

fn meter(address: &str, password: &str) -> Meter {
    Meter::item(1, Protocol::Dlt645_2007, SINGLE, address, password, 8)
}

/// These meters with others on the same line, so that the brake's share of a DTU lets a few trips through.
fn among_others(first: Vec<Meter>) -> Vec<Meter> {
    let others = (1..=12).map(|unit| Meter::modbus(1, unit, u64::from(unit)));
    first.into_iter().chain(others).collect()
}

/// The relay command in the last frame.
fn last(world: &World) -> relay::Command {
    let wires = world.field.wires.lock().unwrap();
    let request = Request::parse(Edition::E2007, wires.last().unwrap()).unwrap();
    match request.body() {
        Body::Relay(command) => command.clone(),
        other => panic!("{other:?}"),
    }
}

#[actix::test]
async fn a_relay_of_dlt645_is_switched_and_read_back() {
    let world = World::of(vec![meter("202611210001", "000000"), meter("202611210002", "000000")]).await;
    world
        .db
        .sql("UPDATE account SET time_zone = 'Europe/Paris'; UPDATE dtu SET time_zone = 'Asia/Shanghai'")
        .await;
    let before = world.clock.now();
    let off = world.one(Action::Disconnect, 2).await;
    let view = world.until(off, State::Confirmed).await;
    assert!(world.field.is_off(2) && !world.field.is_off(1));
    assert_eq!(view.outcome["read_back"], "relay open (status word 3), load 0 W");
    let sent = &world.get(off).await.history.unwrap()[1];
    assert_eq!(sent.detail["proof"], "communication address 202611210002", "{sent:?}");
    // the deadline stands in the frame, in the meter's own time
    let command = last(&world);
    assert_eq!(command.action(), relay::Action::Trip);
    let until = command.until().unwrap();
    let asked = (before + TimeDelta::hours(8)).naive_utc();
    let ahead = until - asked;
    assert!(
        ahead >= TimeDelta::seconds(59) && ahead <= TimeDelta::seconds(70),
        "{ahead}"
    );

    // the customer may close it: it stays open, and that is what was wanted
    let armed = world.one(Action::Arm, 2).await;
    let view = world.until(armed, State::Confirmed).await;
    assert_eq!(view.outcome["read_back"], "relay open, closing allowed (status word 3)");
    assert!(world.field.is_off(2));
    let on = world.one(Action::Reconnect, 2).await;
    let view = world.until(on, State::Confirmed).await;
    assert_eq!(view.outcome["read_back"], "relay closed (status word 3)");
    assert!(!world.field.is_off(2));
    assert_eq!(world.field.frames_of(2), 3);
}

#[actix::test]
async fn a_kept_supply_stays_on_and_the_command_says_so() {
    let utc = Meter::item(1, Protocol::Dlt645_2007, SINGLE, "202611210001", "000000", 0);
    let world = World::of(among_others(vec![utc, meter("202611210002", "000000")])).await;
    // a deadline in another zone than the meter's is over for the meter: it refuses
    let elsewhere = world.one(Action::KeepPower, 2).await;
    let view = world.until(elsewhere, State::Failed).await;
    assert!(
        view.outcome["answer"].as_str().unwrap().contains("other error"),
        "{view:?}"
    );
    let kept = world.one(Action::KeepPower, 1).await;
    world.until(kept, State::Confirmed).await;
    let off = world.one(Action::Disconnect, 1).await;
    let view = world.until(off, State::Failed).await;
    assert_eq!(view.outcome["read_back"], "relay closed (status word 3)", "{view:?}");
    assert!(!world.field.is_off(1));
    let released = world.one(Action::ReleaseKeepPower, 1).await;
    world.until(released, State::Confirmed).await;
    let off = world.one(Action::Disconnect, 1).await;
    world.until(off, State::Confirmed).await;
    assert!(world.field.is_off(1));
}

#[actix::test]
async fn a_wrong_password_is_named() {
    let world = World::of(vec![meter("202611210001", "123456")]).await;
    let off = world.one(Action::Disconnect, 1).await;
    let view = world.until(off, State::Failed).await;
    assert!(!world.field.is_off(1));
    let answer = view.outcome["answer"].as_str().unwrap();
    assert!(answer.contains("wrong password"), "{view:?}");
    assert_eq!(view.outcome["read_back"], "relay closed (status word 3)");
    assert_eq!(world.field.frames(), 1);
}

#[actix::test]
async fn a_valve_is_waited_for_until_it_has_turned() {
    let world = World::of(vec![
        Meter::fluid(1, VALVE, "19121301", Quirks::default()),
        Meter::fluid(
            2,
            VALVE,
            "19121302",
            Quirks {
                valve_stuck: true,
                ..Quirks::default()
            },
        ),
        Meter::fluid(3, VALVE, "19121303", Quirks::default()),
    ])
    .await;
    let off = world.one(Action::Disconnect, 1).await;
    let view = world.until(off, State::Confirmed).await;
    assert_eq!(view.outcome["read_back"], "valve closed");
    assert!(world.field.is_off(1));
    let sent = &world.get(off).await.history.unwrap()[1];
    assert_eq!(sent.detail["proof"], "meter address 00000019121301");
    // the answer is lost while it turns: what it says first is what it was, and that decides nothing
    world.field.fate(3, Fate::ReplyLost);
    let lost = world.one(Action::Disconnect, 3).await;
    let view = world.until(lost, State::Confirmed).await;
    assert_eq!(world.states(lost).await, ["requested", "sent", "unknown", "confirmed"]);
    assert!(world.field.is_off(3), "{view:?}");
    // one that never arrives is not known to be open or closed
    let stuck = world.one(Action::Disconnect, 2).await;
    world.until_by(stuck, State::Unknown, 30).await;
    assert_eq!(world.field.frames_of(2), 1);
    let busy = world.ask(1, Action::Reconnect, &[2], 60).await.unwrap();
    assert_eq!(busy.refused[0].reason, "relay_busy");
}

#[actix::test]
async fn settings_of_dlt645_are_written_read_back_and_read() {
    let two = vec![meter("202611210001", "000000"), meter("202611210002", "654321")];
    let world = World::of(among_others(two)).await;
    let write = |value: &str| Action::WriteParameter {
        name: "demand_period".into(),
        value: value.into(),
    };
    let written = world.one(write("30"), 1).await;
    let view = world.until(written, State::Confirmed).await;
    assert_eq!(view.outcome["read_back"], "demand_period = 30 min");
    let read = Action::ReadParameter {
        name: "demand_period".into(),
    };
    let read = world.one(read, 1).await;
    let view = world.until(read, State::Confirmed).await;
    assert_eq!(view.outcome["said"], "demand_period = 30 min");
    // another password: refused by name, and the old value stands
    let refused = world.one(write("30"), 2).await;
    let view = world.until(refused, State::Failed).await;
    assert!(
        view.outcome["answer"].as_str().unwrap().contains("wrong password"),
        "{view:?}"
    );
    assert_eq!(view.outcome["read_back"], "demand_period = 15 min");
    let out_of_bounds = world.ask(1, write("90"), &[1], 60).await.unwrap();
    assert_eq!(out_of_bounds.refused[0].reason, "invalid");
    // a freeze has no state to be read; a raw frame brings its answer, to this meter alone
    let freeze = world.one(Action::Freeze, 1).await;
    world.until(freeze, State::Confirmed).await;
    let frame = Request::read(Address::parse("202611210001").unwrap(), Di::E2007(0x0400_0103)).frame();
    let raw = Action::Raw {
        frame: hex::encode(&frame),
    };
    let read = world.ask(4, raw.clone(), &[1], 60).await.unwrap().commands[0].id;
    let view = world.until(read, State::Confirmed).await;
    // 91 05: 03010004 30, each byte 33 more
    assert!(
        view.outcome["said"].as_str().unwrap().contains("91053634333763"),
        "{view:?}"
    );
    let stray = world.ask(4, raw, &[2], 60).await.unwrap().commands[0].id;
    let view = world.until(stray, State::Failed).await;
    assert!(
        view.outcome["detail"].as_str().unwrap().contains("202611210002"),
        "{view:?}"
    );
}
