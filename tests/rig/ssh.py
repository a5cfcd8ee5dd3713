"""sshd, and the jails of its users."""

import tempfile
from collections import defaultdict
from typing import BinaryIO

from tests.rig.box import Box, Node, directory, file
from tests.rig.sites import Site, gid_of, uid_of

# Debian's original, whatever this machine has changed.
PRISTINE = "/usr/share/openssh/sshd_config"
HOST_KEY = "/etc/ssh/box_key"
# The fastest key exchange: ssh needs a tenth of a second for sshd's first choice.
SETTINGS = f"""HostKey {HOST_KEY}
KexAlgorithms curve25519-sha256
"""
TEMPLATE = "/var/lib/jail"
# Much less than ISPConfig's 146 MB, but with the programs that attacks need.
SECTIONS = ["basicshell", "sftp"]
PROGRAMS = """
    curl env find head id mkfifo mysql mysqldump nohup perl php readlink sort ssh stat tail timeout
    tr wc whoami xargs
""".split()


class Ssh:
    packages = {
        "/usr/sbin/sshd": "openssh-server",
        "/usr/bin/ssh": "openssh-client",
        "/usr/sbin/jk_init": "jailkit",
    }
    ports = (22,)
    # Making a jail takes a second or two, unpacking one a tenth: one for all boxes of a process.
    _packed_template: BinaryIO | None = None

    def __init__(self, box: Box):
        self._box = box
        self._has_template = False
        self._jailed: set[str] = set()

    def prepare(self) -> None:
        self._box.shell(
            "rm -rf /etc/ssh/sshd_config.d/* /etc/ssh/ssh_host_*; mkdir -p /run/sshd;"
            f" cp {PRISTINE} /etc/ssh/sshd_config; ssh-keygen -q -t ed25519 -N '' -f {HOST_KEY}"
        )

    def settings(self) -> dict[str, Node]:
        return {"/etc/ssh/sshd_config.d/box.conf": file(SETTINGS)}

    def start(self) -> None:
        self._box.shell("/usr/sbin/sshd")

    def make_jails(self, sites: list[Site], shells: list[dict]) -> None:
        """Make a jail for each site that has a shell user and no jail yet. The site keeps it."""
        self._jailed &= {site.root for site in sites}
        wanted = {record["dir"] for record in shells if record["chroot"] == "jailkit"}
        for root in wanted - self._jailed:
            self._make_template()
            self._box.shell(
                f"cp -al {TEMPLATE}/. {root}/; mkdir -p -m 755 {root}/home {root}/var/run;"
                f" mkdir -m 770 {root}/var/tmp"
            )
            self._jailed.add(root)

    def _make_template(self) -> None:
        if self._has_template:
            return
        self._box.shell(f"mkdir {TEMPLATE}")
        if Ssh._packed_template:
            Ssh._packed_template.seek(0)
            self._box.run("tar", "-xf", "-", "-C", TEMPLATE, input=Ssh._packed_template)
        else:
            # Without its time zone PHP starts with a warning.
            programs = ["/usr/share/zoneinfo/UTC"]
            programs += self._box.shell(f"which {' '.join(PROGRAMS)} || true").split()
            self._box.run("jk_init", "-j", TEMPLATE, *SECTIONS)
            self._box.run("jk_cp", "-j", TEMPLATE, *programs)
            packed = tempfile.TemporaryFile()  # noqa: SIM115 (kept until the process ends)
            self._box.run("tar", "-cf", "-", "-C", TEMPLATE, ".", output=packed)
            Ssh._packed_template = packed
        self._has_template = True

    def files(self, shells: list[dict]) -> dict[str, Node]:
        """The files that tell jails about their users."""
        nodes: dict[str, Node] = {}
        passwd = defaultdict(lambda: "root:x:0:0:root:/root:/bin/bash\n")
        for record in shells:
            uid, gid = uid_of(self._box, record["puser"]), gid_of(self._box, record["pgroup"])
            own = {"uid": uid, "gid": gid}
            home = f"/home/{record['username']}"
            outside = f"{record['dir']}{home}"
            line = f"{record['username']}:x:{uid}:{gid}::{home}:{record['shell']}\n"
            passwd[record["dir"]] += line
            nodes[f"{record['dir']}/etc/group"] = file(f"{record['pgroup']}:x:{gid}:\n")
            nodes[outside] = directory(0o750, **own)
            nodes[f"{outside}/.ssh"] = directory(0o755, **own)
            nodes[f"{outside}/.ssh/authorized_keys"] = file(f"{record['ssh_rsa']}\n", 0o600, **own)
        return nodes | {f"{root}/etc/passwd": file(text) for root, text in passwd.items()}

    def end_sessions(self, gone: list[dict]) -> None:
        """End the sessions of removed users, and of others that share their number."""
        for record in gone:
            self._box.shell(f"pkill -u {uid_of(self._box, record['puser'])} || true")
