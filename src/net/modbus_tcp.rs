//! Modbus TCP meters and gateways that we dial, through tokio-modbus.
//!
//! The stream is ours alone and has transaction ids, so there is no line to guard. What tokio-modbus cannot do is forget a
//! question: after a time-out its stream may still bring the old answer. So the socket is closed then and dialled anew,
//! while the link and its jobs stay. Answers are handed on as RTU frames: decoding sees the same bytes as on a line.

use super::connection::in_time;
use super::desk::{Desk, Origin, wide};
use super::dial::dial;
use super::link::Wish;
use super::{NetDeps, next_connection};
use crate::base::ids::DtuId;
use crate::exchange::job::TransactionError;
use crate::exchange::visit::{LineFrameKind, Queue, Ticket};
use crate::port::field::{Admission, EndCause};
use crate::protocol::modbus::{self, Body, Function, Reply};
use crate::protocol::{Protocol, Request};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_modbus::client::{Client as _, Context, tcp};
use tokio_modbus::prelude::SlaveContext as _;
use tokio_modbus::{Response, Slave};

/// Bytes around a PDU on Modbus TCP: the header of the messaging guide V1.0b, 3.1.3.
const HEADER: usize = 7;

/// Runs a dialled Modbus TCP connection until it ends; redials by itself after a time-out.
pub(super) async fn run(socket: TcpStream, peer: SocketAddr, address: &str, dtu: DtuId, deps: NetDeps) -> EndCause {
    let origin = Origin::Ours { dtu, peer: Some(peer) };
    let mut master = Master {
        desk: Desk::new(next_connection(), origin, deps.clone()),
        queue: Queue::new(deps.settings.queue_jobs),
        pause: Duration::ZERO,
        free_at: deps.moment().on,
        in_a_row: 0,
        context: Some(tcp::attach_slave(socket, Slave(0))),
        address,
        deps,
    };
    let cause = match master.live(dtu, peer).await {
        Ok(never) => match never {},
        Err(cause) => cause,
    };
    master.end(cause);
    cause
}

struct Master<'a> {
    desk: Desk,
    queue: Queue,
    pause: Duration,
    free_at: Instant,
    in_a_row: u32,
    context: Option<Context>,
    address: &'a str,
    deps: NetDeps,
}

/// What became of one attempt.
enum Attempt {
    Answer(Reply),
    /// No answer in time, or not this question's.
    Silent,
    /// The stream broke.
    Broken,
}

impl Master<'_> {
    async fn live(&mut self, dtu: DtuId, peer: SocketAddr) -> Result<Infallible, EndCause> {
        let connected = self
            .deps
            .registrar
            .connected(self.desk.id, dtu, Some(peer), self.desk.handle());
        let verdict = tokio::select! {
            biased;
            () = self.deps.stop.cancelled() => return Err(EndCause::Shutdown),
            verdict = in_time(connected) => verdict,
        };
        match verdict {
            Admission::Owner(owner) => {
                self.pause = owner.pause;
                self.desk.adopt(owner);
            }
            Admission::Quarantined { .. } => {}
            Admission::Refused(cause) => return Err(cause),
        }
        let stop = self.deps.stop.clone();
        loop {
            let now = self.deps.moment();
            while let Some(ticket) = self.queue.expired(now.on, None) {
                if let Some(visit) = self.queue.get_mut(ticket) {
                    visit.expire(now);
                }
                self.finish(ticket);
            }
            let next = self
                .queue
                .pick(|visit| self.free_at.max(visit.not_before) <= now.on && !visit.job.is_over(now.on));
            if let Some(ticket) = next {
                self.transact(ticket).await?;
                continue;
            }
            let wake = self.wake().map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(EndCause::Shutdown),
                wish = self.desk.inbox.next(true) => self.grant(wish)?,
                () = sleep_until(wake) => {}
            }
        }
    }

    fn wake(&self) -> Option<Instant> {
        self.queue
            .iter()
            .map(|visit| self.free_at.max(visit.not_before).min(visit.job.deadline))
            .min()
    }

    fn grant(&mut self, wish: Wish) -> Result<(), EndCause> {
        match wish {
            Wish::Close(cause) => return Err(cause),
            Wish::Adopt(owner) => {
                self.pause = owner.pause;
                self.desk.adopt(owner);
            }
            Wish::Poll(errand) => {
                let (queue, now) = (&mut self.queue, self.deps.moment());
                self.desk.take(*errand, |job| queue.push(now, job));
            }
        }
        let queued = self.queue.len();
        self.desk.inbox.stats(|stats| stats.queued = queued);
        Ok(())
    }

    /// One attempt of the visit's present question.
    async fn transact(&mut self, ticket: Ticket) -> Result<(), EndCause> {
        let reused = self.context.is_some();
        self.connect().await?;
        let now = self.deps.moment();
        self.queue.begin(ticket);
        let Some(visit) = self.queue.get_mut(ticket) else {
            return Ok(());
        };
        let Some(Request::Modbus(request)) = visit.question().cloned() else {
            visit.expire(now);
            self.finish(ticket);
            return Ok(());
        };
        visit.wrote(now);
        let wire = request.wire();
        let sent = wide(HEADER + request.pdu().len());
        self.desk
            .inbox
            .stats(|stats| stats.bytes_out = stats.bytes_out.saturating_add(sent));
        visit.keep(now.at, LineFrameKind::Request, Protocol::ModbusTcp.name(), wire.into());
        let (timeout, once) = (visit.job.timeout, visit.job.effect.is_some());
        let mut attempt = self.call(&request, timeout).await?;
        if matches!(attempt, Attempt::Broken) && reused && !once {
            // the far end hung up while nothing was asked, which is not the meter's fault
            self.connect().await?;
            attempt = self.call(&request, timeout).await?;
        }
        self.conclude(ticket, &request, attempt, now.on)
    }

    async fn connect(&mut self) -> Result<(), EndCause> {
        if self.context.is_none() {
            let dialling = dial(self.address, &self.deps.settings);
            let dialled = tokio::select! {
                biased;
                () = self.deps.stop.cancelled() => return Err(EndCause::Shutdown),
                dialled = dialling => dialled,
            };
            let (socket, _) = dialled.map_err(|_| EndCause::SocketError)?;
            self.context = Some(tcp::attach_slave(socket, Slave(0)));
        }
        Ok(())
    }

    /// Asks, and closes the stream unless it brought this question's answer.
    async fn call(&mut self, request: &modbus::Request, timeout: Duration) -> Result<Attempt, EndCause> {
        let Some(mut context) = self.context.take() else {
            return Ok(Attempt::Broken);
        };
        context.set_slave(Slave(request.unit()));
        let asked = asked(request);
        let result = {
            let calling = tokio::time::timeout(timeout, context.call(asked));
            tokio::pin!(calling);
            loop {
                tokio::select! {
                    biased;
                    () = self.deps.stop.cancelled() => return Err(EndCause::Shutdown),
                    result = &mut calling => break result,
                    wish = self.desk.inbox.next(false) => self.grant(wish)?,
                }
            }
        };
        let reply = match result {
            Err(_) | Ok(Err(tokio_modbus::Error::Protocol(_))) => return Ok(Attempt::Silent),
            Ok(Err(tokio_modbus::Error::Transport(_))) => return Ok(Attempt::Broken),
            Ok(Ok(Err(exception))) => Reply::Exception(exception.into()),
            Ok(Ok(Ok(response))) => match said(request, response) {
                Some(reply) => reply,
                None => return Ok(Attempt::Silent),
            },
        };
        self.context = Some(context);
        Ok(Attempt::Answer(reply))
    }

    fn conclude(
        &mut self,
        ticket: Ticket,
        request: &modbus::Request,
        attempt: Attempt,
        asked_on: Instant,
    ) -> Result<(), EndCause> {
        let now = self.deps.moment();
        self.free_at = now.on + self.pause;
        let Some(visit) = self.queue.get_mut(ticket) else {
            return Ok(());
        };
        visit.not_before = now.on + visit.job.pause;
        let took = now.on.saturating_duration_since(asked_on);
        visit.held(took);
        let answer = match attempt {
            Attempt::Answer(reply) => request.reply_frame(&reply).ok().map(|frame| (reply, frame)),
            Attempt::Silent | Attempt::Broken => None,
        };
        let over = if let Some((reply, frame)) = answer {
            visit.thought(took);
            self.in_a_row = 0;
            self.desk.inbox.stats(|stats| {
                stats.answers += 1;
                stats.bytes_in = stats
                    .bytes_in
                    .saturating_add(wide(HEADER + frame.len().saturating_sub(3)));
                stats.last_heard_at = Some(now.at);
                let took = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
                stats.round_trip_ms = Some(stats.round_trip_ms.map_or(took, |old| old / 8 * 7 + took / 8));
            });
            let (kind, result) = match reply {
                Reply::Exception(code) => (LineFrameKind::Refusal, Err(TransactionError::Refused(code))),
                _ => (LineFrameKind::Answer, Ok(frame.clone())),
            };
            visit.keep(now.at, kind, Protocol::ModbusTcp.name(), frame.into());
            visit.conclude(now, result)
        } else {
            self.in_a_row += 1;
            visit.fail();
            let gives_up = visit.is_tried(now.on);
            if gives_up {
                self.desk.inbox.stats(|stats| stats.timeouts += 1);
            }
            gives_up && visit.conclude(now, Err(TransactionError::Timeout))
        };
        if over {
            self.finish(ticket);
        }
        if self.in_a_row >= self.deps.settings.dead_line_timeouts.max(1) {
            return Err(EndCause::DeadLine);
        }
        Ok(())
    }

    fn finish(&mut self, ticket: Ticket) {
        if let Some(visit) = self.queue.remove(ticket) {
            self.desk.done(ticket, visit.finish(), |_| false);
        }
        let queued = self.queue.len();
        self.desk.inbox.stats(|stats| stats.queued = queued);
    }

    fn end(&mut self, cause: EndCause) {
        let now = self.deps.moment();
        self.desk.close(cause);
        while let Some(ticket) = self.queue.any() {
            if let Some(visit) = self.queue.get_mut(ticket) {
                visit.lose(now);
            }
            self.finish(ticket);
        }
    }
}

async fn sleep_until(wake: Option<tokio::time::Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// The question in tokio-modbus's words.
fn asked(request: &modbus::Request) -> tokio_modbus::Request<'static> {
    use tokio_modbus::Request as To;
    match request.body() {
        Body::Read {
            function,
            address,
            count,
        } => match function {
            Function::ReadCoils => To::ReadCoils(*address, *count),
            Function::ReadDiscreteInputs => To::ReadDiscreteInputs(*address, *count),
            Function::ReadInputRegisters => To::ReadInputRegisters(*address, *count),
            // functions 1 to 4 alone are reads
            _ => To::ReadHoldingRegisters(*address, *count),
        },
        Body::WriteCoil { address, on } => To::WriteSingleCoil(*address, *on),
        Body::WriteRegister { address, value } => To::WriteSingleRegister(*address, *value),
        Body::WriteCoils { address, bits } => To::WriteMultipleCoils(*address, bits.clone().into()),
        Body::WriteRegisters { address, registers } => To::WriteMultipleRegisters(*address, registers.clone().into()),
    }
}

/// The answer in ours; none when it does not fit the question, which tokio-modbus does not look at.
fn said(request: &modbus::Request, response: Response) -> Option<Reply> {
    let count = usize::from(request.count());
    let reply = match response {
        Response::ReadCoils(mut bits) | Response::ReadDiscreteInputs(mut bits) => {
            // filled up to whole bytes
            if bits.len() != count.div_ceil(8) * 8 && bits.len() != count {
                return None;
            }
            bits.truncate(count);
            Reply::Bits(bits)
        }
        Response::ReadHoldingRegisters(registers) | Response::ReadInputRegisters(registers) => {
            Reply::Registers(registers)
        }
        Response::WriteSingleCoil(address, on) => {
            (*request.body() == Body::WriteCoil { address, on }).then_some(Reply::Written)?
        }
        Response::WriteSingleRegister(address, value) => {
            (*request.body() == Body::WriteRegister { address, value }).then_some(Reply::Written)?
        }
        Response::WriteMultipleCoils(address, many) | Response::WriteMultipleRegisters(address, many) => {
            (request.address() == address && request.count() == many).then_some(Reply::Written)?
        }
        _ => return None,
    };
    request.reply_frame(&reply).is_ok().then_some(reply)
}
