//! Bodies of the fuzz targets, and the rooms that they are about, included by path. Each target takes bytes, makes of them
//! what a line, a disk or a folder could hold, and asserts what the room promises of it; that nothing panics is the least.
//!
//! A target is one entry in [`targets::ALL`]; `scripts/fuzz.sh` runs them.

#![forbid(unsafe_code)]
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "of the rooms only a part is used here"
)]

#[path = "../../../src/base/mod.rs"]
pub mod base;
#[path = "../../../src/device/mod.rs"]
pub mod device;
#[path = "../../../src/domain/mod.rs"]
pub mod domain;
#[path = "../../../src/exchange/mod.rs"]
pub mod exchange;
#[path = "../../../src/port/mod.rs"]
pub mod port;
#[path = "../../../src/protocol/mod.rs"]
pub mod protocol;
#[path = "../../../src/report/sheet/mod.rs"]
pub mod sheet;
#[path = "../../../src/telemetry/mod.rs"]
pub mod telemetry;

pub mod harness;
pub mod input;
pub mod line;
pub mod seeds;
pub mod spool;
pub mod targets;
