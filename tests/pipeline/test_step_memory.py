"""Memory on real steps: what is counted agrees with what is computed, and a capacity holds.

The count has an oracle in `peak_bytes`, which adds up, action by action, what was counted once for
each kind of input; the computed ledgers have theirs in the count.
"""

import copy
import gc
import math
import threading

import pytest
import torch
from torch import nn

from d2lpart.costs.memory_forecast import predict_memory
from d2lpart.costs.profiler import profile
from d2lpart.machine.hardware import threads
from d2lpart.memory.failures import Full, OutOfMemoryError, PipelineError
from d2lpart.memory.formulas import ADAM_FP32, MOMENTUM_FP32, SGD_FP32
from d2lpart.models.decoder import Decoder
from d2lpart.pipeline import step_memory
from d2lpart.pipeline.pipeline import Pipeline
from d2lpart.schedules.orders import build_schedule
from d2lpart.stages import optimizer_state
from d2lpart.stages.memory_account import Account

CPU = "cpu"
CLOCKS = ["wall", "virtual"]
VOCABULARY, POSITIONS, SAMPLES = 32, 16, 12


@pytest.fixture(autouse=True)
def one_thread():
    with threads(1):
        yield


def decoder(blocks=4, width=32, tied=False, dropout=0.0):
    torch.manual_seed(0)
    return Decoder(VOCABULARY, width, blocks, 2, POSITIONS, tied=tied, dropout=dropout)


def text(samples=SAMPLES):
    generator = torch.Generator().manual_seed(1)
    both = torch.randint(VOCABULARY, (2, samples, POSITIONS), generator=generator)
    return both[0].clone(), both[1].clone()


def pipeline(sizes=(3, 3), *, ranks=None, schedule="1f1b", m=4, model=None, **options):
    options.setdefault("clock", "virtual")
    return Pipeline(
        model or decoder(sum(sizes) - 2), sizes, [CPU] * (ranks or len(sizes)),
        schedule=schedule, num_microbatches=m, **options,
    )  # fmt: skip


def state_bytes(module):
    return sum(weight.nbytes for weight in module.parameters())


# ---- computed and measured agree ---------------------------------------------------------------

ADAM = torch.optim.Adam, {}, ADAM_FP32
SGD = torch.optim.SGD, {"lr": 0.01}, SGD_FP32
MOMENTUM = torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}, MOMENTUM_FP32


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("sizes", "ranks", "schedule", "m"),
    [
        ([6], 1, "naive", 2),
        ([3, 3], 2, "gpipe", 4),
        ([2, 3, 1], 3, "gpipe", 6),
        ([3, 3], 2, "1f1b", 6),
        ([2, 2, 2], 3, "1f1b", 6),
        ([1, 1, 4], 3, "1f1b", 4),
        ([2, 1, 2, 1], 2, "interleaved", 4),
        ([2, 2, 2], 3, "zb-h1", 6),
        ([3, 3], 2, "zb-h2", 6),
        ([2, 1, 1, 2], 2, "zb-v", 6),
    ],
)
@pytest.mark.parametrize("optimizer", [ADAM, SGD, MOMENTUM], ids=["adam", "sgd", "momentum"])
def test_a_profile_foretells_what_is_measured(sizes, ranks, schedule, m, recompute, optimizer):
    make, options, recipe = optimizer
    model = decoder(sum(sizes) - 2)
    inputs, targets = text()
    costs = profile(model.layers, inputs[: SAMPLES // m])
    run = pipeline(sizes, ranks=ranks, schedule=schedule, m=m, model=model, recompute=recompute)
    stepper = make(run.parameters(), **options)
    for _ in range(2):
        stepper.zero_grad()
        result = run.step(inputs, targets, memory=True)
        stepper.step()
    predicted = predict_memory(
        costs, sizes, run.schedule, recipe=recipe, recompute=recompute, input_bytes=inputs.nbytes
    )
    assert predicted.source == "computed"
    assert result.memory.source == "measured"
    assert abs(predicted.compare(result.memory).difference) < 0.05
    for computed, measured in zip(predicted, result.memory, strict=True):
        assert computed.weights == measured.weights
        assert computed.gradients == measured.gradients
        assert measured.optimizer == pytest.approx(computed.optimizer, rel=0.01)
        assert measured.activations == pytest.approx(computed.activations, rel=0.05)


@pytest.mark.parametrize(("blocks", "width"), [(2, 16), (8, 64)])
def test_other_decoders(blocks, width):
    model = decoder(blocks, width)
    inputs, targets = text()
    costs = profile(model.layers, inputs[:3])
    sizes = [blocks // 2 + 1] * 2
    result = pipeline(sizes, model=model).step(inputs, targets, memory=True)
    predicted = predict_memory(costs, sizes, build_schedule("1f1b", 2, 4), recipe=SGD_FP32)
    assert abs(predicted.compare(result.memory).difference) < 0.05


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "zb-h1"])
def test_what_is_counted_is_what_autograd_holds(clock, schedule):
    """`peak_bytes` is counted another way: once a kind of input, and added up by actions."""
    result = pipeline([2, 2, 2], schedule=schedule, m=6, clock=clock).step(*text(), memory=True)
    for ledger, peak in zip(result.memory, result.peak_bytes, strict=True):
        assert ledger.activations == pytest.approx(peak, rel=0.02)


def test_both_clocks_count_alike():
    runs = [pipeline([2, 2, 2], clock=clock).step(*text(), memory=True) for clock in CLOCKS]
    assert runs[0].memory.ranks == runs[1].memory.ranks


def test_in_the_first_step_the_peaks_come_one_after_another():
    """GPipe: the gradients come when the activations go."""
    run = pipeline([3, 3], schedule="gpipe")
    first = run.step(*text(), memory=True).memory[0]
    assert first.activations + first.weights <= first.at_once < first.total
    again = run.step(*text(), memory=True).memory[0]  # now the old gradients lie there throughout
    assert again.gradients == 2 * first.gradients
    assert again.at_once > first.at_once


def test_a_step_changes_nothing_by_being_counted():
    plain, counted = pipeline([2, 2, 2]), pipeline([2, 2, 2])
    losses = plain.step(*text()).loss, counted.step(*text(), memory=True).loss
    assert losses[0] == losses[1]
    for one, two in zip(plain.parameters(), counted.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)
        assert not two._post_accumulate_grad_hooks
    assert all(stage.account is None for stage in counted.stages)


def test_a_step_that_is_not_counted_says_so():
    with pytest.raises(ValueError, match=r"not counted: call step\(inputs, targets, memory=True\)"):
        _ = pipeline().step(*text()).memory


# ---- what counts, and where --------------------------------------------------------------------


def test_a_tied_weight_counts_at_home_and_its_shadow_where_it_works():
    model = decoder(tied=True)
    token = model.layers[0].token.weight
    run = pipeline([3, 3], model=model)
    torch.optim.Adam(run.parameters())
    memory = run.step(*text(), memory=True).memory
    for stage, ledger in zip(run.partition.stages, memory, strict=True):
        layers = nn.ModuleList(model.layers[i] for i in stage)
        assert ledger.weights == state_bytes(layers)
    home, away = memory
    assert home.gradients == home.weights  # its own and those that came home are one storage
    assert away.weights - token.nbytes < away.gradients <= away.weights


def test_a_weight_in_two_stages_of_a_rank_counts_once():
    model = decoder()
    model.layers[3].perceptron.hidden.weight = model.layers[1].perceptron.hidden.weight
    run = pipeline([1, 2, 2, 1], ranks=2, schedule="interleaved", model=model)
    shared = model.layers[1].perceptron.hidden.weight
    first, second = run.step(*text(), memory=True).memory
    own = [model.layers[i] for i in (0, 3, 4)]
    assert first.weights == sum(map(state_bytes, own))
    assert second.weights == sum(state_bytes(model.layers[i]) for i in (1, 2, 5))
    assert first.weights + second.weights == state_bytes(run) + shared.nbytes


def test_frozen_weights_have_no_gradients():
    model = decoder()
    for layer in model.layers[:3]:
        layer.requires_grad_(False)
    first, second = pipeline([3, 3], model=model).step(*text(), memory=True).memory
    assert first.gradients == 0
    assert first.activations == text()[0].nbytes  # nothing to learn: the mini-batch alone
    assert second.gradients == second.weights


def test_buffers_count_as_weights():
    layers = [nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)]
    run = Pipeline(layers, [3], [CPU])
    memory = run.step(torch.randn(6, 4), torch.zeros(6, dtype=torch.long), memory=True).memory
    buffers = sum(buffer.nbytes for buffer in run.buffers())
    assert buffers
    assert memory[0].weights == state_bytes(run) + buffers
    assert memory[0].gradients == state_bytes(run)


def test_copies_of_weights_in_low_precision_count_as_weights():
    model = decoder()
    whole = pipeline([6], m=1, model=model).step(*text(), memory=True).memory[0]
    with torch.autocast(CPU, dtype=torch.bfloat16):
        mixed = pipeline([6], m=1, model=model).step(*text(), memory=True).memory[0]
    matrices = sum(
        part.weight.nbytes for part in model.modules() if isinstance(part, nn.Linear)
    )  # fmt: skip
    assert whole.weights + matrices // 2 <= mixed.weights <= whole.weights * 1.5
    assert mixed.activations < whole.activations


def test_a_window_on_more_data_counts_by_its_own_size():
    corpus = torch.randint(VOCABULARY, (1000, POSITIONS))
    inputs, targets = corpus[:SAMPLES], corpus[SAMPLES : 2 * SAMPLES]
    one = pipeline([6], m=1).step(inputs.clone(), targets.clone(), memory=True)
    other = pipeline([6], m=1).step(inputs, targets, memory=True)
    difference = one.memory[0].activations - other.memory[0].activations
    assert 0 <= difference <= targets.nbytes


def test_optimizers_count_once_they_have_stepped():
    run = pipeline()
    optimizer = torch.optim.Adam(run.parameters())

    def counted():
        run.zero_grad()
        return [ledger.optimizer for ledger in run.step(*text(), memory=True).memory]

    assert counted() == [0, 0]
    optimizer.step()
    sizes = [sum(state_bytes(run.layers[i]) for i in stage) for stage in run.partition.stages]
    assert counted() == pytest.approx([2 * size for size in sizes], rel=0.01)
    saved = optimizer.state_dict()
    del optimizer
    gc.collect()
    assert counted() == [0, 0]
    optimizer = torch.optim.Adam(run.parameters())
    optimizer.load_state_dict(copy.deepcopy(saved))
    assert counted() == [0, 0]  # nobody has seen it yet
    run.count(optimizer)
    assert counted() == pytest.approx([2 * size for size in sizes], rel=0.01)


def test_state_in_lists_is_found():
    weight = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight], lr=1)
    optimizer.state[weight] = {"old": [torch.zeros(2), (torch.zeros(5),)], "step": 3}
    optimizer_state.note(optimizer)
    assert [tensor.numel() for tensor in optimizer_state.state_of([weight])] == [2, 5]


# ---- a capacity --------------------------------------------------------------------------------


def measured(sizes, samples=SAMPLES, optimizer=torch.optim.Adam, **options):
    """The most that each rank holds at once in a second step."""
    run = pipeline(sizes, **options)
    stepper = optimizer(run.parameters())
    for _ in range(2):
        stepper.zero_grad()
        result = run.step(*text(samples), memory=True)
        stepper.step()
    return [ledger.at_once for ledger in result.memory]


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "zb-h1"])
def test_exactly_what_is_needed_is_enough_and_a_byte_less_is_not(clock, schedule):
    need = measured([3, 3], schedule=schedule, clock=clock)

    def trained(capacity):
        run = pipeline([3, 3], schedule=schedule, clock=clock, capacity=capacity)
        return train(run, steps=2)[-1]

    memory = trained(need).memory
    assert [ledger.at_once for ledger in memory] == need
    assert memory.capacity == tuple(need)
    for rank in (0, 1):
        less = [n - (r == rank) for r, n in enumerate(need)]
        with pytest.raises(OutOfMemoryError) as caught:
            trained(less)
        assert caught.value.rank == rank
        assert caught.value.capacity == less[rank]
        assert caught.value.ledger.total + caught.value.asked > less[rank]


def train(run, steps):
    optimizer = torch.optim.Adam(run.parameters())
    results = []
    for _ in range(steps):
        optimizer.zero_grad()
        results.append(run.step(*text()))
        optimizer.step()
    return results


def test_too_large_for_one_fits_when_split():
    limit = 0.7 * measured([6])[0]
    whole = pipeline([6], capacity=limit)
    with pytest.raises(MemoryError, match="rank 0"):
        train(whole, steps=2)
    results = train(pipeline([3, 3], capacity=limit), steps=20)
    assert results[-1].loss < results[0].loss


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_error_says_all_and_the_pipeline_goes_on(clock):
    need = measured([3, 3], samples=4, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    run = pipeline([3, 3], clock=clock, capacity=[n * 1.2 for n in need])
    run.step(*text(4))
    before = {name: weight.grad.clone() for name, weight in run.named_parameters()}
    with pytest.raises(OutOfMemoryError) as caught:
        run.step(*text(400))
    error = caught.value
    assert isinstance(error, PipelineError)
    message = str(error)
    assert (
        f"rank {error.rank}, stage {error.rank}, action {error.rank}F0 (micro-batch 0)" in message
    )
    assert "out of memory" in message
    assert f"the capacity of rank {error.rank}" in message
    assert "Use a smaller batch" in message
    assert str(error.ledger) in message
    assert error.ledger.source == "measured"
    assert error.asked > error.capacity - error.ledger.total
    for name, weight in run.named_parameters():
        assert torch.equal(weight.grad, before[name])
    run.zero_grad()
    assert run.step(*text(4)).loss > 0
    assert not [t for t in threading.enumerate() if t.name.startswith("d2lpart")]


def test_weights_alone_are_refused_when_the_pipeline_is_built():
    size = state_bytes(decoder())
    with pytest.raises(
        OutOfMemoryError, match=r"(?s)building the pipeline.*whatever the batch"
    ) as caught:
        pipeline([6], capacity=size - 1)
    assert caught.value.asked == size
    assert pipeline([6], capacity=size).capacity == (size,)
    with pytest.raises(OutOfMemoryError, match="rank 1, stage 1"):
        pipeline([3, 3], capacity=[size, 1000])


def test_what_does_not_fit_after_the_optimizer_is_refused_there_and_until_it_goes():
    size = state_bytes(decoder())
    run = pipeline([6], m=SAMPLES, capacity=3 * size)
    optimizer = torch.optim.Adam(run.parameters())
    run.step(*text(SAMPLES))
    with pytest.raises(OutOfMemoryError, match=r"after optimizer.step\(\)") as caught:
        optimizer.step()
    assert "more of optimizer state" in str(caught.value)
    assert caught.value.ledger.state == 2 * size
    with pytest.raises(OutOfMemoryError, match="beginning a step"):
        run.step(*text())
    del optimizer, caught  # torch's optimizers hang in circles; nobody collects them here
    run.zero_grad()
    run.step(*text())


def test_other_optimizers_are_none_of_its_business():
    run = pipeline([6], m=SAMPLES, capacity=3 * state_bytes(decoder()))
    run.step(*text())
    other = nn.Linear(300, 300)
    other(torch.ones(300)).sum().backward()
    torch.optim.Adam(other.parameters()).step()


def test_old_gradients_need_room_too():
    need = measured([6], optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    run = pipeline([6], capacity=need)
    run.step(*text())
    with pytest.raises(OutOfMemoryError):
        run.step(*text())  # the first step's gradients lie there still
    run.zero_grad()
    run.step(*text())


def test_the_minibatch_needs_room():
    run = pipeline([6], capacity=state_bytes(decoder()) + 10)
    with pytest.raises(OutOfMemoryError, match="with the inputs of the mini-batch"):
        run.step(*text())


def test_no_limit_counts():
    memory = pipeline([6], capacity=math.inf).step(*text()).memory
    assert memory.capacity == (math.inf,)
    assert memory.too_full == []


@pytest.mark.parametrize(
    ("capacity", "message"),
    [
        (0, "rank 0 is 0: give a number of bytes above 0"),
        (-1.5, "rank 0 is -1.5"),
        (math.nan, "rank 0 is nan"),
        ([10**9, True], "rank 1 is True"),
        ([10**9, "much"], "rank 1 is 'much'"),
        ([10**9], "1 number for 2 ranks"),
        ("1 GB", "rank 0 is '1 GB'"),
    ],
)
def test_a_capacity_is_a_number_of_bytes(capacity, message):
    with pytest.raises(ValueError, match=message):
        pipeline([3, 3], capacity=capacity)


# ---- the account -------------------------------------------------------------------------------


def test_a_storage_counts_once_and_as_long_as_any_hold_lasts():
    account, tensor = Account(0), torch.zeros(10)
    first = account.hold("weights", tensor)
    second = account.hold("activations", tensor[2:5].view(3, 1))
    assert account.now().items() == [
        ("weights", 40), ("gradients", 0), ("optimizer", 0), ("activations", 0)
    ]  # fmt: skip
    del first
    assert account.now().total == 40
    del second
    assert account.now().total == 0
    assert account.peaks().weights == account.peaks().at_once == 40


def test_all_or_nothing_is_kept():
    account = Account(3, capacity=100)
    with pytest.raises(Full) as caught:
        account.keep("weights", [torch.zeros(20), torch.zeros(20)])
    assert caught.value.asked == 160
    assert account.now().total == 0
    account.keep("weights", [torch.zeros(25)] * 3)
    assert account.now().total == 100


def test_a_hold_may_end_on_another_thread():
    account = Account(0)
    holds = [account.hold("activations", torch.zeros(1)) for _ in range(1000)]
    worker = threading.Thread(target=holds.clear)
    worker.start()
    for _ in range(1000):
        account.hold("weights", torch.zeros(1))
    worker.join()
    assert account.now().total == 0


# ---- CUDA --------------------------------------------------------------------------------------


class Allocator:
    """What `torch.cuda` is asked for, of a device with 1000 bytes, 300 of them reserved."""

    def __init__(self, monkeypatch):
        self.fraction, self.seen = 0.9, []
        for name in ("synchronize", "empty_cache"):
            monkeypatch.setattr(torch.cuda, name, lambda *_: None)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 300)
        properties = type("Properties", (), {"total_memory": 1000})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: self.fraction)
        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", self.set)

    def set(self, fraction, device):
        self.fraction = fraction
        self.seen.append((round(fraction, 9), device))


def test_the_allocator_is_limited_to_the_ranks_of_the_device_and_what_was_there(monkeypatch):
    allocator, gpu = Allocator(monkeypatch), torch.device("cuda", 0)
    accounts = [Account(0, 100), Account(1, 200), Account(2, 50)]
    accounts[0].keep("weights", [torch.zeros(10)])
    with step_memory.allocator_limits([gpu, gpu, torch.device(CPU)], accounts):
        assert allocator.seen == [((300 - 40 + 300) / 1000, gpu)]
    assert allocator.fraction == 0.9
    with step_memory.allocator_limits([gpu, gpu], [Account(0, 5000), Account(1, 5000)]):
        assert allocator.fraction == 0.9  # never more than there was
    allocator.seen.clear()
    with step_memory.allocator_limits([gpu, gpu], [Account(0, 100), Account(1)]):
        assert allocator.seen == []  # one of the ranks has no limit


class Greedy(nn.Module):
    def forward(self, x):
        raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("memory", [False, True])
def test_the_allocators_own_error_becomes_this_one(memory):
    run = Pipeline([nn.Linear(4, 4), Greedy()], [1, 1], [CPU] * 2)
    with pytest.raises(OutOfMemoryError, match=r"rank 1, .*2.00 GiB. Use a smaller") as caught:
        run.step(torch.randn(3, 4), torch.zeros(3, dtype=torch.long), memory=memory)
    assert caught.value.asked is None
    assert (caught.value.ledger is not None) == memory
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_the_allocator_itself_refuses():
    model = nn.Sequential(*(nn.Linear(4096, 4096) for _ in range(4)))
    run = Pipeline(model, [4], ["cuda:0"], loss_fn=lambda y, t: y.square().mean(), capacity=400e6)
    inputs, targets = torch.randn(8, 4096, device="cuda:0"), torch.zeros(8, 1, device="cuda:0")
    before = torch.cuda.get_per_process_memory_fraction(0)
    run.step(inputs, targets)
    with pytest.raises(OutOfMemoryError):
        run.step(inputs.repeat(5000, 1), targets.repeat(5000, 1))
    assert torch.cuda.get_per_process_memory_fraction(0) == before
    run.zero_grad()
    run.step(inputs, targets)
