//! Schedules of commands: street lamps, pump hours. A schedule asks in the name of who wrote it, under the same policy,
//! interlocks and brake as everybody; a run that came due while nobody looked is left out, and no run happens twice.

use super::desk::{Desk, With};
use super::people::Origin;
use crate::base::ids::CommandId;
use crate::domain::command::{Approval, Command, Edge, Hold};
use crate::domain::schedule::CompiledSchedule;
use crate::port::control::{CommandRequest, DueSchedule};
use crate::port::scope::{Actor, Scope};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

/// A run that is so late is left out: switching lamps at noon because the night was missed helps nobody.
const LATE_MAX: TimeDelta = TimeDelta::minutes(5);

impl Desk {
    pub(super) async fn run_schedules(&self, at: DateTime<Utc>) {
        if !self.parts.settings.enabled || !self.schedules_due() {
            return;
        }
        let schedules = match self.parts.log.schedules().await {
            Ok(schedules) => schedules,
            Err(error) => {
                tracing::warn!(%error, "schedules of commands cannot be looked at now");
                return;
            }
        };
        for schedule in schedules {
            self.run_schedule(schedule, at).await;
        }
    }

    async fn run_schedule(&self, schedule: DueSchedule, at: DateTime<Utc>) {
        let compiled = match CompiledSchedule::parse(&schedule.cron, &schedule.time_zone) {
            Ok(compiled) => compiled,
            Err(error) => {
                tracing::error!(schedule.id = schedule.id, %error, "a schedule of commands cannot run");
                return;
            }
        };
        // the newest run that is due; older ones are left out
        let since = schedule.done_until.max(at - LATE_MAX);
        let mut due = None;
        let mut next = compiled.next_after(since);
        while let Some(run) = next.filter(|run| *run <= at) {
            due = Some(run);
            next = compiled.next_after(run);
        }
        let Some(due) = due else { return };
        if let Err(error) = self.parts.log.schedule_done(schedule.id, due).await {
            tracing::warn!(%error, schedule.id = schedule.id, "a run waits for the database");
            return;
        }
        if schedule.meters.is_empty() || self.books().stopped(schedule.account) {
            tracing::warn!(
                schedule.id = schedule.id,
                "a run is left out: no meters, or an emergency stop"
            );
            return;
        }
        self.ask(schedule, due).await;
    }

    async fn ask(&self, schedule: DueSchedule, due: DateTime<Utc>) {
        let scope = Scope {
            account: schedule.account,
            actor: Actor {
                user: Some(schedule.requested_by),
                api_key: None,
                name: schedule.requested_as.clone(),
                source: Some(format!("control_schedule/{}", schedule.id)),
                request_id: None,
            },
        };
        let request = CommandRequest {
            action: schedule.action.clone(),
            meters: schedule.meters.clone(),
            expires_in_s: schedule.expires_in_s,
            reason: schedule.reason.clone(),
            key: Some(format!("control_schedule/{}/{}", schedule.id, due.timestamp())),
        };
        let origin = Origin {
            schedule: schedule.id,
            approved_by: schedule.approved_by,
        };
        let admitted = match self.request(scope, request, Some(origin)).await {
            Ok(admitted) => admitted,
            Err(error) => {
                tracing::error!(schedule.id = schedule.id, %error, "a run of a schedule of commands was refused");
                return;
            }
        };
        let held: Vec<CommandId> = admitted.commands.iter().map(|command| command.id).collect();
        if let Some(approver) = origin.approved_by {
            for id in held {
                let command = self.books().open.get(&id).cloned();
                if let Some(command) = command.filter(|command| command.holds == [Hold::FourEyes]) {
                    self.approve_by_schedule(&command, approver, schedule.id).await;
                }
            }
        }
    }

    /// The second person approved the schedule as it stands, and with it this command. What exceeds the brake waits for
    /// people all the same.
    async fn approve_by_schedule(&self, command: &Command, approver: crate::base::ids::UserId, schedule: i32) {
        let approval = Approval {
            by: approver,
            at: self.now(),
            digest: command.digest(),
        };
        let edge = Edge::Approve(approval.clone());
        let detail = json!({ "cause": "approved_with_schedule", "schedule_id": schedule, "user_id": approver });
        let with = With {
            approval: Some(approval),
            trip: None,
        };
        let _logged = self.step(command, &edge, &Actor::control_desk(), detail, with).await;
    }
}
