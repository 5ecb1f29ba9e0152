"""Shards to answers through the command lines: the real network, HDF5 and FAISS."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from encoder.codes.file import open_codes
from encoder.levels import Level
from indexer.index import Index
from tests.support.pictures import encoded, labelled_members, write_tar

FIT = ("--backbone", "alexnet", "--weights", "none", "--hash", "lsh", "--bits", "64", "--image-size", "64")


def hits_of(out):
    return [json.loads(line) for line in out.splitlines()]


def test_fit_encode_build_query(command, shards_folder, tmp_path):
    model, codes, index = tmp_path / "model.safetensors", tmp_path / "codes", tmp_path / "index"
    code, out, err = command("encoder", "fit", shards_folder, "--out", model, *FIT)
    assert code == 0, err
    assert "fitted lsh on 60 images (0 rejected)" in out
    code, out, err = command("encoder", "encode", shards_folder, "--model", model, "--out", codes)
    assert code == 0, err
    assert out.startswith("60 images seen = 60 rows + 0 rejects, in 3 shards (0 already done)")
    code, out, err = command("indexer", "build", codes, "--out", index, "--kind", "ivf", "--nlist", "4")
    assert code == 0, err
    code, out, err = command(
        "indexer", "query", "key:pic-007", "--index", index, "--level", "fine", "-k", "3", "--exact", "--json"
    )
    assert code == 0, err
    hits = hits_of(out)
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits[0] | {"shard": ""} == {
        "query": "key:pic-007", "level": "fine", "rank": 1, "key": "pic-007", "distance": 0, "row": 7, "shard": "",
        "labels": {"fine": 2, "coarse": 1, "name": "class 2"},
    }  # fmt: skip
    assert hits[0]["shard"] == str(shards_folder / "part-0000.tar")


@pytest.mark.parametrize("level", list(Level))
def test_an_image_finds_itself_and_a_key_gives_the_same_answer(command, index_folder, tmp_path, level):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(encoded(33))
    code, out, err = command(
        "indexer", "query", photo, "key:pic-033", "--index", index_folder, "--level", level, "--json"
    )
    assert code == 0, err
    hits = hits_of(out)
    by_image, by_key = hits[:10], hits[10:]
    assert by_image[0]["key"] == by_key[0]["key"] == "pic-033"
    # Batches of other sizes may round differently, so that a logit next to zero may change its sign.
    assert by_image[0]["distance"] <= 1


def test_image_bytes_on_stdin(index_folder):
    run = subprocess.run(
        [sys.executable, "-m", "indexer", "query", "-", "--index", str(index_folder), "-k", "1", "--json"],
        input=encoded(5), capture_output=True, check=True,
    )  # fmt: skip
    assert json.loads(run.stdout)["key"] == "pic-005"


def test_every_hit_can_be_read_back_from_its_place(index_folder):
    index = Index(index_folder)
    for row in range(index.ntotal):
        assert index.image(row) == encoded(row)


def test_a_second_run_skips_what_is_done_and_redoes_what_is_not(command, shards_folder, model_path, tmp_path):
    codes = tmp_path / "codes"
    arguments = ("encoder", "encode", shards_folder, "--model", model_path, "--out", codes)
    assert command(*arguments)[0] == 0
    first = {path.name: path.read_bytes() for path in codes.glob("*.h5")}
    damaged = codes / "part-0001.h5"
    damaged.write_bytes(first[damaged.name][:-1] + b"x")
    (codes / "part-0002.h5").unlink()
    code, out, _ = command(*arguments)
    assert code == 0
    assert out.startswith("60 images seen = 60 rows + 0 rejects, in 3 shards (1 already done)")
    assert {path.name: path.read_bytes() for path in codes.glob("*.h5")} == first


def test_some_levels_only_are_coded_alike_and_more_can_be_added(command, shards_folder, model_path, tmp_path):
    some, whole = (
        ("encoder", "encode", shards_folder, "--model", model_path, "--out", tmp_path / "codes"),
        ("--levels", "mid,fine"),
    )
    assert command(*some, *whole)[0] == 0
    assert command("indexer", "build", tmp_path / "codes", "--out", tmp_path / "index")[0] == 0
    assert set(Index(tmp_path / "index").manifest.bits) == {Level.FINE, Level.MID}
    with open_codes(tmp_path / "codes/part-0001.h5") as file:
        alone = {level: file.codes(level, 0, file.header.rows) for level in file.header.bits}
    assert "(0 already done)" in command(*some)[1]
    with open_codes(tmp_path / "codes/part-0001.h5") as file:
        assert list(file.header.bits) == list(Level)
        for level, codes in alone.items():
            assert (file.codes(level, 0, file.header.rows) == codes).all()
    code, _, err = command(*some, *whole)
    assert (code, "has the levels fine,mid,coarse,fused, of which fine,mid would remain" in err) == (1, True)
    assert "(0 already done)" in command(*some, *whole, "--overwrite")[1]
    assert "(3 already done)" in command(*some, *whole)[1]


@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_a_trace_has_every_stage_of_every_process(command, shards_folder, model_path, tmp_path, devices):
    code, out, err = command(
        "encoder", "encode", shards_folder, "--model", model_path, "--out", tmp_path / "codes",
        "--devices", devices, "--profile", tmp_path / "trace.json",
    )  # fmt: skip
    assert code == 0, err
    assert re.search(
        r"this run: 60 images from shard to code file in [\d.]+ s, [\d.]+ images/s, [\d.]+ MB/s of image files", out
    )
    assert re.search(r"time of \d+ threads: decode \d+%, forward \d+%, waiting \d+%, read \d+%, write \d+%", out)
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert min(event["ts"] for event in events) == 0 <= min(event["dur"] for event in events)
    for process in {
        event["pid"] for event in events if event["name"] != "read"
    }:  # one may have come too late for a shard
        assert {event["name"] for event in events if event["pid"] == process} == {"read", "decode", "forward", "write"}
    assert sum(event["name"] == "forward" for event in events) == 3


def test_images_that_came_before_are_skipped_and_counted(command, model_path, tmp_path):
    write_tar(tmp_path / "a.tar", labelled_members(0, 6))
    twins = [(f"twin-{name}", data) for name, data in labelled_members(4, 4)]
    write_tar(tmp_path / "b.tar", [*twins, ("near.png", encoded(0, "PNG")), *labelled_members(20, 2)])
    arguments = (
        "encoder",
        "encode",
        tmp_path / "a.tar",
        tmp_path / "b.tar",
        "--model",
        model_path,
        "--max-bad",
        "0",
        "--out",
    )
    code, out, err = command(*arguments, tmp_path / "exact", "--skip-duplicates", "exact")
    assert code == 0, err
    assert "13 images seen = 11 rows + 2 rejects" in out
    assert "rejected 2: same-content" in out
    code, out, err = command(*arguments, tmp_path / "near", "--skip-duplicates", "near", "--near-radius", "8")
    assert code == 0, err
    assert "rejected 2: same-content" in out
    with open_codes(tmp_path / "near/b.h5") as file:
        rejects = {reject.key: (reject.reject, reject.detail) for reject in file.rejects()}
        assert rejects["twin-pic-004"] == ("same-content", "as one in a")
        assert rejects["near"] == ("near-content", "as one in a")
        assert len(file.codes(Level.FINE)) == file.header.rows == 7 - len(rejects)
    whole = (tmp_path / "near/b.h5").read_bytes()
    (tmp_path / "near/b.h5").unlink()
    code, out, err = command(*arguments, tmp_path / "near", "--skip-duplicates", "near", "--near-radius", "8")
    assert (code, (tmp_path / "near/b.h5").read_bytes() == whole) == (0, True)
    code, _, err = command(*arguments, tmp_path / "two", "--skip-duplicates", "exact", "--devices", "cpu,cpu")
    assert (code, "give one device" in err) == (1, True)


def test_a_changed_shard_is_encoded_again(command, model_path, tmp_path):
    shard, codes = tmp_path / "a.tar", tmp_path / "codes"
    write_tar(shard, labelled_members(0, 3))
    assert command("encoder", "encode", shard, "--model", model_path, "--out", codes)[0] == 0
    write_tar(shard, labelled_members(10, 4))
    code, out, _ = command("encoder", "encode", shard, "--out", codes)
    assert code == 0
    assert out.startswith("4 images seen = 4 rows")
    with open_codes(codes / "a.h5") as file:
        assert list(file.keys()) == [f"pic-{number:03d}" for number in range(10, 14)]


def test_encoding_without_a_model_fits_one_and_says_so(command, tmp_path):
    shard, codes = write_tar(tmp_path / "a.tar", labelled_members(0, 12)), tmp_path / "codes"
    code, out, err = command("encoder", "encode", shard, "--out", codes, *FIT)
    assert code == 0, err
    assert "no model given" in err
    assert (codes / "model.safetensors").exists()
    assert "12 images seen = 12 rows + 0 rejects" in out


def test_folders_lists_globs_and_single_images(command, model_path, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    for number in range(6):
        folder = photos / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(encoded(number, "PNG"))
    write_tar(tmp_path / "set-000.tar", labelled_members(50, 2))
    write_tar(tmp_path / "set-001.tar", labelled_members(60, 2))
    (tmp_path / "one.webp").write_bytes(encoded(99, "WEBP"))
    (tmp_path / "list.txt").write_text("one.webp\n\n# nothing\n")
    monkeypatch.chdir(tmp_path)
    code, out, err = command(
        "encoder",
        "encode",
        "photos",
        "set-{000..001}.tar",
        "@list.txt",
        "--model",
        model_path,
        "--out",
        "codes",
        "--files-per-shard",
        "4",
    )
    assert code == 0, err
    assert out.startswith("11 images seen = 11 rows + 0 rejects, in 6 shards")
    assert command("indexer", "build", "codes")[0] == 0
    index = Index(tmp_path / "index")
    assert sorted(index.key(row) for row in range(index.ntotal)) == sorted(
        ["one.webp", "pic-050", "pic-051", "pic-060", "pic-061"]
        + [f"class{number % 2}/{number}.png" for number in range(6)]
    )
    row = index.find("class1/3.png")
    assert index.image(row) == encoded(3, "PNG")
    assert index.labels(row) == {"folder": "class1"}
    assert index.image(index.find("one.webp")) == encoded(99, "WEBP")


def test_a_gzipped_tar_gives_the_same_codes_and_its_hits_can_be_read_back(command, shards_folder, model_path, tmp_path):
    members = labelled_members(0, 20)
    shard = write_tar(tmp_path / "part.tgz", members, "w:gz")
    codes, index = tmp_path / "codes", tmp_path / "index"
    assert command("encoder", "encode", shard, "--model", model_path, "--out", codes)[0] == 0
    assert "read back from the front" in command("encoder", "inspect", codes)[1]
    assert command("indexer", "build", codes, "--out", index)[0] == 0
    opened = Index(index)
    assert [opened.image(row) for row in range(20)] == [data for name, data in members if name.endswith(".jpg")]


def test_shards_of_one_name_get_code_files_of_their_own(command, model_path, tmp_path):
    for number, folder in enumerate(("train", "val")):
        write_tar(tmp_path / folder / "0000.tar", labelled_members(10 * number, 2))
    codes = tmp_path / "codes"
    assert (
        command(
            "encoder",
            "encode",
            tmp_path / "train/0000.tar",
            tmp_path / "val/0000.tar",
            "--model",
            model_path,
            "--out",
            codes,
        )[0]
        == 0
    )
    assert sorted(path.name for path in codes.glob("*.h5")) == ["train-0000.h5", "val-0000.h5"]


def test_keys_that_start_over_are_refused_unless_prefixed(command, model_path, tmp_path):
    for number, name in enumerate(("a", "b")):
        write_tar(tmp_path / f"{name}.tar", [("x.jpg", encoded(number))])
    codes, index = tmp_path / "codes", tmp_path / "index"
    encode_both = ("encoder", "encode", tmp_path / "a.tar", tmp_path / "b.tar", "--model", model_path, "--out", codes)
    assert command(*encode_both)[0] == 0
    code, _, err = command("indexer", "build", codes, "--out", index)
    assert (code, "1 key in more than one row, first 'x'" in err) == (1, True)
    assert not (index / "CURRENT").exists()
    code, out, err = command("indexer", "build", codes, "--out", index, "--on-duplicate", "first")
    assert (code, "1 row," in out, "1 row left out" in err) == (0, True, True)
    assert command(*encode_both, "--prefix-keys")[0] == 0
    assert command("indexer", "build", codes, "--out", index, "--overwrite")[0] == 0
    opened = Index(index)
    assert [opened.key(row) for row in range(2)] == ["a/x", "b/x"]


def test_help_and_a_key_query_load_neither_torch_nor_more(index_folder):
    program = (
        "import sys\n"
        "from indexer.cli import main\n"
        "try: main()\n"
        "except SystemExit as left: code = left.code\n"
        "print(code, sorted({'torch', 'h5py', 'PIL', 'faiss'} & sys.modules.keys()))\n"
    )

    def modules(*arguments):
        run = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
        return run.stdout.splitlines()[-1]

    assert modules("query", "--help") == "0 []"
    assert modules("query", "key:pic-001", "--index", index_folder) == "0 ['faiss']"


def test_a_moved_shard_does_not_break_answers(command, model_path, tmp_path):
    shard = write_tar(tmp_path / "a.tar", labelled_members(0, 3))
    codes, index = tmp_path / "codes", tmp_path / "index"
    command("encoder", "encode", shard, "--model", model_path, "--out", codes)
    command("indexer", "build", codes, "--out", index)
    shutil.move(shard, tmp_path / "elsewhere.tar")
    code, out, _ = command("indexer", "query", "key:pic-001", "--index", index, "--save-html", tmp_path / "page.html")
    assert code == 0
    assert out.splitlines()[0] == "key:pic-001 (fused)"
    assert {line.split()[3] for line in out.splitlines()[1:]} == {"pic-000", "pic-002"}  # on a page, the others
    assert (tmp_path / "page.html").exists()


def test_the_page_marks_hits_by_the_labels_that_are_named(command, index_folder, tmp_path):
    page, ask = tmp_path / "page.html", ("indexer", "query", "key:pic-001", "--index", index_folder)
    code, _, err = command(*ask, "--save-html", page, "--match", "label.fine,coarse", "--match", "fine")
    assert code == 0, err
    assert "labels compared: <b>fine, coarse</b>" in page.read_text()
    code, _, err = command(*ask, "--save-html", page, "--match", "label.fien")
    assert code == 1
    assert "error: label field 'fien' is not in" in err
    code, _, err = command(*ask, "--match", "label.fine")
    assert code == 2
    assert "--save-html" in err
