"""A machine with systemd: a box with this machine's files, and none of its services."""

import secrets
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.rig import box
from tests.rig.box import ENVIRONMENT, Box

SYSTEMD = Path("/lib/systemd/systemd")
# systemd keeps its services in cgroups: it gets a subtree of this machine's.
BRANCH = """
mount -t cgroup2 cgroup2 /mnt
mkdir -p /mnt/{name}
echo 0 > /mnt/{name}/cgroup.procs
umount /mnt
exec unshare {namespaces} --cgroup --fork --kill-child bash -c "$0"
"""
PRUNE = "mount -t cgroup2 cgroup2 /mnt; find /mnt/{name} -depth -type d -exec rmdir {{}} +"
TRIED = "mount -t cgroup2 cgroup2 /mnt; mkdir /mnt/{name}; rmdir /mnt/{name}"
# systemd becomes the first process of a box, without the right to change the kernel.
BEFORE, _, _ = box.FIRST_PROCESS.partition("pivot_root")
FIRST_PROCESS = """
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -o bind,ro proc/sys proc/sys
{mounts}
pivot_root . mnt
umount -l /mnt
hostname {host_name}
ip link set lo up
rm -rf /etc/systemd/system/*
echo "$pid"
export container=box
exec setpriv --bounding-set -sys_module,-sys_time,-sys_boot,-sys_rawio,-syslog \\
  {systemd} --unit=basic.target --log-target=journal --show-status=0 >/dev/null
"""


class Machine(Box):
    """`mounts`: directories of this machine by their path inside. Writes to them are shared."""

    packages = {str(SYSTEMD): "systemd", "/usr/bin/setpriv": "util-linux"}

    def __init__(self, mounts: dict[str, Path]):
        self._mounts = mounts

    def __enter__(self):
        self._name = f"machine-{secrets.token_hex(4)}"
        if reason := box.why_not() or self._at_cgroups(TRIED):
            pytest.skip(reason)
        lines = [
            f"mkdir -p .{inside}; mount --bind {shlex.quote(str(outside))} .{inside}"
            for inside, outside in self._mounts.items()
        ]
        first = BEFORE + FIRST_PROCESS.format(
            mounts="\n".join(lines), host_name=box.HOST_NAME, systemd=SYSTEMD
        )
        branch = BRANCH.format(name=self._name, namespaces=" ".join(box.NAMESPACES))
        self._first = subprocess.Popen(
            # It ends when we do, however we end.
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "sh", "-ec", branch, first],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        try:
            self.pid = int(self._first.stdout.readline())
            eventually(lambda: self.is_active("basic.target"))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        super().stop()
        eventually(lambda: not self._at_cgroups(PRUNE))

    def _at_cgroups(self, script: str) -> str:
        """Run a script where cgroups can be mounted. Return why it failed, or ""."""
        command = ["unshare", "--mount", "sh", "-ec", script.format(name=self._name)]
        done = subprocess.run(command, capture_output=True, text=True)
        return "" if done.returncode == 0 else f"needs cgroups: {done.stderr.strip()}"

    def state(self, unit: str) -> str:
        return self.run("systemctl", "is-active", unit, check=False).stdout.decode().strip()

    def is_active(self, unit: str) -> bool:
        return self.state(unit) == "active"
