"""Files, classes and functions that CONTRIBUTING and docs/design.md name exist; links and figures are right."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("CONTRIBUTING.md", "docs/design.md")
SOURCES = ("packages/*/src/**/*.py", "tools/*.py")
FILE_NAME = re.compile(r"\.?[\w*.{},-]*(/[\w*.{},-]*)+|[\w.-]+\.(py|md|toml|lock|json)")
IDENTIFIER = re.compile(r"@?[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\([^)]*\))?")
# Identifiers of other libraries and values of fields.
FOREIGN = {
    "einops.rearrange",
    "reshape()",
    "reshape",
    "reset()",
    "CI",
    "ValueError",
    "assert",
    "dev",
    "test",
    "lint",
    "cpu",
    "python",
}


def code_spans(page: str) -> list[str]:
    """Return the inline code of a page, without its code blocks and the new files of its templates."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"[Nn]ew file `[^`]+`", "", text)
    return re.findall(r"`([^`\n]+)`", text)


@cache
def defined_names() -> frozenset[str]:
    """Return the names of all modules, classes, functions, arguments, variables and fields in the repository."""
    names: set[str] = set()
    for path in {path for pattern in SOURCES for path in ROOT.glob(pattern)}:
        names |= {path.stem, path.parent.name}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                    names.add(node.name)
                case ast.arg():
                    names.add(node.arg)
                case ast.Name(ctx=ast.Store()):
                    names.add(node.id)
                case ast.Constant(value=str(text)) if text.isidentifier():
                    names.add(text)
                case _:
                    pass
    return frozenset(names)


def is_file(name: str) -> bool:
    """Return whether a path exists, below the root or a source folder; a mere file name may be in any folder."""
    pattern = re.sub(r"<[\w ]+>", "*", name).strip("/")
    sources = list(ROOT.glob("packages/*/src"))
    if "/" not in name and any(next(source.rglob(pattern), None) for source in sources):
        return True
    return any(next(folder.glob(pattern), None) for folder in (ROOT, *sources))


def problem(span: str) -> str | None:
    """Return what is wrong with inline code that names a file or an identifier; None for anything else."""
    if span in FOREIGN:
        return None
    if FILE_NAME.fullmatch(re.sub(r"<[\w ]+>", "*", span.partition("#")[0])):
        return None if is_file(span.partition("#")[0]) else f"there is no file {span}"
    if IDENTIFIER.fullmatch(span):
        missing = set(span.strip("@").partition("(")[0].split(".")) - defined_names()
        return f"nothing is called {', '.join(sorted(missing))}" if missing else None
    return None


@pytest.mark.parametrize("page", PAGES)
def test_everything_that_a_page_names_exists(page: str):
    problems = [text for span in code_spans(page) if (text := problem(span))]
    assert problems == []


@pytest.mark.parametrize("span", ["snn_fusion/no_such_file.py", "NoSuchClass", "no_such_function()", "docs/none.md"])
def test_a_name_that_does_not_exist_is_noticed(span: str):
    assert problem(span)


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_pages_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("packages/*/README.md")]
    broken: list[str] = []
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


def test_comments_link_headings_of_the_decisions():
    known = anchors(ROOT / "docs" / "decisions.md")
    links = [
        (path, anchor)
        for pattern in (*SOURCES, "tests/**/*.py", "benchmarks/*.py")
        for path in ROOT.glob(pattern)
        for anchor in re.findall(r"docs/decisions\.md#([\w-]+)", path.read_text(encoding="utf-8"))
    ]
    assert [f"{path.relative_to(ROOT)}: {anchor}" for path, anchor in links if anchor not in known] == []


def test_the_figures_are_what_the_script_draws():
    command = [sys.executable, ROOT / "tools" / "drawings.py", "--check"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_folders_in_the_figure_of_a_batch_exist():
    figure = (ROOT / "docs" / "images" / "batch.svg").read_text(encoding="utf-8")
    folders = re.findall(r">((?:snn_\w+|scmrl)/[\w./]+)<", figure)
    assert len(folders) == 10
    assert [folder for folder in folders if not is_file(folder)] == []
