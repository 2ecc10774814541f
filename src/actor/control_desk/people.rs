//! What people ask of the desk: commands, decisions, stops.

use super::desk::{Desk, StepError, With};
use crate::base::hex;
use crate::base::ids::{AccountId, CommandId, DtuId, UserId};
use crate::device::relay;
use crate::domain::command::brake::{Spot, Trip};
use crate::domain::command::policy::held_from_the_start;
use crate::domain::command::{Approval, BrakeLimit, Command, Denied, Edge, Hold, Person, Policy, Site, State, Target};
use crate::port::control::{
    Admitted, BATCH_MAX, CommandRequest, ControlError, Decision, FactSheet, NewBatch, NewCommand, Refused, Stop,
};
use crate::port::scope::{Actor, Scope, StoreError};
use crate::protocol::Protocol;
use crate::telemetry::control::{BrakeHeld, ControlUnwritten};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use uuid::Uuid;

/// The longest that a command may wait, seconds.
pub(super) const EXPIRES_MAX_S: u32 = 7 * 86_400;
/// The longest text of a reason.
const REASON_MAX: usize = 500;

/// A schedule that asks in the name of a person.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) schedule: i32,
    pub(super) approved_by: Option<UserId>,
}

pub(super) fn limit_name(limit: BrakeLimit) -> &'static str {
    match limit {
        BrakeLimit::Account => "account",
        BrakeLimit::Total => "total",
        BrakeLimit::Dtu => "dtu",
    }
}

impl From<StepError> for ControlError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Edge(error) => Self::NotNow(error.to_string()),
            StepError::Store(StoreError::Stale { .. }) => {
                Self::NotNow("the command was changed meanwhile; look at it again".to_owned())
            }
            StepError::Store(error) => Self::Store(error),
        }
    }
}

fn user_of(scope: &Scope) -> Result<UserId, ControlError> {
    scope.actor.user.ok_or(ControlError::Denied(Denied::Role))
}

fn person(sheet: &FactSheet, user: UserId) -> Result<Person, ControlError> {
    let found = sheet.people.iter().find(|person| person.user == user).copied();
    found.ok_or(ControlError::Denied(Denied::Disabled))
}

fn check(request: &CommandRequest) -> Result<(), ControlError> {
    let invalid = |field, message: String| Err(ControlError::Invalid { field, message });
    if request.meters.is_empty() {
        return invalid("meter_ids", "names no meter".to_owned());
    }
    if request.meters.len() > BATCH_MAX {
        let message = format!("names {} meters, at most {BATCH_MAX} go at once", request.meters.len());
        return invalid("meter_ids", message);
    }
    if !(1..=EXPIRES_MAX_S).contains(&request.expires_in_s) {
        return invalid("expires_in_s", format!("must be 1 to {EXPIRES_MAX_S}"));
    }
    if request.reason.trim().is_empty() || request.reason.chars().count() > REASON_MAX {
        return invalid("reason", format!("takes 1 to {REASON_MAX} characters"));
    }
    Ok(())
}

/// Everything that a request is judged by, and the trips that it plans as it goes.
struct Plan<'a> {
    request: &'a CommandRequest,
    policy: &'a Policy,
    zone: &'a str,
    account: AccountId,
    needs: u8,
    at: DateTime<Utc>,
    meters_of: HashMap<DtuId, usize>,
    planned: Vec<Trip>,
    braked: HashMap<BrakeLimit, usize>,
}

impl Desk {
    /// Asks for commands, for a person or for a schedule of theirs.
    pub(super) async fn request(
        &self,
        scope: Scope,
        mut request: CommandRequest,
        origin: Option<Origin>,
    ) -> Result<Admitted, ControlError> {
        if !self.parts.settings.enabled {
            return Err(ControlError::Disabled);
        }
        check(&request)?;
        request.meters.sort_unstable();
        request.meters.dedup();
        let user = user_of(&scope)?;
        let _in_turn = self.admission.lock().await;
        if self.books().open.len() + request.meters.len() > self.parts.settings.open_max {
            return Err(ControlError::Busy);
        }
        let sheet = self.parts.log.facts(scope.account, &request.meters, &[user]).await?;
        let asker = person(&sheet, user)?;
        sheet
            .policy
            .may_request(&asker, scope.account, &request.action)
            .map_err(ControlError::Denied)?;
        let batch = self.plan(&scope, user, &request, origin, &sheet).await?;
        let (actor, reason) = (batch.actor.clone(), batch.reason.clone());
        let details: HashMap<_, _> = batch
            .commands
            .iter()
            .filter_map(|new| Some((new.target.meter, new.first.as_ref()?.1.clone())))
            .collect();
        let admitted = match self.parts.log.admit(batch).await {
            Ok(admitted) => admitted,
            Err(StoreError::Invalid { field, message }) => return Err(ControlError::Invalid { field, message }),
            Err(error) => {
                ControlUnwritten {
                    what: "request",
                    error: &error,
                }
                .emit();
                return Err(error.into());
            }
        };
        if !admitted.repeated {
            for command in &admitted.commands {
                match details.get(&command.target.meter) {
                    Some(detail) => self.taken(command, &Actor::control_desk(), detail),
                    None => self.taken(command, &actor, &json!({ "reason": reason })),
                }
            }
        }
        Ok(admitted)
    }

    async fn plan(
        &self,
        scope: &Scope,
        user: UserId,
        request: &CommandRequest,
        origin: Option<Origin>,
        sheet: &FactSheet,
    ) -> Result<NewBatch, ControlError> {
        let mut dtus: Vec<DtuId> = sheet.meters.iter().map(|(target, _)| target.dtu).collect();
        dtus.sort_unstable();
        dtus.dedup();
        let lines = self.parts.lines.lines(dtus.clone()).await;
        let counts = lines
            .iter()
            .map(|line| line.as_ref().map_or(0, |line| line.record.meters.len()));
        let meters = u32::try_from(request.meters.len()).unwrap_or(u32::MAX);
        let at = self.now();
        // from here on nothing waits, so what is planned is what stands in the books
        if self.books().stopped(scope.account) {
            return Err(ControlError::Stopped);
        }
        let mut plan = Plan {
            request,
            policy: &sheet.policy,
            zone: &sheet.zone,
            account: scope.account,
            needs: sheet.policy.approvals_for(&request.action, meters),
            at,
            meters_of: dtus.into_iter().zip(counts).collect(),
            planned: self.books().planned(at),
            braked: HashMap::new(),
        };
        let by_meter: HashMap<_, _> = sheet
            .meters
            .iter()
            .map(|(target, site)| (target.meter, (target, site)))
            .collect();
        let (mut commands, mut refused) = (Vec::new(), Vec::new());
        for meter in &request.meters {
            let refuse = |reason: &str, detail: String| Refused {
                meter_id: *meter,
                reason: reason.to_owned(),
                detail,
            };
            match by_meter.get(meter) {
                None => refused.push(refuse("unknown_meter", "there is no such meter".to_owned())),
                Some((target, site)) => match self.possible(target, request) {
                    Ok(()) => commands.push(NewCommand {
                        first: self.first_edge(&mut plan, target, site),
                        target: (*target).clone(),
                    }),
                    Err((reason, detail)) => refused.push(refuse(reason, detail)),
                },
            }
        }
        self.tell_braked(&plan);
        Ok(NewBatch {
            id: Uuid::now_v7(),
            account: scope.account,
            actor: scope.actor.clone(),
            requested_by: user,
            key: request.key.clone(),
            schedule: origin.map(|origin| origin.schedule),
            request_hash: digest(request),
            action: request.action.clone(),
            reason: request.reason.clone(),
            requested_at: at,
            expires_at: at + TimeDelta::seconds(request.expires_in_s.into()),
            wall_at: self.parts.clock.now(),
            commands,
            refused,
        })
    }

    /// Whether the meter's model knows a way.
    fn possible(&self, target: &Target, request: &CommandRequest) -> Result<(), (&'static str, String)> {
        let protocol = Protocol::by_name(&target.protocol);
        let model = protocol.and_then(|protocol| self.parts.catalogue.get(protocol, &target.model));
        let Some(model) = model else {
            return Err((
                "not_supported",
                format!("model {} is not in the catalogue", target.model),
            ));
        };
        relay::check(model, target, &request.action).map_err(|error| match error {
            relay::RelayError::NotSupported { .. } => ("not_supported", error.to_string()),
            other => ("invalid", other.to_string()),
        })
    }

    /// What holds or rejects a command from the start.
    fn first_edge(&self, plan: &mut Plan<'_>, target: &Target, site: &Site) -> Option<(Edge, Value)> {
        let darkens = plan.request.action.may_darken();
        if darkens && let Some(interlock) = plan.policy.interlocks.in_force(site, plan.zone, plan.at) {
            let detail = json!({
                "cause": "interlock", "interlock": interlock.name(), "detail": interlock.to_string(),
            });
            return Some((Edge::Reject, detail));
        }
        let spot = Spot {
            account: plan.account,
            account_limit: plan.policy.disconnects_max,
            dtu: target.dtu,
            dtu_meters: plan.meters_of.get(&target.dtu).copied().unwrap_or_default(),
        };
        let brake = darkens
            .then(|| self.books().brake.exceeded(plan.at, spot, &plan.planned))
            .flatten();
        if let Some(limit) = brake {
            *plan.braked.entry(limit).or_default() += 1;
        } else if darkens {
            plan.planned.push(Trip {
                at: plan.at,
                account: plan.account,
                dtu: target.dtu,
            });
        }
        let (holds, needs) = held_from_the_start(plan.needs, brake)?;
        let causes: Vec<&str> = holds
            .iter()
            .map(|hold| match hold {
                Hold::FourEyes => "four_eyes",
                Hold::Brake(limit) => match limit {
                    BrakeLimit::Account => "brake_account",
                    BrakeLimit::Total => "brake_total",
                    BrakeLimit::Dtu => "brake_dtu",
                },
            })
            .collect();
        let detail = json!({ "cause": causes, "approvals_needed": needs });
        Some((Edge::Hold { holds, needs }, detail))
    }

    fn tell_braked(&self, plan: &Plan<'_>) {
        for (limit, commands) in &plan.braked {
            let first = self.books().first_braked(plan.account, plan.at);
            BrakeHeld {
                account: plan.account.0,
                limit: limit_name(*limit),
                commands: *commands,
                first,
            }
            .emit();
        }
    }

    /// A person decides about a command.
    pub(super) async fn decide(
        &self,
        scope: &Scope,
        id: CommandId,
        decision: Decision,
        seen: Option<&str>,
    ) -> Result<State, ControlError> {
        let user = user_of(scope)?;
        let command = self.books().open.get(&id).cloned();
        let command = command
            .filter(|command| command.account == scope.account)
            .ok_or_else(|| ControlError::NotNow("the command has ended".to_owned()))?;
        let meter = command.target.meter;
        let sheet = self.parts.log.facts(command.account, &[meter], &[user]).await?;
        let person = person(&sheet, user)?;
        match decision {
            Decision::Approve => return self.approve(scope, &command, &sheet, &person, seen).await,
            Decision::Reject => sheet.policy.may_approve(&person, command.account),
            Decision::Cancel if user == command.requested_by => Ok(()),
            Decision::Cancel => sheet.policy.may_request(&person, command.account, &command.action),
        }
        .map_err(ControlError::Denied)?;
        let (edge, cause) = match decision {
            Decision::Cancel => (Edge::Cancel, "cancelled"),
            _ => (Edge::Reject, "rejected"),
        };
        let detail = json!({ "cause": cause, "user_id": user });
        let after = self
            .step(&command, &edge, &scope.actor, detail, With::default())
            .await?;
        Ok(after.state)
    }

    async fn approve(
        &self,
        scope: &Scope,
        command: &Command,
        sheet: &FactSheet,
        person: &Person,
        seen: Option<&str>,
    ) -> Result<State, ControlError> {
        if self.books().stopped(command.account) {
            return Err(ControlError::Stopped);
        }
        sheet
            .policy
            .may_approve(person, command.account)
            .map_err(ControlError::Denied)?;
        let digest = command.digest();
        if seen.is_some_and(|seen| !seen.eq_ignore_ascii_case(&hex::encode(&digest))) {
            return Err(ControlError::NotNow(
                "the command is not the one whose digest was sent; look at it again".to_owned(),
            ));
        }
        if sheet.meters.first().map(|(target, _)| target) != Some(&command.target) {
            return Err(ControlError::NotNow(
                "the meter was changed or removed since".to_owned(),
            ));
        }
        let approval = Approval {
            by: person.user,
            at: self.now(),
            digest,
        };
        let edge = Edge::Approve(approval.clone());
        let detail = json!({
            "cause": "approved", "user_id": person.user, "digest": hex::encode(&digest).to_lowercase(),
            "approvals": command.approvals.len() + 1, "approvals_needed": command.needs,
        });
        let with = With {
            approval: Some(approval),
            trip: None,
        };
        let after = self.step(command, &edge, &scope.actor, detail, with).await?;
        self.books().hurry(after.id);
        Ok(after.state)
    }

    /// The stop is in force when this returns.
    pub(super) fn stop_now(&self, account: Option<AccountId>, actor: &Actor, reason: String) -> Stop {
        let stop = Stop {
            account_id: account,
            reason,
            began_at: self.parts.clock.now(),
            began_by: actor.name.clone(),
        };
        let mut books = self.books();
        if !books.stops.iter().any(|other| other.account_id == account) {
            books.stops.push(stop.clone());
        }
        books.revoke(account);
        tracing::warn!(account.id = account.map(|a| a.0), by = actor.name, "emergency stop");
        stop
    }

    /// Writes the stop down. What is pending is taken back by the ticks that follow: that may be thousands, and nobody who
    /// stops everything should wait for it.
    pub(super) async fn stop_written(&self, stop: Stop, actor: &Actor) -> Result<(), ControlError> {
        Ok(self.parts.log.begin_stop(&stop, actor).await?)
    }

    /// Takes back what stops found pending, at most so many. Answers how many were left.
    pub(super) async fn cancel_stopped(&self, most: usize) -> usize {
        let pending = self.books().stopped_pending();
        let left = pending.len().saturating_sub(most);
        for (command, by) in pending.into_iter().take(most) {
            let detail = json!({ "cause": "emergency_stop", "by": by });
            // what could not be written is tried again by the next tick
            let _tried_again = self
                .step(&command, &Edge::Cancel, &Actor::control_desk(), detail, With::default())
                .await;
        }
        left
    }

    pub(super) async fn resume_control(&self, account: Option<AccountId>, actor: &Actor) -> Result<bool, ControlError> {
        // nothing of what was pending may fire when the stop is over
        self.cancel_stopped(usize::MAX).await;
        if !self.books().stopped_pending().is_empty() {
            return Err(ControlError::Busy);
        }
        let ended = self.parts.log.end_stop(account, actor, self.parts.clock.now()).await?;
        // written down first: a stop that cannot be ended on paper stays in force
        let before = self.books().stops.len();
        self.books().stops.retain(|stop| stop.account_id != account);
        Ok(ended || self.books().stops.len() != before)
    }
}

/// What two requests under one key are compared by.
fn digest(request: &CommandRequest) -> [u8; 32] {
    let what = (&request.action, &request.meters, request.expires_in_s, &request.reason);
    Sha256::digest(serde_json::to_vec(&what).unwrap_or_default()).into()
}
