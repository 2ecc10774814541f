//! Where the fuzzer begins: recorded frames of `tests/frames` and, where they are there, of the shared vectors.

use crate::base::hex;
use crate::input::piece;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Inputs so far.
#[derive(Debug, Default)]
pub struct Seeds {
    /// Each of them.
    pub list: Vec<Vec<u8>>,
}

impl Seeds {
    /// Adds one.
    pub fn add(&mut self, parts: &[&[u8]]) {
        self.list.push(parts.concat());
    }

    /// Adds a stream of one segment behind `head`.
    pub fn segment(&mut self, head: &[u8], kind: u8, bytes: &[u8]) {
        self.add(&[head, &[kind], &piece(bytes)]);
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The lines of a file of frames; none where it is not there.
fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// The frames of a protocol, as `tests/frames` and the shared vectors name it.
pub fn frames(protocol: &str) -> Vec<Vec<u8>> {
    let own = lines(&root().join(format!("tests/frames/{protocol}.jsonl")));
    let shared = std::env::var_os("POLYPHASE_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let shared = lines(&shared.join(format!("vectors/{protocol}.jsonl")));
    let texts = own.iter().chain(&shared).flat_map(|line| {
        let one = ["request", "answer", "frame_hex", "apdu_hex"].map(|key| &line[key]);
        let more = ["answers", "frames_hex"]
            .into_iter()
            .filter_map(|key| line[key].as_array());
        let all: Vec<&Value> = one.into_iter().chain(more.flatten()).collect();
        all.into_iter()
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    });
    let mut frames: Vec<Vec<u8>> = texts.filter_map(|text| hex::decode(&text).ok()).collect();
    frames.sort();
    frames.dedup();
    frames
}

/// Inputs that are kept: what a run found once, and a small corpus.
pub fn kept(target: &str) -> Vec<Vec<u8>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("corpus/{target}.hex"));
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| hex::decode(line).expect("a line of hex")).collect()
}
