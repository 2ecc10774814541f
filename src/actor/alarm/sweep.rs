//! What is looked at every few seconds: sessions, commands, conflicts, shares of slots, the server's own parts; and what
//! is open though nothing stands behind it any more.

use super::judge::Engine;
use crate::base::ids::{AccountId, MeterId};
use crate::domain::alarm::fleet;
use crate::domain::alarm::rule::{Check, Place, Rule};
use crate::domain::alarm::{AlarmKind, Change, Detail, Key, Raise, Severity, Subject};
use crate::port::alarms::{CommandFact, OpenAlarm};
use crate::port::readiness::Readiness;
use crate::port::terminal_events::{event_label, event_name};
use crate::telemetry::alarm::AlarmsCounted;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A part of the server that is not well for so long is an alarm.
const UNWELL: TimeDelta = TimeDelta::seconds(60);
/// Hours and shares are looked at so often.
const SLOW_EVERY: Duration = Duration::from_secs(60);
/// So far back conflicts and failed reconnections are looked for.
const BACK: TimeDelta = TimeDelta::hours(24);

/// What the sweeps remember.
#[derive(Default)]
pub(super) struct Sweep {
    /// When somebody new among the meters was looked for.
    pub(super) learned: Option<Instant>,
    slow: Option<Instant>,
    unwell: BTreeMap<&'static str, DateTime<Utc>>,
    /// The last hour that was judged, by rule and point.
    pub(super) hours: super::hours::Judged,
}

fn raise(key: Key, subject: Subject, rule: &Rule, cause_at: DateTime<Utc>, detail: Detail) -> Change {
    Change::Raise(Box::new(Raise {
        key,
        kind: rule.check.kind(),
        severity: rule.severity,
        subject,
        rule: rule.id,
        cause_at,
        detail,
        victims: Vec::new(),
        parent: None,
    }))
}

impl Engine {
    /// Looks at everything once.
    pub(super) async fn look_around(&mut self) {
        let log = Arc::clone(&self.parts.log);
        let topology = self.patiently(async || log.topology().await).await;
        self.know(topology);
        let open = self.patiently(async || log.open().await).await;
        self.open = open
            .into_iter()
            .map(|alarm| ((alarm.account, alarm.key.clone()), alarm))
            .collect();
        let now = self.now();
        let mut changes: Vec<Change> = Vec::new();
        changes.extend(self.outage_over().into_iter().flatten());
        changes.extend(self.unfounded(now));
        changes.extend(self.lost_dtus(now));
        changes.extend(self.commands(now).await);
        changes.extend(self.unwell_parts(now).await);
        let slow = self
            .sweep
            .slow
            .is_none_or(|at| self.monotonic().saturating_duration_since(at) >= SLOW_EVERY);
        if slow {
            self.sweep.slow = Some(self.monotonic());
            changes.extend(self.conflicts(now).await);
            changes.extend(self.terminal_events(now).await);
            changes.extend(self.shares(now).await);
            changes.extend(self.deviations(now).await);
        }
        changes.extend(self.storms.calm(now));
        self.settle(changes, Vec::new(), None).await;
        self.remind(now).await;
        self.count();
    }

    /// The rule of a kind that holds for an account as such.
    fn of_account(&self, account: AccountId, kind: AlarmKind) -> Option<Arc<Rule>> {
        let rules = self.at(account, &Place::default());
        rules.iter().find(|rule| rule.check.kind() == kind).cloned()
    }

    fn lost_dtus(&self, now: DateTime<Utc>) -> Vec<Change> {
        let mut dtus: BTreeMap<AccountId, Vec<fleet::Dtu>> = BTreeMap::new();
        for dtu in &self.topology.dtus {
            dtus.entry(dtu.account).or_default().push(fleet::Dtu {
                id: dtu.id,
                up_since: dtu.up_since,
                down_since: dtu.down_since,
            });
        }
        let mut open: BTreeMap<AccountId, fleet::Open> = BTreeMap::new();
        for alarm in self.open.values().filter(|alarm| alarm.kind == AlarmKind::DtuOffline) {
            let Some(account) = alarm.account else { continue };
            let open = open.entry(account).or_default();
            match alarm.subject {
                Subject::Dtu { dtu } => {
                    open.singles.insert(dtu);
                }
                _ => open.group = Some(alarm.victims.clone()),
            }
        }
        let accounts: BTreeSet<AccountId> = dtus.keys().chain(open.keys()).copied().collect();
        let mut changes = Vec::new();
        for account in accounts {
            let Some(rule) = self.of_account(account, AlarmKind::DtuOffline) else {
                continue;
            };
            let Check::DtuOffline(check) = &rule.check else {
                continue;
            };
            let by = fleet::By {
                account,
                rule: rule.id,
                severity: rule.severity,
                check,
            };
            let none = fleet::Open::default();
            let there = dtus.get(&account).map(Vec::as_slice).unwrap_or_default();
            let known = open.get(&account).unwrap_or(&none);
            changes.extend(fleet::judge(by, there, known, self.began, now));
        }
        changes
    }

    async fn commands(&mut self, now: DateTime<Utc>) -> Vec<Change> {
        let log = Arc::clone(&self.parts.log);
        let found = self.patiently(async || log.commands(now - BACK).await).await;
        let mut changes = Vec::new();
        let mut unknown: BTreeSet<(AccountId, MeterId)> = BTreeSet::new();
        let mut braked: BTreeMap<AccountId, (u64, DateTime<Utc>)> = BTreeMap::new();
        for command in &found {
            match command.state.as_str() {
                "unknown" => {
                    unknown.insert((command.account, command.meter));
                    changes.extend(self.command(command, AlarmKind::CommandUnknown, now));
                }
                "held" if command.braked => {
                    let (count, since) = braked.entry(command.account).or_insert((0, command.since));
                    *count = count.saturating_add(1);
                    *since = (*since).min(command.since);
                }
                "failed" | "expired" => changes.extend(self.command(command, AlarmKind::ReconnectFailed, now)),
                _ => {}
            }
        }
        for (account, (count, since)) in &braked {
            let Some(rule) = self.of_account(*account, AlarmKind::BrakeHeld) else {
                continue;
            };
            let key = Key::new(Some(*account), AlarmKind::BrakeHeld, "", Subject::Account);
            let detail = Detail {
                count: Some(*count),
                since: Some(*since),
                ..Detail::default()
            };
            changes.push(raise(key, Subject::Account, &rule, now, detail));
        }
        for alarm in self.open.values() {
            let over = match (alarm.kind, alarm.account, alarm.subject) {
                (AlarmKind::BrakeHeld, Some(account), _) => !braked.contains_key(&account),
                (AlarmKind::CommandUnknown, Some(account), Subject::Meter { meter, .. }) => {
                    !unknown.contains(&(account, meter))
                }
                _ => false,
            };
            if over {
                changes.push(clear(alarm, now));
            }
        }
        changes
    }

    fn command(&self, command: &CommandFact, kind: AlarmKind, now: DateTime<Utc>) -> Option<Change> {
        let rule = self.of_account(command.account, kind)?;
        let (after, cause_at) = match &rule.check {
            Check::CommandUnknown(check) => (check.after_s, now),
            _ => (0, command.since),
        };
        if now.signed_duration_since(command.since) < TimeDelta::seconds(after.into()) {
            return None;
        }
        let subject = Subject::Meter {
            meter: command.meter,
            dtu: command.dtu,
        };
        let detail = Detail {
            names: vec![command.action.clone()],
            since: Some(command.since),
            note: Some(format!("command {}", command.id)),
            ..Detail::default()
        };
        let key = Key::new(Some(command.account), kind, "", subject);
        Some(raise(key, subject, &rule, cause_at, detail))
    }

    async fn conflicts(&mut self, now: DateTime<Utc>) -> Vec<Change> {
        let log = Arc::clone(&self.parts.log);
        let found = self.patiently(async || log.conflicts(now - BACK).await).await;
        let mut changes = Vec::new();
        for conflict in found {
            let Some(fact) = self.topology.meters.get(&conflict.meter).copied() else {
                continue;
            };
            let rules = self.rules_of(&fact);
            let Some(rule) = rules
                .iter()
                .find(|rule| rule.check.kind() == AlarmKind::ReadingConflict)
            else {
                continue;
            };
            let subject = Subject::Meter {
                meter: fact.id,
                dtu: fact.dtu,
            };
            let key = Key::new(Some(conflict.account), AlarmKind::ReadingConflict, "", subject);
            let detail = Detail {
                count: Some(conflict.count),
                ..Detail::default()
            };
            changes.push(raise(key, subject, rule, conflict.found_at, detail));
        }
        changes
    }

    /// What concentrators recorded: of each kind of event and concentrator one alarm, until somebody clears it.
    async fn terminal_events(&mut self, now: DateTime<Utc>) -> Vec<Change> {
        let log = Arc::clone(&self.parts.log);
        let found = self.patiently(async || log.terminal_events(now - BACK).await).await;
        let mut changes = Vec::new();
        for event in found {
            let Some(rule) = self.of_account(event.account, AlarmKind::TerminalEvent) else {
                continue;
            };
            let subject = Subject::Dtu { dtu: event.dtu };
            let label = event_label(event.code);
            let variant = label.to_lowercase().replace(' ', "");
            let key = Key::new(Some(event.account), AlarmKind::TerminalEvent, &variant, subject);
            let own_time = event
                .happened_at
                .map(|at| format!(", the last at {at} by its own clock"));
            let detail = Detail {
                count: Some(event.count),
                names: vec![event_name(event.code).to_owned()],
                note: Some(format!("{label}{}", own_time.unwrap_or_default())),
                ..Detail::default()
            };
            changes.push(raise(key, subject, &rule, event.found_at, detail));
        }
        changes
    }

    async fn shares(&mut self, now: DateTime<Utc>) -> Vec<Change> {
        let mut changes = Vec::new();
        let accounts: Vec<AccountId> = self.topology.accounts.keys().copied().collect();
        for account in accounts {
            let Some(rule) = self.of_account(account, AlarmKind::CollectionRate) else {
                continue;
            };
            let Check::CollectionRate(check) = &rule.check else {
                continue;
            };
            let since = now - TimeDelta::hours(check.window_h.into());
            let log = Arc::clone(&self.parts.log);
            let share = self.patiently(async || log.slots(account, since).await).await;
            if share.slots < i64::from(check.slots_min) || share.slots == 0 {
                continue;
            }
            // a share for people: what a float rounds does not matter
            let percent = share.collected as f64 * 100.0 / share.slots as f64;
            let key = Key::new(Some(account), AlarmKind::CollectionRate, "", Subject::Account);
            if percent < check.below_percent {
                let detail = Detail {
                    value: Some(format!("{percent:.1}")),
                    limit: Some(format!("{:.1}", check.below_percent)),
                    unit: Some("%".to_owned()),
                    count: u64::try_from(share.slots.saturating_sub(share.collected)).ok(),
                    since: Some(since),
                    ..Detail::default()
                };
                changes.push(raise(key, Subject::Account, &rule, now, detail));
            } else if percent >= f64::midpoint(check.below_percent, 100.0).min(check.below_percent + 1.0) {
                changes.push(Change::Clear { key, at: now });
            }
        }
        changes
    }

    async fn unwell_parts(&mut self, now: DateTime<Utc>) -> Vec<Change> {
        let mut changes = Vec::new();
        for check in self.parts.checks.clone() {
            let name = check.name();
            let kind = match name {
                "spool" => AlarmKind::Spool,
                "load" => AlarmKind::Overload,
                _ => continue,
            };
            let key = self.server_key(kind);
            let (severity, note) = match check.check().await {
                Readiness::Ready => {
                    self.sweep.unwell.remove(name);
                    changes.push(Change::Clear { key, at: now });
                    continue;
                }
                Readiness::Degraded(note) => (Severity::Warning, note),
                Readiness::NotReady(note) => (Severity::Critical, note),
            };
            let since = *self.sweep.unwell.entry(name).or_insert(now);
            if now.signed_duration_since(since) < UNWELL {
                continue;
            }
            changes.push(Change::Raise(Box::new(Raise {
                key,
                kind,
                severity,
                subject: Subject::Server,
                rule: None,
                cause_at: now,
                detail: Detail {
                    since: Some(since),
                    note: Some(note),
                    ..Detail::default()
                },
                victims: Vec::new(),
                parent: None,
            })));
        }
        changes
    }

    /// Clears what stands open though its meter, its DTU or its rule is gone: nothing would ever clear it.
    fn unfounded(&mut self, now: DateTime<Utc>) -> Vec<Change> {
        let dtus: BTreeSet<_> = self.topology.dtus.iter().map(|dtu| dtu.id).collect();
        let open: Vec<OpenAlarm> = self.open.values().cloned().collect();
        let mut changes = Vec::new();
        let mut held: HashMap<MeterId, Arc<[Arc<Rule>]>> = HashMap::new();
        for alarm in open {
            if matches!(alarm.kind, AlarmKind::Spool | AlarmKind::Overload | AlarmKind::Database) {
                // the server's own belong to its only account, while there is one
                if alarm.account != self.server_key(alarm.kind).account {
                    changes.push(clear(&alarm, now));
                }
                continue;
            }
            if alarm.kind.stays() && !matches!(alarm.subject, Subject::Meter { .. }) {
                continue;
            }
            let founded = match (alarm.subject, alarm.account) {
                (Subject::Meter { meter, .. }, Some(_)) => match self.topology.meters.get(&meter).copied() {
                    None => false,
                    Some(fact) => {
                        let rules = held.entry(meter).or_insert_with(|| self.rules_of(&fact));
                        rules
                            .iter()
                            .any(|rule| rule.id == alarm.rule && rule.check.kind() == alarm.kind)
                    }
                },
                (Subject::Dtu { dtu }, Some(account)) => {
                    dtus.contains(&dtu) && self.of_account(account, alarm.kind).is_some()
                }
                (Subject::Account, Some(account)) if !alarm.key.contains(":many@") => {
                    self.of_account(account, alarm.kind).is_some()
                }
                _ => true,
            };
            if !founded {
                changes.push(clear(&alarm, now));
            }
        }
        changes
    }

    async fn remind(&mut self, now: DateTime<Utc>) {
        let after = self.parts.settings.remind_after;
        let Some(before) = TimeDelta::from_std(after).ok().filter(|_| !after.is_zero()) else {
            return;
        };
        let log = Arc::clone(&self.parts.log);
        let edges = self.patiently(async || log.remind(now - before, now).await).await;
        for edge in &edges {
            self.tell(edge);
        }
    }

    fn count(&self) {
        let open: Vec<(&'static str, usize)> = AlarmKind::ALL
            .iter()
            .map(|kind| {
                let of_kind = self.open.values().filter(|alarm| alarm.kind == *kind);
                (kind.as_str(), of_kind.count())
            })
            .collect();
        AlarmsCounted { open: &open }.emit();
    }
}

fn clear(alarm: &OpenAlarm, now: DateTime<Utc>) -> Change {
    Change::Clear {
        key: Key {
            account: alarm.account,
            text: alarm.key.clone(),
        },
        at: now,
    }
}
