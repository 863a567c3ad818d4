"""Lesson 05: worker idle time; hints to its questions, and worked examples with other numbers."""

from d2lpart.course.lessons.help_table import Help
from d2lpart.course.lessons.lesson_05.facts import gpipe, naive, pass_seconds, sent, slow_link, step

HELP: dict[str, Help] = {
    "05.q1": Help(
        "Follow the data: what does each GPU need before it can begin?",
        "GPU 3 needs what layer 8 puts out. Who computes layer 8, and what is it doing now?",
        "GPU 1 has done its forward; its next work in this step is a backward. Where does the "
        "gradient for it come from?",
        lambda: (
            f"The same question with 2 GPUs: while GPU 1 computes, GPU 2 has no input; while GPU 2 "
            f"computes, GPU 1 has no gradient. One works at a time, and "
            f"{naive(2).idle_fraction():.0%} of all device time is lost."
        ),
    ),
    "05.q2": Help(
        "Which actions run on the other ranks in between? Write them down in order.",
        "The forward goes on to the last rank. There the loss is, and the backward begins.",
        "Each stage behind rank 0 runs one forward and one backward before rank 0 gets its "
        "gradient.",
        lambda: (
            f"With 4 ranks: 1F0 2F0 3F0 3B0 2B0 1B0 run in between, 3 × 1 s and 3 × 2 s, so "
            f"{naive(4).gaps(0)[0].seconds:g} s."
        ),
    ),
    "05.q3": Help(
        "Does a step of 8 ranks take less time than one of 4?",
        "The work is the same, and it is still done one stage at a time. So the step is as long "
        "as before. How much of it is one rank's own work?",
        "A rank's own work is now 1/8 of the step. Set that against 1/4.",
        lambda: (
            f"From 2 ranks to 3: a rank works 1/3 of the step in place of 1/2, and idles "
            f"{naive(3).idle_fraction():.1%} in place of {naive(2).idle_fraction():.0%}."
        ),
    ),
    "05.q4": Help(
        "How many of the ranks work at any one moment?",
        "Does that number change when one stage takes longer?",
        "One lane is filled at any moment, however long the parts are. What share of all lanes is "
        "blank?",
        lambda: (
            f"Two ranks, one of them four times as heavy: one of two works at any moment, so "
            f"{step('naive', (1, 4)).idle_fraction():.0%} of all time is idle. The light rank "
            f"idles {step('naive', (1, 4)).idle_fraction(0):.0%}, the heavy one "
            f"{step('naive', (1, 4)).idle_fraction(1):.0%}."
        ),
    ),
    "05.q5": Help(
        "What would have to happen for a point to lie below the line?",
        "Two ranks would have to work at the same time. Can they, in a naive step?",
        "So no point is below. And what happens, on a real machine, between the end of one action "
        "and the start of the next?",
        lambda: (
            f"Two ranks, and handing over takes 2% of the step: together they work 98% of it, so "
            f"idle is 1 − 0.98/2 = {1 - 0.98 / 2:.0%}, above the {naive(2).idle_fraction():.0%} of "
            f"the formula."
        ),
    ),
    "05.q6": Help(
        "Two things take time in a forward pass that is cut. Which?",
        "Computing takes as long in all, wherever it is done. How often does the data change rank?",
        "There is a cut between each two neighbours. Add one message for each of them.",
        lambda: (
            f"Over 3 ranks with 0.05 s a message: 3 × 1/3 s of computing and 2 messages, "
            f"{pass_seconds(3, 0.05):.2f} s."
        ),
    ),
    "05.q7": Help(
        "How long is a message under way? Divide its bytes by the bytes a second.",
        "21 MB / 12.5 GB/s is less than 2 ms. How long does one stage of 10 layers compute?",
        "A forward stage computes for some 90 ms, the backward for twice that. There are six "
        "messages in the whole step.",
        lambda: (
            f"A link ten times slower: six messages of {10 * sent() / 6:.0f} ms beside "
            f"{1e3 * slow_link().makespan - sent():.0f} ms of computing. Then the idle part is "
            f"{slow_link(10).idle_fraction():.1%}: it shows."
        ),
    ),
    "05.q8": Help(
        "In a naive step, whose seconds count?",
        "All of them, once: the turns follow each other. Which turn gets shorter?",
        "One turn is divided by how much faster its device is. The others stay.",
        lambda: (
            f"Three ranks of 4 s each, one of them made four times as fast: 4 + 1 + 4 = "
            f"{step('naive', (4 / 3, 1 / 3, 4 / 3)).makespan:g} s."
        ),
    ),
    "05.q9": Help(
        "Count in slots: one slot is a forward and a backward of one micro-batch.",
        "A rank works in one slot for each micro-batch. How many more does the step have, because "
        "the last rank begins late and the first one ends late?",
        "One more for each rank but one. What part of all slots are these?",
        lambda: (
            f"With 8 micro-batches on four ranks: 8 slots of work, 8 + 3 in all, and 3/11 = "
            f"{gpipe(8).idle_fraction():.1%} idle."
        ),
    ),
    "05.q10": Help(
        "Count the blank slots of a rank, its slots of work, and the slots of the step.",
        "3 blank, 4 of work, 7 in all. Which two of them does 42.9% come from?",
        "3/7 is 42.9%. Now look for 75% among the same three numbers.",
        lambda: (
            f"With 8 micro-batches: 3 blank, 8 of work, 11 in all. Idle/total is 3/11 = "
            f"{gpipe(8).idle_fraction():.1%}, idle/ideal 3/8 = {gpipe(8).bubble_overhead():.1%}."
        ),
    ),
    "05.q11": Help(
        "Look at the picture: which lane is nearly full?",
        "The idle ranks wait. For whom?",
        "A faster device helps where the work is on the critical path for most of the step.",
        lambda: (
            f"Stage 1 the heavy one, of three: with 8 micro-batches the step takes "
            f"{step('gpipe', (1, 2, 1), 8).makespan:g} s; rank 0 twice as fast, "
            f"{step('gpipe', (0.5, 2, 1), 8).makespan:g} s; rank 1 twice as fast, "
            f"{step('gpipe', (1, 1, 1), 8).makespan:g} s."
        ),
    ),
    "05.q12": Help(
        "In a naive step one rank works, or nobody does. What changes that?",
        "The idle part is 1 − work/(ranks × step). Ask of each: does it change the ranks, or the "
        "step beside its work?",
        "Two of them change neither: they only move work about, or scale all of it.",
        lambda: (
            f"Two even ranks idle {naive(2).idle_fraction():.0%}. A third rank: "
            f"{naive(3).idle_fraction():.1%}. One of two three times as heavy: "
            f"{step('naive', (3, 1)).idle_fraction():.0%}."
        ),
    ),
}

EXERCISE_HELP: dict[str, Help] = {
    "05.1": Help(
        "Draw the example: two lanes, six seconds.",
        "The box around the lanes has ranks × makespan seconds. The spans fill a part of it.",
        "The makespan is the largest end less the smallest start. Divide the sum of all end − "
        "start by ranks × makespan, and take it from 1.",
        "Another number off the same spans, the seconds in which rank 0 works, and the moment the "
        "step begins:\n"
        "    busy = sum(end - start for rank, start, end in spans if rank == 0)\n"
        "    begins = min(start for rank, start, end in spans)",
    ),
    "05.2": Help(
        "One rank works at a time. So a rank's gap is as long as the actions that run meanwhile "
        "on other ranks.",
        "With three stages the order is 0F0 1F0 2F0 2B0 1B0 0B0. Cut this list at the two actions "
        "of your rank.",
        "Before stage r's forward run the forwards of the stages before r; behind its backward "
        "run the backwards of the same stages. All that belongs to the stages after r, forward "
        "and backward, lies in between.",
        "Rank 1 of four, forward [1, 2, 3, 4] s and backward [5, 6, 7, 8] s. It fills for "
        "`sum(forward[:1])` = 1 s. Between its two actions run 2F0 3F0 3B0 2B0, so it waits for 3 "
        "+ 4 + 8 + 7 = 22 s. After its backward only 0B0 is left: it drains for 5 s.",
    ),
    "05.3": Help(
        "In a naive step every action and every message is on the critical path.",
        "A message crosses a cut. How many cuts do four ranks have, and how often is each crossed?",
        "All forwards, all backwards, and 2 (n − 1) hops.",
        "The forward alone of three stages, [1, 2, 3] s with hops of 0.5 s: the three forwards, "
        "and one hop over each of the two cuts:\n"
        "    sum(forward) + (len(forward) - 1) * hop   # 6 + 2 * 0.5 = 7 s",
    ),
    "05.4": Help(
        "Write down idle/total with C and the time H of all hops. Where does it end up as C grows?",
        "H = 2 (n − 1) hop, and idle = 1 − C / (n (C + H)). It falls towards (n − 1)/n as C "
        "grows, and never gets there.",
        "With b = n (1 − most_idle), solve C / (C + H) = b: C = b H / (1 − b). If b is 1 or more, "
        "no C is enough.",
        "The other way round, for two ranks: C = 3 s of computing and hops of 0.5 s, so H = 1 s. "
        "The step takes C + H = 4 s, and two lanes of it are 8 s, of which 3 s are work: idle is "
        "1 − 3/8 = 62.5%.",
    ),
}
