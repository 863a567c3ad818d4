"""Probe: what a layer's forward does beside computing its output, found by trying it once.

Two micro-batches go through every layer, joined and each by itself, without a graph. Where the
outputs differ, a sample's output depends on the other samples (attention over a batch taken for
positions, statistics of a batch), or on what the layer has kept from one forward to the next: then
micro-batches leave other gradients than the mini-batch. On the way it is seen which layers draw
random numbers, and which change what they keep (buffers and attributes). Dropout drops nothing
meanwhile, and generators and what a layer keeps are as they were afterwards. Nothing here looks at
the names of layers.

One look has limits. Samples that meet only in a branch whose weights are zero as yet, or only in
some batches (experts that overflow), pass. Hooks on the gradients of weights run once for each
micro-batch, which is the same only for those that are linear.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode
from torch.nn import functional as F

from d2lpart.stages.generators import State, drawn_from, put_back, read, torch_states
from d2lpart.stages.keyed_dropout import keyed_randomness
from d2lpart.stages.layer_call import call
from d2lpart.stages.layer_state import Kept
from d2lpart.stages.losses import LossFunction, check_sum, rule_of
from d2lpart.stages.microbatch import Batch
from d2lpart.stages.saved import no_cast_cache
from d2lpart.stages.stage import Seen, Stage
from d2lpart.stages.tied import standing_in

EXACT = 1e-6
"""How far two runs of the same kernels may be apart, relative to the largest value."""

OWN = "a generator of its own"
TORCH = "torch's generator"
_RECURRENT = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
SAMPLE = 100_000
"""Targets that are looked at for the most frequent one."""


class not_random(keyed_randomness):
    """A context in which dropout keeps everything, and what is drawn is the same for every sample.

    It notes whether dropout was `asked` for, whether an operation `drew` that is run without its
    randomness here, and whether a layer brought a generator of its `own`.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(0)
        self.device = device
        self.asked = self.drew = self.own = False

    def draw(self, shape: tuple[int, ...], chance: float, device: torch.device) -> Tensor:
        """Return a mask of ones."""
        self.asked = True
        return torch.ones(shape, dtype=torch.bool, device=device)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function, and level what it draws; an order that is drawn stays as it is."""
        kwargs = kwargs or {}
        if func is F.rrelu:
            self.drew = self.drew or bool(args[3] if len(args) > 3 else kwargs.get("training"))
            args, kwargs = args[:3], kwargs | {"training": False}
        elif func in _RECURRENT:  # the first float is the chance to drop, then comes the mode
            place = next(i for i, arg in enumerate(args) if isinstance(arg, float))
            self.drew = self.drew or bool(args[place] and args[place + 1])
            args = (*args[:place], 0.0, *args[place + 1 :])
        if detect_fake_mode() is not None:  # a compiler looks at the layer: nothing is drawn
            return super().__torch_function__(func, types, args, kwargs)
        generator = kwargs.get("generator")
        before = self._states(generator)
        result = super().__torch_function__(func, types, args, kwargs)
        if all(map(torch.equal, before, self._states(generator))):
            return result
        if generator is not None:
            self.own = True
            generator.set_state(before[0])
        if isinstance(result, Tensor) and func is not torch.randperm and result.numel():
            result.fill_(0.5 if result.is_floating_point() else result.flatten()[0].item())
        return result

    def _states(self, generator: torch.Generator | None) -> list[Tensor]:
        return [generator.get_state()] if generator is not None else torch_states(self.device)


class _Fails(Exception):
    """A layer or the loss fails here; what is wrong with it, the step tells better."""


def try_out(stages: Sequence[Stage], batch: Batch, repeats: bool = False) -> bool:
    """Try every layer and the loss, and leave in each stage what was `seen` of its layers.

    Return whether it got to the end; if a layer fails here, the step tells better why.

    Args:
        stages: of the pipeline, ready for a step.
        batch: the mini-batch of that step; of a single micro-batch it is only seen what draws
            random numbers and changes buffers.
        repeats: whether a forward must be able to draw the same numbers again.

    Raises:
        ValueError: a layer or the loss is no matter of single samples, but there are several
            micro-batches; or a forward that must repeat itself draws from a generator of its own.
    """
    done, two = False, _two(batch)
    sides = [batch.input(k) for k in two]
    inputs = torch.cat(sides)
    quiet = warnings.catch_warnings(action="ignore")
    with torch.no_grad(), no_cast_cache(), suppress(_Fails), quiet:
        for stage in stages:
            inputs, sides = inputs.to(stage.device), [side.to(stage.device) for side in sides]
            with standing_in(stage.shadows):
                for place, layer in enumerate(stage.layers):
                    number = stage.first_layer + place
                    inputs, sides, seen = _look(number, layer, inputs, sides, repeats)
                    stage.seen[place] = seen
        targets = torch.cat([batch.target(k) for k in two]).to(inputs.device)
        cut = len(batch.target(two[0])) if len(two) == 2 and len(inputs) == len(targets) else 0
        stages[-1].loss_draws = _look_at_loss(batch.loss_fn, inputs, targets, cut)
        done = True
    for stage in stages:
        stage.note_dropout()
    return done


def _two(batch: Batch) -> list[int]:
    """Return two micro-batches that count and whose targets differ most, or the only one.

    A padding that a loss leaves out is mostly the most frequent target.
    """
    counting = [k for k in range(batch.num_microbatches) if not batch.skipped(k)]
    every = batch.targets.flatten()
    if not every.numel():
        return counting[:2]
    sample = every[:: max(1, every.numel() // SAMPLE)].float().nan_to_num()
    frequent = sample.mode().values
    shares = {k: float((batch.target(k) == frequent).float().mean()) for k in counting}
    least, most = min(counting, key=shares.__getitem__), max(counting, key=shares.__getitem__)
    return sorted({least, most}) if least != most else counting[:2]


def _run(layer: nn.Module, inputs: Tensor, mode: not_random | None = None) -> Tensor:
    """Return the output for a copy of the inputs, with nothing random in it."""
    try:
        with mode or not_random(inputs.device):
            return call(layer, inputs.clone())
    except Exception as error:
        raise _Fails from error


def _look(
    number: int, layer: nn.Module, inputs: Tensor, sides: list[Tensor], repeats: bool
) -> tuple[Tensor, list[Tensor], Seen]:
    """Return a layer's output, in one and side by side, and what was seen of it.

    Raises:
        ValueError: the output is not each sample's own, or cannot be repeated though it has to be.
    """
    device, name = inputs.device, f"layer {number} ({type(layer).__name__})"
    with _undone(layer, device) as (kept, generators):
        mode = not_random(device)
        outputs = _run(layer, inputs, mode)
        draws = drawn_from(generators, read(device))
        draws += [TORCH] * mode.drew + [OWN] * mode.own
        seen = Seen(mode.asked, tuple(draws), kept.changed())
    if repeats:
        with _undone(layer, device):
            same = not _apart(outputs, _run(layer, inputs), EXACT)
        if mode.own or not same:
            raise ValueError(
                f"{name} draws from {OWN}, or keeps what no key can reach, so that its forward "
                f"would not be the same again: let it draw from torch's own (generator=None), or "
                f"use recompute=False and seed=None"
            )
    if len(sides) < 2:
        return outputs, [outputs], seen
    alone = []
    for side in sides:
        with _undone(layer, device):
            alone.append(_run(layer, side))
    if seen.keeps:
        with _undone(layer, device):
            _run(layer, sides[0])
            after = _run(layer, sides[1])
        if _apart(alone[1], after, EXACT):
            raise ValueError(
                f"{name} changes {', '.join(seen.keeps)} in its forward, and its output depends "
                f"on that: a micro-batch would be computed with what the one before it left; use "
                f"layer.eval(), or num_microbatches=1"
            )
    dim = _joint(outputs, alone)
    apart = _apart(outputs, torch.cat(alone, dim) if alone[0].dim() else torch.stack(alone))
    if apart:
        raise ValueError(f"{name}: {apart}; {_remedy(layer)}")
    return outputs, list(outputs.split([side.shape[dim] for side in alone], dim)), seen


def _joint(outputs: Tensor, alone: Sequence[Tensor]) -> int:
    """Return the dimension along which two outputs add up to the joined one, mostly 0."""
    one, two = (list(side.shape) for side in alone)
    for dim, size in enumerate(outputs.shape):
        if len(one) == len(two) == outputs.dim() and one[dim] + two[dim] == size:
            return dim
    return 0


@contextmanager
def _undone(layer: nn.Module, device: torch.device) -> Iterator[tuple[Kept, State]]:
    """Undo what a forward does to generators and to what the layer keeps."""
    kept, generators = Kept(layer), read(device)
    try:
        yield kept, generators
    finally:
        put_back(generators, device)
        kept.put_back()


def _apart(joined: Tensor, alone: Tensor, rounding: float | None = None) -> str:
    """Say how two outputs differ that should be the same but for rounding; "" if they do not."""
    if joined.shape != alone.shape:
        return (
            f"two micro-batches together give an output of shape {tuple(joined.shape)}, each by "
            f"itself {tuple(alone.shape)} in all, so a sample's output is not its own"
        )
    if not (joined.is_floating_point() or joined.is_complex()):
        same = torch.equal(joined, alone)
        return "" if same else "its output for a micro-batch depends on the other samples"
    finite = torch.isfinite(joined) & torch.isfinite(alone)
    one, other = (
        x[finite].to(torch.promote_types(x.dtype, torch.float64)) for x in (joined, alone)
    )
    far, size = 0.0, 1.0
    if one.numel():
        far, size = ((x).abs().max().item() for x in (one - other, torch.cat([one, other])))
    rest = torch.equal(torch.isnan(joined), torch.isnan(alone)) and torch.equal(
        joined[~finite].nan_to_num(), alone[~finite].nan_to_num()
    )
    if rest and not far > (_rounding(joined) if rounding is None else rounding) * size:
        return ""
    return (
        f"its output for a micro-batch alone and together with another one differs by "
        f"{far / size:.1%} of the largest value: a sample's output depends on the other samples, "
        f"and the gradients would not be those of the mini-batch"
    )


def _rounding(outputs: Tensor) -> float:
    """Return how far rounding alone may move an output, relative to the largest."""
    low = outputs.dtype in (torch.float16, torch.bfloat16)
    return 5e-2 if low or torch.is_autocast_enabled(outputs.device.type) else 1e-3


def _remedy(layer: nn.Module) -> str:
    for part in layer.modules():
        if getattr(part, "batch_first", None) is False:
            return (
                f"{type(part).__name__} takes (positions, samples, …): build it with "
                f"batch_first=True, or use num_microbatches=1"
            )
    return (
        "use a layer that treats every sample by itself, layer.eval(), or num_microbatches=1; "
        "probe=False looks at no layer"
    )


def _look_at_loss(loss_fn: LossFunction, outputs: Tensor, targets: Tensor, cut: int) -> bool:
    """Say whether the loss draws random numbers; if not, raise unless micro-batches add up."""
    layer = loss_fn if isinstance(loss_fn, nn.Module) else nn.Identity()
    with _undone(layer, outputs.device) as (_, generators):
        try:
            with not_random(outputs.device) as mode:
                loss_fn(outputs, targets)
        except Exception as error:
            raise _Fails from error
        draws = mode.asked or mode.drew or bool(drawn_from(generators, read(outputs.device)))
        if cut and not draws:
            check_sum(loss_fn, rule_of(loss_fn), outputs, targets, cut)
    return draws
