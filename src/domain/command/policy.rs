//! Who may ask, who may approve, how many people it takes: policy of an account, as data; and the one judgement before
//! a command is sent, which looks at everything anew.

use super::action::{Action, ActionClass};
use super::brake::BrakeLimit;
use super::clock::ClockObstacle;
use super::interlock::{Interlock, Interlocks, Site};
use super::machine::{Command, Hold, State, Target};
use super::time::Moment;
use crate::base::ids::{AccountId, CommandId, UserId};
use crate::domain::access::{Role, RoleSet};
use serde::{Deserialize, Serialize};

/// The policy of an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Which roles may ask for what.
    pub request: Rights,
    /// Which roles may approve what others asked for.
    pub approve: Vec<Role>,
    /// From how many meters in one request on a second person has to approve; null: never.
    pub four_eyes: FourEyes,
    /// What forbids disconnections.
    pub interlocks: Interlocks,
    /// The account's own brake: disconnections in ten minutes; null: the server's limit, which it cannot widen.
    pub disconnects_max: Option<u32>,
}

/// Which roles may ask for what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rights {
    /// Disconnect, release keep-power.
    pub trip: Vec<Role>,
    /// Reconnect from afar: a right of its own, because nobody stands at the meter.
    pub close: Vec<Role>,
    /// Arm, keep-power, alarm.
    pub relay: Vec<Role>,
    /// Clock, freeze, parameters.
    pub parameter: Vec<Role>,
    /// Raw frames; whatever stands here, only admins.
    pub expert: Vec<Role>,
}

/// From how many meters in one request on a second person has to approve; null: never.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FourEyes {
    /// Disconnect, release keep-power.
    pub trip_from: Option<u32>,
    /// Reconnect.
    pub close_from: Option<u32>,
    /// Arm, keep-power, alarm.
    pub relay_from: Option<u32>,
    /// Clock, freeze, parameters.
    pub parameter_from: Option<u32>,
    /// Raw frames.
    pub expert_from: Option<u32>,
}

const OPERATE: [Role; 2] = [Role::Admin, Role::Operator];

impl Default for Policy {
    fn default() -> Self {
        Self {
            request: Rights::default(),
            approve: OPERATE.to_vec(),
            four_eyes: FourEyes::default(),
            interlocks: Interlocks::default(),
            disconnects_max: None,
        }
    }
}

impl Default for Rights {
    fn default() -> Self {
        Self {
            trip: OPERATE.to_vec(),
            close: OPERATE.to_vec(),
            relay: OPERATE.to_vec(),
            parameter: OPERATE.to_vec(),
            expert: vec![Role::Admin],
        }
    }
}

impl Default for FourEyes {
    fn default() -> Self {
        Self {
            trip_from: Some(2),
            close_from: None,
            relay_from: None,
            parameter_from: None,
            expert_from: None,
        }
    }
}

/// A person, as they stand now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub user: UserId,
    /// Their account; none: of the platform alone.
    pub account: Option<AccountId>,
    /// Their roles.
    pub roles: RoleSet,
    /// Neither they nor their account is disabled.
    pub enabled: bool,
}

/// Why a person may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Of another account.
    #[error("the person is not of the meter's account")]
    OtherAccount,
    /// Disabled.
    #[error("the person is disabled")]
    Disabled,
    /// Without the role.
    #[error("the policy gives this right to other roles")]
    Role,
}

impl Person {
    fn has_one_of(&self, account: AccountId, roles: &[Role]) -> Result<(), Denied> {
        if self.account != Some(account) {
            Err(Denied::OtherAccount)
        } else if !self.enabled {
            Err(Denied::Disabled)
        } else if roles.iter().any(|role| self.roles.has(*role)) {
            Ok(())
        } else {
            Err(Denied::Role)
        }
    }
}

impl Policy {
    /// Whether a person may ask for an action on a meter of `account`.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn may_request(&self, person: &Person, account: AccountId, action: &Action) -> Result<(), Denied> {
        let roles = match action.class() {
            ActionClass::Trip => &self.request.trip,
            ActionClass::Close => &self.request.close,
            ActionClass::Relay => &self.request.relay,
            ActionClass::Parameter => &self.request.parameter,
            ActionClass::Expert => {
                person.has_one_of(account, &[Role::Admin])?;
                &self.request.expert
            }
        };
        person.has_one_of(account, roles)
    }

    /// Whether a person may approve what others ask of meters of `account`.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn may_approve(&self, person: &Person, account: AccountId) -> Result<(), Denied> {
        person.has_one_of(account, &self.approve)
    }

    /// How many other people a request for `meters` meters takes.
    pub fn approvals_for(&self, action: &Action, meters: u32) -> u8 {
        let from = match action.class() {
            ActionClass::Trip => self.four_eyes.trip_from,
            ActionClass::Close => self.four_eyes.close_from,
            ActionClass::Relay => self.four_eyes.relay_from,
            ActionClass::Parameter => self.four_eyes.parameter_from,
            ActionClass::Expert => self.four_eyes.expert_from,
        };
        u8::from(from.is_some_and(|from| meters >= from))
    }
}

/// Everything that is looked at anew before a command is sent.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The account's policy.
    pub policy: &'a Policy,
    /// The account's time zone.
    pub zone: &'a str,
    /// The place.
    pub site: &'a Site,
    /// Who asked and who approved, as they stand now.
    pub people: &'a [Person],
    /// The meter as it stands now; none: it is gone.
    pub target: Option<&'a Target>,
    /// An emergency stop is in force.
    pub stopped: bool,
    /// The limit that one more trip would exceed.
    pub brake: Option<BrakeLimit>,
    /// Now.
    pub moment: Moment,
}

/// Why a command is not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// An emergency stop.
    #[error("an emergency stop is in force")]
    Stopped,
    /// Past its deadline, or the clock was set back.
    #[error("the command has expired")]
    Expired,
    /// It is not ready.
    #[error("the command is {}", .0.as_str())]
    NotReady(State),
    /// The meter is not what it was.
    #[error("the meter was changed or removed since")]
    TargetChanged,
    /// Who asked may not any more.
    #[error("who asked for it may not any more: {0}")]
    Requester(Denied),
    /// Who approved may not any more, or approved something else.
    #[error("an approval holds no longer")]
    Approval,
    /// An interlock.
    #[error("{0}")]
    Interlock(Interlock),
    /// The brake.
    #[error("the brake holds it")]
    Brake(BrakeLimit),
    /// The meter's clock is not to be set, or not now.
    #[error("{0}")]
    Clock(ClockObstacle),
}

/// Says that one version of one command may be sent. [`clear`] alone makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clearance {
    command: CommandId,
    version: i32,
}

impl Clearance {
    /// Whether it is for this version of this command.
    pub fn is_for(&self, command: &Command) -> bool {
        self.command == command.id && self.version == command.version
    }
}

/// Judges whether a command may be sent now.
///
/// # Errors
/// The first [`Obstacle`], the gravest first.
pub fn clear(command: &Command, facts: &Facts<'_>) -> Result<Clearance, Obstacle> {
    if facts.stopped {
        return Err(Obstacle::Stopped);
    }
    if facts.moment.stepped_back || facts.moment.at >= command.expires_at {
        return Err(Obstacle::Expired);
    }
    if !command.is_ready() {
        return Err(Obstacle::NotReady(command.state));
    }
    let target = facts.target.ok_or(Obstacle::TargetChanged)?;
    if *target != command.target {
        return Err(Obstacle::TargetChanged);
    }
    let person = |user: UserId| facts.people.iter().find(|person| person.user == user);
    let requester = person(command.requested_by).ok_or(Obstacle::Requester(Denied::Disabled))?;
    facts
        .policy
        .may_request(requester, command.account, &command.action)
        .map_err(Obstacle::Requester)?;
    approvals_hold(command, facts, target)?;
    if command.action.may_darken() {
        if let Some(interlock) = facts
            .policy
            .interlocks
            .in_force(facts.site, facts.zone, facts.moment.at)
        {
            return Err(Obstacle::Interlock(interlock));
        }
        if let Some(limit) = facts.brake.filter(|_| !command.released()) {
            return Err(Obstacle::Brake(limit));
        }
    }
    Ok(Clearance {
        command: command.id,
        version: command.version,
    })
}

fn approvals_hold(command: &Command, facts: &Facts<'_>, target: &Target) -> Result<(), Obstacle> {
    let digest = command.digest_for(target);
    let mut approvers: Vec<UserId> = Vec::new();
    for approval in &command.approvals {
        let person = facts.people.iter().find(|person| person.user == approval.by);
        let may = person.is_some_and(|person| facts.policy.may_approve(person, command.account).is_ok());
        let another = approval.by != command.requested_by && !approvers.contains(&approval.by);
        if !may || !another || approval.digest != digest {
            return Err(Obstacle::Approval);
        }
        approvers.push(approval.by);
    }
    if approvers.len() < usize::from(command.needs) {
        return Err(Obstacle::Approval);
    }
    Ok(())
}

/// Why a new command is held at once, and for how many people.
pub fn held_from_the_start(needs: u8, brake: Option<BrakeLimit>) -> Option<(Vec<Hold>, u8)> {
    let mut holds = Vec::new();
    if needs > 0 {
        holds.push(Hold::FourEyes);
    }
    if let Some(limit) = brake {
        holds.push(Hold::Brake(limit));
    }
    let needs = if brake.is_some() {
        needs.max(super::machine::BRAKE_NEEDS)
    } else {
        needs
    };
    (!holds.is_empty()).then_some((holds, needs))
}
