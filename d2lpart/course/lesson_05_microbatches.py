"""Lesson 05: worker idle time; its questions about micro-batches and the bubble."""

from d2lpart.course.lesson_05_facts import HEAVY, forward, gpipe, with_faster
from d2lpart.course.questions import BaseQuestion, NumberQuestion, Option, Question

MICROBATCH_QUESTIONS: list[BaseQuestion] = [
    NumberQuestion(
        "05.q9",
        "Predict: four even stages, and the mini-batch goes through in 16 micro-batches. What part "
        "of the time is idle?",
        answer=lambda: 100 * gpipe(16).idle_fraction(),
        unit="%",
        tolerance=0.5,
        explain=lambda: (
            f"A rank works in 16 of 16 + 4 − 1 = 19 slots; {gpipe(16).idle_fraction():.1%} is idle."
        ),
        misconceptions=[
            (
                75 / 16,
                lambda: (
                    f"You divide 75% by 16. The 3 blank slots stay, the step has 19: "
                    f"{1 - gpipe(16).idle_fraction():.0%} of it is work."
                ),
            ),
            (
                3 / 16 * 100,
                lambda: (
                    f"You set the 3 blank slots against the 16 of work: idle/ideal, "
                    f"{gpipe(16).bubble_overhead():.2%}. The step has all 19."
                ),
            ),
            (75, "That is one micro-batch. With 16, rank 0 works on while rank 1 begins."),
            (
                1600 / 19,
                "That is the part in which a rank works, 16 of 19 slots. We ask for the rest.",
            ),
            (3 / 20 * 100, "Close: the step has 16 + 4 − 1 slots, not 20."),
        ],
        otherwise="Count the slots of the step, and those in which one rank works. The last rank "
        "begins late, the first one ends late.",
    ),
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
