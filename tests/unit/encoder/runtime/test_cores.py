import math
import os
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.runtime import cores
from encoder.runtime.cores import parse_cfs, parse_cgroups, parse_cpu_max, quota_of, worker_count


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("max 100000\n", None),
        ("150000 100000\n", 1.5),
        ("400000 100000", 4.0),
        ("", None),
        ("100000", None),
        ("1 0", None),
    ],
)
def test_the_quota_of_version_2(text, quota):
    assert parse_cpu_max(text) == quota


@pytest.mark.parametrize(
    ("quota", "period", "expected"), [("-1\n", "100000\n", None), ("50000\n", "100000\n", 0.5), ("", "", None)]
)
def test_the_quota_of_version_1(quota, period, expected):
    assert parse_cfs(quota, period) == expected


def test_the_groups_that_limit_processors():
    text = "11:memory:/a\n4:cpu,cpuacct:/docker/x\n3:cpuset:/b\n1:name=systemd:/c\n0::/user.slice/a:b\n"
    assert parse_cgroups(text) == [
        ("cpu,cpuacct", PurePosixPath("docker/x")),
        ("", PurePosixPath("user.slice/a:b")),
    ]


def limit(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"cpu.{name}").write_text(text)


def test_the_smallest_quota_on_the_way_up_counts(tmp_path):
    limit(tmp_path / "pod", max="300000 100000\n")
    limit(tmp_path / "pod/box", max="max 100000\n")
    limit(tmp_path / "pod/box/leaf", max="700000 100000\n")
    limit(tmp_path / "elsewhere", max="100000 100000\n")
    assert quota_of("0::/pod/box/leaf\n", tmp_path) == 3.0
    assert quota_of("0::/pod/box/leaf/not/here\n", tmp_path) == 3.0  # as a container may see its own path
    assert quota_of("0::/../../pod\n", tmp_path) == 3.0
    assert quota_of("0::/\n", tmp_path) is None
    limit(tmp_path, max="250000 100000\n")
    assert quota_of("0::/gone\n", tmp_path) == 2.5


def test_version_1_stands_in_a_folder_of_its_controllers(tmp_path):
    limit(tmp_path / "cpu,cpuacct/box", cfs_quota_us="-1\n", cfs_period_us="100000\n")
    text = "5:cpu,cpuacct:/box\n"
    assert quota_of(text, tmp_path) is None
    limit(tmp_path / "cpu,cpuacct", cfs_quota_us="150000\n", cfs_period_us="100000\n")
    assert quota_of(text, tmp_path) == 1.5


@given(text=st.text(), other=st.text())
def test_no_text_is_an_error(tmp_path_factory, text, other):
    for quota in (parse_cpu_max(text), parse_cfs(text, other), quota_of(text, tmp_path_factory.getbasetemp())):
        assert quota is None or quota > 0
    assert all(".." not in path.parts and not path.is_absolute() for _, path in parse_cgroups(text))


@given(paths=st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=400)))
def test_no_path_is_an_error(tmp_path_factory, paths):
    quota_of(
        "".join(f"0:{'cpu' * (at % 2)}:/{path}\n" for at, path in enumerate(paths)), tmp_path_factory.getbasetemp()
    )


@given(quota=st.integers(), period=st.integers())
def test_a_quota_is_its_share_of_the_period(quota, period):
    found = parse_cpu_max(f"{quota} {period}\n")
    if quota * period <= 0:
        assert found is None
    elif found is not None:
        assert math.isclose(found, quota / period)


@pytest.mark.parametrize(("quota", "expected"), [(None, 4), (0.2, 1), (1.5, 2), (3.0, 3), (64.0, 4)])
def test_workers_are_cores_that_may_be_used_and_are_granted(monkeypatch, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5}, raising=False)
    monkeypatch.setattr(cores, "_granted", lambda: quota)
    assert worker_count() == expected
