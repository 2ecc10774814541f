//! What actors say to one another. Plain structs; commands are imperative, happenings past tense, questions `Get…`.

use crate::actor::supervise::Generation;
use crate::base::ids::{AccountId, ConnectionId, DtuId, MeterId, SessionId};
use crate::domain::device::DtuRecord;
use crate::domain::quantity::Quantity;
use crate::domain::reading::Reading;
use crate::exchange::feasible::LoadOfMeter;
use crate::port::field::{Admission, EndCause, FieldReport, Hello, Link, LinkStats, ReportKept, ReportLost};
use crate::port::fleet::{DtuLive, FleetCounts, MeterOnLine, QuarantineEntry, ReadFailure};
use crate::port::scan::{ScanFailure, ScanPlan, ScanTeller};
use actix::Message;
use chrono::{DateTime, Utc};
use futures::future::LocalBoxFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A connection's whole life, to be run on the arbiter of the actor that owns it. Knows how to end itself.
pub type ConnectionTask = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

// ---- to the registry

/// A connection said its SN.
#[derive(Message)]
#[rtype(result = "Admission")]
pub struct Introduce(pub Hello);

/// A connection that we made is up.
#[derive(Message)]
#[rtype(result = "Admission")]
pub struct Connected {
    /// The connection.
    pub connection: ConnectionId,
    /// For this DTU.
    pub dtu: DtuId,
    /// The far end.
    pub peer: Option<SocketAddr>,
    /// The way to it.
    pub link: Arc<dyn Link>,
}

/// A connection is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ended {
    /// The connection.
    pub connection: ConnectionId,
    /// Why.
    pub cause: EndCause,
    /// Its counters.
    pub stats: LinkStats,
}

/// The whole directory. Answered when every shard has it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReplaceDirectory {
    /// Every DTU.
    pub dtus: Vec<DtuRecord>,
    /// Notified when it is in force.
    pub done: oneshot::Sender<()>,
}

/// One DTU of the directory changed, or is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct UpdateDtu {
    /// Which.
    pub dtu: DtuId,
    /// Its record; none: gone.
    pub record: Option<DtuRecord>,
    /// Notified when it is in force.
    pub done: oneshot::Sender<()>,
}

/// Live state of DTUs.
#[derive(Message)]
#[rtype(result = "Vec<DtuLive>")]
pub struct GetLive(pub Vec<DtuId>);

/// The quarantine.
#[derive(Message)]
#[rtype(result = "Vec<QuarantineEntry>")]
pub struct GetQuarantine;

/// Counts.
#[derive(Message)]
#[rtype(result = "FleetCounts")]
pub struct GetCounts(pub Option<AccountId>);

/// The lines of DTUs, as they stand.
#[derive(Message)]
#[rtype(result = "Vec<Option<LineNow>>")]
pub struct GetLines(pub Vec<DtuId>);

/// A DTU's line.
#[derive(Clone)]
pub struct LineNow {
    /// The DTU and its meters.
    pub record: Arc<DtuRecord>,
    /// Its session and the way to it; none: it is offline.
    pub session: Option<(SessionId, Arc<dyn Link>)>,
}

/// Close every session, for the stop of the server. Answered with how many there were.
#[derive(Message)]
#[rtype(result = "usize")]
pub struct CloseSessions;

// ---- registry (and handles) to a shard

/// The DTU's record for the shard; none: gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PlaceDtu {
    /// Which.
    pub dtu: DtuId,
    /// Its record.
    pub record: Option<Arc<DtuRecord>>,
    /// Meters that leave it answer for slots due before this instant, and whoever gets them for the later ones. A little
    /// ahead of now, so that nobody has taken a later one yet.
    pub until: DateTime<Utc>,
    /// Meters of this record that stood behind another DTU of this process until then.
    pub moved: Vec<(MeterId, DateTime<Utc>)>,
}

/// The DTU has a session.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SessionUp {
    /// Which.
    pub dtu: DtuId,
    /// The connection.
    pub connection: ConnectionId,
    /// The way to it.
    pub link: Arc<dyn Link>,
}

/// The DTU's session is gone (ignored when another connection owns it by now).
#[derive(Message)]
#[rtype(result = "()")]
pub struct SessionDown {
    /// Which.
    pub dtu: DtuId,
    /// The connection that was its session.
    pub connection: ConnectionId,
}

/// Run an accepted connection on this shard.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RunConnection {
    /// The connection.
    pub connection: ConnectionId,
    /// Its life.
    pub task: ConnectionTask,
}

/// Keep what a terminal reported.
#[derive(Message)]
#[rtype(result = "Result<ReportKept, ReportLost>")]
pub struct KeepReport(pub FieldReport);

/// Read a meter now.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReadMeter {
    /// Which meter.
    pub meter: MeterId,
    /// What; empty: all.
    pub quantities: Vec<Quantity>,
    /// No attempt begins after it.
    pub deadline: std::time::Instant,
    /// Where the answer goes. Dropping it is an answer too.
    pub answer: oneshot::Sender<Result<Reading, ReadFailure>>,
}

/// Look for meters on a DTU's line.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ScanDtu {
    /// Whose line.
    pub dtu: DtuId,
    /// What to look for.
    pub plan: ScanPlan,
    /// Is told how far it is.
    pub tell: ScanTeller,
    /// Where the end is told; when nobody waits for it any more, the scan ends.
    pub answer: oneshot::Sender<Result<(), ScanFailure>>,
}

/// The present way to a DTU; none while it is offline.
#[derive(Message)]
#[rtype(result = "Option<Arc<dyn Link>>")]
pub struct GetLink(pub DtuId);

/// The line of a DTU; none where it does not stand on this shard.
#[derive(Message)]
#[rtype(result = "Option<LineOfDtu>")]
pub struct GetLine(pub DtuId);

/// A line's meters, and what is needed to judge their schedules; the judging takes its time and is done elsewhere.
#[derive(Debug)]
pub struct LineOfDtu {
    /// Its meters.
    pub meters: Vec<MeterOnLine>,
    /// What their schedules ask for.
    pub loads: Vec<LoadOfMeter>,
    /// Now.
    pub now: DateTime<Utc>,
}

/// How far a shard's slots have their endings.
#[derive(Message)]
#[rtype(result = "OpenSlots")]
pub struct GetOpenSlots;

/// Slots of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSlots {
    /// Due time of the oldest slot that came due and has no durable ending.
    pub oldest: Option<DateTime<Utc>>,
    /// Every slot due before this instant has one.
    pub settled_until: DateTime<Utc>,
}

/// Begin schedules: recovery is over. Before it no meter is polled and nothing ends.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BeginSchedules {
    /// Slots due before it all have endings.
    pub watermark: DateTime<Utc>,
    /// Endings of slots due since, of every meter.
    pub ended: Arc<Vec<crate::port::ledger::EndedSlot>>,
}

/// No more polls; answered when the running ones are over.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopSchedules;

// ---- within a shard

/// A child actor is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct MeterExited {
    /// Which.
    pub meter: MeterId,
    /// Which incarnation.
    pub generation: Generation,
}

/// A dialled connection's actor is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DialledExited {
    /// Which.
    pub dtu: DtuId,
    /// Which incarnation.
    pub generation: Generation,
}
