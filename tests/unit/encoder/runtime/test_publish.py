import pytest

from encoder.errors import HashgrainError, Reason
from encoder.runtime.publish import PARTIAL, exclusive, publish


@pytest.mark.parametrize("name", ["file/page.html", f"{'x' * 250}.html"])
def test_a_place_that_cannot_be_written_to_is_told(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(HashgrainError) as caught, publish(tmp_path / name) as partial:
        partial.write_text("page")
    assert caught.value.reason is Reason.WRITE_FAILED


def test_only_what_a_killed_run_left_is_swept(tmp_path):
    for name in ("movie.mkv.partial", f"a.h5{PARTIAL}"):
        (tmp_path / name).touch()
    (tmp_path / f"gen-000001{PARTIAL}").mkdir()
    with exclusive(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "movie.mkv.partial"]
