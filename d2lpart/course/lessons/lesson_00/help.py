"""Lesson 00: hints to its questions, and worked examples with other numbers."""

from d2lpart.course.lessons.help_table import Help
from d2lpart.course.lessons.lesson_00.questions import naive, step, with_hops

HELP: dict[str, Help] = {
    "00.q1": Help(
        "Look at one lane of the picture: how much of it is filled?",
        "At any moment one box is drawn over all lanes together. How many lanes are there?",
        "With n workers each lane is filled for 1/n of the step. The rest is blank.",
        lambda: (
            f"With 2 workers each works half of the step and idles {naive(2).idle_fraction():.0%}; "
            f"with 5 it works a fifth and idles {naive(5).idle_fraction():.0%}."
        ),
    ),
    "00.q2": Help(
        "Four ranks have a quarter of the network each. Do they compute at the same time?",
        "Rank 1 cannot begin before rank 0 has handed over. So lay the four parts end to end.",
        "Each part is a quarter of the work, and there are four of them, one after another.",
        lambda: (
            f"Cut over 2 ranks: two turns of {naive(2).busy(0):.2f} s, together "
            f"{naive(2).makespan:.2f} s."
        ),
    ),
    "00.q3": Help(
        "Call a forward and a backward of one micro-batch a slot. How many slots does a rank work?",
        "The last rank cannot begin before the first micro-batch has come through all others. How "
        "many slots does that add to the step?",
        "A rank works in as many slots as there are micro-batches; the step has one more for each "
        "of the other ranks.",
        lambda: (
            f"With 2 ranks and 3 micro-batches: 3 slots of work, 1 to fill and drain, so 1 of 4 is "
            f"idle, {step('1f1b', 2, 3).idle_fraction():.0%}."
        ),
    ),
    "00.q4": Help(
        "The formula knows p and m alone. What would it have to know besides?",
        "Which of the three is already in p and m, and which changes nothing?",
        "Think of the layers: rank 0 has an embedding and a block, rank 3 the head alone.",
        lambda: (
            f"Another thing that it leaves out: messages. With 0.05 s a hop, a naive step of four "
            f"ranks idles {with_hops(0.05).idle_fraction():.1%} in place of "
            f"{naive(4).idle_fraction():.0%}."
        ),
    ),
    "00.q5": Help(
        "You have measured what the cut does to the time. What does it do to each device?",
        "A device keeps its own layers: their weights, gradients and optimizer state.",
        "One of the three is about room.",
        lambda: (
            f"13 billion parameters need {13 * 16} GB with Adam, 16 bytes each. No card of 80 GB "
            f"holds that; four hold {13 * 16 / 4:.0f} GB each."
        ),
    ),
}
