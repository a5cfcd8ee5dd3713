"""The shop's web and worker programs on several boxes, what they use, and what they logged."""

import os
import re
import statistics
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import urllib3

from tests.conftest import eventually, free_port
from tests.day import clockwork
from tests.programs import Program

# Errors that may be logged although the shop works as it should.
EXPECTED_ERRORS = {
    "a clock that jumped": r"the calendar last ran at|by a clock that was ahead",
    "the database": r"database|terminating connection|connection (failed|is bad|is closed|is lost)|"
    r"disk (is full|I/O)|read-only transaction|consuming input failed|server closed|No space left|"
    r"could not (extend|receive|send)|recovery mode|shutting down|starting up",
    "a server's settings, as the sandbox has them": r"Server Config, Web",
}


RECORD = re.compile(r"\n(?=\[?\d{4}-\d\d-\d\d )")


@dataclass
class Sample:
    at: float
    rss_mb: float
    threads: int
    files: int


@dataclass
class Box:
    number: int
    address: str
    web: Program | None = None
    worker: Program | None = None
    outputs: list[Path] = field(default_factory=list)


class Boxes:
    """The boxes, whose programs are killed and started again.

    Those of the first box are killed at any time, the others only early in the day, so that some
    run long enough to show whether they grow. `samples`: by program.
    """

    def __init__(self, directory: Path, env: dict[str, str], clock: Path, count: int):
        self._directory = directory
        self._env = os.environ | env | {clockwork.VARIABLE: str(clock), "HOME": str(directory)}
        self.boxes = [Box(number, f"127.0.0.1:{free_port()}") for number in range(count)]
        self.samples: dict[str, list[Sample]] = defaultdict(list)
        self.is_early = lambda: True
        self._kills = 0
        self._stopping = threading.Event()
        self._pool = urllib3.PoolManager(retries=False)

    def start(self) -> None:
        for box in self.boxes:
            self._start_web(box)
            self._start_worker(box)
        for box in self.boxes:
            eventually(lambda box=box: self._is_open(box))

    def _start_web(self, box: Box) -> None:
        command = ["gunicorn", "wsgi:app", "--threads", "8", "--bind", box.address]
        box.web = self._program(box, [*command, "--log-level", "warning"])

    def _start_worker(self, box: Box) -> None:
        box.worker = self._program(box, ["flask", "--app", "wsgi", "worker"])

    def _program(self, box: Box, command: list[str]) -> Program:
        box.outputs.append(self._directory / f"{command[0]}-{box.number}-{len(box.outputs)}.log")
        return Program(command, self._env, box.outputs[-1])

    def _is_open(self, box: Box) -> bool:
        try:
            url = f"http://{box.address}/healthz"
            return self._pool.request("GET", url, timeout=5).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    # -- killing programs --------------------------------------------------------------

    def _one(self) -> Box:
        self._kills += 1
        return self.boxes[self._kills % len(self.boxes)] if self.is_early() else self.boxes[0]

    @contextmanager
    def without_web(self):
        box = self._one()
        box.web.kill()
        yield
        self._start_web(box)
        eventually(lambda: self._is_open(box))

    @contextmanager
    def without_worker(self):
        box = self._one()
        box.worker.kill()
        yield
        self._start_worker(box)

    def stop(self) -> None:
        """Ask all programs to end, as an init system does, and check that they do."""
        self._stopping.set()
        for box in self.boxes:
            for program in (box.web, box.worker):
                assert program.end() == 0, program.said[-3000:]

    def kill(self) -> None:
        self._stopping.set()
        for box in self.boxes:
            for program in filter(None, (box.web, box.worker)):
                program.kill()

    # -- what programs use ---------------------------------------------------------------

    def watch(self, seconds: float) -> None:
        while not self._stopping.wait(seconds):
            for box in self.boxes:
                for name, program in (("web", box.web), ("worker", box.worker)):
                    self._sample(f"{name} {box.number}", program.pid)

    def _sample(self, name: str, pid: int) -> None:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            own = Path("/proc", children[0] if children else str(pid))
            rss = re.search(r"VmRSS:\s*(\d+)", (own / "status").read_text())
            threads, files = (len(os.listdir(own / kind)) for kind in ("task", "fd"))
        except OSError:
            return  # it has just been killed
        if rss is None:
            return  # it has just been killed, and not yet been reaped
        key = f"{name}, process {own.name}"
        self.samples[key].append(Sample(time.monotonic(), int(rss[1]) / 1024, threads, files))

    def growth(self, since: float) -> list[tuple[str, Sample, Sample]]:
        """Samples at `since` and at the end, for each process that ran all that time."""
        last = max(samples[-1].at for samples in self.samples.values())
        grown = []
        for name, samples in self.samples.items():
            if samples[0].at <= since and samples[-1].at >= last - 30:
                count = max(1, len(samples) // 10)
                early = [each for each in samples if each.at >= since][:count]
                grown.append((name, middle(early), middle(samples[-count:])))
        return grown

    # -- what programs logged --------------------------------------------------------------

    def errors(self) -> tuple[Counter, list[str]]:
        """Count the logged errors of each expected kind, and return all others."""
        kinds, others = Counter(), []
        for output in [output for box in self.boxes for output in box.outputs]:
            for record in RECORD.split(output.read_text(errors="replace")):
                first = record.partition("\n")[0]
                if not re.search(r" (ERROR|CRITICAL) |\[(ERROR|CRITICAL)\]", first):
                    continue
                kind = next((k for k, why in EXPECTED_ERRORS.items() if re.search(why, record)), "")
                kinds[kind] += 1
                if not kind:
                    others.append(f"{output.name}: {record[:2000]}")
        del kinds[""]
        return kinds, others


def middle(samples: list[Sample]) -> Sample:
    columns = zip(*((s.at, s.rss_mb, s.threads, s.files) for s in samples), strict=True)
    return Sample(*map(statistics.median, columns))
