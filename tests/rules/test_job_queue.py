"""What the length of a queue tells over time, compared with a queue that does jobs in runs."""

import random

from lightningspace.rules.job_queue import MOMENTS_MAX, Queue


class Server:
    """Does jobs in order. A run takes all that wait, and ends after the last of them."""

    def __init__(self):
        self.number = 0  # the newest job
        self.done = 0
        self.run: int | None = None  # the last job of the present run
        self.ended = 0  # the last job of all runs that have ended

    def add(self) -> int:
        self.number += 1
        return self.number

    def begin(self) -> None:
        if self.run is None and self.number > self.done:
            self.run = self.number

    def serve(self) -> None:
        if self.run is not None and self.done == self.run:
            self.ended, self.run = self.run, None
        elif self.run is not None:
            self.done += 1

    @property
    def waiting(self) -> int:
        return self.number - self.done


def looked(*looks: tuple[int, int]) -> tuple[int, int]:
    """What is known after looks, each a moment and the number of jobs that waited."""
    queue = Queue()
    for look in looks:
        queue.look(*look)
    return queue.done_until, queue.restarted_until


def test_empty_queue_has_done_everything_and_restarts_in_a_moment():
    assert looked((100, 0)) == (100, 0)
    assert looked((100, 0), (105, 0)) == (105, 100)


def test_clock_of_another_box_that_is_a_bit_behind_undoes_nothing():
    assert looked((100, 0), (105, 0), (103, 7)) == (105, 100)
    assert looked((1000, 0), (1005, 0), (103, 7)) == (0, 0)


def test_jobs_that_come_later_are_not_waited_for():
    looks = [(100, 3), (105, 6), (110, 3)]  # four come, one goes; then two and one more go
    assert looked(*looks) == (100, 0)
    assert looked(*looks, (115, 9), (120, 6)) == (110, 100)


def test_queue_that_only_grows_has_done_nothing():
    assert looked(*[(100 + second, 10 + second) for second in range(50)]) == (0, 0)


def test_a_job_that_counts_as_done_is_done(subtests):
    """A job counts as done never too early, whatever comes in between, and at some point."""
    for seed in range(20):
        with subtests.test(seed=seed):
            chance, server, queue = random.Random(seed), Server(), Queue()
            applied: dict[int, int] = {}  # each job, and when it was queued
            for moment in range(1, 4000):
                if moment < 2000 and chance.random() < 0.1:
                    for _ in range(chance.randrange(1, 12)):
                        applied[server.add()] = moment
                if moment % 60 == 0:
                    server.begin()
                if chance.random() < 0.8:
                    server.serve()
                if moment % chance.choice([5, 5, 5, 40]) == 0:
                    # Jobs that come between the moment and the answer are counted; done ones not.
                    queue.look(moment, server.waiting)
                    # Jobs of runs that have ended are done; the later ones must not count as done.
                    for job in range(server.ended + 1, server.number + 1):
                        assert applied[job] >= queue.done_until or job <= server.done
                        assert applied[job] >= queue.restarted_until
                    queue = Queue.read(str(queue))
                    assert len(queue.looks) <= MOMENTS_MAX and len(queue.seen) <= MOMENTS_MAX
            assert server.waiting == 0 and queue.restarted_until > 2000


def test_progress_is_known_while_the_queue_is_never_empty():
    """Every two seconds two jobs go and two come, behind fifteen minutes of other jobs."""
    queue = Queue()
    for second in range(0, 10_000, 2):
        queue.look(second, 901)
        queue.look(second + 1, 900)
    # It takes half an hour to be sure that a job went: new jobs hide half of those that go.
    assert 10_000 - queue.done_until < 1800 + 100
    assert 10_000 - queue.restarted_until < 2 * 1800 + 200


def test_clock_that_was_ahead_is_forgotten():
    queue = Queue()
    queue.look(10**9, 5)
    queue.look(100, 5)
    assert [at for at, _ in queue.looks] == [100]


def test_jobs_ahead_are_counted_up_to_the_moment():
    queue = Queue()
    queue.look(100, 40)
    queue.look(110, 60)
    queue.look(120, 50)
    assert (queue.ahead_of(99), queue.ahead_of(105), queue.ahead_of(130)) == (30, 50, 50)
