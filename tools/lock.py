"""Strip download addresses from uv.lock, and check that the committed lock is stripped and up to date.

uv writes the index and the address of every file into a lock, which then works behind that index only. The committed
lock has neither; the first `uv sync` or `uv run` writes them back:

    uv writes                                      strip leaves
    source = { registry = "<address>" }            source = { registry = "pypi" }
    url = "<address>/<file name>"                  path = "<file name>"
    size = ..., upload-time = "..."                nothing: not every index has them, the hash decides
    [manifest] and its sub-tables                  nothing

Without [manifest], uv resolves again, prefers every version that the lock names, and writes the lock that it wrote
before. It takes the hashes from the index and does not compare them with the stripped ones; `check` does.

Run it with plain Python: `uv run python tools/lock.py strip` makes uv write the addresses first, which is harmless but
slower.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

TABLE = re.compile(r"\[+([\w.-]+)\]+\s*")
REGISTRY = re.compile(r'\bregistry = "[a-z][a-z0-9+.-]*://[^"]*"')
# A file has its own line. A `url` elsewhere is a dependency given by its address, which has no name to fall back on;
# strip refuses it.
FILE = re.compile(r'(?P<start>sdist = \{ |    \{ )url = "(?P<address>[a-z][a-z0-9+.-]*://[^"]*)"')
INDEX_FIELDS = re.compile(r', (?:size = \d+|upload-time = "[^"]*")')
STRIPPED_FILE = re.compile(r"(?:sdist = \{ |    \{ )path = ")

DIFF_LINES = 60
RENEW = "python tools/lock.py strip && uv lock && python tools/lock.py strip && git add uv.lock"
# These variables keep uv from writing the lock.
FREEZING = ("UV_FROZEN", "UV_LOCKED")


class LockError(Exception):
    """The lock or its surroundings are wrong; the message says what to do."""


class Stripped(NamedTuple):
    """A lock without addresses, and counts of what was removed."""

    text: str
    registries: int
    files: int
    manifest: bool


def strip_addresses(lock: str) -> Stripped:
    """Return the text of a lock without addresses and [manifest]; a stripped lock is returned unchanged."""
    try:
        tomllib.loads(lock)
    except tomllib.TOMLDecodeError as error:
        raise LockError(
            f"uv.lock is not valid TOML: {error}.\n"
            "After a merge, take either side (`git checkout --ours uv.lock`) and run `uv lock`."
        ) from error
    lines: list[str] = []
    registries = files = 0
    manifest = in_manifest = False
    for number, line in enumerate(lock.splitlines(keepends=True), start=1):
        if table := TABLE.fullmatch(line):
            in_manifest = table[1].split(".")[0] == "manifest"
            manifest |= in_manifest
        if in_manifest:
            continue
        line, matches = REGISTRY.subn('registry = "pypi"', line)
        registries += matches
        if file := FILE.match(line):
            line = f'{file["start"]}path = "{file_name(file["address"], number)}"{line[file.end() :]}'
            files += 1
        if STRIPPED_FILE.match(line):
            line = INDEX_FIELDS.sub("", line)
        if "://" in line:
            raise LockError(
                f"line {number} of uv.lock holds an address that has no stripped form:\n    {line.strip()[:160]}\n"
                "Depend on a release from an index instead of a URL or a git repository."
            )
        lines.append(line)
    return Stripped("".join(lines), registries, files, manifest)


def file_name(address: str, number: int) -> str:
    """Return the last part of an address, decoded: uv reads `path` literally, without %2B or a query."""
    name = unquote(urlsplit(address).path.rpartition("/")[2])
    if not re.fullmatch(r"[\w.+!-]+", name):
        raise LockError(f"line {number} of uv.lock: the address {address!r} does not end in the name of a file.")
    return name


def strip(root: Path) -> None:
    """Strip the lock in the working tree."""
    lock = root / "uv.lock"
    if not lock.is_file():
        raise LockError(f"there is no {lock}; run `uv lock`.")
    before = lock.read_bytes().decode()
    after = strip_addresses(before)
    if after.text == before:
        print("uv.lock holds no addresses; left as it is.")
        return
    beside = lock.with_name("uv.lock.new")
    beside.write_bytes(after.text.encode())
    beside.replace(lock)
    print(
        f"uv.lock: addresses of {after.files} files and {after.registries} registries taken out"
        f"{', [manifest] dropped' if after.manifest else ''}. Next: git add uv.lock"
    )


def check(root: Path) -> None:
    """Check that the lock in the git index is stripped and that uv resolves the pyproject files to it."""
    committed = committed_lock(root)
    for number, line in enumerate(committed.splitlines(), start=1):
        if "://" in line:
            raise LockError(
                f"line {number} of the committed uv.lock holds an address:\n    {line.strip()[:160]}\n"
                "Run: python tools/lock.py strip && git add uv.lock"
            )
    if strip_addresses(committed).text != committed:
        raise LockError(
            "the committed uv.lock holds no address, but is not in the stripped form.\n"
            "Run: python tools/lock.py strip && git add uv.lock"
        )
    locked = strip_addresses(lock_again(root, committed)).text
    difference = list(
        difflib.unified_diff(
            committed.splitlines(), locked.splitlines(), "committed uv.lock", "what uv locks now", lineterm=""
        )
    )
    if not difference:
        print("The committed uv.lock holds no address, and uv locks the same.")
        return
    diff = "\n".join(excerpt(difference))
    raise LockError(f"the committed uv.lock is not what uv locks from the pyproject files.\n\n{diff}\n\nRun: {RENEW}")


def excerpt(lines: list[str]) -> list[str]:
    """Return the first lines of a diff."""
    left_out = len(lines) - DIFF_LINES
    return lines if left_out <= 0 else [*lines[:DIFF_LINES], f"... and {left_out} lines more"]


def committed_lock(root: Path) -> str:
    """Return the lock in the git index: `uv run` may have written addresses into the one in the working tree."""
    git = shutil.which("git")
    if git is None:
        raise LockError("git is not on PATH; the check reads the committed uv.lock from the git index.")
    blob = subprocess.run([git, "-C", root, "cat-file", "blob", ":./uv.lock"], capture_output=True, check=False)
    if blob.returncode:
        raise LockError(
            f"git finds no uv.lock in its index:\n    {blob.stderr.decode(errors='replace').strip()}\n"
            f"In a checkout of the repository, run: {RENEW}"
        )
    return blob.stdout.decode()


def lock_again(root: Path, committed: str) -> str:
    """Return the lock that uv writes in a temporary folder with the pyproject files and the committed lock."""
    if not (root / "pyproject.toml").is_file():
        raise LockError(f"there is no pyproject.toml in {root}; give the root of the workspace with --root.")
    with tempfile.TemporaryDirectory(prefix="lock-check-") as folder:
        copy = Path(folder)
        for project in [root / "pyproject.toml", *sorted(root.glob("packages/*/pyproject.toml"))]:
            target = copy / project.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project, target)
        lock = copy / "uv.lock"
        lock.write_bytes(committed.encode())
        # This Python, so that uv neither looks for nor downloads another; the lock does not depend on it.
        done = subprocess.run(
            [*uv_command(), "lock", "--python", sys.executable],
            cwd=copy,
            env={name: value for name, value in os.environ.items() if name not in FREEZING},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LockError(
                f"`uv lock` failed on the committed uv.lock:\n\n{done.stderr.strip()}\n\n"
                "It needs the package index. If that answers, the lock is damaged or the pyproject files contradict\n"
                f"each other: fix those, take uv.lock from an earlier commit, and run: {RENEW}"
            )
        again = lock.read_bytes().decode()
    if again == committed:
        raise LockError(
            "uv accepted the stripped uv.lock without resolving, so nothing was checked.\n"
            "Does the workspace still have members, and does this version of uv still record them in the lock?"
        )
    return again


def uv_command() -> list[str]:
    """Return the command of uv: the one that runs this script, else the one on PATH, else the one in this Python."""
    for uv in (os.environ.get("UV"), shutil.which("uv")):
        if uv and Path(uv).is_file():
            return [uv]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise LockError("uv is not on PATH; install it with `pip install uv`.")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Keep download addresses out of the committed uv.lock.",
        epilog="exit status: 0 the lock is right, 1 it is wrong (the message says what to do), 2 wrong usage",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(__file__).resolve().parent.parent,
        metavar="FOLDER",
        help="root of the workspace (default: the repository of this script)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    strip_help = "take the addresses out of uv.lock in the working tree, before `git add uv.lock`"
    commands.add_parser("strip", help=strip_help, description=strip_help).set_defaults(command=strip)
    check_help = "check that uv.lock in the git index holds no address and is what uv locks (needs the package index)"
    commands.add_parser("check", help=check_help, description=check_help).set_defaults(command=check)
    options = parser.parse_args()
    try:
        options.command(options.root)
    except LockError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
