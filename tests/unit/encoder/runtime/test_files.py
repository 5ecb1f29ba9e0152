"""Shards that are not files of this machine: in memory, and on a web server of this machine."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from encoder.codes.file import open_codes
from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.images.readers.formats import read_image, reader_for
from encoder.images.samples import Sample
from encoder.images.shards import ShardKind
from encoder.runtime.files import (
    AHEAD,
    absence,
    exists,
    open_file,
    open_regular,
    parts_of,
    read_regular,
    reading,
    status_of,
)
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from tests.support.pictures import encoded, labelled_members, write_tar
from tests.support.servers import serving


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nowhere", "it does not exist"),
        ("x" * 256, "File name too long"),
        ("{" + ",".join(map(str, range(200))) + "}.tar", "File name too long"),
        ("/".join(["x" * 200] * 30), "File name too long"),
        ("null\0", "embedded null byte"),
        ("\udcff\ud800", "surrogates not allowed"),
        ("file/below", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
    ],
    ids=range(8),
)
def test_any_text_may_be_asked_for_as_a_path(tmp_path, monkeypatch, path, why):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("loop").symlink_to("loop")
    assert not exists(path)
    assert why in str(absence(path))
    for read in (open_file, status_of):
        with pytest.raises(HashgrainError, match=r"; give a file that can be read$") as caught:
            read(path)
        assert caught.value.reason is Reason.SHARD_MISSING


def test_what_is_there_is_not_absent(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        assert absence(path) is None
        assert exists(path)
        assert exists(str(path))


@pytest.fixture
def memory():
    """An empty file system `memory://`."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def well_behaved(server):
    server.files.clear()
    server.requests.clear()
    server.dies_at, server.knows_ranges, server.tells_sizes, server.lets_in = None, True, True, True


@pytest.fixture
def elsewhere(server, memory, tmp_path):
    """Put a tar of labelled pictures at a path of this machine and at two URLs: `elsewhere(name)` -> the three."""

    def put(name, members=None, mode="w"):
        path = write_tar(tmp_path / "local" / name, members or labelled_members(0, 12), mode)
        server.files[f"/set/{name}"] = path.read_bytes()
        memory.pipe_file(f"/set/{name}", path.read_bytes())
        return str(path), f"memory://set/{name}", server.url(f"set/{name}")

    return put


def refused(*specs):
    """The line with which shards are refused."""
    with pytest.raises(HashgrainError) as caught:
        expand(specs)
    assert caught.value.reason is Reason.SHARD_MISSING
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what a URL names -----------------------------------------------------------------------------------------------


def test_a_range_of_urls_is_a_shard_each(elsewhere, server):
    for number in range(8, 12):
        elsewhere(f"a-{number:03d}.tar", [])
    assert [shard.name for shard in expand(["memory://set/a-{008..011}.tar"])] == [f"a-{n:03d}" for n in range(8, 12)]
    shards = expand([server.url("set/a-{010..011}.tar"), server.url("set/a-010.tar")])
    assert [(shard.name, shard.path) for shard in shards] == [
        (f"a-{n:03d}", server.url(f"set/a-{n:03d}.tar")) for n in (10, 11)
    ]


def test_globs_and_folders_list_tars_deep_and_sorted(memory):
    for name in ("set/b.tar", "set/a.tgz", "set/deep/c.tar", "set/a.json", "other/d.tar", "set/x[1].tar"):
        memory.pipe_file(f"/{name}", b"")
    names = {
        "memory://set": ["a", "b", "c", "x[1]"],
        "memory://set/": ["a", "b", "c", "x[1]"],
        "memory://set/*.tar": ["b", "x[1]"],
        "memory://*/[c-d].tar": ["d"],
        "memory://se?": ["a", "b", "c", "x[1]"],
        "memory://{set,other}/**": ["a", "b", "c", "x[1]", "d"],
        "memory://set/x[1].tar": ["x[1]"],
    }
    for spec, expected in names.items():
        assert [shard.name for shard in expand([spec])] == expected, spec
    assert expand(["memory://set/b*"])[0].path == "memory://set/b.tar"


def test_lists_name_urls_and_may_be_at_one(elsewhere, server, memory, tmp_path):
    in_memory, on_web = elsewhere("a.tar", [])[1:]
    lines = f"# mine\n{on_web}\n\n  {in_memory}\n".encode()
    (tmp_path / "list.txt").write_bytes(lines)
    server.files["/list.txt"] = lines
    for spec in f"@{tmp_path / 'list.txt'}", "@" + server.url("list.txt"):
        assert [shard.path for shard in expand([spec])] == [on_web, in_memory]


def test_equal_names_are_told_apart_by_their_folders_and_hosts(elsewhere, server, memory):
    path, in_memory, on_web = elsewhere("0.tar", [])
    memory.pipe_file("/x/set/0.tar", b"")
    names = [shard.name for shard in expand([path, in_memory, on_web, "memory://x/set/0.tar"])]
    assert names == ["local-0", "set-0", f"127.0.0.1:{server.server_port}-set-0", "x-set-0"]
    with pytest.raises(HashgrainError, match="two shards are called") as caught:
        expand([on_web, on_web + "?version=2"])
    assert caught.value.reason is Reason.SHARD_CLASH


def test_the_query_of_a_web_address_is_no_part_of_its_name(elsewhere):
    on_web = elsewhere("a.tar", [])[2] + "?signature=a/b[c]#top"
    [shard] = expand([on_web])
    assert (shard.name, shard.path) == ("a", on_web)
    assert parts_of("s3://bucket/a#1?.tar") == ("bucket", "a#1?.tar")


def test_compression_is_told_by_content(elsewhere):
    for spec in elsewhere("really-gzip.tar", mode="w:gz"):
        assert expand([spec])[0].kind is ShardKind.TAR_GZ


def test_naming_many_urls_reads_a_block_of_each(elsewhere, server):
    for number in range(40):
        elsewhere(f"{number}.tar", [])
    shards = expand([server.url("set/{0..39}.tar")])
    stamps = {reader_for(shard).stamp() for shard in shards}
    assert (len(shards), len(stamps)) == (40, 1)
    assert sum(command == "GET" for command, _, _ in server.requests) == 40
    assert {size for _, _, size in server.requests} == {"", "bytes=0-511"}


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("memory://set/none.tar", "cannot find memory://set/none.tar: there is no such file"),
        ("memory://set/a-{0..2}.tar", "cannot find memory://set/a-1.tar"),
        ("memory://none/*.tar", "names no tar"),
        ("memory://none", "names no tar"),
        ("memory://", "photo.jpg is an image"),
        ("memory://set/photo.jpg", "photo.jpg is an image; at a URL only tars are read"),
        ("memory://set", "photo.jpg is an image"),
        ("memory://set/notes.txt", "names no tar"),
        ("@memory://set/none.txt", "cannot open memory://set/none.txt: there is no such file"),
        ("@memory://set/photo.jpg", "the list memory://set/photo.jpg could not be read"),
        ("nowhere://set/a.tar", "the scheme nowhere, which fsspec does not know"),
        ("simplecache::memory://set/a-0.tar", "is a chain of URLs"),
        ("http://127.0.0.1:1/a.tar", "Cannot connect to host 127.0.0.1:1"),
        ("https://127.0.0.1/*.tar", "https:// cannot be listed"),
        ("https://127.0.0.1/set/", "https:// cannot be listed"),
        ("http://127.0.0.1/photo.jpg", "is an image"),
    ],
)
def test_what_names_nothing_is_refused_in_one_line(memory, spec, said):
    memory.pipe_file("/set/a-0.tar", b"")
    memory.pipe_file("/set/photo.jpg", b"\xff\xd8")
    memory.pipe_file("/set/notes.txt", b"hello")
    assert said in refused(spec)


def test_what_a_server_refuses_is_told(server):
    assert "404" in refused(server.url("none.tar"))


@pytest.mark.parametrize(
    ("scheme", "driver"), [("s3", "s3fs"), ("gs", "gcsfs"), ("hf", "huggingface_hub"), ("https", "aiohttp")]
)
def test_a_missing_driver_is_told_with_what_to_install(monkeypatch, scheme, driver):
    monkeypatch.setitem(sys.modules, driver, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, scheme, raising=False)
    line = refused(f"{scheme}://bucket/a.tar")
    assert f"takes {driver}, which is not installed" in line
    assert f"pip install {driver}" in line


def test_what_a_driver_remembers_of_files_is_forgotten_first(memory, monkeypatch):
    """In an old listing a file that was replaced looks as it did."""
    forgotten = []
    monkeypatch.setattr(type(memory), "invalidate_cache", lambda self, path=None: forgotten.append(path))
    memory.pipe_file("/a.tar", b"")
    expand(["memory://a.tar"])
    assert forgotten == [None]


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_the_same_images_labels_digest_and_damage_come_from_everywhere(elsewhere, mode):
    found = []
    for spec in elsewhere("a.tar", mode=mode):
        reader = reader_for(expand([spec])[0])
        found.append((list(reader), reader.seen, reader.size, reader.sha256, reader.damage))
    assert found[0] == found[1] == found[2]
    assert found[0][1:2] + found[0][4:] == (12, None)


@pytest.mark.parametrize("cut", [0, 700, None], ids=["empty", "in a member", "no marker"])
def test_damage_is_told_as_of_a_local_tar(elsewhere, memory, server, cut):
    specs = elsewhere("a.tar")
    data = Path(specs[0]).read_bytes().rstrip(b"\0")[:cut]
    Path(specs[0]).write_bytes(data)
    memory.pipe_file("/set/a.tar", data)
    server.files["/set/a.tar"] = data
    found = []
    for spec in specs:
        reader = reader_for(expand([spec])[0])
        found.append((len(list(reader)), reader.damage, reader.sha256))
    assert found[0][1]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_image_is_read_back_from_a_url(elsewhere, server, mode):
    big = ("big.bmp", encoded(1, "BMP", 800))
    for spec in elsewhere("a.tar", [*labelled_members(0, 3), big], mode):
        [shard] = expand([spec])
        samples = [entry for entry in reader_for(shard) if isinstance(entry, Sample)]
        assert samples[-1].size > 1 << 20
        server.requests.clear()
        for sample in samples:
            assert read_image(shard.kind, spec, "", sample.offset, sample.size) == sample.data
        if spec.startswith("http") and mode == "w":  # a look at the head, then just the image's bytes, 1 MiB at a time
            gets = [size for command, _, size in server.requests if command == "GET"]
            assert gets[:2] == ["bytes=0-9", f"bytes={samples[0].offset}-{samples[0].offset + samples[0].size - 1}"]
            assert len(gets) == 2 * len(samples) + samples[-1].size // (1 << 20)


def test_a_walk_reads_large_blocks(elsewhere, server):
    noise = [(f"{n}.bmp", os.urandom(3 << 20)) for n in range(7)]
    on_web = elsewhere("a.tar", noise)[2]
    shard = expand([on_web])[0]
    server.requests.clear()
    assert sum(len(entry.data) for entry in reader_for(shard) if isinstance(entry, Sample)) == 21 << 20
    gets = [size for command, _, size in server.requests if command == "GET"]
    assert len(gets) <= (21 << 20) // AHEAD + 1


def test_a_sample_is_drawn_from_a_url(elsewhere):
    for spec in elsewhere("a.tar"):
        samples = list(reader_for(expand([spec])[0], wanted={2, 5}.__contains__))
        assert [sample.ordinal for sample in samples if isinstance(sample, Sample) and sample.data] == [2, 5]


@pytest.mark.parametrize("fault", ["dies", "no ranges", "no size", "vanishes", "shrinks"])
def test_a_server_that_fails_midway_is_told_in_one_line(elsewhere, server, fault):
    on_web = elsewhere("a.tar", [(f"{n}.bmp", os.urandom(3 << 20)) for n in range(4)])[2]
    shard = expand([on_web])[0]
    entries = iter(reader_for(shard))
    said = {
        "dies": "cannot read",
        "no ranges": "range requests",
        "no size": "does not tell its size",
        "vanishes": "404",
        "shrinks": "it ended at byte",
    }
    if fault in {"dies", "no ranges", "no size"}:
        server.dies_at = 9 << 20 if fault == "dies" else None
        server.knows_ranges, server.tells_sizes = fault != "no ranges", fault != "no size"
    else:
        next(entries)
        server.files["/set/a.tar"] = server.files["/set/a.tar"][: 1 << 20]
        if fault == "vanishes":
            server.files.clear()
    with pytest.raises(HashgrainError, match=said[fault]) as caught:
        list(entries)
    assert caught.value.reason is Reason.SHARD_MISSING
    assert on_web in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_remote_file_seeks_and_ends_as_a_local_one(elsewhere):
    for spec in elsewhere("a.tar"):
        with open_file(spec) as file:
            size = file.seek(0, os.SEEK_END)
            assert size == status_of(spec).size
            assert file.read(10) == b""
            assert file.seek(-512, os.SEEK_CUR) == size - 512
            assert file.read() == bytes(512)
            file.seek(size + 5)
            assert file.read(1) == b""
            file.seek(0)
            assert file.read(12) == b"pic-000.jpg\0"


def test_a_url_exists_if_it_can_be_found(elsewhere):
    for spec in elsewhere("a.tar"):
        assert exists(spec)
        assert not exists(spec.replace("a.tar", "b.tar"))


def test_what_cannot_be_asked_for_is_not_taken_for_gone(server, elsewhere):
    *_, url = elsewhere("a.tar")
    server.lets_in = False
    for spec in (url, "nowhere://a.tar", "http://127.0.0.1:1/a.tar"):
        with pytest.raises(HashgrainError):
            exists(spec)


def test_codes_of_a_url_out_of_reach_are_not_replaced(server, elsewhere, model_path, tmp_path):
    local, _, url = elsewhere("a.tar")
    encode(expand([url]), model_path, tmp_path / "out", EncodeSettings())
    server.lets_in = False
    with pytest.raises(HashgrainError, match="403"):
        encode(expand([local]), model_path, tmp_path / "out", EncodeSettings())
    server.lets_in = True
    server.files.clear()
    encode(expand([local]), model_path, tmp_path / "out", EncodeSettings())


# --- what becomes of it ---------------------------------------------------------------------------------------------


def test_codes_keys_places_and_digests_are_those_of_the_local_shard(elsewhere, model_path, tmp_path):
    found = []
    for number, spec in enumerate(elsewhere("a.tar", [*labelled_members(0, 9), ("bad.jpg", b"x")])):
        out = tmp_path / str(number)
        encode(expand([spec]), model_path, out, EncodeSettings(batch=4))
        with open_codes(out / "a.h5") as file:
            header = file.header
            assert header.shard.path == spec
            codes = {level: file.codes(level).tolist() for level in header.bits}
            rows = list(file.keys()), file.places().tolist(), file.rejects()
        found.append((replace(header, shard=replace(header.shard, path="", stamp="", relative=None)), codes, rows))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("where", [1, 2], ids=["memory", "http"])
def test_an_unchanged_shard_is_kept_and_a_changed_one_done_again(elsewhere, server, model_path, tmp_path, where):
    def run():
        return encode(expand([spec]), model_path, tmp_path / "codes", EncodeSettings(batch=4)).skipped

    spec = elsewhere("a.tar")[where]
    assert (run(), run()) == (0, 1)
    elsewhere("a.tar", labelled_members(12, 12))
    assert (run(), run()) == (0, 1)
    with open_codes(tmp_path / "codes/a.h5") as file:
        assert file.keys()[0] == "pic-012"


def test_codes_of_another_shard_that_is_still_there_are_not_replaced(elsewhere, server, model_path, tmp_path):
    path, in_memory, on_web = elsewhere("a.tar")
    settings = EncodeSettings(batch=4)
    encode(expand([on_web]), model_path, tmp_path / "codes", settings)
    for spec in path, in_memory:
        with pytest.raises(HashgrainError) as caught:
            encode(expand([spec]), model_path, tmp_path / "codes", settings)
        assert caught.value.reason is Reason.SHARD_CLASH
    server.files.clear()
    assert encode(expand([path]), model_path, tmp_path / "codes", settings).rows == 12


def test_a_server_that_dies_costs_no_shard_that_is_done_and_leaves_no_half(elsewhere, server, model_path, tmp_path):
    def run():
        return encode(expand([server.url("set/{a,b}.tar")]), model_path, tmp_path / "codes", EncodeSettings(batch=4))

    elsewhere("a.tar")
    on_web = elsewhere("b.tar", labelled_members(12, 12))[2]
    encode(expand([on_web.replace("b.tar", "a.tar")]), model_path, tmp_path / "codes", EncodeSettings(batch=4))
    server.dies_at = len(server.files["/set/b.tar"]) // 2
    with pytest.raises(HashgrainError, match=r"cannot read http.*b\.tar") as caught:
        run()
    assert caught.value.reason is Reason.SHARD_MISSING
    assert sorted(path.name for path in (tmp_path / "codes").glob("*.h5*")) == ["a.h5"]
    server.dies_at = None
    report = run()
    assert (report.skipped, report.rows, report.damaged) == (1, 24, {})


def test_local_files_never_load_fsspec(tmp_path):
    write_tar(tmp_path / "a.tar", labelled_members(0, 2))
    program = (
        "import sys\n"
        "from encoder.images.readers.formats import reader_for\n"
        "from encoder.images.expand import expand\n"
        "print(len(list(reader_for(expand([sys.argv[1]])[0]))), 'fsspec' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.tar")],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert run.stdout.split() == ["2", "False"]


def test_only_a_regular_file_is_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(tmp_path / "file", 5) == read_regular(tmp_path / "link", 5) == b"12345"
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            open_regular(path)
    with pytest.raises(OSError, match="5 bytes, 4 at most"):
        read_regular(tmp_path / "file", 4)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        open_regular(tmp_path / "link", links=False)


def test_codes_that_were_imported_have_no_picture():
    with pytest.raises(HashgrainError, match="its code was imported from codes.npy") as caught:
        read_image(ShardKind.NONE, "codes.npy", "row-1", 0, 0)
    assert caught.value.reason is Reason.SHARD_MISSING


def test_a_disk_that_does_not_give_what_a_file_holds_is_told():
    """Nothing can be read where the memory of a process begins: EIO."""
    refusal = pytest.raises(HashgrainError, match="cannot read /proc/self/mem: Input/output error; give a file")
    with refusal as caught, reading("/proc/self/mem") as file:
        file.read(1)
    assert caught.value.reason is Reason.SHARD_MISSING
