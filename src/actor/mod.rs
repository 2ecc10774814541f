//! Floor 5: the supervised actors and the actix-free handles to them that implement ports. The only room, besides
//! `app.rs`, that knows actix.
//!
//! ```text
//! app ─┬─ Registry            SN → DTU → account; sessions; quarantine; newest wins
//!      ├─ Shard × cores       one arbiter each; a DTU lives on the shard of its hash
//!      │   ├─ DtuConnection   the future that owns a socket
//!      │   └─ Meter           agenda, polls, endings; lives with or without a connection
//!      ├─ ControlDesk         commands: written down, judged, sent, read back
//!      ├─ Alarms ─ Judge      what was committed, sessions, commands → alarms
//!      ├─ Keeper: integrator  the feed → webhooks and brokers, each from its own cursor
//!      └─ Storage ─ Writer    spool → PostgreSQL in batches, then the live stream
//! ```
//!
//! Asks go down (registry → shard → meter → link), happenings go up by `do_send`; nobody asks upwards, so no cycle can
//! wait for itself. Children are built anew by their parent ([`supervise`]). A death of registry or shard is not
//! survived in place: the process ends, and a start recovers everything from disk.

pub mod alarm;
pub mod connection;
pub mod control_desk;
pub mod durable;
pub mod handles;
pub mod integrator;
pub mod keep;
pub mod live;
pub mod messages;
pub mod meter;
pub mod notifier;
pub mod registry;
mod scan;
pub mod session_log;
pub mod shard;
pub mod storage;
pub mod supervise;
pub mod verdict;
pub mod wakes;
