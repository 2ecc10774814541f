//! Polyphase: a head-end system (HES) for electricity and water meters behind DTUs and concentrators.
//!
//! The house has rooms on floors (`docs/ARCHITECTURE.md`); a room uses lower floors only, which
//! `tests/architecture.rs` enforces. Read on in [`protocol`], then [`exchange`], then [`actor`].

pub mod base;
pub mod telemetry;

pub mod domain;
pub mod protocol;

pub mod device;
pub mod exchange;

pub mod port;

pub mod net;
pub mod outbound;
pub mod spool;
pub mod store;

pub mod actor;

pub mod api;
pub mod report;

pub mod app;
pub mod cli;
pub mod config;
pub mod simulator;
