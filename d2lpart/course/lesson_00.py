"""Lesson 00: start here; its questions."""

from d2lpart import Link, Timeline, build_schedule, simulate
from d2lpart.course.exercise import Exercise
from d2lpart.course.questions import BaseQuestion, NumberQuestion, Option, Question


def _step(name: str, num_ranks: int, num_microbatches: int, work: float = 1.0) -> Timeline:
    """One step with `work` seconds of computing in all, a third of it forward."""
    share = work / (3 * num_ranks * num_microbatches)
    schedule = build_schedule(name, num_ranks, num_microbatches)
    return simulate(schedule, {"F": share, "B": 2 * share})


def _naive(num_ranks: int) -> Timeline:
    return _step("naive", num_ranks, 1)


QUESTIONS: list[BaseQuestion] = [
    NumberQuestion(
        "00.q1",
        "Predict: ten workers instead of four, a tenth of the layers each. What part of the time "
        "is each idle?",
        answer=lambda: 100 * _naive(10).idle_fraction(),
        unit="%",
        tolerance=1,
        explain=lambda: (
            f"One worker of ten computes at a time, so each is idle "
            f"{_naive(10).idle_fraction(0):.0%} of the step."
        ),
        misconceptions=[
            (
                10,
                lambda: (
                    f"That is the part in which it works. In the picture a worker of four works "
                    f"{1 - _naive(4).idle_fraction():.0%} of the step."
                ),
            ),
            (
                75,
                lambda: (
                    f"That was the picture: with four workers, three wait for one, "
                    f"{_naive(4).idle_fraction():.0%}. How many of ten wait for one?"
                ),
            ),
            (
                0,
                lambda: (
                    f"That would be all workers at once, but each needs what the one before it "
                    f"made. Already of four, each waits {_naive(4).idle_fraction():.0%} of the "
                    f"step."
                ),
            ),
        ],
        otherwise="In the picture, set the blank part of a lane against its length. Now draw ten.",
    ),
    Question(
        "00.q2",
        "Predict: one rank takes 1 s for a step. The same network is cut over four ranks, and the "
        "mini-batch still passes through in one piece. How long does the step take now?",
        {
            "a": Option(
                "about 0.25 s: four ranks share the work",
                lambda: (
                    f"The work is shared, the time is not: the ranks work one after another, "
                    f"4 × {_naive(4).busy(0):.2f} s."
                ),
            ),
            "b": Option(
                "about 1 s: the ranks take turns",
                lambda: (
                    f"Four turns of {_naive(4).busy(0):.2f} s add up to "
                    f"{_naive(4).makespan:.2f} s; what was gained is memory."
                ),
            ),
            "c": Option(
                "about 4 s: every rank runs the whole network",
                lambda: (
                    f"Each rank runs its own layers only, {_naive(4).busy(0):.2f} s of the "
                    f"{_naive(4).makespan:.2f} s."
                ),
            ),
        },
        answer="b",
    ),
    NumberQuestion(
        "00.q3",
        "Predict: the mini-batch is cut into four micro-batches, so that all four ranks can work "
        "at once. What part of the time is a rank idle now?",
        answer=lambda: 100 * _step("1f1b", 4, 4).idle_fraction(),
        unit="%",
        tolerance=1,
        explain=lambda: (
            f"Take a forward and a backward as one slot. The step lasts 4 slots, one for each "
            f"micro-batch, and 3 more to fill and to drain: 3 of 7, "
            f"{_step('1f1b', 4, 4).idle_fraction():.1%}, are idle."
        ),
        misconceptions=[
            (
                0,
                lambda: (
                    f"Only in the middle do all four work. The last rank waits for three forwards "
                    f"first, and {_step('1f1b', 4, 4).idle_fraction(3):.1%} of its step is blank."
                ),
            ),
            (
                75 / 4,
                lambda: (
                    f"Four micro-batches do not divide the idle time by four: from "
                    f"{_naive(4).idle_fraction():.0%} it falls to "
                    f"{_step('1f1b', 4, 4).idle_fraction():.1%}, since filling and draining stay."
                ),
            ),
            (
                400 / 7,
                lambda: (
                    f"That is the part in which it works: "
                    f"1 − {_step('1f1b', 4, 4).idle_fraction():.1%}."
                ),
            ),
            (
                75,
                lambda: (
                    f"That was with one micro-batch. With four, the ranks overlap, and the same "
                    f"work ends after {_step('1f1b', 4, 4).makespan:.2f} s instead of 1 s."
                ),
            ),
        ],
        otherwise="Draw four lanes, shift each by one slot, and count blank slots in one lane.",
    ),
    Question(
        "00.q4",
        "The measured timeline has more idle time than the formula says. Which of these does the "
        "formula leave out?",
        {
            "a": Option(
                "Stages are not equally heavy.",
                lambda: (
                    f"One stage with twice the work of the others: idle rises from "
                    f"{_step('1f1b', 4, 4).idle_fraction():.1%} to {_uneven().idle_fraction():.1%}."
                ),
            ),
            "b": Option(
                "A rank cannot work before its input is there.",
                lambda: (
                    f"That is what the formula counts: its "
                    f"{_step('1f1b', 4, 4).idle_fraction():.1%} is filling and draining, no more."
                ),
            ),
            "c": Option(
                "Forward takes less time than backward.",
                lambda: (
                    f"It makes no difference: with forward as long as backward the idle part is "
                    f"{_equal().idle_fraction():.1%} too."
                ),
            ),
        },
        answer="a",
    ),
    Question(
        "00.q5",
        "Then why cut a network at all?",
        {
            "a": Option(
                "To make one step faster.",
                lambda: (
                    f"Cut and nothing else, a step of 1 s takes "
                    f"{_with_hops(0.01).makespan:.2f} s once each hop takes 0.01 s."
                ),
            ),
            "b": Option(
                "To move fewer bytes.",
                lambda: (
                    f"One device moves 0 messages, four ranks {len(_naive(4).transfers)} for each "
                    f"micro-batch."
                ),
            ),
            "c": Option(
                "Because it does not fit on one device.",
                lambda: (
                    f"Each of 4 devices keeps about 1/4 of the weights, gradients and optimizer "
                    f"state: of 112 GB for 7 billion parameters, 16 bytes each, "
                    f"{7 * 16 / 4:.0f} GB."
                ),
            ),
        },
        answer="c",
    ),
]


def _uneven() -> Timeline:
    light = {"F": 1.0, "B": 2.0}
    return simulate(build_schedule("1f1b", 4, 4), [light, {"F": 2.0, "B": 4.0}, light, light])


def _equal() -> Timeline:
    return simulate(build_schedule("1f1b", 4, 4), {"F": 1.0, "B": 1.0})


def _with_hops(seconds: float) -> Timeline:
    share = 1.0 / 12
    durations = {"F": share, "B": 2 * share}
    return simulate(build_schedule("naive", 4, 1), durations, Link(latency=seconds))


EXERCISES: list[Exercise] = []
