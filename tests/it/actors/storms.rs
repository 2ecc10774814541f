//! Many at once, and too often: first polls in turn, flapping, clones, load that is shed by priority.

use super::books::{assert_actual, tally};
use super::field::{Field, at, dtu, virtually};
use polyphase::base::clock::Clock;
use polyphase::base::ids::{DtuId, MeterId};
use polyphase::domain::slot::MissReason;
use polyphase::exchange::pace::Pace;
use polyphase::exchange::shed::Pressure;
use polyphase::port::field::{Admission, EndCause};
use polyphase::port::fleet::{Fleet, ReadFailure};
use std::time::Duration;

#[test]
fn a_fleet_that_comes_back_at_once_is_taken_up_in_turn_and_who_asks_does_not_wait() {
    virtually(|| async {
        let field = Field::paced((1..=20).map(|id| dtu(id, 1)).collect(), Pace::new(1, 1)).await;
        field.begin().await;
        field.clock.until(61).await;
        let links = field.connect_all().await;
        // the last one of all is held the longest
        let asked = field.clock.now();
        let read = field
            .fleet
            .read(MeterId(201), Vec::new(), Duration::from_secs(20))
            .await;
        assert!(read.is_ok(), "{read:?}");
        assert!(field.clock.now() - asked < chrono::TimeDelta::seconds(3));
        field.clock.until(62).await;
        let mut begun: Vec<_> = links
            .iter()
            .filter(|(dtu, _)| **dtu != DtuId(20))
            .map(|(_, link)| (link.polls()[0].0 - at(61)).num_milliseconds())
            .collect();
        begun.sort_unstable();
        // two shards of one session a second each
        for (index, millis) in begun.iter().enumerate() {
            assert!(*millis >= (index as i64 / 2 - 4) * 1000 / 2, "{begun:?}");
        }
        assert!(*begun.last().unwrap() >= 7_000, "{begun:?}");
        field.clock.until(180).await;
        let ends = field.books.audit(&field.meters(), &field.world, at(0), at(175));
        assert_actual(&ends, |slot| slot.2 > at(63));
    });
}

#[test]
fn load_is_shed_from_the_end_of_the_order_and_comes_back() {
    virtually(|| async {
        let field = Field::new(vec![dtu(1, 2)]).await;
        field.connect_all().await;
        field.begin().await;
        field.clock.until(61).await;
        field.pressure.set(Pressure::High);
        field.clock.until(121).await;
        let read = field.fleet.read(MeterId(11), Vec::new(), Duration::from_secs(20)).await;
        assert!(read.is_ok(), "somebody waits for it: {read:?}");
        field.pressure.set(Pressure::Extreme);
        let read = field.fleet.read(MeterId(11), Vec::new(), Duration::from_secs(20)).await;
        let shed = matches!(
            &read,
            Err(ReadFailure::Missed {
                reason: MissReason::Overload,
                ..
            })
        );
        assert!(shed, "{read:?}");
        field.pressure.set(Pressure::None);
        field.clock.until(240).await;
        let ends = field.books.audit(&field.meters(), &field.world, at(0), at(235));
        assert_actual(&ends, |slot| slot.2 < at(61) || slot.2 > at(122));
        let under = tally(&ends, |slot| slot.2 > at(61) && slot.2 < at(119));
        assert_eq!(
            under.keys().collect::<Vec<_>>(),
            [&("missing", "overload")],
            "{under:?}"
        );
    });
}

#[test]
fn who_connects_again_and_again_is_refused_and_its_session_stays() {
    virtually(|| async {
        let field = Field::new(vec![dtu(1, 1)]).await;
        field.begin().await;
        let mut last = None;
        for _ in 0..15 {
            let (link, admission) = field.connect("SN-1").await;
            assert!(matches!(admission, Admission::Owner(_)), "{admission:?}");
            last = Some(link);
        }
        let (_, refused) = field.connect("SN-1").await;
        assert!(matches!(refused, Admission::Refused(EndCause::Flapping)), "{refused:?}");
        let live = &field.fleet.live(&[DtuId(1)]).await[0];
        assert!(
            live.online && live.banned_until.is_some() && !live.clone_suspected,
            "{live:?}"
        );
        assert_eq!(last.unwrap().closed(), None);
        tokio::time::sleep(Duration::from_secs(301)).await;
        let (_, admission) = field.connect("SN-1").await;
        assert!(matches!(admission, Admission::Owner(_)), "{admission:?}");
        assert_eq!(field.fleet.live(&[DtuId(1)]).await[0].banned_until, None);
    });
}

#[test]
fn take_overs_between_two_addresses_look_like_a_clone() {
    virtually(|| async {
        let field = Field::new(vec![dtu(1, 1)]).await;
        for turn in 0..6 {
            assert!(!field.fleet.live(&[DtuId(1)]).await[0].clone_suspected, "{turn}");
            field.connect_from("SN-1", 1 + turn % 2).await;
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        assert!(field.fleet.live(&[DtuId(1)]).await[0].clone_suspected);
        tokio::time::sleep(Duration::from_secs(700)).await;
        assert!(
            !field.fleet.live(&[DtuId(1)]).await[0].clone_suspected,
            "nothing more happened"
        );
    });
}
