import pytest
from starlette.requests import Request

from indexer.service.problems import RefusedError
from indexer.service.static import Page


def asked(**headers):
    return Request(
        {
            "type": "http",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }
    )


@pytest.fixture
def page(tmp_path):
    (tmp_path / "index.html").write_text("<p>")
    (tmp_path / "app.js").write_text("1")
    (tmp_path / "notes.txt").write_text("not served")
    return Page(tmp_path)


def test_files_have_their_type_and_are_asked_for_anew_only_when_they_changed(page):
    answer = page.answer(asked())
    assert (answer.body, answer.headers["content-type"]) == (b"<p>", "text/html; charset=utf-8")
    assert page.answer(asked(), "app.js").headers["content-type"] == "text/javascript; charset=utf-8"
    again = page.answer(asked(if_none_match=answer.headers["etag"]))
    assert (again.status_code, again.body) == (304, b"")


@pytest.mark.parametrize("name", ["notes.txt", "../app.js", "..", "/etc/passwd", "app.js/", "", "%2e%2e/app.js"])
def test_no_other_name_is_a_file(page, name):
    with pytest.raises(RefusedError):
        page.answer(asked(), name)


def test_a_file_that_is_added_later_is_not_served(page, tmp_path):
    (tmp_path / "late.js").write_text("2")
    with pytest.raises(RefusedError):
        page.answer(asked(), "late.js")
