//! The desk for the API, without actix.

use super::{ControlDesk, Decide, GetStops, RequestCommands, ResumeControl, StopAll};
use crate::base::ids::{AccountId, CommandId};
use crate::domain::command::State;
use crate::port::control::{Admitted, CommandRequest, Control, ControlError, Decision, Stop};
use crate::port::scope::{Actor, Scope};
use actix::Addr;
use async_trait::async_trait;

/// The way to the desk.
#[derive(Clone)]
pub struct ControlHandle(pub Addr<ControlDesk>);

#[async_trait]
impl Control for ControlHandle {
    async fn request(&self, scope: Scope, request: CommandRequest) -> Result<Admitted, ControlError> {
        let ask = RequestCommands { scope, request };
        self.0.send(ask).await.unwrap_or(Err(ControlError::Busy))
    }

    async fn decide(
        &self,
        scope: Scope,
        command: CommandId,
        decision: Decision,
        digest: Option<String>,
    ) -> Result<State, ControlError> {
        let ask = Decide {
            scope,
            command,
            decision,
            digest,
        };
        self.0.send(ask).await.unwrap_or(Err(ControlError::Busy))
    }

    async fn stop(&self, account: Option<AccountId>, actor: Actor, reason: String) -> Result<(), ControlError> {
        let ask = StopAll { account, actor, reason };
        self.0.send(ask).await.unwrap_or(Err(ControlError::Busy))
    }

    async fn resume(&self, account: Option<AccountId>, actor: Actor) -> Result<bool, ControlError> {
        let ask = ResumeControl { account, actor };
        self.0.send(ask).await.unwrap_or(Err(ControlError::Busy))
    }

    async fn stops(&self, account: Option<AccountId>) -> Vec<Stop> {
        self.0.send(GetStops(account)).await.unwrap_or_default()
    }
}
