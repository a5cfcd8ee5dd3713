"""pure-ftpd with the panel's FTP users."""

from tests.rig.box import Box, Node, file, link
from tests.rig.sites import gid_of, uid_of
from tests.rig.users import Hashes, PasswordOf

USERS = "/etc/pure-ftpd/pureftpd.passwd"
DATABASE = "/etc/pure-ftpd/pureftpd.pdb"
CERTIFICATE = "/etc/ssl/private/pure-ftpd.pem"
# As ISPConfig's installer leaves it, but with a file of users instead of MariaDB.
SETTINGS = {
    "AltLog": "clf:/var/log/pure-ftpd/transfer.log",
    "BrokenClientsCompatibility": "yes",
    "ChrootEveryone": "yes",
    "DisplayDotFiles": "yes",
    "DontResolve": "yes",
    "FSCharset": "UTF-8",
    "MinUID": "1000",
    "NoAnonymous": "yes",
    "PAMAuthentication": "no",
    "PureDB": DATABASE,
    "TLS": "1",
    "UnixAuthentication": "no",
}


class Ftp:
    packages = {"/usr/sbin/pure-ftpd": "pure-ftpd", "/usr/bin/openssl": "openssl"}
    ports = (21,)

    def __init__(self, box: Box, hashes: Hashes):
        self._box = box
        self._hashes = hashes

    def files(self, records: list[dict], password_of: PasswordOf) -> dict[str, Node]:
        lines = [self._line(record, password_of) for record in records if record["active"] == "y"]
        return {USERS: file("".join(lines), 0o600)}

    def settings(self, certificate: bytes) -> dict[str, Node]:
        conf = "/etc/pure-ftpd/conf"
        return {f"{conf}/{name}": file(f"{value}\n") for name, value in SETTINGS.items()} | {
            "/etc/pure-ftpd/auth/50puredb": link("../conf/PureDB"),
            CERTIFICATE: file(certificate, 0o600),
        }

    def _line(self, record: dict, password_of: PasswordOf) -> str:
        password = password_of(record["ftp_user_id"])
        hash = self._hashes.of(password) if password else "*"
        ids = f"{uid_of(self._box, record['uid'])}:{gid_of(self._box, record['gid'])}"
        return f"{record['username']}:{hash}:{ids}::{record['dir']}/./::::::::::::\n"

    def prepare(self) -> None:
        self._box.shell(
            "rm -rf /etc/pure-ftpd/conf/* /etc/pure-ftpd/auth/*;"
            " mkdir -p /run/pure-ftpd /var/log/pure-ftpd"
        )

    def start(self) -> None:
        self.reload()
        self._box.shell("STANDALONE_OR_INETD=standalone pure-ftpd-wrapper >/dev/null")

    def is_concerned(self, path: str) -> bool:
        return path == USERS

    def reload(self) -> None:
        self._box.shell(f"pure-pw mkdb {DATABASE} -f {USERS}")
