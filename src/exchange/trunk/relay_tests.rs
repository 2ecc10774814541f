//! Frames that move a relay, through a trunk among other visits and against terminals that misbehave: written once at most,
//! unchanged, alone, and answered by nobody else.

use super::*;
use crate::protocol::dlt645::{self, Edition as Of645, Operator, Password, Reply, Security};
use crate::protocol::gdw376::forward::{self, Passage, Question};

const METER: &str = "000040000042";

/// Counts what it is told to do.
#[derive(Default)]
struct Meters {
    trips: usize,
    asked: usize,
}

impl Spoken for Meters {
    fn forward(&mut self, port: u8, frame: &[u8]) -> Option<Vec<u8>> {
        let request = dlt645::Request::parse(Of645::E2007, frame).unwrap();
        assert_eq!((port, request.address().to_string().as_str()), (31, METER));
        if matches!(request.body(), dlt645::Body::Relay(_)) {
            self.trips += 1;
        }
        self.asked += 1;
        let reply = match request.body() {
            dlt645::Body::Relay(_) => Reply::Done,
            _ => Reply::Data(vec![0x50, 0x00]),
        };
        Some(request.reply_frame(request.address(), &reply))
    }

    fn control(&mut self, _: Id, _: &[u8]) -> bool {
        false
    }
}

fn trip() -> dlt645::Request {
    let security = Security {
        password: Password::new(2, "000000").unwrap(),
        operator: Operator::new("00000001").unwrap(),
    };
    dlt645::relay::trip(Of645::E2007, dlt645::Address::parse(METER).unwrap(), security, None).unwrap()
}

fn passed_on(inner: &dlt645::Request) -> Request {
    let question = Question {
        passage: Passage::CARRIER,
        frame: inner.frame(),
    };
    match question.kind() {
        forward::Kind::Relay => gdw376::relay::forward(NO_TERMINAL, &question, gdw376::Password::ZERO),
        _ => Request::forward(NO_TERMINAL, &question),
    }
    .unwrap()
}

fn relay_job(now: Moment) -> PollJob {
    PollJob {
        effect: Some(Effect::default()),
        attempts: 1,
        ..job(
            now,
            42,
            vec![protocol::Request::Gdw376(passed_on(&trip()))],
            Priority::Control,
        )
    }
}

/// What the meter said to the frame that a report answers.
fn word(outcome: &VisitOutcome, inner: &dlt645::Request) -> Option<Reply> {
    let bytes = outcome.reports[0].result.as_ref().ok()?;
    let message = Message::of(&Frame::parse(bytes).unwrap()).unwrap();
    let answer = passed_on(inner).answer(&[message], Edition::E2013).unwrap();
    let forwarded = answer.forwarded().unwrap()?;
    Some(inner.reply(&forwarded.frame).unwrap())
}

fn is_relay(wire: &[u8]) -> bool {
    let message = Message::of(&Frame::parse(wire).unwrap()).unwrap();
    message.afn == Afn::FORWARD
}

#[test]
fn it_goes_to_the_terminal_of_the_connection_and_is_as_it_was_made() {
    let (mut trunk, now) = (trunk(), start());
    let (mut terminal, mut meters) = (terminal(1..=20), Meters::default());
    for pn in 1..=20 {
        trunk
            .submit(now, job(now, pn.into(), vec![ask(pn, 129)], Priority::Scheduled))
            .unwrap();
    }
    let ticket = trunk.submit(now, relay_job(now)).unwrap();
    let (heard, _) = play(&mut trunk, now, |message| terminal.answer(message, &mut meters));
    assert_eq!(word(&heard.done[&ticket], &trip()), Some(Reply::Done));
    assert_eq!((meters.trips, meters.asked, heard.written.len()), (1, 1, 2));
    // before what could wait
    let first = Message::of(&Frame::parse(&heard.written[0]).unwrap()).unwrap();
    assert_eq!(first.address, address().with_msa(1));
    let unit = &first.units(Edition::E2013).unwrap()[0];
    assert_eq!(Question::read(&unit.data).unwrap().frame, trip().frame());
    assert_eq!(first.password, Some(gdw376::Password::ZERO));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whatever is lost, doubled, late, of another terminal, sequence or question: the frame is written once, the meter is
    /// moved once at most, and an acknowledgement is told only where the meter gave it.
    #[test]
    fn it_is_written_once_and_told_truly(
        moods in prop::collection::vec(0u8..8, 1..12),
        others in 0u16..12,
        again in 1usize..4,
    ) {
        let (mut trunk, mut now) = (trunk(), start());
        let (mut terminal, mut meters) = (terminal(1..=12), Meters::default());
        let mut mood = moods.into_iter().cycle();
        let mut late: Vec<Frame> = Vec::new();
        for round in 0..again {
            let before = meters.trips;
            for pn in 1..=others {
                trunk.submit(now, job(now, pn.into(), vec![ask(pn, 129)], Priority::Scheduled)).unwrap();
            }
            let ticket = trunk.submit(now, relay_job(now)).unwrap();
            let (heard, then) = play(&mut trunk, now, |message| {
                let mut frames = match mood.next().unwrap() {
                    // it never arrives
                    0 => Vec::new(),
                    // the answer is lost
                    1 => { terminal.answer(message, &mut meters); Vec::new() }
                    // it comes with the next one
                    2 => { late.extend(terminal.answer(message, &mut meters)); Vec::new() }
                    3 => {
                        let mut frames = terminal.answer(message, &mut meters);
                        frames.iter_mut().for_each(|frame| frame.address = Address::new(0x4403, 5).with_msa(1));
                        frames
                    }
                    4 => {
                        let mut other = message.clone();
                        other.seq = gdw376::Seq::single(message.seq.number() + 1);
                        terminal.answer(&other, &mut meters)
                    }
                    5 => [late.split_off(0), terminal.answer(message, &mut meters)].concat(),
                    _ => terminal.answer(message, &mut meters),
                };
                if frames.len() == 1 && round == 1 {
                    frames.extend(frames.clone());
                }
                frames
            });
            now = then;
            prop_assert_eq!(heard.written.iter().filter(|wire| is_relay(wire)).count(), 1);
            prop_assert!(meters.trips <= before + 1);
            let outcome = &heard.done[&ticket];
            prop_assert_eq!(outcome.reports.len(), 1);
            match word(outcome, &trip()) {
                Some(said) => prop_assert!(said == Reply::Done && meters.trips == before + 1),
                None => prop_assert_eq!(&outcome.reports[0].result, &Err(TransactionError::Timeout)),
            }
            prop_assert_eq!(trunk.queued(), 0);
        }
    }
}
