import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.images.shards import ShardKind
from tests.support.pictures import encoded, write_tar


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(specs, **options):
    return [shard.name for shard in expand(specs, **options)]


def test_brace_ranges_keep_the_width_of_their_first_number(here):
    for number in range(8, 12):
        write_tar(here / f"a-{number:03d}.tar", [])
    assert names(["a-{008..011}.tar"]) == ["a-008", "a-009", "a-010", "a-011"]


def test_brace_choices_multiply(here):
    for split in ("train", "val"):
        for number in range(2):
            write_tar(here / f"{split}-{number}.tar", [])
    assert names(["{train,val}-{0..1}.tar"]) == ["train-0", "train-1", "val-0", "val-1"]


def test_globs_are_sorted_and_each_shard_comes_once(here):
    for name in "cab":
        write_tar(here / f"{name}.tar", [])
    assert names(["*.tar", "a.tar", str(here / "b.tar")]) == ["a", "b", "c"]


def put(folder, *names, data=b"x"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_a_folder_is_read_deep_and_sorted(here):
    put(here / "set", "b/2.jpg", "b/1.JPEG", "a/9.png", "notes.md", "z.gif")
    [shard] = expand(["set"])
    assert (shard.name, shard.files) == ("set", ("a/9.png", "b/1.JPEG", "b/2.jpg", "z.gif"))


def test_a_file_more_changes_one_part_of_a_folder_or_splits_it(here):
    names = [f"{number:03d}.jpg" for number in range(300)]
    put(here / "set", *names)
    before = {shard.name: shard.files for shard in expand(["set"], files_per_shard=20)}
    assert sorted(file for files in before.values() for file in files) == names
    assert all(len(files) <= 20 and list(files) == sorted(files) for files in before.values())
    for number in range(20):
        put(here / "set", f"new-{number}.jpg")
        after = {shard.name: shard.files for shard in expand(["set"], files_per_shard=20)}
        gone, new = before.keys() - after.keys(), after.keys() - before.keys()
        changed = [name for name in before.keys() & after.keys() if before[name] != after[name]]
        assert (len(changed), len(gone), len(new)) in {(1, 0, 0), (0, 1, 2)}
        before = after


def test_images_are_known_by_their_first_bytes_where_the_ending_does_not_say(here):
    jpeg = encoded(0)
    put(here / "set", "a.jfif", "b.jpe", "c.jpg_large", "d.HEIC", "no-ending", "odd.photo", data=jpeg)
    put(here / "set", "text", "words.odd", "notes.txt", "movie.mp4", data=b"BMW is a car")
    os.mkfifo(here / "set/fifo")
    shards = expand(["set"])
    assert shards[0].files == ("a.jfif", "b.jpe", "c.jpg_large", "d.HEIC", "no-ending", "odd.photo")
    assert shards.skipped == {"no ending": 2, ".odd": 1, ".txt without an image": 1, ".mp4": 1}


def test_what_systems_leave_beside_images_is_counted_not_read(here):
    put(here / "set", "a.jpg", "._a.jpg", ".DS_Store", "Thumbs.db", ".hidden.jpg", "__MACOSX/._a.jpg", ".git/x.png")
    shards = expand(["set"])
    assert shards[0].files == ("a.jpg",)
    assert shards.skipped == {"system file": 4, "system folder": 2}


def test_labels_of_an_image_are_not_skipped_and_others_are_counted(here):
    put(here / "set", "a.jpg", "a.json", "a.cls", "b.jpg.json", "b.jpg", "1.left.jpg", "1.json", "alone.json")
    assert expand(["set"]).skipped == {".json without an image": 1}


def test_links_to_folders_are_followed_and_each_folder_is_read_once(here):
    put(here / "set", "sub/a.jpg")
    put(here / "elsewhere", "b.jpg")
    (here / "set/sub/up").symlink_to(here / "set")
    (here / "set/linked").symlink_to(here / "elsewhere")
    shards = expand(["set"])
    assert shards[0].files == ("linked/b.jpg", "sub/a.jpg")
    assert shards.skipped == {"link to a folder that is read already": 1}
    by_pattern = expand(["set/**/*.jpg"])
    assert [Path(file).name for shard in by_pattern for file in shard.files] == ["b.jpg", "a.jpg"]
    assert [file for shard in expand(["**/*.jpg"]) for file in shard.files] == ["elsewhere/b.jpg", "set/sub/a.jpg"]


def test_a_pattern_passes_over_what_is_not_an_image_and_a_name_does_not(here):
    put(here / "set", "a.jpg", "b.txt")
    shards = expand(["set/*"])
    assert (shards[0].files, shards.skipped) == (("set/a.jpg",), {".txt without an image": 1})
    with pytest.raises(HashgrainError, match=r"set/b.txt is not an image shard"):
        expand(["set/b.txt"])
    with pytest.raises(HashgrainError, match=r"names no image and no archive \(skipped 1 file: 1 .txt"):
        expand(["set/*.txt"])


def test_a_pattern_passes_over_folders_without_images(here):
    put(here / "set", "a.jpg", "deep/b.jpg", "empty/notes.md")
    (here / "set/bare").mkdir()
    found = expand(["set/*"])
    assert sorted(file for shard in found for file in shard.files) == ["b.jpg", "set/a.jpg"]
    assert found.skipped == {".md": 1}
    with pytest.raises(HashgrainError, match="names no image and no archive"):
        expand(["set/[be]*"])


@pytest.mark.parametrize("specs", [["set/*"], ["set/**"], ["set", "set/*"]])
def test_labels_of_images_that_a_pattern_matches_are_not_skipped(here, specs):
    put(here / "set", "a.jpg", "a.json", "a.txt", "b.jpg", "b.jpg.json", "c.json")
    found = expand(specs)
    assert [len(sidecars) for shard in found for sidecars in shard.sidecars] == [2, 1]
    assert found.skipped == {".json without an image": len(specs)}


def test_an_image_comes_once_however_it_is_spelled(here):
    put(here / "set", "a.jpg", "deep/b.jpg")
    (here / "link").symlink_to("set")
    [shard] = expand(["set/a.jpg", "./set/deep/../a.jpg", str(here / "set/a.jpg"), "link/a.jpg"])
    assert shard.files == ("set/a.jpg",)
    (here / "set/to-deep").symlink_to(here / "other")
    put(here / "other", "c.jpg")
    [shard] = expand(["set", "set/to-deep/c.jpg", "other/c.jpg"])
    assert shard.files == ("a.jpg", "deep/b.jpg", "to-deep/c.jpg")


def test_a_folder_that_cannot_be_read_is_told(here):
    put(here / "set", "a.jpg")
    folder = os.open(here / "set", os.O_RDONLY)
    for _ in range(20):  # deeper than a path may be long
        os.mkdir("d" * 250, dir_fd=folder)
        folder, above = os.open("d" * 250, os.O_RDONLY, dir_fd=folder), folder
        os.close(above)
    os.close(folder)
    shards = expand(["set"])
    assert shards[0].files == ("a.jpg",)
    assert list(shards.unread.values()) == ["File name too long"]


def test_what_is_named_twice_comes_once(here):
    write_tar(here / "set/a.tar", [])
    (here / "set/1.png").write_bytes(b"x")
    (here / "2.png").write_bytes(b"x")
    assert names(["set/a.tar", "set/1.png", "2.png", "set"]) == ["a", "set", "images"]
    assert expand(["set/1.png", "2.png", "set"])[-1].files == ("2.png",)


def test_a_folder_of_tars_gives_its_tars(here):
    write_tar(here / "set/x/b.tgz", [], "w:gz")
    write_tar(here / "set/a.tar", [])
    assert [(shard.name, shard.kind) for shard in expand(["set"])] == [("a", ShardKind.TAR), ("b", ShardKind.TAR_GZ)]


def test_compression_is_told_by_content_not_by_name(here):
    write_tar(here / "really-gzip.tar", [], "w:gz")
    write_tar(here / "really-plain.tgz", [])
    assert [shard.kind for shard in expand(["really-gzip.tar", "really-plain.tgz"])] == [
        ShardKind.TAR_GZ,
        ShardKind.TAR,
    ]


def test_equal_names_are_told_apart_by_their_folders(here):
    for path in ("x/train/0.tar", "y/train/0.tar", "1.tar"):
        write_tar(here / path, [])
    assert names(["x/train/0.tar", "y/train/0.tar", "1.tar"]) == ["x-train-0", "y-train-0", "1"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(here):
    write_tar(here / "a[1].tar", [])
    write_tar(here / "{0..1}.tar", [])
    assert names(["a[1].tar", "{0..1}.tar"]) == ["a[1]", "{0..1}"]


def test_a_name_that_is_not_text_makes_a_shard_whose_name_is(here):
    for path in (b"caf\xe9.tar", b"caf\xe9/0.tar", b"b/0.tar", b"new\nline.tar"):
        write_tar(here / os.fsdecode(path), [])
    put(here / os.fsdecode(b"\xff"), "1.jpg")
    specs = [os.fsdecode(path) for path in (b"caf\xe9.tar", b"caf\xe9", b"b", b"\xff", b"new\nline.tar")]
    assert names(specs) == ["caf\\xe9", "caf\\xe9-0", "b-0", "\\xff", "new\\x0aline"]


def test_a_list_that_names_what_is_not_there_is_named(here):
    (here / "list.txt").write_text("gone.jpg\n")
    with pytest.raises(HashgrainError, match=r"the list list.txt: gone.jpg cannot be read"):
        expand(["@list.txt"])


def test_a_folder_of_files_that_are_not_read_says_what_they_are(here):
    put(here / "cifar", "data_batch_1", data=b"\x80\2}q\0")
    (here / "cifar/readme.html").write_text("<html>")
    os.mkfifo(here / "cifar/a-fifo")
    with pytest.raises(HashgrainError, match=r"holds no image .*; data_batch_1 is a pickle"):
        expand(["cifar"])


def test_the_table_of_a_tar_is_not_left_out_and_any_other_is(here):
    for name, column in (("00000", "key"), ("00001", "url"), ("other", "key")):
        write_tar(here / f"set/{name.replace('other', '00002')}.tar", [])
        parquet.write_table(pa.table({column: ["a"], "price": [3]}), here / f"set/{name}.parquet")
    assert expand(["set"]).skipped == {".parquet": 2}


@pytest.mark.parametrize(
    "spec",
    [
        "nothing.tar",
        "no-*.tar",
        "@none.txt",
        "empty",
        "a-{0..2}.tar",
        "x" * 300,
        "{" + "x" * 300 + ",b}.tar",
        "nul\0.jpg",
        "a-{1..0}.tar",
        "text.txt",
        "@broken.txt",
        "@remarks.txt",
        "@lists.txt",
    ],
)
def test_what_names_nothing_is_refused_in_one_line(here, spec):
    (here / "empty").mkdir()
    (here / "text.txt").write_text("hello")
    (here / "broken.txt").write_bytes(b"\xff\xfe")
    (here / "remarks.txt").write_text("# nothing\n\n")
    (here / "lists.txt").write_text("a-0.tar\n@remarks.txt\n")
    write_tar(here / "a-0.tar", [])
    with pytest.raises(HashgrainError) as caught:
        expand([spec])
    assert caught.value.reason is Reason.SHARD_MISSING
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("urls.csv", "url,caption\nhttps://x/1.jpg,a\n"),
        ("urls.txt", "https://x/1.jpg\nhttps://x/2.jpg\n"),
        ("urls.txt", "https://x/photo?id=1\n"),
        ("rows.jsonl", '{"url": "https://x/1"}\n'),
    ],
)
def test_a_list_of_pictures_at_urls_is_refused_with_what_makes_shards_of_it(here, name, text):
    (here / name).write_text(text)
    for spec in (f"@{name}", name):
        with pytest.raises(HashgrainError, match=r"img2dataset\.download\('urls|rows") as caught:
            expand([spec])
        assert caught.value.reason is Reason.SHARD_MISSING
