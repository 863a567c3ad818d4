"""Lesson 02: its questions on what each way moves, and how often all have to wait."""

from d2lpart.course.lesson_02_facts import decoder_ways, idle
from d2lpart.course.lesson_02_variants import decoder_barriers, same_cost
from d2lpart.course.questions.choices import BaseQuestion, Option, Question

COSTS: list[BaseQuestion] = [
    same_cost(thousands=300, each=1200),
    decoder_barriers(blocks=6),
    Question(
        "02.q11",
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
