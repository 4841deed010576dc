"""A headless Chromium for the tests of pages, driven by Playwright.

`open_browser()` yields the browser, `open_page()` a page with its requests and console messages.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from requirements import browser_program


@contextmanager
def open_browser() -> Generator[Browser]:
    """Yield a headless Chromium; tests that call this are marked `needs("browser")`."""
    program = browser_program()
    with sync_playwright() as playwright:
        # A container has no kernel sandbox and a small /dev/shm; the pages are trusted.
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class RecordedPage:
    """A page with everything that happened since it was opened."""

    page: Page
    requests: list[str] = field(default_factory=list[str])
    """URLs, that of the page included."""
    errors: list[str] = field(default_factory=list[str])
    """Errors and warnings of the console, and uncaught errors of scripts."""


@contextmanager
def open_page(
    browser: Browser,
    *,
    width: int = 1280,
    height: int = 900,
    scheme: Literal["light", "dark"] = "light",
    scripts: bool = True,
) -> Generator[RecordedPage]:
    """Yield an empty page in a new context; the caller goes to an address.

    Args:
        browser: from `open_browser`.
        width: of the window in CSS pixels.
        height: of the window in CSS pixels.
        scheme: preferred color scheme.
        scripts: whether the browser runs scripts.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=scripts
    )
    try:
        recorded = RecordedPage(context.new_page())
        recorded.page.on("request", lambda request: recorded.requests.append(request.url))
        recorded.page.on("pageerror", lambda error: recorded.errors.append(str(error)))
        recorded.page.on("console", lambda message: _record(message, recorded.errors))
        yield recorded
    finally:
        context.close()


def overflow(page: Page) -> list[str]:
    """Return up to five elements that make the whole page scroll horizontally; empty if it does not.

    Elements inside a container that scrolls, such as a wide table, are not counted.
    """
    return page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= width) return [];
            const isContained = each => {
                for (let box = each.parentElement; box !== document.body && box; box = box.parentElement)
                    if (getComputedStyle(box).overflowX !== "visible") return true;
                return false;
            };
            const wide = [...document.body.querySelectorAll("*")]
                .filter(each => each.getBoundingClientRect().right > width + 0.5 && !isContained(each))
                .map(each => each.outerHTML.slice(0, 120));
            return wide.length ? wide.slice(0, 5) : ["the body itself"];
        }"""
    )


def _record(message: ConsoleMessage, errors: list[str]) -> None:
    if message.type in ("error", "warning"):
        errors.append(f"{message.type}: {message.text}")
