//! Kinds of objects, what names them in routes, queries and bodies, and the ids of one account's objects.

use std::collections::BTreeMap;

/// The kinds of objects by the collection that they are in.
const COLLECTIONS: &[(&str, &str)] = &[
    ("/accounts", "account"),
    ("/users", "user"),
    ("/api-keys", "api_key"),
    ("/quarantine", "sn"),
    ("/dtus", "dtu"),
    ("/scans", "scan"),
    ("/frames", "frame"),
    ("/meters", "meter"),
    ("/points", "point"),
    ("/groups", "group"),
    ("/meter-models", "model"),
    ("/reads", "read"),
    ("/schedules", "schedule"),
    ("/calendars", "calendar"),
    ("/commands", "command"),
    ("/control/schedules", "control_schedule"),
    ("/notices/messages", "message"),
    ("/notices/recipients", "recipient"),
    ("/notices/channels", "channel"),
    ("/notices/routes", "route"),
    ("/alarms", "alarm"),
    ("/alarm-rules", "alarm_rule"),
    ("/sessions", "login"),
    ("/integrations", "integration"),
    ("/exports", "export"),
    ("/parameter-runs", "parameter_run"),
    ("/terminal-profiles", "terminal_profile"),
    ("/imports", "import"),
    ("/imports/templates", "template"),
    ("/backups", "backup"),
];

/// Which kind of object a parameter or property names.
const REFERENCES: &[(&str, &str)] = &[
    ("account", "account"),
    ("account_id", "account"),
    ("batch_id", "batch"),
    ("calendar", "calendar"),
    ("calendar_id", "calendar"),
    ("channel_id", "channel"),
    ("dtu_id", "dtu"),
    ("dtu_ids", "dtu"),
    ("group_id", "group"),
    ("groups", "group"),
    ("meter_id", "meter"),
    ("meter_ids", "meter"),
    ("point_id", "point"),
    ("sum_point_id", "point"),
    ("protected_groups", "group"),
    ("recipient_id", "recipient"),
    ("recipients", "recipient"),
    ("schedule", "schedule"),
    ("schedule_id", "schedule"),
    ("schedules", "schedule"),
    ("user_id", "user"),
];

/// Numbers that name nothing.
const NUMBERS: &[&str] = &[
    "address",
    "attempts",
    "baud",
    "bit",
    "budget",
    "count",
    "days",
    "hour",
    "hours",
    "limit",
    "measuring_points",
    "minute",
    "number",
    "per_hour",
    "place",
    "point",
    "points",
    "port",
    "slots",
    "tariffs",
    "units",
    "value",
    "weeks",
];
const NUMBER_ENDINGS: &[&str] = &[
    "_s", "_ms", "_min", "_max", "_from", "_w", "_v", "_h", "_percent", "_kwh", "_days", "_weeks", "_mean", "_until",
];

/// The kind of object that the collection holds; none: the generator has to be told (above).
pub fn collection(path: &str) -> Option<&'static str> {
    COLLECTIONS
        .iter()
        .find(|(known, _)| *known == path)
        .map(|(_, kind)| *kind)
}

/// The kind of object that a parameter or property of an operation names.
pub fn reference(operation: &str, name: &str) -> Option<&'static str> {
    if name == "parent_id" {
        return Some(if operation.contains("group") { "group" } else { "alarm" });
    }
    REFERENCES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, kind)| *kind)
}

/// Whether a property is a plain number, which names no object.
pub fn is_plain_number(name: &str) -> bool {
    NUMBERS.contains(&name) || NUMBER_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The objects of one account, one of every kind, by kind.
#[derive(Clone, Debug)]
pub struct Atlas {
    /// In every text of it.
    pub mark: String,
    /// Its id.
    pub account: String,
    /// What the numbers of its ids begin with.
    pub digits: String,
    pub ids: BTreeMap<&'static str, String>,
}

impl Atlas {
    /// The id of its object of a kind.
    pub fn id(&self, kind: &str) -> &str {
        self.ids
            .get(kind)
            .unwrap_or_else(|| panic!("the seed makes no {kind}: add one in tests/it/authorisation/seed.rs"))
    }

    /// What tells that something is this account's.
    pub fn traces(&self) -> impl Iterator<Item = &String> {
        let uuids = self.ids.values().filter(|id| id.len() > 30);
        [&self.mark, &self.digits].into_iter().chain(uuids)
    }

    /// Ids of the same form that nothing has.
    pub fn absent(&self) -> Self {
        let ids = self.ids.iter().map(|(kind, id)| {
            let gone = if id.len() > 30 {
                "0badc0de-0bad-4bad-8bad-0badc0de0bad".to_owned()
            } else if id.starts_with(&self.digits) {
                id.replacen(&self.digits, "18888000", 1)
            } else if id.contains(&self.mark) {
                id.replace(&self.mark, "zqnobod")
            } else {
                "1888800099".to_owned()
            };
            (*kind, gone)
        });
        Self {
            mark: "zqnobod".to_owned(),
            account: String::new(),
            digits: "18888000".to_owned(),
            ids: ids.collect(),
        }
    }

    /// A text without the ids: what is said back of a request may differ in the id alone.
    pub fn blanked(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for id in self.ids.values().filter(|id| id.len() > 6) {
            text = text.replace(id.as_str(), "#");
        }
        without_uuids(&text)
    }
}

/// What the server draws by chance is another each time.
fn without_uuids(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let is_uuid = |at: usize| {
        bytes.get(at..at + 36).is_some_and(|part| {
            part.iter().enumerate().all(|(place, sign)| match place {
                8 | 13 | 18 | 23 => *sign == '-',
                _ => sign.is_ascii_hexdigit(),
            })
        })
    };
    let mut told = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(sign) = bytes.get(at) {
        if is_uuid(at) {
            told.push('@');
            at += 36;
        } else {
            told.push(*sign);
            at += 1;
        }
    }
    told
}
