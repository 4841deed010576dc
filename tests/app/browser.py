"""A real browser for the tests of pages: Chromium without a window, driven by Playwright.

`open_browser()` yields the browser; `open_page()` a page of it together with all that it asked for and complained of.
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
    """A headless Chromium, closed in the end; tests that call this are marked `needs("browser")`."""
    program = browser_program()
    with sync_playwright() as playwright:
        # A container has neither the kernel's sandbox nor a large /dev/shm; the pages are our own.
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, and what happened in it since it was opened."""

    page: Page
    requests: list[str] = field(default_factory=list[str])
    """Addresses that it asked for, itself among them."""
    complaints: list[str] = field(default_factory=list[str])
    """Errors and warnings of its console, and errors that its scripts did not catch."""


@contextmanager
def open_page(
    browser: Browser,
    *,
    width: int = 1280,
    height: int = 900,
    scheme: Literal["light", "dark"] = "light",
    scripts: bool = True,
) -> Generator[Watched]:
    """An empty page in a context of its own, watched from the start; the caller goes to the address.

    Args:
        browser: what `open_browser` yields.
        width: of the window, in CSS pixels.
        height: of the window, in CSS pixels.
        scheme: the colors that the reader prefers.
        scripts: whether the browser runs scripts.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=scripts
    )
    try:
        watched = Watched(context.new_page())
        watched.page.on("request", lambda request: watched.requests.append(request.url))
        watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        watched.page.on("console", lambda message: _note(message, watched.complaints))
        yield watched
    finally:
        context.close()


def overflow(page: Page) -> list[str]:
    """What makes the whole page scroll sideways, five such elements at most; empty if it does not.

    What scrolls within itself, such as a wide table in a box of its own, is none of it.
    """
    return page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= width) return [];
            const boxed = each => {
                for (let box = each.parentElement; box !== document.body && box; box = box.parentElement)
                    if (getComputedStyle(box).overflowX !== "visible") return true;
                return false;
            };
            const found = [...document.body.querySelectorAll("*")]
                .filter(each => each.getBoundingClientRect().right > width + 0.5 && !boxed(each))
                .map(each => each.outerHTML.slice(0, 120));
            return found.length ? found.slice(0, 5) : ["the body itself"];
        }"""
    )


def _note(message: ConsoleMessage, complaints: list[str]) -> None:
    if message.type in ("error", "warning"):
        complaints.append(f"{message.type}: {message.text}")
