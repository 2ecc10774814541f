//! Who owns an SN's session, and who waits in quarantine. The registry actor wraps it; `H` is its way to a connection.
//!
//! Rules: the newest session wins and the older one is told why; an unknown SN waits in bounded quarantine and is never
//! created; the oldest waiting SN without an open socket is forgotten first when quarantine is full. Who connects again
//! and again within a minute is refused for a while; who is taken over again and again from elsewhere may have a clone.

use crate::base::ids::{ConnectionId, DtuId};
use crate::domain::device::SerialNumber;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// A live session.
#[derive(Clone, Debug)]
pub struct Live<H> {
    /// Its connection.
    pub connection: ConnectionId,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Where it comes from.
    pub peer: String,
    /// The way to it.
    pub handle: H,
}

/// A known DTU, with or without a session.
#[derive(Clone, Debug)]
struct Known<H> {
    sn: Option<SerialNumber>,
    live: Option<Live<H>>,
    offline_since: Option<DateTime<Utc>>,
    take_overs: VecDeque<TakeOver>,
    flap: Flap,
    /// Heartbeat packages of earlier sessions.
    heartbeats: Vec<Vec<u8>>,
}

/// A live session was replaced.
#[derive(Clone, Copy, Debug)]
struct TakeOver {
    at: DateTime<Utc>,
    /// The addresses of the old and the new one, without their ports.
    from: Option<IpAddr>,
    to: Option<IpAddr>,
}

/// How often an SN may connect, and for how long it is refused when it connects more often.
#[derive(Clone, Copy, Debug)]
pub struct FlapLimits {
    /// Connects within a minute that are borne; 0: any number.
    pub connects_per_min: u32,
    /// Seconds for which it is refused then.
    pub ban_s: u32,
}

impl Default for FlapLimits {
    fn default() -> Self {
        Self {
            connects_per_min: 15,
            ban_s: 300,
        }
    }
}

/// How often an SN connected of late.
#[derive(Clone, Copy, Debug, Default)]
struct Flap {
    /// Each connect moves it on by its share of a minute; a minute ahead of now is too much.
    due: Option<DateTime<Utc>>,
    banned_until: Option<DateTime<Utc>>,
}

impl Flap {
    fn ban(&self, now: DateTime<Utc>, limits: FlapLimits) -> Option<DateTime<Utc>> {
        // a wall clock that was set back must not make a ban longer
        let longest = now.checked_add_signed(TimeDelta::seconds(limits.ban_s.into()))?;
        self.banned_until.filter(|until| *until > now && *until <= longest)
    }

    /// Counts a connect. The end of the ban, and whether it began now.
    fn connect(&mut self, now: DateTime<Utc>, limits: FlapLimits) -> Option<(DateTime<Utc>, bool)> {
        if limits.connects_per_min == 0 {
            return None;
        }
        if let Some(until) = self.ban(now, limits) {
            return Some((until, false));
        }
        let minute = TimeDelta::minutes(1);
        let due = self
            .due
            .filter(|due| *due > now && *due - now <= minute)
            .unwrap_or(now)
            .checked_add_signed(minute / i32::try_from(limits.connects_per_min).unwrap_or(i32::MAX))?;
        if due - now <= minute {
            self.due = Some(due);
            return None;
        }
        self.due = None;
        self.banned_until = now.checked_add_signed(TimeDelta::seconds(limits.ban_s.into()));
        self.banned_until.map(|until| (until, true))
    }
}

/// An unknown SN.
#[derive(Clone, Debug)]
pub struct Waiting<H> {
    /// First seen.
    pub first_seen: DateTime<Utc>,
    /// Last seen.
    pub last_seen: DateTime<Utc>,
    /// Connections so far.
    pub connections: u32,
    /// Where the last one came from.
    pub peer: String,
    /// Its first bytes, at most 64.
    pub first_bytes: Vec<u8>,
    /// The open socket, if there is one.
    pub open: Option<(ConnectionId, H)>,
    flap: Flap,
}

/// What came of an introduction.
#[derive(Debug)]
pub enum Introduced<H> {
    /// The DTU's session; `replaced` has to be closed. `clone_suspected`: it was taken over again and again.
    Owner {
        /// The DTU.
        dtu: DtuId,
        /// The session that it takes over.
        replaced: Option<Live<H>>,
        /// Taken over at least [`CLONE_TAKE_OVERS`] times within [`CLONE_WINDOW_S`], from more than one address.
        clone_suspected: bool,
    },
    /// It connected too often; refused. `begun`: from now on.
    Banned {
        /// The DTU, if the SN is known.
        dtu: Option<DtuId>,
        /// Until when.
        until: DateTime<Utc>,
        /// With this connection.
        begun: bool,
    },
    /// Unknown: it waits; `replaced` is an older waiting socket with the same SN, to be closed.
    Waits {
        /// The older socket.
        replaced: Option<H>,
    },
    /// Quarantine is full of open sockets.
    Full,
}

/// Take-overs of a live session within the window that look like two devices with one SN.
pub const CLONE_TAKE_OVERS: usize = 5;
/// The window, seconds.
pub const CLONE_WINDOW_S: i64 = 600;
const FIRST_BYTES_MAX: usize = 64;
/// A single byte says too little to be split off a serial number.
const HEARTBEAT_LEN_MIN: usize = 2;
const HEARTBEATS_MAX: usize = 4;

/// The book.
#[derive(Debug)]
pub struct Admissions<H> {
    dtus: HashMap<DtuId, Known<H>>,
    by_sn: HashMap<SerialNumber, DtuId>,
    by_connection: HashMap<ConnectionId, DtuId>,
    waiting: HashMap<SerialNumber, Waiting<H>>,
    waiting_max: usize,
    flap_limits: FlapLimits,
}

impl<H> Known<H> {
    fn clone_suspected(&self, now: DateTime<Utc>) -> bool {
        let lately = |over: &&TakeOver| (now - over.at).num_seconds() <= CLONE_WINDOW_S;
        let take_overs = self.take_overs.iter().filter(lately);
        // one that comes back to its own half-open session comes from where it came from
        let elsewhere = take_overs.clone().any(|over| over.from != over.to);
        take_overs.count() >= CLONE_TAKE_OVERS && elsewhere
    }
}

/// The address of a peer without its port, which is another with each connection.
fn address(peer: &str) -> Option<IpAddr> {
    let socket = peer.parse::<SocketAddr>().map(|peer| peer.ip());
    socket.or_else(|_| peer.parse()).ok()
}

impl<H: Clone> Admissions<H> {
    /// An empty book; at most `waiting_max` SNs in quarantine.
    pub fn new(waiting_max: usize) -> Self {
        Self {
            dtus: HashMap::new(),
            by_sn: HashMap::new(),
            by_connection: HashMap::new(),
            waiting: HashMap::new(),
            waiting_max,
            flap_limits: FlapLimits::default(),
        }
    }

    /// With these limits of connecting.
    #[must_use]
    pub fn with_flap_limits(mut self, limits: FlapLimits) -> Self {
        self.flap_limits = limits;
        self
    }

    /// A DTU of the directory, new or changed. Answers a waiting socket with its SN, which is the DTU's from now on.
    pub fn know(&mut self, dtu: DtuId, sn: Option<SerialNumber>, now: DateTime<Utc>) -> Option<Live<H>> {
        let known = self.dtus.entry(dtu).or_insert_with(|| Known {
            sn: None,
            live: None,
            offline_since: None,
            take_overs: VecDeque::new(),
            flap: Flap::default(),
            heartbeats: Vec::new(),
        });
        if known.sn != sn {
            if let Some(old) = known.sn.take() {
                self.by_sn.remove(&old);
            }
            known.sn.clone_from(&sn);
        }
        let sn = sn?;
        self.by_sn.insert(sn.clone(), dtu);
        let waiting = self.waiting.remove(&sn)?;
        let (connection, handle) = waiting.open?;
        let live = Live {
            connection,
            since: now,
            peer: waiting.peer,
            handle,
        };
        known.live = Some(live.clone());
        known.offline_since = None;
        self.by_connection.insert(connection, dtu);
        Some(live)
    }

    /// A DTU is gone from the directory (or disabled); answers its session, which has to be closed.
    pub fn forget(&mut self, dtu: DtuId) -> Option<Live<H>> {
        let known = self.dtus.remove(&dtu)?;
        if let Some(sn) = known.sn {
            self.by_sn.remove(&sn);
        }
        if let Some(live) = &known.live {
            self.by_connection.remove(&live.connection);
        }
        known.live
    }

    /// Heartbeats that a DTU sent. When a fleet comes back at once, some say their SN and a heartbeat in one breath.
    pub fn heard(&mut self, dtu: DtuId, heartbeats: impl IntoIterator<Item = Vec<u8>>) {
        let Some(known) = self.dtus.get_mut(&dtu) else { return };
        for package in heartbeats {
            if package.len() >= HEARTBEAT_LEN_MIN && !known.heartbeats.contains(&package) {
                known.heartbeats.push(package);
            }
        }
        let older = known.heartbeats.len().saturating_sub(HEARTBEATS_MAX);
        known.heartbeats.drain(..older);
    }

    /// The DTU of this SN, or of its front when the rest is nothing but that DTU's own heartbeats. Another DTU can hold
    /// the whole text as its SN: then it is that one.
    fn owner_of(&self, sn: &SerialNumber) -> Option<DtuId> {
        if let Some(dtu) = self.by_sn.get(sn) {
            return Some(*dtu);
        }
        let text = sn.as_str();
        (1..text.len()).rev().find_map(|len| {
            let (front, rest) = text.split_at_checked(len)?;
            let dtu = *self.by_sn.get(&SerialNumber::parse(front).ok()?)?;
            let own = &self.dtus.get(&dtu)?.heartbeats;
            let is_heartbeats = |one: &Vec<u8>| rest.as_bytes().chunks(one.len()).all(|chunk| chunk == one);
            own.iter().any(is_heartbeats).then_some(dtu)
        })
    }

    /// A connection said its SN.
    pub fn introduce(
        &mut self,
        sn: &SerialNumber,
        connection: ConnectionId,
        peer: String,
        first_bytes: &[u8],
        handle: H,
        now: DateTime<Utc>,
    ) -> Introduced<H> {
        if let Some(dtu) = self.owner_of(sn) {
            let limits = self.flap_limits;
            let known = self.dtus.get_mut(&dtu);
            if let Some((until, begun)) = known.and_then(|known| known.flap.connect(now, limits)) {
                let dtu = Some(dtu);
                return Introduced::Banned { dtu, until, begun };
            }
            return self.own(
                dtu,
                Live {
                    connection,
                    since: now,
                    peer,
                    handle,
                },
                now,
            );
        }
        if let Some(waiting) = self.waiting.get_mut(sn) {
            waiting.last_seen = now;
            waiting.connections = waiting.connections.saturating_add(1);
            if let Some((until, begun)) = waiting.flap.connect(now, self.flap_limits) {
                return Introduced::Banned {
                    dtu: None,
                    until,
                    begun,
                };
            }
            waiting.peer = peer;
            let replaced = waiting.open.replace((connection, handle)).map(|(_, handle)| handle);
            return Introduced::Waits { replaced };
        }
        if self.waiting.len() >= self.waiting_max && !self.drop_oldest_closed() {
            return Introduced::Full;
        }
        let first_bytes = first_bytes.iter().copied().take(FIRST_BYTES_MAX).collect();
        let mut flap = Flap::default();
        let _first_is_borne = flap.connect(now, self.flap_limits);
        let open = Some((connection, handle));
        let waiting = Waiting {
            first_seen: now,
            last_seen: now,
            connections: 1,
            peer,
            first_bytes,
            open,
            flap,
        };
        self.waiting.insert(sn.clone(), waiting);
        Introduced::Waits { replaced: None }
    }

    /// A session for a known DTU: the newest wins. [`Introduced::Full`] when the DTU is not known.
    pub fn own(&mut self, dtu: DtuId, live: Live<H>, now: DateTime<Utc>) -> Introduced<H> {
        let Some(known) = self.dtus.get_mut(&dtu) else {
            return Introduced::Full;
        };
        self.by_connection.insert(live.connection, dtu);
        let to = address(&live.peer);
        let replaced = known.live.replace(live);
        known.offline_since = None;
        if let Some(old) = &replaced {
            self.by_connection.remove(&old.connection);
            let from = address(&old.peer);
            known.take_overs.push_back(TakeOver { at: now, from, to });
            while known.take_overs.len() > CLONE_TAKE_OVERS {
                known.take_overs.pop_front();
            }
        }
        let clone_suspected = replaced.is_some() && known.clone_suspected(now);
        Introduced::Owner {
            dtu,
            replaced,
            clone_suspected,
        }
    }

    /// Whether a DTU looks like two devices with one SN.
    pub fn clone_suspected(&self, dtu: DtuId, now: DateTime<Utc>) -> bool {
        self.dtus.get(&dtu).is_some_and(|known| known.clone_suspected(now))
    }

    /// Until when a DTU is refused, because it connected too often.
    pub fn banned_until(&self, dtu: DtuId, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.dtus.get(&dtu)?.flap.ban(now, self.flap_limits)
    }

    /// A connection is gone. Answers the DTU whose session it was, if it still was its session.
    pub fn ended(&mut self, connection: ConnectionId, now: DateTime<Utc>) -> Option<DtuId> {
        if let Some(dtu) = self.by_connection.remove(&connection) {
            let known = self.dtus.get_mut(&dtu)?;
            known.live = None;
            known.offline_since = Some(now);
            return Some(dtu);
        }
        for waiting in self.waiting.values_mut() {
            if waiting.open.as_ref().is_some_and(|(open, _)| *open == connection) {
                waiting.open = None;
                break;
            }
        }
        None
    }

    /// The session of a DTU.
    pub fn live(&self, dtu: DtuId) -> Option<&Live<H>> {
        self.dtus.get(&dtu)?.live.as_ref()
    }

    /// Since when a DTU is offline; none while it is online or was never seen.
    pub fn offline_since(&self, dtu: DtuId) -> Option<DateTime<Utc>> {
        self.dtus.get(&dtu)?.offline_since
    }

    /// Every known DTU.
    pub fn dtus(&self) -> impl Iterator<Item = DtuId> {
        self.dtus.keys().copied()
    }

    /// Every session.
    pub fn sessions(&self) -> impl Iterator<Item = (DtuId, &Live<H>)> {
        self.dtus
            .iter()
            .filter_map(|(dtu, known)| Some((*dtu, known.live.as_ref()?)))
    }

    /// How many sessions there are.
    pub fn sessions_len(&self) -> usize {
        self.by_connection.len()
    }

    /// How many SNs wait in quarantine.
    pub fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// The quarantine.
    pub fn waiting(&self) -> impl Iterator<Item = (&SerialNumber, &Waiting<H>)> {
        self.waiting.iter()
    }

    fn drop_oldest_closed(&mut self) -> bool {
        let oldest = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.open.is_none())
            .min_by_key(|(_, waiting)| waiting.last_seen)
            .map(|(sn, _)| sn.clone());
        oldest.is_some_and(|sn| self.waiting.remove(&sn).is_some())
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
