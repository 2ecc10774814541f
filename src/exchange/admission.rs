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
mod tests {
    use super::*;

    fn sn(text: &str) -> SerialNumber {
        SerialNumber::parse(text).unwrap()
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn introduce(book: &mut Admissions<u32>, text: &str, connection: u64, second: i64) -> Introduced<u32> {
        let handle = u32::try_from(connection).unwrap();
        book.introduce(
            &sn(text),
            ConnectionId(connection),
            format!("10.0.0.{}:{}", 1 + connection % 2, 1000 + connection),
            b"first",
            handle,
            at(second),
        )
    }

    #[test]
    fn the_newest_session_wins_and_the_end_of_the_old_one_changes_nothing() {
        let mut book = Admissions::new(10);
        assert!(book.know(DtuId(1), Some(sn("A1")), at(0)).is_none());
        assert!(matches!(
            introduce(&mut book, "A1", 1, 1),
            Introduced::Owner { replaced: None, .. }
        ));
        let Introduced::Owner {
            dtu,
            replaced: Some(old),
            clone_suspected,
        } = introduce(&mut book, "A1", 2, 2)
        else {
            panic!("the second socket must take over");
        };
        assert_eq!(
            (dtu, old.connection, clone_suspected),
            (DtuId(1), ConnectionId(1), false)
        );
        assert_eq!(book.ended(ConnectionId(1), at(3)), None);
        assert_eq!(book.live(DtuId(1)).unwrap().connection, ConnectionId(2));
        assert_eq!(book.ended(ConnectionId(2), at(4)), Some(DtuId(1)));
        assert_eq!(book.offline_since(DtuId(1)), Some(at(4)));
    }

    #[test]
    fn repeated_take_overs_look_like_a_clone() {
        let mut book = Admissions::new(10);
        book.know(DtuId(1), Some(sn("A1")), at(0));
        let mut suspected = Vec::new();
        for connection in 1..=7 {
            if let Introduced::Owner { clone_suspected, .. } = introduce(&mut book, "A1", connection, 1) {
                suspected.push(clone_suspected);
            }
        }
        assert_eq!(suspected, [false, false, false, false, false, true, true]);
        assert!(matches!(
            introduce(&mut book, "A1", 8, 2000),
            Introduced::Owner {
                clone_suspected: false,
                ..
            }
        ));
    }

    #[test]
    fn one_that_comes_back_from_the_same_address_is_no_clone() {
        let mut book = Admissions::new(10);
        book.know(DtuId(1), Some(sn("A1")), at(0));
        for connection in (2..=20).step_by(2) {
            introduce(&mut book, "A1", connection, 6 * i64::try_from(connection).unwrap());
        }
        assert!(!book.clone_suspected(DtuId(1), at(120)));
        introduce(&mut book, "A1", 21, 124);
        assert!(book.clone_suspected(DtuId(1), at(124)));
        assert!(
            !book.clone_suspected(DtuId(1), at(1000)),
            "it passes when nothing happens"
        );
    }

    #[test]
    fn who_connects_again_and_again_is_refused_for_a_while() {
        let mut book = Admissions::new(10);
        book.know(DtuId(1), Some(sn("A1")), at(0));
        for name in ["A1", "UNKNOWN"] {
            for connection in 1..=15 {
                let admitted = introduce(&mut book, name, connection, 1);
                assert!(!matches!(admitted, Introduced::Banned { .. }), "{name} {connection}");
            }
            let refused = introduce(&mut book, name, 16, 2);
            assert!(matches!(refused, Introduced::Banned { begun: true, .. }), "{refused:?}");
            let refused = introduce(&mut book, name, 17, 301);
            assert!(matches!(refused, Introduced::Banned { begun: false, until, .. } if until == at(302)));
            let admitted = introduce(&mut book, name, 18, 302);
            assert!(!matches!(admitted, Introduced::Banned { .. }), "{admitted:?}");
        }
        assert_eq!(book.live(DtuId(1)).unwrap().connection, ConnectionId(18));
        assert_eq!(book.banned_until(DtuId(1), at(100)), Some(at(302)));
        assert_eq!(book.banned_until(DtuId(1), at(302)), None);
        assert_eq!(book.banned_until(DtuId(1), at(-9000)), None, "a clock set back ends it");
    }

    #[test]
    fn four_connects_a_minute_are_no_flapping_for_ever() {
        let mut book = Admissions::new(10);
        book.know(DtuId(1), Some(sn("A1")), at(0));
        for connection in 1..=200 {
            let second = i64::try_from(connection).unwrap() * 15;
            let admitted = introduce(&mut book, "A1", connection, second);
            assert!(matches!(admitted, Introduced::Owner { .. }), "{connection}");
        }
    }

    #[test]
    fn a_waiting_socket_is_adopted_by_a_claim() {
        let mut book = Admissions::new(10);
        assert!(matches!(
            introduce(&mut book, "B2", 5, 1),
            Introduced::Waits { replaced: None }
        ));
        let live = book.know(DtuId(9), Some(sn("B2")), at(2)).unwrap();
        assert_eq!(live.connection, ConnectionId(5));
        assert_eq!(book.waiting().count(), 0);
        assert_eq!(book.ended(ConnectionId(5), at(3)), Some(DtuId(9)));
    }

    #[test]
    fn quarantine_is_bounded_and_forgets_closed_sockets_first() {
        let mut book = Admissions::new(2);
        introduce(&mut book, "Q1", 1, 1);
        introduce(&mut book, "Q2", 2, 2);
        assert!(matches!(introduce(&mut book, "Q3", 3, 3), Introduced::Full));
        assert_eq!(book.ended(ConnectionId(1), at(4)), None);
        assert!(matches!(introduce(&mut book, "Q3", 3, 5), Introduced::Waits { .. }));
        let mut left: Vec<_> = book.waiting().map(|(sn, _)| sn.as_str().to_owned()).collect();
        left.sort();
        assert_eq!(left, ["Q2", "Q3"]);
    }

    #[test]
    fn an_sn_with_the_dtus_own_heartbeats_behind_it_is_that_dtu() {
        let mut book = Admissions::new(9);
        book.know(DtuId(1), Some(sn("SN1")), at(0));
        book.know(DtuId(2), Some(sn("SN12")), at(0));
        assert!(
            matches!(introduce(&mut book, "SN1HB", 1, 1), Introduced::Waits { .. }),
            "not learned yet"
        );
        book.heard(DtuId(1), [b"HB".to_vec(), b"2".to_vec(), b"LOG".to_vec(), Vec::new()]);
        let owner = |introduced| match introduced {
            Introduced::Owner { dtu, .. } => Some(dtu.0),
            _ => None,
        };
        assert_eq!(owner(introduce(&mut book, "SN1HB", 2, 2)), Some(1));
        assert_eq!(owner(introduce(&mut book, "SN1LOGLOG", 3, 3)), Some(1));
        assert_eq!(
            owner(introduce(&mut book, "SN12", 4, 4)),
            Some(2),
            "a known SN is itself"
        );
        for (n, stranger) in ["SN1HBX", "SN1H", "SN1HBLOG", "SN12HB", "SN122", "XSN1HB"]
            .iter()
            .enumerate()
        {
            assert_eq!(
                owner(introduce(&mut book, stranger, 10 + n as u64, 20)),
                None,
                "{stranger}"
            );
        }
        book.heard(DtuId(1), (0..9).map(|n| vec![b'A', b'0' + n]));
        assert_eq!(
            owner(introduce(&mut book, "SN1HB", 30, 30)),
            None,
            "only the last ones are kept"
        );
        assert_eq!(owner(introduce(&mut book, "SN1A8A8", 31, 31)), Some(1));
    }

    #[test]
    fn a_forgotten_dtu_gives_up_its_session() {
        let mut book = Admissions::new(2);
        book.know(DtuId(1), Some(sn("A1")), at(0));
        introduce(&mut book, "A1", 1, 1);
        assert_eq!(book.forget(DtuId(1)).unwrap().connection, ConnectionId(1));
        assert!(matches!(introduce(&mut book, "A1", 2, 2), Introduced::Waits { .. }));
    }
}
