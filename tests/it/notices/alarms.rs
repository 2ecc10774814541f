//! From an alarm's step to the message, over the store of alarms itself.

use super::world::{ACCOUNT, World};
use polyphase::base::clock::Clock;
use polyphase::base::ids::{DtuId, MeterId};
use polyphase::domain::alarm::{AlarmKind, Change, Detail, Key, Raise, Severity, Subject};
use polyphase::domain::notice::{ChannelKind, Edge};
use polyphase::port::alarms::{AlarmDeed, AlarmLog, AlarmStore, Settlement};
use polyphase::port::scope::{Actor, InAccount, Scope};
use polyphase::store::PgStores;
use polyphase::store::alarms::PgAlarmLog;
use std::time::Duration;

const METER: Subject = Subject::Meter {
    meter: MeterId(1),
    dtu: DtuId(1),
};

fn key() -> Key {
    Key::new(Some(ACCOUNT), AlarmKind::VoltageQuality, "", METER)
}

fn raise(world: &World) -> Change {
    Change::Raise(Box::new(Raise {
        key: key(),
        kind: AlarmKind::VoltageQuality,
        severity: Severity::Critical,
        subject: METER,
        rule: None,
        cause_at: world.clock.now(),
        detail: Detail {
            value: Some("253.1".into()),
            unit: Some("V".into()),
            since: Some(world.clock.now()),
            ..Detail::default()
        },
        victims: Vec::new(),
        parent: None,
    }))
}

async fn settle(world: &World, change: Change) {
    let settlement = Settlement {
        changes: vec![change],
        watches: Vec::new(),
        mark: None,
    };
    PgAlarmLog::new(world.db.database())
        .settle(&settlement, world.clock.now())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_alarm_is_told_escalates_until_somebody_cares_and_its_end_is_told() {
    let world = World::new().await;
    world
        .db
        .sql(
            "INSERT INTO meter_group (account_id, name, created_at) VALUES (1, 'Harbour', now());
             INSERT INTO dtu (account_id, sn, name, created_at) VALUES (1, 'SN-1', 'Box 7', now());
             INSERT INTO metering_point (account_id, name, created_at) VALUES (1, 'p', now());
             INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, created_at, group_id)
             VALUES (1, 1, 'modbus-rtu', '1', 'm', 'Hall 3', now(), 1)",
        )
        .await;
    let (li, _) = world.person(ChannelKind::Sms, "+8613900000001", |_| {}).await;
    let (boss, _) = world.person(ChannelKind::Email, "boss@example.org", |_| {}).await;
    world.route(&[(0, &[li]), (15, &[boss])]).await;
    let engine = world.engine().await;
    settle(&world, raise(&world)).await;
    world.live(&engine, 5).await;
    assert_eq!(world.script.subjects(), ["[Critical] Voltage out of range: Hall 3"]);
    let notice = world.notices().await.remove(0);
    assert_eq!((notice.subject.as_str(), notice.edge), ("alarm/1", Edge::Raised));
    assert_eq!(notice.facts["value"], "253.1 V");
    assert_eq!(
        (&notice.facts["meter"], &notice.facts["dtu"]),
        (&"Hall 3".into(), &"Box 7".into())
    );
    // a person takes care of it, through the API's role
    let scope = Scope {
        account: ACCOUNT,
        actor: Actor::command_line(),
    };
    let alarms: Box<dyn AlarmStore> = PgStores::new(world.db.database().clone()).in_account(scope);
    let open = alarms
        .list(&Default::default(), None, 10, world.clock.now())
        .await
        .unwrap();
    let id = open[0].id;
    alarms
        .act(id, &AlarmDeed::Acknowledge, "", None, world.clock.now())
        .await
        .unwrap();
    alarms
        .act(id, &AlarmDeed::Comment, "on my way", None, world.clock.now())
        .await
        .unwrap();
    world.live(&engine, 30).await;
    assert_eq!(
        world.script.count(),
        1,
        "nobody else is called, and a comment is no news"
    );
    world.clock.advance(Duration::from_secs(60));
    let over = Change::Clear {
        key: key(),
        at: world.clock.now(),
    };
    settle(&world, over).await;
    world.live(&engine, 1).await;
    assert_eq!(world.script.subjects()[1..], ["[over] Voltage out of range: Hall 3"]);
    assert_eq!(world.script.sent.lock().unwrap()[1].address, "+8613900000001");
}
