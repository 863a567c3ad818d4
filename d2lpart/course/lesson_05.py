"""Lesson 05: worker idle time; its questions on a naive step. The rest has its own files."""

from d2lpart.course.lesson_05_exercises import EXERCISES
from d2lpart.course.lesson_05_facts import naive, pass_seconds, sent, slow_link, step
from d2lpart.course.lesson_05_microbatches import MICROBATCH_QUESTIONS
from d2lpart.course.questions import BaseQuestion, NumberQuestion, Option, Question

__all__ = ["EXERCISES", "QUESTIONS"]

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
    NumberQuestion(
        "05.q2",
        "Predict: three ranks; each forward takes 1 s, each backward 2 s. Rank 0 has ended its "
        "forward. How many seconds until its backward can start?",
        answer=lambda: naive(3).gaps(0)[0].seconds,
        unit="s",
        tolerance=0.01,
        explain=lambda: (
            f"Forward of stages 1 and 2, then backward of stages 2 and 1: 1 + 1 + 2 + 2 = "
            f"{naive(3).gaps(0)[0].seconds:g} s."
        ),
        misconceptions=[
            (2, "You count the two forwards behind it, 1 + 1. Where does the backward begin?"),
            (4, "You count the two backwards, 2 + 2. Which actions come before them?"),
            (
                8,
                lambda: (
                    f"One action too many: rank 0's own backward of 2 s is work. The step ends at "
                    f"{naive(3).makespan:g} s."
                ),
            ),
            (
                3,
                "That is stage 1 alone, 1 + 2. But stage 1 in turn waits for stage 2.",
            ),
        ],
        otherwise="Write down what runs between 0F0 and 0B0, and add it up.",
    ),
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
    NumberQuestion(
        "05.q4",
        "Predict: three ranks, and the stage of rank 1 is twice as heavy as the others. What part "
        "of the time of all ranks together is idle?",
        answer=lambda: 100 * step("naive", (1, 2, 1)).idle_fraction(),
        unit="%",
        tolerance=0.5,
        explain=lambda: (
            f"One of three works at any moment, whoever it is: "
            f"{step('naive', (1, 2, 1)).idle_fraction():.1%}, as with even stages."
        ),
        misconceptions=[
            (
                50,
                lambda: (
                    f"That is rank 1 alone, {step('naive', (1, 2, 1)).idle_fraction(1):.0%}. The "
                    f"other two idle more, {step('naive', (1, 2, 1)).idle_fraction(0):.0%} each."
                ),
            ),
            (
                75,
                lambda: (
                    f"That is each light rank, {step('naive', (1, 2, 1)).idle_fraction(0):.0%}. "
                    f"The heavy one idles less, {step('naive', (1, 2, 1)).idle_fraction(1):.0%}."
                ),
            ),
            (
                100 / 3,
                "That is the share in which a rank works: 1 of 3 at any moment.",
            ),
        ],
        otherwise="How many of the three lanes are blank at any one moment?",
    ),
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
    NumberQuestion(
        "05.q6",
        "A forward pass takes 1 s on one device. We cut the model evenly over 4 ranks; a message "
        "takes 0.03 s from rank to rank. How long does one forward pass take now?",
        answer=lambda: pass_seconds(4, 0.03),
        unit="s",
        tolerance=0.004,
        explain=lambda: (
            f"4 × 0.25 s, one after another, and 3 × 0.03 s on the way: "
            f"{pass_seconds(4, 0.03):.2f} s."
        ),
        misconceptions=[
            (0.25, "Each rank computes for 0.25 s, but in turns: 4 × 0.25 s."),
            (0.34, "You let all four compute at once. Stage 1 needs what stage 0 makes in 0.25 s."),
            (1, "The compute is right, 4 × 0.25 s. The messages take 0.03 s each."),
            (1.12, "You count 4 messages. Between 4 ranks there are 3 cuts."),
            (1.18, "That is 6 messages, forward and backward. We ask for the forward alone."),
        ],
        otherwise="Add up the compute of the four ranks, and the messages between them.",
    ),
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
    NumberQuestion(
        "05.q8",
        "Four even stages, naive: each rank computes for 3 s, the step takes 12 s. We replace the "
        "device of rank 2 by one that is twice as fast. How long does the step take now?",
        answer=lambda: step("naive", (1, 1, 0.5, 1)).makespan,
        unit="s",
        tolerance=0.05,
        explain=lambda: (
            f"Rank 2's turn gets 1.5 s shorter, the other three take theirs as before: "
            f"{step('naive', (1, 1, 0.5, 1)).makespan:g} s."
        ),
        misconceptions=[
            (6, "That would be four faster devices. Three of the turns still take 3 s each."),
            (9, "That would be a device that needs no time at all. Its turn of 3 s is halved."),
            (
                12,
                lambda: (
                    f"Rank 2 idles for {naive(4).idle(2):g} of 12 s, but in the other "
                    f"{naive(4).busy(2):g} s everybody waits for it."
                ),
            ),
            (1.5, "That is what is saved, and also what rank 2 takes now. The step has 4 turns."),
        ],
        otherwise="Four turns, one after another. Which of them changes, and by how much?",
    ),
    *MICROBATCH_QUESTIONS,
]
