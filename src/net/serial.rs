//! A serial port of this host as a line. 8 data bits, one stop bit, no flow control, as Modbus RTU over RS-485 is used
//! (the standard's second stop bit without parity is what nobody sends).

use crate::domain::device::Parity;
use std::io;
use tokio_serial::{DataBits, FlowControl, SerialPortBuilderExt as _, SerialStream, StopBits};

/// Opens a port.
///
/// # Errors
/// What the system says: no such device, no permission, not a serial port.
pub(super) fn open(device: &str, baud: u32, parity: Parity) -> io::Result<SerialStream> {
    let parity = match parity {
        Parity::None => tokio_serial::Parity::None,
        Parity::Even => tokio_serial::Parity::Even,
        Parity::Odd => tokio_serial::Parity::Odd,
    };
    tokio_serial::new(device, baud)
        .data_bits(DataBits::Eight)
        .stop_bits(StopBits::One)
        .parity(parity)
        .flow_control(FlowControl::None)
        .open_native_async()
        .map_err(io::Error::from)
}
