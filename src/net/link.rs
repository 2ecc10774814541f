//! The handle to a connection: hands jobs over a bounded queue, asks it to adopt an owner or to close.
//!
//! A handle outlives its connection: then jobs are refused and the last counters stay readable. The queue is our own, because a
//! channel's room and bookkeeping cost an idle connection nearly a kilobyte.

use crate::port::field::{EndCause, Link, LinkError, LinkStats, Owner, PollJob, PollOutcome};
use async_trait::async_trait;
use futures::task::AtomicWaker;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::sync::oneshot;

/// Jobs on their way from handles to the connection, whose queue says how many it takes: all meters of a large
/// concentrator may come due at one instant. Room is made for them as they come, and given back behind a rush.
const HANDOVER_JOBS: usize = 2048;
/// Room for jobs that an empty queue may keep.
const ROOM_KEPT: usize = 16;

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

/// Jobs that wait for the connection to take them.
#[derive(Debug, Default)]
struct Errands {
    waiting: VecDeque<Box<Errand>>,
    /// The connection takes no more.
    shut: bool,
}

#[derive(Debug, Default)]
struct Shared {
    wishes: Mutex<Wishes>,
    /// There is a wish: the connection looks here at every turn, and takes the lock only then.
    wished: AtomicBool,
    errands: Mutex<Errands>,
    /// A job waits; the same for jobs.
    called: AtomicBool,
    connection: AtomicWaker,
    stats: Mutex<LinkStats>,
}

impl Shared {
    fn wish(&self, wish: impl FnOnce(&mut Wishes)) {
        wish(&mut lock(&self.wishes));
        self.wished.store(true, Ordering::Release);
        self.connection.wake();
    }

    /// Puts a job behind the others.
    fn call(&self, errand: Errand) -> Result<(), LinkError> {
        let mut errands = lock(&self.errands);
        if errands.shut {
            return Err(LinkError::Closed);
        }
        if errands.waiting.len() >= HANDOVER_JOBS {
            return Err(LinkError::Busy);
        }
        errands.waiting.push_back(Box::new(errand));
        self.called.store(true, Ordering::Release);
        drop(errands);
        self.connection.wake();
        Ok(())
    }

    /// The job that waits for longest.
    fn answer_call(&self) -> Option<Box<Errand>> {
        if !self.called.load(Ordering::Acquire) {
            return None;
        }
        let mut errands = lock(&self.errands);
        let errand = errands.waiting.pop_front();
        if errands.waiting.is_empty() {
            self.called.store(false, Ordering::Release);
            if errands.waiting.capacity() > ROOM_KEPT {
                errands.waiting = VecDeque::new();
            }
        }
        errand
    }

    /// Takes no more jobs, and gives those that wait.
    fn shut(&self) -> VecDeque<Box<Errand>> {
        let mut errands = lock(&self.errands);
        errands.shut = true;
        self.called.store(false, Ordering::Release);
        std::mem::take(&mut errands.waiting)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The way to one connection.
#[derive(Clone)]
pub(super) struct LinkHandle {
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
    let shared = Arc::new(Shared::default());
    let handle = LinkHandle {
        shared: Arc::clone(&shared),
    };
    (handle, LinkInbox { shared })
}

#[async_trait]
impl Link for LinkHandle {
    async fn poll(&self, job: PollJob) -> Result<PollOutcome, LinkError> {
        let (reply, outcome) = oneshot::channel();
        self.shared.call(Errand { job, reply })?;
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
        // who waits is told by its dropped sender
        drop(self.shared.shut());
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
            let errand = if jobs { self.shared.answer_call() } else { None };
            errand.map_or(Poll::Pending, |errand| Poll::Ready(Wish::Poll(errand)))
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
        self.shared.answer_call()
    }

    /// Takes no more jobs; those on their way are handed out.
    pub(super) fn close(&mut self) -> Vec<Errand> {
        self.shared.shut().into_iter().map(|errand| *errand).collect()
    }

    /// Changes the counters that handles show.
    pub(super) fn stats<R>(&self, change: impl FnOnce(&mut LinkStats) -> R) -> R {
        change(&mut lock(&self.shared.stats))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{MeterId, PollId};
    use crate::port::field::Priority;
    use futures::FutureExt;
    use std::time::{Duration, Instant};

    fn job(poll: i64) -> PollJob {
        PollJob {
            poll: PollId(poll),
            meter: MeterId(1),
            priority: Priority::Scheduled,
            requests: Vec::new(),
            instead: Vec::new(),
            attempts: 1,
            timeout: Duration::from_secs(1),
            byte_time: Duration::ZERO,
            pause: Duration::ZERO,
            evidence: false,
            deadline: Instant::now(),
            effect: None,
        }
    }

    fn taken(wish: Option<Wish>) -> Option<i64> {
        match wish? {
            Wish::Poll(errand) => Some(errand.job.poll.0),
            Wish::Adopt(_) | Wish::Close(_) => None,
        }
    }

    #[tokio::test]
    async fn jobs_come_in_their_order_wake_who_waits_and_are_bounded() {
        let (handle, mut inbox) = link();
        let waits = tokio::spawn(async move {
            let first = inbox.next(true).await;
            (inbox, taken(Some(first)))
        });
        tokio::task::yield_now().await;
        let calls: Vec<_> = (0..=HANDOVER_JOBS)
            .map(|poll| {
                let handle = handle.clone();
                let mut asked = Box::pin(async move { handle.poll(job(i64::try_from(poll).unwrap())).await });
                let refused = asked.as_mut().now_or_never();
                (asked, refused)
            })
            .collect();
        // the one that waits has not run yet: one job is too many
        let refused: Vec<usize> = (0..calls.len()).filter(|place| calls[*place].1.is_some()).collect();
        assert_eq!(refused, [HANDOVER_JOBS]);
        assert!(matches!(calls[HANDOVER_JOBS].1, Some(Err(LinkError::Busy))));
        let (mut inbox, first) = waits.await.unwrap();
        assert_eq!(first, Some(0));
        assert!(
            inbox.next(false).now_or_never().is_none(),
            "not while jobs are not wanted"
        );
        for poll in 1..10 {
            assert_eq!(taken(inbox.next(true).now_or_never()), Some(poll));
        }
        handle.close(EndCause::Shutdown);
        assert!(
            matches!(inbox.next(true).now_or_never(), Some(Wish::Close(_))),
            "a close comes first"
        );
        while inbox.errand_now().is_some() {}
        assert!(
            lock(&inbox.shared.errands).waiting.capacity() <= ROOM_KEPT,
            "room is given back"
        );
    }

    #[tokio::test]
    async fn who_waits_is_told_of_the_end_and_who_comes_later_is_refused() {
        let (handle, mut inbox) = link();
        let ask = |poll| {
            let handle = handle.clone();
            Box::pin(async move { handle.poll(job(poll)).await })
        };
        let (mut first, mut second) = (ask(1), ask(2));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        // taken and forgotten
        drop(inbox.errand_now());
        assert!(matches!(first.await, Err(LinkError::Closed)));
        drop(inbox);
        assert!(matches!(second.await, Err(LinkError::Closed)));
        assert!(matches!(ask(3).await, Err(LinkError::Closed)));
    }

    #[tokio::test]
    async fn what_waits_at_a_close_is_handed_out() {
        let (handle, mut inbox) = link();
        let mut asked = Box::pin(async move { handle.poll(job(7)).await });
        assert!(asked.as_mut().now_or_never().is_none());
        assert_eq!(inbox.close().len(), 1);
        assert!(inbox.next(true).now_or_never().is_none());
        assert!(matches!(asked.await, Err(LinkError::Closed)));
    }
}
