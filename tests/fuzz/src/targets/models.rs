//! Meter models as a user may write them: each text is a model or has its faults named with a line; a model that is taken
//! can be planned, asked and decoded.

use super::{decoded, questions};
use crate::device::check::check_text;
use crate::device::model::{Folder, MeterModel};
use crate::input::Input;
use crate::seeds::Seeds;
use std::path::{Path, PathBuf};

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let folder = Folder::ALL[usize::from(input.byte()) % Folder::ALL.len()];
    let Ok(text) = std::str::from_utf8(input.all()) else {
        return;
    };
    match check_text(Path::new("fuzzed.toml"), folder, text) {
        Ok(model) => taken(&model),
        Err(faults) => {
            assert!(!faults.is_empty(), "neither a model nor a fault");
            let lines = 1 + text.bytes().filter(|byte| *byte == b'\n').count();
            for fault in &faults {
                assert!(fault.line <= lines, "a fault in line {} of {lines}", fault.line);
                assert!(!fault.what.is_empty() && !fault.help.is_empty(), "{fault:?}");
            }
        }
    }
}

fn taken(model: &MeterModel) {
    assert!((1..=3).contains(&model.phases) && model.pause_ms <= 60_000 && model.timeout_ms <= 60_000);
    let requests = questions(model);
    let nothing = decoded(model, &requests, &[]);
    assert!(nothing.items.is_empty(), "values without an answer");
    let noise = [0x55; 20];
    let noise = vec![Some(noise.as_slice()); requests.len()];
    assert!(decoded(model, &requests, &noise).items.is_empty(), "values from noise");
    for exchange in &model.exchanges {
        let asked = exchange.frames.iter().filter(|(ask, _)| model.request(ask).is_ok());
        assert_eq!(asked.count(), exchange.frames.len(), "an exchange that was replayed");
    }
}

pub(super) fn seeds(seeds: &mut Seeds) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config/meter-models");
    for (index, folder) in Folder::ALL.iter().enumerate() {
        let Ok(entries) = std::fs::read_dir(root.join(folder.name())) else {
            continue;
        };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for text in files.iter().filter_map(|file| std::fs::read(file).ok()) {
            seeds.add(&[&[u8::try_from(index).unwrap_or_default()], &text]);
        }
    }
}
