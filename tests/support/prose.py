"""What the project says to people: its documents, and the texts in its code."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("encoder", "indexer", "pipelines")
APART = frozenset({"CLI.md", "LOG.md"})
"""Written by the commands, whose texts are checked where they stand; and a diary, which is not rewritten."""
PRINTERS = frozenset({"HashgrainError", "notice", "result"})
"""Functions whose strings a user reads, beside what is raised."""

UNITS = (
    "ms|milliseconds|images|pictures|bytes|bits|seconds|rows|lists|one|threads?|codes?|quer(?:y|ies)|hits?|index|panel|"
    "line|hill|process|layer|time|point|core|loop|dim|files?|extent|object|spec"
)
EACH = (
    "query|second|code|image|shard|level|list|segment|row|core|batch|bit|line|method|stage|picture|class|step|epoch|"
    "worker|device|GPU|panel|point"
)
CLUMSY = {
    "per, not a distributive a": re.compile(rf"\b(?:{UNITS}) an? (?:{EACH})\b", re.IGNORECASE),
    "is not, not is no": re.compile(r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|farther\b)"),
}
"""What the documents, messages and docstrings avoid, by the rule it breaks."""
ALLOWED = re.compile(
    r"(?:hits|rows) a query (?:shows|returns)|rows a level of a cascade leaves|ms a query takes", re.IGNORECASE
)
"""Relative clauses, which look the same to `CLUMSY`."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of prose and where it stands."""

    where: str
    """`path:line`."""
    words: str
    """With any white space as one space."""


def clumsy(texts: Iterable[Text]) -> list[str]:
    """Return `where: rule: words` for each place that breaks a rule."""
    return [
        f"{text.where}: {rule}: {text.words[max(0, broken.start() - 30) : broken.end() + 30]}"
        for text in texts
        for rule, pattern in CLUMSY.items()
        for broken in pattern.finditer(ALLOWED.sub("", text.words))
    ]


def documents() -> Iterator[Text]:
    """Yield the paragraphs and table rows of README, ARCHITECTURE, model card and docs/."""
    paths = [
        ROOT / "README.md",
        ROOT / "ARCHITECTURE.md",
        ROOT / "encoder/model/builtin.md",
        *(ROOT / "docs").glob("*.md"),
    ]
    for path in paths:
        if path.name in APART:
            continue
        number = 1
        for paragraph in re.split(r"(\n\s*\n)", path.read_text()):
            yield _text(path, number, paragraph)
            number += paragraph.count("\n")


def docstrings(path: Path) -> Iterator[Text]:
    """Yield the docstrings of a module: of itself, and of its public constants, classes, fields and functions."""
    tree = ast.parse(path.read_text())
    yield from (_text(path, line, words) for line, words in _documented(tree))


def help_texts(path: Path) -> Iterator[Text]:
    """Yield the help texts of options and arguments in a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg in {"help", "show_default"}:
            yield from (_text(path, node.value.lineno, words) for words in _literals(node.value))


def error_texts(path: Path) -> Iterator[Text]:
    """Yield the messages of errors, and what a module prints; values in them are left out."""
    calls = dict[int, ast.Call]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            calls[id(node.exc)] = node.exc
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PRINTERS:
            calls[id(node)] = node
    for call in calls.values():
        for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
            yield from (_text(path, call.lineno, words) for words in _literals(argument))


def _literals(node: ast.AST) -> Iterator[str]:
    """Yield string literals, those of an f-string as one with `_` in the place of each value."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "_" for part in node.values)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from _literals(child)


def _documented(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[int, str]]:
    for before, child in zip([None, *node.body], node.body, strict=False):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant) and isinstance(child.value.value, str):
            if not _private(before):
                yield child.lineno, child.value.value
        elif isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith(
            "_"
        ):
            yield from _documented(child)


def _private(node: ast.stmt | None) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id.startswith("_") for target in targets)


def _text(path: Path, line: int, words: str) -> Text:
    return Text(f"{path.relative_to(ROOT)}:{line}", " ".join(words.split()))
