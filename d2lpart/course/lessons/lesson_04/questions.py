"""Lesson 04: placement and balance; its questions."""

from d2lpart import (
    Decoder,
    Partition,
    Timeline,
    build_schedule,
    check_placement,
    partition,
    simulate,
)
from d2lpart.course.lessons.lesson_04.variants import dealt, equal_layers, moved
from d2lpart.course.questions.arrangements import Placing
from d2lpart.course.questions.choices import (
    BaseQuestion,
    NumberQuestion,
    Option,
    Question,
    true_or_false,
)
from d2lpart.course.questions.prediction import Prediction

HEAVY_FRONT = [4, 4, 4, 4] + [1] * 8
DECODER = [1] + [10] * 12 + [40]  # the costs of an embedding, twelve blocks and a head
MEMORY = [40] + [10] * 12 + [40]


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
                    f"changes device {dealt(24, 4)} times on its way through."
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
            f"consecutive groups: {dealt(12, 3)} of the 11 pairs of neighbours are torn apart."
        ),
        when_false=lambda: (
            f"Each device holds four layers, and no two of them are neighbours: "
            f"{dealt(12, 3)} crossings, where groups need {Partition([4] * 3).crossings}."
        ),
    ),
    moved(num_layers=12, num_devices=3),
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
    equal_layers(num_layers=31, num_stages=8),
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
        "Predict: the best cut has a bottleneck of 41 ms, and its stage 0 needs 80 of memory. Each "
        "device has 60. What is the smallest bottleneck now?",
        answer=lambda: _need(60).bottleneck(DECODER),
        unit="ms",
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

UNEVEN = (5, 1, 1, 1, 1, 3)


def _sentence(placement: tuple[int, ...]) -> str | None:
    """Judge a placement of the uneven layers on three devices."""
    verdict = check_placement(placement, 3)
    if not verdict.ok:
        return verdict.reason
    loads = [sum(c for c, d in zip(UNEVEN, placement, strict=True) if d == k) for k in range(3)]
    best = partition(UNEVEN, 3).bottleneck(UNEVEN)
    if max(loads) > best:
        return (
            f"Consecutive groups, with loads {loads}. The fullest device sets the pace with "
            f"{max(loads)}; {best:g} can be reached."
        )
    return None


UNEVEN_LAYERS = Placing(
    "04.q9",
    "Six layers of costs 5, 1, 1, 1, 1, 3. Place them on three devices so that the slowest stage "
    "is as fast as it can be.",
    len(UNEVEN),
    3,
    judge_placement=_sentence,
    answer=(0, 1, 1, 1, 2, 2),
    explain=lambda: (
        f"The heaviest layer alone is {max(UNEVEN)}, so no placement is better than "
        f"{partition(UNEVEN, 3).bottleneck(UNEVEN):g}."
    ),
)

PREDICTIONS = [
    Prediction(
        "04.p1",
        "GPipe with 64 micro-batches. How many times as long does the cut by count take?",
        unit="",
        tolerance=0.1,
        ideas=[
            (1, "That is the naive step, whose ranks take turns."),
            (1.5, "The sum of the loads counts once, the bottleneck for each micro-batch."),
        ],
        lesson="The more micro-batches, the nearer to the ratio of the bottlenecks, 16 : 8.",
    )
]

QUESTIONS: list[BaseQuestion] = [*PLACEMENT, *BALANCE, UNEVEN_LAYERS]
