"""The functions of ISPConfig that the shop calls, and whether it may call them."""

import time

from lightningspace.outside.ispconfig import Forbidden, Panel, PanelRefused
from lightningspace.outside.ispconfig_records import KINDS

# No record will ever have this id. ISPConfig takes -1 for all of them.
NOBODY = 2_000_000_000
# The groups of functions on ISPConfig's page "Remote Users", by the kinds of records.
GROUPS = {
    "site": "Sites Domain functions",
    "alias": "Sites Aliasdomain functions",
    "ftp": "Sites FTP-User functions",
    "shell": "Sites Shell-User functions",
    "database_user": "Sites Database functions",
    "database": "Sites Database functions",
    "mail_domain": "Mail domain functions",
    "mailbox": "Mail user functions",
    "forward": "Mail forward functions",
}
CLIENTS, MONITOR, QUOTA = "Client functions", "Monitor functions", "Quota functions"


def harmless_calls() -> dict[str, tuple[str, dict]]:
    """By method: its group of functions, and arguments that change nothing.

    A record without values is not added, one that does not exist is neither changed nor deleted;
    and ISPConfig checks whether the method may be called before it looks at any of that.
    """
    nothing: dict = {"client_id": NOBODY, "params": {}}
    calls = {
        "client_add": (CLIENTS, {"reseller_id": NOBODY, "params": {}}),
        "client_get": (CLIENTS, {"client_id": NOBODY}),
        "client_get_by_username": (CLIENTS, {"username": "nobody-of-that-name"}),
        "client_get_groupid": (CLIENTS, {"client_id": NOBODY}),
        "client_update": (CLIENTS, {"reseller_id": 0, **nothing}),
        "client_delete_everything": (CLIENTS, {"client_id": NOBODY}),
        "monitor_jobqueue_count": (MONITOR, {"server_id": NOBODY}),
    }
    for name, kind in KINDS.items():
        one = {kind.id_argument: NOBODY}
        calls[f"{kind.method}_add"] = (GROUPS[name], nothing)
        calls[f"{kind.method}_get"] = (GROUPS[name], one)
        calls[f"{kind.method}_update"] = (GROUPS[name], nothing | one)
        calls[f"{kind.method}_delete"] = (GROUPS[name], one)
        if kind.used:
            calls[kind.used.method] = (QUOTA, {"client_id": NOBODY})
    return calls


class InspectedPanel(Panel):
    """A panel that is asked whether we may do what we need."""

    def log_in(self) -> None:
        """Raises PanelError. The calls that follow need no other login."""
        self._session(time.monotonic() + self._seconds)

    def may_call(self, method: str, arguments: dict) -> bool:
        """Whether the remote user may call this method. It is called; it may refuse `arguments`."""
        try:
            self._call(method, **arguments)
        except Forbidden:
            return False
        except PanelRefused:
            pass
        return True
