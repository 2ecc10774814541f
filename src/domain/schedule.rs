//! Reading schedules: cron expressions in a named zone, mapped to instants by our own rule.
