"""Collectives: what all ranks of a group do together, built from sends from one rank to another.

A collective is a *barrier*: no rank has its result before every rank has given its part. All of
them run in one process and send by `transfer.send`, so their bytes are counted as a pipeline's are.
In earnest, between processes, `torch.distributed` has the same collectives under the same names.

A list of tensors has one entry a rank, in this file and in all that use it; n is their number.

`copied`, `summed`, `gathered` and `spread` are collectives that autograd can follow: each has its
counterpart in the backward. A value is *whole* where each rank has all of it, and *shared* where
each rank has some places along one dimension. Every rank ends with a loss of its own. Going back, a
whole value's gradient is whole on each rank, a shared one's is shared. That rule decides what each
operator must send:

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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from d2lpart.common.quantities import count
from d2lpart.machine.hardware import as_device
from d2lpart.machine.transfer import Place, send
from d2lpart.timelines.spans import Link

Tensors = Sequence[Tensor]
Collective = Callable[[Tensors], Tensors]


@dataclass(frozen=True)
class Traffic:
    """What the ranks of a group have sent each other.

    Attributes:
        sent: bytes that each rank has sent.
        received: bytes that each rank has received.
        messages: how many tensors went from one rank to another.
        barriers: how many times all ranks had to wait for each other.
        rounds: the bytes of the largest message of each round; the messages of one round are under
            way at the same time, and the next round waits for them.
    """

    sent: tuple[int, ...]
    received: tuple[int, ...]
    messages: int
    barriers: int
    rounds: tuple[int, ...]

    @property
    def bytes_moved(self) -> int:
        """All bytes that went from one rank to another."""
        return sum(self.sent)

    @property
    def busiest(self) -> int:
        """The most bytes that one rank has sent, or received; links carry both ways at once."""
        return max(*self.sent, *self.received)

    def seconds(self, link: Link) -> float:
        """Return how long the messages take, modelled: round after round over links of one kind."""
        return sum(link.seconds(nbytes) for nbytes in self.rounds)


class Group:
    """Ranks in one process that exchange tensors, and the count of all that they send.

    Args:
        devices: one a rank; several ranks may share one. Their messages count all the same: they
            are what a link would carry.

    >>> group = Group(["cpu", "cpu"])
    >>> _ = group.send(torch.zeros(10), source=0, target=1)
    >>> group.traffic()
    Traffic(sent=(40, 0), received=(0, 40), messages=1, barriers=0, rounds=(40,))
    """

    def __init__(self, devices: Sequence[object]) -> None:
        if isinstance(devices, str) or not isinstance(devices, Sequence) or not devices:
            raise ValueError(f"devices is {devices!r}: give a list of at least one, one a rank")
        self.places = [Place(as_device(device)) for device in devices]
        self.reset()

    def __len__(self) -> int:
        return len(self.places)

    @property
    def devices(self) -> list[torch.device]:
        """The device of each rank."""
        return [place.device for place in self.places]

    def reset(self) -> None:
        """Begin to count anew."""
        self._sent, self._received = [0] * len(self), [0] * len(self)
        self._messages = self._barriers = 0
        self._rounds: list[int] = []

    def traffic(self) -> Traffic:
        """Return what has been sent since the last `reset`."""
        sent, received = tuple(self._sent), tuple(self._received)
        return Traffic(sent, received, self._messages, self._barriers, tuple(self._rounds))

    def barrier(self) -> None:
        """Count one moment at which all ranks wait for each other; a single rank waits for none."""
        self._barriers += len(self) > 1

    def send(self, tensor: Tensor, source: int, target: int) -> Tensor:
        """Send a tensor from one rank to another, and return what the target gets, a copy."""
        self._rounds.append(tensor.nbytes)
        return self._send(tensor, source, target)

    def pass_on(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Let each rank send a tensor to the next one round the ring; return what each gets."""
        n = len(self)
        self._rounds.append(max(tensor.nbytes for tensor in tensors))
        arrived = [self._send(tensor, rank, (rank + 1) % n) for rank, tensor in enumerate(tensors)]
        return [arrived[rank - 1] for rank in range(n)]

    def _send(self, tensor: Tensor, source: int, target: int) -> Tensor:
        sender, receiver = self.places[source], self.places[target]
        for place in (sender, receiver):
            place.begin()
        parcel = send(tensor, sender, receiver)
        received = parcel.open(receiver)
        receiver.finish()
        assert received is not None
        self._sent[source] += parcel.nbytes
        self._received[target] += parcel.nbytes
        self._messages += 1
        if sender.device == receiver.device:
            return received.clone()  # ranks share no memory, even where they share a device
        if receiver.device.type == "cuda":
            received.record_stream(torch.cuda.current_stream(receiver.device))
        return received

    def check(self, tensors: Sequence[Tensor]) -> None:
        """Raise unless there is one tensor for each rank."""
        if len(tensors) != len(self):
            raise ValueError(
                f"{count(len(tensors), 'tensor')} for {count(len(self), 'rank')}: a collective "
                f"takes one from each"
            )


def all_reduce(group: Group, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the sum of all ranks' tensors to each rank, passing pieces round a ring.

    Each tensor is cut into n pieces. In n − 1 rounds every rank passes one piece on to the next,
    which adds its own: then each rank has the whole sum of one piece. In n − 1 more rounds the sums
    go round. A rank sends 2(n − 1) pieces, 2(n − 1)/n of its tensor, and no rank more than another
    (Patarasuk and Yuan, 2009, doi 10.1016/j.jpdc.2008.09.002). Where n does not divide the
    tensor, pieces differ by one number. All ranks get the same bits.

    >>> group = Group(["cpu"] * 3)
    >>> all_reduce(group, [torch.full((2,), rank + 1.0) for rank in range(3)])
    [tensor([6., 6.]), tensor([6., 6.]), tensor([6., 6.])]
    """
    _check_alike(group, tensors)
    group.barrier()
    n = len(group)
    pieces = [list(tensor.flatten().tensor_split(n)) for tensor in tensors]
    gathered = _pass_round(group, _sum_round(group, pieces))
    return [
        torch.cat(own).view(tensor.shape) for own, tensor in zip(gathered, tensors, strict=True)
    ]


def all_reduce_at_one(group: Group, tensors: Sequence[Tensor], root: int = 0) -> list[Tensor]:
    """Return the sum of all ranks' tensors to each rank: one rank adds them up and sends them back.

    It moves as many bytes as the ring, 2(n − 1) tensors, but all of them by way of the root (D2L,
    "Training on Multiple GPUs", `allreduce`).

    >>> group = Group(["cpu"] * 3)
    >>> _ = all_reduce_at_one(group, [torch.ones(3)] * 3)
    >>> group.traffic().sent
    (24, 12, 12)
    """
    _check_alike(group, tensors)
    group.barrier()
    total = tensors[root].clone()
    others = [rank for rank in range(len(group)) if rank != root]
    for rank in others:
        total += group.send(tensors[rank], rank, root)
    return [total if r == root else group.send(total, root, r) for r in range(len(group))]


def all_gather(group: Group, tensors: Sequence[Tensor], dim: int = 0) -> list[Tensor]:
    """Return all ranks' tensors to each rank, side by side along `dim`; a ring of n − 1 rounds.

    >>> all_gather(Group(["cpu"] * 2), [torch.tensor([1, 2]), torch.tensor([3])])
    [tensor([1, 2, 3]), tensor([1, 2, 3])]
    """
    group.check(tensors)
    group.barrier()
    return [torch.cat(own, dim) for own in _pass_round(group, tensors)]


def reduce_scatter(
    group: Group, tensors: Sequence[Tensor], sizes: Sequence[int], dim: int = 0
) -> list[Tensor]:
    """Return to each rank its share of the sum: along `dim`, rank r gets `sizes[r]` places.

    >>> reduce_scatter(Group(["cpu"] * 2), [torch.tensor([1, 2, 3])] * 2, sizes=[2, 1])
    [tensor([2, 4]), tensor([6])]
    """
    _check_alike(group, tensors)
    group.barrier()
    return _sum_round(group, [list(tensor.split(list(sizes), dim)) for tensor in tensors])


def _sum_round(group: Group, pieces: list[list[Tensor]]) -> list[Tensor]:
    """Give each rank r the sum of all ranks' piece r; `pieces[rank]` is overwritten.

    In turn t rank r passes on piece r − t: at first its own, then what came the turn before with
    its own added. So in the last turn, n − 1, piece r comes to rank r, with all others' in it.
    """
    n = len(group)
    for turn in range(1, n):
        arrived = group.pass_on([pieces[rank][(rank - turn) % n] for rank in range(n)])
        for rank, piece in enumerate(arrived):
            place = (rank - 1 - turn) % n
            pieces[rank][place] = pieces[rank][place] + piece
    return [pieces[rank][rank] for rank in range(n)]


def _pass_round(group: Group, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Give each rank all ranks' tensors, in their order: it passes on what it got last."""
    n = len(group)
    known = [{rank: tensor} for rank, tensor in enumerate(tensors)]
    for turn in range(n - 1):
        arrived = group.pass_on([known[rank][(rank - turn) % n] for rank in range(n)])
        for rank, tensor in enumerate(arrived):
            known[rank][(rank - 1 - turn) % n] = tensor
    return [[own[rank] for rank in range(n)] for own in known]


def _check_alike(group: Group, tensors: Sequence[Tensor]) -> None:
    group.check(tensors)
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise ValueError(
            f"tensors of shapes {', '.join(map(str, sorted(shapes)))}: only tensors of one shape "
            f"can be added up; give the same shape on every rank"
        )


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
