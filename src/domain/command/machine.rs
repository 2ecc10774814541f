//! The state machine of a command. An edge is a value; [`Command::apply`] checks its guard and gives the command behind
//! it, or says why it may not be. Nothing else changes a command.

use super::action::Action;
use super::brake::BrakeLimit;
use super::policy::Clearance;
use super::time::Moment;
use crate::base::ids::{AccountId, CommandId, DtuId, MeterId, SessionId, UserId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Where a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Asked for; nothing holds it.
    Requested,
    /// Waits for people.
    Held,
    /// Enough people have approved it.
    Approved,
    /// It may be on the wire.
    Sent,
    /// Read back: it happened.
    Confirmed,
    /// It did not happen.
    Failed,
    /// It may have happened; reading will tell.
    Unknown,
    /// A person or an interlock said no before it was sent.
    Rejected,
    /// Withdrawn before it was sent.
    Cancelled,
    /// Not sent in time.
    Expired,
}

impl State {
    /// Every state.
    pub const ALL: &'static [Self] = &[
        Self::Requested,
        Self::Held,
        Self::Approved,
        Self::Sent,
        Self::Confirmed,
        Self::Failed,
        Self::Unknown,
        Self::Rejected,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The name in the API, the database and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Held => "held",
            Self::Approved => "approved",
            Self::Sent => "sent",
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Finds a state by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == name)
    }

    /// Not sent yet: it can still be stopped.
    pub fn is_pending(self) -> bool {
        matches!(self, Self::Requested | Self::Held | Self::Approved)
    }

    /// Something may still happen to it.
    pub fn is_open(self) -> bool {
        self.is_pending() || matches!(self, Self::Sent | Self::Unknown)
    }
}

/// The meter as it stood when the command was asked for. If any of it changed, nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The meter.
    pub meter: MeterId,
    /// Its DTU.
    pub dtu: DtuId,
    /// Its protocol.
    pub protocol: String,
    /// Its address in that protocol.
    pub address: String,
    /// Its model.
    pub model: String,
    /// Behind a concentrator: which meter stands at its measuring point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<Behind>,
}

/// A meter behind a concentrator, as the archive that we want has it. The point alone names nobody: a place of an archive can
/// be written anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// The place in the archive.
    pub place: u16,
    /// The meter's own address, twelve digits; no other place of this archive has it.
    pub meter_address: String,
    /// What the concentrator speaks with it, as [`crate::domain::archive::PROTOCOLS`] has it.
    pub meter_protocol: String,
    /// The concentrator's port.
    pub port: u8,
}

/// Why a command waits for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// The policy wants a second person.
    FourEyes,
    /// It exceeds the brake: two people.
    Brake(BrakeLimit),
}

/// One person's approval of one command as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Who.
    pub by: UserId,
    /// When.
    pub at: DateTime<Utc>,
    /// [`Command::digest`] of what was approved.
    pub digest: [u8; 32],
}

/// The meter's own number was read through this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionProof {
    /// The session.
    pub session: SessionId,
    /// The meter whose number it is.
    pub meter: MeterId,
    /// When it was read.
    pub at: DateTime<Utc>,
    /// What was read, for the history.
    pub said: String,
}

/// What a command's outcome is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The switch, the valve, the parameter was read back after the frame: is it as wanted?
    ReadBack {
        /// Whether it is.
        as_wanted: bool,
    },
    /// The frame never began: nothing can have happened.
    NeverBegan,
    /// The device refused, and what it refused has no state to be read back.
    Refused,
    /// The device answered, and what it did has no state to be read back.
    Answered,
}

/// A step of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Edge {
    /// To `held`: it waits for so many people.
    Hold {
        /// Why.
        holds: Vec<Hold>,
        /// How many people other than who asked.
        needs: u8,
    },
    /// One person approves; `approved` when enough have.
    Approve(Approval),
    /// To `rejected`, by a person or an interlock.
    Reject,
    /// To `cancelled`.
    Cancel,
    /// To `expired`.
    Expire,
    /// To `sent`; demands the clearance of this very version and a proof of the session.
    Send {
        /// Policy, interlocks, brake and deadline were judged.
        clearance: Clearance,
        /// The meter's number was read.
        proof: SessionProof,
    },
    /// To `confirmed` or `failed`.
    Resolve(Evidence),
    /// To `unknown`: no answer came.
    Lose,
}

/// Why an edge may not be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// There is no such edge.
    #[error("a command that is {from} cannot become so any more", from = .0.as_str())]
    NoSuchEdge(State),
    /// Who asked for it cannot approve it.
    #[error("who asked for a command cannot approve it")]
    OwnCommand,
    /// The same person again.
    #[error("this person has approved it already")]
    ApprovedAlready,
    /// What was approved is not this command as it stands.
    #[error("the approval is for another target, action or expiry")]
    OtherCommand,
    /// Past its deadline.
    #[error("the command has expired")]
    Expired,
    /// Its deadline is not past.
    #[error("the command has not expired yet")]
    NotExpired,
    /// The clearance is not for this version of this command.
    #[error("the clearance is for another version of the command")]
    StaleClearance,
    /// The proof is of another meter.
    #[error("the session was proven for another meter")]
    OtherMeter,
    /// An outcome needs another kind of evidence.
    #[error("this is no evidence for the outcome")]
    WrongEvidence,
    /// Nothing holds a command without a reason and people who can release it.
    #[error("a hold needs a reason and at least one person")]
    EmptyHold,
}

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Its id.
    pub id: CommandId,
    /// Whose.
    pub account: AccountId,
    /// Which meter, as it stood.
    pub target: Target,
    /// What to do.
    pub action: Action,
    /// Where it stands.
    pub state: State,
    /// Who asked.
    pub requested_by: UserId,
    /// When, on the clock that never goes back.
    pub requested_at: DateTime<Utc>,
    /// Not sent from this instant on, on that clock.
    pub expires_at: DateTime<Utc>,
    /// Why it was held, if it was.
    pub holds: Vec<Hold>,
    /// How many people have to approve it.
    pub needs: u8,
    /// Who has.
    pub approvals: Vec<Approval>,
    /// The session through which it was sent.
    pub sent_through: Option<SessionId>,
    /// Grows with each edge.
    pub version: i32,
}

impl Command {
    /// What an approval is bound to: this command, its target, its action and its expiry.
    pub fn digest(&self) -> [u8; 32] {
        self.digest_for(&self.target)
    }

    /// The digest if the target were this one.
    pub fn digest_for(&self, target: &Target) -> [u8; 32] {
        let bound = (
            self.id,
            self.account,
            target,
            &self.action,
            self.expires_at.timestamp_micros(),
        );
        // numbers and texts alone: it always serialises
        let text = serde_json::to_vec(&bound).unwrap_or_default();
        Sha256::digest(text).into()
    }

    /// Whether two people released it from the brake.
    pub fn released(&self) -> bool {
        self.holds.iter().any(|hold| matches!(hold, Hold::Brake(_))) && self.approvals.len() >= usize::from(BRAKE_NEEDS)
    }

    /// Whether nothing but the way to the meter keeps it from being sent.
    pub fn is_ready(&self) -> bool {
        self.state == State::Approved || (self.state == State::Requested && self.needs == 0)
    }

    /// The command behind an edge.
    ///
    /// # Errors
    /// [`EdgeError`]; the command stays as it is.
    pub fn apply(&self, edge: &Edge, moment: Moment) -> Result<Self, EdgeError> {
        let mut next = self.clone();
        next.version = self.version.saturating_add(1);
        next.state = match edge {
            Edge::Hold { holds, needs } => self.hold(&mut next, holds, *needs)?,
            Edge::Approve(approval) => self.approve(&mut next, approval, moment)?,
            Edge::Reject => self.while_pending(State::Rejected)?,
            Edge::Cancel => self.while_pending(State::Cancelled)?,
            Edge::Expire if moment.at < self.expires_at && !moment.stepped_back => return Err(EdgeError::NotExpired),
            Edge::Expire => self.while_pending(State::Expired)?,
            Edge::Send { clearance, proof } => self.send(&mut next, clearance, proof, moment)?,
            Edge::Resolve(evidence) => self.resolve(*evidence)?,
            Edge::Lose if self.state == State::Sent => State::Unknown,
            Edge::Lose => return Err(EdgeError::NoSuchEdge(self.state)),
        };
        Ok(next)
    }

    fn while_pending(&self, then: State) -> Result<State, EdgeError> {
        if self.state.is_pending() {
            Ok(then)
        } else {
            Err(EdgeError::NoSuchEdge(self.state))
        }
    }

    fn hold(&self, next: &mut Self, holds: &[Hold], needs: u8) -> Result<State, EdgeError> {
        if holds.is_empty() || needs == 0 {
            return Err(EdgeError::EmptyHold);
        }
        // one that waits already is not made to wait for less
        next.needs = self.needs.max(needs);
        for hold in holds {
            if !next.holds.contains(hold) {
                next.holds.push(*hold);
            }
        }
        self.while_pending(State::Held)
    }

    fn approve(&self, next: &mut Self, approval: &Approval, moment: Moment) -> Result<State, EdgeError> {
        if self.state != State::Held {
            return Err(EdgeError::NoSuchEdge(self.state));
        }
        if moment.at >= self.expires_at {
            return Err(EdgeError::Expired);
        }
        if approval.by == self.requested_by {
            return Err(EdgeError::OwnCommand);
        }
        if self.approvals.iter().any(|earlier| earlier.by == approval.by) {
            return Err(EdgeError::ApprovedAlready);
        }
        if approval.digest != self.digest() {
            return Err(EdgeError::OtherCommand);
        }
        next.approvals.push(approval.clone());
        let enough = next.approvals.len() >= usize::from(self.needs);
        Ok(if enough { State::Approved } else { State::Held })
    }

    fn send(
        &self,
        next: &mut Self,
        clearance: &Clearance,
        proof: &SessionProof,
        moment: Moment,
    ) -> Result<State, EdgeError> {
        if !self.is_ready() {
            return Err(EdgeError::NoSuchEdge(self.state));
        }
        if moment.at >= self.expires_at || moment.stepped_back {
            return Err(EdgeError::Expired);
        }
        if !clearance.is_for(self) {
            return Err(EdgeError::StaleClearance);
        }
        if proof.meter != self.target.meter {
            return Err(EdgeError::OtherMeter);
        }
        next.sent_through = Some(proof.session);
        Ok(State::Sent)
    }

    fn resolve(&self, evidence: Evidence) -> Result<State, EdgeError> {
        let plain = !self.action.claims_relay();
        match (self.state, evidence) {
            (State::Sent | State::Unknown, Evidence::ReadBack { as_wanted: true }) => Ok(State::Confirmed),
            (State::Sent | State::Unknown, Evidence::ReadBack { as_wanted: false }) => Ok(State::Failed),
            (State::Sent, Evidence::NeverBegan) => Ok(State::Failed),
            (State::Sent, Evidence::Refused) if plain => Ok(State::Failed),
            (State::Sent, Evidence::Answered) if plain => Ok(State::Confirmed),
            (State::Sent | State::Unknown, _) => Err(EdgeError::WrongEvidence),
            (state, _) => Err(EdgeError::NoSuchEdge(state)),
        }
    }
}

/// How many people release what exceeds the brake.
pub const BRAKE_NEEDS: u8 = 2;
