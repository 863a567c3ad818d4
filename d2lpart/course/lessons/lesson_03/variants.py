"""Lesson 03: some of its number questions for any sizes, and the variants drawn from them."""

import random

from d2lpart.course.lessons.lesson_03 import facts
from d2lpart.course.lessons.lesson_03.exercises import bytes_moved, microbatch_weights
from d2lpart.course.questions.choices import NumberQuestion

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def messages_of(p: int) -> NumberQuestion:
    """03.q3: the messages of one step."""
    all_of_them = facts.messages(p)
    cuts = all_of_them // 2
    return NumberQuestion(
        "03.q3",
        f"{WORDS[p].capitalize()} stages on {WORDS[p]} ranks, one micro-batch, one step. How many "
        f"messages cross between ranks?",
        answer=all_of_them,
        tolerance=0,
        unit="messages",
        explain=f"{cuts} cuts, each crossed forward and backward.",
        misconceptions=[
            (cuts, f"That is forward alone: {cuts} activations. What comes back?"),
            (
                2 * p,
                f"That is one for each of the {2 * p} actions. Which hand nothing to another rank?",
            ),
            (
                2 * p - 1,
                f"That is one between each two actions. But {p - 1}F0 and {p - 1}B0 run on 1 rank.",
            ),
            (p, f"That is one for each of the {p} stages. Count the cuts between them instead."),
        ],
        otherwise="Count the cuts, and how often each of them is crossed.",
    )


def kilobytes(samples: int, positions: int, width: int, p: int) -> NumberQuestion:
    """03.q6: the bytes that cross in one step."""
    crossed = bytes_moved(samples, positions, width, p, 4) / 1e3
    one, count = bytes_moved(samples, positions, width, 2, 4) / 2e3, facts.messages(p)
    more = bytes_moved(samples, positions, width, p + 1, 4) / 1e3
    return NumberQuestion(
        "03.q6",
        f"A mini-batch of {samples} samples of {positions} positions, width {width}, numbers of 4 "
        f"bytes, {WORDS[p]} stages. How many kB (1 kB = 1000 bytes) cross in one step?",
        answer=crossed,
        tolerance=1,
        unit="kB",
        explain=(
            f"{count} messages of {samples} × {positions} × {width} × 4 bytes = {one:g} kB each."
        ),
        misconceptions=[
            (
                crossed / 2,
                f"That is one way: {count // 2} activations. Their gradients weigh the same and "
                f"come back.",
            ),
            (more, f"You count one cut a stage, but {p} stages have {count // 2} cuts."),
            (one, f"That is one message; there are {count}."),
            (
                crossed / 4,
                f"That counts numbers, {crossed / 4:g} thousand; each takes 4 bytes.",
            ),
            (1000 * crossed, "That is in bytes. 1 kB is 1000 of them."),
            (crossed / 1.024, "Those are KiB, of 1024 bytes. Here 1 kB is 1000."),
        ],
        otherwise="Multiply the messages by the numbers in one of them and by the bytes of each.",
    )


def mean_loss(losses: tuple[float, float], targets: tuple[int, int]) -> NumberQuestion:
    """03.q12: the mean loss of a mini-batch of two unequal micro-batches."""
    (a, b), (m, n) = losses, targets
    first, second = microbatch_weights([[1] * m, [1] * n])
    mean = first * a + second * b
    return NumberQuestion(
        "03.q12",
        f"Micro-batch 0 has a mean loss of {a:.1f} over {m} targets, micro-batch 1 one of {b:.1f} "
        f"over {n}. What is the mean loss of the mini-batch?",
        answer=mean,
        tolerance=0.001,
        explain=(
            f"The shares are {first:g} and {second:g}: {first:g} × {a:.1f} + {second:g} × {b:.1f} "
            f"= {mean:g}."
        ),
        misconceptions=[
            (
                (a + b) / 2,
                f"That is the mean of the two means; but {n} targets weigh more than {m}.",
            ),
            (
                second * a + first * b,
                f"You have given the {m} targets the weight of the {n}.",
            ),
            (a + b, "That is the sum of the 2 means."),
        ],
        otherwise=f"Add up the losses of all {m + n} targets, then divide by {m + n}.",
    )


def _draw_loss(rng: random.Random) -> NumberQuestion:
    few = 100 * rng.randint(1, 2)
    times = rng.choice([3, 4])
    return mean_loss((float(rng.randint(1, 3)), float(rng.randint(4, 7))), (few, times * few))


VARIANTS = {
    "03.q3": lambda rng: messages_of(rng.randint(3, 9)),
    "03.q6": lambda rng: kilobytes(
        rng.choice([4, 8, 16]), rng.choice([16, 32]), 32 * rng.randint(2, 6), rng.randint(3, 8)
    ),
    "03.q12": _draw_loss,
}
