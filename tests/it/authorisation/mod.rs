//! The matrix: every operation × every caller × own, foreign and absent objects, generated from the table of
//! `src/api/access.rs` and the OpenAPI description. Nothing foreign is returned or changed, and nothing tells whether a
//! foreign object exists.
//!
//! An operation, a parameter or a table that the generator does not know fails the test: say in [`atlas`] what it is,
//! and give it a row in [`seed`].

mod ask;
mod atlas;
mod requests;
mod seed;

use crate::harness::api::Api;
use ask::{Answer, Caller, ask};
use atlas::Atlas;
use polyphase::api::access::{Access, OPERATIONS, Operation};
use polyphase::api::{ApiSettings, BASE};
use polyphase::domain::access::{Role, RoleSet};
use polyphase::port::live::{LiveFeed, Topic};
use requests::{Plan, Target};
use serde_json::Value;
use std::collections::BTreeMap;

/// Role `platform` reaches these of every account, by what it is.
const PLATFORM_REACHES_ALL: &[&str] = &[
    "list_accounts",
    "get_account",
    "edit_account",
    "list_quarantine",
    "claim",
    "set_claim_code",
];

/// What the account's policy leaves to its own people.
const FOR_PEOPLE_OF_THE_ACCOUNT: &[&str] = &[
    "request_command",
    "request_commands",
    "approve_command",
    "reject_command",
    "cancel_command",
];

/// What an admin's own request is refused with all the same, and why that is right.
const REFUSED_ALL_THE_SAME: &[(&str, u16, &str)] = &[
    ("change_password", 422, "the example is not their password"),
    ("sign_out", 409, "a key has no session"),
    ("enrol_second_factor", 403, "a key cannot"),
    ("confirm_second_factor", 403, "a key cannot"),
    ("renew_recovery_codes", 403, "a key cannot"),
    ("remove_second_factor", 403, "a key cannot"),
    ("end_session", 404, "one's own sessions alone"),
    ("reset_second_factor", 404, "none is in use"),
    ("reset_second_factor", 409, "none is in use"),
    ("get_export_file", 409, "the export failed: there is no file"),
    ("delete_export", 403, "another person's; an admin may"),
    ("list_quarantine", 403, "there are several accounts"),
    ("get_series", 400, "names no subject; with one it is tried below"),
    ("get_line_plan", 404, "nobody is at the line"),
    ("compare_parameters", 409, "nobody is at the line"),
    ("cancel_scan", 409, "the scan is over"),
    ("approve_command", 409, "nothing holds it"),
    ("reject_command", 409, "it was decided before"),
    ("cancel_command", 409, "it was decided before"),
    ("resend_message", 409, "it is not dead"),
    ("delete_meter", 404, "it was exchanged before"),
    ("delete_user", 409, "they approved a command"),
    ("delete_dtu", 409, "meters hang behind it"),
    ("delete_schedule", 409, "it is in use"),
    ("delete_calendar", 409, "it is in use"),
    ("delete_group", 409, "it is in use"),
];

/// Lists of the caller's own sign-ins; who comes with a key has none.
const EMPTY_FOR_KEYS: &[&str] = &["list_sessions", "list_sign_ins"];

struct Matrix {
    api: Api,
    document: Value,
    foreign: Atlas,
    absent: Atlas,
    asked: usize,
    faults: Vec<String>,
}

impl Matrix {
    fn fault(&mut self, caller: &Caller, operation: &Operation, what: &str, text: &str) {
        let text: String = text.chars().take(400).collect();
        let fault = format!("{} as {}: {what}: {text}", operation.id, caller.name);
        self.faults.push(fault);
    }

    /// Sends the request of a plan, and looks for anything of the other account in the answer.
    async fn send(
        &mut self,
        caller: &Caller,
        operation: &Operation,
        plan: &Plan,
        own: &Atlas,
        target: Target<'_>,
    ) -> Answer {
        if operation.id == "claim" {
            // wrong codes are throttled by the minute
            self.api.clock.advance(std::time::Duration::from_secs(61));
        }
        let request = plan.request(operation, own, target, caller.within);
        let answer = ask(
            self.api.address,
            caller,
            operation.method,
            &format!("{BASE}{}", request.path),
            request.body,
        )
        .await;
        self.asked += 1;
        if !(caller.role == Some(Role::Platform) && PLATFORM_REACHES_ALL.contains(&operation.id)) {
            let whole = answer.whole().to_lowercase();
            // what the caller said themselves may be said back to them
            let whole = match &request.said {
                Some(said) => whole.replace(&said.to_lowercase(), ""),
                None => whole,
            };
            let found = self
                .foreign
                .traces()
                .find(|trace| whole.contains(trace.as_str()))
                .cloned();
            if let Some(found) = found {
                self.fault(caller, operation, &format!("shows {found} of another account"), &whole);
            }
        }
        if answer.status >= 500 && answer.status != 502 {
            self.fault(caller, operation, "server error", &answer.text);
        }
        answer
    }

    /// A foreign object and one that never was are answered alike.
    async fn told_apart(
        &mut self,
        caller: &Caller,
        operation: &Operation,
        plan: &Plan,
        own: &Atlas,
        slot: Option<usize>,
    ) -> Answer {
        let (foreign, absent) = (self.foreign.clone(), self.absent.clone());
        let at = |ids| match slot {
            None => Target::Path(ids),
            Some(slot) => Target::Slot(slot, ids),
        };
        let theirs = self.send(caller, operation, plan, own, at(&foreign)).await;
        let nobodys = self.send(caller, operation, plan, own, at(&absent)).await;
        let (a, b) = (
            foreign.blanked(&theirs.comparable()),
            absent.blanked(&nobodys.comparable()),
        );
        if a != b {
            let place = slot.map_or("path".to_owned(), |slot| plan.slots[slot].name());
            self.fault(
                caller,
                operation,
                &format!("tells foreign from absent at {place}"),
                &format!("{a}\n≠\n{b}"),
            );
        }
        theirs
    }

    /// One operation as one caller.
    async fn try_out(&mut self, caller: &Caller, operation: &Operation, plan: &Plan, own: &Atlas) {
        let across = caller.role == Some(Role::Platform) && PLATFORM_REACHES_ALL.contains(&operation.id);
        let roles = caller.role.map(|role| RoleSet::of(&[role]));
        let permitted =
            operation.access == Access::Public || roles.is_some_and(|roles| operation.access.permits(roles));
        let mut refusals = Vec::new();
        if plan.has_path_id() && !across && !plan.catalogue() {
            let answer = self.told_apart(caller, operation, plan, own, None).await;
            if permitted && !matches!(answer.status, 404 | 403) {
                self.fault(caller, operation, "a foreign object is there", &answer.text);
            }
            refusals.push(answer);
        }
        if permitted && !across {
            for slot in 0..plan.slots.len() {
                let answer = self.told_apart(caller, operation, plan, own, Some(slot)).await;
                let named = &plan.slots[slot];
                let refused = answer.status == 404 || (answer.status < 500 && named.is_blamed_by(&answer));
                if caller.role == Some(Role::Admin) && operation.method != "GET" && !refused {
                    self.fault(
                        caller,
                        operation,
                        &format!("does not refuse a foreign {}", named.name()),
                        &answer.text,
                    );
                }
            }
        }
        let answer = self.send(caller, operation, plan, own, Target::Own).await;
        if permitted {
            self.judge_own(caller, operation, plan, own, &answer).await;
            return;
        }
        let wanted = if caller.role.is_some() {
            (403, "forbidden")
        } else {
            (401, "unauthenticated")
        };
        refusals.push(answer);
        for answer in refusals {
            if (answer.status, answer.problem().as_str()) != wanted {
                self.fault(
                    caller,
                    operation,
                    &format!("is not {wanted:?} but {}", answer.status),
                    &answer.text,
                );
            }
        }
    }

    async fn judge_own(&mut self, caller: &Caller, operation: &Operation, plan: &Plan, own: &Atlas, answer: &Answer) {
        let denied = matches!(answer.problem().as_str(), "forbidden" | "unauthenticated");
        let known = REFUSED_ALL_THE_SAME
            .iter()
            .any(|(id, status, _)| *id == operation.id && *status == answer.status);
        let left_to_people = caller.role == Some(Role::Platform) && FOR_PEOPLE_OF_THE_ACCOUNT.contains(&operation.id);
        if denied && !known && !left_to_people {
            self.fault(
                caller,
                operation,
                "the table permits it, the server does not",
                &answer.text,
            );
        }
        if caller.role != Some(Role::Admin) || operation.access == Access::Public {
            return;
        }
        if answer.status >= 400 && !known {
            self.fault(
                caller,
                operation,
                &format!("{} of one's own", answer.status),
                &answer.text,
            );
        }
        if plan.is_list()
            && !EMPTY_FOR_KEYS.contains(&operation.id)
            && answer.status == 200
            && answer.json()["items"].as_array().is_none_or(Vec::is_empty)
        {
            self.fault(
                caller,
                operation,
                "shows nothing of one's own: what would it hide?",
                &answer.text,
            );
        }
        for slot in 0..plan.slots.len() {
            if operation.method == "GET" {
                let answer = self.send(caller, operation, plan, own, Target::Slot(slot, own)).await;
                if answer.status >= 400 {
                    let what = format!("{} with one's own {}", answer.status, plan.slots[slot].name());
                    self.fault(caller, operation, &what, &answer.text);
                }
            }
        }
    }

    /// Nothing within an account is reached by naming another, and a stream brings one's own alone.
    async fn streams(&mut self, caller: &Caller, own: &Atlas) {
        let mut stream = ask::Stream::open(self.api.address, caller).await;
        for (atlas, account) in [(&self.foreign.clone(), &self.foreign.account), (own, &own.account)] {
            let mark = format!("event of {}", atlas.mark);
            self.api.live.publish(
                polyphase::base::ids::AccountId(account.parse().unwrap()),
                Topic::Sessions,
                None,
                None,
                serde_json::json!({ "text": mark }),
            );
        }
        let heard = stream.until(&format!("event of {}", own.mark)).await.to_lowercase();
        let found = self
            .foreign
            .traces()
            .find(|trace| heard.contains(trace.as_str()))
            .cloned();
        if let Some(found) = found {
            self.faults.push(format!("the stream of {} shows {found}", caller.name));
        }
    }
}

/// GET before what changes, and what takes away last; the session at the very end.
fn order(operation: &Operation) -> (u8, &'static str) {
    let rank = match (operation.method, operation.id) {
        (_, "sign_out" | "change_password") => 9,
        (_, "emergency_stop" | "clear_alarm") => 4,
        (_, "exchange_meter") => 5,
        (_, "delete_meter" | "delete_channel") => 6,
        (_, "delete_recipient" | "delete_dtu") => 8,
        ("GET", _) => 0,
        ("DELETE", _) => 7,
        _ => 1,
    };
    (rank, operation.id)
}

#[actix_web::test]
async fn nobody_reaches_into_another_account() {
    let api = Api::start_controlled(ApiSettings::default(), seed::desk).await;
    let document = polyphase::api::document();
    let root = api.platform().await;
    // account by account: whose objects, and who calls within it
    let mut callers: Vec<(Caller, Atlas)> = Vec::new();
    let mut foreign = seed::account(&api, &root, "zqbravo", 1_777_700_000).await;
    // of a device that somebody has
    foreign.ids.insert("sn", "zqbravo-sn".to_owned());
    for (index, role) in (1..).zip(Role::ALL) {
        let atlas = seed::account(&api, &root, &format!("zqalfa{role}"), index * 10_000_000).await;
        let caller = if *role == Role::Platform {
            let account = atlas.account.clone();
            Caller::new("platform", Some(*role), Some(root.key.clone())).within(account)
        } else {
            Caller::new(
                role.as_str(),
                Some(*role),
                Some(api.someone(*role, &atlas.mark).await.key),
            )
        };
        callers.push((caller, atlas));
    }
    let own = callers[0].1.clone();
    for (name, key) in seed::strangers(&api).await {
        callers.push((Caller::new(name, None, key), own.clone()));
    }
    seed::every_table_has_rows(&api, &foreign).await;
    let before = seed::rows(&api, &foreign.account).await;
    let audit_before = seed::count(&api, "SELECT count(*) FROM audit").await;

    let plans: BTreeMap<&str, Plan> = OPERATIONS
        .iter()
        .map(|operation| (operation.id, Plan::of(&document, operation)))
        .collect();
    let absent = foreign.absent();
    let mut matrix = Matrix {
        api,
        document,
        foreign,
        absent,
        asked: 0,
        faults: Vec::new(),
    };
    assert!(
        matrix.document["paths"]
            .as_object()
            .is_some_and(|paths| paths.len() > 50)
    );
    let mut operations: Vec<&Operation> = OPERATIONS.iter().collect();
    operations.sort_by_key(|operation| order(operation));
    for (caller, own) in &callers {
        if caller.role.is_some() {
            matrix.streams(caller, own).await;
        }
        for operation in &operations {
            matrix.try_out(caller, operation, &plans[operation.id], own).await;
        }
    }
    let after = seed::rows(&matrix.api, &matrix.foreign.account).await;
    for (table, rows) in &before {
        if after.get(table) != Some(rows) {
            matrix
                .faults
                .push(format!("table {table} of the other account was changed"));
        }
    }
    let audited = seed::count(&matrix.api, "SELECT count(*) FROM audit").await - audit_before;
    println!(
        "{} operations, {} callers, {} requests, {} audited changes, {} tables unchanged",
        operations.len(),
        callers.len(),
        matrix.asked,
        audited,
        before.len()
    );
    assert!(matrix.asked > 10 * operations.len(), "{} requests", matrix.asked);
    assert!(audited > 50, "own objects were changed: {audited}");
    assert!(
        matrix.faults.is_empty(),
        "{} faults:\n{}",
        matrix.faults.len(),
        matrix.faults.join("\n")
    );
    matrix.api.stop().await;
}
