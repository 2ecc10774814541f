//! Is this a frame of a meter? Only enough to keep line data from being taken for a registration or a heartbeat: the
//! codecs proper are the neighbours' and judge answers. Modbus RTU (V1.02 §2.5), DL/T 645 (§5.1), CJ/T 188 and M-Bus
//! frames (EN 13757-2) by length and check, DL/T 698.45 by its own codec.

use crate::protocol::dlt698;

const CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS);
const FUNCTIONS: [u8; 8] = [1, 2, 3, 4, 5, 6, 15, 16];

/// The length of the whole, valid frame that stands at the front, if one does.
pub(super) fn whole_len(bytes: &[u8]) -> Option<usize> {
    modbus_len(bytes)
        .or_else(|| start68_len(bytes))
        .or_else(|| dlt698::front_len(bytes))
}

/// Whether the bytes are nothing but whole, valid frames.
pub fn is_line_data(mut bytes: &[u8]) -> bool {
    while let Some(rest) = whole_len(bytes).and_then(|len| bytes.get(len..)) {
        if rest.is_empty() {
            return true;
        }
        bytes = rest;
    }
    false
}

/// Whether the bytes look like the first part of a frame.
pub fn is_head(bytes: &[u8]) -> bool {
    match bytes {
        [] => false,
        [0xFE | 0x68, ..] => true,
        [unit] => (1..=247).contains(unit),
        [unit, function, ..] => (1..=247).contains(unit) && FUNCTIONS.contains(&(function & 0x7F)),
    }
}

/// Whether the bytes are nothing but the FE that DL/T 645 and CJ/T 188 put in front of a frame.
pub fn is_wake(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0xFE)
}

/// Whether a Modbus answer could begin with these bytes.
pub fn is_modbus_head(bytes: &[u8]) -> bool {
    matches!(bytes, [1..=247, function, ..] if FUNCTIONS.contains(&(function & 0x7F)))
}

fn modbus_len(bytes: &[u8]) -> Option<usize> {
    let &[unit, function, third, ..] = bytes else {
        return None;
    };
    if !(1..=247).contains(&unit) || !FUNCTIONS.contains(&(function & 0x7F)) {
        return None;
    }
    let answer = match function {
        0x80.. => 5,
        1..=4 => 5 + usize::from(third),
        _ => 8,
    };
    // a request (an echo, or another master on the line) of these functions has eight bytes
    [answer, 8].into_iter().find(|&len| crc_holds(bytes, len))
}

fn crc_holds(bytes: &[u8], len: usize) -> bool {
    let Some((body, check)) = bytes.get(..len).and_then(<[u8]>::split_last_chunk::<2>) else {
        return false;
    };
    CRC.checksum(body).to_le_bytes() == *check
}

fn start68_len(bytes: &[u8]) -> Option<usize> {
    let wake = bytes.iter().take_while(|b| **b == 0xFE).count();
    let frame = bytes.get(wake..)?;
    // one begins like another, so each that could be is checked
    let mbus = match *frame {
        [0x68, a, b, 0x68, ..] if a == b => Some((4, usize::from(a))),
        _ => None,
    };
    let dlt645 = match *frame {
        [0x68, _, _, _, _, _, _, 0x68, _, len, ..] => Some((0, 10 + usize::from(len))),
        _ => None,
    };
    let cjt188 = match *frame {
        [0x68, _, _, _, _, _, _, _, _, _, len, ..] => Some((0, 11 + usize::from(len))),
        _ => None,
    };
    let summed = |(first, len): (usize, usize)| {
        let end = first + len;
        let sum = frame.get(first..end)?.iter().fold(0u8, |sum, b| sum.wrapping_add(*b));
        (frame.get(end..end + 2) == Some(&[sum, 0x16])).then_some(wake + end + 2)
    };
    [mbus, dlt645, cjt188].into_iter().flatten().find_map(summed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex::decode;

    #[test]
    fn knows_frames_of_the_field() {
        for (hex, len) in [
            ("110306AE415652434049AD", 11),
            ("010404436633341B38", 9),
            ("01040000000271CB", 8),
            ("FEFEFEFE68AAAAAAAAAAAA681300DF16", 16),
            (
                "FEFEFEFE68104433221100337881161F9000007766552C007766552C3101221105152021841316",
                39,
            ),
            ("FEFEFEFE68170043054200211126200158DA0501014001020000C60716", 29),
        ] {
            let frame = decode(hex).unwrap();
            assert_eq!(whole_len(&frame), Some(len), "{hex}");
            assert!(is_line_data(&frame) && is_line_data(&[frame.clone(), frame.clone()].concat()));
            for cut in 1..frame.len() {
                assert_eq!(whole_len(&frame[..cut]), None, "{hex} cut at {cut}");
                assert!(is_head(&frame[..cut]));
            }
        }
        assert_eq!(whole_len(b"12061204"), None);
        assert!(!is_head(b"www.usr.cn"));
    }
}
