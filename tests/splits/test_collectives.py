"""Collectives against plain sums, and their bytes against the formulas."""

import pytest
import torch
from hypothesis import given, strategies as st

from d2lpart.splits.collectives import (
    Group,
    all_gather,
    all_reduce,
    all_reduce_at_one,
    copied,
    gathered,
    reduce_scatter,
    spread,
    summed,
)
from d2lpart.timelines.spans import Link

RANKS = st.integers(1, 6)
SEEDS = st.integers(0, 1000)


def group(n):
    return Group(["cpu"] * n)


def drawn(seed, n, *shape):
    torch.manual_seed(seed)
    return [torch.randn(shape) for _ in range(n)]


# ---- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduce", [all_reduce, all_reduce_at_one])
@given(n=RANKS, rows=st.integers(0, 5), columns=st.integers(1, 5), seed=SEEDS)
def test_every_rank_gets_the_sum_and_all_get_the_same_bits(reduce, n, rows, columns, seed):
    tensors = drawn(seed, n, rows, columns)
    before = [tensor.clone() for tensor in tensors]
    results = reduce(group(n), tensors)
    assert len(results) == n
    for result in results:
        torch.testing.assert_close(result, torch.stack(tensors).sum(0))
        assert torch.equal(result, results[0])
    assert all(map(torch.equal, tensors, before))


@given(n=RANKS, size=st.integers(0, 13), seed=SEEDS)
def test_whole_numbers_are_summed_exactly(n, size, seed):
    torch.manual_seed(seed)
    tensors = [torch.randint(-9, 9, (size,)) for _ in range(n)]
    for result in all_reduce(group(n), tensors):
        assert torch.equal(result, sum(tensors))


@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=5), dim=st.integers(-2, 1))
def test_gathering_puts_shares_side_by_side_and_scattering_gives_them_back(sizes, dim):
    shape = [3, 3]
    shape[dim] = sum(sizes)
    torch.manual_seed(0)
    whole = torch.randn(shape)
    shares = whole.split(sizes, dim)
    n = len(sizes)
    assert all(torch.equal(own, whole) for own in all_gather(group(n), shares, dim))
    scattered = reduce_scatter(group(n), [whole] * n, sizes, dim)
    for own, share in zip(scattered, shares, strict=True):
        torch.testing.assert_close(own, n * share)


def test_the_root_may_be_any_rank():
    tensors = drawn(0, 3, 4)
    for root in range(3):
        ranks = group(3)
        results = all_reduce_at_one(ranks, tensors, root)
        torch.testing.assert_close(results[1], sum(tensors))
        sent = ranks.traffic().sent
        assert sent[root] == 2 * 16
        assert sum(sent) == 4 * 16


def test_ranks_share_no_memory():
    for collective in (all_reduce, all_reduce_at_one, all_gather):
        results = collective(group(3), drawn(0, 3, 4))
        results[0].zero_()
        assert results[1].abs().sum() > 0


# ---- what is counted -----------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(1, 7))
def test_a_ring_moves_two_n_minus_one_nths_on_each_rank(n):
    ranks = group(n)
    all_reduce(ranks, [torch.zeros(60)] * n)
    traffic = ranks.traffic()
    assert traffic.sent == traffic.received == (2 * (n - 1) * 240 // n,) * n
    assert traffic.bytes_moved == 2 * (n - 1) * 240
    assert traffic.messages == 2 * (n - 1) * n
    assert traffic.rounds == (240 // n,) * (2 * (n - 1))
    assert traffic.barriers == (n > 1)


@pytest.mark.parametrize("n", range(2, 7))
def test_one_rank_for_all_moves_as_much_by_way_of_one(n):
    ranks = group(n)
    all_reduce_at_one(ranks, [torch.zeros(60)] * n)
    traffic = ranks.traffic()
    assert traffic.bytes_moved == 2 * (n - 1) * 240
    assert traffic.busiest == (n - 1) * 240
    assert traffic.rounds == (240,) * (2 * (n - 1))
    assert traffic.barriers == 1


@given(n=st.integers(2, 6), size=st.integers(1, 40))
def test_uneven_pieces_move_as_many_bytes_in_all(n, size):
    ranks = group(n)
    all_reduce(ranks, [torch.zeros(size, dtype=torch.float64)] * n)
    traffic = ranks.traffic()
    assert traffic.bytes_moved == 2 * (n - 1) * 8 * size
    assert max(traffic.sent) - min(traffic.sent) <= 2 * 8


def test_gathering_and_scattering_each_move_half_of_that():
    for n in (2, 3, 5):
        ranks = group(n)
        all_gather(ranks, [torch.zeros(2)] * n)
        assert ranks.traffic().bytes_moved == (n - 1) * n * 8
        ranks.reset()
        reduce_scatter(ranks, [torch.zeros(2 * n)] * n, [2] * n)
        assert ranks.traffic().bytes_moved == (n - 1) * n * 8
        assert ranks.traffic().barriers == 1


def test_reset_begins_anew():
    ranks = group(2)
    all_reduce(ranks, [torch.zeros(2)] * 2)
    before = ranks.traffic()
    ranks.reset()
    assert ranks.traffic().bytes_moved == ranks.traffic().messages == 0
    assert before.bytes_moved == 16  # what was read does not change


def test_the_time_on_a_link_is_that_of_its_rounds():
    ring, one = group(4), group(4)
    all_reduce(ring, [torch.zeros(100)] * 4)
    all_reduce_at_one(one, [torch.zeros(100)] * 4)
    link = Link(latency=1.0, bandwidth=100.0)
    assert ring.traffic().seconds(link) == pytest.approx(6 * (1 + 1))
    assert one.traffic().seconds(link) == pytest.approx(6 * (1 + 4))


# ---- forward and backward ------------------------------------------------------------------------


def leaves(n, *shape):
    return [tensor.requires_grad_() for tensor in drawn(0, n, *shape)]


@pytest.mark.parametrize(
    ("operator", "forward", "backward"),
    [
        (copied, (0, 0), (2, 1)),
        (summed, (2, 1), (0, 0)),
        (lambda *given: gathered(*given, dim=1), (3, 1), (0, 0)),
        (lambda *given: spread(*given, dim=1), (3, 1), (3, 1)),
    ],
)
def test_what_each_operator_sends_either_way(operator, forward, backward):
    """In units of n − 1 tensors as they go in; three ranks, and so a whole is three shares."""
    n, unit = 3, 2 * 2 * 3 * 4
    ranks, tensors = group(n), leaves(n, 2, 3)
    results = operator(ranks, tensors)
    assert (ranks.traffic().bytes_moved / unit, ranks.traffic().barriers) == forward
    ranks.reset()
    torch.autograd.backward([result.sum() for result in results])
    assert (ranks.traffic().bytes_moved / unit, ranks.traffic().barriers) == backward


def test_gradients_of_the_operators():
    n, weights = 3, drawn(1, 3, 2, 3)
    tensors = leaves(n, 2, 3)
    for operator, expected in [(copied, [sum(weights)] * n), (summed, weights)]:
        for tensor in tensors:
            tensor.grad = None
        results = operator(group(n), tensors)
        torch.autograd.backward([(r * w).sum() for r, w in zip(results, weights, strict=True)])
        for tensor, gradient in zip(tensors, expected, strict=True):
            torch.testing.assert_close(tensor.grad, gradient)


@pytest.mark.parametrize("dim", [1, -1])
def test_gradients_of_shares(dim):
    sizes = [1, 3, 2]
    torch.manual_seed(0)
    shares = [torch.randn(2, size).requires_grad_() for size in sizes]
    weights = drawn(1, 3, 2, 6)
    own = [weights[rank].split(sizes, dim)[rank] for rank in range(3)]
    for operator, expected in [(gathered, own), (spread, sum(weights).split(sizes, dim))]:
        for share in shares:
            share.grad = None
        results = operator(group(3), shares, dim)
        assert all(torch.equal(result, torch.cat(shares, dim)) for result in results)
        torch.autograd.backward([(r * w).sum() for r, w in zip(results, weights, strict=True)])
        for share, gradient in zip(shares, expected, strict=True):
            torch.testing.assert_close(share.grad, gradient)


# ---- errors --------------------------------------------------------------------------------------


def test_errors_say_what_does_not_fit():
    for wrong in ([], "cpu", 3, None):
        with pytest.raises(ValueError, match="give a list of at least one, one a rank"):
            Group(wrong)
    with pytest.raises(ValueError, match="names no device: this machine has"):
        Group(["abacus"])
    with pytest.raises(ValueError, match="2 tensors for 3 ranks"):
        all_gather(group(3), drawn(0, 2, 4))
    with pytest.raises(ValueError, match=r"shapes \(3,\), \(4,\): only tensors of one shape"):
        all_reduce(group(2), [torch.zeros(3), torch.zeros(4)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("reduce", [all_reduce, all_reduce_at_one])
def test_a_gpu_and_the_cpu_are_two_ranks(reduce):
    places = ["cuda:0", "cpu", "cuda:0"]
    tensors = [one.to(place) for one, place in zip(drawn(0, 3, 1000), places, strict=True)]
    ranks = Group(places)
    results = reduce(ranks, tensors)
    assert [result.device for result in results] == ranks.devices
    for result in results:
        torch.testing.assert_close(result.cpu(), sum(one.cpu() for one in tensors))
