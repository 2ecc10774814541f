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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ConnectionId, DtuId, MeterId, PollId};
    use crate::exchange::session::Session;
    use crate::net::connection;
    use crate::net::desk::Origin;
    use crate::net::fakes::{owner, world};
    use crate::net::settings::NetSettings;
    use crate::port::field::{Admission, EndCause, Link, PollJob, Priority};
    use crate::protocol::Request;
    use crate::protocol::dtu::Profile;
    use crate::protocol::modbus::{self, Function, Reply};
    use std::time::{Duration, Instant};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_serial::SerialPort as _;

    #[tokio::test]
    async fn a_meter_is_read_over_a_serial_port() {
        let (mut meter, held) = SerialStream::pair().unwrap();
        let device = held.name().unwrap();
        let port = open(&device, 9_600, Parity::None).unwrap();
        let world = world(Admission::Owner(owner()), NetSettings::default());
        let deps = world.deps.clone();
        let session = Session::transparent(deps.session_settings(Profile::default()), deps.moment().on);
        let origin = Origin::Ours {
            dtu: DtuId(5),
            peer: None,
        };
        let running = tokio::spawn(connection::run(port, ConnectionId(1), origin, session, deps));
        while world.registrar.links.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let asked = modbus::Request::read(1, Function::ReadInputRegisters, 0, 2).unwrap();
        let answer = asked.reply_frame(&Reply::Registers(vec![0x0D0A, 0x1103])).unwrap();
        let job = PollJob {
            poll: PollId(1),
            meter: MeterId(1),
            priority: Priority::Scheduled,
            requests: vec![Request::Modbus(asked.clone())],
            attempts: 1,
            timeout: Duration::from_secs(5),
            byte_time: Duration::ZERO,
            evidence: false,
            instead: Vec::new(),
            pause: Duration::ZERO,
            deadline: Instant::now() + Duration::from_secs(10),
            effect: None,
        };
        let link: std::sync::Arc<dyn Link> = world.registrar.link();
        let meter = async {
            let mut wire = [0; 8];
            meter.read_exact(&mut wire).await.unwrap();
            assert_eq!(wire.as_slice(), asked.wire());
            meter.write_all(&answer).await.unwrap();
            meter
        };
        let (outcome, _meter) = tokio::join!(link.poll(job), meter);
        // bytes that a terminal would change, such as a line feed, come as they are
        assert_eq!(outcome.unwrap().reports[0].result, Ok(answer.clone()));
        world.deps.stop.cancel();
        assert_eq!(running.await.unwrap(), EndCause::Shutdown);
    }

    #[tokio::test]
    async fn a_port_that_is_not_there_says_so() {
        let error = open("/dev/tty-not-there", 9_600, Parity::Even).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
