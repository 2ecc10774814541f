//! From what happened to the message, in virtual time.

use super::world::{ACCOUNT, World, happens, utc};
use chrono::{NaiveTime, TimeDelta};
use polyphase::base::clock::Clock;
use polyphase::base::ids::AccountId;
use polyphase::domain::notice::{ChannelKind, Digest, Edge, Language, Quiet, Severity};
use polyphase::port::notices::{MessageState, SendError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn time(h: u32) -> NaiveTime {
    NaiveTime::from_hms_opt(h, 0, 0).unwrap()
}

#[tokio::test]
async fn what_is_rolled_back_is_not_told_and_what_is_committed_is_told_once() {
    let world = World::new().await;
    let (li, channel) = world
        .person(ChannelKind::Email, "li@example.org", |p| p.language = Language::Zh)
        .await;
    world.route(&[(0, &[li])]).await;
    let engine = world.engine().await;
    let happening = world.happening(1, Edge::Raised, Severity::Warning);
    happens(&world.db, happening, false, false).await;
    world.round(&engine).await;
    assert_eq!(world.script.count(), 0);
    world.happens(1, Edge::Raised, Severity::Warning).await;
    world.live(&engine, 3).await;
    assert_eq!(world.script.subjects(), ["【警告】偏离平均值：Hall 1"]);
    let messages = world.messages().await;
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].state, messages[0].attempts), (MessageState::Sent, 1));
    let notices = world.notices().await;
    assert_eq!(notices[0].outcome.as_deref(), Some("planned"));
    assert_eq!(notices[0].items[0].message_id, Some(messages[0].id));
    assert_eq!(notices[0].items[0].channel_id, channel);
    // the end is told to who knows of the beginning
    world.happens(1, Edge::Cleared, Severity::Warning).await;
    world.round(&engine).await;
    assert_eq!(world.script.subjects()[1], "【恢复】偏离平均值：Hall 1");
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_is_tried_again_and_ends_dead_and_visible() {
    let world = World::new().await;
    let (li, _) = world.person(ChannelKind::Sms, "+8613912345678", |_| {}).await;
    world.route(&[(0, &[li])]).await;
    let engine = world.engine().await;
    world.script.will(12, &Err(SendError::passing("answered 503")));
    world.happens(1, Edge::Raised, Severity::Critical).await;
    let begun = world.clock.now();
    // waits of 30 s, doubled up to 30 min: 12 attempts take 3 to 4 hours
    world.live(&engine, 300).await;
    assert_eq!(world.script.count(), 12);
    let id = world.script.sent.lock().unwrap()[0].id;
    assert!(
        world.script.sent.lock().unwrap().iter().all(|message| message.id == id),
        "the id stays"
    );
    let dead = world.messages().await.remove(0);
    assert_eq!((dead.state, dead.attempts), (MessageState::Dead, 12));
    assert_eq!(dead.last_error.as_deref(), Some("answered 503"));
    let lasted = dead.ended_at.unwrap() - begun;
    assert!(lasted > TimeDelta::hours(2) && lasted < TimeDelta::hours(4), "{lasted}");
    // it rests until somebody gives it another life, with attempts of its own
    world.live(&engine, 60).await;
    assert_eq!(world.script.count(), 12);
    world.script.will(2, &Err(SendError::passing("answered 503")));
    world.book().resend(id, world.clock.now()).await.unwrap();
    assert!(world.book().resend(id, world.clock.now()).await.is_err());
    world.live(&engine, 5).await;
    let sent = world.messages().await.remove(0);
    assert_eq!((sent.state, sent.attempts, sent.id), (MessageState::Sent, 15, id));
}

#[tokio::test]
async fn what_is_refused_is_dead_at_once_and_what_is_unsure_is_marked() {
    let world = World::new().await;
    let (li, _) = world.person(ChannelKind::Telegram, "4711", |_| {}).await;
    world.route(&[(0, &[li])]).await;
    let engine = world.engine().await;
    world.script.will(1, &Err(SendError::Refused("bot was blocked".into())));
    world.script.will(1, &Err(SendError::Unsure("no answer".into())));
    world.happens(1, Edge::Raised, Severity::Critical).await;
    world.round(&engine).await;
    world.happens(2, Edge::Raised, Severity::Critical).await;
    world.live(&engine, 2).await;
    // both are of the same instant: their order says nothing
    let mut ends: Vec<_> = world
        .messages()
        .await
        .iter()
        .map(|m| (m.state, m.attempts, m.maybe_twice))
        .collect();
    ends.sort_by_key(|(_, attempts, _)| *attempts);
    assert_eq!(ends, [(MessageState::Dead, 1, false), (MessageState::Sent, 2, true)]);
}

#[tokio::test]
async fn a_sender_that_ends_between_sending_and_its_record_is_named() {
    let world = World::new().await;
    let (li, _) = world.person(ChannelKind::Email, "li@example.org", |_| {}).await;
    world.route(&[(0, &[li])]).await;
    world.script.hangs.store(true, Ordering::SeqCst);
    world.happens(1, Edge::Raised, Severity::Warning).await;
    let engine = Arc::new(world.engine().await);
    engine.work().await.unwrap();
    let dying = {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { engine.send(ChannelKind::Email).await })
    };
    while world.script.count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // the message is out, and nobody writes it down
    dying.abort();
    let _ended = dying.await;
    assert_eq!(world.messages().await[0].state, MessageState::Sending);
    world.script.hangs.store(false, Ordering::SeqCst);
    let next = world.engine().await;
    world.round(&next).await;
    let message = world.messages().await.remove(0);
    assert_eq!(
        (message.state, message.attempts, message.maybe_twice),
        (MessageState::Sent, 2, true)
    );
    let sent = world.script.sent.lock().unwrap();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].id, sent[1].id, "the far side can tell");
    assert!(sent[1].maybe_twice);
}

#[tokio::test]
async fn nobody_answers_and_the_next_is_told() {
    let world = World::new().await;
    let (li, _) = world.person(ChannelKind::Sms, "+8613900000001", |_| {}).await;
    let (boss, _) = world.person(ChannelKind::Sms, "+8613900000002", |_| {}).await;
    world.route(&[(0, &[li]), (15, &[boss])]).await;
    let engine = world.engine().await;
    let told = |world: &World| -> Vec<(String, String)> {
        let sent = world.script.sent.lock().unwrap();
        sent.iter()
            .map(|m| (m.address[12..].to_owned(), m.subject.clone()))
            .collect()
    };
    world.happens(1, Edge::Raised, Severity::Critical).await;
    world.happens(2, Edge::Raised, Severity::Critical).await;
    world.live(&engine, 14).await;
    assert_eq!(told(&world).len(), 1, "both in one message: {:?}", told(&world));
    world.happens(1, Edge::Acknowledged, Severity::Critical).await;
    world.live(&engine, 10).await;
    // the second one alone goes up
    assert_eq!(
        told(&world)[1..],
        [(
            "02".to_owned(),
            "[Critical] Deviation from the usual: Hall 2".to_owned()
        )]
    );
    let notices = world.notices().await;
    let off = &notices
        .iter()
        .find(|notice| notice.subject == "alarm/1" && notice.edge == Edge::Raised)
        .unwrap()
        .items[1];
    assert_eq!(
        (off.state.as_str(), off.reason.as_deref()),
        ("cancelled", Some("acknowledged before it was told"))
    );
}

#[tokio::test]
async fn the_night_is_quiet_and_a_digest_gathers() {
    let world = World::new().await;
    let (sleeper, _) = world
        .person(ChannelKind::Email, "sleeper@example.org", |p| {
            // noon in UTC is 21:00 in Tokyo
            p.zone = chrono_tz::Asia::Tokyo;
            p.quiet = Some(Quiet {
                from: time(20),
                to: time(7),
                unless: Severity::Critical,
            });
        })
        .await;
    let (reader, _) = world
        .person(ChannelKind::Email, "reader@example.org", |p| {
            p.digest = Some(Digest {
                every_min: 60,
                at: time(8),
                up_to: Severity::Warning,
            });
        })
        .await;
    world.route(&[(0, &[sleeper, reader])]).await;
    let engine = world.engine().await;
    world.clock.advance(Duration::from_secs(600));
    for alarm in 1..=5 {
        world.happens(alarm, Edge::Raised, Severity::Warning).await;
    }
    world.happens(3, Edge::Cleared, Severity::Warning).await;
    world.live(&engine, 60).await;
    let sent = |world: &World| -> Vec<(String, String)> {
        let sent = world.script.sent.lock().unwrap();
        sent.iter()
            .map(|m| (m.address.split('@').next().unwrap().to_owned(), m.subject.clone()))
            .collect()
    };
    // what was over before it was told is told to nobody
    assert_eq!(
        sent(&world),
        [("reader".to_owned(), "[Warning] Polyphase: 4 notices".to_owned())]
    );
    world.happens(9, Edge::Raised, Severity::Critical).await;
    world.live(&engine, 1).await;
    assert_eq!(sent(&world).len(), 3, "the critical wakes and does not wait");
    world.live(&engine, 10 * 60).await;
    let all = sent(&world);
    assert_eq!(
        all[3],
        ("sleeper".to_owned(), "[Warning] Polyphase: 4 notices".to_owned())
    );
    let morning = world.messages().await.remove(0).created_at;
    assert_eq!(
        morning,
        utc("2026-03-01T22:00:00Z")
            .max(morning)
            .min(utc("2026-03-01T22:01:00Z"))
    );
}

#[tokio::test]
async fn a_flood_is_bundled_within_the_rates_and_nothing_is_lost() {
    let mut world = World::new().await;
    world.settings.rates.account = 6;
    let (li, _) = world
        .person(ChannelKind::Webhook, "https://a.example/", |p| p.per_hour = Some(3))
        .await;
    let (wang, _) = world.person(ChannelKind::Email, "wang@example.org", |_| {}).await;
    world.route(&[(0, &[li, wang])]).await;
    let engine = world.engine().await;
    for minute in 0..150u32 {
        world.happens(minute, Edge::Raised, Severity::Warning).await;
        world.live(&engine, 1).await;
    }
    world.live(&engine, 61).await;
    let messages = world.messages().await;
    for person in [li, wang] {
        let of: Vec<_> = messages.iter().filter(|m| m.recipient_id == person).collect();
        for message in &of {
            let hour = of
                .iter()
                .filter(|other| {
                    other.created_at > message.created_at - TimeDelta::hours(1)
                        && other.created_at <= message.created_at
                })
                .count();
            assert!(hour <= if person == li { 3 } else { 6 }, "{hour}");
        }
        let sent = world.script.sent.lock().unwrap();
        let told: usize = sent
            .iter()
            .filter(|m| m.recipient == person)
            .map(|m| m.payload["items"].as_array().unwrap().len())
            .sum();
        assert_eq!(told, 150, "every happening is in exactly one message");
    }
    // a restart knows what was sent
    let again = world.engine().await;
    world.happens(500, Edge::Raised, Severity::Warning).await;
    let before = world.script.count();
    world.round(&again).await;
    assert!(world.script.count() <= before + 2);
}

#[tokio::test]
async fn a_full_outbox_tells_so_and_recovers() {
    let mut world = World::new().await;
    world.settings.waiting_max = 3;
    let (li, _) = world
        .person(ChannelKind::Email, "li@example.org", |p| {
            p.digest = Some(Digest {
                every_min: 60,
                at: time(8),
                up_to: Severity::Warning,
            });
        })
        .await;
    world.route(&[(0, &[li])]).await;
    world.clock.advance(Duration::from_secs(60));
    let engine = world.engine().await;
    for alarm in 0..5 {
        world.happens(alarm, Edge::Raised, Severity::Warning).await;
    }
    world.round(&engine).await;
    let outcomes: Vec<String> = world
        .notices()
        .await
        .into_iter()
        .rev()
        .filter_map(|n| n.outcome)
        .collect();
    assert_eq!(outcomes, ["planned", "planned", "planned", "overflow", "overflow"]);
    world.live(&engine, 60).await;
    assert_eq!(world.script.subjects(), ["[Warning] Polyphase: 3 notices"]);
    world.happens(9, Edge::Raised, Severity::Warning).await;
    world.round(&engine).await;
    assert_eq!(world.notices().await[0].outcome.as_deref(), Some("planned"));
}

#[tokio::test]
async fn the_servers_own_goes_to_the_only_account_or_the_named_one() {
    let mut world = World::new().await;
    let (li, _) = world.person(ChannelKind::Email, "li@example.org", |_| {}).await;
    world.route(&[(0, &[li])]).await;
    let own = async |world: &World| {
        let mut happening = world.happening(1, Edge::Raised, Severity::Critical);
        happening.kind = "database".into();
        happening.facts.clear();
        happens(&world.db, happening, true, true).await;
    };
    own(&world).await;
    let engine = world.engine().await;
    world.round(&engine).await;
    assert_eq!(world.script.subjects(), ["[Critical] Database does not answer: server"]);
    world
        .db
        .sql("INSERT INTO account (name, created_at) VALUES ('b', now())")
        .await;
    own(&world).await;
    world.round(&engine).await;
    assert_eq!(
        world.script.count(),
        1,
        "two accounts, and nobody said whose the server is"
    );
    world.settings.server_account = Some(ACCOUNT);
    let engine = world.engine().await;
    own(&world).await;
    world.round(&engine).await;
    assert_eq!(world.script.count(), 2);
    world.settings.server_account = Some(AccountId(99));
    let engine = world.engine().await;
    own(&world).await;
    world.round(&engine).await;
    assert_eq!(world.script.count(), 2);
}

#[tokio::test]
async fn who_is_switched_off_is_not_told_and_old_history_goes() {
    let world = World::new().await;
    let (li, channel) = world
        .person(ChannelKind::Email, "li@example.org", |p| {
            p.digest = Some(Digest {
                every_min: 60,
                at: time(8),
                up_to: Severity::Warning,
            });
        })
        .await;
    world.route(&[(0, &[li])]).await;
    world.clock.advance(Duration::from_secs(60));
    let engine = world.engine().await;
    world.happens(1, Edge::Raised, Severity::Warning).await;
    world.round(&engine).await;
    world
        .book()
        .set_channel(channel, "li@example.org", false, None, world.clock.now())
        .await
        .unwrap();
    world.live(&engine, 61).await;
    assert_eq!(world.script.count(), 0);
    assert_eq!(world.notices().await[0].items[0].state, "cancelled");
    world.happens(2, Edge::Raised, Severity::Warning).await;
    world.round(&engine).await;
    assert_eq!(world.notices().await[0].outcome.as_deref(), Some("nobody"));
    // a message that waits for its next attempt dies with its recipient
    let (wang, _) = world.person(ChannelKind::Email, "wang@example.org", |_| {}).await;
    world.route(&[(0, &[wang])]).await;
    world.script.will(1, &Err(SendError::passing("answered 503")));
    world.happens(3, Edge::Raised, Severity::Warning).await;
    world.round(&engine).await;
    assert_eq!(world.messages().await[0].state, MessageState::Waiting);
    world
        .book()
        .remove_recipient(wang, None, world.clock.now())
        .await
        .unwrap();
    let dead = world.messages().await.remove(0);
    assert_eq!(
        (dead.state, dead.last_error.as_deref()),
        (MessageState::Dead, Some("the recipient was deleted"))
    );
    world.live(&engine, 10).await;
    assert_eq!(world.script.count(), 1);
    let outbox = world.parts().outbox;
    assert_eq!(
        outbox
            .prune(world.clock.now() - TimeDelta::days(30), 100)
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        outbox.prune(world.clock.now() + TimeDelta::days(1), 1).await.unwrap(),
        2
    );
    assert_eq!(
        outbox.prune(world.clock.now() + TimeDelta::days(1), 100).await.unwrap(),
        2
    );
    assert!(world.notices().await.is_empty());
}
