//! What DTUs say of themselves: registration, heartbeat, framing. Pure: bytes in, facts out; it knows no socket, no
//! clock ("the line has been quiet" is an argument) and not who owns a serial number.
//!
//! ```text
//! bytes -> recogniser (who are you?) -> framing decoder (DDP, PROT, a concentrator's frames or none) -> line bytes + heartbeats
//! ```
//!
//! No standard covers this; each file names the maker's manual or the capture that it follows. The decisions in words:
//! `docs/protocols/dtu.md`. Read on in [`recogniser`], then [`heartbeat`].

pub mod concentrator;
pub mod ddp;
pub mod framing;
pub mod heartbeat;
mod json;
pub mod lineframe;
pub mod pattern;
pub mod profile;
pub mod prot;
pub mod recogniser;
pub mod sn;
pub mod terminal;
mod text;

pub use framing::{Framing, FramingDecoder, FramingItem};
pub use heartbeat::{Stripped, strip_candidates};
pub use profile::{Answer, PROFILES, Profile, ProfileError};
pub use recogniser::{Recognition, Registration, RegistrationError, RegistrationKind, recognise};
