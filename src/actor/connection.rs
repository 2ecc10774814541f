//! The actor of one DTU connection: a thin shell around the one future that owns the socket.
//!
//! The future (made by `net/`, handed in as a task) does the work; the shell gives it an arbiter, a place in the tree
//! and an end: when the future ends the actor stops, and when it panics the guard tells whoever has to know.

use crate::actor::messages::ConnectionTask;
use crate::actor::supervise::ExitGuard;
use crate::telemetry::actor::ACTORS;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};

/// The actor.
pub struct DtuConnection {
    task: Option<ConnectionTask>,
    guard: ExitGuard,
}

impl DtuConnection {
    /// `guard` tells the parent on any end but an orderly one.
    pub fn new(task: ConnectionTask, guard: ExitGuard) -> Self {
        Self {
            task: Some(task),
            guard,
        }
    }
}

impl Actor for DtuConnection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["connection"]).inc();
        let Some(task) = self.task.take() else {
            return ctx.stop();
        };
        ctx.spawn(task().into_actor(self).map(|(), connection, ctx| {
            connection.guard.disarm();
            ctx.stop();
        }));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["connection"]).dec();
    }
}

/// Stops a dialled connection: its task is dropped, which closes the socket.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct StopConnection;

impl actix::Handler<StopConnection> for DtuConnection {
    type Result = ();

    fn handle(&mut self, _: StopConnection, ctx: &mut Self::Context) {
        self.guard.disarm();
        ctx.stop();
    }
}
