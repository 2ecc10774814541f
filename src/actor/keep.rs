//! Keeps one piece of work alive: a plain future in an actor of its own, made anew by its factory, with back-off, when it
//! dies. What it works on lives outside of it.

use crate::actor::supervise::{ExitGuard, Restart, RestartPolicy, Restarts};
use crate::base::clock::Clock;
use crate::telemetry::actor::{ACTORS, ActorRestarted};
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use futures::future::LocalBoxFuture;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Makes the work.
pub type Factory = Arc<dyn Fn() -> LocalBoxFuture<'static, ()>>;

/// The worker; its keeper's child.
struct Worker {
    kind: &'static str,
    work: Factory,
    guard: ExitGuard,
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ACTORS.with_label_values(&[self.kind]).inc();
        let work = (self.work)();
        ctx.spawn(work.into_actor(self).map(|(), worker, ctx| {
            worker.guard.disarm();
            ctx.stop();
        }));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        ACTORS.with_label_values(&[self.kind]).dec();
    }
}

/// Keeps one worker alive.
pub struct Keeper {
    kind: &'static str,
    work: Factory,
    clock: Arc<dyn Clock>,
    restarts: Restarts,
    policy: RestartPolicy,
    stop: CancellationToken,
}

/// The worker is gone without having finished.
#[derive(Message)]
#[rtype(result = "()")]
struct WorkerExited;

impl Keeper {
    /// The actor; the work goes on from its start until it ends by itself, which it is to do after `stop`. `kind` names it
    /// in metrics.
    pub fn new(
        kind: &'static str,
        work: Factory,
        clock: Arc<dyn Clock>,
        policy: RestartPolicy,
        stop: CancellationToken,
    ) -> Self {
        Self {
            kind,
            work,
            clock,
            restarts: Restarts::default(),
            policy,
            stop,
        }
    }

    fn start_worker(&mut self, ctx: &mut Context<Self>) {
        if self.stop.is_cancelled() {
            return;
        }
        let parent = ctx.address();
        Worker {
            kind: self.kind,
            work: Arc::clone(&self.work),
            guard: ExitGuard::new(move || parent.do_send(WorkerExited)),
        }
        .start();
    }
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.start_worker(ctx);
    }
}

impl Handler<WorkerExited> for Keeper {
    type Result = ();

    fn handle(&mut self, _: WorkerExited, ctx: &mut Self::Context) {
        let restart = self.restarts.died(self.clock.monotonic(), &self.policy);
        ActorRestarted {
            kind: self.kind,
            id: 0,
            wait_ms: restart.wait().as_millis(),
            intense: matches!(restart, Restart::Intense(_)),
        }
        .emit();
        ctx.run_later(restart.wait(), |keeper, ctx| keeper.start_worker(ctx));
    }
}
