//! Who may: forty ways around the second person, and no frame.

use super::world::{World, person};
use polyphase::base::clock::Clock;
use polyphase::base::ids::CommandId;
use polyphase::base::ids::MeterId;
use polyphase::domain::command::policy::FourEyes;
use polyphase::domain::command::{Action, Denied, Policy, ProtectionKind, State};
use polyphase::port::control::{Control, ControlError, Decision, ProtectionView};
use std::time::Duration;

async fn policy(world: &World, policy: Policy) {
    world
        .store()
        .set_policy(&policy, None, world.clock.now())
        .await
        .unwrap();
}

async fn always_two(world: &World) {
    let four_eyes = FourEyes {
        trip_from: Some(1),
        ..FourEyes::default()
    };
    policy(
        world,
        Policy {
            four_eyes,
            ..Policy::default()
        },
    )
    .await;
}

async fn held(world: &World, meter: i32) -> CommandId {
    let command = world.one(Action::Disconnect, meter).await;
    assert_eq!(world.get(command).await.state, State::Held);
    command
}

#[actix::test]
async fn no_way_around_the_second_person_reaches_the_wire() {
    let world = World::new(8, 5).await;
    always_two(&world).await;
    let mut tried = 0;
    // 10 self-approvals, twice each
    for meter in 1..=10 {
        let command = held(&world, meter).await;
        for _ in 0..2 {
            let own = world.decide(1, command, Decision::Approve).await;
            assert!(matches!(own, Err(ControlError::NotNow(_))), "{own:?}");
        }
        tried += 1;
    }
    // 5 of another account, 5 of a viewer: who may not approve at all
    for meter in 11..=20 {
        let command = held(&world, meter).await;
        let user = if meter <= 15 { 6 } else { 5 };
        let other = world.decide(user, command, Decision::Approve).await;
        assert!(
            matches!(other, Err(ControlError::NotNow(_) | ControlError::Denied(_))),
            "{other:?}"
        );
        // the same person as if they were of the account
        let mut forged = person(1);
        forged.actor.user = person(user).actor.user;
        let forged = world.control().decide(forged, command, Decision::Approve, None).await;
        assert!(matches!(forged, Err(ControlError::Denied(_))), "{forged:?}");
        tried += 1;
    }
    // 5 approvals of a command whose digest is another's, 5 of one whose meter was changed
    for meter in 21..=25 {
        let command = held(&world, meter).await;
        let other = world.get(held(&world, meter + 10).await).await.digest;
        let reused = world
            .control()
            .decide(person(2), command, Decision::Approve, Some(other))
            .await;
        assert!(matches!(reused, Err(ControlError::NotNow(_))), "{reused:?}");
        tried += 1;
    }
    for meter in 26..=30 {
        world.field.disconnect((meter - 1) / 5 + 1);
        let command = held(&world, meter).await;
        world.decide(2, command, Decision::Approve).await.unwrap();
        let sql = format!("UPDATE meter SET address = '{}' WHERE id = {meter}", 100 + meter);
        world.db.sql(&sql).await;
        world.field.connect((meter - 1) / 5 + 1);
        let view = world.until(command, State::Rejected).await;
        assert_eq!(view.outcome["cause"], "target_changed");
        tried += 1;
    }
    // 5 approved after all, by one whose role is taken away before the DTU comes back
    for meter in 36..=40 {
        world
            .db
            .sql("UPDATE app_user SET roles = '{operator}' WHERE id = 3")
            .await;
        world.field.disconnect(8);
        let command = held(&world, meter).await;
        world.decide(3, command, Decision::Approve).await.unwrap();
        world
            .db
            .sql("UPDATE app_user SET roles = '{viewer}' WHERE id = 3")
            .await;
        world.field.connect(8);
        let view = world.until(command, State::Rejected).await;
        assert_eq!(view.outcome["cause"], "approval_void");
        tried += 1;
    }
    // 5 direct calls: the API's own role cannot write a command, an edge or an approval
    for table in ["command", "command_edge", "command_approval", "trip", "command_batch"] {
        let mut transaction = world.db.database().scoped(super::world::ACCOUNT).begin().await.unwrap();
        let refused = sqlx::query(sqlx::AssertSqlSafe(format!("INSERT INTO {table} DEFAULT VALUES")))
            .execute(&mut *transaction)
            .await;
        let refused = refused.expect_err("the API wrote it").to_string();
        assert!(refused.contains("permission denied"), "{refused}");
        tried += 1;
    }
    world.clock.advance(Duration::from_secs(60));
    world.settle().await;
    assert_eq!(tried, 40);
    assert_eq!(world.field.frames(), 0);
}

#[actix::test]
async fn another_person_releases_it_and_it_moves_once() {
    let world = World::new(1, 1).await;
    always_two(&world).await;
    let command = held(&world, 1).await;
    let digest = world.get(command).await.digest;
    let state = world
        .control()
        .decide(person(2), command, Decision::Approve, Some(digest))
        .await
        .unwrap();
    assert_eq!(state, State::Approved);
    let again = world.decide(2, command, Decision::Approve).await;
    assert!(again.is_err());
    world.until(command, State::Confirmed).await;
    assert_eq!(
        world.states(command).await,
        ["requested", "held", "approved", "sent", "confirmed"]
    );
    assert_eq!(world.field.frames(), 1);
}

#[actix::test]
async fn a_viewer_asks_for_nothing_and_a_protected_meter_keeps_its_supply() {
    let world = World::new(1, 2).await;
    let denied = world.ask(5, Action::Reconnect, &[1], 60).await;
    assert!(matches!(denied, Err(ControlError::Denied(Denied::Role))));
    let protection = ProtectionView {
        meter_id: MeterId(1),
        kind: ProtectionKind::LifeSupport,
        note: "ventilator".into(),
        until: None,
    };
    world.store().protect(&protection, world.clock.now()).await.unwrap();
    let asked = world.ask(1, Action::Disconnect, &[1], 60).await.unwrap();
    let view = world.get(asked.commands[0].id).await;
    assert_eq!(
        (view.state, &view.outcome["interlock"]),
        (State::Rejected, &"life_support".into())
    );
    // protected while it waits: the same
    world.field.disconnect(1);
    let waiting = world.one(Action::Disconnect, 2).await;
    let protection = ProtectionView {
        meter_id: MeterId(2),
        ..protection
    };
    world.store().protect(&protection, world.clock.now()).await.unwrap();
    world.field.connect(1);
    let view = world.until(waiting, State::Rejected).await;
    assert_eq!(view.outcome["interlock"], "life_support");
    // a reconnect goes through all the same
    let on = world.one(Action::Reconnect, 1).await;
    world.until(on, State::Confirmed).await;
    assert_eq!(world.field.frames(), 1);
}
