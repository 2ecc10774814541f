//! Our Modbus codec as a slave of an independent master: tokio-modbus asks over an in-memory pipe, a virtual meter of
//! the catalogue answers.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helper may fail its test"
)]

use polyphase::device::catalogue::Catalogue;
use polyphase::device::image::RegisterImage;
use polyphase::device::model::Profile;
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Measurand, Value};
use polyphase::protocol::Protocol;
use polyphase::protocol::modbus::{Body, Function, Heard, Reply, Request, hear};
use rust_decimal::dec;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_modbus::client::{Reader, Writer, rtu};
use tokio_modbus::{ExceptionCode, Slave};

/// Answers until the master hangs up, in pieces of `piece` bytes.
async fn slave(mut line: DuplexStream, reply: impl Fn(&Request) -> Reply, piece: usize) {
    let mut buffer = Vec::new();
    let mut chunk = [0; 16];
    loop {
        match line.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
        }
        loop {
            match hear(&buffer) {
                Heard::NeedMore { noise } => {
                    buffer.drain(..noise);
                    break;
                }
                Heard::Faulty { span, .. } => {
                    buffer.drain(..span.end);
                }
                Heard::Request { span, request } => {
                    buffer.drain(..span.end);
                    let answer = request.reply_frame(&reply(&request)).unwrap();
                    for piece in answer.chunks(piece) {
                        line.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_tokio_modbus_master_reads_a_virtual_meter() {
    let catalogue = Catalogue::builtin().unwrap();
    let model = catalogue.get(Protocol::ModbusRtu, "hiking_dds238_zns").unwrap();
    let Profile::Modbus(profile) = &model.profile else {
        panic!("not Modbus: {}", model.name)
    };
    let mut image = RegisterImage::new(Arc::new(profile.clone()));
    let set = [
        (Quantity::ActiveEnergyTotal, dec!(17.14)),
        (Quantity::VoltageL1, dec!(240.3)),
        (Quantity::ReactivePowerTotal, dec!(-2)),
    ];
    for (quantity, value) in set {
        image
            .set(&Measurand::Standard(quantity), Value::Decimal(value))
            .unwrap();
    }
    let (master, line) = tokio::io::duplex(64);
    let slave = tokio::spawn(slave(line, move |request| image.reply(request), 3));
    let mut master = rtu::attach_slave(master, Slave(9));
    assert_eq!(master.read_holding_registers(0, 2).await.unwrap().unwrap(), [0, 1714]);
    let block = master.read_holding_registers(8, 10).await.unwrap().unwrap();
    assert_eq!((block[4], block[7]), (2403, 0xFFFE));
    let refused = master.read_holding_registers(0, 5).await.unwrap();
    assert_eq!(refused, Err(ExceptionCode::IllegalDataAddress));
    let refused = master.write_single_register(0, 0).await.unwrap();
    assert_eq!(refused, Err(ExceptionCode::IllegalFunction));
    drop(master);
    slave.await.unwrap();
}

#[tokio::test]
async fn every_function_is_spoken_as_tokio_modbus_speaks_it() {
    let reply = |request: &Request| match request.body() {
        Body::Read {
            function,
            count,
            address,
        } if function.is_bits() => Reply::Bits((0..*count).map(|i| (address + i) % 3 == 0).collect()),
        Body::Read {
            function,
            count,
            address,
        } => {
            let plus = if *function == Function::ReadInputRegisters {
                1000
            } else {
                0
            };
            Reply::Registers((0..*count).map(|i| address + i + plus).collect())
        }
        Body::WriteCoil { address: 7, on: true }
        | Body::WriteRegister {
            address: 8,
            value: 0xBEEF,
        } => Reply::Written,
        Body::WriteCoils { address: 9, bits } if bits.len() == 11 && bits[10] && !bits[9] => Reply::Written,
        Body::WriteRegisters { address: 10, registers } if registers == &[1, 2, 3] => Reply::Written,
        _ => Reply::Exception(4),
    };
    let (master, line) = tokio::io::duplex(1024);
    let slave = tokio::spawn(slave(line, reply, 300));
    let mut master = rtu::attach_slave(master, Slave(247));
    let thirds = |first: u16, count: u16| (0..count).map(|i| (first + i).is_multiple_of(3)).collect::<Vec<bool>>();
    assert_eq!(
        master.read_coils(0x0300, 20).await.unwrap().unwrap(),
        thirds(0x0300, 20)
    );
    assert_eq!(
        master.read_discrete_inputs(5, 2000).await.unwrap().unwrap(),
        thirds(5, 2000)
    );
    let registers: Vec<u16> = (40..165).collect();
    assert_eq!(
        master.read_holding_registers(40, 125).await.unwrap().unwrap(),
        registers
    );
    assert_eq!(master.read_input_registers(1, 2).await.unwrap().unwrap(), [1001, 1002]);
    master.write_single_coil(7, true).await.unwrap().unwrap();
    master.write_single_register(8, 0xBEEF).await.unwrap().unwrap();
    let mut coils = [false; 11];
    coils[10] = true;
    master.write_multiple_coils(9, &coils).await.unwrap().unwrap();
    master.write_multiple_registers(10, &[1, 2, 3]).await.unwrap().unwrap();
    let refused = master.write_single_coil(8, true).await.unwrap();
    assert_eq!(refused, Err(ExceptionCode::ServerDeviceFailure));
    drop(master);
    slave.await.unwrap();
}
