"""Lesson 00: start here; its questions."""

from d2lpart.course.lessons.lesson_00.facts import equal, naive, step, uneven, with_hops
from d2lpart.course.lessons.lesson_00.variants import microbatches, more_workers
from d2lpart.course.questions.choices import BaseQuestion, Option, Question
from d2lpart.course.questions.prediction import Prediction

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
