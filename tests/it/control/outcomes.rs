//! What becomes of a command: confirmed by reading, unknown when an answer is lost, never sent twice, expired in time.

use super::world::{Fate, World, person};
use chrono::TimeDelta;
use polyphase::base::ids::MeterId;
use polyphase::domain::command::{Action, State};
use polyphase::port::control::{CommandRequest, Control, ControlError};
use std::time::Duration;

#[actix::test]
async fn a_disconnect_is_confirmed_by_reading_and_every_edge_is_written_down() {
    let world = World::new(1, 3).await;
    let off = world.one(Action::Disconnect, 2).await;
    let view = world.until(off, State::Confirmed).await;
    assert_eq!(world.states(off).await, ["requested", "sent", "confirmed"]);
    assert!(world.field.is_off(2) && !world.field.is_off(1) && !world.field.is_off(3));
    assert!(view.outcome["read_back"].as_str().unwrap().contains("supply off"));
    let sent = &world.get(off).await.history.unwrap()[1];
    assert!(
        sent.detail["proof"].as_str().unwrap().contains("identity registers"),
        "{sent:?}"
    );
    let on = world.one(Action::Reconnect, 2).await;
    world.until(on, State::Confirmed).await;
    assert!(!world.field.is_off(2));
    assert_eq!(world.field.frames_of(2), 2);
    assert_eq!(world.count("SELECT count(*) FROM trip").await, 1);
    assert_eq!(
        world
            .count("SELECT count(*) FROM audit WHERE starts_with(action, 'command.')")
            .await,
        6
    );
    assert_eq!(world.count("SELECT coalesce(audit_verify(), 0)").await, 0);
}

#[actix::test]
async fn a_lost_answer_is_found_out_by_reading_and_nothing_is_sent_again() {
    let world = World::new(2, 1).await;
    for (meter, fate, end) in [
        (1, Fate::ReplyLost, State::Confirmed),
        (2, Fate::RequestLost, State::Failed),
    ] {
        world.field.fate(meter, fate);
        let command = world.one(Action::Disconnect, meter).await;
        world.until(command, end).await;
        let states = world.states(command).await;
        assert_eq!(states[..3], ["requested", "sent", "unknown"], "{states:?}");
        assert_eq!(world.field.frames_of(meter), 1);
        assert_eq!(world.field.is_off(meter), end == State::Confirmed);
    }
}

#[actix::test]
async fn what_was_sent_when_the_server_died_is_read_back_by_the_next_one() {
    let world = World::new(1, 1).await;
    world.field.fate(1, Fate::Hangs);
    let command = world.one(Action::Disconnect, 1).await;
    world.until(command, State::Sent).await;
    while world.field.frames() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.field.disconnect(1);
    let world = world.killed_for(Duration::from_secs(30)).await;
    world.until(command, State::Unknown).await;
    // the relay has one open command, however long the DTU is away
    let busy = world.ask(1, Action::Reconnect, &[1], 60).await.unwrap();
    assert_eq!(busy.refused[0].reason, "relay_busy");
    world.settle().await;
    assert_eq!(world.get(command).await.state, State::Unknown);
    world.field.connect(1);
    world.until(command, State::Confirmed).await;
    assert_eq!(world.field.frames(), 1);
}

#[actix::test]
async fn a_command_to_an_absent_dtu_expires_and_stays_so() {
    let world = World::new(1, 1).await;
    world.field.disconnect(1);
    let command = world.one(Action::Disconnect, 1).await;
    world.settle().await;
    world.clock.advance(Duration::from_secs(60));
    world.field.connect(1);
    world.until(command, State::Expired).await;
    world.settle().await;
    assert_eq!(world.field.frames(), 0);
}

#[actix::test]
async fn no_clock_and_no_restart_revives_an_expired_command() {
    // set back while it runs; set back while nobody was there; a restart alone
    for (n, (back, down)) in [(3600, 0), (3600, 90), (0, 90)].into_iter().enumerate() {
        let world = World::new(1, 1).await;
        world.field.disconnect(1);
        let command = world.one(Action::Disconnect, 1).await;
        world.settle().await;
        let world = if down > 0 {
            // the mark of time is stored each second while something is pending
            world.close().await;
            world.clock.advance(Duration::from_secs(down));
            world.set_back(TimeDelta::seconds(back));
            world.killed().await
        } else {
            world.set_back(TimeDelta::seconds(back));
            world
        };
        world.field.connect(1);
        world.until(command, State::Expired).await;
        assert_eq!(world.field.frames(), 0, "case {n}");
        // time goes on for new ones
        let next = world.one(Action::Reconnect, 1).await;
        world.until(next, State::Confirmed).await;
        assert_eq!(world.field.frames(), 1, "case {n}");
    }
}

#[actix::test]
async fn a_key_makes_one_command_over_restarts_and_refuses_another_request() {
    let world = World::new(1, 2).await;
    let request = |meter: i32| CommandRequest {
        action: Action::Disconnect,
        meters: vec![MeterId(meter)],
        expires_in_s: 60,
        reason: "test".into(),
        key: Some("k1".into()),
    };
    let first = world.control().request(person(1), request(1)).await.unwrap();
    world.until(first.commands[0].id, State::Confirmed).await;
    let world = world.killed().await;
    let again = world.control().request(person(1), request(1)).await.unwrap();
    assert!(again.repeated);
    assert_eq!((again.batch, again.commands[0].id), (first.batch, first.commands[0].id));
    assert_eq!(again.commands[0].state, State::Confirmed);
    let other = world.control().request(person(1), request(2)).await;
    assert!(
        matches!(
            other,
            Err(ControlError::Invalid {
                field: "Idempotency-Key",
                ..
            })
        ),
        "{other:?}"
    );
    world.settle().await;
    assert_eq!(world.field.frames(), 1);
}

#[actix::test]
async fn what_cannot_be_audited_is_not_done() {
    let world = World::new(1, 2).await;
    world.field.disconnect(1);
    let pending = world.one(Action::Disconnect, 1).await;
    world
        .db
        .sql("REVOKE EXECUTE ON FUNCTION audit_append(int, timestamptz, text, text, text, jsonb) FROM polyphase_ingest")
        .await;
    assert!(matches!(
        world.ask(1, Action::Disconnect, &[2], 60).await,
        Err(ControlError::Store(_))
    ));
    world.field.connect(1);
    world.settle().await;
    assert_eq!(world.field.frames(), 0);
    assert_eq!(world.get(pending).await.state, State::Requested);
    // the log is back: it goes on, once
    world
        .db
        .sql("GRANT EXECUTE ON FUNCTION audit_append(int, timestamptz, text, text, text, jsonb) TO polyphase_ingest")
        .await;
    world.until(pending, State::Confirmed).await;
    assert_eq!(world.field.frames(), 1);
}

#[actix::test]
async fn parameters_are_written_and_read_back_and_a_raw_frame_answers() {
    let world = World::new(1, 1).await;
    let write = Action::WriteParameter {
        name: "demand_period".into(),
        value: "30".into(),
    };
    let written = world.one(write, 1).await;
    let view = world.until(written, State::Confirmed).await;
    assert_eq!(view.outcome["read_back"], "demand_period = 30 min");
    let read = world
        .one(
            Action::ReadParameter {
                name: "demand_period".into(),
            },
            1,
        )
        .await;
    let view = world.until(read, State::Confirmed).await;
    assert_eq!(view.outcome["said"], "demand_period = 30 min");
    // read holding registers 0x0100: only an admin may, and only to this meter's unit
    let raw = Action::Raw {
        frame: "01030100000185F6".into(),
    };
    assert!(matches!(
        world.ask(1, raw.clone(), &[1], 60).await,
        Err(ControlError::Denied(_))
    ));
    let raw = world.ask(4, raw, &[1], 60).await.unwrap().commands[0].id;
    let view = world.until(raw, State::Confirmed).await;
    assert!(
        view.outcome["said"].as_str().unwrap().starts_with("010302001E"),
        "{view:?}"
    );
}
