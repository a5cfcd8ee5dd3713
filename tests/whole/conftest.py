import pytest

from tests.tour import Tour


@pytest.fixture
def tour(app, this_shop, node, panel, wallet, worker, time_machine) -> Tour:
    return Tour(app, this_shop, node, panel, wallet, worker, time_machine)
