import pytest

from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.images.shards import ShardKind
from tests.support.pictures import write_tar


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


def test_a_folder_is_read_deep_sorted_and_split(here):
    for name in ("b/2.jpg", "b/1.JPEG", "a/9.png", "notes.md", "z.gif"):
        (here / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "set" / name).write_bytes(b"x")
    shards = expand(["set"], files_per_shard=3)
    assert [shard.files for shard in shards] == [("a/9.png", "b/1.JPEG", "b/2.jpg"), ("z.gif",)]
    assert [shard.name for shard in shards] == ["set-00000", "set-00001"]


def test_what_is_named_twice_comes_once(here):
    write_tar(here / "set/a.tar", [])
    (here / "set/1.png").write_bytes(b"x")
    (here / "2.png").write_bytes(b"x")
    assert names(["set/a.tar", "set/1.png", "2.png", "set"]) == ["a", "set-00000", "images-00000"]
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


@pytest.mark.parametrize(
    "spec",
    [
        "nothing.tar",
        "no-*.tar",
        "@none.txt",
        "empty",
        "a-{0..2}.tar",
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
