"""Collectives that autograd can follow: each has its counterpart in the backward.

Every rank runs the same program on lists of one tensor a rank, and ends with a loss of its own. A
value is *whole* where each rank has all of it, and *shared* where each rank has some places along
one dimension. Going back, a whole value's gradient is whole on each rank, a shared one's is shared.
That rule decides what each operator must send:

    | operator   | from    to              | forward    | backward       |
    | copied     | whole   split work      | nothing    | all-reduce     |
    | summed     | terms   whole           | all-reduce | nothing        |
    | gathered   | shared  whole           | all-gather | nothing        |
    | spread     | shared  split work      | all-gather | reduce-scatter |

Split work is what each rank does for its own outputs alone: the gradients that it finds for its
input are one term of a sum. `copied` and `summed` are f and g of Megatron-LM (arXiv 1909.08053,
section 3); `spread` is the pair that its sequence parallelism uses (arXiv 2205.05198).
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.autograd import Function

from d2lpart.splits.collectives import Group, all_gather, all_reduce, reduce_scatter

Tensors = Sequence[Tensor]
Collective = Callable[[Tensors], Tensors]


def copied(group: Group, tensors: Tensors) -> list[Tensor]:
    """Hand a whole value to split work: nothing is sent; back, the ranks' terms are added up."""
    return _Both.run(_nothing, lambda gradients: all_reduce(group, gradients), tensors)


def summed(group: Group, terms: Tensors) -> list[Tensor]:
    """Add up the ranks' terms to a whole value; back, nothing is sent."""
    return _Both.run(lambda values: all_reduce(group, values), _nothing, terms)


def gathered(group: Group, shares: Tensors, dim: int) -> list[Tensor]:
    """Make a shared value whole; back, each rank takes its own share of the gradient."""
    sizes = [share.shape[dim] for share in shares]

    def own(gradients: Tensors) -> Tensors:
        return [gradient.split(sizes, dim)[rank] for rank, gradient in enumerate(gradients)]

    return _Both.run(lambda values: all_gather(group, values, dim), own, shares)


def spread(group: Group, shares: Tensors, dim: int) -> list[Tensor]:
    """Make a shared value whole for split work; back, each rank gets its share of the sum."""
    sizes = [share.shape[dim] for share in shares]
    return _Both.run(
        lambda values: all_gather(group, values, dim),
        lambda gradients: reduce_scatter(group, gradients, sizes, dim),
        shares,
    )


def _nothing(tensors: Tensors) -> Tensors:
    return [tensor.view_as(tensor) for tensor in tensors]


class _Both(Function):
    """Two collectives, one for each direction: a node of the graph with one input a rank.

    Its backward is called once, when the gradients of all ranks are there, and exchanges them.
    """

    @staticmethod
    def run(ahead: Collective, back: Collective, tensors: Tensors) -> list[Tensor]:
        return list(_Both.apply(ahead, back, *tensors))

    @staticmethod
    def forward(ctx: Any, ahead: Collective, back: Collective, *tensors: Tensor) -> Any:
        ctx.back = back
        return tuple(ahead(tensors))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, None, *ctx.back(gradients)
