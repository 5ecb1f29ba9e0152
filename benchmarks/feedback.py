"""What clicks on hits do for the next answer: precision@20 before and after, on the rows that were not clicked.

usage: feedback.py INDEX CODES [--label fine] [--chosen-on 600] [--engine faiss]

INDEX holds labelled photos, CODES are the code files of others, made by the same model. The weights of the start and of the disliked, and
the levels that are compared, are chosen on rows of the index that ask for the others (each left out of its own answers); the figures are
those of the other photos, with 95 % bootstrap intervals. The 20 nearest at `fused` are shown; a click is on one of them. The clicked rows
are out of both answers.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.codes.file import list_code_files, open_codes
from encoder.levels import Level
from indexer import ByCode, ByExamples, ByKey, Engine, feedback
from indexer.index import Index

SHOWN = 20
LEVELS: dict[str, tuple[Level, ...]] = {
    "fused": (Level.FUSED,),
    "coarse and fused": (Level.COARSE, Level.FUSED),
    "all four": tuple(Level),
}
Right = npt.NDArray[np.bool_]
"""bool[shown]: which of the shown hits have the query's label."""


@dataclass(frozen=True)
class Asked:
    """A query with its label."""

    query: ByKey | ByCode
    label: Any


def _first(right: Right, likes: int, dislikes: int) -> tuple[list[int], list[int]] | None:
    liked, disliked = np.flatnonzero(right)[:likes].tolist(), np.flatnonzero(~right)[:dislikes].tolist()
    return None if len(liked) < likes or len(disliked) < dislikes else (liked, disliked)


def _last(right: Right) -> tuple[list[int], list[int]] | None:
    clicks = _first(right, 1, 1)
    return None if clicks is None else (np.flatnonzero(right)[-1:].tolist(), clicks[1])


CLICKS: dict[str, Callable[[Right], tuple[list[int], list[int]] | None]] = {
    "the first right, the first wrong": lambda right: _first(right, 1, 1),
    "the last right, the first wrong": _last,
    "the first two right": lambda right: _first(right, 2, 0),
}
"""Places of the liked and of the disliked; None where there are none to click."""


class Session:
    """An index, and which of its rows have which label."""

    def __init__(self, index: Index, label: str, engine: Engine) -> None:
        self.index, self.label, self.engine = index, label, engine

    def shown(self, query: ByKey | ByCode | ByExamples, levels: Sequence[Level], k: int) -> list[tuple[str, Any]]:
        """Return keys and labels of the hits."""
        if len(levels) > 1:
            hits = self.index.query(query, levels=levels, combine="sum", k=k, exclude_self=True, engine=self.engine)
        else:
            hits = self.index.query(query, level=levels[0], k=k, exclude_self=True, engine=self.engine)
        return [(hit.key, hit.labels[self.label]) for hit in hits]

    def rounds(self, asked: Asked, levels: Sequence[Level], click: Any, count: int) -> list[tuple[float, float]]:
        """Return precision before and after each round of clicks; fewer rounds where there was nothing to click."""
        like, dislike, found = list[str](), list[str](), list[tuple[float, float]]()
        shown = self.shown(asked.query, (Level.FUSED,), SHOWN)
        for _ in range(count):
            clicks = click(np.array([label == asked.label for _, label in shown], dtype=np.bool_))
            if clicks is None:
                break
            like += [shown[place][0] for place in clicks[0]]
            dislike += [shown[place][0] for place in clicks[1]]
            gone = {*like, *dislike}
            before = [hit for hit in self.shown(asked.query, (Level.FUSED,), SHOWN + len(gone)) if hit[0] not in gone]
            shown = self.shown(ByExamples(tuple(like), tuple(dislike), asked.query), levels, SHOWN)
            found.append(
                tuple(  # type: ignore[arg-type]
                    float(np.mean([label == asked.label for _, label in hits[:SHOWN]])) for hits in (before, shown)
                )
            )
        return found


def interval(gains: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean over queries."""
    drawn = np.random.default_rng(0).choice(gains, (2000, len(gains)))
    low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def line(name: str, pairs: Sequence[tuple[float, float]], of: int) -> str:
    before, after = np.array(pairs).T
    low, high = interval(after - before)
    gain = f"{(after - before).mean():+.3f} ({low:+.3f} to {high:+.3f})"
    return f"| {name} | {before.mean():.3f} | {after.mean():.3f} | {gain} | {len(pairs)} of {of} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("codes", type=Path, nargs="+")
    parser.add_argument("--label", default="fine")
    parser.add_argument("--chosen-on", type=int, default=600)
    parser.add_argument("--engine", type=Engine, default=Engine.FAISS)
    args = parser.parse_args()
    session = Session(Index(args.index), args.label, args.engine)
    index = session.index
    rows = np.sort(np.random.default_rng(0).permutation(index.live_rows())[: args.chosen_on]).tolist()
    own = [Asked(ByKey(index.key(row)), index.labels(row)[args.label]) for row in rows]
    others = held_out(args.codes, args.label)
    click = CLICKS["the first right, the first wrong"]
    best: tuple[float, str, float, float] = (-1.0, "fused", feedback.START, feedback.DISLIKE)
    print(f"chosen on {len(own)} rows of the index that ask for the others; gain of precision@{SHOWN} by two clicks")
    print("| levels | start | disliked | gain |\n|---|---|---|---|")
    for name, start, disliked in product(LEVELS, (0.5, 1.0), (0.25, 0.5, 0.75)):
        feedback.START, feedback.DISLIKE = start, disliked  # type: ignore[misc]
        pairs = [pair for asked in own for pair in session.rounds(asked, LEVELS[name], click, 1)]
        gain = float(np.mean([after - before for before, after in pairs]))
        print(f"| {name} | {start} | {disliked} | {gain:+.4f} |", flush=True)
        best = max(best, (gain, name, start, disliked))
    _, chosen, feedback.START, feedback.DISLIKE = best  # type: ignore[misc]
    print(
        f"\nchosen: {chosen}, {feedback.START}, {feedback.DISLIKE}; {len(others)} photos that are not in the index ask"
    )
    print(f"| clicks, levels | precision@{SHOWN} before | after | gain (95 %) | queries |\n|---|---|---|---|---|")
    for levels in dict.fromkeys((chosen, "fused", "all four")):
        for name, how in CLICKS.items():
            pairs = [pair for asked in others for pair in session.rounds(asked, LEVELS[levels], how, 1)]
            print(line(f"{name}; {levels}", pairs, len(others)), flush=True)
    all_rounds = [session.rounds(asked, LEVELS[chosen], click, 4) for asked in others]
    for number in range(4):
        pairs = [rounds[number] for rounds in all_rounds if len(rounds) > number]
        print(
            line(f"{number + 1} rounds of the first right, the first wrong; {chosen}", pairs, len(others)), flush=True
        )


def held_out(paths: Sequence[Path], label: str) -> list[Asked]:
    """Return a query for each row of code files."""
    asked = []
    for path in list_code_files(paths):
        with open_codes(path) as file:
            codes: dict[Level, Codes] = {level: file.codes(level) for level in file.header.bits}
            labels = file.label(label).to_list()
        asked += [
            Asked(ByCode({level: of_level[row] for level, of_level in codes.items()}), labels[row])
            for row in range(len(labels))
        ]
    return asked


if __name__ == "__main__":
    main()
