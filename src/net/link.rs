//! The handle to a connection: hands jobs over a bounded channel, asks it to adopt an owner or to close.
//!
//! A handle outlives its connection: then jobs are refused and the last counters stay readable.

use crate::port::field::{EndCause, Link, LinkError, LinkStats, Owner, PollJob, PollOutcome};
use async_trait::async_trait;
use futures::task::AtomicWaker;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::sync::{mpsc, oneshot};

/// Jobs on their way from handles to the connection, whose queue says how many it takes: all meters of a large
/// concentrator may come due at one instant. Room is made for them as they come.
const HANDOVER_JOBS: usize = 2048;

/// A job and where its outcome goes.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) job: PollJob,
    pub(super) reply: oneshot::Sender<Result<PollOutcome, LinkError>>,
}

/// What the handles have asked for beside jobs. The first cause of a close wins; the last owner wins.
#[derive(Debug, Default)]
struct Wishes {
    close: Option<EndCause>,
    adopt: Option<Owner>,
}

#[derive(Debug, Default)]
struct Shared {
    wishes: Mutex<Wishes>,
    /// There is a wish: the connection looks here at every turn, and takes the lock only then.
    wished: AtomicBool,
    connection: AtomicWaker,
    stats: Mutex<LinkStats>,
}

impl Shared {
    fn wish(&self, wish: impl FnOnce(&mut Wishes)) {
        wish(&mut lock(&self.wishes));
        self.wished.store(true, Ordering::Release);
        self.connection.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The way to one connection.
#[derive(Clone)]
pub(super) struct LinkHandle {
    // boxed: a channel reserves room for 32 messages at once, which idle connections pay for
    errands: mpsc::Sender<Box<Errand>>,
    shared: Arc<Shared>,
}

impl fmt::Debug for LinkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkHandle").finish_non_exhaustive()
    }
}

/// The connection's end.
#[derive(Debug)]
pub(super) struct LinkInbox {
    errands: mpsc::Receiver<Box<Errand>>,
    shared: Arc<Shared>,
}

/// What came through the handle.
#[derive(Debug)]
pub(super) enum Wish {
    Poll(Box<Errand>),
    Adopt(Owner),
    Close(EndCause),
}

/// A handle and the inbox that it fills.
pub(super) fn link() -> (LinkHandle, LinkInbox) {
    let (errands, inbox) = mpsc::channel(HANDOVER_JOBS);
    let shared = Arc::new(Shared::default());
    let handle = LinkHandle {
        errands,
        shared: Arc::clone(&shared),
    };
    (handle, LinkInbox { errands: inbox, shared })
}

#[async_trait]
impl Link for LinkHandle {
    async fn poll(&self, job: PollJob) -> Result<PollOutcome, LinkError> {
        let (reply, outcome) = oneshot::channel();
        self.errands
            .try_send(Box::new(Errand { job, reply }))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => LinkError::Busy,
                mpsc::error::TrySendError::Closed(_) => LinkError::Closed,
            })?;
        // a connection that dies, panic included, drops the sender: the asker is never left waiting
        outcome.await.unwrap_or(Err(LinkError::Closed))
    }

    fn adopt(&self, owner: Owner) {
        self.shared.wish(|wishes| wishes.adopt = Some(owner));
    }

    fn close(&self, cause: EndCause) {
        self.shared.wish(|wishes| {
            wishes.close.get_or_insert(cause);
        });
    }

    fn stats(&self) -> LinkStats {
        lock(&self.shared.stats).clone()
    }
}

impl Drop for LinkInbox {
    fn drop(&mut self) {
        // a handle that is kept would keep the whole connection's task by it
        drop(self.shared.connection.take());
    }
}

impl LinkInbox {
    /// The next wish; a close comes before all else. Jobs only when `jobs`. Cancel-safe. Never ends by itself: the
    /// connection holds a handle of its own.
    pub(super) async fn next(&mut self, jobs: bool) -> Wish {
        std::future::poll_fn(|context| {
            // first: what is wished behind the look wakes us
            self.shared.connection.register(context.waker());
            if let Some(wish) = self.wish_now() {
                return Poll::Ready(wish);
            }
            if jobs && let Poll::Ready(Some(errand)) = self.errands.poll_recv(context) {
                return Poll::Ready(Wish::Poll(errand));
            }
            Poll::Pending
        })
        .await
    }

    /// A wish to close or adopt, if there is one by now.
    fn wish_now(&self) -> Option<Wish> {
        if !self.shared.wished.swap(false, Ordering::AcqRel) {
            return None;
        }
        let mut wishes = lock(&self.shared.wishes);
        if let Some(cause) = wishes.close {
            return Some(Wish::Close(cause));
        }
        wishes.adopt.take().map(Wish::Adopt)
    }

    /// A job that waits by now.
    pub(super) fn errand_now(&mut self) -> Option<Box<Errand>> {
        self.errands.try_recv().ok()
    }

    /// Takes no more jobs; those on their way are handed out.
    pub(super) fn close(&mut self) -> Vec<Errand> {
        self.errands.close();
        std::iter::from_fn(|| self.errands.try_recv().ok())
            .map(|errand| *errand)
            .collect()
    }

    /// Changes the counters that handles show.
    pub(super) fn stats<R>(&self, change: impl FnOnce(&mut LinkStats) -> R) -> R {
        change(&mut lock(&self.shared.stats))
    }
}
