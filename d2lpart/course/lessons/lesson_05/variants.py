"""Lesson 05: worker idle time; its number questions for any sizes, and what variants they have."""

import random
from collections.abc import Sequence

from d2lpart import build_schedule, simulate
from d2lpart.course.lessons.lesson_05.facts import pass_seconds, step
from d2lpart.course.questions.choices import NumberQuestion

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def waiting(num_ranks: int, forward: int, backward: int) -> NumberQuestion:
    """05.q2: how long rank 0 waits between its two actions."""
    others = num_ranks - 1
    durations = {"F": forward, "B": backward}
    wait = simulate(build_schedule("naive", num_ranks, 1), durations).gaps(0)[0].seconds
    sum_of_all = " + ".join([str(forward)] * others + [str(backward)] * others)
    stages = " and ".join(str(stage) for stage in range(1, num_ranks))
    return NumberQuestion(
        "05.q2",
        f"Predict: {WORDS[num_ranks]} ranks; each forward takes {forward} s, each backward "
        f"{backward} s. Rank 0 has ended its forward. How many seconds until its backward can "
        f"start?",
        answer=wait,
        unit="s",
        tolerance=0.01,
        explain=f"Forward of stages {stages}, then their backward: {sum_of_all} = {wait:g} s.",
        misconceptions=[
            (
                others * forward,
                f"You count the {others} forwards behind, {others} × {forward} s. Where does the "
                f"backward begin?",
            ),
            (
                others * backward,
                f"You count the {others} backwards, {others} × {backward} s. Which actions come "
                f"before them?",
            ),
            (
                wait + backward,
                f"One action too many: rank 0's own backward of {backward} s is work. The step "
                f"ends at {wait + forward + backward:g} s.",
            ),
            (
                forward + backward,
                f"That is stage 1 alone, {forward} + {backward}. But stage 1 in turn waits for "
                f"stage 2.",
            ),
        ],
        otherwise="Write down what runs between 0F0 and 0B0, and add it up.",
    )


def uneven(weights: Sequence[int]) -> NumberQuestion:
    """05.q4: the idle part of all ranks in a naive step with one heavy stage."""
    timeline = step("naive", weights)
    heavy = weights.index(max(weights))
    light = 0 if heavy else 1
    times = {2: "twice", 3: "three times", 4: "four times"}[max(weights)]
    n = len(weights)
    idle = 100 * timeline.idle_fraction()
    return NumberQuestion(
        "05.q4",
        f"Predict: {WORDS[n]} ranks, and the stage of rank {heavy} is {times} as heavy as the "
        f"others. What part of the time of all ranks together is idle?",
        answer=idle,
        unit="%",
        tolerance=0.5,
        explain=(
            f"One of {WORDS[n]} works at any moment, whoever it is: {idle:.1f}%, as with even "
            f"stages."
        ),
        misconceptions=[
            (
                100 * timeline.idle_fraction(heavy),
                f"That is rank {heavy} alone, {timeline.idle_fraction(heavy):.0%}. The others idle "
                f"more, {timeline.idle_fraction(light):.0%} each.",
            ),
            (
                100 * timeline.idle_fraction(light),
                f"That is a light rank, {timeline.idle_fraction(light):.0%}. Rank {heavy} idles "
                f"less, {timeline.idle_fraction(heavy):.0%}; we ask for all together.",
            ),
            (
                100 / n,
                f"{1 / n:.0%} is the part in which somebody's lane is filled. We ask for the rest.",
            ),
        ],
        otherwise="At any moment one rank works. How many lanes are there?",
    )


def hops(num_ranks: int, hop: float) -> NumberQuestion:
    """05.q6: one forward pass of 1 s of compute, cut, with a message between neighbours."""
    n, share, cuts = num_ranks, 1 / num_ranks, num_ranks - 1
    seconds = pass_seconds(n, hop)
    return NumberQuestion(
        "05.q6",
        f"A forward pass takes 1 s on one device. We cut the model evenly over {n} ranks; a "
        f"message takes {hop:g} s from rank to rank. How long does one forward pass take now?",
        answer=seconds,
        unit="s",
        tolerance=0.004,
        explain=(
            f"{n} × {share:.3g} s, one after another, and {cuts} × {hop:g} s on the way: "
            f"{seconds:.2f} s."
        ),
        misconceptions=[
            (share, f"Each rank computes for {share:.3g} s, but in turns: {n} × {share:.3g} s."),
            (
                share + cuts * hop,
                f"You let all {WORDS[n]} compute at once. Stage 1 needs what stage 0 makes in "
                f"{share:.3g} s.",
            ),
            (
                1,
                f"The compute is right, {n} × {share:.3g} s. The messages take {hop:g} s each.",
            ),
            (
                1 + n * hop,
                f"You count {n} messages. Between {n} ranks there are {cuts} cuts.",
            ),
            (
                1 + 2 * cuts * hop,
                f"That is {2 * cuts} messages, forward and backward. We ask for the forward alone.",
            ),
        ],
        otherwise=f"Add up the compute of the {WORDS[n]} ranks, and the messages between them.",
    )


def faster(num_ranks: int, turn: int, times: int) -> NumberQuestion:
    """05.q8: a naive step in which one device becomes faster."""
    before = num_ranks * turn
    share = turn / times
    after = before - turn + share
    rank = num_ranks - 2
    weights = [turn / 3] * num_ranks
    even = step("naive", weights)
    weights[rank] /= times
    seconds = step("naive", weights).makespan
    word = {2: "twice", 3: "three times"}[times]
    assert abs(seconds - after) < 1e-9
    return NumberQuestion(
        "05.q8",
        f"{WORDS[num_ranks].capitalize()} even stages, naive: each rank computes for {turn} s, the "
        f"step takes {before} s. We replace the device of rank {rank} by one that is {word} as "
        f"fast. How long does the step take now?",
        answer=seconds,
        unit="s",
        tolerance=0.05,
        explain=(
            f"Rank {rank}'s turn gets {turn - share:g} s shorter, the other "
            f"{WORDS[num_ranks - 1]} take theirs as before: {seconds:g} s."
        ),
        misconceptions=[
            (
                before / times,
                f"That would be {WORDS[num_ranks]} faster devices. "
                f"{WORDS[num_ranks - 1].capitalize()} of the turns still take {turn} s each.",
            ),
            (
                before - turn,
                f"That would be a device that needs no time at all. Its turn of {turn} s becomes "
                f"{share:g} s.",
            ),
            (
                before,
                f"Rank {rank} idles for {even.idle(rank):g} of {before} s, but in the other "
                f"{even.busy(rank):g} s everybody waits for it.",
            ),
            (
                share,
                f"That is what rank {rank} takes now. The step has {num_ranks} turns.",
            ),
        ],
        otherwise=(
            f"{WORDS[num_ranks].capitalize()} turns, one after another. Which of them changes, and "
            f"by how much?"
        ),
    )


def pipelined(num_ranks: int, num_microbatches: int) -> NumberQuestion:
    """05.q9: the idle part of a pipelined step of even stages."""
    p, m = num_ranks, num_microbatches
    timeline = step("gpipe", [1.0] * p, m)
    idle, slots = timeline.idle_fraction(), m + p - 1
    naive_part = (p - 1) / p
    return NumberQuestion(
        "05.q9",
        f"Predict: {WORDS[p]} even stages, and the mini-batch goes through in {m} micro-batches. "
        f"What part of the time is idle?",
        answer=100 * idle,
        unit="%",
        tolerance=0.5,
        explain=f"A rank works in {m} of {m} + {p} − 1 = {slots} slots; {idle:.1%} is idle.",
        misconceptions=[
            (
                100 * naive_part / m,
                f"You divide {naive_part:.0%} by {m}. The {p - 1} blank slots stay, the step has "
                f"{slots}: {1 - idle:.0%} of it is work.",
            ),
            (
                100 * timeline.bubble_overhead(),
                f"You set the {p - 1} blank slots against the {m} of work: idle/ideal, "
                f"{timeline.bubble_overhead():.2%}. The step has all {slots}.",
            ),
            (
                100 * naive_part,
                f"That is one micro-batch. With {m}, rank 0 works on while rank 1 begins.",
            ),
            (
                100 * m / slots,
                f"That is the part in which a rank works, {m} of {slots} slots. We ask for the "
                f"rest.",
            ),
            (
                100 * (p - 1) / (m + p),
                f"Close: the step has {m} + {p} − 1 slots, not {m + p}.",
            ),
        ],
        otherwise="Count the slots of the step, and those in which one rank works. The last rank "
        "begins late, the first one ends late.",
    )


def _draw_uneven(rng: random.Random) -> NumberQuestion:
    weights = [1] * rng.randint(3, 6)
    weights[rng.randrange(1, len(weights))] = rng.randint(2, 4)
    return uneven(weights)


VARIANTS = {
    "05.q2": lambda rng: waiting(rng.randint(3, 6), rng.randint(1, 4), rng.randint(5, 9)),
    "05.q4": _draw_uneven,
    "05.q6": lambda rng: hops(rng.randint(3, 8), rng.choice([0.02, 0.04, 0.05, 0.06])),
    "05.q8": lambda rng: faster(rng.randint(3, 8), 6 * rng.randint(1, 3), rng.randint(2, 3)),
    "05.q9": lambda rng: pipelined(rng.randint(3, 8), rng.randint(9, 16)),
}
