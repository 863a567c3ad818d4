"""Lesson 00: start here; its questions, and the predicted steps that they take their numbers from.

Those that ask for a number stand for any sizes; `VARIANTS` draws some.
"""

from d2lpart import Link, Timeline, build_schedule, simulate
from d2lpart.course.questions.choices import BaseQuestion, NumberQuestion, Option, Question
from d2lpart.course.questions.prediction import Prediction

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PARTS = {5: "a fifth", 6: "a sixth", 8: "an eighth", 10: "a tenth"}


def step(name: str, num_ranks: int, num_microbatches: int) -> Timeline:
    """One step with 1 s of computing in all, a third of it forward."""
    share = 1 / (3 * num_ranks * num_microbatches)
    schedule = build_schedule(name, num_ranks, num_microbatches)
    return simulate(schedule, {"F": share, "B": 2 * share})


def naive(num_ranks: int) -> Timeline:
    """One step of 1 s, the mini-batch in one piece."""
    return step("naive", num_ranks, 1)


def uneven() -> Timeline:
    """Four ranks and four micro-batches; stage 1 has twice the work of the others."""
    light = {"F": 1.0, "B": 2.0}
    return simulate(build_schedule("1f1b", 4, 4), [light, {"F": 2.0, "B": 4.0}, light, light])


def equal() -> Timeline:
    """Four ranks and four micro-batches, with a backward as long as a forward."""
    return simulate(build_schedule("1f1b", 4, 4), {"F": 1.0, "B": 1.0})


def with_hops(seconds: float) -> Timeline:
    """A naive step of 1 s on four ranks, each message `seconds` under way."""
    durations = {"F": 1 / 12, "B": 2 / 12}
    return simulate(build_schedule("naive", 4, 1), durations, Link(latency=seconds))


def more_workers(num_ranks: int) -> NumberQuestion:
    """00.q1: the idle part of each worker where one works at a time."""
    n, idle = num_ranks, naive(num_ranks).idle_fraction(0)
    return NumberQuestion(
        "00.q1",
        f"Predict: {WORDS[n]} workers instead of four, {PARTS[n]} of the layers each. What part of "
        f"the time is each idle?",
        answer=lambda: 100 * naive(n).idle_fraction(),
        unit="%",
        tolerance=1,
        explain=(
            f"One worker of {WORDS[n]} computes at a time, so each is idle {100 * idle:.3g}% of "
            f"the step."
        ),
        misconceptions=[
            (
                100 / n,
                lambda: (
                    f"That is the part in which it works. In the picture a worker of four works "
                    f"{1 - naive(4).idle_fraction():.0%} of the step."
                ),
            ),
            (
                75,
                lambda: (
                    f"That was the picture: with four workers, three wait for one, "
                    f"{naive(4).idle_fraction():.0%}. How many of {WORDS[n]} wait for one?"
                ),
            ),
            (
                0,
                lambda: (
                    f"That would be all workers at once, but each needs what the one before it "
                    f"made. Already of four, each waits {naive(4).idle_fraction():.0%} of the "
                    f"step."
                ),
            ),
        ],
        otherwise=(
            f"In the picture, set the blank part of a lane against its length. Now draw {WORDS[n]}."
        ),
    )


def microbatches(num_ranks: int, num_microbatches: int) -> NumberQuestion:
    """00.q3: the idle part of a pipelined step of even stages."""
    p, m = num_ranks, num_microbatches
    timeline, slots = step("1f1b", p, m), num_microbatches + num_ranks - 1
    idle, before = timeline.idle_fraction(), naive(num_ranks).idle_fraction()
    return NumberQuestion(
        "00.q3",
        f"Predict: the mini-batch is cut into {WORDS[m]} micro-batches, so that all {WORDS[p]} "
        f"ranks can work at once. What part of the time is a rank idle now?",
        answer=100 * idle,
        unit="%",
        tolerance=1,
        explain=(
            f"Take a forward and a backward as one slot. The step lasts {m} slots, one for each "
            f"micro-batch, and {p - 1} more to fill and to drain: {p - 1} of {slots}, {idle:.1%}, "
            f"are idle."
        ),
        misconceptions=[
            (
                0,
                f"Only in the middle do all {WORDS[p]} work. The last rank waits for "
                f"{WORDS[p - 1]} forwards first, and {timeline.idle_fraction(p - 1):.1%} of its "
                f"step is blank.",
            ),
            (
                100 * before / m,
                f"{WORDS[m].capitalize()} micro-batches do not divide the idle time by {WORDS[m]}: "
                f"from {before:.0%} it falls to {idle:.1%}, since filling and draining stay.",
            ),
            (100 * m / slots, f"That is the part in which it works: 1 − {idle:.1%}."),
            (
                100 * before,
                f"That was with one micro-batch. With {WORDS[m]}, the ranks overlap, and the same "
                f"work ends after {timeline.makespan:.2f} s instead of 1 s.",
            ),
        ],
        otherwise=(
            f"Draw {WORDS[p]} lanes, shift each by one slot, and count blank slots in one lane."
        ),
    )


PREDICTIONS = [
    Prediction(
        "00.p1",
        "Four ranks, four micro-batches, on this machine. What part of the time is idle, in %?",
        unit="%",
        tolerance=4,
        ideas=[
            (42.9, "That is what the formula says."),
            (0, "Filling and draining stay, whatever the schedule."),
        ],
        lesson="The formula takes stages for even. Yours are not.",
    )
]

QUESTIONS: list[BaseQuestion] = [
    more_workers(10),
    Question(
        "00.q2",
        "Predict: one rank takes 1 s for a step. The same network is cut over four ranks, and the "
        "mini-batch still passes through in one piece. How long does the step take now?",
        {
            "a": Option(
                "about 0.25 s: four ranks share the work",
                lambda: (
                    f"The work is shared, the time is not: the ranks work one after another, "
                    f"4 × {naive(4).busy(0):.2f} s."
                ),
            ),
            "b": Option(
                "about 1 s: the ranks take turns",
                lambda: (
                    f"Four turns of {naive(4).busy(0):.2f} s add up to "
                    f"{naive(4).makespan:.2f} s; what was gained is memory."
                ),
            ),
            "c": Option(
                "about 4 s: every rank runs the whole network",
                lambda: (
                    f"Each rank runs its own layers only, {naive(4).busy(0):.2f} s of the "
                    f"{naive(4).makespan:.2f} s."
                ),
            ),
        },
        answer="b",
    ),
    microbatches(num_ranks=4, num_microbatches=4),
    Question(
        "00.q4",
        "All four ranks together are idle for longer than the formula says. Which of these does it "
        "leave out?",
        {
            "a": Option(
                "Stages are not equally heavy.",
                lambda: (
                    f"One stage with twice the work of the others: idle rises from "
                    f"{step('1f1b', 4, 4).idle_fraction():.1%} to {uneven().idle_fraction():.1%}."
                ),
            ),
            "b": Option(
                "A rank cannot work before its input is there.",
                lambda: (
                    f"That is what the formula counts: its "
                    f"{step('1f1b', 4, 4).idle_fraction():.1%} is filling and draining, no more."
                ),
            ),
            "c": Option(
                "Forward takes less time than backward.",
                lambda: (
                    f"It makes no difference: with forward as long as backward the idle part is "
                    f"{equal().idle_fraction():.1%} too."
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
                    f"{with_hops(0.01).makespan:.2f} s once each hop takes 0.01 s."
                ),
            ),
            "b": Option(
                "To move fewer bytes.",
                lambda: (
                    f"One device moves 0 messages, four ranks {len(naive(4).transfers)} for each "
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

VARIANTS = {
    "00.q1": lambda rng: more_workers(rng.choice(sorted(PARTS))),
    "00.q3": lambda rng: microbatches(rng.randint(3, 6), rng.randint(6, 10)),
}
