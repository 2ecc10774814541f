//! What DTUs say of themselves: registration, heartbeat, framing. Pure.
