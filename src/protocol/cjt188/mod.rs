//! CJ/T 188-2004 and -2018: the pure codec of the Chinese standard for household water, heat and gas meters.
//!
//! ```text
//! FE.. 68 T A0 A1 A2 A3 A4 A5 A6 C L DI0 DI1 SER data.. CS 16
//!         |  \___ low digits first  |  \_______ L _____/ \ sum of all bytes from 68 on
//!         meter type                control: 80 = from the meter, 40 = refused
//! ```
//!
//! [`Request`] is one question; its `find` tells the answer from everything else that a line may carry; [`Request::answer`]
//! reads what it says; [`record`] and [`value`] read the numbers in it. [`hear`] and [`Frame`] are the meter's side, for
//! the simulator. The frame that closes a valve is made in [`valve`] alone.
//! Knows no meter model, no socket, no clock.

mod address;
mod data_id;
mod explain;
mod find;
mod frame;
pub mod record;
mod request;
mod slave;
mod unit;
pub mod value;
pub mod valve;

pub use address::{Address, AddressError, MeterType};
pub use data_id::{DataId, DiOrder};
pub use explain::explain;
pub use frame::{Control, FRAME_MAX, Frame, FrameError, Function, PREAMBLE_MAX};
pub use request::{Answer, AnswerError, Leniency, Request, RequestError, Target};
pub use slave::{Heard, hear};
pub use unit::{Dimension, Unit};
