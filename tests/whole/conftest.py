import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import debian_program
from tests.tour import Tour

# Chromium without windows shows the same pages for half the work. No page is open long enough to
# repay optimizing its script further; axe-core alone repays the first stage of it.
CHROMIUM = "chromium-headless-shell"
CHROMIUM_ARGS = (
    *("--no-sandbox", "--disable-gpu"),
    "--js-flags=--single-threaded,--no-turbofan",
)


@pytest.fixture(scope="session")
def launch():
    """Start a browser for this test alone: `launch("--an-argument")`."""
    path = debian_program(CHROMIUM, CHROMIUM)
    with sync_playwright() as playwright:
        yield lambda *more: playwright.chromium.launch(
            executable_path=path, args=[*CHROMIUM_ARGS, *more]
        )


@pytest.fixture(scope="session")
def chromium(launch) -> Browser:
    browser = launch()
    yield browser
    browser.close()


@pytest.fixture
def tour(app, this_shop, node, panel, wallet, worker, time_machine) -> Tour:
    return Tour(app, this_shop, node, panel, wallet, worker, time_machine)


@pytest.fixture
def started(this_shop, tmp_path):
    """The programs of a test, which are killed at its end, and whose output is printed."""
    programs = []
    yield programs
    for program in programs:
        program.kill()
        print(program.said)
