"""Explanations as they go over the wire."""

import json
from dataclasses import asdict

import numpy as np

import indexer
from indexer import ByKey
from indexer.explain import explain
from indexer.service.explanations import explanation
from indexer.wire import as_bytes


def test_an_explanation_goes_over_the_wire_as_it_is(index_folder):
    index = indexer.open(index_folder)
    found = explain(index, ByKey("pic-007"), "pic-012", "fused")
    said = json.loads(as_bytes(asdict(explanation(index, ByKey("pic-007"), "pic-012", "fused"))))
    assert (said["level"], said["bits"], said["agreeing"]) == ("fused", 64, found.agreeing)
    for name in ("query", "hit"):
        heat = getattr(found, name)
        assert said[name]["box"] == list(heat.box)
        assert said[name]["total"] == heat.total
        for grid, sent in zip(heat.grids, said[name]["grids"], strict=True):
            np.testing.assert_array_equal(np.array(sent, np.float32), grid)
