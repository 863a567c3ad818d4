"""Lesson 04: placement and balance; its questions. Its exercises have their own files."""

from d2lpart import (
    Decoder,
    Partition,
    Timeline,
    build_schedule,
    check_placement,
    partition,
    simulate,
)
from d2lpart.course.lesson_04_exercises import EXERCISES
from d2lpart.course.questions import BaseQuestion, NumberQuestion, Option, Question, true_or_false

__all__ = ["EXERCISES", "QUESTIONS"]

HEAVY_FRONT = [4, 4, 4, 4] + [1] * 8
DECODER = [1] + [10] * 12 + [40]  # the costs of an embedding, twelve blocks and a head
MEMORY = [40] + [10] * 12 + [40]


def _crossings(num_layers: int, num_devices: int) -> int:
    """Crossings of layers dealt out in turn."""
    return check_placement([layer % num_devices for layer in range(num_layers)]).crossings


def _megabytes(crossings: int) -> float:
    """What crosses for one sequence of 2,048 positions, width 5,120, 2 bytes a number."""
    return 2 * crossings * 2048 * 5120 * 2 / 1e6


def _dealt(chunks: int) -> Timeline:
    """A GPipe step of 12 layers on 3 ranks, 3 micro-batches: F of a layer 1 s, B 2 s, free link."""
    layers = 4 / chunks
    return simulate(build_schedule("gpipe", 3, 3, chunks=chunks), {"F": layers, "B": 2 * layers})


def _step(sizes: list[int], schedule: str, num_microbatches: int) -> float:
    """The step of the heavy-front costs cut into `sizes`: F costs them once, B twice."""
    loads = Partition(sizes).loads(HEAVY_FRONT)
    durations = [{"F": load, "B": 2 * load} for load in loads]
    return simulate(build_schedule(schedule, 3, num_microbatches), durations).makespan


def _ends(sentence: str) -> str:
    """Fill in the weights of embedding and head of a small decoder, and the head's operations."""
    layers = Decoder(vocab_size=4096, width=64, num_layers=1, num_heads=4, context=32).layers
    embedding, head = (sum(p.numel() for p in layers[end].parameters()) for end in (0, -1))
    operations = 2 * 32 * 64 * 4096 / 1e6  # 2·s·h·V: logits of 32 positions (arXiv 2104.04473)
    return sentence.format(embedding=embedding, head=head, operations=operations)


def _need(capacity: float | None = None) -> Partition:
    if capacity is None:
        return partition(DECODER, 4)
    return partition(DECODER, 4, memory=MEMORY, capacity=capacity)


PLACEMENT = [
    Question(
        "04.q1",
        "Which of the following strategies correctly applies this layer-based distribution method? "
        "(Layers and devices count from 0.)",
        {
            "a": Option(
                "Deal the layers out in turn: device 0 gets layers 0, 4, 8, …, device 1 gets "
                "layers 1, 5, 9, …, and so on.",
                lambda: (
                    f"The counts are equal, but no two neighbours share a device: the data "
                    f"changes device {_crossings(24, 4)} times on its way through."
                ),
            ),
            "b": Option(
                "Give every device a copy of all 24 layers, and a quarter of the data.",
                lambda: (
                    f"That is data parallelism. Each device holds {24 / 24:.0%} of a model that is "
                    f"too large for a device; a stage would hold {6 / 24:.0%}."
                ),
            ),
            "c": Option(
                "Give layers 0–5 to device 0, 6–11 to device 1, 12–17 to device 2, 18–23 to "
                "device 3.",
                lambda: (
                    f"Each device holds 6 neighbours, a quarter of the model, and the data changes "
                    f"device {Partition([6] * 4).crossings} times."
                ),
            ),
            "d": Option(
                "Cut the weight matrices of each layer into four parts, one for each device.",
                lambda: (
                    f"That cuts inside the layers: in each of the 24 all 4 devices have to put "
                    f"their parts together. A cut between layers needs "
                    f"{Partition([6] * 4).crossings} hand-overs."
                ),
            ),
        },
        answer="c",
    ),
    true_or_false(
        "04.q2",
        "Is the statement true, that this is a correct layer-based partitioning?",
        answer=False,
        when_true=lambda: (
            f"The devices hold {4} + {4} + {4} layers, and that is fair. But equal counts are not "
            f"consecutive groups: {_crossings(12, 3)} of the 11 pairs of neighbours are torn apart."
        ),
        when_false=lambda: (
            f"Each device holds four layers, and no two of them are neighbours: "
            f"{_crossings(12, 3)} crossings, where groups need {Partition([4] * 3).crossings}."
        ),
    ),
    NumberQuestion(
        "04.q3",
        "Predict, for a model of real size: one sequence of 2,048 positions, width 5,120, 2 bytes "
        f"a number. In consecutive groups it moves {_megabytes(2):.0f} MB in a step. How many MB "
        "does it move when the 12 layers are dealt out to the 3 devices?",
        answer=lambda: _megabytes(_crossings(12, 3)),
        unit="MB",
        tolerance=4,
        explain=lambda: (
            f"{_crossings(12, 3)} crossings, each with {_megabytes(1) / 2:.1f} MB forward and as "
            f"much back: {_megabytes(_crossings(12, 3)):.0f} MB."
        ),
        misconceptions=[
            (
                lambda: _megabytes(2),
                lambda: (
                    f"Each device holds 4 layers as before, but what moves depends on the cuts, "
                    f"and there are {_crossings(12, 3)} of them now."
                ),
            ),
            (
                lambda: _megabytes(12),
                lambda: (
                    f"There is no crossing behind the last of the 12 layers: "
                    f"{_crossings(12, 3)} neighbours, not 12."
                ),
            ),
            (
                lambda: _megabytes(_crossings(12, 3)) / 2,
                lambda: (
                    f"That is the way forward. {_megabytes(_crossings(12, 3)) / 2:.0f} MB of "
                    f"gradients come back."
                ),
            ),
        ],
        otherwise="Divide the 84 MB by the crossings of consecutive groups; count the new ones.",
    ),
    NumberQuestion(
        "04.q4",
        "Predict: 3 micro-batches go through 3 ranks with GPipe, in consecutive groups, and "
        f"{_dealt(1).idle_fraction():.0%} of the step is idle. Now the 12 layers are 12 stages, "
        "dealt out in turn, and the link costs nothing. How much is idle?",
        answer=lambda: 100 * _dealt(4).idle_fraction(),
        unit="%",
        tolerance=0.5,
        explain=lambda: (
            f"Each wait is for a stage of one layer instead of four: {_dealt(4).idle(0):.0f} s of "
            f"{_dealt(4).makespan:.0f} s instead of {_dealt(1).idle(0):.0f} s of "
            f"{_dealt(1).makespan:.0f} s."
        ),
        misconceptions=[
            (
                40,
                lambda: (
                    f"Rank 2 gets its first work after 2 layers now, not after 8. The work is the "
                    f"same, {_dealt(4).busy(0):.0f} s a rank; the waiting is not."
                ),
            ),
            (
                10,
                lambda: (
                    f"The idle time is a quarter, {_dealt(4).idle(0):.0f} s for "
                    f"{_dealt(1).idle(0):.0f} s. But the step is shorter as well, "
                    f"{_dealt(4).makespan:.0f} s for {_dealt(1).makespan:.0f} s."
                ),
            ),
        ],
        otherwise="How long does rank 2 wait for its first micro-batch: for how many layers?",
    ),
]

BALANCE = [
    Question(
        "04.q5",
        "Costs `[4, 4, 4, 4] + [1] * 8` on 3 ranks; the mini-batch passes through in one piece "
        "(naive). The bottleneck falls from 16 to 8. What happens to the length of the step?",
        {
            "a": Option(
                "It is halved, as the bottleneck is.",
                lambda: (
                    f"While the ranks take turns, nobody waits for the slowest more than for any "
                    f"other: {_step([4, 4, 4], 'naive', 1):g} before, "
                    f"{_step([2, 2, 8], 'naive', 1):g} after."
                ),
            ),
            "b": Option(
                "It falls, but by less: the other stages became longer.",
                lambda: (
                    f"They became longer by just as much as stage 0 became shorter: the sum stays "
                    f"{sum(HEAVY_FRONT)}, and with it the step."
                ),
            ),
            "c": Option(
                "Nothing.",
                lambda: (
                    f"One rank works at a time, so the step is the sum of all loads, "
                    f"{_step([4, 4, 4], 'naive', 1):g} with F = 1 and B = 2 times the cost, "
                    f"wherever you cut."
                ),
            ),
        },
        answer="c",
    ),
    NumberQuestion(
        "04.q6",
        "31 equal layers of cost 1, 8 stages. What is the smallest bottleneck there can be?",
        answer=lambda: partition([1] * 31, 8).bottleneck([1] * 31),
        explain=lambda: (
            f"The mean is {31 / 8:g}, and layers do not split: 4 is the least, and seven stages "
            f"of 4 with one of 3 reach it."
        ),
        misconceptions=[
            (31 / 8, lambda: f"{31 / 8:g} is the mean. A stage holds whole layers."),
            (3, lambda: f"Eight stages of 3 hold {8 * 3} layers. {31 - 8 * 3} are left over."),
            (
                10,
                lambda: (
                    f"Seven stages of 3, and the last gets the other {31 - 7 * 3}. Libraries have "
                    f"done so; spread these over the stages."
                ),
            ),
        ],
        otherwise="No stage can be below the mean of all. What is the mean, and can it be reached?",
    ),
    Question(
        "04.q7",
        "A vocabulary of 4,096 tokens, width 64: the embedding is a table of 4,096 × 64 numbers, "
        "the head a matrix of 64 × 4,096. Which of the two has more work to do in a forward?",
        {
            "a": Option(
                "Both the same: they have equally many weights.",
                lambda: _ends(
                    "Nearly equally many, {embedding:,} and {head:,}. But the embedding "
                    "looks a few of them up, and the head multiplies by all."
                ),
            ),
            "b": Option(
                "The embedding.",
                lambda: _ends(
                    "Its {embedding:,} weights are a table. A token reads 1 row, and multiplies "
                    "nothing."
                ),
            ),
            "c": Option(
                "The head.",
                lambda: _ends(
                    "For 32 positions its matrix product takes {operations:.1f} million "
                    "floating-point operations. The embedding looks up 32 rows."
                ),
            ),
        },
        answer="c",
    ),
    NumberQuestion(
        "04.q8",
        "Predict: the best cut has a bottleneck of 41, and its stage 0 needs 80 of memory. Each "
        "device has 60. What is the smallest bottleneck now?",
        answer=lambda: _need(60).bottleneck(DECODER),
        explain=lambda: (
            f"Stage 0 may keep 2 blocks. Of the other 10, either one joins the head, 40 + 10, or "
            f"all lie between, and a stage gets 5: {_need(60).bottleneck(DECODER):g} both ways."
        ),
        misconceptions=[
            (
                41,
                lambda: (
                    f"In that cut stage 0 holds the embedding and 4 blocks: "
                    f"{_need().loads(MEMORY)[0]:g} of memory, 20 too much."
                ),
            ),
            (
                60,
                lambda: (
                    f"The cut by counting, 3 + 4 + 4 + 3, fits and has 60. So does "
                    f"{' + '.join(map(str, _need(60).sizes))}, with "
                    f"{_need(60).bottleneck(DECODER):g}."
                ),
            ),
        ],
        otherwise="How many blocks fit beside the embedding, and how many beside the head? "
        "Share out the rest.",
    ),
]

QUESTIONS: list[BaseQuestion] = [*PLACEMENT, *BALANCE]
