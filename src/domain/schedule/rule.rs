//! Limits of a schedule's rule; all faults at once, each with its field.

use super::{DayRule, Recurrence, ScheduleError, Timing, parse_zone};
use crate::domain::device::{RetryPolicy, ScheduleRule};
use std::fmt;

/// The longest window, seconds: a week. A slot stays open for at most this long.
pub const WINDOW_S_MAX: u32 = 7 * 86_400;

/// The longest first wait between tries, seconds.
pub const BACKOFF_S_MAX: u32 = 3600;

/// The most attempts per transaction.
pub const ATTEMPTS_MAX: u8 = 10;

/// The largest budget of attempts on the line for one slot.
pub const BUDGET_MAX: u16 = 1000;

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
pub fn check_rule(rule: &ScheduleRule) -> Result<Recurrence, RuleFaults> {
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

/// Checks timing, zone and days, each by itself so that all are told. That it comes due at all is asked without the
/// calendar: one without holidays yet may get some.
fn check_when(rule: &ScheduleRule, faults: &mut Vec<RuleFault>) -> Option<Recurrence> {
    let zone = parse_zone(&rule.time_zone);
    let zone_name = if let Err(error) = &zone {
        add(faults, "time_zone", error.to_string());
        "UTC"
    } else {
        &rule.time_zone
    };
    if rule.timing.is_settlement() && rule.days != DayRule::EveryDay {
        let message = "must be every_day: a settlement day is not left out for a calendar".to_owned();
        add(faults, "days", message);
    }
    match rule.timing.compile(zone_name) {
        Ok(compiled) if compiled.next_after(rule.valid_from).is_none() => {
            let message = "never comes due (such as 30 February); check day-of-month and month".to_owned();
            add(faults, timing_field(&rule.timing, None), message);
        }
        Ok(_) => {}
        Err(error) => add(faults, timing_field(&rule.timing, Some(&error)), error.to_string()),
    }
    match Recurrence::compile(&rule.timing, &rule.time_zone, rule.days, rule.calendar.as_ref()) {
        Ok(recurrence) => Some(recurrence),
        Err(error @ ScheduleError::Calendar { .. }) => {
            add(faults, "calendar", error.to_string());
            None
        }
        // told above
        Err(_) => None,
    }
}

fn timing_field(timing: &Timing, error: Option<&ScheduleError>) -> &'static str {
    match (timing, error) {
        (Timing::Cron(_), _) => "cron",
        (Timing::EveryMinutes(_), _) => "every_min",
        (Timing::Settlement(_), Some(ScheduleError::SettlementTime { .. })) => "settlement.hour",
        (Timing::Settlement(_), _) => "settlement.day",
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
    if let Some(budget) = retry.budget
        && !(1..=BUDGET_MAX).contains(&budget)
    {
        let message =
            format!("is {budget}; write 1 to {BUDGET_MAX} attempts on the line for one slot, or leave it out");
        add(&mut faults, "retry.budget", message);
    }
    faults
}

fn add(faults: &mut Vec<RuleFault>, field: &'static str, message: String) {
    faults.push(RuleFault { field, message });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::quantity::Quantity;
    use crate::domain::schedule::{Calendar, SettlementDay, SettlementTime, Weekdays};
    use chrono::DateTime;
    use std::sync::Arc;

    fn good() -> ScheduleRule {
        ScheduleRule {
            quantities: vec![Quantity::ActiveEnergyImport],
            spread_s: 60,
            ..ScheduleRule::by_cron(
                "*/15 * * * *",
                "Europe/Berlin",
                DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            )
        }
    }

    fn fields(rule: &ScheduleRule) -> Vec<&'static str> {
        check_rule(rule).unwrap_err().0.iter().map(|f| f.field).collect()
    }

    #[test]
    fn a_good_rule_compiles() {
        check_rule(&good()).unwrap();
        let mut calendared = good();
        calendared.days = DayRule::Holidays;
        let empty = Calendar::new("Asia/Tokyo", Weekdays::default(), Vec::new(), Vec::new()).unwrap();
        calendared.calendar = Some(Arc::new(empty));
        let never_yet = check_rule(&calendared).unwrap();
        assert_eq!(never_yet.next_after(calendared.valid_from), None);
    }

    #[test]
    fn intervals_and_settlement_days_are_checked() {
        let timing = |timing| ScheduleRule { timing, ..good() };
        for minutes in [1, 15, 36, 90, 1440] {
            check_rule(&timing(Timing::EveryMinutes(minutes))).unwrap();
        }
        let wrong = check_rule(&timing(Timing::EveryMinutes(7))).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "every_min: every 7 minutes does not divide the day; write 6 or 8 minutes, or a cron expression"
        );
        for minutes in [0, 721, 1441, u16::MAX] {
            assert_eq!(fields(&timing(Timing::EveryMinutes(minutes))), ["every_min"]);
        }
        let settle = |day, hour, minute| timing(Timing::Settlement(SettlementTime { day, hour, minute }));
        check_rule(&settle(SettlementDay::Day(28), 23, 59)).unwrap();
        check_rule(&settle(SettlementDay::Last, 0, 0)).unwrap();
        assert_eq!(fields(&settle(SettlementDay::Day(29), 0, 0)), ["settlement.day"]);
        assert_eq!(fields(&settle(SettlementDay::Day(0), 0, 0)), ["settlement.day"]);
        assert_eq!(fields(&settle(SettlementDay::Last, 24, 0)), ["settlement.hour"]);
        let mut moved = settle(SettlementDay::Last, 0, 0);
        moved.days = DayRule::WorkingDays;
        assert_eq!(fields(&moved), ["days", "calendar"]);
    }

    #[test]
    fn every_fault_is_listed_with_its_field() {
        let mut bad = good();
        bad.timing = Timing::Cron("61 * * * *".into());
        bad.days = DayRule::WorkingDays;
        bad.time_zone = "Europe/Berln".into();
        bad.valid_to = Some(bad.valid_from);
        bad.quantities.push(Quantity::ActiveEnergyImport);
        bad.window_s = 0;
        bad.retry = RetryPolicy {
            attempts: 11,
            backoff_s: 0,
            deadline_s: 1,
            budget: Some(0),
        };
        assert_eq!(
            fields(&bad),
            [
                "time_zone",
                "cron",
                "calendar",
                "valid_to",
                "quantities",
                "window_s",
                "spread_s",
                "retry.attempts",
                "retry.backoff_s",
                "retry.deadline_s",
                "retry.budget"
            ]
        );
    }

    #[test]
    fn a_rule_that_never_comes_due_is_refused() {
        let mut bad = good();
        bad.timing = Timing::Cron("0 0 30 2 *".into());
        let faults = check_rule(&bad).unwrap_err();
        assert!(faults.to_string().contains("cron: never comes due"), "{faults}");
    }
}
