//! Floor 2: what is known of meter models, and what follows from it: which requests fetch the wanted quantities, what
//! the answers mean, and what registers a virtual meter shows. Pure but for the loading of model files; knows no
//! session, no schedule, no store.
//!
//! Way in: [`catalogue::Catalogue`] finds a [`model::MeterModel`]; [`plan::plan`] makes requests from it;
//! [`decode::decode`] makes reading items from the answer frames; [`image`] is the reverse for the simulator;
//! [`check::check_folder`] names every fault of a user's models.

mod builtin;
pub mod catalogue;
pub mod check;
pub mod cjt188;
pub mod decode;
pub mod dlt645;
pub mod dlt698;
mod exchange;
mod fault;
mod fields;
pub mod gdw376;
pub mod image;
pub mod mbus;
pub mod modbus;
pub mod model;
pub mod parameter;
mod parse;
pub mod plan;
mod plausible;
pub mod recognise;
pub mod relay;
pub mod units;

pub use exchange::Exchange;
pub use fault::Fault;
