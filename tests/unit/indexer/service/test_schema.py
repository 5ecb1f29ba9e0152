import json
import re

import pytest

from indexer.service.parse import batch_request, search_request
from indexer.service.schema import document
from indexer.service.settings import ServeSettings
from indexer.wire import SearchRequest

SETTINGS = ServeSettings()


@pytest.fixture(scope="module")
def described():
    return json.loads(document(SETTINGS))


def test_every_reference_leads_somewhere(described):
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert references
    assert references <= described["components"]["schemas"].keys()


def test_every_example_of_a_request_is_one(described):
    content = described["paths"]["/v1/search"]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        assert isinstance(search_request(json.dumps(example["value"]).encode(), SETTINGS), SearchRequest)
    content = described["paths"]["/v1/batch"]["post"]["requestBody"]["content"]["application/json"]
    assert batch_request(json.dumps(content["example"]).encode(), SETTINGS).queries


def test_a_search_by_picture_has_every_option_but_what_is_looked_for(described):
    options = {one["name"] for one in described["paths"]["/v1/search"]["post"]["parameters"]}
    fields = set(described["components"]["schemas"]["SearchRequest"]["properties"])
    assert fields - options == {"key", "codes"}
    assert options < fields


def test_every_operation_says_how_it_fails_and_every_parameter_of_a_path_is_described(described):
    for path, operations in described["paths"].items():
        for operation in operations.values():
            assert {"4XX", "429", "503"} < operation["responses"].keys()
            in_path = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert in_path == set(re.findall(r"{(\w+)}", path))


def test_a_token_is_asked_for_only_where_there_is_one(described):
    assert "security" not in described
    guarded = json.loads(document(ServeSettings(token="0123456789abcdef")))
    assert guarded["security"] == [{"token": []}]
    assert guarded["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
