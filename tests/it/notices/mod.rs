//! Notices over a real database: in virtual time with senders that do what the test says, and by real channels against
//! real servers on loopback.

mod alarms;
mod api;
mod channels;
mod outbox;
pub mod peers;
mod sms;
mod world;
