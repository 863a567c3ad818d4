"""DataParallel: a replica of the whole model on every rank, each with its share of the mini-batch.

In earnest, use `torch.nn.parallel.DistributedDataParallel`, which sums gradients in buckets while
the backward still runs, or `torch.distributed.fsdp.fully_shard`, which shares the weights out, too.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from d2lpart.common.arguments import check_kind
from d2lpart.common.quantities import count
from d2lpart.models.layers import listed
from d2lpart.splits.collectives import Group, all_reduce
from d2lpart.splits.copies import SplitResult, check_copyable, nothing_random
from d2lpart.stages.layer_parts import Makeup
from d2lpart.stages.losses import LossFunction, cross_entropy
from d2lpart.stages.microbatch import Batch
from d2lpart.stages.probe import try_out
from d2lpart.stages.stage import Stage

AllReduce = Callable[[Group, Sequence[Tensor]], list[Tensor]]
Gradients = list[Tensor | None]


class DataParallel(nn.Module):
    """Replicas of a model that share the mini-batch, and sum their gradients once a step.

    The mini-batch is cut by samples, as evenly as it goes. The replica of rank 0 is the model
    itself, moved to its device; the others are copies. After a step every replica has the gradients
    of the whole mini-batch, so an optimizer over `parameters()` keeps all replicas equal.

    Args:
        layers: modules, each taking and returning one tensor; the first dimension counts samples.
        devices: one a replica; several may share one.
        reduce: the collective that sums the gradients: `all_reduce`, a ring, or
            `all_reduce_at_one`.
        loss_fn: as `Pipeline` takes it; by default cross-entropy.

    Raises:
        ValueError: a layer that looks at the whole mini-batch (BatchNorm in training), or draws
            random numbers.

    >>> model = DataParallel([nn.Linear(4, 2)], ["cpu"] * 2)
    >>> result = model.step(torch.randn(8, 4), torch.zeros(8, dtype=torch.long))
    >>> result.barriers, result.bytes_moved   # 10 gradients of 4 bytes, 2(n − 1) times
    (1, 80)
    """

    def __init__(
        self,
        layers: Iterable[nn.Module],
        devices: Sequence[Any],
        *,
        reduce: AllReduce = all_reduce,
        loss_fn: LossFunction | None = None,
    ) -> None:
        super().__init__()
        layers = listed(layers)
        self.group = Group(devices)
        self.reduce, self.loss_fn = reduce, loss_fn or cross_entropy
        first = nn.Sequential(*layers)
        self.replicas = nn.ModuleList([first, *(copy.deepcopy(first) for _ in devices[1:])])
        self._looked: list[bool] | None = None  # the modes that layers were in when looked at
        self._check()
        for replica, device in zip(self.replicas, self.group.devices, strict=True):
            replica.to(device)

    def _check(self) -> None:
        layers = list(self.replicas[0].children())
        check_copyable(layers, may_share=True)
        for number, layer in enumerate(layers):
            for module in layer.modules():
                if len(self.group) > 1 and isinstance(module, _BatchNorm) and _uses_batch(module):
                    raise ValueError(
                        f"layer {number} holds {type(module).__name__}: it normalises by the "
                        f"statistics of the whole mini-batch, of which each of {len(self.group)} "
                        f"replicas sees a part, and the gradients would differ; use LayerNorm or "
                        f"GroupNorm, layer.eval(), or in earnest torch.nn.SyncBatchNorm"
                    )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs of the whole batch, on rank 0's device."""
        self._check_samples(inputs)
        shares = inputs.tensor_split(len(self.group))
        pairs = zip(self.replicas, shares, self.group.devices, strict=True)
        outputs = [replica(share.to(device)) for replica, share, device in pairs]
        return torch.cat([output.to(self.group.devices[0]) for output in outputs])

    def step(self, inputs: Tensor, targets: Tensor) -> SplitResult:
        """Run forward and backward of one mini-batch, and leave its gradients in every replica.

        They are those that one full-batch backward would leave, and are added to what is in
        `.grad`. Each replica's loss is weighed by its share of the targets, as a micro-batch's is.
        """
        self._check()
        self._check_samples(inputs)
        self.group.reset()
        batch = Batch(inputs, targets, len(self.group), self.loss_fn)
        self._look(batch)
        with nothing_random(self.group.devices):
            gradients = [self._backward(rank, batch) for rank in range(len(self.group))]
        loss, divisor = batch.total()
        self._sum(gradients, divisor)
        held = [sum(weight.nbytes for weight in own.parameters()) for own in self.replicas]
        return SplitResult(loss, self.group.traffic(), tuple(held))

    def _look(self, batch: Batch) -> None:
        """Look, once for each mode of the layers, whether they and the loss take a batch in parts.

        Raises:
            ValueError: a sample's output depends on others, or the loss is no mean over samples.
        """
        layers = list(self.replicas[0].children())
        modes = Makeup(layers).modes()
        if len(self.group) > 1 and modes != self._looked:
            try_out([Stage(0, layers, 0, self.group.devices[0])], batch)
            self._looked = modes

    def _backward(self, rank: int, batch: Batch) -> Gradients:
        """Return the gradients that a replica finds for its share of the mini-batch."""
        weights = _trained(self.replicas[rank])
        if batch.skipped(rank) or not weights:
            return [None] * len(weights)
        outputs = self.replicas[rank](batch.input(rank).to(self.group.devices[rank]))
        loss = batch.loss(rank, outputs)
        if not loss.requires_grad:
            return [None] * len(weights)
        return list(torch.autograd.grad(loss, weights, allow_unused=True))

    def _sum(self, gradients: Sequence[Gradients], divisor: float) -> None:
        """Sum the gradients of all replicas, as one vector each, into their `.grad`."""
        found = [i for i, own in enumerate(zip(*gradients, strict=True)) if _any(own)]
        weights = [[_trained(replica)[i] for i in found] for replica in self.replicas]
        flat = [
            torch.cat([_or_zero(own[i], weight) for i, weight in zip(found, those, strict=True)])
            for own, those in zip(gradients, weights, strict=True)
        ]
        for those, total in zip(weights, self.reduce(self.group, flat), strict=True):
            parts = total.split([weight.numel() for weight in those])
            for weight, part in zip(those, parts, strict=True):
                gradient = part.view_as(weight) / divisor
                weight.grad = gradient if weight.grad is None else weight.grad + gradient

    def _check_samples(self, inputs: Tensor) -> None:
        check_kind(inputs, Tensor, "give the inputs of the first layer")
        samples = inputs.shape[0] if inputs.dim() else 0
        if samples < len(self.group):
            raise ValueError(
                f"{count(len(self.group), 'replica')} for {count(samples, 'sample')}: each replica "
                f"needs at least one sample; use at most {count(max(samples, 1), 'replica')}"
            )


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in module.parameters() if weight.requires_grad]


def _any(gradients: Iterable[Tensor | None]) -> bool:
    return any(gradient is not None for gradient in gradients)


def _or_zero(gradient: Tensor | None, weight: Tensor) -> Tensor:
    """Return a gradient as a vector; of a weight that a replica has not used it is zero."""
    return (torch.zeros_like(weight) if gradient is None else gradient).flatten()


def _uses_batch(norm: _BatchNorm) -> bool:
    return norm.training or norm.running_mean is None
