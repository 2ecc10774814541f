//! Account-scoped handles: how the API reaches stored things.
//!
//! A handle is made for one account and one actor; everything it reads or writes is that account's (its transactions
//! have set the account, row level security does the rest), and every change writes its audit row, with that actor, in
//! the same transaction. So a handler cannot forget either.

use crate::base::ids::{AccountId, ApiKeyId, UserId};
use crate::port::accounts::AccountStore;
use crate::port::alarms::{AlarmRuleStore, AlarmStore};
use crate::port::api_keys::ApiKeyStore;
use crate::port::archive::ArchiveStore;
use crate::port::audit::AuditStore;
use crate::port::backups::BackupBook;
use crate::port::calendars::CalendarStore;
use crate::port::control::CommandStore;
use crate::port::dtus::DtuStore;
use crate::port::exports::{ExportBook, ExportHouse};
use crate::port::groups::{CountStore, GroupStore};
use crate::port::idempotency::IdempotencyStore;
use crate::port::imports::{ImportBook, ImportHouse};
use crate::port::integrations::IntegrationBook;
use crate::port::line_loss::LineLossStore;
use crate::port::mesh::MeshStore;
use crate::port::meters::{MeterStore, PointStore};
use crate::port::notices::NoticeBook;
use crate::port::parameters::{ParameterHouse, ParameterStore};
use crate::port::quarantine::{ClaimCodeStore, ClaimStore};
use crate::port::readings::ReadingHistory;
use crate::port::schedules::ScheduleStore;
use crate::port::second_factor::SecondFactorStore;
use crate::port::sign_ins::SignInBook;
use crate::port::slots::SlotStore;
use crate::port::terminal_events::TerminalEventStore;
use crate::port::users::UserStore;
use serde::Serialize;

/// Who acts; goes into the audit row of each change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// The person; none for the command line.
    pub user: Option<UserId>,
    /// The key that was used, if any.
    pub api_key: Option<ApiKeyId>,
    /// How the audit names it: an e-mail address, or `cli`.
    pub name: String,
    /// Where the request came from.
    pub source: Option<String>,
    /// The request's id, as in the log and the `X-Request-Id` header.
    pub request_id: Option<String>,
}

impl Actor {
    /// The control desk itself: what it does by the rules, with nobody asking.
    pub fn control_desk() -> Self {
        Self {
            name: "control-desk".to_owned(),
            ..Self::command_line()
        }
    }

    /// Who looks after exports: what it does by the rules, with nobody asking.
    pub fn export_desk() -> Self {
        Self {
            name: "export-desk".to_owned(),
            ..Self::command_line()
        }
    }

    /// Who looks after runs of settings: what it does by the rules, with nobody asking.
    pub fn parameter_desk() -> Self {
        Self {
            name: "parameter-desk".to_owned(),
            ..Self::command_line()
        }
    }

    /// Who looks after imports: what it does by the rules, with nobody asking.
    pub fn import_desk() -> Self {
        Self {
            name: "import-desk".to_owned(),
            ..Self::command_line()
        }
    }

    /// Somebody at the server's own command line.
    pub fn command_line() -> Self {
        Self {
            user: None,
            api_key: None,
            name: "cli".to_owned(),
            source: None,
            request_id: None,
        }
    }
}

/// One account, one actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Whose things.
    pub account: AccountId,
    /// Who acts.
    pub actor: Actor,
}

/// Why a store did not do what was asked. The API maps each to one problem type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No such object in this account.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The object has another version than the caller saw.
    #[error("the object was changed meanwhile and has version {current}")]
    Stale {
        /// Its version now.
        current: i32,
    },
    /// It clashes with something that exists.
    #[error("{message}")]
    Conflict {
        /// The field at fault, as the API names it.
        field: Option<&'static str>,
        /// What clashes, and what to do.
        message: String,
    },
    /// A value that only the store could judge (e.g. an id of another object that is not there).
    #[error("{field}: {message}")]
    Invalid {
        /// The field at fault, as the API names it.
        field: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The database is away or too slow; nothing was changed.
    #[error("the database cannot answer: {0}")]
    Unavailable(String),
    /// A fault of ours; the text is for the log.
    #[error("internal: {0}")]
    Internal(String),
}

/// Makes handles `H` for an account: `H` is a resource's trait, e.g. `dyn DtuStore`.
pub trait InAccount<H: ?Sized>: Send + Sync {
    /// The handle. Cheap.
    fn in_account(&self, scope: Scope) -> Box<H>;
}

/// Makes handles `H` across accounts, for role `platform` and for the server itself.
pub trait AcrossAccounts<H: ?Sized>: Send + Sync {
    /// The handle. Cheap.
    fn across_accounts(&self, actor: Actor) -> Box<H>;
}

/// Everything the API works through. A new resource adds one line here.
pub trait Stores:
    InAccount<dyn AccountStore>
    + AcrossAccounts<dyn AccountStore>
    + InAccount<dyn UserStore>
    + AcrossAccounts<dyn UserStore>
    + InAccount<dyn ApiKeyStore>
    + AcrossAccounts<dyn ApiKeyStore>
    + InAccount<dyn AuditStore>
    + AcrossAccounts<dyn AuditStore>
    + InAccount<dyn DtuStore>
    + AcrossAccounts<dyn DtuStore>
    + InAccount<dyn IdempotencyStore>
    + InAccount<dyn ClaimStore>
    + AcrossAccounts<dyn ClaimCodeStore>
    + InAccount<dyn MeterStore>
    + InAccount<dyn PointStore>
    + InAccount<dyn ReadingHistory>
    + InAccount<dyn SlotStore>
    + InAccount<dyn ScheduleStore>
    + InAccount<dyn CalendarStore>
    + InAccount<dyn GroupStore>
    + InAccount<dyn LineLossStore>
    + InAccount<dyn MeshStore>
    + InAccount<dyn ArchiveStore>
    + InAccount<dyn TerminalEventStore>
    + InAccount<dyn ParameterStore>
    + AcrossAccounts<dyn ParameterHouse>
    + InAccount<dyn CountStore>
    + InAccount<dyn CommandStore>
    + InAccount<dyn AlarmStore>
    + AcrossAccounts<dyn AlarmStore>
    + InAccount<dyn AlarmRuleStore>
    + InAccount<dyn NoticeBook>
    + InAccount<dyn SecondFactorStore>
    + AcrossAccounts<dyn SecondFactorStore>
    + InAccount<dyn SignInBook>
    + AcrossAccounts<dyn SignInBook>
    + InAccount<dyn IntegrationBook>
    + InAccount<dyn ExportBook>
    + AcrossAccounts<dyn ExportHouse>
    + InAccount<dyn ImportBook>
    + AcrossAccounts<dyn ImportHouse>
    + AcrossAccounts<dyn BackupBook>
    + 'static
{
}
