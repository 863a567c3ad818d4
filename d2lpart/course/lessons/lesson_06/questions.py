"""Lesson 06: pipeline parallelism; its questions."""

from d2lpart.course.lessons.lesson_06.facts import goes_back, held, in_order, step, with_fixed_cost
from d2lpart.course.lessons.lesson_06.variants import (
    enough_microbatches,
    held_on_rank_0,
    interleaved,
)
from d2lpart.course.questions.arrangements import Ordering
from d2lpart.course.questions.choices import BaseQuestion, Option, Question, Several
from d2lpart.course.questions.prediction import Prediction

PREDICTIONS = [
    Prediction(
        "06.p1",
        "GPipe and 1F1B, 4 ranks, 16 micro-batches. How many times as many bytes does rank 0 hold "
        "under GPipe?",
        unit="",
        tolerance=0.2,
        ideas=[
            (1, "The bubble is the same; the memory is not."),
            (16, "That would be 1F1B with one micro-batch at a time. Rank 0 has to run ahead."),
        ],
        lesson="GPipe holds all m micro-batches, 1F1B as many as there are ranks.",
    ),
    Prediction(
        "06.p2",
        "1F1B leaves 27.3% idle here, ZB-H1 11.1%, on paper. What part does ZB-H1 leave idle when "
        "it is measured, in %?",
        unit="%",
        tolerance=3,
        ideas=[
            (11.1, "That takes F, I and W for equally long, and the stages for even."),
            (0, "Zero is the aim. H1 keeps the memory of 1F1B, and some of the bubble."),
        ],
        lesson="A real F, I and W are not equally long, and stages are not even.",
    ),
]

BUBBLES: list[BaseQuestion] = [
    enough_microbatches(p=8, percent=10),
    Question(
        "06.q10",
        "4 even ranks, and a mini-batch in 16 micro-batches in place of 1 piece; the optimizer "
        "steps when all are through. What has changed?",
        {
            "a": Option(
                "No rank is idle any more.",
                lambda: (
                    f"The pipeline still fills and drains. "
                    f"{step('gpipe', 4, 16).idle_fraction():.1%} are left, and with 1000 "
                    f"micro-batches "
                    f"{step('gpipe', 4, 1000).idle_fraction():.1%}."
                ),
            ),
            "b": Option(
                "The weights are updated 16 times as often.",
                lambda: (
                    f"A rank runs {len(step('gpipe', 4, 16).of_rank(3)) // 2} backwards, and their "
                    f"gradients add up for 1 update, as those of a whole mini-batch do."
                ),
            ),
            "c": Option(
                "The ranks have less to compute.",
                lambda: (
                    f"Each computes {step('gpipe', 4, 16).busy(0):g} s, as it does when the "
                    f"micro-batches go through one after another: "
                    f"{step('naive', 4, 16).busy(0):g} s. It only waits less."
                ),
            ),
            "d": Option(
                "Ranks work at the same time, and the gradients stay those of the mini-batch.",
                lambda: (
                    f"In place of {step('naive', 4, 16).idle_fraction():.0%} of the time "
                    f"{step('gpipe', 4, 16).idle_fraction():.1%} is idle, so the same work takes "
                    f"{step('gpipe', 4, 16).makespan:g} s and not "
                    f"{step('naive', 4, 16).makespan:g} s."
                ),
            ),
        },
        answer="d",
    ),
    Question(
        "06.q2",
        "4 ranks, 8 micro-batches, even stages, a free link. Which has the smaller bubble, GPipe "
        "or 1F1B?",
        {
            "a": Option(
                "GPipe: its forwards follow each other without a break.",
                lambda: (
                    f"And then all ranks wait for the backwards to come: "
                    f"{step('gpipe').idle_fraction():.1%}."
                ),
            ),
            "b": Option(
                "1F1B: a rank changes between forward and backward, so it waits less.",
                lambda: (
                    f"It waits elsewhere, not less: {step('1f1b').idle_fraction():.1%}, in "
                    f"{step('1f1b').makespan:g} s, as GPipe."
                ),
            ),
            "c": Option(
                "Neither.",
                lambda: (
                    f"Both fill and drain with 3 slots: {step('gpipe').idle_fraction():.1%} "
                    f"and {step('1f1b').idle_fraction():.1%}. What differs is what they hold, "
                    f"{held(step('gpipe')):g} and {held(step('1f1b')):g} micro-batches."
                ),
            ),
        },
        answer="c",
    ),
    held_on_rank_0(p=4, m=32),
    Question(
        "06.q4",
        "Each action has a fixed cost beside its work. The mini-batch is given. From 8 "
        "micro-batches to 64, what happens to idle time and step?",
        {
            "a": Option(
                "Both fall: more micro-batches, less bubble.",
                lambda: (
                    f"The bubble falls, from {with_fixed_cost(8).idle_fraction():.1%} to "
                    f"{with_fixed_cost(64).idle_fraction():.1%}. The step takes "
                    f"{with_fixed_cost(64).makespan:.0f} s, not less than "
                    f"{with_fixed_cost(8).makespan:.0f} s."
                ),
            ),
            "b": Option(
                "The idle part falls, and the step may grow all the same.",
                lambda: (
                    f"With 0.5 s a piece: idle {with_fixed_cost(8).idle_fraction():.1%} and "
                    f"{with_fixed_cost(64).idle_fraction():.1%}, step "
                    f"{with_fixed_cost(8).makespan:.0f} s and "
                    f"{with_fixed_cost(64).makespan:.0f} s: the ranks are busy paying {2 * 64} "
                    f"fixed costs each."
                ),
            ),
            "c": Option(
                "Both stay: the work is the same.",
                lambda: (
                    f"The work is, the overlap is not: idle "
                    f"{with_fixed_cost(8).idle_fraction():.1%} becomes "
                    f"{with_fixed_cost(64).idle_fraction():.1%}."
                ),
            ),
        },
        answer="b",
    ),
]

ORDERS: list[BaseQuestion] = [
    Several(
        "06.q5",
        "4 ranks, 8 micro-batches; 1F1B with one stage a rank becomes interleaved with two. What "
        "grows? Tick all that do.",
        {
            "a": Option(
                "the messages",
                lambda: (
                    f"From {len(step('1f1b').transfers)} to "
                    f"{len(step('interleaved', v=2).transfers)}: 7 cuts in place of 3."
                ),
            ),
            "b": Option(
                "the activations that rank 0 holds",
                lambda: (
                    f"From {step('1f1b').peak_in_flight(0):g} micro-batches to "
                    f"{step('interleaved', v=2).peak_in_flight(0):g}: it runs further ahead."
                ),
            ),
            "c": Option(
                "the idle time",
                lambda: (
                    f"It falls from {step('1f1b').idle_fraction():.1%} to "
                    f"{step('interleaved', v=2).idle_fraction():.1%}: waits are for half a stage."
                ),
            ),
            "d": Option(
                "the layers on each rank",
                lambda: (
                    f"They are as many, in 2 runs in place of 1; each rank computes "
                    f"{step('1f1b').busy(0):g} s as before."
                ),
            ),
        },
        answer="ab",
    ),
    interleaved(p=4, m=8, v=2),
    Question(
        "06.q7",
        "A backward has two halves: I, the gradient of the stage's input, and W, the gradients of "
        "its weights. Who waits for W?",
        {
            "a": Option(
                "The stage before: it needs the gradient.",
                lambda: (
                    f"It needs I alone. Of two stages, 0I0 starts at {goes_back(split=True):g} s; "
                    f"behind a whole backward it is {goes_back(split=False):g} s."
                ),
            ),
            "b": Option(
                "The stage behind: it needs the weights.",
                "Each stage has 1 set of weights, its own, and they stay as they are from the "
                "first micro-batch to the last. The stage behind needs the activation, from F.",
            ),
            "c": Option(
                "Nobody before the optimizer's step.",
                lambda: (
                    f"So W may wait until a rank has nothing better to do: of the "
                    f"{step('1f1b').idle(3):g} s that rank 3 idles in 1F1B, ZB-H1 leaves "
                    f"{step('zb-h1').idle(3):g} s."
                ),
            ),
        },
        answer="c",
    ),
    Ordering(
        "06.q8",
        "Two ranks, one micro-batch, split backward. Bring into an order in which they can run:",
        {"a": "0I0", "b": "1F0", "c": "0F0", "d": "0W0", "e": "1I0"},
        answer="cbead",
        because={
            ("b", "e"): "1I0 starts at the loss, which 1F0 computes.",
            ("e", "a"): "0I0 needs the gradient that 1I0 makes: stage 1 is 1 stage further back.",
            ("a", "d"): "0W0 uses what 0I0 has found on its way, so it comes 1 place later.",
            ("c", "b"): "1F0 needs the activation of 0F0, 1 stage before.",
        },
        explain=lambda: (
            f"Forward, back through the inputs, and the weights when there is time: "
            f"{in_order('0F0 0I0 0W0', '1F0 1I0 1W0').makespan:g} s, with 1W0 beside 0I0."
        ),
    ),
    Question(
        "06.q9",
        "ZB-H2 has no bubble at all here, by its paper's own count. Why would one still choose "
        "ZB-H1, or 1F1B?",
        {
            "a": Option(
                "They compute less.",
                lambda: (
                    f"On paper all three compute {step('zb-h2').busy(0):g} s on each rank. Whether "
                    f"the split is free for real, you will measure."
                ),
            ),
            "b": Option(
                "ZB-H2 holds more activations.",
                lambda: (
                    f"{held(step('zb-h2')):g} micro-batches on every rank, where ZB-H1 holds "
                    f"{held(step('zb-h1')):g} and 1F1B's last rank "
                    f"{step('1f1b').peak_in_flight(3):g}."
                ),
            ),
            "c": Option(
                "ZB-H2 changes the gradients.",
                lambda: (
                    f"Each of its {len(step('zb-h2').spans)} actions is there once, as in the "
                    f"other; only their order differs."
                ),
            ),
        },
        answer="b",
    ),
]


QUESTIONS: list[BaseQuestion] = [*BUBBLES, *ORDERS]
