"""Lesson 01: why one device is not enough; its number questions for any sizes."""

import random
from math import ceil, floor

from d2lpart import build_schedule
from d2lpart.course.lessons.lesson_01.facts import USABLE, fewest, state_gb
from d2lpart.course.questions.choices import NumberQuestion
from d2lpart.memory.formulas import ADAM_MIXED
from d2lpart.schedules.in_flight import peak_held, whole


def training(billions: int) -> NumberQuestion:
    """01.q1: bytes of weights, gradients and optimizer."""
    w, g, o = ADAM_MIXED
    need = state_gb(billions)
    return NumberQuestion(
        "01.q1",
        f"Predict: {billions} billion parameters, trained with Adam. Weights and gradients have 16 "
        f"bits each. How many GB do weights, gradients and the optimizer take, the activations "
        f"aside?",
        answer=need,
        unit="GB",
        explain=(
            f"{w:g} + {g:g} + {o:g} = {ADAM_MIXED.total:g} bytes a parameter: {need:g} GB, "
            f"{ADAM_MIXED.total / w:g} times the weights alone."
        ),
        misconceptions=[
            (
                billions * w,
                f"That is the weights alone, {w:g} bytes each. They are there to be read; training "
                f"changes them, and needs more.",
            ),
            (
                billions * (w + g),
                f"Weights and gradients, {w + g:g} bytes. Adam remembers two moments for each "
                f"weight, and it adds small numbers: it keeps all of this in 4 bytes each.",
            ),
            (
                billions * (w + g + 8),
                f"The two moments are 8 bytes. Adam adds small steps to a weight, and 16 bits "
                f"would lose them: a copy of 4 bytes more, so {o:g} for the optimizer.",
            ),
            (
                billions * (w + o),
                f"{w:g} + {o:g}: you have left out the gradients, {g:g} bytes each.",
            ),
            (
                ADAM_MIXED.total,
                f"{ADAM_MIXED.total:g} bytes is what one parameter takes. There are {billions} "
                f"billion of them, and a GB is a billion bytes.",
            ),
            (
                billions * (w + 4 + o),
                f"That is with gradients of 32 bits. Here they have 16, {g:g} bytes each.",
            ),
            (1e9 * need, "Those are bytes; 1 GB is a billion of them."),
            (need / 1.024**3, "Those are GiB, of 1024³ bytes. A GB has 1000³."),
        ],
        otherwise="Add up the bytes of one parameter: weight, gradient, and what Adam keeps.",
    )


def in_flight(num_layers: int, gb: int, num_ranks: int, num_microbatches: int) -> NumberQuestion:
    """01.q4: what rank 0 holds under 1F1B."""
    L, p, m = num_layers, num_ranks, num_microbatches
    share = L * gb // p
    held = peak_held(build_schedule("1f1b", p, m), 0, {0: whole(share)})
    return NumberQuestion(
        "01.q4",
        f"Predict: {L} layers, and each holds {gb} GB for one micro-batch, from its forward to its "
        f"backward. They are cut over {p} ranks, {L // p} layers each, and {m} micro-batches go "
        f"through under 1F1B. How many GB of activations does rank 0 hold at most?",
        answer=held,
        unit="GB",
        explain=(
            f"Rank 0 is {p} forwards ahead of its first backward: {p} micro-batches of {L // p} "
            f"layers are {p} × {share} = {held:g} GB, one micro-batch of the whole network."
        ),
        misconceptions=[
            (
                share,
                f"That is one micro-batch, {L // p} × {gb} GB. Rank 0 runs {p} forwards before the "
                f"first gradient is back.",
            ),
            (
                m * share,
                f"That is all {m} micro-batches: GPipe. Under 1F1B the first backward lets one go "
                f"before the next is taken in.",
            ),
            (
                (p - 1) * share,
                f"{p - 1} are on their way to the other ranks or back, and rank 0 takes in one "
                f"more before it has to wait: {p}.",
            ),
        ],
        otherwise="How many micro-batches has rank 0 taken in before its first backward?",
    )


def gpus(billions: int, card: int) -> NumberQuestion:
    """01.q6: the bound on the number of GPUs."""
    need, each = state_gb(billions), USABLE * card
    return NumberQuestion(
        "01.q6",
        f"A model of {billions} billion parameters is trained with Adam in 16 bits. Of a GPU's "
        f"{card} GB a step can use 92%. How many GPUs does it take at the very least, for weights, "
        f"gradients and optimizer alone?",
        answer=fewest(billions, card),
        unit="GPUs",
        tolerance=0.4,
        explain=(
            f"{need:,.0f} GB over {each:.1f} GB are {need / each:.2f}, so {fewest(billions, card)} "
            f"GPUs; and not a byte is left for activations."
        ),
        misconceptions=[
            (
                ceil(2 * billions / each),
                f"These hold the weights, {2 * billions} GB. Training takes {need:,.0f} GB.",
            ),
            (
                ceil(need / card),
                f"You give the state all {card} GB of each. Of these a step can use {each:.1f} GB.",
            ),
            (
                floor(need / each),
                f"{floor(need / each)} GPUs hold {floor(need / each) * each:,.1f} GB, and "
                f"{need:,.0f} GB are needed: round up.",
            ),
        ],
        otherwise=f"How many GB are needed, and how many of its {card} GB can a GPU give?",
    )


def _draw_in_flight(rng: random.Random) -> NumberQuestion:
    p = rng.choice([2, 3, 4, 5, 6, 8])
    return in_flight(p * rng.randint(3, 9), rng.randint(1, 3), p, p * rng.randint(2, 5))


def _draw_gpus(rng: random.Random) -> NumberQuestion:
    return gpus(rng.choice([70, 130, 175, 280, 405, 530]), rng.choice([24, 32, 48, 80, 96]))


VARIANTS = {
    "01.q1": lambda rng: training(rng.choice([3, 13, 30, 65, 70, 175])),
    "01.q4": _draw_in_flight,
    "01.q6": _draw_gpus,
}
