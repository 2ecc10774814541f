//! The drain: the one reader of durable records, in order, from the cursor on.

use super::cursor::Place;
use super::reader::{Batch, Reader};
use super::room::{Durable, Room, failed};
use crate::port::ledger::{PollRecord, SinkError, SpoolDrain, SpoolPosition};
use async_trait::async_trait;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// How many batches may be handed out and not committed before their borders are forgotten (a commit then counts up to
/// the last border known).
const BORDERS_MAX: usize = 1024;

/// What the drain asks of the reading thread.
pub(super) enum Ask {
    Read {
        at: Place,
        records_max: usize,
        reply: oneshot::Sender<io::Result<Batch>>,
    },
    Commit {
        place: Place,
        reply: oneshot::Sender<io::Result<()>>,
    },
}

/// What the reading worker does with a question.
pub(super) fn serve(reader: &mut Reader, ask: Ask) {
    // who asked may have gone; reading has no effect, and a commit is right all the same
    match ask {
        Ask::Read { at, records_max, reply } => drop(reply.send(reader.read(at, records_max))),
        Ask::Commit { place, reply } => drop(reply.send(reader.commit(place))),
    }
}

/// The reading side of a spool. Dropping a pending [`SpoolDrain::next`] loses nothing: the records come again.
#[derive(Debug)]
pub struct Drain {
    asks: mpsc::Sender<Ask>,
    room: Arc<Room>,
    durable: watch::Receiver<Durable>,
    at: Place,
    borders: VecDeque<Place>,
}

impl Drain {
    pub(super) fn new(asks: mpsc::Sender<Ask>, room: Arc<Room>, start: Place) -> Self {
        let durable = room.durable.subscribe();
        Self {
            asks,
            room,
            durable,
            at: start,
            borders: VecDeque::new(),
        }
    }

    async fn ask<T>(
        &self,
        what: &str,
        question: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Ask,
    ) -> Result<T, SinkError> {
        let (reply, answer) = oneshot::channel();
        let gone = || SinkError::Failed("the spool's reading thread has ended".into());
        self.asks.send(question(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map_err(|error| failed(what, &error))
    }
}

#[async_trait]
impl SpoolDrain for Drain {
    async fn next(&mut self, records_max: usize) -> Result<Option<(Vec<PollRecord>, SpoolPosition)>, SinkError> {
        let records_max = records_max.max(1);
        loop {
            let durable = *self.durable.borrow_and_update();
            let at = self.at;
            if at.position() < durable.place.position() {
                let batch = self
                    .ask("reading the spool", |reply| Ask::Read { at, records_max, reply })
                    .await?;
                let moved = batch.next != at;
                self.at = batch.next;
                if !batch.records.is_empty() {
                    if self.borders.len() >= BORDERS_MAX {
                        self.borders.pop_front();
                    }
                    self.borders.push_back(batch.next);
                    return Ok(Some((batch.records, batch.next.position())));
                }
                if moved {
                    continue;
                }
            }
            if durable.closed {
                return Ok(None);
            }
            if self.durable.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    async fn committed(&mut self, position: SpoolPosition) -> Result<(), SinkError> {
        let covered = self
            .borders
            .iter()
            .take_while(|border| border.position() <= position)
            .count();
        let Some(place) = covered.checked_sub(1).and_then(|last| self.borders.get(last)).copied() else {
            return Ok(());
        };
        self.ask("writing the cursor", |reply| Ask::Commit { place, reply })
            .await?;
        self.borders.drain(..covered);
        Ok(())
    }

    fn backlog(&self) -> u64 {
        self.room.backlog()
    }
}
