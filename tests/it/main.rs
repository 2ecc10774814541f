//! Integration tests: one binary, so that the server is linked once. Each file is one area.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

mod api_identity;
mod api_metering;
mod harness;
mod modbus_peer;
mod net;
mod store;
