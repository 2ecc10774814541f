//! One question of the master, valid by construction.

use super::address::{AddressError, NETWORK, PRIMARY_MAX, Selection};
use super::answer::Telegram;
use super::frame::{FCB, FCV, Frame, FrameError, PRIMARY};

/// The most telegrams of one readout that are asked for: a meter that always says that more follow ends there.
pub const TELEGRAMS_MAX: usize = 32;

/// Functions in the C field (EN 13757-2, 5.4).
const SND_NKE: u8 = 0x40;
const SND_UD: u8 = 0x43;
const REQ_UD1: u8 = 0x4A;
const REQ_UD2: u8 = 0x4B;

/// CI fields towards the meter (EN 13757-3, 5.1), low byte first.
const CI_APPLICATION_RESET: u8 = 0x50;
const CI_DATA: u8 = 0x51;
const CI_SELECT: u8 = 0x52;
const CI_BAUD_FIRST: u8 = 0xB8;

/// One question to one meter, to the selected one, or to all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    address: u8,
    fcb: bool,
    body: Body,
    selected: Option<Selection>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// SND_NKE: the link begins anew; the next frame count bit is 1. To 253: whoever is selected no longer is.
    Reset,
    /// REQ_UD1: alarms.
    ReadClass1,
    /// REQ_UD2: what the meter measures.
    ReadClass2,
    /// SND_UD with CI 52: who fits answers at 253 from now on, all others no longer do.
    Select(Selection),
    /// SND_UD with CI 50: the application begins anew, which makes the first telegram the next one.
    ApplicationReset {
        /// Which telegrams are wanted, in the meter's own numbering.
        subcode: Option<u8>,
    },
    /// SND_UD with CI B8 to BF: the meter goes to this speed; it acknowledges at the old one.
    SetBaud(Baud),
    /// SND_UD with CI 51 and the record 01 7A: the meter takes this primary address.
    SetAddress(u8),
    /// Any other SND_UD.
    Send {
        /// The CI field.
        ci: u8,
        /// What follows it.
        data: Vec<u8>,
    },
}

/// The speeds that a meter can be told to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baud(u8);

impl Baud {
    /// In the order of their CI fields.
    const SPEEDS: [u32; 8] = [300, 600, 1200, 2400, 4800, 9600, 19_200, 38_400];

    /// One of 300, 600, 1200, 2400, 4800, 9600, 19200, 38400 bits per second.
    pub fn of(speed: u32) -> Option<Self> {
        let index = Self::SPEEDS.iter().position(|known| *known == speed)?;
        u8::try_from(index).ok().map(Self)
    }

    fn of_ci(ci: u8) -> Option<Self> {
        let index = ci.checked_sub(CI_BAUD_FIRST)?;
        Self::SPEEDS.get(usize::from(index)).map(|_| Self(index))
    }

    /// Bits per second.
    pub fn speed(self) -> u32 {
        Self::SPEEDS.get(usize::from(self.0)).copied().unwrap_or(2400)
    }
}

/// Why something cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The address.
    #[error("{0} is not an address that can be asked; 0 to 250, 253, 254 and 255 are")]
    Address(u8),
    /// The address that a meter shall take.
    #[error("{0} is not an address that a meter can take; 0 to 250 are")]
    NewAddress(u8),
    /// More than a frame holds.
    #[error("{0} bytes of data do not fit a frame; 252 do")]
    TooLong(usize),
    /// The control field asks nothing that we know.
    #[error("control 0x{0:02X} is not that of a request")]
    Control(u8),
    /// The bytes are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A secondary address that is none.
    #[error(transparent)]
    Secondary(#[from] AddressError),
}

impl Request {
    fn checked(address: u8, fcb: bool, body: Body) -> Result<Self, RequestError> {
        if matches!(address, 251 | 252) {
            return Err(RequestError::Address(address));
        }
        match &body {
            Body::SetAddress(new) if *new > PRIMARY_MAX => return Err(RequestError::NewAddress(*new)),
            Body::Send { data, .. } if data.len() > 252 => return Err(RequestError::TooLong(data.len())),
            _ => {}
        }
        let fcb = fcb && body != Body::Reset;
        Ok(Self {
            address,
            fcb,
            body,
            selected: None,
        })
    }

    /// SND_NKE.
    ///
    /// # Errors
    /// [`RequestError::Address`] for 251 and 252.
    pub fn reset(address: u8) -> Result<Self, RequestError> {
        Self::checked(address, false, Body::Reset)
    }

    /// REQ_UD2. The first one behind a reset or a selection has the frame count bit set.
    ///
    /// # Errors
    /// [`RequestError::Address`] for 251 and 252.
    pub fn read(address: u8, fcb: bool) -> Result<Self, RequestError> {
        Self::checked(address, fcb, Body::ReadClass2)
    }

    /// REQ_UD1.
    ///
    /// # Errors
    /// [`RequestError::Address`] for 251 and 252.
    pub fn read_alarms(address: u8, fcb: bool) -> Result<Self, RequestError> {
        Self::checked(address, fcb, Body::ReadClass1)
    }

    /// Selects who fits the mask; E5 says that somebody does.
    pub fn select(selection: Selection) -> Self {
        Self {
            address: NETWORK,
            fcb: false,
            body: Body::Select(selection),
            selected: None,
        }
    }

    /// REQ_UD2 to whoever was selected with this mask; only an answer whose header fits the mask is its answer.
    pub fn read_selected(selection: Selection) -> Self {
        Self {
            address: NETWORK,
            fcb: true,
            body: Body::ReadClass2,
            selected: Some(selection),
        }
    }

    /// SND_UD in one of its forms.
    ///
    /// # Errors
    /// [`RequestError`] when address, new address or length is not valid.
    pub fn send(address: u8, fcb: bool, body: Body) -> Result<Self, RequestError> {
        Self::checked(address, fcb, body)
    }

    /// The A field.
    pub fn address(&self) -> u8 {
        self.address
    }

    /// The frame count bit.
    pub fn fcb(&self) -> bool {
        self.fcb
    }

    /// What is asked.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Who was selected before this was asked of address 253.
    pub fn selected(&self) -> Option<&Selection> {
        self.selected.as_ref()
    }

    /// Whether the answer is a telegram; else it is the single character.
    pub fn reads(&self) -> bool {
        matches!(self.body, Body::ReadClass1 | Body::ReadClass2)
    }

    fn function(&self) -> u8 {
        match self.body {
            Body::Reset => SND_NKE,
            Body::ReadClass1 => REQ_UD1 | FCV,
            Body::ReadClass2 => REQ_UD2 | FCV,
            _ => SND_UD | FCV,
        }
    }

    /// The C field.
    pub fn control(&self) -> u8 {
        self.function() | if self.fcb { FCB } else { 0 }
    }

    /// The frame.
    pub fn frame(&self) -> Frame {
        let (control, address) = (self.control(), self.address);
        let long = |ci, data| Frame::Long {
            control,
            address,
            ci,
            data,
        };
        match &self.body {
            Body::Reset | Body::ReadClass1 | Body::ReadClass2 => Frame::Short { control, address },
            Body::Select(selection) => long(CI_SELECT, selection.bytes().to_vec()),
            Body::ApplicationReset { subcode } => long(CI_APPLICATION_RESET, subcode.iter().copied().collect()),
            Body::SetBaud(baud) => long(CI_BAUD_FIRST + baud.0, Vec::new()),
            Body::SetAddress(new) => long(CI_DATA, vec![0x01, 0x7A, *new]),
            Body::Send { ci, data } => long(*ci, data.clone()),
        }
    }

    /// The bytes for a line. A repeated question has the same bytes, so that a meter whose answer was lost repeats it.
    pub fn wire(&self) -> Vec<u8> {
        // the length of the data is checked at construction
        self.frame().wire().unwrap_or_default()
    }

    /// Reads a request frame, whole and without anything around it.
    ///
    /// # Errors
    /// [`RequestError`] when it is not one.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        Self::of_frame(&Frame::parse(bytes)?)
    }

    /// Reads a frame that was taken apart.
    ///
    /// # Errors
    /// [`RequestError`] when it is not a request.
    pub fn of_frame(frame: &Frame) -> Result<Self, RequestError> {
        match frame {
            Frame::Ack => Err(RequestError::Control(super::ACK)),
            Frame::Short { control, address } => {
                let body = match control & !FCB {
                    SND_NKE if control & FCB == 0 => Body::Reset,
                    c if c == REQ_UD1 | FCV => Body::ReadClass1,
                    c if c == REQ_UD2 | FCV => Body::ReadClass2,
                    _ => return Err(RequestError::Control(*control)),
                };
                Self::checked(*address, control & FCB != 0, body)
            }
            Frame::Long {
                control,
                address,
                ci,
                data,
            } => {
                if control & !FCB != SND_UD | FCV {
                    return Err(RequestError::Control(*control));
                }
                let other = || Body::Send {
                    ci: *ci,
                    data: data.clone(),
                };
                let body = match (*ci, data.as_slice()) {
                    (CI_SELECT, bytes) if *address == NETWORK => bytes
                        .try_into()
                        .map_or_else(|_| other(), |bytes| Body::Select(Selection::of_bytes(bytes))),
                    (CI_APPLICATION_RESET, []) => Body::ApplicationReset { subcode: None },
                    (CI_APPLICATION_RESET, [subcode]) => Body::ApplicationReset {
                        subcode: Some(*subcode),
                    },
                    (CI_DATA, [0x01, 0x7A, new]) if *new <= PRIMARY_MAX => Body::SetAddress(*new),
                    (ci, []) => Baud::of_ci(ci).map_or_else(other, Body::SetBaud),
                    _ => other(),
                };
                Self::checked(*address, control & FCB != 0, body)
            }
        }
    }

    /// The next question when the answers to this one so far, one frame behind the other, say that more records follow:
    /// the same with the frame count bit turned. None when the readout is complete, when the meter repeats itself, and behind
    /// [`TELEGRAMS_MAX`] telegrams.
    pub fn follow_up(&self, answers: &[u8]) -> Option<Self> {
        if self.body != Body::ReadClass2 {
            return None;
        }
        let frames = Frame::split(answers).ok()?;
        let (last, before) = frames.split_last()?;
        if frames.len() >= TELEGRAMS_MAX || before.last() == Some(last) {
            return None;
        }
        // every telegram that came has turned the bit once
        let turned = frames.len() % 2 == 1;
        Telegram::of_frame(last).ok()?.more_follow().then(|| Self {
            fcb: self.fcb != turned,
            ..self.clone()
        })
    }
}

/// Whether a C field is that of an answer with data, RSP_UD; access demand and data flow control may be set.
pub(super) fn is_response(control: u8) -> bool {
    control & !(FCB | FCV) == 0x08
}

/// Whether a C field comes from the master.
pub(super) fn is_request(control: u8) -> bool {
    control & PRIMARY != 0
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::address::tests::any_identification;
    use super::*;
    use crate::base::hex;
    use proptest::prelude::*;

    /// Any valid request without a selection of its own.
    pub(in crate::protocol::mbus) fn any_request() -> impl Strategy<Value = Request> {
        let address = prop_oneof![0u8..=250, 253u8..=255];
        let body = prop_oneof![
            Just(Body::Reset),
            Just(Body::ReadClass1),
            Just(Body::ReadClass2),
            Just(Body::ApplicationReset { subcode: None }),
            any::<u8>().prop_map(|subcode| Body::ApplicationReset { subcode: Some(subcode) }),
            (0u8..8).prop_map(|index| Body::SetBaud(Baud(index))),
            (0u8..=250).prop_map(Body::SetAddress),
            prop::collection::vec(any::<u8>(), 4..=252).prop_map(|data| Body::Send { ci: 0x51, data }),
        ];
        let select = any_identification().prop_map(|id| Request::select(Selection::exact(id)));
        let plain = (address, any::<bool>(), body)
            .prop_map(|(address, fcb, body)| Request::checked(address, fcb, body).unwrap());
        prop_oneof![9 => plain, 1 => select]
    }

    proptest! {
        #[test]
        fn a_request_reads_back_as_itself(request in any_request()) {
            prop_assert_eq!(Request::parse(&request.wire()), Ok(request));
        }

        #[test]
        fn random_bytes_never_panic(request in any_request(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _unused = Request::parse(&bytes);
            let _unused = request.follow_up(&bytes);
        }
    }

    #[test]
    fn known_requests_have_known_bytes() {
        let wire = |request: Result<Request, RequestError>| hex::encode(&request.unwrap().wire());
        assert_eq!(wire(Request::reset(1)), "1040014116");
        assert_eq!(wire(Request::read(1, true)), "107B017C16");
        assert_eq!(wire(Request::read(1, false)), "105B015C16");
        assert_eq!(wire(Request::read_alarms(1, true)), "107A017B16");
        assert_eq!(
            hex::encode(&Request::select(Selection::parse("12345678.PAD.01.07").unwrap()).wire()),
            "680B0B6853FD52785634122440010722".to_owned() + "16"
        );
        assert_eq!(
            wire(Request::send(4, true, Body::SetAddress(9))),
            "68060668730451017A094C16"
        );
        assert_eq!(
            wire(Request::send(254, false, Body::SetBaud(Baud::of(9600).unwrap()))),
            "6803036853FEBD0E16"
        );
        assert_eq!(Baud::of(1234), None);
        for address in [251, 252] {
            assert_eq!(Request::reset(address), Err(RequestError::Address(address)));
        }
        assert_eq!(
            Request::send(1, false, Body::SetAddress(251)),
            Err(RequestError::NewAddress(251))
        );
    }
}
