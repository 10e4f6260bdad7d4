"""Debian's Chromium, and how the studio is entered."""

import shutil

from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


def enter(page: Page, url: str) -> None:
    """Open the page and wait until it knows what is served."""
    page.goto(url)
    page.locator("#size option").first.wait_for(state="attached")
