//! The registry: who owns a session, who waits, who is let go.

use super::books::{assert_actual, tally};
use super::field::{Field, at, dtu, virtually};
use polyphase::actor::messages::CloseSessions;
use polyphase::base::ids::{DtuId, MeterId};
use polyphase::domain::device::SerialNumber;
use polyphase::port::field::{Admission, EndCause};
use polyphase::port::fleet::Fleet;
use std::time::Duration;

#[test]
fn the_newest_session_wins_and_the_older_one_is_told_why() {
    virtually(|| async {
        let field = Field::new(vec![dtu(1, 2)]).await;
        let older = field.connect_all().await.remove(&DtuId(1)).unwrap();
        field.begin().await;
        field.clock.until(30).await;
        let (newer, admission) = field.connect("SN-1").await;
        assert!(matches!(admission, Admission::Owner(owner) if owner.dtu == DtuId(1)));
        assert_eq!(older.closed(), Some(EndCause::Replaced));
        let asked = older.polls().len();
        // its own end comes late and does not concern the newer one
        tokio::time::sleep(Duration::from_secs(40)).await;
        field.hang_up(&older, EndCause::Replaced);
        field.clock.until(60).await;
        let live = &field.fleet.live(&[DtuId(1)]).await[0];
        assert!(live.online && newer.closed().is_none());
        assert_eq!(older.polls().len(), asked);
        let ends = field.books.audit(&field.meters(), &field.world, at(0), at(55));
        assert_actual(&ends, |_| true);
        assert!(newer.polls().iter().all(|(when, _)| *when >= at(30)));
        assert_eq!(field.history.sessions(DtuId(1)), [Some("replaced".into()), None]);
    });
}

#[test]
fn an_unknown_sn_waits_until_it_is_adopted() {
    virtually(|| async {
        let field = Field::new(vec![dtu(1, 1)]).await;
        field.begin().await;
        let (stranger, admission) = field.connect("SN-2").await;
        assert!(matches!(admission, Admission::Quarantined { .. }), "{admission:?}");
        let (again, _) = field.connect("SN-2").await;
        assert_eq!(stranger.closed(), Some(EndCause::Replaced));
        let waiting = field.fleet.quarantine().await;
        assert_eq!(waiting.len(), 1);
        assert!(waiting[0].sn.as_str() == "SN-2" && waiting[0].connections == 2 && waiting[0].connected);
        for sn in ["X1", "X2"] {
            field.connect(sn).await;
        }
        let (_, full) = field.connect("X3").await;
        assert!(matches!(full, Admission::Refused(EndCause::QuarantineFull)), "{full:?}");

        field.clock.until(10).await;
        let mut claimed = dtu(2, 1);
        claimed.profile = Some("ascii+heartbeat=4842".into());
        for schedule in &mut claimed.meters[0].schedules {
            schedule.valid_from = at(10);
        }
        field.directory.0.lock().unwrap().insert(DtuId(2), claimed);
        field.fleet.reload(DtuId(2)).await;
        let owner = again.adopted.lock().unwrap()[0].clone();
        assert_eq!(
            (owner.dtu, owner.profile.as_deref()),
            (DtuId(2), Some("ascii+heartbeat=4842"))
        );
        assert_eq!(field.fleet.quarantine().await.len(), 2);
        field.clock.until(60).await;
        let ends = field.books.audit(&field.meters(), &field.world, at(0), at(55));
        assert_actual(&ends, |slot| slot.0 == MeterId(21));
        // settings that change later reach the live session
        field.edit(DtuId(2), |dtu| dtu.silence_s = 999).await;
        field.edit(DtuId(2), |dtu| dtu.timeout_ms = 1001).await;
        let adopted = again.adopted.lock().unwrap().clone();
        assert_eq!(adopted.len(), 2);
        assert_eq!((adopted[1].silence.as_secs(), adopted[1].session), (999, owner.session));
    });
}

#[test]
fn a_dtu_that_is_disabled_or_renamed_is_let_go() {
    virtually(|| async {
        let field = Field::new((1..=2).map(|id| dtu(id, 1)).collect()).await;
        let links = field.connect_all().await;
        field.begin().await;
        field.clock.until(31).await;
        field.edit(DtuId(1), |dtu| dtu.enabled = false).await;
        assert_eq!(links[&DtuId(1)].closed(), Some(EndCause::Disabled));
        let (knocking, admission) = field.connect("SN-1").await;
        assert!(!matches!(admission, Admission::Owner(_)), "{admission:?}");
        let renamed = SerialNumber::parse("NEW-2").unwrap();
        field.edit(DtuId(2), |dtu| dtu.sn = Some(renamed)).await;
        assert_eq!(links[&DtuId(2)].closed(), Some(EndCause::Disabled));
        let (_, admission) = field.connect("NEW-2").await;
        assert!(matches!(admission, Admission::Owner(_)), "{admission:?}");
        field.clock.until(61).await;
        let ends = field.books.audit(&field.meters(), &field.world, at(0), at(55));
        let off = tally(&ends, |slot| slot.0 == MeterId(11) && slot.2 > at(31));
        assert_eq!(off.keys().collect::<Vec<_>>(), [&("missing", "dtu_offline")], "{off:?}");
        assert_actual(&ends, |slot| slot.0 == MeterId(21));
        // who still knocks is taken when it is enabled again
        field.edit(DtuId(1), |dtu| dtu.enabled = true).await;
        assert_eq!(knocking.adopted.lock().unwrap().len(), 1);
        assert!(field.fleet.live(&[DtuId(1)]).await[0].online);

        let closed = field.fleet.registry.send(CloseSessions).await.unwrap();
        assert_eq!((closed, knocking.closed()), (2, Some(EndCause::Shutdown)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(
            field.history.sessions(DtuId(1)),
            [Some("disabled".into()), Some("shutdown".into())]
        );
        assert_eq!(
            field.history.sessions(DtuId(2)),
            [Some("disabled".into()), Some("shutdown".into())]
        );
    });
}
