"""The shop's programs in processes of their own, which tests can kill.

They are forked from one process that has imported the modules already: importing takes a second,
and what a worker does in a test often less. Starting them for real is tested by
tests/whole/test_gunicorn.py and test_program.py.
"""

import gc
import multiprocessing
import os
import runpy
import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.day import clockwork

ROOT = Path(__file__).parent.parent
# The modules to import once, before forking.
READ_BEFORE = [
    *("tests.programs", "tests.quick", "app", "lightningspace.worker", "flask.cli", "pytest"),
    *("gunicorn.app.wsgiapp", "gunicorn.workers.gthread"),
]

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(READ_BEFORE)


class Program:
    """`python -m …` in a process of its own, with its children. Their output goes to a file."""

    def __init__(self, arguments: list[str], env: dict[str, str], output: Path):
        self.output = output
        output.touch()
        self._process = _forks.Process(target=_run, args=(arguments, env, output))
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        return self.output.read_text()

    def says(self, text: str) -> bool:
        assert self._process.is_alive(), f"it ended: {self.said}"
        return text in self.said

    def kill(self) -> None:
        """Kill it and everything that it has started, at once."""
        with suppress(ProcessLookupError):  # it has ended, or not started yet
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()

    def end(self) -> int:
        """Ask it to end, as an init system does. Return its exit code."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        self._process.join(10)
        assert not self._process.is_alive(), f"it does not end: {self.said}"
        return self._process.exitcode


def _run(arguments: list[str], env: dict[str, str], output: Path) -> None:
    os.setsid()
    gc.freeze()  # what was imported stays, so the collector need not look through it again
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(env)
    if clockwork.VARIABLE in env:
        clockwork.follow(env[clockwork.VARIABLE])
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
