//! Function codes and exception codes (Modbus application protocol V1.1b3, 6 and 7).

use std::fmt;

/// The functions that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Function {
    /// 1, read coils.
    ReadCoils = 1,
    /// 2, read discrete inputs.
    ReadDiscreteInputs = 2,
    /// 3, read holding registers.
    ReadHoldingRegisters = 3,
    /// 4, read input registers.
    ReadInputRegisters = 4,
    /// 5, write single coil.
    WriteSingleCoil = 5,
    /// 6, write single register.
    WriteSingleRegister = 6,
    /// 15, write multiple coils.
    WriteMultipleCoils = 15,
    /// 16, write multiple registers.
    WriteMultipleRegisters = 16,
}

impl Function {
    /// Every function.
    pub const ALL: &'static [Self] = &[
        Self::ReadCoils,
        Self::ReadDiscreteInputs,
        Self::ReadHoldingRegisters,
        Self::ReadInputRegisters,
        Self::WriteSingleCoil,
        Self::WriteSingleRegister,
        Self::WriteMultipleCoils,
        Self::WriteMultipleRegisters,
    ];

    /// The code on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Finds a function by its code.
    pub fn by_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.code() == code)
    }

    /// The name in the standard.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadCoils => "read coils",
            Self::ReadDiscreteInputs => "read discrete inputs",
            Self::ReadHoldingRegisters => "read holding registers",
            Self::ReadInputRegisters => "read input registers",
            Self::WriteSingleCoil => "write single coil",
            Self::WriteSingleRegister => "write single register",
            Self::WriteMultipleCoils => "write multiple coils",
            Self::WriteMultipleRegisters => "write multiple registers",
        }
    }

    /// Functions 1 to 4.
    pub fn is_read(self) -> bool {
        self.code() <= 4
    }

    /// Whether its data are single bits (coils, discrete inputs) and not 16-bit registers.
    pub fn is_bits(self) -> bool {
        matches!(
            self,
            Self::ReadCoils | Self::ReadDiscreteInputs | Self::WriteSingleCoil | Self::WriteMultipleCoils
        )
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code(), self.name())
    }
}

/// The name of an exception code (V1.1b3, 7); codes outside the standard occur.
pub fn exception_name(code: u8) -> &'static str {
    match code {
        1 => "illegal function",
        2 => "illegal data address",
        3 => "illegal data value",
        4 => "server device failure",
        5 => "acknowledge",
        6 => "server device busy",
        7 => "negative acknowledge",
        8 => "memory parity error",
        10 => "gateway path unavailable",
        11 => "gateway target device failed to respond",
        _ => "not in the standard",
    }
}
