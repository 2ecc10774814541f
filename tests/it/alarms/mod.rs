//! Alarms over a real database: the actor, its restarts, what it is fed with, and the API.

mod api;
mod bench;
mod life;
mod sources;
