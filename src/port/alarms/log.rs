//! What the alarm actor finds and writes down ([`AlarmLog`]).

use crate::base::ids::{AccountId, AlarmId, AlarmRuleId, CommandId, DtuId, GroupId, MeterId, PointId};
use crate::domain::alarm::rule::Rule;
use crate::domain::alarm::{AlarmEdge, AlarmKind, Change, Subject};
use crate::domain::quantity::Quantity;
use crate::port::ledger::{PollRecord, StoreUnavailable};
use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// An open alarm, as the actor has to know it.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenAlarm {
    /// Its id.
    pub id: AlarmId,
    /// Whose.
    pub account: Option<AccountId>,
    /// Its key's text.
    pub key: String,
    /// What is wrong.
    pub kind: AlarmKind,
    /// With what.
    pub subject: Subject,
    /// By which rule; none: a built-in one.
    pub rule: Option<AlarmRuleId>,
    /// Since when.
    pub raised_at: DateTime<Utc>,
    /// The DTUs that it stands for and that are not back.
    pub victims: BTreeSet<DtuId>,
}

/// What is under way of a meter's judgement: opaque to the store.
pub type WatchState = serde_json::Value;

/// What an earlier process left.
#[derive(Clone, Debug, Default)]
pub struct Resumed {
    /// Alarms that are open.
    pub open: Vec<OpenAlarm>,
    /// What is under way, by meter.
    pub watches: HashMap<MeterId, WatchState>,
    /// Readings received before this have been judged; none: a fresh database.
    pub mark: Option<DateTime<Utc>>,
    /// The registers of every meter as they were last judged.
    pub registers: HashMap<MeterId, Vec<LastRegister>>,
}

/// What a register showed last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastRegister {
    /// Which.
    pub quantity: Quantity,
    /// When it was read.
    pub at: DateTime<Utc>,
    /// What it showed.
    pub value: rust_decimal::Decimal,
}

/// A DTU as alarms see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DtuFact {
    /// Which.
    pub id: DtuId,
    /// Whose.
    pub account: AccountId,
    /// Since when it has had a session; none: it has none.
    pub up_since: Option<DateTime<Utc>>,
    /// Since when it has had none; none: it has one, or never had.
    pub down_since: Option<DateTime<Utc>>,
}

/// A meter as alarms see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeterFact {
    /// Which.
    pub id: MeterId,
    /// Whose.
    pub account: AccountId,
    /// Its DTU.
    pub dtu: DtuId,
    /// Its group.
    pub group: Option<GroupId>,
    /// Where it stands now.
    pub point: Option<PointId>,
}

/// Everything that rules apply to.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// Accounts with their zones.
    pub accounts: BTreeMap<AccountId, String>,
    /// Groups with what they are part of.
    pub groups: HashMap<GroupId, Option<GroupId>>,
    /// DTUs that are enabled.
    pub dtus: Vec<DtuFact>,
    /// Meters.
    pub meters: HashMap<MeterId, MeterFact>,
    /// Holidays of calendars.
    pub holidays: HashMap<i32, BTreeSet<NaiveDate>>,
    /// Rules of accounts.
    pub rules: Vec<Rule>,
}

/// Consumption of one hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HourValue {
    /// When it began.
    pub start: DateTime<Utc>,
    /// In the register's unit.
    pub value: f64,
}

/// Which hours are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct HoursAsked {
    /// Of which register.
    pub quantity: Quantity,
    /// Of which points.
    pub points: Vec<PointId>,
    /// Which hours, by their starts.
    pub starts: Vec<DateTime<Utc>>,
}

/// How slots of a group of meters ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotShare {
    /// Slots.
    pub slots: i64,
    /// With a value.
    pub collected: i64,
}

/// A command that somebody has to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandFact {
    /// Which.
    pub id: CommandId,
    /// Whose.
    pub account: AccountId,
    /// Its meter.
    pub meter: MeterId,
    /// The meter's DTU.
    pub dtu: DtuId,
    /// What it does.
    pub action: String,
    /// Where it stands.
    pub state: String,
    /// Held by the brake.
    pub braked: bool,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Another value that came under a taken key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConflictFact {
    /// Whose.
    pub account: AccountId,
    /// Of which meter.
    pub meter: MeterId,
    /// How many.
    pub count: u64,
    /// The newest of them, when it was found.
    pub found_at: DateTime<Utc>,
}

/// Important events of one kind that a concentrator recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TerminalEventFact {
    /// Whose.
    pub account: AccountId,
    /// The concentrator.
    pub dtu: DtuId,
    /// What happened ([`event_name`](crate::port::terminal_events::event_name)).
    pub code: u16,
    /// How many.
    pub count: u64,
    /// The newest of them, when we learned of it.
    pub found_at: DateTime<Utc>,
    /// The newest of them by the concentrator's own clock.
    pub happened_at: Option<NaiveDateTime>,
}

/// What the actor writes down in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// What changed, in order.
    pub changes: Vec<Change>,
    /// What is under way now, of the meters where it changed; none: nothing any more.
    pub watches: Vec<(MeterId, AccountId, Option<WatchState>)>,
    /// The mark, if it moved.
    pub mark: Option<DateTime<Utc>>,
}

/// What it came to.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// The steps, as they were written.
    pub edges: Vec<AlarmEdge>,
    /// Alarms that are open now and were not, by account and key.
    pub opened: Vec<OpenAlarm>,
    /// Alarms that are not open any more.
    pub closed: Vec<(Option<AccountId>, String)>,
}

/// The actor's view of PostgreSQL, with the `ingest` role.
#[async_trait]
pub trait AlarmLog: Send + Sync + 'static {
    /// What an earlier process left.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn resume(&self) -> Result<Resumed, StoreUnavailable>;

    /// Everything that rules apply to, as it is now.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn topology(&self) -> Result<Topology, StoreUnavailable>;

    /// The alarms that are open now: people clear some.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn open(&self) -> Result<Vec<OpenAlarm>, StoreUnavailable>;

    /// Writes changes and what is under way down, in one transaction. Raising what is open, or by data that have been
    /// judged for that key, does nothing; so does clearing what is not open.
    ///
    /// # Errors
    /// [`StoreUnavailable`]: nothing was written.
    async fn settle(&self, settlement: &Settlement, now: DateTime<Utc>) -> Result<Settled, StoreUnavailable>;

    /// Reminds of alarms of at least this severity that nobody has acknowledged or shelved since `before`.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn remind(&self, before: DateTime<Utc>, now: DateTime<Utc>) -> Result<Vec<AlarmEdge>, StoreUnavailable>;

    /// Stored readings and slot endings received at or after `since`, the oldest first, at most so many.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn judged_again(&self, since: DateTime<Utc>, max: u32) -> Result<Vec<PollRecord>, StoreUnavailable>;

    /// Whole hours of consumption that are wanted and there.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn hours(&self, asked: &HoursAsked) -> Result<HashMap<PointId, Vec<HourValue>>, StoreUnavailable>;

    /// How the slots of an account due since `since` ended.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn slots(&self, account: AccountId, since: DateTime<Utc>) -> Result<SlotShare, StoreUnavailable>;

    /// Commands that are unknown or held by the brake, and reconnections that failed or expired since `since`.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn commands(&self, since: DateTime<Utc>) -> Result<Vec<CommandFact>, StoreUnavailable>;

    /// Conflicts found since `since`.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn conflicts(&self, since: DateTime<Utc>) -> Result<Vec<ConflictFact>, StoreUnavailable>;

    /// Important events that concentrators recorded, of which we learned since.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn terminal_events(&self, since: DateTime<Utc>) -> Result<Vec<TerminalEventFact>, StoreUnavailable>;
}
