//! The control desk over a real database, with virtual meters behind lines that lose what they are told to lose.

mod approvals;
mod bounds;
mod clocks;
mod concentrator;
mod outcomes;
mod relays;
mod world;
