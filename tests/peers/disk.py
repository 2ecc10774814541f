"""A small file system for the spool or the database: ext4 on a loop device, else tmpfs; both need root."""

import os
import subprocess
from pathlib import Path

SIZE_MB = 64


class SmallDisk:
    def __init__(self, folder, mount_point, size_mb=SIZE_MB):
        self.mount_point = Path(mount_point)
        self.filler = self.mount_point / "filler"
        image = Path(folder) / f"{self.mount_point.name}.img"
        with open(image, "wb") as file:
            # whole, so that the host has its space for certain
            os.posix_fallocate(file.fileno(), 0, size_mb << 20)
        try:
            # no blocks kept for root, who may run the server
            self.call("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
            self.call("mount", "-o", "loop", str(image), str(self.mount_point))
            self.kind = f"ext4, {size_mb} MB, loop-mounted"
        except (OSError, RuntimeError) as first:
            try:
                self.call("mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(self.mount_point))
            except (OSError, RuntimeError) as second:
                raise SystemExit(f"a small disk cannot be made here ({first}; {second}): it needs root") from None
            self.kind = f"tmpfs, {size_mb} MB (no loop device: {first})"

    @staticmethod
    def call(*command):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")

    def free_bytes(self):
        at = os.statvfs(self.mount_point)
        return at.f_bavail * at.f_frsize

    def fill(self, leave_bytes=0):
        """Takes all space but `leave_bytes`."""
        with open(self.filler, "ab") as file:
            try:
                for size in (65536, 4096):
                    while self.free_bytes() >= leave_bytes + size:
                        file.write(b"\xA5" * size)
                        file.flush()
            except OSError:
                pass

    def free(self):
        self.filler.unlink(missing_ok=True)

    def remove(self):
        self.call("umount", str(self.mount_point))
