//! The audit chain with its checkpoints outside the database: what was edited, removed or cut off is found.

use crate::harness::db::TestDb;
use chrono::{TimeDelta, TimeZone, Utc};
use polyphase::app::audit::{self, Keeper};
use polyphase::base::clock::ManualClock;
use polyphase::port::audit::{ChainFault, ChainHead, Checkpoint};
use polyphase::store::audit_chain::AuditChain;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

struct World {
    db: TestDb,
    chain: AuditChain,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let db = TestDb::new().await;
        db.sql("INSERT INTO account (name, created_at) VALUES ('a', now())")
            .await;
        Self {
            chain: AuditChain::new(db.database()),
            clock: Arc::new(ManualClock::new(
                Utc.with_ymd_and_hms(2026, 3, 2, 12, 0, 0).single().unwrap(),
            )),
            folder: tempfile::tempdir().unwrap(),
            db,
        }
    }

    fn keeper(&self) -> Keeper {
        Keeper::open(self.chain.clone(), self.folder.path(), self.clock.clone()).unwrap()
    }

    fn path(&self) -> PathBuf {
        audit::file(self.folder.path())
    }

    fn checkpoints(&self) -> Vec<Checkpoint> {
        audit::read(&self.path()).unwrap()
    }

    fn noted(&self) -> Vec<i64> {
        self.checkpoints().iter().map(|checkpoint| checkpoint.id).collect()
    }

    async fn append(&self, count: u32) {
        self.db
            .sql(&format!(
                "SELECT audit_append(1, now() + g * interval '1 s', 'ann@example.org', 'dtu.update', 'dtu/' || g,
                                     jsonb_build_object('name', g)) FROM generate_series(1, {count}) g"
            ))
            .await;
    }

    async fn verify(&self) -> Result<Option<ChainHead>, ChainFault> {
        self.chain.verify(&self.checkpoints()).await.unwrap()
    }

    /// What a verification finds when somebody with all rights did this; undone afterwards.
    async fn after(&self, deed: &str) -> Result<i64, ChainFault> {
        self.db.sql("CREATE TABLE kept AS TABLE audit").await;
        self.db.sql(deed).await;
        let found = self.verify().await;
        self.db
            .sql("TRUNCATE audit; INSERT INTO audit SELECT * FROM kept; DROP TABLE kept")
            .await;
        found.map(|head| head.map_or(0, |head| head.id))
    }
}

/// Fits a row to its content again, as somebody would who knows how.
const RESEAL: &str = "hash = audit_digest(prev_hash, id, account_id, at, actor, action, object, detail)";

#[tokio::test]
async fn what_was_edited_removed_or_cut_off_is_found() {
    let world = World::new().await;
    let mut keeper = world.keeper();
    world.append(6).await;
    keeper.tick(false).await;
    world.append(6).await;
    keeper.tick(true).await;
    assert_eq!(world.noted(), [6, 12]);
    assert_eq!(world.verify().await.unwrap().unwrap().id, 12);

    for (deed, found) in [
        (
            "UPDATE audit SET actor = 'bob@example.org' WHERE id = 4",
            ChainFault::Edited { id: 4 },
        ),
        (
            "UPDATE audit SET detail = '{}' WHERE id = 12",
            ChainFault::Edited { id: 12 },
        ),
        (
            "UPDATE audit SET at = at - interval '1 h' WHERE id = 1",
            ChainFault::Edited { id: 1 },
        ),
        (
            "UPDATE audit SET account_id = NULL WHERE id = 5",
            ChainFault::Edited { id: 5 },
        ),
        ("DELETE FROM audit WHERE id = 4", ChainFault::Removed { id: 4 }),
        ("DELETE FROM audit WHERE id = 1", ChainFault::Removed { id: 1 }),
        // closed up behind it
        (
            "DELETE FROM audit WHERE id = 4; UPDATE audit SET id = -id WHERE id > 4; UPDATE audit SET id = -id - 1 WHERE id < 0",
            ChainFault::Edited { id: 4 },
        ),
        (
            "DELETE FROM audit WHERE id > 9",
            ChainFault::Truncated { id: 9, known: 12 },
        ),
        (
            "DELETE FROM audit WHERE id = 12",
            ChainFault::Truncated { id: 11, known: 12 },
        ),
        ("DELETE FROM audit", ChainFault::Truncated { id: 0, known: 12 }),
    ] {
        assert_eq!(world.after(deed).await, Err(found), "{deed}");
    }
    // with a hash that fits: the neighbour tells
    let resealed = format!("UPDATE audit SET actor = 'x' WHERE id = 4; UPDATE audit SET {RESEAL} WHERE id = 4");
    assert_eq!(world.after(&resealed).await, Err(ChainFault::Edited { id: 5 }));
    // the last entry has no neighbour: the checkpoint tells
    let last = format!("UPDATE audit SET actor = 'x' WHERE id = 12; UPDATE audit SET {RESEAL} WHERE id = 12");
    assert_eq!(world.after(&last).await, Err(ChainFault::Rewritten { id: 12 }));
    // cut off and grown anew
    let regrown = "DELETE FROM audit WHERE id > 9;
                   SELECT audit_append(1, now(), 'x', 'y', 'z', '{}') FROM generate_series(1, 20)";
    assert_eq!(world.after(regrown).await, Err(ChainFault::Rewritten { id: 12 }));
    assert_eq!(world.verify().await.unwrap().unwrap().id, 12, "all was undone");
}

#[tokio::test]
async fn checkpoints_are_written_every_minute_or_thousand_entries() {
    let world = World::new().await;
    let mut keeper = world.keeper();
    keeper.tick(true).await;
    assert_eq!(world.noted(), [0i64; 0], "there is nothing to note");
    world.append(1).await;
    keeper.tick(false).await;
    world.append(998).await;
    keeper.tick(false).await;
    world.clock.advance(Duration::from_secs(59));
    keeper.tick(false).await;
    assert_eq!(world.noted(), [1]);
    world.append(2).await;
    keeper.tick(false).await;
    assert_eq!(world.noted(), [1, 1001], "a thousand");
    world.append(1).await;
    world.clock.advance(Duration::from_secs(61));
    // set back an hour: durations do not care
    world
        .clock
        .step_to(polyphase::base::clock::Clock::now(&*world.clock) - TimeDelta::hours(1));
    keeper.tick(false).await;
    keeper.tick(false).await;
    assert_eq!(world.noted(), [1, 1001, 1002], "a minute, once");

    // a crash tore the last line; the next process goes on behind what is whole
    drop(keeper);
    let mut file = std::fs::OpenOptions::new().append(true).open(world.path()).unwrap();
    file.write_all(b"{\"id\":1003,\"ha").unwrap();
    assert_eq!(world.noted(), [1, 1001, 1002]);
    let mut keeper = world.keeper();
    world.append(1).await;
    keeper.tick(false).await;
    assert_eq!(world.noted(), [1, 1001, 1002, 1003]);
    assert_eq!(world.verify().await.unwrap().unwrap().id, 1003);

    // a chain that was cut while the server runs gets no new checkpoint over the old one
    world.db.sql("DELETE FROM audit WHERE id > 1000").await;
    keeper.tick(true).await;
    assert_eq!(world.noted(), [1, 1001, 1002, 1003]);
    assert_eq!(
        world.verify().await,
        Err(ChainFault::Truncated { id: 1000, known: 1003 })
    );
}
