"""Files that are cut or have a bit flipped, with their old digests or with new ones: refused, or answered within what is legal.

    python -m tests.faults.mutants --flips 500 --cuts 300

Every mutant is opened in a process of its own: `verify`, searches of all kinds, pictures, a page, and code files also by `inspect` and `build`.
With old digests `verify` has to refuse it, and what is answered all the same has to be what the whole file answers. With new ones, as an
author makes them who wants to do harm, an error or any answer will do. Never a traceback, a death by signal, over 2 seconds, or 200 MB
more than the whole file takes.
"""

import argparse
import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from encoder.codes.file import USER_BLOCK, list_code_files
from encoder.codes.summary import summarise
from encoder.errors import HashgrainError
from encoder.images.expand import expand
from encoder.model.builtin import BUILTIN
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer.build import build
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.page.page import Result, save_page
from indexer.query import ByKey
from indexer.settings import BuildSettings, Dedupe, IndexKind, Trust
from indexer.storage.current import MANIFEST, POINTER
from indexer.verify import verify
from tests.support.hostile import cut, flip, point, reseal_codes, reseal_index
from tests.support.pictures import encoded, write_tar

SECONDS, MOST_SECONDS = 2.0, 20.0
"""What an operation may take of a core, since a busy machine is not its fault, and when it is ended."""
KILOBYTES = 200 << 10
"""What it may take beyond that of the whole file."""
HEAD = 256
"""First bytes of a file, where every second harm is done: most of a file is codes, of which each is as good as another."""
LABELS = "label.kind ~ 'k*' and not label.tags has 't1' or label.sold = true and label.price < 3 and label.n > 1"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One file, harmed in one place."""

    what: str
    """flat, lists, changed or codes: which of the originals it is of."""
    file: str
    """In it."""
    harm: str
    """flip or cut."""
    at: int
    """The bit, or the bytes left."""
    sealed: bool
    """Whether all digests are computed again."""


@dataclass(slots=True)
class Report:
    """What became of the mutants."""

    tried: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    """By every operation that touched the harm; the others answer as ever."""
    legal: int = 0
    """Answered by one at least, some answers not those of the whole file; only of sealed ones."""
    unnoticed: int = 0
    """No answer differs."""
    bad: list[dict[str, Any]] = field(default_factory=list)
    """What should not be: tracebacks, signals, slow or large ones, wrong answers, damage that `verify` did not find."""


def originals(home: Path) -> None:
    """Write three indexes and their code files: `flat`, `lists` (with rows that share codes), `changed` and `codes`."""
    write_tar(home / "shards/a.tar", [*members(0, 24), ("broken.jpg", b"\xff\xd8\xff")])
    encode(expand([str(home / "shards")]), BUILTIN, home / "codes", EncodeSettings(batch=8))
    files = list_code_files([home / "codes"])
    build(files, home / "flat", BuildSettings(IndexKind.FLAT, dedupe=Dedupe.OFF))
    build(files, home / "lists", BuildSettings(IndexKind.IVF, nlist=2, dedupe=Dedupe.ON))
    build(files, home / "changed", BuildSettings(IndexKind.IVF, nlist=2, dedupe=Dedupe.OFF))
    write_tar(home / "shards/b.tar", members(20, 12))
    encode(expand([str(home / "shards/b.tar")]), BUILTIN, home / "more", EncodeSettings(batch=8))
    with writer(home / "changed", keep=1) as changing:
        changing.add(list_code_files([home / "more"]))  # a second segment, and rows of the first that are replaced
        changing.remove(["pic-003"])


def members(first: int, count: int) -> list[tuple[str, bytes]]:
    """Return pictures with labels of every kind."""
    members = []
    for number in range(first, first + count):
        members.append((f"pic-{number:03d}.jpg", encoded(number % 20)))
        labels = {
            "n": number % 5,
            "kind": f"k{number % 3}",
            "sold": number % 2 == 0,
            "price": number / 4,
            "tags": [f"t{number % 4}", "x"],
        }
        members.append((f"pic-{number:03d}.json", json.dumps(labels).encode()))
    return members


def mutants(home: Path, flips: int, cuts: int, seed: int, only: str = "") -> Iterator[Mutant]:
    """Yield mutants, as many of each kind of file (or `only` of that ending), half of them sealed."""
    rng = np.random.default_rng(seed)
    kinds: dict[str, list[tuple[str, str]]] = {}
    for what in ("flat", "lists", "changed", "codes"):
        for path in sorted((home / what).rglob("*")):
            of_codes = what != "codes" or path.suffix == ".h5"
            if path.is_file() and path.name != ".lock" and of_codes and path.name.endswith(only):
                kinds.setdefault(path.suffix or path.name, []).append((what, str(path.relative_to(home / what))))
    for number in range(flips + cuts):
        of_kind = list(kinds.values())[number % len(kinds)]
        what, name = of_kind[number // len(kinds) % len(of_kind)]
        size = (home / what / name).stat().st_size
        early, sealed = rng.random() < 0.5, bool(rng.random() < 0.5)
        if number < flips:
            first = USER_BLOCK if sealed and what == "codes" else 0
            end = min(size, first + HEAD) if early else size
            yield Mutant(what, name, "flip", int(rng.integers(8 * first, 8 * end)), sealed)
        else:
            yield Mutant(what, name, "cut", int(rng.integers(0, min(size, HEAD) if early else size)), sealed)


def make(home: Path, mutant: Mutant, target: Path) -> None:
    """Write a mutant of `home` as the folder `target`; all other files of it are links to the original's."""
    shutil.copytree(home / mutant.what, target, copy_function=os.link)
    path = target / mutant.file
    (flip if mutant.harm == "flip" else cut)(path, mutant.at)
    if not mutant.sealed:
        return
    if mutant.what == "codes":
        reseal_codes(path)
    elif path.name == MANIFEST:
        point(target)
    elif path.name != POINTER:
        reseal_index(target)


Operations = dict[str, Callable[[Path], object]]


def of_index(home: Path) -> Operations:
    """Return what is done with an index."""
    trust = Trust(images_under=[home / "shards"])
    picture, key = encoded(3), ByKey("pic-007")

    def asked(**options: Any) -> Callable[[Path], object]:
        return lambda path: [hit.as_dict() for hit in Index(path, trust=trust).query(key, **options)]

    def everything(path: Path) -> object:
        index = Index(path, trust=trust)
        return [(index.key(row), index.labels(row), index.shard(row)) for row in range(index.ntotal)]

    def page(path: Path) -> object:
        index = Index(path, trust=trust)
        save_page(path / "page.html", index, [Result(key, {"fine": list(index.query(key, level="fine"))})])
        return (path / "page.html").read_text()

    return {
        "verify": lambda path: verify(path, lambda *_: None).ntotal,
        **{level: asked(level=level, k=5) for level in ("fine", "mid", "coarse", "fused")},
        "exact": asked(level="fused", k=30, exact=True),
        "probed": asked(level="fused", k=3, nprobe=1),
        "radius": asked(level="mid", radius=20),
        "where": asked(level="fine", where=LABELS),
        "sum": asked(levels=["fine", "fused"], combine="sum", weights=[1, 2]),
        "cascade": asked(levels=["coarse", "fine"], budgets=[10]),
        "everything": everything,
        "image": lambda path: [Index(path, trust=trust).image(row) for row in (0, 7)],
        "page": page,
        "photo": lambda path: [hit.as_dict() for hit in Index(path, trust=trust).query(picture, level="fused")],
    }


def of_codes(home: Path) -> Operations:
    """Return what is done with code files; `verify` is to read one."""

    def built(path: Path) -> object:
        build(list_code_files([path]), path / "index", BuildSettings())
        index = Index(path / "index")
        return [(index.key(row), index.labels(row)) for row in range(index.ntotal)]

    return {"verify": lambda path: summarise(list_code_files([path])).rows, "build": built}


def run(operations: Operations, path: Path) -> dict[str, Any]:
    """Do everything with a mutant in a process of its own, and return what came of it.

    Returns:
        By operation `["error", line]`, `["answer", text]` or `["traceback", text]`; `seconds` of the slowest; `kilobytes` at the most;
        `signal` if it ended by one.
    """
    reading, writing = os.pipe()
    gc.freeze()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            signal.alarm(int(MOST_SECONDS))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            done: dict[str, Any] = {}
            slowest = 0.0
            for name, operation in operations.items():
                began = time.process_time()
                try:
                    done[name] = ["answer", repr(operation(path)).replace(str(path), "")]
                except HashgrainError as err:
                    done[name] = ["error", str(err)]
                except BaseException:  # noqa: BLE001  whatever a user would see
                    done[name] = ["traceback", traceback.format_exc()]
                slowest = max(slowest, time.process_time() - began)
            with os.fdopen(writing, "w") as pipe:
                pipe.write(json.dumps(done | {"seconds": slowest}))
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status, used = os.wait4(child, 0)
    done = json.loads(said) if said else {"seconds": MOST_SECONDS}
    ended = {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {}
    return done | ended | {"kilobytes": used.ru_maxrss}


def judge(report: Report, mutant: Mutant, done: dict[str, Any], whole: dict[str, Any]) -> None:
    """Count what became of a mutant."""
    name = f"{mutant.harm} {'sealed' if mutant.sealed else 'unsealed'}"
    report.tried[name] = report.tried.get(name, 0) + 1

    def bad(what: str, detail: object) -> None:
        report.bad.append({"bad": what, "detail": detail, **asdict(mutant)})

    outcomes = {name: value for name, value in done.items() if isinstance(value, list)}
    if "signal" in done:
        bad("signal", done["signal"])
    for name, (what, text) in outcomes.items():
        if what == "traceback":
            bad(f"traceback in {name}", text.strip().splitlines()[-12:])
    if done["seconds"] > SECONDS:
        bad("slow", done["seconds"])
    if done["kilobytes"] > whole["kilobytes"] + KILOBYTES:
        bad("large", done["kilobytes"] - whole["kilobytes"])
    differ = [name for name, value in outcomes.items() if value[0] == "answer" and value != whole[name]]
    errors = [name for name, value in outcomes.items() if value[0] == "error"]
    if not mutant.sealed:
        if differ:
            bad("wrong answer", differ)
        if "verify" not in errors:
            bad("not noticed", done.get("verify"))
    if errors:
        report.refused += 1
    elif differ:
        report.legal += 1
    else:
        report.unnoticed += 1


def campaign(home: Path, flips: int, cuts: int, seed: int, only: str = "") -> Report:
    """Try that many mutants."""
    os.environ["XDG_STATE_HOME"] = str(home / "state")
    originals(home)
    report, wholes = Report(), {}
    asked = of_index(home)
    for what, operations in {"flat": asked, "lists": asked, "changed": asked, "codes": of_codes(home)}.items():
        shutil.copytree(home / what, home / "mutant", copy_function=os.link)
        wholes[what] = run(operations, home / "mutant"), operations
        shutil.rmtree(home / "mutant")
        if odd := {
            name: value for name, value in wholes[what][0].items() if isinstance(value, list) and value[0] != "answer"
        }:
            raise AssertionError(f"the original {what} does not answer: {odd}")
    for mutant in mutants(home, flips, cuts, seed, only):
        whole, operations = wholes[mutant.what]
        try:
            make(home, mutant, home / "mutant")
            judge(report, mutant, run(operations, home / "mutant"), whole)
        finally:
            shutil.rmtree(home / "mutant", ignore_errors=True)
    return report


def main() -> None:
    """Run a campaign and print its report as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=500)
    parser.add_argument("--cuts", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="ending of the files (.h5)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = campaign(Path(folder), chosen.flips, chosen.cuts, chosen.seed, chosen.only)
    sys.stdout.write(json.dumps(asdict(report)) + "\n")
    sys.exit(bool(report.bad))


if __name__ == "__main__":
    main()
