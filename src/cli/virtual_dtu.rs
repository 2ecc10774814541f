//! `polyphase virtual-dtu`: turns a local serial port or a TCP device into a DTU that dials a head end.
//!
//! It says its serial number after each connect, sends heartbeats while nothing else is sent, and else carries bytes both
//! ways, unread. Each side is connected anew when it fails.

use clap::Args;
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_serial::SerialPortBuilderExt;

/// Arguments of `virtual-dtu`.
#[derive(Args, Clone, Debug)]
pub struct VirtualDtuArgs {
    /// The head end's device port
    #[arg(long, value_name = "HOST:PORT")]
    connect: String,
    /// Serial number to register with
    #[arg(long)]
    sn: String,
    /// Serial port of this host, e.g. /dev/ttyUSB0
    #[arg(long, value_name = "DEV", required_unless_present = "tcp", conflicts_with = "tcp")]
    serial: Option<String>,
    /// Baud rate of the serial port
    #[arg(long, default_value_t = 9600, value_parser = clap::value_parser!(u32).range(300..=921_600))]
    baud: u32,
    /// Parity of the serial port
    #[arg(long, value_enum, default_value = "none")]
    parity: ParityArg,
    /// Device that is reached over TCP instead of a serial port
    #[arg(long, value_name = "HOST:PORT")]
    tcp: Option<String>,
    /// Seconds between heartbeats; 0: none
    #[arg(long, default_value_t = 30)]
    heartbeat_s: u64,
    /// Heartbeat package, text
    #[arg(long, default_value = "HB")]
    heartbeat: String,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ParityArg {
    None,
    Even,
    Odd,
}

/// Bytes carried in one piece.
const CHUNK: usize = 1024;
/// A reply is sent on when the device has been silent for this long, as a DTU's packing timer does.
const PACKING: Duration = Duration::from_millis(30);
const REDIAL_FIRST: Duration = Duration::from_secs(1);
const REDIAL_LONGEST: Duration = Duration::from_secs(60);

/// Runs until it is interrupted.
pub fn run(args: VirtualDtuArgs) -> ExitCode {
    if let Err(error) = crate::domain::device::SerialNumber::parse(&args.sn) {
        eprintln!("polyphase: --sn: {error}");
        return ExitCode::from(2);
    }
    super::plain_logs();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("polyphase: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            // first, so that the signals are ours before anything is said
            biased;
            () = super::told_to_stop() => ExitCode::SUCCESS,
            () = keep_up(&args) => ExitCode::FAILURE,
        }
    })
}

async fn keep_up(args: &VirtualDtuArgs) {
    let mut wait = REDIAL_FIRST;
    loop {
        let begun = tokio::time::Instant::now();
        match session(args).await {
            Ok(()) => tracing::info!(server = args.connect, "the head end closed the connection"),
            Err(error) => tracing::warn!(server = args.connect, %error, "session failed"),
        }
        if begun.elapsed() > REDIAL_LONGEST {
            wait = REDIAL_FIRST;
        }
        // jitter of up to a quarter, so that a fleet does not come back in one instant
        let jitter = wait.mul_f64(rand::random::<f64>() / 4.0);
        let pause = wait + jitter;
        tracing::info!(
            wait_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "trying again"
        );
        tokio::time::sleep(pause).await;
        wait = (wait * 2).min(REDIAL_LONGEST);
    }
}

async fn session(args: &VirtualDtuArgs) -> io::Result<()> {
    match (&args.tcp, &args.serial) {
        (Some(address), _) => {
            let device = TcpStream::connect(address)
                .await
                .map_err(|error| named(address, &error))?;
            device.set_nodelay(true)?;
            carry(args, device).await
        }
        (None, Some(device)) => {
            let parity = match args.parity {
                ParityArg::None => tokio_serial::Parity::None,
                ParityArg::Even => tokio_serial::Parity::Even,
                ParityArg::Odd => tokio_serial::Parity::Odd,
            };
            let port = tokio_serial::new(device, args.baud)
                .parity(parity)
                .open_native_async()
                .map_err(|error| named(device, &error))?;
            carry(args, port).await
        }
        (None, None) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "--serial or --tcp is needed",
        )),
    }
}

fn named(what: &str, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{what}: {error}"))
}

/// One connection to the head end; ends when either side does.
async fn carry(args: &VirtualDtuArgs, device: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let mut server = TcpStream::connect(&args.connect)
        .await
        .map_err(|error| named(&args.connect, &error))?;
    server.set_nodelay(true)?;
    server.write_all(args.sn.as_bytes()).await?;
    tracing::info!(server = args.connect, sn = args.sn, "registered");
    let (mut from_device, mut to_device) = tokio::io::split(device);
    let (mut from_server, mut to_server) = server.split();
    let down = async {
        let mut buffer = [0u8; CHUNK];
        loop {
            let count = from_server.read(&mut buffer).await?;
            if count == 0 {
                return Ok::<(), io::Error>(());
            }
            to_device.write_all(buffer.get(..count).unwrap_or_default()).await?;
            to_device.flush().await?;
        }
    };
    let up = async {
        let heartbeat = Duration::from_secs(if args.heartbeat_s == 0 {
            u32::MAX.into()
        } else {
            args.heartbeat_s
        });
        loop {
            let mut packet = Vec::with_capacity(64);
            // reading into a buffer loses nothing when the time-out cancels it
            match tokio::time::timeout(heartbeat, from_device.read_buf(&mut packet)).await {
                Ok(Err(error)) => return Err(error),
                Ok(Ok(0)) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the device closed"));
                }
                Ok(Ok(_)) => {
                    fill(&mut from_device, &mut packet).await?;
                    to_server.write_all(&packet).await?;
                }
                Err(_quiet) => to_server.write_all(args.heartbeat.as_bytes()).await?,
            }
        }
    };
    tokio::select! {
        ended = down => ended,
        ended = up => ended,
    }
}

/// Adds what follows without a pause, up to a full chunk.
async fn fill(device: &mut (impl AsyncRead + Unpin), packet: &mut Vec<u8>) -> io::Result<()> {
    while packet.len() < CHUNK {
        match tokio::time::timeout(PACKING, device.read_buf(packet)).await {
            Ok(Ok(count)) if count > 0 => {}
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) | Err(_) => break,
        }
    }
    Ok(())
}
