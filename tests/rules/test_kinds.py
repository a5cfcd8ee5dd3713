"""Each kind of service is declared completely, for the rules and for the panel."""

import pytest

from lightningspace.outside import ispconfig_records
from lightningspace.rules import services
from lightningspace.rules.kinds import KINDS

# A client is made in another way, and a tip jar and a paid area over FTP.
WITH_RECORD = [name for name in KINDS if name not in ("client", "tipjar", "paidarea")]


def test_every_kind_has_its_record_at_the_panel():
    assert list(ispconfig_records.KINDS) == WITH_RECORD


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_comes_after_those_it_depends_on(name):
    before = list(KINDS)[: list(KINDS).index(name)]
    assert set(KINDS[name].hangs_on) <= set(before)


@pytest.mark.parametrize("name", WITH_RECORD)
def test_both_declarations_agree_on_passwords_and_measured_space(name):
    kind, record = KINDS[name], ispconfig_records.KINDS[name]
    assert kind.has_password == (record.password is not None)
    assert (kind.part is not None) == (record.used is not None)


@pytest.mark.parametrize("name", KINDS)
def test_defaults_of_settings_are_valid(name):
    first = KINDS[name].first_settings()
    first.pop("destination", None)  # a forward has no default for it
    services.checked(name, first)


def test_the_space_is_split_completely_among_the_parts():
    assert sum(kind.part.percent for kind in KINDS.values() if kind.part) == 100
