//! The feed's own proofs: accounts apart, bounds kept, nothing lost in silence.

use super::*;
use crate::base::clock::ManualClock;
use chrono::{TimeZone, Utc};
use proptest::prelude::*;
use serde_json::json;

const ONE: AccountId = AccountId(1);
const TWO: AccountId = AccountId(2);

fn hub(limits: LiveLimits) -> LiveHub {
    let clock = ManualClock::new(Utc.with_ymd_and_hms(2026, 3, 1, 0, 0, 0).unwrap());
    LiveHub::new(&clock, limits)
}

fn all(account: AccountId) -> LiveFilter {
    LiveFilter {
        account,
        topics: vec![],
        dtu: None,
        meter: None,
    }
}

fn say(hub: &LiveHub, account: AccountId, n: u64) {
    hub.publish(
        account,
        Topic::Readings,
        Some(DtuId(1)),
        Some(MeterId(7)),
        json!({ "n": n }),
    );
}

fn numbers(items: &[LiveItem]) -> Vec<u64> {
    items
        .iter()
        .filter_map(|item| match item {
            LiveItem::Event(event) => {
                serde_json::from_str::<serde_json::Value>(&event.text.json()).unwrap()["n"].as_u64()
            }
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_listener_hears_its_account_and_nobody_else() {
    let hub = hub(LiveLimits::default());
    let mut one = hub.listen(all(ONE), None).unwrap();
    say(&hub, TWO, 1);
    say(&hub, ONE, 2);
    let heard = one.next(10).await.unwrap();
    assert_eq!(numbers(&heard), [2]);
    // ids are counted per account: the other's event left no gap
    assert_eq!(one.place().id, 1);
}

#[tokio::test]
async fn filters_select_topic_dtu_and_meter() {
    let hub = hub(LiveLimits::default());
    let mut filter = all(ONE);
    filter.topics = vec![Topic::Slots];
    filter.meter = Some(MeterId(9));
    let mut listener = hub.listen(filter, None).unwrap();
    hub.publish(ONE, Topic::Slots, Some(DtuId(1)), Some(MeterId(8)), json!({"n": 1}));
    hub.publish(ONE, Topic::Readings, Some(DtuId(1)), Some(MeterId(9)), json!({"n": 2}));
    hub.publish(ONE, Topic::Slots, Some(DtuId(1)), Some(MeterId(9)), json!({"n": 3}));
    assert_eq!(numbers(&listener.next(10).await.unwrap()), [3]);
}

/// Every question of every line is much: it is wanted only while somebody of the account has named the topic.
#[tokio::test]
async fn topic_line_is_wanted_while_somebody_names_it() {
    let hub = hub(LiveLimits::default());
    let everything = hub.listen(all(ONE), None).unwrap();
    assert!(!hub.is_wanted(ONE, Topic::Line) && hub.is_wanted(ONE, Topic::Readings));
    let on_line = LiveFilter {
        topics: vec![Topic::Line],
        ..all(ONE)
    };
    let mut first = hub.listen(on_line.clone(), None).unwrap();
    let second = hub.listen(on_line, None).unwrap();
    assert!(hub.is_wanted(ONE, Topic::Line) && !hub.is_wanted(TWO, Topic::Line));
    hub.publish(ONE, Topic::Line, Some(DtuId(1)), Some(MeterId(7)), json!({"n": 4}));
    assert_eq!(numbers(&first.next(10).await.unwrap()), [4]);
    drop((first, everything));
    assert!(hub.is_wanted(ONE, Topic::Line));
    drop(second);
    assert!(!hub.is_wanted(ONE, Topic::Line));
    assert!(!all(ONE).wants(Topic::Line) && all(ONE).wants(Topic::Jobs));
}

#[tokio::test]
async fn a_waiting_listener_is_woken() {
    let hub = hub(LiveLimits::default());
    let mut listener = hub.listen(all(ONE), None).unwrap();
    let publisher = hub.clone();
    let (heard, ()) = tokio::join!(listener.next(10), async move {
        tokio::task::yield_now().await;
        say(&publisher, ONE, 5);
    });
    assert_eq!(numbers(&heard.unwrap()), [5]);
}

#[tokio::test]
async fn resumes_behind_a_kept_place_and_says_reset_otherwise() {
    let hub = hub(LiveLimits {
        events_per_account: 3,
        ..LiveLimits::default()
    });
    for n in 1..=5 {
        say(&hub, ONE, n);
    }
    let epoch = hub.shared.epoch;
    let mut kept = hub.listen(all(ONE), Some(LivePlace { epoch, id: 3 })).unwrap();
    assert_eq!(numbers(&kept.next(10).await.unwrap()), [4, 5]);
    // 2 is the place just before the oldest kept event: nothing was lost yet
    let mut edge = hub.listen(all(ONE), Some(LivePlace { epoch, id: 2 })).unwrap();
    assert_eq!(numbers(&edge.next(10).await.unwrap()), [3, 4, 5]);
    for gone in [
        LivePlace { epoch, id: 1 },
        LivePlace {
            epoch: epoch - 1,
            id: 4,
        },
        LivePlace { epoch, id: 6 },
    ] {
        let mut reset = hub.listen(all(ONE), Some(gone)).unwrap();
        let items = reset.next(10).await.unwrap();
        assert_eq!(
            items,
            [LiveItem::Reset {
                place: LivePlace { epoch, id: 5 }
            }],
            "{gone}"
        );
    }
}

#[tokio::test]
async fn a_slow_listener_loses_the_oldest_and_is_told_how_many() {
    let hub = hub(LiveLimits {
        events_per_account: 4,
        ..LiveLimits::default()
    });
    let mut slow = hub.listen(all(ONE), None).unwrap();
    for n in 1..=10 {
        say(&hub, ONE, n);
    }
    let items = slow.next(100).await.unwrap();
    assert!(matches!(items[0], LiveItem::Missed { events: 6, .. }), "{items:?}");
    assert_eq!(numbers(&items), [7, 8, 9, 10]);
}

#[tokio::test]
async fn the_total_is_bounded_and_the_fullest_account_gives_first() {
    let limits = LiveLimits {
        bytes_total: 20_000,
        ..LiveLimits::default()
    };
    let hub = hub(limits);
    say(&hub, TWO, 1);
    for n in 0..1_000 {
        say(&hub, ONE, n);
        assert!(hub.bytes() <= limits.bytes_total);
    }
    let epoch = hub.shared.epoch;
    let mut quiet = hub.listen(all(TWO), Some(LivePlace { epoch, id: 0 })).unwrap();
    assert_eq!(numbers(&quiet.next(10).await.unwrap()), [1]);
}

#[tokio::test]
async fn listeners_are_limited_and_a_dropped_one_makes_room() {
    let hub = hub(LiveLimits {
        listeners_per_account: 1,
        listeners_total: 2,
        ..LiveLimits::default()
    });
    let first = hub.listen(all(ONE), None).unwrap();
    assert_eq!(hub.listen(all(ONE), None).err(), Some(LiveError::AccountFull(1)));
    let _second = hub.listen(all(TWO), None).unwrap();
    assert_eq!(
        hub.listen(all(AccountId(3)), None).err(),
        Some(LiveError::ServerFull(2))
    );
    drop(first);
    assert!(hub.listen(all(ONE), None).is_ok());
}

#[tokio::test]
async fn closing_ends_listeners_after_what_is_left() {
    let hub = hub(LiveLimits::default());
    let mut listener = hub.listen(all(ONE), None).unwrap();
    let mut idle = hub.listen(all(TWO), None).unwrap();
    say(&hub, ONE, 1);
    hub.close();
    assert_eq!(numbers(&listener.next(10).await.unwrap()), [1]);
    assert_eq!(listener.next(10).await, None);
    assert_eq!(idle.next(10).await, None);
}

proptest! {
    /// Whatever the pace: what is heard plus what is told as missed is all that was published, in order.
    #[test]
    fn heard_and_missed_add_up(steps in proptest::collection::vec((0u64..8, 0usize..6), 1..60), kept in 1usize..6) {
        let hub = hub(LiveLimits { events_per_account: kept, ..LiveLimits::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut listener = hub.listen(all(ONE), None).unwrap();
        let (mut published, mut expected) = (0u64, 1u64);
        for (say_count, read) in steps {
            for _ in 0..say_count {
                published += 1;
                say(&hub, ONE, published);
            }
            if read == 0 || expected > published {
                continue;
            }
            for item in runtime.block_on(listener.next(read)).unwrap() {
                match item {
                    LiveItem::Missed { events, .. } => expected += events,
                    event => {
                        prop_assert_eq!(numbers(&[event]), [expected]);
                        expected += 1;
                    }
                }
            }
        }
        prop_assert!(expected <= published + 1);
        prop_assert_eq!(listener.place().id, expected - 1);
    }
}
