//! Integration tests: one binary, so that the server is linked once. Each file is one area.

#![allow(unreachable_pub, missing_docs, reason = "a test binary has no outside")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that panics has failed, which is what it is for"
)]

mod actors;
mod alarms;
mod api_access;
mod api_guesses;
mod api_identity;
mod api_metering;
mod audit;
mod authorisation;
mod backup;
mod cli;
mod contract;
mod control;
mod dashboards;
mod dlt645_peer;
mod dlt698_peer;
mod drills;
mod harness;
mod integrations;
mod limits;
mod mbus_line;
mod mixed_line;
mod modbus_peer;
mod net;
mod notices;
mod parameters;
mod store;
mod terminal_events;
mod terminal_reports;
mod tls;
