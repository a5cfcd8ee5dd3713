"""The panel's job queue: changes wait for the next run, which carries them out one by one.

No thread does any work: a job's end is known when it is queued, and everything else is computed
from the clock.
"""

import math
from dataclasses import dataclass, field

from lightningspace.base import clock


def next_run(since: float, run_seconds: float) -> float:
    return math.ceil(since / run_seconds) * run_seconds if run_seconds else since


@dataclass
class Job:
    """`run`: when its run begins."""

    run: float
    done_at: float
    server_id: str
    reloads: bool


@dataclass
class JobQueue:
    """Jobs in order; those of the last run stay after they are done.

    A run takes all jobs that are queued when it begins. If one of them changes sites, the web
    server is reloaded once, at the end of the run.
    """

    jobs: list[Job] = field(default_factory=list)
    last_reload: float = 0

    def add(self, seconds: float, run_seconds: float, server_id: str, reloads: bool) -> Job:
        """Queue a job that takes `seconds`. Runs begin at multiples of `run_seconds`."""
        self._forget_runs()
        now = clock.now()
        if self.jobs and self.jobs[-1].run >= now:  # a run that has not begun
            run, begins_at = self.jobs[-1].run, self.jobs[-1].done_at
        else:
            run = begins_at = next_run(max(now, self.ends_at()), run_seconds)
        self.jobs.append(Job(run, begins_at + seconds, server_id, reloads))
        return self.jobs[-1]

    def ends_at(self) -> float:
        return self.jobs[-1].done_at if self.jobs else 0

    def waiting(self, server_id: str = "0") -> int:
        """How many jobs are not done, of one server or of all ("0"). Jobs for all servers count."""
        now = clock.now()
        servers = ("0", server_id)
        return sum(
            job.done_at > now and (server_id == "0" or job.server_id in servers)
            for job in self.jobs
        )

    def has_ended(self, run: float) -> bool:
        return run < self._first_open_run()

    def reloaded(self) -> float:
        """When the run began that last reloaded the web server."""
        first_open = self._first_open_run()
        runs = [job.run for job in self.jobs if job.reloads and job.run < first_open]
        return max([self.last_reload, *runs])

    @classmethod
    def from_dict(cls, stored: dict) -> "JobQueue":
        """The inverse of `asdict`."""
        jobs = [Job(**job) for job in stored.get("jobs", [])]
        return cls(jobs, stored.get("last_reload", 0))

    def shift(self, seconds: int) -> None:
        """Move all times of the queue."""
        self.last_reload += seconds
        for job in self.jobs:
            job.run += seconds
            job.done_at += seconds

    def _first_open_run(self) -> float:
        now = clock.now()
        return next((job.run for job in self.jobs if job.done_at > now), float("inf"))

    def _forget_runs(self) -> None:
        """Drop the runs that have ended, but for the last of them."""
        self.last_reload = self.reloaded()
        kept = min([self._first_open_run(), *(job.run for job in self.jobs[-1:])])
        self.jobs = [job for job in self.jobs if job.run >= kept]
