"""The ledger by formula: bytes of a parameter's state, and of a decoder layer's activations.

Letters: L layers, h width, a heads, s positions, V vocabulary, b sequences in a micro-batch, t
ranks that split every layer between them (tensor parallelism), p ranks of a pipeline, d replicas.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import ceil
from typing import NamedTuple

from d2lpart.common.arguments import check_kind, check_whole
from d2lpart.common.quantities import count
from d2lpart.memory.ledger import Ledger
from d2lpart.schedules.in_flight import StageBytes, peak_held, whole
from d2lpart.schedules.schedule import Schedule, check_schedule

RECOMPUTE = ("none", "selective", "full")


class BytesPerParameter(NamedTuple):
    """What one parameter costs while it is trained, in bytes.

    >>> ADAM_MIXED.total, ADAM_MIXED_FP32_GRADIENTS.total, ADAM_FP32.total, SGD_FP32.total
    (16, 18, 16, 8)
    """

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """All three together."""
        return sum(self)

    def sharded(self, zero: int, replicas: int) -> "BytesPerParameter":
        """Return what is left on each of d replicas that share the state between them.

        Stage 1 shards the optimizer's state, 2 the gradients too, 3 the weights too.
        Source: ZeRO (arXiv 1910.02054), figure 1.

        Raises:
            ValueError: there is no such stage, or no replica.

        >>> ADAM_MIXED.sharded(2, 4).total
        5.5
        """
        if zero not in range(4) or replicas < 1:
            raise ValueError(
                f"zero={zero}, {replicas} replicas: use a stage from 0 to 3 and at least 1 replica"
            )
        parts = (self.weights, 3), (self.gradients, 2), (self.optimizer, 1)
        return BytesPerParameter(*(n / replicas if zero >= stage else n for n, stage in parts))


ADAM_MIXED = BytesPerParameter(2, 2, 12)
"""16-bit weights and gradients; 32-bit master weights and two moments (ZeRO, 1910.02054, 3.1)."""

ADAM_MIXED_FP32_GRADIENTS = BytesPerParameter(2, 4, 12)
"""The same with gradients added up in 32 bits (Megatron-LM; 2205.05198, section 5)."""

ADAM_FP32 = BytesPerParameter(4, 4, 8)
SGD_FP32 = BytesPerParameter(4, 4, 0)
MOMENTUM_FP32 = BytesPerParameter(4, 4, 4)


@dataclass(frozen=True)
class DecoderShape:
    """The sizes of a decoder on paper: L, h, a, s and V.

    >>> DecoderShape(36, 4096, 32).parameters / 1e9  # Megatron-LM (2104.04473) calls it 7.5B
    7.467778048
    """

    num_layers: int
    width: int
    num_heads: int
    context: int = 2048
    vocab_size: int = 51200

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            check_whole(name, size)

    @property
    def parameters(self) -> int:
        """12·L·h²·(1 + 13/(12h) + (V+s)/(12·L·h)); Megatron-LM SC21 (2104.04473), equation 2."""
        L, h = self.num_layers, self.width
        return 12 * L * h * h + 13 * L * h + (self.vocab_size + self.context) * h

    @property
    def matrices(self) -> int:
        """12·L·h²: the weights of the layers' matrices alone."""
        return 12 * self.num_layers * self.width**2


def layer_activations(
    shape: DecoderShape,
    microbatch: int = 1,
    *,
    tensor: int = 1,
    sequence_parallel: bool = False,
    recompute: str = "none",
) -> int:
    """Return the bytes that one layer holds of one micro-batch, on each of t ranks.

    None recomputed: s·b·h·(10 + 24/t + 5·a·s/(h·t)); with sequence parallelism the 10 is shared by
    the t ranks, too. Selective recompute, or an attention that never writes its scores down, leaves
    out the last term; full recompute holds the layer's input alone, 2·s·b·h. Numbers of 16 bits,
    masks of dropout of 8. Source: Korthikanti et al. (2205.05198), table 2.

    Raises:
        ValueError: sizes below 1, or an unknown kind of recompute.

    >>> shape = DecoderShape(num_layers=96, width=12288, num_heads=96)
    >>> layer_activations(shape, tensor=8, sequence_parallel=True, recompute="selective") / 2**20
    102.0
    """
    if recompute not in RECOMPUTE:
        raise ValueError(f"recompute is {recompute!r}: use one of {', '.join(RECOMPUTE)}")
    if min(microbatch, tensor) < 1:
        raise ValueError(f"{microbatch} sequences over {tensor} ranks: give at least 1 of each")
    s, h = shape.context, shape.width
    if recompute == "full":
        return 2 * s * microbatch * h
    whole_part = Fraction(10, tensor if sequence_parallel else 1)
    scores = Fraction(5 * shape.num_heads * s, h) if recompute == "none" else Fraction(0)
    return ceil(s * microbatch * h * (whole_part + (24 + scores) / tensor))


def decoder_ledger(
    shape: DecoderShape,
    schedule: Schedule | None = None,
    rank: int = 0,
    *,
    microbatch: int = 1,
    recipe: BytesPerParameter = ADAM_MIXED,
    tensor: int = 1,
    sequence_parallel: bool = False,
    recompute: str = "none",
    parameters: float | None = None,
) -> Ledger:
    """Return the computed ledger of one rank of a pipeline of equal stages.

    Weights, gradients and optimizer are an even share of all p·t ranks. The activations are those
    of the layers; embedding, head and loss are not in them (a profile has them: `predict_memory`).
    Where the backward is split, a micro-batch is charged in full until its weight gradient.

    Args:
        shape: of the decoder.
        schedule: of the pipeline; None: one rank, one micro-batch at a time.
        rank: which rank of the schedule.
        microbatch: b, in sequences.
        recipe: bytes for each parameter; `recipe.sharded` counts replicas that share them.
        tensor, sequence_parallel, recompute: as in `layer_activations`. Full recompute holds one
            layer as a whole while it runs backward; that layer's input is counted twice, at most
            2·s·b·h too much.
        parameters: of the whole model; by default `shape.parameters`.

    Raises:
        ValueError: the layers are no multiple of the stages, or a size is unusable.

    >>> decoder_ledger(DecoderShape(32, 4096, 32), parameters=7e9).state / 1e9
    112.0
    """
    check_kind(shape, DecoderShape, "give the sizes, such as DecoderShape(32, 4096, 32)")
    check_kind(recipe, BytesPerParameter, "give one of this module's, such as ADAM_MIXED")
    if schedule is not None:
        check_schedule(schedule)
    num_ranks = 1 if schedule is None else schedule.num_ranks
    num_stages = 1 if schedule is None else schedule.num_stages
    if shape.num_layers % num_stages:
        raise ValueError(
            f"{count(shape.num_layers, 'layer')} for {count(num_stages, 'stage')}: the formulas "
            f"are for equal stages; use a number that divides the layers, or predict_memory"
        )
    layer = partial(
        layer_activations, shape, microbatch, tensor=tensor, sequence_parallel=sequence_parallel
    )
    one = shape.num_layers // num_stages * layer(recompute=recompute)
    stage = whole(one)
    if recompute == "full":
        stage = StageBytes(one, one + layer(), one)
    held: float = stage.backward
    if schedule is not None:
        held = peak_held(schedule, rank, dict.fromkeys(schedule.stages_of(rank), stage))
    share = (shape.parameters if parameters is None else parameters) / (num_ranks * tensor)
    weights, gradients, optimizer = (ceil(share * nbytes) for nbytes in recipe)
    return Ledger(weights, gradients, optimizer, ceil(held))
