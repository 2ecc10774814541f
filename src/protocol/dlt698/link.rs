//! What the head end says to a terminal that speaks first: the answer to its login and heartbeat, and the confirmation of
//! its reports.

use super::apdu::{Answered, Apdu, Asked, LinkRequest, LinkResponse, Report};
use super::moments::DateTime;
use super::segment::Segment;
use super::{Control, Frame};
use chrono::NaiveDateTime;

/// The answer to a login, heartbeat or logout, with our times in the terminal's local time: when the request was there,
/// and now. `result` is 0 when all is well; with [`LinkResponse::CLOCK_TRUSTED`] the terminal may set its clock by ours. None
/// when the answer does not go in a frame, which no address makes so.
pub fn link_response(
    frame: &Frame,
    request: &LinkRequest,
    result: u8,
    received: NaiveDateTime,
    now: NaiveDateTime,
) -> Option<Frame> {
    let response = LinkResponse {
        piid: request.piid,
        result,
        requested: request.time,
        received: DateTime::of(received),
        responded: DateTime::of(now),
    };
    let data = Apdu::LinkResponse(response).wire();
    let control = match frame.control.is_scrambled() {
        true => Control::LINK_RESPONSE.scrambled(),
        false => Control::LINK_RESPONSE,
    };
    Frame::new(control, frame.address, frame.client, data).ok()
}

/// The confirmation of a report, of all that is in it. It must not be sent before what was reported is safe: a terminal
/// that has it forgets. None for a report that is none.
pub fn confirm_report(frame: &Frame, report: &Answered<Report>) -> Option<Frame> {
    let piid = super::Piid(report.piid.0 & 0xBF);
    let data = Apdu::ReportAck(Asked::new(piid, report.body.ack()?)).wire();
    let control = match frame.control.is_scrambled() {
        true => Control::CONFIRMATION.scrambled(),
        false => Control::CONFIRMATION,
    };
    Frame::new(control, frame.address, frame.client, data).ok()
}

/// The confirmation of a part of a report that comes in several frames: the terminal may send the next. It says nothing of
/// the report, which is confirmed as a whole.
pub fn confirm_part_of_report(frame: &Frame, number: u16) -> Option<Frame> {
    let control = match frame.control.is_scrambled() {
        true => Control::CONFIRMATION.segmented().scrambled(),
        false => Control::CONFIRMATION.segmented(),
    };
    let data = Segment::confirmation(number).wire();
    Frame::new(control, frame.address, frame.client, data).ok()
}
