"""Dovecot with the panel's mailboxes, as far as fetching mail needs it."""

from tests.rig.box import Box, Node, directory, file
from tests.rig.users import Hashes, PasswordOf

SETTINGS = "/etc/dovecot/dovecot.conf"
USERS = "/etc/dovecot/mailboxes"
CERTIFICATE = "/etc/dovecot/box.pem"
VMAIL = 5000
# The namespace is ISPConfig's: a dot separates folders.
DOVECOT_CONF = f"""protocols = imap
listen = *
log_path = /var/log/dovecot.log
ssl = required
ssl_cert = <{CERTIFICATE}
ssl_key = <{CERTIFICATE}
mail_location = maildir:/var/vmail/%d/%n/Maildir
namespace inbox {{
  inbox = yes
  separator = .
}}
passdb {{
  driver = passwd-file
  args = scheme=CRYPT {USERS}
}}
userdb {{
  driver = static
  args = uid={VMAIL} gid={VMAIL} home=/var/vmail/%d/%n
}}
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
}}
"""


class Imap:
    packages = {"/usr/sbin/dovecot": "dovecot-imapd", "/usr/lib/dovecot/imap": "dovecot-imapd"}
    ports = (993,)

    def __init__(self, box: Box, hashes: Hashes):
        self._box = box
        self._hashes = hashes

    def prepare(self) -> None:
        self._box.shell("rm -rf /var/vmail /run/dovecot /var/lib/dovecot/*")

    def settings(self, certificate: bytes) -> dict[str, Node]:
        return {
            SETTINGS: file(DOVECOT_CONF),
            CERTIFICATE: file(certificate, 0o600),
            "/var/vmail": directory(0o755, VMAIL, VMAIL),
        }

    def start(self) -> None:
        self._box.background("dovecot", "-F")

    def files(self, records: list[dict], password_of: PasswordOf) -> dict[str, Node]:
        lines = [self._line(each, password_of) for each in records if each["disableimap"] == "n"]
        return {USERS: file("".join(lines))}

    def _line(self, record: dict, password_of: PasswordOf) -> str:
        password = password_of(record["mailuser_id"])
        return f"{record['login']}:{self._hashes.of(password) if password else '*'}\n"

    def is_concerned(self, path: str) -> bool:
        return path == USERS

    def reload(self) -> None:
        """Nothing to do: Dovecot reads the file at each login."""
