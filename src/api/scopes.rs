//! Which group of operations a route is in: what a key's scopes go by. A test holds it against the table of operations;
//! a route in no group is out of every scope's reach.

use super::access::Operation;
use crate::domain::scope::Group;

/// The group of an operation. `None`: a key with scopes never reaches it.
pub(super) fn group(operation: &Operation) -> Option<Group> {
    let mut parts = operation.route.trim_start_matches('/').split('/');
    let (first, last) = (parts.next()?, parts.next_back().unwrap_or_default());
    Some(match (first, last) {
        // one's own session is nobody's key
        ("session", _) => return None,
        ("sessions" | "sign-ins" | "accounts" | "users" | "api-keys" | "audit", _) => Group::People,
        ("meters", "readings" | "latest" | "consumption" | "read" | "watch")
        | ("points", "consumption")
        | ("groups", "line-loss") => Group::Readings,
        ("meters", "commands") => Group::Control,
        ("meters", "profile") => Group::Alarms,
        (
            "quarantine" | "dtus" | "scans" | "frames" | "meters" | "points" | "groups" | "meter-models" | "schedules"
            | "calendars" | "parameters" | "parameter-runs" | "terminal-profiles",
            _,
        ) => Group::Devices,
        ("reads" | "series" | "slots" | "stream" | "summary", _) => Group::Readings,
        ("commands" | "control", _) => Group::Control,
        ("alarms" | "alarm-rules", _) => Group::Alarms,
        ("notices" | "integrations" | "webhooks" | "mqtt", _) => Group::Notices,
        // what a file makes could be made one by one: a key needs the same for both
        ("imports", _) => Group::Devices,
        ("exports" | "jobs", _) => Group::Exchange,
        ("backups", _) => Group::Server,
        _ => return None,
    })
}

/// Whether an operation changes something.
pub(super) fn writes(operation: &Operation) -> bool {
    operation.method != "GET"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::access::{Access, OPERATIONS};

    #[test]
    fn every_operation_but_the_session_has_its_group() {
        for row in OPERATIONS {
            let session = row.route == "/session" || row.route.starts_with("/session/");
            assert_eq!(
                group(row).is_none(),
                session,
                "{} {}: name its group in api/scopes.rs",
                row.method,
                row.route
            );
        }
        let row = |id: &str| OPERATIONS.iter().find(|row| row.id == id).unwrap();
        assert_eq!(group(row("list_readings")), Some(Group::Readings));
        assert_eq!(group(row("get_meter")), Some(Group::Devices));
        assert_eq!(group(row("request_command")), Some(Group::Control));
        assert_eq!(row("who_am_i").access, Access::SignedIn);
    }
}
