//! The whole server on one thread, on virtual time, over pipes in memory: one seed is one run, with faults of lines, DTUs,
//! disk, database and clock, kills and restarts. An oracle that knows what was due and what each meter said checks the
//! invariants (P1, P2, P6 and P8 of the promises); at the end all faults cease and everything must drain.
//!
//! `SIMULATION_SEED=n` runs one seed and prints its trace; `SIMULATION_SEEDS=n` runs so many, `SIMULATION_FROM=n` from
//! there on. A target of its own, because it links a small part of what the integration tests need.

#![allow(unreachable_pub, missing_docs, reason = "a test binary has no outside")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that panics has failed, which is what it is for"
)]

mod books;
mod dtus;
mod life;
mod oracle;
mod plan;
mod seeds;
mod time;
mod world;
