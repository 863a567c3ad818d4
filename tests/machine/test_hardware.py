"""The places a machine has, on machines that are made up."""

import itertools

import pytest
import torch

from d2lpart.machine import hardware

CPU = torch.device("cpu")


def gpu(index):
    return torch.device("cuda", index)


@pytest.fixture
def machine(monkeypatch):
    """`machine(gpus, cores)` pretends to be such a machine."""

    def pretend(gpus=0, cores=1):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: gpus - 1)
        monkeypatch.setattr(hardware, "cores", lambda: cores)

    return pretend


def test_cores_are_those_this_process_may_use(monkeypatch):
    assert hardware.cores() >= 1
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert hardware.cores() == 3
    monkeypatch.delattr(hardware.os, "sched_getaffinity")
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 12)
    assert hardware.cores() == 12
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: None)
    assert hardware.cores() == 1


@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_existing_are_all_gpus_and_the_cpu(machine, gpus):
    machine(gpus)
    assert hardware.existing() == [*map(gpu, range(gpus)), CPU]


@pytest.mark.parametrize("gpus", range(5))
@pytest.mark.parametrize("n", range(1, 10))
def test_ranks_are_spread_over_the_gpus_with_neighbours_side_by_side(machine, gpus, n):
    machine(gpus)
    places = hardware.devices(n)
    assert len(places) == n
    if not gpus:
        assert places == [CPU] * n
        return
    index = [place.index for place in places]
    assert index == sorted(index)
    assert set(index) == set(range(min(gpus, n)))
    shares = [len(list(group)) for _, group in itertools.groupby(index)]
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize("n", [0, -1, 1.0, "2", None, True])
def test_the_number_of_places_is_whole_and_above_zero(n):
    with pytest.raises(ValueError, match=r"^devices\(.*\): ask for a whole number of places, at"):
        hardware.devices(n)


def test_names_become_devices(machine):
    machine(gpus=2)
    assert hardware.as_device("cuda:1") == gpu(1)
    assert hardware.as_device(torch.device("cuda", 0)) == gpu(0)
    assert hardware.as_device("cuda") == gpu(1)  # the one torch would take
    assert hardware.as_device("cpu") == hardware.as_device("cpu:0") == CPU
    assert hardware.as_device(CPU) == CPU


@pytest.mark.parametrize(
    ("gpus", "name", "message"),
    [
        (0, "cuda", "device cuda does not exist: this machine has cpu"),
        (0, "cuda:0", "device cuda:0 does not exist: this machine has cpu"),
        (2, "cuda:7", "device cuda:7 does not exist: this machine has cuda:0, cuda:1, cpu"),
        (1, "gpu", "'gpu' names no device: this machine has cuda:0, cpu"),
        (0, "", "'' names no device: this machine has cpu"),
        (0, None, "None names no device: this machine has cpu"),
        (0, 2.5, "2.5 names no device: this machine has cpu"),
        (0, "meta", "device meta does not exist: this machine has cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(machine, gpus, name, message):
    machine(gpus)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        hardware.as_device(name)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("gpus", "cores", "layers", "ranks"), [(0, 2, 6, 2), (0, 8, 6, 6), (3, 8, 6, 3), (3, 8, 2, 2)]
)
def test_as_many_ranks_as_can_work_at_once(machine, gpus, cores, layers, ranks):
    machine(gpus, cores)
    assert hardware.default_ranks(layers) == ranks


@pytest.mark.parametrize(
    ("places", "crowds"),
    [
        ([CPU], []),
        ([CPU, CPU], []),
        ([CPU, CPU, CPU], [(CPU, 3, 2)]),
        ([gpu(0), gpu(1)], []),
        ([gpu(0), gpu(0)], [(gpu(0), 2, 1)]),  # ranks on one GPU take turns
        ([gpu(0), CPU, CPU, gpu(1)], []),
        ([gpu(0), CPU, CPU, CPU, gpu(0), gpu(1)], [(gpu(0), 2, 1), (CPU, 3, 2)]),
    ],
)
def test_each_rank_wants_a_gpu_or_a_core_of_its_own(machine, places, crowds):
    machine(gpus=2, cores=2)
    assert hardware.crowded(places) == crowds


def test_ranks_on_the_cpu_share_its_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert hardware.threads_per_rank([CPU]) == 8
    assert hardware.threads_per_rank([CPU] * 3) == 2
    assert hardware.threads_per_rank([CPU] * 9) == 1
    assert hardware.threads_per_rank([gpu(0), CPU, CPU]) == 4
    assert hardware.threads_per_rank([gpu(0)]) == 8


def test_only_gpus_are_waited_for_and_each_once(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    hardware.synchronize([CPU, gpu(0), gpu(1), gpu(0)])
    assert sorted(waited, key=str) == [gpu(0), gpu(1)]
