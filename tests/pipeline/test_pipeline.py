"""A pipeline against one device: the same loss, gradients and weights, however it is cut.

The oracle is a loop written out by hand: the whole model on one device, one micro-batch after
another. Gradients are compared with it to the last bit, and with one full-batch backward closely.
"""

import copy
import functools
import gc
import itertools
import random
import weakref

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from d2lpart.machine.hardware import threads
from d2lpart.models.decoder import Decoder
from d2lpart.pipeline.pipeline import Pipeline
from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.stages.stage import Stage

SAMPLES, POSITIONS, VOCABULARY, WIDTH = 9, 5, 11, 8
CLOCKS = ["wall", "virtual"]
CPU = "cpu"


@pytest.fixture(autouse=True)
def one_thread():
    """Equality to the last bit needs sums in one order."""
    with threads(1):
        yield


# ---- models, data and the oracle ---------------------------------------------------------------


def decoder(tied, dropout=0.0):
    """Six layers; "ends" ties head to embedding, "blocks" three blocks, "inside" two neighbours."""
    torch.manual_seed(0)
    model = Decoder(VOCABULARY, WIDTH, 4, 2, POSITIONS, tied=tied == "ends", dropout=dropout)
    if tied == "blocks":
        for block in (3, 4):
            model.layers[block].attention.output.weight = model.layers[1].attention.output.weight
    if tied == "inside":
        model.layers[2].perceptron.hidden.weight = model.layers[1].perceptron.hidden.weight
    if tied == "twice at home":
        for block in (2, 4):
            model.layers[block].attention.output.weight = model.layers[1].attention.output.weight
    return model


def freeze(model, frozen):
    if frozen == "front":
        for layer in model.layers[:3]:
            layer.requires_grad_(False)
    if frozen == "some":
        for number, weight in enumerate(model.parameters()):
            weight.requires_grad_(number % 3 != 0)
    return model


def text(kind="full"):
    """Token numbers and targets; "ragged" leaves some out, "hole" all of three samples."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(VOCABULARY, (SAMPLES, POSITIONS), generator=generator)
    targets = torch.randint(VOCABULARY, (SAMPLES, POSITIONS), generator=generator)
    if kind != "full":
        for sample in range(SAMPLES):
            targets[sample, : sample % POSITIONS] = -100
    if kind == "hole":
        targets[2:5] = -100
    return inputs, targets


def mean_loss(outputs, targets):
    return F.cross_entropy(outputs.reshape(-1, VOCABULARY), targets.reshape(-1), ignore_index=-100)


def sum_and_count(outputs, targets):
    flat = outputs.reshape(-1, VOCABULARY), targets.reshape(-1)
    return F.cross_entropy(*flat, ignore_index=-100, reduction="sum"), (targets != -100).sum()


def loop(model, inputs, targets, m, *, order=None, pair=False):
    """Train a model undivided: the micro-batches one after another, in the given order."""
    parts = list(zip(inputs.tensor_split(m), targets.tensor_split(m), strict=True))
    whole = (targets != -100).sum().item()
    for k in range(m) if order is None else order:
        x, y = parts[k]
        counted = (y != -100).sum().item()
        if counted:
            loss = sum_and_count(model(x), y)[0] if pair else mean_loss(model(x), y)
            (loss if pair else loss * (counted / whole)).backward()
    if pair:
        for weight in model.parameters():
            if weight.grad is not None:
                weight.grad /= float(whole)


def gradients(model):
    return {name: weight.grad for name, weight in model.named_parameters()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            assert torch.equal(found[name], gradient), name


def assert_close(found, expected, tolerance=2e-5):
    largest = max(g.abs().max() for g in expected.values() if g is not None)
    for name, gradient in expected.items():
        if gradient is not None:
            assert (found[name] - gradient).abs().max() <= tolerance * largest, name


@functools.cache
def oracle(tied, frozen, data, m, pair):
    """The gradients of the loop, those of one full-batch backward, and its loss."""
    looped, whole = freeze(decoder(tied), frozen), freeze(decoder(tied), frozen)
    inputs, targets = text(data)
    loop(looped, inputs, targets, m, pair=pair)
    loss = mean_loss(whole(inputs), targets)
    loss.backward()
    return gradients(looped), gradients(whole), loss.item()


# ---- the grid ----------------------------------------------------------------------------------


def split(num_layers, num_stages, kind):
    """Sizes that add up to `num_layers`: even, or all that is to spare at one end."""
    if kind == "even":
        bounds = [stage * num_layers // num_stages for stage in range(num_stages + 1)]
        return [b - a for a, b in itertools.pairwise(bounds)]
    sizes = [1] * num_stages
    sizes[0 if kind == "front-heavy" else -1] += num_layers - num_stages
    return sizes


FACTORS = {
    "p": [1, 2, 3, 4, 5, 6],
    "m": [1, 2, 3, 4, 5, 6, 7, 8, 9],
    "schedule": ["naive", "gpipe", "1f1b"],
    "clock": CLOCKS,
    "tied": ["no", "ends", "blocks", "inside", "twice at home"],
    "frozen": ["no", "front", "some"],
    "data": ["full", "ragged", "hole"],
    "sizes": ["even", "front-heavy", "back-heavy"],
    "recompute": [False, True],
    "loss": ["default", "pair"],
}


def every_pair(factors):
    """Combinations in which every two values of two factors meet at least once."""
    chance = random.Random(0)
    names = list(factors)
    left = {
        ((a, x), (b, y))
        for a, b in itertools.combinations(names, 2)
        for x in factors[a]
        for y in factors[b]
    }
    while left:
        best, most = {}, set()
        for _ in range(20):
            case = dict(min(left, key=repr))
            for name in chance.sample(names, len(names)):
                case.setdefault(name, chance.choice(factors[name]))
            met = {pair for pair in left if all(case[name] == value for name, value in pair)}
            if len(met) > len(most):
                best, most = case, met
        left -= most
        yield best


GRID = list(every_pair(FACTORS))


def label(case):
    return "-".join(map(str, case.values()))


def test_the_grid_holds_every_pair_of_values():
    for a, b in itertools.combinations(FACTORS, 2):
        wanted = set(itertools.product(FACTORS[a], FACTORS[b]))
        assert {(case[a], case[b]) for case in GRID} == wanted


@pytest.mark.parametrize("case", GRID, ids=label)
def test_gradients_are_those_of_one_device(case):
    model = freeze(decoder(case["tied"]), case["frozen"])
    pair = case["loss"] == "pair"
    pipeline = Pipeline(
        model,
        split(6, case["p"], case["sizes"]),
        [CPU] * case["p"],
        schedule=case["schedule"],
        num_microbatches=case["m"],
        loss_fn=sum_and_count if pair else None,
        clock=case["clock"],
        recompute=case["recompute"],
    )
    result = pipeline.step(*text(case["data"]))
    looped, whole, loss = oracle(case["tied"], case["frozen"], case["data"], case["m"], pair)
    assert_same(gradients(model), looped)
    assert_close(gradients(model), whole)
    assert result.loss == pytest.approx(loss, rel=1e-6)
    assert result.timeline.clock == case["clock"]


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("name", ["naive", "gpipe"])
@pytest.mark.parametrize(("ranks", "sizes"), [(1, [2, 4]), (2, [1, 2, 1, 2]), (3, [1] * 6)])
@pytest.mark.parametrize("tied", ["ends", "blocks"])
def test_several_stages_on_a_rank(clock, name, ranks, sizes, tied):
    model = decoder(tied)
    pipeline = Pipeline(model, sizes, [CPU] * ranks, schedule=name, num_microbatches=4, clock=clock)
    pipeline.step(*text("ragged"))
    assert pipeline.schedule.stage_to_rank == tuple(s % ranks for s in range(len(sizes)))
    assert_same(gradients(model), oracle(tied, "no", "ragged", 4, False)[0])


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("tied", ["no", "ends"])
@pytest.mark.parametrize(
    ("name", "ranks", "sizes"),
    [
        ("interleaved", 1, [2, 4]),
        ("interleaved", 2, [1, 2, 1, 2]),
        ("interleaved", 3, [1] * 6),
        ("zb-h1", 1, [6]),
        ("zb-h1", 3, [2, 2, 2]),
        ("zb-h2", 4, [1, 2, 2, 1]),
        ("zb-v", 1, [3, 3]),
        ("zb-v", 2, [1, 2, 1, 2]),
        ("zb-v", 3, [1] * 6),
    ],
)
def test_every_named_schedule_runs(clock, tied, name, ranks, sizes):
    model = decoder(tied)
    pipeline = Pipeline(model, sizes, [CPU] * ranks, schedule=name, num_microbatches=4, clock=clock)
    result = pipeline.step(*text("ragged"))
    assert pipeline.schedule.name == name
    assert_same(gradients(model), oracle(tied, "no", "ragged", 4, False)[0])
    kinds = {span.action.kind for span in result.timeline.spans}
    assert kinds == (set("FIW") if name.startswith("zb") else set("FB"))


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_schedule_finds_its_own_partition(name):
    """Without sizes, zb-v has two stages a rank and each other schedule one."""
    pipeline = Pipeline(decoder("no"), None, [CPU] * 2, schedule=name, num_microbatches=2)
    assert len(pipeline.stages) == (4 if name == "zb-v" else 2)
    pipeline.step(*text("ragged"))


def test_i_computes_no_weight_gradient_and_w_no_forward():
    """A linear layer is one product in F, one in I for its input, one in W for its weight."""

    class Products(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.seen = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
                self.seen.append(function)
            return function(*args, **(kwargs or {}))

    torch.manual_seed(0)
    layers = [nn.Linear(4, 4, bias=False) for _ in range(3)]
    stage = Stage(0, layers, 0, torch.device("cpu"))
    stage.begin()
    with Products() as forward:
        outputs, held = stage.forward(torch.randn(2, 4), True, (0, 0, 0), None, True)
    with Products() as first:
        found, _ = stage.backward_input(held, torch.ones_like(outputs), {})
    assert found is not None
    assert [layer.weight.grad for layer in layers] == [None] * 3
    with Products() as second:
        stage.backward_weight(held, {})
    assert [len(products.seen) for products in (forward, first, second)] == [3, 3, 3]
    assert all(layer.weight.grad is not None for layer in layers)


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("tied", ["no", "ends"])
def test_any_legal_order(seed, tied, random_schedule):
    """Each stage adds up in the order of its own B and W, so each is held to its own loop."""
    chance = random.Random(seed)
    schedule = random_schedule(chance)
    model = decoder(tied)
    sizes = split(6, schedule.num_stages, "even")
    pipeline = Pipeline(model, sizes, schedule=schedule, clock=CLOCKS[seed % 2])
    inputs, targets = text("ragged")
    pipeline.step(inputs, targets)
    for stage in pipeline.stages:
        own = schedule.orders[schedule.stage_to_rank[stage.index]]
        order = [a.microbatch for a in own if a.stage == stage.index and a.kind in "BW"]
        reference = decoder(tied)
        loop(reference, inputs, targets, schedule.num_microbatches, order=order)
        for number in range(stage.first_layer, stage.first_layer + len(stage.layers)):
            for name, weight in model.layers[number].named_parameters():
                expected = reference.layers[number].get_parameter(name)
                if tied == "no" or weight is not model.layers[0].token.weight or number == 0:
                    assert torch.equal(weight.grad, expected.grad), (stage.index, name)


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("clock", CLOCKS)
def test_a_mean_over_floats_is_weighed_by_samples(p, clock):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    reference = copy.deepcopy(model)
    inputs, targets = torch.randn(7, 4), torch.randn(7, 3)
    pipeline = Pipeline(
        model, [1] * p if p == 3 else [3], [CPU] * p, num_microbatches=3, loss_fn=F.mse_loss,
        clock=clock,
    )  # fmt: skip
    result = pipeline.step(inputs, targets)  # micro-batches of 3, 2 and 2 samples
    for x, y in zip(inputs.tensor_split(3), targets.tensor_split(3), strict=True):
        (F.mse_loss(reference(x), y) * (len(x) / 7)).backward()
    assert_same(gradients(model), gradients(reference))
    assert result.loss == pytest.approx(F.mse_loss(reference(inputs), targets).item(), rel=1e-6)


@pytest.mark.parametrize("count", [float, int, torch.tensor])
def test_a_pair_divides_by_the_whole_count(count):
    """The counts here have nothing to do with targets or samples: only the function knows them."""
    model = nn.Linear(4, 2)
    reference = copy.deepcopy(model)
    inputs, targets = torch.randn(6, 4), torch.tensor([0, 3, 0, 0, 1, 2])

    def weighed(outputs, wanted):
        return (outputs.sum(1) * wanted).sum(), count(wanted.sum().item())

    result = Pipeline([model], [1], [CPU], num_microbatches=3, loss_fn=weighed).step(
        inputs, targets
    )
    loss = (reference(inputs).sum(1) * targets).sum() / 6
    loss.backward()
    assert result.loss == pytest.approx(loss.item(), rel=1e-5)
    assert_close(gradients(model), gradients(reference))


# ---- randomness, precision ---------------------------------------------------------------------


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, dropout=0.3, batch_first=True)

    def forward(self, x):
        return x + self.attention(x, x, x, need_weights=False)[0]


def with_dropout():
    model = decoder("ends", dropout=0.3)
    model.insert(2, SelfAttention())
    return model


@functools.cache
def dropped(m, steps=1):
    """The gradients and the losses of one stage on one rank, under the seed 5."""
    model = with_dropout()
    pipeline = Pipeline(model, [7], [CPU], num_microbatches=m, schedule="naive", seed=5)
    losses = [pipeline.step(*text("ragged")).loss for _ in range(steps)]
    return gradients(model), losses


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("sizes", "m", "schedule"), [([7], 2, "1f1b"), ([2, 1, 4], 4, "1f1b"), ([1] * 7, 4, "gpipe")]
)
def test_a_cut_changes_no_dropout(clock, recompute, sizes, m, schedule):
    model = with_dropout()
    Pipeline(
        model, sizes, [CPU] * len(sizes), schedule=schedule, num_microbatches=m, clock=clock,
        recompute=recompute, seed=5,
    ).step(*text("ragged"))  # fmt: skip
    assert_same(gradients(model), dropped(m)[0])


def test_dropout_differs_between_steps_layers_and_seeds():
    _, losses = dropped(4, steps=3)
    assert len(set(losses)) == 3
    other = Pipeline(with_dropout(), [7], [CPU], num_microbatches=4, schedule="naive", seed=6)
    assert other.step(*text("ragged")).loss not in losses


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_without_a_seed_torch_draws_one_for_a_step_with_dropout(dropout):
    def run():
        torch.manual_seed(9)
        pipeline = Pipeline(copy.deepcopy(model), [3, 3], [CPU] * 2, num_microbatches=2)
        return pipeline.step(*text()).loss, torch.randn(1).item()

    model = decoder("no", dropout)
    torch.manual_seed(9)
    untouched = torch.randn(1).item()
    assert run() == run()
    assert (run()[1] == untouched) == (dropout == 0)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("tied", ["no", "ends"])
def test_autocast_reaches_every_rank(clock, recompute, tied):
    inputs, targets = text("ragged")
    model, looped, whole = decoder(tied), decoder(tied), decoder(tied)
    pipeline = Pipeline(
        model, [2, 1, 3], [CPU] * 3, num_microbatches=4, clock=clock, recompute=recompute
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = pipeline.step(inputs, targets)
        loop(looped, inputs, targets, 4)
        loss = mean_loss(whole(inputs), targets)
    loss.backward()
    assert_same(gradients(model), gradients(looped))
    assert_close(gradients(model), gradients(whole), 2e-2)
    assert result.loss == pytest.approx(loss.item(), rel=1e-2)
    plain = decoder(tied)
    Pipeline(plain, [2, 1, 3], [CPU] * 3, num_microbatches=4).step(inputs, targets)
    assert not torch.equal(plain.layers[2].attention.output.weight.grad,
                           model.layers[2].attention.output.weight.grad)  # fmt: skip


# ---- gradients that are there already, gradients of the inputs ---------------------------------


@pytest.mark.parametrize("clock", CLOCKS)
def test_gradients_of_two_steps_add_up_where_they_are(clock):
    model = decoder("ends")
    pipeline = Pipeline(model, [3, 3], [CPU] * 2, num_microbatches=3, clock=clock)
    inputs, targets = text("ragged")
    pipeline.step(inputs, targets)
    first = gradients(model)
    once = {name: gradient.clone() for name, gradient in first.items()}
    pipeline.step(inputs.flip(0), targets.flip(0))
    assert all(now is first[name] for name, now in gradients(model).items())
    reference = decoder("ends")
    loop(reference, inputs.flip(0), targets.flip(0), 3)
    assert_same(gradients(model), {n: once[n] + g for n, g in gradients(reference).items()})


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("frozen", ["no", "all"])
def test_inputs_that_want_a_gradient_get_one(clock, pair, frozen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, VOCABULARY))
    model.requires_grad_(frozen == "no")
    inputs = torch.randn(5, 4, requires_grad=True)
    targets = torch.tensor([1, -100, -100, 3, 4])  # the second of 3 micro-batches counts nothing
    embed = nn.Linear(4, 4)
    reference = copy.deepcopy(embed), inputs.detach().clone().requires_grad_()
    mean_loss(model(reference[0](reference[1])), targets).backward()
    model.zero_grad()
    pipeline = Pipeline(
        model, [1, 2], [CPU] * 2, num_microbatches=3, clock=clock,
        loss_fn=sum_and_count if pair else None,
    )  # fmt: skip
    pipeline.step(embed(inputs), targets)  # not a leaf: the gradient goes on to `embed`
    torch.testing.assert_close(inputs.grad, reference[1].grad)
    torch.testing.assert_close(embed.weight.grad, reference[0].weight.grad)
    leaf = embed(inputs).detach().requires_grad_()
    pipeline.step(leaf, targets)
    torch.testing.assert_close(leaf.grad @ embed.weight.detach(), inputs.grad)


# ---- a module like any other -------------------------------------------------------------------


@pytest.mark.parametrize("tied", ["ends", "blocks"])
def test_calling_it_gives_the_outputs_and_gradients_of_the_undivided_model(tied):
    model, reference = decoder(tied), decoder(tied)
    pipeline = Pipeline(model, [1, 2, 1, 2], [CPU] * 4)
    inputs, targets = text()
    outputs = pipeline(inputs)
    assert torch.equal(outputs, reference(inputs))
    mean_loss(outputs, targets).backward()
    mean_loss(reference(inputs), targets).backward()
    assert_same(gradients(model), gradients(reference))
    with torch.no_grad():
        assert torch.equal(pipeline(inputs), outputs)


def test_eval_switches_dropout_off():
    pipeline = Pipeline(with_dropout(), [3, 4], [CPU] * 2).eval()
    inputs, targets = text()
    reference = with_dropout().eval()
    assert torch.equal(pipeline(inputs), reference(inputs))
    assert pipeline.step(inputs, targets).loss == pytest.approx(
        mean_loss(reference(inputs), targets).item()
    )
    assert not torch.equal(pipeline.train()(inputs), reference(inputs))


@pytest.mark.parametrize("tied", ["no", "ends", "blocks"])
def test_the_state_loads_anywhere(tied):
    model = decoder(tied)
    plain = nn.Sequential(*decoder(tied).layers)
    pipeline = Pipeline(model, [2, 2, 2], [CPU] * 3)
    assert list(pipeline.state_dict()) == list(plain.state_dict())
    for weight in model.parameters():
        nn.init.normal_(weight)
    plain.load_state_dict(pipeline.state_dict())
    assert torch.equal(plain(text()[0]), pipeline(text()[0]))
    other = Pipeline(decoder(tied), [1, 5], [CPU] * 2)
    other.load_state_dict(plain.state_dict())
    assert torch.equal(other(text()[0]), pipeline(text()[0]))
    assert other.step(*text()).loss == pipeline.step(*text()).loss


@pytest.mark.parametrize("tied", ["no", "ends", "blocks"])
def test_a_tied_weight_is_one_parameter(tied):
    model = decoder(tied)
    before = [id(weight) for weight in model.parameters()]
    pipeline = Pipeline(model, [1] * 6, [CPU] * 6, num_microbatches=2)
    pipeline.step(*text())
    assert [id(weight) for weight in pipeline.parameters()] == before
    assert [id(weight) for weight in model.parameters()] == before
    assert len(set(before)) == len(before)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("tied", ["no", "ends", "blocks"])
def test_an_optimizer_trains_it_like_the_undivided_model(clock, tied):
    model, reference = decoder(tied), decoder(tied)
    pipeline = Pipeline(model, [1, 2, 2, 1], [CPU] * 4, num_microbatches=4, clock=clock)
    ours = torch.optim.AdamW(model.parameters(), lr=0.02)
    theirs = torch.optim.AdamW(reference.parameters(), lr=0.02)
    inputs, targets = text("ragged")
    losses = []
    for _ in range(5):
        ours.zero_grad()
        theirs.zero_grad()
        losses.append(pipeline.step(inputs, targets).loss)
        loop(reference, inputs, targets, 4)
        ours.step()
        theirs.step()
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.equal(a, b)
    assert losses[-1] < losses[0]


def test_a_copy_is_a_pipeline_of_its_own():
    pipeline = Pipeline(decoder("ends"), [3, 3], [CPU] * 2, num_microbatches=2)
    twin = copy.deepcopy(pipeline)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
    assert twin.step(*text()).loss == pytest.approx(torch.tensor(float(VOCABULARY)).log().item())
    assert pipeline.layers[0].token.weight.grad is None
    assert pipeline.step(*text()).loss != twin.step(*text()).loss


def test_a_change_of_type_reaches_the_shadows():
    pipeline = Pipeline(decoder("ends"), [3, 3], [CPU] * 2, num_microbatches=2).double()
    pipeline.step(*text())
    assert pipeline.layers[0].token.weight.grad.dtype == torch.float64


@pytest.mark.parametrize("clock", CLOCKS)
def test_one_microbatch_may_pass_a_batch_norm(clock):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, VOCABULARY))
    reference = copy.deepcopy(model)
    inputs, targets = torch.randn(6, 4), torch.arange(6)
    Pipeline(model, [1, 1, 1], [CPU] * 3, clock=clock).step(inputs, targets)
    mean_loss(reference(inputs), targets).backward()
    assert_same(gradients(model), gradients(reference))
    assert torch.equal(model[1].running_var, reference[1].running_var)


def test_gradients_of_complex_activations_cross_too():
    class Spectrum(nn.Module):
        def __init__(self, back):
            super().__init__()
            self.weight, self.back = nn.Parameter(torch.linspace(1, 2, WIDTH // 2 + 1)), back

        def forward(self, x):
            return torch.fft.irfft(x * self.weight) if self.back else torch.fft.rfft(x)

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, WIDTH), Spectrum(False), Spectrum(True), nn.Linear(WIDTH, VOCABULARY)
    )
    reference = copy.deepcopy(model)
    inputs, targets = torch.randn(6, 4), torch.arange(6)
    result = Pipeline(model, [2, 2], [CPU] * 2).step(inputs, targets)
    mean_loss(reference(inputs), targets).backward()
    assert_same(gradients(model), gradients(reference))
    assert result.bytes_moved == 2 * 6 * (WIDTH // 2 + 1) * 8


def test_sparse_gradients_add_up_and_divide():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 4, sparse=True), nn.Linear(4, VOCABULARY))
    reference = copy.deepcopy(model)
    inputs, targets = text()
    Pipeline(model, [1, 1], [CPU] * 2, num_microbatches=3, loss_fn=sum_and_count).step(
        inputs, targets
    )
    loop(reference, inputs, targets, 3, pair=True)
    found, wanted = model[0].weight.grad, reference[0].weight.grad
    assert found.is_sparse
    torch.testing.assert_close(found.to_dense(), wanted.to_dense())


# ---- what a step holds on to -------------------------------------------------------------------


class Watched(nn.Module):
    """Notes how many of its outputs are still in memory, each time it has made another one."""

    def __init__(self, outputs, alive):
        super().__init__()
        self.outputs, self.alive = outputs, alive

    def forward(self, x):
        y = x * 1.0
        self.outputs.append(StorageWeakRef(y.untyped_storage()))
        self.alive.append(sum(not output.expired() for output in self.outputs))
        return y


def test_activations_that_crossed_are_let_go():
    """1F1B with 9 micro-batches holds as many of them as there are ranks, not 9."""
    alive = []
    layers = [nn.Linear(4, 4), Watched([], alive), nn.Linear(4, 4)]
    options = {"num_microbatches": 9, "clock": "virtual", "probe": False}
    pipeline = Pipeline(layers, [2, 1], [CPU] * 2, **options)
    pipeline.step(torch.randn(9, 4), torch.zeros(9, dtype=torch.long))
    assert len(alive) == 9
    assert max(alive) == 2


def test_recompute_does_not_hold_what_lies_between_the_layers():
    outputs, alive = [], []
    layers = [nn.Linear(4, 4), *(Watched(outputs, alive) for _ in range(5)), nn.Linear(4, 4)]
    pipeline = Pipeline(layers, [7], [CPU], recompute=True, probe=False)
    pipeline.step(torch.randn(3, 4), torch.zeros(3, dtype=torch.long))
    assert max(alive) == 2  # a layer's input and its output
    outputs.clear()
    alive.clear()
    with torch.no_grad():
        pipeline(torch.randn(3, 4))
    assert max(alive) == 2


def test_a_pipeline_is_freed_without_the_garbage_collector():
    pipeline = Pipeline(decoder("ends"), [3, 3], [CPU] * 2, num_microbatches=2, clock="wall")
    pipeline.step(*text())
    gc.collect()
    gc.disable()
    try:
        weight = weakref.ref(pipeline.layers[0].token.weight)
        del pipeline
        assert weight() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("schedule", "chunks"), [("naive", 1), ("gpipe", 2), (build_schedule("1f1b", 2, 3), 1)]
)
def test_a_pipeline_prints_how_it_is_cut(schedule, chunks):
    sizes = [3] * 2 if chunks == 1 else [2, 1, 1, 2]
    pipeline = Pipeline(decoder("no"), sizes, [CPU] * 2, schedule=schedule, num_microbatches=3)
    name = schedule if isinstance(schedule, str) else schedule.name
    assert str(sizes)[1:-1] in repr(pipeline)
    assert "devices=[cpu, cpu]" in repr(pipeline)
    assert name in repr(pipeline)
