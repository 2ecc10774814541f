//! What the actor knows, and how it judges what was committed.

use super::AlarmParts;
use super::feed::Input;
use crate::actor::alarm::sweep::Sweep;
use crate::base::ids::{AccountId, GroupId, MeterId};
use crate::domain::alarm::meter::{Ground, MeterWatch, Shown, is_partial, judge, judge_ending};
use crate::domain::alarm::rule::{Place, Rule, Scope, defaults, in_force};
use crate::domain::alarm::storm::Storms;
use crate::domain::alarm::{AlarmEdge, AlarmKind, Change, Detail, Key, Raise, Severity, Subject};
use crate::domain::quantity::Quantity;
use crate::port::alarms::{MeterFact, OpenAlarm, Resumed, Settled, Settlement, Topology};
use crate::port::ledger::{PollRecord, StoreUnavailable};
use crate::port::live::Topic;
use crate::telemetry::alarm::{AlarmStepped, AlarmsWait, RecordsJudged};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Readings that are judged from the database at once.
const AGAIN_MAX: u32 = 20_000;
/// Batches may come a little out of order: so far before the mark everything is judged once more.
const AGAIN_BEFORE: TimeDelta = TimeDelta::minutes(2);
const WAIT_FIRST: Duration = Duration::from_millis(250);
const WAIT_LONGEST: Duration = Duration::from_secs(10);
/// An outage of the database that lasts so long is told afterwards.
const OUTAGE_TOLD: TimeDelta = TimeDelta::seconds(60);
/// Groups are nested at most so deep.
const GROUPS_DEEP: usize = 100;

/// An account and a key's text.
pub(super) type KeyText = (Option<AccountId>, String);

/// Meters for which the same rules are in force.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    /// One that has a rule of its own.
    Meter(MeterId),
    /// Those of an account, or of its group, without one.
    Group(AccountId, Option<GroupId>),
}

/// The judge.
pub(super) struct Engine {
    pub(super) parts: AlarmParts,
    pub(super) topology: Topology,
    /// Rules by account, the built-in ones among them.
    pub(super) rules: BTreeMap<AccountId, Vec<Arc<Rule>>>,
    /// Meters with a rule of their own.
    with_own: HashSet<MeterId>,
    /// What is in force at a meter, as far as somebody asked: what is the same for all of a group is found once.
    in_force: HashMap<Whose, Arc<[Arc<Rule>]>>,
    pub(super) open: HashMap<KeyText, OpenAlarm>,
    watches: HashMap<MeterId, MeterWatch>,
    resumed: Resumed,
    pub(super) storms: Storms,
    /// When this judge began: nothing that was down before counts as down from before.
    pub(super) began: DateTime<Utc>,
    pub(super) sweep: Sweep,
    mark: Option<DateTime<Utc>>,
    away_since: Option<DateTime<Utc>>,
}

impl Engine {
    /// Takes up what an earlier judge left; waits for the database.
    pub(super) async fn resume(parts: AlarmParts) -> Self {
        let began = parts.clock.now();
        let mut engine = Self {
            parts,
            topology: Topology::default(),
            rules: BTreeMap::new(),
            with_own: HashSet::new(),
            in_force: HashMap::new(),
            open: HashMap::new(),
            watches: HashMap::new(),
            resumed: Resumed::default(),
            storms: Storms::default(),
            began,
            sweep: Sweep::default(),
            mark: None,
            away_since: None,
        };
        let log = Arc::clone(&engine.parts.log);
        engine.resumed = engine.patiently(async || log.resume().await).await;
        let topology = engine.patiently(async || log.topology().await).await;
        engine.know(topology);
        let open = std::mem::take(&mut engine.resumed.open);
        for alarm in &open {
            if alarm.subject == Subject::Account && alarm.key.contains(":many@") {
                engine
                    .storms
                    .resume(alarm.account.unwrap_or(AccountId(0)), alarm.kind, began);
            }
        }
        engine.opened(open);
        engine.mark = engine.resumed.mark;
        if let Some(mark) = engine.mark {
            engine.judge_again(mark - AGAIN_BEFORE).await;
        }
        engine
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.parts.clock.now()
    }

    pub(super) fn monotonic(&self) -> Instant {
        self.parts.clock.monotonic()
    }

    /// Asks the database until it answers. What cannot succeed is given up after an error in the log.
    pub(super) async fn patiently<T: Default>(&mut self, work: impl AsyncFn() -> Result<T, StoreUnavailable>) -> T {
        let mut wait = WAIT_FIRST;
        loop {
            match work().await {
                Ok(done) => return done,
                Err(error) if !error.passing => {
                    tracing::error!(%error, "alarms cannot be written down");
                    return T::default();
                }
                Err(error) => {
                    let first = self.away_since.is_none();
                    self.away_since.get_or_insert_with(|| self.parts.clock.now());
                    AlarmsWait { error: &error, first }.emit();
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT_LONGEST);
                }
            }
        }
    }

    /// An outage that is over and was long enough to be told.
    pub(super) fn outage_over(&mut self) -> Option<[Change; 2]> {
        let now = self.now();
        let since = self.away_since.take()?;
        let lasted = now.signed_duration_since(since);
        if lasted < OUTAGE_TOLD {
            return None;
        }
        let key = self.server_key(AlarmKind::Database);
        let raise = Raise {
            key: key.clone(),
            kind: AlarmKind::Database,
            severity: Severity::Critical,
            subject: Subject::Server,
            rule: None,
            cause_at: since,
            detail: Detail {
                since: Some(since),
                note: Some(format!(
                    "for {} s; readings were kept in the spool, everything else was refused",
                    lasted.num_seconds()
                )),
                ..Detail::default()
            },
            victims: Vec::new(),
            parent: None,
        };
        Some([Change::Raise(Box::new(raise)), Change::Clear { key, at: now }])
    }

    /// The key of an alarm of the server: its only account's, or nobody's.
    pub(super) fn server_key(&self, kind: AlarmKind) -> Key {
        let mut accounts = self.topology.accounts.keys();
        let only = match (accounts.next(), accounts.next()) {
            (Some(only), None) => Some(*only),
            _ => None,
        };
        Key::new(only, kind, "", Subject::Server)
    }

    /// Takes in what there is now.
    pub(super) fn know(&mut self, topology: Topology) {
        let built_in: Vec<Arc<Rule>> = defaults().into_iter().map(Arc::new).collect();
        self.rules = topology
            .accounts
            .keys()
            .map(|account| (*account, built_in.clone()))
            .collect();
        for rule in &topology.rules {
            if let Some(rules) = rule.account.and_then(|account| self.rules.get_mut(&account)) {
                rules.push(Arc::new(rule.clone()));
            }
        }
        self.with_own = topology
            .rules
            .iter()
            .filter_map(|rule| match rule.scope {
                Scope::Meter(meter) => Some(meter),
                Scope::Account | Scope::Group(_) => None,
            })
            .collect();
        self.in_force.clear();
        self.watches.retain(|meter, _| topology.meters.contains_key(meter));
        self.topology = topology;
    }

    /// The groups of a meter, the nearest first.
    fn groups(&self, meter: &MeterFact) -> Vec<GroupId> {
        let mut found = Vec::new();
        let mut next = meter.group;
        while let Some(group) = next.filter(|_| found.len() < GROUPS_DEEP) {
            found.push(group);
            next = self.topology.groups.get(&group).copied().flatten();
        }
        found
    }

    /// The rules in force at a meter.
    pub(super) fn rules_of(&mut self, meter: &MeterFact) -> Arc<[Arc<Rule>]> {
        let whose = if self.with_own.contains(&meter.id) {
            Whose::Meter(meter.id)
        } else {
            Whose::Group(meter.account, meter.group)
        };
        if let Some(known) = self.in_force.get(&whose) {
            return Arc::clone(known);
        }
        let place = Place {
            groups: self.groups(meter),
            meter: Some(meter.id),
        };
        let found = self.at(meter.account, &place);
        self.in_force.insert(whose, Arc::clone(&found));
        found
    }

    /// The rules in force at a place of an account.
    pub(super) fn at(&self, account: AccountId, place: &Place) -> Arc<[Arc<Rule>]> {
        let Some(rules) = self.rules.get(&account) else {
            return Arc::new([]);
        };
        let chosen: HashSet<*const Rule> = in_force(rules.iter().map(AsRef::as_ref), place)
            .into_iter()
            .map(std::ptr::from_ref)
            .collect();
        rules
            .iter()
            .filter(|rule| chosen.contains(&Arc::as_ptr(rule)))
            .cloned()
            .collect()
    }

    /// Takes what came.
    pub(super) async fn take(&mut self, input: Input) {
        match input {
            Input::Committed(stored) => {
                let records: Vec<_> = stored.iter().map(|poll| poll.record()).collect();
                self.judge(&records, false).await;
            }
            Input::CloneSuspected { account, dtu, peer, at } => {
                let place = Place::default();
                let rules = self.at(account, &place);
                let Some(rule) = rules.iter().find(|rule| rule.check.kind() == AlarmKind::Clone) else {
                    return;
                };
                let subject = Subject::Dtu { dtu };
                let raise = Raise {
                    key: Key::new(Some(account), AlarmKind::Clone, "", subject),
                    kind: AlarmKind::Clone,
                    severity: rule.severity,
                    subject,
                    rule: rule.id,
                    cause_at: at,
                    detail: Detail {
                        note: Some(format!("the last one came from {peer}")),
                        ..Detail::default()
                    },
                    victims: Vec::new(),
                    parent: None,
                };
                self.settle(vec![Change::Raise(Box::new(raise))], Vec::new(), None)
                    .await;
            }
            Input::Look => {}
        }
    }

    /// Judges from the database what was received since then.
    pub(super) async fn judge_again(&mut self, since: DateTime<Utc>) {
        let log = Arc::clone(&self.parts.log);
        let mut since = since;
        loop {
            let records = self.patiently(async || log.judged_again(since, AGAIN_MAX).await).await;
            let newest = records.iter().filter_map(received).max();
            let full = records.len() >= usize::try_from(AGAIN_MAX).unwrap_or(usize::MAX);
            RecordsJudged {
                records: 0,
                again: !records.is_empty(),
            }
            .emit();
            self.judge(&records.iter().collect::<Vec<_>>(), true).await;
            match newest.filter(|newest| full && *newest > since) {
                Some(newest) => since = newest,
                None => return,
            }
        }
    }

    /// The watch of a meter, taken up from what was kept.
    fn watch(&mut self, meter: MeterId) -> &mut MeterWatch {
        let resumed = &mut self.resumed;
        self.watches.entry(meter).or_insert_with(|| {
            let registers = resumed.registers.remove(&meter).unwrap_or_default();
            let registers = registers.into_iter().map(|last| {
                let shown = Shown {
                    at: last.at,
                    value: last.value,
                };
                (last.quantity, shown)
            });
            let known: Vec<(Quantity, Shown)> = registers.collect();
            MeterWatch::taken_up(resumed.watches.remove(&meter), known)
        })
    }

    /// Judges records in their order.
    async fn judge(&mut self, records: &[&PollRecord], again: bool) {
        if records.is_empty() {
            return;
        }
        self.learn_of(records).await;
        let count = records.len();
        let newest = records.iter().copied().filter_map(received).max();
        let mut changes = Vec::new();
        let mut shapes: HashMap<MeterId, (AccountId, Option<Box<MeterWatch>>)> = HashMap::new();
        for record in records {
            let whose = record
                .reading
                .as_ref()
                .map(|reading| reading.meter)
                .or_else(|| record.endings.first().map(|ending| ending.meter));
            let Some(fact) = whose.and_then(|meter| self.topology.meters.get(&meter)).copied() else {
                continue;
            };
            let rules = self.rules_of(&fact);
            let rules: Vec<&Rule> = rules.iter().map(AsRef::as_ref).collect();
            let ground = Ground {
                account: fact.account,
                subject: Subject::Meter {
                    meter: fact.id,
                    dtu: fact.dtu,
                },
                rules: &rules,
            };
            let watch = self.watch(fact.id);
            // of nearly all there is nothing to keep, before and behind
            if !watch.is_idle() {
                shapes
                    .entry(fact.id)
                    .or_insert_with(|| (fact.account, watch.shape().map(Box::new)));
            }
            for ending in &record.endings {
                changes.extend(judge_ending(ground, ending, watch));
            }
            if let Some(reading) = &record.reading {
                changes.extend(judge(ground, reading, is_partial(&record.endings), watch));
            }
            if !watch.is_idle() {
                shapes.entry(fact.id).or_insert((fact.account, None));
            }
        }
        let watches = shapes
            .into_iter()
            .filter_map(|(meter, (account, before))| {
                let watch = self.watches.get(&meter)?;
                (watch.shape() != before.map(|before| *before)).then(|| (meter, account, watch.to_keep()))
            })
            .collect();
        self.mark = self.mark.max(newest);
        self.settle(changes, watches, self.mark).await;
        RecordsJudged { records: count, again }.emit();
    }

    /// Somebody new among the meters: what there is is looked at again, once a batch.
    async fn learn_of(&mut self, records: &[&PollRecord]) {
        let unknown = records.iter().any(|record| {
            let meter = record.reading.as_ref().map(|reading| reading.meter);
            meter.is_some_and(|meter| !self.topology.meters.contains_key(&meter))
        });
        let lately = self
            .sweep
            .learned
            .is_some_and(|at| self.monotonic().saturating_duration_since(at) < Duration::from_secs(5));
        if unknown && !lately {
            self.sweep.learned = Some(self.monotonic());
            let log = Arc::clone(&self.parts.log);
            let topology = self.patiently(async || log.topology().await).await;
            self.know(topology);
        }
    }

    /// Whether a change can change anything, as far as is known here; the database decides.
    fn matters(&self, change: &Change) -> bool {
        let key = change.key();
        let open = self.open.contains_key(&(key.account, key.text.clone()));
        match change {
            Change::Raise(raise) => !open || raise.kind.stays() || !raise.victims.is_empty(),
            Change::Clear { .. } | Change::Victims { .. } => open,
        }
    }

    /// Writes down and tells.
    pub(super) async fn settle(
        &mut self,
        changes: Vec<Change>,
        watches: Vec<(MeterId, AccountId, Option<serde_json::Value>)>,
        mark: Option<DateTime<Utc>>,
    ) {
        let now = self.now();
        let mut wanted: Vec<Change> = Vec::with_capacity(changes.len());
        let mut raised: HashSet<KeyText> = HashSet::new();
        for change in changes {
            let key = (change.key().account, change.key().text.clone());
            // what was raised a moment ago in this batch can be cleared in it
            let fresh = raised.contains(&key);
            if matches!(change, Change::Raise(_)) {
                raised.insert(key);
            }
            if fresh || self.matters(&change) {
                wanted.push(change);
            }
        }
        let changes = self.storms.dam(wanted, now);
        if changes.is_empty() && watches.is_empty() && mark.is_none() {
            return;
        }
        let settlement = Settlement { changes, watches, mark };
        let log = Arc::clone(&self.parts.log);
        let settled: Settled = self.patiently(async || log.settle(&settlement, now).await).await;
        for key in &settled.closed {
            self.open.remove(key);
        }
        self.victims(&settlement.changes);
        self.opened(settled.opened);
        for edge in &settled.edges {
            self.tell(edge);
        }
    }

    fn opened(&mut self, alarms: Vec<OpenAlarm>) {
        for alarm in alarms {
            self.open.insert((alarm.account, alarm.key.clone()), alarm);
        }
    }

    fn victims(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Victims { key, joined, back, .. } = change
                && let Some(open) = self.open.get_mut(&(key.account, key.text.clone()))
            {
                open.victims.extend(joined.iter().map(|(dtu, _)| *dtu));
                open.victims.retain(|dtu| !back.contains(dtu));
            }
        }
    }

    /// Shows a step on the live stream and in the log.
    pub(super) fn tell(&self, edge: &AlarmEdge) {
        let sentence = edge.detail.sentence(edge.kind);
        AlarmStepped {
            alarm: edge.alarm.0,
            account: edge.account.map(|account| account.0),
            kind: edge.kind.as_str(),
            step: edge.step.as_str(),
            sentence: &sentence,
            quiet: edge.quiet,
        }
        .emit();
        let Some(account) = edge.account else { return };
        let (dtu, meter) = (edge.subject.dtu(), edge.subject.meter());
        self.parts
            .live
            .publish(account, Topic::Alarms, dtu, meter, edge.to_event());
    }
}

/// When a record was received.
fn received(record: &PollRecord) -> Option<DateTime<Utc>> {
    let reading = record.reading.as_ref().map(|reading| reading.read_at);
    record.endings.iter().map(|ending| ending.ended_at).chain(reading).max()
}
