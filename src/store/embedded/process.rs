//! What runs in a cluster's folder: the postmaster's pid file, and who holds the folder.

use std::path::{Path, PathBuf};

/// The lines of `postmaster.pid` that we need: PostgreSQL's src/include/utils/pidfile.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: i32,
    pub(super) port: Option<u16>,
}

/// Reads `postmaster.pid`; none when there is none or it is empty.
pub(super) fn pid_file(cluster: &Path) -> Option<PidFile> {
    parse(&std::fs::read_to_string(cluster.join("postmaster.pid")).ok()?)
}

fn parse(text: &str) -> Option<PidFile> {
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok().filter(|pid| *pid > 0)?;
    // data folder, start time, port
    let port = lines.nth(2).and_then(|line| line.trim().parse().ok());
    Some(PidFile { pid, port })
}

/// The processes that work in the cluster's folder: the postmaster and its children go there. Empty where the system
/// has no `/proc`.
pub(super) fn holders(cluster: &Path) -> Vec<i32> {
    let real = std::fs::canonicalize(cluster).unwrap_or_else(|_| cluster.to_path_buf());
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            (working_folder(pid)? == real && is_postgres(pid)).then_some(pid)
        })
        .collect()
}

/// Whether `pid` is a PostgreSQL process of this cluster, and not a stranger that got its number after a reboot.
pub(super) fn is_ours(pid: i32, cluster: &Path) -> bool {
    if !Path::new("/proc/self").exists() {
        return rustix::process::Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
    }
    holders(cluster).contains(&pid)
}

fn working_folder(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

fn is_postgres(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_read_as_postgresql_writes_it() {
        let text = "4242\n/data/postgres/cluster\n1763720000\n55432\n\n127.0.0.1\n  12345 0\nready   \n";
        assert_eq!(
            parse(text),
            Some(PidFile {
                pid: 4242,
                port: Some(55432)
            })
        );
        assert_eq!(parse(""), None);
        assert_eq!(parse("-3\n"), None);
        assert_eq!(parse("7\n/data\n"), Some(PidFile { pid: 7, port: None }));
    }

    #[test]
    fn this_process_is_no_postmaster() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(!is_ours(pid, &std::env::current_dir().unwrap()));
    }
}
