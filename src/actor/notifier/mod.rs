//! The notifier: works the outbox of notices. What it decides is in `domain/notice`; what it does is in [`engine`].
//!
//! The actor is a supervisor of one worker, which runs plain futures: one that plans and bundles, and one for each kind
//! of channel, so that a mail server that hangs does not hold back an SMS. A worker that dies is built anew with
//! back-off, and takes what it was sending for sent or not sent: it is sent again, marked.

pub mod engine;

pub use engine::{Chance, Engine, NotifierParts, NotifierSettings, SystemChance};

use crate::actor::supervise::{ExitGuard, Restart, RestartPolicy, Restarts};
use crate::telemetry::actor::{ACTORS, ActorRestarted};
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use tokio_util::sync::CancellationToken;

/// The worker; its supervisor's child.
struct Worker {
    parts: NotifierParts,
    stop: CancellationToken,
    guard: ExitGuard,
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["notifier"]).inc();
        let work = engine::run(self.parts.clone(), self.stop.clone());
        ctx.spawn(work.into_actor(self).map(|(), worker, ctx| {
            worker.guard.disarm();
            ctx.stop();
        }));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["notifier"]).dec();
    }
}

/// Keeps one worker alive.
pub struct Notifier {
    parts: NotifierParts,
    restarts: Restarts,
    policy: RestartPolicy,
    stop: CancellationToken,
}

/// The worker is gone without having finished.
#[derive(Message)]
#[rtype(result = "()")]
struct WorkerExited;

impl Notifier {
    /// The actor; it works from its start until `stop`.
    pub fn new(parts: NotifierParts, policy: RestartPolicy, stop: CancellationToken) -> Self {
        Self {
            parts,
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
            parts: self.parts.clone(),
            stop: self.stop.clone(),
            guard: ExitGuard::new(move || parent.do_send(WorkerExited)),
        }
        .start();
    }
}

impl Actor for Notifier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.start_worker(ctx);
    }
}

impl Handler<WorkerExited> for Notifier {
    type Result = ();

    fn handle(&mut self, _: WorkerExited, ctx: &mut Self::Context) {
        let restart = self.restarts.died(self.parts.clock.monotonic(), &self.policy);
        ActorRestarted {
            kind: "notifier",
            id: 0,
            wait_ms: restart.wait().as_millis(),
            intense: matches!(restart, Restart::Intense(_)),
        }
        .emit();
        ctx.run_later(restart.wait(), |notifier, ctx| notifier.start_worker(ctx));
    }
}
