"""What the node tells of itself, for whoever looks whether it can take money."""

from dataclasses import dataclass

from lightningspace.outside.node import Node

# The states of a channel that payments come in by.
OPEN = ("CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE")


@dataclass(frozen=True)
class Channel:
    """An open one. `is_usable`: its peer is online. `receivable_msat`: what may come in by it."""

    peer_id: str
    is_usable: bool
    receivable_msat: int


class LookedAtNode(Node):
    """A node that is asked how it is."""

    def about(self) -> dict:
        """Its answer to getinfo, with `warning_…` while it is not ready yet."""
        return self._call("getinfo")

    def channels(self) -> list[Channel]:
        """Those that are open, whether their peers are online or not."""
        return [
            Channel(
                each.get("peer_id", ""),
                bool(each.get("peer_connected")),
                int(each.get("receivable_msat", 0)),
            )
            for each in self._call("listpeerchannels")["channels"]
            if each.get("state") in OPEN
        ]
