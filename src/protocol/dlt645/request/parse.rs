//! The data of a question.

use super::*;

pub(super) fn body(edition: Edition, function: Function, data: &[u8]) -> Result<Body, RequestError> {
    let wrong = || RequestError::Data {
        function,
        len: data.len(),
    };
    let di = || {
        let di = Di::from_data(edition, data).ok_or_else(wrong)?;
        Ok::<_, RequestError>((di, data.get(edition.di_len()..).unwrap_or_default()))
    };
    Ok(match function {
        Function::Read => {
            let (di, tail) = di()?;
            let tail = tail.to_vec();
            Body::Read { di, tail }
        }
        Function::ReadFollow => match (di()?, edition) {
            ((di, [seq]), Edition::E2007) => Body::Follow { di, seq: *seq },
            ((di, []), Edition::E1997) => Body::Follow { di, seq: 0 },
            _ => return Err(wrong()),
        },
        Function::ReadAddress if data.is_empty() => Body::ReadAddress,
        Function::Write => {
            let (di, rest) = di()?;
            let (security, value) = security(edition, rest).ok_or_else(wrong)?;
            if di == RELAY_1997 {
                Body::Relay(relay::Command::parse_1997(security, value)?)
            } else {
                let value = value.to_vec();
                Body::Write { di, security, value }
            }
        }
        Function::WriteAddress => Body::WriteAddress(Address::from_wire(array(data).ok_or_else(wrong)?)),
        Function::Freeze => Body::Freeze(freeze(array(data).ok_or_else(wrong)?)?),
        Function::Speed => {
            let [word] = array(data).ok_or_else(wrong)?;
            Body::Speed(Speed::by_word(edition, word).ok_or(RequestError::Speed(word))?)
        }
        Function::Password => {
            let (di, rest) = match edition {
                Edition::E1997 => (None, data),
                Edition::E2007 => di().map(|(di, rest)| (Some(di), rest))?,
            };
            let [o0, o1, o2, o3, n0, n1, n2, n3] = array(rest).ok_or_else(wrong)?;
            Body::ChangePassword {
                di,
                old: Password::from_wire([o0, o1, o2, o3]),
                new: Password::from_wire([n0, n1, n2, n3]),
            }
        }
        Function::BroadcastTime => Body::BroadcastTime(clock_of(array(data).ok_or_else(wrong)?)?),
        Function::ClearDemand | Function::ClearMeter => match security(edition, data).ok_or_else(wrong)? {
            (security, []) if function == Function::ClearDemand => Body::ClearDemand(security),
            (security, []) => Body::ClearMeter(security),
            _ => return Err(wrong()),
        },
        Function::ClearEvents => {
            let (security, rest) = security(edition, data).ok_or_else(wrong)?;
            let number = u32::from_le_bytes(array(rest).ok_or_else(wrong)?);
            let di = Di::E2007(number);
            Body::ClearEvents { security, di }
        }
        Function::Relay => Body::Relay(relay::Command::parse_2007(data)?),
        Function::ReadAddress | Function::Reread | Function::Security => return Err(wrong()),
    })
}

fn array<const N: usize>(data: &[u8]) -> Option<[u8; N]> {
    data.try_into().ok()
}

fn security(edition: Edition, data: &[u8]) -> Option<(Security, &[u8])> {
    match edition {
        Edition::E2007 => Security::split(data),
        Edition::E1997 => {
            let (password, rest) = data.split_first_chunk::<4>()?;
            let security = Security {
                password: Password::from_wire(*password),
                operator: Operator::from_wire([0; 4]),
            };
            Some((security, rest))
        }
    }
}

fn freeze(wire: [u8; 4]) -> Result<FreezeAt, RequestError> {
    let mut parts = [None; 4];
    for (part, byte) in parts.iter_mut().zip(wire) {
        if byte != 0x99 {
            let number = bcd::byte(byte).map_err(|_| RequestError::Time(crate::base::hex::encode(&wire)))?;
            *part = Some(number);
        }
    }
    let [minute, hour, day, month] = parts;
    Ok(FreezeAt {
        month,
        day,
        hour,
        minute,
    })
}
