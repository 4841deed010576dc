"""List words in names, texts and comments that have a plainer form, and names that two classes share.

    python tools/language.py                  every tracked file; exit code 1 if anything is listed
    python tools/language.py packages docs    these files and folders
    python tools/language.py --count          the number of findings per folder and per word

Read are names that Python files define, their strings and comments, and every line of Markdown, help snapshots,
templates, style sheets and scripts.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

NAMES = {
    "found": "the noun that it holds: matches, result",
    "kept": "the noun that it holds: selected, rows",
    "given": "the noun that it holds: value, options",
    "wanted": "expected, requested",
    "shown": "text, value",
    "said": "message, output, prediction",
    "told": "message",
    "made": "the noun that it holds",
    "taken": "the noun that it holds",
    "heard": "the noun that it holds",
    "asked": "requested",
    "place": "index, position, column, key, field path, region",
    "places": "indices, positions, columns, keys, regions",
    "placed": "the noun that it holds",
    "Said": "Predictions",
    "Placed": "the noun that it holds",
    "says": "predict_batch, or a verb of what it does",
    "sense": "modality",
    "senses": "modalities",
    "because": "reason",
    "cure": "remedy",
    "obstacle": "reason",
    "listening": "the noun that it holds",
    "as_it_is": "a noun",
    "what_it_says": "a noun",
    "without_exchange": "no_sync",
    "from_first": "broadcast_from_rank0",
}
"""Names that a definition must not have, and what to write instead."""

PHRASES = {
    r"senses?": "modality",
    r"numbers? that (?:are|is) none|(?:or|is|are|become|became) no numbers?|not a number at all": "NaN",
    r"says? nothing of|was not asked|what the files go over": "is skipped, is not evaluated",
    r"whoever|whatever sees|who sees": "a plain subject",
    r"shall": "must, will",
    r"none the less|nonetheless|all the same": "still",
    r"(?:is|are|be|was|were|been) told": "is reported",
    r"go(?:es)? on|went on|going on|goes over": "continues, resumes",
    r"on the way|as (?:it|they) lies?|which is which|the other way round": "a plain statement",
    r"of (?:its|their|his) own(?=\s*(?:[.,;:)]|and |but |$))": "separate, own",
    r"by (?:itself|themselves)|one by one": "alone, separately",
    r"mend(?:s|ed|ing)?": "fix",
    r"weighed": "compared, considered",
    r"ask(?:s|ed|ing)? (?:the|a|its|this) (?:model|network)": "run the model, predict",
    r"model's answers?|(?:it|model) says": "prediction",
    r"look(?:s|ed|ing)? (?:at|through)": "read, check, inspect",
    r"pictures?": "image, figure, plot, spectrogram",
    r"(?:set|put|keeps?|kept|stays?|stands?|stood|trained|lies?|takes?|taken|tells?|told) (?:\w+ )?apart": "separate",
    r"learnt|spelt|whilst|amongst": "American spelling",
    r"(?:colour|behaviour|neighbour|favour|honour|flavour|labour)\w*": "American spelling: -or",
    r"(?:centre|metre|fibre|grey|artefact|licence|programme|catalogue|analogue|cheque)s?": "American spelling",
    r"(?:un)?(?:label|model|cancel|travel|signal|channel|marshal)l(?:ed|ing|er)": "American spelling: one l",
    r"\w*(?:normal|initial|serial|synchron|optim|general|special|central|local|minim|maxim|regular|organ|visual|"
    r"summar|memor|recogn|penal|quant|discret|factor|token|stabil|vector|custom|util)is(?:e|es|ed|ing|er|ation)": (
        "American spelling: -ize"
    ),
    r"analys(?:e|ed|ing)|paralys(?:e|ed)|defence|offence|judgement|ageing|skilful|towards|afterwards": (
        "American spelling"
    ),
}
"""Words and phrases of prose, and what to write instead. Matched as whole words, without regard to case."""

ALLOWED = {
    ("(tools|tests/contracts)/(test_)?language.py", ".*"): "the list itself and its test",
}
"""Patterns of path and word that are allowed, each with its reason."""

TEXTS = (".md", ".txt", ".j2", ".html", ".js", ".css", ".c", ".h", ".toml", ".yaml")
PROSE = re.compile(
    "|".join(rf"(?P<p{number}>\b(?:{phrase})\b)" for number, phrase in enumerate(PHRASES)), re.IGNORECASE
)
ADVICE = list(PHRASES.values())


class Finding(NamedTuple):
    """A word to replace, with its file and line."""

    path: str
    line: int
    word: str
    advice: str


def prose_findings(path: str, line: int, text: str) -> Iterator[Finding]:
    """Yield the phrases of a text that starts in this line."""
    for match in PROSE.finditer(text):
        number = int(str(match.lastgroup)[1:])
        yield Finding(path, line + text.count("\n", 0, match.start()), match[0].lower(), ADVICE[number])


def defined_names(node: ast.AST) -> list[str]:
    """Return the names that this node defines: variables, arguments, attributes, functions and classes."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.arg():
            return [node.arg]
        case ast.Name(ctx=ast.Store()):
            return [node.id]
        case ast.Attribute(ctx=ast.Store()):
            return [node.attr]
        case ast.MatchAs(name=str(name)):
            return [name]
        case _:
            return []


def python_findings(path: str, source: str) -> Iterator[Finding]:
    """Yield the findings in names, strings and comments of a Python file."""
    for node in ast.walk(ast.parse(source)):
        line: int = getattr(node, "lineno", 1)
        for name in defined_names(node):
            if name.strip("_") in NAMES:
                yield Finding(path, line, name, NAMES[name.strip("_")])
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            # A string of one word is a key or a value; it counts like a name.
            if re.fullmatch(r"\w+", node.value):
                if node.value in ("sense", "senses"):
                    yield Finding(path, line, node.value, NAMES[node.value])
            else:
                yield from prose_findings(path, line, node.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from prose_findings(path, token.start[0], token.string)


def is_allowed(finding: Finding) -> bool:
    """Return whether ALLOWED has the finding."""
    return any(re.fullmatch(path, finding.path) and re.fullmatch(word, finding.word) for path, word in ALLOWED)


def shared_class_names(root: Path, paths: Iterable[str]) -> Iterator[Finding]:
    """Yield every class of a package whose name another class of that package has, private ones excepted."""
    first: dict[tuple[str, str], str] = {}
    for path in paths:
        parts = Path(path).parts
        if parts[0] != "packages" or not path.endswith(".py"):
            continue
        for node in ast.parse((root / path).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                other = first.setdefault((parts[1], node.name), path)
                if other != path:
                    yield Finding(path, node.lineno, node.name, f"another name: {other} has this class too")


def findings(root: Path, paths: Iterable[str]) -> list[Finding]:
    """Return everything to replace in these files."""
    paths = list(paths)
    results: list[Finding] = []
    for path in paths:
        if path.endswith(".py"):
            results += python_findings(path, (root / path).read_text(encoding="utf-8"))
        elif path.endswith(TEXTS):
            results += prose_findings(path, 1, (root / path).read_text(encoding="utf-8"))
    results += shared_class_names(root, paths)
    return [finding for finding in results if not is_allowed(finding)]


def tracked_files(root: Path, under: list[str]) -> list[str]:
    """Return the files that git tracks, or would track, below these folders."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *under]
    output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return sorted(path for path in set(output.splitlines()) if (root / path).is_file())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", help="files and folders (default: all)")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository (default: this one)")
    parser.add_argument("--count", action="store_true", help="print numbers only")
    options = parser.parse_args()
    results = findings(options.root, tracked_files(options.root, options.paths))
    if options.count:
        folders = Counter("/".join(Path(finding.path).parts[:2]) for finding in results)
        words = Counter(finding.word for finding in results)
        print(*[f"{number:6} {name}" for name, number in (*folders.most_common(), *words.most_common(60))], sep="\n")
        print(f"{len(results):6} in all")
    else:
        for path, line, word, advice in results:
            print(f"{path}:{line}: {word!r}: write {advice}")
    return 1 if results else 0


if __name__ == "__main__":
    raise SystemExit(main())
