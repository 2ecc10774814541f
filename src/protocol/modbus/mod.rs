//! Modbus: the pure codec of the Modbus application protocol V1.1b3 in the RTU framing of Modbus over serial line V1.02.
//!
//! [`Request`] is one question; its `find` tells the answer from everything else that a line may carry; [`Reply`] is
//! what an answer says. Both are read and written, because the simulator stands on the other side of the line.
//! Knows no meter, no socket, no clock.

mod answer;
mod explain;
mod find;
mod frame;
mod function;
mod request;
mod slave;

pub use answer::{AnswerError, Reply};
pub use explain::{explain_rtu, explain_tcp};
pub use frame::{FRAME_MAX, FRAME_MIN, FrameError, crc16};
pub use function::{Function, exception_name};
pub use request::{
    BITS_READ_MAX, BITS_WRITE_MAX, Body, REGISTERS_READ_MAX, REGISTERS_WRITE_MAX, Request, RequestError,
};
pub use slave::{Heard, hear};

/// The highest unit id of a device (Modbus over serial line V1.02, 2.2); 0 is the broadcast.
pub const UNIT_MAX: u8 = 247;
