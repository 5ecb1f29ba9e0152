import csv
from dataclasses import replace

import pytest

from encoder.codes.file import open_codes
from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.model.spec import Precision
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from tests.support.pictures import encoded, write_tar

PLAIN = EncodeSettings(batch=4, precision=Precision.FP32)


@pytest.fixture
def tars(tmp_path):
    """Two tars, whose sidecars come before, beside and long after their images."""
    members = [(f"{number}.jpg", encoded(number)) for number in range(6)]
    late = [("0.json", b'{"price": 1, "own": 1}')]
    return [
        write_tar(tmp_path / "a.tar", [("1.json", b'{"price": 2}'), *members, *late]),
        write_tar(tmp_path / "b.tar", [(f"b{name}", data) for name, data in members]),
    ]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    rows = [["0.jpg", "2.5", "red"], ["1.jpg", "3.5", ""], ["b5.jpg", "4", "blue"]]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "price", "colour"], *rows])
    return path


def labels_of(folder):
    labels = {}
    for path in folder.glob("*.h5"):
        with open_codes(path) as file:
            columns = {name: file.label(name).to_list() for name in file.label_fields()}
            for row, key in enumerate(file.keys()):
                labels[key] = {name: values[row] for name, values in columns.items() if values[row] is not None}
    return labels


@pytest.mark.parametrize("device", ["cpu", "cpu,cpu"])
def test_labels_of_a_table_win_over_those_of_the_shard_wherever_they_stand(model_path, tars, table, tmp_path, device):
    said: list[str] = []
    settings = replace(PLAIN, labels_table=table, device=device)
    encode(expand([str(tar) for tar in tars]), model_path, tmp_path / "codes", settings, notify=said.append)
    labels = labels_of(tmp_path / "codes")
    assert {key: value for key, value in labels.items() if value} == {
        "0": {"price": 2.5, "colour": "red", "own": 1},
        "1": {"price": 3.5},
        "b5": {"price": 4, "colour": "blue"},
    }
    assert any(line.startswith("table.csv: 9 images without a row, first ") for line in said)


def test_another_table_labels_again_and_codes_nothing_again(model_path, tars, table, tmp_path):
    def run(**changes):
        shards = expand([str(tar) for tar in tars])
        return encode(shards, model_path, tmp_path / "codes", replace(PLAIN, **changes))

    run()
    report = run(labels_table=table)
    assert (report.skipped, report.taken) == (0, 12)
    assert run(labels_table=table).skipped == 2
    table.write_text(table.read_text().replace("red", "green"))
    report = run(labels_table=table)
    assert (report.skipped, report.taken) == (0, 12)
    assert labels_of(tmp_path / "codes")["0"]["colour"] == "green"


def test_a_table_that_cannot_be_read_is_told_before_anything_is_done(model_path, tars, tmp_path):
    with pytest.raises(HashgrainError) as caught:
        encode(
            expand([str(tars[0])]), model_path, tmp_path / "codes", replace(PLAIN, labels_table=tmp_path / "none.csv")
        )
    assert caught.value.reason in {Reason.BAD_VALUE, Reason.SHARD_MISSING}
    assert not list((tmp_path / "codes").glob("*.h5"))
