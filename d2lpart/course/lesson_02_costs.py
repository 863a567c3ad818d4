"""Lesson 02: its questions on what each way moves, and how often all have to wait."""

from d2lpart.course.lesson_02_facts import cut, decoder_ways, idle, inside, replicas, ways
from d2lpart.course.lesson_02_variants import decoder_barriers, same_cost
from d2lpart.course.questions import BaseQuestion, Option, Question
from d2lpart.course.several import Several
from d2lpart.display import bytes_text
from d2lpart.span import Link


def _on_slow_link(way: str) -> float:
    """Milliseconds of a step's messages, by outputs, where each message takes 1 ms."""
    return 1000 * ways(pairs=False)[way].traffic.seconds(Link(latency=1e-3))


COSTS: list[BaseQuestion] = [
    same_cost(thousands=300, each=1200),
    Several(
        "02.q10",
        "LeNet on two devices. The batch becomes twice as large, 32 images. What doubles? Tick all "
        "that do.",
        {
            "a": Option(
                "the bytes over the cut behind pool2",
                lambda: f"From {bytes_text(cut(16))} to {bytes_text(cut(32))}.",
            ),
            "b": Option(
                "the bytes of layer-wise partitioning",
                lambda: f"From {bytes_text(inside(16))} to {bytes_text(inside(32))}.",
            ),
            "c": Option(
                "the bytes of data parallelism",
                lambda: (
                    f"They stay at {bytes_text(replicas(32))}: a weight has one gradient, however "
                    f"many images made it."
                ),
            ),
            "d": Option(
                "the barriers of layer-wise partitioning",
                lambda: (
                    f"They stay at "
                    f"{ways(32, pairs=False)['layer-wise partitioning'].traffic.barriers}; there "
                    f"are more bytes behind each."
                ),
            ),
        },
        answer="ab",
    ),
    decoder_barriers(blocks=6),
    Question(
        "02.q12",
        "A link on which each message takes 1 ms, however short. Over it you split LeNet, 16 "
        "images, two devices. Which way suffers most?",
        {
            "a": Option(
                "network partitioning",
                lambda: (
                    f"It sends {ways()['network partitioning'].traffic.messages} messages, one "
                    f"after the other: {_on_slow_link('network partitioning'):.0f} ms."
                ),
            ),
            "b": Option(
                "layer-wise partitioning",
                lambda: (
                    f"{ways(pairs=False)['layer-wise partitioning'].traffic.barriers} barriers, "
                    f"and nobody computes meanwhile: "
                    f"{_on_slow_link('layer-wise partitioning'):.0f} ms."
                ),
            ),
            "c": Option(
                "data parallelism: it moves the most bytes",
                lambda: (
                    f"Bytes are free on this link. Its one all-reduce has 2 rounds: "
                    f"{_on_slow_link('data parallelism'):.0f} ms."
                ),
            ),
        },
        answer="b",
    ),
    Question(
        "02.q13",
        "Four devices, no micro-batches. Which of the three ways leaves devices idle because they "
        "wait for the others' *computing*, however fast the link is?",
        {
            "a": Option(
                "network partitioning",
                lambda: (
                    f"One stage after another: {idle(4):.0%} of all device time is idle. The other "
                    f"two let all 4 compute at the same time."
                ),
            ),
            "b": Option(
                "layer-wise partitioning",
                lambda: (
                    f"All 4 work on the same layer at the same time. What hurts is the "
                    f"{decoder_ways(4)['layer-wise partitioning'].traffic.barriers} barriers of a "
                    f"decoder of 4 blocks, and they cost nothing on a free link."
                ),
            ),
            "c": Option(
                "data parallelism",
                "Each of the 4 runs its own images forward and back, and waits once, for the sum.",
            ),
            "d": Option(
                "all three alike",
                lambda: (
                    f"A cut between layers alone makes a device wait for what another computes: "
                    f"{idle(4):.0%} against 0%."
                ),
            ),
        },
        answer="a",
    ),
]
