//! `polyphase decode`: explains frames given as hexadecimal digits, one JSON object a frame.

use crate::base::hex;
use crate::device::catalogue::Catalogue;
use crate::device::decode::{decode, name};
use crate::device::model::MeterModel;
use crate::domain::reading::{Item, Measurand, Value};
use crate::protocol::explain::{Direction, ExplainError, Explained, ExplainedItem, explain_all};
use crate::protocol::{Protocol, Request};
use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

/// The longest line of standard input, in bytes.
const LINE_MAX: u64 = 1 << 20;

/// Arguments of `polyphase decode`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DecodeArgs {
    /// The protocol, by name; without it the protocol is recognised
    #[arg(long, value_parser = protocol)]
    pub protocol: Option<Protocol>,
    /// A meter model, by name: answers behind their request are explained as quantities
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// For people instead of scripts
    #[arg(long)]
    pub text: bool,
    /// Hexadecimal digits of one or several frames; none: each line of standard input
    #[arg(value_name = "HEX")]
    pub hex: Vec<String>,
}

fn protocol(name: &str) -> Result<Protocol, String> {
    Protocol::by_name(name).ok_or_else(|| {
        let known: Vec<&str> = Protocol::ALL.iter().map(|protocol| protocol.name()).collect();
        format!("no such protocol; known are {}", known.join(", "))
    })
}

/// Runs `polyphase decode`. 0 when every frame was explained, 1 when something was no frame, 2 for a wrong model.
pub(super) fn run(args: &DecodeArgs) -> ExitCode {
    let (mut input, mut out) = (io::stdin().lock(), io::stdout().lock());
    match explain_to(args, &mut input, &mut out) {
        Ok(Outcome::Explained) => ExitCode::SUCCESS,
        // the reader of a pipe may leave early
        Ok(Outcome::Faulty) | Err(_) => ExitCode::FAILURE,
        Ok(Outcome::Usage(error)) => {
            let _gone = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Explained,
    Faulty,
    Usage(String),
}

fn explain_to(args: &DecodeArgs, input: &mut impl BufRead, out: &mut impl Write) -> io::Result<Outcome> {
    let model = match args
        .model
        .as_deref()
        .map(|name| find_model(args.protocol, name))
        .transpose()
    {
        Ok(model) => model,
        Err(error) => return Ok(Outcome::Usage(error)),
    };
    let mut faultless = true;
    if args.hex.is_empty() {
        let mut line = String::new();
        while input.by_ref().take(LINE_MAX).read_line(&mut line)? > 0 {
            if !line.trim().is_empty() {
                faultless &= explain_line(args, model.as_deref(), line.trim(), out)?;
            }
            line.clear();
        }
    } else {
        faultless = explain_line(args, model.as_deref(), &args.hex.join(" "), out)?;
    }
    Ok(if faultless { Outcome::Explained } else { Outcome::Faulty })
}

fn find_model(protocol: Option<Protocol>, name: &str) -> Result<Arc<MeterModel>, String> {
    let catalogue = Catalogue::builtin().map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let protocols = protocol.as_ref().map_or(Protocol::ALL, std::slice::from_ref);
    let found = protocols
        .iter()
        .find_map(|protocol| catalogue.get(*protocol, name).map(Arc::clone));
    found.ok_or_else(|| {
        let known: Vec<&str> = catalogue.iter().map(|model| model.name.as_ref()).collect();
        format!("there is no meter model {name}; known are {}", known.join(", "))
    })
}

/// Explains the frames of one text; whether all of it was frames.
fn explain_line(args: &DecodeArgs, model: Option<&MeterModel>, text: &str, out: &mut impl Write) -> io::Result<bool> {
    let bytes = match hex::decode(text) {
        Ok(bytes) => bytes,
        Err(error) => {
            let offset = match error {
                hex::HexError::Digit { position, .. } => position,
                hex::HexError::Odd { .. } => text.len(),
            };
            let error = ExplainError::new(error.to_string(), offset);
            print(args, out, &Err(error))?;
            return Ok(false);
        }
    };
    let mut frames = explain_all(args.protocol, &bytes);
    if frames.is_empty() {
        frames.push(Err(ExplainError::new("there are no bytes", 0)));
    }
    if let Some(model) = model {
        add_quantities(model, &bytes, &mut frames);
    }
    let mut faultless = true;
    for frame in &frames {
        faultless &= frame.is_ok();
        print(args, out, frame)?;
    }
    Ok(faultless)
}

/// Puts the quantities of a model in front of what each answer holds that stands behind its request.
fn add_quantities(model: &MeterModel, bytes: &[u8], frames: &mut [Result<Explained, ExplainError>]) {
    let mut asked: Option<Request> = None;
    for frame in frames.iter_mut().filter_map(|frame| frame.as_mut().ok()) {
        let raw = bytes.get(frame.start..frame.end).unwrap_or_default();
        if frame.direction == Direction::Request {
            asked = model.request(raw).ok();
            continue;
        }
        let Some(request) = asked.take() else { continue };
        let poll = decode(model, &[request], &[Some(raw)]);
        let items = poll.items.iter().map(explained);
        let raw_items = std::mem::take(&mut frame.items);
        frame.items = items.chain(raw_items).collect();
        frame.notes.extend(poll.problems.iter().map(ToString::to_string));
    }
}

fn explained(item: &Item) -> ExplainedItem {
    let (quantity, id, unit) = match &item.measurand {
        Measurand::Standard(quantity) => (
            Some(quantity.name().to_owned()),
            quantity.obis().to_owned(),
            Some(quantity.unit().symbol().to_owned()),
        ),
        Measurand::Vendor(vendor) => (None, vendor.to_string(), None),
    };
    ExplainedItem {
        id,
        name: name(&item.measurand).to_owned(),
        quantity,
        value: Some(match item.value {
            Value::Decimal(value) => value.to_string(),
            Value::F32(value) => value.to_string(),
            Value::F64(value) => value.to_string(),
        }),
        unit,
        raw: None,
    }
}

fn print(args: &DecodeArgs, out: &mut impl Write, frame: &Result<Explained, ExplainError>) -> io::Result<()> {
    match frame {
        Ok(frame) if args.text => text(out, frame),
        Err(error) if args.text => writeln!(out, "bytes from {}: {}", error.offset, error.error),
        Ok(frame) => json(out, frame),
        Err(error) => json(out, error),
    }
}

fn json(out: &mut impl Write, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

fn text(out: &mut impl Write, frame: &Explained) -> io::Result<()> {
    let direction = match frame.direction {
        Direction::Request => "request to",
        Direction::Response => "response of",
    };
    writeln!(out, "{} {direction} {}", frame.protocol, frame.address)?;
    for field in &frame.fields {
        let bytes = format!("{}..{}", field.start, field.end);
        writeln!(out, "  {bytes:<10} {:<12} {}", field.name, field.value)?;
    }
    for item in &frame.items {
        write!(out, "  {:<14} {}", item.id, item.name)?;
        if let Some(value) = &item.value {
            write!(out, " = {value}")?;
        }
        if let Some(unit) = &item.unit {
            write!(out, " {unit}")?;
        }
        if let Some(raw) = &item.raw {
            write!(out, " (0x{raw})")?;
        }
        writeln!(out)?;
    }
    for note in &frame.notes {
        writeln!(out, "  {note}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: DecodeArgs,
    }

    fn decode_with(arguments: &[&str], input: &str) -> (Outcome, Vec<serde_json::Value>) {
        let args = Cli::parse_from(std::iter::once(&"decode").chain(arguments)).args;
        let mut out = Vec::new();
        let outcome = explain_to(&args, &mut input.as_bytes(), &mut out).unwrap();
        let lines = String::from_utf8(out).unwrap();
        (
            outcome,
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        )
    }

    #[test]
    fn one_object_a_frame() {
        let hex = "01030000 0002C40B 010304000006B279E6";
        let (outcome, frames) = decode_with(&[hex], "");
        assert_eq!(outcome, Outcome::Explained);
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0]["direction"], "request");
        assert_eq!(frames[1]["protocol"], "modbus-rtu");
        assert_eq!(frames[1]["address"], "1");
        assert_eq!(frames[1]["checksum_ok"], true);
        assert_eq!(frames[1]["items"][1]["value"], "1714");
        // blanks make no difference, and neither does the shell's splitting
        let split: Vec<&str> = hex.split(' ').collect();
        assert_eq!(decode_with(&split, "").1, frames);
    }

    #[test]
    fn a_model_makes_quantities_of_registers() {
        let hex = "0103000C00014409 01030209 63FE3D";
        let (outcome, frames) = decode_with(&["--model", "hiking_dds238_zns", hex], "");
        assert_eq!(outcome, Outcome::Explained);
        let item = &frames[1]["items"][0];
        assert_eq!(
            (&item["quantity"], &item["value"], &item["unit"]),
            (&"voltage_l1".into(), &"240.3".into(), &"V".into())
        );
        assert!(matches!(
            decode_with(&["--model", "nobody", hex], "").0,
            Outcome::Usage(_)
        ));
    }

    #[test]
    fn what_does_not_decode_is_an_error_with_its_offset() {
        let (outcome, frames) = decode_with(&["110306AE4156524340AD49"], "");
        assert_eq!(outcome, Outcome::Faulty);
        assert_eq!(frames[0]["offset"], 9);
        assert!(frames[0]["error"].as_str().unwrap().contains("crc"));
        let (outcome, frames) = decode_with(&["01G3"], "");
        assert_eq!((outcome, &frames[0]["offset"]), (Outcome::Faulty, &2.into()));
        assert_eq!(decode_with(&["010"], "").1[0]["offset"], 3);
    }

    #[test]
    fn standard_input_is_read_line_by_line() {
        let (outcome, frames) = decode_with(&[], "0103000000 02C40B\n\nxx\n0A8102B053\r\n");
        assert_eq!(outcome, Outcome::Faulty);
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[2]["refusal"]["code"], 2);
        assert_eq!(decode_with(&[], "").0, Outcome::Explained);
    }

    #[test]
    fn text_is_for_people_and_a_wrong_protocol_for_nobody() {
        let args = Cli::parse_from(["decode", "--text", "0103000C00014409"]).args;
        let mut out = Vec::new();
        explain_to(&args, &mut io::empty(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("request to 1") && text.contains("address") && text.contains("0x000C"),
            "{text}"
        );
        let wrong = Cli::try_parse_from(["decode", "--protocol", "modbus", "01"])
            .err()
            .unwrap();
        assert!(
            wrong.to_string().contains("known are modbus-rtu, modbus-tcp"),
            "{wrong}"
        );
    }
}
