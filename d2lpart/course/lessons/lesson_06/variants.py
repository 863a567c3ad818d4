"""Lesson 06: its number questions for any sizes, and the variants drawn from them."""

import random

from d2lpart.course.lessons.lesson_06.facts import held, step
from d2lpart.course.questions.choices import NumberQuestion
from d2lpart.schedules.closed_form import bubble_formula


def enough_microbatches(p: int, percent: int) -> NumberQuestion:
    """06.q1: the fewest micro-batches with which at most `percent` of the step is idle."""
    part = percent / 100
    fewest = next(m for m in range(1, 100 * p) if bubble_formula("1f1b", p, m) <= part + 1e-12)
    ideal = round((p - 1) / part)
    less = bubble_formula("1f1b", p, fewest - 1)
    return NumberQuestion(
        "06.q1",
        f"{p} even ranks. How many micro-batches does a step need at least, so that no more than "
        f"{percent}% of the time is idle (idle/total)?",
        answer=fewest,
        tolerance=0,
        explain=(
            f"{p - 1} blank slots in {fewest} + {p - 1}: "
            f"{bubble_formula('1f1b', p, fewest):.1%}; with one less it is {less:.2%}."
        ),
        misconceptions=[
            (
                ideal,
                f"With {ideal} it is {p - 1}/{ideal} of the *work*, idle/ideal. Of the step it is "
                f"{bubble_formula('1f1b', p, ideal):.1%}: some fewer will do.",
            ),
            (
                p,
                f"As many micro-batches as ranks leave {bubble_formula('1f1b', p, p):.0%} idle.",
            ),
            (
                round(p / part),
                f"Count p − 1 = {p - 1} blank slots, not {p}, and set them against the step.",
            ),
        ],
        otherwise="Write (p − 1)/(m + p − 1) at most that part, and solve for m.",
    )


def held_on_rank_0(p: int, m: int) -> NumberQuestion:
    """06.q3: the micro-batches that rank 0 holds in 1F1B."""
    most = int(step("1f1b", p, m).peak_in_flight(0))
    gpipe = int(held(step("gpipe", p, m)))
    return NumberQuestion(
        "06.q3",
        f"{p} ranks, {m} micro-batches, 1F1B. Of how many micro-batches does rank 0 hold the "
        f"activations at most at the same time?",
        answer=most,
        tolerance=0,
        explain=(
            f"It runs {p - 1} forwards ahead and one more before its first backward; from then on "
            f"each forward follows a backward: {most}, whatever m is."
        ),
        misconceptions=[
            (gpipe, f"That is GPipe: all {gpipe} forwards come before the first backward."),
            (
                1,
                f"That is the last rank, whose backward follows at once. Rank 0 waits for the "
                f"gradient of {p - 1} ranks behind it.",
            ),
            (
                p - 1,
                f"The {p - 1} forwards ahead, yes; and the one that runs just before the first "
                f"backward.",
            ),
        ],
        otherwise="Walk through the lane of rank 0: +1 for an F, −1 for a B. What is the largest?",
    )


def interleaved(p: int, m: int, v: int) -> NumberQuestion:
    """06.q6: the idle part of an interleaved step."""
    idle, plain = step("interleaved", p, m, v).idle_fraction(), step("1f1b", p, m).idle_fraction()
    return NumberQuestion(
        "06.q6",
        f"{p} ranks, {m} micro-batches: 1F1B idles {plain:.1%}. Now each rank has {v} stages, each "
        f"1/{v} as long, and the order is interleaved. What part of the step is idle?",
        answer=100 * idle,
        unit="%",
        tolerance=0.5,
        explain=(
            f"The blank slots are those of one stage, 1/{v} as long: ({p} − 1)/({v} × {m} + {p} − "
            f"1) = {idle:.1%}."
        ),
        misconceptions=[
            (
                100 * plain / v,
                f"The idle *seconds* are divided by {v}. But the step is shorter, too: "
                f"{idle:.1%}, not {plain / v:.1%}.",
            ),
            (
                100 * (p - 1) / (v * m),
                f"That is {p - 1} blank slots for {v * m} of *work*, idle/ideal. The step has "
                f"{v * m + p - 1} slots.",
            ),
            (
                100 * plain,
                f"The ranks and the work are the same, but a rank waits for stages 1/{v} as long.",
            ),
            (
                100 * (p * v - 1) / (m + p * v - 1),
                f"You take {p * v} stages for {p * v} ranks. There are {p} lanes.",
            ),
        ],
        otherwise=f"Count in slots of one short stage: {v * m} of work a rank, and {p - 1} blank.",
    )


def _draw_interleaved(rng: random.Random) -> NumberQuestion:
    p = rng.randint(3, 6)
    return interleaved(p, p * rng.randint(2, 3), rng.randint(2, 3))


VARIANTS = {
    "06.q1": lambda rng: enough_microbatches(rng.randint(4, 12), rng.choice([5, 10, 20])),
    "06.q3": lambda rng: held_on_rank_0(rng.randint(3, 9), rng.randint(12, 40)),
    "06.q6": _draw_interleaved,
}
