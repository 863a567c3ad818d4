"""Keyed dropout: the masks hang on the key alone, and otherwise it is torch's own dropout."""

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2lpart.models.decoder import Block, Decoder
from d2lpart.stages.keyed_dropout import generator_seed, keyed_randomness, uses_randomness

CPU = torch.device("cpu")
KEY = (0, 1, 2)
DROPOUTS = [  # each with a shape that has 2000 things to drop or keep
    (F.dropout, (40, 50)),
    (torch.dropout, (40, 50)),
    (torch.dropout_, (40, 50)),
    (F.dropout1d, (40, 50, 3)),
    (F.dropout1d, (2000, 3)),
    (F.dropout2d, (40, 50, 3, 2)),
    (F.dropout3d, (40, 50, 3, 2, 2)),
    (F.dropout3d, (2000, 3, 2, 2)),
    (torch.feature_dropout, (40, 50, 3)),
    (F.alpha_dropout, (40, 50)),
    (torch.alpha_dropout, (40, 50)),
    (F.feature_alpha_dropout, (40, 50, 3)),
]
MODULES = [
    nn.Dropout(0.5),
    nn.Dropout1d(0.5),
    nn.AlphaDropout(0.5),
    nn.FeatureAlphaDropout(0.5),
    nn.TransformerEncoderLayer(8, 2, 16, 0.5, batch_first=True),
    nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.5, batch_first=True), 2),
    Block(8, 2, dropout=0.5),
]


def keyed(function, *arguments, key=KEY, **options):
    with keyed_randomness(*key):
        return function(*arguments, **options)


@pytest.mark.parametrize(("drop", "shape"), DROPOUTS)
def test_the_key_decides_and_the_global_generator_is_untouched(drop, shape):
    def dropped(key):
        return keyed(drop, torch.ones(shape), 0.5, True, key=key)

    before = torch.get_rng_state()
    first = dropped(KEY)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    assert torch.equal(first, dropped(KEY))
    for key in [(0, 1, 3), (0, 2, 2), (1, 1, 2), (0, 1), (0, 1, 2, 0), (0, 12)]:
        assert not torch.equal(first, dropped(key)), key


@pytest.mark.parametrize(("drop", "shape"), DROPOUTS)
@pytest.mark.parametrize("p", [0.1, 0.75])
def test_it_drops_what_torch_drops_and_scales_as_torch_scales(drop, shape, p):
    theirs, ours = drop(torch.ones(shape), p, True), keyed(drop, torch.ones(shape), p, True)
    torch.testing.assert_close(ours.unique(), theirs.unique())
    for dimension in range(len(shape)):  # channels go together in ours where they do in theirs
        varies = [not torch.equal(x.amin(dimension), x.amax(dimension)) for x in (ours, theirs)]
        assert varies[0] == varies[1], dimension
    assert (ours == ours.min()).float().mean().item() == pytest.approx(p, abs=0.04)


@pytest.mark.parametrize(("drop", "shape"), DROPOUTS)
@pytest.mark.parametrize(("p", "train"), [(0.0, True), (0.5, False), (1.0, True)])
def test_the_certain_cases_are_torchs_own(drop, shape, p, train):
    x = torch.randn(shape)
    assert torch.equal(keyed(drop, x.clone(), p, train), drop(x.clone(), p, train))


@pytest.mark.parametrize(("drop", "shape"), DROPOUTS)
def test_the_gradient_passes_where_the_value_does(drop, shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(keyed(drop, x.clone(), 0.75, True).sum(), x)
    zero, one = (
        keyed(drop, torch.full(shape, value, dtype=torch.float64), 0.75, True)
        for value in (0.0, 1.0)
    )
    torch.testing.assert_close(gradient, one - zero)  # dropout is linear in its input


def test_what_is_kept_is_divided_by_the_chance_to_be_kept():
    x = torch.randn(1000)
    dropped = keyed(F.dropout, x, 0.2)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], x[kept] / 0.8)


@pytest.mark.parametrize(
    ("drop", "shape"), [case for case in DROPOUTS if case[0].__module__ == F.__name__]
)
def test_in_place_it_writes_the_same_values_into_its_input(drop, shape):
    x = torch.randn(shape)
    expected = keyed(drop, x, 0.5, True)
    result = keyed(drop, x, 0.5, True, inplace=True)
    assert result.data_ptr() == x.data_ptr()
    assert torch.equal(x, expected)


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_a_probability_is_a_probability(p):
    with pytest.raises(ValueError, match=f"dropout of {p}.*from 0 to 1"):
        keyed(F.dropout, torch.ones(3), p)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_a_module_in_training_follows_the_key_and_not_the_global_seed(module):
    x = torch.randn(4, 6, 8)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = keyed(module, x)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, keyed(module, x))
    assert not torch.equal(first, keyed(module, x, key=(5,)))
    assert uses_randomness(module)


@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention_drops_its_weights_by_the_key(need_weights):
    attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
    x = torch.randn(4, 6, 8)

    def run(seed, *key):
        torch.manual_seed(seed)
        return keyed(attention, x, x, x, need_weights=need_weights, key=key)[0]

    assert torch.equal(run(1, 3), run(2, 3))
    assert not torch.equal(run(1, 3), run(1, 4))
    attention.dropout = 0.0
    exact = attention(x, x, x, need_weights=need_weights)[0]
    assert torch.equal(run(1, 3), exact)


def test_several_draws_in_one_context_differ_and_come_in_the_same_order():
    x = torch.ones(50)
    with keyed_randomness(*KEY):
        first, second = F.dropout(x), F.dropout(x)
    assert not torch.equal(first, second)
    with keyed_randomness(*KEY):
        assert torch.equal(F.dropout(x), first)
        assert torch.equal(F.dropout(x), second)


def test_the_inner_context_decides_and_the_outer_one_goes_on_after_it():
    x = torch.ones(50)
    with keyed_randomness(1):
        first, second = F.dropout(x), F.dropout(x)
    with keyed_randomness(1):
        assert torch.equal(F.dropout(x), first)
        inner = keyed(F.dropout, x, key=(2,))
        assert torch.equal(F.dropout(x), second)
    assert torch.equal(inner, keyed(F.dropout, x, key=(2,)))


def test_what_it_does_not_know_still_draws_from_the_global_generator():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(keyed(torch.rand, 4), expected)


def test_threads_have_contexts_of_their_own():
    """Two threads hold contexts open at once, in lock-step, and a third has none."""
    x, meet, drawn = torch.ones(50), threading.Barrier(3, timeout=30), {}

    def work(name, key):
        with keyed_randomness(*key):
            meet.wait()
            masks = []
            for _ in range(20):
                masks.append(F.dropout(x))
                meet.wait()
            drawn[name] = torch.stack(masks)

    def work_without():
        meet.wait()
        for _ in range(20):
            F.dropout(x)
            meet.wait()

    threads = [
        threading.Thread(target=work, args=("a", (1,))),
        threading.Thread(target=work, args=("b", (2,))),
        threading.Thread(target=work_without),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, key in (("a", (1,)), ("b", (2,))):
        with keyed_randomness(*key):
            alone = torch.stack([F.dropout(x) for _ in range(20)])
        assert torch.equal(drawn[name], alone)


def test_a_context_here_does_not_reach_another_thread():
    before, seen = torch.get_rng_state(), []
    with keyed_randomness(*KEY):
        thread = threading.Thread(
            target=lambda: seen.extend([F.dropout(torch.ones(9)), torch.get_rng_state()])
        )
        thread.start()
        thread.join()
    assert not torch.equal(before, seen[1])


ATTENTION_CASES = [
    "plain",
    "three dimensions",
    "causal",
    "scaled",
    "mask",
    "mask of each head",
    "bias",
    "bias of minus infinity",
    "grouped",
]


def attention_case(name):
    """Queries, keys, values and options of one way to call attention."""
    generator = torch.Generator().manual_seed(4)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)

    looks = torch.rand(5, 7, generator=generator) < 0.6
    looks[2] = False  # one position that may look nowhere
    q, k, v = normal(2, 4, 5, 8), normal(2, 4, 7, 8), normal(2, 4, 7, 3)
    return {
        "plain": (q, k, v, {}),
        "three dimensions": (q[0], k[0], v[0], {}),
        "causal": (q, k, v, {"is_causal": True}),
        "scaled": (q, k, v, {"scale": 0.5}),
        "mask": (q, k, v, {"attn_mask": looks}),
        "mask of each head": (q, k, v, {"attn_mask": looks.expand(2, 4, 5, 7)}),
        "bias": (q, k, v, {"attn_mask": normal(5, 7)}),
        "bias of minus infinity": (
            q,
            k,
            v,
            {"attn_mask": torch.zeros(5, 7, dtype=q.dtype).masked_fill(~looks, -torch.inf)},
        ),
        "grouped": (q, k[:, :2], v[:, :2], {"enable_gqa": True}),
    }[name]


@pytest.mark.parametrize("name", ATTENTION_CASES)
def test_attention_with_dropout_is_torchs_own_under_the_same_mask(name):
    q, k, v, options = attention_case(name)
    mask = keyed_randomness(*KEY).draw((*q.shape[:-1], k.shape[-2]), 0.7, CPU)
    ours = keyed(F.scaled_dot_product_attention, q, k, v, dropout_p=0.3, **options)
    looks = options.get("attn_mask")
    if looks is not None and looks.dtype == torch.bool:
        # The inner function takes minus infinity where the outer one takes False.
        options["attn_mask"] = torch.zeros(looks.shape).double().masked_fill(~looks, -torch.inf)
    theirs = torch.ops.aten._scaled_dot_product_attention_math(
        q, k, v, dropout_p=0.3, dropout_mask=mask, **options
    )[0]
    assert_same_with_gradients(ours, theirs, (q, k, v))


@pytest.mark.parametrize("name", ATTENTION_CASES)
def test_attention_that_drops_next_to_nothing_is_the_fused_one(name):
    q, k, v, options = attention_case(name)
    ours = keyed(F.scaled_dot_product_attention, q, k, v, dropout_p=1e-12, **options)
    theirs = F.scaled_dot_product_attention(q, k, v, **options)
    assert_same_with_gradients(ours, theirs, (q, k, v))


def assert_same_with_gradients(ours, theirs, leaves):
    torch.testing.assert_close(ours, theirs)
    assert not ours.isnan().any()
    gradients = [torch.autograd.grad(x.pow(2).sum(), leaves) for x in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_attention_without_dropout_stays_fused():
    q, k, v, _ = attention_case("plain")
    fused = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.equal(keyed(F.scaled_dot_product_attention, q, k, v, is_causal=True), fused)


def test_attention_takes_one_mask():
    q, k, v, _ = attention_case("plain")
    with pytest.raises(ValueError, match="use 1 of the 2 masks"):
        keyed(
            F.scaled_dot_product_attention,
            q,
            k,
            v,
            torch.ones(5, 7, dtype=torch.bool),
            dropout_p=0.5,
            is_causal=True,
        )


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_low_precision_keeps_its_type(kind):
    q, k, v = (torch.randn(2, 4, 8).to(kind) for _ in range(3))
    mixed = keyed(F.scaled_dot_product_attention, q, k, v, dropout_p=0.5)
    assert mixed.dtype == keyed(F.dropout, q).dtype == kind
    exact = keyed(F.scaled_dot_product_attention, q.float(), k.float(), v.float(), dropout_p=0.5)
    torch.testing.assert_close(mixed.float(), exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("module", MODULES[4:], ids=lambda module: type(module).__name__)
def test_autocast_has_the_same_masks(module):
    x = torch.randn(4, 6, 8)
    exact = keyed(module, x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = keyed(module, x)
        assert torch.equal(rough, keyed(module, x))
    torch.testing.assert_close(rough.float(), exact, rtol=0.1, atol=0.1)


def test_a_cut_decoder_has_the_masks_of_the_whole_one():
    """A key for each layer: in any order and on any thread, the same output and gradients."""
    torch.manual_seed(0)
    model = Decoder(11, 8, 3, 2, context=6, dropout=0.4)
    tokens = torch.randint(11, (2, 6))

    def run(x, layers):
        for index in layers:
            with keyed_randomness(7, index):
                x = model.layers[index](x)
        return x

    whole = run(tokens, range(5))
    whole.sum().backward()
    expected = [weight.grad for weight in model.parameters()]
    model.zero_grad()
    middle = run(tokens, range(2))
    run(torch.randn(2, 6, 8), [3])  # another micro-batch in between
    result = []
    thread = threading.Thread(target=lambda: result.append(run(middle, range(2, 5))))
    thread.start()
    thread.join()
    assert torch.equal(result[0], whole)
    result[0].sum().backward()
    assert all(map(torch.equal, [weight.grad for weight in model.parameters()], expected))


def test_seeds_of_near_keys_are_far_apart_and_fit_a_generator():
    keys = [(seed, layer, batch) for seed in range(5) for layer in range(9) for batch in range(9)]
    seeds = [generator_seed(*key) for key in keys]
    assert len({seed % 2**32 for seed in seeds}) == len(keys)  # a CPU generator reads 32 bits
    assert 0 <= min(seeds) <= max(seeds) < 2**63
    assert sum(seed % 2 for seed in seeds) == pytest.approx(len(seeds) / 2, rel=0.2)
    assert generator_seed(1, 23) != generator_seed(12, 3) != generator_seed(1, 2, 3)
    assert generator_seed(-1) != generator_seed(1)
    assert generator_seed(0, 1, 2) == 3452018054052297075  # the same on every machine


def test_a_key_is_of_whole_numbers():
    with pytest.raises(TypeError, match="float"):
        keyed_randomness(0, 1.5)


class Written(nn.Module):
    """A module as many libraries write them: the probability is an attribute."""

    def __init__(self, **attributes):
        super().__init__()
        vars(self).update(attributes)


@pytest.mark.parametrize(
    ("module", "answer"),
    [
        (nn.Linear(2, 2), False),
        (nn.LayerNorm(2), False),
        (nn.Dropout(0.0), False),
        (nn.Dropout(0.1), True),
        (nn.Dropout(1), True),
        (nn.Dropout2d(0.1), True),
        (nn.MultiheadAttention(4, 2), False),
        (nn.MultiheadAttention(4, 2, dropout=0.1), True),
        (nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.1))), True),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1).eval()), False),
        (Written(dropout=0.1), True),
        (Written(dropout_p=0.1), True),
        (Written(attention_dropout=0.1), True),
        (Written(attention_dropout=0.0), False),
        (Written(dropout="0.1"), False),
        (Written(scale=0.1), False),
        (Block(4, 2), False),
        (Block(4, 2, dropout=0.1), True),
        (Block(4, 2, dropout=0.1).eval(), False),
    ],
)
def test_a_layer_that_drops_is_told_from_one_that_does_not(module, answer):
    assert uses_randomness(module) is answer


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_on_a_gpu_the_generator_is_the_gpus(module):
    x = torch.randn(4, 6, 8, device="cuda")
    torch.manual_seed(1)
    before = torch.cuda.get_rng_state()
    module = module.cuda()
    first = keyed(module, x)
    assert torch.equal(before, torch.cuda.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, keyed(module, x))
    assert not torch.equal(first, keyed(module, x, key=(5,)))
    module.cpu()
