"""Lesson 04: some of its number questions for any sizes, and the variants drawn from them."""

import random

from d2lpart import Partition, check_placement, partition
from d2lpart.course.questions.choices import NumberQuestion


def dealt(num_layers: int, num_devices: int) -> int:
    """Crossings of layers dealt out in turn."""
    return check_placement([layer % num_devices for layer in range(num_layers)]).crossings


def megabytes(crossings: int) -> float:
    """What crosses for one sequence of 2,048 positions, width 5,120, 2 bytes a number."""
    return 2 * crossings * 2048 * 5120 * 2 / 1e6


def moved(num_layers: int, num_devices: int) -> NumberQuestion:
    """04.q3: the bytes that layers move which are dealt out in turn."""
    n, p = num_layers, num_devices
    few, many = Partition([n // p] * p).crossings, dealt(n, p)
    return NumberQuestion(
        "04.q3",
        "Predict, for a model of real size: one sequence of 2,048 positions, width 5,120, 2 bytes "
        f"a number. In consecutive groups it moves {megabytes(few):.0f} MB in a step. How many MB "
        f"does it move when the {n} layers are dealt out to the {p} devices?",
        answer=megabytes(many),
        unit="MB",
        tolerance=4,
        explain=(
            f"{many} crossings, each with {megabytes(1) / 2:.1f} MB forward and as much back: "
            f"{megabytes(many):.0f} MB."
        ),
        misconceptions=[
            (
                megabytes(few),
                f"Each device holds {n // p} layers as before, but what moves depends on the cuts, "
                f"and there are {many} of them now.",
            ),
            (
                megabytes(n),
                f"There is no crossing behind the last of the {n} layers: {many} neighbours, not "
                f"{n}.",
            ),
            (
                megabytes(many) / 2,
                f"That is the way forward. {megabytes(many) / 2:.0f} MB of gradients come back.",
            ),
        ],
        otherwise=(
            f"Divide the {megabytes(few):.0f} MB by the crossings of consecutive groups; count the "
            f"new ones."
        ),
    )


def equal_layers(num_layers: int, num_stages: int) -> NumberQuestion:
    """04.q6: the smallest bottleneck of equal layers whose number is no multiple of the stages."""
    n, p = num_layers, num_stages
    best = int(partition([1] * n, p).bottleneck([1] * n))
    full, rest = divmod(n, best)
    filled = f"{full} stages of {best}" + (f" with one of {rest}" if rest else "")
    if full + bool(rest) < p:
        filled = f"{n - p * (best - 1)} stages of {best} and the others of {best - 1}"
    low, left = n // p, n - (n // p) * (p - 1)
    return NumberQuestion(
        "04.q6",
        f"{n} equal layers of cost 1, {p} stages. What is the smallest bottleneck there can be?",
        answer=best,
        explain=(
            f"The mean is {n / p:.4g}, and layers do not split: {best} is the least, and {filled} "
            f"reach it."
        ),
        misconceptions=[
            (n / p, f"{n / p:.4g} is the mean. A stage holds whole layers."),
            (low, f"{p} stages of {low} hold {p * low} layers. {n - p * low} are left over."),
            (
                left,
                f"{p - 1} stages of {low}, and the last gets the other {left}. DeepSpeed's "
                f"partition_uniform once did so; spread these over the stages.",
            ),
        ],
        otherwise="No stage can be below the mean of all. What is the mean, and can it be reached?",
    )


def _draw_moved(rng: random.Random) -> NumberQuestion:
    devices = rng.randint(3, 6)
    return moved(devices * rng.randint(3, 8), devices)


def _draw_equal(rng: random.Random) -> NumberQuestion:
    stages, each = rng.randint(5, 9), rng.randint(3, 6)
    return equal_layers(stages * each - rng.randint(1, stages - 3), stages)


VARIANTS = {"04.q3": _draw_moved, "04.q6": _draw_equal}
