"""How far a server's job queue has come, as its length alone tells.

ISPConfig carries out the changes of all its customers in order, in runs: a run takes the jobs that
wait when it begins, and restarts the web server after the last of them. The panel only says how
many jobs wait. So the jobs of a moment are *done* once as many have gone as waited then. The web
server was *restarted* for them once the jobs of the moment when that was seen are done as well: by
then the run has ended.
"""

import json
from dataclasses import dataclass, field

from lightningspace.base.clock import CLOCKS_DIFFER_SECONDS

# How many moments are kept. Beyond that some are dropped, and what came before them waits for the
# next one.
MOMENTS_MAX = 100


@dataclass
class Queue:
    """`waiting`: jobs at the last look. `gone`: jobs that have gone since the first look, at least.

    `looks`: the moment of each look, and the `gone` at which the jobs of that moment are done.
    `done_until`: whatever was there before that moment is done; `seen`: when that was seen, and of
    which moment. `restarted_until`: the web server was restarted for whatever was there before that
    moment. All moments in Unix seconds.
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
        return json.dumps(vars(self), separators=(",", ":"))

    def look(self, moment: int, waiting: int) -> None:
        """Note how many jobs wait; `moment`: from before the panel was asked."""
        if moment < self.done_until:
            if self.done_until - moment < CLOCKS_DIFFER_SECONDS:
                return  # another box has looked, by a clock slightly ahead
            self.looks, self.seen, self.done_until, self.restarted_until = [], [], 0, 0
        # New jobs come between two looks: this many have gone at least.
        self.gone += max(0, self.waiting - waiting)
        self.waiting = waiting
        if waiting == 0:
            # The last job is done; the restart for it may be still to come.
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
        """Take everything before that moment for done."""
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
        """How many jobs remain until what was applied at a moment is carried out."""
        for at, until_gone in self.looks:
            if at > moment:
                return max(0, until_gone - self.gone)
        return self.waiting


def _thin(moments: list[list[int]]) -> None:
    """Drop those closest to their neighbours; never the first and the last."""
    while len(moments) > MOMENTS_MAX:
        gaps = [later[0] - earlier[0] for earlier, later in zip(moments, moments[2:], strict=False)]
        del moments[1 + gaps.index(min(gaps))]
