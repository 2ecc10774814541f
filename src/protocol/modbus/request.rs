//! One Modbus question, valid by construction.

use super::frame::{FRAME_MIN, FrameError, crc16, open};
use super::{Function, UNIT_MAX};
use crate::base::bytes::{Reader, ShortRead};

/// Registers in one read (V1.1b3, 6.3 and 6.4).
pub const REGISTERS_READ_MAX: u16 = 125;
/// Coils or discrete inputs in one read (6.1 and 6.2).
pub const BITS_READ_MAX: u16 = 2000;
/// Registers in one write (6.12).
pub const REGISTERS_WRITE_MAX: u16 = 123;
/// Coils in one write (6.11).
pub const BITS_WRITE_MAX: u16 = 1968;

/// One question to one unit. Addresses are those on the wire, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    unit: u8,
    body: Body,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Functions 1 to 4.
    Read {
        /// Which of them.
        function: Function,
        /// First coil, input or register.
        address: u16,
        /// How many.
        count: u16,
    },
    /// Function 5.
    WriteCoil {
        /// Which coil.
        address: u16,
        /// On or off.
        on: bool,
    },
    /// Function 6.
    WriteRegister {
        /// Which register.
        address: u16,
        /// The value.
        value: u16,
    },
    /// Function 15.
    WriteCoils {
        /// The first coil.
        address: u16,
        /// The values.
        bits: Vec<bool>,
    },
    /// Function 16.
    WriteRegisters {
        /// The first register.
        address: u16,
        /// The values.
        registers: Vec<u16>,
    },
}

/// Why something cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The unit id.
    #[error("unit {0} is not an address of a device; 1 to 247 are")]
    Unit(u8),
    /// How many.
    #[error("function {function} takes 1 to {max} items, not {count}")]
    Count {
        /// Which function.
        function: Function,
        /// What was wanted.
        count: usize,
        /// What it takes.
        max: u16,
    },
    /// Past the end of the address space.
    #[error("{count} items from address {address} run past 65535")]
    Address {
        /// The first.
        address: u16,
        /// How many.
        count: u16,
    },
    /// Not one of functions 1 to 4.
    #[error("function {0} reads nothing")]
    NotARead(Function),
    /// The bytes are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl From<ShortRead> for RequestError {
    fn from(short: ShortRead) -> Self {
        // offsets count from the PDU; unit and CRC make three bytes more
        Self::Frame(FrameError::Short {
            have: short.offset + short.left + 3,
            need: short.offset + short.wanted + 3,
        })
    }
}

impl Request {
    /// A read with function 1 to 4.
    ///
    /// # Errors
    /// [`RequestError`] when unit, count or address range is not valid.
    pub fn read(unit: u8, function: Function, address: u16, count: u16) -> Result<Self, RequestError> {
        if !function.is_read() {
            return Err(RequestError::NotARead(function));
        }
        Self::checked(
            unit,
            Body::Read {
                function,
                address,
                count,
            },
        )
    }

    /// Any question.
    ///
    /// # Errors
    /// [`RequestError`] when unit, count or address range is not valid.
    pub fn checked(unit: u8, body: Body) -> Result<Self, RequestError> {
        if !(1..=UNIT_MAX).contains(&unit) {
            return Err(RequestError::Unit(unit));
        }
        let function = body.function();
        let max = match &body {
            Body::Read { function, .. } if !function.is_read() => return Err(RequestError::NotARead(*function)),
            Body::Read { function, .. } if function.is_bits() => BITS_READ_MAX,
            Body::Read { .. } => REGISTERS_READ_MAX,
            Body::WriteCoil { .. } | Body::WriteRegister { .. } => 1,
            Body::WriteCoils { .. } => BITS_WRITE_MAX,
            Body::WriteRegisters { .. } => REGISTERS_WRITE_MAX,
        };
        let count = body.len();
        let fitting = u16::try_from(count).ok().filter(|count| (1..=max).contains(count));
        let Some(fitting) = fitting else {
            return Err(RequestError::Count { function, count, max });
        };
        let address = body.address();
        if address.checked_add(fitting - 1).is_none() {
            return Err(RequestError::Address {
                address,
                count: fitting,
            });
        }
        Ok(Self { unit, body })
    }

    /// The unit id, 1 to 247.
    pub fn unit(&self) -> u8 {
        self.unit
    }

    /// What is asked.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The function.
    pub fn function(&self) -> Function {
        self.body.function()
    }

    /// The first address.
    pub fn address(&self) -> u16 {
        self.body.address()
    }

    /// How many coils, inputs or registers; at least 1.
    pub fn count(&self) -> u16 {
        // bounded by 2000 at construction
        u16::try_from(self.body.len()).unwrap_or(u16::MAX)
    }

    /// Function code and data, as Modbus TCP carries them behind its header.
    pub fn pdu(&self) -> Vec<u8> {
        let mut pdu = Vec::new();
        self.put_pdu(&mut pdu);
        pdu
    }

    fn put_pdu(&self, pdu: &mut Vec<u8>) {
        pdu.push(self.function().code());
        pdu.extend_from_slice(&self.address().to_be_bytes());
        match &self.body {
            Body::Read { count, .. } => pdu.extend_from_slice(&count.to_be_bytes()),
            Body::WriteCoil { on, .. } => pdu.extend_from_slice(if *on { &[0xFF, 0] } else { &[0, 0] }),
            Body::WriteRegister { value, .. } => pdu.extend_from_slice(&value.to_be_bytes()),
            Body::WriteCoils { bits, .. } => {
                pdu.extend_from_slice(&self.count().to_be_bytes());
                let packed = pack_bits(bits);
                pdu.push(byte_count(packed.len()));
                pdu.extend_from_slice(&packed);
            }
            Body::WriteRegisters { registers, .. } => {
                pdu.extend_from_slice(&self.count().to_be_bytes());
                pdu.push(byte_count(registers.len() * 2));
                pdu.extend(registers.iter().flat_map(|register| register.to_be_bytes()));
            }
        }
    }

    /// The RTU frame.
    pub fn wire(&self) -> Vec<u8> {
        // that of a read, which most questions are
        let mut frame = Vec::with_capacity(FRAME_MIN + 4);
        frame.push(self.unit);
        self.put_pdu(&mut frame);
        let crc = crc16(&frame);
        frame.extend_from_slice(&crc.to_le_bytes());
        frame
    }

    /// Reads an RTU request frame, whole and without anything around it.
    ///
    /// # Errors
    /// [`RequestError`] when it is not a valid request of functions 1 to 6, 15, 16.
    pub fn parse(frame: &[u8]) -> Result<Self, RequestError> {
        let (unit, pdu) = open(frame)?;
        Self::parse_pdu(unit, pdu)
    }

    /// Reads function code and data.
    ///
    /// # Errors
    /// [`RequestError`] when they are not a valid request of functions 1 to 6, 15, 16.
    pub fn parse_pdu(unit: u8, pdu: &[u8]) -> Result<Self, RequestError> {
        let mut reader = Reader::new(pdu);
        let code = reader.u8()?;
        let function = Function::by_code(code).ok_or(FrameError::Function(code))?;
        let (address, word) = (reader.u16_be()?, reader.u16_be()?);
        let body = match function {
            Function::WriteSingleCoil => Body::WriteCoil {
                address,
                on: match word {
                    0xFF00 => true,
                    0 => false,
                    other => return Err(FrameError::CoilValue(other).into()),
                },
            },
            Function::WriteSingleRegister => Body::WriteRegister { address, value: word },
            Function::WriteMultipleCoils => {
                let data = counted(&mut reader, usize::from(word).div_ceil(8))?;
                let mut bits = unpack_bits(data);
                bits.truncate(word.into());
                Body::WriteCoils { address, bits }
            }
            Function::WriteMultipleRegisters => {
                let data = counted(&mut reader, usize::from(word) * 2)?;
                Body::WriteRegisters {
                    address,
                    registers: registers(data),
                }
            }
            _ => Body::Read {
                function,
                address,
                count: word,
            },
        };
        match reader.rest().len() {
            0 => Self::checked(unit, body),
            extra => Err(FrameError::Trailing { extra }.into()),
        }
    }
}

impl Body {
    fn function(&self) -> Function {
        match self {
            Self::Read { function, .. } => *function,
            Self::WriteCoil { .. } => Function::WriteSingleCoil,
            Self::WriteRegister { .. } => Function::WriteSingleRegister,
            Self::WriteCoils { .. } => Function::WriteMultipleCoils,
            Self::WriteRegisters { .. } => Function::WriteMultipleRegisters,
        }
    }

    fn address(&self) -> u16 {
        match self {
            Self::Read { address, .. }
            | Self::WriteCoil { address, .. }
            | Self::WriteRegister { address, .. }
            | Self::WriteCoils { address, .. }
            | Self::WriteRegisters { address, .. } => *address,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Read { count, .. } => usize::from(*count),
            Self::WriteCoil { .. } | Self::WriteRegister { .. } => 1,
            Self::WriteCoils { bits, .. } => bits.len(),
            Self::WriteRegisters { registers, .. } => registers.len(),
        }
    }
}

/// Takes a byte count and that many bytes; the count must be `expected`.
fn counted<'a>(reader: &mut Reader<'a>, expected: usize) -> Result<&'a [u8], RequestError> {
    let found = reader.u8()?;
    if usize::from(found) != expected {
        return Err(FrameError::ByteCount { found, expected }.into());
    }
    Ok(reader.take(expected)?)
}

/// Coils as they are packed: the first in the lowest bit of the first byte, the rest padded with zeros.
pub(super) fn pack_bits(bits: &[bool]) -> Vec<u8> {
    bits.chunks(8)
        .map(|chunk| chunk.iter().rev().fold(0, |byte, bit| (byte << 1) | u8::from(*bit)))
        .collect()
}

/// The reverse, padding included.
pub(super) fn unpack_bits(bytes: &[u8]) -> Vec<bool> {
    bytes
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1))
        .collect()
}

/// Registers, high byte first.
pub(super) fn registers(bytes: &[u8]) -> Vec<u16> {
    bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u16::from_be_bytes(*pair))
        .collect()
}

/// A length as the byte that carries it; lengths here are bounded by 250 at construction.
pub(super) fn byte_count(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any valid request.
    pub(in crate::protocol::modbus) fn any_request() -> impl Strategy<Value = Request> {
        let body = prop_oneof![
            (1u8..=4, any::<u16>(), 1u16..=125).prop_map(|(code, address, count)| Body::Read {
                function: Function::by_code(code).unwrap(),
                address,
                count
            }),
            (1u8..=2, any::<u16>(), 1u16..=2000).prop_map(|(code, address, count)| Body::Read {
                function: Function::by_code(code).unwrap(),
                address,
                count
            }),
            (any::<u16>(), any::<bool>()).prop_map(|(address, on)| Body::WriteCoil { address, on }),
            (any::<u16>(), any::<u16>()).prop_map(|(address, value)| Body::WriteRegister { address, value }),
            (any::<u16>(), prop::collection::vec(any::<bool>(), 1..=1968))
                .prop_map(|(address, bits)| Body::WriteCoils { address, bits }),
            (any::<u16>(), prop::collection::vec(any::<u16>(), 1..=123))
                .prop_map(|(address, registers)| Body::WriteRegisters { address, registers }),
        ];
        (1u8..=247, body).prop_filter_map("runs past 65535", |(unit, body)| Request::checked(unit, body).ok())
    }

    proptest! {
        #[test]
        fn a_request_reads_back_as_itself(request in any_request()) {
            prop_assert!(request.wire().len() <= super::super::FRAME_MAX);
            prop_assert_eq!(Request::parse(&request.wire()), Ok(request));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _unused = Request::parse(&bytes);
            let _unused = Request::parse_pdu(1, &bytes);
        }
    }

    #[test]
    fn limits_are_those_of_the_standard() {
        let read = |function, address, count| Request::read(1, function, address, count);
        assert!(read(Function::ReadHoldingRegisters, 0, 125).is_ok());
        assert_eq!(
            read(Function::ReadHoldingRegisters, 0, 126),
            Err(RequestError::Count {
                function: Function::ReadHoldingRegisters,
                count: 126,
                max: 125
            })
        );
        assert!(read(Function::ReadCoils, 0, 2000).is_ok());
        assert!(read(Function::ReadCoils, 0, 2001).is_err());
        assert!(read(Function::ReadInputRegisters, 0, 0).is_err());
        assert!(read(Function::ReadInputRegisters, 0xFFFF, 1).is_ok());
        assert_eq!(
            read(Function::ReadInputRegisters, 0xFFFF, 2),
            Err(RequestError::Address {
                address: 0xFFFF,
                count: 2
            })
        );
        assert_eq!(
            read(Function::WriteSingleCoil, 0, 1),
            Err(RequestError::NotARead(Function::WriteSingleCoil))
        );
        for unit in [0, 248, 255] {
            assert_eq!(
                Request::read(unit, Function::ReadCoils, 0, 1),
                Err(RequestError::Unit(unit))
            );
        }
    }

    #[test]
    fn faults_of_a_frame_are_named() {
        let parse = |pdu: &[u8]| Request::parse_pdu(1, pdu).unwrap_err();
        assert_eq!(parse(&[5, 0, 0, 1, 0]), FrameError::CoilValue(0x0100).into());
        assert_eq!(
            parse(&[16, 0, 0, 0, 2, 2, 0, 0]),
            FrameError::ByteCount { found: 2, expected: 4 }.into()
        );
        assert_eq!(parse(&[3, 0, 0, 0, 1, 9]), FrameError::Trailing { extra: 1 }.into());
        assert_eq!(parse(&[3, 0]), FrameError::Short { have: 5, need: 6 }.into());
        assert_eq!(parse(&[0x2B, 14, 1, 0]), FrameError::Function(0x2B).into());
    }
}
