"""Lesson 05: worker idle time; its questions, on a naive step and on micro-batches."""

from d2lpart import Link
from d2lpart.course.lessons.lesson_05.facts import (
    HEAVY,
    forward,
    gpipe,
    naive,
    sent,
    slow_link,
    step,
    with_faster,
)
from d2lpart.course.lessons.lesson_05.variants import (
    faster,
    hops,
    pipelined,
    uneven,
    waiting,
)
from d2lpart.course.questions.choices import BaseQuestion, Option, Question, Several
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

ON_MICROBATCHES: list[BaseQuestion] = [
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


QUESTIONS: list[BaseQuestion] = [
    Question(
        "05.q1",
        "12 layers on 3 GPUs, four consecutive layers each, and the mini-batch passes through in "
        "one piece. GPU 2 is computing its layers. What do GPU 1 and GPU 3 do?",
        {
            "a": Option(
                "They wait.",
                lambda: (
                    f"GPU 1 has handed its output on and waits for a gradient; GPU 3 waits for "
                    f"GPU 2's output. Of all device time {naive(3).idle_fraction():.1%} is lost."
                ),
            ),
            "b": Option(
                "GPU 1 begins with the next mini-batch.",
                lambda: (
                    f"The next mini-batch needs the weights that this step is about to change, and "
                    f"the step ends only when GPU 1's own backward has run: in 3 equal stages, its "
                    f"last {naive(3).of_rank(0)[-1].seconds / naive(3).makespan:.0%}."
                ),
            ),
            "c": Option(
                "GPU 3 already computes the layers that do not need GPU 2.",
                "Layers 9 to 12 all need what layer 8 puts out, and GPU 2 has it. There is nothing "
                "for GPU 3 to begin with.",
            ),
            "d": Option(
                "They compute too: 3 GPUs share the work.",
                lambda: (
                    f"They share it, but in turns: {len(naive(3).spans)} actions, each of which "
                    f"needs the one before."
                ),
            ),
        },
        answer="a",
    ),
    waiting(num_ranks=3, forward=1, backward=2),
    Question(
        "05.q3",
        "The same model on eight ranks in place of four, stages even, the mini-batch in one piece. "
        "What becomes of the idle time?",
        {
            "a": Option(
                "It falls: with more workers each has less to wait for.",
                lambda: (
                    f"A rank waits for all the others, and those have more of the work now: up "
                    f"from {naive(4).idle_fraction():.1%} to {naive(8).idle_fraction():.1%}."
                ),
            ),
            "b": Option(
                "It stays: the work is the same.",
                lambda: (
                    f"The work is, and so is the step. But there are 8 lanes to fill with it, and "
                    f"{8 * naive(8).idle_fraction():.0f} of 8 are blank at any moment."
                ),
            ),
            "c": Option(
                "It rises: the same step, and each rank has half as much to do in it.",
                lambda: (
                    f"From 3/4 to 7/8, {naive(8).idle_fraction():.1%}. Four ranks were added, and "
                    f"no second was saved."
                ),
            ),
        },
        answer="c",
    ),
    uneven([1, 2, 1]),
    Question(
        "05.q5",
        "We measure the idle time of naive steps on the wall clock, for 1 to 8 ranks. Where will "
        "the points lie?",
        {
            "a": Option(
                "Above (n − 1)/n: handing over takes time, too.",
                lambda: (
                    f"While a message is handed over nobody works. If that is 1% of a step of 4 "
                    f"ranks, idle is {1 - 0.99 / 4:.2%} instead of {naive(4).idle_fraction():.0%}."
                ),
            ),
            "b": Option(
                "Around it, above and below: measurements scatter.",
                lambda: (
                    f"They do, but to one side. Below {naive(4).idle_fraction():.0%} two of 4 "
                    f"ranks would have to work at the same time."
                ),
            ),
            "c": Option(
                "Above only if stages are uneven.",
                lambda: (
                    f"Uneven stages move idle time from rank to rank; of all together it stays "
                    f"{step('naive', (1, 1, 2, 1)).idle_fraction():.0%} for 4 ranks."
                ),
            ),
            "d": Option(
                "Below it, on a machine with several cores.",
                lambda: (
                    f"More cores help ranks that want to work at once. Here "
                    f"{4 * naive(4).idle_fraction():.0f} of 4 have nothing to work on."
                ),
            ),
        },
        answer="a",
    ),
    hops(num_ranks=4, hop=0.03),
    Question(
        "05.q7",
        "A decoder of 13B parameters on 4 GPUs, one sequence of 2,048 positions, naive. Over a "
        "link without limit 75.0% is idle. Now each message of 21 MB takes a network of 12.5 GB/s. "
        "How much is idle?",
        {
            "a": Option(
                "About 75%: the messages hardly show.",
                lambda: (
                    f"{slow_link().idle_fraction():.1%}: six messages take {sent():.0f} ms of a "
                    f"step of {1e3 * slow_link().makespan:.0f} ms."
                ),
            ),
            "b": Option(
                "About 85%.",
                lambda: (
                    f"Then the messages would take 40% of the step; they take "
                    f"{sent() / 1e3 / slow_link().makespan:.1%}."
                ),
            ),
            "c": Option(
                "Over 95%: the link is overwhelmed.",
                lambda: (
                    f"A message is {sent() / 6:.1f} ms under way, and the stage before it has "
                    f"computed for {1e3 * slow_link().spans[0].seconds:.0f} ms."
                ),
            ),
        },
        answer="a",
    ),
    faster(num_ranks=4, turn=3, times=2),
    Several(
        "05.q12",
        "Four even ranks, naive. What makes a larger part of all their time idle? Tick all that "
        "do.",
        {
            "a": Option(
                "More ranks for the same model.",
                lambda: (
                    f"{naive(4).idle_fraction():.0%} becomes {naive(8).idle_fraction():.1%} with 8."
                ),
            ),
            "b": Option(
                "One stage made twice as heavy.",
                lambda: (
                    f"Its own rank idles less, the others more; together "
                    f"{step('naive', (1, 2, 1, 1)).idle_fraction():.0%}, as before."
                ),
            ),
            "c": Option(
                "A slower link.",
                lambda: (
                    f"While a message is on its way nobody works: with 0.5 s a hop "
                    f"{step('naive', (1, 1, 1, 1), link=Link(0.5)).idle_fraction():.0%}."
                ),
            ),
            "d": Option(
                "Devices that are all twice as fast.",
                lambda: (
                    f"The step takes {step('naive', [0.5] * 4).makespan:g} s in place of "
                    f"{naive(4).makespan:g} s, and the idle part is "
                    f"{step('naive', [0.5] * 4).idle_fraction():.0%} of that, too."
                ),
            ),
        },
        answer="ac",
    ),
    *ON_MICROBATCHES,
]
