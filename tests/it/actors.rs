//! Shards and registry with everything around them faked through its port, on virtual time: hours pass in milliseconds,
//! and every slot of every meter is accounted for. Sockets and a real clock only in `sockets`.

mod back_fill;
mod books;
mod faults;
mod field;
mod point_reports;
mod reports;
mod schedules;
mod sessions;
mod sockets;
mod storms;
