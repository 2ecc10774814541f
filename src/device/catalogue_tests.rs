//! The built-in models are complete, fault-free, and their recordings are what the plan asks.

use super::*;
use crate::device::decode::{decode, name};
use crate::device::plan::plan;
use crate::domain::quantity::Quantity;
use crate::protocol::{Finding, Request, Verdict};

fn builtin() -> Catalogue {
    Catalogue::builtin().unwrap_or_else(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    })
}

#[test]
fn every_file_of_the_folder_is_built_in() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/meter-models");
    let mut on_disk = Vec::new();
    for folder in Folder::ALL {
        for file in list(&root.join(folder.name())).unwrap() {
            on_disk.push((*folder, file.file_stem().unwrap().to_str().unwrap().to_owned()));
        }
    }
    let listed: Vec<_> = MODELS
        .iter()
        .map(|(folder, name, _)| (*folder, (*name).to_owned()))
        .collect();
    assert_eq!(listed, on_disk);
    assert_eq!(builtin().len(), listed.len());
}

/// The factory address, or where each meter has its own that of the recorded one.
fn recorded_address(model: &MeterModel) -> String {
    let first = model.exchanges.first().and_then(|exchange| exchange.frames.first());
    match first.map(|(request, _)| model.request(request).unwrap()) {
        Some(Request::Dlt645(request)) => request.address().to_string(),
        Some(Request::Cjt188(request)) => request.target().address.to_string(),
        Some(Request::Dlt698(request)) => request.address().to_string(),
        Some(Request::Gdw376(request)) => {
            let point = request.asks().next().and_then(|(id, _)| id.pn.number());
            point.unwrap().to_string()
        }
        _ => model.serial.address.clone(),
    }
}

#[test]
fn every_model_has_a_recording_of_its_whole_plan_and_it_means_what_it_should() {
    for model in builtin().iter() {
        let exchange = model
            .exchanges
            .first()
            .unwrap_or_else(|| panic!("{} has no exchange", model.name));
        let requests = plan(model, &recorded_address(model), &[]).unwrap();
        let recorded: Vec<&[u8]> = exchange.frames.iter().map(|(request, _)| request.as_slice()).collect();
        let planned: Vec<Vec<u8>> = requests.iter().map(Request::wire).collect();
        assert_eq!(planned, recorded, "{}", model.name);
        let mut frames = Vec::new();
        for (request, (_, answer)) in requests.iter().zip(&exchange.frames) {
            assert!(
                matches!(
                    request.find(answer),
                    Finding::Frame {
                        verdict: Verdict::Answer,
                        ..
                    }
                ),
                "{}",
                model.name
            );
            frames.push(Some(answer.as_slice()));
        }
        let poll = decode(model, &requests, &frames);
        let mut read: Vec<&str> = poll.items.iter().map(|item| name(&item.measurand)).collect();
        read.extend(poll.problems.iter().map(|problem| name(&problem.measurand)));
        let mut expected: Vec<&str> = exchange.expect.iter().map(|(measurand, _)| name(measurand)).collect();
        let mut polled: Vec<&str> = model
            .measurands()
            .filter(|(_, poll)| *poll)
            .map(|(m, _)| name(m))
            .collect();
        for names in [&mut read, &mut expected, &mut polled] {
            names.sort_unstable();
        }
        assert_eq!(read, polled, "{}", model.name);
        // the values themselves were compared when the model was loaded
        assert_eq!(expected, polled, "{}", model.name);
        assert!(
            poll.problems.iter().all(|problem| problem.kind.is_no_value()),
            "{:?}",
            poll.problems
        );
    }
}

#[test]
fn a_users_folder_adds_and_overrides() {
    let folder = tempfile::tempdir().unwrap();
    let modbus = folder.path().join("modbus");
    std::fs::create_dir(&modbus).unwrap();
    let text = "vendor = \"Own\"\nmodel = \"M\"\nphases = 1\npoint = [{ quantity = \"voltage_l1\", function = 4, \
                address = 0, type = \"f32\", unit = \"V\" }]\n[serial]\nbaud = 9600\nparity = \"none\"\n";
    std::fs::write(modbus.join("own_meter.toml"), text).unwrap();
    std::fs::write(modbus.join("eastron_sdm630.toml"), text).unwrap();
    std::fs::write(modbus.join("README.md"), "not a model").unwrap();
    let catalogue = Catalogue::load(&[folder.path()]).unwrap();
    assert_eq!(catalogue.len(), builtin().len() + 1);
    let own = catalogue.get(Protocol::ModbusTcp, "own_meter").unwrap();
    assert!(own.has(Quantity::VoltageL1));
    assert_eq!(
        catalogue.get(Protocol::ModbusRtu, "eastron_sdm630").unwrap().vendor,
        "Own"
    );
    assert!(catalogue.get(Protocol::ModbusRtu, "nobody").is_none());
}
