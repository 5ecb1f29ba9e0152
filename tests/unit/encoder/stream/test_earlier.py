"""What a second run takes over, makes again and removes: through whole runs, with a real network."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from encoder.codes.file import open_codes
from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.expand import expand
from encoder.images.limits import Limits
from encoder.levels import Level
from encoder.model.spec import Precision
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings, SkipDuplicates
from tests.support.pictures import encoded, labelled_members, write_tar

PLAIN = EncodeSettings(batch=4, precision=Precision.FP32)


@pytest.fixture
def run(model_path, tmp_path):
    def run(*specs, files_per_shard=10_000, settings=PLAIN, out="codes"):
        shards = expand([str(spec) for spec in specs], files_per_shard)
        return encode(shards, model_path, tmp_path / out, settings)

    return run


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02d}.jpg").write_bytes(encoded(number))
    return folder


def by_key(folder):
    """The codes of all images in a folder of code files, by key."""
    codes = {}
    for path in folder.glob("*.h5"):
        with open_codes(path) as file:
            rows = zip(file.keys(), file.codes(Level.FUSED), strict=True)
            for key, code in rows:
                assert key not in codes
                codes[key] = code.tobytes()
    return codes


def test_one_photo_more_is_the_only_one_coded(run, photos, tmp_path):
    run(photos, files_per_shard=10)
    before = by_key(tmp_path / "codes")
    (photos / "new.jpg").write_bytes(encoded(100))
    report = run(photos, files_per_shard=10)
    assert (report.rows, report.encoded - report.taken, report.dropped) == (41, 1, 0)
    after = by_key(tmp_path / "codes")
    assert after.keys() - before.keys() == {"new.jpg"}
    assert {key: after[key] for key in before} == before


def test_photos_that_are_gone_leave_no_code_behind(run, photos, tmp_path):
    run(photos, files_per_shard=10)
    for name in ("00.jpg", "01.jpg", "20.jpg"):
        (photos / name).unlink()
    report = run(photos, files_per_shard=10)
    assert (report.rows, report.encoded, report.dropped) == (37, report.taken, 3)
    assert len(by_key(tmp_path / "codes")) == 37


def test_other_sizes_of_parts_take_all_codes_over(run, photos, tmp_path):
    run(photos, files_per_shard=10)
    before = by_key(tmp_path / "codes")
    for files_per_shard in (40, 7, 1000):
        report = run(photos, files_per_shard=files_per_shard)
        assert (report.rows, report.taken, report.dropped) == (40, 40, 0)
        assert report.removed
        assert by_key(tmp_path / "codes") == before


def test_an_archive_that_its_folder_has_no_longer_takes_its_codes_along(run, tmp_path):
    for name in "ab":
        write_tar(tmp_path / f"set/{name}.tar", labelled_members(20 * (name == "b"), 5))
    run(tmp_path / "set")
    (tmp_path / "set/a.tar").unlink()
    report = run(tmp_path / "set")
    assert (report.rows, report.removed, report.gone, report.dropped) == (5, ["a.h5"], [], 5)


def test_an_archive_that_was_named_and_is_gone_keeps_its_codes_until_told(run, tmp_path):
    tars = [write_tar(tmp_path / f"set/{name}.tar", labelled_members(20 * (name == "b"), 5)) for name in "ab"]
    run(*tars)
    tars[0].unlink()
    report = run(tars[1])
    assert (report.skipped, report.removed, report.gone) == (1, [], ["a.h5"])
    assert (tmp_path / "codes/a.h5").exists()
    report = run(tars[1], settings=replace(PLAIN, prune=True))
    assert (report.removed, report.gone) == (["a.h5"], [])
    assert not (tmp_path / "codes/a.h5").exists()


def test_another_collection_in_the_same_folder_of_codes_is_left_alone(run, photos, tmp_path):
    tar = write_tar(tmp_path / "other.tar", labelled_members(50, 5))
    run(tar)
    report = run(photos, settings=replace(PLAIN, prune=True))
    assert (report.removed, report.gone) == ([], [])
    assert (tmp_path / "codes/other.h5").exists()


def test_a_touched_or_moved_collection_is_read_and_not_coded_again(run, photos, tmp_path):
    tar = write_tar(tmp_path / "a.tar", labelled_members(50, 5))
    run(tar, photos)
    before = by_key(tmp_path / "codes")
    os.utime(tar, ns=(1, 1))
    report = run(tar, photos)
    assert (report.skipped, report.taken, report.encoded) == (1, 5, 5)
    (tmp_path / "moved").mkdir()
    tar, photos = tar.rename(tmp_path / "moved/a.tar"), photos.rename(tmp_path / "moved/photos")
    report = run(tar, photos)
    assert (report.skipped, report.taken, report.encoded, report.dropped) == (0, 45, 45, 0)
    assert by_key(tmp_path / "codes") == before
    with open_codes(tmp_path / "codes/a.h5") as file:
        assert file.header.shard.path == str(tar)
    assert run(tar, photos).skipped == 2


def test_codes_and_photos_that_move_together_find_each_other(run, photos, tmp_path):
    run(photos, out="photos-codes")
    (tmp_path / "elsewhere").mkdir()
    for name in ("photos", "photos-codes"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    with open_codes(tmp_path / "elsewhere/photos-codes/photos.h5") as file:
        assert file.header.shard.path == str(photos)
        assert file.header.shard.found_from(file.path.parent) == str(tmp_path / "elsewhere/photos")


def test_a_copy_of_a_collection_does_not_replace_the_codes_of_the_first(run, photos, tmp_path):
    run(photos)
    shutil.copytree(photos, tmp_path / "copy/photos")
    with pytest.raises(HashgrainError) as caught:
        run(tmp_path / "copy/photos")
    assert caught.value.reason is Reason.SHARD_CLASH


def test_a_higher_limit_makes_again_only_what_it_was_too_low_for(run, tmp_path):
    big = ("big.png", encoded(9, "PNG"))
    tars = [
        write_tar(tmp_path / "low.tar", labelled_members(0, 5)),
        write_tar(tmp_path / "high.tar", [*labelled_members(20, 5), big]),
    ]
    low = replace(PLAIN, limits=Limits(max_bytes=len(big[1]) - 1))
    report = run(*tars, settings=low)
    assert report.rejects == {Reject.TOO_LARGE: 1}
    assert run(*tars, settings=low).skipped == 2
    report = run(*tars)
    assert (report.skipped, report.rows, report.encoded - report.taken) == (1, 11, 1)


def test_a_lower_limit_makes_everything_again(run, photos):
    run(photos)
    report = run(photos, settings=replace(PLAIN, limits=Limits(max_pixels=10)))
    assert (report.rows, report.rejects, report.dropped) == (0, {Reject.TOO_MANY_PIXELS: 40}, 40)


def test_what_is_skipped_for_its_content_is_part_of_what_was_done(run, tmp_path):
    tar = write_tar(tmp_path / "a.tar", [("a.jpg", encoded(1)), ("b.jpg", encoded(1)), ("c.jpg", encoded(2))])
    exact = replace(PLAIN, skip=SkipDuplicates.EXACT)
    assert run(tar).rows == 3
    report = run(tar, settings=exact)
    assert (report.skipped, report.rows, report.rejects) == (0, 2, {Reject.SAME_CONTENT: 1})
    assert run(tar, settings=exact).skipped == 1
    report = run(tar)
    assert (report.skipped, report.rows, report.taken) == (0, 3, 3)


def test_another_precision_is_made_again_only_when_it_is_asked_for(run, photos):
    run(photos)
    assert run(photos, settings=replace(PLAIN, precision=Precision.AUTO)).skipped == 1
    report = run(photos, settings=replace(PLAIN, precision=Precision.BF16))
    assert (report.skipped, report.taken, report.rows) == (0, 0, 40)


def test_codes_of_another_decode_are_not_taken_over(run, photos, tmp_path, monkeypatch):
    run(photos)
    path = tmp_path / "codes/photos.h5"
    with h5py.File(path) as file:
        assert '"decode": 2' in file.attrs["header"]
    monkeypatch.setattr("encoder.stream.settings.DECODE_VERSION", 3)
    report = run(photos)
    assert (report.skipped, report.taken, report.rows) == (0, 0, 40)


def test_labels_that_change_are_taken_without_coding_again(run, photos, tmp_path):
    run(photos)
    (photos / "07.json").write_text('{"fine": 7}')
    report = run(photos)
    assert (report.skipped, report.taken) == (0, 40)
    with open_codes(tmp_path / "codes/photos.h5") as file:
        assert list(file.label_fields()) == ["fine"]


def test_single_images_do_not_replace_others_that_are_still_there(run, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    run("00.jpg")
    with pytest.raises(HashgrainError, match=r"first 00\.jpg; name them, too") as caught:
        run("01.jpg")
    assert caught.value.reason is Reason.SHARD_CLASH
    assert by_key(tmp_path / "codes").keys() == {"00.jpg"}
    assert run("00.jpg", "01.jpg").rows == 2
    (photos / "00.jpg").unlink()
    report = run("01.jpg")
    assert (report.rows, report.dropped) == (1, 1)
    report = run("02.jpg", settings=replace(PLAIN, overwrite=True))
    assert (report.rows, report.dropped) == (1, 1)


def test_a_single_image_does_not_replace_the_codes_of_the_folder_it_is_in(run, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    run(".")
    with pytest.raises(HashgrainError) as caught:
        run("01.jpg")
    assert caught.value.reason is Reason.SHARD_CLASH
    assert len(by_key(tmp_path / "codes")) == 40
    (photos / "below").mkdir()
    (photos / "below/new.jpg").write_bytes(encoded(100))
    assert run("below/new.jpg").removed == []
    assert len(by_key(tmp_path / "codes")) == 41


def test_all_images_of_a_folder_named_one_by_one_take_the_place_of_the_folder(run, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    run(".", files_per_shard=10)
    report = run("*.jpg")
    assert (report.rows, report.taken, report.dropped) == (40, 40, 0)
    assert len(by_key(tmp_path / "codes")) == 40


def test_a_single_image_takes_no_codes_of_a_tar_that_is_gone_along(run, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tar = write_tar(tmp_path / "old.tar", labelled_members(50, 5))
    run(tar)
    tar.unlink()
    report = run("photos/00.jpg")
    assert (report.removed, report.gone) == ([], ["old.h5"])


def test_a_tar_that_gets_another_name_leaves_no_codes_under_the_first(run, tmp_path):
    tars = [write_tar(tmp_path / f"{name}/x.tar", labelled_members(20 * (name == "b"), 5)) for name in "ab"]
    run(tars[0])
    report = run(*tars)
    assert (report.rows, report.taken, report.removed, report.dropped) == (10, 5, ["x.h5"], 0)
    assert len(by_key(tmp_path / "codes")) == 10


def test_a_folder_of_codes_that_a_link_leads_to_is_known_again(run, photos, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    run(photos, out="link/codes")
    assert run(photos, out="link/codes").skipped == 1
    assert run(tmp_path / "link/photos").skipped == 1


@pytest.mark.parametrize("skip", [SkipDuplicates.EXACT, SkipDuplicates.NEAR])
def test_what_was_skipped_has_a_code_when_the_earlier_one_is_gone(run, tmp_path, skip):
    settings = replace(PLAIN, skip=skip, near_radius=0)
    members = {
        "a": [("1.jpg", encoded(1)), ("2.jpg", encoded(2))],
        "b": [("one.jpg", encoded(1)), ("5.jpg", encoded(5))],
        "c": [("five.jpg", encoded(5)), ("3.jpg", encoded(3))],  # is made again since b is, and b since a is
        "d": [("4.jpg", encoded(4)), ("4b.jpg", encoded(4))],
    }
    for name, of_tar in members.items():
        write_tar(tmp_path / f"set/{name}.tar", of_tar)
    assert run(tmp_path / "set", settings=settings).rows == 5
    assert run(tmp_path / "set", settings=settings).skipped == 4
    write_tar(tmp_path / "set/a.tar", members["a"][1:])
    report = run(tmp_path / "set", settings=settings)
    assert (report.rows, report.skipped, report.taken) == (5, 1, 4)
    assert by_key(tmp_path / "codes").keys() == {"2", "one", "5", "3", "4"}
    (tmp_path / "set/b.tar").unlink()
    assert run(tmp_path / "set", settings=settings).rows == 4
    assert by_key(tmp_path / "codes").keys() == {"2", "five", "3", "4"}
    assert run(tmp_path / "set/c.tar", settings=settings).skipped == 1


@pytest.mark.parametrize("levels", [(Level.MID,), (Level.MID, Level.FUSED)])
def test_no_level_is_lost_unless_it_is_overwritten(run, photos, tmp_path, levels):
    run(photos, files_per_shard=10, settings=replace(PLAIN, levels=(Level.FINE, Level.MID)))
    for files_per_shard in (10, 1000):
        with pytest.raises(HashgrainError) as caught:
            run(photos, files_per_shard=files_per_shard, settings=replace(PLAIN, levels=levels))
        assert caught.value.reason is Reason.EXISTS
    run(photos, settings=replace(PLAIN, levels=levels, overwrite=True))
    with open_codes(tmp_path / "codes/photos.h5") as file:
        assert tuple(file.header.bits) == levels


def test_what_a_run_that_was_ended_has_done_is_not_counted_as_dropped(run, photos, tmp_path):
    run(photos, files_per_shard=10)
    parts = sorted(path.name for path in (tmp_path / "codes").glob("*.h5"))
    shutil.rmtree(tmp_path / "codes")
    run(photos)
    whole = tmp_path / "codes/photos.h5"
    whole.rename(tmp_path / "whole")
    run(photos, files_per_shard=10)
    (tmp_path / "codes" / parts[-1]).unlink()
    (tmp_path / "whole").rename(whole)  # as if the run had been ended before its last part
    report = run(photos, files_per_shard=10)
    assert (report.rows, report.dropped, report.removed) == (40, 0, ["photos.h5"])
    assert len(by_key(tmp_path / "codes")) == 40


AS_SOMEBODY_ELSE = """
import os, sys
from pathlib import Path
from encoder.codes.file import open_codes
from encoder.codes.store import FolderStore
from encoder.images.expand import expand
from encoder.model.spec import Precision
from encoder.stream.earlier import Wanted, look_back
from encoder.stream.settings import EncodeSettings

out, settings = Path(sys.argv[2]), EncodeSettings()
with open_codes(out / "b.h5") as file:
    header = file.header
wanted = Wanted(FolderStore(out), header.fingerprint, header.bits, settings, settings.rules(), Precision(header.precision))
expand([str(out.parent / "set/b.tar")])  # loads what somebody else may not read
os.setgid(65534), os.setuid(65534)
earlier = look_back(expand([sys.argv[1]]), wanted)
print(sorted(earlier.kept), [*earlier.replaced, *earlier.superseded, *earlier.gone])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as somebody else")
def test_what_may_not_be_read_is_not_gone_and_is_read_when_it_may(run):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_tar(folder / "set/deep/a.tar", labelled_members(0, 3))
        write_tar(folder / "set/b.tar", labelled_members(10, 3))
        (folder / "set/1.jpg").write_bytes(encoded(1))
        run(folder / "set", out=folder / "codes")

        def look_back():
            args = [sys.executable, "-c", AS_SOMEBODY_ELSE, str(folder / "set"), str(folder / "codes")]
            done = subprocess.run(args, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        assert look_back() == "['a', 'b', 'set'] []"
        (folder / "set/1.jpg").chmod(0o600)
        assert look_back() == "['a', 'b'] ['set']"
        (folder / "set/1.jpg").chmod(0o644)
        (folder / "set/deep").chmod(0o700)
        assert look_back() == "['b', 'set'] []"
