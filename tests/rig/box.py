"""A machine of its own inside this one, for real daemons that must not touch the real one.

Mounts, processes, host name, IPC and network are namespaces. The files are this machine's, but
writes go to memory. All of it ends with the process that started it, however that ends.
"""

import io
import os
import shlex
import subprocess
import tarfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pytest

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"}
HOST_NAME = "box.test"

OVERLAY = """
mount -t tmpfs -o mode=755 rig /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work rig /mnt/root
"""
# The last line waits until our end of its input is closed, which happens however we end. With the
# first process of the namespace, the kernel kills all others in it.
FIRST_PROCESS = f"""
set -e
read -r pid _ < /proc/self/stat
{OVERLAY}
cd /mnt/root
mount -t proc proc proc
mount -t tmpfs -o mode=755 dev dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
pivot_root . mnt
umount -l /mnt
hostname {HOST_NAME}
exec 3>&1 >/dev/null
echo "$pid" >&3
exec 3>&-
while read -r _; do :; done
"""
NAMESPACES = ["--mount", "--pid", "--uts", "--ipc", "--net"]


class BoxError(Exception):
    """A command failed inside; the text has its output."""


@dataclass(frozen=True)
class Node:
    """A file to be written: a directory if it has no content, a symlink if it has a target."""

    content: bytes | None = None
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    target: str | None = None


def file(text: str | bytes, mode: int = 0o644, uid: int = 0, gid: int = 0) -> Node:
    return Node(text.encode() if isinstance(text, str) else text, mode, uid, gid)


def directory(mode: int = 0o755, uid: int = 0, gid: int = 0) -> Node:
    return Node(None, mode, uid, gid)


def link(target: str) -> Node:
    return Node(target=target)


@cache
def why_not() -> str:
    """What this machine lacks for a box, or ""."""
    if os.geteuid() != 0:
        return "needs root"
    command = ["unshare", *NAMESPACES, "--fork", "sh", "-ec", OVERLAY]
    tried = subprocess.run(command, capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"needs namespaces and overlay: {tried.stderr.strip()}"


class Box:
    """`with Box() as box:` runs a box, which we reach at `box.address`."""

    packages = {"/usr/sbin/ip": "iproute2", "/usr/bin/pkill": "procps"}

    def __enter__(self):
        if reason := why_not():
            pytest.skip(reason)
        self._first = subprocess.Popen(
            ["unshare", *NAMESPACES, "--fork", "--kill-child", "bash", "-c", FIRST_PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        try:
            self.pid = int(self._first.stdout.readline())
            # No other running box has this number.
            self.number = self._connect()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self) -> None:
        self._first.kill()
        self._first.wait()
        self._first.stdin.close()
        self._first.stdout.close()

    @property
    def address(self) -> str:
        return f"10.77.{self.number}.2"

    def new_directory(self) -> Path:
        """Make a directory inside, which goes with the box. Return its path from outside."""
        return Path(f"/proc/{self.pid}/root" + self.shell("mktemp -d /run/XXXXXX").strip())

    def _connect(self) -> int:
        """Connect us and the box. Return a number; the device of that name keeps others from it."""
        for number in range(256):
            cable = f"rig{number}"
            peer = ["peer", "name", "eth0", "netns", str(self.pid)]
            added = _ip("link", "add", cable, "type", "veth", *peer)
            if added.returncode == 0:
                break
            if b"File exists" not in added.stderr:
                pytest.skip(f"needs veth: {added.stderr.decode().strip()}")
        _ip("address", "add", f"10.77.{number}.1/24", "dev", cable).check_returncode()
        _ip("link", "set", cable, "up").check_returncode()
        inside = f"10.77.{number}.2/24"
        # Both ends acknowledge at once: otherwise ssh waits three times for 40 ms.
        route = f"10.77.{number}.0/24 dev {{}} quickack 1"
        _ip("route", "replace", *route.format(cable).split()).check_returncode()
        self.shell(
            f"ip link set lo up; ip address add {inside} dev eth0; ip link set eth0 up;"
            f" ip route replace {route.format('eth0')}"
        )
        return number

    def enter(self, *command: str, user: str | None = None) -> list[str]:
        """The command line that runs `command` inside."""
        # Some programs close every file descriptor that they might have, one by one: keep them few.
        enter = ["prlimit", "--nofile=4096", "nsenter", f"--target={self.pid}", *NAMESPACES]
        return [*enter, *(["runuser", "-u", user, "--"] if user else []), *command]

    def run(
        self,
        *command: str,
        user: str | None = None,
        input: bytes | str | BinaryIO = b"",
        output: BinaryIO | None = None,
        check: bool = True,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess:
        """Run a command inside, by default as root. Input and output may be files.

        Raises BoxError if it fails, unless `check` is False.
        """
        text = input.encode() if isinstance(input, str) else input
        source = {"input": text} if isinstance(text, bytes) else {"stdin": text}
        done = subprocess.run(
            self.enter(*command, user=user),
            stdout=output or subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            timeout=timeout,
            **source,
        )
        if check and done.returncode:
            said = (done.stderr + (done.stdout or b"")).decode(errors="replace").strip()
            raise BoxError(f"{shlex.join(command)}: {said}")
        return done

    def shell(self, script: str, **options) -> str:
        """Run a shell script inside, up to the first command that fails. Return its output."""
        return self.run("sh", "-ec", script, **options).stdout.decode(errors="replace")

    def background(self, *command: str) -> None:
        """Run a command until the box ends."""
        self.run("sh", "-c", 'exec "$@" </dev/null >/dev/null 2>&1 &', "sh", *command)

    def read(self, path: str) -> str:
        return self.run("cat", "--", path).stdout.decode(errors="replace")

    def write(self, nodes: dict[str, Node], before: str = "", after: str = "") -> None:
        """Write files from within the box: by a path from outside, customers' links would lead out.

        `before` and `after` are scripts to run with it, since each entry takes time.
        """
        if nodes or before or after:
            script = f"{before}\ntar -xpf - -C / --numeric-owner\n{after}"
            self.shell(script, input=_archive(nodes))


def _ip(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", *words], capture_output=True, env=ENVIRONMENT)


def _archive(nodes: dict[str, Node]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, node in nodes.items():
            entry = tarfile.TarInfo(str(PurePosixPath(path).relative_to("/")))
            entry.mode, entry.uid, entry.gid = node.mode, node.uid, node.gid
            # Postfix waits until its configuration is two seconds old.
            entry.mtime = time.time() - 10
            if node.target is not None:
                entry.type, entry.linkname = tarfile.SYMTYPE, node.target
            elif node.content is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(node.content)
            archive.addfile(entry, io.BytesIO(node.content or b""))
    return packed.getvalue()
