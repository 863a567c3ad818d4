"""Losses: what a loss is a mean over, so that the losses of micro-batches add up to the whole one.

A full-batch backward takes the mean over all that counts. The mean over a micro-batch is therefore
weighed by its share of what counts. Of torch's own losses that is read off their options; any other
function is taken for a mean over the targets that are not −100 where targets are integers, over
samples elsewhere, and `check_sum` tries that out once. A function that returns a pair (sum, count)
does the weighing itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2lpart.memory.failures import told

IGNORED = -100  # the target that cross-entropy leaves out

LossFunction = Callable[[Tensor, Tensor], Tensor | tuple[Tensor, Tensor | float]]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits against classes or against their probabilities.

    Args:
        outputs: logits; the classes V are the last dimension, (…, V), or of images (N, V, H, W),
            as torch has them, the second.
        targets: integers of the shape of `outputs` without its classes, −100 where none counts;
            or probabilities of the shape of `outputs`.

    Raises:
        ValueError: the shapes fit both forms, or neither.
    """
    shape, wanted = outputs.shape, targets.shape
    last, second = shape[:-1] == wanted, shape[:1] + shape[2:] == wanted
    if targets.is_floating_point():
        last, second = shape == wanted and outputs.dim() < 4, shape == wanted and outputs.dim() >= 4
    if last and second and outputs.dim() >= 4:
        raise ValueError(
            f"outputs of shape {tuple(shape)} and targets of shape {tuple(wanted)} fit with the "
            f"classes in dimension 1 and in dimension {outputs.dim() - 1}: give a loss_fn, such as "
            f"nn.CrossEntropyLoss(), which takes dimension 1"
        )
    if second and not last:
        own = targets if targets.is_floating_point() else targets.long()
        return F.cross_entropy(outputs, own, ignore_index=IGNORED)
    flat = 1 < outputs.dim() < 4  # rows of logits may come with targets of another shape
    if not last and not (flat and targets.numel() == outputs.shape[:-1].numel()):
        raise ValueError(
            f"outputs of shape {tuple(shape)} and targets of shape {tuple(wanted)}: cross-entropy "
            f"needs one integer for each row of logits, or probabilities of the shape of the "
            f"outputs; give these, or a loss_fn"
        )
    rows = outputs.flatten(0, -2)
    soft = targets.is_floating_point()
    own = targets.reshape(rows.shape) if soft else targets.flatten().long()
    return F.cross_entropy(rows, own, ignore_index=IGNORED)


@dataclass(frozen=True)
class Rule:
    """What the loss of a mini-batch is, in terms of those of its micro-batches.

    counts: how much each sample counts, (samples,) on the CPU, as a function of the targets.
    leaves_out: the target that does not count; None where all samples count alike. weighted:
    whether classes have weights. adds: whether the losses are sums, to be added as they are.
    known: whether this is read off torch's own loss, and not presumed.
    """

    counts: Callable[[Tensor], Tensor]
    leaves_out: int | None = None
    weighted: bool = False
    adds: bool = False
    known: bool = True

    @property
    def over(self) -> str:
        """What is counted, in words."""
        if self.leaves_out is None:
            return "samples"
        where = "" if self.known else ", where targets are integers, else samples"
        weights = ", by the weight of their class" if self.weighted else ""
        return f"targets that are not {self.leaves_out}{weights}{where}"


def rule_of(loss_fn: LossFunction) -> Rule:
    """Return the rule of a loss function; what is not one of torch's is presumed to be a mean."""
    options: Mapping[str, Any] = {}
    kind: Any = loss_fn
    if isinstance(loss_fn, nn.Module):
        kind, options = type(loss_fn), {**vars(loss_fn), **loss_fn._buffers}
    elif isinstance(loss_fn, partial) and not loss_fn.args and not _OLD & {*loss_fn.keywords}:
        kind, options = loss_fn.func, loss_fn.keywords
    adds = options.get("reduction", "mean") == "sum"
    if kind in _OVER_SAMPLES:  # weights may be of samples, which a micro-batch has others of
        return Rule(_by_samples, adds=adds, known=options.get("weight") is None)
    if kind not in _OVER_TARGETS:
        return Rule(_by_targets, IGNORED, known=False)
    ignored, weight = options.get("ignore_index", IGNORED), options.get("weight")
    counts = partial(_by_targets, ignored=ignored, weight=weight)
    return Rule(counts, ignored, weight is not None, adds)


_OLD = {"size_average", "reduce"}
"""How reductions were once asked for."""


def _by_samples(targets: Tensor) -> Tensor:
    return torch.ones(targets.shape[0], dtype=torch.long)


def _by_targets(targets: Tensor, ignored: int = IGNORED, weight: Tensor | None = None) -> Tensor:
    """Return how many targets of each sample count, or the weights of their classes added up."""
    kind = targets.dtype
    if kind.is_floating_point or kind.is_complex or kind == torch.bool:
        return _by_samples(targets)
    classes = targets.long()  # as a byte, −100 would be class 156
    counted = classes != ignored
    if weight is not None:
        own = weight.detach().to(targets.device, torch.float64)
        counted = own[classes.clamp(0, len(own) - 1)] * counted
    return counted.reshape(targets.shape[0], -1).sum(dim=1).cpu()


_OVER_TARGETS = (nn.CrossEntropyLoss, nn.NLLLoss, F.cross_entropy, F.nll_loss, cross_entropy)
_OVER_SAMPLES = (
    *(nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss),
    *(nn.KLDivLoss, nn.PoissonNLLLoss, nn.SoftMarginLoss, nn.HingeEmbeddingLoss),
    *(nn.MultiMarginLoss, nn.MultiLabelMarginLoss, nn.MultiLabelSoftMarginLoss),
    *(F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.binary_cross_entropy, F.kl_div),
    F.binary_cross_entropy_with_logits,
)


def check_sum(
    loss_fn: LossFunction, rule: Rule, outputs: Tensor, targets: Tensor, cut: int
) -> None:
    """Raise unless the losses of two micro-batches, weighed, are the loss of both together.

    Compared are the losses and their gradients. A function that is not torch's own is also tried
    with targets that it might leave out: a batch without padding tells nothing of padding.

    Args:
        loss_fn, rule: of the pipeline.
        outputs, targets: of both micro-batches, one after the other.
        cut: how many samples the first of them has.

    Raises:
        ValueError: they are not, so that m > 1 would leave other gradients than m = 1.
    """
    _compare(loss_fn, rule, outputs, targets, cut)
    if rule.known or targets.dtype not in (torch.int64, torch.int32) or not targets.numel():
        return
    outputs, targets = outputs.cpu(), targets.cpu()  # a class that is not there ends a GPU's work
    for suspect in {-1, 0, int(targets.max())}:
        tried = targets.clone()
        tried[: (cut + 1) // 2] = suspect
        _compare(loss_fn, rule, outputs, tried, cut)


def _compare(loss_fn: LossFunction, rule: Rule, outputs: Tensor, targets: Tensor, cut: int) -> None:
    leaf = outputs.detach().requires_grad_(outputs.is_floating_point() or outputs.is_complex())
    with torch.enable_grad():
        sides = [(leaf[:cut], targets[:cut]), (leaf[cut:], targets[cut:])]
        try:
            results = [loss_fn(*side) for side in sides]
        except Exception:
            return  # the step says so, and where
        try:
            results.append(loss_fn(leaf, targets))
        except Exception as error:
            raise ValueError(
                f"loss_fn takes each of 2 micro-batches by itself, but not both together "
                f"({told(error)}), so their losses do not add up to one: {_REMEDY}"
            ) from error
        forms = {isinstance(result, tuple) for result in results}
        if len(forms) > 1 or not all(map(is_loss, results)):
            return  # the step itself tells what is wrong with it
        weights = [1.0 if rule.adds else float(rule.counts(own).sum()) for _, own in sides]
        whole = 1.0 if rule.adds else sum(weights)
        pairs = zip(results, [*weights, whole], strict=True)
        (one, first), (two, second), (both, number) = [_part(*pair) for pair in pairs]
        if not (first and second and number) or not torch.isfinite(both):
            return  # nothing to compare
        apart = (one + two) / (whole if rule.adds else first + second)
        together = both / number
    size = max((abs(one.item()) + abs(two.item())) / abs(first + second), abs(together.item()))
    rounding = _rounding(results[2], outputs)
    if abs(apart.item() - together.item()) <= rounding * size and _same_slope(
        apart, together, leaf, rounding
    ):
        return  # not so where one of them is nan
    raise ValueError(
        f"the loss of 2 micro-batches together is {together.item():.6g}, but their own losses, "
        f"weighed by {first:g} and {second:g} ({rule.over}), come to {apart.item():.6g}, and "
        f"their gradients would not be those of the mini-batch; {_REMEDY}"
    )


def _same_slope(apart: Tensor, together: Tensor, leaf: Tensor, rounding: float) -> bool:
    """Say whether two losses have the same gradients; so it is where they have none."""
    if not (apart.requires_grad and together.requires_grad):
        return True
    try:
        one, two = (
            torch.autograd.grad(loss, leaf, allow_unused=True)[0] for loss in (apart, together)
        )
    except Exception:
        return True  # the step tells what is wrong with its backward
    if one is None or two is None:
        return one is two
    size = torch.maximum(one.abs().max(), two.abs().max())
    return bool((one - two).abs().max() <= 5 * rounding * size)


_REMEDY = (
    "return a pair (sum, count) from loss_fn, use one of torch's loss modules, whose ignore_index, "
    "weight of classes and reduction are read, or num_microbatches=1"
)


def is_loss(result: Any) -> bool:
    """Say whether this is a scalar, or a pair of a scalar and a number."""
    loss, number = result if isinstance(result, tuple) and len(result) == 2 else (result, 1)
    counts = number.numel() == 1 if isinstance(number, Tensor) else isinstance(number, Real)
    return isinstance(loss, Tensor) and loss.dim() == 0 and counts


def _part(result: Any, weight: float) -> tuple[Tensor, float]:
    """Return a loss as a sum and what it is to be divided by."""
    if isinstance(result, tuple):
        return result[0].double(), float(result[1])
    return result.double() * weight, weight


def _rounding(result: Any, outputs: Tensor) -> float:
    """Return how far two ways to add the same numbers up may be apart, relative to their size."""
    loss = result[0] if isinstance(result, tuple) else result
    low = {torch.float16, torch.bfloat16}
    return 2e-2 if low.intersection((loss.dtype, outputs.dtype)) else 2e-5
