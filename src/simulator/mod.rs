//! Virtual meters and DTUs that answer from the same meter models as the server reads, with faults. Used by `demo`,
//! `simulate`, tests and benches. Never knows the server's rooms.

pub mod faults;
pub mod physics;
