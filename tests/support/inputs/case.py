"""A case: what is brought, the commands that are run over it one after another, and what a reasonable user expects of them."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from tests.support.inputs.outcome import Outcome

Steps: TypeAlias = Generator[str, Outcome, None]
"""Command lines; what comes out of each is sent back, so that it can be held against what is expected."""


@dataclass(frozen=True)
class Case:
    """One line of a table."""

    title: str
    """What is brought; unique."""
    steps: Callable[[Path], Steps]
    """Makes the input in a folder, which is the current one, and asks for the commands."""
    lacks: Callable[[Path], str | None] = lambda _: None
    """Why it cannot be tried on this machine, None if it can; called with a folder to try things in."""


@dataclass
class Group:
    """One table."""

    title: str
    cases: list[Case] = field(default_factory=list)

    def case(
        self, title: str, lacks: Callable[[Path], str | None] = lambda _: None
    ) -> Callable[[Callable[[Path], Steps]], Callable[[Path], Steps]]:
        """Add what a function makes and asks for."""

        def add(steps: Callable[[Path], Steps]) -> Callable[[Path], Steps]:
            self.cases.append(Case(title, steps, lacks))
            return steps

        return add

    def photos(self, title: str, files: Mapping[str, bytes], command: str = "encode photos", **expected: Any) -> None:
        """Add a folder `photos` with these files; see `Outcome.check` for what may be expected."""
        self.cases.append(Case(title, partial(_encode, files, command, expected)))


def _encode(files: Mapping[str, bytes], command: str, expected: Mapping[str, Any], here: Path) -> Steps:
    put(here / "photos", files)
    outcome = yield command
    outcome.check(**expected)


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
