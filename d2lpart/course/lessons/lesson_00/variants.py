"""Lesson 00: its number questions for any sizes, and the variants drawn from them."""

from d2lpart.course.lessons.lesson_00.facts import naive, step
from d2lpart.course.questions.choices import NumberQuestion

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PARTS = {5: "a fifth", 6: "a sixth", 8: "an eighth", 10: "a tenth"}


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


VARIANTS = {
    "00.q1": lambda rng: more_workers(rng.choice(sorted(PARTS))),
    "00.q3": lambda rng: microbatches(rng.randint(3, 6), rng.randint(6, 10)),
}
