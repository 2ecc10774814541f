//! (room)
pub mod live;
