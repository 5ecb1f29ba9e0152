"""Labels of a fit: which field, as which numbers, from where in a shard."""

import json
from dataclasses import replace

import pytest

from encoder.errors import HashgrainError, Reason
from encoder.hashing.fit_model import FitSettings, fit
from encoder.hashing.names import HashKind
from encoder.images.classes import class_indices, classes_of, field_of, fields_for, fields_in, parse_label_map
from encoder.images.expand import expand
from encoder.images.labels.values import Labels
from encoder.levels import DEFAULT_LABELS, Level
from encoder.model.model_file import load_model
from encoder.model.network import HashNetwork
from encoder.model.spec import BackboneSpec, KernelSpec
from tests.support.pictures import labelled_members, write_tar

SMALL = FitSettings(BackboneSpec("alexnet"), "none", HashKind.KSH, dict.fromkeys(Level, 16), image_size=64, sample=40)
FIT = ("--backbone", "alexnet", "--weights", "none", "--image-size", 64, "--bits", 16, "--sample", 40)


def test_a_label_map_names_a_field_for_each_level():
    assert parse_label_map("mid=fine, coarse = kind of thing") == {Level.MID: "fine", Level.COARSE: "kind of thing"}


def test_a_bare_field_speaks_for_all_levels():
    fields = parse_label_map(" kind of thing ")
    assert [field_of(level, fields) for level in Level] == ["kind of thing"] * 4


@pytest.mark.parametrize(
    ("given", "found", "fields"),
    [
        (None, {"fine", "coarse", "name"}, {Level.MID: "fine", Level.COARSE: "coarse"}),
        (None, {"fine", "name"}, {Level.MID: "fine"}),
        (None, {"coarse"}, {Level.COARSE: "coarse"}),
        (None, {"folder"}, {Level.MID: "folder"}),
        (None, set(), {}),
        ({Level.COARSE: "name"}, {"fine", "name"}, {Level.COARSE: "name"}),
    ],
)
def test_levels_have_the_fields_that_are_named_or_the_usual_ones_or_the_only_one(given, found, fields):
    assert fields_for(given, found) == fields


@pytest.mark.parametrize("given", [None, {Level.MID: "fine", Level.COARSE: "kind"}])
def test_fields_that_are_not_there_are_answered_with_those_that_are(given):
    with pytest.raises(HashgrainError, match=r"(?i)labels found: brand, name") as caught:
        fields_for(given, {"name", "brand"})
    assert caught.value.reason is Reason.FIT_IMPOSSIBLE


def test_the_fields_of_shards_are_those_of_the_first_that_has_an_image_late_ones_included(tmp_path):
    empty, members = write_tar(tmp_path / "a.tar", []), labelled_members(0, 2)
    late = write_tar(tmp_path / "b.tar", sorted(members, key=lambda member: member[0].endswith(".json")))
    assert fields_in(expand([str(empty), str(late)])) == {"fine", "coarse", "name"}
    assert fields_in(expand([str(empty)])) == set()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.BAD_VALUE),
        ("fine,coarse", Reason.BAD_VALUE),
        ("mid=fine,mid=name", Reason.BAD_VALUE),
        ("mid=", Reason.BAD_VALUE),
        ("mid=fine,", Reason.BAD_VALUE),
        ("middle=fine", Reason.LEVEL_UNKNOWN),
        ("=fine", Reason.LEVEL_UNKNOWN),
    ],
)
def test_a_label_map_of_another_form_is_refused(text, reason):
    with pytest.raises(HashgrainError) as caught:
        parse_label_map(text)
    assert caught.value.reason is reason


def test_a_level_goes_by_its_own_field_then_by_the_class():
    assert [field_of(level, DEFAULT_LABELS) for level in Level] == ["fine", "fine", "coarse", "fine"]
    assert [field_of(level, {Level.MID: "a", Level.FUSED: "b"}) for level in Level] == ["a", "a", "a", "b"]
    assert [field_of(level, {Level.COARSE: "c"}) for level in Level] == ["c"] * 4


def test_classes_are_numbered_by_name_and_7_is_not_the_text_7():
    indices, names = class_indices(["b", 7, None, "7", 10, "b"])
    assert names == ["7", "10", "7", "b"]
    assert indices.tolist() == [3, 0, -1, 2, 1, 3]


def test_numbers_are_classes_by_value_and_true_is_not_1():
    indices, names = class_indices([2.5, 1, 1.0, True, False, "true", -3])
    assert names == ["false", "true", "-3", "1", "2.5", "true"]
    assert indices.tolist() == [4, 3, 3, 1, 0, 5, 2]


def test_lists_are_not_classes():
    with pytest.raises(
        HashgrainError, match=r"^label 'tags' holds lists \(red, round\); name one that holds one"
    ) as caught:
        classes_of([{"tags": ("red", "round")}, {}], "tags")
    assert caught.value.reason is Reason.FIT_IMPOSSIBLE
    with pytest.raises(HashgrainError, match=r"^a label holds lists \(\); name one"):
        class_indices([1, ()])


def test_classes_are_those_of_one_field_and_a_field_of_none_is_refused_with_what_there_is():
    labels: list[Labels] = [{"fine": 4, "name": "x"}, {}, {"fine": 2}]
    assert classes_of(labels, "fine").tolist() == [1, -1, 0]
    with pytest.raises(
        HashgrainError, match=r"none of 3 images has a label 'kind' \(labels found: fine, name\)"
    ) as caught:
        classes_of(labels, "kind")
    assert caught.value.reason is Reason.FIT_IMPOSSIBLE


def fingerprint(shard, path, **changes):
    return fit(expand([str(shard)]), replace(SMALL, **changes), path, lambda *_: None).fingerprint


def test_labels_that_come_after_all_images_count_like_those_beside_them(tmp_path):
    members = labelled_members(0, 40)
    beside = write_tar(tmp_path / "beside.tar", members)
    after = write_tar(tmp_path / "after.tar", sorted(members, key=lambda member: member[0].endswith(".json")))
    prints = {fingerprint(shard, tmp_path / f"{shard.stem}.safetensors") for shard in (beside, after)}
    assert len(prints) == 1


def test_other_labels_make_another_model_and_the_record_names_the_fields(tmp_path):
    shard = write_tar(tmp_path / "a.tar", labelled_members(0, 40))
    by_class = fingerprint(shard, tmp_path / "a.safetensors")
    assert fingerprint(shard, tmp_path / "b.safetensors", labels={Level.MID: "coarse"}) != by_class
    named = {"fine": "fine", "mid": "fine", "coarse": "coarse", "fused": "fine"}
    assert load_model(tmp_path / "a.safetensors").config.record["labels"] == named


def test_a_fit_without_labels_reads_none(tmp_path):
    shard = write_tar(tmp_path / "a.tar", [m for m in labelled_members(0, 40) if m[0].endswith(".jpg")])
    assert fingerprint(shard, tmp_path / "a.safetensors", kind=HashKind.IMH)
    assert load_model(tmp_path / "a.safetensors").config.record["labels"] == {}


@pytest.fixture
def half_labelled(tmp_path):
    """The first twenty images do not say their class."""
    members = labelled_members(0, 40)
    kept = [m for m in members if m[0].endswith(".jpg") or m[0] >= "pic-020"]
    return write_tar(tmp_path / "half.tar", kept)


def test_ssh_is_fitted_where_only_some_images_have_labels(half_labelled, tmp_path, command):
    out = tmp_path / "m.safetensors"
    code, text, err = command("encoder", "fit", half_labelled, "--out", out, "--hash", "ssh", *FIT)
    assert code == 0, err
    assert "fitted ssh on 40 images" in text


@pytest.mark.parametrize("kind", ["ksh", "bre", "cca-itq"])
def test_the_others_need_a_label_of_every_image(kind, half_labelled, tmp_path, command):
    code, _, err = command("encoder", "fit", half_labelled, "--out", tmp_path / "m.safetensors", "--hash", kind, *FIT)
    assert code == 1
    assert "error: 20 of 40 images have no label" in err
    assert not (tmp_path / "m.safetensors").exists()


def test_the_command_fits_by_the_labels_it_is_told_and_the_model_codes(shards_folder, tmp_path, command):
    out = tmp_path / "m.safetensors"
    options = ("--hash", "ksh", "--label", "mid=name,fused=fine")
    assert command("encoder", "fit", shards_folder, "--out", out, *options, *FIT)[0] == 0
    config = load_model(out).config
    assert config.record["labels"] == {"fine": "name", "mid": "name", "coarse": "name", "fused": "fine"}
    assert all(head.kernel == KernelSpec(40, head.kernel.width) for head in config.heads.values() if head.kernel)
    assert command("encoder", "encode", shards_folder, "--model", out, "--out", tmp_path / "codes")[0] == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--hash", "ksh", "--label", "mid=kind"], "no image has a label 'kind' (labels found: coarse, fine, name)"),
        (["--hash", "ksh", "--label", "mid="], "label 'mid=' is neither FIELD nor LEVEL=FIELD"),
        (["--hash", "itq", "--label", "mid=fine"], "--label is read by --hash ksh, bre, ssh, cca-itq, not by itq"),
        (["--hash", "imh", "--bits", "64"], "64 bits need more than 64 centres, and 40 images have 40"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_one_line(options, says, shards_folder, tmp_path, command):
    code, out, err = command("encoder", "fit", shards_folder, "--out", tmp_path / "m.safetensors", *FIT, *options)
    assert (code, out) == (1, "")
    line = err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert says in line


def test_the_folder_of_an_image_can_be_its_class(tmp_path, shards_folder):
    for part, (name, data) in enumerate(m for m in labelled_members(0, 40) if m[0].endswith(".jpg")):
        folder = tmp_path / "images" / f"class-{part % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    shard = tmp_path / "images"
    assert fingerprint(shard, tmp_path / "m.safetensors", kind=HashKind.CCA_ITQ, labels={Level.MID: "folder"})
    assert json.dumps(load_model(tmp_path / "m.safetensors").config.record["labels"]).count("folder") == 4


@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, labels={Level.MID: "kind"})])
def test_labels_are_missed_before_the_network_sees_an_image(half_labelled, tmp_path, monkeypatch, settings):
    monkeypatch.setattr(HashNetwork, "pooled", lambda *_: pytest.fail("an image went through the network"))
    with pytest.raises(HashgrainError, match="label"):
        fit(expand([str(half_labelled)]), settings, tmp_path / "m.safetensors", lambda *_: None)


def test_an_image_that_cannot_be_decoded_needs_no_label(tmp_path):
    shard = write_tar(tmp_path / "a.tar", [*labelled_members(0, 40), ("broken.jpg", b"no picture")])
    assert fit(expand([str(shard)]), replace(SMALL, sample=41), tmp_path / "m", lambda *_: None).rejects == 1


def test_data_with_one_label_are_fitted_by_it(tmp_path):
    members = [(name, data) for name, data in labelled_members(0, 40) if name.endswith(".jpg")]
    members += [(f"pic-{number:03d}.json", b'{"fine": %d}' % (number % 5)) for number in range(40)]
    shard = write_tar(tmp_path / "a.tar", members)
    assert fingerprint(shard, tmp_path / "m.safetensors")
    assert set(load_model(tmp_path / "m.safetensors").config.record["labels"].values()) == {"fine"}
