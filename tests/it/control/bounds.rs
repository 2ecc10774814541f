//! How many: the brake, the emergency stop, schedules.

use super::world::{World, person};
use polyphase::base::clock::Clock;
use polyphase::base::ids::{CommandId, MeterId};
use polyphase::domain::command::policy::FourEyes;
use polyphase::domain::command::{Action, Policy, State};
use polyphase::port::control::{CommandFilter, Control, ControlError, ControlScheduleForm, Decision};
use std::time::Duration;

async fn no_four_eyes(world: &World) {
    let four_eyes = FourEyes {
        trip_from: None,
        ..FourEyes::default()
    };
    let policy = Policy {
        four_eyes,
        ..Policy::default()
    };
    world
        .store()
        .set_policy(&policy, None, world.clock.now())
        .await
        .unwrap();
}

async fn in_state(world: &World, state: State) -> Vec<CommandId> {
    let filter = CommandFilter {
        states: vec![state],
        ..CommandFilter::default()
    };
    let found = world.store().list(&filter, None, 1000).await.unwrap();
    found.into_iter().map(|view| view.id).collect()
}

async fn until_quiet(world: &World) {
    while !in_state(world, State::Requested).await.is_empty()
        || !in_state(world, State::Approved).await.is_empty()
        || !in_state(world, State::Sent).await.is_empty()
    {
        world.pass(Duration::from_millis(50), 4).await;
    }
}

#[actix::test]
async fn the_brake_holds_the_excess_over_restarts_and_two_people_release_it() {
    let world = World::new(40, 4).await;
    no_four_eyes(&world).await;
    let all: Vec<i32> = (1..=160).collect();
    // one call for half of them, one call each for the rest
    world.ask(1, Action::Disconnect, &all[..80], 3600).await.unwrap();
    for meter in &all[80..100] {
        world.ask(2, Action::Disconnect, &[*meter], 3600).await.unwrap();
    }
    until_quiet(&world).await;
    assert_eq!(world.field.frames(), 20);
    let held = in_state(&world, State::Held).await;
    assert_eq!(held.len(), 80);
    let view = world.get(held[0]).await;
    assert_eq!(
        (view.holds.as_slice(), view.approvals_needed),
        (&["brake_account".to_owned()][..], 2)
    );
    // the count survives the process
    let world = world.killed().await;
    for meter in &all[100..110] {
        world.ask(1, Action::Disconnect, &[*meter], 3600).await.unwrap();
    }
    world.settle().await;
    assert_eq!(world.field.frames(), 20);
    // reconnects are not held by anything
    world.ask(1, Action::Reconnect, &all[110..160], 3600).await.unwrap();
    until_quiet(&world).await;
    assert_eq!(world.field.frames(), 70);
    // one person is not enough, two are
    let one = held[0];
    assert_eq!(world.decide(3, one, Decision::Approve).await.unwrap(), State::Held);
    world.settle().await;
    assert_eq!(world.field.frames(), 70);
    assert_eq!(world.decide(4, one, Decision::Approve).await.unwrap(), State::Approved);
    world.until(one, State::Confirmed).await;
    assert_eq!(world.field.frames(), 71);
}

#[actix::test]
async fn a_bulk_of_two_needs_a_second_person_by_default() {
    let world = World::new(2, 1).await;
    let made = world.ask(1, Action::Disconnect, &[1, 2], 60).await.unwrap();
    assert!(made.commands.iter().all(|command| command.state == State::Held));
    let made = world.ask(1, Action::SyncClock, &[1, 2], 60).await.unwrap();
    assert!(made.refused.iter().all(|refused| refused.reason == "not_supported"));
}

#[actix::test]
async fn after_the_emergency_stop_nothing_begins_and_nothing_comes_back() {
    let world = World::new(20, 1).await;
    no_four_eyes(&world).await;
    // every visit is under way: the number is being read
    *world.field.slow.lock().unwrap() = Duration::from_millis(700);
    let meters: Vec<i32> = (1..=20).collect();
    let made = world.ask(1, Action::Disconnect, &meters, 600).await.unwrap();
    world.pass(Duration::from_millis(800), 1).await;
    let actor = person(4).actor;
    world
        .control()
        .stop(Some(super::world::ACCOUNT), actor.clone(), "wrong list".into())
        .await
        .unwrap();
    let frames = world.field.frames();
    let refused = world.ask(1, Action::Disconnect, &[1], 60).await;
    assert!(matches!(refused, Err(ControlError::Stopped)), "{refused:?}");
    let world = world.killed().await;
    world.settle().await;
    assert_eq!(world.field.frames(), frames, "a frame began after the stop");
    assert!(matches!(
        world.ask(1, Action::Reconnect, &[1], 60).await,
        Err(ControlError::Stopped)
    ));
    assert!(
        world
            .control()
            .resume(Some(super::world::ACCOUNT), actor)
            .await
            .unwrap()
    );
    world.settle().await;
    assert_eq!(world.field.frames(), frames);
    for command in made.commands {
        let state = world.get(command.id).await.state;
        assert!(!state.is_pending(), "{state:?}");
    }
    *world.field.slow.lock().unwrap() = Duration::ZERO;
    let on = world.one(Action::Reconnect, 1).await;
    world.until(on, State::Confirmed).await;
}

#[actix::test]
async fn a_schedule_asks_once_a_run_under_the_policy_and_the_brake() {
    let world = World::new(30, 1).await;
    let form = |meters: std::ops::RangeInclusive<i32>| ControlScheduleForm {
        name: "lamps off".into(),
        cron: "*/2 * * * *".into(),
        time_zone: "UTC".into(),
        action: Action::Disconnect,
        meters: meters.map(MeterId).collect(),
        group: None,
        expires_in_s: 90,
        reason: "dawn".into(),
        enabled: true,
    };
    let id = world
        .store()
        .write_schedule(None, &form(1..=30), world.clock.now())
        .await
        .unwrap();
    // thirty meters need a second person; nobody approved the schedule, so its run waits
    world.clock.advance(Duration::from_secs(121));
    world.settle().await;
    assert_eq!(in_state(&world, State::Held).await.len(), 30);
    assert_eq!(world.field.frames(), 0);
    // approved by another: its next run goes out as far as the brake lets it
    let stores = polyphase::store::PgStores::new(world.db.database().clone());
    let other: Box<dyn polyphase::port::control::CommandStore> =
        polyphase::port::scope::InAccount::in_account(&stores, person(2));
    other.approve_schedule(id, 1, world.clock.now()).await.unwrap();
    let own = world.store().approve_schedule(id, 1, world.clock.now()).await;
    assert!(own.is_err(), "who wrote it approved it");
    world.clock.advance(Duration::from_secs(120));
    let world = world.killed().await;
    for _ in 0..4 {
        world.settle().await;
    }
    until_quiet(&world).await;
    assert_eq!(world.field.frames(), 20);
    assert_eq!(world.count("SELECT count(DISTINCT batch_id) FROM command").await, 2);
}
