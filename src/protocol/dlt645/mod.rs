//! DL/T 645-2007 and DL/T 645-1997: the pure codec of the Chinese electricity meters' line protocol, both editions, for
//! they share the frame and stand on one line together.
//!
//! [`Request`] is one question; its `find` tells the answer from everything else that a line may carry; [`Reply`] is what
//! an answer says, follow-up frames joined. Both are read and written, because the simulator stands on the other side of
//! the line. Knows no meter model, no socket, no clock. Facts: DL/T 645-2007, DL/T 645-1997.

mod address;
pub mod bcd;
mod explain;
mod explain_items;
mod find;
mod frame;
mod function;
pub mod items;
pub mod relay;
mod reply;
mod request;
mod secret;
mod slave;

pub use address::{Address, AddressError};
pub use explain::explain;
pub use frame::{DATA_MAX, FRAME_MAX, FrameError, PREAMBLE, PREAMBLES_MAX, View, answer_frame, open, seal};
pub use function::{Control, Di, Edition, ErrorWord, Function};
pub use reply::{AnswerError, Reply};
pub use request::{Body, FOLLOW_UPS_MAX, FreezeAt, Request, RequestError, Speed};
pub use secret::{Operator, Password, SecretError, Security};
pub use slave::{Heard, hear};
