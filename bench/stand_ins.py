"""The sandbox node, its wallet and the sandbox panel, in a process of their own."""

import functools
import multiprocessing
import signal
import time
from pathlib import Path

from lightningspace.sandbox.node import SandboxNode
from lightningspace.sandbox.panel import SandboxPanel

PANEL_PASSWORD = "sandbox-panel"


class TimedNode(SandboxNode):
    """A sandbox node that notes how long each of its `invoice` calls takes."""

    def __init__(self, *args):
        self.invoice_seconds: list[float] = []
        super().__init__(*args)

    @functools.wraps(SandboxNode._invoice)
    def _invoice(self, *args, **kwargs):
        started = time.perf_counter()
        try:
            return super()._invoice(*args, **kwargs)
        finally:
            self.invoice_seconds.append(time.perf_counter() - started)


class TimedPanel(SandboxPanel):
    """A sandbox panel that notes how long each of its calls takes."""

    def __init__(self, *args, **kwargs):
        self.call_seconds: list[tuple[str, float]] = []
        super().__init__(*args, **kwargs)

    def answer(self, method: str, body: bytes, races: bool = False) -> tuple[int, bytes]:
        started = time.perf_counter()
        try:
            return super().answer(method, body, races)
        finally:
            self.call_seconds.append((method, time.perf_counter() - started))


class StandIns:
    """Starts the process, and passes each method call on to it."""

    def __init__(self, directory: Path):
        self.node_path = directory / "lightning-rpc"
        self.wallet_path = directory / "wallet-rpc"
        spawned = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawned.Pipe()
        self._process = spawned.Process(
            target=_serve, args=(theirs, self.node_path, self.wallet_path), daemon=True
        )
        self._process.start()
        theirs.close()
        self.panel_url = self._pipe.recv()

    def panel_takes(self, seconds: float) -> None:
        """Make each of the panel's calls take this long."""
        self._ask("panel_takes", seconds)

    def panel_takes_real_times(self, path: Path) -> None:
        self._ask("panel_takes_real_times", path)

    def invoice_seconds(self) -> list[float]:
        """The seconds of each `invoice` call in the node since the last time this was asked."""
        return self._ask("invoice_seconds")

    def panel_calls(self) -> list[tuple[str, float]]:
        """Method and seconds of each panel call since the last time this was asked."""
        return self._ask("panel_calls")

    def stop(self) -> None:
        self._pipe.close()
        self._process.join(5)
        self._process.kill()

    def _ask(self, what: str, *arguments):
        self._pipe.send((what, arguments))
        return self._pipe.recv()


def _serve(pipe, node_path: Path, wallet_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the bench stops this process
    node, panel = TimedNode(node_path, wallet_path), TimedPanel(password=PANEL_PASSWORD)
    node.start()
    panel.start()

    def panel_takes(seconds):
        panel.delays["*"] = seconds

    def invoice_seconds():
        taken, node.invoice_seconds = node.invoice_seconds, []
        return taken

    def panel_calls():
        taken, panel.call_seconds = panel.call_seconds, []
        return taken

    known = {
        "panel_takes": panel_takes,
        "panel_takes_real_times": panel.use_timings,
        "invoice_seconds": invoice_seconds,
        "panel_calls": panel_calls,
    }
    pipe.send(panel.url)
    try:
        while True:
            what, arguments = pipe.recv()
            pipe.send(known[what](*arguments))
    except EOFError:
        pass
    panel.stop()
    node.stop()
