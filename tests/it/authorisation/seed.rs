//! Accounts with one of every kind of object, whose mark stands in every text of theirs; and what can be seen of an
//! account's rows from behind row level security.

use super::atlas::Atlas;
use crate::harness::api::{Api, PASSWORD, Someone};
use crate::harness::db::TestDb;
use async_trait::async_trait;
use polyphase::actor::control_desk::{ControlDesk, ControlHandle, DeskParts, DeskSettings, Lines};
use polyphase::actor::durable::{Durable, PollLog};
use polyphase::actor::live::LiveHub;
use polyphase::actor::messages::LineNow;
use polyphase::base::clock::{Clock, ManualClock};
use polyphase::base::ids::{AccountId, ConnectionId, DtuId, FrameId, FrameRange, GrowingIds, MeterId, PollId};
use polyphase::cli::access;
use polyphase::device::catalogue::Catalogue;
use polyphase::domain::access::Role;
use polyphase::domain::command::BrakeLimits;
use polyphase::domain::reading::{Item, Measurand, Quality, Reading, Source, Value};
use polyphase::port::control::Control;
use polyphase::port::fleet::DtuLive;
use polyphase::port::frames::{FrameKind, RawFrame, RecordedFrame};
use polyphase::port::ledger::{PollRecord, SinkError};
use polyphase::port::scan::FoundMeter;
use polyphase::protocol::dlt645::{Operator, Password, Security};
use polyphase::store::commands::PgCommandLog;
use serde_json::json;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// Objects that a row of SQL makes, and what their ids end with.
const NUMBERED: &[&str] = &[
    "account",
    "user",
    "api_key",
    "login",
    "schedule",
    "group",
    "dtu",
    "session",
    "point",
    "meter",
    "installation",
    "calendar",
    "control_schedule",
    "recipient",
    "channel",
    "route",
    "notice",
    "item",
    "alarm_rule",
    "alarm",
    "edge",
    "frame",
    "stop",
    "conflict",
    "rejected",
    "spare_group",
    "evidence",
    "integration",
    "terminal_event",
    "terminal_profile",
];

const ROWS: &str = "
INSERT INTO account (id, name, created_at) OVERRIDING SYSTEM VALUE VALUES ($account, '$m', $then);
INSERT INTO app_user (id, account_id, email, name, password_hash, roles, created_at) OVERRIDING SYSTEM VALUE
    VALUES ($user, $account, 'spare@$m.example', '$m', 'x', '{viewer}', $then);
INSERT INTO api_key (id, account_id, user_id, name, hash, prefix, created_at) OVERRIDING SYSTEM VALUE
    VALUES ($api_key, $account, $user, '$m', sha256('$m key'), 'ph_k_$m', $then);
INSERT INTO login_session (id, account_id, user_id, token_hash, session_epoch, created_at, expires_at) OVERRIDING SYSTEM VALUE
    VALUES ($login, $account, $user, sha256('$m session'), 1, $then, '2026-04-01');
INSERT INTO idempotency_key (account_id, key, request_hash, status, response, created_at)
    VALUES ($account, '$m', sha256('$m'), 200, '{\"text\": \"$m\"}', '2026-03-01');
INSERT INTO grafana_login (login, account_id) VALUES ('g_$m', $account);
INSERT INTO calendar (id, account_id, name, created_at) OVERRIDING SYSTEM VALUE VALUES ($calendar, $account, '$m', $then);
INSERT INTO calendar_version (calendar_id, account_id, valid_from, time_zone, weekdays, holidays, holiday_names)
    VALUES ($calendar, $account, $then, 'UTC', '{1,2,3,4,5}', '{2026-12-25}', '{$m}');
INSERT INTO schedule (id, account_id, name, created_at) OVERRIDING SYSTEM VALUE VALUES ($schedule, $account, '$m', $then);
INSERT INTO schedule_rule (schedule_id, account_id, valid_from, cron, time_zone, spread_s, window_s, attempts, backoff_s,
                           deadline_s, missed_run)
    VALUES ($schedule, $account, $then, '0 * * * *', 'UTC', 0, 300, 3, 5, 300, 'once');
INSERT INTO meter_group (id, account_id, name, created_at) OVERRIDING SYSTEM VALUE
    VALUES ($group, $account, '$m', $then), ($spare_group, $account, '$m spare', $then);
INSERT INTO dtu (id, account_id, sn, name, created_at) OVERRIDING SYSTEM VALUE
    VALUES ($dtu, $account, '$m-sn', '$m', $then);
INSERT INTO mesh_place (dtu_id, account_id, point, place, meter_address, meter_protocol, port, collector, tariffs, routed, read_at)
    VALUES ($dtu, $account, 1, 1, '$m', '$m', 31, '$m', 4, false, $then);
INSERT INTO archive_entry (dtu_id, account_id, point, entry)
    VALUES ($dtu, $account, 1, '{\"point\": 1, \"place\": 1, \"meter_address\": \"$m\", \"meter_protocol\": \"$m\", \"port\": 31, \"collector\": \"\", \"tariffs\": 4}');
INSERT INTO terminal_event (id, dtu_id, account_id, code, data, important, happened_at, found_at) OVERRIDING SYSTEM VALUE
    VALUES ($terminal_event, $dtu, $account, 14, '$m', true, '2026-03-01T11:00', $then);
INSERT INTO terminal_profile (id, account_id, name, protocol, parameters, created_at) OVERRIDING SYSTEM VALUE
    VALUES ($terminal_profile, $account, '$m', 'gdw376.1', '[{\"name\": \"$m\", \"number\": 0, \"value\": \"$m\"}]', $then);
INSERT INTO parameter_run (id, account_id, protocol, profile_id, asks, state, requested_by, created_at, compared_at)
    VALUES ('$parameter_run', $account, 'gdw376.1', $terminal_profile, '[{\"name\": \"heartbeat\", \"number\": 0, \"wanted\": 10, \"seen\": null}]',
            'compared', '$m', $then, $then);
INSERT INTO parameter_run_entry (run_id, dtu_id, account_id, state, reason, parameters, ended_at)
    VALUES ('$parameter_run', $dtu, $account, 'differs', '$m', '[{\"name\": \"heartbeat\", \"number\": 0, \"present\": \"$m\", \"wanted\": 10,
             \"before\": null, \"outcome\": \"differs\", \"code\": null, \"ahead_s\": null}]', $then);
INSERT INTO terminal_parameter (dtu_id, account_id, name, number, value, read_at)
    VALUES ($dtu, $account, '$m', 0, '\"$m\"', $then);
INSERT INTO dtu_session (id, dtu_id, account_id, peer, began_at) VALUES ($session, $dtu, $account, '$m', $then);
INSERT INTO metering_point (id, account_id, name, group_id, created_at) OVERRIDING SYSTEM VALUE
    VALUES ($point, $account, '$m', $group, $then);
INSERT INTO meter (id, account_id, dtu_id, protocol, address, model, name, comment, group_id, created_at) OVERRIDING SYSTEM VALUE
    VALUES ($meter, $account, $dtu, 'modbus-rtu', '1', 'polyphase_virtual', '$m', '$m', $group, $then);
INSERT INTO installation (id, account_id, point_id, meter_id, valid_from) OVERRIDING SYSTEM VALUE
    VALUES ($installation, $account, $point, $meter, $then);
INSERT INTO meter_own_schedule (meter_id, schedule_id, account_id) VALUES ($meter, $schedule, $account);
INSERT INTO meter_schedule (meter_id, schedule_id, account_id, valid_from) VALUES ($meter, $schedule, $account, $then);
SELECT ensure_day('2026-03-01');
INSERT INTO reading_electricity (ts, read_at, poll_id, frame_first, meter_id, account_id, source, frame_count, voltage_l1,
                                 active_energy_import)
    VALUES ('2026-03-01T11:00Z', '2026-03-01T11:00:02Z', 1, $frame, $meter, $account, 0, 1, 230.5, 1234.5);
INSERT INTO reading_fluid (ts, read_at, poll_id, frame_first, meter_id, account_id, source, frame_count, volume_total)
    VALUES ('2026-03-01T11:00Z', '2026-03-01T11:00:02Z', 1, $frame, $meter, $account, 0, 1, 12.5);
INSERT INTO reading_side (ts, meter_id, account_id, source, quality, quantity, exact)
    VALUES ('2026-03-01T11:00Z', $meter, $account, 0, 0, '$m', 5);
INSERT INTO latest_reading (meter_id, shape, account_id, source, family, ts, read_at)
    VALUES ($meter, 1, $account, 0, 0, '2026-03-01T11:00Z', '2026-03-01T11:00:02Z');
INSERT INTO slot_ending (due_at, ended_at, meter_id, schedule_id, account_id, version, attempts, state, reason, detail)
    VALUES ('2026-03-01T10:00Z', '2026-03-01T10:05Z', $meter, $schedule, $account, 1, 3, 'missing', 'timeout', '$m');
INSERT INTO reading_conflict (id, account_id, meter_id, ts, source, found_at, stored, offered, offered_hash) OVERRIDING SYSTEM VALUE
    VALUES ($conflict, $account, $meter, '2026-03-01T11:00Z', 0, '2026-03-01T11:00Z', '{}', '{\"t\": \"$m\"}', sha256('$m'));
INSERT INTO reading_rejected (id, account_id, meter_id, ts, source, found_at, sqlstate, reason, record, record_hash) OVERRIDING SYSTEM VALUE
    VALUES ($rejected, $account, $meter, '2026-03-01T11:00Z', 0, '2026-03-01T11:00Z', '22003', '$m', '{}', sha256('$m'));
INSERT INTO frame_evidence (id, account_id, dtu_id, connection_id, meter_id, at, kind, protocol, bytes)
    VALUES ($evidence, $account, $dtu, 1, $meter, '2026-03-01T11:00Z', 'stray', '$m', '$m');
INSERT INTO consumption_dirty (meter_id, hour, round, account_id) VALUES ($meter, '2026-03-01T11:00Z', 1, $account);
INSERT INTO meter_hour_dirty (meter_id, hour, round, account_id) VALUES ($meter, '2026-03-01T11:00Z', 1, $account);
INSERT INTO hour_mark (hour, round, account_id, registers, polls, meters) VALUES ('2026-03-01T11:00Z', 1, $account, true, true, '{$meter}');
INSERT INTO consumption_hour (start, finish, point_id, account_id, quality, interpolated, incomplete, quantity, value)
    VALUES ('2026-03-01T10:00Z', '2026-03-01T11:00Z', $point, $account, 0, false, false, 'active_energy_import', 1.5);
INSERT INTO consumption_day (start, finish, point_id, account_id, quality, interpolated, incomplete, quantity, value)
    VALUES ('2026-02-28T00:00Z', '2026-03-01T00:00Z', $point, $account, 0, false, false, 'active_energy_import', 35.5);
INSERT INTO meter_hour (hour, meter_id, account_id, reads, actual, late, estimated, missing)
    VALUES ('2026-03-01T10:00Z', $meter, $account, 1, 1, 0, 0, 1);
INSERT INTO meter_day (day, meter_id, account_id, reads, actual, late, estimated, missing)
    VALUES ('2026-02-28T00:00Z', $meter, $account, 24, 24, 0, 0, 1);
INSERT INTO control_policy (account_id, policy)
    VALUES ($account, '{\"request\": {\"trip\": [\"admin\", \"operator\", \"billing\"], \"close\": [\"admin\", \"operator\", \"billing\"]}, \"four_eyes\": {\"trip_from\": 1},
                       \"approve\": [\"admin\", \"operator\", \"billing\"]}');
INSERT INTO control_schedule (id, account_id, name, cron, time_zone, action, meters, expires_in_s, reason, requested_by,
                              requested_as, done_until, created_at) OVERRIDING SYSTEM VALUE
    VALUES ($control_schedule, $account, '$m', '0 3 * * *', 'UTC', '{\"action\": \"reconnect\"}', '{$meter}', 600, '$m', $user,
            '$m', '2026-03-01T12:00Z', $then);
INSERT INTO emergency_stop (id, account_id, reason, began_at, began_by, ended_at, ended_by) OVERRIDING SYSTEM VALUE
    VALUES ($stop, $account, '$m', $then, '$m', $then, '$m');
INSERT INTO alarm_rule (id, account_id, name, enabled, severity, kind, judgement, created_at) OVERRIDING SYSTEM VALUE
    VALUES ($alarm_rule, $account, '$m', true, 'info', 'threshold',
            '{\"kind\": \"threshold\", \"quantity\": \"voltage_l1\", \"above\": 253.0}', $then);
INSERT INTO alarm_rule_version (rule_id, version, account_id, valid_from, actor, name, enabled, severity, judgement)
    VALUES ($alarm_rule, 1, $account, $then, '$m', '$m', true, 'info',
            '{\"kind\": \"threshold\", \"quantity\": \"voltage_l1\", \"above\": 253.0}');
INSERT INTO alarm (id, account_id, key, kind, severity, dtu_id, meter_id, rule_id, detail, sentence, raised_at, cause_at, judged_at)
    OVERRIDING SYSTEM VALUE
    VALUES ($alarm, $account, 'clock_drift@meter/$meter', 'clock_drift', 'warning', $dtu, $meter, $alarm_rule,
            '{\"value\": \"90\", \"text\": \"$m\"}', '$m', '2026-03-01T11:00Z', '2026-03-01T11:00Z', '2026-03-01T11:00Z');
INSERT INTO alarm_edge (id, alarm_id, account_id, at, step, actor, note, quiet) OVERRIDING SYSTEM VALUE
    VALUES ($edge, $alarm, $account, '2026-03-01T11:00Z', 'raised', '$m', '$m', false);
INSERT INTO alarm_victim (alarm_id, dtu_id, account_id, since) VALUES ($alarm, $dtu, $account, '2026-03-01T11:00Z');
INSERT INTO alarm_watch (meter_id, account_id, state, at) VALUES ($meter, $account, '{\"t\": \"$m\"}', $then);
INSERT INTO notice_recipient (id, account_id, name, user_id, language, time_zone, created_at) OVERRIDING SYSTEM VALUE
    VALUES ($recipient, $account, '$m', $user, 'en', 'UTC', $then);
INSERT INTO notice_channel (id, account_id, recipient_id, kind, address, created_at) OVERRIDING SYSTEM VALUE
    VALUES ($channel, $account, $recipient, 'webhook', 'http://127.0.0.1:9/$m', $then);
INSERT INTO notice_route (id, account_id, name, rule, created_at) OVERRIDING SYSTEM VALUE
    VALUES ($route, $account, '$m', '{\"steps\": [{\"recipients\": [$recipient]}]}', $then);
INSERT INTO notice (id, account_id, subject, edge, severity, kind, facts, groups, at) OVERRIDING SYSTEM VALUE
    VALUES ($notice, $account, '$m', 'raised', 'warning', 'clock_drift', '{\"text\": \"$m\"}', '{$group}', '2026-03-01T11:00Z');
INSERT INTO notice_message (id, account_id, recipient_id, channel_id, kind, address, subject, body, payload, critical, state,
                            born_at, created_at, ended_at)
    VALUES ('$message', $account, $recipient, $channel, 'webhook', 'http://127.0.0.1:9/$m', '$m', '$m', '{\"text\": \"$m\"}',
            false, 'dead', '2026-03-01T11:00Z', '2026-03-01T11:00Z', '2026-03-01T11:30Z');
INSERT INTO notice_item (id, account_id, notice_id, recipient_id, channel_id, route_id, step, due_at, state, message_id)
    OVERRIDING SYSTEM VALUE
    VALUES ($item, $account, $notice, $recipient, $channel, $route, 0, '2026-03-01T11:00Z', 'bundled', '$message');
";

/// Rows of what is not in every build of the schema.
const WHERE_THERE: &[(&str, &str)] = &[
    (
        "second_factor",
        "INSERT INTO second_factor (user_id, account_id, salt, enrolled_at) VALUES ($user, $account, '$message', $then);
         INSERT INTO recovery_code (user_id, account_id, hash) VALUES ($user, $account, sha256('$m'));
         INSERT INTO sign_in (account_id, user_id, at, last_at, outcome, source, agent, place)
             VALUES ($account, $user, $then, $then, 'granted', '$m', '$m', '$m')",
    ),
    (
        "integration",
        "INSERT INTO integration (id, account_id, name, kind, target, topics, quantities, options, enabled, created_at)
             OVERRIDING SYSTEM VALUE
             VALUES ($integration, $account, '$m', 'webhook', 'https://$m.example/', '{readings}', '{}', '{}', false, $then);
         INSERT INTO integration_state (integration_id, account_id, seq, part, cleared_at) VALUES ($integration, $account, 0, 0, $then);
         INSERT INTO feed (account_id, topic, items, events) VALUES ($account, 'alarms', 1, '[{\"id\": 1, \"text\": \"$m\"}]')",
    ),
    (
        "export_job",
        "INSERT INTO export_job (id, account_id, kind, format, ask, state, reason, requested_by, user_id, created_at, ended_at)
             VALUES ('$export', $account, 'readings', 'csv', '{\"kind\": \"readings\", \"format\": \"csv\", \"from\": \"2026-03-01T00:00:00Z\",
             \"to\": \"2026-03-02T00:00:00Z\", \"time_zone\": \"UTC\", \"meter_ids\": [$meter], \"group_id\": null, \"dtu_id\": null,
             \"quantities\": [], \"per\": \"day\", \"bom\": false}', 'failed', '$m', '$m', $user, $then, $then)",
    ),
    (
        "import_job",
        "INSERT INTO import_job (id, account_id, kind, ask, state, tally, requested_by, user_id, created_at, ended_at)
             VALUES ('$import', $account, 'meters', '{\"kind\": \"meters\", \"format\": \"csv\", \"dry_run\": true,
             \"numbers_as_text\": false, \"charset\": null, \"bytes\": 1, \"sha256\": \"$m\"}', 'faulty',
             '{\"rows\": 1, \"rows_checked\": 1, \"made\": 0, \"changed\": 0, \"unchanged\": 0, \"faults_total\": 1,
             \"faults\": [{\"row\": 2, \"column\": \"name\", \"value\": \"$m\", \"problem\": \"$m\", \"remedy\": \"$m\"}],
             \"changes\": []}', '$m', $user, $then, $then)",
    ),
];

/// What hangs on a command, which the desk makes.
const BEHIND_COMMAND: &str = "
INSERT INTO command_approval (command_id, user_id, account_id, at, digest) VALUES ($command, $user, $account, $then, sha256('$m'));
INSERT INTO trip (command_id, account_id, dtu_id, at) VALUES ($command, $account, $dtu, '2026-03-01T09:00Z');
INSERT INTO meter_protection (meter_id, account_id, kind, note, created_at) VALUES ($meter, $account, 'protected', '$m', $then);
";

fn filled(template: &str, atlas: &Atlas) -> String {
    let mut text = template
        .replace("$then", "'2026-01-01T00:00:00Z'")
        .replace("$m'", "$MARK'");
    // longer names first: $meter before $m
    let mut ids: Vec<_> = atlas.ids.iter().collect();
    ids.sort_by_key(|(kind, _)| std::cmp::Reverse(kind.len()));
    for (kind, id) in ids {
        text = text.replace(&format!("${kind}"), id);
    }
    text.replace("$MARK", &atlas.mark).replace("$m", &atlas.mark)
}

/// An account with one of everything, whose numbers begin at `base` (its last two digits count the kinds).
pub async fn account(api: &Api, root: &Someone, mark: &str, base: i32) -> Atlas {
    let mut ids: BTreeMap<&'static str, String> = NUMBERED
        .iter()
        .zip(base..)
        .map(|(kind, id)| (*kind, id.to_string()))
        .collect();
    ids.insert("message", format!("{base:08x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa"));
    // a device that waits to be claimed, with the code of the example
    ids.insert("sn", format!("{mark}-new"));
    let code = Some(json!({ "code": "7QX3-MK2P" }));
    api.call(root, "PUT", &format!("/quarantine/{mark}-new/code"), code)
        .await;
    ids.insert("export", format!("{base:08x}-bbbb-4bbb-8bbb-bbbbbbbbbbbb"));
    ids.insert("import", format!("{base:08x}-cccc-4ccc-8ccc-cccccccccccc"));
    ids.insert("parameter_run", format!("{base:08x}-dddd-4ddd-8ddd-dddddddddddd"));
    ids.insert("template", "meters".to_owned());
    ids.insert("backup", "20260301-120000".to_owned());
    ids.insert("model", "polyphase_virtual".to_owned());
    let mut atlas = Atlas {
        mark: mark.to_owned(),
        account: base.to_string(),
        digits: (base / 100).to_string(),
        ids,
    };
    api.db.sql(&filled(ROWS, &atlas)).await;
    for (table, rows) in WHERE_THERE {
        if count(api, &format!("SELECT count(*) FROM pg_class WHERE relname = '{table}'")).await > 0 {
            api.db.sql(&filled(rows, &atlas)).await;
        }
    }
    api.frames.add(RecordedFrame {
        id: FrameId(atlas.id("frame").parse().unwrap()),
        frame: RawFrame {
            at: api.now(),
            dtu: Some(DtuId(atlas.id("dtu").parse().unwrap())),
            connection: ConnectionId(1),
            meter: Some(MeterId(atlas.id("meter").parse().unwrap())),
            poll: None,
            kind: FrameKind::Answer,
            protocol: mark.to_owned().into(),
            bytes: mark.as_bytes().into(),
            turn: None,
        },
    });
    api.frames.add(RecordedFrame {
        id: FrameId(atlas.id("frame").parse::<i64>().unwrap() + 1),
        frame: RawFrame {
            at: api.now(),
            dtu: Some(DtuId(atlas.id("dtu").parse().unwrap())),
            connection: ConnectionId(1),
            meter: Some(MeterId(atlas.id("meter").parse().unwrap())),
            poll: None,
            kind: FrameKind::Request,
            protocol: mark.to_owned().into(),
            bytes: mark.as_bytes().into(),
            turn: None,
        },
    });
    // what lives in the server rather than in a table, and what only the desk makes
    let keeper = keeper(api, mark).await;
    let made = async |path: String, body| api.call(&keeper, "POST", &path, Some(body)).await;
    let command = json!({ "action": "disconnect", "expires_in_s": 86_400, "reason": mark });
    let command = made(format!("/meters/{}/commands", atlas.id("meter")), command)
        .await
        .expect(202)
        .json();
    atlas.ids.insert("command", command["id"].to_string());
    atlas
        .ids
        .insert("batch", command["batch_id"].as_str().expect("a batch").to_owned());
    api.db.sql(&filled(BEHIND_COMMAND, &atlas)).await;
    let meter = MeterId(atlas.id("meter").parse().unwrap());
    let reading = Reading {
        account: AccountId(base),
        meter,
        ts: api.now(),
        source: Source::OnDemand,
        read_at: api.now(),
        meter_time: None,
        poll: PollId(1),
        frames: FrameRange::EMPTY,
        items: vec![Item {
            measurand: Measurand::Vendor(mark.into()),
            value: Value::F64(1.5),
            quality: Quality::Measured,
        }],
    };
    api.fleet.set_reading(meter, Ok(reading));
    let watch = json!({ "every_s": 3600, "for_s": 3600 });
    made(format!("/meters/{}/watch", atlas.id("meter")), watch)
        .await
        .expect(202);
    let live = DtuLive {
        online: true,
        since: Some(api.now()),
        session: None,
        peer: None,
        stats: None,
        clone_suspected: false,
        banned_until: None,
    };
    api.fleet.set_live(DtuId(atlas.id("dtu").parse().unwrap()), live);
    let read = made(format!("/meters/{}/read?wait_s=0", atlas.id("meter")), json!({}))
        .await
        .json();
    api.fleet.set_found(vec![FoundMeter {
        protocol: "modbus-rtu".to_owned(),
        address: "9".to_owned(),
        ..FoundMeter::default()
    }]);
    let scan = made(format!("/dtus/{}/scan", atlas.id("dtu")), json!({})).await.json();
    for (kind, json) in [("read", read), ("scan", scan)] {
        let id = json["id"].as_str().unwrap_or_else(|| panic!("no {kind}: {json}"));
        atlas.ids.insert(kind, id.to_owned());
    }
    atlas
}

/// Whoever made what the account has: nobody decides about their own commands.
async fn keeper(api: &Api, mark: &str) -> Someone {
    let (database, email) = (api.db.database(), format!("keeper@{mark}.example"));
    let user = access::add_user(database, &*api.clock, &email, Role::Admin, Some(mark), PASSWORD)
        .await
        .unwrap();
    let key = access::create_api_key(database, &*api.clock, &email, mark)
        .await
        .unwrap();
    Someone {
        account: user.account_id,
        user: user.id.0,
        email,
        key,
    }
}

/// Those who must not get in at all, with what they hold.
pub async fn strangers(api: &Api) -> Vec<(&'static str, Option<String>)> {
    let gone = api.someone(Role::Admin, "zqgone").await;
    let closed = api.someone(Role::Admin, "zqclosed").await;
    let (user, account) = (gone.user, closed.account.expect("an account").0);
    api.db
        .sql(&format!(
            "UPDATE app_user SET disabled_at = '2026-02-01' WHERE id = {user}"
        ))
        .await;
    api.db
        .sql(&format!(
            "UPDATE account SET disabled_at = '2026-02-01' WHERE id = {account}"
        ))
        .await;
    let mut wrong = gone.key.clone();
    let last = wrong.pop();
    wrong.push(if last == Some('A') { 'B' } else { 'A' });
    vec![
        ("nobody", None),
        ("a wrong key", Some(wrong)),
        ("a disabled person", Some(gone.key)),
        ("a disabled account", Some(closed.key)),
    ]
}

/// Tables whose rows are an account's, with the column that says whose.
async fn tables(api: &Api) -> Vec<(String, &'static str)> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'account_id'
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1",
    )
    .fetch_all(&mut api.db.superuser().await)
    .await
    .unwrap();
    let mut tables: Vec<_> = names.into_iter().map(|name| (name, "account_id")).collect();
    tables.push(("account".to_owned(), "id"));
    tables
}

/// A digest of all rows of an account, by table.
pub async fn rows(api: &Api, account: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut superuser = api.db.superuser().await;
    for (table, column) in tables(api).await {
        let query = format!(
            "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, chr(10) ORDER BY t::text)), '')
             FROM {table} t WHERE {column} = {account}"
        );
        let digest: String = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_one(&mut superuser)
            .await
            .unwrap();
        found.insert(table, digest);
    }
    found
}

/// A table without a row of the account could be shown or changed without anybody noticing.
pub async fn every_table_has_rows(api: &Api, atlas: &Atlas) {
    let rows = rows(api, &atlas.account).await;
    let empty: Vec<&String> = rows
        .iter()
        .filter(|(_, digest)| digest.starts_with("0 "))
        .map(|(table, _)| table)
        .collect();
    assert!(
        empty.is_empty(),
        "add rows to tests/it/authorisation/seed.rs for {empty:?}"
    );
}

pub async fn count(api: &Api, query: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned()))
        .fetch_one(&mut api.db.superuser().await)
        .await
        .unwrap()
}

/// Nobody is at the port.
struct NoLines;

#[async_trait(?Send)]
impl Lines for NoLines {
    async fn lines(&self, dtus: Vec<DtuId>) -> Vec<Option<LineNow>> {
        dtus.into_iter().map(|_| None).collect()
    }
}

struct NoFrames;

#[async_trait]
impl PollLog for NoFrames {
    async fn append(&self, _record: PollRecord) -> Result<Durable, SinkError> {
        Err(SinkError::Full("kept nowhere".into()))
    }
}

/// The product's own control desk.
pub async fn desk(db: &TestDb, clock: &Arc<ManualClock>, live: &Arc<LiveHub>) -> Arc<dyn Control> {
    let parts = DeskParts {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        log: Arc::new(PgCommandLog::new(db.database())),
        lines: Rc::new(NoLines),
        catalogue: Arc::new(Catalogue::builtin().unwrap()),
        live: live.clone(),
        polls: Arc::new(GrowingIds::starting_at(clock.now())),
        frames: Arc::new(NoFrames),
        settings: DeskSettings {
            enabled: true,
            limits: BrakeLimits::default(),
            visits_max: 64,
            open_max: 100_000,
            security: Security {
                password: Password::new(2, "000000").unwrap(),
                operator: Operator::new("00000001").unwrap(),
            },
        },
    };
    Arc::new(ControlHandle(ControlDesk::open(parts).await.unwrap()))
}
