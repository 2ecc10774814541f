//! One request per operation that takes a body, as its OpenAPI description shows it. They are true: the authorisation
//! matrix (`tests/it/authorisation`) sends every one of them to a running server, with ids of objects that exist.

use serde_json::Value;

/// The example bodies, by the operation's id.
const REQUESTS: &[(&str, &str)] = &[
    (
        "sign_in",
        r#"{"email":"ann@example.org","password":"correct horse battery"}"#,
    ),
    (
        "change_password",
        r#"{"current":"correct horse battery","new":"a longer one with seven words in it"}"#,
    ),
    ("enrol_second_factor", r#"{"password":"correct horse battery"}"#),
    ("confirm_second_factor", r#"{"code":"287082"}"#),
    ("renew_recovery_codes", r#"{"code":"287082"}"#),
    (
        "remove_second_factor",
        r#"{"password":"correct horse battery","code":"287082"}"#,
    ),
    (
        "create_account",
        r#"{"name":"Stadtwerke Musterstadt","time_zone":"Europe/Berlin","currency":"EUR"}"#,
    ),
    ("edit_account", r#"{"time_zone":"Europe/Berlin","schedule":1}"#),
    (
        "create_user",
        r#"{"email":"bo@example.org","name":"Bo","password":"a longer one with seven words in it","roles":["operator"]}"#,
    ),
    ("edit_user", r#"{"name":"Bo Lindgren","roles":["viewer"]}"#),
    ("create_api_key", r#"{"name":"billing export"}"#),
    ("claim", r#"{"name":"cellar, house 4","code":"7QX3-MK2P"}"#),
    ("set_claim_code", r#"{"code":"7QX3-MK2P"}"#),
    (
        "create_dtu",
        r#"{"sn":"DTU20260001","name":"cellar, house 4","schedule":1}"#,
    ),
    ("edit_dtu", r#"{"name":"cellar, house 4, left","silence_s":300}"#),
    ("scan_dtu", r#"{"protocols":["modbus-rtu"]}"#),
    (
        "set_archive",
        r#"{"meters":[{"point":7,"meter_address":"000010000042"}]}"#,
    ),
    ("write_archive", r#"{"measuring_points":[7]}"#),
    (
        "compare_parameters",
        r#"{"parameters":[{"name":"heartbeat","value":10},{"name":"voltage_upper_limit","number":7,"value":"242.0"}]}"#,
    ),
    ("write_parameter_run", r#"{"communication":["heartbeat"]}"#),
    (
        "create_terminal_profile",
        r#"{"name":"south","protocol":"gdw376.1","parameters":[{"name":"events_important","value":[1,14]}]}"#,
    ),
    (
        "edit_terminal_profile",
        r#"{"name":"south, all","parameters":[{"name":"meter_clock_off","value":5}]}"#,
    ),
    ("compare_terminal_profile", r#"{"dtu_ids":[1]}"#),
    (
        "adopt_scan",
        r#"{"meters":[{"protocol":"modbus-rtu","address":"9","model":"polyphase_virtual","name":"flat 9"}]}"#,
    ),
    (
        "create_meter",
        r#"{"dtu_id":1,"protocol":"modbus-rtu","address":7,"model":"polyphase_virtual","name":"flat 7"}"#,
    ),
    (
        "edit_meter",
        r#"{"name":"flat 7, left","comment":"behind the bicycle"}"#,
    ),
    (
        "exchange_meter",
        r#"{"at":"2026-03-01T09:00:00Z","closing":"10482.5","new_meter":{"name":"flat 7, new"},"opening":"0"}"#,
    ),
    ("edit_point", r#"{"name":"flat 7"}"#),
    ("create_group", r#"{"name":"south wing","sum_point_id":1}"#),
    ("edit_group", r#"{"name":"south wing, 2nd floor"}"#),
    ("read_meter", r#"{"quantities":["active_energy_import","voltage_l1"]}"#),
    (
        "watch_meter",
        r#"{"quantities":["voltage_l1"],"every_s":5,"for_s":600}"#,
    ),
    (
        "create_schedule",
        r#"{"name":"quarter hours","cron":"*/15 * * * *","time_zone":"Europe/Berlin"}"#,
    ),
    ("edit_schedule", r#"{"spread_s":60,"window_s":600}"#),
    (
        "create_calendar",
        r#"{"name":"Bavaria","time_zone":"Europe/Berlin","holidays":[{"date":"2026-12-25","name":"Christmas"}]}"#,
    ),
    (
        "edit_calendar",
        r#"{"working_weekdays":["mon","tue","wed","thu","fri"]}"#,
    ),
    (
        "request_command",
        r#"{"action":"disconnect","expires_in_s":60,"reason":"arrears since March"}"#,
    ),
    (
        "request_commands",
        r#"{"action":"reconnect","meter_ids":[1],"expires_in_s":600,"reason":"paid"}"#,
    ),
    ("approve_command", r#"{}"#),
    ("emergency_stop", r#"{"reason":"wrong list of meters"}"#),
    (
        "set_control_policy",
        r#"{"approve":["admin","operator"],"four_eyes":{"trip_from":10}}"#,
    ),
    ("set_temperature", r#"{"celsius":"-3.5"}"#),
    (
        "protect_meter",
        r#"{"kind":"life_support","note":"ventilator at home"}"#,
    ),
    (
        "create_control_schedule",
        r#"{"name":"street lamps on","cron":"30 17 * * *","action":"reconnect","meter_ids":[1],"expires_in_s":600,"reason":"dusk"}"#,
    ),
    (
        "edit_control_schedule",
        r#"{"name":"street lamps on","cron":"45 17 * * *","action":"reconnect","meter_ids":[1],"expires_in_s":600,"reason":"dusk"}"#,
    ),
    (
        "create_recipient",
        r#"{"name":"Li","language":"zh","time_zone":"Asia/Shanghai","quiet":{"from":"22:00","to":"07:00"}}"#,
    ),
    ("edit_recipient", r#"{"per_hour":5}"#),
    (
        "create_channel",
        r#"{"recipient_id":1,"kind":"email","address":"li@example.org"}"#,
    ),
    ("edit_channel", r#"{"enabled":true}"#),
    (
        "create_notice_route",
        r#"{"name":"all that is critical","rule":{"min_severity":"critical","steps":[{"recipients":[1]}]}}"#,
    ),
    (
        "edit_notice_route",
        r#"{"rule":{"min_severity":"warning","steps":[{"after_min":0,"recipients":[1]}]}}"#,
    ),
    (
        "create_integration",
        r#"{"name":"billing system","kind":"webhook","target":"https://billing.example.org/hooks/meters"}"#,
    ),
    ("edit_integration", r#"{"name":"billing system, new","batch_max":500}"#),
    ("create_export", r#"{"kind":"readings","format":"csv"}"#),
    (
        "create_import",
        r#""dtu_sn,protocol,address,model,name\r\nDTU20260001,modbus-rtu,8,polyphase_virtual,flat 8\r\n""#,
    ),
    ("acknowledge_alarm", r#"{"note":"on my way"}"#),
    ("comment_alarm", r#"{"note":"battery ordered"}"#),
    (
        "shelve_alarm",
        r#"{"until":"2026-03-02T12:00:00Z","note":"known, the mechanic comes on Monday"}"#,
    ),
    ("unshelve_alarm", r#"{"note":"the mechanic was there"}"#),
    ("clear_alarm", r#"{"note":"changed the battery"}"#),
    (
        "create_alarm_rule",
        r#"{"name":"strong peaks in the south wing","severity":"warning","check":{"kind":"threshold","quantity":"active_power_total","above":50000.0,"hysteresis":500.0,"for_s":600}}"#,
    ),
    (
        "edit_alarm_rule",
        r#"{"name":"strong peaks in the south wing","severity":"info","check":{"kind":"threshold","quantity":"active_power_total","above":60000.0,"hysteresis":500.0,"for_s":600}}"#,
    ),
    (
        "try_alarm_rule",
        r#"{"check":{"kind":"threshold","quantity":"active_power_total","above":50000.0,"hysteresis":500.0,"for_s":600}}"#,
    ),
];

/// The example body of an operation.
pub(super) fn request(operation: &str) -> Option<Value> {
    let (_, text) = REQUESTS.iter().find(|(id, _)| *id == operation)?;
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::super::{access, description, openapi};
    use super::*;

    #[test]
    fn every_body_has_an_example() {
        let mut api = description();
        let mut without = Vec::new();
        let mut with = Vec::new();
        for item in api.paths.paths.values_mut() {
            for (_, operation) in openapi::operations(item) {
                let id = operation.operation_id.clone().unwrap_or_default();
                if operation.request_body.is_some() {
                    if request(&id).is_none() {
                        without.push(id.clone());
                    }
                    with.push(id);
                }
            }
        }
        assert!(
            without.is_empty(),
            "add an example to src/api/examples.rs for {without:?}"
        );
        for (id, text) in REQUESTS {
            let there = access::OPERATIONS.iter().any(|row| row.id == *id);
            assert!(!there || with.iter().any(|known| known == id), "{id} takes no body");
            assert!(serde_json::from_str::<Value>(text).is_ok(), "{id}: {text}");
        }
    }
}
