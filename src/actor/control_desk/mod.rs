//! The control desk: the one place where a command becomes a frame. It writes every edge down before its effect, judges
//! everything anew before it sends, counts the brake, mints the permit, and reads back what happened.
//!
//! The actor is a shell around [`desk::Desk`]: it answers people, and every half second looks at what is due. A command
//! that wants its meter is worked on by a future of its own ([`visit`]), one per DTU, bounded in all. If the desk dies
//! the process ends and a start recovers everything from the database.

mod books;
mod desk;
mod handle;
mod people;
mod schedules;
mod visit;

pub use handle::ControlHandle;

use crate::actor::durable::PollLog;
use crate::actor::messages::{GetLines, LineNow};
use crate::actor::registry::Registry;
use crate::base::clock::Clock;
use crate::base::ids::{AccountId, CommandId, DtuId, GrowingIds};
use crate::device::catalogue::Catalogue;
use crate::domain::command::{BrakeLimits, State};
use crate::port::control::{Admitted, CommandLog, CommandRequest, ControlError, Decision, Stop};
use crate::port::live::LiveFeed;
use crate::port::scope::{Actor as Who, Scope, StoreError};
use crate::protocol::dlt645::Security;
use crate::telemetry::actor::ACTORS;
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult, ResponseFuture};
use async_trait::async_trait;
use desk::Desk;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(500);

/// Bounds and switches of the desk.
#[derive(Clone, Debug)]
pub struct DeskSettings {
    /// Whether commands are taken at all.
    pub enabled: bool,
    /// The brake.
    pub limits: BrakeLimits,
    /// Visits at once.
    pub visits_max: usize,
    /// Open commands in all accounts.
    pub open_max: usize,
    /// Password and operator of DL/T 645 meters.
    pub security: Security,
}

/// Where the desk finds lines.
#[async_trait(?Send)]
pub trait Lines {
    /// The lines of these DTUs; none for one that is not there.
    async fn lines(&self, dtus: Vec<DtuId>) -> Vec<Option<LineNow>>;
}

#[async_trait(?Send)]
impl Lines for Addr<Registry> {
    async fn lines(&self, dtus: Vec<DtuId>) -> Vec<Option<LineNow>> {
        self.send(GetLines(dtus)).await.unwrap_or_default()
    }
}

/// What the desk is built of.
#[derive(Clone)]
pub struct DeskParts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where commands are written down.
    pub log: Arc<dyn CommandLog>,
    /// Where lines are found.
    pub lines: Rc<dyn Lines>,
    /// Meter models.
    pub catalogue: Arc<Catalogue>,
    /// Where steps are shown.
    pub live: Arc<dyn LiveFeed>,
    /// Ids of visits.
    pub polls: Arc<GrowingIds>,
    /// Where raw frames of control are kept.
    pub frames: Arc<dyn PollLog>,
    /// Bounds.
    pub settings: DeskSettings,
}

/// The actor.
pub struct ControlDesk {
    desk: Rc<Desk>,
}

impl ControlDesk {
    /// Takes up what an earlier process left: what it may have sent is unknown now and has to be read back.
    ///
    /// # Errors
    /// [`StoreError`]; without its books the desk does not open.
    pub async fn open(parts: DeskParts) -> Result<Addr<Self>, StoreError> {
        let desk = Rc::new(Desk::resume(parts).await?);
        Ok(Self { desk }.start())
    }

    fn tick(ctx: &mut Context<Self>) {
        ctx.run_later(TICK, |actor, ctx| {
            let desk = Rc::clone(&actor.desk);
            // the next tick follows this one's end, so that a slow database is not asked twice at once
            let done = actix::fut::wrap_future::<_, Self>(async move { desk.tick().await });
            ctx.spawn(actix::ActorFutureExt::map(done, |(), _, ctx: &mut Context<Self>| {
                Self::tick(ctx)
            }));
        });
    }
}

impl Actor for ControlDesk {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["control_desk"]).inc();
        Self::tick(ctx);
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["control_desk"]).dec();
    }
}

/// A person asks for commands.
#[derive(Message)]
#[rtype(result = "Result<Admitted, ControlError>")]
struct RequestCommands {
    scope: Scope,
    request: CommandRequest,
}

/// A person decides.
#[derive(Message)]
#[rtype(result = "Result<State, ControlError>")]
struct Decide {
    scope: Scope,
    command: CommandId,
    decision: Decision,
    digest: Option<String>,
}

/// A person stops everything.
#[derive(Message)]
#[rtype(result = "Result<(), ControlError>")]
struct StopAll {
    account: Option<AccountId>,
    actor: Who,
    reason: String,
}

/// A person ends a stop.
#[derive(Message)]
#[rtype(result = "Result<bool, ControlError>")]
struct ResumeControl {
    account: Option<AccountId>,
    actor: Who,
}

/// The stops in force.
#[derive(Message)]
#[rtype(result = "Vec<Stop>")]
struct GetStops(Option<AccountId>);

/// The server stops: nothing new begins; answered when what was begun is written down.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CloseDesk;

impl Handler<RequestCommands> for ControlDesk {
    type Result = ResponseFuture<Result<Admitted, ControlError>>;

    fn handle(&mut self, ask: RequestCommands, _ctx: &mut Self::Context) -> Self::Result {
        let desk = Rc::clone(&self.desk);
        Box::pin(async move { desk.request(ask.scope, ask.request, None).await })
    }
}

impl Handler<Decide> for ControlDesk {
    type Result = ResponseFuture<Result<State, ControlError>>;

    fn handle(&mut self, ask: Decide, _ctx: &mut Self::Context) -> Self::Result {
        let desk = Rc::clone(&self.desk);
        Box::pin(async move {
            desk.decide(&ask.scope, ask.command, ask.decision, ask.digest.as_deref())
                .await
        })
    }
}

impl Handler<StopAll> for ControlDesk {
    type Result = ResponseFuture<Result<(), ControlError>>;

    fn handle(&mut self, ask: StopAll, _ctx: &mut Self::Context) -> Self::Result {
        // in force before anything is written down: no frame begins from here on
        let stop = self.desk.stop_now(ask.account, &ask.actor, ask.reason);
        let desk = Rc::clone(&self.desk);
        Box::pin(async move { desk.stop_written(stop, &ask.actor).await })
    }
}

impl Handler<ResumeControl> for ControlDesk {
    type Result = ResponseFuture<Result<bool, ControlError>>;

    fn handle(&mut self, ask: ResumeControl, _ctx: &mut Self::Context) -> Self::Result {
        let desk = Rc::clone(&self.desk);
        Box::pin(async move { desk.resume_control(ask.account, &ask.actor).await })
    }
}

impl Handler<GetStops> for ControlDesk {
    type Result = MessageResult<GetStops>;

    fn handle(&mut self, GetStops(account): GetStops, _ctx: &mut Self::Context) -> Self::Result {
        MessageResult(self.desk.stops(account))
    }
}

impl Handler<CloseDesk> for ControlDesk {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: CloseDesk, _ctx: &mut Self::Context) -> Self::Result {
        let desk = Rc::clone(&self.desk);
        Box::pin(async move { desk.close().await })
    }
}
