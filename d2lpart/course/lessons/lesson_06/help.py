"""Lesson 06: hints to its questions and exercises, and worked examples with other numbers."""

from d2lpart.course.lessons.help_table import Help
from d2lpart.course.lessons.lesson_06.facts import held, in_order, step, with_fixed_cost
from d2lpart.schedules.closed_form import bubble_formula

HELP: dict[str, Help] = {
    "06.q1": Help(
        "Which formula gives the idle part of the step for p ranks and m micro-batches?",
        "(p − 1)/(m + p − 1) is to be no more than the part that is asked for. Turn it round.",
        "The blank slots are p − 1. If they may be that part of the step, how many slots does the "
        "step have at least, and how many of them are work?",
        lambda: (
            f"4 ranks, 25%: 3 blank slots may be a quarter, so the step has 12, and 9 are work. "
            f"With 9 micro-batches {bubble_formula('1f1b', 4, 9):.0%} is idle."
        ),
    ),
    "06.q10": Help(
        "Draw 2 ranks and 3 micro-batches. Is there a blank? When may the optimizer step?",
        "Rank 1 has nothing to do at the start, rank 0 nothing in the middle. And where do the "
        "gradients of a micro-batch wait for those of the others?",
        "Gradients add up, so 1 update sees all samples. The blanks stay, beside more and more "
        "work.",
        lambda: (
            f"2 ranks, 3 micro-batches in place of 1 piece: one after another they take "
            f"{step('naive', 2, 3).makespan:g} s, pipelined {step('gpipe', 2, 3).makespan:g} s, "
            f"with {step('gpipe', 2, 3).idle_fraction():.0%} idle, and 1 update either way."
        ),
    ),
    "06.q2": Help(
        "Draw both with 2 ranks and 2 micro-batches, and count the blanks.",
        "In both the last rank begins p − 1 forwards late. When is its last backward done?",
        "The order in the middle moves blanks from one place to another. Does it make any?",
        lambda: (
            f"2 ranks, 3 micro-batches: GPipe takes {step('gpipe', 2, 3).makespan:g} s, 1F1B "
            f"{step('1f1b', 2, 3).makespan:g} s; of each, "
            f"{step('gpipe', 2, 3).idle_fraction():.0%} is idle."
        ),
    ),
    "06.q3": Help(
        "An activation is held from its forward to its backward.",
        "How many forwards does rank 0 run before its first backward?",
        "One for each rank behind it, and one more. After that, does the number grow?",
        lambda: (
            f"3 ranks, 10 micro-batches: rank 0 holds {step('1f1b', 3, 10).peak_in_flight(0):g}, "
            f"rank 1 {step('1f1b', 3, 10).peak_in_flight(1):g}, rank 2 "
            f"{step('1f1b', 3, 10).peak_in_flight(2):g}; under GPipe each holds "
            f"{held(step('gpipe', 3, 10)):g}."
        ),
    ),
    "06.q4": Help(
        "Two things change with m: how much of the step is idle, and how long the work takes.",
        "Each action pays the fixed cost. How many actions does a rank run?",
        "Eight times as many actions pay it eight times as often: busy is not fast.",
        lambda: (
            f"From 4 to 8: idle {with_fixed_cost(4).idle_fraction():.1%} and "
            f"{with_fixed_cost(8).idle_fraction():.1%}, step {with_fixed_cost(4).makespan:.0f} s "
            f"and {with_fixed_cost(8).makespan:.0f} s. Here the smaller bubble still wins."
        ),
    ),
    "06.q5": Help(
        "A rank gets two runs of layers in place of one, each half as long.",
        "Count the cuts between stages, and look how far ahead rank 0 runs.",
        "8 stages have 7 cuts, and all of them lie between ranks. The work a rank has is the same.",
        lambda: (
            f"3 ranks, 6 micro-batches, from 1 to 2 stages a rank: messages "
            f"{len(step('1f1b', 3, 6).transfers)} and "
            f"{len(step('interleaved', 3, 6, 2).transfers)}, held on rank 0 "
            f"{step('1f1b', 3, 6).peak_in_flight(0):g} and "
            f"{step('interleaved', 3, 6, 2).peak_in_flight(0):g}, idle "
            f"{step('1f1b', 3, 6).idle_fraction():.1%} and "
            f"{step('interleaved', 3, 6, 2).idle_fraction():.1%}."
        ),
    ),
    "06.q6": Help(
        "Count in slots again. How long is a slot now?",
        "A slot is the forward and backward of one short stage. How many does a rank work?",
        "v m slots of work, and the p − 1 blank ones, which are as short.",
        lambda: (
            f"2 ranks, 4 micro-batches, 2 stages a rank: 8 slots of work and 1 blank, 1/9 = "
            f"{step('interleaved', 2, 4, 2).idle_fraction():.1%}."
        ),
    ),
    "06.q7": Help(
        "What does the stage before need from this one?",
        "The gradient of what it has sent. Is that I or W?",
        "The gradients of the weights are used once a step. By whom?",
        lambda: (
            f"One rank alone: F I W in any order that keeps W behind I, "
            f"{in_order('0F0 0I0 0F1 0I1 0W0 0W1').makespan:g} s in all."
        ),
    ),
    "06.q8": Help(
        "First the forward, from the first stage to the last.",
        "The backward begins where the loss is.",
        "I goes on to the stage before; a stage's W comes behind its own I.",
        lambda: (
            f"One rank with two stages: 0F0 1F0 1I0 0I0 and then both W; one more stage, one more "
            f"F and I on the way: {in_order('0F0 0I0 0W0').makespan:g} s become "
            f"{in_order('0F0 0I0 0W0', '1F0 1I0 1W0').makespan:g} s."
        ),
    ),
    "06.q9": Help(
        "All of them run the same actions. What else does a schedule decide?",
        "To have work at every moment, a rank has to run ahead. What does that cost?",
        "A micro-batch is held from its F until its W.",
        lambda: (
            f"3 ranks, 6 micro-batches: on ZB-H1's fullest rank {held(step('zb-h1', 3, 6)):g} are "
            f"held, on ZB-H2's {held(step('zb-h2', 3, 6)):g}. From its first start to its last end "
            f"a rank takes {step('zb-h1', 3, 6).longest_rank_span():g} s and "
            f"{step('zb-h2', 3, 6).longest_rank_span():g} s."
        ),
    ),
}

EXERCISE_HELP: dict[str, Help] = {
    "06.1": Help(
        "Count slots: a slot is the forward and backward of one micro-batch on one stage.",
        "A rank has v stages, so it works in v·m slots. How many more does the step have?",
        "p − 1 more. The idle part is the blank slots over all slots.",
        lambda: (
            f"p = 3, m = 6, v = 1: 6 slots of work and 2 blank, 2/8 = "
            f"{bubble_formula('1f1b', 3, 6):.2f}."
        ),
    ),
    "06.2": Help(
        "Walk through the order, and keep a number of what is held.",
        "An F adds one, a B takes one away. Which moment counts?",
        "Note the largest value that the number has had.",
        "How many are held at the *end* of an order, in the same manner:\n"
        "    sum({'F': 1, 'B': -1}[action[0]] for action in order)",
    ),
    "06.3": Help(
        "There are p·v stages, each with equally many layers. How many?",
        "Stage s has the layers from s·k on, with k layers a stage. On which rank is it?",
        "Rank r has the stages r, r + p, r + 2p, …; put their layers one behind the other.",
        "8 layers, 2 ranks, 2 stages a rank: the stages are [0, 1], [2, 3], [4, 5], [6, 7]. Rank "
        "0 has stages 0 and 2, rank 1 stages 1 and 3: [[0, 1, 4, 5], [2, 3, 6, 7]].",
    ),
    "06.4": Help(
        "Begin with 1F1B, and write each B as I and W, W right behind. That is shorter already: "
        "why? And where are the blanks that are left?",
        "The last ranks have blanks at the end. Their W may run there: put them off. But each W "
        "that is put off holds a micro-batch longer.",
        "Rank r may hold p and in 1F1B holds p − r. So it can put off r of its W: run W of "
        "micro-batch k − r behind I of micro-batch k.",
        lambda: (
            "One rank, three micro-batches, W put off by one: 0F0 0I0 0F1 0I1 0W0 0F2 0I2 0W1 0W2. "
            f"It takes {in_order('0F0 0I0 0F1 0I1 0W0 0F2 0I2 0W1 0W2').makespan:g} s and holds "
            f"{held(in_order('0F0 0I0 0F1 0I1 0W0 0F2 0I2 0W1 0W2')):g}."
        ),
    ),
}
