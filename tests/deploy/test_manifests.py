"""What deploy/ tells a cluster: fields that Kubernetes and KubeRay know, pods without rights, commands that there are."""

import json
import re
from copy import deepcopy
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

pytestmark = pytest.mark.containers
ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy").glob("*.yaml"))
SCHEMA = json.loads((Path(__file__).parent / "ray.schema.json").read_text())
VERSION = "1.37"


def documents(path):
    return list(yaml.safe_load_all(path.read_text()))


DOCUMENTS = {f"{path.name}-{each['kind']}": each for path in FILES for each in documents(path)}


def templates(value):
    """Return the templates of pods in a document of KubeRay."""
    if isinstance(value, list):
        return [each for item in value for each in templates(item)]
    if not isinstance(value, dict):
        return []
    own = [value[name] for name in ("template", "submitterPodTemplate") if name in value]
    return own + [
        each
        for name, item in value.items()
        if name not in {"template", "submitterPodTemplate"}
        for each in templates(item)
    ]


def as_pod(template):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", **template.get("metadata", {})},
        "spec": template["spec"],
    }


def check(document):
    if document["apiVersion"] == "ray.io/v1":
        jsonschema.Draft202012Validator(SCHEMA["$defs"][document["kind"]] | {"$defs": SCHEMA["$defs"]}).validate(
            document
        )
        for template in templates(document):
            kubernetes_validate.validate(as_pod(template), VERSION, strict=True)
    else:
        kubernetes_validate.validate(document, VERSION, strict=True)


def test_there_are_manifests_of_every_step():
    assert [path.name for path in FILES] == [
        "build.yaml", "encode.yaml", "network.yaml", "raycluster.yaml", "rayservice.yaml", "storage.yaml",
    ]  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_every_field_is_known(document):
    check(document)


WRONG = {
    "RayCluster with a name that is spelt wrongly": lambda spec: spec.update(rayversion="2.60.0"),
    "RayCluster with a number as text": lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
    "RayCluster without a bound": lambda spec: spec["workerGroupSpecs"][0].pop("maxReplicas"),
    "RayCluster with an unknown probe": lambda spec: spec["workerGroupSpecs"][1]["template"]["spec"]["containers"][
        0
    ].update(livenessprobe={}),
    "RayService without containers": lambda spec: spec["rayClusterConfig"]["headGroupSpec"]["template"]["spec"].pop(
        "containers"
    ),
    "RayJob of an unknown mode": lambda spec: spec.update(submissionMode="Job"),
    "PersistentVolumeClaim with an unknown field": lambda spec: spec.update(accessMode="ReadWriteMany"),
    "NetworkPolicy with a port of the wrong type": lambda spec: spec["ingress"][2]["ports"][0].update(port=[1]),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_field_that_is_wrong_is_noticed(what):
    kind, spoil = what.partition(" ")[0], WRONG[what]
    document = deepcopy(next(each for each in DOCUMENTS.values() if each["kind"] == kind))
    spoil(document["spec"])
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(document)


@pytest.mark.parametrize("name", [name for name, document in DOCUMENTS.items() if templates(document)])
def test_every_pod_runs_without_rights_and_with_bounds(name):
    for template in templates(DOCUMENTS[name]):
        assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "hashgrain"  # which network.yaml goes by
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        [container] = pod["containers"]
        rights = container["securityContext"]
        assert (rights["allowPrivilegeEscalation"], rights["readOnlyRootFilesystem"], rights["capabilities"]) == (
            False, True, {"drop": ["ALL"]},
        )  # fmt: skip
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert container["image"] == "hashgrain:ray"


def test_the_image_is_the_one_that_a_comment_builds_and_has_ray():
    assert "docker build -t hashgrain:ray --build-arg EXTRAS=ray ." in (ROOT / "deploy/raycluster.yaml").read_text()
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG EXTRAS=$", dockerfile, re.MULTILINE)
    assert 'pip install --no-cache-dir ".${EXTRAS:+[${EXTRAS}]}"' in dockerfile
