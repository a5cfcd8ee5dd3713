"""Checks of the firewall, SSH and the panel's port."""

import re

from hosting_doctor.ours import RULES
from hosting_doctor.server import Server

PANEL_PORT = 8080
LIST_TABLE = ("nft", "list", "table", "inet", "customers")
# Load the file in a network namespace of its own and list the table there, to compare it with the
# kernel's. The namespace ends with the command.
AS_IN_FILE = 'nft --file "$1" && shift && "$@"'


def firewall(server: Server) -> str | None:
    meant = server.said("unshare", "--net", "sh", "-c", AS_IN_FILE, "sh", RULES, *LIST_TABLE)
    if server.run(*LIST_TABLE).stdout != meant:
        return (
            f"the rules of {RULES} are not what the kernel has: "
            "systemctl restart customers-firewall"
        )
    if server.has_systemd:
        enabled = server.run("systemctl", "is-enabled", "customers-firewall").stdout.strip()
        if enabled != "enabled":
            return "a reboot loses its rules: systemctl enable customers-firewall"
    return None


def ssh(server: Server) -> str | None:
    asked = f"user={server.customer},host=localhost,addr=127.0.0.1"
    if "disableforwarding yes" not in server.said("/usr/sbin/sshd", "-T", "-C", asked):
        return (
            "customers.conf does not count: sshd_config must include sshd_config.d at its top, and "
            "no file there may set DisableForwarding before it"
        )
    return None


def panel_port(server: Server) -> str | None:
    """Look at this server's own rules; a firewall in front of it cannot be seen from here."""
    listening = server.said("ss", "-Hltn", f"sport = :{PANEL_PORT}")
    at = [line.split()[3] for line in listening.splitlines()]
    if all(each.startswith(("127.", "[::1]")) for each in at):
        return None
    rules = server.said("nft", "list", "ruleset")
    of_port = [line for line in rules.splitlines() if re.search(rf"dport .*\b{PANEL_PORT}\b", line)]
    to_all = [line for line in of_port if "accept" in line and "saddr" not in line]
    is_closed = any(re.search(r"drop|reject", line) for line in of_port)
    is_closed |= bool(re.search(r"hook input [^\n]*policy drop", rules))
    if to_all or not is_closed:
        return (
            f"port {PANEL_PORT} is open to the world by this server's rules: allow the shop's "
            "address and yours alone"
        )
    return None
