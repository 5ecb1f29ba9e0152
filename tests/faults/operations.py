"""What is done to indexes under faults: every change, each way of making one, and what is written beside one.

Each begins on a copy of a folder, and leads to keys that are known.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import faiss
import numpy as np
from pyarrow import parquet

from encoder.codes.file import CodeFileWriter, list_code_files, open_codes
from encoder.codes.header import CodeHeader, ShardRecord
from encoder.images.duplicates import digest_of
from encoder.images.shards import ShardKind
from encoder.runtime.publish import exclusive
from indexer.build import build
from indexer.calibrate import calibrate
from indexer.changes.export import KEYS as KEYS_FILE
from indexer.changes.export import LABELS, export
from indexer.changes.export import ROWS as ROWS_FILE
from indexer.changes.imports import ImportRequest, import_codes
from indexer.changes.parquet_codes import column_of
from indexer.changes.sync import sync
from indexer.changes.writer import writer
from indexer.duplicates.files import save_groups
from indexer.duplicates.groups import DuplicateSettings, find_duplicates
from indexer.duplicates.review import save_review
from indexer.index import Index
from indexer.page.page import Result, save_page
from indexer.query import ByKey
from indexer.relocate import Move, relocate
from indexer.settings import (
    BitOrder,
    BuildSettings,
    CalibrateSettings,
    Dedupe,
    ExportForm,
    IndexKind,
    OnDuplicate,
    SyncSettings,
    TuneSettings,
)
from indexer.snapshot import Snapshot
from indexer.tune import tune
from indexer.verify import verify
from tests.faults.model import (
    FINGERPRINT,
    HOW,
    KEYS,
    LEVELS,
    Change,
    Model,
    Row,
    Rows,
    act,
    build_of,
    codes_of,
    keys_of,
)

ROWS: Final[Rows] = {key: Row((number % 3, number % 2), number % 5) for number, key in enumerate(KEYS[:20])}
MORE: Final[Rows] = {key: Row((number % 2, number % 3), number % 5) for number, key in enumerate(KEYS[15:30])}
HISTORY: Final[tuple[Change, ...]] = (("add", MORE, OnDuplicate.REPLACE), ("remove", KEYS[10:18], None))
"""After which each change below has something to do."""
CHANGES: Final[dict[str, Change]] = {
    "add": ("add", {key: Row((1, 1), 2) for key in KEYS[25:]}, OnDuplicate.REPLACE),
    "remove": ("remove", KEYS[:7], None),
    "remove where": ("where", 3, None),
    "compact": ("compact", True, 16),
    "rollback": ("rollback", -1, None),
    "gc": ("gc", 1, None),
}
OUT: Final = "out"
"""Folder that an export writes."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that is done to a folder."""

    do: Callable[[Path], object]
    start: Path
    """What the folder is a copy of."""
    state: Callable[[Path], list[str]]
    """Returns the keys in the folder, after proof that all that is published there is whole."""
    after: list[str]
    """Keys, once it is done."""
    gap: bool = False
    """Whether there may be nothing for a moment: a folder cannot take the place of another at once, as a file can."""
    inside: str = ""
    """Where in the folder an index is, if there is one."""


def operations(home: Path) -> dict[str, Operation]:
    """Write what the operations begin with, and return them by name."""
    (home / "nothing").mkdir()
    write_codes(home / "codes/more.h5", MORE)
    codes = list_code_files([home / "codes"])
    build(codes, home / "one", BuildSettings(IndexKind.FLAT, dedupe=Dedupe.OFF))
    return {
        **_changes(home),
        **_builds(home, codes),
        **_syncs(home),
        **_imports(home),
        **_exports(home),
        **_reports(home),
        **_others(home),
    }


def _changes(home: Path) -> dict[str, Operation]:
    """Return changes of an index that has a history, `many`."""
    path, model = home / "many", Model(ROWS)
    build_of(path, ROWS, HOW[1])
    model.published(path)
    for change in HISTORY:
        rows = model.then(change, path)
        assert rows is not None
        act(change, path)
        model.rows = rows
        model.published(path)
    return {
        name: Operation(partial(act, change), path, state, list(after))
        for name, change in CHANGES.items()
        for after in [model.then(change, path)]
        if after is not None
    }


def _builds(home: Path, codes: list[Path]) -> dict[str, Operation]:
    """Return builds: over an index and where there is none, with lists and without, of one segment and of several."""
    lists = BuildSettings(IndexKind.IVF, nlist=3, overwrite=True, dedupe=Dedupe.ON)

    def how(settings: BuildSettings, start: str) -> Operation:
        return Operation(lambda path: build(codes, path, settings), home / start, state, list(MORE))

    return {
        "build": how(lists, "many"),
        "build anew": how(lists, "nothing"),
        "build flat": how(BuildSettings(IndexKind.FLAT, dedupe=Dedupe.OFF), "nothing"),
        "build segments": how(replace(lists, segment_rows=6), "nothing"),
    }


def _syncs(home: Path) -> dict[str, Operation]:
    """Return syncs with a folder: its files are as they were, changed, new and gone; and there is no index yet."""
    before = {"same": KEYS[:8], "changed": KEYS[8:14], "gone": KEYS[14:18]}
    after = {"same": KEYS[:8], "changed": KEYS[10:16], "new": KEYS[18:24]}
    for folder, files in (("codes-before", before), ("codes-after", after)):
        for name, keys in files.items():
            write_codes(home / folder / f"{name}.h5", {key: (ROWS | MORE)[key] for key in keys})
    build(list_code_files([home / "codes-before"]), home / "synced", HOW[1])
    now, settings = list_code_files([home / "codes-after"]), SyncSettings(keep_gone=True)

    def of(start: str, keys: list[str]) -> Operation:
        return Operation(lambda path: sync(path, now, settings), home / start, state, keys)

    fresh = [*after["changed"], *after["new"]]
    return {"sync": of("synced", after["same"] + fresh), "sync anew": of("nothing", fresh + after["same"])}


def _imports(home: Path) -> dict[str, Operation]:
    """Return imports of arrays: into an index, and where there is none."""
    for name, rows in (("arrays", ROWS), ("more arrays", MORE)):
        (home / name).mkdir()
        (home / name / KEYS_FILE).write_text("".join(f"{key}\n" for key in rows))
        for level, codes in codes_of(rows).items():
            np.save(home / name / f"{level}.npy", codes)

    def bring(name: str, path: Path) -> None:
        levels = {level: home / name / f"{level}.npy" for level in LEVELS}
        import_codes(path, ImportRequest(levels, BitOrder.LITTLE, home / name / KEYS_FILE))

    bring("arrays", home / "foreign")
    do = partial(bring, "more arrays")
    return {
        "import": Operation(do, home / "foreign", state, [key for key in ROWS if key not in MORE] + list(MORE)),
        "import anew": Operation(do, home / "nothing", state, list(MORE)),
    }


def _exports(home: Path) -> dict[str, Operation]:
    """Return exports of each form, and one in the place of another."""
    (home / "exported").mkdir()
    export(home / "one", home / "exported" / OUT)
    after = keys_of(verify(home / "many", lambda *_: None))

    def of(form: ExportForm, start: str, *, gap: bool = False) -> Operation:
        def write(path: Path) -> None:
            export(home / "many", path / OUT, form, overwrite=True)

        return Operation(write, home / start, state_of_export, after, gap)

    return {
        **{f"export {form}": of(form, "nothing") for form in ExportForm},
        "export over": of(ExportForm.NPY, "exported", gap=True),
    }


def _reports(home: Path) -> dict[str, Operation]:
    """Return what is written of an index for people: near-duplicates in each form, and the page of a query."""

    def duplicates(name: str) -> Operation:
        def write(path: Path) -> None:
            opened, settings = Snapshot(home / "one"), DuplicateSettings(LEVELS[0])
            found = find_duplicates(opened, settings)
            if name.endswith(".html"):
                save_review(path / name, opened, found, settings, lambda _: None)
            else:
                save_groups(path / name, opened, found)

        return _report(home, name, write)

    def page(path: Path) -> None:
        index = Index(home / "one")
        query = ByKey(KEYS[15])
        save_page(path / "page.html", index, [Result(query, {"fine": index.query(query, level=LEVELS[0])})])

    names = ("groups.jsonl", "groups.parquet", "groups.html")
    return {f"duplicates {name}": duplicates(name) for name in names} | {"page": _report(home, "page.html", page)}


def _report(home: Path, name: str, write: Callable[[Path], None]) -> Operation:
    """Return the writing of one file: it is there as a whole, or not at all."""
    write(home / "nothing")
    whole = (home / "nothing" / name).read_bytes()
    (home / "nothing" / name).unlink()

    def there(path: Path) -> list[str]:
        return [each.name if each.read_bytes() == whole else "damage" for each in path.glob(f"*{Path(name).suffix}")]

    return Operation(write, home / "nothing", there, [name])


def _others(home: Path) -> dict[str, Operation]:
    tuned, moved = TuneSettings(levels=LEVELS[:1], k=3, nlists=(3,)), [Move.parse("/nowhere=/elsewhere")]
    cutoffs = CalibrateSettings(labels={LEVELS[0]: "n"})
    write_codes(home / "rows/rows.h5", {key: row for key, row in ROWS.items() if key not in MORE})
    return {
        "tune": Operation(lambda path: tune(path, tuned, {}), home / "one", state, list(MORE)),
        "calibrate": Operation(lambda path: calibrate(path, cutoffs), home / "many", state, state(home / "many")),
        "add files": Operation(lambda path: _add_files(path, home), home / "one", state, list(MORE | ROWS)),
        "relocate": Operation(lambda path: relocate(path, moved), home / "one", state, list(MORE)),
        "code file": Operation(_code_file, home / "nothing", state_of_codes, list(MORE)),
    }


def copy_of(operation: Operation, home: Path, number: int = 0) -> Path:
    """Return a folder that is as the operation begins with; its files are those of the start, since none is ever written to."""
    copy = home / f"copy-{number}"
    shutil.rmtree(copy, ignore_errors=True)
    return Path(shutil.copytree(operation.start, copy, copy_function=_linked))


def _linked(old: str, new: str) -> None:
    if Path(old).name == ".lock":  # but for this one
        shutil.copy2(old, new)
    else:
        os.link(old, new)


def _add_files(path: Path, home: Path) -> None:
    with writer(path) as opened:
        opened.add(list_code_files([home / "rows"]))


def _code_file(path: Path) -> None:
    with exclusive(path):
        write_codes(path / "more.h5", MORE)


def write_codes(path: Path, rows: Rows) -> None:
    """Write a code file."""
    path.parent.mkdir(exist_ok=True)
    codes = codes_of(rows)
    bits = {level: 8 * each.shape[1] for level, each in codes.items()}
    record = ShardRecord(path.stem, ShardKind.FILES, "/nowhere", 0, "0" * 64, "", None, "")
    digests = b"".join(digest_of(key.encode()) for key in rows)
    with CodeFileWriter(path.parent, bits) as writer:
        writer.add_rows(list(rows), np.zeros((len(rows), 2), np.uint64), digests, codes)
        writer.finish(path, CodeHeader(FINGERPRINT, "fp32", bits, record, 0, 0, 0, 0))


def state(path: Path) -> list[str]:
    """Return the keys of an index that is proven to be whole; none where there is no index."""
    return keys_of(verify(path, lambda *_: None)) if (path / "CURRENT").exists() else []


def state_of_codes(path: Path) -> list[str]:
    """Return the keys of the code files of a folder, each proven to be whole."""
    keys = list[str]()
    for each in path.glob("*.h5"):
        with open_codes(each) as file:
            keys += list(file.keys())
    return keys


def state_of_export(path: Path) -> list[str]:
    """Return the keys of an export that is proven to be whole, by readers that are not ours; none where there is none."""
    out, known = path / OUT, MORE | ROWS
    if not out.exists():
        return []
    if (out / ROWS_FILE).exists():
        table = parquet.read_table(out / ROWS_FILE)
        keys = table["key"].to_pylist()
        found = {level: [list(code) for code in table[column_of(level)].to_pylist()] for level in LEVELS}
    else:
        keys = (out / KEYS_FILE).read_text().splitlines()
        found = {level: _exported(out, level).tolist() for level in LEVELS}
        assert not (out / LABELS).exists() or parquet.read_table(out / LABELS)["key"].to_pylist() == keys
    both = ({**ROWS, **MORE}, known)  # a key that is in both has the codes of one
    for level, codes in found.items():
        expected = [
            [codes_of({key: rows[key] for key in keys})[level].tolist()[at] for rows in both] for at in range(len(keys))
        ]
        assert len(codes) == len(keys)
        assert all(code in either for code, either in zip(codes, expected, strict=True))
    return list(keys)


def _exported(out: Path, level: str) -> np.ndarray:
    """Return uint8[rows, 2] of a level."""
    if (out / f"{level}.npy").exists():
        return np.asarray(np.load(out / f"{level}.npy"))
    index = faiss.read_index_binary(str(out / f"{level}.faiss"))
    codes: np.ndarray = faiss.vector_to_array(index.xb).reshape(index.ntotal, -1)
    return codes
