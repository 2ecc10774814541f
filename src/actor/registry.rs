//! The registry actor: SN → DTU → account, who owns a session, quarantine. Newest session wins.
//!
//! What it decides sits in [`Admissions`]; this shell holds records, talks to shards and writes session history.

mod handlers;

use crate::actor::messages::{
    CloseSessions, Connected, Ended, GetCounts, GetLines, GetLive, GetQuarantine, Introduce, KeepReport, LineNow,
    PlaceDtu, ReplaceDirectory, SessionDown, SessionUp, UpdateDtu,
};
use crate::actor::session_log::SessionLog;
use crate::actor::shard::Shard;
use crate::base::clock::Clock;
use crate::base::hex;
use crate::base::ids::{AccountId, ConnectionId, DtuId, GrowingIds, MeterId, SessionId};
use crate::domain::device::{Connect, DtuRecord};
use crate::exchange::admission::{Admissions, FlapLimits, Introduced, Live};
use crate::port::field::{Admission, EndCause, Link, LinkStats, Owner, ReportKept, ReportLost};
use crate::port::fleet::{DtuLive, FleetCounts, QuarantineEntry};
use crate::port::ledger::SessionRow;
use crate::port::live::{LiveFeed, Topic};
use crate::telemetry::actor::{
    ACTORS, DTUS, DTUS_ONLINE, METERS, QUARANTINED, QuarantineRefused, SessionRefusedFlapping, SessionTakenOver,
};
use actix::{Actor, Addr, AsyncContext, Context, Handler, MessageResult, ResponseFuture};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// A waiting socket may stay silent for this long.
const QUARANTINE_SILENCE: Duration = Duration::from_secs(600);
const QUARANTINE_LIST_MAX: usize = 10_000;
/// Who loses a meter ends its slots this far ahead, so that nobody has taken a later one.
const HANDOVER: TimeDelta = TimeDelta::seconds(2);
/// Meters that are remembered as gone; more are forgotten all at once.
const LEFT_MAX: usize = 1_000_000;

type LinkRef = Arc<dyn Link>;

/// A session as the registry remembers it.
struct Session {
    id: SessionId,
    dtu: DtuId,
    account: AccountId,
    peer: String,
    began_at: chrono::DateTime<chrono::Utc>,
}

/// What the registry is built of.
pub struct RegistryParts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where session history goes.
    pub log: SessionLog,
    /// Where happenings are shown.
    pub live: Arc<dyn LiveFeed>,
    /// Shards; a DTU lives on one of them by hash.
    pub shards: Vec<Addr<Shard>>,
    /// SNs that may wait.
    pub quarantine_max: usize,
    /// How often an SN may connect.
    pub flap: FlapLimits,
}

/// The actor.
pub struct Registry {
    parts: RegistryParts,
    book: Admissions<LinkRef>,
    records: HashMap<DtuId, Arc<DtuRecord>>,
    sessions: HashMap<ConnectionId, Session>,
    /// Until when the DTU that meters have left answers for them. One that comes back is not new.
    left: HashMap<MeterId, DateTime<Utc>>,
    ids: GrowingIds,
    meters: usize,
}

/// The shard of a DTU: a multiplicative hash, so that ids in a row spread evenly.
pub fn shard_of(dtu: DtuId, shards: usize) -> usize {
    let hash = dtu.0.unsigned_abs().wrapping_mul(2_654_435_769) >> 8;
    usize::try_from(hash).unwrap_or(0).checked_rem(shards).unwrap_or(0)
}

impl Registry {
    /// An empty registry; the directory comes by [`ReplaceDirectory`].
    pub fn new(parts: RegistryParts) -> Self {
        let ids = GrowingIds::starting_at(parts.clock.now());
        let book = Admissions::new(parts.quarantine_max).with_flap_limits(parts.flap);
        Self {
            parts,
            book,
            records: HashMap::new(),
            sessions: HashMap::new(),
            left: HashMap::new(),
            ids,
            meters: 0,
        }
    }

    fn shard(&self, dtu: DtuId) -> Option<&Addr<Shard>> {
        self.parts.shards.get(shard_of(dtu, self.parts.shards.len()))
    }

    /// Makes the connection the DTU's session and tells everybody concerned.
    fn begin_session(&mut self, dtu: DtuId, connection: ConnectionId, peer: String, link: LinkRef) -> Option<Owner> {
        let record = self.records.get(&dtu)?;
        let owner = owner_of(SessionId(self.ids.take()), record);
        let session = Session {
            id: owner.session,
            dtu,
            account: owner.account,
            peer,
            began_at: self.parts.clock.now(),
        };
        let row = row_of(&session, None, LinkStats::default());
        self.show(&session, "up", None);
        self.parts.log.save(row);
        self.sessions.insert(connection, session);
        if let Some(shard) = self.shard(dtu) {
            shard.do_send(SessionUp { dtu, connection, link });
        }
        self.gauges();
        Some(owner)
    }

    fn admit(
        &mut self,
        introduced: Introduced<LinkRef>,
        connection: ConnectionId,
        peer: String,
        link: LinkRef,
    ) -> Admission {
        match introduced {
            Introduced::Full => {
                QuarantineRefused.emit();
                Admission::Refused(EndCause::QuarantineFull)
            }
            Introduced::Banned { dtu, until, begun } => {
                SessionRefusedFlapping {
                    dtu: dtu.map(|dtu| dtu.0),
                    begun,
                }
                .emit();
                if let Some(record) = dtu.filter(|_| begun).and_then(|dtu| self.records.get(&dtu)) {
                    self.warn(record, "flapping", &peer, Some(until));
                }
                Admission::Refused(EndCause::Flapping)
            }
            Introduced::Waits { replaced } => {
                if let Some(older) = replaced {
                    older.close(EndCause::Replaced);
                }
                self.gauges();
                Admission::Quarantined {
                    silence: QUARANTINE_SILENCE,
                }
            }
            Introduced::Owner {
                dtu,
                replaced,
                clone_suspected,
            } => {
                if let Some(older) = replaced {
                    SessionTakenOver {
                        dtu: dtu.0,
                        clone_suspected,
                    }
                    .emit();
                    if let Some(record) = self.records.get(&dtu).filter(|_| clone_suspected) {
                        self.warn(record, "clone_suspected", &peer, None);
                    }
                    self.close_session(&older, EndCause::Replaced);
                }
                match self.begin_session(dtu, connection, peer, link) {
                    Some(owner) => Admission::Owner(owner),
                    None => Admission::Refused(EndCause::Disabled),
                }
            }
        }
    }

    /// Ends a session from our side: its row is written now, with the counters of now.
    fn close_session(&mut self, live: &Live<LinkRef>, cause: EndCause) {
        if let Some(session) = self.sessions.remove(&live.connection) {
            self.end_row(&session, cause, live.handle.stats());
        }
        live.handle.close(cause);
    }

    fn end_row(&mut self, session: &Session, cause: EndCause, stats: LinkStats) {
        let heartbeats = stats.learned.heartbeats_hex.iter();
        self.book
            .heard(session.dtu, heartbeats.filter_map(|package| hex::decode(package).ok()));
        self.show(session, "down", Some(cause));
        self.parts.log.save(row_of(
            session,
            Some((self.parts.clock.now(), cause.as_str().to_owned())),
            stats,
        ));
    }

    fn show(&self, session: &Session, state: &str, cause: Option<EndCause>) {
        let data = serde_json::json!({
            "dtu_id": session.dtu, "session_id": session.id, "state": state, "peer": session.peer,
            "cause": cause, "at": self.parts.clock.now(),
        });
        self.parts
            .live
            .publish(session.account, Topic::Sessions, Some(session.dtu), None, data);
    }

    /// Shows something about a DTU's sessions that somebody should look at.
    fn warn(&self, record: &DtuRecord, what: &str, peer: &str, until: Option<DateTime<Utc>>) {
        let data = serde_json::json!({
            "dtu_id": record.id, "state": what, "peer": peer, "until": until, "at": self.parts.clock.now(),
        });
        self.parts
            .live
            .publish(record.account, Topic::Sessions, Some(record.id), None, data);
    }

    /// Takes a record in. Answers what has to be told to the shard.
    fn place(&mut self, record: DtuRecord) -> PlaceDtu {
        let dtu = record.id;
        let record = Arc::new(record);
        let old = self.records.insert(dtu, Arc::clone(&record));
        self.meters = self.meters + record.meters.len() - old.as_ref().map_or(0, |old| old.meters.len());
        let moved = old
            .as_ref()
            .is_some_and(|old| old.connect != record.connect || old.sn != record.sn);
        if (moved || !record.enabled)
            && let Some(live) = self.book.live(dtu).cloned()
        {
            self.close_session(&live, EndCause::Disabled);
            self.book.ended(live.connection, self.parts.clock.now());
            self.tell_down(dtu, live.connection);
        } else if old.as_ref().is_some_and(|old| manners(old) != manners(&record))
            && let Some(live) = self.book.live(dtu)
            && let Some(session) = self.sessions.get(&live.connection)
        {
            // they count for the present session already
            live.handle.adopt(owner_of(session.id, &record));
        }
        let stay: HashSet<MeterId> = record.meters.iter().map(|meter| meter.id).collect();
        let moved = stay
            .iter()
            .filter_map(|id| Some((*id, self.left.remove(id)?)))
            .collect();
        let until = self.handover();
        let gone = old.iter().flat_map(|old| &old.meters).map(|meter| meter.id);
        self.leave(gone.filter(|id| !stay.contains(id)), until);
        if !matches!(record.connect, Connect::Inbound) {
            // its shard dials as soon as it has the record, and may be through before every shard was told
            let _nobody_waits = self.book.know(dtu, None, self.parts.clock.now());
        }
        PlaceDtu {
            dtu,
            record: Some(record),
            until,
            moved,
        }
    }

    fn homes(&self) -> impl Iterator<Item = (MeterId, DtuId)> {
        let records = self.records.values();
        records.flat_map(|dtu| dtu.meters.iter().map(|meter| (meter.id, dtu.id)))
    }

    fn handover(&self) -> DateTime<Utc> {
        let now = self.parts.clock.now();
        now.checked_add_signed(HANDOVER).unwrap_or(now)
    }

    fn leave(&mut self, meters: impl Iterator<Item = MeterId>, until: DateTime<Utc>) {
        if self.left.len() > LEFT_MAX {
            self.left.clear();
        }
        self.left.extend(meters.map(|meter| (meter, until)));
    }

    /// After the shard knows the record: a waiting socket with its SN is adopted.
    fn adopt(&mut self, dtu: DtuId) {
        let Some(record) = self.records.get(&dtu) else { return };
        let inbound = matches!(record.connect, Connect::Inbound);
        let sn = if record.enabled && inbound {
            record.sn.clone()
        } else {
            None
        };
        let (now, heartbeats) = (self.parts.clock.now(), record.heartbeats.clone());
        let waiting = self.book.know(dtu, sn, now);
        self.book.heard(dtu, heartbeats);
        if let Some(live) = waiting {
            let handle = Arc::clone(&live.handle);
            match self.begin_session(dtu, live.connection, live.peer, Arc::clone(&handle)) {
                Some(owner) => handle.adopt(owner),
                None => handle.close(EndCause::Disabled),
            }
        }
    }

    fn remove(&mut self, dtu: DtuId) -> PlaceDtu {
        let until = self.handover();
        if let Some(old) = self.records.remove(&dtu) {
            self.meters -= old.meters.len();
            self.leave(old.meters.iter().map(|meter| meter.id), until);
        }
        if let Some(live) = self.book.forget(dtu) {
            self.close_session(&live, EndCause::Disabled);
            self.tell_down(dtu, live.connection);
        }
        PlaceDtu {
            dtu,
            record: None,
            until,
            moved: Vec::new(),
        }
    }

    fn tell_down(&self, dtu: DtuId, connection: ConnectionId) {
        if let Some(shard) = self.shard(dtu) {
            shard.do_send(SessionDown { dtu, connection });
        }
    }

    fn gauges(&self) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        DTUS.set(number(self.records.len()));
        DTUS_ONLINE.set(number(self.book.sessions_len()));
        METERS.set(number(self.meters));
        QUARANTINED.set(number(self.book.waiting_len()));
    }
}

/// What of a record a session goes by.
fn manners(record: &DtuRecord) -> (u32, u32, Option<&str>) {
    (record.silence_s, record.pause_ms, record.profile.as_deref())
}

fn owner_of(session: SessionId, record: &DtuRecord) -> Owner {
    Owner {
        session,
        dtu: record.id,
        account: record.account,
        silence: Duration::from_secs(record.silence_s.max(1).into()),
        pause: Duration::from_millis(record.pause_ms.into()),
        profile: record.profile.clone(),
    }
}

fn row_of(session: &Session, ended: Option<(chrono::DateTime<chrono::Utc>, String)>, stats: LinkStats) -> SessionRow {
    SessionRow {
        session: session.id,
        dtu: session.dtu,
        account: session.account,
        peer: session.peer.clone(),
        began_at: session.began_at,
        ended,
        stats,
    }
}
