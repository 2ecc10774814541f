//! The house rules, enforced: which room may use which, and which outside library belongs to which room.
//! The table is that of `docs/ARCHITECTURE.md`; a change of it is a decision in `docs/decisions/`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics has failed, which is what it is for"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use syn::visit::Visit;

/// Room → the rooms that it may use besides itself.
fn rooms() -> BTreeMap<&'static str, &'static [&'static str]> {
    const FLOOR_2: &[&str] = &["base", "domain", "protocol"];
    const FLOOR_4: &[&str] = &["base", "telemetry", "domain", "port"];
    BTreeMap::from([
        ("base", &[][..]),
        ("telemetry", &["base"][..]),
        ("domain", &["base"][..]),
        ("protocol", &["base"][..]),
        ("device", FLOOR_2),
        ("exchange", FLOOR_2),
        (
            "port",
            &["base", "telemetry", "domain", "protocol", "device", "exchange"][..],
        ),
        ("store", FLOOR_4),
        ("spool", FLOOR_4),
        (
            "net",
            &["base", "telemetry", "domain", "protocol", "exchange", "port"][..],
        ),
        ("outbound", FLOOR_4),
        (
            "actor",
            &["base", "telemetry", "domain", "protocol", "device", "exchange", "port"][..],
        ),
        ("api", FLOOR_4),
        ("report", FLOOR_4),
        ("config", &["base", "telemetry"][..]),
        ("simulator", &["base", "domain", "protocol", "device"][..]),
    ])
}

/// Outside library → the rooms (and top files) that may name it.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("actix", &["actor", "app"]),
    ("actix_web", &["api", "app"]),
    (
        "tokio",
        &[
            "spool",
            "store",
            "net",
            "outbound",
            "actor",
            "api",
            "report",
            "app",
            "cli",
            "simulator",
        ],
    ),
    ("tokio_modbus", &["net", "simulator"]),
    ("tokio_serial", &["net", "cli"]),
    ("prometheus", &["telemetry"]),
    ("lettre", &["outbound"]),
    ("csv", &["report"]),
    ("csv_core", &["report"]),
    ("quick_xml", &["report"]),
    ("zip", &["report"]),
    ("encoding_rs", &["report"]),
    ("flate2", &["store"]),
    ("rust_xlsxwriter", &["report"]),
    ("reqwest", &["outbound"]),
];

/// The pure rooms: no clock, no I/O, no async, no logging.
const PURE: &[&str] = &["domain", "protocol", "device", "exchange"];

#[derive(Default)]
struct Paths {
    found: Vec<Vec<String>>,
}

impl Paths {
    fn tree(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let mut path = prefix.to_vec();
        match tree {
            syn::UseTree::Path(next) => {
                path.push(next.ident.to_string());
                self.tree(&path, &next.tree);
            }
            syn::UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.found.push(path);
            }
            syn::UseTree::Rename(name) => {
                path.push(name.ident.to_string());
                self.found.push(path);
            }
            syn::UseTree::Glob(_) => self.found.push(path),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(&path, item)),
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.found
                .push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Every source file with its room, but for files that are test modules (`tests.rs`, `*_tests.rs`).
fn source() -> Vec<(String, PathBuf, syn::File)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    paths.retain(|path| {
        !path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .is_some_and(|stem| stem.ends_with("tests"))
    });
    paths
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(&root).unwrap();
            let room = inside.components().next().unwrap().as_os_str().to_str().unwrap();
            let room = room.trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (room, path, parsed)
        })
        .collect()
}

fn paths_of(file: &syn::File) -> Vec<Vec<String>> {
    let mut paths = Paths::default();
    paths.visit_file(file);
    paths.found
}

#[test]
fn rooms_use_lower_floors_only() {
    let rooms = rooms();
    let mut breaches = Vec::new();
    let mut seen = 0;
    for (room, path, file) in source() {
        let Some(allowed) = rooms.get(room.as_str()) else {
            assert!(
                ["app", "cli", "main", "lib"].contains(&room.as_str()),
                "{} is in no room of the plan; add it to the table and to docs/ARCHITECTURE.md",
                path.display()
            );
            continue;
        };
        for used in paths_of(&file) {
            let [first, second, ..] = used.as_slice() else { continue };
            if first != "crate" {
                continue;
            }
            seen += 1;
            if *second != room && !allowed.contains(&second.as_str()) {
                breaches.push(format!("{}: {room} may not use crate::{second}", path.display()));
            }
        }
    }
    assert!(seen > 20, "the reader of paths found only {seen}; it is broken");
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn libraries_stay_in_their_rooms() {
    let mut breaches = Vec::new();
    for (room, path, file) in source() {
        if room == "main" || room == "lib" {
            continue;
        }
        for used in paths_of(&file) {
            let Some(first) = used.first() else { continue };
            for (library, allowed) in LIBRARIES {
                if first == library && !allowed.contains(&room.as_str()) {
                    breaches.push(format!("{}: {library} does not belong in {room}", path.display()));
                }
            }
            // an address is a value; a socket is not
            let address = used
                .iter()
                .any(|part| ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr"].contains(&part.as_str()));
            let sockets = used.starts_with(&["std".into(), "net".into()]) && !address;
            let logs_or_waits = first == "tracing" || first == "tokio" || sockets;
            let reads_files = used.starts_with(&["std".into(), "fs".into()]) && room != "device";
            if PURE.contains(&room.as_str()) && (logs_or_waits || reads_files) {
                breaches.push(format!(
                    "{}: {room} is pure, {} is not",
                    path.display(),
                    used.join("::")
                ));
            }
        }
    }
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> = source()
        .into_iter()
        .filter(|(_, _, file)| !file.attrs.iter().any(|attribute| attribute.path().is_ident("doc")))
        .map(|(_, path, _)| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "files without a //! line:\n{}", silent.join("\n"));
}

/// Files that name one of these last path segments, or call a function of that name.
fn who_names(names: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found: Vec<String> = source()
        .into_iter()
        .filter(|(_, _, file)| {
            paths_of(file)
                .iter()
                .any(|path| path.iter().any(|segment| names.contains(&segment.as_str())))
        })
        .map(|(_, path, _)| path.strip_prefix(&root).unwrap().display().to_string())
        .collect();
    found.sort();
    found
}

/// Promise 7: only the desk mints permits, and only `device/relay` makes frames that change something in a meter.
#[test]
fn a_relay_frame_costs_a_permit_of_the_desk() {
    let minters = who_names(&["Mint"]);
    assert_eq!(
        minters,
        ["actor/control_desk/desk.rs"],
        "somebody else names the mint of permits"
    );
    // the permit cannot be made otherwise: neither copied nor built from parts
    let permit =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain/command/permit.rs")).unwrap();
    let declared = permit.split("pub struct TripPermit").next().unwrap();
    let attribute = declared.rsplit("#[derive(").next().unwrap();
    assert!(
        attribute.starts_with("Debug)]"),
        "a permit can be more than seen: {attribute}"
    );
    assert!(
        !permit.contains("pub command: CommandId,\n    target"),
        "a permit has open fields"
    );

    // bodies of Modbus writes: made by device/relay, read by the simulator and by the client of Modbus TCP
    let writers = who_names(&["WriteCoil", "WriteCoils", "WriteRegister", "WriteRegisters"]);
    for file in &writers {
        let may = ["protocol/modbus/", "device/relay/", "simulator/", "net/modbus_tcp.rs"];
        assert!(
            may.iter().any(|place| file.starts_with(place)),
            "{file} makes frames that change something"
        );
    }
    assert!(
        writers.iter().any(|file| file == "device/relay/modbus.rs"),
        "the reader of paths is broken"
    );
}
