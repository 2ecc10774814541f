//! Conversations with one concentrator of Q/GDW 1376.1, without a socket: several questions under way by their sequence
//! numbers, repeated when no answer comes, answers joined from their frames and matched; reports told once and confirmed
//! when they are durable.
//!
//! ```text
//! ask -> waiting -> under way (a number of 16 each) -> answered, denied | failed
//! frame -> an open question's? -> joined -> matched by Request::answer -> Answered
//!       -> begins a dialogue?  -> joined -> seen before? -> Report, or confirmed again
//!       -> else a stray: told, never a value
//! ```
//!
//! Logins and heartbeats never come here: the session confirms them (`protocol/dtu/concentrator.rs`). What changes
//! something is sent once, whatever happens.

#[cfg(test)]
#[path = "dialogue_tests.rs"]
mod tests;

use crate::protocol::gdw376::{
    Advance, Afn, Answer, Assembly, AssemblyError, Confirmation, Edition, EventCounters, Frame, FrameError, Message,
    MessageError, Mismatch, Replays, Request, advance,
};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Sequence numbers that there are. Fewer questions than half of them are under way, so that a late answer to a number
/// is past before the number comes again.
const NUMBERS: u8 = 16;
/// The most questions under way.
const UNDER_WAY_MAX: usize = 7;

/// How a concentrator is spoken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialogueSettings {
    /// Questions under way at once, 1 to 7. Many concentrators take one.
    pub under_way: usize,
    /// Questions that may wait behind them.
    pub waiting: usize,
    /// How long an answer may take, and each further frame of it.
    pub answer_within: Duration,
    /// How often a question that only reads is sent.
    pub attempts: u8,
    /// The most bytes of data of one answer or report.
    pub bytes_max: usize,
    /// The edition that the terminal speaks.
    pub edition: Edition,
}

impl Default for DialogueSettings {
    /// One at a time, a cellular network, three attempts.
    fn default() -> Self {
        Self {
            under_way: 1,
            waiting: 64,
            answer_within: Duration::from_secs(30),
            attempts: 3,
            bytes_max: 64 * 1024,
            edition: Edition::E2013,
        }
    }
}

/// A question's handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// How long and how often one question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long its answer may take, and each further frame of it.
    pub answer_within: Duration,
    /// How often it is sent, if it only reads.
    pub attempts: u8,
}

/// Why a question cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} questions wait already")]
pub struct Full(pub usize);

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialogueError {
    /// Nothing that answers it came.
    #[error("no answer to {attempts} attempts")]
    Silence {
        /// How often it was sent.
        attempts: u8,
    },
    /// What came under its number did not answer it.
    #[error("no answer to {attempts} attempts; the last frame under its number did not fit: {last}")]
    Unfit {
        /// How often it was sent.
        attempts: u8,
        /// What was wrong.
        last: Mismatch,
    },
    /// It changes something and may have been carried out: nobody knows.
    #[error("sent once and not answered: it may have been carried out or not")]
    Unknown,
}

/// Why a frame is nobody's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stray {
    /// No frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame without a message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It answers nothing that is under way.
    #[error("no question is under way under number {0}")]
    Nobody(u8),
    /// It does not fit the question of its number.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// It does not join the frames before it.
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
}

/// What a conversation has to say, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialogueEvent {
    /// To be written to the concentrator.
    Send(Vec<u8>),
    /// A question has its answer.
    Answered {
        /// Which.
        ticket: Ticket,
        /// What it says.
        answer: Answer,
    },
    /// A question has none and is over.
    Failed {
        /// Which.
        ticket: Ticket,
        /// Why.
        error: DialogueError,
    },
    /// The terminal reports of its own accord. [`Dialogue::confirm`] it when it is durable, not before.
    Report(Vec<Message>),
    /// A report that came before and was confirmed came again; it is confirmed again and not told again.
    Replay,
    /// A frame that answers nothing. Never a value.
    Stray(Stray),
    /// A frame has the counters of events.
    Counters(EventCounters),
    /// Events were recorded, by the counters in a frame.
    Events {
        /// How the important ones moved.
        important: Advance,
        /// And the ordinary ones.
        ordinary: Advance,
    },
}

#[derive(Clone, Debug)]
struct Open {
    ticket: Ticket,
    request: Request,
    patience: Patience,
    sent: u8,
    deadline: Instant,
    assembly: Assembly,
    /// The number of the frame that goes on with what is joined.
    next: Option<u8>,
    unfit: Option<Mismatch>,
}

/// A conversation with one concentrator.
#[derive(Debug)]
pub struct Dialogue {
    settings: DialogueSettings,
    tickets: u64,
    number: u8,
    waiting: VecDeque<(Ticket, Request, Patience)>,
    open: Vec<Open>,
    report: Assembly,
    replays: Replays,
    /// Marks of reports that were told and are not durable yet.
    unconfirmed: VecDeque<Message>,
    counters: Option<EventCounters>,
}

/// Whether asking it twice is asking it once.
fn only_reads(afn: Afn) -> bool {
    matches!(
        afn,
        Afn::TERMINAL | Afn::QUERY | Afn::TASK | Afn::REALTIME | Afn::HISTORY | Afn::EVENTS
    )
}

/// Reports that are told and wait to be confirmed, at most; the oldest is forgotten and will be reported again.
const UNCONFIRMED_MAX: usize = 32;

impl Dialogue {
    /// A conversation in which nothing was said.
    pub fn new(settings: DialogueSettings) -> Self {
        Self {
            report: Assembly::new(settings.bytes_max),
            settings,
            tickets: 0,
            number: 0,
            waiting: VecDeque::new(),
            open: Vec::new(),
            replays: Replays::default(),
            unconfirmed: VecDeque::new(),
            counters: None,
        }
    }

    /// Asks a question, now or when it is its turn.
    ///
    /// # Errors
    /// [`Full`]: too many wait.
    pub fn ask(&mut self, now: Instant, request: Request) -> Result<(Ticket, Vec<DialogueEvent>), Full> {
        let patience = Patience {
            answer_within: self.settings.answer_within,
            attempts: self.settings.attempts,
        };
        self.ask_with(now, request, patience)
    }

    /// The same with a patience of its own.
    ///
    /// # Errors
    /// [`Full`]: too many wait.
    pub fn ask_with(
        &mut self,
        now: Instant,
        request: Request,
        patience: Patience,
    ) -> Result<(Ticket, Vec<DialogueEvent>), Full> {
        if self.waiting.len() >= self.settings.waiting {
            return Err(Full(self.waiting.len()));
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.push_back((ticket, request, patience));
        let mut events = Vec::new();
        self.begin(now, &mut events);
        Ok((ticket, events))
    }

    /// Sends what may be sent.
    fn begin(&mut self, now: Instant, events: &mut Vec<DialogueEvent>) {
        let most = self.settings.under_way.clamp(1, UNDER_WAY_MAX);
        while self.open.len() < most
            && let Some((ticket, request, patience)) = self.waiting.pop_front()
        {
            self.number = self.free_number();
            let request = request.numbered(self.number);
            events.push(DialogueEvent::Send(request.wire()));
            self.open.push(Open {
                ticket,
                request,
                patience,
                sent: 1,
                deadline: now + patience.answer_within,
                assembly: Assembly::new(self.settings.bytes_max),
                next: None,
                unfit: None,
            });
        }
    }

    /// The next number that no question is under way with.
    fn free_number(&self) -> u8 {
        let taken = |number: &u8| self.open.iter().any(|open| open.request.number() == *number);
        let after = (1..=NUMBERS).map(|step| (self.number + step) % NUMBERS);
        after.into_iter().find(|number| !taken(number)).unwrap_or_default()
    }

    /// A frame came, whole, as the session cut it.
    pub fn feed(&mut self, now: Instant, frame: &[u8]) -> Vec<DialogueEvent> {
        let mut events = Vec::new();
        let read = Frame::parse(frame)
            .map_err(Stray::from)
            .and_then(|frame| Ok(Message::of(&frame)?));
        match read {
            Ok(message) => self.hear(now, message, &mut events),
            Err(stray) => events.push(DialogueEvent::Stray(stray)),
        }
        events
    }

    fn hear(&mut self, now: Instant, message: Message, events: &mut Vec<DialogueEvent>) {
        let counters = message.events;
        if message.control.is_from_terminal() && message.control.is_primary() {
            self.reported(message, events);
        } else {
            self.answered(now, message, events);
        }
        if let Some(counters) = counters {
            self.count(counters, events);
        }
    }

    fn count(&mut self, counters: EventCounters, events: &mut Vec<DialogueEvent>) {
        events.push(DialogueEvent::Counters(counters));
        let Some(before) = self.counters.replace(counters) else {
            return;
        };
        let important = advance(before.important, counters.important);
        let ordinary = advance(before.ordinary, counters.ordinary);
        if (important, ordinary) != (Advance::None, Advance::None) {
            events.push(DialogueEvent::Events { important, ordinary });
        }
    }

    fn reported(&mut self, message: Message, events: &mut Vec<DialogueEvent>) {
        let frames = match self.report.push(message) {
            Ok(None) => return,
            Ok(Some(frames)) => frames,
            Err(error) => return events.push(DialogueEvent::Stray(error.into())),
        };
        let Some(last) = frames.last().cloned() else { return };
        // told already and still on its way to the disk: it will be confirmed then
        if self.unconfirmed.contains(&last) {
            return;
        }
        if self.replays.is_replay(&last) {
            events.push(DialogueEvent::Replay);
            events.extend(confirmation(&last).map(DialogueEvent::Send));
            return;
        }
        if self.unconfirmed.len() >= UNCONFIRMED_MAX
            && let Some(forgotten) = self.unconfirmed.pop_front()
        {
            // else it would be confirmed as a replay, and nobody kept it
            self.replays.forget(&forgotten);
        }
        self.unconfirmed.push_back(last);
        events.push(DialogueEvent::Report(frames));
    }

    /// A report is durable: what has to be written to the concentrator, if it wants to be told.
    pub fn confirm(&mut self, report: &[Message]) -> Option<Vec<u8>> {
        let last = report.last()?;
        self.unconfirmed.retain(|kept| kept != last);
        confirmation(last)
    }

    /// A report could not be kept: it is not confirmed, and told anew when the terminal repeats it.
    pub fn lost(&mut self, report: &[Message]) {
        if let Some(last) = report.last() {
            self.unconfirmed.retain(|kept| kept != last);
            self.replays.forget(last);
        }
    }

    fn answered(&mut self, now: Instant, message: Message, events: &mut Vec<DialogueEvent>) {
        let number = message.seq.number();
        let is_first = message.seq.is_first();
        let fits = |open: &Open| match is_first {
            true => open.request.number() == number,
            // a frame twice says so itself
            false => open.next == Some(number) || open.next == Some((number + 1) % NUMBERS),
        };
        let Some(at) = self.open.iter().position(fits) else {
            return events.push(DialogueEvent::Stray(Stray::Nobody(number)));
        };
        let Some(open) = self.open.get_mut(at) else { return };
        if let Err(mismatch) = open.request.belongs(&message) {
            open.unfit = Some(mismatch.clone());
            return events.push(DialogueEvent::Stray(mismatch.into()));
        }
        match open.assembly.push(message) {
            Ok(None) => {
                open.next = Some((number + 1) % NUMBERS);
                open.deadline = now + open.patience.answer_within;
            }
            Ok(Some(frames)) => {
                open.next = None;
                match open.request.answer(&frames, self.settings.edition) {
                    Ok(answer) => {
                        let ticket = self.open.remove(at).ticket;
                        events.push(DialogueEvent::Answered { ticket, answer });
                        self.begin(now, events);
                    }
                    Err(mismatch) => {
                        open.unfit = Some(mismatch.clone());
                        events.push(DialogueEvent::Stray(mismatch.into()));
                    }
                }
            }
            Err(error) => {
                if !open.assembly.is_open() {
                    open.next = None;
                }
                events.push(DialogueEvent::Stray(error.into()));
            }
        }
    }

    /// Time passed. Cheap and harmless when called too often.
    pub fn tick(&mut self, now: Instant) -> Vec<DialogueEvent> {
        let mut events = Vec::new();
        let mut at = 0;
        while let Some(open) = self.open.get_mut(at) {
            if now < open.deadline {
                at += 1;
                continue;
            }
            let again = only_reads(open.request.afn()) && open.sent < open.patience.attempts;
            if again {
                open.sent += 1;
                open.deadline = now + open.patience.answer_within;
                open.assembly.clear();
                open.next = None;
                events.push(DialogueEvent::Send(open.request.wire()));
                at += 1;
                continue;
            }
            let open = self.open.remove(at);
            let (ticket, attempts) = (open.ticket, open.sent);
            let error = match open.unfit {
                _ if !only_reads(open.request.afn()) => DialogueError::Unknown,
                Some(last) => DialogueError::Unfit { attempts, last },
                None => DialogueError::Silence { attempts },
            };
            events.push(DialogueEvent::Failed { ticket, error });
        }
        self.begin(now, &mut events);
        events
    }

    /// When [`Dialogue::tick`] has to be called at the latest, if nothing arrives before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.open.iter().map(|open| open.deadline).min()
    }

    /// The connection is gone: every question fails, what changes something with an unknown end only if it was sent.
    pub fn end(&mut self) -> Vec<DialogueEvent> {
        self.report.clear();
        let sent = std::mem::take(&mut self.open).into_iter().map(|open| {
            let reads = only_reads(open.request.afn());
            let attempts = open.sent;
            let silent = DialogueError::Silence { attempts };
            (open.ticket, if reads { silent } else { DialogueError::Unknown })
        });
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let waiting = waiting.map(|(ticket, ..)| (ticket, DialogueError::Silence { attempts: 0 }));
        sent.chain(waiting)
            .map(|(ticket, error)| DialogueEvent::Failed { ticket, error })
            .collect()
    }

    /// How often a question under way was sent; none when it is not under way.
    pub fn sent(&self, ticket: Ticket) -> Option<u8> {
        self.open
            .iter()
            .find(|open| open.ticket == ticket)
            .map(|open| open.sent)
    }

    /// Questions under way and waiting.
    pub fn load(&self) -> usize {
        self.open.len() + self.waiting.len()
    }
}

/// The confirmation that a report wants, if it wants one.
fn confirmation(report: &Message) -> Option<Vec<u8>> {
    report.seq.wants_confirmation().then_some(())?;
    Some(Confirmation::All.to(report).frame()?.wire())
}
