"""A PostgreSQL cluster of the drills' own: it can be killed, hung, taken away and put on a small disk."""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

from disk import SmallDisk
from headend import free_port


def programs():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(Path(path).parent.name))
    if found:
        return Path(found[-1])
    at = shutil.which("postgres")
    if not at:
        raise RuntimeError("no PostgreSQL programs on this host: run scripts/install.sh test")
    return Path(at).resolve().parent


class Cluster:
    """initdb's defaults, so fsync is on: what it says is committed has to outlive kill -9."""

    def __init__(self, folder, settings=()):
        self.bin, self.folder, self.port = programs(), Path(folder), free_port()
        self.settings = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}",
                         "max_connections=60", *settings]
        self.user, self.disk = {}, None
        if os.getuid() == 0:
            # PostgreSQL does not run as root
            who = pwd.getpwnam("postgres")
            self.user = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
            os.chown(self.folder, who.pw_uid, who.pw_gid)
        self.data = self.folder / "data"
        self.log = open(self.folder / "log", "ab")
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        self.process = None

    def run(self, program, *arguments):
        done = subprocess.run([self.bin / program, *arguments], stdout=self.log, stderr=self.log, cwd=self.folder, **self.user)
        if done.returncode != 0:
            raise RuntimeError(f"{program}: exit {done.returncode}, see {self.folder / 'log'}")

    def small_disk(self, mount_point):
        """Puts what is made with the words that this returns on a small file system of its own; its log stays where it is."""
        mount_point.mkdir()
        # a long drill stores more than fits on the least of disks: it would stay full with nobody's doing
        self.disk = SmallDisk(mount_point.parent, mount_point, 512)
        place = mount_point / "tables"
        place.mkdir()
        if self.user:
            os.chown(place, self.user["user"], self.user["group"])
        self.sql(f"CREATE TABLESPACE small LOCATION '{place}'", database="postgres")
        return "TABLESPACE small"

    def url(self, database="drill"):
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def start(self, wait_s=120):
        """Returns when it takes connections; crash recovery is part of that."""
        settings = [part for setting in self.settings for part in ("-c", setting)]
        deadline = time.monotonic() + wait_s
        while True:
            self.process = subprocess.Popen([self.bin / "postgres", "-D", str(self.data), *settings], stdout=self.log,
                                            stderr=self.log, cwd=self.folder, start_new_session=True, **self.user)
            while time.monotonic() < deadline and self.process.poll() is None:
                if self.sql("SELECT 1", database="postgres", check=False) is not None:
                    return
                time.sleep(0.1)
            # children of a killed postmaster need a moment to notice; it refuses to start beside them
            if time.monotonic() > deadline:
                raise RuntimeError(f"the cluster does not start, see {self.folder / 'log'}")
            time.sleep(0.3)

    def sql(self, statement, database="drill", check=True):
        done = subprocess.run([self.bin / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database,
                               "-XAtq", "-c", statement], capture_output=True, text=True)
        if done.returncode != 0:
            if check:
                raise RuntimeError(f"{statement}: {done.stderr}")
            return None
        return done.stdout.strip()

    def kill(self):
        """kill -9 of the postmaster; its children follow by themselves."""
        self.process.kill()
        self.process.wait()

    def crash(self):
        """kill -9 of one backend: PostgreSQL ends all sessions and recovers from its log."""
        pid = self.sql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'polyphase%' ORDER BY random() LIMIT 1",
                       check=False)
        if not pid:
            return False
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def family(self):
        """The postmaster and its children."""
        pids = [self.process.pid]
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        if children.exists():
            pids += [int(pid) for pid in children.read_text().split()]
        return pids

    def states(self):
        """The state of each of its processes, as the kernel has it: R running, S asleep, D waiting for a disk, T stopped."""
        found = {}
        for pid in self.family():
            try:
                name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
                found[pid] = rest.split()[0] + " " + Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0][:60]
            except OSError:
                pass
        return found

    def hang(self):
        """Every process stops where it stands: connections stay, answers do not come."""
        self.hung = self.family()
        for pid in self.hung:
            os.kill(pid, signal.SIGSTOP)

    def resume(self):
        for pid in self.hung:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass

    def stop(self):
        if self.process and self.process.poll() is None:
            for pid in self.family():
                os.kill(pid, signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
