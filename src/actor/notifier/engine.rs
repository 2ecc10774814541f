//! Rounds of the notifier: plan what happened, bundle what is due, send what is ready. "Now" is the clock's, chance is
//! injected, and every round takes a bounded number of rows; tests call the rounds themselves, in virtual time.

use crate::base::clock::Clock;
use crate::base::ids::{AccountId, ChannelId};
use crate::domain::notice::rate::{Counted, RateLimits, Rates, WINDOW};
use crate::domain::notice::retry::RetryRule;
use crate::domain::notice::{ChannelKind, plan, texts};
use crate::port::notices::{
    Candidate, Directory, DueItem, Ending, NewMessage, NoticeOutbox, Outgoing, Receipt, SendError, Senders, Unplanned,
};
use crate::port::scope::StoreError;
use crate::telemetry::notices::{
    ItemsDeferred, MessageAttempted, MessagesResumed, NoticePlanned, OutboxCounted, RoundFailed,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Notices planned, and items bundled, in one round.
const ROUND_MAX: u32 = 500;
/// Happenings that one message tells at most; the rest of a flood makes further messages.
const BUNDLE_MAX: usize = 200;
/// How often there is looked for work.
const TICK: Duration = Duration::from_secs(1);
/// How often the outbox is counted and pruned, in ticks.
const COUNT_EVERY: u32 = 15;
const PRUNE_EVERY: u32 = 600;
const PRUNE_MAX: u32 = 5_000;
/// Messages that are looked at for one choice.
const CANDIDATES_MAX: u32 = 200;
/// How long attempts that are under way get when the server stops.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// The longest wait before an end is recorded again.
const RECORD_LONGEST: Duration = Duration::from_secs(10);

/// Where jitter comes from.
pub trait Chance: Send + Sync {
    /// Uniform in 0 to 1.
    fn chance(&self) -> f64;
}

/// Chance of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    fn chance(&self) -> f64 {
        rand::random()
    }
}

/// Bounds of the notifier.
#[derive(Clone, Debug)]
pub struct NotifierSettings {
    /// Whether anybody is told; else notices end in the history.
    pub enabled: bool,
    /// Messages per hour.
    pub rates: RateLimits,
    /// When a message is tried again.
    pub retry: RetryRule,
    /// Items that may wait in one account.
    pub waiting_max: u64,
    /// Messages of one kind of channel that are sent at once.
    pub at_once: usize,
    /// Whom the server's own alarms are told; none: the only account.
    pub server_account: Option<AccountId>,
    /// How long history is kept.
    pub history: TimeDelta,
}

/// What the notifier is built of.
#[derive(Clone)]
pub struct NotifierParts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The outbox.
    pub outbox: Arc<dyn NoticeOutbox>,
    /// Who sends.
    pub senders: Arc<Senders>,
    /// Where jitter comes from.
    pub chance: Arc<dyn Chance>,
    /// Bounds.
    pub settings: NotifierSettings,
}

/// The notifier without its loop.
pub struct Engine {
    parts: NotifierParts,
    rates: Mutex<Rates>,
}

/// Runs until told to stop.
pub(super) async fn run(parts: NotifierParts, stop: CancellationToken) {
    let engine = loop {
        match Engine::open(parts.clone()).await {
            Ok(engine) => break engine,
            Err(error) => {
                RoundFailed {
                    what: "resume",
                    error: &error,
                }
                .emit();
                tokio::select! {
                    () = tokio::time::sleep(TICK * 5) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    };
    let senders = ChannelKind::ALL.iter().map(|kind| engine.send_until(*kind, &stop));
    futures::future::join(engine.work_until(&stop), futures::future::join_all(senders)).await;
}

impl Engine {
    /// Takes up what an earlier one left.
    ///
    /// # Errors
    /// [`StoreError`] when the outbox cannot be read.
    pub async fn open(parts: NotifierParts) -> Result<Self, StoreError> {
        let now = parts.clock.now();
        let messages = parts.outbox.resume(now).await?;
        MessagesResumed { messages }.emit();
        let mut rates = Rates::new(parts.settings.rates.clone());
        for (message, at) in parts.outbox.recent(now - WINDOW).await? {
            rates.count(&message, at);
        }
        Ok(Self {
            parts,
            rates: Mutex::new(rates),
        })
    }

    fn rates(&self) -> std::sync::MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work_until(&self, stop: &CancellationToken) {
        let mut round: u32 = 0;
        while !stop.is_cancelled() {
            if let Err(error) = self.work().await {
                RoundFailed {
                    what: "work",
                    error: &error,
                }
                .emit();
            }
            let now = self.parts.clock.now();
            if round.is_multiple_of(COUNT_EVERY)
                && let Err(error) = self.count(now).await
            {
                RoundFailed {
                    what: "count",
                    error: &error,
                }
                .emit();
            }
            if round.is_multiple_of(PRUNE_EVERY)
                && let Err(error) = self
                    .parts
                    .outbox
                    .prune(now - self.parts.settings.history, PRUNE_MAX)
                    .await
            {
                RoundFailed {
                    what: "prune",
                    error: &error,
                }
                .emit();
            }
            round = round.wrapping_add(1);
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Plans and bundles everything that there is now.
    ///
    /// # Errors
    /// [`StoreError`]; what is done is done, and the rest follows in the next round.
    pub async fn work(&self) -> Result<(), StoreError> {
        let work = self.parts.outbox.work(self.parts.clock.now()).await?;
        if work.unplanned {
            self.plan_all().await?;
        }
        if work.items || work.unplanned {
            self.bundle_all().await?;
        }
        Ok(())
    }

    async fn plan_all(&self) -> Result<(), StoreError> {
        let outbox = &self.parts.outbox;
        let mut directories: HashMap<AccountId, Directory> = HashMap::new();
        let notices = outbox
            .unplanned(self.parts.settings.server_account, ROUND_MAX, self.parts.clock.now())
            .await?;
        for notice in notices {
            let account = notice.happening.account;
            let directory = match directories.entry(account) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) if self.parts.settings.enabled => new.insert(outbox.directory(account).await?),
                Entry::Vacant(new) => new.insert(Directory::default()),
            };
            self.plan_one(&notice, directory).await?;
        }
        Ok(())
    }

    async fn plan_one(&self, notice: &Unplanned, directory: &mut Directory) -> Result<(), StoreError> {
        let outbox = &self.parts.outbox;
        let happening = &notice.happening;
        let now = self.parts.clock.now();
        let earlier = outbox.earlier(happening.account, &happening.subject, notice.id).await?;
        let mut plan = plan(happening, now, &directory.routes, &directory.recipients, &earlier);
        let items = u64::try_from(plan.items.len()).unwrap_or(u64::MAX);
        let outcome = if items > 0 && directory.waiting + items > self.parts.settings.waiting_max {
            plan.items.clear();
            "overflow"
        } else if items > 0 || !plan.cancel.is_empty() {
            "planned"
        } else {
            "nobody"
        };
        outbox.planned(notice, &plan, outcome, now).await?;
        directory.waiting += u64::try_from(plan.items.len()).unwrap_or(0);
        NoticePlanned {
            notice: notice.id.0,
            account: happening.account.0,
            items: plan.items.len(),
            outcome,
        }
        .emit();
        Ok(())
    }

    async fn bundle_all(&self) -> Result<(), StoreError> {
        let now = self.parts.clock.now();
        self.rates().forget(now);
        let due = self.parts.outbox.due(now, ROUND_MAX).await?;
        let gone: Vec<i64> = due
            .iter()
            .filter(|item| item.reader.is_none())
            .map(|item| item.id)
            .collect();
        if !gone.is_empty() {
            self.parts
                .outbox
                .call_off(&gone, "the recipient or channel is switched off")
                .await?;
        }
        let mut groups: Vec<Vec<DueItem>> = Vec::new();
        for item in due.into_iter().filter(|item| item.reader.is_some()) {
            match groups.last_mut() {
                Some(group)
                    if group.len() < BUNDLE_MAX
                        && group.first().is_some_and(|first| {
                            first.channel == item.channel && first.counted.critical == item.counted.critical
                        }) =>
                {
                    group.push(item);
                }
                _ => groups.push(vec![item]),
            }
        }
        for group in groups {
            self.bundle(group, now).await?;
        }
        Ok(())
    }

    /// One message of the items of one channel, or their wait.
    async fn bundle(&self, group: Vec<DueItem>, now: DateTime<Utc>) -> Result<(), StoreError> {
        let Some((first, reader)) = group.first().and_then(|item| Some((item, item.reader.clone()?))) else {
            return Ok(());
        };
        let (counted, channel) = (first.counted, first.channel);
        let items: Vec<i64> = group.iter().map(|item| item.id).collect();
        let permit = self.rates().permit(&counted, reader.per_hour, now);
        if let Err(later) = permit {
            self.parts.outbox.defer(&items, later).await?;
            ItemsDeferred {
                account: counted.account.0,
                channel: counted.kind.as_str(),
                items: items.len(),
            }
            .emit();
            return Ok(());
        }
        let message = written(&group, counted, channel, reader, items, now);
        if self.parts.outbox.bundle(message, now).await? {
            self.rates().count(&counted, now);
        }
        Ok(())
    }

    async fn send_until(&self, kind: ChannelKind, stop: &CancellationToken) {
        let mut under_way = FuturesUnordered::new();
        while !stop.is_cancelled() {
            match self.choose(kind, &under_way_of(&under_way)).await {
                Ok(chosen) => {
                    for candidate in chosen {
                        under_way.push(Attempt::new(candidate, self.attempt(candidate.id)));
                    }
                }
                Err(error) => RoundFailed {
                    what: "choose",
                    error: &error,
                }
                .emit(),
            }
            let tick = tokio::time::sleep(TICK);
            tokio::select! {
                () = tick => {}
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
                () = stop.cancelled() => {}
            }
        }
        // who is being told is told to the end, within reason; what is cut off is sent again by the next process
        let rest = async { while under_way.next().await.is_some() {} };
        if tokio::time::timeout(STOP_WAIT, rest).await.is_err() {
            tracing::warn!(
                channel = kind.as_str(),
                "messages are cut off while they are being sent"
            );
        }
    }

    /// The messages to begin with now: as many as there are slots, at most one of a channel, and of one account at most
    /// half of the slots, so that nobody's dead webhook keeps the others waiting.
    async fn choose(&self, kind: ChannelKind, under_way: &[Candidate]) -> Result<Vec<Candidate>, StoreError> {
        let slots = self.parts.settings.at_once.saturating_sub(under_way.len());
        let now = self.parts.clock.now();
        if slots == 0 || !self.parts.outbox.work(now).await?.messages.contains(&kind) {
            return Ok(Vec::new());
        }
        let candidates = self.parts.outbox.candidates(kind, now, CANDIDATES_MAX).await?;
        Ok(pick(&candidates, under_way, self.parts.settings.at_once))
    }

    /// One attempt, from claim to record.
    async fn attempt(&self, id: Uuid) {
        let message = match self.parts.outbox.claim(id, self.parts.clock.now()).await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => {
                return RoundFailed {
                    what: "claim",
                    error: &error,
                }
                .emit();
            }
        };
        let sent = match self.parts.senders.get(&message.kind) {
            Some(sender) => sender.send(&message).await,
            None => Err(SendError::Refused(format!(
                "this server has no {} channel: see [notify] in its configuration",
                message.kind.as_str()
            ))),
        };
        let (ending, outcome) = self.judge(&message, sent);
        MessageAttempted {
            message: &message.id,
            account: message.account.0,
            channel: message.kind.as_str(),
            attempt: message.attempt,
            outcome,
        }
        .emit();
        let mut wait = Duration::from_millis(250);
        // it is out or not: the record has to follow, or it would be sent again. Its slot is taken as long
        while let Err(error) = self.parts.outbox.ended(id, &ending, self.parts.clock.now()).await {
            RoundFailed {
                what: "record",
                error: &error,
            }
            .emit();
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RECORD_LONGEST);
        }
    }

    fn judge(&self, message: &Outgoing, sent: Result<Receipt, SendError>) -> (Ending, &'static str) {
        let (error, wait, unsure) = match sent {
            Ok(receipt) => return (Ending::Sent(receipt), "sent"),
            Err(SendError::Refused(error)) => return (Ending::Dead(error), "dead"),
            Err(SendError::Passing { message, retry_after }) => (message, retry_after, false),
            Err(SendError::Unsure(error)) => (error, None, true),
        };
        let next = self.parts.settings.retry.next(
            message.attempt,
            message.created_at,
            self.parts.clock.now(),
            wait,
            self.parts.chance.chance(),
        );
        match next {
            Some(at) if !message.test => (
                Ending::Again { at, error, unsure },
                if unsure { "unsure" } else { "again" },
            ),
            _ => (Ending::Dead(error), "dead"),
        }
    }

    /// Sends what is due of a kind, and waits for the end of it: the round that tests call.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be chosen.
    pub async fn send(&self, kind: ChannelKind) -> Result<usize, StoreError> {
        let chosen = self.choose(kind, &[]).await?;
        futures::future::join_all(chosen.iter().map(|candidate| self.attempt(candidate.id))).await;
        Ok(chosen.len())
    }

    async fn count(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let fill = self.parts.outbox.fill(now).await?;
        let rates = self.rates();
        OutboxCounted {
            unplanned: fill.unplanned,
            items: fill.items,
            limit: self.parts.settings.waiting_max,
            channels: ChannelKind::ALL
                .iter()
                .map(|kind| {
                    let waiting = fill.messages.get(kind).copied().unwrap_or(0);
                    (kind.as_str(), waiting, rates.used(*kind, now))
                })
                .collect(),
            dead: fill.dead,
            oldest_s: fill.oldest_due.map_or(0, |due| (now - due).num_seconds().max(0)),
        }
        .emit();
        Ok(())
    }
}

/// An attempt under way, and whose it is.
struct Attempt<F> {
    candidate: Candidate,
    work: std::pin::Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Attempt<F> {
    fn new(candidate: Candidate, work: F) -> Self {
        Self {
            candidate,
            work: Box::pin(work),
        }
    }
}

impl<F: Future<Output = ()>> Future for Attempt<F> {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.work.as_mut().poll(context)
    }
}

fn under_way_of<F: Future<Output = ()>>(attempts: &FuturesUnordered<Attempt<F>>) -> Vec<Candidate> {
    attempts.iter().map(|attempt| attempt.candidate).collect()
}

fn pick(candidates: &[Candidate], under_way: &[Candidate], at_once: usize) -> Vec<Candidate> {
    let share = at_once.div_ceil(2).max(1);
    let mut taken: Vec<Candidate> = under_way.to_vec();
    let mut chosen = Vec::new();
    for candidate in candidates {
        if taken.len() >= at_once {
            break;
        }
        let of_account = taken.iter().filter(|other| other.account == candidate.account).count();
        if of_account < share && taken.iter().all(|other| other.channel != candidate.channel) {
            taken.push(*candidate);
            chosen.push(*candidate);
        }
    }
    chosen
}

fn written(
    group: &[DueItem],
    counted: Counted,
    channel: ChannelId,
    reader: crate::port::notices::Reader,
    items: Vec<i64>,
    now: DateTime<Utc>,
) -> NewMessage {
    let happenings: Vec<_> = group.iter().map(|item| item.happening.clone()).collect();
    let text = texts::write(&happenings, reader.language, reader.zone);
    let id = Uuid::new_v4();
    let told: Vec<Value> = group
        .iter()
        .map(|item| {
            let one = &item.happening;
            json!({ "notice_id": item.notice, "subject": one.subject, "edge": one.edge, "severity": one.severity,
                    "kind": one.kind, "facts": one.facts, "at": one.at })
        })
        .collect();
    NewMessage {
        id,
        counted,
        channel,
        address: reader.address,
        subject: text.subject,
        body: if counted.kind == ChannelKind::Sms {
            text.short
        } else {
            text.text
        },
        payload: json!({ "id": id, "type": "notices", "created_at": now, "account_id": counted.account, "items": told }),
        items,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(account: i32, channel: i32) -> Candidate {
        Candidate {
            id: Uuid::from_u128(u128::try_from(channel).unwrap()),
            account: AccountId(account),
            channel: ChannelId(channel),
        }
    }

    #[test]
    fn one_account_gets_half_of_the_slots_at_most() {
        let flood: Vec<Candidate> = (0..20).map(|channel| candidate(1, channel)).collect();
        assert_eq!(pick(&flood, &[], 4).len(), 2);
        let mut mixed = flood.clone();
        mixed.push(candidate(2, 50));
        let chosen = pick(&mixed, &[], 4);
        assert_eq!(chosen.len(), 3);
        assert_eq!(chosen[2].account, AccountId(2));
        // a channel that is being told is not told twice at once, and no slot is taken twice
        assert!(pick(&[candidate(1, 3)], &[candidate(1, 3)], 4).is_empty());
        assert!(pick(&flood, &[candidate(2, 60), candidate(3, 61)], 2).is_empty());
        assert_eq!(pick(&flood, &[], 1).len(), 1);
    }
}
