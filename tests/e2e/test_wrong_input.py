"""Everything a user can get wrong: one clear line, exit code 1 or 2, nothing overwritten, never a traceback."""

import re

import pytest

from encoder.codes.file import open_codes
from encoder.levels import Level
from tests.support.pictures import encoded, labelled_members, write_tar


@pytest.fixture
def stage(tmp_path, monkeypatch, index_folder, codes_folder, model_path, shards_folder):
    """A working folder with everything in place, and a few things broken."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "index").symlink_to(index_folder)
    (tmp_path / "codes").symlink_to(codes_folder)
    (tmp_path / "shards").symlink_to(shards_folder)
    (tmp_path / "model.safetensors").write_bytes(model_path.read_bytes())
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "photo.jpg").write_bytes(encoded(1))
    (tmp_path / "file").write_text("")
    return tmp_path


ERRORS = {
    # command -> (exit code, what the line says)
    "encoder fit nowhere.tar --out m.safetensors": (1, "nowhere.tar cannot be read: it does not exist"),
    "encoder fit shards --out model.safetensors --weights none": (
        1,
        "model.safetensors exists; choose another file (--out), or replace it (--overwrite)",
    ),
    "encoder fit shards --out m.st --weights nowhere.pth": (1, "weights file nowhere.pth could not be read"),
    "encoder fit shards --out m.st --weights none --backbone resnet7": (
        1,
        "no backbone is called 'resnet7'; the backbones are",
    ),
    "encoder fit shards --out m.st --weights none --backbone alexnet --image-size 64 --bits 128": (1, "60 "),
    "encoder fit shards --out m.st --weights none --bits 12": (
        1,
        "bits '12' is not a number of bits; give a multiple of 8",
    ),
    "encoder encode shards --model model.safetensors --out out --levels fine,ultra": (1, "no level is called 'ultra'"),
    "encoder fit shards --out m.st --weights none --bits ultra=64": (1, "no level is called 'ultra'"),
    "encoder fit shards --out m.st --hash md5": (2, "md5"),
    "encoder encode nowhere.tar": (1, "nowhere.tar cannot be read: it does not exist"),
    "encoder encode shards --model nowhere.safetensors --out out": (
        1,
        "nowhere.safetensors cannot be used: it does not exist",
    ),
    "encoder encode shards --model photo.jpg --out out": (1, "photo.jpg cannot be used"),
    "encoder encode shards --model model.safetensors --out file": (1, "file is not a folder that can be written to"),
    "encoder encode shards --model model.safetensors --out out --device cuda:99": (
        1,
        "device 'cuda:99' is not available",
    ),
    "encoder encode shards --model model.safetensors --out out --max-bad lots": (1, "max_bad 'lots' is not a limit"),
    "encoder encode shards --batch 0": (2, "batch"),
    "encoder encode shards --model": (2, "model"),
    "encoder encode photo.jpg text.jpg --model model.safetensors --out out --max-bad 0": (
        1,
        "1 of 2 images were rejected",
    ),
    "encoder inspect nowhere": (1, "no code file (*.h5) at nowhere"),
    "encoder inspect photo.jpg": (1, "photo.jpg is not a code file (it does not begin with"),
    "encoder frobnicate": (2, "frobnicate"),
    "indexer build nowhere": (1, "no code file (*.h5) at nowhere"),
    "indexer build photo.jpg --out out": (1, "photo.jpg is not a code file"),
    "indexer build codes --out index": (
        1,
        "index holds an index; choose another folder, or overwrite it (--out, --overwrite)",
    ),
    "indexer build codes --out out --levels fine,ultra": (
        1,
        "no level is called 'ultra'; the levels are fine, mid, coarse, fused",
    ),
    "indexer build codes --out file": (1, "file is not a folder that can be written to"),
    "indexer build codes --out out --kind hnsw": (2, "hnsw"),
    "indexer build codes --out out --nlist 0": (2, "nlist"),
    "indexer query photo.jpg --index nowhere": (
        1,
        "no index at nowhere; build one of code files (--index, indexer build CODES --out INDEX)",
    ),
    "indexer query nowhere.jpg": (1, "nowhere.jpg could not be read"),
    "indexer query text.jpg": (1, "text.jpg cannot be used (unknown-format"),
    "indexer query key:nobody": (1, "key 'nobody' is not among the 60"),
    "indexer query photo.jpg --level ultra": (1, "no level is called 'ultra'"),
    "indexer query photo.jpg -k 0": (2, "-k"),
    "indexer query photo.jpg --radius -1": (2, "radius"),
    "indexer query photo.jpg --model photo.jpg": (1, "give that one, or none where the index has its own"),
    "indexer query photo.jpg --model nowhere": (1, "model file nowhere could not be read (No such file or directory)"),
    "indexer query": (2, "Usage"),
    "indexer info --index nowhere": (1, "no index at nowhere"),
    "indexer verify --index nowhere": (1, "no index at nowhere"),
}


LONG = "x" * 300
"""No file system takes such a name."""
LONG_NAMES = {
    f"encoder fit shards --out {LONG}",
    f"encoder fit shards --out m.st --weights {LONG}.pth",
    f"encoder encode shards --out {LONG}",
    f"encoder encode shards --out out --model {LONG}",
    f"encoder encode shards --out out --weights {LONG}",
    f"encoder encode shards --out out --model model.safetensors --profile {LONG}",
    f"encoder inspect {LONG}",
    f"encoder train shards --out {LONG}",
    f"encoder train shards --out m.st --weights {LONG}.pth",
    f"indexer build {LONG}",
    f"indexer build codes --out {LONG}",
    f"indexer query {LONG}",
    f"indexer query key:pic-001 --index {LONG}",
    f"indexer query photo.jpg --model {LONG}",
    f"indexer query photo.jpg --save-html {LONG}",
    f"indexer tune --index {LONG}",
    f"indexer tune --queries {LONG}",
    f"indexer info --index {LONG}",
    f"indexer verify --index {LONG}",
}


@pytest.mark.parametrize("line", sorted(LONG_NAMES), ids=lambda line: line.replace(LONG, "LONG"))
def test_a_name_that_is_too_long_is_one_clear_line(command, stage, line):
    code, _, err = command(*line.split())
    assert (code, "Traceback" in err) == (1, False)
    assert err.splitlines()[-1].startswith("error: ")
    assert LONG in err.splitlines()[-1]


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("line", ERRORS, ids=ERRORS)
def test_one_clear_line(command, stage, line):
    before = contents(stage) | contents(stage / "index") | contents(stage / "codes")
    code, out, err = command(*line.split())
    expected_code, said = ERRORS[line]
    assert code == expected_code, err
    assert re.search(re.escape(said), out + err)
    assert "Traceback" not in err
    if code == 1:
        assert [text for text in err.splitlines() if text.startswith("error: ")] == [err.splitlines()[-1]]
    after = contents(stage) | contents(stage / "index") | contents(stage / "codes")
    assert {path: data for path, data in after.items() if path in before} == before


def test_k_larger_than_the_index_returns_all_of_it(command, stage):
    code, out, _ = command("indexer", "query", "key:pic-001", "-k", "1000", "--json")
    assert (code, len(out.splitlines())) == (0, 60)


def test_two_levels_only_can_be_built_and_the_others_are_named(command, stage):
    assert command("indexer", "build", "codes", "--out", "two", "--levels", "mid,fine")[0] == 0
    code, _, err = command("indexer", "query", "key:pic-001", "--index", "two")
    assert (code, "level fused is not in two (has: fine, mid)" in err) == (1, True)


def test_a_folder_of_codes_keeps_to_one_model(command, stage):
    assert command("encoder", "fit", "shards", "--out", "other.safetensors", "--weights", "none", "--backbone", "alexnet",
                   "--hash", "lsh", "--bits", "32", "--image-size", "64")[0] == 0  # fmt: skip
    write_tar(stage / "a.tar", labelled_members(0, 2))
    assert command("encoder", "encode", "a.tar", "--model", "model.safetensors", "--out", "mine")[0] == 0
    before = contents(stage / "mine")
    code, _, err = command("encoder", "encode", "a.tar", "--model", "other.safetensors", "--out", "mine")
    assert (code, "holds codes of another model" in err) == (1, True)
    assert contents(stage / "mine") == before
    assert command("encoder", "encode", "a.tar", "--model", "other.safetensors", "--out", "mine", "--overwrite")[0] == 0
    with open_codes(stage / "mine/a.h5") as file:
        assert file.header.bits[Level.FINE] == 32


def test_another_shard_of_the_same_name_does_not_overwrite(command, stage):
    write_tar(stage / "x/a.tar", labelled_members(0, 2))
    write_tar(stage / "y/a.tar", labelled_members(5, 2))
    assert command("encoder", "encode", "x/a.tar", "--model", "model.safetensors", "--out", "mine")[0] == 0
    before = contents(stage / "mine")
    code, _, err = command("encoder", "encode", "y/a.tar", "--out", "mine")
    assert (code, "holds the codes of" in err) == (1, True)
    assert contents(stage / "mine") == before


def test_a_damaged_shard_is_coded_as_far_as_it_goes_and_never_passes_as_whole(command, stage):
    shard = write_tar(stage / "a.tar", labelled_members(0, 6))
    shard.write_bytes(shard.read_bytes()[:9000])
    code, out, err = command("encoder", "encode", "a.tar", "--model", "model.safetensors", "--out", "mine")
    assert code == 1
    assert "a.tar is damaged: " in err
    assert " images seen = " in out
    assert command("encoder", "encode", "a.tar", "--out", "mine")[0] == 1  # still damaged, though nothing is to be done
    assert "damaged shard: " in command("encoder", "inspect", "mine")[1]
    code, _, err = command("indexer", "build", "mine", "--out", "built")
    assert (code, "damaged shard" in err) == (1, True)
    assert command("indexer", "build", "mine", "--out", "built", "--allow-damaged")[0] == 0


def test_two_writers_of_one_folder_do_not_meet(command, stage):
    import fcntl

    (stage / "mine").mkdir()
    with (stage / "mine/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = command("encoder", "encode", "shards", "--model", "model.safetensors", "--out", "mine")
        assert (code, "another process is writing to mine" in err) == (1, True)
        code, _, err = command("indexer", "build", "codes", "--out", "mine")
        assert (code, "another process is writing to mine" in err) == (1, True)
