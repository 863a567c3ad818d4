"""Lesson 01: why one device is not enough; hints, and worked examples with other numbers."""

from d2lpart.course.lessons.help_table import Help
from d2lpart.course.lessons.lesson_01.facts import fewest, longer, seven, small_state, state_gb

HELP: dict[str, Help] = {
    "01.q1": Help(
        "What has to be remembered for one weight, from one step to the next and within one?",
        "The weight, its gradient, and what Adam keeps: two moments. And Adam adds tiny numbers "
        "to weights; does a short number notice them?",
        "2 bytes of weight and 2 of gradient. Adam keeps a longer copy of the weight and the two "
        "moments, each twice as long as the weight itself.",
        lambda: (
            f"1.3 billion parameters: 2.6 GB of weights, 2.6 GB of gradients, and three numbers of "
            f"4 bytes for Adam, 15.6 GB. Together {state_gb(1.3):.1f} GB."
        ),
    ),
    "01.q2": Help(
        "Which of the four items of the ledger depend on the batch?",
        "Activations do. Weights, gradients and optimizer do not. How much are these three?",
        "These three are more than a unit has. Which of the options makes them smaller on each "
        "unit?",
        lambda: (
            f"Units of 20 MB: on two units each holds {small_state(2):.1f} MB of state, and has "
            f"{20 - small_state(2):.1f} MB left for activations."
        ),
    ),
    "01.q3": Help(
        "What does the second unit know of the first unit's layers?",
        "It never computes with their weights. So what of weights, gradients and optimizer need "
        "it hold?",
        "Nothing was made smaller, and no sample was taken away. What was large is only in "
        "several places now.",
        lambda: (
            f"The 7B on eight units: the largest stage holds {seven(8).state / 1e9:.0f} GB of "
            f"state and {seven(8).activations / 1e9:.1f} GB of activations, "
            f"{seven(8).total / 1e9:.1f} GB in all."
        ),
    ),
    "01.q4": Help(
        "When does rank 0 let go of its first micro-batch?",
        "When its gradient has come back, from the last rank. How many forwards has rank 0 done "
        "by then?",
        "One for each rank. Multiply by what its own layers hold of one micro-batch.",
        "24 layers of 2 GB over 6 ranks, 18 micro-batches: rank 0 holds 6 micro-batches of 4 "
        "layers, 6 × 8 = 48 GB. The last rank holds one, 8 GB.",
    ),
    "01.q5": Help(
        "Which tensors of a layer have one entry for each position, and which for each pair?",
        "The scores of the attention have one entry for each pair of positions, in each head.",
        "What has one for each position doubles; what has one for each pair becomes four times as "
        "much. And their sum?",
        lambda: (
            f"Four times the context: {longer(4):.1f} times the bytes; where the scores are never "
            f"written down, {longer(4, 'selective'):g} times."
        ),
    ),
    "01.q6": Help(
        "How many bytes does a parameter take while it is trained?",
        "The whole state over what one GPU can give. Weights alone are not enough.",
        "A GPU more or less holds a whole share. If the quotient is no whole number, which way do "
        "you round?",
        lambda: (
            f"13 billion parameters on GPUs of 16 GB: {state_gb(13):.0f} GB over {0.92 * 16:.2f} "
            f"GB, so {fewest(13, 16)}."
        ),
    ),
    "01.q7": Help(
        "Ask of each: what of weights, gradients and optimizer is on one GPU then?",
        "Two of the four divide the layers or their matrices among the GPUs.",
        "A copy is no part, and what is recomputed was never state.",
        lambda: (
            f"70 billion on 80 GB: a copy takes {state_gb(70):,.0f} GB and never fits; divided it "
            f"takes {fewest(70, 80)} GPUs or more."
        ),
    ),
}

EXERCISE_HELP: dict[str, Help] = {
    "01.1": Help(
        "Make a list for one parameter, in bytes; then multiply.",
        "Weight 2, gradient 2. The optimizer keeps numbers of 4 bytes: how many of them?",
        "One copy of the weight and `moments` more: 4 * (1 + moments) bytes.",
        "Gradients added up in 32 bits, as Megatron-LM does, and Adam, for 1000 parameters: 2 * "
        "1000 of weights, 4 * 1000 of gradients, 12 * 1000 for the optimizer: 18,000 bytes.",
    ),
    "01.2": Help(
        "A cut lies between two layers. So what is the unit that you place on GPUs?",
        "A layer takes 16 * parameters / num_layers bytes. How many whole ones has a GPU room for?",
        "Round that down; if it is 0, nothing helps. Then num_layers over it, rounded up.",
        "70 billion parameters in 80 layers, 73.6 GB a GPU: a layer takes 14 GB, a GPU holds 5 of "
        "them (70 GB), and 80 layers need 16 GPUs. Cut anywhere, 1,120 GB would need 1120 / 73.6 "
        "= 15.2, so 16 as well.",
    ),
    "01.3": Help(
        "How many micro-batches are in flight if a micro-batch has one sequence? And if it is the "
        "whole batch?",
        "With batch // size micro-batches, at most min(batch // size, ahead) are held, and each "
        "holds size * sequence_bytes.",
        "Go through the sizes from `batch` down to 1, leave out those that do not divide, and "
        "return the first with state_bytes + held <= capacity.",
        "What a given size takes, for a batch of 12, at most 3 ahead, 2 GB a sequence and 10 GB "
        "of state: size 2 makes 6 micro-batches, 3 are held, 10 + 3 * 2 * 2 = 22 GB. Size 6 makes "
        "2, both are held: 10 + 2 * 6 * 2 = 34 GB. Size 12 makes 1: 34 GB, too.",
    ),
}
