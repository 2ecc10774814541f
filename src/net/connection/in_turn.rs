//! What goes to where it is durable, one after the other, while the connection goes on.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;

/// What is on its way, and what will be told of it.
type Going<T, R> = (T, Pin<Box<dyn Future<Output = R> + Send>>);

struct Queue<W, T, R> {
    waiting: VecDeque<W>,
    under_way: Option<Going<T, R>>,
}

/// See the file's head: `W` waits, `T` is kept of it while it is on its way, `R` is what becomes of it. Most connections never
/// have anything to put away, and then this is a pointer.
pub(super) struct InTurn<W, T, R>(Option<Box<Queue<W, T, R>>>);

impl<W, T, R> Default for InTurn<W, T, R> {
    fn default() -> Self {
        Self(None)
    }
}

impl<W, T, R> InTurn<W, T, R> {
    fn queue(&mut self) -> &mut Queue<W, T, R> {
        self.0.get_or_insert_with(|| {
            Box::new(Queue {
                waiting: VecDeque::new(),
                under_way: None,
            })
        })
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.waiting.len())
    }

    /// Whether one is on its way.
    pub(super) fn is_busy(&self) -> bool {
        self.0.as_ref().is_some_and(|queue| queue.under_way.is_some())
    }

    /// Puts one behind the others; how many may wait is the caller's matter.
    pub(super) fn push(&mut self, one: W) {
        self.queue().waiting.push_back(one);
    }

    /// Takes the first that waits.
    pub(super) fn pop(&mut self) -> Option<W> {
        self.0.as_mut()?.waiting.pop_front()
    }

    /// Sends one on its way; the caller has seen that none is.
    pub(super) fn begin(&mut self, kept: T, going: impl Future<Output = R> + Send + 'static) {
        self.queue().under_way = Some((kept, Box::pin(going)));
    }

    /// Waits until the one under way has ended; for ever while there is none. Dropping the wait loses nothing.
    pub(super) async fn ended(&mut self) -> (T, R) {
        let Some(queue) = self.0.as_mut() else {
            return pending().await;
        };
        let became = match queue.under_way.as_mut() {
            Some((_, going)) => going.await,
            None => pending().await,
        };
        match queue.under_way.take() {
            Some((kept, _)) => (kept, became),
            None => pending().await,
        }
    }
}
