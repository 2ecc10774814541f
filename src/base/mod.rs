//! Floor 0: what every room may use. Checked bytes, ids, the injected clock. No I/O, no async.

pub mod bcd;
pub mod bytes;
pub mod clock;
pub mod hex;
pub mod ids;
pub mod server_key;
