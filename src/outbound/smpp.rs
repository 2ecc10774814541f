//! SMS by a message centre over SMPP 3.4: bind as transmitter, submit every segment, unbind; one session a message, so
//! that no idle session has to be kept alive.
//!
//! A centre has nothing by which it could know a message again. So an attempt that ended between a submit and its answer
//! is unsure, and the message may arrive twice.

use crate::port::notices::smpp::{self, Pdu, Verdict, command, verdict};
use crate::port::notices::{Alphabet, Outgoing, Receipt, Segments, SendError, Sender};
use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The message centre.
#[derive(Clone, Debug)]
pub struct SmppSettings {
    /// `HOST:PORT`.
    pub address: String,
    /// Log-in.
    pub system_id: String,
    /// Its password, at most 8 characters.
    pub password: SecretString,
    /// What kind of system we are, if the centre wants to know.
    pub system_type: String,
    /// Who sends: a number or a name.
    pub source: String,
    /// How long one message may take.
    pub timeout: Duration,
}

/// Sends by SMPP.
#[derive(Debug)]
pub struct Smpp {
    settings: SmppSettings,
}

/// A session, from bind to unbind.
struct Session {
    socket: TcpStream,
    came: Vec<u8>,
    sequence: u32,
}

fn broken(error: impl std::fmt::Display) -> SendError {
    SendError::passing(format!("the session with the message centre broke: {error}"))
}

impl Session {
    fn next(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence
    }

    /// Asks, and waits for the answer; answers what the centre asks meanwhile.
    async fn ask(&mut self, question: &Pdu) -> Result<Pdu, SendError> {
        self.socket.write_all(&question.encode()).await.map_err(broken)?;
        loop {
            match Pdu::parse(&self.came).map_err(broken)? {
                Some((pdu, used)) => {
                    self.came.drain(..used);
                    if pdu.sequence == question.sequence
                        && (pdu.command == question.command | command::RESPONSE || pdu.command == command::GENERIC_NACK)
                    {
                        return Ok(pdu);
                    }
                    if pdu.command & command::RESPONSE == 0 {
                        self.socket.write_all(&pdu.answer().encode()).await.map_err(broken)?;
                    }
                }
                None => {
                    let mut buffer = [0; 512];
                    let read = self.socket.read(&mut buffer).await.map_err(broken)?;
                    if read == 0 {
                        return Err(broken("it was closed"));
                    }
                    self.came.extend(buffer.iter().take(read));
                }
            }
        }
    }
}

impl Smpp {
    /// By this centre.
    ///
    /// # Errors
    /// Says which setting is wrong.
    pub fn new(settings: SmppSettings) -> Result<Self, String> {
        let password = settings.password.expose_secret();
        smpp::bind_transmitter(1, &settings.system_id, password, &settings.system_type)
            .map_err(|error| error.to_string())?;
        smpp::submit_sm(1, &settings.source, "+1", 0, None, &[]).map_err(|error| format!("source: {error}"))?;
        Ok(Self { settings })
    }

    async fn bind(&self) -> Result<Session, SendError> {
        let settings = &self.settings;
        let socket = TcpStream::connect(&settings.address).await.map_err(broken)?;
        let mut session = Session {
            socket,
            came: Vec::new(),
            sequence: 0,
        };
        let sequence = session.next();
        let password = settings.password.expose_secret();
        let question = smpp::bind_transmitter(sequence, &settings.system_id, password, &settings.system_type);
        let answer = session.ask(&question.map_err(broken)?).await?;
        if answer.status == 0 {
            Ok(session)
        } else {
            Err(SendError::passing(format!(
                "the message centre refuses our log-in, status {:#010x}",
                answer.status
            )))
        }
    }

    /// Submits every segment; answers what the centre calls the first one.
    async fn submit(&self, session: &mut Session, message: &Outgoing) -> Result<Receipt, SendError> {
        let segments = Segments::of(&message.body);
        let coding = match segments.alphabet {
            Alphabet::Gsm => 0,
            Alphabet::Ucs2 => 8,
        };
        // the same at each attempt, so that a telephone puts the segments of two attempts together
        let reference = message.id.as_bytes().iter().fold(0_u8, |sum, byte| sum ^ byte);
        let mut first = None;
        for (index, text) in segments.texts.iter().enumerate() {
            let sequence = session.next();
            let question = smpp::submit_sm(
                sequence,
                &self.settings.source,
                &message.address,
                coding,
                segments.header(reference, index),
                &segments.octets(text),
            )
            .map_err(|error| SendError::Refused(error.to_string()))?;
            // from here on nobody knows, until the answer
            let answer = session
                .ask(&question)
                .await
                .map_err(|error| SendError::Unsure(error.to_string()))?;
            match verdict(answer.status) {
                Verdict::Taken => first = first.or_else(|| answer.text()),
                Verdict::Later if index == 0 => {
                    return Err(SendError::passing(format!(
                        "the message centre answered status {:#010x}",
                        answer.status
                    )));
                }
                // a part of it is out
                Verdict::Later => {
                    return Err(SendError::Unsure(format!(
                        "a segment had status {:#010x}",
                        answer.status
                    )));
                }
                Verdict::Never => {
                    return Err(SendError::Refused(format!(
                        "the message centre refused it, status {:#010x}",
                        answer.status
                    )));
                }
            }
        }
        Ok(Receipt {
            reference: first.map(|id| crate::domain::notice::cut(&id, 64)),
        })
    }
}

#[async_trait]
impl Sender for Smpp {
    async fn send(&self, message: &Outgoing) -> Result<Receipt, SendError> {
        let mut session = tokio::time::timeout(self.settings.timeout, self.bind())
            .await
            .map_err(|_| SendError::passing("the message centre took too long to let us in"))??;
        let sent = tokio::time::timeout(self.settings.timeout, self.submit(&mut session, message))
            .await
            .map_err(|_| SendError::Unsure("the message centre took too long to answer".to_owned()))?;
        // the outcome is known; a good-bye that fails changes nothing
        let unbind = Pdu::plain(command::UNBIND, session.next());
        let _bye = tokio::time::timeout(Duration::from_secs(2), session.ask(&unbind)).await;
        sent
    }
}
