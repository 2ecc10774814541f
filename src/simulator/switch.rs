//! The relay and the parameters of a virtual meter, where its model says they are.

use crate::device::modbus::RegisterProfile;
use crate::device::modbus::relay::{Parameter, RelayProfile};
use crate::protocol::modbus::{Body, Reply, Request};
use crate::simulator::physics::Instant;
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The relay of one meter. It outlives connections, as a meter does.
#[derive(Debug)]
pub struct Switch {
    profile: RelayProfile,
    parameters: Vec<Parameter>,
    identity: Vec<u16>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The energy register when the supply went off; none: it is on.
    off_at_kwh: Option<Decimal>,
    /// Energy that was not consumed while it was off.
    saved_kwh: Decimal,
    moved: u64,
    parameters: BTreeMap<u16, u16>,
}

impl Switch {
    /// The relay of a meter whose model has one; it is on.
    pub fn of(profile: &RegisterProfile, seed: u64) -> Option<Self> {
        let relay = profile.relay.clone()?;
        let bytes = (seed | 1).to_be_bytes();
        let words = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| u16::from_be_bytes(*pair))
            .cycle();
        let count = relay.identity.map_or(0, |identity| usize::from(identity.count));
        Some(Self {
            identity: words.skip(2).take(count).collect(),
            profile: relay,
            parameters: profile.parameters.clone(),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it was written, whether it moved by it or not.
    pub fn moved(&self) -> u64 {
        self.lock().moved
    }

    /// Whether the supply is off.
    pub fn is_off(&self) -> bool {
        self.lock().off_at_kwh.is_some()
    }

    /// The reply to a request that concerns relay, identity or parameters; none: it is about something else.
    pub fn reply(&self, request: &Request, import_kwh: Decimal) -> Option<Reply> {
        match request.body() {
            Body::Read {
                function,
                address,
                count,
            } => {
                let back = self.profile.read_back;
                if (*function, *address, *count) == (back.function, back.address, 1) {
                    let shown = if self.is_off() { back.off } else { back.on };
                    return Some(if function.is_bits() {
                        Reply::Bits(vec![shown != 0])
                    } else {
                        Reply::Registers(vec![shown])
                    });
                }
                let identity = self.profile.identity.filter(|identity| {
                    (*function, *address, *count) == (identity.function, identity.address, identity.count)
                });
                if identity.is_some() {
                    return Some(Reply::Registers(self.identity.clone()));
                }
                let known = self.parameters.iter().any(|parameter| {
                    let point = &parameter.point;
                    (point.function, point.address, point.data.count()) == (*function, *address, *count)
                });
                let state = self.lock();
                known.then(|| {
                    let cells = (*address..=address.saturating_add(count - 1))
                        .map(|address| state.parameters.get(&address).copied().unwrap_or(1));
                    Reply::Registers(cells.collect())
                })
            }
            Body::WriteCoil { address, on } => self.write(request, *address, &[u16::from(*on)], import_kwh),
            Body::WriteCoils { address, bits } => {
                let cells: Vec<u16> = bits.iter().map(|bit| u16::from(*bit)).collect();
                self.write(request, *address, &cells, import_kwh)
            }
            Body::WriteRegister { address, value } => self.write(request, *address, &[*value], import_kwh),
            Body::WriteRegisters { address, registers } => self.write(request, *address, registers, import_kwh),
        }
    }

    fn write(&self, request: &Request, address: u16, cells: &[u16], import_kwh: Decimal) -> Option<Reply> {
        let mut state = self.lock();
        if request.function() == self.profile.write && address == self.profile.address {
            state.moved += 1;
            match cells {
                [value] if *value == self.profile.disconnect => {
                    state.off_at_kwh.get_or_insert(import_kwh);
                }
                [value] if *value == self.profile.reconnect => {
                    if let Some(off_at) = state.off_at_kwh.take() {
                        state.saved_kwh += import_kwh - off_at;
                    }
                }
                _ => return Some(Reply::Exception(3)),
            }
            return Some(Reply::Written);
        }
        let writable = self.parameters.iter().any(|parameter| {
            let point = &parameter.point;
            parameter.write == Some(request.function())
                && point.address == address
                && usize::from(point.data.count()) == cells.len()
        });
        if !writable {
            return Some(Reply::Exception(2));
        }
        for (place, cell) in (address..).zip(cells) {
            state.parameters.insert(place, *cell);
        }
        Some(Reply::Written)
    }

    /// What the meter shows with the supply as it is.
    pub fn dim(&self, shown: &mut Instant) {
        let state = self.lock();
        if let Some(off_at) = state.off_at_kwh {
            shown.power_w = 0.0;
            shown.reactive_var = 0.0;
            shown.import_kwh = off_at;
        }
        shown.import_kwh -= state.saved_kwh;
    }
}
