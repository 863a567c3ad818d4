"""A tensor from one rank to another: the same numbers, the right bytes, in the right order."""

import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lpart.machine.transfer import Clock, Parcel, Place, send
from d2lpart.models.decoder import Decoder
from d2lpart.pipeline.pipeline import Pipeline
from d2lpart.schedules.schedule import dependencies

CPU = torch.device("cpu")
META = torch.device("meta")  # a second device that every machine has; it holds no numbers


def gpus(count):
    """Mark a test that needs so many GPUs."""
    cuda, skip = gpus_marks(count)
    return lambda test: cuda(skip(test))


def gpus_marks(count):
    lacking = torch.cuda.device_count() < count
    return [pytest.mark.cuda, pytest.mark.skipif(lacking, reason=f"needs {count} CUDA GPU(s)")]


def gpu(index=0):
    return torch.device("cuda", index)


# ---- on any machine ----------------------------------------------------------------------------


def test_ranks_on_one_device_pass_the_tensor_itself():
    tensor = torch.randn(3, 4, requires_grad=True) * 2
    parcel = send(tensor, Place(CPU), Place(CPU))
    assert parcel.nbytes == 48
    assert parcel.sent == parcel.arrived
    received = parcel.open(Place(CPU))
    assert received.data_ptr() == tensor.data_ptr()
    assert not received.requires_grad


def test_nothing_to_send_is_a_parcel_without_bytes():
    for target in (CPU, META):
        parcel = send(None, Place(CPU), Place(target))
        assert parcel.nbytes == 0
        assert parcel.open(Place(target)) is None


def test_another_device_gets_a_copy():
    tensor = torch.randn(5, 4)
    parcel = send(tensor, Place(CPU), Place(META))
    received = parcel.open(Place(META))
    assert received.device == META
    assert received.shape == tensor.shape
    assert parcel.nbytes == tensor.nbytes
    assert parcel.sent <= parcel.arrived


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64])
@pytest.mark.parametrize("view", [lambda t: t, lambda t: t[1:3], lambda t: t.t(), lambda t: t[0]])
def test_bytes_are_those_of_the_elements(dtype, view):
    tensor = view(torch.zeros(4, 6, dtype=dtype))
    size = tensor.numel() * tensor.element_size()
    assert send(tensor, Place(CPU), Place(CPU)).nbytes == size
    assert send(tensor, Place(CPU), Place(META)).nbytes == size


def test_a_parcel_gives_its_tensor_away():
    parcel = Parcel(torch.ones(2), 8, 1.0, 2.0)
    assert torch.equal(parcel.open(Place(CPU)), torch.ones(2))
    assert parcel.tensor is None
    assert (parcel.nbytes, parcel.sent, parcel.arrived) == (8, 1.0, 2.0)


def test_on_the_cpu_a_mark_is_the_time():
    place = Place(CPU)
    before = time.perf_counter()
    mark = place.mark()
    assert before <= mark <= time.perf_counter()
    assert Clock([place]).read(mark) == mark
    place.begin()
    with place.working():
        pass
    place.finish()
    assert place.compute is place.copy is None


# ---- on GPUs -----------------------------------------------------------------------------------

LONG = 50_000_000  # cycles, some tens of milliseconds: the host is far ahead by then


def made_late(place, value):
    """Launch a tensor on a rank's stream, to be there only after a long wait."""
    with place.working():
        torch.cuda._sleep(LONG)
        return torch.full((1000, 1000), float(value), device=place.device)


def delivered(tensor, source, target):
    with source.working():
        parcel = send(tensor, source, target)
    with target.working():
        return parcel, parcel.open(target)


@gpus(1)
@pytest.mark.parametrize("pinned", [False, True])
def test_from_the_cpu_to_a_gpu(pinned):
    tensor = torch.randn(1000, 1000)
    source, target = Place(CPU), Place(gpu())
    parcel, received = delivered(tensor.pin_memory() if pinned else tensor, source, target)
    with target.working():
        assert torch.equal(received.cpu(), tensor)
    assert received.device == gpu()
    assert parcel.nbytes == tensor.nbytes


@gpus(1)
def test_from_a_gpu_to_the_cpu_once_it_is_made():
    source, target = Place(gpu()), Place(CPU)
    _, received = delivered(made_late(source, 3), source, target)
    assert received.is_pinned()
    assert received.eq(3).all()


@gpus(1)
def test_sending_does_not_wait():
    source, near, far = Place(gpu()), Place(gpu()), Place(CPU)
    for warm in (False, True):  # the first time memory is got from the driver, which waits
        tensor = made_late(source, 3)
        with source.working():
            parcels = send(tensor, source, near), send(tensor, source, far)
            assert not (warm and source.compute.query())  # the tensor is not even made
        torch.cuda.synchronize()
        del parcels, tensor


@gpus(1)
def test_between_ranks_of_one_gpu_the_receiver_waits():
    source, target = Place(gpu()), Place(gpu())
    _, received = delivered(made_late(source, 5), source, target)
    with target.working():
        assert (received + 0).eq(5).all().item()


@gpus(2)
def test_between_gpus_the_receiver_waits():
    source, target = Place(gpu(0)), Place(gpu(1))
    _, received = delivered(made_late(source, 7), source, target)
    assert received.device == gpu(1)
    with target.working():
        assert (received + 0).eq(7).all().item()
    assert torch.cuda.current_device() == 0


@gpus(1)
@pytest.mark.parametrize("far", ["cpu", "same"])
def test_memory_is_not_handed_out_while_another_stream_reads_it(far):
    source = Place(gpu())
    target = Place(CPU if far == "cpu" else gpu())
    for value in range(20):
        tensor = made_late(source, value)
        with source.working():
            parcel = send(tensor, source, target)
            del tensor
            torch.full((1000, 1000), -1.0, device=gpu())  # would get the same memory
        with target.working():
            assert (parcel.open(target) + 0).eq(value).all().item()


@gpus(2)
def test_memory_is_not_handed_out_while_another_gpu_reads_it():
    source, target = Place(gpu(0)), Place(gpu(1))
    for value in range(20):
        tensor = made_late(source, value)
        with source.working():
            parcel = send(tensor, source, target)
            del tensor
            torch.full((1000, 1000), -1.0, device=gpu(0))
        with target.working():
            assert (parcel.open(target) + 0).eq(value).all().item()


@gpus(1)
def test_marks_of_gpu_and_host_are_on_one_axis():
    place = Place(gpu())
    clock = Clock([place, Place(CPU)])
    before = time.perf_counter()
    begin = place.mark()
    made_late(place, 1)
    end = place.mark()
    torch.cuda.synchronize()
    after = time.perf_counter()
    slack = 1e-3
    assert before - slack <= clock.read(begin) < clock.read(end) <= after + slack
    assert clock.read(end) - clock.read(begin) > 1e-3


@gpus(1)
def test_a_step_begins_behind_what_the_caller_launched_and_the_caller_goes_on_behind_it():
    place, own = Place(gpu()), torch.cuda.Stream()
    with torch.cuda.stream(own):
        torch.cuda._sleep(LONG)
        numbers = torch.full((1000, 1000), 4.0, device=gpu())
        place.begin()
        with place.working():
            doubled = numbers * 2
            torch.cuda._sleep(LONG)
            doubled += 1
        place.finish()
        assert (doubled + 0).eq(9).all().item()


# ---- whole steps on GPUs -----------------------------------------------------------------------

SAMPLES, POSITIONS, VOCABULARY, WIDTH = 8, 16, 31, 32
PLACEMENTS = [
    (1, ["cuda:0"] * 2),
    (1, ["cpu", "cuda:0"]),
    (1, ["cuda:0", "cpu"]),
    (1, ["cuda:0", "cpu", "cuda:0"]),
    (1, ["cpu", "cuda:0", "cuda:0", "cpu"]),
    (2, ["cuda:0", "cuda:1"]),
    (2, ["cuda:1", "cpu", "cuda:0"]),
]


def on_gpus(placements):
    return [pytest.param(names, marks=gpus_marks(count)) for count, names in placements]


def decoder(tied):
    torch.manual_seed(0)
    return Decoder(VOCABULARY, WIDTH, 4, 4, POSITIONS, tied=tied)


def text(device=CPU):
    generator = torch.Generator().manual_seed(1)
    inputs, targets = torch.randint(VOCABULARY, (2, SAMPLES, POSITIONS), generator=generator)
    targets[2, :9] = -100
    return inputs.to(device), targets


def sizes(stages):
    return [6 // stages] * (stages - 1) + [6 - 6 // stages * (stages - 1)]


def compare(model, reference, tolerance):
    largest = max(weight.grad.abs().max().item() for weight in reference.parameters())
    for (name, a), b in zip(model.named_parameters(), reference.parameters(), strict=True):
        assert (a.grad.cpu() - b.grad).abs().max().item() <= tolerance * largest, name


@pytest.fixture
def exact():
    """Full float32 products on a GPU."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("names", on_gpus(PLACEMENTS))
@pytest.mark.parametrize("clock", ["wall", "virtual"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_on_gpus_are_those_of_one_device(names, clock, tied, recompute):
    model, reference = decoder(tied), decoder(tied)
    pipeline = Pipeline(
        model, sizes(len(names)), names, num_microbatches=4, clock=clock, recompute=recompute
    )
    inputs, targets = text()
    F.cross_entropy(reference(inputs).flatten(0, 1), targets.flatten()).backward()
    for _ in range(3):  # streams and memory are used again
        pipeline.zero_grad()
        result = pipeline.step(inputs.to(names[0]), targets)
        compare(model, reference, 1e-4)
    crossings = len(names) - 1
    assert result.bytes_moved == 2 * crossings * SAMPLES * POSITIONS * WIDTH * 4
    found = {span.action: span for span in result.timeline.spans}
    for action, span in found.items():
        for need in dependencies(action, pipeline.schedule):
            assert found[need].end <= span.start + 1e-4  # clocks of two devices
    for layer, stage in ((0, 0), (5, len(names) - 1)):
        weight = list(pipeline.layers[layer].parameters())[-1]
        home = pipeline.stages[0 if tied and layer == 5 and weight is model[0].token.weight
                               else stage].device  # fmt: skip
        assert weight.device == weight.grad.device == home


@pytest.mark.parametrize("names", on_gpus([(1, ["cuda:0"] * 3)]))
@pytest.mark.parametrize("schedule", ["naive", "gpipe", "1f1b"])
def test_on_one_gpu_gradients_are_those_of_the_loop(names, schedule):
    model, reference = decoder(True), decoder(True).to(names[0])
    inputs, targets = (part.to(names[0]) for part in text())
    pipeline = Pipeline(model, [2, 2, 2], names, schedule=schedule, num_microbatches=4)
    pipeline.step(inputs, targets)
    whole = (targets != -100).sum()
    for x, y in zip(inputs.tensor_split(4), targets.tensor_split(4), strict=True):
        mean = F.cross_entropy(reference(x).flatten(0, 1), y.flatten())
        (mean * ((y != -100).sum() / whole).item()).backward()
    for weight in reference.parameters():
        weight.data, weight.grad = weight.data.cpu(), weight.grad.cpu()
    compare(model, reference, 1e-5)  # kernels that add atomically do so in any order


@pytest.mark.parametrize("names", on_gpus([(1, ["cuda:0", "cpu", "cuda:0"])]))
def test_autocast_of_both_kinds_reaches_the_ranks(names):
    class Types(nn.Module):
        def forward(self, x):
            seen.append((x.device.type, (x @ x.transpose(-1, -2)).dtype))
            return x

    seen = []
    layers = decoder(False).layers
    model = [*layers[:2], Types(), *layers[2:4], Types(), *layers[4:5], Types(), layers[5]]
    pipeline = Pipeline(model, [3, 3, 3], names, clock="wall")
    inputs, targets = text(names[0])
    with torch.autocast("cuda", torch.float16), torch.autocast("cpu", torch.bfloat16):
        pipeline.step(inputs, targets)
    wanted = {("cuda", torch.float16), ("cpu", torch.bfloat16)}
    assert set(seen) == wanted


@pytest.mark.parametrize("names", on_gpus([(1, ["cuda:0", "cuda:0"]), (1, ["cpu", "cuda:0"])]))
def test_inputs_that_are_still_being_made(names):
    """The caller works on a stream of its own, and has not waited for it."""
    model, reference = decoder(False), decoder(False)
    pipeline = Pipeline(model, [3, 3], names, num_microbatches=2, clock="wall")
    inputs, targets = text()
    F.cross_entropy(reference(inputs).flatten(0, 1), targets.flatten()).backward()
    with torch.cuda.stream(torch.cuda.Stream()):
        late = targets.to("cuda:0", non_blocking=False)
        torch.cuda._sleep(LONG)
        late = late * 1
        first = inputs.to(names[0])
        if names[0] != "cpu":
            torch.cuda._sleep(LONG)
            first = first * 1
        pipeline.step(first, late)
        for weight in model.parameters():
            weight.grad.mul_(1)  # the caller may go on at once
        compare(model, reference, 1e-2)


@pytest.mark.parametrize("names", on_gpus([(1, ["cuda:0"] * 4)]))
def test_memory_of_a_gpu_follows_the_schedule(names):
    """1F1B's last rank needs far less than GPipe's; many steps need no more than one."""
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(512, 512), nn.Tanh()) for _ in range(4)]
    x, y = torch.randn(16 * 256, 512, device="cuda:0"), torch.zeros(16 * 256, dtype=torch.long)
    peaks = {}
    for schedule in ("1f1b", "gpipe"):
        pipeline = Pipeline(layers, [1] * 4, names, schedule=schedule, num_microbatches=16)
        pipeline.step(x, y)
        torch.cuda.reset_peak_memory_stats()
        for _ in range(5):
            result = pipeline.step(x, y)
        peaks[schedule] = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
        assert peaks[schedule] >= 0.5 * sum(result.peak_bytes) / 4
    assert peaks["1f1b"] < peaks["gpipe"]
