"""Lesson 05: worker idle time; its questions about micro-batches and the bubble."""

from d2lpart.course.lesson_05_facts import HEAVY, forward, gpipe, with_faster
from d2lpart.course.lesson_05_variants import pipelined
from d2lpart.course.questions.choices import BaseQuestion, Option, Question
from d2lpart.course.questions.prediction import Prediction

PREDICTIONS = [
    Prediction(
        "05.p1",
        "Twelve layers on four ranks, 16 micro-batches, measured. What part of the time is idle, "
        "in %?",
        unit="%",
        tolerance=4,
        ideas=[
            (16, "That is the formula, which takes even stages for granted."),
            (75, "That is one micro-batch."),
        ],
        lesson="The formula takes even stages and equal micro-batches for granted. Uneven stages "
        "add idle time, and so, nearly always, do durations that scatter.",
    ),
    Prediction(
        "05.p2",
        "Stage 2 of four twice as heavy, 16 micro-batches. What part of all time is idle, in %?",
        unit="%",
        tolerance=3,
        ideas=[
            (16, "That is even stages. In a naive step a heavy stage changed nothing; here?"),
            (75, "That is the naive step."),
        ],
        lesson="Ranks that work at once all wait for the slowest.",
    ),
]

MICROBATCH_QUESTIONS: list[BaseQuestion] = [
    pipelined(num_ranks=4, num_microbatches=16),
    Question(
        "05.q10",
        "Four ranks, four micro-batches. A colleague's tool reports a bubble of 75%, your timeline "
        "42.9% idle. Who is wrong?",
        {
            "a": Option(
                "The colleague: 75% would be the naive step.",
                lambda: (
                    f"The naive step does have 75%, of idle/total. The colleague's "
                    f"{gpipe(4).bubble_overhead():.0%} is idle/ideal, and right."
                ),
            ),
            "b": Option(
                "You: the timeline leaves out filling and draining.",
                lambda: (
                    f"It counts nothing else: 3 blank slots in a step of 7, "
                    f"{gpipe(4).idle_fraction():.1%}."
                ),
            ),
            "c": Option(
                "Nobody: they divide by different things.",
                lambda: (
                    f"3 blank slots against the 7 of the step are {gpipe(4).idle_fraction():.1%}, "
                    f"against the 4 of work {gpipe(4).bubble_overhead():.0%}."
                ),
            ),
        },
        answer="c",
    ),
    Question(
        "05.q11",
        "16 micro-batches, and stage 2 of four is twice as heavy as the others. One device may be "
        "replaced by one that is twice as fast. Which?",
        {
            "a": Option(
                "Any: in the naive step each second saved was a second saved.",
                lambda: (
                    f"There everyone was waited for. Here rank 0 twice as fast takes the step from "
                    f"{gpipe(16, HEAVY).makespan:g} s to {with_faster(0):g} s."
                ),
            ),
            "b": Option(
                "That of rank 0: all others wait for its output.",
                lambda: (
                    f"They wait for its first one. Its last is ready at {forward(0, 15).end:g} s, "
                    f"and rank 2 gets to it at {forward(2, 15).start:g} s."
                ),
            ),
            "c": Option(
                "That of rank 2: it rests least, and the others wait for it.",
                lambda: (
                    f"From {gpipe(16, HEAVY).makespan:g} s to {with_faster(2):g} s, "
                    f"{1 - with_faster(2) / gpipe(16, HEAVY).makespan:.0%} less."
                ),
            ),
            "d": Option(
                "That of rank 3: it idles for most of the step.",
                lambda: (
                    f"It idles because it waits. Twice as fast it waits more, and the step takes "
                    f"{with_faster(3):g} s of {gpipe(16, HEAVY).makespan:g} s."
                ),
            ),
        },
        answer="c",
    ),
]
