//! Control commands: what may be asked of a meter, who may ask it, and how a command goes from a wish to a relay that
//! moved. Pure: "now" is a [`Moment`], every edge is a value with its guard, and what is not an edge cannot happen.
//!
//! ```text
//! requested ─→ [held] ─→ [approved] ─→ sent ─→ confirmed | failed
//!     │           │           │          └──→ unknown ─→ confirmed | failed   (by reading alone, never by sending again)
//!     └───────────┴───────────┴─→ rejected | cancelled | expired
//! ```
//!
//! [`machine`] has the states and edges, [`policy`] who may, [`interlock`] what beats everybody, [`brake`] how many,
//! [`clock`] when a clock
//! may be set, [`time`] the deadline that no clock step can revive, [`permit`] what a relay frame costs. It must not know wire
//! formats, stores or actors.

pub mod action;
pub mod brake;
pub mod clock;
pub mod interlock;
pub mod machine;
pub mod permit;
pub mod policy;
pub mod time;

pub use action::{Action, ActionClass};
pub use brake::{Brake, BrakeLimit, BrakeLimits};
pub use clock::ClockObstacle;
pub use interlock::{Interlock, Interlocks, Protection, ProtectionKind, Site};
pub use machine::{Approval, Command, Edge, EdgeError, Hold, SessionProof, State, Target};
pub use permit::TripPermit;
pub use policy::{Clearance, Denied, Facts, Obstacle, Person, Policy};
pub use time::{Moment, TimeGuard};

#[cfg(test)]
mod machine_tests;
