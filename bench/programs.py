"""The shop's programs as in production, with stand-ins and a new database, and what they cost."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.stand_ins import PANEL_PASSWORD, StandIns
from lightningspace import shop
from lightningspace.base import models
from lightningspace.base.config import from_env
from lightningspace.shop import Shop

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
GUNICORN = ("--workers", "1", "--threads", "8", "--log-level", "warning")
START_SECONDS = 30
TICKS = os.sysconf("SC_CLK_TCK")


class Program:
    """A program that the bench started, with its child processes."""

    def __init__(self, command: list, env: dict[str, str], log: Path):
        self._log = log
        with open(log, "ab") as output:
            # A session of its own: Ctrl-C reaches only the bench, which stops its programs.
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=output, stderr=output, start_new_session=True
            )

    def check(self) -> None:
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._process.args[0]} has ended: {self._log.read_text()}")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        for pid in self.pids():
            os.kill(pid, 9)
        self._process.wait()

    def pids(self) -> list[int]:
        """The process and its children, while they run."""
        pid = self._process.pid
        if self._process.poll() is not None:
            return []
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cpu_seconds(self) -> float:
        return sum(_cpu_seconds(pid) for pid in self.pids())

    def pss_mb(self) -> float:
        """Proportional set size: memory that processes share is split among them."""
        return sum(self.pss_parts())

    def pss_parts(self) -> list[float]:
        return [_pss_mb(pid) for pid in self.pids()]


class Web(Program):
    """One gunicorn process with 8 threads, and its master."""

    def __init__(self, application: str, env: dict[str, str], log: Path):
        self.port = free_port()
        command = [BIN / "gunicorn", *GUNICORN, "--bind", f"127.0.0.1:{self.port}", application]
        super().__init__(command, env, log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.check()
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


class Stage:
    """A shop ready to be measured: its directory, stand-ins, settings and programs."""

    def __init__(self, directory: Path, stand_ins: StandIns, database_url: str | None):
        self.directory = directory
        self.stand_ins = stand_ins
        self.database = directory / "shop.sqlite3"
        self._stack = ExitStack()
        self._env = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "LANG", "TMPDIR")
            if name in os.environ
        }
        self._shop_env = self._env | {
            "PUBLIC_URL": "http://127.0.0.1",
            "BASE_DOMAIN": "bench.example",
            "DATABASE_URL": database_url or f"sqlite:///{self.database}",
            "SECRET_KEY": secrets.token_hex(32),
            "LIGHTNING_RPC": str(stand_ins.node_path),
            "PANEL_URL": stand_ins.panel_url,
            "PANEL_USER": "shop",
            "PANEL_PASSWORD": PANEL_PASSWORD,
            # Each order claims an address of its own by X-Forwarded-For.
            "PROXY_HOPS": "1",
            "ORDERS_LIMIT_OVERALL": "1000000 per minute",
            "CAPACITY_MB": "1000000000",
            "FTP_UPLOADS": "false",
            "SMTP_URL": "smtp://127.0.0.1:9",
        }
        self.flask("init-db")

    def flask(self, *command: str) -> None:
        subprocess.run(
            [BIN / "flask", "--app", "wsgi", *command],
            cwd=ROOT,
            env=self._shop_env,
            check=True,
            capture_output=True,
        )

    def settle(self, **settings: str) -> None:
        """Add settings for the programs that are started from now on."""
        self._shop_env |= settings

    def shop(self) -> Shop:
        """Build the shop inside the bench, to call its functions directly."""
        config = from_env(self._shop_env, self.directory)
        models.open_database(config.database_url)
        self._stack.callback(models.db.close)
        built = shop.build(config)
        shop.settle_in(built)
        return built

    def web(self) -> Web:
        return self.started(Web("wsgi:app", self._shop_env, self.directory / "web.log"))

    def bare(self, size: int) -> Web:
        env = self._env | {"BENCH_BYTES": str(size)}
        return self.started(Web("bench.bare:app", env, self.directory / "bare.log"))

    def worker(self) -> Program:
        command = [BIN / "flask", "--app", "wsgi", "worker"]
        return self.started(Program(command, self._shop_env, self.directory / "worker.log"))

    def stop(self) -> None:
        self._stack.close()

    def started(self, program):
        """Return the program, and stop it when the stage stops."""
        self._stack.callback(program.stop)
        return program


@contextmanager
def stage(database_url: str | None = None):
    """A new shop, on SQLite unless it is given the URL of an empty database.

    All its programs are stopped, however the measurement ends.
    """
    with tempfile.TemporaryDirectory(prefix="lightningspace-bench-") as name, ExitStack() as stack:
        stand_ins = StandIns(Path(name))
        stack.callback(stand_ins.stop)
        opened = Stage(Path(name), stand_ins, database_url)
        stack.callback(opened.stop)
        yield opened


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _cpu_seconds(pid: int) -> float:
    # The name, in brackets, may hold spaces; user and system time are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no Pss of {pid}")
