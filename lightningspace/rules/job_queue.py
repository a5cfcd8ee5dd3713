"""A server's job queue, as looks at its length tell of it.

ISPConfig serves the changes of all its customers in their order, in runs: each takes up what waits
then, and restarts the web server when all of that is done. All that can be asked is how many jobs
wait. So what was there at a moment is *done* when as many jobs went as waited then; and the web
server *restarted* for it when also what was there in the moment when that was seen is done, for by
then the run has ended.
"""

import json
from dataclasses import asdict, dataclass, field

from lightningspace.base.clock import CLOCKS_DIFFER_SECONDS

# So many moments are told apart. Of more some are forgotten: what came before waits for the next.
MOMENTS_MAX = 100


@dataclass
class Queue:
    """`waiting`: jobs at the last look. `gone`: so many at least since the first look.

    `looks`: at which moment was looked, and what `gone` comes to when the jobs of then are done.
    `done_until`: what was there before that moment is done; `seen`: when that was seen, and of
    which moment. `restarted_until`: for what was there before that one the web server was
    restarted. All in Unix seconds.
    """

    waiting: int = 0
    gone: int = 0
    looks: list[list[int]] = field(default_factory=list)
    done_until: int = 0
    seen: list[list[int]] = field(default_factory=list)
    restarted_until: int = 0

    @classmethod
    def read(cls, text: str) -> "Queue":
        return cls(**json.loads(text)) if text else cls()

    def __str__(self):
        return json.dumps(asdict(self), separators=(",", ":"))

    def look(self, moment: int, waiting: int) -> None:
        """Note that so many jobs wait; `moment` was before that was asked."""
        if moment < self.done_until:
            if self.done_until - moment < CLOCKS_DIFFER_SECONDS:
                return  # another box has looked, and its clock is a bit ahead
            self.looks, self.seen, self.done_until, self.restarted_until = [], [], 0, 0
        # New ones come between two looks: no fewer than this went.
        self.gone += max(0, self.waiting - waiting)
        self.waiting = waiting
        if waiting == 0:
            # The last job is done, and the restart for it may be still to come.
            self.looks, self.seen = [], []
            self.done_until, self.restarted_until = moment, self.done_until
            return
        self.looks = [look for look in self.looks if look[0] < moment]
        self.seen = [seen for seen in self.seen if seen[0] < moment]
        self.looks.append([moment, self.gone + waiting])
        self._note_done(moment)
        _thin(self.looks)
        _thin(self.seen)

    def take_for_done(self, until: int) -> None:
        """Whatever was there before that moment."""
        self.looks, self.seen = [], []
        self.done_until = self.restarted_until = max(self.done_until, until)

    def _note_done(self, moment: int) -> None:
        done = [at for at, until_gone in self.looks if until_gone <= self.gone]
        if done:
            self.done_until = done[-1]
            self.seen.append([moment, self.done_until])
            self.looks = [look for look in self.looks if look[0] > self.done_until]
        for at, until in self.seen:
            if at <= self.done_until:
                self.restarted_until = until
        self.seen = [seen for seen in self.seen if seen[0] > self.done_until]

    def ahead_of(self, moment: int) -> int:
        """How many jobs are still to be done until what was applied at a moment is."""
        for at, until_gone in self.looks:
            if at > moment:
                return max(0, until_gone - self.gone)
        return self.waiting


def _thin(moments: list[list[int]]) -> None:
    """Forget those that lie closest to their neighbours; never the first and the last."""
    while len(moments) > MOMENTS_MAX:
        gaps = [later[0] - earlier[0] for earlier, later in zip(moments, moments[2:], strict=False)]
        del moments[1 + gaps.index(min(gaps))]
