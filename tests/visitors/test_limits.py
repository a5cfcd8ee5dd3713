"""Limits for each network, and overall ones that refuse nobody who has used less than a share."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from limits.storage import Storage

from lightningspace.visitors.limits import Exceeded, Limits

DAILY = "10 per day"
OVERALL = "30 per day"


@pytest.fixture
def limits():
    return Limits("memory://")


def served(limits, network, times=1, each=DAILY, overall=OVERALL) -> int:
    """How many of these tries are allowed."""
    done = 0
    for _ in range(times):
        try:
            limits.take("orders", network, each, overall)
        except Exceeded:
            continue
        done += 1
    return done


def test_a_network_has_its_own_limit(limits):
    assert served(limits, "a", 12) == 10
    assert served(limits, "b", 12, overall=None) == 10


def test_at_the_overall_limit_the_heaviest_users_are_refused(limits):
    for network in ("a", "b", "c"):
        assert served(limits, network, 100) == 10
    # The limit is used up, but d has its share, a fourth of 30, and keeps it whoever comes.
    assert served(limits, "d", 100) == 8
    assert served(limits, "a") == 0
    assert all(served(limits, f"late {number}") for number in range(100))


def test_refused_tries_use_up_nothing(limits):
    for network in ("a", "b", "c"):
        served(limits, network, 1000)
    assert served(limits, "d", 6) == 6
    served(limits, "a", 1000)
    assert served(limits, "d", 2) == 2


def test_a_try_that_is_given_back_does_not_count(limits):
    for number in range(100):
        limits.take("orders", f"mistyped {number}", DAILY, OVERALL)()
    assert [served(limits, network, 100) for network in "abcd"] == [10, 10, 10, 8]


def test_limits_of_other_things_and_of_the_next_period_are_separate(limits, time_machine):
    time_machine.moment = 5 * 86400 - 10
    assert served(limits, "a", 12) == 10
    assert limits.take("logins", "a", DAILY, OVERALL)
    with pytest.raises(Exceeded) as exceeded:
        limits.take("orders", "a", DAILY, OVERALL)
    assert exceeded.value.seconds == 10
    time_machine.forward(10)
    assert served(limits, "a", 12) == 10


def test_a_try_given_back_late_counts_for_its_own_period(limits, time_machine):
    give_back = limits.take("orders", "a", DAILY, OVERALL)
    time_machine.forward(86400)
    give_back()
    assert served(limits, "a", 12) == 10


def test_no_more_are_let_in_at_once(limits):
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: served(limits, "a", 5), range(8))) <= 10


class Broken(Storage):
    """A storage that is down."""

    STORAGE_SCHEME = ["broken"]
    base_exceptions = ConnectionError
    asked = 0

    def incr(self, key, expiry, amount=1):
        Broken.asked += 1
        raise ConnectionError

    get = get_expiry = check = reset = clear = incr


def test_while_the_storage_is_down_each_process_counts_by_itself(caplog):
    assert served(Limits("broken://"), "a", 12) == 10
    assert Broken.asked == 1
    assert "RATE_LIMIT_STORAGE fails (ConnectionError)" in caplog.text
