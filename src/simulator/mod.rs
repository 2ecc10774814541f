//! Virtual meters and DTUs that answer from the same meter models as the server reads, with faults. Used by `demo`,
//! `simulate`, tests and benches. Never knows the server's rooms.

pub mod behind;
pub mod concentrator;
pub mod dlt645;
pub mod dlt698;
pub mod dtu;
pub mod faults;
pub mod fleet;
pub mod fluid;
pub mod line;
pub mod mbus;
pub mod meter;
pub mod physics;
mod points;
mod reports;
pub mod switch;
pub mod terminal;
