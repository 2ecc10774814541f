//! Plans are the fewest requests, and never touch what they must not.

use super::*;
use crate::device::catalogue::Catalogue;
use crate::device::modbus::{Point, RegisterProfile};
use crate::device::model::Folder;
use crate::device::parse::parse;
use crate::protocol::Protocol;
use crate::protocol::modbus::Function;
use proptest::prelude::*;
use std::path::Path;

fn model(limits: &str, points: &str) -> MeterModel {
    let text = format!(
        "vendor = \"T\"\nmodel = \"T\"\nphases = 1\npoint = [{points}]\n\
         [serial]\nbaud = 9600\nparity = \"none\"\n[limits]\n{limits}\n"
    );
    parse(Path::new("test_model.toml"), Folder::Modbus, &text).unwrap()
}

fn reads(model: &MeterModel, wanted: &[Quantity]) -> Vec<(u8, u16, u16)> {
    plan(model, "1", wanted)
        .unwrap()
        .into_iter()
        .map(|request| match request {
            Request::Modbus(r) => (r.function().code(), r.address(), r.count()),
            other => panic!("not Modbus: {other:?}"),
        })
        .collect()
}

const POINTS: &str = "{ quantity = \"voltage_l1\", function = 4, address = 0, type = \"f32\", unit = \"V\" },
    { quantity = \"voltage_l2\", function = 4, address = 2, type = \"f32\", unit = \"V\" },
    { quantity = \"current_l1\", function = 4, address = 6, type = \"f32\", unit = \"A\" },
    { quantity = \"frequency\", function = 3, address = 8, type = \"u16\", unit = \"Hz\" },
    { vendor = \"baud\", function = 3, address = 100, type = \"u16\", unit = \"raw\", poll = false }";

#[test]
fn adjacent_registers_make_one_read_and_functions_are_not_mixed() {
    assert_eq!(reads(&model("", POINTS), &[]), [(3, 8, 1), (4, 0, 4), (4, 6, 2)]);
    assert_eq!(reads(&model("max_gap = 2", POINTS), &[]), [(3, 8, 1), (4, 0, 8)]);
    assert_eq!(
        reads(&model("max_gap = 2\nmax_registers = 7", POINTS), &[]),
        [(3, 8, 1), (4, 0, 4), (4, 6, 2)]
    );
}

#[test]
fn a_described_register_is_no_gap_and_a_forbidden_one_is_never_crossed() {
    let points = "{ quantity = \"voltage_l1\", function = 3, address = 0, type = \"u16\", unit = \"V\" },
        { quantity = \"voltage_l2\", function = 3, address = 1, type = \"u16\", unit = \"V\" },
        { quantity = \"voltage_l3\", function = 3, address = 2, type = \"u16\", unit = \"V\" },
        { quantity = \"frequency\", function = 3, address = 4, type = \"u16\", unit = \"Hz\" }";
    let outer = [Quantity::VoltageL1, Quantity::VoltageL3];
    assert_eq!(reads(&model("", points), &outer), [(3, 0, 3)]);
    let barred = "max_gap = 10\nforbidden = [{ function = 3, first = 3, last = 3 }]";
    assert_eq!(reads(&model(barred, points), &[]), [(3, 0, 3), (3, 4, 1)]);
    let elsewhere = "max_gap = 10\nforbidden = [{ function = 4, first = 3, last = 3 }]";
    assert_eq!(reads(&model(elsewhere, points), &[]), [(3, 0, 5)]);
}

#[test]
fn what_the_model_lacks_is_left_out_and_nothing_left_is_an_error() {
    let model = model("", POINTS);
    let wanted = [Quantity::VoltageL3, Quantity::VoltageL2];
    assert_eq!(reads(&model, &wanted), [(4, 2, 2)]);
    assert_eq!(model.lacks(&wanted), [Quantity::VoltageL3]);
    assert_eq!(
        plan(&model, "1", &[Quantity::VoltageL3]),
        Err(PlanError::NothingToRead {
            model: "test_model".to_owned()
        })
    );
}

#[test]
fn addresses_are_unit_ids() {
    let model = model("", POINTS);
    for wrong in ["0", "248", "256", "-1", "+1", "", "0x01", "one"] {
        assert!(
            matches!(plan(&model, wrong, &[]), Err(PlanError::Address { .. })),
            "{wrong}"
        );
    }
    assert!(plan(&model, "247", &[]).is_ok());
    assert!(check_address(&model, "1").is_ok());
}

#[test]
fn a_known_meter_is_read_in_few_requests() {
    let catalogue = Catalogue::builtin().unwrap();
    let sdm630 = catalogue.get(Protocol::ModbusRtu, "eastron_sdm630").unwrap();
    let energies = [Quantity::ActiveEnergyImport, Quantity::ActiveEnergyExport];
    assert_eq!(reads(sdm630, &energies), [(4, 0x48, 4)]);
    assert_eq!(reads(sdm630, &[]).len(), 4);
}

/// The fewest reads by trying every way to cut the sorted points.
fn fewest(profile: &RegisterProfile, points: &[&Point]) -> usize {
    let Some((first, _)) = points.split_first() else {
        return 0;
    };
    (1..=points.len())
        .filter(|taken| {
            let last = points[taken - 1];
            let span = u32::from(last.last()) - u32::from(first.address) + 1;
            let known = |address: u16| profile.points.iter().any(|p| (p.address..=p.last()).contains(&address));
            let mut run = 0;
            let mut crossable = true;
            for address in first.address..=last.last() {
                run = if known(address) { 0 } else { run + 1 };
                crossable &= run <= profile.limits.max_gap;
                crossable &= !profile
                    .limits
                    .forbidden
                    .iter()
                    .any(|f| (f.first..=f.last).contains(&address));
            }
            span <= u32::from(profile.limits.max_registers) && crossable
        })
        .map(|taken| 1 + fewest(profile, &points[taken..]))
        .min()
        .unwrap()
}

proptest! {
    #[test]
    fn a_plan_covers_all_and_no_cut_has_fewer_reads(
        layout in prop::collection::vec((0u16..6, prop::sample::select(&["u16", "u32", "u64"][..]), any::<bool>()), 1..9),
        max_registers in 4u16..20,
        max_gap in 0u16..5,
        forbid in any::<bool>(),
    ) {
        let (mut points, mut next, mut barred) = (Vec::new(), 0, String::new());
        let mut wanted = Vec::new();
        for ((gap, data, want), quantity) in layout.iter().zip(Quantity::ALL) {
            if *gap > 0 && forbid && barred.is_empty() {
                barred = format!("forbidden = [{{ function = 3, first = {next}, last = {next} }}]");
            }
            next += gap;
            let unit = quantity.unit().symbol();
            points.push(format!(
                "{{ quantity = \"{quantity}\", function = 3, address = {next}, type = \"{data}\", unit = \"{unit}\" }}"
            ));
            next += match *data { "u16" => 1, "u32" => 2, _ => 4 };
            if *want {
                wanted.push(*quantity);
            }
        }
        prop_assume!(!wanted.is_empty());
        let limits = format!("max_registers = {max_registers}\nmax_gap = {max_gap}\n{barred}");
        let model = model(&limits, &points.join(",\n"));
        let Profile::Modbus(profile) = &model.profile else { panic!("not Modbus") };
        let reads = reads(&model, &wanted);
        let chosen: Vec<&Point> = profile.points.iter()
            .filter(|p| p.quantity().is_some_and(|q| wanted.contains(&q))).collect();
        for point in &chosen {
            let covered = reads.iter().filter(|(code, address, count)| {
                point.within(Function::by_code(*code).unwrap(), *address, *count)
            });
            prop_assert_eq!(covered.count(), 1);
        }
        for (_, address, count) in &reads {
            prop_assert!(*count <= max_registers);
            for barred in &profile.limits.forbidden {
                prop_assert!(barred.last < *address || barred.first >= address + count);
            }
        }
        prop_assert_eq!(reads.len(), fewest(profile, &chosen));
    }
}
