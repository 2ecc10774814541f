//! Virtual DTUs at the other ends of pipes, with Modbus and DL/T 645 meters on their lines, whose words say whose they are.

use super::world::{Planted, World};
use actix::Addr;
use chrono::{DateTime, Utc};
use polyphase::actor::messages::{ConnectionTask, RunConnection};
use polyphase::actor::shard::Shard;
use polyphase::base::clock::Clock;
use polyphase::base::ids::{ConnectionId, MeterId};
use polyphase::device::catalogue::Catalogue;
use polyphase::device::image::RegisterImage;
use polyphase::device::model::Profile as Shape;
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Measurand, Value};
use polyphase::net::{NetDeps, run_stream};
use polyphase::protocol::dtu::Profile;
use polyphase::protocol::{Protocol, dlt645, modbus};
use polyphase::simulator::faults::Dice;
use polyphase::simulator::line::{Question, Tongue, next_question};
use rust_decimal::prelude::ToPrimitive;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub const MODBUS_MODEL: &str = "hiking_dds238_zns";
pub const DLT645_MODEL: &str = "dlt645_2007_single_phase";
pub static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(Catalogue::builtin().unwrap()));
static CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS);
const HEARTBEAT: &[u8] = b"~hb~";
const BEAT_MS: u64 = 20_000;

/// The meter at a place behind a DTU.
pub fn meter_id(dtu: usize, place: usize) -> MeterId {
    MeterId(i32::try_from((dtu + 1) * 10 + place + 1).unwrap())
}

/// Every third meter speaks DL/T 645.
pub fn is_dlt645(meter: MeterId) -> bool {
    meter.0 % 3 == 0
}

/// The server's side of a pipe: what goes through it is judged.
struct Tap {
    pipe: DuplexStream,
    world: Arc<World>,
    dtu: usize,
    connection: ConnectionId,
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.pipe).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.world.heard(self.dtu, self.connection);
        }
        read
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.pipe).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &written {
            let (dtu, connection, bytes) = (self.dtu, self.connection, &buf[..*count]);
            self.world
                .trace(format_args!("DTU {dtu} connection {connection} asked {bytes:02X?}"));
            self.world.wrote(dtu, connection);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// The server's device port.
#[derive(Clone)]
pub struct Door {
    pub world: Arc<World>,
    pub deps: NetDeps,
    pub shards: Vec<Addr<Shard>>,
}

impl Door {
    /// Somebody dials in; his end of the pipe.
    pub fn dial(&self, dtu: usize, host: u8, room: usize) -> DuplexStream {
        let (near, far) = tokio::io::duplex(room);
        let connection = self.world.next_connection();
        self.world
            .trace(format_args!("DTU {dtu} dials from {host}, connection {connection}"));
        let peer = SocketAddr::from(([10, 0, 0, host], 4000));
        let tap = Tap {
            pipe: far,
            world: Arc::clone(&self.world),
            dtu,
            connection,
        };
        let (deps, profile) = (self.deps.clone(), Profile::parse("auto").unwrap());
        let world = Arc::clone(&self.world);
        let task: ConnectionTask = Box::new(move || {
            Box::pin(async move {
                let cause = run_stream(tap, connection, peer, profile, deps).await;
                world.trace(format_args!("connection {connection} ended by {cause:?}"));
            })
        });
        let turn = usize::try_from(connection.0).unwrap() % self.shards.len();
        self.shards[turn].do_send(RunConnection { connection, task });
        near
    }
}

/// What a DTU is told.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Its connection ends; it is away for so long.
    Cut(u64),
    /// Its connection is half open from now on; it dials anew after so long.
    HalfOpen(u64),
}

pub fn sn(dtu: usize) -> String {
    format!("SIM-{:04}", dtu + 1)
}

/// Somebody else with the DTU's SN, who says nothing else.
pub async fn clone_of(door: Door, dtu: usize, times: u64, mut dice: Dice) {
    for _ in 0..times {
        let mut pipe = door.dial(dtu, 200, 256);
        // one that is refused at once is fine
        pipe.write_all(sn(dtu).as_bytes()).await.ok();
        let mut bytes = [0; 256];
        let hears = async { while pipe.read(&mut bytes).await.is_ok_and(|count| count > 0) {} };
        let stays = Duration::from_millis(200 + dice.below(15_000));
        tokio::time::timeout(stays, hears).await.ok();
        tokio::time::sleep(Duration::from_millis(dice.below(5_000))).await;
    }
}

/// A DTU.
pub struct Dtu {
    world: Arc<World>,
    index: usize,
    dice: Dice,
    /// Bytes on their way to the server: when, in order.
    out: BTreeMap<(u64, u64), Vec<u8>>,
    sent: u64,
    pending: Vec<u8>,
    /// The last reply, for planted bugs.
    last: Option<Vec<u8>>,
}

enum End {
    Away(u64),
    HalfOpen(u64),
}

impl Dtu {
    /// `life`: which of the server, so that its dice differ.
    pub fn new(world: &Arc<World>, index: usize, life: u64) -> Self {
        Self {
            world: Arc::clone(world),
            index,
            dice: world.dice(1_000 + 100 * life + u64::try_from(index).unwrap()),
            out: BTreeMap::new(),
            sent: 0,
            pending: Vec::new(),
            last: None,
        }
    }

    /// Dials and dials again.
    pub async fn run(mut self, door: Door, mut orders: mpsc::Receiver<Order>) {
        let mut half_open = Vec::new();
        loop {
            let wait = 200 + self.dice.below(2_000);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let room = 16 + usize::try_from(self.dice.below(300)).unwrap();
            let host = u8::try_from(self.index + 1).unwrap();
            let mut pipe = door.dial(self.index, host, room);
            self.out.clear();
            self.pending.clear();
            let away = match self.session(&mut pipe, &mut orders).await {
                End::Away(ms) => ms,
                End::HalfOpen(ms) => {
                    half_open.push(pipe);
                    ms
                }
            };
            if half_open.len() > 3 {
                half_open.remove(0);
            }
            tokio::time::sleep(Duration::from_millis(away)).await;
        }
    }

    async fn session(&mut self, pipe: &mut DuplexStream, orders: &mut mpsc::Receiver<Order>) -> End {
        self.put(0, sn(self.index).into_bytes());
        let mut beat = self.world.clock.ms() + 3_000 + self.dice.below(BEAT_MS);
        let mut bytes = [0; 300];
        loop {
            let now = self.world.clock.ms();
            if now >= beat {
                self.put(0, HEARTBEAT.to_vec());
                beat = now + BEAT_MS;
            }
            while let Some(entry) = self.out.first_entry().filter(|entry| entry.key().0 <= now) {
                let piece = entry.remove();
                self.world.trace(format_args!("DTU {} says {piece:02X?}", self.index));
                if pipe.write_all(&piece).await.is_err() {
                    return End::Away(0);
                }
            }
            let next = self.out.keys().next().map_or(beat, |(at, _)| beat.min(*at));
            let alarm = Instant::now() + Duration::from_millis(next - now);
            tokio::select! {
                biased;
                Some(order) = orders.recv() => return match order {
                    Order::Cut(ms) => End::Away(ms),
                    Order::HalfOpen(ms) => End::HalfOpen(ms),
                },
                read = pipe.read(&mut bytes) => match read {
                    Ok(count) if count > 0 => self.hear(&bytes[..count]),
                    _ => return End::Away(0),
                },
                () = tokio::time::sleep_until(alarm) => {}
            }
        }
    }

    fn put(&mut self, after_ms: u64, bytes: Vec<u8>) {
        self.sent += 1;
        self.out.insert((self.world.clock.ms() + after_ms, self.sent), bytes);
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        while let Some((question, _)) = next_question(&mut self.pending, &[Tongue::Modbus, Tongue::Dlt645]) {
            if let Some(reply) = self.answer(&question) {
                self.relay(reply, matches!(question, Question::Modbus(_)));
            }
        }
    }

    fn answer(&self, question: &Question) -> Option<Vec<u8>> {
        let now = self.world.clock.now();
        let (place, di): (u64, u32) = match question {
            Question::Modbus(request) => (request.unit().into(), 0),
            Question::Dlt645(request) => match (request.address().to_string().parse(), request.di()) {
                (Ok(number), Some(dlt645::Di::E2007(di))) => (number, di),
                _ => return None,
            },
            _ => return None,
        };
        let meter = (0..self.world.plan.meters)
            .map(|place| meter_id(self.index, place))
            .find(|meter| u64::try_from(meter.0) == Ok(place))?;
        if is_dlt645(meter) != matches!(question, Question::Dlt645(_)) {
            return None;
        }
        if self
            .world
            .state()
            .mute_until
            .get(&meter)
            .is_some_and(|until| self.world.clock.ms() < *until)
        {
            return None;
        }
        match question {
            Question::Modbus(request) => Some(self.modbus(request, self.world.say(meter))),
            Question::Dlt645(request) => Some(self.dlt645(request, di, meter, now)),
            _ => None,
        }
    }

    fn modbus(&self, request: &modbus::Request, word: i64) -> Vec<u8> {
        let model = CATALOGUE.get(Protocol::ModbusRtu, MODBUS_MODEL).unwrap();
        let Shape::Modbus(profile) = &model.profile else {
            panic!("not Modbus: {}", model.name)
        };
        let mut image = RegisterImage::new(Arc::new(profile.clone()));
        for quantity in [
            Quantity::ActiveEnergyTotal,
            Quantity::ActiveEnergyExport,
            Quantity::ActiveEnergyImport,
        ] {
            let value = Value::Decimal(World::shown(word, quantity).unwrap());
            image.set(&Measurand::Standard(quantity), value).unwrap();
        }
        request.reply_frame(&image.reply(request)).unwrap()
    }

    fn dlt645(&self, request: &dlt645::Request, di: u32, meter: MeterId, now: DateTime<Utc>) -> Vec<u8> {
        let quantity = match di {
            0x0001_0000 => Quantity::ActiveEnergyImport,
            0x0002_0000 => Quantity::ActiveEnergyExport,
            0x0400_0101 => return said(request, &[vec![0], digits(now, "%d%m%y")].concat()),
            0x0400_0102 => return said(request, &digits(now, "%S%M%H")),
            _ => return request.refusal_frame(request.address(), 0x02),
        };
        let word = self.world.say(meter);
        let hundredths = World::shown(word, quantity).unwrap() * rust_decimal::Decimal::ONE_HUNDRED;
        said(request, &dlt645::bcd::bytes(hundredths.to_u64().unwrap(), 4))
    }

    fn hit(&mut self, per_mille: u64, fault: &'static str) -> bool {
        let hit = self.dice.below(1_000) < per_mille;
        if hit {
            self.world.count(fault);
        }
        hit
    }

    /// What becomes of a reply on its way.
    fn relay(&mut self, reply: Vec<u8>, modbus: bool) {
        let weather = self.world.state().weather;
        let mut after = 10 + self.dice.below(150);
        let before = self.last.replace(reply.clone());
        // to the server's line it is as if it had taken that frame for the answer
        let confused = match self.world.planted {
            Some(Planted::Swapped) => modbus,
            Some(Planted::StrayBelieved) => modbus && self.dice.below(50) == 0,
            _ => false,
        };
        let reply = match before.filter(|_| confused) {
            Some(before) => as_of(&reply, &before),
            None => reply,
        };
        if self.hit(weather.drop, "drop") {
            return;
        }
        if self.hit(weather.late, "late") {
            after += self.dice.below(3 * super::world::TIMEOUT_MS);
        }
        if modbus && self.hit(weather.foreign, "foreign") {
            self.put(
                after,
                sealed(&[&[reply[0] ^ 0x40], &reply[1..reply.len() - 2]].concat()),
            );
        }
        if modbus && self.hit(weather.wrong_function, "wrong function") {
            self.put(after, sealed(&[&reply[..1], &[4], &reply[2..reply.len() - 2]].concat()));
        }
        if self.hit(weather.noise, "noise") {
            let noise = (0..1 + self.dice.below(5))
                .map(|_| self.dice.roll().to_le_bytes()[0])
                .collect();
            self.put(after, noise);
        }
        let again = self.hit(weather.repeat, "repeat").then(|| reply.clone());
        self.pieces(after, reply);
        if let Some(again) = again {
            let later = after + self.dice.below(3 * super::world::TIMEOUT_MS);
            self.pieces(later, again);
        }
    }

    fn pieces(&mut self, after: u64, reply: Vec<u8>) {
        let weather = self.world.state().weather;
        let reply = match (self.hit(weather.glue, "glue"), self.dice.chance(0.5)) {
            (true, true) => [HEARTBEAT, &reply].concat(),
            (true, false) => [&reply, HEARTBEAT].concat(),
            (false, _) => reply,
        };
        if self.hit(weather.split, "split") {
            let cut = 1 + usize::try_from(self.dice.below(u64::try_from(reply.len()).unwrap() - 1)).unwrap();
            let gap = 1 + self.dice.below(50);
            self.put(after, reply[..cut].to_vec());
            self.put(after + gap, reply[cut..].to_vec());
        } else {
            self.put(after, reply);
        }
    }
}

fn said(request: &dlt645::Request, data: &[u8]) -> Vec<u8> {
    request.reply_frame(request.address(), &dlt645::Reply::Data(data.to_vec()))
}

/// Digits of a time as the standard's bytes.
fn digits(at: DateTime<Utc>, format: &str) -> Vec<u8> {
    let text = at.format(format).to_string();
    (0..text.len())
        .step_by(2)
        .map(|place| u8::from_str_radix(&text[place..place + 2], 16).unwrap())
        .collect()
}

/// What another meter said, with the address of this reply's, if it has its shape.
fn as_of(reply: &[u8], other: &[u8]) -> Vec<u8> {
    if other.len() != reply.len() {
        return reply.to_vec();
    }
    sealed(&[&reply[..1], &other[1..other.len() - 2]].concat())
}

fn sealed(body: &[u8]) -> Vec<u8> {
    [body, &CRC.checksum(body).to_le_bytes()].concat()
}
