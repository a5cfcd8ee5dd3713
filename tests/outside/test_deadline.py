"""Time limits, on sockets at which nobody answers."""

import multiprocessing
import socket
import time

from lightningspace.outside.deadline import time_limit


def cut_off_after(seconds: float) -> float:
    """How long a call within this limit waits for its answer."""
    begun = time.monotonic()
    ours, theirs = socket.socketpair()
    with ours, theirs, time_limit(seconds) as limit:
        limit.watch(ours)
        assert ours.recv(1) == b""
        assert limit.is_over
    return time.monotonic() - begun


def test_limit_ends_in_time_within_a_longer_one_and_after_one():
    with time_limit(60):
        assert 0.05 <= cut_off_after(0.05) < 5
    assert 0.05 <= cut_off_after(0.05) < 5


def test_limit_ends_in_a_process_that_was_forked_within_another():
    forks = multiprocessing.get_context("fork")
    with time_limit(60):
        process = forks.Process(target=cut_off_after, args=(0.05,), daemon=True)
        process.start()
        process.join(10)
    assert process.exitcode == 0


def test_outer_limit_cuts_off_sockets_opened_in_an_inner_one():
    ours, theirs = socket.socketpair()
    with ours, theirs, time_limit(0.05) as outer, time_limit(60) as inner:
        inner.watch(ours)
        assert ours.recv(1) == b""
        assert (outer.is_over, inner.is_over) == (True, False)
