//! Floor 2: conversations without sockets. One transaction, the fair half-duplex line queue, the session from connect
//! to gone, retry and breaker. "Now" is an argument; no sockets, no clock, no actix.

pub mod admission;
pub mod agenda;
pub mod breaker;
pub mod job;
pub mod session;
