//! Authorisation as data: one table, role × operation. What is not in it is denied, whoever asks.
//!
//! A test holds the table against the routes that the OpenAPI description collects: a route without an entry, or an
//! entry without a route, fails the build.

use crate::domain::access::{Role, RoleSet};
use crate::port::exports::ExportKind;
use Access::{Public, Roles, SignedIn};
use actix_web::http::Method;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Who may call an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody, also without a key.
    Public,
    /// Whoever has a valid key or session.
    SignedIn,
    /// Who has one of these roles.
    Roles(RoleSet),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// The method.
    pub method: &'static str,
    /// The route below [`super::BASE`].
    pub route: &'static str,
    /// Its name in the OpenAPI description.
    pub id: &'static str,
    /// Who may call it.
    pub access: Access,
}

const fn op(method: &'static str, route: &'static str, id: &'static str, access: Access) -> Operation {
    Operation {
        method,
        route,
        id,
        access,
    }
}

/// The server's operator alone.
const PLATFORM: Access = Roles(RoleSet::of(&[Role::Platform]));
/// People and keys of an account.
const ADMIN: Access = Roles(RoleSet::of(&[Role::Admin, Role::Platform]));
/// Devices and schedules.
const OPERATE: Access = Roles(RoleSet::of(&[Role::Admin, Role::Operator, Role::Platform]));
/// Asking for commands and deciding about them; which of these may what says the account's policy.
const COMMAND: Access = Roles(RoleSet::of(&[
    Role::Admin,
    Role::Operator,
    Role::Billing,
    Role::Platform,
]));
/// Looking at anything that is no secret.
const READ: Access = Roles(RoleSet::of(Role::ALL));

/// The table.
#[rustfmt::skip]
pub const OPERATIONS: &[Operation] = &[
    // session
    op("POST",   "/session",                    "sign_in",              Public),
    op("GET",    "/session",                    "who_am_i",             SignedIn),
    op("DELETE", "/session",                    "sign_out",             SignedIn),
    op("POST",   "/session/password",           "change_password",      SignedIn),
    op("GET",    "/session/second-factor",      "get_second_factor",    SignedIn),
    op("POST",   "/session/second-factor",      "enrol_second_factor",  SignedIn),
    op("POST",   "/session/second-factor/confirm", "confirm_second_factor", SignedIn),
    op("POST",   "/session/second-factor/recovery-codes", "renew_recovery_codes", SignedIn),
    op("POST",   "/session/second-factor/remove", "remove_second_factor", SignedIn),
    op("GET",    "/sessions",                   "list_sessions",        SignedIn),
    op("DELETE", "/sessions",                   "end_other_sessions",   SignedIn),
    op("DELETE", "/sessions/{id}",              "end_session",          SignedIn),
    op("GET",    "/sign-ins",                   "list_sign_ins",        SignedIn),
    // people, keys, accounts
    op("GET",    "/accounts",                   "list_accounts",        READ),
    op("POST",   "/accounts",                   "create_account",       PLATFORM),
    op("GET",    "/accounts/{id}",              "get_account",          READ),
    op("PATCH",  "/accounts/{id}",              "edit_account",         ADMIN),
    op("GET",    "/users",                      "list_users",           ADMIN),
    op("POST",   "/users",                      "create_user",          ADMIN),
    op("GET",    "/users/{id}",                 "get_user",             ADMIN),
    op("PATCH",  "/users/{id}",                 "edit_user",            ADMIN),
    op("DELETE", "/users/{id}",                 "delete_user",          ADMIN),
    op("GET",    "/users/{id}/sessions",        "list_user_sessions",   ADMIN),
    op("DELETE", "/users/{id}/sessions",        "end_user_sessions",    ADMIN),
    op("GET",    "/users/{id}/sign-ins",        "list_user_sign_ins",   ADMIN),
    op("DELETE", "/users/{id}/second-factor",   "reset_second_factor",  ADMIN),
    op("GET",    "/api-keys",                   "list_api_keys",        SignedIn),
    op("POST",   "/api-keys",                   "create_api_key",       SignedIn),
    op("DELETE", "/api-keys/{id}",              "revoke_api_key",       SignedIn),
    op("GET",    "/audit",                      "list_audit",           ADMIN),
    // the device port
    op("GET",    "/quarantine",                 "list_quarantine",      ADMIN),
    op("POST",   "/quarantine/{sn}/claim",      "claim",                ADMIN),
    op("PUT",    "/quarantine/{sn}/code",       "set_claim_code",       PLATFORM),
    op("GET",    "/dtus",                       "list_dtus",            READ),
    op("POST",   "/dtus",                       "create_dtu",           OPERATE),
    op("GET",    "/dtus/{id}",                  "get_dtu",              READ),
    op("PATCH",  "/dtus/{id}",                  "edit_dtu",             OPERATE),
    op("DELETE", "/dtus/{id}",                  "delete_dtu",           OPERATE),
    op("GET",    "/dtus/{id}/sessions",         "list_dtu_sessions",    READ),
    op("GET",    "/dtus/{id}/frames",           "list_dtu_frames",      READ),
    op("GET",    "/dtus/{id}/mesh",             "list_mesh",            READ),
    op("GET",    "/dtus/{id}/events",           "list_dtu_events",      READ),
    op("GET",    "/dtus/{id}/archive",          "get_archive",          READ),
    op("PUT",    "/dtus/{id}/archive",          "set_archive",          OPERATE),
    op("POST",   "/dtus/{id}/archive",          "write_archive",        OPERATE),
    op("GET",    "/parameters",                 "list_parameters",      READ),
    op("GET",    "/dtus/{id}/parameters",       "get_parameters",       READ),
    op("POST",   "/dtus/{id}/parameters",       "compare_parameters",   OPERATE),
    op("GET",    "/parameter-runs",             "list_parameter_runs",  READ),
    op("GET",    "/parameter-runs/{id}",        "get_parameter_run",    READ),
    op("GET",    "/parameter-runs/{id}/terminals", "list_parameter_run_terminals", READ),
    op("POST",   "/parameter-runs/{id}/write",  "write_parameter_run",  OPERATE),
    op("DELETE", "/parameter-runs/{id}",        "cancel_parameter_run", OPERATE),
    op("GET",    "/terminal-profiles",          "list_terminal_profiles", READ),
    op("POST",   "/terminal-profiles",          "create_terminal_profile", OPERATE),
    op("GET",    "/terminal-profiles/{id}",     "get_terminal_profile", READ),
    op("PUT",    "/terminal-profiles/{id}",     "edit_terminal_profile", OPERATE),
    op("DELETE", "/terminal-profiles/{id}",     "delete_terminal_profile", OPERATE),
    op("POST",   "/terminal-profiles/{id}/runs", "compare_terminal_profile", OPERATE),
    op("POST",   "/dtus/{id}/scan",             "scan_dtu",             OPERATE),
    op("GET",    "/scans/{id}",                 "get_scan",             READ),
    op("DELETE", "/scans/{id}",                 "cancel_scan",          OPERATE),
    op("POST",   "/scans/{id}/meters",          "adopt_scan",           OPERATE),
    op("GET",    "/dtus/{id}/line",             "list_line",            READ),
    op("GET",    "/dtus/{id}/line/plan",        "get_line_plan",        READ),
    op("GET",    "/frames/{id}",                "get_frame",            READ),
    // meters, points, groups
    op("GET",    "/meters",                     "list_meters",          READ),
    op("POST",   "/meters",                     "create_meter",         OPERATE),
    op("GET",    "/meters/{id}",                "get_meter",            READ),
    op("PATCH",  "/meters/{id}",                "edit_meter",           OPERATE),
    op("DELETE", "/meters/{id}",                "delete_meter",         OPERATE),
    op("POST",   "/meters/{id}/exchange",       "exchange_meter",       OPERATE),
    op("GET",    "/points",                     "list_points",          READ),
    op("GET",    "/points/{id}",                "get_point",            READ),
    op("PATCH",  "/points/{id}",                "edit_point",           OPERATE),
    op("GET",    "/groups",                     "list_groups",          READ),
    op("POST",   "/groups",                     "create_group",         OPERATE),
    op("GET",    "/groups/{id}",                "get_group",            READ),
    op("PATCH",  "/groups/{id}",                "edit_group",           OPERATE),
    op("DELETE", "/groups/{id}",                "delete_group",         OPERATE),
    op("GET",    "/groups/{id}/line-loss",      "line_loss",            READ),
    op("GET",    "/meter-models",               "list_meter_models",    READ),
    op("GET",    "/meter-models/{name}",        "get_meter_model",      READ),
    // readings
    op("GET",    "/meters/{id}/readings",       "list_readings",        READ),
    op("GET",    "/meters/{id}/latest",         "latest_readings",      READ),
    op("POST",   "/meters/{id}/read",           "read_meter",           OPERATE),
    op("GET",    "/reads/{id}",                 "get_read",             READ),
    op("POST",   "/meters/{id}/watch",          "watch_meter",          OPERATE),
    op("GET",    "/meters/{id}/watch",          "get_watch",            READ),
    op("DELETE", "/meters/{id}/watch",          "end_watch",            OPERATE),
    op("GET",    "/points/{id}/consumption",    "point_consumption",    READ),
    op("GET",    "/meters/{id}/consumption",    "meter_consumption",    READ),
    op("GET",    "/series",                     "get_series",           READ),
    // slots, schedules
    op("GET",    "/slots",                      "list_slots",           READ),
    op("GET",    "/slots/summary",              "summarise_slots",      READ),
    op("GET",    "/schedules",                  "list_schedules",       READ),
    op("POST",   "/schedules",                  "create_schedule",      OPERATE),
    op("GET",    "/schedules/{id}",             "get_schedule",         READ),
    op("PATCH",  "/schedules/{id}",             "edit_schedule",        OPERATE),
    op("DELETE", "/schedules/{id}",             "delete_schedule",      OPERATE),
    op("GET",    "/calendars",                  "list_calendars",       READ),
    op("POST",   "/calendars",                  "create_calendar",      OPERATE),
    op("GET",    "/calendars/{id}",             "get_calendar",         READ),
    op("PATCH",  "/calendars/{id}",             "edit_calendar",        OPERATE),
    op("DELETE", "/calendars/{id}",             "delete_calendar",      OPERATE),
    op("GET",    "/schedules/{id}/next",        "next_due",             READ),
    // control
    op("POST",   "/meters/{id}/commands",       "request_command",      COMMAND),
    op("GET",    "/meters/{id}/commands",       "list_meter_commands",  READ),
    op("POST",   "/commands",                   "request_commands",     COMMAND),
    op("GET",    "/commands",                   "list_commands",        READ),
    op("GET",    "/commands/{id}",              "get_command",          READ),
    op("POST",   "/commands/{id}/approve",      "approve_command",      COMMAND),
    op("POST",   "/commands/{id}/reject",       "reject_command",       COMMAND),
    op("POST",   "/commands/{id}/cancel",       "cancel_command",       COMMAND),
    op("GET",    "/commands/emergency-stop",    "get_emergency_stop",   READ),
    op("POST",   "/commands/emergency-stop",    "emergency_stop",       COMMAND),
    op("DELETE", "/commands/emergency-stop",    "end_emergency_stop",   ADMIN),
    op("GET",    "/control/policy",             "get_control_policy",   READ),
    op("PUT",    "/control/policy",             "set_control_policy",   ADMIN),
    op("PUT",    "/control/temperature",        "set_temperature",      OPERATE),
    op("GET",    "/control/protections",        "list_protections",     READ),
    op("PUT",    "/meters/{id}/protection",     "protect_meter",        OPERATE),
    op("DELETE", "/meters/{id}/protection",     "unprotect_meter",      ADMIN),
    op("GET",    "/control/schedules",          "list_control_schedules", READ),
    op("POST",   "/control/schedules",          "create_control_schedule", OPERATE),
    op("GET",    "/control/schedules/{id}",     "get_control_schedule", READ),
    op("PUT",    "/control/schedules/{id}",     "edit_control_schedule", OPERATE),
    op("POST",   "/control/schedules/{id}/approve", "approve_control_schedule", OPERATE),
    op("DELETE", "/control/schedules/{id}",     "delete_control_schedule", OPERATE),
    // notices
    op("GET",    "/notices",                    "list_notices",         OPERATE),
    op("GET",    "/notices/senders",            "list_senders",         READ),
    op("GET",    "/notices/messages",           "list_messages",        OPERATE),
    op("GET",    "/notices/messages/{id}",      "get_message",          OPERATE),
    op("POST",   "/notices/messages/{id}/resend", "resend_message",     OPERATE),
    op("GET",    "/notices/recipients",         "list_recipients",      OPERATE),
    op("POST",   "/notices/recipients",         "create_recipient",     ADMIN),
    op("GET",    "/notices/recipients/{id}",    "get_recipient",        OPERATE),
    op("PATCH",  "/notices/recipients/{id}",    "edit_recipient",       ADMIN),
    op("DELETE", "/notices/recipients/{id}",    "delete_recipient",     ADMIN),
    op("GET",    "/notices/channels",           "list_channels",        OPERATE),
    op("POST",   "/notices/channels",           "create_channel",       ADMIN),
    op("GET",    "/notices/channels/{id}",      "get_channel",          OPERATE),
    op("PATCH",  "/notices/channels/{id}",      "edit_channel",         ADMIN),
    op("DELETE", "/notices/channels/{id}",      "delete_channel",       ADMIN),
    op("POST",   "/notices/channels/{id}/secret", "change_channel_secret", ADMIN),
    op("POST",   "/notices/channels/{id}/test", "test_channel",         OPERATE),
    op("GET",    "/notices/routes",             "list_notice_routes",   OPERATE),
    op("POST",   "/notices/routes",             "create_notice_route",  ADMIN),
    op("GET",    "/notices/routes/{id}",        "get_notice_route",     OPERATE),
    op("PATCH",  "/notices/routes/{id}",        "edit_notice_route",    ADMIN),
    op("DELETE", "/notices/routes/{id}",        "delete_notice_route",  ADMIN),
    // integrations
    op("GET",    "/integrations",               "list_integrations",    ADMIN),
    op("POST",   "/integrations",               "create_integration",   ADMIN),
    op("GET",    "/integrations/{id}",          "get_integration",      ADMIN),
    op("PATCH",  "/integrations/{id}",          "edit_integration",     ADMIN),
    op("DELETE", "/integrations/{id}",          "delete_integration",   ADMIN),
    op("POST",   "/integrations/{id}/secret",   "change_integration_secret", ADMIN),
    op("POST",   "/integrations/{id}/test",     "test_integration",     ADMIN),
    op("POST",   "/integrations/{id}/resume",   "resume_integration",   ADMIN),
    // alarms
    op("GET",    "/alarms",                     "list_alarms",          READ),
    op("GET",    "/alarms/{id}",                "get_alarm",            READ),
    op("GET",    "/alarms/{id}/victims",        "list_alarm_victims",   READ),
    op("POST",   "/alarms/{id}/acknowledge",    "acknowledge_alarm",    OPERATE),
    op("POST",   "/alarms/{id}/comment",        "comment_alarm",        OPERATE),
    op("POST",   "/alarms/{id}/shelve",         "shelve_alarm",         OPERATE),
    op("POST",   "/alarms/{id}/unshelve",       "unshelve_alarm",       OPERATE),
    op("POST",   "/alarms/{id}/clear",          "clear_alarm",          OPERATE),
    op("GET",    "/alarm-rules",                "list_alarm_rules",     READ),
    op("POST",   "/alarm-rules",                "create_alarm_rule",    OPERATE),
    op("GET",    "/alarm-rules/defaults",       "list_default_alarm_rules", READ),
    op("POST",   "/alarm-rules/test",           "try_alarm_rule",       OPERATE),
    op("GET",    "/alarm-rules/{id}",           "get_alarm_rule",       READ),
    op("PUT",    "/alarm-rules/{id}",           "edit_alarm_rule",      OPERATE),
    op("DELETE", "/alarm-rules/{id}",           "delete_alarm_rule",    OPERATE),
    op("GET",    "/alarm-rules/{id}/versions",  "list_alarm_rule_versions", READ),
    op("GET",    "/meters/{id}/profile",        "get_profile",          READ),
    // exports: which kinds says EXPORTS
    op("GET",    "/exports",                    "list_exports",         READ),
    op("POST",   "/exports",                    "create_export",        READ),
    op("GET",    "/exports/{id}",               "get_export",           READ),
    op("GET",    "/exports/{id}/file",          "get_export_file",      READ),
    op("DELETE", "/exports/{id}",               "delete_export",        READ),
    // imports: what they make, operators could make one by one
    op("GET",    "/imports",                    "list_imports",         OPERATE),
    op("POST",   "/imports",                    "create_import",        OPERATE),
    op("GET",    "/imports/templates/{kind}",   "get_import_template",  READ),
    op("GET",    "/imports/{id}",               "get_import",           OPERATE),
    // backups
    op("GET",    "/backups",                    "list_backups",         PLATFORM),
    op("POST",   "/backups",                    "create_backup",        PLATFORM),
    op("GET",    "/backups/{id}/file",          "get_backup_file",      PLATFORM),
    // stream, front page
    op("GET",    "/stream",                     "get_stream",           READ),
    op("GET",    "/summary",                    "get_summary",          READ),
];

/// Who may export and see what.
const EXPORTS: &[(ExportKind, Access)] = &[
    (ExportKind::Readings, READ),
    (ExportKind::Consumption, READ),
    (ExportKind::Slots, READ),
    (ExportKind::Alarms, READ),
    (ExportKind::Audit, ADMIN),
];

/// Who may delete exports of others.
pub(super) const OTHERS_EXPORTS: Access = ADMIN;

/// Who may export this and see such exports; what is not in the table, nobody.
pub(super) fn export(kind: ExportKind) -> Access {
    let row = EXPORTS.iter().find(|(of, _)| *of == kind);
    row.map_or(Roles(RoleSet::of(&[])), |(_, access)| *access)
}

static BY_ROUTE: LazyLock<HashMap<(&'static str, &'static str), &'static Operation>> =
    LazyLock::new(|| OPERATIONS.iter().map(|row| ((row.route, row.method), row)).collect());

/// What the table says of a method and a route pattern (below the base).
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// This operation.
    Operation(&'static Operation),
    /// The route has other methods only.
    OtherMethods(String),
    /// Not in the table: denied.
    Denied,
}

pub(super) fn find(method: &Method, route: &str) -> Verdict {
    if let Some(operation) = BY_ROUTE.get(&(route, method.as_str())) {
        return Verdict::Operation(operation);
    }
    let methods: Vec<&str> = OPERATIONS
        .iter()
        .filter(|row| row.route == route)
        .map(|row| row.method)
        .collect();
    if methods.is_empty() {
        Verdict::Denied
    } else {
        Verdict::OtherMethods(methods.join(", "))
    }
}

impl Access {
    /// Whether a caller with these roles may; [`Public`] and [`SignedIn`] do not look at roles.
    pub fn permits(self, roles: RoleSet) -> bool {
        match self {
            Public | SignedIn => true,
            Roles(allowed) => allowed.meets(roles),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn what_is_not_in_the_table_is_denied() {
        assert!(matches!(find(&Method::GET, "/nothing"), Verdict::Denied));
        assert!(matches!(find(&Method::PUT, "/session"), Verdict::OtherMethods(m) if m == "POST, GET, DELETE"));
        assert!(matches!(find(&Method::GET, "/session"), Verdict::Operation(op) if op.id == "who_am_i"));
    }

    #[test]
    fn the_audit_is_exported_by_admins_alone() {
        for role in Role::ALL {
            let may: Vec<ExportKind> = ExportKind::ALL
                .into_iter()
                .filter(|kind| export(*kind).permits(RoleSet::of(&[*role])))
                .collect();
            let admin = matches!(role, Role::Admin | Role::Platform);
            assert_eq!(may.contains(&ExportKind::Audit), admin, "{role}");
            assert!(may.contains(&ExportKind::Readings), "{role}");
        }
    }

    #[test]
    fn rows_are_unique() {
        let mut ids = HashSet::new();
        let mut routes = HashSet::new();
        for row in OPERATIONS {
            assert!(ids.insert(row.id), "{} twice", row.id);
            assert!(
                routes.insert((row.method, row.route)),
                "{} {} twice",
                row.method,
                row.route
            );
        }
    }

    #[test]
    fn changes_need_more_than_looking() {
        let viewer = RoleSet::of(&[Role::Viewer]);
        // an export is made of what they may read anyway, and changes nothing of it
        let files = ["create_export", "delete_export"];
        let changes = |row: &&Operation| row.method != "GET" && !files.contains(&row.id);
        for row in OPERATIONS.iter().filter(changes) {
            assert!(
                matches!(row.access, Public | SignedIn) || !row.access.permits(viewer),
                "{} lets a viewer change things",
                row.id
            );
        }
    }
}
