//! What a relay frame costs: a permit that ControlDesk alone mints, out of a command whose step to `sent` is written
//! down. `device/relay` demands one for every frame that moves a relay and uses it up.
//!
//! Rust cannot say "this room alone", so `tests/architecture.rs` does: it proves that nobody but the desk names
//! [`Mint`], and that nobody but `device/relay` names the encoders that the permit opens.

use super::action::Action;
use super::brake::PERMIT_LIFE;
use super::machine::{Command, State, Target};
use crate::base::ids::{CommandId, SessionId};
use chrono::{DateTime, Utc};

/// The right to make permits. The desk has the one of the process.
#[derive(Debug)]
pub struct Mint {
    _of_the_desk: (),
}

/// The right to one relay frame. Neither copied nor made again: a frame uses it up.
#[derive(Debug)]
pub struct TripPermit {
    command: CommandId,
    target: Target,
    action: Action,
    session: SessionId,
    begins_before: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

/// A permit was asked for a command that is not `sent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("command {command} is {state}, a permit is for one that was just sent", state = .state.as_str())]
pub struct NotSent {
    /// Which.
    pub command: CommandId,
    /// As it stands.
    pub state: State,
}

impl Mint {
    /// The desk's. `tests/architecture.rs` keeps everybody else from calling it.
    #[expect(clippy::new_without_default, reason = "a default would be a second door")]
    pub fn new() -> Self {
        Self { _of_the_desk: () }
    }

    /// The permit of a command that became `sent` at `now`.
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn permit(&self, command: &Command, now: DateTime<Utc>) -> Result<TripPermit, NotSent> {
        let session = command.sent_through.filter(|_| command.state == State::Sent);
        let Some(session) = session else {
            return Err(NotSent {
                command: command.id,
                state: command.state,
            });
        };
        Ok(TripPermit {
            command: command.id,
            target: command.target.clone(),
            action: command.action.clone(),
            session,
            begins_before: (now + PERMIT_LIFE).min(command.expires_at),
            expires_at: command.expires_at,
        })
    }
}

impl TripPermit {
    /// For which command.
    pub fn command(&self) -> CommandId {
        self.command
    }

    /// For which meter, as it stood when it was asked for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// For which action.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// Through which session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The frame begins before this instant or never.
    pub fn begins_before(&self) -> DateTime<Utc> {
        self.begins_before
    }

    /// The command's deadline, for protocols that carry one in the frame.
    pub fn expires_at(&self) -> DateTime<Utc> {
        self.expires_at
    }
}
