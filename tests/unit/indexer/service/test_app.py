"""The endpoints over a real index and a real model, without sockets."""

import json

import pytest
from fastapi.testclient import TestClient

import indexer
from encoder.images.region import Region, RegionMode
from encoder.levels import Level
from indexer.query import ByExamples, ByImage, ByKey
from indexer.service.app import ROUTES, make_app
from indexer.service.metrics import Metrics
from indexer.service.server import make_state, warm_up
from indexer.service.settings import ServeSettings
from tests.support.pictures import encoded


@pytest.fixture(scope="module")
def state(index_folder):
    state = make_state(indexer.open(index_folder), ServeSettings())
    warm_up(state)
    yield state
    for lane in state.lanes.all():
        lane.close()


@pytest.fixture(scope="module")
def client(state):
    return TestClient(make_app(state), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def opened(index_folder):
    return indexer.open(index_folder)


def search(client, **asked):
    answer = client.post("/v1/search", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer, status, reason):
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    return answer.json()["detail"]


def keys(answer, at=0):
    return [(hit["key"], hit["distance"]) for hit in answer["answers"][at]["hits"]]


def expected(opened, query, **options):
    return [(hit.key, hit.distance) for hit in opened.query(query, **options)]


@pytest.mark.parametrize("level", Level)
def test_a_key_finds_what_the_index_finds(client, opened, level):
    answer = search(client, key="pic-007", level=level, k=5)
    assert keys(answer) == expected(opened, ByKey("pic-007"), level=level, k=5, exclude_self=True)
    assert (answer["generation"], answer["rows"], answer["batch"]) == ("gen-000001", 60, 1)
    assert answer["query"]["labels"] == {"coarse": 1, "fine": 2, "name": "class 2"}
    assert answer["ms"].keys() >= {"receive", "wait", "search", "hits", "total"}


def test_the_codes_of_an_answer_find_the_same_again(client):
    by_key = search(client, key="pic-007", level="fine", exclude_self=False)
    by_code = search(client, codes=by_key["query"]["codes"], level="fine")
    assert keys(by_code) == keys(by_key)
    assert by_code["query"]["codes"] == by_key["query"]["codes"]


def test_a_picture_finds_itself(client):
    answer = client.post(
        "/v1/search?k=1&level=fine", content=encoded(33), headers={"content-type": "image/jpeg"}
    ).json()
    assert keys(answer) == [("pic-033", 0)]
    assert answer["query"]["codes"].keys() == set(Level)
    assert answer["ms"].keys() >= {"decode", "encode"}


def test_levels_side_by_side_and_combined(client, opened):
    each = search(client, key="pic-007", combine="each", k=3)
    assert [of["level"] for of in each["answers"]] == list(Level)
    assert [keys(each, at) for at in range(4)] == [
        expected(opened, ByKey("pic-007"), level=level, k=3, exclude_self=True) for level in Level
    ]
    both = search(client, key="pic-007", levels=["coarse", "fine"], combine="sum", weights=[1, 2], k=3)
    assert keys(both) == expected(
        opened, ByKey("pic-007"), levels=["coarse", "fine"], combine="sum", weights=[1, 2], k=3, exclude_self=True
    )


def test_pages_of_an_answer_join_to_the_whole(client):
    whole = keys(search(client, key="pic-007", k=9))
    pages = [search(client, key="pic-007", k=3, offset=offset) for offset in (0, 3, 6)]
    assert [hit for page in pages for hit in keys(page)] == whole
    assert [hit["rank"] for hit in pages[1]["answers"][0]["hits"]] == [4, 5, 6]


def test_a_radius_without_k_is_all_within_it(client, opened):
    answer = search(client, key="pic-007", level="fine", radius=30)
    assert keys(answer) == expected(opened, ByKey("pic-007"), level="fine", radius=30, exclude_self=True)


def test_a_filter_and_its_error_with_the_place(client):
    answer = search(client, key="pic-007", where="label.fine = 3")
    assert {hit["labels"]["fine"] for hit in answer["answers"][0]["hits"]} == {3}
    detail = refused(client.post("/v1/search", json={"key": "pic-007", "where": "label.fine = ("}), 400, "bad-value")
    assert "at character" in detail


def test_distances_at_every_level(client):
    answer = search(client, key="pic-007", level="fine", k=2, explain=True)
    assert all(hit["distances"].keys() == set(Level) for hit in answer["answers"][0]["hits"])


def test_more_like_these_and_less_like_those(client, opened):
    query = ByExamples(("pic-001", "pic-002"), ("pic-003",), ByKey("pic-007"))
    answer = search(client, key="pic-007", positive=["pic-001", "pic-002"], negative=["pic-003"], level="fine")
    assert keys(answer) == expected(opened, query, level="fine", exclude_self=True)
    assert {"pic-001", "pic-002", "pic-003", "pic-007"}.isdisjoint(key for key, _ in keys(answer))
    alone = search(client, positive=["pic-001"], levels=["fine", "mid"], combine="sum", k=4)
    assert keys(alone) == expected(opened, ByExamples(("pic-001",)), levels=["fine", "mid"], combine="sum", k=4)
    assert all("score" in hit for hit in alone["answers"][0]["hits"])


def test_how_many_lie_at_each_distance(client):
    answer = search(client, key="pic-007", level="fine", histogram=True, where="label.fine = 2")["answers"][0]
    assert len(answer["histogram"]) == 65
    assert (sum(answer["histogram"]), answer["histogram"][0], answer["eligible"]) == (12, 1, 12)


def test_a_cut_off_of_what_was_not_calibrated_is_refused(client):
    asked = {"key": "pic-007", "max_false": 0.01}
    assert "calibrate" in refused(client.post("/v1/search", json=asked), 400, "bad-value")


def test_a_region_of_a_picture_and_of_a_row(client, opened):
    region = Region(0.25, 0.25, 0.5, 0.5)
    box = "0.25,0.25,0.5,0.5"
    answer = client.post(
        f"/v1/search?k=5&level=fine&region={box}&region_mode=crop",
        content=encoded(33),
        headers={"content-type": "image/jpeg"},
    ).json()
    picture = ByImage(encoded(33), None, region, "crop")
    assert keys(answer) == expected(opened, picture, level="fine", k=5)
    of_row = search(client, key="pic-033", region=[0.25, 0.25, 0.5, 0.5], region_mode="crop", k=5, level="fine")
    row = ByKey("pic-033", region, RegionMode.CROP)
    assert keys(of_row) == expected(opened, row, level="fine", k=5, exclude_self=True)
    assert [hit["rank"] for hit in of_row["answers"][0]["hits"]] == [1, 2, 3, 4, 5]
    assert of_row["query"]["name"] == "key:pic-033"
    for bad in ("0,0,2,1", "a", "0,0,1"):
        answer = client.post(f"/v1/search?region={bad}", content=encoded(1), headers={"content-type": "image/jpeg"})
        refused(answer, 400, "bad-value")


def test_why_a_hit_is_near(client):
    found = client.get("/v1/explain?query=pic-001&hit=pic-002&level=fine").json()
    assert (found["level"], found["bits"]) == ("fine", 64)
    total = sum(value for grid in found["query"]["grids"] for row in grid for value in row)
    assert total == pytest.approx(found["query"]["total"], rel=1e-3)
    picture = client.post(
        "/v1/explain?hit=pic-002&level=fine", content=encoded(1), headers={"content-type": "image/jpeg"}
    )
    assert picture.json()["hit"] == found["hit"]
    refused(client.get("/v1/explain?query=pic-001&hit=none"), 404, "key-unknown")
    refused(client.get("/v1/explain?query=pic-001&hit=pic-002&level=none"), 400, "level-unknown")


def test_ordering_by_logits_of_a_picture(client, opened):
    answer = client.post(
        "/v1/search?k=3&level=fine&rerank=20", content=encoded(33), headers={"content-type": "image/jpeg"}
    ).json()
    assert [key for key, _ in keys(answer)] == [
        hit.key for hit in opened.query(ByImage(encoded(33)), level="fine", k=3, rerank=20)
    ]


def test_a_batch_is_the_queries_one_by_one(client):
    queries = [{"key": f"pic-{row:03d}", "k": 3} for row in range(20)]
    answer = client.post("/v1/batch", json={"queries": queries}).json()
    assert [keys(one) for one in answer["responses"]] == [keys(search(client, **query)) for query in queries]
    assert {one["batch"] for one in answer["responses"]} == {20}


def test_queries_of_one_batch_agree_in_their_options(client):
    several = [{"key": "pic-001", "k": 1}, {"key": "pic-001", "k": 2}]
    refused(client.post("/v1/batch", json={"queries": several}), 400, "bad-value")
    refused(client.post("/v1/batch", json={"queries": [{"key": "pic-001"}, {"key": "none"}]}), 404, "key-unknown")


@pytest.mark.parametrize(
    ("asked", "status", "reason"),
    [
        ({"key": "nowhere"}, 404, "key-unknown"),
        ({"codes": {"fine": "00"}, "level": "fine"}, 400, "bad-value"),
        ({"codes": {"fine": "zz"}, "level": "fine"}, 400, "bad-value"),
        ({"codes": {"fine": "00" * 8}, "level": "mid"}, 400, "bad-value"),
        ({"codes": {}, "level": "mid"}, 400, "bad-value"),
        ({"key": "pic-001", "rerank": 20}, 400, "bad-value"),
        ({"key": "pic-001", "recall": 0.9}, 200, None),
        ({"key": "pic-001", "recall": 2}, 400, "bad-value"),
        ({"key": "pic-001", "exact": True, "nprobe": 3}, 400, "bad-value"),
        ({"key": "pic-001", "levels": ["fine", "fine"]}, 400, "bad-value"),
        ({"key": "pic-001", "levels": ["fine", "mid"], "radius": 3}, 400, "bad-value"),
        ({"key": "\x1b[2J"}, 404, "key-unknown"),
    ],
)
def test_what_cannot_be_answered_says_why(client, asked, status, reason):
    answer = client.post("/v1/search", json=asked)
    assert answer.status_code == status, answer.text
    if reason is not None:
        assert answer.json()["reason"] == reason
        assert "\x1b" not in answer.text


@pytest.mark.parametrize("body", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\x00" * 100, b"GIF89a"])
def test_what_is_no_picture_is_rejected(client, body):
    answer = client.post("/v1/search", content=body, headers={"content-type": "image/png"})
    assert answer.status_code in {415, 422}


def test_one_bad_query_does_not_fail_its_neighbours(state, opened):
    from indexer.service.parse import search_request
    from indexer.service.searching import Searcher, Task, query_of

    bodies = [b'{"key": "pic-001", "k": 2}', b'{"key": "none", "k": 2}', b'{"codes": {"fused": "00"}, "k": 2}']
    asked = [search_request(body, state.settings) for body in bodies]
    tasks = [Task(state.holder.current, one, query_of(one, None), 0.0) for one in asked]
    first, *others = Searcher(state.settings, Metrics()).run(tasks)
    assert isinstance(first, bytes)
    assert json.loads(first)["batch"] == 1
    assert [getattr(other, "reason", None) for other in others] == ["key-unknown", "bad-value"]


def test_what_is_served(client):
    info = client.get("/v1/index").json()
    assert (info["rows"], info["has_model"], info["writable"]) == (60, True, False)
    assert info["levels"]["fine"] == {"bits": 64, "kind": "flat", "nlist": None, "recall": {}, "cutoffs": {}}
    assert info["label_fields"]["name"]["kind"] == "text"
    assert info["label_fields"]["fine"] == {
        "kind": "number",
        "values": [0, 1, 2, 3, 4],
        "distinct": 5,
        "least": 0,
        "most": 4,
    }
    assert info["limits"]["hits"] == 10_000


def test_rows(client):
    rows = client.get("/v1/random?count=7").json()
    assert len({row["key"] for row in rows}) == 7
    assert client.get(f"/v1/items/{rows[0]['key']}").json() == rows[0]
    refused(client.get("/v1/items/none"), 404, "key-unknown")
    for count in ("0", "61", "x", "-1", "9" * 99, "\uff11"):
        refused(client.get("/v1/random", params={"count": count}), 400, "bad-value")


def test_pictures_of_rows(client):
    row = client.get("/v1/items/pic-003").json()
    image = client.get(f"/v1/images/{row['row']}?generation={row['generation']}")
    assert (image.content, image.headers["content-type"]) == (encoded(3), "image/jpeg")
    assert image.headers["content-security-policy"].startswith("sandbox")
    again = client.get(f"/v1/images/{row['row']}", headers={"if-none-match": image.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    thumbnail = client.get(f"/v1/thumbnails/{row['row']}?side=96")
    assert thumbnail.content[:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize("row", ["-1", "x", "60", "1e3", "999999999999999", "9" * 40, "%2e%2e%2f1", "1%00"])
def test_no_other_row_has_a_picture(client, row):
    for kind in ("images", "thumbnails"):
        assert client.get(f"/v1/{kind}/{row}").status_code in {400, 404}
    refused(client.get("/v1/images/1?generation=gen-000099"), 410, "generation-missing")


def test_sessions(client):
    assert client.post("/v1/session").status_code == 204


def test_health(client):
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready", "generation": "gen-000001"}


def test_metrics_name_no_key(client):
    search(client, key="pic-007")
    text = client.get("/metrics").text
    assert 'hashgrain_requests_total{endpoint="/v1/search",status="200"}' in text
    assert "hashgrain_generation 1.0" in text
    assert "pic-007" not in text


def test_what_has_no_endpoint(client):
    refused(client.get("/v2/anything"), 404, "not-found")
    refused(client.get("/v1/search"), 405, "method-unknown")
    refused(client.get("/docs"), 404, "not-found")


def test_the_document_describes_every_endpoint(client):
    document = client.get("/openapi.json").json()
    described = {(method.upper(), path) for path, of in document["paths"].items() for method in of}
    served = {(method, path.replace(":path", "")) for method, path, _ in ROUTES}
    hidden = {("GET", "/"), ("GET", "/page/{name}"), ("GET", "/openapi.json"), ("POST", "/v1/session")}
    assert described == served - hidden
    assert "key" in document["components"]["schemas"]["SearchRequest"]["properties"]
