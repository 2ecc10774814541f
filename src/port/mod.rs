//! Floor 3: the seams. Traits between the rooms that decide and the rooms that touch sockets, disks and databases,
//! and the account-scoped handles that the API works through. No sqlx, no tokio, no actix types.

pub mod accounts;
pub mod alarms;
pub mod api_keys;
pub mod audit;
pub mod auth;
pub mod calendars;
pub mod control;
pub mod disk;
pub mod disk_model;
pub mod dtus;
pub mod events;
pub mod fake;
pub mod field;
pub mod fleet;
pub mod frames;
pub mod groups;
pub mod idempotency;
pub mod integrations;
pub mod ledger;
pub mod live;
pub mod meter_models;
pub mod meters;
pub mod notices;
pub mod outage;
pub mod places;
pub mod quarantine;
pub mod readiness;
pub mod readings;
pub mod scan;
pub mod schedules;
pub mod scope;
pub mod second_factor;
pub mod sign_ins;
pub mod slots;
pub mod users;
