//! Every fault of a user's model is named, with its line and what to do.

use super::*;
use std::path::PathBuf;

const HEAD: &str = "vendor = \"V\"\nmodel = \"M\"\nphases = 1\n[serial]\nbaud = 9600\nparity = \"none\"\n";

/// Checks one file; returns `line: what; help` of each fault.
fn check(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let modbus = folder.path().join("modbus");
    std::fs::create_dir(&modbus).unwrap();
    let file = modbus.join("my_meter.toml");
    std::fs::write(&file, text).unwrap();
    let faults = check_folder(folder.path());
    assert!(
        faults
            .iter()
            .all(|fault| fault.file == file && fault.line > 0 && !fault.help.is_empty())
    );
    faults
        .iter()
        .map(|fault| format!("{}: {}; {}", fault.line, fault.what, fault.help))
        .collect()
}

/// A whole model with one point, which starts at line 7 and whose keys are on line 8 and after.
fn with_point(point: &str) -> Vec<String> {
    check(&format!("{HEAD}[[point]]\n{point}\n"))
}

#[test]
fn a_good_model_has_no_fault() {
    let point = "quantity = \"voltage_l1\"\nfunction = 4\naddress = 0\ntype = \"f32\"\ncount = 2\nunit = \"V\"";
    assert_eq!(with_point(point), Vec::<String>::new());
}

#[test]
fn the_example_of_the_documentation_is_a_good_model() {
    let text = include_str!("../../docs/meter-models.md");
    let example = text
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    assert_eq!(check(example), Vec::<String>::new());
}

#[test]
fn each_fault_is_named_with_its_line() {
    let good = "function = 4\naddress = 0\ntype = \"f32\"\nunit = \"V\"";
    let cases = [
        (
            format!("quantity = \"voltage_l1\"\nadress = 0\n{good}"),
            "9: unknown key `adress`; did you mean `address`?",
        ),
        (
            format!("quantity = \"voltage_11\"\n{good}"),
            "8: unknown quantity `voltage_11`; did you mean `voltage_l1`? what has no name in the list is `vendor = \"…\"`",
        ),
        (
            format!("quantity = \"active_energy_import\"\n{good}"),
            "12: `V` does not convert to kWh, the unit of active_energy_import; use Wh, kWh, MWh, GWh",
        ),
        (
            good.replace("f32", "f33") + "\nquantity = \"voltage_l1\"",
            "10: unknown type `f33`; did you mean `f32`?",
        ),
        (
            format!("quantity = \"voltage_l1\"\ncount = 4\n{good}"),
            "9: `count` is 4, but f32 takes 2; correct `count` or `type`, or leave `count` out",
        ),
        (
            good.replace("= 0", "= 65535") + "\nquantity = \"voltage_l1\"",
            "9: 2 registers from 65535 run past 65535; correct `address` or `type`",
        ),
        (
            good.replace("= 0", "= 65536") + "\nquantity = \"voltage_l1\"",
            "9: `address` is out of range; use 0 to 65535",
        ),
        (
            good.replace("= 4", "= 6") + "\nquantity = \"voltage_l1\"",
            "8: `function` is out of range; use 1 to 4",
        ),
        (
            good.replace("= 4", "= 1") + "\nquantity = \"voltage_l1\"",
            "7: function 1 does not read type f32; functions 1 and 2 read `bit`, functions 3 and 4 registers",
        ),
        (
            good.replace("= 0", "= \"0\"") + "\nquantity = \"voltage_l1\"",
            "9: `address` is string; it has to be a whole number",
        ),
        (
            format!("quantity = \"voltage_l1\"\nscale = 0\n{good}"),
            "9: the scale 0 cannot be used; use a positive number of at most 9 digits",
        ),
        (
            format!("quantity = \"voltage_l1\"\ninvalid = \"FFFF\"\n{good}"),
            "9: the invalid marker has 2 bytes, f32 has 4; write all bytes of the value, most significant first",
        ),
        (
            format!("vendor = \"Relay State\"\n{good}"),
            "8: \"Relay State\" cannot name a vendor quantity; use a-z, 0-9 and _, at most 64 characters",
        ),
        (
            format!("vendor = \"voltage_l1\"\n{good}"),
            "8: `voltage_l1` is a quantity of the list; write `quantity` instead of `vendor`",
        ),
        (
            good.replace("address = 0\n", "") + "\nquantity = \"voltage_l1\"",
            "7: `address` is missing; add `address = …`",
        ),
        (
            format!("quantity = \"relay_state\"\n{}", good.replace("\"V\"", "\"1\"")),
            "7: relay_state is a code, and f32 is a float; use an integer type",
        ),
        (
            format!("quantity = \"voltage_l1\"\nbit = 3\n{good}"),
            "9: bits 3 to 3 are not within f32; bit fields stand in u16, u32 or u64",
        ),
        (
            format!("quantity = \"voltage_l1\"\nword_order = \"low\"\n{good}"),
            "9: unknown order `low`; use \"big\" (most significant first) or \"little\"",
        ),
        (
            "quantity = \"voltage_l1\"\nfunction = = 4".to_owned(),
            "9: not TOML: extra `=`, expected nothing; correct the syntax",
        ),
    ];
    for (point, expected) in cases {
        assert_eq!(with_point(&point), [expected], "{point}");
    }
}

#[test]
fn points_that_collide_are_named() {
    let point = |name: &str, address: u16, more: &str| {
        format!("[[point]]\n{name}\nfunction = 3\naddress = {address}\n{more}\nunit = \"1\"\n")
    };
    let status = "quantity = \"status_word\"";
    let own = "vendor = \"own\"";
    let two = |a: String, b: String| check(&format!("{HEAD}{a}{b}"));
    let u32_type = "type = \"u32\"";
    assert_eq!(
        two(point(status, 0, u32_type), point(own, 1, "type = \"u16\"")),
        ["13: own overlaps status_word; correct `address` or `type`; only bit fields of one number share registers"]
    );
    assert_eq!(
        two(point(own, 0, u32_type), point(own, 2, u32_type)),
        ["13: own is given twice; keep one of the points"]
    );
    let bit = |offset: u8| format!("type = \"u16\"\nbit = {offset}");
    assert_eq!(
        two(point(status, 0, &bit(0)), point(own, 0, &bit(1))),
        Vec::<String>::new()
    );
    assert_eq!(two(point(status, 0, &bit(1)), point(own, 0, &bit(1))).len(), 1);
}

#[test]
fn faults_of_limits_head_and_exchange_are_found_in_one_go() {
    let text = "vendor = \"V\"\nphases = 2\n[serial]\nbaud = 9600\nparity = \"evn\"\n[limits]\nmax_registers = 126\n\
                [[point]]\nquantity = \"voltage_l1\"\nfunction = 3\naddress = 12\ntype = \"u16\"\nscale = 0.1\nunit = \"V\"\n\
                [[exchange]]\nframes = [[\"0103000C00014409\", \"01030209632BAD\"]]\nexpect = { voltage_l1 = 240.3 }\n";
    assert_eq!(
        check(text),
        [
            "1: `model` is missing; add `model = …`",
            "2: `phases` is 2; use 1 or 3",
            "5: unknown parity `evn`; did you mean `even`?",
            "7: `max_registers` is out of range; use 1 to 125",
            "15: answer 1 of the exchange is not the answer of its request: crc on the wire is AD2B, computed 3DFE (low byte first on the wire); correct the point or the exchange",
        ]
    );
    let right = text
        .replace("phases = 2", "model = \"M\"\nphases = 1")
        .replace("evn", "even")
        .replace("126", "20")
        .replace("2BAD", "FE3D");
    assert_eq!(check(&right), Vec::<String>::new());
    assert_eq!(
        check(&right.replace("0.1\n", "1\n")),
        ["16: voltage_l1 decodes to Decimal(2403), expected is 240.3; correct the point or the exchange"]
    );
}

#[test]
fn misplaced_and_unreadable_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("absent");
    assert_eq!(check_folder(&missing).len(), 1);
    std::fs::write(folder.path().join("stray.toml"), "").unwrap();
    std::fs::create_dir(folder.path().join("modbus")).unwrap();
    let binary: PathBuf = folder.path().join("modbus/binary.toml");
    std::fs::write(&binary, [0xFF, 0xFE]).unwrap();
    std::fs::write(folder.path().join("modbus/Bad Name.toml"), HEAD).unwrap();
    let faults: Vec<String> = check_folder(folder.path())
        .iter()
        .map(|fault| fault.what.clone())
        .collect();
    assert_eq!(faults.len(), 4, "{faults:?}");
    assert!(faults.iter().any(|what| what.contains("cannot be a model's name")));
    assert!(faults.iter().any(|what| what.contains("there is no point")));
    assert!(faults.iter().any(|what| what.contains("cannot be read")));
    assert!(
        faults
            .iter()
            .any(|what| what.contains("is not where models are looked for"))
    );
}
