//! The alarm actor: judges what the storage actor has committed and, every few seconds, what sessions, commands, slots and
//! the server itself show; writes down what follows, and tells it on the live stream.
//!
//! The database is the truth. Of one key at most one alarm is open there; what is on its way to an alarm is kept there; a
//! mark says up to where readings have been judged. So whatever dies (the actor, the process, the database) nothing is
//! raised twice for it and nothing that was stored goes unjudged. What is wrong is decided in [`crate::domain::alarm`].

pub mod feed;
mod hours;
mod judge;
mod sweep;

use crate::actor::supervise::{ExitGuard, Restart, RestartPolicy, Restarts};
use crate::base::clock::Clock;
use crate::port::alarms::AlarmLog;
use crate::port::live::LiveFeed;
use crate::port::readiness::ReadinessCheck;
use crate::telemetry::actor::{ACTORS, ActorRestarted};
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use feed::AlarmInbox;
use judge::Engine;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How often the actor looks around, and what of it.
#[derive(Clone, Copy, Debug)]
pub struct AlarmSettings {
    /// Between two looks around.
    pub every: Duration,
    /// Critical alarms that nobody has acknowledged are reminded of after so long, and again; zero: never.
    pub remind_after: Duration,
}

impl Default for AlarmSettings {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(15),
            remind_after: Duration::from_secs(4 * 3600),
        }
    }
}

/// What the actor is built of; survives it.
#[derive(Clone)]
pub struct AlarmParts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where alarms are.
    pub log: Arc<dyn AlarmLog>,
    /// Where steps are shown.
    pub live: Arc<dyn LiveFeed>,
    /// The server's own parts; those that are not well for a minute are an alarm.
    pub checks: Vec<Arc<dyn ReadinessCheck>>,
    /// Settings.
    pub settings: AlarmSettings,
    inbox: Arc<Mutex<AlarmInbox>>,
}

impl AlarmParts {
    /// Parts that read from this inbox.
    pub fn new(
        clock: Arc<dyn Clock>,
        log: Arc<dyn AlarmLog>,
        live: Arc<dyn LiveFeed>,
        checks: Vec<Arc<dyn ReadinessCheck>>,
        settings: AlarmSettings,
        inbox: AlarmInbox,
    ) -> Self {
        Self {
            clock,
            log,
            live,
            checks,
            settings,
            inbox: Arc::new(Mutex::new(inbox)),
        }
    }

    /// Runs until nobody is left who could say anything.
    async fn run(self) {
        // one judge: a second one (after a death) waits here until the first one's guard is gone
        let inbox = Arc::clone(&self.inbox);
        let mut inbox = inbox.lock().await;
        let every = self.settings.every;
        let mut engine = Engine::resume(self).await;
        let mut due = engine.monotonic();
        loop {
            // looked at with each message too: a flood of readings must not put it off
            if engine.monotonic() >= due {
                engine.look_around().await;
                due = engine.monotonic() + every;
            }
            if let Some(since) = inbox.take_missed() {
                engine.judge_again(since).await;
            }
            let wait = due.saturating_duration_since(engine.monotonic());
            match tokio::time::timeout(wait, inbox.next()).await {
                Ok(None) => return,
                Ok(Some(feed::Input::Look)) => due = due.min(engine.monotonic() + Duration::from_secs(1)),
                Ok(Some(input)) => engine.take(input).await,
                Err(_time_to_look) => {}
            }
        }
    }
}

/// The judge; its own supervisor's child.
struct Judge {
    parts: AlarmParts,
    guard: ExitGuard,
}

impl Actor for Judge {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["alarm"]).inc();
        ctx.spawn(self.parts.clone().run().into_actor(self).map(|(), judge, ctx| {
            judge.guard.disarm();
            ctx.stop();
        }));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["alarm"]).dec();
    }
}

/// Keeps one judge alive.
pub struct Alarms {
    parts: AlarmParts,
    restarts: Restarts,
    policy: RestartPolicy,
}

/// The judge is gone without having finished.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct JudgeExited;

impl Alarms {
    /// The actor; it judges from its start on and ends when every feed is gone.
    pub fn new(parts: AlarmParts, policy: RestartPolicy) -> Self {
        Self {
            parts,
            restarts: Restarts::default(),
            policy,
        }
    }

    fn start_judge(&mut self, ctx: &mut Context<Self>) {
        let parent = ctx.address();
        let guard = ExitGuard::new(move || parent.do_send(JudgeExited));
        Judge {
            parts: self.parts.clone(),
            guard,
        }
        .start();
    }
}

impl Actor for Alarms {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.start_judge(ctx);
    }
}

impl actix::Handler<JudgeExited> for Alarms {
    type Result = ();

    fn handle(&mut self, _: JudgeExited, ctx: &mut Self::Context) {
        let restart = self.restarts.died(self.parts.clock.monotonic(), &self.policy);
        ActorRestarted {
            kind: "alarm",
            id: 0,
            wait_ms: restart.wait().as_millis(),
            intense: matches!(restart, Restart::Intense(_)),
        }
        .emit();
        ctx.run_later(restart.wait(), |alarms, ctx| alarms.start_judge(ctx));
    }
}

/// Stops judging: what was not judged is judged by the next process.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct StopAlarms;

impl actix::Handler<StopAlarms> for Alarms {
    type Result = ();

    fn handle(&mut self, _: StopAlarms, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
