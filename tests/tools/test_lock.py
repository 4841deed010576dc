"""Test tools/lock.py with a fake lock and a fake uv, without a network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LOCK_PY = Path(__file__).parents[2] / "tools" / "lock.py"

FULL = """\
version = 1
requires-python = ">=3.11"

[manifest]
members = [
    "app",
    "workspace",
]
constraints = [{ name = "foo", specifier = "<2" }]
overrides = [
    { name = "baz", url = "https://example.invalid/baz.whl" },
]

[[manifest.dependency-metadata]]
name = "bar"
requires-dist = ["foo"]

[[package]]
name = "app"
version = "0.1.0"
source = { editable = "packages/app" }
dependencies = [
    { name = "foo", version = "1.0+cu1", source = { registry = "https://example.invalid/simple" } },
]

[package.metadata]
requires-dist = [{ name = "foo", specifier = ">=1" }]

[[package]]
name = "foo"
version = "1.0+cu1"
source = { registry = "https://example.invalid/simple" }
sdist = { url = "https://example.invalid/a/b/foo-1.0%2Bcu1.tar.gz", hash = "sha256:aa", size = 12, \
upload-time = "2026-01-02T03:04:05Z" }
wheels = [
    { url = "https://example.invalid/c/foo-1.0%2Bcu1-cp311-cp311-any.whl?token=t#f", hash = "sha256:bb", size = 34 },
    { url = "https://example.invalid/d/foo-1.0%2Bcu1-py3-none-any.whl", hash = "sha256:cc" },
]
"""

STRIPPED = """\
version = 1
requires-python = ">=3.11"

[[package]]
name = "app"
version = "0.1.0"
source = { editable = "packages/app" }
dependencies = [
    { name = "foo", version = "1.0+cu1", source = { registry = "pypi" } },
]

[package.metadata]
requires-dist = [{ name = "foo", specifier = ">=1" }]

[[package]]
name = "foo"
version = "1.0+cu1"
source = { registry = "pypi" }
sdist = { path = "foo-1.0+cu1.tar.gz", hash = "sha256:aa" }
wheels = [
    { path = "foo-1.0+cu1-cp311-cp311-any.whl", hash = "sha256:bb" },
    { path = "foo-1.0+cu1-py3-none-any.whl", hash = "sha256:cc" },
]
"""

FAKE_UV = f"""#!{sys.executable}
import pathlib, sys
assert sys.argv[1] == "lock", sys.argv
assert pathlib.Path("packages/app/pyproject.toml").is_file()
result = pathlib.Path(__file__).with_name("result")
if not result.exists():
    sys.exit("error: no route to the index")
pathlib.Path("uv.lock").write_bytes(result.read_bytes())
"""


class Workspace:
    """A git repository with one member, and an executable in place of uv that writes a lock of our choice."""

    def __init__(self, folder: Path):
        self.root = folder / "root"
        self.uv = folder / "bin" / "uv"
        for path in ("pyproject.toml", "packages/app/pyproject.toml"):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text("[project]\n")
        self.uv.parent.mkdir()
        self.uv.write_text(FAKE_UV)
        self.uv.chmod(0o755)
        # A test run from a git hook inherits the hook's repository.
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        self.environment["UV"] = str(self.uv)
        self.git("init", "--quiet")

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.root, env=self.environment, check=True)

    def commit(self, lock: str) -> None:
        """Stage the lock."""
        (self.root / "uv.lock").write_text(lock)
        self.git("add", "uv.lock")

    def set_uv_result(self, lock: str) -> None:
        self.uv.with_name("result").write_text(lock)

    def run(self, command: str) -> tuple[int, str]:
        done = subprocess.run(
            # -S: without the installed packages, which the script must not need.
            [sys.executable, "-S", LOCK_PY, "--root", self.root, command],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def lock(self) -> str:
        return (self.root / "uv.lock").read_text()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_strip_removes_addresses_and_manifest(workspace: Workspace):
    workspace.commit(FULL)
    status, output = workspace.run("strip")
    assert (status, workspace.lock) == (0, STRIPPED)
    assert "3 files and 2 registries taken out, [manifest] dropped" in output
    assert {path.name for path in workspace.root.iterdir()} == {".git", "packages", "pyproject.toml", "uv.lock"}


def test_strip_leaves_a_stripped_lock_alone(workspace: Workspace):
    workspace.commit(STRIPPED)
    status, output = workspace.run("strip")
    assert (status, workspace.lock) == (0, STRIPPED)
    assert "left as it is" in output


@pytest.mark.parametrize(
    "source",
    [
        '{ url = "https://example.invalid/foo-1.0.tar.gz" }',
        '{ git = "https://example.invalid/foo?rev=main#0123" }',
        '{ git = "ssh://git@example.invalid/foo#0123" }',
    ],
)
def test_strip_refuses_an_address_it_cannot_replace(workspace: Workspace, source: str):
    lock = FULL.replace('{ registry = "https://example.invalid/simple" }\nsdist', f"{source}\nsdist")
    workspace.commit(lock)
    status, output = workspace.run("strip")
    assert (status, workspace.lock) == (1, lock)
    assert f"line {lock.splitlines().index(f'source = {source}') + 1} of uv.lock" in output


def test_strip_refuses_an_address_without_a_file_name(workspace: Workspace):
    workspace.commit(FULL.replace("/d/foo-1.0%2Bcu1-py3-none-any.whl", "/d/"))
    status, output = workspace.run("strip")
    assert status == 1
    assert "does not end in the name of a file" in output


def test_strip_refuses_merge_markers(workspace: Workspace):
    workspace.commit("<<<<<<< ours\n" + FULL)
    status, output = workspace.run("strip")
    assert status == 1
    assert "not valid TOML" in output


def test_strip_reports_a_missing_lock(workspace: Workspace):
    status, output = workspace.run("strip")
    assert status == 1
    assert "run `uv lock`" in output


def test_check_passes_when_uv_locks_the_same(workspace: Workspace):
    workspace.commit(STRIPPED)
    workspace.set_uv_result(FULL)
    assert workspace.run("check") == (0, "The committed uv.lock holds no address, and uv locks the same.\n")


def test_check_reads_what_is_committed_not_what_uv_wrote_since(workspace: Workspace):
    workspace.commit(STRIPPED)
    workspace.set_uv_result(FULL)
    (workspace.root / "uv.lock").write_text(FULL)
    assert workspace.run("check")[0] == 0
    assert workspace.lock == FULL


def test_check_ignores_fields_that_depend_on_the_index(workspace: Workspace):
    workspace.commit(STRIPPED)
    workspace.set_uv_result(FULL.replace("example.invalid", "mirror.invalid").replace(", size = 34", ""))
    assert workspace.run("check")[0] == 0


def test_check_fails_on_an_address(workspace: Workspace):
    workspace.commit(FULL)
    workspace.set_uv_result(FULL)
    status, output = workspace.run("check")
    assert status == 1
    assert "line 11 of the committed uv.lock holds an address" in output
    assert "tools/lock.py strip && git add uv.lock" in output


def test_check_fails_on_a_manifest(workspace: Workspace):
    workspace.commit(STRIPPED.replace("[[package]]", '[manifest]\nmembers = ["app"]\n\n[[package]]', 1))
    workspace.set_uv_result(FULL)
    status, output = workspace.run("check")
    assert status == 1
    assert "not in the stripped form" in output


@pytest.mark.parametrize(
    ("committed", "locked"),
    [('"sha256:bb"', '"sha256:dd"'), ('specifier = ">=1"', 'specifier = ">=1.0"'), ("1.0+cu1", "1.1")],
    ids=["hash", "dependency", "version"],
)
def test_check_fails_on_a_difference_and_shows_it(workspace: Workspace, committed: str, locked: str):
    workspace.commit(STRIPPED)
    workspace.set_uv_result(FULL.replace("%2B", "+").replace(committed, locked))
    status, output = workspace.run("check")
    assert status == 1
    lines = output.splitlines()
    assert any(line.startswith("-") and committed in line for line in lines)
    assert any(line.startswith("+") and locked in line for line in lines)
    assert "git add uv.lock" in lines[-1]


def test_check_fails_when_a_file_of_a_locked_release_is_not_in_the_lock(workspace: Workspace):
    new = '    { path = "foo-1.0+cu1-cp399-cp399-any.whl", hash = "sha256:ee" },\n'
    workspace.commit(STRIPPED)
    workspace.set_uv_result(FULL.replace("wheels = [\n", "wheels = [\n" + new))
    status, output = workspace.run("check")
    assert status == 1
    assert "+" + new in output


def test_check_fails_when_uv_does_not_resolve(workspace: Workspace):
    workspace.commit(STRIPPED)
    workspace.set_uv_result(STRIPPED)
    status, output = workspace.run("check")
    assert status == 1
    assert "nothing was checked" in output


def test_check_passes_on_what_uv_printed_when_it_failed(workspace: Workspace):
    workspace.commit(STRIPPED)
    status, output = workspace.run("check")
    assert status == 1
    assert "error: no route to the index" in output


def test_check_reports_that_nothing_is_committed(workspace: Workspace):
    (workspace.root / "uv.lock").write_text(STRIPPED)
    status, output = workspace.run("check")
    assert status == 1
    assert "git finds no uv.lock in its index" in output


def test_check_finds_uv_on_path(workspace: Workspace):
    workspace.commit(STRIPPED)
    workspace.set_uv_result(FULL)
    del workspace.environment["UV"]
    workspace.environment["PATH"] = f"{workspace.uv.parent}{os.pathsep}{workspace.environment['PATH']}"
    assert workspace.run("check")[0] == 0


@pytest.mark.parametrize("missing", ["git", "uv"])
def test_check_names_the_missing_program(workspace: Workspace, tmp_path: Path, missing: str):
    workspace.commit(STRIPPED)
    only = tmp_path / "only"
    only.mkdir()
    if missing == "uv":
        (only / "git").symlink_to(str(shutil.which("git")))
        del workspace.environment["UV"]
    workspace.environment["PATH"] = str(only)
    status, output = workspace.run("check")
    assert status == 1
    assert f"{missing} is not on PATH" in output
