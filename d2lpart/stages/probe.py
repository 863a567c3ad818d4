"""Probe: what a layer's forward does beside computing its output, found by trying it once.

Two micro-batches go through every layer, joined and each by itself, without a graph. Where the
outputs differ, a sample's output depends on the other samples (attention over a batch taken for
positions, statistics of a batch), or on what the layer has kept from one forward to the next: then
micro-batches leave other gradients than the mini-batch. On the way it is seen which layers draw
random numbers, and which change their buffers. Dropout drops nothing meanwhile, and generators and
buffers are as they were afterwards. Nothing here looks at the names of layers.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2lpart.stages.generators import State, drawn_from, put_back, read, torch_states
from d2lpart.stages.keyed_dropout import keyed_randomness
from d2lpart.stages.layer_call import call
from d2lpart.stages.layer_state import Kept
from d2lpart.stages.losses import LossFunction, check_sum, rule_of
from d2lpart.stages.microbatch import Batch
from d2lpart.stages.stage import Seen, Stage
from d2lpart.stages.tied import standing_in

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
        """Call a function, and level what it draws; whole numbers stay as they are."""
        kwargs = kwargs or {}
        if func is F.rrelu:
            args, kwargs = self._unrandom(args, kwargs | {"training": False}, 3, 4)
        elif func in _RECURRENT:  # the first float is the chance to drop
            place = next(i for i, arg in enumerate(args) if isinstance(arg, float))
            args, kwargs = self._unrandom(args, kwargs, place, place + 1, 0.0)
        generator = kwargs.get("generator")
        before = self._states(generator)
        result = super().__torch_function__(func, types, args, kwargs)
        if all(map(torch.equal, before, self._states(generator))):
            return result
        if generator is not None:
            self.own = True
            generator.set_state(before[0])
        if isinstance(result, Tensor) and result.is_floating_point():
            result.fill_(0.5)
        return result

    def _unrandom(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], start: int, end: int, *instead: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Take away the argument that makes a function random, and note whether it did."""
        self.drew = self.drew or any(args[start:end]) or not args[start:end]
        return (*args[:start], *instead[: len(args[start:end])], *args[end:]), kwargs

    def _states(self, generator: torch.Generator | None) -> list[Tensor]:
        return [generator.get_state()] if generator is not None else torch_states(self.device)


class _Fails(Exception):
    """A layer or the loss fails here; what is wrong with it, the step tells better."""


def try_out(stages: Sequence[Stage], batch: Batch, repeats: bool = False) -> None:
    """Try every layer and the loss, and leave in each stage what was `seen` of its layers.

    Args:
        stages: of the pipeline, ready for a step.
        batch: the mini-batch of that step; of a single micro-batch it is only seen what draws
            random numbers and changes buffers.
        repeats: whether a forward must be able to draw the same numbers again.

    Raises:
        ValueError: a layer or the loss is no matter of single samples, but there are several
            micro-batches; or a forward that must repeat itself draws from a generator of its own.
    """
    two = _two(batch)
    inputs = torch.cat([batch.input(k) for k in two])
    cut = len(batch.input(two[0])) if len(two) == 2 else 0
    with torch.no_grad(), suppress(_Fails), warnings.catch_warnings(action="ignore"):
        for stage in stages:
            inputs = inputs.to(stage.device)
            with standing_in(stage.shadows):
                for place, layer in enumerate(stage.layers):
                    number = stage.first_layer + place
                    inputs, seen = _look(number, layer, inputs, cut, stage.device)
                    stage.seen[place] = seen
                    if repeats and OWN in seen.draws:
                        raise ValueError(
                            f"layer {number} ({type(layer).__name__}) draws from {OWN}, which no "
                            f"key can reach, so that it would not draw the same numbers again: let "
                            f"it draw from torch's own (generator=None), or use recompute=False "
                            f"and seed=None"
                        )
        targets = torch.cat([batch.target(k) for k in two]).to(inputs.device)
        stages[-1].loss_draws = _look_at_loss(batch.loss_fn, inputs, targets, cut)
    for stage in stages:
        stage.note_dropout()


def _two(batch: Batch) -> list[int]:
    """Return two micro-batches that count and whose targets differ most, or the only one.

    A padding that a loss leaves out is mostly the most frequent target.
    """
    counting = [k for k in range(batch.num_microbatches) if not batch.skipped(k)]
    every = batch.targets.flatten()
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
    number: int, layer: nn.Module, inputs: Tensor, cut: int, device: torch.device
) -> tuple[Tensor, Seen]:
    """Return a layer's output, and what was seen; raise if the output is not each sample's own."""
    with _undone(layer, device) as (kept, generators):
        mode = not_random(device)
        outputs = _run(layer, inputs, mode)
        draws = drawn_from(generators, read(device))
        draws += [TORCH] * mode.drew + [OWN] * mode.own
        seen = Seen(mode.asked, tuple(draws), kept.changed())
    if not cut:
        return outputs, seen
    first, second = inputs[:cut], inputs[cut:]
    with _undone(layer, device):
        alone = [_run(layer, first)]
    with _undone(layer, device):
        alone.append(_run(layer, second))
    name = f"layer {number} ({type(layer).__name__})"
    if seen.keeps:
        with _undone(layer, device):
            _run(layer, first)
            after = _run(layer, second)
        if _apart(alone[1], after):
            raise ValueError(
                f"{name} changes {', '.join(seen.keeps)} in its forward, and its output depends "
                f"on that: a micro-batch would be computed with what the one before it left; use "
                f"layer.eval(), or num_microbatches=1"
            )
    if apart := _apart(outputs, torch.cat([torch.atleast_1d(own) for own in alone])):
        raise ValueError(f"{name}: {apart}; {_remedy(layer)}")
    return outputs, seen


@contextmanager
def _undone(layer: nn.Module, device: torch.device) -> Iterator[tuple[Kept, State]]:
    """Undo what a forward does to generators and to what the layer keeps."""
    kept, generators = Kept(layer), read(device)
    try:
        yield kept, generators
    finally:
        put_back(generators, device)
        kept.put_back()


def _apart(joined: Tensor, alone: Tensor) -> str:
    """Say how two outputs differ that should be the same but for rounding; "" if they do not."""
    if joined.shape != alone.shape:
        return (
            f"two micro-batches together give an output of shape {tuple(joined.shape)}, each by "
            f"itself {tuple(alone.shape)} in all, so a sample's output is not its own"
        )
    if not joined.numel():
        return ""
    one, other = (
        x.to(torch.float64 if x.is_floating_point() else x.dtype) for x in (joined, alone)
    )
    if not (joined.is_floating_point() or joined.is_complex()):
        return (
            "" if torch.equal(one, other) else "its output for a micro-batch depends on the others"
        )
    far, size = (one - other).abs().max().item(), one.abs().max().item()
    if not far > _rounding(joined) * size:
        return ""
    return (
        f"its output for a micro-batch alone and together with another one differs by "
        f"{far / size:.0%} of the largest value: a sample's output depends on the other samples, "
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
    before = read(outputs.device)
    try:
        with not_random(outputs.device) as mode:
            loss_fn(outputs, targets)
    except Exception as error:
        raise _Fails from error
    draws = mode.asked or mode.drew or bool(drawn_from(before, read(outputs.device)))
    put_back(before, outputs.device)
    if cut and not draws:
        check_sum(loss_fn, rule_of(loss_fn), outputs, targets, cut)
    return draws
