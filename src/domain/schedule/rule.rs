//! Limits of a schedule's rule; all faults at once, each with its field.

use super::{CompiledSchedule, ScheduleError, parse_zone};
use crate::domain::device::{RetryPolicy, ScheduleRule};
use std::fmt;

/// The longest window, seconds: a week. A slot stays open for at most this long.
pub const WINDOW_S_MAX: u32 = 7 * 86_400;

/// The longest first wait between tries, seconds.
pub const BACKOFF_S_MAX: u32 = 3600;

/// The most attempts per transaction.
pub const ATTEMPTS_MAX: u8 = 10;

/// One fault of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFault {
    /// The field as the API names it, e.g. `retry.attempts`.
    pub field: &'static str,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for RuleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// All faults of a rule; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", join(.0))]
pub struct RuleFaults(pub Vec<RuleFault>);

fn join(faults: &[RuleFault]) -> String {
    let texts: Vec<String> = faults.iter().map(RuleFault::to_string).collect();
    texts.join("; ")
}

/// Checks a whole rule.
///
/// # Errors
/// [`RuleFaults`] lists every fault.
pub fn check_rule(rule: &ScheduleRule) -> Result<CompiledSchedule, RuleFaults> {
    let mut faults = Vec::new();
    let compiled = check_when(rule, &mut faults);
    if rule.valid_to.is_some_and(|to| to <= rule.valid_from) {
        add(&mut faults, "valid_to", "must lie after valid_from".to_owned());
    }
    let mut seen = rule.quantities.clone();
    seen.sort_unstable();
    for twice in seen.windows(2).filter_map(|pair| match pair {
        [a, b] if a == b => Some(a),
        _ => None,
    }) {
        add(&mut faults, "quantities", format!("{twice} is listed more than once"));
    }
    faults.extend(check_timing(rule.spread_s, rule.window_s));
    faults.extend(check_retry_policy(&rule.retry, rule.window_s));
    match compiled {
        Some(compiled) if faults.is_empty() => Ok(compiled),
        _ => Err(RuleFaults(faults)),
    }
}

/// Checks expression and zone, each by itself so that both are told.
fn check_when(rule: &ScheduleRule, faults: &mut Vec<RuleFault>) -> Option<CompiledSchedule> {
    let zone = parse_zone(&rule.time_zone);
    let zone_name = if let Err(error) = &zone {
        add(faults, "time_zone", error.to_string());
        "UTC"
    } else {
        &rule.time_zone
    };
    match CompiledSchedule::parse(&rule.cron, zone_name) {
        Ok(compiled) if compiled.next_after(rule.valid_from).is_none() => {
            let message = "never comes due (such as 30 February); check day-of-month and month".to_owned();
            add(faults, "cron", message);
            None
        }
        Ok(compiled) => zone.is_ok().then_some(compiled),
        Err(error @ ScheduleError::Zone { .. }) => {
            add(faults, "time_zone", error.to_string());
            None
        }
        Err(error) => {
            add(faults, "cron", error.to_string());
            None
        }
    }
}

/// Checks window and spread.
pub fn check_timing(spread_s: u32, window_s: u32) -> Vec<RuleFault> {
    let mut faults = Vec::new();
    if !(1..=WINDOW_S_MAX).contains(&window_s) {
        let message = format!("is {window_s}; write 1 to {WINDOW_S_MAX} seconds (a week)");
        add(&mut faults, "window_s", message);
    }
    if spread_s > window_s {
        let message = format!("is {spread_s}, beyond window_s = {window_s}; polls must begin within the window");
        add(&mut faults, "spread_s", message);
    }
    faults
}

/// Checks a retry policy against the window it works in.
pub fn check_retry_policy(retry: &RetryPolicy, window_s: u32) -> Vec<RuleFault> {
    let mut faults = Vec::new();
    if !(1..=ATTEMPTS_MAX).contains(&retry.attempts) {
        let message = format!("is {}; write 1 to {ATTEMPTS_MAX}", retry.attempts);
        add(&mut faults, "retry.attempts", message);
    }
    if !(1..=BACKOFF_S_MAX).contains(&retry.backoff_s) {
        let message = format!("is {}; write 1 to {BACKOFF_S_MAX} seconds", retry.backoff_s);
        add(&mut faults, "retry.backoff_s", message);
    }
    if retry.deadline_s == 0 || retry.deadline_s > window_s {
        let message = format!(
            "is {}; write 1 to window_s = {window_s} seconds after the due time",
            retry.deadline_s
        );
        add(&mut faults, "retry.deadline_s", message);
    }
    faults
}

fn add(faults: &mut Vec<RuleFault>, field: &'static str, message: String) {
    faults.push(RuleFault { field, message });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::device::MissedRun;
    use crate::domain::quantity::Quantity;
    use chrono::DateTime;

    fn good() -> ScheduleRule {
        ScheduleRule {
            valid_from: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            valid_to: None,
            cron: "*/15 * * * *".into(),
            time_zone: "Europe/Berlin".into(),
            quantities: vec![Quantity::ActiveEnergyImport],
            spread_s: 60,
            window_s: 300,
            retry: RetryPolicy::default(),
            missed_run: MissedRun::Once,
        }
    }

    #[test]
    fn a_good_rule_compiles() {
        assert!(!check_rule(&good()).unwrap().is_fixed());
    }

    #[test]
    fn every_fault_is_listed_with_its_field() {
        let mut bad = good();
        bad.cron = "61 * * * *".into();
        bad.time_zone = "Europe/Berln".into();
        bad.valid_to = Some(bad.valid_from);
        bad.quantities.push(Quantity::ActiveEnergyImport);
        bad.window_s = 0;
        bad.retry = RetryPolicy {
            attempts: 11,
            backoff_s: 0,
            deadline_s: 1,
        };
        let fields: Vec<&str> = check_rule(&bad).unwrap_err().0.iter().map(|f| f.field).collect();
        assert_eq!(
            fields,
            [
                "time_zone",
                "cron",
                "valid_to",
                "quantities",
                "window_s",
                "spread_s",
                "retry.attempts",
                "retry.backoff_s",
                "retry.deadline_s"
            ]
        );
    }

    #[test]
    fn a_rule_that_never_comes_due_is_refused() {
        let mut bad = good();
        bad.cron = "0 0 30 2 *".into();
        let faults = check_rule(&bad).unwrap_err();
        assert!(faults.to_string().contains("cron: never comes due"), "{faults}");
    }
}
