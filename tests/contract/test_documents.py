"""What the documents promise is there."""

import re
import struct
import tomllib
from hashlib import sha256
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from encoder.cli import app as encoder_app
from encoder.errors import Reject
from encoder.images.shards import Shard, ShardKind
from indexer.cli import app as indexer_app
from tests.support.collection import blocks
from tests.support.pictures import encoded

ROOT = Path(__file__).parents[2]
MADE_BY_EXAMPLES = {
    "encoder/hashing/pcarr.py",
    "encoder/images/readers/records.py",
    "indexer/engines/plain.py",
    "tests/unit/encoder/images/readers/test_records.py",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("app", [encoder_app, indexer_app], ids=["encoder", "indexer"])
def test_every_command_has_help_with_an_example_and_stands_in_the_readme(app):
    name = "encoder" if app is encoder_app else "indexer"
    readme = (ROOT / "README.md").read_text()
    for command in app.registered_commands:
        documentation = command.callback.__doc__ or ""
        called = command.name or command.callback.__name__
        assert f"Example: {name} {called}" in documentation
        assert f"{name} {called}" in readme or f"`{called}`" in readme


def test_every_room_stands_in_the_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = [
        path.parent for folder in ("encoder", "indexer", "pipelines") for path in (ROOT / folder).rglob("*/__init__.py")
    ]
    assert len(rooms) > 15
    assert [room.name for room in rooms if f"`{room.name}/`" not in text] == []


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert named
    assert named <= targets


def test_one_version():
    assert PROJECT["version"] == version("hashgrain")
    versions = re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:1] == [PROJECT["version"]]


def test_every_package_of_the_wheel_is_typed():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert packages
    assert all((ROOT / package / "py.typed").is_file() for package in packages)


def test_the_licence_is_the_one_that_the_metadata_name():
    assert [(ROOT / name).read_text().split()[0] for name in PROJECT["license-files"]] == [PROJECT["license"]]


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "SECURITY.md", ".pre-commit-config.yaml", ".ci/run"])
def test_what_a_document_names_exists(document):
    text = (ROOT / document).read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:`|: |^)make ([a-z-]+)", text, re.MULTILINE)
    assert set(named) <= targets
    paths = re.findall(r"`((?:encoder|indexer|pipelines|tests|docs)/[\w./-]*|[A-Z]+\.md)`", text)
    assert named or paths
    assert [path for path in paths if path not in MADE_BY_EXAMPLES and not (ROOT / path).exists()] == []


def test_the_example_of_a_shard_format_reads_what_it_says(tmp_path):
    code = next(block for block in blocks("CONTRIBUTING.md", "python") if "class RecordReader" in block)
    (tmp_path / "records.py").write_text(code.replace("ShardKind.RECORDS", "ShardKind.TAR"))
    spec = spec_from_file_location("records", tmp_path / "records.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    pictures = [encoded(number) for number in range(5)]
    records = b""
    for number, picture in enumerate(pictures):
        further = struct.pack("<2f", 0.5, 0.5) if number == 2 else b""
        body = struct.pack("<Lf2Q", len(further) // 4, number / 2, number, 0) + further + picture
        records += struct.pack("<2L", 0xCED7230A, len(body)) + body + bytes(-len(body) % 4)
    path = tmp_path / "train.rec"

    def read(data, **options):
        path.write_bytes(data)
        reader = module.RecordReader(Shard("train", ShardKind.TAR, str(path)), **options)
        return list(reader), reader

    samples, reader = read(records)
    assert [(sample.key, sample.data) for sample in samples] == [
        (f"{number:08d}", picture) for number, picture in enumerate(pictures)
    ]
    assert [sample.labels for sample in samples] == [{"label": number / 2} for number in range(5)]
    assert (reader.damage, reader.sha256, reader.size) == (None, sha256(records).hexdigest(), len(records))
    assert [reader.read_image(str(path), "", sample.offset, sample.size) for sample in samples] == pictures
    some, reader = read(records, wanted={1}.__contains__)
    assert [sample.ordinal for sample in some if sample.data] == [1]
    assert (reader.seen, reader.sha256) == (5, "")
    cut, reader = read(records[:-400])
    assert (cut[-1].reject, reader.sha256) == (Reject.TRUNCATED, sha256(records[:-400]).hexdigest())
    assert read(records + b"rest")[1].damage == f"no record before byte {len(records) + 4:,}"
