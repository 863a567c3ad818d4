"""Placements, layer by layer: is it network partitioning, and if not, what is it?"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from numbers import Integral
from typing import Any

from d2lpart.common.quantities import count
from d2lpart.partitions.amounts import PartitionError, layers_in_words, whole_number

SHOWN = 6  # layers or devices named in one sentence; the others are counted

Held = tuple[Hashable, ...]  # the devices that hold one layer: one of them, if all is well


@dataclass(frozen=True)
class Verdict:
    """What `check_placement` finds; true where the placement is network partitioning.

    Attributes:
        ok: each device holds one group of consecutive layers, and each layer one device.
        crossings: pairs of neighbouring layers on different devices.
        reason: one sentence with the numbers.
        counts: layers a device holds, in the order in which the layers reach the devices.
    """

    ok: bool
    crossings: int
    reason: str
    counts: dict[Hashable, int] = field(default_factory=dict, hash=False)

    def __bool__(self) -> bool:
        return self.ok


def check_placement(
    placement: Sequence[Any] | Mapping[int, Any], num_devices: int | None = None
) -> Verdict:
    """Say whether a placement cuts the network between layers, into one group a device.

    Args:
        placement: `placement[layer]` is the device of a layer: a list, a tuple, or a dict whose
            keys are layers. Layers count from 0; a device is a number or any label, None is none.
        num_devices: how many devices there are; then each must hold a layer, and devices that
            are numbers must be below it.

    Raises:
        PartitionError: the placement is of another kind, or `num_devices` is below 1.

    >>> check_placement([0, 0, 0, 1, 1, 1])
    Verdict(ok=True, crossings=1, reason='Each of the 2 devices holds one group of consecutive \
layers: 1 crossing, the fewest there can be.', counts={0: 3, 1: 3})
    >>> bool(check_placement([0, 1, 0, 1, 0, 1]))
    False
    """
    layers = [_held(entry) for entry in _entries(placement)]
    if num_devices is not None:
        whole_number("num_devices", num_devices, "give at least 1 device")
    counts = Counter(device for held in layers for device in held)
    single = [(a[0], b[0]) for a, b in pairwise(layers) if len(a) == len(b) == 1]
    crossings = sum(a != b for a, b in single)
    wrong = (
        _not_one_device(layers)
        or _no_such_device(counts, num_devices)
        or _not_consecutive(layers, crossings)
        or _unused(counts, num_devices)
    )
    return Verdict(not wrong, crossings, wrong or _right(counts), dict(counts))


def _entries(placement: Any) -> list[Any]:
    """Return the entry of each layer, None where a dict has none."""
    if hasattr(placement, "tolist"):  # an array or a tensor
        placement = placement.tolist()
    if isinstance(placement, Mapping):
        wrong = [key for key in placement if not isinstance(key, Integral) or key < 0]
        if wrong:
            raise PartitionError(
                f"{wrong[0]!r} is no layer: the keys of a placement are the layers 0, 1, 2, ..."
            )
        return [placement.get(layer) for layer in range(max(placement, default=-1) + 1)]
    if not isinstance(placement, Sequence) or isinstance(placement, str):
        raise PartitionError(
            f"a placement of type {type(placement).__name__}: give a list with the device of each "
            f"layer, or a dict from layer to device"
        )
    return list(placement)


def _held(entry: Any) -> Held:
    """Return the devices an entry names: none, one, or several."""
    if entry is None:
        return ()
    if isinstance(entry, list | tuple):
        return tuple(entry)
    if isinstance(entry, set | frozenset):
        return tuple(sorted(entry, key=str))  # sets have no order, sentences need one
    return (entry,)


def _not_one_device(layers: Sequence[Held]) -> str:
    """Return what is wrong where a layer has no device or several, else nothing."""
    if not layers:
        return "The placement is empty: give every layer a device."
    several = [layer for layer, held in enumerate(layers) if len(held) > 1]
    if several:
        first = several[0]
        return (
            f"{_of(several, layers)} on several devices at once (layer {first} on "
            f"devices {_some(layers[first])}): network partitioning puts each layer whole on one "
            f"device, while data parallelism copies layers and D2L's layer-wise partitioning cuts "
            f"inside them."
        )
    missing = [layer for layer, held in enumerate(layers) if not held]
    if missing:
        return (
            f"{_of(missing, layers)} without a device ({_named('layer', missing)}): the data runs "
            f"through every layer, so each needs one."
        )
    return ""


def _no_such_device(counts: Mapping[Hashable, int], num_devices: int | None) -> str:
    """Return what is wrong where the devices do not exist, else nothing."""
    if num_devices is None:
        return ""
    if not _numbered(counts):
        too_many = f"{len(counts)} devices hold layers, but there are only {num_devices}."
        return too_many if len(counts) > num_devices else ""
    outside = [device for device in counts if device not in range(num_devices)]
    if not outside:
        return ""
    there_are = (
        f"the {num_devices} devices are numbered 0 to {num_devices - 1}"
        if num_devices > 1
        else "the only device is number 0"
    )
    does = "does" if len(outside) == 1 else "do"
    return f"{_named('Device', outside)} {does} not exist: {there_are}."


def _not_consecutive(layers: Sequence[Held], crossings: int) -> str:
    """Return what is wrong where a device holds several groups of layers, else nothing."""
    devices = [held[0] for held in layers]
    groups: dict[Hashable, list[range]] = {}
    start = 0
    for device, run in groupby(devices):
        stop = start + len(list(run))
        groups.setdefault(device, []).append(range(start, stop))
        start = stop
    scattered = [device for device, runs in groups.items() if len(runs) > 1]
    if not scattered:
        return ""
    turn = list(groups)
    cost = f"{count(crossings, 'crossing')} where consecutive groups make {len(turn) - 1}"
    if all(device == turn[layer % len(turn)] for layer, device in enumerate(devices)):
        return (
            f"The layers are dealt out in turn: however equal the counts, no two neighbours share "
            f"a device, which makes {cost}."
        )
    runs = groups[scattered[0]]
    return (
        f"Device {scattered[0]} holds {len(runs)} separate groups "
        f"({_some([layers_in_words(run) for run in runs])}): a stage is one run of consecutive "
        f"layers, and this placement makes {cost}."
    )


def _unused(counts: Mapping[Hashable, int], num_devices: int | None) -> str:
    """Return what is wrong where a device holds no layer, else nothing."""
    if num_devices is None or len(counts) == num_devices:
        return ""
    rule = f"a partition over {num_devices} devices gives each of them a group of layers"
    empty = [device for device in range(num_devices) if device not in counts]
    hold = "holds" if num_devices - len(counts) == 1 else "hold"
    if _numbered(counts):
        return f"{_named('Device', empty)} {hold} no layer: {rule}."
    return f"{num_devices - len(counts)} of the {num_devices} devices {hold} no layer: {rule}."


def _right(counts: Mapping[Hashable, int]) -> str:
    """Return the sentence for a placement in which nothing is wrong."""
    sizes, total = list(counts.values()), sum(counts.values())
    most = max(counts, key=lambda device: counts[device])
    if len(sizes) == 1:
        return f"The whole network, {count(total, 'layer')}, is on device {most}: 0 crossings."
    sentence = (
        f"Each of the {len(sizes)} devices holds one group of consecutive layers: "
        f"{count(len(sizes) - 1, 'crossing')}, the fewest there can be"
    )
    if max(sizes) - min(sizes) > 1:
        share = max(sizes) * len(sizes) / total
        sentence += (
            f"; with stage sizes {_some(sizes)}, device {most} carries by count {share:.1f}x the "
            f"even share"
        )
    return sentence + "."


def _numbered(devices: Iterable[Hashable]) -> bool:
    return all(isinstance(device, Integral) for device in devices)


def _of(some: Sequence[int], layers: Sequence[Held]) -> str:
    return f"{len(some)} of {count(len(layers), 'layer')} {'is' if len(some) == 1 else 'are'}"


def _named(noun: str, labels: Sequence[Any]) -> str:
    return f"{noun if len(labels) == 1 else noun + 's'} {_some(labels)}"


def _some(labels: Sequence[Any]) -> str:
    """Return the first labels in words, and the number of the others."""
    words = [str(label) for label in labels[:SHOWN]]
    if len(labels) > SHOWN:
        words.append(f"{len(labels) - SHOWN} more")
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
