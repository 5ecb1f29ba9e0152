import numpy as np
import pytest

from encoder.codes.file import list_code_files
from encoder.codes.strings import TextColumn
from encoder.errors import HashgrainError, Reason
from encoder.images.shards import ShardKind
from encoder.levels import Level
from indexer.build import build
from indexer.changes.compact import compact
from indexer.changes.history import history
from indexer.changes.sync import sync
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.relocate import Move, relocate
from indexer.settings import BuildSettings, CompactSettings, OnDuplicate, SearchSettings, SyncSettings
from indexer.storage.current import generations
from indexer.storage.row_source import ArrayRows
from indexer.verify import verify

ALL = SyncSettings(compact=False)
FIRST = SyncSettings(compact=False, on_duplicate=OnDuplicate.FIRST)


@pytest.fixture
def shard(tmp_path, write_codes, rng):
    """Write a code file of a shard that is there: `shard("a", 4)`."""
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/other").touch()

    def write(name, rows, keys=None, **more):
        path = tmp_path / f"shards/{name}.tar"
        path.touch()
        codes = rng.integers(0, 256, (rows, 2), dtype=np.uint8)
        return write_codes(name, {Level.FINE: codes}, keys=keys, shard_path=path, kind=ShardKind.TAR, **more)

    return write


@pytest.fixture
def synced(tmp_path):
    """Sync the index with the folder of codes; every answer is that of a fresh build, the order of the rows aside."""

    def call(settings=ALL):
        report = sync(tmp_path / "index", list_code_files([tmp_path / "codes"]), settings)
        if settings == ALL:
            fresh = tmp_path / f"fresh-{report.generation}-{len(list(tmp_path.iterdir()))}"
            files = [
                path
                for path in list_code_files([tmp_path / "codes"])
                if (tmp_path / "shards" / f"{path.stem}.tar").exists()
            ]
            build(files, fresh, BuildSettings())
            assert answers(tmp_path / "index") == answers(fresh)
        return report

    return call


def answers(index):
    """Return the keys of all rows, and of each row the keys and distances that are near its code."""
    opened, near = verify(index, lambda *_: None), {}
    rows = opened.live_rows()
    found = opened.search(Level.FINE, opened.codes(Level.FINE, rows), SearchSettings(k=None, radius=5))
    for row, matches in zip(rows.tolist(), found, strict=True):
        keys = [opened.key(other) for other in matches.rows.tolist()]
        near[opened.key(row)] = sorted(zip(matches.distances.tolist(), keys, strict=True))
    assert len(near) == len(rows)
    return near


def test_there_is_no_index_yet(shard, synced, tmp_path):
    shard("a", 4)
    dry = synced(SyncSettings(dry_run=True))
    assert (dry.generation, dry.added, (tmp_path / "index").exists()) == (None, 4, False)
    report = synced()
    assert (report.generation, report.added, report.new, report.rows) == ("gen-000001", 4, ("a.h5",), 4)
    assert [change.what for change, _ in history(tmp_path / "index")] == ["build"]


def test_files_that_are_new_changed_and_gone_in_one_generation(shard, synced, tmp_path):
    for name in "abc":
        shard(name, 4)
    synced()
    shard("b", 6)
    (tmp_path / "codes/c.h5").unlink()
    shard("d", 3)
    would = synced(SyncSettings(dry_run=True))
    assert len(generations(tmp_path / "index")) == 1
    report = synced()
    assert (report.new, report.changed, report.dropped, report.restored) == (("d.h5",), ("b.h5",), ("c.h5",), ())
    assert (report.added, report.removed, report.rows) == (9, 8, 13) == (would.added, would.removed, would.rows)
    assert (would.new, would.changed, would.dropped) == (report.new, report.changed, report.dropped)
    assert [change.what for change, _ in history(tmp_path / "index")][:2] == ["build", "sync"]
    assert report.notices == ()


def test_nothing_changed_is_no_generation_and_reads_no_codes(shard, synced, tmp_path):
    path = shard("a", 4)
    synced()
    with path.open("r+b") as file:  # only its header and its seal are read
        file.seek(-1, 2)
        file.write(b"!")
    report = sync(tmp_path / "index", [path], ALL)
    assert (report.generation, report.added, report.removed) == ("gen-000001", 0, 0)


def test_images_that_were_deleted_disappear_with_their_shard(shard, synced, tmp_path):
    shard("a", 4)
    shard("b", 3)
    synced()
    (tmp_path / "shards/b.tar").unlink()
    kept = synced(SyncSettings(keep_gone=True, compact=False))
    assert (kept.removed, kept.rows) == (0, 7)
    assert "1 shard, " in kept.notices[0]
    assert kept.notices[0].endswith(": their rows stay, as was asked for")
    report = synced()
    assert (report.removed, report.rows, report.dropped) == (3, 4, ("b.h5",))
    assert report.gone == (str(tmp_path / "shards/b.tar"),)
    assert report.notices == (f"1 shard, {report.gone[0]}, is gone: their rows are left out",)
    assert synced().generation == report.generation
    (tmp_path / "shards/b.tar").touch()
    assert synced().new == ("b.h5",)


def test_shards_on_a_disk_that_is_not_mounted_stay(shard, synced, tmp_path):
    shard("a", 4)
    synced()
    for path in (tmp_path / "shards").iterdir():
        path.unlink()
    report = sync(tmp_path / "index", list_code_files([tmp_path / "codes"]), ALL)
    assert (report.removed, report.rows) == (0, 4)
    assert "perhaps one is not mounted; their rows stay" in report.notices[0]


def test_a_shard_whose_new_place_the_index_was_told_is_not_gone(shard, tmp_path):
    path = shard("a", 4)
    sync(tmp_path / "index", [path], ALL)
    (tmp_path / "moved").mkdir()
    (tmp_path / "shards/a.tar").rename(tmp_path / "moved/a.tar")
    relocate(tmp_path / "index", [Move(str(tmp_path / "shards"), str(tmp_path / "moved"))])
    report = sync(tmp_path / "index", [path], ALL)
    assert (report.rows, report.removed, report.gone, report.notices) == (4, 0, (), ())
    (tmp_path / "moved/a.tar").unlink()
    assert sync(tmp_path / "index", [path], ALL).gone == (str(tmp_path / "shards/a.tar"),)


def test_build_and_add_say_which_shards_are_gone(shard, synced, tmp_path):
    for name in "abc":
        shard(name, 2)
    (tmp_path / "shards/a.tar").unlink()
    (tmp_path / "shards/c.tar").unlink()
    files = list_code_files([tmp_path / "codes"])
    assert "1 shard, " in build(files[:2], tmp_path / "index", BuildSettings()).missing[0]
    with writer(tmp_path / "index") as opened:
        assert "sync the index with its folder" in opened.add(files[2:]).missing[0]
    assert synced().rows == 2


def test_all_shards_are_gone(shard, synced, tmp_path):
    path = shard("a", 4)
    (tmp_path / "shards/a.tar").unlink()
    with pytest.raises(
        HashgrainError, match="is not an index yet, and the shards of its code files are gone, all 1"
    ) as caught:
        sync(tmp_path / "index", [path], ALL)
    assert caught.value.reason is Reason.CODES_MISSING
    build([path], tmp_path / "index", BuildSettings())
    assert sync(tmp_path / "index", [path], ALL).rows == 0


def test_a_picture_that_went_to_another_shard_is_found_once(shard, synced, tmp_path):
    shard("a", 2, ["x", "y"])
    shard("b", 1, ["z"])
    synced()
    shard("a", 1, ["x"])
    shard("b", 2, ["z", "y"])
    assert synced().rows == 3


def test_what_was_removed_by_hand_comes_back_also_after_compaction(shard, synced, tmp_path):
    shard("a", 4)
    shard("b", 2)
    synced()
    for keys in (["a-1"], ["b-0", "b-1"]):
        with writer(tmp_path / "index") as opened:
            opened.remove(keys)
        compact(tmp_path / "index", CompactSettings(all=True))
        assert synced().rows == 6


def test_keys_that_several_files_have(shard, synced, tmp_path):
    shard("a", 2, ["x", "y"])
    synced()
    shard("b", 2, ["y", "z"])
    with pytest.raises(HashgrainError, match="index has 1 key of .*b.h5 already, first 'y'") as caught:
        synced()
    assert caught.value.reason is Reason.DUPLICATE_KEYS
    assert Index(tmp_path / "index").generation == "gen-000001"
    report = synced(FIRST)
    assert (report.added, report.rows, report.notices) == (1, 3, ("1 row left out: another row has the key",))
    again = synced(FIRST)
    assert (again.generation, again.added, again.removed) == (report.generation, 0, 0)
    (tmp_path / "codes/a.h5").unlink()
    report = synced(FIRST)
    assert (report.rows, report.restored) == (2, ("b.h5",))
    with pytest.raises(HashgrainError, match="on_duplicate: replace; expected error or first"):
        SyncSettings(on_duplicate=OnDuplicate.REPLACE)


def test_two_files_that_are_the_same(shard, synced, tmp_path):
    path = shard("a", 2)
    copy = tmp_path / "codes/copy.h5"
    copy.write_bytes(path.read_bytes())
    synced(FIRST)
    with pytest.raises(HashgrainError, match=r"copy.h5 and .*a.h5 are the same; take one away") as caught:
        synced(SyncSettings(dry_run=True))
    assert caught.value.reason is Reason.CODES_TWICE


def test_rows_that_were_imported_stay(shard, tmp_path, rng):
    path = shard("a", 4)
    sync(tmp_path / "index", [path], ALL)
    codes = rng.integers(0, 256, (2, 2), dtype=np.uint8)
    with writer(tmp_path / "index") as opened:
        opened.add_rows([ArrayRows("x.npy", TextColumn.of(["p", "q"]), {Level.FINE: codes}, {})], "f" * 64)
    path.unlink()
    report = sync(tmp_path / "index", [shard("b", 1)], ALL)
    assert (report.rows, report.removed) == (3, 4)


def test_what_is_not_a_code_file_and_one_that_is_damaged(shard, synced, tmp_path):
    shard("a", 4)
    synced()
    (tmp_path / "codes/b.h5").write_bytes(b"hello")
    with pytest.raises(HashgrainError, match=r"b.h5 is not a code file"):
        sync(tmp_path / "index", list_code_files([tmp_path / "codes"]), ALL)
    (tmp_path / "codes/b.h5").unlink()
    with shard("b", 4).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    with pytest.raises(HashgrainError, match=r"b.h5 is damaged"):
        sync(tmp_path / "index", list_code_files([tmp_path / "codes"]), ALL)
    assert Index(tmp_path / "index").generation == "gen-000001"


@pytest.mark.parametrize("seed", range(4))
def test_any_history_of_a_folder_ends_as_a_fresh_build_of_it(seed, shard, synced, tmp_path):
    draw = np.random.default_rng(seed)
    index, names = tmp_path / "index", ["a", "b", "c", "d"]
    shard("always", 3)
    synced()
    for _ in range(12):
        name = str(draw.choice(names))
        code_file, source = tmp_path / f"codes/{name}.h5", tmp_path / f"shards/{name}.tar"
        match int(draw.integers(6)):
            case 0 | 1:
                shard(name, int(draw.integers(1, 9)), None)
            case 2:
                code_file.unlink(missing_ok=True)
            case 3:
                source.unlink(missing_ok=True)
            case 4:
                with writer(index, compact=False) as opened:
                    opened.remove([f"{name}-0", f"{name}-1", "always-2"], missing_ok=True)
            case _:
                compact(index, CompactSettings(all=bool(draw.integers(2))))
        synced()
