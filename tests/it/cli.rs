//! The command line from outside: the built binary, its exit codes, what it prints and where.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn finished(output: &Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The program without settings of whoever runs the tests.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polyphase"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("POLYPHASE__")) {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str], input: &str) -> Ran {
    let mut child = program()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // a command that reads nothing may have ended already
    let _unread = child.stdin.take().unwrap().write_all(input.as_bytes());
    finished(&child.wait_with_output().unwrap())
}

const COMMANDS: [&[&str]; 18] = [
    &[],
    &["serve"],
    &["demo"],
    &["simulate"],
    &["virtual-dtu"],
    &["decode"],
    &["migrate"],
    &["check-config"],
    &["user"],
    &["user", "add"],
    &["user", "reset-second-factor"],
    &["backup"],
    &["restore"],
    &["api-key"],
    &["api-key", "create"],
    &["audit"],
    &["audit", "verify"],
    &["grafana-login"],
];

/// SIGTERM, without a program that a bare host may lack.
fn ask_to_end(child: &std::process::Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

#[test]
fn everything_has_help() {
    for command in COMMANDS {
        let ran = run(&[command, &["--help"]].concat(), "");
        assert_eq!(ran.code, 0, "{command:?}: {}", ran.err);
        let usage = format!("Usage: polyphase {}", command.join(" "));
        assert!(ran.out.contains(usage.trim_end()), "{command:?}: {}", ran.out);
        assert_eq!(ran.err, "", "help is no error");
    }
    let ran = run(&["--version"], "");
    assert_eq!(
        (ran.code, ran.out.trim()),
        (0, concat!("polyphase ", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn wrong_usage_is_2_and_says_what_is_right() {
    let cases: [(&[&str], &str); 11] = [
        (&[], "Usage: polyphase <COMMAND>"),
        (&["serv"], "'serve'"),
        (&["serve", "--port", "1"], "--port"),
        (&["migrate", "now"], "now"),
        (
            &["user", "add", "ann@example.org", "--role", "boss", "--password-stdin"],
            "operator, billing, viewer",
        ),
        (
            &["user", "add", "ann@example.org", "--role", "admin"],
            "--password-stdin",
        ),
        (&["api-key", "create", "--name", "x"], "--user"),
        (
            &["decode", "--protocol", "modbus", "01"],
            "known are modbus-rtu, modbus-tcp",
        ),
        (&["decode", "--model", "nobody", "01"], "eastron_sdm630"),
        (&["virtual-dtu", "--connect", "127.0.0.1:1", "--sn", "A1"], "--serial"),
        (
            &["simulate", "--connect", "127.0.0.1:1", "--models", "nobody"],
            "nobody",
        ),
    ];
    for (arguments, says) in cases {
        let ran = run(arguments, "a long pass phrase\n");
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.err);
        assert!(
            ran.err.contains(says),
            "{arguments:?} does not say {says:?}: {}",
            ran.err
        );
        assert_eq!(ran.out, "", "{arguments:?}");
    }
}

/// Writes a configuration and checks it; the answer with the file's path as FILE.
fn check(text: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.toml");
    std::fs::write(&path, text).unwrap();
    let mut ran = run(&["check-config", "--config", path.to_str().unwrap()], "");
    ran.err = ran.err.replace(path.to_str().unwrap(), "FILE");
    ran
}

#[test]
fn broken_configurations_are_refused_with_place_and_advice() {
    let cases: [(&str, &[&str]); 22] = [
        ("[http\n", &["FILE:1: not TOML"]),
        (
            "[http]\nbind = \"127.0.0.1:1\"\nbind = \"127.0.0.1:2\"\n",
            &["FILE:3: not TOML: duplicate key"],
        ),
        ("[htpt]\nbind = 1\n", &["FILE:1: htpt", "sections are access"]),
        ("[http]\n\nworkres = 3\n", &["FILE:3: http.workres", "keys are bind"]),
        (
            "[http]\nbind = \"localhost\"\n",
            &["FILE:2: http.bind", "such as \"127.0.0.1:8080\""],
        ),
        (
            "[http]\nbind = \"0.0.0.0:8080\"\n",
            &["FILE:2: http.bind", "http.insecure = true"],
        ),
        (
            "[http]\ntls_cert = \"/nowhere.pem\"\n",
            &["FILE:2: http.tls_cert", "http.tls_key", "no file /nowhere.pem"],
        ),
        (
            "[limits]\nreads_max = \"x\"\n",
            &["FILE:2: limits.reads_max", "needs a whole number"],
        ),
        (
            "[limits]\nreads_max = -1\n",
            &["FILE:2: limits.reads_max", "must not be negative"],
        ),
        (
            "[limits]\n# small\nspool_bytes = 12\n",
            &["FILE:3: limits.spool_bytes", "outside 16777216 to"],
        ),
        (
            "[retention]\nreadings_days = 0\n",
            &["FILE:2: retention.readings_days", "outside 1 to"],
        ),
        (
            "[control]\ndisconnects_dtu_percent = 130\n",
            &["FILE:2: control.disconnects_dtu_percent", "130 is more than all"],
        ),
        (
            "[log]\nformat = \"yaml\"\n",
            &["FILE:2: log.format", "\"text\" or \"json\""],
        ),
        (
            "[log]\nfilter = \"polyphase=loud\"\n",
            &["FILE:2: log.filter", "try \"info\""],
        ),
        (
            "[access]\nclaims = \"all\"\n",
            &["FILE:2: access.claims", "\"code\", \"platform\" or \"open\""],
        ),
        (
            "[database]\nurl = \"mysql://h/d\"\n",
            &["FILE:2: database.url", "must begin with postgres://"],
        ),
        (
            "[data]\nmeter_models = \"/nowhere\"\n",
            &["FILE:2: data.meter_models", "no folder /nowhere"],
        ),
        ("listener = []\n", &["FILE:1: listener", "at least one [[listener]]"]),
        (
            "[listener]\nbind = \"0.0.0.0:8899\"\n",
            &["FILE:1: listener", "[[listener]] with two brackets"],
        ),
        (
            "[[listener]]\nbind = \"0.0.0.0:1\"\n[[listener]]\nbind = \"0.0.0.0:2\"\nprofile = \"tcp\"\n",
            &["FILE:5: listener[1].profile", "known are auto, ascii"],
        ),
        (
            "[[listener]]\nbind = \"0.0.0.0:1\"\n[[listener]]\nbind = \"127.0.0.1:1\"\n",
            &["FILE:4: listener[1].bind", "give each its own port"],
        ),
        (
            "[http]\nbind = \"127.0.0.1:8899\"\n[[listener]]\nbind = \"0.0.0.0:8899\"\n",
            &["FILE:4: listener[0].bind", "give it another port"],
        ),
    ];
    for (text, says) in cases {
        let ran = check(text);
        assert_eq!(ran.code, 2, "{text}: {}", ran.err);
        for part in says {
            assert!(ran.err.contains(part), "{text} does not say {part:?}: {}", ran.err);
        }
    }
    let secret = check("[database]\nurl = \"mysql://u:hush@h/d\"\n");
    assert!(!secret.err.contains("hush"), "{}", secret.err);
}

#[test]
fn all_faults_are_told_at_once_and_a_sound_configuration_passes() {
    let ran = check("[http]\nworkres = 1\nworkers = \"two\"\n[limit]\n[log]\nformat = 1\n");
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines.len(), 5, "{}", ran.err);
    assert!(lines[4].contains("4 fault(s)"), "{}", ran.err);
    let ran = check("[http]\nworkers = 0\n[limits]\nreads_max = 0\naccept_per_s = 0\n");
    assert!(ran.err.contains("3 fault(s)"), "{}", ran.err);
    assert_eq!(check("").code, 0);
    assert_eq!(check(include_str!("../../config/default.toml")).code, 0);
    let ran = run(&["check-config", "--config", "/nowhere/own.toml"], "");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("/nowhere/own.toml: cannot be read"), "{}", ran.err);
}

#[test]
fn the_environment_is_named_when_it_is_at_fault() {
    for (name, value, says) in [
        ("POLYPHASE__HTTP__PORT", "1", "has no key port; keys are bind"),
        ("POLYPHASE__HTTP", "1", "POLYPHASE__SECTION__KEY"),
        ("POLYPHASE__HTTP__BIND", "here", "http.bind"),
        ("POLYPHASE__HTTP__WORKERS", "0", "outside 1 to 64"),
        ("POLYPHASE__DATABASE__URL_FILE", "/nowhere", "/nowhere: cannot be read"),
    ] {
        let ran = finished(&program().arg("check-config").env(name, value).output().unwrap());
        assert_eq!(ran.code, 2, "{name}: {}", ran.err);
        let place = format!("environment variable {name}: ");
        assert!(
            ran.err.contains(&place) && ran.err.contains(says),
            "{name}: {}",
            ran.err
        );
    }
}

#[test]
fn broken_meter_models_are_refused_with_line_and_advice() {
    let sound = include_str!("../../config/meter-models/modbus/eastron_sdm120.toml");
    let cases = [
        (
            "own_meter",
            sound.replace("phases = 1", "phases = 2"),
            "own_meter.toml:5: `phases` is 2; use 1 or 3",
        ),
        (
            "own_meter",
            sound.replace("\"voltage_l1\", a", "\"voltage_l9\", a"),
            "did you mean `voltage_l1`?",
        ),
        (
            "own_meter",
            sound.replace("parity = \"none\"", "parity = \"evn\""),
            "did you mean `even`?",
        ),
        (
            "own_meter",
            sound.replace("voltage_l1 = \"230.2\"", "voltage_l1 = \"230.3\""),
            "expected is 230.3",
        ),
        (
            "own_meter",
            sound.replace("[serial]", "[serial"),
            "own_meter.toml:28: not TOML",
        ),
        ("Own-Meter", sound.to_owned(), "cannot be a model's name"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("own.toml");
    let models = folder.path().join("models");
    std::fs::write(&config, format!("[data]\nmeter_models = {models:?}\n")).unwrap();
    for (name, text, says) in cases {
        std::fs::create_dir_all(models.join("modbus")).unwrap();
        std::fs::write(models.join("modbus").join(format!("{name}.toml")), text).unwrap();
        // a server with such a model does not start, and touches no database before it says so
        for command in ["check-config", "serve"] {
            let ran = run(&[command, "--config", config.to_str().unwrap()], "");
            assert_eq!(ran.code, 2, "{says}: {}", ran.err);
            assert!(ran.err.contains(says), "{command} does not say {says:?}: {}", ran.err);
        }
        std::fs::remove_dir_all(&models).unwrap();
    }
}

fn frames(ran: &Ran) -> Vec<serde_json::Value> {
    ran.out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn decode_explains_frames_and_tells_what_is_none() {
    let ran = run(&["decode", "0103000000 02C40B", "010304000006B279E6", "018302C0F1"], "");
    let all = frames(&ran);
    assert_eq!((ran.code, all.len()), (0, 3), "{}", ran.err);
    assert_eq!(
        (&all[0]["direction"], &all[0]["function"]),
        (&"request".into(), &3.into())
    );
    assert_eq!(
        (&all[1]["direction"], &all[1]["address"]),
        (&"response".into(), &"1".into())
    );
    assert_eq!(
        (&all[1]["items"][1]["id"], &all[1]["items"][1]["value"]),
        (&"0x0001".into(), &"1714".into())
    );
    assert_eq!(
        (&all[2]["refusal"]["code"], &all[2]["checksum_ok"]),
        (&2.into(), &true.into())
    );

    let tcp = run(&["decode", "000100000006010300000002"], "");
    assert_eq!((tcp.code, &frames(&tcp)[0]["protocol"]), (0, &"modbus-tcp".into()));

    let ran = run(&["decode"], "0103000000 02C40B\n\n010304000006B279E7\n");
    let all = frames(&ran);
    assert_eq!((ran.code, all.len()), (1, 2));
    assert!(all[1]["error"].as_str().unwrap().contains("crc"), "{}", ran.out);
    assert!(all[1]["offset"].is_u64());

    for broken in ["zz", "010", "FFFF", "0103"] {
        let ran = run(&["decode", broken], "");
        assert_eq!(ran.code, 1, "{broken}: {}", ran.out);
        let error = &frames(&ran)[0];
        assert!(
            error["error"].is_string() && error["offset"].is_u64(),
            "{broken}: {error}"
        );
    }

    let ran = run(&["decode", "--text", "010300000002C40B"], "");
    assert_eq!(ran.code, 0);
    assert!(
        ran.out.contains("request to 1") && !ran.out.contains('{'),
        "{}",
        ran.out
    );
    assert_eq!(run(&["decode", "--text", "0103"], "").code, 1);
}

/// A configuration on its own folder and ports, with the embedded database.
struct Home {
    folder: tempfile::TempDir,
    http: u16,
    device: u16,
}

fn free_port() -> u16 {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap().port()
}

impl Home {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        // the embedded cluster of a server that is root runs as somebody else
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let home = Self {
            folder,
            http: free_port(),
            device: free_port(),
        };
        home.write("own.toml", home.http, home.device, "data");
        home
    }

    fn write(&self, name: &str, http: u16, device: u16, data: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let data = self.folder.path().join(data);
        let text = format!(
            "[data]\nfolder = {data:?}\n[http]\nbind = \"127.0.0.1:{http}\"\n[[listener]]\nbind = \"127.0.0.1:{device}\"\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("own.toml")
    }

    fn cli(&self, arguments: &[&str], input: &str) -> Ran {
        let config = self.config();
        run(&[arguments, &["--config", config.to_str().unwrap()]].concat(), input)
    }

    fn key(&self, email: &str) -> String {
        let made = self.cli(&["api-key", "create", "--user", email, "--name", "test"], "");
        assert_eq!((made.code, made.err.as_str()), (0, ""));
        let lines: Vec<&str> = made.out.lines().collect();
        assert!(
            lines.len() == 1 && lines[0].starts_with("ph_k_"),
            "the key stands alone: {}",
            made.out
        );
        lines[0].to_owned()
    }

    fn get(&self, path: &str, key: &str) -> Option<(u16, String)> {
        use std::io::Read as _;
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", self.http)).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).ok()?;
        let mut text = String::new();
        socket.read_to_string(&mut text).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        Some((status, text))
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("data/postgres/cluster/postmaster.pid")
    }
}

/// A server; ended with the test.
struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    fn start(home: &Home) -> Self {
        let log = home.folder.path().join("server.log");
        let file = std::fs::File::create(&log).unwrap();
        let child = program()
            .args(["serve", "--config", home.config().to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut server = Self { child, log };
        let begun = Instant::now();
        while home.get("/readyz", "").is_none_or(|(status, _)| status != 200) {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended with {ended:?}: {}", server.told());
            assert!(
                begun.elapsed() < Duration::from_secs(90),
                "not ready: {}",
                server.told()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    fn told(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn terminate(mut self) -> i32 {
        ask_to_end(&self.child);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("did not stop within 60 s: {}", self.told());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // gone already after an orderly end
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn a_virtual_dtu_says_what_it_cannot_reach_and_ends_in_order() {
    let mut child = program()
        .args([
            "virtual-dtu",
            "--connect",
            "127.0.0.1:1",
            "--sn",
            "VDTU0001",
            "--serial",
            "/dev/nowhere",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut told, &mut line).unwrap();
    assert!(line.contains("/dev/nowhere"), "{line}");
    ask_to_end(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let ran = run(
        &["simulate", "--connect", "127.0.0.1:1", "--dtus", "1", "--for-s", "1"],
        "",
    );
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("127.0.0.1:1"), "{}", ran.err);
}

fn refused(config: &Path, says: &str) {
    let ran = run(&["serve", "--config", config.to_str().unwrap()], "");
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains(says), "does not say {says:?}: {}", ran.err);
}

#[test]
fn first_access_and_life_of_a_server_on_the_embedded_database() {
    const PASSWORD: &str = "a long pass phrase\n";
    let home = Home::new();

    // stopped
    let migrated = home.cli(&["migrate"], "");
    assert_eq!(migrated.code, 0, "{}", migrated.err);
    // a script's log has what the command says, and the server's own steps for whoever asks for them
    assert_eq!(migrated.err, "the schema is up to date\n");
    let mut asked = program();
    asked.args(["migrate", "--config", home.config().to_str().unwrap()]);
    let asked = finished(&asked.env("POLYPHASE__LOG__FILTER", "info").output().unwrap());
    assert!(asked.code == 0 && asked.err.contains(" INFO "), "{}", asked.err);
    assert!(!home.pid_file().exists(), "a command leaves no database running");
    let nobody = home.cli(&["api-key", "create", "--user", "ann@example.org", "--name", "x"], "");
    assert_eq!((nobody.code, nobody.out.as_str()), (1, ""));
    assert!(nobody.err.contains("polyphase user add"), "{}", nobody.err);
    let add = |email: &str, password: &str| {
        let arguments = [
            "user",
            "add",
            email,
            "--role",
            "admin",
            "--account",
            "Works",
            "--password-stdin",
        ];
        home.cli(&arguments, password)
    };
    assert!(add("ann@example.org", "short\n").err.contains("at least 8 characters"));
    assert_eq!(add("ann@example.org", "").code, 1);
    let added = add("ann@example.org", PASSWORD);
    assert_eq!((added.code, added.out.as_str()), (0, ""), "{}", added.err);
    let again = add("ann@example.org", PASSWORD);
    assert!(again.code == 1 && again.err.contains("already"), "{}", again.err);
    let first = home.key("ann@example.org");

    // running, after a crash of the host: the pid file names a process that is gone
    std::fs::write(home.pid_file(), "4194305\n").unwrap();
    let server = Server::start(&home);
    assert_eq!(home.get("/api/v1/session", &first).unwrap().0, 200);
    assert_eq!(home.get("/api/v1/session", "ph_k_wrong").unwrap().0, 401);
    assert_eq!(add("bob@example.org", PASSWORD).code, 0);
    let second = home.key("bob@example.org");
    assert!(
        home.get("/api/v1/session", &second)
            .unwrap()
            .1
            .contains("bob@example.org")
    );

    // a second one cannot take ports or folder; it says so, and leaves no database behind
    let other = home.write("http.toml", home.http, free_port(), "other");
    refused(&other, &format!("cannot listen on 127.0.0.1:{}", home.http));
    refused(
        &home.write("device.toml", free_port(), home.device, "other"),
        "set `bind` in [[listener]]",
    );
    assert!(!home.folder.path().join("other").exists());
    refused(
        &home.write("folder.toml", free_port(), free_port(), "data"),
        "is in use by another process",
    );
    assert_eq!(home.get("/readyz", "").unwrap().0, 200, "the first one goes on");

    // an end in order and a quick start
    // the audit holds, with the server running and without; what was written down outside is looked at
    let verify = || home.cli(&["audit", "verify"], "");
    let ran = verify();
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.starts_with("audit holds: "), "{}", ran.out);
    assert_eq!(server.terminate(), 0);
    assert!(!home.pid_file().exists(), "the database stopped with the server");
    let ran = verify();
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(!ran.err.contains("there is no checkpoint"), "{}", ran.err);
    let checkpoints = home.folder.path().join("data/audit/checkpoints.jsonl");
    let kept = std::fs::read_to_string(&checkpoints).unwrap();
    std::fs::write(
        &checkpoints,
        format!("{kept}{{\"id\":900000,\"hash\":\"ab\",\"at\":\"2026-01-01T00:00:00Z\"}}\n"),
    )
    .unwrap();
    let ran = verify();
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(
        ran.out.starts_with("audit does not hold: the chain ends at entry "),
        "{}",
        ran.out
    );
    std::fs::write(&checkpoints, kept).unwrap();
    let server = Server::start(&home);
    for key in [&first, &second] {
        assert_eq!(home.get("/api/v1/session", key).unwrap().0, 200);
    }
    assert_eq!(server.terminate(), 0);
}
