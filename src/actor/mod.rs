//! Floor 5: the supervised actors and the actix-free handles to them that implement ports. The only room, besides
//! `app.rs`, that knows actix.

pub mod live;
pub mod session_log;
pub mod supervise;
