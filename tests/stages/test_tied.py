"""Tied weights: one Parameter at home, and shadows that stand in for it on other stages."""

import itertools
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lpart.machine.hardware import threads
from d2lpart.pipeline.engine import PipelineError
from d2lpart.pipeline.pipeline import Pipeline
from d2lpart.stages.tied import Shadow, find_shadows, standing_in, take_gradients

CPU, META = torch.device("cpu"), torch.device("meta")
CLOCKS = ["wall", "virtual"]
WIDTH, SAMPLES = 4, 6


@pytest.fixture(autouse=True)
def one_thread():
    with threads(1):
        yield


def sharing(*groups, layers=6):
    """Linear layers; those of one group share a weight."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(layers)))
    for first, *others in groups:
        for other in others:
            model[other].weight = model[first].weight
    return model


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(SAMPLES, WIDTH, generator=generator), torch.arange(SAMPLES) % WIDTH


def looped(model, m):
    inputs, targets = data()
    for x, y in zip(inputs.tensor_split(m), targets.tensor_split(m), strict=True):
        (F.cross_entropy(model(x), y) * (len(y) / SAMPLES)).backward()
    return [weight.grad for weight in model.parameters()]


def gradients(model):
    return [weight.grad for weight in model.parameters()]


def stages(model, sizes):
    bounds = [0, *itertools.accumulate(sizes)]
    return [list(model[a:b]) for a, b in itertools.pairwise(bounds)]


# ---- who is at home where ----------------------------------------------------------------------


def test_the_first_stage_that_uses_a_weight_is_its_home():
    model = sharing([0, 4], [2, 3, 5])
    shadows, homes = find_shadows(stages(model, [2, 1, 2, 1]), [CPU] * 4)
    assert [[w is model[0].weight for w in own] for own in homes] == [[True], [False], [], []]
    assert homes[1][0] is model[2].weight
    assert [[(s.module, s.name, s.home) for s in own] for own in shadows] == [
        [],
        [],
        [(model[3], "weight", model[2].weight), (model[4], "weight", model[0].weight)],
        [(model[5], "weight", model[2].weight)],
    ]


def test_a_weight_tied_within_one_stage_needs_no_shadow():
    assert find_shadows(stages(sharing([1, 2]), [3, 3]), [CPU] * 2) == ([[], []], [[], []])
    assert find_shadows(stages(sharing(), [3, 3]), [CPU] * 2) == ([[], []], [[], []])


def test_two_uses_in_one_foreign_stage_share_a_shadow():
    shadows, _ = find_shadows(stages(sharing([0, 3, 4]), [2, 4]), [CPU] * 2)
    first, second = shadows[1]
    assert first.stand_in is second.stand_in
    assert first.module is not second.module


def test_shadows_are_on_their_stages_device():
    shadows, _ = find_shadows(stages(sharing([0, 3]), [2, 4]), [CPU, META])
    assert shadows[1][0].stand_in.device == META
    assert shadows[1][0].home.device == CPU


def test_a_buffer_cannot_be_on_two_devices():
    shared = nn.BatchNorm1d(WIDTH, affine=False)
    cut = [[nn.Linear(WIDTH, WIDTH), shared], [shared]]
    find_shadows(cut, [CPU, CPU])
    with pytest.raises(ValueError, match=r"^stages 0 and 1 hold the same module BatchNorm1d: keep"):
        find_shadows(cut, [CPU, META])


# ---- a shadow ----------------------------------------------------------------------------------


def shadow(place=CPU, **options):
    module = nn.Linear(WIDTH, WIDTH)
    home = module.weight
    stand_in = nn.Parameter(torch.zeros(WIDTH, WIDTH, device=place), **options)
    return Shadow(module, "weight", home, stand_in)


def test_refreshing_takes_over_the_numbers():
    here, there = shadow(), shadow(META)
    assert here.refresh() == 0
    assert here.stand_in.data_ptr() == here.home.data_ptr()  # nothing is copied
    assert there.refresh() == 4 * WIDTH * WIDTH
    assert there.stand_in.device == META
    here.home.data = torch.full((WIDTH, WIDTH), 7.0)  # as an optimizer or `module.to` may do
    here.refresh()
    assert here.stand_in.eq(7).all()


def test_refreshing_takes_over_frozenness_and_type():
    one = shadow()
    for wants in (False, True):
        one.home.requires_grad_(wants)
        one.refresh()
        assert one.stand_in.requires_grad is wants
    one.module.double()
    one.refresh()
    assert one.stand_in.dtype == torch.float64


def test_a_replaced_weight_is_noticed():
    model = sharing([0, 5])
    pipeline = Pipeline(model, [3, 3], [CPU] * 2)
    state = {name: tensor.clone() for name, tensor in pipeline.state_dict().items()}
    pipeline.load_state_dict(state)
    pipeline.step(*data())
    pipeline.load_state_dict(state, assign=True)
    said = (
        r"^the tied weight of Linear has been replaced since the pipeline was built: build it anew"
    )
    for use in (lambda: pipeline.step(*data()), lambda: pipeline(data()[0])):
        with pytest.raises(ValueError, match=said):
            use()
    plain = nn.Sequential(*model)
    assert torch.equal(Pipeline(plain, [3, 3], [CPU] * 2)(data()[0]), plain(data()[0]))


def test_refreshing_forgets_the_gradient_of_a_failed_step():
    one = shadow()
    one.stand_in.grad = torch.ones(WIDTH, WIDTH)
    one.refresh()
    assert one.stand_in.grad is None


def test_a_shadow_stands_in_for_as_long_as_the_context_lasts():
    one = shadow()
    with standing_in([one]):
        assert one.module.weight is one.stand_in
    assert one.module.weight is one.home
    with pytest.raises(KeyError), standing_in([one]):
        raise KeyError
    assert one.module.weight is one.home
    with standing_in([one], through_home=True):
        assert one.module.weight is one.home  # on one device there is nothing to copy


def test_gradients_are_taken_once_and_by_their_parameter():
    one, two = shadow(), shadow()
    one.stand_in.grad = gradient = torch.ones(WIDTH, WIDTH)
    taken = take_gradients([one, two])
    assert list(taken) == [one.home]
    assert taken[one.home] is gradient
    assert take_gradients([one, two]) == {}


# ---- in a pipeline -----------------------------------------------------------------------------

CUTS = [[6], [3, 3], [1, 5], [5, 1], [2, 2, 2], [1, 1, 1, 1, 1, 1], [1, 2, 2, 1]]
TIES = [
    [[0, 5]],  # the ends
    [[0, 3, 5]],
    [[0, 1, 5]],  # two uses at home, one elsewhere
    [[0, 4, 5]],
    [[0, 1, 4, 5]],
    [[1, 2, 3, 4]],
    [[0, 5], [1, 3]],
    [[2, 3], [0, 4, 5]],
    [[0, 1, 2, 3, 4, 5]],
]


@pytest.mark.parametrize("groups", TIES, ids=str)
@pytest.mark.parametrize("recompute", [False, True])
def test_every_cut_adds_up_as_the_undivided_model_does(groups, recompute):
    for number, sizes in enumerate(CUTS):
        for m in (1, 3):
            model = sharing(*groups)
            Pipeline(
                model, sizes, [CPU] * len(sizes), num_microbatches=m, recompute=recompute,
                clock=CLOCKS[(number + m // 2) % 2], schedule=["1f1b", "gpipe"][number % 2],
            ).step(*data())  # fmt: skip
            wanted = looped(sharing(*groups), m)
            assert all(map(torch.equal, gradients(model), wanted)), (sizes, m)


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_frozen_tied_weight_gets_no_gradient(clock):
    model, reference = sharing([0, 5]), sharing([0, 5])
    for one in (model, reference):
        one[0].weight.requires_grad_(False)
    pipeline = Pipeline(model, [2, 2, 2], [CPU] * 3, num_microbatches=3, clock=clock)
    result = pipeline.step(*data())
    wanted = looped(reference, 3)
    assert gradients(model)[0] is wanted[0] is None
    assert all(map(torch.equal, gradients(model)[1:], wanted[1:]))
    assert result.tied_bytes == 0


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_weight_whose_only_use_at_home_is_cut_off_still_gets_its_gradient(clock):
    """The first use does not reach the loss, so all of the gradient comes from the shadow."""

    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            return x * 1.0

    def build():
        torch.manual_seed(0)
        model = nn.Sequential(Unused(), nn.Tanh(), nn.Linear(WIDTH, WIDTH))
        model[2].weight = model[0].inner.weight
        return model

    model = build()
    Pipeline(model, [1, 1, 1], [CPU] * 3, num_microbatches=2, clock=clock).step(*data())
    assert torch.equal(model[2].weight.grad, looped(build(), 2)[0])
    assert model[0].inner.bias.grad is None


@pytest.mark.parametrize("clock", CLOCKS)
def test_bytes_of_tied_weights_are_counted_between_ranks(clock):
    size, m = 4 * WIDTH * WIDTH, 3

    def moved(groups, sizes, ranks):
        pipeline = Pipeline(
            sharing(*groups),
            sizes,
            [CPU] * ranks,
            num_microbatches=m,
            clock=clock,
            schedule="gpipe",
        )
        return pipeline.step(*data()).tied_bytes

    assert moved([[0, 5]], [3, 3], 2) == m * size  # gradients; on one device no weight is sent
    assert moved([[0, 3, 5]], [2, 2, 2], 3) == 2 * m * size
    assert moved([[0, 4, 5]], [3, 3], 2) == m * size  # two uses, one shadow
    assert moved([[0, 2]], [3, 3], 2) == 0
    assert moved([[0, 4]], [2, 2, 2], 1) == 0
    assert moved([[0, 4]], [2, 1, 2, 1], 2) == 0  # stages 0 and 2 are on rank 0
    assert moved([[0, 2, 4]], [2, 1, 2, 1], 2) == 2 * m * size  # by way of stage 1, on rank 1


@pytest.mark.parametrize("clock", CLOCKS)
def test_hooks_of_a_tied_weight_see_the_whole_gradient(clock):
    model, seen = sharing([0, 3, 5]), []
    model[0].weight.register_hook(lambda gradient: seen.append(gradient.clone()))
    Pipeline(model, [2, 2, 2], [CPU] * 3, clock=clock).step(*data())
    assert len(seen) == 1
    assert torch.equal(seen[0], looped(sharing([0, 3, 5]), 1)[0])


class Fuse(torch.autograd.Function):
    """Fails in the backward while it is lit."""

    lit = False

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if Fuse.lit:
            raise RuntimeError("the fuse has burnt")
        return gradient


class Burning(nn.Module):
    def forward(self, x):
        return Fuse.apply(x)


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_failed_backward_leaves_nothing_in_the_shadows(clock, monkeypatch):
    """The shadow of the last layer has its gradient already when the layer before it fails."""

    def build():
        model = sharing([0, 5])
        model[4] = Burning()
        return model

    model = build()
    pipeline = Pipeline(model, [3, 3], [CPU] * 2, num_microbatches=2, clock=clock)
    monkeypatch.setattr(Fuse, "lit", True)
    with pytest.raises(PipelineError, match="the fuse has burnt"):
        pipeline.step(*data())
    assert all(module.weight is model[0].weight for module in (model[0], model[5]))
    monkeypatch.setattr(Fuse, "lit", False)
    pipeline.step(*data())
    assert all(map(torch.equal, gradients(model), looped(build(), 2)))


def test_other_threads_never_see_a_shadow_in_a_module_of_another_stage():
    """While stage 1 computes with its shadow, the module of stage 0 has the parameter itself."""
    model, seen = sharing([0, 5]), []

    class Looks(nn.Module):
        def forward(self, x):
            seen.append((model[0].weight is home, model[5].weight is home))
            return x

    home = model[0].weight
    model[4] = Looks()
    options = {"num_microbatches": 2, "clock": "wall", "probe": False}
    Pipeline(model, [3, 3], [CPU] * 2, **options).step(*data())
    assert seen == [(True, False)] * 2
    assert model[5].weight is home


def test_shadows_die_with_their_pipeline():
    model = sharing([0, 5])
    pipeline = Pipeline(model, [3, 3], [CPU] * 2)
    stand_in = weakref.ref(pipeline.stages[1].shadows[0].stand_in)
    pipeline.step(*data())
    del pipeline
    assert stand_in() is None
    assert model[5].weight is model[0].weight
