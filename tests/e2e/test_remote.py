"""Shards on a web server through the whole job: codes, index, answers, and the pictures read back over the network."""

import json

from tests.support.pictures import labelled_members, write_tar
from tests.support.servers import serving


def test_shards_of_a_web_server_become_answers_with_pictures(command, model_path, tmp_path):
    codes, index, page = tmp_path / "codes", tmp_path / "index", tmp_path / "page.html"
    with serving() as server:
        for part in range(3):
            tar = write_tar(tmp_path / "a.tar", labelled_members(5 * part, 5))
            server.files[f"/set/part-{part:03d}.tar"] = tar.read_bytes()
        encoding = (
            "encoder", "encode", server.url("set/part-{000..002}.tar"), "--model", model_path, "--out", codes,
        )  # fmt: skip
        code, out, err = command(*encoding)
        assert (code, out.startswith("15 images seen = 15 rows + 0 rejects, in 3 shards (0 already done)")) == (
            0,
            True,
        ), err
        assert "3 already done" in command(*encoding)[1]
        assert command("indexer", "build", codes, "--out", index)[0] == 0
        code, out, err = command(
            "indexer",
            "query",
            "key:pic-007",
            "--index",
            index,
            "--where",
            "shard ~ 'part-001*'",
            "--json",
            "--include-self",
            "--save-html",
            page,
        )
        assert code == 0, err
        hits = [json.loads(line) for line in out.splitlines()]
        assert hits[0]["key"] == "pic-007"
        assert {hit["shard"] for hit in hits} == {server.url("set/part-001.tar")}
        assert page.read_text().count("data:image/jpeg;base64,") == 1 + len(hits)
        server.files["/set/part-003.tar"] = server.files["/set/part-002.tar"]
        server.dies_at = 2000
        code, out, err = command(
            "encoder", "encode", server.url("set/part-003.tar"), "--model", model_path, "--out", codes
        )
    assert (code, out) == (1, "")
    assert [line.split(": ")[:2] for line in err.splitlines()] == [
        ["error", f"cannot read {server.url('set/part-003.tar')}"]
    ]
    assert len(list(codes.glob("*.h5*"))) == 3
    code, out, _ = command("indexer", "query", "key:pic-007", "--index", index, "--save-html", page)
    assert (code, "pic-007" in out) == (0, True)
    assert "cannot open http://127.0.0.1" in page.read_text()
