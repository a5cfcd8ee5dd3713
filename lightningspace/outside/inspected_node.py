"""What the node says of itself, for the doctor to see whether it can take money."""

from dataclasses import dataclass

from lightningspace.outside.node import Node

# The states of a channel that payments come in by.
OPEN = ("CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE")


@dataclass(frozen=True)
class Channel:
    """An open channel. `is_usable`: its peer is online. `receivable_msat`: what can come in."""

    peer_id: str
    is_usable: bool
    receivable_msat: int


class InspectedNode(Node):
    """A node that is asked about its state."""

    def about(self) -> dict:
        """The answer to getinfo, with `warning_…` while the node is not ready yet."""
        return self._call("getinfo")

    def channels(self) -> list[Channel]:
        """The open channels, whether their peers are online or not."""
        return [
            Channel(
                each.get("peer_id", ""),
                bool(each.get("peer_connected")),
                int(each.get("receivable_msat", 0)),
            )
            for each in self._call("listpeerchannels")["channels"]
            if each.get("state") in OPEN
        ]
