//! The live feed: a bounded window of recent events per account, and listeners that walk along it.
//!
//! Nothing here is an actor. A publisher appends to its account's window and never waits; a listener holds no queue of
//! its own but a place in the window, so a slow one costs no memory: when the window has moved past it, it is told how
//! much it missed and goes on with the oldest event that is kept. Windows are bounded by count and bytes, each and in
//! all; when the total is reached the account that holds most gives first, so a busy account cannot push a quiet one
//! out of the window. Knows no socket and no HTTP.

use crate::base::clock::Clock;
use crate::base::ids::{AccountId, DtuId, MeterId};
use crate::port::events::StoredPoll;
use crate::port::live::{
    LiveError, LiveEvent, LiveFeed, LiveFilter, LiveItem, LiveListener, LivePlace, LiveSource, LiveText, Topic,
};
use crate::telemetry::live as happenings;
use async_trait::async_trait;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bytes that an event costs besides its JSON: the entry itself and the Arc's counters.
const EVENT_OVERHEAD: usize = size_of::<LiveEvent>() + 16;

/// The bounds of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveLimits {
    /// Events kept per account.
    pub events_per_account: usize,
    /// Bytes kept per account.
    pub bytes_per_account: usize,
    /// Bytes kept in all.
    pub bytes_total: usize,
    /// Listeners per account.
    pub listeners_per_account: usize,
    /// Listeners in all.
    pub listeners_total: usize,
}

impl Default for LiveLimits {
    fn default() -> Self {
        Self {
            events_per_account: 20_000,
            bytes_per_account: 16 << 20,
            bytes_total: 64 << 20,
            listeners_per_account: 100,
            listeners_total: 1_000,
        }
    }
}

/// The feed of this process. Cheap to clone.
#[derive(Clone)]
pub struct LiveHub {
    shared: Arc<Shared>,
}

struct Shared {
    epoch: u64,
    /// Listeners to topic `line`, in all: mostly none, and lines are asked very often.
    on_line: AtomicUsize,
    limits: LiveLimits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    windows: HashMap<AccountId, Window>,
    bytes: usize,
    listeners: usize,
    closed: bool,
}

/// The kept events of one account: ids `last - kept.len() + 1 ..= last`, without gaps.
#[derive(Default)]
struct Window {
    kept: VecDeque<LiveEvent>,
    bytes: usize,
    last: u64,
    listeners: usize,
    /// Of them those that want topic `line`.
    on_line: usize,
    arrived: Arc<Notify>,
}

impl Window {
    /// The id before the oldest kept event.
    fn floor(&self) -> u64 {
        self.last.saturating_sub(self.kept.len() as u64)
    }

    fn drop_oldest(&mut self) -> usize {
        let freed = self.kept.pop_front().map_or(0, |event| cost(&event));
        self.bytes = self.bytes.saturating_sub(freed);
        freed
    }
}

fn cost(event: &LiveEvent) -> usize {
    let text = match &event.text {
        LiveText::Written(json) => json.len(),
        // the events of a record share it; the first one answers for it
        LiveText::Stored { poll, place: 0 } => poll.weight(),
        LiveText::Stored { .. } => 0,
    };
    text.saturating_add(EVENT_OVERHEAD)
}

impl LiveHub {
    /// A feed with these bounds. The epoch is the start time in microseconds.
    pub fn new(clock: &dyn Clock, limits: LiveLimits) -> Self {
        let epoch = u64::try_from(clock.now().timestamp_micros()).unwrap_or(0);
        Self {
            shared: Arc::new(Shared {
                epoch,
                on_line: AtomicUsize::new(0),
                limits,
                state: Mutex::new(State::default()),
            }),
        }
    }

    /// Ends every listener, and those to come; for the stop of the server.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        for window in state.windows.values() {
            window.arrived.notify_waiters();
        }
    }

    fn tell(&self, account: AccountId, topic: Topic, dtu: Option<DtuId>, meter: Option<MeterId>, text: LiveText) {
        let event = LiveEvent {
            // given where it is put
            place: LivePlace { epoch: 0, id: 0 },
            account,
            topic,
            dtu,
            meter,
            text,
        };
        let (arrived, bytes) = {
            let mut state = self.shared.lock();
            let arrived = state.push(self.shared.epoch, event, &self.shared.limits);
            (arrived, state.bytes)
        };
        happenings::EventPublished {
            topic: topic.as_str(),
            bytes,
        }
        .emit();
        arrived.notify_waiters();
    }

    /// Bytes kept now, over all accounts.
    pub fn bytes(&self) -> usize {
        self.shared.lock().bytes
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Puts an event behind the others of its account; its place is given here.
    fn push(&mut self, epoch: u64, event: LiveEvent, limits: &LiveLimits) -> Arc<Notify> {
        let account = event.account;
        let window = self.windows.entry(account).or_default();
        window.last = window.last.saturating_add(1);
        let place = LivePlace { epoch, id: window.last };
        let event = LiveEvent { place, ..event };
        let added = cost(&event);
        window.kept.push_back(event);
        window.bytes = window.bytes.saturating_add(added);
        let arrived = Arc::clone(&window.arrived);
        self.bytes = self.bytes.saturating_add(added);
        self.trim(account, limits);
        arrived
    }

    /// Makes room until the bounds hold again; `account` has just grown.
    fn trim(&mut self, account: AccountId, limits: &LiveLimits) {
        if let Some(window) = self.windows.get_mut(&account) {
            while window.kept.len() > limits.events_per_account || window.bytes > limits.bytes_per_account {
                let freed = window.drop_oldest();
                self.bytes = self.bytes.saturating_sub(freed);
            }
        }
        while self.bytes > limits.bytes_total {
            let Some(fullest) = self.windows.values_mut().max_by_key(|window| window.bytes) else {
                break;
            };
            let freed = fullest.drop_oldest();
            if freed == 0 {
                break;
            }
            self.bytes = self.bytes.saturating_sub(freed);
        }
    }
}

impl LiveFeed for LiveHub {
    fn is_wanted(&self, account: AccountId, topic: Topic) -> bool {
        topic != Topic::Line
            || (self.shared.on_line.load(Ordering::Relaxed) > 0
                && self
                    .shared
                    .lock()
                    .windows
                    .get(&account)
                    .is_some_and(|window| window.on_line > 0))
    }

    fn publish(
        &self,
        account: AccountId,
        topic: Topic,
        dtu: Option<DtuId>,
        meter: Option<MeterId>,
        data: serde_json::Value,
    ) {
        // written before the lock is taken: it is the costly part
        let text = LiveText::Written(data.to_string().into());
        self.tell(account, topic, dtu, meter, text);
    }

    fn publish_stored(&self, account: AccountId, dtu: Option<DtuId>, meter: MeterId, poll: Arc<StoredPoll>) {
        for (place, topic) in poll.topics().enumerate() {
            let text = LiveText::Stored {
                poll: Arc::clone(&poll),
                place,
            };
            self.tell(account, topic, dtu, Some(meter), text);
        }
    }
}

impl LiveSource for LiveHub {
    fn listen(&self, filter: LiveFilter, after: Option<LivePlace>) -> Result<Box<dyn LiveListener>, LiveError> {
        let limits = self.shared.limits;
        let mut state = self.shared.lock();
        if state.listeners >= limits.listeners_total {
            return Err(LiveError::ServerFull(limits.listeners_total));
        }
        let window = state.windows.entry(filter.account).or_default();
        if window.listeners >= limits.listeners_per_account {
            return Err(LiveError::AccountFull(limits.listeners_per_account));
        }
        window.listeners = window.listeners.saturating_add(1);
        if filter.wants(Topic::Line) {
            window.on_line = window.on_line.saturating_add(1);
            self.shared.on_line.fetch_add(1, Ordering::Relaxed);
        }
        let resumable = after
            .filter(|place| place.epoch == self.shared.epoch && place.id >= window.floor() && place.id <= window.last);
        let seen = resumable.map_or(window.last, |place| place.id);
        let arrived = Arc::clone(&window.arrived);
        state.listeners = state.listeners.saturating_add(1);
        let listeners = state.listeners;
        drop(state);
        happenings::ListenersChanged { listeners }.emit();
        Ok(Box::new(Listener {
            shared: Arc::clone(&self.shared),
            filter,
            seen,
            reset: after.is_some() && resumable.is_none(),
            arrived,
        }))
    }
}

struct Listener {
    shared: Arc<Shared>,
    filter: LiveFilter,
    /// The last id that was looked at.
    seen: u64,
    /// A reset is still to be told.
    reset: bool,
    arrived: Arc<Notify>,
}

impl Listener {
    /// What stands in the window behind `seen`. None: the feed has closed and nothing is left.
    fn take(&mut self, max: usize) -> Option<Vec<LiveItem>> {
        let mut items = Vec::new();
        let shared = Arc::clone(&self.shared);
        if std::mem::take(&mut self.reset) {
            items.push(LiveItem::Reset { place: self.place() });
        }
        let state = shared.lock();
        let Some(window) = state.windows.get(&self.filter.account) else {
            return (!state.closed).then_some(items);
        };
        let floor = window.floor();
        if self.seen < floor {
            let events = floor.saturating_sub(self.seen);
            self.seen = floor;
            items.push(LiveItem::Missed {
                events,
                place: self.place(),
            });
            happenings::ListenerLagged { events }.emit();
        }
        let skip = usize::try_from(self.seen.saturating_sub(floor)).unwrap_or(usize::MAX);
        for event in window.kept.iter().skip(skip) {
            if items.len() >= max.max(1) {
                break;
            }
            self.seen = event.place.id;
            if self.filter.passes(event) {
                items.push(LiveItem::Event(event.clone()));
            }
        }
        (!(items.is_empty() && state.closed)).then_some(items)
    }
}

#[async_trait]
impl LiveListener for Listener {
    async fn next(&mut self, max: usize) -> Option<Vec<LiveItem>> {
        let arrived = Arc::clone(&self.arrived);
        loop {
            let waiting = arrived.notified();
            tokio::pin!(waiting);
            // registered before the look, so that nothing falls between the two
            waiting.as_mut().enable();
            let items = self.take(max)?;
            if !items.is_empty() {
                return Some(items);
            }
            waiting.await;
        }
    }

    fn place(&self) -> LivePlace {
        LivePlace {
            epoch: self.shared.epoch,
            id: self.seen,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.listeners = state.listeners.saturating_sub(1);
        let on_line = self.filter.wants(Topic::Line);
        if let Some(window) = state.windows.get_mut(&self.filter.account) {
            window.listeners = window.listeners.saturating_sub(1);
            window.on_line = window.on_line.saturating_sub(usize::from(on_line));
        }
        if on_line {
            self.shared.on_line.fetch_sub(1, Ordering::Relaxed);
        }
        let listeners = state.listeners;
        drop(state);
        happenings::ListenersChanged { listeners }.emit();
    }
}

#[cfg(test)]
mod tests;
