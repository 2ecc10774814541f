//! Integration tests: one binary, so that the server is linked once. Each file is one area.

#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod api_identity;
mod api_metering;
mod harness;
mod modbus_peer;
mod net;
mod store;
