import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import indexer
from encoder.cli import main as encoder_main
from encoder.codes.file import CodeFileWriter, list_code_files
from encoder.codes.header import CodeHeader, ShardRecord
from encoder.hashing.fit_model import FitSettings, fit
from encoder.hashing.names import HashKind
from encoder.images.duplicates import digest_of
from encoder.images.expand import expand
from encoder.images.shards import ShardKind
from encoder.levels import Level
from encoder.model.spec import BackboneSpec
from encoder.model.weights import NO_WEIGHTS
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer.build import build
from indexer.cli import main as indexer_main
from indexer.settings import BuildSettings
from tests.support.pictures import labelled_members, write_tar

settings.register_profile(
    "ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.register_profile("dev", parent=settings.get_profile("ci"), derandomize=False)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

FINGERPRINT = "f" * 64


def pytest_configure(config):
    if "PYTEST_XDIST_WORKER" not in os.environ:  # what tests build is no business of whoever runs them
        os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="hashgrain-state-")
    if os.environ.get("CI") and config.option.durations is None:
        config.option.durations = 10


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def write_codes(tmp_path):
    """Write a code file without a network: `write_codes(name, codes_by_level, keys=..., ...)` -> path."""

    def write(
        name: str,
        codes: dict[Level, np.ndarray],
        *,
        keys=None,
        places=None,
        labels=None,
        rejects=(),
        fingerprint=FINGERPRINT,
        shard_path="/nowhere",
        kind=ShardKind.FILES,
        damage=None,
        folder: Path | None = None,
    ) -> Path:
        folder = folder or tmp_path / "codes"
        folder.mkdir(parents=True, exist_ok=True)
        rows = len(next(iter(codes.values())))
        bits = {level: 8 * values.shape[1] for level, values in codes.items()}
        record = ShardRecord(name, kind, str(shard_path), 0, "0" * 64, "", damage, "")
        path = folder / f"{name}.h5"
        with CodeFileWriter(folder, bits) as writer:
            keys = keys or [f"{name}-{row}" for row in range(rows)]
            digests = b"".join(digest_of(f"{name}-{row}".encode()) for row in range(rows))
            of_rows = np.array(places, np.uint64).reshape(rows, 2) if places else np.zeros((rows, 2), np.uint64)
            writer.add_rows(keys, of_rows, digests, codes)
            for row, of_row in enumerate(labels or ()):
                writer.label(row, of_row, keys[row])
            for key, reject, detail in rejects:
                writer.reject(key, reject, detail)
            writer.finish(path, CodeHeader(fingerprint, "fp32", bits, record, 0, 0, 0, 0))
        return path

    return write


@pytest.fixture
def index_of_files(tmp_path, write_codes):
    """Build an index over a folder with some files, at `photos/` beside it: `index_of_files({name: bytes})` -> opened index."""

    def make(files: dict[str, bytes]):
        (tmp_path / "photos").mkdir()
        for name, data in files.items():
            (tmp_path / "photos" / name).write_bytes(data)
        codes = {Level.FINE: np.arange(len(files), dtype=np.uint8)[:, None]}
        places = [(0, len(data)) for data in files.values()]
        write_codes("a", codes, keys=list(files), places=places, shard_path=tmp_path / "photos")
        build(list_code_files([tmp_path / "codes"]), tmp_path / "index", BuildSettings())
        return indexer.open(tmp_path / "index")

    return make


@pytest.fixture(scope="session")
def shards_folder(tmp_path_factory):
    """Three tar shards of 20 labelled pictures."""
    folder = tmp_path_factory.mktemp("shards")
    for part in range(3):
        write_tar(folder / f"part-{part:04d}.tar", labelled_members(20 * part, 20))
    return folder


@pytest.fixture(scope="session")
def model_path(tmp_path_factory, shards_folder):
    """A small untrained model: real network, real hash layers, no downloads."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    settings = FitSettings(
        BackboneSpec("alexnet"), NO_WEIGHTS, HashKind.LSH, dict.fromkeys(Level, 64), image_size=64, sample=60
    )
    fit(expand([str(shards_folder)]), settings, path, lambda *_: None)
    return path


@pytest.fixture(scope="session")
def codes_folder(tmp_path_factory, shards_folder, model_path):
    """Code files of the three shards."""
    folder = tmp_path_factory.mktemp("codes")
    encode(expand([str(shards_folder)]), model_path, folder, EncodeSettings(batch=8))
    return folder


@pytest.fixture(scope="session")
def index_folder(tmp_path_factory, codes_folder):
    """A flat index over the three code files."""
    folder = tmp_path_factory.mktemp("built") / "index"
    build(list_code_files([codes_folder]), folder, BuildSettings())
    return folder


@pytest.fixture
def command(capfd, monkeypatch):
    """Run a command line in this process: `command("encoder", "inspect", path)` -> (exit code, stdout, stderr)."""

    def call(name: str, *arguments: object) -> tuple[int, str, str]:
        main = {"encoder": encoder_main, "indexer": indexer_main}[name]
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capfd.readouterr()
        return int(left.value.code or 0), out, err

    return call
