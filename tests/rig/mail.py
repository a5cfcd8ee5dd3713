"""Postfix as ISPConfig sets it up, as far as customers without a mailbox meet it."""

from tests.rig.box import HOST_NAME, Box, Node, file

MAIN = f"""compatibility_level = 3.6
myhostname = {HOST_NAME}
mydestination = {HOST_NAME}, localhost
mynetworks = 127.0.0.0/8 [::1]/128
inet_protocols = ipv4
alias_maps =
alias_database =
maillog_file = /var/log/mail.log
smtpd_sender_restrictions = reject_authenticated_sender_login_mismatch, permit_mynetworks
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
"""
# Nothing leaves the box: mail to other servers bounces.
MASTER = """smtp       inet n - n - - smtpd
submission inet n - n - - smtpd
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
pickup     unix n - n 60 1 pickup
cleanup    unix n - n - 0 cleanup
qmgr       unix n - n 300 1 qmgr
rewrite    unix - - n - - trivial-rewrite
bounce     unix - - n - 0 bounce
defer      unix - - n - 0 bounce
trace      unix - - n - 0 bounce
local      unix - n n - - local
error      unix - - n - - error
smtp       unix - - n - - error
proxymap   unix - - n - - proxymap
anvil      unix - - n - 1 anvil
postlog    unix-dgram n - n - 1 postlogd
"""


class Mail:
    packages = {"/usr/sbin/postfix": "postfix"}
    ports = (25, 587)

    def __init__(self, box: Box):
        self._box = box

    def prepare(self) -> None:
        # Keep this machine's own mail out of it.
        self._box.shell("find /var/spool/postfix -type f -delete; rm -f /var/mail/*")

    def settings(self) -> dict[str, Node]:
        return {"/etc/postfix/main.cf": file(MAIN), "/etc/postfix/master.cf": file(MASTER)}

    def start(self) -> None:
        self._box.background("/usr/lib/postfix/sbin/master")
