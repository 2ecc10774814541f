//! Small seams between rooms that must not know each other.

use crate::port::frames::{FrameExplainer, FrameKind, RawFrame};
use crate::protocol::explain::explain_all;
use crate::protocol::{Protocol, dtu};

/// Explains raw frames for the API, as `polyphase decode` does.
pub struct Explainer;

impl FrameExplainer for Explainer {
    fn explain(&self, frame: &RawFrame) -> serde_json::Value {
        let what = match frame.kind {
            FrameKind::Registration => Some("registration package"),
            FrameKind::Heartbeat => Some("heartbeat package"),
            FrameKind::Noise => Some("bytes that form no frame"),
            FrameKind::Request | FrameKind::Answer | FrameKind::Refusal | FrameKind::Stray => None,
        };
        if let Some(what) = what {
            let text = frame.bytes.escape_ascii().to_string();
            return serde_json::json!({ "name": what, "text": text });
        }
        let explained: Vec<serde_json::Value> = explain_all(Protocol::by_name(&frame.protocol), &frame.bytes)
            .into_iter()
            .map(|frame| match frame {
                Ok(explained) => serde_json::to_value(explained).unwrap_or_default(),
                Err(error) => serde_json::to_value(error).unwrap_or_default(),
            })
            .collect();
        match <[_; 1]>::try_from(explained) {
            Ok([one]) => one,
            Err(several) => serde_json::Value::Array(several),
        }
    }
}

/// Whether a text names a registration profile; else why not.
pub fn check_profile(text: &str) -> Result<(), String> {
    dtu::Profile::parse(text).map(|_| ()).map_err(|error| error.to_string())
}
