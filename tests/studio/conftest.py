"""A real Chromium before services of the embedded model, and of one that can do everything."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from serving.settings import EMBEDDED_MODEL
from tests.serving.conftest import Serve, Served
from tests.serving.conftest import able as able
from tests.serving.conftest import checkpoint as checkpoint
from tests.serving.conftest import serve_on as serve_on
from tests.studio.browser import ARGUMENTS, CHROMIUM, enter

PATIENCE = 60_000
"""Milliseconds that something may take to be seen; a slow machine takes most."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, by name, what needs a browser where there is none."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()) and CHROMIUM is None:
            item.add_marker(pytest.mark.skip(reason="chromium is not on this machine"))


@pytest.fixture(scope="session")
def studio(serve_on: Serve, able: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A service of random weights that can do everything, for tests that do not break theirs."""
    return serve_on(able, tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="session")
def embedded(serve_on: Serve, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A service of the embedded model."""
    return serve_on(Path(EMBEDDED_MODEL), tmp_path_factory.mktemp("embedded"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A visitor who was never here before."""
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def blank(context: BrowserContext) -> Iterator[Page]:
    """An empty page; whatever its console calls an error fails the test."""
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))

    def note(told: ConsoleMessage) -> None:
        # A refused request is told there, too, whatever the page makes of it.
        if told.type == "error" and "status of 4" not in told.text:
            problems.append(told.text)

    page.on("console", note)
    yield page
    assert not problems


@pytest.fixture
def page(blank: Page, studio: Served) -> Page:
    """The studio of what can do everything, open and ready."""
    enter(blank, studio.url)
    return blank
