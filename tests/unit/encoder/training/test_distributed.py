"""Which GPU a process of several takes."""

import torch
import torch.distributed as dist

from encoder.training.distributed import process_group


def recorded(monkeypatch, processes):
    said: list[tuple[object, ...]] = []
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: said.append(("device", device)))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: said.append((backend, options)))
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: said.append(("end",)))
    return said


def test_a_process_takes_its_gpu_before_it_joins_the_others(monkeypatch):
    device, said = torch.device("cuda:1"), recorded(monkeypatch, 2)
    with process_group(device) as share:
        assert share == (1, 2)
    assert said == [("device", device), ("nccl", {"device_id": device}), ("end",)]


def test_a_lone_process_takes_its_gpu_too_and_a_cpu_is_nobodys(monkeypatch):
    device, said = torch.device("cuda:1"), recorded(monkeypatch, 1)
    with process_group(device) as share:
        assert share == (0, 1)
    assert said == [("device", device)]
    said = recorded(monkeypatch, 2)
    with process_group(torch.device("cpu")):
        assert said == [("gloo", {})]
